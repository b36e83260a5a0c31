"""Train the last blocks of a checkpoint of states on recorded grasps, each labelled as a whole: slipped or stable.

    python tools/train_slip.py --grasps gelsight_slip/grasps.csv --init tactile_slip.safetensors --output runs/slip

grasps.csv is that of measure_slip.py. When an object slipped is not known, so the label of a frame is a set of states:
`slip` or `no_contact` (the object was lost) in a grasp that slipped, from 1 s on; `stable` or `moving` in another one,
in the first 3 s, while the gripper closes, also `no_contact`. Simulated states are mixed in. The blocks up to the last
exit but one keep their weights. --folds also writes one checkpoint for each fifth of the objects, trained without them,
for `measure_slip.py --checkpoint`.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import sys
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vit_tactile_ros.data.augment import to_input
from vit_tactile_ros.data.rendered import RenderedTouches
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.inference.motion import Motion
from vit_tactile_ros.model import Calibration, PreprocessingConfig, Provenance, load_checkpoint, save_checkpoint
from vit_tactile_ros.model.vit import ViTTactile
from vit_tactile_ros.simulator import STATE_NAMES
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.optimizer import average_decay, freeze, learning_rate, make_optimizer, move_average

sys.path.insert(0, str(Path(__file__).parent))
from measure_slip import FOLDS, RATE, fold_of, read_clip, references_of  # noqa: E402

EVERY = 8  # of the frames of a clip, one in so many is learned
CLOSING, LOSING = 3.0, 1.0  # s
BATCH = 64  # of the first blocks
SIMULATED_SHARE = 0.4  # of a batch


def states_of(slipped: bool, seconds: float) -> set[str]:
    """The states that a frame may show, so long after the start of the clip; empty: it is not learned."""
    if slipped:
        return {'no_contact', 'slip'} if seconds >= LOSING else set()
    return {'stable', 'moving'} | ({'no_contact'} if seconds < CLOSING else set())


def frames_of(clip: np.ndarray, config: PreprocessingConfig) -> np.ndarray:
    """Every eighth frame with its earlier ones, uint8 (n, h, w, 3 + 3 * views)."""
    motion = Motion(config.motion_interval, config.motion_views)
    views = [np.concatenate((frame, motion.update(frame, number * 10**9 // RATE)), axis=2)
             for number, frame in enumerate(clip)]
    return np.stack(views[::EVERY])


class Trunk:
    """The first blocks, up to the last exit but one, which keep their weights."""

    def __init__(self, model: ViTTactile, config: PreprocessingConfig) -> None:
        self.model, self.config = model, config

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray, references: np.ndarray) -> Tensor:
        """What each exit but the last reads, float16 (n, exits - 1, tokens, width)."""
        found = []
        for first in range(0, len(frames), BATCH):
            some = slice(first, first + BATCH)
            planes = [torch.from_numpy(p[some]).permute(0, 3, 1, 2).float() for p in (frames, references)]
            tokens = self.model.embed(to_input(*planes, self.config))
            outputs = []
            for stage in self.model.stage_modules[:-1]:
                tokens = stage.blocks(tokens)
                outputs.append(tokens)
            found.append(torch.stack(outputs, 1).half())
        return torch.cat(found).clone()


def logits_of(model: ViTTactile, tokens: Tensor) -> list[Tensor]:
    """Of every exit, (n, C) each."""
    *early, last = model.stage_modules
    tokens = tokens.float()
    found = [stage.head(tokens[:, number]) for number, stage in enumerate(early)]
    return [*found, last.head(last.blocks(tokens[:, -1]))]


def loss_of(logits: list[Tensor], sets: Tensor) -> Tensor:
    """The surprise that the state is in the set, bool (n, C); the last exit teaches the others, as in training/loss."""
    teacher = logits[-1].detach().softmax(dim=1)
    total = torch.zeros(())
    for out in logits:
        told = out.logsumexp(dim=1) - out.masked_fill(~sets, -torch.inf).logsumexp(dim=1)
        own = told if out is logits[-1] else (told - (teacher * out.log_softmax(dim=1)).sum(dim=1)) / 2
        total = total + own.mean()
    return total


def train(start: ViTTactile, grasps: list[tuple[Tensor, Tensor]], slipped: np.ndarray, objects: np.ndarray,
          simulated: tuple[Tensor, Tensor], steps: int, lr: float, seed: int) -> ViTTactile:
    """The moving average of the weights. Tokens and sets of each clip; half of the frames are of grasps that slipped,
    with equally frequent objects.
    """
    config = TrainingConfig(freeze=start.config.exits[-2], lr=lr, ema=0.97, warmup=0.1, batch_size=64)
    model, average = copy.deepcopy(start).train(), copy.deepcopy(start)
    freeze(model, config.freeze)
    optimizer = make_optimizer(model, config)
    rng = np.random.default_rng(seed)
    by_outcome = [{name: np.flatnonzero((slipped == outcome) & (objects == name))
                   for name in sorted(set(objects[slipped == outcome]))} for outcome in (False, True)]
    for step in tqdm(range(steps), 'training'):
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step, steps, lr, config.warmup)
        rows = rng.choice(len(simulated[0]), round(config.batch_size * SIMULATED_SHARE), replace=False)
        tokens, sets = [simulated[0][rows]], [simulated[1][rows]]
        for number in range(config.batch_size - len(rows)):
            names = by_outcome[number % 2]
            clip_tokens, clip_sets = grasps[rng.choice(names[list(names)[rng.integers(len(names))]])]
            row = rng.integers(len(clip_tokens))
            tokens.append(clip_tokens[row:row + 1])
            sets.append(clip_sets[row:row + 1])
        optimizer.zero_grad()
        loss_of(logits_of(model, torch.cat(tokens)), torch.cat(sets)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        move_average(average, model, average_decay(step, config.ema))
    return average.eval()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--grasps', type=Path, required=True, help='CSV of the clips')
    parser.add_argument('--init', type=Path, required=True, help='checkpoint of states to start from')
    parser.add_argument('--output', type=Path, required=True, help='folder of the checkpoints')
    parser.add_argument('--rendered', type=Path, default=Path('rendered'), help='folder of rendered states')
    parser.add_argument('--distinct', type=int, default=2000, help='simulated states (default: 2000)')
    parser.add_argument('--steps', type=int, default=200, help='default: 200')
    parser.add_argument('--lr', type=float, default=3e-4, help='peak learning rate (default: 3e-4)')
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    parser.add_argument('--folds', action='store_true', help='also one checkpoint without each fifth of the objects')
    arguments = parser.parse_args(argv)
    torch.set_flush_denormal(True)
    start = load_checkpoint(arguments.init)
    config = start.preprocessing
    trunk = Trunk(start.model, config)
    with arguments.grasps.open(newline='', encoding='utf-8') as text:
        rows = list(csv.DictReader(text))
    ends = [read_clip(arguments.grasps.parent / row['file'], config)[[0, -1]] for row in tqdm(rows, 'references')]
    references = references_of([(row['finger'], e) for row, e in zip(rows, ends, strict=True)])
    grasps = []
    for row, reference in zip(tqdm(rows, 'clips'), references, strict=True):
        frames = frames_of(read_clip(arguments.grasps.parent / row['file'], config), config)
        sets = [states_of(row['outcome'] == 'slip', number * EVERY / RATE) for number in range(len(frames))]
        learned = [number for number, names in enumerate(sets) if names] or [len(sets) - 1]
        mask = torch.tensor([[name in (sets[n] or ('no_contact', 'slip')) for name in STATE_NAMES] for n in learned])
        grasps.append((trunk(frames[learned], np.broadcast_to(reference, (len(learned), *reference.shape))), mask))
    stored = RenderedTouches(SimulatedTouches(arguments.distinct, config, arguments.seed, task='states'),
                             arguments.rendered)
    tokens, labels = [], []
    for index in tqdm(range(len(stored)), 'simulated'):
        frame, reference, label = stored[index]
        tokens.append(trunk(frame[None].numpy(), reference[None].numpy()))
        labels.append(label)
    simulated = torch.cat(tokens), torch.eye(len(STATE_NAMES), dtype=torch.bool)[labels]
    slipped = np.array([row['outcome'] == 'slip' for row in rows])
    objects = np.array([row['object'] for row in rows])
    fold = fold_of([row['object'] for row in rows])
    number_of = np.array([fold[name] for name in objects])
    arguments.output.mkdir(parents=True, exist_ok=True)
    command = (f'{start.provenance.command}; python tools/train_slip.py --steps {arguments.steps} --lr {arguments.lr:g}'
               f' --distinct {arguments.distinct} --seed {arguments.seed}')
    for left_out in (*(range(FOLDS) if arguments.folds else ()), None):
        used = np.flatnonzero(number_of != left_out) if left_out is not None else np.arange(len(rows))
        model = train(start.model, [grasps[n] for n in used], slipped[used], objects[used], simulated,
                      arguments.steps, arguments.lr, arguments.seed)
        data = (f'{start.provenance.data}; last blocks: {len(used)} clips of Incipient-Slip-Detection (BSD-2-Clause) '
                'and simulated states')
        name = 'checkpoint' if left_out is None else f'fold{left_out}'
        save_checkpoint(arguments.output / f'{name}.safetensors', dataclasses.replace(
            start, model=model, calibration=Calibration(),
            provenance=Provenance(command, data, date.today().isoformat())))


if __name__ == '__main__':
    main()
