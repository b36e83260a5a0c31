"""What an untouched gel looks like in recordings that were made without a no-contact image.

An image that recurs in grasps of different objects shows none of them. The reference of a clip is the median of such
images of its gel and light; the labels are not used. Where nothing recurs, it is that of `slip.references_of`.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.evaluation.touchbench.slip import Grasps, read_clip, references_of
from vit_tactile_ros.model import PreprocessingConfig

EVERY = 10  # frames, of which one is compared
SMALL = (24, 32)  # px
SAME = 4.5  # grey levels, root mean square, between images of one untouched gel
OTHER = 8.0  # beyond that, another gel or light
FITS = 3.0  # grey levels, median, between the reference and the nearest image of a clip
LEAST_OBJECTS = 2
MOST_IMAGES = 40  # in a median


def recurring_references(grasps: Grasps, preprocessing: PreprocessingConfig) -> list[NDArray[np.float32]]:
    """The reference of each clip, as `preprocessing` fits images."""
    object_of = {clip: grasps.objects[grasp] for grasp, clips in enumerate(grasps.clips) for clip in clips}
    small, of_clip, numbers, ends = [], [], [], []
    for clip, file in enumerate(grasps.files):
        frames = read_clip(file, preprocessing)
        for number in sorted({*range(0, len(frames), EVERY), len(frames) - 1}):
            small.append(cv2.resize(frames[number], SMALL[::-1], interpolation=cv2.INTER_AREA))
            of_clip.append(clip)
            numbers.append(number)
        ends.append(frames[[0, -1]])
    images = np.stack(small).reshape(len(small), -1).astype(np.float32)
    owner = np.array(of_clip)
    groups = _recurring(images, np.array([object_of[clip] for clip in of_clip]))
    typical = [np.median(images[group], axis=0) for group in groups]
    found = references_of(list(zip(grasps.fingers, ends, strict=True)))
    full: dict[int, NDArray[np.float32]] = {}
    for clip in range(len(grasps.files)):
        away = np.stack([np.median(np.abs(images[owner == clip] - one), axis=1).min() for one in typical]) \
            if typical else np.empty(0)
        if len(away) and away.min() <= FITS:
            group = int(away.argmin())
            if group not in full:
                full[group] = _median(grasps, groups[group], owner, numbers, preprocessing, group)
            found[clip] = full[group]
    return found


def _recurring(images: NDArray[np.float32], objects: NDArray[np.str_]) -> list[NDArray[np.int64]]:
    """The images of each untouched gel, most frequent ones first; images: (N, pixels), objects: (N,)."""
    names = sorted(set(objects.tolist()))
    shared = np.stack([(_distances(images, images[objects == name]) < SAME).any(axis=1) for name in names]).sum(axis=0)
    left, groups = np.ones(len(images), bool), []
    while (most := np.where(left, shared, 0).max()) >= LEAST_OBJECTS:
        candidates = np.flatnonzero(left & (shared == most))[:200]
        away = _distances(images[candidates], images)
        best = away[(away < SAME).sum(axis=1).argmax()]
        groups.append(np.flatnonzero(best < SAME))
        left &= best >= OTHER
    return groups


def _distances(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square differences, (n, m)."""
    squares = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * some @ others.T
    return np.sqrt(np.maximum(squares, 0) / some.shape[1])


def _median(grasps: Grasps, group: NDArray[np.int64], owner: NDArray[np.int64], numbers: Sequence[int],
            preprocessing: PreprocessingConfig, seed: int) -> NDArray[np.float32]:
    chosen = np.random.default_rng(seed).choice(group, min(MOST_IMAGES, len(group)), replace=False)
    frames = []
    for clip in sorted(set(owner[chosen].tolist())):
        images = read_clip(grasps.files[clip], preprocessing)
        frames += [images[numbers[place]] for place in chosen if owner[place] == clip]
    return np.median(np.stack(frames), axis=0).astype(np.float32)
