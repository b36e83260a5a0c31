"""Touches that the generator of tactile-mnist draws: a sheet to look at, and what a checkpoint predicts of them.

    python tools/measure_generated.py [--sheet FILE.png] [--checkpoint FILE] [--count N]

`response`: the peak of the change (grey levels) by a square of 5 mm at several depths (mm), given to the generator as
they are. `generated`: N touches a class (`simulator.sampling.sample_contact`) by `simulator.generated.GeneratedUnit`,
each with the untouched image of its unit. `simulated`: the same contacts by `SensorUnit`. `untouched`: 10 N pairs
without contact of as many units; what is predicted other than `no_contact` is a false touch. Per exit: the share of
right predictions, overall and by class. `not shown`: contacts drawn again, because the generator does not show
them. The sheet has a row a class: height, generated touch, reference, difference twice enlarged, and the same by the
simulator. The seed is not used by any training. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vit_tactile_ros.data.picture_generator import picture_generator
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.inference.touch_events import NO_CONTACT, UNKNOWN
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.simulator import CLASS_NAMES, Contact, SensorUnit, sample_contact
from vit_tactile_ros.simulator.generated import (
    PRESS_MM,
    SIDE_PX,
    VIEW_MM,
    ContactNotShown,
    GeneratedUnit,
    Generator,
    generated_config,
)

sys.path.insert(0, str(Path(__file__).parent))
from titled_rows import TitledRows

SEED = 83_000_000
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # image of the camera and its reference
Pairs = dict[str, list[Pair]]  # by class


def touches(generator: Generator, count: int) -> tuple[Pairs, Pairs, list[Contact], int]:
    """By the generator, by the simulator, the first contact of each class, and how many were not shown."""
    config = generated_config()
    rng = np.random.default_rng(SEED)
    names = (*CLASS_NAMES[1:], UNKNOWN)
    drawn: Pairs = {name: [] for name in names}
    rendered: Pairs = {name: [] for name in names}
    first: list[Contact] = []
    missed = 0
    with tqdm(total=count * len(names), desc='generated', mininterval=1.0, disable=None) as bar:
        for name in names:
            while len(drawn[name]) < count:
                contact = sample_contact(name, config, rng)
                unit = GeneratedUnit(config, rng, generator=generator)
                try:
                    drawn[name].append((unit.render(contact, rng), unit.reference))
                except ContactNotShown:
                    missed += 1
                    continue
                plain = SensorUnit(config, rng)
                rendered[name].append((plain.render(contact, rng), plain.reference))
                if len(drawn[name]) == 1:
                    first.append(contact)
                bar.update()
    return drawn, rendered, first, missed


def response(generator: Generator) -> dict[str, float]:
    y, x = np.mgrid[-0.5:0.5:SIDE_PX * 1j, -0.5:0.5:SIDE_PX * 1j]
    square = ((np.abs(x * VIEW_MM[0]) < 2.5) & (np.abs(y * VIEW_MM[1]) < 2.5)).astype(np.float32)
    still = generator(0 * square)
    return {f'{depth:g} mm': round(float(np.abs(generator(square * np.float32(depth / PRESS_MM)) - still).max()), 1)
            for depth in (0.3, 0.6, 1.0, 1.4, 1.8, 2.1)}


def untouched(generator: Generator, count: int) -> Pairs:
    config, rng = generated_config(), np.random.default_rng(SEED + 1)
    found: list[Pair] = []
    for _ in range(count):
        unit = GeneratedUnit(config, rng, generator=generator)
        found.append((unit.render(None, rng), unit.reference))
    return {NO_CONTACT: found}


@torch.inference_mode()
def right(classifier: TactileClassifier, exits: Sequence[int], pairs: Pairs) -> dict[str, Any]:
    """By exit: the share of right predictions, overall and by class, with what the others are taken for."""
    names = classifier.class_names
    found: dict[str, Any] = {}
    predicted: dict[str, NDArray[np.int64]] = {}
    for name, those in pairs.items():
        seen = [classifier.see(*one) for one in those]
        inputs = torch.from_numpy(np.stack([normalise(*one, classifier.preprocessing) for one in seen]))
        predicted[name] = np.stack([stage.float().argmax(dim=1).numpy() for stage in classifier.runtime.stages(inputs)])
    for index, block in enumerate(exits):
        row: dict[str, Any] = {}
        for name, classes in predicted.items():
            wrong = [names[c] for c in classes[index] if names[c] != name]
            taken = max(set(wrong), key=wrong.count) if wrong else ''
            row[name] = [round(1 - len(wrong) / len(classes[index]), 3), taken]
        found[f'block {block}'] = {'all': round(float(np.mean([share for share, _ in row.values()])), 3)} | row
    return found


def sheet(drawn: Pairs, rendered: Pairs, contacts: Sequence[Contact]) -> NDArray[np.uint8]:
    """A picture in BGR with a row for each class."""
    unit, rows = SensorUnit(generated_config(), np.random.default_rng(SEED), variation=0), []
    for contact in contacts:
        height = np.clip(unit.surface(contact) * 120, 0, 255).astype(np.uint8)
        row = [cv2.cvtColor(height, cv2.COLOR_GRAY2RGB)]
        for pairs in (drawn, rendered):
            image, reference = pairs[contact.class_name][0]
            difference = 128 + 2 * (image.astype(np.float32) - reference)
            row += [image, reference, np.clip(difference, 0, 255).astype(np.uint8)]
        rows.append(np.hstack([cv2.resize(one, (240, 180), interpolation=cv2.INTER_AREA) for one in row]))
    return cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR).astype(np.uint8)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sheet', type=Path, help='PNG file to write')
    parser.add_argument('--checkpoint', type=Path, nargs='*', help='default: the shipped one')
    parser.add_argument('--count', type=int, default=40, help='touches a class (default: 40)')
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    result = TitledRows()
    try:
        generator = picture_generator()
        result.report('response', response(generator))
        start = time.process_time()
        drawn, rendered, contacts, missed = touches(generator, arguments.count)
        asked = missed + arguments.count * len(drawn)
        result.report('images', {'not shown': missed, 'of': asked,
                                 's of CPU each': round((time.process_time() - start) / asked, 2)})
        if arguments.sheet:
            cv2.imwrite(str(arguments.sheet), sheet(drawn, rendered, contacts))
        still = untouched(generator, 10 * arguments.count)
        for path in arguments.checkpoint or [Path(shipped_checkpoint())]:
            checkpoint = load_checkpoint(path)
            classifier = TactileClassifier(checkpoint, engine='torch', threads=1)
            result.report(str(path), {name: right(classifier, checkpoint.model.config.exits, pairs) for name, pairs in (
                ('generated', drawn), ('simulated', rendered), ('untouched', still))})
    except UserError as error:
        print(f'measure_generated: {error}', file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


if __name__ == '__main__':
    sys.exit(main())
