"""Errors of the colours predicted for ball presses, on the same pixels for every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from vit_tactile_ros.sensor_fit.fitting import RING, Placement, Predictor, View

GREY = 128  # no change, in images of differences


@dataclass(frozen=True)
class PressError:
    """Mean absolute colour error of one model on some presses, in grey levels over pixels and channels."""

    part: str  # 'train' or 'held-out'
    model: str
    geometry: str  # source of the ball's centre and depth
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


def image_of(view: View, change: np.ndarray) -> np.ndarray:
    """The change of the seen pixels (n, 3) as an image uint8 (h, w, 3); grey without change and outside."""
    full = np.full((*view.seen.shape, 3), float(GREY))
    full[view.seen] += change
    rows, columns = np.flatnonzero(view.seen.any(axis=1)), np.flatnonzero(view.seen.any(axis=0))
    return np.clip(full, 0, 255).astype(np.uint8)[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def press_figure(views: Sequence[View], renders: Sequence[np.ndarray],
                 models: Mapping[str, tuple[Predictor, Sequence[Placement]]]) -> Figure:
    """One row per press: its image, the simulated one (`renders`), the real change, then change and residual of every
    model."""
    titles = ['real press', 'simulated press', 'real change']
    for name in models:
        titles += [f'{name}: change', f'{name}: residual']
    ratios = [view.press.frame.shape[1] / view.press.frame.shape[0] for view in views]
    widths = [max(ratios)] * 2 + [1.0] * (len(titles) - 2)
    figure = Figure(figsize=(1.75 * sum(widths), 1.9 * len(views) + 0.9), layout='constrained')
    grid = figure.subplots(len(views), len(titles), squeeze=False, width_ratios=widths)
    for row, (axes, view, render) in enumerate(zip(grid, views, renders)):
        images = [view.press.frame, render, image_of(view, view.change)]
        notes = ['', '', f'mean {np.abs(view.change[view.inside]).mean():.1f} in the disc']
        for predictor, placements in models.values():
            change = predictor(view, placements[row])
            images += [image_of(view, change), image_of(view, view.change - change)]
            notes += ['', f'mean {np.abs(view.change - change)[view.inside].mean():.1f} in the disc']
        for axis, image, note, title in zip(axes, images, notes, titles):
            axis.imshow(image, interpolation='nearest')
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            axis.set_xlabel(note, fontsize=8)
            if row == 0:
                axis.set_title(title, fontsize=9)
        axes[0].set_ylabel(view.press.name, fontsize=8)
    figure.suptitle(f'Held-out presses: difference from the reference (grey: none), out to {RING:g} contact radii',
                    fontsize=10)
    return figure
