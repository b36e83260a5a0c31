"""How far colours predicted for ball presses are from the real ones, on the same pixels for every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from vit_tactile_ros.sensor_fit.fitting import RING, Placement, Predictor, View

GREY = 128  # no change, in pictures of differences


@dataclass(frozen=True)
class PressError:
    """Mean absolute colour error of one model on some presses, in grey levels over pixels and channels."""

    part: str  # 'train' or 'held-out'
    model: str
    geometry: str  # which centre and depth of the ball the model was given
    disc: float  # in the labelled contact disc
    ring: float  # around it, out to RING contact radii
    presses: int
    disc_pixels: int
    ring_pixels: int


def press_error(part: str, model: str, geometry: str, views: Sequence[View], placements: Sequence[Placement],
                predictor: Predictor) -> PressError:
    errors = np.concatenate([np.abs(predictor(view, place) - view.change) for view, place in zip(views, placements)])
    inside = np.concatenate([view.inside for view in views])
    return PressError(part, model, geometry, float(errors[inside].mean()), float(errors[~inside].mean()), len(views),
                      int(inside.sum()), int((~inside).sum()))


def zero(view: View, placement: Placement) -> np.ndarray:
    """No model: the press changes nothing."""
    return np.zeros_like(view.change)


def picture_of(view: View, change: np.ndarray) -> np.ndarray:
    """The change of the seen pixels (n, 3) as a picture uint8 (h, w, 3), grey where nothing changes or is looked at."""
    full = np.full((*view.seen.shape, 3), float(GREY))
    full[view.seen] += change
    rows, columns = np.flatnonzero(view.seen.any(axis=1)), np.flatnonzero(view.seen.any(axis=0))
    return np.clip(full, 0, 255).astype(np.uint8)[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def press_figure(views: Sequence[View], renders: Sequence[np.ndarray],
                 models: Mapping[str, tuple[Predictor, Sequence[Placement]]]) -> Figure:
    """One row per press: its picture, `renders` (the simulator's picture of it), the real change, then the change and
    what is left over for every model."""
    titles = ['real press', 'simulated press', 'real change']
    for name in models:
        titles += [f'{name}: change', f'{name}: residual']
    ratios = [view.press.frame.shape[1] / view.press.frame.shape[0] for view in views]
    widths = [max(ratios)] * 2 + [1.0] * (len(titles) - 2)
    figure = Figure(figsize=(1.75 * sum(widths), 1.9 * len(views) + 0.9), layout='constrained')
    grid = figure.subplots(len(views), len(titles), squeeze=False, width_ratios=widths)
    for row, (axes, view, render) in enumerate(zip(grid, views, renders)):
        pictures = [view.press.frame, render, picture_of(view, view.change)]
        notes = ['', '', f'mean {np.abs(view.change[view.inside]).mean():.1f} in the disc']
        for predictor, placements in models.values():
            change = predictor(view, placements[row])
            pictures += [picture_of(view, change), picture_of(view, view.change - change)]
            notes += ['', f'mean {np.abs(view.change - change)[view.inside].mean():.1f} in the disc']
        for axis, picture, note, title in zip(axes, pictures, notes, titles):
            axis.imshow(picture, interpolation='nearest')
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            axis.set_xlabel(note, fontsize=8)
            if row == 0:
                axis.set_title(title, fontsize=9)
        axes[0].set_ylabel(view.press.name, fontsize=8)
    figure.suptitle(f'Held-out presses; changes against the reference, grey is none, out to {RING:g} contact radii',
                    fontsize=10)
    return figure
