"""The exit before the first block, measured: on clips with contacts labelled by eye, with wrong references, in time.

    python tools/measure_gate.py --clips FOLDER --contacts FILE [--touches FOLDER]

FILE: CSV of clip,first,last, 0-based frames with visible contact. --touches: a folder with labels.csv, whose columns
image and reference name a touched image and one of the same press without contact. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vit_tactile_ros.evaluation.touchbench.clips import contacts_of, message_of
from vit_tactile_ros.evaluation.touchbench.contact import LEVELS
from vit_tactile_ros.evaluation.touchbench.contact import peak as level_of
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.decode import decode
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference
from vit_tactile_ros.inference.touch_events import NO_CONTACT
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from measure_touch_events import Frame, recorded
from titled_rows import TitledRows

TAU = 0.95
PEAKS = ((0, 5), (5, 8), (8, 12), (12, 256))  # grey levels
OFFSETS = ((0.0, 1.5), (1.5, 3.0), (3.0, 6.0), (6.0, 256.0))  # grey levels, mean absolute difference of two references


def peaks(frames: np.ndarray, touched: np.ndarray) -> np.ndarray:
    """Grey levels by which each frame, (N, h, w, 3), differs from those before contact; 99.5th percentile."""
    before = max(3, int(np.argmax(touched)) - 1)
    difference = np.abs((frames - frames[:before].mean(axis=0)).mean(axis=3))
    return np.array([np.percentile(cv2.blur(one, (3, 3)), 99.5) for one in difference])


def at_the_gate(clips: dict[str, list[Frame]], classifier: TactileClassifier, rate: float) -> dict[str, Any]:
    """Untouched and touched frames that exit at the gate, and how many do so from the first contact on."""
    untouched, by_peak, delays = [0, 0], {peak: [0, 0, 0] for peak in PEAKS}, {}
    for name, frames in clips.items():
        sensor = SensorFrames(Reference(), classifier.preprocessing)
        made = [sensor.update(message_of(image), round(number * 1e9 / rate))
                for number, (image, _) in enumerate(frames)]
        touched = np.array([label == 'contact' for _, label in frames])
        gated = np.array([frame.is_untouched for frame in made])
        nothing = np.array([d.class_id == 0 for d in classifier.classify(
            [f.image for f in made], [f.reference for f in made], classifier.thresholds(TAU))])
        peak = peaks(np.stack([f.whole_image for f in made]).astype(np.float32), touched)
        judged = np.arange(len(made)) >= REFERENCE_FRAMES
        untouched[0] += int((gated & ~touched & judged).sum())
        untouched[1] += int((~touched & judged).sum())
        for low, high in PEAKS:
            here = touched & judged & (peak >= low) & (peak < high)
            by_peak[low, high][0] += int((gated & here).sum())
            by_peak[low, high][1] += int((nothing & here).sum())
            by_peak[low, high][2] += int(here.sum())
        first = int(np.argmax(touched))
        seen = np.flatnonzero(~gated[first:])
        delays[name] = (int(seen[0]) if len(seen) else None, float(peak[touched].max()))
    return {'untouched': {'gated': untouched[0], 'frames': untouched[1]},
            'touched': {f'{low}-{high}': {'gated': g, 'network says no_contact': n, 'frames': count}
                        for (low, high), (g, n, count) in by_peak.items()},
            'first contact, frames later': dict(sorted(Counter(str(d) for d, _ in delays.values()).items())),
            'later than 1 frame': {name: {'frames': d, 'peak': round(p, 1)} for name, (d, p) in delays.items()
                                   if d is None or d > 1}}


def wrong_references(images: dict[str, list[np.ndarray]], classifier: TactileClassifier, pairs: int) -> dict[str, Any]:
    """Untouched images taken for a touch with the reference of another clip, before and after 100 s without a touch.

    images: untouched ones of every clip, fitted, the first as its reference.
    """
    rng = np.random.default_rng(0)
    names = sorted(images)
    found: dict[str, list[list[float]]] = defaultdict(list)
    for _ in range(pairs):
        own, other = rng.choice(len(names), 2, replace=False)
        frame, reference = images[names[own]][-1], images[names[other]][0]
        offset = float(np.abs(frame.astype(np.float32) - reference).mean())
        low, high = next((low, high) for low, high in OFFSETS if low <= offset < high)
        sensor = SensorFrames(Reference(1, reference), classifier.preprocessing)
        taken, touches = [], []
        for number in range(3):
            made = sensor.update(message_of(frame), number)
            taken.append(made.reference)
        gated_before = made.is_untouched
        for number in range(200):  # 100 s of the same image
            made = sensor.update(message_of(frame), number * 500_000_000)
        for reference_ in (taken[0], made.reference):
            touches.append(classifier.classify([made.image], [reference_], classifier.thresholds(TAU))[0].class_id != 0)
        found[f'{low:g}-{high:g}'].append([*touches, gated_before, made.is_untouched, sensor.monitor.health.level > 0])
    columns = ('false touch before', 'false touch after', 'gated before', 'gated after', 'reported as unfit')
    return {key: {'pairs': len(rows)} | {c: round(float(v), 4) for c, v in zip(
        columns, np.mean(rows, axis=0), strict=True)} for key, rows in sorted(found.items())}


def shifted_light(images: dict[str, list[np.ndarray]], classifier: TactileClassifier, pairs: int) -> dict[str, Any]:
    """As `wrong_references`, with a smooth gradient of light, different in each channel, added to the own reference."""
    rng = np.random.default_rng(1)
    names = sorted(images)
    shifted: dict[str, list[list[float]]] = defaultdict(list)
    height, width = classifier.preprocessing.image_size
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    for _ in range(pairs):
        own = images[names[rng.integers(len(names))]]
        plane = rng.normal(size=3) + x[..., None] * rng.normal(size=3) + y[..., None] * rng.normal(size=3)
        size = rng.uniform(2, 6)
        reference = np.clip(own[0] + plane * size / np.abs(plane).mean(), 0, 255).astype(np.uint8)
        sensor = SensorFrames(Reference(1, reference), classifier.preprocessing)
        made = before = sensor.update(message_of(own[-1]), 0)
        for number in range(1, 200):
            made = sensor.update(message_of(own[number % len(own)]), number * 500_000_000)
        taus = classifier.thresholds(TAU)
        shifted[f'{2 * (size // 2):g}-{2 * (size // 2) + 2:g}'].append([
            classifier.classify([f.image], [f.reference], taus)[0].class_id != 0 for f in (before, made)]
            + [made.is_untouched])
    return {key: {'n': len(rows)} | {c: round(float(v), 4) for c, v in zip(
        ('false touch before', 'false touch after', 'gated after'), np.mean(rows, axis=0), strict=True)}
        for key, rows in sorted(shifted.items())}


def times(clip: list[Frame], rounds: int) -> dict[str, Any]:
    """ms, one thread, interleaved: an image with the gate's decision, and an image that exits at block 4."""
    found = {}
    for engine in ('torch', 'auto'):
        classifier = TactileClassifier(load_checkpoint(shipped_checkpoint()), engine=engine, threads=1)
        classifier.warm_up()
        sensor = SensorFrames(Reference(), classifier.preprocessing)
        made = [sensor.update(message_of(image), n) for n, (image, _) in enumerate(clip[:6])][-1]
        gate, block, whole, network = [], [], [], []
        tau = classifier.thresholds(0.0)
        data = message_of(clip[6][0])
        fitted = fit(decode(data), classifier.preprocessing)
        for number in range(rounds):
            start = time.perf_counter()
            sensor.monitor.check(fitted, number)
            gate.append(time.perf_counter() - start)
            start = time.perf_counter()
            classifier.classify([made.image], [made.reference], tau)
            block.append(time.perf_counter() - start)
            for untouched, into in ((4, whole), (0, network)):  # of 5 images, the last one touched
                start = time.perf_counter()
                for one in range(5):
                    frame = sensor.update(data, rounds + number)
                    if one >= untouched:
                        classifier.classify([frame.image], [frame.reference], tau)
                into.append(time.perf_counter() - start)
        found[classifier.runtime.name] = {
            'gate ms': round(1e3 * float(np.median(gate)), 3), 'block 4 ms': round(1e3 * float(np.median(block)), 3),
            'gate / block 4': round(float(np.median(gate) / np.median(block)), 4),
            '80 % untouched, with / without gate': round(float(np.median(whole) / np.median(network)), 3), 'n': rounds}
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=Path, required=True, help='folder of video files')
    parser.add_argument('--contacts', type=Path, required=True, help='CSV with the contacts of the clips')
    parser.add_argument('--touches', type=Path, help='folder with labels.csv: also judge its images')
    parser.add_argument('--rate', type=float, default=25.0, help='frames/s of the clips (default: 25)')
    parser.add_argument('--pairs', type=int, default=300, help='wrong references to try (default: 300)')
    parser.add_argument('--rounds', type=int, default=200, help='rounds of the timing (default: 200)')
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    classifier = TactileClassifier(load_checkpoint(shipped_checkpoint()), engine='auto', threads=1)
    contacts = contacts_of(arguments.contacts)
    clips = {name: list(recorded(arguments.clips / name, contacts[name])) for name in contacts}
    result = TitledRows()
    result.report('time', times(next(iter(clips.values())), arguments.rounds))
    result.report('gate', at_the_gate(clips, classifier, arguments.rate))
    # Two sessions can be told apart by the light; a reference of the other one is another sensor's.
    images = {name: [fit(image, classifier.preprocessing) for image, label in frames[:7] if label != 'contact']
              for name, frames in clips.items()}
    sessions: dict[int, dict[str, list[np.ndarray]]] = defaultdict(dict)
    for name, frames in clips.items():
        if len(images[name]) >= 7:
            sessions[len(frames)][name] = images[name]
    largest = max(sessions.values(), key=len)
    result.report('wrong reference', wrong_references(largest, classifier, arguments.pairs))
    result.report('shifted light', shifted_light(largest, classifier, arguments.pairs))
    if arguments.touches:
        result.report('touches', against_own_reference(arguments.touches, classifier))
    print(json.dumps(result))


def against_own_reference(folder: Path, classifier: TactileClassifier) -> dict[str, Any]:
    """Touched images against the no-contact image of their press: which exit at the gate, and which are missed.

    At the gate: by the peak, with the noise that it starts with. Missed, by the level of contact.py, at full depth: by
    the network alone, and after the no-contact image has shown that the reference fits, with the odds of a touch.
    """
    found: dict[str, list[bool]] = defaultdict(list)
    missed: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    tau = classifier.thresholds(1.0)
    with (folder / 'labels.csv').open(newline='', encoding='utf-8') as text:
        for row in csv.DictReader(text):
            reference = fit(read_image(folder / row['reference']), classifier.preprocessing)
            image = fit(read_image(folder / row['image']), classifier.preprocessing)
            sensor = SensorFrames(Reference(1, reference), classifier.preprocessing)
            pair = np.stack([reference, reference, reference, image]).astype(np.float32)
            peak = peaks(pair, np.array([False, False, False, True]))[-1]
            low, high = next((low, high) for low, high in PEAKS if low <= peak < high)
            found[f'{low}-{high}'].append(sensor.update(message_of(image), 1).is_untouched)
            seen = SensorFrames(Reference(1, reference), classifier.preprocessing)
            seen.update(message_of(reference), 1)
            odds = seen.update(message_of(image), 40_000_001).touch_odds
            first = np.asarray(reference, np.float32)
            nothing = [d.class_name == NO_CONTACT for d in classifier.classify(
                [image] * 2, [first] * 2, tau, touch_odds=[1.0, odds])]
            low, high = next((low, high) for low, high in LEVELS if low <= level_of(image, first) < high)
            missed[f'{low}-{high}'].append((nothing[0], nothing[1]))
    rows = {key: {'gated': int(np.sum(rows)), 'images': len(rows)} for key, rows in sorted(found.items())}
    return rows | {f'missed at {key}': dict(zip(('network alone', 'with the odds'), np.sum(one, axis=0).tolist(),
                                                strict=True)) | {'images': len(one)}
                   for key, one in sorted(missed.items())}


if __name__ == '__main__':
    main()
