"""Balls of all sizes on real and simulated sensors: what is predicted, and how the imprint falls off around its middle.

    python tools/measure_balls.py --presses FOLDER... [--checkpoint FILE...]

Each folder holds presses.csv and reference.png of a sensor: presses of a ball. `profile`: the slope's image in rings of
1/128 of the image's width around the middle of the imprint (the first harmonic over the angle, all channels), over its
maximum; the median of the presses, and of simulated balls and corners without the tolerances of units. `simulated`:
balls of 0.4 and 2 mm radius and corners, on gels that are relaxed once (as in the task `shapes`), three and five times
(as in `shapes_wide`), of cameras of up to 320x240 px and of 640x480 px; the seed is not used by any training.
`predicted`: the share at the first and the last exit, and with the default tau. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.simulator import Contact, SensorConfig, SensorUnit, load_sensor
from vit_tactile_ros.simulator.example import any_sensor, randomise, resized
from vit_tactile_ros.simulator.sampling import sample_contact
from vit_tactile_ros.simulator.small import taut

sys.path.insert(0, str(Path(__file__).parent))
from measure_adapt import presses_of
from titled_rows import TitledRows

SEED = 79_000_000
RINGS = 20
WIDTH, HEIGHT = 640, 480  # px, at which profiles are measured: five px a ring
RELAXED = (1, 3, 5)
Difference = NDArray[np.float32]
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # image of the camera and its reference


def profile(difference: Difference) -> NDArray[np.float64]:
    """The rings' first harmonics over their maximum, around the point about which the image changes its sign."""
    scale = WIDTH / difference.shape[1]
    change = cv2.GaussianBlur(cv2.resize(difference, None, fx=scale, fy=scale), (0, 0), 1.5)
    peak = cv2.blur(np.abs(change).max(axis=2), (9, 9))
    row, column = np.unravel_index(peak.argmax(), peak.shape)
    half, odd = 20, {}
    for y in range(max(row - 80, half), min(row + 81, len(change) - half), 4):
        for x in range(max(column - 80, half), min(column + 81, WIDTH - half), 4):
            near = change[y - half:y + half + 1, x - half:x + half + 1]
            odd[y, x] = float(np.abs(near - near[::-1, ::-1]).sum() - np.abs(near + near[::-1, ::-1]).sum())
    y, x = max(odd, key=lambda place: odd[place])
    rows, columns = np.mgrid[:len(change), :WIDTH]
    ring, angle = np.hypot(rows - y, columns - x) // 5, np.arctan2(rows - y, columns - x)
    strength = [np.linalg.norm(np.abs((change[ring == k] * np.exp(-1j * angle[ring == k])[:, None]).mean(axis=0)))
                for k in range(RINGS)]
    return np.array(strength) / max(max(strength), 1e-9)


def touch(config: SensorConfig, contact: Contact, rng: np.random.Generator, variation: float = 1.0) -> Pair:
    unit = SensorUnit(config, rng, variation)
    return unit.render(contact, rng), unit.reference


def simulated_profiles() -> dict[str, list[float]]:
    plain = load_sensor('gelsight')
    config = dataclasses.replace(plain, height=480, width=WIDTH, mm_per_px=plain.mm_per_px / 2,
                                 lens_blur_px=2 * plain.lens_blur_px)
    contacts = {'ball of 0.4 mm, 1 mm deep': Contact('sphere', 1.0, radius_mm=0.4),
                'ball of 2 mm, 1 mm deep': Contact('sphere', 1.0, radius_mm=2.0),
                'corner, 1.2 mm deep': Contact('corner', 1.2, slope=0.8, sides=3)}
    found = {}
    for name, contact in contacts.items():
        for times in RELAXED[:2]:
            image, reference = touch(taut(config, times), contact, np.random.default_rng(SEED), variation=0)
            found[f'{name}, relaxed {times}'] = profile(image.astype(np.float32) - reference).round(2).tolist()
    return found


def simulated_touches(count: int) -> dict[str, list[Pair]]:
    """Of cameras of the usual resolutions, up to 320x240 px, and of 640x480 px."""
    rng, found = np.random.default_rng(SEED), {}
    for times in RELAXED:
        for radius, depth in ((0.4, 0.6), (0.4, 1.0), (0.4, 1.4), (2.0, 1.0), (0.0, 0.0)):
            name = f'ball of {radius:g} mm, {depth:g} mm deep' if radius else 'corner'
            touches = found[f'{name}, relaxed {times}'] = []
            fine = found[f'{name}, relaxed {times}, 640x480'] = []
            for _ in range(count):
                config = dataclasses.replace(taut(randomise(any_sensor(None, rng), rng), times), markers=None)
                sharp = resized(config, max(WIDTH, HEIGHT) / max(config.width, config.height))
                at = rng.uniform(-2, 2, 2).tolist()
                contact = (Contact('sphere', depth, radius_mm=radius, x_mm=at[0], y_mm=at[1]) if radius else
                           sample_contact('corner', config, rng))
                state = rng.bit_generator.state
                fine.append(touch(sharp, contact, rng))
                rng.bit_generator.state = state  # what the other rows draw stays the same
                touches.append(touch(config, contact, rng))
    return found


@torch.inference_mode()
def predicted(classifier: TactileClassifier, touches: list[Pair], tau: float) -> dict[str, Any]:
    seen = [classifier.see(*one) for one in touches]
    inputs = np.stack([normalise(*one, classifier.preprocessing) for one in seen])
    exits = [stage.float().argmax(dim=1).tolist() for stage in classifier.runtime.stages(torch.from_numpy(inputs))]
    exits.append([decision.class_id for decision in classifier.classify_inputs(inputs, classifier.thresholds(tau))])
    names = classifier.class_names
    return {place: {names[c]: round(n / len(touches), 3) for c, n in Counter(exits[i]).most_common()}
            for place, i in (('first exit', 0), ('last', -2), ('default tau', -1))}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--presses', type=Path, nargs='*', default=[])
    parser.add_argument('--checkpoint', type=Path, nargs='*', help='default: the shipped one')
    parser.add_argument('--count', type=int, default=48, help='simulated touches a row (default: 48)')
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    result, profiles = TitledRows(), simulated_profiles()
    for folder in arguments.presses:
        reference, presses = presses_of(folder)
        profiles[folder.name] = np.median([profile(press - reference.astype(np.float32)) for press in presses],
                                          axis=0).round(2).tolist()
    result.report('profile', profiles)
    touches: dict[str, list[Pair]] = {}
    for path in arguments.checkpoint or [Path(shipped_checkpoint())]:
        checkpoint = load_checkpoint(path)
        classifier = TactileClassifier(checkpoint, engine='auto', threads=1)
        touches = touches or simulated_touches(arguments.count)
        real = {folder.name: [(press, reference) for press in presses] for folder, (reference, presses) in (
            (folder, presses_of(folder)) for folder in arguments.presses)}
        tau = checkpoint.calibration.tau
        result.report(str(path), {name: predicted(classifier, one, tau) for name, one in {**real, **touches}.items()})
    print(json.dumps(result))


if __name__ == '__main__':
    main()
