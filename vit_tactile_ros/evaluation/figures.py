"""Figures of accuracy, speed, confidence and classes, drawn by matplotlib without a display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from vit_tactile_ros.evaluation.metrics import Reliability
from vit_tactile_ros.evaluation.recordings.comparison import Comparison
from vit_tactile_ros.evaluation.resampling import PromiseCheck
from vit_tactile_ros.foundation.files import written_whole

BLUE, ORANGE, GREY = '#2166ac', '#d6604d', '#8c8c8c'
MAX_NUMBERED = 20  # with more classes, cells are too narrow for numbers


@dataclass(frozen=True)
class TradeOff:
    """One threshold in the figure of the trade-off."""

    tau: float
    accuracy: float  # 0..1
    speed_up: float  # full time / early time - 1
    exit_shares: tuple[float, ...]  # 0..1, sum 1


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG atomically; text is drawn literally, also a `$` in the name of a class or bag."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with written_whole(path, sync=False) as temporary:
        figure.savefig(temporary, format='png', dpi=130)


def trade_off_figure(points: Sequence[TradeOff], full_accuracy: float, blocks: Sequence[int], title: str) -> Figure:
    """Accuracy over speed-up with a point per tau; below, the share of each exit at each tau."""
    points = sorted(points, key=lambda p: -p.tau)
    figure = Figure(figsize=(8.5, 8.0), layout='constrained')
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 2))
    upper.axhline(full_accuracy, color=GREY, linestyle='--', linewidth=1)
    gains = [p.speed_up for p in points]
    upper.plot(gains, [p.accuracy for p in points], 'o-', color=BLUE, markersize=6)
    upper.plot([0.0], [full_accuracy], 's', color=GREY, markersize=7)
    upper.set_xlim(min(0.0, *gains) - 0.08 * max(0.1, *gains), max(0.1, *gains) * 1.1)
    # At least a percentage point, so that a nearly flat line looks flat.
    highest = max(full_accuracy, *(p.accuracy for p in points))
    lowest = min(full_accuracy - 0.01, *(p.accuracy for p in points))
    span = highest - lowest
    upper.set_ylim(lowest - 0.1 * span, highest + 0.25 * span)
    upper.annotate('full depth', (upper.get_xlim()[1], full_accuracy), xytext=(-5, -13), textcoords='offset points',
                   ha='right', color='#555555')
    _label_apart(upper, [(p.speed_up, p.accuracy, f'{p.tau:.3g}') for p in points])
    upper.set_xlabel('speed-up: time at full depth / time with early exit - 1 (one point per tau)')
    upper.set_ylabel('accuracy')
    upper.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=' %'))
    upper.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1, symbol=' %'))
    upper.grid(alpha=0.3)
    upper.set_title(title, fontsize=11)
    place, bottom = np.arange(len(points)), np.zeros(len(points))
    for index, (block, colour) in enumerate(zip(blocks, _shades(len(blocks)), strict=True)):
        shares = np.array([p.exit_shares[index] for p in points])
        lower.bar(place, shares, 0.8, bottom, color=colour, label=f'block {block}', edgecolor='white', linewidth=0.5)
        for x, (share, start) in enumerate(zip(shares, bottom, strict=True)):
            if share >= 0.07 and len(points) <= 16:
                lower.text(x, start + share / 2, f'{100 * share:.0f} %', ha='center', va='center', fontsize=8,
                           color=_readable(colour))
        bottom += shares
    lower.set_xticks(place, [f'{p.tau:.3g}' for p in points], rotation=45 if len(points) > 12 else 0)
    lower.set_xlabel('tau')
    lower.set_ylabel('exited after')
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=' %'))
    lower.set_ylim(0, 1)
    lower.legend(ncols=min(len(blocks), 6), loc='lower center', bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


def confusion_figure(counts: NDArray[np.int64], class_names: Sequence[str], title: str) -> Figure:
    """True classes in rows, predictions in columns; colour: share of the true class, number: count."""
    classes = len(class_names)
    side = float(np.clip(2.5 + 0.55 * classes, 5.0, 14.0))
    figure = Figure(figsize=(side + 1.0, side), layout='constrained')
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap='Blues', vmin=0.0, vmax=1.0)
    if classes <= MAX_NUMBERED:
        for row, column in np.argwhere(counts > 0):
            axes.text(column, row, str(counts[row, column]), ha='center', va='center', fontsize=8,
                      color='white' if shares[row, column] > 0.5 else 'black')
    _name_classes(axes, class_names, rotate=True)
    _name_classes(axes, class_names, rotate=False)
    axes.set_xlabel('prediction')
    axes.set_ylabel('true class')
    axes.set_title(title, fontsize=11)
    figure.colorbar(drawn, ax=axes, shrink=0.8, format=PercentFormatter(1.0, symbol=' %'), label='share of true class')
    return figure


def reliability_figure(bins: Sequence[Reliability], blocks: Sequence[int], accuracies: Sequence[float],
                       title: str) -> Figure:
    """Accuracy over confidence per exit; below, the samples in each bin."""
    columns = min(len(bins), 4)
    rows = math.ceil(len(bins) / columns)
    figure = Figure(figsize=(3.6 * columns + 0.6, 4.6 * rows + 0.4), layout='constrained')
    grid = figure.subplots(2 * rows, columns, squeeze=False, sharex=True, height_ratios=(3, 1) * rows)
    for index, (one, block, accuracy) in enumerate(zip(bins, blocks, accuracies, strict=True)):
        row, column = divmod(index, columns)
        upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
        middles, width = (one.edges[1:] + one.edges[:-1]) / 2, one.edges[1] - one.edges[0]
        filled = one.counts > 0
        upper.bar(middles[filled], one.accuracy[filled], width, color=BLUE, edgecolor='white', linewidth=0.5,
                  label='accuracy')
        upper.plot(one.confidence[filled], one.accuracy[filled], 'o', color='black', markersize=3)
        # One standard error: the accuracy of a few samples is uncertain.
        error = np.sqrt(one.confidence * (1 - one.confidence) / np.maximum(one.counts, 1))[filled]
        upper.errorbar(one.confidence[filled], one.accuracy[filled], error, fmt='none', color='black', linewidth=0.8,
                       label='standard error')
        upper.plot([0, 1], [0, 1], '--', color=ORANGE, linewidth=1.2, label='as confident as accurate')
        if not index:
            upper.legend(frameon=False, fontsize=8, loc='upper left')
        upper.set(xlim=(0, 1), ylim=(0, 1.02))
        upper.set_title(f'exit after block {block}: accuracy {accuracy:.1%}, ECE {one.ece:.3f}'.replace('%', ' %'),
                        fontsize=9.5)
        lower.bar(middles, one.counts / one.counts.sum(), width, color=GREY, edgecolor='white', linewidth=0.5)
        lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=' %'))
        lower.set_xlabel('confidence')
        lower.tick_params(labelbottom=True)
        if column == 0:
            upper.set_ylabel('accuracy')
            lower.set_ylabel('samples')
    for index in range(len(bins), rows * columns):
        for part in (0, 1):
            grid[2 * (index // columns) + part, index % columns].set_axis_off()
    figure.suptitle(title, fontsize=11)
    return figure


def per_class_figure(accuracies: NDArray[np.floating], columns: Sequence[str], class_names: Sequence[str],
                     title: str) -> Figure:
    """Accuracy of each class, (classes, columns) in 0..1 or NaN; one column per exit or other setting."""
    classes = len(class_names)
    figure = Figure(figsize=(2.8 + 1.1 * len(columns), float(np.clip(1.8 + 0.34 * classes, 3.5, 15.0))),
                    layout='constrained')
    axes = figure.subplots()
    known = accuracies[np.isfinite(accuracies)]
    lowest = min(0.9, math.floor(10 * known.min()) / 10) if len(known) else 0.0
    drawn = axes.imshow(accuracies, cmap='RdYlBu', vmin=lowest, vmax=1.0, aspect='auto')
    middle = (1.0 + lowest) / 2
    for row, column in np.ndindex(accuracies.shape):
        value = accuracies[row, column]
        extreme = abs(value - middle) > 0.4 * (1.0 - lowest)
        axes.text(column, row, f'{100 * value:.1f}' if np.isfinite(value) else '-', ha='center', va='center',
                  fontsize=9 if classes <= 30 else 6.5, color='white' if extreme else 'black')
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    _name_classes(axes, class_names, rotate=False)
    axes.set_title(title, fontsize=11)
    figure.colorbar(drawn, ax=axes, format=PercentFormatter(1.0, decimals=0, symbol=' %'), label='accuracy', pad=0.03)
    return figure


def promise_figure(checks: Sequence[PromiseCheck], confidence: float) -> Figure:
    """The true accuracy drop of every resampled calibration, and its bound."""
    figure = Figure(figsize=(1.6 + 1.5 * len(checks), 4.8), layout='constrained')
    axes = figure.subplots()
    spread = np.random.default_rng(0).uniform(-0.28, 0.28, max(c.rounds for c in checks))
    for place, check in enumerate(checks):
        drops = 100 * np.asarray(check.drops)
        within = drops <= 100 * check.bound
        for mask, colour, label in ((within, BLUE, 'one calibration'), (~within, ORANGE, 'bound exceeded')):
            axes.plot(place + spread[:check.rounds][mask], drops[mask], 'o', color=colour, markersize=3.5, alpha=0.6,
                      label=label if place == 0 else None)
        axes.plot([place - 0.38, place + 0.38], [100 * check.bound] * 2, color='black', linewidth=2,
                  label='bound' if place == 0 else None)
    axes.set_xticks(range(len(checks)), [f'{100 * c.bound:g} points\nkept {c.kept}/{c.rounds}\ncompute '
                                         f'{100 * c.compute_share:.0f} %' for c in checks])
    axes.set_yscale('symlog', linthresh=0.1)
    marks = [m for m in (0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if m <= 200 * max(c.bound for c in checks)]
    axes.set_yticks(marks, [f'{m:g}' for m in marks])
    axes.minorticks_off()
    axes.set_ylim(min(-0.02, *(120 * min(c.drops) for c in checks)), 250 * max(c.bound for c in checks))
    axes.set_ylabel('true accuracy drop, percentage points')
    axes.set_title(f'{checks[0].rounds} resampled calibrations; each bound should hold with {confidence:.0%} '
                   'confidence'.replace('%', ' %'), fontsize=11)
    axes.grid(axis='y', alpha=0.3)
    axes.legend(loc='upper left', fontsize=8)
    return figure


def comparison_figure(found: Comparison, class_names: Sequence[str], name_a: str, name_b: str) -> Figure:
    """Every difference, B minus A, with its interval; filled if the interval excludes zero."""
    rows = [('accuracy', found.estimates['accuracy']), ('balanced accuracy', found.estimates['balanced_accuracy']),
            ('compute', found.estimates['compute']),
            *((f'recall: {class_names[c]}', estimate) for c, estimate in found.recalls.items())]
    figure = Figure(figsize=(7.5, 1.9 + 0.32 * len(rows)), layout='constrained')
    axes = figure.subplots()
    axes.axvline(0.0, color=GREY, linewidth=1, linestyle='--')
    for place, (_, one) in enumerate(rows):
        is_significant = one.low > 0 or one.high < 0
        colour = BLUE if place < 3 else '#555555'
        axes.plot([100 * one.low, 100 * one.high], [place, place], color=colour, linewidth=2.5 if place < 3 else 1.5)
        axes.plot([100 * one.value], [place], 'o', color=colour, markersize=7,
                  markerfacecolor=colour if is_significant else 'white')
    axes.set_yticks(range(len(rows)), [name if len(name) <= 32 else f'{name[:31]}…' for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f'B - A, percentage points; {100 * found.confidence:g} % intervals, {found.touches} touches '
                    f'({found.frames} frames)')
    axes.set_title(f'A: {name_a}\nB: {name_b}', fontsize=10, loc='left')
    axes.grid(axis='x', alpha=0.3)
    return figure


def _label_apart(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Labels above their points, or below if that would overlap another label, or none if both would."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float]] = []
    for x, y, text in points:
        across = (x - left) / (right - left)
        for offset in (0.045, -0.06):
            up = (y - low) / (high - low) + offset
            if all(abs(across - a) > 0.055 or abs(up - u) > 0.04 for a, u in taken):
                axes.annotate(text, (x, y), xytext=(0, 8 if offset > 0 else -16), textcoords='offset points',
                              ha='center', fontsize=9)
                taken.append((across, up))
                break


def _name_classes(axes: Axes, class_names: Sequence[str], rotate: bool) -> None:
    size = 9 if len(class_names) <= 25 else 6.5
    names = [name if len(name) <= 24 else f'{name[:23]}…' for name in class_names]
    if rotate:
        many = len(names) > 12
        axes.set_xticks(range(len(names)), names, rotation=90 if many else 45, ha='center' if many else 'right',
                        rotation_mode='default' if many else 'anchor', fontsize=size)
    else:
        axes.set_yticks(range(len(names)), names, fontsize=size)


def _shades(count: int) -> list[tuple[float, float, float, float]]:
    """From light for the first exit to dark for the last."""
    return [colormaps['Blues'](v) for v in np.linspace(0.25, 0.95, count)]


def _readable(colour: tuple[float, float, float, float]) -> str:
    return 'white' if colour[0] + colour[1] + colour[2] < 1.6 else 'black'
