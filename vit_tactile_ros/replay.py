"""Run bags offline through the network: predictions, confidences, times.

Reads rosbag2 (sqlite3, mcap) and rosbag1, split, compressed or damaged. Writes frames.csv, a row per frame, and
summary.json to --output. With a checkpoint that has the class no_contact it also writes events.csv and touches.csv;
--labels reads the latter. The last line printed is the summary. The exit status is 0 only if all requested inputs were
found. With --live the images are also sent to the real node, at --speed, and both results are compared.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vit_tactile_ros import flags
from vit_tactile_ros.data.bags.find import find_recordings, unique_names
from vit_tactile_ros.data.bags.images import image_topics
from vit_tactile_ros.data.bags.labels import read_intervals
from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.evaluation.recordings.cluster import replay_on_cluster
from vit_tactile_ros.evaluation.recordings.events import Touch, find_touches, write_events
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.evaluation.recordings.replaying import Replayed, ReplaySettings, replay
from vit_tactile_ros.evaluation.recordings.summary import summarise
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.errors import MissingPackageError, UserError
from vit_tactile_ros.foundation.files import check_folder_writable, written_whole
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.engines.select import engine_names
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.inference.runtime import PRECISIONS
from vit_tactile_ros.model import Checkpoint, load_checkpoint, shipped_checkpoint, thresholds

EXAMPLES = (
    'bags/',
    'bags/ --labels intervals.csv --report --output runs/replay',
    'bag.mcap --live --speed 2',
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('replay', __doc__, EXAMPLES)
    parser.add_argument('bags', nargs='+', type=Path, metavar='BAG', help='bags, or folders of bags')
    parser.add_argument('--labels', type=Path, help='CSV of start,end,label[,sensor][,bag] in s from the start of the '
                        'bag or since 1970; default: the TactileLabel messages in the bag, if any')
    parser.add_argument('--topics', nargs='+', default=[], help='image topics to read; default: all')
    parser.add_argument('--sensors', nargs='+', default=[],
                        help='sensors to read, for instance left for /left/image_raw; default: all')
    parser.add_argument('--start', type=float, help="first time to read, s from the bag's first message")
    parser.add_argument('--stop', type=float, help="end of the time to read, s from the bag's first message")
    parser.add_argument('--reference_frames', type=int, default=REFERENCE_FRAMES,
                        help='number of first images of a sensor whose mean is its reference')
    parser.add_argument('--reference_files', nargs='+', default=[], metavar='SENSOR=FILE',
                        help='images without contact, used in place of the first images; =FILE for the unnamed sensor')
    parser.add_argument('--checkpoint', type=Path, help=flags.CHECKPOINT.help)
    parser.add_argument('--tau', type=float, nargs='+', help="exit threshold, one or one per early exit; "
                        "default: the checkpoint's")
    parser.add_argument('--max_accuracy_drop', type=float,
                        help='accepted accuracy drop, instead of --tau; needs a calibrated checkpoint')
    parser.add_argument('--device', default='auto', help=flags.DEVICE.help)
    parser.add_argument('--threads', type=int, default=1, help=flags.THREADS.help)
    parser.add_argument('--batch_size', type=int, default=32, help='images per batch')
    parser.add_argument('--timing_frames', type=int, default=100,
                        help='frames per bag that also run one by one, to measure the latency; 0: skip')
    parser.add_argument('--output', type=Path, default=Path('runs/replay'), help='folder for the results')
    parser.add_argument('--report', action='store_true',
                        help='also write report.html, a self-contained page with images, to --output')
    parser.add_argument('--engine', choices=engine_names(), default='torch',
                        help="what runs the network, also in the node of --live; 'auto' (the default of the node): "
                             'the fastest')
    parser.add_argument('--precision', choices=PRECISIONS, default='float32',
                        help="number format of the engine, also in the node of --live; 'int8' needs engine 'openvino' "
                             "or 'auto' and a calibrated checkpoint")
    parser.add_argument('--live', action='store_true', help='also play each bag to the real node, over ROS 2')
    parser.add_argument('--speed', type=float, default=1.0, help='playback speed of --live; 1: as recorded')
    parser.add_argument('--find_speed', action='store_true',
                        help='with --live: also find the highest speed with less than 5 %% of the images superseded')
    parser.add_argument('--ray', nargs='?', const='', metavar='ADDRESS',
                        help='one bag per task on a Ray cluster; without an address: on this machine')
    arguments = parser.parse_args(argv)
    for name, least in (('reference_frames', 1), ('batch_size', 1), ('threads', 0), ('timing_frames', 0)):
        if getattr(arguments, name) < least:
            parser.error(f'--{name} is {getattr(arguments, name)}; must be at least {least}')
    for name in ('start', 'stop'):
        value = getattr(arguments, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            parser.error(f'--{name} is {value}; must be s from the start of the bag, at least 0')
    if arguments.start is not None and arguments.stop is not None and arguments.start >= arguments.stop:
        parser.error(f'--start is {arguments.start} and --stop {arguments.stop}; the start must be before the stop')
    if not (math.isfinite(arguments.speed) and arguments.speed > 0):
        parser.error(f'--speed is {arguments.speed}; must be above 0')
    if arguments.tau is not None and arguments.max_accuracy_drop is not None:
        parser.error('--tau and --max_accuracy_drop: give only one of them; both set the exit threshold')
    if arguments.live and arguments.ray is not None:
        parser.error('--live and --ray: give only one of them; a live node plays on this machine')
    if arguments.find_speed and not arguments.live:
        parser.error('--find_speed goes with --live')
    for text in arguments.reference_files:
        if '=' not in text:
            parser.error(f'--reference_files {text}: must be SENSOR=FILE')
    return arguments


@command('replay')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    check_folder_writable(arguments.output)
    path = arguments.checkpoint or shipped_checkpoint()
    checkpoint = load_checkpoint(path)
    settings = _settings(arguments, checkpoint)
    bags = find_recordings(arguments.bags)
    begun = time.monotonic()
    results, missing = _replay_all(arguments, path, checkpoint, settings, bags)
    seconds = time.monotonic() - begun
    if not results:
        raise DataError('; '.join(missing) or 'nothing was replayed')
    table = FrameTable.concatenate([result.table for result in results])
    for result in results:  # only the joined one is needed from here on
        result.table = result.table.subset(np.empty(0, np.int64))
    table.write_csv(arguments.output / 'frames.csv')
    touches = find_touches(table)
    summary = {'checkpoint': str(path)} | summarise(results, table, touches, seconds, missing)
    if touches is not None:
        write_events(touches, table.class_names, arguments.output)
    if arguments.live and not summary['stopped']:
        live, wrong = _play_live(arguments, path, settings, bags, table)
        summary |= {'live': live}
        summary['missing'] += wrong
    text = json.dumps(summary)
    with written_whole(arguments.output / 'summary.json') as temporary:
        temporary.write_text(text + '\n', encoding='utf-8')
    if arguments.report:
        _report(arguments, path, bags, table, touches or [], summary)
    for note in summary['notes']:
        print(f'replay: note: {note}', file=sys.stderr)
    for what in summary['missing']:
        print(f'replay: missing: {what}', file=sys.stderr)
    _print(summary)
    files = ['frames.csv', *(['events.csv', 'touches.csv'] if touches is not None else []),
             *(['report.html'] if arguments.report else []), 'summary.json']
    print(f'wrote {", ".join(files)} to {arguments.output}')
    print(text)
    return 130 if summary['stopped'] else 1 if summary['missing'] else 0


def _giving_memory_back(progress: Callable[[int], Any], every: int = 64) -> Callable[[int], None]:
    """`progress`, which also makes glibc return free memory to the system every few images."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return progress
    seen = 0

    def update(images: int) -> None:
        nonlocal seen
        progress(images)
        seen += images
        if seen >= every:
            seen = 0
            trim(0)

    return update


def _report(arguments: argparse.Namespace, path: Path, bags: list[Path], table: FrameTable, touches: list[Touch],
            summary: dict[str, Any]) -> None:
    from vit_tactile_ros.evaluation.recordings.report import write_report  # matplotlib takes seconds to load

    names = unique_names(bags)
    facts = {'checkpoint': str(path), 'labels': str(arguments.labels or 'in the bags'), 'device': arguments.device,
             'engine': arguments.engine, 'precision': arguments.precision}
    write_report(table, arguments.output, title=f'Replay of {", ".join(names[:3])}{", ..." if names[3:] else ""}',
                 bags=dict(zip(names, bags, strict=True)), missing=summary['missing'], facts=facts,
                 touches=touches)


def _settings(arguments: argparse.Namespace, checkpoint: Checkpoint) -> ReplaySettings:
    calibration = checkpoint.calibration
    if arguments.max_accuracy_drop is not None:
        try:
            tau: float | tuple[float, ...] = tuple(calibration.bound_for(arguments.max_accuracy_drop).tau)
        except UserError as error:
            raise UserError(f'--max_accuracy_drop is {arguments.max_accuracy_drop:g}: {error}') from error
    else:
        given = arguments.tau or [calibration.tau]
        tau = given[0] if len(given) == 1 else tuple(given)
    files = tuple((sensor.strip('/'), file) for sensor, _, file in
                  (text.partition('=') for text in arguments.reference_files))
    return ReplaySettings(thresholds(tau, len(checkpoint.model.config.exits)), tuple(arguments.topics),
                          tuple(arguments.sensors), arguments.start, arguments.stop,
                          arguments.labels and read_intervals(arguments.labels), arguments.reference_frames, files,
                          arguments.batch_size, arguments.timing_frames, arguments.engine, arguments.precision)


def _replay_all(arguments: argparse.Namespace, path: Path, checkpoint: Checkpoint, settings: ReplaySettings,
                bags: list[Path]) -> tuple[list[Replayed], list[str]]:
    """The results of the bags that could be read, and the missing inputs."""
    names = unique_names(bags)
    outcomes: list[Replayed | str] = []
    with tqdm(desc='replay', unit='image', total=_count(bags), disable=not sys.stderr.isatty()) as bar:
        if arguments.ray is not None:
            outcomes = replay_on_cluster(bags, names, path, arguments.device, arguments.threads, settings,
                                         arguments.ray, bar.update)
        else:
            classifier = TactileClassifier(checkpoint, arguments.device, arguments.precision, arguments.threads,
                                           arguments.engine)
            classifier.warm_up((1, settings.batch_size))
            for bag, name in zip(bags, names, strict=True):
                outcomes.append(_replay_one(bag, name, classifier, settings, _giving_memory_back(bar.update)))
                if isinstance(outcomes[-1], Replayed) and outcomes[-1].is_stopped:
                    break
    results = [outcome for outcome in outcomes if isinstance(outcome, Replayed)]
    missing = [outcome for outcome in outcomes if isinstance(outcome, str)]
    missing += [problem for result in results for problem in result.problems]
    sensors = {str(sensor) for result in results for sensor in result.table.sensor}
    missing += [f'--reference_files {sensor}={file}: no images of a sensor {sensor!r}'
                for sensor, file in settings.reference_files if sensor not in sensors]
    if settings.labels is not None and not any(result.is_stopped for result in results):
        missing += settings.labels.unused(bags, {line for result in results for line in result.used_lines})
        if others := settings.labels.others(bags):
            print(f'replay: note: {settings.labels.path} also labels {", ".join(others)}, which is not among the bags '
                  'given', file=sys.stderr)
    if results and not any(len(result.table) for result in results):
        missing.append('no image was classified')
    return results, missing


def _replay_one(bag: Path, name: str, classifier: TactileClassifier, settings: ReplaySettings,
                progress: Callable[[int], Any]) -> Replayed | str:
    try:
        return replay(bag, name, classifier, settings, progress)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f'{bag}: {error}'


def _count(bags: list[Path]) -> int | None:
    """Number of images in all bags, for the remaining time; None if it is unknown or stderr is not a terminal."""
    if not sys.stderr.isatty():
        return None
    count = 0
    for bag in bags:
        try:
            with Recording(bag) as recording:
                count += sum(topic.msgcount for topic in image_topics(recording.connections, bag).values())
        except (DataError, OSError):
            return None
    return count


def _play_live(arguments: argparse.Namespace, path: Path, settings: ReplaySettings, bags: list[Path],
               table: FrameTable) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        from vit_tactile_ros.ros.live.replay import play_live
    except ImportError as error:
        raise MissingPackageError(f'--live needs ROS 2 and the built package ({error}): `make build` and `. ./env.sh`; '
                                  'with ROS, source the workspace first') from error
    return play_live(bags, unique_names(bags), path, arguments.device, arguments.threads, settings, table,
                     arguments.speed, arguments.find_speed, arguments.output)


def _print(summary: dict[str, Any]) -> None:
    percent = {True: '-', False: '{:.2%}'}
    accuracy = percent[summary['accuracy'] is None].format(summary['accuracy'] or 0.0)
    print(f'{summary["images"]} images of {summary["bags"]} bags in {summary["seconds"]:.1f} s, '
          f'{sum(summary["rejected"].values())} rejected; {summary["labelled"]} labelled, accuracy {accuracy}')
    for sensor, figures in summary['sensors'].items():
        rates = ', '.join(f'block {block} {rate:.1%}' for block, rate in figures['exit_rates'].items())
        print(f'  {sensor or "(unnamed sensor)"}: {figures["frames"]} frames; {rates}; '
              f'compute {figures["compute_share"]:.1%}')
    for live in summary.get('live', ()):
        print(f'  live, {live["bag"]}: {live["answered"]} of {live["sent"]} classified, '
              f'{live["superseded"]} superseded; of {live["common"]} frames {live["class_differs"]} with another '
              f'class, {live["exit_differs"]} with another exit than offline; probabilities within '
              f'{live["probability_difference"]:.1g}')
    if touches := summary['touches']:
        text = f'  {touches["touches"]} touches'
        if count := touches['labelled_touches']:
            text += (f'; of {count} labelled ones {touches["found"]} found once, {touches["split"]} split, '
                     f'{touches["missed"]} missed; {touches["false"]} false')
        if touches['accuracy'] is not None:
            error = touches['onset_error']['max']
            text += f'; class right {touches["accuracy"]:.1%}, onset error at most {error:.2f} s'
        print(text)
    if summary['latency_ms']:
        print('  one image alone: {p50:.2f} ms median, {p99:.2f} ms 99 % (n={n}), {cores} cores'.format(
            **summary['latency_ms'], cores=os.cpu_count()))


if __name__ == '__main__':
    sys.exit(main())
