"""Draws what the network saw and predicted for one image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.classifier import Decision
from vit_tactile_ros.inference.closer import Closer

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]  # RGB

PANEL = 232  # px, width of the two images, and their largest height
MARGIN = 8
BARS = 3  # classes shown
ROW, BAR = 24, 20  # px, distance and height of the class bars
WIDTH = 2 * PANEL + 3 * MARGIN
GAIN = 4  # of the difference: contacts change an image by 5 to 60 grey levels
_BACKGROUND, _PANEL_COLOUR, _TRACK = (24, 26, 30), (38, 41, 47), (52, 56, 64)
_TEXT, _FAINT, _FIRST, _OTHER, _TOUCH = (236, 238, 242), (150, 156, 166), (66, 165, 245), (84, 110, 140), (255, 167, 38)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Annotated:
    """Everything that is drawn."""

    whole: Image  # fitted, RGB (h, w, 3)
    image: Image  # what the network saw: the same, or an enlarged part of it
    reference: NDArray[Any] | None  # of that, (h, w, 3) in grey levels; None: not used
    decision: Decision
    class_names: Sequence[str]
    exits: Sequence[int]  # blocks
    age: float | None  # s from the image to its result; None: not drawn
    touch: str  # state of the touch; empty if it is not followed
    sensor: str
    closer: Closer | None = None  # where the part is; None: the whole image


def draw(content: Annotated) -> Image:
    """RGB (height, WIDTH, 3): image, difference to the reference as the network saw it, the most
    probable classes, exit, latency, touch.

    The height depends on the proportions of the image, at most 340 px: less than the 512 kB of Fast DDS.
    """
    height, width = content.whole.shape[:2]
    panel = min(round(PANEL * height / width), PANEL)
    top = MARGIN + 16
    canvas = np.empty((top + panel + 2 * MARGIN + BARS * ROW - (ROW - BAR), WIDTH, 3), np.uint8)
    _box(canvas, 0, 0, WIDTH, len(canvas), _BACKGROUND)
    right = 2 * MARGIN + PANEL
    _text(canvas, content.sensor or 'image', (MARGIN, top - 5), _FAINT)
    zoomed = f', zoom {content.closer.zoom:g}' if content.closer else ''
    _text(canvas, f'difference x{GAIN}{zoomed}', (right, top - 5), _FAINT)
    shown = _place(canvas[top:top + panel, MARGIN:MARGIN + PANEL], content.whole)
    if content.closer is not None:
        y, x, rows, columns = (round(share * side) for share, side in zip(
            content.closer.box, (*shown.shape[:2], *shown.shape[:2]), strict=True))
        cv2.rectangle(shown, (x, y), (x + columns - 1, y + rows - 1), _TOUCH, 1)
    if content.reference is None:
        _box(canvas, right, top, PANEL, panel, _PANEL_COLOUR)
        _text(canvas, 'no reference', (right + 70, top + panel // 2), _FAINT)
    else:
        _place(canvas[top:top + panel, right:right + PANEL], _amplified(content.image, content.reference))
    below = top + panel + MARGIN
    _bars(canvas, content, MARGIN, below)
    _facts(canvas, content, right, below)
    return canvas


def side_by_side(contents: Sequence[Annotated]) -> Image:
    """RGB: each drawn, in rows of at most 3; at least one."""
    drawn = [draw(content) for content in contents]
    columns = min(3, len(drawn))
    empty = np.full_like(drawn[0], _BACKGROUND)
    drawn += [empty] * (-len(drawn) % columns)
    return np.vstack([np.hstack(drawn[at:at + columns]) for at in range(0, len(drawn), columns)])


def _amplified(image: Image, reference: NDArray[Any]) -> Image:
    """Grey where nothing differs."""
    return np.clip(GAIN * (image.astype(np.float32) - reference) + 128, 0, 255).astype(np.uint8)


def _place(panel: Image, image: Image) -> Image:
    """Fit an image into a part of the canvas, with its proportions; where it is then, a view."""
    height, width = image.shape[:2]
    scale = min(panel.shape[0] / height, panel.shape[1] / width)
    size = min(round(width * scale), panel.shape[1]), min(round(height * scale), panel.shape[0])
    if size != (panel.shape[1], panel.shape[0]):
        _box(panel, 0, 0, panel.shape[1], panel.shape[0], _PANEL_COLOUR)
    y, x = (panel.shape[0] - size[1]) // 2, (panel.shape[1] - size[0]) // 2
    shown = panel[y:y + size[1], x:x + size[0]]
    shown[:] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA)
    return shown


def _bars(canvas: Image, content: Annotated, left: int, top: int) -> None:
    probabilities = content.decision.probabilities
    order = (-probabilities).argsort(kind='stable')[:BARS].tolist()
    for row, index in enumerate(order):
        y = top + row * ROW
        share = float(probabilities[index])
        share = min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
        _box(canvas, left, y, PANEL, BAR, _TRACK)
        _box(canvas, left, y, round(share * PANEL), BAR, _FIRST if row == 0 else _OTHER)
        _text(canvas, content.class_names[index][:20], (left + 6, y + ROW - 10), _TEXT)
        _text(canvas, f'{share:.2f}', (left + PANEL - 38, y + ROW - 10), _TEXT)


def _facts(canvas: Image, content: Annotated, left: int, top: int) -> None:
    """The blocks that ran, the threshold, the latency and the touch."""
    decision = content.decision
    gap = 4
    width = (PANEL - gap * (len(content.exits) - 1)) / len(content.exits)
    for number, block in enumerate(content.exits):
        x = round(left + number * (width + gap))
        ran = block <= decision.exit_block
        _box(canvas, x, top, round(width), BAR, _FIRST if ran else _TRACK)
        _text(canvas, f'block {block}' if width > 60 else f'{block}', (x + 6, top + ROW - 10),
              _TEXT if ran else _FAINT)
    tau = f'tau {decision.tau[decision.exit_index]:.2f}' if 0 <= decision.exit_index < len(decision.tau) else ''
    if decision.exit_block == 0:
        tau = 'exit: gate'
    if content.age is not None:
        _text(canvas, f'{1e3 * content.age:.1f} ms', (left + 6, top + 2 * ROW - 10), _TEXT)
    _text(canvas, tau, (left + (6 if content.age is None else PANEL // 2), top + 2 * ROW - 10), _FAINT)
    if content.touch:
        touches = content.touch != 'no_contact'
        y = top + 2 * ROW
        _box(canvas, left, y, PANEL, BAR, _TOUCH if touches else _TRACK)
        _text(canvas, f'touch: {content.touch}' if touches else 'no contact', (left + 6, y + ROW - 10),
              _BACKGROUND if touches else _FAINT)


def _box(canvas: Image, left: int, top: int, width: int, height: int, colour: Colour) -> None:
    """Filled; by OpenCV, since numpy takes 2 ms for it, in which nothing else runs."""
    if width > 0:
        cv2.rectangle(canvas, (left, top), (left + width - 1, top + height - 1), colour, cv2.FILLED)


def _text(canvas: Image, text: str, place: tuple[int, int], colour: Colour) -> None:
    cv2.putText(canvas, text, place, _FONT, 0.42, colour, 1, cv2.LINE_AA)
