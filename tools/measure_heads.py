"""Other heads on the frozen blocks of a network: attention pooling, and exits that correct the one before.

    python tools/measure_heads.py CHECKPOINT ... --costs 0.22 0.38 0.68 1 [--rendered FOLDER] [--cache FOLDER]

For checkpoints of a simulated task. The tokens after the blocks of each exit are computed once, for training touches
of seed 0 and the validation and test touches of tools/measure_exits.py, without augmentation. Heads are then trained
on the same batches for each seed: pooling by the mean, or by attention with 1, 3 or 8 learned queries for each exit
(and, as a control with more weights, the mean and a hidden layer); the logits of each exit by themselves, or added to
those of the exit before, which get the gradient of the later ones ('joint') or not; from labels only, or with the last
exit of separate heads as the teacher of the early ones, weighted as in `train`.

Per checkpoint and kind of head: accuracy of each exit on the test touches; the difference to the retrained heads of
today (mean, separate, labels) on all validation and test touches, in points, with its standard error over the touches;
calibration error; AUROC and points lost as in tools/measure_exits.py, with a threshold for each exit. `--costs` are
those that tool prints. Then the time of the poolings, interleaved, on one thread. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from vit_tactile_ros.data.rendered import RenderedTouches
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.evaluation.cache import fingerprint
from vit_tactile_ros.evaluation.metrics import expected_calibration_error
from vit_tactile_ros.evaluation.outputs import ExitOutputs, Inputs
from vit_tactile_ros.evaluation.parts import EvaluationData, load_parts
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.model import Checkpoint, ViTTactile, compute_shares, load_checkpoint
from vit_tactile_ros.model.vit import Head
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.loss import exit_losses
from vit_tactile_ros.training.optimizer import learning_rate

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH, which env.sh sets, excludes it
from measure_exits import Fitted, lost, stored  # noqa: E402

PARTS = ('train', 'validation', 'test')


@dataclass(frozen=True)
class Kind:
    """How the heads of a network pool, are added and are taught."""

    queries: int  # 0: the mean of the tokens
    added: str  # 'separate', 'added' or 'joint'
    taught: bool
    hidden: int = 0  # units of a layer between pooling and classifier, to tell better pooling from more weights

    def __str__(self) -> str:
        pooling = f'{self.queries} quer{"y" if self.queries == 1 else "ies"}' if self.queries else 'mean'
        hidden = f' and {self.hidden} hidden units' if self.hidden else ''
        return f'{pooling}{hidden}, {self.added}, {"teacher" if self.taught else "labels"}'

    def classifier(self, width: int, classes: int) -> nn.Module:
        width *= max(self.queries, 1)
        if not self.hidden:
            return nn.Linear(width, classes)
        return nn.Sequential(nn.Linear(width, self.hidden), nn.GELU(), nn.Linear(self.hidden, classes))


KINDS = [*(Kind(*values) for values in itertools.product((0, 1, 3), ('separate', 'added', 'joint'), (False, True))),
         Kind(0, 'separate', False, 576), Kind(0, 'separate', True, 576),
         Kind(8, 'separate', False), Kind(8, 'joint', False)]


class Heads(nn.Module):
    """The heads of all kinds on all exits; they share nothing, so they learn as if each were trained alone."""

    def __init__(self, exits: int, width: int, classes: int) -> None:
        super().__init__()
        self.queries = nn.ParameterList(torch.randn(width, sum(kind.queries for kind in KINDS)) * 0.02
                                        for _ in range(exits))
        self.classify = nn.ModuleList(nn.ModuleList(kind.classifier(width, classes) for _ in range(exits))
                                      for kind in KINDS)

    def forward(self, tokens: Sequence[Tensor]) -> list[list[Tensor]]:
        """Normalised tokens of each exit, (B, N, width), to the logits of each kind and exit, (B, classes)."""
        pooled = []
        for x, queries in zip(tokens, self.queries, strict=True):
            attended = (x @ queries).softmax(dim=1).transpose(1, 2) @ x  # (B, all queries, width)
            pooled.append([x.mean(dim=1) if not part.shape[1] else part.flatten(1)
                           for part in attended.split([kind.queries for kind in KINDS], dim=1)])
        found = []
        for number, kind in enumerate(KINDS):
            logits: list[Tensor] = []
            for exit_index, classify in enumerate(cast(nn.ModuleList, self.classify[number])):
                out = classify(pooled[exit_index][number])
                if logits and kind.added != 'separate':
                    out = out + (logits[-1] if kind.added == 'joint' else logits[-1].detach())
                logits.append(out)
            found.append(logits)
        return found


class ExitTokens:
    """The tokens of a part after the blocks of each exit, normalised, with the labels."""

    def __init__(self, tokens: np.ndarray[Any, Any], labels: Tensor) -> None:
        self._tokens, self.labels = tokens, labels  # float16 (E, size, N, width), int64 (size,)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor) -> list[Tensor]:
        return [torch.from_numpy(one[rows.numpy()]).float() for one in self._tokens]


@torch.inference_mode()
def exit_tokens(model: ViTTactile, inputs: Dataset[tuple[Tensor, int]], size: int, path: Path) -> ExitTokens:
    """Those of the first `size` inputs, stored at `path` or read from there."""
    config = model.config
    shape = (len(config.exits), size, config.num_patches, config.width)
    labels_path = path.with_suffix('.labels.npy')
    if not labels_path.exists():
        found = np.lib.format.open_memmap(path, 'w+', np.float16, shape)
        labels, done = [], 0
        for images, batch_labels in DataLoader(Subset(inputs, range(size)), 64):
            x = model.embed(images)
            for exit_index, stage in enumerate(model.stage_modules):
                x = stage.get_submodule('blocks')(x)
                found[exit_index, done:done + len(x)] = F.layer_norm(x, (config.width,)).numpy()
            labels.append(batch_labels)
            done += len(x)
        found.flush()
        with written_whole(labels_path) as temporary:
            np.lib.format.open_memmap(temporary, 'w+', np.int64, (size,))[:] = torch.cat(labels).numpy()
    memmap = np.lib.format.open_memmap
    return ExitTokens(memmap(path, mode='r'), torch.from_numpy(np.array(memmap(labels_path, mode='r'))))


def load_tokens(checkpoint: Checkpoint, examples: int, size: int, rendered: Path, cache: Path) -> list[ExitTokens]:
    """Those of training, validation and test."""
    parts = load_parts(EvaluationData(size=size), checkpoint, 'test')
    held_out = [stored(parts[name], rendered).make() for name in PARTS[1:]]
    touches = cast(RenderedTouches, held_out[0]).touches
    train = RenderedTouches(SimulatedTouches(examples, checkpoint.preprocessing, 0, None, touches.task), rendered)
    cache.mkdir(parents=True, exist_ok=True)
    key = fingerprint(checkpoint)[:16]
    return [exit_tokens(checkpoint.model.eval(), Inputs(frames, checkpoint.preprocessing), length,
                        cache / f'tokens-{key}-{name}-{length}.npy')
            for name, frames, length in zip(PARTS, (train, *held_out), (examples, size, size), strict=True)]


def train_heads(train: ExitTokens, heads: Heads, epochs: int, lr: float, seed: int) -> None:
    config = TrainingConfig()
    weights = torch.tensor(config.weights(len(heads.queries)))
    optimizer = torch.optim.AdamW(heads.parameters(), weight_decay=config.weight_decay)
    order = torch.Generator().manual_seed(seed)
    batches = [rows for _ in range(epochs)
               for rows in torch.randperm(len(train), generator=order).split(config.batch_size)]
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step, len(batches), lr, config.warmup)
        labels = train.labels[rows]
        found = dict(zip(KINDS, heads(train.batch(rows)), strict=True))
        losses = []
        for kind, logits in found.items():
            # Not the last exit of the added ones: it would teach what it is the sum of.
            teacher = found[dataclasses.replace(kind, added='separate', taught=False)][-1]
            early = exit_losses(logits[:-1], labels, config.distillation * kind.taught,
                                config.distillation_temperature, teacher=teacher)
            losses.append(weights @ torch.cat([early, exit_losses(logits[-1:], labels)]))
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.inference_mode()
def outputs_of_heads(part: ExitTokens, heads: Heads, checkpoint: Checkpoint) -> list[ExitOutputs]:
    """Of each kind."""
    batches = [torch.stack([torch.stack(logits) for logits in heads(part.batch(rows))])
               for rows in torch.arange(len(part)).split(256)]
    config = checkpoint.model.config
    return [ExitOutputs(logits.numpy(), part.labels.numpy(), checkpoint.class_names, config.exits,
                        compute_shares(config)) for logits in torch.cat(batches, dim=2)]


def figures(validation: ExitOutputs, test: ExitOutputs, costs: Sequence[float], speed: float,
            splits: int) -> dict[str, list[float]]:
    """Of one kind and seed; points lost with their cost and the accuracy there, as means over the random halves."""
    data, right = Fitted(validation, test), test.right
    score = data.scores('largest probability')[1]
    everything = dataclasses.replace(test, logits=np.concatenate([validation.logits, test.logits], axis=1),
                                     labels=np.concatenate([validation.labels, test.labels]))
    halves = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(everything))
        half = Fitted(*(everything.subset(part) for part in np.array_split(order, 2)))
        one = lost(half, half.scores('largest probability'), 'one for each exit', np.array(costs), speed)
        halves.append((one['points lost'], one['cost'], half.test.right[-1].mean() - one['points lost'] / 100))
    return {'accuracy': right.mean(axis=1).tolist(),
            'ece': [expected_calibration_error(p.max(axis=1), r)
                    for p, r in zip(test.probabilities(data.temperatures), right, strict=True)],
            'auroc': [float(roc_auc_score(right[-1] & ~one, -s))
                      for one, s in zip(right[:-1], score[:-1], strict=True)],
            'at speed': np.mean(halves, axis=0).tolist()}


def report(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    checkpoint = load_checkpoint(path)
    exits = checkpoint.model.config.exits
    if len(arguments.costs) != len(exits) or len(exits) < 2:
        raise UserError(f'costs are {arguments.costs}; must be one for each exit of {path}, which has exits after the '
                        f'blocks {exits} and needs an early one')
    train, *held_out = load_tokens(checkpoint, arguments.examples, arguments.size, arguments.rendered, arguments.cache)
    config = checkpoint.model.config
    rows: dict[str, list[dict[str, list[float]]]] = {str(kind): [] for kind in KINDS}
    gains: dict[str, list[Any]] = {name: [] for name in rows}
    for seed in range(arguments.seeds):
        torch.manual_seed(seed)
        heads = Heads(len(config.exits), config.width, config.num_classes)
        train_heads(train, heads, arguments.epochs, arguments.lr, seed)
        found = [outputs_of_heads(part, heads, checkpoint) for part in (*held_out, train)]
        right = [np.concatenate([part.right for part in parts], axis=1) for parts in zip(*found[:2], strict=True)]
        for name, validation, test, seen, one in zip(rows, *found, right, strict=True):
            rows[name].append(figures(validation, test, arguments.costs, arguments.speed, arguments.splits)
                              | {'accuracy in training': seen.right.mean(axis=1).tolist()})
            gains[name].append(one.astype(float) - right[0])  # (E, touches); the first kind is today's
    result = {}
    for name, values in rows.items():
        result[name] = {key: np.mean([one[key] for one in values], axis=0).round(4).tolist() for key in values[0]}
        gain = np.mean(gains[name], axis=0)  # of the seeds
        result[name]['gain'] = [[round(100 * float(one.mean()), 2),
                                 round(100 * float(one.std()) / len(one) ** 0.5, 2)] for one in gain]
        result[name]['points lost, by seed'] = [round(one['at speed'][0], 2) for one in values]
    return result


@torch.inference_mode()
def pooling_times(model: ViTTactile, rounds: int) -> dict[str, float]:
    """Median time of each step for one image, s, in turns."""
    head, stage = Head(dataclasses.replace(model.config, queries=0)), model.stage_modules[0].get_submodule('blocks')
    x = torch.randn(1, model.config.num_patches, model.config.width)

    def attention(queries: Tensor, classify: nn.Linear) -> Tensor:
        tokens = head.norm(x)
        return classify(((tokens @ queries).softmax(dim=1).transpose(1, 2) @ tokens).flatten(1))

    steps: dict[str, Callable[[], Tensor]] = {'blocks of the first exit': lambda: stage(x), 'mean': lambda: head(x)}
    for number in (1, 3, 8):
        queries = torch.randn(model.config.width, number)
        classify = nn.Linear(model.config.width * number, model.config.num_classes)
        steps[f'queries: {number}'] = partial(attention, queries, classify)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+', metavar='CHECKPOINT')
    parser.add_argument('--costs', type=float, nargs='+', required=True, help='time of each exit, 1 at the last')
    parser.add_argument('--examples', type=int, default=20000, help='training touches; default: 20000')
    parser.add_argument('--size', type=int, default=2500, help='touches for validation and for test; default: 2500')
    parser.add_argument('--epochs', type=int, default=10, help='default: 10')
    parser.add_argument('--lr', type=float, default=3e-3, help='peak learning rate of AdamW; default: 0.003')
    parser.add_argument('--seeds', type=int, default=3, help='runs from other weights in another order; default: 3')
    parser.add_argument('--speed', type=float, default=2.5, help='over that of the full depth; default: 2.5')
    parser.add_argument('--splits', type=int, default=20, help='random halves of all held-out touches; default: 20')
    parser.add_argument('--rendered', type=Path, default=Path('rendered'), help='folder of rendered touches')
    parser.add_argument('--cache', type=Path, default=Path('tokens'),
                        help='folder for the tokens, 74 KB a touch for four exits at 96x128; default: tokens')
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {str(path): report(path, arguments) for path in arguments.checkpoints}
    for path, rows in found.items():
        print(path)
        for name, row in rows.items():
            print(f'  {name}')
            for key, value in row.items():
                print(f'    {key:22} {value}')
    times = pooling_times(load_checkpoint(arguments.checkpoints[0]).model.eval(), rounds=500)
    print({name: f'{1000 * seconds:.3f} ms' for name, seconds in times.items()})
    print(json.dumps({'heads': found, 'times': times}))


if __name__ == '__main__':
    main()
