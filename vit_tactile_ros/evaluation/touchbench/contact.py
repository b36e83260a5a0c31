"""Contact frame by frame on recorded clips, against contacts labelled by eye: missed and false, by grey level."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vit_tactile_ros.data.video import images_of
from vit_tactile_ros.evaluation.touchbench.clips import contacts_of
from vit_tactile_ros.evaluation.touchbench.features import BORDER, BORDER_SHARE
from vit_tactile_ros.evaluation.touchbench.scores import Items, Result, TaskResult
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.closer import look_closer
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference
from vit_tactile_ros.inference.reference_monitor import ReferenceMonitor
from vit_tactile_ros.inference.touch_events import NO_CONTACT, TouchTracker

STEP_NS = 40_000_000  # between two frames
MARGIN = 2  # frames beside the begin and end of a contact that are not judged: the eye does not see it sooner
LEVELS = ((0, 3), (3, 5), (5, 8), (8, 12), (12, 256))  # grey levels of the touched frames
OFFSETS = ((0, 1.5), (1.5, 6), (6, 256))  # grey levels, mean over the image, that another clip's reference is off
LEAST_LEVEL = 5  # grey levels of the touched frames that the score counts
# Frames, their reference, and the camera's images of the frames where the network may look closer -> touched
Judge = Callable[[Sequence[NDArray[np.uint8]], NDArray[np.float32], 'Sequence[NDArray[np.uint8]] | None'],
                 NDArray[np.bool_]]


class Clip:
    """The fitted frames of a clip, (n, h, w, 3), its reference, and which frames are touched."""

    def __init__(self, path: Path, contacts: list[tuple[int, int]], classifier: TactileClassifier) -> None:
        self.name = path.stem
        looks = classifier.preprocessing.zoom_below > 0
        read = [(classifier.fit(image), np.array(image) if looks else None) for image in images_of(path)]
        self.frames = [fitted for fitted, _ in read]
        self.images = [image for _, image in read if image is not None] if looks else None
        self.reference: NDArray[np.float32] = np.asarray(
            np.mean(self.frames[:REFERENCE_FRAMES], axis=0, dtype=np.float64), np.float32)
        numbers = np.arange(len(self.frames))
        self.touched = np.zeros(len(numbers), bool)
        self.judged = np.ones(len(numbers), bool)
        self.onsets = []
        for first, last in contacts:
            self.touched[first:last + 1] = True
            for end in (first, last):
                self.judged[max(0, end - MARGIN):end + MARGIN + 1] = False
            self.onsets.append((first, last))
        self.level = np.array([peak(frame, self.reference) for frame in self.frames])

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which frames the score counts."""
        return self.judged & (~self.touched | (self.level >= LEAST_LEVEL))

    @property
    def border(self) -> list[NDArray[np.uint8]]:
        """The frames of the control: everything but the border is replaced by the reference."""
        height, width = self.reference.shape[:2]
        top, left = round(height * BORDER_SHARE), round(width * BORDER_SHARE)
        found = [frame.copy() for frame in self.frames]
        for frame in found:
            frame[top:height - top, left:width - left] = np.rint(self.reference)[top:height - top, left:width - left]
        return found


def peak(frame: NDArray[np.uint8], reference: NDArray[np.float32]) -> float:
    return float(np.abs(cv2.blur(frame.astype(np.float32) - reference, (5, 5))).max())


def is_touched(frames: Sequence[NDArray[np.uint8]], reference: NDArray[np.float32],
               images: Sequence[NDArray[np.uint8]] | None, classifier: TactileClassifier, tau: float, gate: bool,
               events: bool = False) -> NDArray[np.bool_]:
    """Whether the prediction is contact, for each of these fitted frames in the order of time.

    images: the same as the camera gave them; None: the network always sees the whole image.
    events: whether a touch is reported, from the frame that decides ONSET to the one that decides RELEASE.
    """
    tracker = TouchTracker(classifier.class_names, len(classifier.exits))
    monitor = ReferenceMonitor(Reference(fixed=np.rint(reference).astype(np.uint8)))
    found = np.zeros(len(frames), bool)
    thresholds = classifier.thresholds(tau)
    for number, frame in enumerate(frames):
        if gate:
            monitor.check(frame, number * STEP_NS)
        decision = classifier.untouched(thresholds) if gate and monitor.is_untouched else None
        if decision is None:
            seen = monitor.reference.frame if gate else reference
            assert seen is not None
            closer = None if images is None else look_closer(images[number], frame, seen, classifier.preprocessing)
            decision, = classifier.classify([closer.image if closer else frame], [closer.reference if closer else seen],
                                            thresholds, touch_odds=[monitor.touch_odds] if gate else None)
        tracker.update(number * STEP_NS, decision.probabilities, decision.exit_index)
        found[number] = (tracker.state if events else decision.class_name) != NO_CONTACT
    return found


def judged(clips: Sequence[Clip], judge: Judge, title: str = '', border: bool = False) -> list[NDArray[np.bool_]]:
    """Which frames of each clip are judged touched, with its own reference; border: where only that is shown."""
    return [judge(clip.border, clip.reference, None) if border else judge(clip.frames, clip.reference, clip.images)
            for clip in tqdm(clips, title, leave=False, file=sys.stderr, disable=not title or not sys.stderr.isatty())]


def measure(clips: Sequence[Clip], called: Sequence[NDArray[np.bool_]], judge: Judge | None) -> dict[str, Any]:
    """Shares of missed and false frames; `called` are those judged touched. Untouched ones are judged again by `judge`
    with the references of all other clips."""
    missed: dict[str, list[bool]] = defaultdict(list)
    false: dict[str, list[bool]] = defaultdict(list)
    late, unnoticed = [], []
    for clip, touched in zip(clips, called, strict=True):
        for low, high in LEVELS:
            rows = clip.judged & clip.touched & (clip.level >= low) & (clip.level < high)
            missed[f'{low} to {high}'] += (~touched[rows]).tolist()
        false['own'] += touched[clip.judged & ~clip.touched].tolist()
        for first, last in clip.onsets:
            seen = np.flatnonzero(touched[first:last + 1])
            if len(seen):
                late.append(int(seen[0]))
            else:
                unnoticed.append(clip.name)
        rows = np.flatnonzero(clip.judged & ~clip.touched)[::10]
        untouched = [clip.frames[row] for row in rows]
        images = None if clip.images is None else [clip.images[row] for row in rows]
        for other in clips:
            if judge is not None and other is not clip:
                off = float(np.abs(other.reference - clip.reference).mean())
                span = next(f'{low:g} to {high:g} off' for low, high in OFFSETS if low <= off < high)
                false[span] += judge(untouched, other.reference, images).tolist()
    share = lambda found: {name: {'share': round(float(np.mean(v)), 4), 'n': len(v)}  # noqa: E731
                           for name, v in found.items() if v}
    return {'missed touched frames, by grey levels': share(missed), 'false touches, by reference': share(false),
            'contacts': {'n': len(late) + len(unnoticed), 'unnoticed': unnoticed, 'frames late, median and p90':
                         [float(np.percentile(late, q)) for q in (50, 90)] if late else []}}


def level_rule(clips: Sequence[Clip], levels: Sequence[NDArray[np.float64]]) -> list[NDArray[np.bool_]]:
    """The hand-made rule: touched above a grey level, the best one (balanced accuracy) on the other clips."""
    def best(others: Sequence[int]) -> float:
        values = np.concatenate([clips[i].level[clips[i].counted] for i in others])
        touched = np.concatenate([clips[i].touched[clips[i].counted] for i in others])
        limits = np.unique(values)
        found = [(values[touched] >= limit).mean() - (values[~touched] >= limit).mean() for limit in limits]
        return float(limits[int(np.argmax(found))])

    return [levels[i] >= best([j for j in range(len(clips)) if j != i]) for i in range(len(clips))]


def contact_task(folder: Path, contacts: Path, classifier: TactileClassifier, methods: Sequence[str]) -> TaskResult:
    """Balanced accuracy of touched frames from `LEAST_LEVEL` grey levels and untouched ones; groups are clips."""
    if NO_CONTACT not in classifier.class_names:
        raise UserError(f'the classes of the checkpoint are {", ".join(classifier.class_names)}; the task contact '
                        f'needs {NO_CONTACT}: choose another checkpoint, or leave the task out')
    spans = contacts_of(contacts)
    clips = [Clip(folder / name, spans[name], classifier) for name in tqdm(
        spans, 'contact, reading', leave=False, file=sys.stderr, disable=not sys.stderr.isatty())]
    truth = np.concatenate([clip.touched[clip.counted] for clip in clips])
    items = Items(np.concatenate([np.full(clip.counted.sum(), clip.name) for clip in clips]), truth)
    if truth.all() or not truth.any():
        raise UserError(f'{contacts}: all judged frames are {"touched" if truth.all() else "untouched"}; the task '
                        'contact needs both')
    results: list[Result] = []
    details: dict[str, Any] = {}
    handmade = None

    def right(called: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
        return np.concatenate([found[clip.counted] for clip, found in zip(clips, called, strict=True)]) == truth

    if 'handmade' in methods:
        handmade = right(level_rule(clips, [clip.level for clip in clips]))
        at_border = [np.array([peak(frame, clip.reference) for frame in clip.border]) for clip in clips]
        control = items.score(right(level_rule(clips, at_border))).value
        results.append(Result('handmade', items.score(handmade), {BORDER: control}, by_group=items.by_group(handmade)))
    for gate in (False, True) if 'checkpoint' in methods else ():
        judge = partial(is_touched, classifier=classifier, tau=1.0, gate=gate)
        name = f'checkpoint{", with the gate" if gate else ", each frame alone"}'
        called = judged(clips, judge, f'contact, {name}')
        found = right(called)
        border = right(judged(clips, judge, f'contact, {name}, {BORDER}', border=True))
        gain = None if handmade is None else items.score(found.astype(float) - handmade)
        results.append(Result(name, items.score(found), {BORDER: items.score(border).value}, gain,
                              items.by_group(found)))
        details[name] = measure(clips, called, judge)
    return TaskResult('contact', len(items), len(clips), 0.5, results, details)
