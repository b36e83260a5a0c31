"""Slip on recorded grasps whose label says of the whole grasp whether the object slipped.

    python tools/measure_slip.py --grasps gelsight_slip/grasps.csv --checkpoint models/tactile_slip.safetensors

grasps.csv has the columns grasp, object, outcome (slip, stable), finger and file. No image is used for training. One
alarm rule over the frames of a clip, which knows neither its length nor the number of a frame: `slip`, the largest
probability of slip of `TouchTracker`; `lost`, the largest probability of no contact after a touch has begun; `either`,
the larger of both; `sustained`, the largest mean over 2 s of the log odds that a frame shows slip or no contact. Their
mean over the `whole clip` is not an alarm, but a judgement afterwards. A grasp's score is the mean of the log odds over
its fingers. Its threshold is that with the best balanced accuracy on four fifths of the objects, and counts on the
others. Controls: `still`, each frame is its own previous one; `length` of the clip. The reference is the median of the
first and last frames of all clips of a sitting. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from vit_tactile_ros.evaluation.metrics import balanced_accuracy
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.motion import Motion
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.inference.touch_events import NO_CONTACT, SLIP, EventKind, TouchTracker
from vit_tactile_ros.model import PreprocessingConfig, load_checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from measure_touch_events import recorded  # noqa: E402

RATE = 25  # frames/s
BATCH = 16
SAME_SITTING = 4.5  # grey levels between the median images of clips of one gel under one light
EXPOSED = 6.0  # grey levels: the first frames of some clips are darker, while the camera adapts its exposure
FOLDS = 5
SEEDS = 5
SUSTAINED = 2.0  # s
SCORES = ('slip', 'lost', 'either', 'sustained', 'whole clip')


def read_clip(file: Path, preprocessing: PreprocessingConfig) -> np.ndarray:
    """The fitted frames, uint8 (N, h, w, 3), without the dark ones at the start."""
    cv2.setNumThreads(1)
    clip = np.stack([fit(image, preprocessing) for image, _ in recorded(file, [])])
    bright = clip[:25].mean(axis=(1, 2, 3))
    return clip[int(np.argmax(np.abs(bright - np.median(bright)) < EXPOSED)):]


def references_of(sittings: Sequence[tuple[str, np.ndarray]]) -> list[np.ndarray]:
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


def score(task: tuple[Path, np.ndarray], checkpoint: Path, still: bool) -> dict[str, float]:
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
        'length': -float(len(clip))}


def sustained(odds: np.ndarray) -> float:
    """The largest mean over SUSTAINED s, of a shorter clip its mean; odds: of each frame, (N,)."""
    window = min(round(SUSTAINED * RATE), len(odds))
    return float(np.convolve(odds, np.full(window, 1 / window), 'valid').max())


def judge(scores: np.ndarray, truth: np.ndarray, objects: np.ndarray) -> dict[str, float]:
    """Area under the curve, and the rest with thresholds from the objects of the other folds, mean over SEEDS."""
    mixed = np.array([len(set(truth[objects == o])) == 2 for o in objects])
    rows = []
    for seed in range(SEEDS):
        names = np.random.default_rng(seed).permutation(sorted(set(objects)))
        fold = {name: number % FOLDS for number, name in enumerate(names)}
        folds = np.array([fold[o] for o in objects])
        alarms = np.zeros(len(scores), bool)
        for held in range(FOLDS):
            used = folds != held
            best = max(np.unique(scores[used]), key=lambda t: balanced_accuracy(truth[used], scores[used] >= t))
            alarms[~used] = scores[~used] >= best
        rows.append((balanced_accuracy(truth, alarms), balanced_accuracy(truth[mixed], alarms[mixed]),
                     alarms[~truth].mean()))
    accuracy, both, false = np.mean(rows, axis=0)
    strict = np.sort(scores[~truth])[::-1][int(0.05 * (~truth).sum())]
    return {'auc': float(roc_auc_score(truth, scores)), 'balanced': float(accuracy), 'auc_both_outcomes':
            float(roc_auc_score(truth[mixed], scores[mixed])), 'balanced_both_outcomes': float(both),
            'false_alarms': float(false), 'found_at_5_percent_false': float((scores[truth] > strict).mean())}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--grasps', type=Path, required=True, help='CSV of the clips')
    parser.add_argument('--checkpoint', type=Path, required=True, help='checkpoint of states')
    parser.add_argument('--processes', type=int, default=2, help='processes that classify (default: 2)')
    arguments = parser.parse_args(argv)
    with arguments.grasps.open(newline='', encoding='utf-8') as text:
        rows = list(csv.DictReader(text))
    files = [arguments.grasps.parent / row['file'] for row in rows]
    preprocessing = load_checkpoint(arguments.checkpoint).preprocessing
    grasps: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        grasps[row['grasp']].append(number)
    first = [rows[numbers[0]] for numbers in grasps.values()]
    truth = np.array([row['outcome'] == 'slip' for row in first])
    objects = np.array([row['object'] for row in first])
    results: dict[str, object] = {'grasps': len(truth), 'slipped': int(truth.sum())}
    with ProcessPoolExecutor(arguments.processes, get_context('spawn')) as pool:  # a fork hangs in torch
        ends = list(tqdm(pool.map(partial(ends_of, preprocessing=preprocessing), files), 'references', len(files)))
        references = references_of([(row['finger'], e) for row, e in zip(rows, ends, strict=True)])
        print(f'{"score":18}{"AUC":>8}{"balanced":>10}{"both outcomes: AUC":>20}{"balanced":>10}{"false":>8}'
              f'{"found at 5 % false":>20}')
        for still in (False, True):
            task = partial(score, checkpoint=arguments.checkpoint, still=still)
            clips = list(tqdm(pool.map(task, zip(files, references, strict=True)), 'clips', len(files)))
            for name in (*SCORES, *(() if still else ('length',))):
                scores = np.array([np.mean([clips[n][name] for n in numbers]) for numbers in grasps.values()])
                label = f'{name}{", still" if still else ""}'
                found = results[label] = judge(scores, truth, objects)
                print(f'{label:18}{found["auc"]:8.3f}{found["balanced"]:10.3f}{found["auc_both_outcomes"]:20.3f}'
                      f'{found["balanced_both_outcomes"]:10.3f}{found["false_alarms"]:8.3f}'
                      f'{found["found_at_5_percent_false"]:20.3f}')
    print(json.dumps(results))


def ends_of(file: Path, preprocessing: PreprocessingConfig) -> np.ndarray:
    """First and last frame, (2, h, w, 3)."""
    return read_clip(file, preprocessing)[[0, -1]]


if __name__ == '__main__':
    main()
