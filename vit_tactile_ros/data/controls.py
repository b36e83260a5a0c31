"""Controls: inputs that do not show the touch, to measure what a network can predict without it.

A network that recognises an object from the reference, or from the border where nothing presses, has learned the
recording session. A result about touch is meaningful only as far as it is above these.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.data.touches import DataError, TouchTable


def references_as_images(table: TouchTable) -> TouchTable:
    """Every image replaced by its reference; raises DataError for a touch without one."""
    touches = []
    for touch in table.touches:
        if touch.reference is None:
            raise DataError(f'{touch.image}: has no reference; the control needs one for every image')
        touches.append(dataclasses.replace(touch, image=touch.reference, reference=None, previous=touch.reference))
    return dataclasses.replace(table, touches=tuple(touches))


class BorderOnly(Dataset[tuple[Tensor, Tensor, int]]):
    """`frames` with everything but the outer `border` (share of height and width) replaced by the reference."""

    def __init__(self, frames: Frames, border: float) -> None:
        self.frames = frames
        self.labels = getattr(frames, 'labels', None)  # where they are known beforehand, for classes drawn equally
        self.border = border

    def __len__(self) -> int:
        return len(self.frames)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        frame, reference, label = self.frames[index]
        top, left = (round(size * self.border) for size in frame.shape[:2])
        hidden = torch.zeros(frame.shape[:2], dtype=torch.bool)
        hidden[top:-top or None, left:-left or None] = True
        shown = reference.repeat(1, 1, frame.shape[2] // 3)  # in the image before, too
        return torch.where(hidden[..., None], shown, frame), reference, label
