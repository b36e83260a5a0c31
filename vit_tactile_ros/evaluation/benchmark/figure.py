"""The benchmark's figure: time over the number of tokens for two attentions, and over the batch size."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from vit_tactile_ros.evaluation.benchmark.contest import Times
from vit_tactile_ros.evaluation.figures import BLUE, GREY, ORANGE


def benchmark_figure(own: Mapping[int, Times], softmax: Mapping[int, Times], batches: Mapping[int, Times],
                     attention: str, title: str) -> Figure:
    """Medians, s, per number of tokens (two attentions) and per batch size."""
    figure = Figure(figsize=(11.0, 4.8), layout='constrained')
    left, right = figure.subplots(1, 2)
    if attention != 'softmax':
        _line(left, softmax, ORANGE, 'softmax attention', 's--')
    _line(left, own, BLUE, f'{attention} (this network)', 'o-')
    for tokens in (max(own),) if attention != 'softmax' else ():
        left.annotate(f'{softmax[tokens].p50 / own[tokens].p50:.1f} times', (tokens, 1e3 * softmax[tokens].p50),
                      xytext=(-8, 0), textcoords='offset points', ha='right', va='center', color=ORANGE)
    left.set_xlabel('tokens (patches of one square image)')
    left.set_title('one image, full depth')
    left.legend(frameon=False, loc='upper left')
    _line(right, batches, BLUE, 'whole batch', 'o-')
    per_image = {size: Times(tuple(t / size for t in times.seconds)) for size, times in batches.items()}
    _line(right, per_image, GREY, 'per image', 's--')
    right.set_xlabel('images in a batch')
    right.set_title('full depth, by batch size')
    right.legend(frameon=False, loc='upper left')
    for axes, places in ((left, own), (right, batches)):
        axes.set_xscale('log', base=2)
        axes.set_yscale('log')
        axes.xaxis.set_major_locator(FixedLocator(list(places)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f'{x:g}'))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:g}'))
        axes.set_ylabel('ms (median)')
        axes.grid(alpha=0.3, which='both')
    figure.suptitle(title, fontsize=11)
    return figure


def _line(axes: Axes, times: Mapping[int, Times], colour: str, label: str, style: str) -> None:
    axes.plot(list(times), [1e3 * t.p50 for t in times.values()], style, color=colour, label=label, markersize=6)
