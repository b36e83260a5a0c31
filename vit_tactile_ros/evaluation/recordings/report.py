"""A self-contained HTML report of a replay, and its figures as PNG files beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from matplotlib.figure import Figure

from vit_tactile_ros.evaluation.figures import confusion_figure, reliability_figure, save_figure
from vit_tactile_ros.evaluation.metrics import balanced_accuracy, confusion, reliability
from vit_tactile_ros.evaluation.recordings.alignment import answers_of
from vit_tactile_ros.evaluation.recordings.comparison import FEW_TOUCHES, Estimate, compare
from vit_tactile_ros.evaluation.recordings.events import Touch
from vit_tactile_ros.evaluation.recordings.figures import (
    exits_figure,
    latency_figure,
    sweep_figure,
    sweep_recording,
    timeline_figure,
)
from vit_tactile_ros.evaluation.recordings.frame_table import FEW_TIMES, FrameTable
from vit_tactile_ros.evaluation.recordings.mistakes import Mistake, fetch_mistakes, worst_mistakes
from vit_tactile_ros.evaluation.recordings.report_files import PAGE, remove_report
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.inference.gate import GATE_EXIT_BLOCK

SWEPT = tuple(round(float(t), 3) for t in np.arange(0.3, 1.0001, 0.02))
LISTED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
MAX_TIMELINES = 24  # more would make the page slow in a browser


@dataclass(frozen=True)
class _Picture:
    file: str
    data: str  # base64 of the PNG
    alt: str


def write_report(table: FrameTable, folder: Path, *, title: str, bags: Mapping[str, Path] | None = None,
                 touches: Sequence[Touch] = (), missing: Sequence[str] = (), facts: Mapping[str, str] | None = None,
                 mistakes: int = 12, per_touch: int = 2) -> Path:
    """Write `report.html` and its PNG files into the folder, which is created; returns the page's path.

    bags: path of each bag by name, for the images of mistakes. touches: for the timelines. missing: missing inputs, a
    sentence each. facts: more lines for the top (checkpoint, machine, ...). mistakes: maximum number of mistakes shown,
    at most per_touch of one touch. Without labels, sections that need them are left out; without frames, only
    rejections and missing inputs are shown. Raises OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_report(folder)
    labelled = table.subset(table.is_labelled)
    context: dict[str, Any] = {
        'title': title, 'facts': dict(facts or {}), 'missing': list(missing), 'rejections': table.rejections,
        'written': datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC'), 'headlines': _headlines(table, labelled),
        'frames': len(table), 'labelled': len(labelled), 'few': 0, 'latency': None}
    if len(table):
        context |= _exits_and_times(table, folder) | _sweep(table, labelled, folder)
        context |= _timelines(table, touches, folder)
    if len(labelled):
        context |= _accuracy(labelled, folder)
        shown = fetch_mistakes(table, worst_mistakes(table, mistakes, per_touch), bags or {})
        context['mistakes'] = [_mistake(number, one, table, folder) for number, one in enumerate(shown, 1)]
        context['num_wrong'] = int((~labelled.right).sum())
        context['per_touch'] = per_touch
        count = len(np.unique(labelled.touch))
        context['few'] = count if count < FEW_TOUCHES else 0
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                  lstrip_blocks=True).from_string(
        Path(__file__).with_name(PAGE).read_text(encoding='utf-8'))
    path = folder / PAGE
    with written_whole(path) as temporary:
        temporary.write_text(template.render(context), encoding='utf-8')
    return path


def _headlines(table: FrameTable, labelled: FrameTable) -> list[tuple[str, str, str]]:
    """(value, name, remark) of each headline."""
    streams = len(set(zip(table.bag.tolist(), table.topic.tolist())))
    found = [(f'{len(table):,}', 'frames', f'bags: {len(np.unique(table.bag))}, image topics: {streams}')]
    if len(labelled):
        predictions = answers_of(labelled)
        judged = compare(answers_of(labelled.decided(1.0)), predictions, labelled.label, labelled.touch,
                         len(table.class_names))
        accuracy, gain = judged.estimates['accuracy_b'], judged.estimates['accuracy']
        found += [
            (_percent(accuracy.value), 'accuracy', f'95 % interval {_range(accuracy)}, over {judged.touches} touches'),
            (_percent(balanced_accuracy(labelled.label, labelled.class_id)), 'balanced accuracy',
             'mean of the recalls below'),
            (f'{100 * gain.value:+.2f}', 'points relative to full depth',
             f'{gain.interval(lambda share: f"{100 * share:+.2f}")}: the effect of early exit')]
    if len(table):
        found.append((_percent(float(table.shares.mean())), 'of full compute', f'at tau {_tau(table)}'))
    times = 1e3 * table.inference_time[np.isfinite(table.inference_time)]
    if len(times):
        found.append((f'{np.median(times):.2f} ms', 'in the network, median',
                      (f'p99 {np.percentile(times, 99):.2f} ms; ' if len(times) >= FEW_TIMES else '')
                      + f'{len(times):,} of {len(table):,} frames timed'))
    if table.rejections:
        found.append((f'{sum(r.count for r in table.rejections):,}', 'messages rejected', 'listed below'))
    return found


def _accuracy(labelled: FrameTable, folder: Path) -> dict[str, Any]:
    outputs, count = labelled.outputs(), len(labelled.class_names)
    counts = confusion(labelled.label, labelled.class_id, count)
    rows = []
    for c, name in enumerate(labelled.class_names):
        of_class, predicted = int(counts[c].sum()), int(counts[:, c].sum())
        wrong = counts[c].copy()
        wrong[c] = 0
        rows.append({
            'name': name, 'frames': of_class, 'touches': len(np.unique(labelled.touch[labelled.label == c])),
            'recall': _percent(counts[c, c] / of_class) if of_class else '-',
            'precision': _percent(counts[c, c] / predicted) if predicted else '-',
            'confused_with': f'{labelled.class_names[wrong.argmax()]} ({wrong.max()})' if wrong.any() else ''})
    confidences, right = outputs.probabilities(labelled.temperatures).max(axis=2), outputs.right
    bins = [reliability(c, r) for c, r in zip(confidences, right, strict=True)]
    return {'classes': rows, 'confusion': _plot(
        confusion_figure(counts, labelled.class_names, f'{len(labelled)} labelled frames at tau {_tau(labelled)}'),
        folder, 'confusion.png', 'Confusion matrix: rows are true classes, columns predictions'), 'reliability': _plot(
        reliability_figure(bins, labelled.exits, right.mean(axis=1).tolist(), f'{len(labelled)} labelled frames'),
        folder, 'reliability.png', 'Accuracy over confidence of every exit, with frames per bin')}


def _exits_and_times(table: FrameTable, folder: Path) -> dict[str, Any]:
    found = {'exits': _plot(exits_figure(table, f'share of each exit at tau {_tau(table)}'), folder, 'exits.png',
                            'Share of each exit: over all frames, by sensor and by prediction')}
    if np.isfinite(table.inference_time).any():
        timed = np.isfinite(table.inference_time).sum()
        found['latency'] = _plot(
            latency_figure(table, f'time in the network, image by image: {timed} of {len(table)} frames'), folder,
            'latency.png', 'Distribution of the time in the network, by exit')
    return found


def _sweep(table: FrameTable, labelled: FrameTable, folder: Path) -> dict[str, Any]:
    tau = max(table.tau, default=1.0)
    listed = sweep_recording(table, sorted({*LISTED, tau}))
    figure = sweep_figure(sweep_recording(table, SWEPT), tau, bool(len(labelled)),
                          f'{len(labelled) or len(table)} frames at other thresholds')
    blocks = [*([GATE_EXIT_BLOCK] if any(p.gated_share for p in listed) else []), *table.exits]
    rows = [{'tau': f'{p.tau:g}', 'is_current': p.tau == tau and len(set(table.tau)) <= 1,
             'accuracy': _percent(p.accuracy), 'compute': _percent(p.compute_share),
             'exits': [_percent(share) for share in (p.gated_share, *p.exit_shares)[-len(blocks):]]} for p in listed]
    return {'sweep': _plot(figure, folder, 'tau_sweep.png', 'Accuracy and compute over tau'), 'sweep_rows': rows,
            'blocks': blocks}


def _timelines(table: FrameTable, touches: Sequence[Touch], folder: Path) -> dict[str, Any]:
    streams = dict.fromkeys(zip(table.bag.tolist(), table.topic.tolist()))
    figures = []
    for number, (bag, topic) in enumerate(list(streams)[:MAX_TIMELINES], 1):
        own = table.subset((table.bag == bag) & (table.topic == topic))
        own = own.subset(np.argsort(own.seconds, kind='stable'))
        judged = own.right[own.is_labelled]
        title = f'{bag}: {topic}, {len(own)} frames' + (f', accuracy {_percent(judged.mean())}' if len(judged) else '')
        here = [t for t in touches if (t.bag, t.sensor) == (bag, own.sensor[0])]
        figures.append(_plot(timeline_figure(own, here, title), folder, f'timeline_{number:02d}.png',
                              f'Labels and predictions over time: {title}'))
    return {'timelines': figures, 'not_drawn': len(streams) - len(figures), 'has_boxes': bool(touches)}


def _mistake(number: int, one: Mistake, table: FrameTable, folder: Path) -> dict[str, Any]:
    row = one.row
    label, prediction = table.class_names[table.label[row]], table.class_names[table.class_id[row]]
    image = None
    if one.image is not None:
        scale = min(1.0, 320 / one.image.shape[1])
        small = cv2.resize(one.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode('.png', cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        path = folder / f'mistake_{number:02d}.png'
        with written_whole(path, sync=False) as temporary:
            temporary.write_bytes(data.tobytes())
        image = _inline(path, f'Frame {table.index[row]} of {table.topic[row]}: {label}, predicted {prediction}')
    stamp = int(table.stamp[row])
    return {'image': image, 'problem': one.problem, 'label': label, 'prediction': prediction,
            'confidence': _percent(float(table.confidence[row])), 'block': int(table.exit_blocks[row]),
            'bag': table.bag[row], 'sensor': table.sensor[row], 'topic': table.topic[row],
            'index': int(table.index[row]), 'seconds': f'{table.seconds[row]:.3f}',
            'stamp': f'{stamp // 10**9}.{stamp % 10**9:09d}'}


def _plot(figure: Figure, folder: Path, name: str, alt: str) -> _Picture:
    save_figure(figure, folder / name)
    return _inline(folder / name, alt)


def _inline(path: Path, alt: str) -> _Picture:
    return _Picture(path.name, base64.b64encode(path.read_bytes()).decode('ascii'), alt)


def _tau(table: FrameTable) -> str:
    return ', '.join(f'{t:g}' for t in dict.fromkeys(table.tau)) or '1'


def _percent(share: float) -> str:
    return f'{100 * share:.1f} %'


def _range(estimate: Estimate) -> str:
    text = estimate.interval(lambda share: f'{100 * share:.1f}')
    return text if text == '-' else f'{text} %'
