"""What an adaptation changes on images that it was not made from: before and after, as a table and a figure."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from vit_tactile_ros.evaluation.figures import BLUE, GREY, ORANGE
from vit_tactile_ros.evaluation.touchbench.clips import message_of
from vit_tactile_ros.inference.adaptation import mean_of
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.gate import STARTING_NOISE, THRESHOLD, to_cells
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference
from vit_tactile_ros.inference.reference_store import StoredReference, write_reference
from vit_tactile_ros.inference.touch_events import NO_CONTACT

Image = NDArray[np.uint8]
BEFORE, AFTER = 'before', 'after'
SHOWN = 6  # presses in the figure
STEP_NS = 40_000_000
_PRESSES = 'of them predicted as a touch'
_WORSE, _BETTER = 0.02, 0.95  # shares: of untouched images more at the network; of the median score before


@dataclass(frozen=True)
class Seen:
    """How a sensor sees held-out untouched images, and then presses, one entry per image."""

    reference: NDArray[np.float32]  # (h, w, 3), grey levels, that it started with
    gain: float
    scores: NDArray[np.float64]  # of the gate
    gated: NDArray[np.bool_]
    touched: NDArray[np.bool_]  # predicted as another class than no_contact
    names: tuple[str, ...]
    confidence: NDArray[np.float64]
    untouched: int  # how many images are the held-out untouched ones; presses follow
    offset: float  # grey levels, mean over the cells, from the reference to the mean of the held-out images

    def row(self, shows: NDArray[np.bool_]) -> dict[str, float]:
        """The figures that are compared; those of presses only if there are some. shows: which of them show one."""
        gel, press = slice(0, self.untouched), slice(self.untouched, None)
        found = {'untouched images': float(self.untouched), 'reference off, grey levels': self.offset,
                 'gate score, median': float(np.median(self.scores[gel])),
                 'exit at the gate': float(self.gated[gel].mean()), 'false touches': float(self.touched[gel].mean()),
                 'gain': self.gain}
        if shows.any():
            found |= {'images that show a press': float(shows.sum()),
                      _PRESSES: float(self.touched[press][shows].mean()),
                      'mean confidence': float(self.confidence[press][shows].mean())}
        return found


def trial(held: Sequence[Image], presses: Sequence[Image], classifier: TactileClassifier,
          stored: StoredReference | None, first: Sequence[Image]) -> Seen:
    """As the node would see fitted images: with `stored`, or with the `first` untouched images as its reference."""
    with tempfile.TemporaryDirectory() as folder:
        frames = SensorFrames(Reference(REFERENCE_FRAMES), classifier.preprocessing, classifier.expects_grey,
                              weights=classifier.digest)
        if stored is not None:
            path = Path(folder) / 'reference.npz'
            height, width = classifier.preprocessing.image_size
            write_reference(path, replace(stored, camera_size=(height, width)), classifier.preprocessing)
            frames.keep_in(path)
        number = 0
        if stored is None:
            for image in first[:REFERENCE_FRAMES]:
                frames.update(message_of(image), number * STEP_NS)
                number += 1
        reference = frames.reference.frame
        assert reference is not None
        scores, gated, touched, names, confidence = [], [], [], [], []
        tau = classifier.thresholds(1.0)  # full depth, so that only the adaptation differs
        for image in (*held, *presses):
            frame = frames.update(message_of(image), number * STEP_NS)
            number += 1
            assert frames.monitor.verdict is not None
            decision, = classifier.classify([frame.image], [frame.reference], tau, touch_odds=[frame.touch_odds],
                                            gains=[frame.gain])
            name = NO_CONTACT if frame.is_untouched else decision.class_name
            scores.append(frames.monitor.verdict.score)
            gated.append(frame.is_untouched)
            touched.append(name != NO_CONTACT)
            names.append(name)
            confidence.append(decision.confidence)
    gel = to_cells(mean_of(held))
    return Seen(reference, frames.gain, np.array(scores), np.array(gated), np.array(touched),
                tuple(names), np.array(confidence), len(held), float(np.abs(gel - to_cells(reference)).mean()))


def rows(seen: Mapping[str, Seen], first: int = 0) -> dict[str, dict[str, float]]:
    """The figures before and after, on the same images of presses: those from `first` on that show one in either."""
    shows = np.any([one.scores[one.untouched:] >= THRESHOLD for one in seen.values()], axis=0)
    shows[:first] = False
    return {name: one.row(shows) for name, one in seen.items()}


def prefers(gain: Seen, other: Seen, first: int) -> bool:
    """Whether `gain`, which differs from `other` in its gain only, is better on the presses from `first` on.

    A higher gain has to bring more predicted touches, a lower one must not lose any; neither more false touches.
    """
    mine, others = rows({BEFORE: other, AFTER: gain}, first)[AFTER], rows({BEFORE: other, AFTER: gain}, first)[BEFORE]
    more = mine.get(_PRESSES, 0.0) - others.get(_PRESSES, 0.0)
    return mine['false touches'] <= others['false touches'] and (more > 0 if gain.gain > other.gain else more >= 0)


def verdict(seen: Mapping[str, Seen], first: int = 0) -> tuple[bool, str]:
    """Whether the adaptation brings something, and why or why not; judged on the presses from `first` on.

    A higher gain is no benefit by itself.
    """
    found = rows(seen, first)
    before, after = found[BEFORE], found[AFTER]
    if after['false touches'] > before['false touches']:
        return False, 'more untouched images would be taken for a touch'
    if after['exit at the gate'] < before['exit at the gate'] - _WORSE:
        return False, 'fewer untouched images would exit at the gate'
    if _PRESSES in before and after.get(_PRESSES, 0.0) < before[_PRESSES]:
        return False, 'fewer images of the presses would be predicted as a touch'
    gains = []
    if after['false touches'] < before['false touches']:
        gains.append('fewer false touches')
    if after['exit at the gate'] > before['exit at the gate'] + _WORSE:
        gains.append('more untouched images exit at the gate')
    if after['gate score, median'] < _BETTER * before['gate score, median']:
        gains.append('the reference is closer to the gel, so fainter touches stand out')
    if _PRESSES in before and after[_PRESSES] > before[_PRESSES]:
        gains.append('more images of the presses are predicted as a touch')
    if after['gain'] < before['gain']:
        gains.append('the presses do not need so high a gain, and a wrong one harms')
    shares = [f'{found[name]["exit at the gate"]:.0%}' for name in (BEFORE, AFTER)]
    compared = f'{shares[0]} before and after' if shares[0] == shares[1] else f'{shares[0]} before, {shares[1]} after'
    return bool(gains), ', '.join(gains) or (
        f'the figures hardly differ: the untouched images that exit at the gate are {compared}')


def adaptation_figure(seen: Mapping[str, Seen], presses: Sequence[Image], noise: NDArray[np.float32],
                      title: str, outcome: str) -> Figure:
    """References, the scores of the gate over time, and the differences of presses, before and after.

    noise: grey levels of each cell, (rows, columns), of the untouched images. outcome: what was stored, or why nothing.
    """
    after = seen[AFTER]
    figure = Figure(figsize=(11, 8.5 if presses else 5.5), layout='constrained')
    figure.suptitle(f'{title}\n{outcome}', fontsize=11, wrap=True)
    parts: Any = figure.subfigures(3 if presses else 2, 1, height_ratios=(1.1, 1.0, 1.8) if presses else None)
    axes = parts[0].subplots(1, 3)
    for axis, (name, one) in zip(axes, seen.items()):
        axis.imshow(np.clip(one.reference, 0, 255).astype(np.uint8))
        axis.set_title(f'reference, {name}', fontsize=9)
    drawn = axes[2].imshow(noise, vmin=0, vmax=max(STARTING_NOISE, float(noise.max())), cmap='viridis')
    axes[2].set_title('noise of the untouched gel', fontsize=9)
    parts[0].colorbar(drawn, ax=axes[2], label='grey levels', shrink=0.8)
    line = parts[1].subplots()
    for (name, one), colour in zip(seen.items(), (ORANGE, BLUE)):
        line.plot(one.scores, color=colour, linewidth=1, label=name)
    line.axhline(THRESHOLD, color=GREY, linestyle='--', linewidth=1,
                 label='below: taken for untouched')
    line.axvline(after.untouched - 0.5, color=GREY, linewidth=1, label='presses begin' if presses else None)
    line.set_yscale('log')
    line.yaxis.set_major_formatter('{x:g}')
    line.yaxis.set_minor_formatter(NullFormatter())
    line.set_xlabel('image: held-out untouched ones, then presses' if presses else 'held-out untouched image')
    line.set_ylabel('difference / noise')
    line.legend(fontsize=8)
    for axis in axes:
        axis.set_axis_off()
    if not presses:
        return figure
    strongest = np.argsort(-after.scores[after.untouched:])[:len(presses) // 2 + 1]
    shown = sorted(strongest[np.linspace(0, len(strongest) - 1, min(SHOWN, len(strongest))).astype(int)].tolist())
    grid = parts[2].subplots(2, len(shown), squeeze=False)
    for axes, (name, one) in zip(grid, seen.items()):
        for axis, index in zip(axes, shown):
            axis.imshow(np.clip(one.gain * (presses[index] - one.reference) + 127.5, 0, 255).astype(np.uint8))
            place = one.untouched + index
            axis.set_title(f'{name}: {one.names[place]} {one.confidence[place]:.2f}', fontsize=8)
            axis.set_axis_off()
    return figure
