"""Draws docs/architecture.svg, the data flow: `make architecture`.

The background is transparent, and all colours are readable on light and dark pages.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

FIGURE = Path(__file__).resolve().parents[1] / 'docs' / 'architecture.svg'
HEIGHT = 440
LINE = '#7d8590'  # readable on white and on black
LAYERS = {'ros/': '#a5c8f0', 'data/': '#f3c98b', 'inference/': '#a8d8b0', 'model/': '#e3b7d8', 'training/': '#efb3a5',
          'evaluation/': '#c9bff0', 'outside': '#d8dde3'}
LANES = {'live': 10, 'replay': 110, 'training': 210}
LANE_HEIGHT = 80


@dataclass(frozen=True)
class Box:
    """One step, in the lanes from `first` to `last`; `lines` after the first are smaller."""

    x: int
    width: int
    first: str
    last: str
    lines: tuple[str, ...]
    layer: str

    @property
    def y(self) -> int:
        return LANES[self.first]

    @property
    def height(self) -> int:
        return LANES[self.last] + LANE_HEIGHT - self.y


GAP = 20  # px between two columns
# Of each column: its width, and its boxes as lanes, lines and layer.
COLUMNS = (
    (134, (('live', 'live', ('drivers', 'image_raw topics'), 'outside'),
           ('replay', 'replay', ('bags', 'sqlite3, mcap, ROS 1'), 'outside'),
           ('training', 'training', ('labelled images', 'bags, CSV, folders,', 'or the simulator'), 'outside'))),
    (134, (('live', 'live', ('newest image', 'one per sensor,', 'older superseded'), 'ros/'),
           ('replay', 'replay', ('bag reader', 'every message,', 'damage reported'), 'data/'),
           ('training', 'training', ('table of touches', 'labels, groups,', 'splits'), 'data/'))),
    (84, (('live', 'training', ('decode', 'to uint8 RGB'), 'inference/'),)),
    (88, (('live', 'training', ('fit', 'rotate, crop,', 'resize'), 'inference/'),)),
    (108, (('training', 'training', ('augment', 'light, colour,', 'noise, geometry'), 'data/'),
           ('live', 'replay', ('reference', 'file, or mean of', 'first images'), 'inference/'))),
    (84, (('live', 'training', ('input', 'image minus', 'reference,', 'scaled'), 'inference/'),)),
    (104, (('live', 'replay', ('gate', 'no touch:', 'exits here,', 'no block runs'), 'inference/'),)),
    (104, (('live', 'training', ('stages', 'blocks 1 to 4,', '5 to 8, 9 to 12;', 'an exit', 'after each'), 'model/'),)),
    (92, (('live', 'replay', ('decision', 'first exit', 'that reaches', 'tau'), 'model/'),
          ('training', 'training', ('loss', 'over all exits'), 'training/'))),
    (108, (('live', 'replay', ('touch events', 'onset, class,', 'slip, release', 'of each touch'), 'inference/'),)),
    (126, (('live', 'live', ('result', 'tactile,', 'touch_event'), 'ros/'),
           ('replay', 'replay', ('frames.csv', 'events.csv, report,', 'comparison'), 'evaluation/'),
           ('training', 'training', ('checkpoint', 'after each epoch'), 'training/'))),
)


def boxes() -> tuple[Box, ...]:
    found, x = [], 90
    for width, column in COLUMNS:
        found += [Box(x, width, *each) for each in column]
        x += width + GAP
    return tuple(found)


BOXES = boxes()
WIDTH = max(b.x + b.width for b in BOXES) + 8
FED = ('fit', 'input', 'stages')  # by the checkpoint
_FIT, _LAST = (next(b for b in BOXES if b.lines[0] == name) for name in ('fit', 'checkpoint'))
CHECKPOINT = (_FIT.x, 340, _LAST.x + _LAST.width - _FIT.x, 44)  # x, y, width, height


def text(x: float, y: float, words: str, size: int, colour: str = '#1c2128', weight: str = 'normal',
         anchor: str = 'middle') -> str:
    return (f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" font-weight="{weight}" '
            f'text-anchor="{anchor}">{escape(words)}</text>')


def box(b: Box) -> str:
    parts = [f'<rect x="{b.x}" y="{b.y}" width="{b.width}" height="{b.height}" rx="6" fill="{LAYERS[b.layer]}"/>']
    middle = b.y + b.height / 2 - 7 * (len(b.lines) - 1)
    for i, line in enumerate(b.lines):
        size, weight = (12, 'normal') if i else (14, 'bold')
        parts.append(text(b.x + b.width / 2, middle + 4 + 15 * i, line, size, weight=weight))
    return ''.join(parts)


def arrow(x1: float, y1: float, x2: float, y2: float, dash: str = '') -> str:
    return (f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{LINE}" stroke-width="2" '
            f'marker-end="url(#head)"{dash and f" stroke-dasharray={chr(34)}{dash}{chr(34)}"}/>')


def arrows() -> list[str]:
    """Arrows from box to box in each lane, and those of the checkpoint."""
    found = []
    for y in LANES.values():
        row = sorted((b for b in BOXES if b.y <= y < b.y + b.height), key=lambda b: b.x)
        found += [arrow(a.x + a.width, y + LANE_HEIGHT / 2, b.x - 2, y + LANE_HEIGHT / 2)
                  for a, b in zip(row, row[1:], strict=False)]
    y, bottom = CHECKPOINT[1], LANES['training'] + LANE_HEIGHT
    found += [arrow(b.x + b.width / 2, y, b.x + b.width / 2, bottom + 2, '4 3') for b in BOXES if b.lines[0] in FED]
    found.append(arrow(_LAST.x + _LAST.width / 2, bottom, _LAST.x + _LAST.width / 2, y - 2))
    return found


def figure() -> str:
    x, y, width, height = CHECKPOINT
    lanes = [text(80, top + LANE_HEIGHT / 2 + 5, name, 15, LINE, 'bold', 'end') for name, top in LANES.items()]
    legend = []
    left = 90
    for name, colour in LAYERS.items():
        legend.append(f'<rect x="{left}" y="408" width="16" height="16" rx="3" fill="{colour}"/>')
        legend.append(text(left + 22, 421, name, 13, LINE, anchor='start'))
        left += 50 + 8 * len(name)
    return '\n'.join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" role="img" '
        'aria-label="Data flow of the live node, replay and training through the same steps">',
        '<!-- Generated by tools/architecture_figure.py (make architecture). Do not edit. -->',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>',
        *lanes, *arrows(), *map(box, BOXES),
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{LAYERS["model/"]}"/>',
        text(x + width / 2, y + 19, 'checkpoint', 14, weight='bold'),
        text(x + width / 2, y + 35,
             'architecture and weights, preprocessing, class names, calibration (temperatures, tau)', 12),
        *legend, '</svg>', ''))


if __name__ == '__main__':
    FIGURE.write_text(figure(), encoding='utf-8')
    print(f'wrote {FIGURE}', file=sys.stderr)
