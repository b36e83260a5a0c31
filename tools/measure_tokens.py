"""Time and predictions with only the patches that a touch changes, against all patches, on recorded clips.

    python tools/measure_tokens.py --clips FOLDER --contacts FILE --checkpoint FILE [--image_size 224 224]

The checkpoint must have a token_threshold (`calibrate --token_threshold`), or one is given. Every fourth frame of each
clip, with its own first frames as the reference, runs through the network in full depth and with early exit at the
checkpoint's tau, both with the patches that the threshold keeps and with all; one thread, the variants in a new order
for each frame, the gate off. --contacts is a CSV of clip,first,last: frames with visible contact. Then the growth of
the time with the image is measured on a made-up contact of 3x3 patches of 16 px, and an image of 3136 patches with a
contact on a quarter of it against exact softmax attention over all. Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vit_tactile_ros.evaluation.benchmark.contest import interleave
from vit_tactile_ros.evaluation.benchmark.workloads import early, full_depth
from vit_tactile_ros.evaluation.touchbench.clips import contacts_of
from vit_tactile_ros.evaluation.touchbench.contact import Clip
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.engines.select import make_runtime
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import Checkpoint, load_checkpoint, shipped_checkpoint, token_threshold
from vit_tactile_ros.model.tokens import kept_shares, touched_images

EVERY = 4  # frames of a clip
SIDES = ((96, 128), (128, 192), (192, 256), (256, 384))  # px; each has twice the pixels of the one before
ROUNDS = 30  # of the made-up images


def at_size(checkpoint: Checkpoint, image_size: Sequence[int] | None, **changes: Any) -> Checkpoint:
    """The checkpoint for another image size, or without a threshold."""
    size = tuple(image_size or checkpoint.preprocessing.image_size)
    return dataclasses.replace(checkpoint, model=checkpoint.model.changed(image_size=size, **changes),
                               preprocessing=dataclasses.replace(checkpoint.preprocessing, image_size=size))


def full(runtime: Runtime, image: Tensor) -> Tensor:
    return torch.stack(list(runtime.stages(image)))


def on_clips(clips: Sequence[Clip], checkpoint: Checkpoint, engine: str) -> dict[str, Any]:
    """Times, patches and predictions with the threshold and without, on frames of clips."""
    config, calibration = checkpoint.model.config, checkpoint.calibration
    tau = (calibration.tau,) * (len(config.exits) - 1)
    temperatures = calibration.temperatures or (1.0,) * len(config.exits)
    some, every = (make_runtime(model, 'cpu', engine) for model in (
        checkpoint.model, at_size(checkpoint, config.image_size, token_threshold=0.0).model))
    for image in touched_images(config).split(1):  # warm up
        full(some, image)
        full(every, image)
    taken: dict[str, list[float]] = {}
    shares, same, touched = [], [], []
    for clip in tqdm(clips, 'clips', disable=not sys.stderr.isatty()):
        for number in range(0, len(clip.frames), EVERY):
            image = torch.from_numpy(normalise(clip.frames[number], clip.reference, checkpoint.preprocessing))[None]
            work = {'kept, full depth': full_depth(some, [image]), 'all, full depth': full_depth(every, [image]),
                    'kept, early exit': early(some, [image], tau, temperatures),
                    'all, early exit': early(every, [image], tau, temperatures)}
            for name, times in interleave(work, math.inf, most=1, warm_up=0, seed=len(touched), rest=0).items():
                taken.setdefault(name, []).extend(times.seconds)
            shares.append(float(kept_shares(checkpoint.model.choose(image), config)[0]))
            same.append((full(some, image).argmax(-1) == full(every, image).argmax(-1))[:, 0].tolist())
            touched.append(bool(clip.touched[number]))
    is_touched = np.array(touched)
    found: dict[str, Any] = {'frames': len(touched), 'touched frames': int(is_touched.sum())}
    for title, rows in (('all frames', np.ones(len(touched), bool)), ('touched', is_touched), ('not', ~is_touched)):
        times = {name: np.array(values)[rows] for name, values in taken.items()}
        found[title] = {
            'patches kept': round(float(np.array(shares)[rows].mean()), 3),
            **{f'time, {name}': [round(float(np.mean(kept) / np.mean(times[f'all, {name}'])), 3),
                                 round(float(np.median(kept / times[f'all, {name}'])), 3),
                                 round(float(np.percentile(kept, 99) / np.percentile(times[f'all, {name}'], 99)), 3)]
               for name in ('full depth', 'early exit') for kept in [times[f'kept, {name}']]},
            'same class, each exit': np.array(same)[rows].mean(axis=0).round(4).tolist()}
    return found


def contact(size: tuple[int, int], rows: int, columns: int) -> Tensor:
    """An untouched gel with a contact of so many patches of 16 px in the middle."""
    image = 0.02 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    top, left = (size[0] - 16 * rows) // 32 * 16, (size[1] - 16 * columns) // 32 * 16
    image[:, :, top:top + 16 * rows, left:left + 16 * columns] += 1.0
    return image


def on_sizes(checkpoint: Checkpoint, engine: str) -> dict[str, Any]:
    """How the time grows with the image, and what a large image costs."""
    runtimes = {size: make_runtime(at_size(checkpoint, size).model, 'cpu', engine) for size in SIDES}
    images = {size: contact(size, 3, 3) for size in SIDES}
    taken = interleave({str(size): full_depth(runtime, [images[size]]) for size, runtime in runtimes.items()},
                       math.inf, ROUNDS, rest=0)
    medians = [times.p50 for times in taken.values()]
    large = (896, 896)
    image = contact(large, 28, 28)
    everything = at_size(checkpoint, large, token_threshold=0.0).model
    compared = {name: make_runtime(model, 'cpu', engine) for name, model in (
        ('kept', at_size(checkpoint, large).model), ('all', everything),
        ('exact attention over all', everything.changed(attention='softmax')))}
    found = interleave({name: full_depth(runtime, [image]) for name, runtime in compared.items()}, math.inf, 3, rest=0)
    return {'growth per doubling of the pixels': [round(b / a, 2) for a, b in zip(medians, medians[1:], strict=False)],
            '3136 patches, time over that of the kept ones': {
                name: round(times.p50 / found['kept'].p50, 2) for name, times in found.items()}}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=Path, required=True, help='folder of video files')
    parser.add_argument('--contacts', type=Path, required=True, help='CSV of clip,first,last')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--image_size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        help="px, multiples of 16; predictions count only at the checkpoint's own size, the default")
    parser.add_argument('--engine', default='openvino', help='default: openvino')
    parser.add_argument('--token_threshold', type=float, help="grey levels; default: the checkpoint's")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(arguments.checkpoint or shipped_checkpoint())
    changes = {} if arguments.token_threshold is None else {
        'token_threshold': token_threshold(arguments.token_threshold, checkpoint.preprocessing)}
    checkpoint = at_size(checkpoint, arguments.image_size, **changes)
    if not checkpoint.model.config.token_threshold:
        parser.error('this checkpoint has no token_threshold: give one with --token_threshold')
    classifier = TactileClassifier(checkpoint)
    with torch.inference_mode():
        clips = [Clip(arguments.clips / name, spans, classifier)
                 for name, spans in contacts_of(arguments.contacts).items()]
        found = {**on_clips(clips, checkpoint, arguments.engine), **on_sizes(checkpoint, arguments.engine)}
    for title, row in found.items():
        print(f'{title:34} {row}')
    print('times: mean over mean, median of the ratios, p99 over p99')
    print(json.dumps(found))


if __name__ == '__main__':
    main()
