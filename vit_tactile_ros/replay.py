"""Run bags offline through the network: predictions, confidences, times.

Reads rosbag2 (sqlite3, mcap) and rosbag1, split, compressed or damaged. Writes frames.csv, a row per frame, and
summary.json to --output, in place of those of an earlier replay, whose report is removed. With a checkpoint that has
the class no_contact it also writes events.csv and touches.csv; --labels reads the latter. The last line printed is the
summary. The exit status is 0 only if all requested inputs were found. With --live the images are also sent to the real
node, at --speed, and both results are compared.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from vit_tactile_ros.evaluation.recordings.events import Touch, find_touches_and_lost, write_events
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.evaluation.recordings.replaying import Replayed, ReplaySettings, replay
from vit_tactile_ros.evaluation.recordings.report_files import remove_report
from vit_tactile_ros.evaluation.recordings.summary import summarise
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import MissingPackageError, UserError, check_least
from vit_tactile_ros.foundation.files import check_folder_writable, written_whole
from vit_tactile_ros.foundation.memory import return_freed_memory
from vit_tactile_ros.foundation.words import counted
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.engines.select import engine_names
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.inference.reference_monitor import DRIFT
from vit_tactile_ros.inference.runtime import Precision
from vit_tactile_ros.inference.touch_events import LOST_THRESHOLD, NO_CONTACT, SLIP_THRESHOLD, EventSettings
from vit_tactile_ros.model import Checkpoint, load_checkpoint, shipped_checkpoint, thresholds

EXAMPLES = (
    'bags/',
    'bags/ --labels intervals.csv --report --output runs/replay',
    'bag.mcap --live --speed 2',
)


@dataclass(frozen=True)
class ReplayRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    bags: tuple[Path, ...] = flag(REQUIRED, 'bags, or folders of bags', 'BAG', is_positional=True)
    labels: Path | None = flag(None, 'CSV of start,end,label[,sensor][,bag] in s from the start of the bag or since '
                                     '1970; default: the TactileLabel messages in the bag, if any')
    topics: tuple[str, ...] = flag((), 'image topics to read; default: all')
    sensors: tuple[str, ...] = flag((), 'sensors to read, for instance left for /left/image_raw; default: all')
    start: float | None = flag(None, "first time to read, s from the bag's first message")
    stop: float | None = flag(None, "end of the time to read, s from the bag's first message")
    reference_frames: int = flag(REFERENCE_FRAMES,
                                 'number of first images of a sensor whose mean is its reference')
    reference_files: tuple[str, ...] = flag(
        (), 'images without contact, used in place of the first images; =FILE for the unnamed sensor', 'SENSOR=FILE')
    reference_store: Path | None = flag(
        None, 'folder with the references that adapt or the node stored, used in place of the first images, by the '
              'name of the topic', 'FOLDER')
    reference_drift: float = flag(DRIFT, 'time constant in s with which the reference follows untouched images; '
                                         '0: it does not')
    no_gate: bool = flag(False, 'let no image exit before the first block')
    slip_threshold: float = flag(SLIP_THRESHOLD, 'probability of slip at which a slip begins, above 0 and below 1; for '
                                                 'a checkpoint of states')
    lost_threshold: float = flag(LOST_THRESHOLD, 'probability that no object is held at which it counts as lost, above '
                                                 '0 and below 1; for a checkpoint of states')
    no_slip_motion: bool = flag(False, 'find slip by the checkpoint of states alone, not by the motion over seconds')
    skip_unchanged: bool = flag(False, 'a touched image that shows the same as one of the last 0.5 s gets its result, '
                                       'as with the parameter of the node')
    checkpoint: Path | None = flag(None, flags.CHECKPOINT)
    tau: tuple[float, ...] = flag((), "exit threshold, one or one per early exit; default: the checkpoint's")
    max_accuracy_drop: float | None = flag(None, 'accepted accuracy drop, instead of --tau; needs a calibrated '
                                                'checkpoint')
    device: str = flag('auto', flags.DEVICE)
    threads: int = flag(1, flags.THREADS)
    batch_size: int = flag(32, 'images per batch')
    timing_frames: int = flag(100, 'frames per bag that also run one by one, to measure the latency; 0: skip')
    output: Path = flag(Path('runs/replay'), 'folder for the results')
    report: bool = flag(False, 'also write report.html, a self-contained page with images, to --output')
    engine: str = flag('torch', "what runs the network, also in the node of --live; 'auto' (the default of the "
                                'node): the fastest', choices=engine_names())
    precision: Precision = flag('float32', "number format of the engine, also in the node of --live; 'int8' needs "
                                           "engine 'openvino' or 'auto' and a calibrated checkpoint")
    live: bool = flag(False, 'also play each bag to the real node, over ROS 2')
    speed: float = flag(1.0, 'playback speed of --live; 1: as recorded')
    find_speed: bool = flag(False, 'with --live: also find the highest speed with less than 5 %% of the '
                                   'images superseded')
    ray: str | None = flag(None, 'one bag per task on a Ray cluster; without an address: on this machine', 'ADDRESS',
                           const='')

    def __post_init__(self) -> None:
        check_least(self, reference_frames=1, batch_size=1, threads=0, timing_frames=0)
        for name in ('start', 'stop'):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f'{name} is {value}; must be s from the start of the bag, at least 0')
        self.events()
        if self.start is not None and self.stop is not None and self.start >= self.stop:
            raise UserError(f'start is {self.start} and --stop {self.stop}; the start must be before the stop')
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise UserError(f'speed is {self.speed}; must be above 0')
        if not (math.isfinite(self.reference_drift) and self.reference_drift >= 0):
            raise UserError(f'reference_drift is {self.reference_drift}; must be s, at least 0')
        if self.tau and self.max_accuracy_drop is not None:
            raise UserError('--tau and --max_accuracy_drop: give only one of them; both set the exit threshold')
        if self.live and self.ray is not None:
            raise UserError('--live and --ray: give only one of them; a live node plays on this machine')
        if self.live and self.reference_store:
            raise UserError('--live and --reference_store: give only one of them; the node of --live has other topics '
                            'and would write to the folder')
        if self.find_speed and not self.live:
            raise UserError('--find_speed goes with --live')
        for text in self.reference_files:
            if '=' not in text:
                raise UserError(f'reference_files {text}: must be SENSOR=FILE, or =FILE for the unnamed sensor')

    def events(self) -> EventSettings:
        """Raises UserError for a threshold that is wrong."""
        return EventSettings(slip_threshold=self.slip_threshold, lost_threshold=self.lost_threshold)


def parse_arguments(argv: list[str] | None = None) -> ReplayRequest:
    return flags.parse('replay', __doc__, EXAMPLES, ReplayRequest, argv)


@command('replay')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    check_folder_writable(arguments.output)
    if arguments.labels and arguments.labels.resolve() == (arguments.output / 'touches.csv').resolve():
        raise UserError(f'labels is {arguments.labels}, which this replay would overwrite: rename it, or give another '
                        '--output')
    if (store := arguments.reference_store) and not store.is_dir():
        raise UserError(f'reference_store {store} is not a folder; must be that of adapt --store, or of the parameter '
                        'reference_store of the node')
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
    _remove_earlier(arguments, NO_CONTACT in table.class_names)
    touches, lost = find_touches_and_lost(table, arguments.events()) if NO_CONTACT in table.class_names else (None, [])
    summary = {'checkpoint': str(path)} | summarise(results, table, touches, seconds, missing)
    if touches is not None:
        write_events(touches, table.class_names, arguments.output)
    if table.motion is not None:
        summary['lost'] = [one._asdict() for one in lost]
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
    seen = 0

    def update(images: int) -> None:
        nonlocal seen
        progress(images)
        seen += images
        if seen >= every:
            seen = 0
            return_freed_memory()

    return update


def _remove_earlier(arguments: ReplayRequest, has_events: bool) -> None:
    """Remove what an earlier replay wrote to the folder and this one does not replace; touches.csv may have been
    corrected by hand."""
    remove_report(arguments.output)
    if not has_events:
        (arguments.output / 'events.csv').unlink(missing_ok=True)


def _report(arguments: ReplayRequest, path: Path, bags: list[Path], table: FrameTable, touches: list[Touch],
            summary: dict[str, Any]) -> None:
    from vit_tactile_ros.evaluation.recordings.report import write_report  # matplotlib takes seconds to load

    names = unique_names(bags)
    facts = {'checkpoint': str(path), 'labels': str(arguments.labels or 'TactileLabel messages in the bags, if any'),
             'device': arguments.device, 'engine': arguments.engine, 'precision': arguments.precision}
    write_report(table, arguments.output, title=f'Replay of {", ".join(names[:3])}{", ..." if names[3:] else ""}',
                 bags=dict(zip(names, bags, strict=True)), missing=summary['missing'], facts=facts,
                 touches=touches)


def _settings(arguments: ReplayRequest, checkpoint: Checkpoint) -> ReplaySettings:
    calibration = checkpoint.calibration
    if arguments.max_accuracy_drop is not None:
        try:
            bound = calibration.bound_for(arguments.max_accuracy_drop)
        except UserError as error:
            raise UserError(f'--max_accuracy_drop is {arguments.max_accuracy_drop:g}: {error}') from error
        tau: float | tuple[float, ...] = bound.tau
        print(f'replay: note: {bound.effect}', file=sys.stderr)
    else:
        given = arguments.tau or (calibration.tau,)
        tau = given[0] if len(given) == 1 else given
    files = tuple((sensor.strip('/'), file) for sensor, _, file in
                  (text.partition('=') for text in arguments.reference_files))
    labels = read_intervals(arguments.labels) if arguments.labels else None
    return ReplaySettings(thresholds(tau, len(checkpoint.model.config.exits)), arguments.topics, arguments.sensors,
                          arguments.start, arguments.stop, labels, arguments.reference_frames, files,
                          arguments.batch_size, arguments.timing_frames, arguments.engine, arguments.precision,
                          not arguments.no_gate, arguments.reference_drift, arguments.reference_store,
                          not arguments.no_slip_motion, arguments.skip_unchanged)


def _replay_all(arguments: ReplayRequest, path: Path, checkpoint: Checkpoint, settings: ReplaySettings,
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
            print(f'replay: note: {settings.labels.path} also labels {", ".join(others)}, not among the bags given',
                  file=sys.stderr)
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


def _play_live(arguments: ReplayRequest, path: Path, settings: ReplaySettings, bags: list[Path],
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
    print(f'{counted(summary["images"], "image")} of {counted(summary["bags"], "bag")} in {summary["seconds"]:.1f} s, '
          f'{sum(summary["rejected"].values())} rejected; {summary["labelled"]} labelled, accuracy {accuracy}')
    for sensor, figures in summary['sensors'].items():
        rates = ', '.join(f'{"gate" if block == "0" else f"block {block}"} {rate:.1%}'
                          for block, rate in figures['exit_rates'].items())
        print(f'  {sensor or "(unnamed sensor)"}: {counted(figures["frames"], "frame")}; {rates}; '
              f'compute {figures["compute_share"]:.1%}')
    seen = [f'{summary[name]} {name}' for name in ('enlarged', 'unchanged') if summary[name]]
    if seen:
        print(f'  of these frames: {", ".join(seen)}')
    for live in summary.get('live', ()):
        print(f'  live, {live["bag"]}: {live["answered"]} of {live["sent"]} classified, '
              f'{live["superseded"]} superseded; of {live["common"]} frames {live["class_differs"]} with another '
              f'class, {live["exit_differs"]} with another exit than offline; probabilities within '
              f'{live["probability_difference"]:.1g}')
    if touches := summary['touches']:
        text = f'  {counted(touches["touches"], "touch", "touches")}'
        if count := touches['labelled_touches']:
            text += (f'; of {count} labelled ones {touches["found"]} found once, {touches["split"]} split, '
                     f'{touches["missed"]} missed; {touches["false"]} false')
        if touches['accuracy'] is not None:
            error = touches['onset_error']['max']
            text += f'; class right {touches["accuracy"]:.1%}, onset error at most {error:.2f} s'
        elif touches['onset_error'] is not None:
            text += f'; onset error at most {touches["onset_error"]["max"]:.2f} s'
        print(text)
        if slips := touches['slips']:
            text = f'  {counted(slips["slips"], "slip")}'
            if slips['labelled_slips']:
                text += (f'; of {slips["labelled_slips"]} labelled ones {slips["found"]} found, {slips["missed"]} '
                         f'missed; {slips["false"]} false')
            if slips['delay'] is not None:
                text += f'; delay {slips["delay"]["p50"]:.2f} s median'
            print(text)
    if latency := summary['latency_ms']:
        p99 = '' if latency['p99'] is None else f', {latency["p99"]:.2f} ms 99 %'
        print(f'  one image alone: {latency["p50"]:.2f} ms median{p99} (n={latency["n"]} of {summary["classified"]} '
              f'frames), {os.cpu_count()} cores')


if __name__ == '__main__':
    sys.exit(main())
