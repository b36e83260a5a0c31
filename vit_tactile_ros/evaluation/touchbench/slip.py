"""Slip on recorded grasps whose label tells of the whole grasp whether the object slipped.

One alarm rule over the frames of a clip, which knows neither its length nor the number of a frame: `slip`, the largest
probability of slip of `TouchTracker`; `lost`, the largest probability of no contact after a touch has begun; `either`,
the larger of both; `sustained`, the largest mean over 2 s of the log odds that a frame shows slip or no contact. Their
mean over the `whole clip` is not an alarm, but a judgement afterwards. A grasp's score is the mean of the log odds over
its fingers. Its threshold is that with the best balanced accuracy on the objects of the other folds. Controls: `still`,
each frame is its own previous one; `length` of the clip. The reference is the median of the first and last frames of
all clips of a sitting.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.data.video import images_of
from vit_tactile_ros.evaluation.metrics import balanced_accuracy
from vit_tactile_ros.evaluation.touchbench.scores import Items, Result, TaskResult
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.motion import Motion
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.touch_events import NO_CONTACT, SLIP, EventKind, TouchTracker
from vit_tactile_ros.model import PreprocessingConfig, load_checkpoint

RATE = 25  # frames/s
BATCH = 16
SAME_SITTING = 4.5  # grey levels between the median images of clips of one gel under one light
EXPOSED = 6.0  # grey levels: the first frames of some clips are darker, while the camera adapts its exposure
FOLDS = 5
SEEDS = 5
SUSTAINED = 2.0  # s
SCORES = ('slip', 'lost', 'either', 'sustained', 'whole clip')
COLUMNS = ('grasp', 'object', 'outcome', 'finger', 'file')
STILL, LENGTH = 'still', 'length'
SMALL = PreprocessingConfig(image_size=(60, 80))  # of the hand-made figures
Floats = NDArray[np.float64]
Mapped = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]  # `map`, or that of a pool of processes


@dataclass(frozen=True)
class Grasps:
    """The clips of a CSV, and the grasps that they belong to."""

    files: tuple[Path, ...]
    fingers: tuple[str, ...]
    clips: tuple[tuple[int, ...], ...]  # of each grasp
    slipped: NDArray[np.bool_]  # of each grasp
    objects: NDArray[np.str_]

    def mean(self, of_clips: Sequence[float]) -> Floats:
        """The mean over the fingers of each grasp."""
        return np.array([np.mean([of_clips[n] for n in numbers]) for numbers in self.clips])


def read_grasps(file: Path) -> Grasps:
    """From a CSV with `COLUMNS`; outcome is slip or stable. Raises DataError."""
    columns, lines = read_rows(file)
    if missing := [name for name in COLUMNS if name not in columns]:
        raise DataError(f'{file} has no column {missing[0]!r}; must have {", ".join(COLUMNS)}')
    rows = [row for _, row in lines]
    for line, row in lines:
        if row['outcome'] not in ('slip', 'stable'):
            raise DataError(f'{file}, line {line}: outcome is {row["outcome"]!r}; must be slip or stable')
    grasps: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        grasps[row['grasp']].append(number)
    first = [rows[numbers[0]] for numbers in grasps.values()]
    return Grasps(tuple(file.parent / row['file'] for row in rows), tuple(row['finger'] for row in rows),
                  tuple(map(tuple, grasps.values())), np.array([row['outcome'] == 'slip' for row in first]),
                  np.array([row['object'] for row in first]))


def read_clip(file: Path, preprocessing: PreprocessingConfig) -> NDArray[np.uint8]:
    """The fitted frames, uint8 (N, h, w, 3), without the dark ones at the start."""
    cv2.setNumThreads(1)
    clip = np.stack([fit(image, preprocessing) for image in images_of(file)])
    bright = clip[:25].mean(axis=(1, 2, 3))
    return clip[int(np.argmax(np.abs(bright - np.median(bright)) < EXPOSED)):]


def ends_of(file: Path, preprocessing: PreprocessingConfig) -> NDArray[np.uint8]:
    """First and last frame, (2, h, w, 3)."""
    return read_clip(file, preprocessing)[[0, -1]]


def references_of(sittings: Sequence[tuple[str, NDArray[np.uint8]]]) -> list[NDArray[np.float32]]:
    """The reference of each clip, given its finger and its first and last frame (2, h, w, 3)."""
    groups: list[list[int]] = []
    small = [np.median(ends, axis=0)[::4, ::4].astype(np.float32) for _, ends in sittings]
    for number, (finger, _) in enumerate(sittings):
        for group in groups:
            if sittings[group[0]][0] == finger and np.median(np.abs(small[group[0]] - small[number])) < SAME_SITTING:
                group.append(number)
                break
        else:
            groups.append([number])
    found = {n: np.median(np.concatenate([sittings[m][1] for m in group]), axis=0) for group in groups for n in group}
    return [found[n].astype(np.float32) for n in range(len(sittings))]


@cache
def classifier_of(checkpoint: Path) -> TactileClassifier:
    return TactileClassifier(load_checkpoint(checkpoint), engine='auto', threads=1)


def score(task: tuple[Path, NDArray[np.float32]], checkpoint: Path, still: bool) -> dict[str, float]:
    """Log odds of a clip by the names in SCORES, and the s at which `either` is reached."""
    file, reference = task
    classifier = classifier_of(checkpoint)
    clip = read_clip(file, classifier.preprocessing)
    config = classifier.preprocessing
    motion = Motion(config.motion_interval, config.motion_views)
    previous = [np.tile(image, config.motion_views) if still else motion.update(image, number * 10**9 // RATE)
                for number, image in enumerate(clip)]
    tau = classifier.thresholds(1.0)
    tracker = TouchTracker(classifier.class_names, len(classifier.exits))
    not_held = [classifier.class_names.index(name) for name in (NO_CONTACT, SLIP)]
    slip, lost, single, has_touched = [], [], [], False
    for at in range(0, len(clip), BATCH):
        some = slice(at, at + BATCH)
        decisions = classifier.classify(list(clip[some]), [reference] * len(clip[some]), tau, previous[some])
        for number, decision in enumerate(decisions, at):
            events = tracker.update(10**9 + number * 10**9 // RATE, decision.probabilities, decision.exit_index)
            single.append(decision.probabilities[not_held].sum())
            slip.append(tracker.slip if has_touched else 0.0)
            lost.append(1 - tracker.contact if has_touched else 0.0)
            has_touched |= any(event.kind == EventKind.ONSET for event in events)
    odds = {name: np.log((p := np.clip(values, 1e-4, 1 - 1e-4)) / (1 - p))
            for name, values in (('slip', slip), ('lost', lost), ('either', np.maximum(slip, lost)), ('frame', single))}
    frames = odds.pop('frame')
    return {name: float(o.max()) for name, o in odds.items()} | {
        'sustained': sustained(frames), 'whole clip': float(frames.mean()), 'at': int(odds['either'].argmax()) / RATE,
        LENGTH: -float(len(clip))}


def sustained(odds: Floats) -> float:
    """The largest mean over SUSTAINED s, of a shorter clip its mean; odds: of each frame, (N,)."""
    window = min(round(SUSTAINED * RATE), len(odds))
    return float(np.convolve(odds, np.full(window, 1 / window), 'valid').max())


def references_for(grasps: Grasps, checkpoint: Path, mapped: Mapped) -> list[NDArray[np.float32]]:
    """The reference of each clip, as the checkpoint fits images."""
    ends = mapped(partial(ends_of, preprocessing=classifier_of(checkpoint).preprocessing), grasps.files)
    return references_of(list(zip(grasps.fingers, ends, strict=True)))


def scores_of(grasps: Grasps, references: Sequence[NDArray[np.float32]], checkpoint: Path, still: bool,
              mapped: Mapped) -> dict[str, Floats]:
    """Every score of each grasp, by its name."""
    clips = list(mapped(partial(score, checkpoint=checkpoint, still=still),
                        list(zip(grasps.files, references, strict=True))))
    return {name: grasps.mean([clip[name] for clip in clips]) for name in clips[0]}


def folds_of(objects: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """The fold of each grasp; an object is in one of them."""
    names = np.random.default_rng(seed).permutation(sorted(set(objects)))
    fold = {name: number % FOLDS for number, name in enumerate(names)}
    return np.array([fold[o] for o in objects])


def alarms_of(scores: Floats, truth: NDArray[np.bool_], objects: NDArray[np.str_], seed: int) -> NDArray[np.bool_]:
    """Which grasps are judged slipped, with the best threshold on the objects of the other folds."""
    folds = folds_of(objects, seed)
    alarms = np.zeros(len(scores), bool)
    for held in range(FOLDS):
        used = folds != held
        best = max(np.unique(scores[used]), key=lambda t: _balanced(truth[used], scores[used] >= t))
        alarms[~used] = scores[~used] >= best
    return alarms


def _balanced(truth: NDArray[np.bool_], alarms: NDArray[np.bool_]) -> float:
    return balanced_accuracy(truth.astype(np.int64), alarms.astype(np.int64))


def judge(scores: Floats, truth: NDArray[np.bool_], objects: NDArray[np.str_]) -> dict[str, float]:
    """Area under the curve, and the rest with thresholds from the objects of the other folds, mean over SEEDS."""
    mixed = np.array([len(set(truth[objects == o])) == 2 for o in objects])
    rows = []
    for seed in range(SEEDS):
        alarms = alarms_of(scores, truth, objects, seed)
        rows.append((_balanced(truth, alarms), _balanced(truth[mixed], alarms[mixed]),
                     alarms[~truth].mean()))
    accuracy, both, false = np.mean(rows, axis=0)
    strict = np.sort(scores[~truth])[::-1][int(0.05 * (~truth).sum())]
    return {'auc': float(roc_auc_score(truth, scores)), 'balanced': float(accuracy), 'auc_both_outcomes':
            float(roc_auc_score(truth[mixed], scores[mixed])), 'balanced_both_outcomes': float(both),
            'false_alarms': float(false), 'found_at_5_percent_false': float((scores[truth] > strict).mean())}


def motion_figures(file: Path) -> dict[str, Any]:
    """How much changes from frame to frame of a clip, as hand-made figures; for the controls its median and length.

    The codec writes a full image every 12 frames, which looks like motion; the minimum over three neighbouring
    differences removes it.
    """
    clip = read_clip(file, SMALL).astype(np.float32).mean(axis=3)
    median = np.median(clip, axis=0)
    cells = np.stack([_cells(one) for one in np.abs(np.diff(clip, axis=0, prepend=clip[:1]))])
    least = np.stack([cells[:-2], cells[1:-1], cells[2:]]).min(axis=0) if len(cells) > 2 else cells
    whole, most = least.mean(axis=1), least.max(axis=1)
    burst = np.convolve(whole, np.ones(5) / 5, 'same')
    away = np.abs(clip - median).mean(axis=(1, 2))
    step = np.abs(away[5:] - away[:-5]) if len(away) > 5 else away
    return {'motion': np.array([
        *np.quantile(whole, (0.5, 0.75, 0.9)), whole.max(), burst.max(), *np.quantile(most, (0.5, 0.9)), most.max(),
        (most / (whole + 0.1)).max(), np.median(away), away.max(), step.max(), burst.max() / (np.median(whole) + 0.1)]),
        STILL: np.append(_cells(median), median.std()), LENGTH: -float(len(clip))}


def _cells(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.resize(image, (4, 3), interpolation=cv2.INTER_AREA).ravel()


def _odds(figures: Floats, grasps: Grasps, seed: int) -> Floats:
    """Log odds of slip of each grasp, by logistic regression on the figures of the clips of the other objects."""
    from sklearn.linear_model import LogisticRegression  # not at the top: the import takes a second
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds, found = folds_of(grasps.objects, seed), np.zeros(len(grasps.slipped))
    x = np.log(np.maximum(figures, 0) + 0.1)
    for held in range(FOLDS):
        used = [(n, grasps.slipped[g]) for g in np.flatnonzero(folds != held) for n in grasps.clips[g]]
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight='balanced', max_iter=1000))
        model.fit(x[[n for n, _ in used]], [slipped for _, slipped in used])
        for g in np.flatnonzero(folds == held):
            found[g] = model.decision_function(x[list(grasps.clips[g])]).mean()
    return found


def slip_task(file: Path, checkpoint: Path, methods: Sequence[str], seeds: Sequence[int]) -> TaskResult:
    """Balanced accuracy per grasp; groups are objects."""
    grasps = read_grasps(file)
    truth, objects = grasps.slipped, grasps.objects
    items = Items(objects, truth)

    def mapped(title: str) -> Mapped:
        return lambda do, tasks: tqdm(map(do, tasks), f'slip, {title}', len(tasks), leave=False, file=sys.stderr,
                                      disable=not sys.stderr.isatty())

    def by_score(scores: Floats) -> Floats:
        return np.mean([alarms_of(scores, truth, objects, seed) == truth for seed in seeds], axis=0)

    results: list[Result] = []
    details: dict[str, Any] = {}
    handmade = None
    if 'handmade' in methods:
        figures = list(mapped('handmade')(motion_figures, grasps.files))
        odds = {name: [_odds(np.stack([one[name] for one in figures]), grasps, seed) for seed in seeds]
                for name in ('motion', STILL)}
        found = {name: np.mean([(one > 0) == truth for one in rows], axis=0) for name, rows in odds.items()}
        handmade = found['motion']
        results.append(Result('handmade', items.score(handmade), {
            STILL: items.score(found[STILL]).value,
            LENGTH: items.score(by_score(grasps.mean([one[LENGTH] for one in figures]))).value},
            by_group=items.by_group(handmade)))
        details['handmade'] = {'auc': float(np.mean([roc_auc_score(truth, one) for one in odds['motion']]))}
    if 'checkpoint' in methods:
        references = references_for(grasps, checkpoint, mapped('references'))
        scores = {still: scores_of(grasps, references, checkpoint, still, mapped(STILL if still else 'checkpoint'))
                  for still in (False, True)}
        for name in SCORES[:-1]:
            right = by_score(scores[False][name])
            results.append(Result(f'checkpoint, {name}', items.score(right), {
                STILL: items.score(by_score(scores[True][name])).value,
                LENGTH: items.score(by_score(scores[False][LENGTH])).value},
                None if handmade is None else items.score(right - handmade), items.by_group(right)))
            details[f'checkpoint, {name}'] = judge(scores[False][name], truth, objects)
    return TaskResult('slip', len(truth), len(np.unique(objects)), 0.5, results, details)
