"""Networks trained on recorded grasps with the label of the whole grasp, judged on objects that they have not seen.

    python tools/measure_slip_supervised.py --grasps gelsight_slip/grasps.csv --cache runs/slip_supervised

A ViT-Tiny from random weights, and our network from those of the checkpoint and from random ones: the same images,
steps and rule. The input is that of the checkpoint, difference and change over time; the reference of untouched.py.
Every image after the lift has the label of its grasp; outcomes, then objects, then clips are drawn equally often, so
training sees neither the length of a clip nor the number of an image. A clip's score is the largest mean over 2 s of
the log odds that its object slips, after the lift (`slip.sustained`): a maximum over more windows in a longer clip, so
it tends to grow with the length ('mean, not an alarm' beside it does not); threshold, folds and figures are those of
`slip.judge`. Control: each image is its own previous one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vit_tactile_ros.evaluation.benchmark.vit_tiny import VitTiny
from vit_tactile_ros.evaluation.touchbench.slip import (
    FOLDS,
    RATE,
    SUSTAINED,
    Grasps,
    folds_of,
    judge,
    read_clip,
    read_grasps,
)
from vit_tactile_ros.evaluation.touchbench.untouched import recurring_references
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.model import Checkpoint, PreprocessingConfig, ViTTactile, load_checkpoint
from vit_tactile_ros.training.optimizer import learning_rate

KEPT = 2  # one of so many images is kept: 0.08 s, the interval of the motion
LIFTED = 30 // KEPT  # kept images before which the gripper closes and lifts
JUDGED = 8  # one of so many kept images is judged
WIDE = 64  # images judged at a time


@dataclasses.dataclass(frozen=True)
class Clips:
    """The kept images of all clips."""

    images: NDArray[np.uint8]  # (N, h, w, 3)
    first: NDArray[np.int64]  # of each clip, and N
    references: NDArray[np.float32]  # (clips, h, w, 3)
    preprocessing: PreprocessingConfig

    def inputs(self, clip: int, number: int, is_still: bool = False) -> NDArray[np.float32]:
        """Of this image of the clip, (channels, h, w)."""
        start = int(self.first[clip])
        at = start + number
        views = range(self.preprocessing.motion_views)
        before = [self.images[at if is_still else max(start, at - 2**view)] for view in views]
        return normalise(self.images[at], self.references[clip], self.preprocessing,
                         previous=np.concatenate(before, axis=2))

    def judged(self, clip: int) -> list[int]:
        """Numbers of the images after the lift; of a clip that ends before, of its last one."""
        count = int(self.first[clip + 1] - self.first[clip])
        return list(range(min(LIFTED, count - 1), count, JUDGED))


def read_clips(grasps: Grasps, preprocessing: PreprocessingConfig, cache: Path) -> Clips:
    """From the cache, which is filled first if it is empty."""
    cache.mkdir(parents=True, exist_ok=True)
    images, references, first = (cache / f'{name}.npy' for name in ('images', 'references', 'first'))
    if not first.is_file():  # the last one that is written
        clips = [read_clip(file, preprocessing)[::KEPT] for file in grasps.files]
        lengths = np.cumsum([0, *map(len, clips)])
        keep(images, np.concatenate(clips))
        del clips  # 2 GB
        keep(references, np.stack(recurring_references(grasps, preprocessing)))
        keep(first, lengths)
    return Clips(*(np.lib.format.open_memmap(path, 'r') for path in (images, first, references)), preprocessing)


def keep(path: Path, values: NDArray[Any]) -> None:
    with written_whole(path) as temporary:
        np.lib.format.open_memmap(temporary, 'w+', values.dtype, values.shape)[:] = values


def vit_tiny_of(checkpoint: Checkpoint) -> nn.Module:
    config = checkpoint.model.config
    model = VitTiny(config.image_size, 2)
    first = model.patch_embed['proj']
    model.patch_embed['proj'] = nn.Conv2d(config.channels, first.out_channels, first.kernel_size, first.stride)
    return model


def own_of(checkpoint: Checkpoint, is_trained: bool) -> ViTTactile:
    model = ViTTactile(dataclasses.replace(checkpoint.model.config, num_classes=2))
    if is_trained:
        model.load_state_dict({name: value for name, value in checkpoint.model.state_dict().items()
                               if 'head.classify' not in name}, strict=False)
    return model


def train(model: nn.Module, clips: Clips, grasps: Grasps, used: NDArray[np.int64], steps: int, batch: int,
          rate: float, seed: int) -> None:
    """used: the grasps of the objects that it may see."""
    rng = np.random.default_rng(seed)
    objects = {slipped: {name: [c for g in used if grasps.slipped[g] == slipped and grasps.objects[g] == name
                                for c in grasps.clips[g]] for name in sorted(set(grasps.objects[used]))}
               for slipped in (False, True)}
    choices = {slipped: [found for found in names.values() if found] for slipped, names in objects.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step, steps, rate, 0.1)
        labels = np.arange(batch) % 2
        inputs = np.empty((batch, clips.preprocessing.channels, *clips.preprocessing.image_size), np.float32)
        for into, slipped in zip(inputs, labels, strict=True):
            of_object = choices[bool(slipped)][rng.integers(len(choices[bool(slipped)]))]
            clip = of_object[rng.integers(len(of_object))]
            count = int(clips.first[clip + 1] - clips.first[clip])
            one = clips.inputs(clip, int(rng.integers(min(LIFTED, count - 1), count)))
            into[:] = one[:, ::rng.choice((1, -1)), ::rng.choice((1, -1))]  # a mirrored gel is a gel
        with torch.autocast('cpu', torch.bfloat16):
            logits = model(torch.from_numpy(inputs))
            exits = logits if isinstance(logits, list) else [logits]
            loss = torch.stack([nn.functional.cross_entropy(one.float(), torch.from_numpy(labels))
                                for one in exits]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


@torch.inference_mode()
def odds_of(model: nn.Module, clips: Clips, clip: int, is_still: bool) -> NDArray[np.float64]:
    """Log odds of slip of the judged images of a clip."""
    if isinstance(model, ViTTactile):
        model.tau = 1.0
    found = []
    numbers = clips.judged(clip)
    for at in range(0, len(numbers), WIDE):
        inputs = torch.from_numpy(np.stack([clips.inputs(clip, n, is_still) for n in numbers[at:at + WIDE]]))
        with torch.autocast('cpu', torch.bfloat16):
            logits = model(inputs)
        logits = (logits[0] if isinstance(logits, tuple) else logits).float()
        found.append((logits[:, 1] - logits[:, 0]).numpy())
    return np.concatenate(found).astype(np.float64)


def sustained(odds: NDArray[np.float64]) -> float:
    """As `slip.sustained`, of the judged images."""
    window = min(round(SUSTAINED * RATE / (KEPT * JUDGED)), len(odds))
    return float(np.convolve(odds, np.full(window, 1 / window), 'valid').max())


def measure(make: Callable[[], nn.Module], clips: Clips, grasps: Grasps, arguments: argparse.Namespace) -> dict:
    """The figures of `judge`, by the name of the rule; each fold is judged by a network trained on the others."""
    folds = folds_of(grasps.objects, 0)
    scores = {name: np.zeros(len(grasps.files)) for name in ('sustained', 'sustained, still', 'mean, not an alarm')}
    start = time.process_time()
    for held in range(FOLDS):
        torch.manual_seed(held)
        model = make()
        train(model, clips, grasps, np.flatnonzero(folds != held), arguments.steps, arguments.batch, arguments.lr, held)
        print(f'  fold {held} trained, {time.process_time() - start:.0f} s of the processor', flush=True)
        for clip in (c for g in np.flatnonzero(folds == held) for c in grasps.clips[g]):
            odds = odds_of(model, clips, clip, False)
            scores['sustained'][clip], scores['mean, not an alarm'][clip] = sustained(odds), odds.mean()
            scores['sustained, still'][clip] = sustained(odds_of(model, clips, clip, True))
    return {name: judge(grasps.mean(list(of_clips)), grasps.slipped, grasps.objects)
            for name, of_clips in scores.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--grasps', type=Path, required=True, help='CSV of the clips')
    parser.add_argument('--cache', type=Path, required=True, help='folder for the images, 37 kB each')
    parser.add_argument('--checkpoint', type=Path, help='of states; default: the shipped one',
                        default=Path(__file__).resolve().parents[1] / 'models' / 'tactile_slip.safetensors')
    parser.add_argument('--steps', type=int, default=160, help='of each fold (default: 160)')
    parser.add_argument('--batch', type=int, default=8, help='images of a step (default: 8)')
    parser.add_argument('--lr', type=float, default=3e-4, help='peak learning rate (default: 3e-4)')
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    grasps, checkpoint = read_grasps(arguments.grasps), load_checkpoint(arguments.checkpoint)
    clips = read_clips(grasps, checkpoint.preprocessing, arguments.cache)
    results = {}
    for name, make in {'ViT-Tiny, random': lambda: vit_tiny_of(checkpoint),
                       'own, from the checkpoint': lambda: own_of(checkpoint, True),
                       'own, random': lambda: own_of(checkpoint, False)}.items():
        print(name, flush=True)
        results[name] = measure(make, clips, grasps, arguments)
        for rule, found in results[name].items():
            print(f'  {rule:20}', {key: round(value, 3) for key, value in found.items()}, flush=True)
    print(json.dumps(results))


if __name__ == '__main__':
    main()
