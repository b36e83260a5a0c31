"""What the exits of a network are worth: accuracy by depth, and what an image loses that exits early, by exit score.

    python tools/measure_exits.py CHECKPOINT ... [--size 4000] [--rendered FOLDER] [--cache FOLDER]

For checkpoints of a simulated task. Temperatures, thresholds and the learned score come from the validation touches,
figures from the test touches; every touch is on a sensor unit of its own. Per checkpoint: accuracy and calibration
error (ECE) of each exit; then per exit score, for each early exit, the area under the curve (AUROC) of predicting that
the last exit is right and this one wrong, and the accuracy lost where thresholds make an image --speed times as fast as
the full depth, by the measured times of the exits: with one threshold for all exits, and with one for each. The time of
the latter for the largest probability is measured as well, interleaved with the full depth, in plain PyTorch on one
thread. Networks of one architecture share the times of the exits. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from vit_tactile_ros.data.rendered import RenderedTouches
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.evaluation.cache import cached_outputs
from vit_tactile_ros.evaluation.calibration import fit_temperatures
from vit_tactile_ros.evaluation.metrics import expected_calibration_error
from vit_tactile_ros.evaluation.outputs import ExitOutputs, choose_exits, inputs_of
from vit_tactile_ros.evaluation.parts import EvaluationData, Part, load_parts
from vit_tactile_ros.evaluation.threshold_path import threshold_path
from vit_tactile_ros.evaluation.timing import measure_times, spread_sample
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import Calibration, ModelConfig, exit_score, load_checkpoint

Floats = NDArray[np.floating]
LEVELS = 200  # thresholds tried, at quantiles of the scores
ROUNDS = 3  # of the timing


def margin(probabilities: Floats) -> Floats:
    """The largest probability minus the second largest."""
    top = np.sort(probabilities, axis=-1)[..., -2:]
    return top[..., 1] - top[..., 0]


def entropy(probabilities: Floats) -> Floats:
    """1 for certainty, 0 for equal probabilities."""
    bits = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=-1)
    return 1 - bits / np.log(probabilities.shape[-1])


def features(probabilities: Floats) -> Floats:
    """Of the learned score, (..., 4)."""
    top = np.sort(probabilities, axis=-1)
    odds = np.log((top[..., -1] + 1e-6) / (1 - top[..., -1] + 1e-6))
    return np.stack([odds, margin(probabilities), entropy(probabilities), np.log(top[..., -2] + 1e-6)], axis=-1)


def learned(known: Floats, right: NDArray[np.bool_], probabilities: Floats) -> Floats:
    """The probability that the last exit is not right where this one is wrong, (E, N), by logistic regression.

    Fitted to `known`, (E, M, C), and `right`, (E, M), of other samples; 1 for the last exit.
    """
    found = np.ones(probabilities.shape[:2])
    for exit_index in range(len(known) - 1):
        stays = ~(right[-1] & ~right[exit_index])
        if stays.all():
            continue
        model = LogisticRegression(max_iter=2000).fit(features(known[exit_index]), stays)
        found[exit_index] = model.predict_proba(features(probabilities[exit_index]))[:, 1]
    return found


def shared(scores: Floats, right: NDArray[np.bool_], costs: Floats) -> list[tuple[float, ...]]:
    """One threshold for all early exits, from the highest score to 0."""
    return [(float(level),) * (len(scores) - 1) for level in (*levels_of(scores)[::-1], 0.0)]


def own(scores: Floats, right: NDArray[np.bool_], costs: Floats) -> list[tuple[float, ...]]:
    """One for each early exit; those that keep all exits off where none is worth its time."""
    return threshold_path(scores, right, costs.tolist(), levels_of(scores).tolist()) or [(1.0,) * (len(scores) - 1)]


def levels_of(scores: Floats) -> Floats:
    """Thresholds worth trying, rising; 1 would keep an exit off."""
    return np.unique(np.quantile(scores[:-1], np.linspace(0, 1, LEVELS)).clip(0, 0.9999))


def at_cost(thresholds: Sequence[tuple[float, ...]], scores: Floats, costs: Floats, limit: float) -> tuple[float, ...]:
    """The first ones with a mean cost, (E,), of at most `limit` on the scores, (E, N); otherwise the last."""
    return next((tau for tau in thresholds if costs[exits_at(scores, tau)].mean() <= limit), thresholds[-1])


def exits_at(scores: Floats, tau: Sequence[float]) -> NDArray[np.int64]:
    return choose_exits(scores.astype(np.float32), tau)


SCORES: dict[str, Callable[[Floats, NDArray[np.bool_], Floats], Floats]] = {
    'largest probability': lambda _known, _right, p: exit_score(p),
    'margin': lambda _known, _right, p: margin(p),
    'entropy': lambda _known, _right, p: entropy(p),
    'learned': learned}
KINDS = {'one threshold': shared, 'one for each exit': own}


class Fitted:
    """The scores of two sets of samples, with temperatures and the learned score from the first."""

    def __init__(self, fit: ExitOutputs, test: ExitOutputs) -> None:
        self.fit, self.test = fit, test
        self.temperatures = fit_temperatures(fit)

    def scores(self, name: str) -> tuple[Floats, Floats]:
        known, probabilities = self.fit.probabilities(self.temperatures), self.test.probabilities(self.temperatures)
        first, second = (SCORES[name](known, self.fit.right, p) for p in (known, probabilities))
        return first.astype(np.float32), second.astype(np.float32)


def lost(data: Fitted, scores: tuple[Floats, Floats], kind: str, costs: Floats, speed: float) -> dict[str, Any]:
    """What the test samples lose where the thresholds of the first ones give this speed."""
    fitted, tested = scores
    tau = at_cost(KINDS[kind](fitted, data.fit.right, costs), fitted, costs, 1 / speed)
    chosen, right = exits_at(tested, tau), data.test.right
    used = right[chosen, np.arange(len(data.test))]
    return {'points lost': round(100 * float(right[-1].mean() - used.mean()), 2),
            'worse, better': [int((right[-1] & ~used).sum()), int((used & ~right[-1]).sum())],
            'cost': round(float(costs[chosen].mean()), 3), 'tau': tau,
            'rates': (np.bincount(chosen, minlength=len(tested)) / len(used)).round(3).tolist()}


def measure(validation: ExitOutputs, test: ExitOutputs, times: Sequence[float], speed: float) -> dict[str, Any]:
    """All figures of one checkpoint; times: s of an image that exits at each exit."""
    data, right, costs = Fitted(validation, test), test.right, np.array(times) / times[-1]
    found: dict[str, Any] = {
        'touches': len(test), 'exits': test.exits, 'accuracy': right.mean(axis=1).round(4).tolist(),
        'ece': [round(expected_calibration_error(p.max(axis=1), r), 4)
                for p, r in zip(test.probabilities(data.temperatures), right, strict=True)],
        'only the last right': [round(float((right[-1] & ~one).mean()), 4) for one in right[:-1]],
        'only this one right': [round(float((one & ~right[-1]).mean()), 4) for one in right[:-1]],
        'over the exit before': [[round(100 * float(b.mean() - a.mean()), 2), mcnemar(a, b)]
                                 for a, b in itertools.pairwise(right)],
        'temperatures': data.temperatures, 'cost': costs.round(3).tolist(), 'scores': {}}
    for name in SCORES:
        scores = data.scores(name)
        found['scores'][name] = {
            'auroc': [round(float(roc_auc_score(right[-1] & ~right[i], -scores[1][i])), 3)
                      for i in range(len(right) - 1)],
            **{kind: lost(data, scores, kind, costs, speed) for kind in KINDS}}
    return found


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """The exact p-value of equal accuracy on the same samples."""
    better, worse = int((second & ~first).sum()), int((first & ~second).sum())
    return round(float(binomtest(better, better + worse).pvalue), 4) if better + worse else 1.0


def in_halves(everything: ExitOutputs, costs: Floats, speed: float, splits: int) -> dict[str, Any]:
    """Mean points lost and cost on one random half, with thresholds of the other, by score and kind."""
    rows: dict[str, dict[str, list[tuple[float, float]]]] = {name: {kind: [] for kind in KINDS} for name in SCORES}
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(everything))
        data = Fitted(*(everything.subset(half) for half in np.array_split(order, 2)))
        for name, kinds in rows.items():
            scores = data.scores(name)
            for kind, values in kinds.items():
                one = lost(data, scores, kind, costs, speed)
                values.append((one['points lost'], one['cost']))
    return {name: {kind: np.mean(values, axis=0).round(3).tolist() for kind, values in kinds.items()}
            for name, kinds in rows.items()}


def report(path: Path, data: EvaluationData, rendered: Path | None, speed: float, images: int, splits: int,
           times: dict[ModelConfig, tuple[float, ...]]) -> dict[str, Any]:
    checkpoint = load_checkpoint(path)
    if len(checkpoint.model.config.exits) < 2:
        raise UserError(f'{path}: has one exit, after block {checkpoint.model.config.exits[0]}; there must be an early '
                        'one to compare with the last')
    parts = load_parts(data, checkpoint, 'test')
    if rendered:
        parts = {name: stored(part, rendered) for name, part in parts.items()}
    validation, test = (cached_outputs(data.cache, checkpoint, parts[name], 'cpu', data.workers)
                        for name in ('validation', 'test'))
    temperatures = fit_temperatures(validation)
    classifier = TactileClassifier(dataclasses.replace(checkpoint, calibration=Calibration(temperatures)), 'cpu',
                                   threads=1)
    inputs = inputs_of(parts['test'].frames, checkpoint.preprocessing,
                       spread_sample(test.scores(temperatures)[0], images).tolist())
    config = checkpoint.model.config
    if config not in times:
        times[config] = measure_times(classifier, inputs, (), ROUNDS).exits
    found = measure(validation, test, times[config], speed)
    tau = found['scores']['largest probability']['one for each exit']['tau']
    if splits:
        everything = dataclasses.replace(test, logits=np.concatenate([validation.logits, test.logits], axis=1),
                                         labels=np.concatenate([validation.labels, test.labels]))
        found['halves'] = in_halves(everything, np.array(times[config]) / times[config][-1], speed, splits)
    found['times as fast, measured'] = round(1 + measure_times(classifier, inputs, (tau,), ROUNDS).speed_up(0), 2)
    return found


def stored(part: Part, folder: Path) -> Part:
    touches = part.make()
    assert isinstance(touches, SimulatedTouches)
    return dataclasses.replace(part, make=lambda: RenderedTouches(touches, folder))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+', metavar='CHECKPOINT')
    parser.add_argument('--size', type=int, default=4000, help='touches for validation and for test; default: 4000')
    parser.add_argument('--speed', type=float, default=2.5, help='over that of the full depth; default: 2.5')
    parser.add_argument('--images', type=int, default=100, help='that are timed one by one; default: 100')
    parser.add_argument('--splits', type=int, default=0,
                        help='also average the points lost over so many random halves of all touches; default: 0')
    parser.add_argument('--rendered', type=Path, help='folder of rendered touches, as of train')
    parser.add_argument('--cache', type=Path, help='folder for the outputs of the networks')
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    data = EvaluationData(size=arguments.size, cache=arguments.cache)
    times: dict[ModelConfig, tuple[float, ...]] = {}
    found = {str(path): report(path, data, arguments.rendered, arguments.speed, arguments.images,
                               arguments.splits, times)
             for path in arguments.checkpoints}
    for path, row in found.items():
        print(f'{path}: {row["touches"]} touches, exits after {row["exits"]}')
        for name, value in row.items():
            if name not in ('touches', 'exits', 'scores'):
                print(f'  {name:22} {value}')
        for name, values in row['scores'].items():
            print(f'  {name:22} {values}')
    print(json.dumps(found))


if __name__ == '__main__':
    main()
