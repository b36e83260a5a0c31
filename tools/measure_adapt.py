"""What adapting to a sensor without labels brings: what `adapt` does, what it does not, and controls.

    python tools/measure_adapt.py --clips FOLDER --contacts FILE --presses FOLDER... [--touches FOLDER --shapes FILE]

FILE of --contacts: CSV of clip,first,last with the frames in contact. Every clip with at least 16 untouched frames
before the first contact is adapted to these, and judged from there on. --presses: folders with presses.csv and
reference.png, ball presses; --touches and --shapes: as in tools/measure_unknown.py. Their differences are scaled to a
low contrast, rounded, with noise, and so are the clips. The gain comes from 6 random images of a sensor, 50 times, the
median; the accuracy is that of all images, those included. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.evaluation.touchbench.clips import contacts_of
from vit_tactile_ros.evaluation.touchbench.contact import LEVELS, STEP_NS, Clip, peak
from vit_tactile_ros.inference.adaptation import adapted, contrast, gain_of
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.gate import Gate, noise_of, to_cells
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.inference.reference_monitor import ReferenceMonitor
from vit_tactile_ros.inference.reference_store import StoredReference
from vit_tactile_ros.inference.touch_events import NO_CONTACT, UNKNOWN
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.simulator import CLASS_NAMES, SensorUnit
from vit_tactile_ros.simulator.example import any_sensor, randomise
from vit_tactile_ros.simulator.sampling import sample_contact

sys.path.insert(0, str(Path(__file__).parent))
from measure_unknown import LEAST_LEVELS, judged, shapes_of
from titled_rows import TitledRows

LEAST_BEFORE = 16  # untouched frames before the first contact
CONTRASTS = (0.1, 0.15, 0.25, 0.4, 1.0)
Differences = NDArray[np.float32]  # (n, h, w, 3), grey levels


class Network:
    """Logits at the last exit of differences, (n, C), divided by the temperature."""

    def __init__(self, classifier: TactileClassifier) -> None:
        self.classifier = classifier

    @torch.inference_mode()
    def __call__(self, frames: Sequence[NDArray[Any]], reference: NDArray[np.float32], gain: float = 1.0) -> Any:
        own, found = self.classifier.preprocessing, []
        for first in range(0, len(frames), 32):
            inputs = np.stack([normalise(frame, reference, own, gain=gain) for frame in frames[first:first + 32]])
            found.append(list(self.classifier.runtime.stages(torch.from_numpy(inputs)))[-1].float().numpy().copy())
        return np.concatenate(found) / self.classifier.temperatures[-1]

    def of(self, differences: Differences, gain: float = 1.0) -> Any:
        return self(list(differences), np.zeros(differences.shape[1:], np.float32), gain)


def before_contact(clip: Clip) -> list[NDArray[np.uint8]]:
    return [clip.frames[i] for i in np.flatnonzero(clip.judged & ~clip.touched) if i < clip.onsets[0][0]]


def scale_of(frames: Sequence[NDArray[np.uint8]]) -> float:
    """Factor on the noise of the first half with which 99 % of the second half would exit at the gate."""
    half = len(frames) // 2
    reference = np.mean(frames[:half], axis=0).astype(np.float32)
    gate, scores = Gate(), []
    for frame in frames[half:]:
        gate.variance = np.maximum(noise_of(frames[:half], reference), 0.09)
        scores.append(gate.judge(to_cells(frame) - to_cells(reference)).score)
    return max(1.0, (float(np.quantile(scores, 0.99)) / 3) ** 2)


def contact_row(clips: Sequence[Clip], network: Network, make: Any, gain: float = 1.0) -> dict[str, Any]:
    """make(clip): a monitor that has its reference. Judged from the first contact on, at full depth."""
    missed = {level: [0, 0] for level in LEVELS}
    false, gated, held = [0, 0], 0, 0
    for clip in clips:
        monitor: ReferenceMonitor = make(clip)
        odds, untouched = [], []
        reference = np.array(monitor.reference.frame)
        for number, frame in enumerate(clip.frames):
            monitor.check(frame, number * STEP_NS)
            odds.append(monitor.touch_odds)
            untouched.append(monitor.is_untouched)
        logits = network(clip.frames, reference, gain)
        logits[:, network.classifier.class_names.index(NO_CONTACT)] -= np.log(odds)
        touched = logits.argmax(axis=1) != network.classifier.class_names.index(NO_CONTACT)
        late = clip.judged & (np.arange(len(touched)) >= clip.onsets[0][0])
        for low, high in LEVELS:
            rows = late & clip.touched & (clip.level >= low) & (clip.level < high)
            missed[low, high][0] += int((~touched & rows).sum())
            missed[low, high][1] += int(rows.sum())
        rows = late & ~clip.touched
        false[0] += int((touched & rows).sum())
        false[1] += int(rows.sum())
        gated += int((np.array(untouched) & rows).sum())
        held += int((np.array(untouched) & late & clip.touched & (clip.level >= 5)).sum())
    return {f'missed, {low} to {high}': f'{m} of {n}' for (low, high), (m, n) in missed.items() if n} | {
        'false': f'{false[0]} of {false[1]}', 'untouched that exit at the gate': round(gated / false[1], 3),
        'touched from 5 on that exit at the gate': held}


def monitor_of(frame: NDArray[Any], variance: NDArray[np.float32] | None = None, weight: float = 8) -> ReferenceMonitor:
    monitor = ReferenceMonitor(Reference(fixed=frame))
    if variance is not None:
        monitor.gate.variance, monitor.gate._frames = variance.astype(np.float32), weight
    return monitor


def contact_rows(clips: Sequence[Clip], network: Network, wrong_noise: NDArray[np.float32], whose: str,
                 ) -> dict[str, Any]:
    """wrong_noise: grey levels squared of every cell, the control; whose: what it is."""
    stored = {clip.name: adapted(before_contact(clip), (240, 320), 1.0, '') for clip in clips}
    noise = {clip.name: np.maximum(noise_of(before_contact(clip), stored[clip.name].frame), 0.09) for clip in clips}
    scale = {clip.name: scale_of(before_contact(clip)) for clip in clips}

    def start(one: StoredReference) -> ReferenceMonitor:
        return ReferenceMonitor(Reference(fixed=one.frame), stored=one)

    # by row: a monitor from the clip that was adapted to
    rows: dict[str, Any] = {
        'fresh start: the first 5 images': lambda own: monitor_of(np.rint(own.reference)),
        'stored, noise of the start with the weight of 100 frames': lambda own: monitor_of(
            stored[own.name].frame, np.maximum(noise[own.name], 1.0), 100),
        'adapted': lambda own: start(stored[own.name]),
        'and its own noise': lambda own: monitor_of(stored[own.name].frame, noise[own.name] * scale[own.name], 100),
        f'control: and {whose}': lambda own: monitor_of(
            stored[own.name].frame, wrong_noise * scale[own.name], 100)}
    found = {}
    for name, make in rows.items():
        found[name] = contact_row(clips, network, make)
        false, gated, count, pairs = 0, 0, 0, 0
        for clip in clips:
            frames = [clip.frames[i] for i in np.flatnonzero(clip.judged & ~clip.touched)]
            for other in clips:
                if other is clip or np.abs(stored[other.name].frame - stored[clip.name].frame).mean() >= 1.5:
                    continue
                monitor, odds = make(other), []
                reference = np.array(monitor.reference.frame)
                for number, frame in enumerate(frames):
                    monitor.check(frame, number * STEP_NS)
                    odds.append(monitor.touch_odds)
                    gated += monitor.is_untouched
                logits = network(frames, reference)
                logits[:, network.classifier.class_names.index(NO_CONTACT)] -= np.log(odds)
                false += int((logits.argmax(axis=1) != network.classifier.class_names.index(NO_CONTACT)).sum())
                count += len(frames)
                pairs += 1
        found[name]['adapted to another clip, up to 1.5 off'] = {
            'false': round(false / max(count, 1), 4), 'exit at the gate': round(gated / max(count, 1), 3), 'n': count,
            'pairs': pairs}
    return found


def dimmed(differences: Differences, share: float, rng: np.random.Generator) -> Differences:
    return np.rint(share * differences + rng.normal(0, 0.4, differences.shape)).astype(np.float32)


def contrast_rows(sensors: dict[str, tuple[Differences, NDArray[np.int64]]], network: Network) -> dict[str, Any]:
    """Accuracy at low contrast, as it is and with the gain of `adapt`; at full contrast, that of a dark sensor."""
    unknown = network.classifier.class_names.index(UNKNOWN)
    found: dict[str, Any] = {}
    for share in CONTRASTS:
        rng = np.random.default_rng(0)
        shown = {name: dimmed(d, share, rng) for name, (d, _) in sensors.items()}
        gains = {}
        for name, images in shown.items():
            zero = np.zeros(images.shape[1:], np.float32)
            own = np.array([contrast(image, zero) for image in images])
            gains[name] = float(np.median([gain_of(rng.choice(own, 6, replace=False))[1] for _ in range(50)]))
        for name, images in shown.items():
            truth = sensors[name][1]
            row: dict[str, Any] = {'gain': round(gains[name], 2)}
            kinds = {'before': 1.0, 'adapted': gains[name]}
            for kind, gain in kinds.items():
                predicted = network.of(images, gain).argmax(axis=1)
                right = predicted == truth
                row[kind] = {title: f'{right[rows].mean():.3f} ({int(rows.sum())})' for title, rows in
                             (('shapes', truth != unknown), ('unknown', truth == unknown)) if rows.any()}
                touched = predicted != network.classifier.class_names.index(NO_CONTACT)
                row[kind]['predicted as a touch'] = round(float(touched.mean()), 3)
            if share == 1.0:  # adapted to another, dark sensor
                right = network.of(images, 3.0).argmax(axis=1) == truth
                row['control: a gain of 3'] = round(float(right[truth != unknown].mean()), 3)
            found[f'{share:g} of the contrast, {name}'] = row
    return found


def dim_clip_rows(clips: Sequence[Clip], network: Network, share: float) -> dict[str, Any]:
    """Contact on clips of low contrast, with and without the gain."""
    rng = np.random.default_rng(1)
    dim = []
    for clip in clips:
        base = np.mean(before_contact(clip), axis=0)
        one = dataclasses.replace(clip) if dataclasses.is_dataclass(clip) else object.__new__(Clip)
        one.__dict__.update(clip.__dict__)
        one.frames = [np.clip(np.rint(base + share * (frame - base) + rng.normal(0, 0.4, frame.shape)), 0, 255).astype(
            np.uint8) for frame in clip.frames]
        one.reference = np.mean(one.frames[:5], axis=0).astype(np.float32)
        dim.append(one)
    stored = {clip.name: adapted(before_contact(clip), (240, 320), 1.0, '') for clip in dim}
    touched = [contrast(frame, stored[clip.name].frame) for clip in dim
               for frame in np.array(clip.frames)[clip.touched & (clip.level >= 12)][::5]]
    gain = gain_of(touched)[1]
    make = lambda clip: ReferenceMonitor(  # noqa: E731
        Reference(fixed=stored[clip.name].frame), stored=stored[clip.name])
    return {'levels': f'those of the clips before they were scaled by {share:g}'} | {
        f'gain {g:.2f}': contact_row(dim, network, make, g) for g in (1.0, gain)}


def simulated_rows(network: Network, units: int, seed: int) -> dict[str, Any]:
    """Accuracy on simulated units whose lights are weaker or stronger, or whose colours are mixed (a white light)."""
    names = network.classifier.class_names
    fitted = lambda image: network.classifier.fit(image).astype(np.float32)  # noqa: E731

    def presses(unit: SensorUnit, count: int, rng: np.random.Generator) -> tuple[Differences, NDArray[np.int64]]:
        labels = rng.choice(CLASS_NAMES[1:], count)
        reference = fitted(unit.reference)
        return (np.stack([fitted(unit.render(sample_contact(str(one), unit.config, rng), rng)) - reference
                          for one in labels]), np.array([names.index(one) for one in labels]))

    found: dict[str, Any] = {}
    for strength, mixed in ((0.15, 0.0), (0.3, 0.0), (0.6, 0.0), (1.0, 0.0), (2.5, 0.0), (1.0, 0.8)):
        rng = np.random.default_rng((seed, int(100 * strength)))
        mix = ((1 - mixed) * np.eye(3) + mixed / 3).astype(np.float32)
        each = []
        for _ in range(units):
            config = randomise(any_sensor(None, rng), rng)
            config = dataclasses.replace(
                config, lights=tuple(dataclasses.replace(one, rgb=tuple(strength * v for v in one.rgb))
                                     for one in config.lights),
                depth_rgb=tuple(strength * v for v in config.depth_rgb))
            unit = SensorUnit(config, rng)
            own, _ = presses(unit, 6, rng)
            test, labels = presses(unit, 20, rng)
            each.append((own @ mix, test @ mix, labels))
        rows: dict[str, list[float]] = {}
        zero = np.zeros(each[0][0].shape[1:], np.float32)
        typical = [_covariance(own) for own, _, _ in each]
        for number, (own, test, labels) in enumerate(each):
            gain = gain_of([contrast(one, zero) for one in own])[1]
            for kind, shown, factor in (
                    ('before', test, 1.0), ('adapted: gain', test, gain),
                    ('colours to a typical covariance, not kept', test @ _colours(typical[number]), 1.0),
                    ('control: colours of another unit', test @ _colours(typical[number - 1]), 1.0)):
                rows.setdefault(kind, []).append(float((network.of(shown, factor).argmax(axis=1) == labels).mean()))
        before = np.array(rows['before'])
        found[f'lights times {strength:g}' + (f', {mixed:g} white' if mixed else '')] = {
            kind: f'{np.mean(v):.3f} ({np.mean(np.array(v) - before):+.3f}, standard error '
                  f'{np.std(np.array(v) - before) / len(v) ** 0.5:.3f})' for kind, v in rows.items()}
    return found


# Square roots of the eigenvalues of the covariance of the colours of simulated presses, mean over 30 units.
TYPICAL = (9.1, 18.3, 36.5)


def _covariance(differences: Differences) -> NDArray[np.float64]:
    strength = np.abs(differences).max(axis=-1)
    shown = differences[strength > np.quantile(strength, 0.9)].astype(np.float64)
    return np.asarray(shown.T @ shown / len(shown))


def _colours(covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    values, vectors = np.linalg.eigh(covariance)
    factors = np.clip(np.array(TYPICAL) / np.sqrt(np.maximum(values, 1)), 0.4, 3)
    return ((vectors * factors) @ vectors.T).astype(np.float32)


def temperature_row(differences: Differences, truth: NDArray[np.int64], network: Network) -> dict[str, float]:
    """Negative log likelihood of the labels at factors on the temperatures: what labels could gain at most."""
    logits = network.of(differences)
    found = {}
    for factor in (0.5, 0.7, 1.0, 1.4, 2.0, 3.0):
        scaled = logits / factor
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        found[f'{factor:g}'] = round(float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(truth)), truth]
                                            ).mean()), 3)
    return found


def presses_of(folder: Path) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """The reference and the images of presses.csv."""
    return read_image(folder / 'reference.png'), [
        read_image(folder / row['image']) for _, row in read_rows(folder / 'presses.csv')[1]]


def press_sensor(folder: Path, classifier: TactileClassifier) -> tuple[Differences, NDArray[np.int64]]:
    reference, presses = presses_of(folder)
    images = np.stack([classifier.fit(press).astype(np.float32) for press in presses])
    return images - classifier.fit(reference), np.full(len(images), classifier.class_names.index('sphere'))


def touch_sensor(folder: Path, shapes: Path, classifier: TactileClassifier) -> tuple[Differences, NDArray[np.int64]]:
    table, eye = judged(folder, shapes_of(shapes))
    found, labels = [], []
    for touch, shape in zip(table.touches, eye, strict=True):
        assert touch.reference is not None
        image = classifier.fit(read_image(touch.image.path))
        reference = classifier.fit(read_image(touch.reference.path)).astype(np.float32)
        if peak(image, reference) >= LEAST_LEVELS:
            found.append(image - reference)
            labels.append(classifier.class_names.index(shape))
    return np.stack(found), np.array(labels)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=Path, required=True)
    parser.add_argument('--contacts', type=Path, required=True)
    parser.add_argument('--presses', type=Path, nargs='*', default=[])
    parser.add_argument('--touches', type=Path)
    parser.add_argument('--shapes', type=Path)
    parser.add_argument('--other', type=Path, help='untouched images of another sensor, whose noise is the control')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--units', type=int, default=24, help='simulated units per row (default: 24)')
    parser.add_argument('--seed', type=int, default=78_000_000, help='of the simulated units')
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    classifier = TactileClassifier(load_checkpoint(arguments.checkpoint or shipped_checkpoint()), engine='auto',
                                   threads=1)
    network = Network(classifier)
    clips = [Clip(arguments.clips / name, spans, classifier) for name, spans in contacts_of(arguments.contacts).items()]
    clips = [clip for clip in clips if len(before_contact(clip)) >= LEAST_BEFORE]
    result = TitledRows()
    rows, columns = to_cells(clips[0].frames[0]).shape[:2]
    if arguments.other:
        others = [classifier.fit(read_image(file)) for file in sorted(arguments.other.rglob('*.jpg'))]
        wrong = np.maximum(noise_of(others, np.mean(others, axis=0).astype(np.float32)), 0.09)
        whose = 'the noise of another sensor'
    else:
        whose = 'the mean noise of this sensor, turned by 180 degrees'  # of the same strength, elsewhere
        wrong = np.flip(np.mean([noise_of(before_contact(c), np.mean(before_contact(c), axis=0).astype(np.float32))
                                 for c in clips], axis=0)).reshape(rows, columns)
    result.report(f'contact, {len(clips)} clips', contact_rows(clips, network, wrong, whose))
    for share in (0.25, 0.15):
        result.report(f'contact at {share:g} of the contrast', dim_clip_rows(clips, network, share))
    sensors = {folder.name: press_sensor(folder, classifier) for folder in arguments.presses}
    if arguments.touches:
        sensors['household objects'] = touch_sensor(arguments.touches, arguments.shapes, classifier)
    if sensors:
        result.report('shapes', contrast_rows(sensors, network))
        result.report('temperature', {name: temperature_row(*sensor, network) for name, sensor in sensors.items()})
    result.report('simulated units', simulated_rows(network, arguments.units, arguments.seed))
    print(json.dumps(result))


if __name__ == '__main__':
    main()
