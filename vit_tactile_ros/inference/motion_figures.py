"""How the gel of one sensor moves: optical flow on a coarse grid, and figures of it, image by image.

Three flows (OpenCV's DIS) end at the newest image: from those 0.08 s and 0.32 s before it, and from the no-contact
reference. Dots and imprint both move the flow; figures of the whole grid say little about where, so gels with another
print have similar ones.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.motion import Motion

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIZE = (96, 128)  # px, of the images between which flow is computed
GRID = (12, 16)  # cells
INTERVAL, VIEWS = 0.08, 3  # s; of the views 0.08, 0.16 and 0.32 s before, the middle one is not used
_FLOWS = ('fast', 'slow', 'reference')
_OF_FLOW = ('mean', 'size', 'largest', 'rest', 'largest_rest', 'turn', 'growth', 'shear', 'uneven', 'largest_uneven')
FIGURES = (
    *(f'{flow}_{name}' for flow in _FLOWS for name in _OF_FLOW), 'difference_mean', 'difference_median',
    'difference_large', 'difference_largest', 'fast_change_mean', 'fast_change_large', 'slow_change_mean',
    'slow_change_large', 'fast_along', 'slow_along')
_ROWS, _COLUMNS = np.mgrid[:GRID[0], :GRID[1]].astype(np.float32)
# An affine motion of the grid, in units of 8 cells: constant, along columns, along rows.
_AFFINE = np.stack([np.ones(GRID, np.float32), (_COLUMNS - (GRID[1] - 1) / 2) / 8, (_ROWS - (GRID[0] - 1) / 2) / 8],
                   axis=-1).reshape(-1, 3)
_FITTED = np.linalg.pinv(_AFFINE).T.astype(np.float32)  # (cells, 3)


class MotionMaps:
    """Maps of one sensor's images, (12, 12, 16) each: three flows (x, y; px), difference to the reference (r, g, b;
    largest of them without sign), change since 0.08 and 0.32 s before (grey levels). Not thread-safe.
    """

    def __init__(self) -> None:
        self._motion = Motion(INTERVAL, VIEWS)
        self._flows = [_flow() for _ in _FLOWS]

    def clear(self) -> None:
        """Forget the earlier images: the stream was interrupted."""
        self._motion.clear()

    def update(self, image: Image, stamp_ns: int, reference: NDArray[np.floating]) -> Floats:
        """image: uint8 RGB (h, w, 3), not to be changed afterwards; reference: of its size, in grey levels."""
        if image.shape[:2] != SIZE:
            image, reference = _resized(image), _resized(np.asarray(reference, np.float32))
        earlier = self._motion.update(image, stamp_ns)
        now = _grey(image)
        fast, slow = _grey(earlier[:, :, :3]), _grey(earlier[:, :, 6:])
        maps = np.empty((12, *GRID), np.float32)
        rest = _grey(np.clip(reference + np.float32(0.5), 0, 255).astype(np.uint8))
        for place, (flow, before) in enumerate(zip(self._flows, (fast, slow, rest), strict=True)):
            maps[2 * place:2 * place + 2] = _cells(flow.calc(before, now, None)).transpose(2, 0, 1)
        difference = image.astype(np.float32) - reference
        maps[6:9] = _cells(difference).transpose(2, 0, 1)
        maps[9] = _cells(np.abs(difference).max(axis=2))
        maps[10] = _cells(cv2.absdiff(now, fast).astype(np.float32))
        maps[11] = _cells(cv2.absdiff(now, slow).astype(np.float32))
        return maps


def figures_of(maps: NDArray[np.floating]) -> Floats:
    """`FIGURES` of each image, (N, 40), from maps (N, 12, 12, 16); logarithms of px and grey levels, with a sign."""
    maps = maps.astype(np.float32)
    count = len(maps)
    found: list[NDArray[np.floating]] = []
    means = []
    for first in (0, 2, 4):
        flow = maps[:, first:first + 2].reshape(count, 2, -1)
        mean = flow.mean(axis=2)
        size = np.sqrt((flow**2).sum(axis=1))
        rest = np.sqrt(((flow - mean[:, :, None])**2).sum(axis=1))
        affine = flow @ _FITTED  # (N, 2, 3)
        uneven = np.sqrt(((flow - affine @ _AFFINE.T)**2).sum(axis=1))
        found += [
            np.hypot(mean[:, 0], mean[:, 1]), size.mean(axis=1), _large(size), rest.mean(axis=1), _large(rest),
            np.abs(affine[:, 1, 1] - affine[:, 0, 2]), affine[:, 0, 1] + affine[:, 1, 2],
            np.hypot(affine[:, 0, 1] - affine[:, 1, 2], affine[:, 0, 2] + affine[:, 1, 1]), uneven.mean(axis=1),
            _large(uneven)]
        means.append(mean)
    difference = maps[:, 9].reshape(count, -1)
    found += [difference.mean(axis=1), _large(difference, 0.5), _large(difference), difference.max(axis=1)]
    for place in (10, 11):
        change = maps[:, place].reshape(count, -1)
        found += [change.mean(axis=1), _large(change)]
    fast, slow, total = means
    length = np.hypot(total[:, 0], total[:, 1]) + np.float32(0.05)
    found += [(fast * total).sum(axis=1) / length, (slow * total).sum(axis=1) / length]
    values = np.stack(found, axis=1).astype(np.float32)
    return np.sign(values) * np.log1p(np.abs(values) * 4)


def _large(values: Floats, share: float = 0.95) -> Floats:
    place = int(share * (values.shape[1] - 1))
    return np.partition(values, place, axis=1)[:, place]


def _flow() -> cv2.DISOpticalFlow:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow.setFinestScale(1)
    return flow


def _grey(image: Image) -> Image:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def _resized(image: NDArray) -> NDArray:
    return cv2.resize(np.ascontiguousarray(image), SIZE[::-1], interpolation=cv2.INTER_AREA)


def _cells(values: NDArray) -> NDArray:
    return cv2.resize(values, GRID[::-1], interpolation=cv2.INTER_AREA)
