"""The demo's terminal view: image, prediction, confidence and exit of each finger."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from vit_tactile_ros.ros.demo.monitor import Finger, Monitor

PREVIEW_ROWS = 11  # terminal rows; each shows two rows of pixels
EXIT_BLOCKS = (4, 8, 12)
PANEL_WIDTH = 66  # characters
VIEW_WIDTH = 2 * PANEL_WIDTH + 1
BAR = 12  # characters of the bar at confidence 1


def fits(console: Console) -> bool:
    """Whether the view with images fits the terminal, side by side or one above the other."""
    return console.height > (1 if console.width >= VIEW_WIDTH else 2) * (PREVIEW_ROWS + 2) + 1


def demo_view(monitor: Monitor, hint: str, images: bool = True) -> RenderableType:
    """The whole view: one panel per finger, and a line with tau."""
    tau = ', '.join(f'{t:g}' for t in dict.fromkeys(monitor.tau)) or '...'
    line = Text.assemble('tau ', (tau, 'bold cyan'), '   ', (hint, 'dim'),
                         (f'   {monitor.problem}' if monitor.problem else '', 'red'))
    exits = _exits(monitor)
    return Group(Columns([finger_panel(finger, images, exits) for finger in monitor.fingers.values()]), line)


def _exits(monitor: Monitor) -> dict[int, str]:
    """The name of each exit by its block, the gate first: the usual ones, or those seen of another checkpoint."""
    seen = {block for tally in monitor.tallies.values() for block in tally.exits if block}
    return {0: 'gate'} | {b: str(b) for b in (EXIT_BLOCKS if seen <= set(EXIT_BLOCKS) else sorted(seen))}


def finger_panel(finger: Finger, images: bool, exits: dict[int, str]) -> Panel:
    if not images:
        return Panel(_facts(finger, exits, spaced=False), title=finger.name, title_align='left', width=PANEL_WIDTH)
    body = Table.grid(padding=(0, 2))
    body.add_row(preview(finger.image), _facts(finger, exits, spaced=True))
    return Panel(body, title=finger.name, title_align='left', width=PANEL_WIDTH, height=PREVIEW_ROWS + 2)


def _facts(finger: Finger, exit_names: dict[int, str], spaced: bool) -> RenderableType:
    result = finger.result
    if result is None:
        return Text('waiting for the first result ...', style='dim')
    is_right = result.class_name == finger.label
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style='dim', no_wrap=True, min_width=10)
    facts.add_column(no_wrap=True)
    facts.add_row('prediction', Text(result.class_name.replace('_', ' '),
                                     style='bold green' if is_right else 'bold yellow'))
    facts.add_row('true class', finger.label.replace('_', ' '))
    if spaced:
        facts.add_row('event', Text(finger.event, style='bold red' if 'slip began' in finger.event else ''))
    filled = round(result.confidence * BAR)
    facts.add_row('confidence', Text.assemble(('█' * filled, 'green'), ('░' * (BAR - filled), 'dim'),
                                              f' {100 * result.confidence:.0f} %'))
    exits = Text()
    for block, name in exit_names.items():
        is_used = block == result.exit_block
        exits.append(f'{"●" if is_used else "○"}{name} ', style='bold cyan' if is_used else 'dim')
    facts.add_row('exit block', exits)
    facts.add_row('compute', f'{100 * result.compute_share:.0f} % of full depth')
    if spaced:
        facts.add_row('', '')
    facts.add_row('inference', f'{1e3 * result.inference_time:5.1f} ms' if result.exit_block else '    -')
    facts.add_row('latency', f'{1e3 * float(np.median(list(finger.latencies)[-60:])):5.1f} ms to result')
    facts.add_row('rate', f'{finger.rate:5.1f} Hz')
    facts.add_row('superseded', f'{finger.counters.get("superseded", "0"):>5} images')
    return facts


def preview(image: NDArray[np.uint8] | None) -> Text:
    """An image as coloured half blocks, two rows of pixels per line."""
    if image is None:
        return Text('no image yet', style='dim')
    rows = 2 * PREVIEW_ROWS
    columns = min(32, round(rows * image.shape[1] / image.shape[0]))
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    text = Text(no_wrap=True)
    for top, bottom in zip(small[::2], small[1::2], strict=True):
        for upper, lower in zip(top.tolist(), bottom.tolist(), strict=True):
            text.append('▀', Style.parse(f'{_rgb(upper)} on {_rgb(lower)}'))
        text.append('\n')
    text.right_crop(1)
    return text


def _rgb(pixel: list[int]) -> str:
    return f'rgb({pixel[0]},{pixel[1]},{pixel[2]})'


def status_line(monitor: Monitor) -> Text:
    """The latest result of each finger in one line, for output that is not a terminal."""
    return Text('   '.join(
        f'{finger.name}: {r.class_name} {100 * r.confidence:.0f} %, exit {r.exit_block or "gate"} '
        f'(true class {finger.label}), ' + (f'{finger.event}, ' if finger.event else '') +
        f'{finger.rate:.0f} Hz' for finger in monitor.fingers.values() if (r := finger.result) is not None))


def summary_table(monitor: Monitor) -> Table:
    """Results, accuracy, exits and compute share at each tau."""
    table = Table(title='by threshold', title_justify='left', box=SIMPLE_HEAD)
    exits = _exits(monitor)
    for heading in ('tau', 'results', 'accuracy', *(f'exit {name}' if block else name for block, name in exits.items()),
                    'compute'):
        table.add_column(heading, justify='right')
    for tau, tally in sorted(monitor.tallies.items()):
        table.add_row(
            ', '.join(f'{t:g}' for t in dict.fromkeys(tau)), str(tally.results),
            f'{100 * tally.right / tally.labelled:.1f} %' if tally.labelled else '-',
            *(f'{100 * tally.exits[b] / tally.results:.0f} %' for b in exits),
            f'{100 * tally.compute / tally.results:.0f} %')
    return table


def finger_table(monitor: Monitor) -> Table:
    """The counters of each finger, and the time from image to result."""
    table = Table(title='by finger; latency from image to result, ms; overhead: latency without inference',
                  title_justify='left', box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ('', 'images', 'classified', 'superseded', 'rejected', 'p50', 'p99', 'overhead'):
        table.add_column(heading, justify='right', no_wrap=True)
    for finger in monitor.fingers.values():
        numbers = [finger.counters.get(key, '-') for key in ('received', 'classified', 'superseded', 'rejected')]
        if finger.latencies:
            numbers += [f'{1e3 * float(np.percentile(finger.latencies, p)):.1f}' for p in (50, 99)]
            numbers.append(f'{1e3 * float(np.median(finger.overheads)):.1f}' if finger.overheads else '-')
        table.add_row(finger.name, *numbers)
    return table
