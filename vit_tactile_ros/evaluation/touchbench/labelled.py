"""Tasks with labelled touches: classifiers on features, trained on some groups and judged on others."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vit_tactile_ros.data.labels_csv import read_rows
from vit_tactile_ros.data.split import Split, folds, split_touches
from vit_tactile_ros.data.table import TouchTable
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.evaluation.touchbench.features import BORDER, REFERENCE, TOUCH, Descriptions, Features
from vit_tactile_ros.evaluation.touchbench.scores import Items, Result, TaskResult

Metric = Literal['accuracy', 'log_loss']
LEAST = 1e-4  # probability that a class keeps, so that one image cannot decide a touch
TREES = 100


@dataclass(frozen=True)
class LabelledTask:
    """Labelled touches, how they are divided, and what one item of the score is."""

    name: str
    table: TouchTable
    touches: NDArray[Any]  # (N,): images of one touch, whose evidence is averaged
    items: Callable[[NDArray[Any], NDArray[Any]], Items]  # of the groups and classes of the tested touches
    splits: Callable[[int], list[Split]]  # by the seed
    groups: NDArray[Any]  # (N,), for the intervals
    controls: tuple[str, ...]


def property_task(folder: Path, label: str, num_folds: int) -> LabelledTask:
    """A property of objects, per press, on objects that were not trained on."""
    file = folder / 'labels.csv'
    table = load_touches(file, label=label, group='object', split='')
    press = {str(folder / row['image']): f'{row["object"]} {row["press"]}' for _, row in read_rows(file)[1]}
    return LabelledTask(label, table, np.array([press[str(touch.image)] for touch in table.touches]), Items,
                        cache(lambda seed: folds(table, num_folds, seed)), np.array(table.groups), (BORDER, REFERENCE))


def object_task(folder: Path, name: str, test: str) -> LabelledTask:
    """Which object it is, per frame, in the part `test` of the grasps; every object has the same weight."""
    table = load_touches(folder / 'index.csv', image='file', label='object', group='object+exp_num+gel', split='split',
                         reference='reference_gel{gel}.png', splits={'train': ['train'], 'test': [test]})
    names = np.array(table.class_names)[table.labels]
    return LabelledTask(name, table, np.arange(len(table)), lambda groups, _: Items.equal_groups(groups),
                        cache(lambda _: [split_touches(table)]), names, (BORDER,))


def classifier(method: str, seed: int) -> Any:
    """Extremely randomised trees for hand-made features, otherwise logistic regression."""
    from sklearn.ensemble import ExtraTreesClassifier  # not at the top: the import takes a second
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if method == 'handmade':
        return ExtraTreesClassifier(TREES, min_samples_leaf=2, class_weight='balanced', random_state=seed)
    return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, class_weight='balanced', max_iter=300))


def _right(evidence: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where the class with the highest log probability, (M, classes), is right, otherwise 0."""
    return (evidence.argmax(axis=1) == labels).astype(np.float64)


def _log_loss(evidence: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Minus the log probability of the right class, nats, of mean log probabilities that are normalised again."""
    chosen = evidence[np.arange(len(labels)), labels]
    return np.asarray(np.logaddexp.reduce(evidence, axis=1) - chosen, np.float64)


# A log loss varies less than an accuracy: a press does not count as nothing or all.
METRICS: dict[Metric, Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]] = {
    'accuracy': _right, 'log_loss': _log_loss}


def predict(task: LabelledTask, vectors: NDArray[np.float32], method: str, seeds: Sequence[int],
            advance: Callable[[], object] = lambda: None, metrics: Sequence[Metric] = ('accuracy',),
            ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The touches that are tested, as rows of the first image of each, (M,), and their metrics, (len(metrics), M).

    A metric is a mean over the seeds.
    """
    labels, classes = task.table.labels, len(task.table.class_names)
    names, first, touch = np.unique(task.touches, return_index=True, return_inverse=True)
    found, tested = np.zeros((len(metrics), len(names))), np.zeros(len(names), bool)
    images = np.bincount(touch)[:, None]
    for seed in seeds:
        evidence = np.zeros((len(names), classes))
        for split in task.splits(seed):
            model = classifier(method, seed).fit(vectors[split.train], labels[split.train])
            probabilities = np.full((len(split.test), classes), LEAST)
            probabilities[:, model.classes_] = np.maximum(model.predict_proba(vectors[split.test]), LEAST)
            np.add.at(evidence, touch[split.test], np.log(probabilities))
            tested[touch[split.test]] = True
            advance()
        found += np.stack([METRICS[metric](evidence / images, labels[first]) for metric in metrics]) / len(seeds)
    return first[tested], found[:, tested]


def measure(task: LabelledTask, methods: Sequence[Features], seeds: Sequence[int], known: Descriptions,
            metrics: Sequence[Metric] = ('accuracy',), against: Features | None = None) -> list[TaskResult]:
    """Every method on the touches and on the controls, for each of the metrics; compared with `handmade`.

    against: further features, that of `methods` whose names end in the same block are compared with instead.
    """
    blocks = {_block(name) for features in methods for name in features.names}
    if against:
        methods = [against, *methods]
    shown = (TOUCH, *task.controls)
    vectors = {control: [known.of(features, task.table, control) for features in methods] for control in shown}
    described = [(features, place, name, number) for number, features in enumerate(methods)
                 for place, name in enumerate(features.names) if features is not against or _block(name) in blocks]
    results: list[list[Result]] = [[] for _ in metrics]
    items: Items | None = None
    baselines: dict[str, NDArray[np.float64]] = {}
    with tqdm(total=len(described) * len(shown) * len(seeds) * len(task.splits(seeds[0])), desc=task.name, unit='fit',
              leave=False, file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        for features, place, name, number in described:
            found = {c: predict(task, vectors[c][number][place], features.names[0], seeds, bar.update, metrics)
                     for c in shown}
            rows, values = found[TOUCH]
            baseline = baselines.get(_block(name), baselines.get('handmade'))
            if items is None:
                items = task.items(task.groups[rows], task.table.labels[rows])
            if features.names == ('handmade',) or features is against:
                baselines[_block(name)] = values
            for i, metric in enumerate(metrics):
                better = -1 if metric == 'log_loss' else 1
                results[i].append(Result(
                    name, items.score(values[i]), {c: items.score(found[c][1][i]).value for c in task.controls},
                    None if baseline is None else items.score(better * (values[i] - baseline[i])),
                    items.by_group(values[i])))
    assert items is not None
    classes = len(task.table.class_names)
    return [TaskResult(task.name if metric == 'accuracy' else f'{task.name}, {metric}', len(items),
                       len(np.unique(items.groups)), 1 / classes if metric == 'accuracy' else math.log(classes), found)
            for metric, found in zip(metrics, results, strict=True)]


def _block(method: str) -> str:
    """The part of a method's name that says which of its features: `block 4` of `checkpoint, block 4`."""
    return method.rpartition(', ')[2]
