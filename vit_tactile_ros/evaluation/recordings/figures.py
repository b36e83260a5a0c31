"""Figures of a replay: labels and predictions over time, exits, latency, and the effect of other values of tau."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from vit_tactile_ros.evaluation.figures import BLUE, ORANGE
from vit_tactile_ros.evaluation.recordings.events import Touch
from vit_tactile_ros.evaluation.recordings.frame_table import FEW_TIMES, FrameTable
from vit_tactile_ros.inference.gate import GATE_EXIT_INDEX

# Okabe and Ito 2008, distinct for colour-blind people; the markers are distinct without colour.
_COLOURS, _MARKERS = ('#0072b2', '#e69f00', '#009e73', '#cc79a7'), ('o', 's', '^', 'D')
_GATE_COLOUR, _GATE_MARKER = '#999999', 'v'
_LABEL = '#cfcfcf'


@dataclass(frozen=True)
class SweepPoint:
    """The predictions of all frames at one tau."""

    tau: float
    accuracy: float  # 0..1; without labels, the share of predictions that equal those of the full depth
    compute_share: float
    exit_shares: tuple[float, ...]  # of the exits
    gated_share: float  # exited before the first block


def sweep_recording(table: FrameTable, taus: Sequence[float]) -> list[SweepPoint]:
    """Accuracy, compute and exits at each tau, from stored logits, as the live node decides: also at the gate.

    Of the labelled frames. Without any label, predictions are compared with those of the full depth.
    """
    is_labelled = table.is_labelled
    table = table.subset(is_labelled) if is_labelled.any() else table
    labels = table.label if is_labelled.any() else table.logits[-1].argmax(axis=1)
    points = []
    for tau in taus:
        decided = table.decided(tau)
        points.append(SweepPoint(tau, float((decided.class_id == labels).mean()), float(decided.shares.mean()),
                                 tuple(float((decided.exit_index == exit).mean()) for exit in range(len(table.exits))),
                                 float(decided.is_gated.mean())))
    return points


def sweep_figure(points: Sequence[SweepPoint], tau: float, is_labelled: bool, title: str) -> Figure:
    """Accuracy and compute over tau; a line at the current tau."""
    figure = Figure(figsize=(5.2, 4.5), layout='constrained')
    upper, lower = figure.subplots(2, 1, sharex=True)
    taus = [p.tau for p in points]
    for axes, values, colour, name in (
            (upper, [p.accuracy for p in points], BLUE, 'accuracy' if is_labelled else 'equal to full depth'),
            (lower, [p.compute_share for p in points], ORANGE, 'share of full compute')):
        axes.plot(taus, values, 'o-', color=colour, markersize=3.5)
        axes.axvline(tau, color='black', linestyle='--', linewidth=1)
        axes.set_ylabel(name)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1 if axes is upper else 0, symbol=' %'))
        axes.grid(alpha=0.3)
        middle, span = (max(values) + min(values)) / 2, max(max(values) - min(values), 0.02) * 1.15
        margin = 0.01 * span  # of the points at 100 %, no share is above
        axes.set_ylim(middle - span / 2, min(middle + span / 2, 1.0 + margin))
    upper.annotate(f'tau {tau:g}', (tau, 1.0), (3, 3), xycoords=('data', 'axes fraction'), textcoords='offset points',
                   fontsize=8)
    lower.set_xlabel('tau')
    figure.suptitle(title, fontsize=11)
    return figure


def timeline_figure(table: FrameTable, touches: Sequence[Touch], title: str) -> Figure:
    """One sensor of one bag: labels as bars, touches as boxes, predictions as marks in the colour of their exit."""
    parts = [part for touch in touches for part in touch.parts]
    found = [part.class_id for part in parts]
    shown = np.unique(np.concatenate([table.label[table.is_labelled], table.class_id, np.array(found, np.int64)]))
    place_of = {int(c): place for place, c in enumerate(shown)}
    figure = Figure(figsize=(11.0, 1.7 + 0.3 * len(shown)), layout='constrained')
    axes = figure.subplots()
    bars: dict[int, list[tuple[float, float]]] = {}
    for start, stop, label in _runs(table):
        bars.setdefault(label, []).append((start, stop - start))
    for label, spans in bars.items():  # one artist per class: one per bar would take minutes
        axes.broken_barh(spans, (place_of[label] - 0.4, 0.8), color=_LABEL, linewidth=0)
    half = _step(table) / 2  # frames lie in the middle of their share of a bar
    for class_id in set(found):
        spans = [(part.start - half, part.end - part.start) for part in parts if part.class_id == class_id]
        axes.broken_barh(spans, (place_of[class_id] - 0.45, 0.9), facecolor='none', edgecolor='black', linewidth=0.9)
    places = np.searchsorted(shown, table.class_id)
    marks: list[Line2D | Patch] = []
    for index, name, colour in _exits_of(table):
        here = table.exit_index == index
        marker = _GATE_MARKER if index < 0 else _MARKERS[index % len(_MARKERS)]
        # Each exit a little lower, so that its marks do not hide those of the previous one.
        drop = 0.18 * (index - (len(table.exits) - 1) / 2)
        axes.plot(table.seconds[here], places[here] + drop, marker, color=colour, markersize=3.4, linestyle='none',
                  markeredgewidth=0)
        wrong = here & table.is_labelled & ~table.right
        axes.plot(table.seconds[wrong], places[wrong] + drop, marker, color=colour, markersize=5.5, linestyle='none',
                  markeredgecolor='black', markeredgewidth=1.0)
        marks.append(Line2D([], [], color=colour, marker=marker, linestyle='none',
                            label=f'{name}: {here.mean():.0%}'.replace('%', ' %')))
    if table.is_labelled.any():
        marks.insert(0, Patch(color=_LABEL, label='label'))
    if touches:
        marks.insert(0, Patch(facecolor='none', edgecolor='black', label='touch, in the row of its class'))
    axes.set_yticks(range(len(shown)), [table.class_names[c] for c in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel('time since the start of the bag, s')
    axes.grid(axis='x', alpha=0.3)
    axes.set_title(title, fontsize=11, loc='left')
    figure.legend(handles=marks, loc='outside lower center', ncols=min(6, len(marks)), frameon=False, fontsize=9)
    return figure


def exits_figure(table: FrameTable, title: str) -> Figure:
    """The share of each exit: over all frames, by sensor and by predicted class."""
    groups: list[tuple[str, NDArray[np.bool_]]] = [('all frames', np.ones(len(table), bool))]
    sensors = np.unique(table.sensor)
    if 1 < len(sensors) <= 12:
        groups += [(f'sensor {sensor or "(unnamed)"}', table.sensor == sensor) for sensor in sensors]
    classes = np.unique(table.class_id)
    if len(classes) <= 40:
        groups += [(f'predicted {table.class_names[c]}', table.class_id == c) for c in classes]
    figure = Figure(figsize=(5.2, 1.2 + 0.29 * len(groups)), layout='constrained')
    axes = figure.subplots()
    left = np.zeros(len(groups))
    for index, name, colour in _exits_of(table):
        shares = np.array([(table.exit_index[rows] == index).mean() for _, rows in groups])
        axes.barh(range(len(groups)), shares, 0.8, left, color=colour, edgecolor='white', linewidth=0.5,
                  label=name)
        for place, (share, start) in enumerate(zip(shares, left)):
            if share >= 0.1:
                axes.text(start + share / 2, place, f'{100 * share:.0f} %', ha='center', va='center', fontsize=8,
                          color='black' if index < 0 or index % len(_COLOURS) in (1, 3) else 'white')
        left += shares
    axes.set_yticks(range(len(groups)), [f'{name} ({rows.sum()})' for name, rows in groups], fontsize=9)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=' %'))
    axes.set_title(title, fontsize=11)
    figure.legend(loc='outside lower center', ncols=min(6, len(_exits_of(table))), frameon=False, fontsize=9)
    return figure


def latency_figure(table: FrameTable, title: str) -> Figure:
    """Time in the network of every timed frame, by exit."""
    known = np.isfinite(table.inference_time)
    times, exits = 1e3 * table.inference_time[known], table.exit_index[known]
    highest = np.percentile(times, 99.5) * 1.1
    edges = np.linspace(0, highest, 61).tolist()
    figure = Figure(figsize=(5.2, 3.6), layout='constrained')
    axes = figure.subplots()
    axes.hist([np.minimum(times[exits == index], highest) for index in range(len(table.exits))], edges, stacked=True,
              color=_colours(len(table.exits)), label=[f'block {block}' for block in table.exits])
    for quantile, name in ((50, 'median'), *([(99, 'p99')] if len(times) >= FEW_TIMES else [])):
        at = float(np.percentile(times, quantile))
        axes.axvline(at, color='black', linestyle='--', linewidth=1)
        axes.annotate(f'{name} {at:.1f}', (at, 1.0), (2, 2), xycoords=('data', 'axes fraction'),
                      textcoords='offset points', fontsize=8)
    axes.set_xlabel('time in the network, ms (last bar: this or longer)')
    axes.set_ylabel('frames')
    figure.suptitle(title, fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _runs(table: FrameTable) -> list[tuple[float, float, int]]:
    """(start, end, label) in s of consecutive frames with one label and touch."""
    if not len(table):
        return []
    changes = np.flatnonzero((np.diff(table.label) != 0) | (table.touch[1:] != table.touch[:-1])) + 1
    starts, stops = np.concatenate([[0], changes]), np.concatenate([changes, [len(table)]])
    half = _step(table) / 2
    return [(float(table.seconds[a]) - half, float(table.seconds[b - 1]) + half, int(table.label[a]))
            for a, b in zip(starts, stops) if table.label[a] >= 0]


def _step(table: FrameTable) -> float:
    """s from frame to frame."""
    return float(np.median(np.diff(table.seconds))) if len(table) > 1 else 0.04


def _exits_of(table: FrameTable) -> list[tuple[int, str, str]]:
    """Index, name and colour of every exit; the gate first, if it was used."""
    gate = [(GATE_EXIT_INDEX, 'gate', _GATE_COLOUR)] if table.is_gated.any() else []
    colours = _colours(len(table.exits))
    return gate + [(index, f'block {block}', colours[index]) for index, block in enumerate(table.exits)]


def _colours(exits: int) -> list[str]:
    if exits <= len(_COLOURS):
        return list(_COLOURS[:exits])
    shades = [colormaps['viridis'](value) for value in np.linspace(0.0, 0.9, exits)]
    return ['#' + ''.join(f'{round(255 * part):02x}' for part in shade[:3]) for shade in shades]
