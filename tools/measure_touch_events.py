"""Touch events of the shipped checkpoint, against the truth of simulated streams or contacts labelled by eye.

    python tools/measure_touch_events.py                                    simulated, three sensors
    python tools/measure_touch_events.py --slip CHECKPOINT                  held objects, for a checkpoint of states
    python tools/measure_touch_events.py --clips FOLDER --contacts FILE     recorded clips; FILE: CSV of clip,first,last

first and last: frames of a clip, 0-based, with visible contact. Clips that begin in contact need an untouched reference
from elsewhere: --reference CLIP FIRST LAST. Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vit_tactile_ros.data.video import images_of
from vit_tactile_ros.evaluation.recordings.events import find_touches, judge_touches
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.evaluation.touchbench.clips import contacts_of, message_of
from vit_tactile_ros.inference.classifier import Decision, TactileClassifier
from vit_tactile_ros.inference.frames import Frame, SensorFrames
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.inference.slip_network import shipped_slip_network
from vit_tactile_ros.inference.touch_events import SLIP_THRESHOLD, EventSettings
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.simulator import (
    CLASS_NAMES,
    STATE_NAMES,
    UNKNOWN,
    HandlingSequence,
    Markers,
    SensorUnit,
    TouchSequence,
    load_sensor,
    sensor_names,
)

Labelled = tuple[np.ndarray, str]  # uint8 RGB (H, W, 3), and the class: one of the checkpoint, or 'contact' of any kind


def simulated(sensor: str, seed: int, seconds: float, rate: float = 30.0) -> Iterator[Labelled]:
    rng = np.random.default_rng(seed)
    config = load_sensor(sensor)
    unit, touches = SensorUnit(config, rng), TouchSequence(config, rng)
    for number in range(int(seconds * rate)):
        contact = touches.at(number / rate)
        yield unit.render(contact, rng), contact.class_name if contact else CLASS_NAMES[0]


def handled(sensor: str, seed: int, seconds: float, rate: float = 30.0) -> Iterator[Labelled]:
    """Objects that are held, shaken and slip, on a gel with dots."""
    rng = np.random.default_rng(seed)
    config = load_sensor(sensor)
    config = dataclasses.replace(config, markers=config.markers or Markers())
    unit, sequence = SensorUnit(config, rng), HandlingSequence(config, rng)
    for number in range(int(seconds * rate)):
        contact, state = sequence.at(number / rate)
        yield unit.render(contact, rng), state


def recorded(clip: Path, contacts: list[tuple[int, int]]) -> Iterator[Labelled]:
    for number, image in enumerate(images_of(clip)):
        yield image, 'contact' if any(first <= number <= last for first, last in contacts) else CLASS_NAMES[0]


def untouched_reference(clip: Path, first: int, last: int, classifier: TactileClassifier) -> np.ndarray:
    """The median of these frames of the clip, fitted, uint8 (h, w, 3)."""
    frames = [fit(image, classifier.preprocessing)
              for number, image in enumerate(images_of(clip)) if first <= number <= last]
    if not frames:
        raise SystemExit(f'--reference: {clip} has no frames {first} to {last}')
    return np.median(np.stack(frames), axis=0).astype(np.uint8)


def decision(classifier: TactileClassifier, frame: Frame, tau: tuple[float, ...], gate: bool = True) -> Decision:
    """As the node decides about one frame."""
    untouched = classifier.untouched(tau) if gate and frame.is_untouched else None
    return untouched or classifier.classify([frame.image], [frame.reference], tau, [frame.previous], None,
                                            [frame.touch_odds] if gate else None)[0]


def frame_table(name: str, frames: Iterator[Labelled], rate: float, classifier: TactileClassifier,
                gate: bool, reference: np.ndarray | None = None, motion: bool = True,
                skip_unchanged: bool = False) -> FrameTable:
    """As replay makes it, at a tau of 0.95. Contact of an unknown class is labelled with class 1."""
    sensor = SensorFrames(Reference(fixed=reference), classifier.preprocessing,
                          slip_network=shipped_slip_network(classifier.class_names) if motion else None,
                          finds_unchanged=skip_unchanged)
    decisions: list[Decision] = []
    labels, slips, unchanged = [], [], []
    for image, label in frames:
        frame = sensor.update(message_of(image), 10**9 + round(1e9 * len(labels) / rate))
        # The image before is in the same touch: the gate would have ended what is_unchanged compares with.
        decisions.append(decisions[-1] if frame.is_unchanged else
                         decision(classifier, frame, classifier.thresholds(0.95), gate))
        labels.append(label)
        unchanged.append(frame.is_unchanged)
        if frame.slip is not None:
            slips.append([*frame.slip.states, frame.slip.lost])
    count = len(labels)
    order = np.arange(count)
    touched = np.array([label != CLASS_NAMES[0] for label in labels])
    names = classifier.class_names
    classes = [names.index(label) if label in names else 1 for label in labels]
    runs = np.cumsum(np.concatenate([[0], touched[1:] != touched[:-1]]))
    probabilities = np.stack([d.probabilities for d in decisions])
    exits = len(classifier.exits)
    # Only the exit that was taken is known here: its probabilities stand for all.
    logits = np.repeat(np.log(np.maximum(probabilities, 1e-12))[None].astype(np.float32), exits, axis=0)
    stamps = 10**9 + (order * 1e9 / rate).astype(np.int64)
    return FrameTable(
        bag=np.full(count, name), sensor=np.full(count, ''), topic=np.full(count, '/image_raw'), index=order,
        stamp=stamps, received=stamps, seconds=order / rate, label=np.array(classes),
        touch=np.array([f'{name}/{run}' for run in runs]), logits=logits,
        exit_index=np.array([d.exit_index for d in decisions]), class_id=probabilities.argmax(axis=1),
        confidence=probabilities.max(axis=1), touch_odds=np.full(count, np.nan),
        kept_share=np.where(unchanged, 0.0, np.nan), zoom=np.full(count, np.nan),
        inference_time=np.full(count, np.nan), class_names=tuple(names),
        exits=classifier.exits, compute_shares=classifier.compute_shares, temperatures=(1.0,) * exits,
        tau=classifier.thresholds(0.95), motion=np.array(slips, np.float32) if slips else None)


def measure(streams: Iterator[tuple[str, Iterator[Labelled], float]], gate: bool = True, slip: Path | None = None,
            settings: EventSettings | None = None, reference: tuple[Path, int, int] | None = None,
            motion: bool = True, skip_unchanged: bool = False) -> list[dict]:
    checkpoint = load_checkpoint(slip or shipped_checkpoint())
    if checkpoint.class_names not in ((STATE_NAMES,) if slip else (CLASS_NAMES, (*CLASS_NAMES, UNKNOWN))):
        raise RuntimeError('the checkpoint has other classes than the simulator')
    classifier = TactileClassifier(checkpoint, engine='auto', threads=1)
    image = untouched_reference(*reference, classifier) if reference else None
    rows = []
    for name, frames, rate in streams:
        table = frame_table(name, frames, rate, classifier, gate, image, motion, skip_unchanged)
        rows.append({'stream': name, 'frames': len(table)} | judge_touches(
            table, find_touches(table, settings) or []))
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--slip', type=Path, metavar='CHECKPOINT', help='checkpoint of states, on held objects')
    parser.add_argument('--slip_threshold', type=float, default=SLIP_THRESHOLD,
                        help=f'probability of slip at which it begins (default: {SLIP_THRESHOLD:g})')
    parser.add_argument('--clips', type=Path, help='folder of video files; default: simulated streams')
    parser.add_argument('--contacts', type=Path, help='CSV with the contacts of the clips')
    parser.add_argument('--reference', nargs=3, metavar=('CLIP', 'FIRST', 'LAST'),
                        help='frames of one clip without contact, whose median is the reference of all clips')
    parser.add_argument('--rate', type=float, default=25.0, help='frames/s of the clips (default: 25)')
    parser.add_argument('--seconds', type=float, default=60.0, help='s of each simulated stream (default: 60)')
    parser.add_argument('--seeds', type=int, default=3, help='simulated streams per sensor (default: 3)')
    parser.add_argument('--no_motion', action='store_true', help='slip by the checkpoint alone, not by the motion')
    parser.add_argument('--skip_unchanged', action='store_true', help='as the parameter of the node')
    parser.add_argument('--no_gate', action='store_true', help='all images through the network')
    arguments = parser.parse_args(argv)
    if arguments.clips:
        if not arguments.contacts:
            parser.error('--clips needs --contacts')
        streams = ((clip, recorded(arguments.clips / clip, contacts), arguments.rate)
                   for clip, contacts in contacts_of(arguments.contacts).items())
    else:
        frames_of = handled if arguments.slip else simulated
        streams = ((f'{sensor} {seed}', frames_of(sensor, 9000 + seed, arguments.seconds), 30.0)
                   for sensor in sensor_names() for seed in range(arguments.seeds))
    reference = None
    if arguments.reference:
        clip, first, last = arguments.reference
        reference = (arguments.clips / clip, int(first), int(last))
    rows = measure(streams, not arguments.no_gate, arguments.slip,
                   EventSettings(slip_threshold=arguments.slip_threshold), reference, not arguments.no_motion,
                   arguments.skip_unchanged)
    columns = ('frames', 'labelled_touches', 'found', 'split', 'missed', 'false')
    print(f'{"stream":28}', *(f'{c:>16}' for c in columns), f'{"onset error, s":>16}', f'{"delay, s":>10}')
    for row in rows:
        onset, delay = row['onset_error'], row['decision_delay']
        print(f'{row["stream"]:28}', *(f'{row[c]:16}' for c in columns),
              f'{onset["max"] if onset else float("nan"):16.3f}', f'{delay["p50"] if delay else float("nan"):10.3f}')
    total = {c: sum(row[c] for row in rows) for c in columns}
    if arguments.slip:
        slip_columns = ('labelled_slips', 'found', 'missed', 'false')
        print(f'{"slips":28}', *(f'{c:>16}' for c in slip_columns), f'{"delay, s":>16}')
        for row in rows:
            slips = row['slips']
            print(f'{row["stream"]:28}', *(f'{slips[c]:16}' for c in slip_columns),
                  f'{slips["delay"]["p50"] if slips["delay"] else float("nan"):16.3f}')
        total['slips'] = {c: sum(row['slips'][c] for row in rows) for c in slip_columns}
    print(json.dumps(total))


if __name__ == '__main__':
    main()
