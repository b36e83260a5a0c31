"""A contact that covers a small part of the image, cut out of the camera's image so that the network sees it enlarged.

A checkpoint asks for it (`PreprocessingConfig.zoom_below`). The part depends only on the image and its no-contact
reference, so that the live node, replay and training see the same; but an image of a sensor that its gate recognises as
untouched is never enlarged (`SensorFrames.update`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.preprocess import Window, camera_size, enlarge
from vit_tactile_ros.model import PreprocessingConfig

Image = NDArray[np.uint8]

ZOOMS = (1.5, 2.0, 3.0, 4.0)
# Of the strongest difference: weaker ones do not count. Below so many grey levels they may be noise or drift.
STRONG, NOISE = 0.3, 4.0
_SIDE, _PEAK = 96, 8  # the shorter side, px, at which differences are blurred by 1 px, and so many px are a peak


class Spot(NamedTuple):
    """Where the strong differences are."""

    row: float  # px of the fitted image, of their centre
    column: float
    spread: float  # share of the shorter side: root mean square distance from the centre, along one axis


class Closer(NamedTuple):
    """A part of the image, enlarged to the input's size."""

    image: Image  # (h, w, 3), in place of the fitted image
    reference: Image  # (h, w, 3), in place of the fitted reference
    zoom: float  # one of ZOOMS
    box: tuple[float, float, float, float]  # top, left, height, width of the part; shares of the fitted image, 0..1


class Search(NamedTuple):
    """What `search` found."""

    closer: Closer | None  # None: the network sees the whole image
    is_limited: bool  # a camera's image of more px would enlarge the contact more


def constants(config: PreprocessingConfig) -> dict[str, float | tuple[float, ...]] | None:
    """What a program needs that looks closer as `look_closer` does; None: it must not."""
    return {'below': config.zoom_below, 'to': config.zoom_to, 'zooms': ZOOMS, 'strong': STRONG, 'noise': NOISE,
            'side': _SIDE, 'peak': _PEAK} if config.zoom_below else None


def look_closer(image: Image, fitted: Image, reference: NDArray[np.floating] | Image, config: PreprocessingConfig,
                ) -> Closer | None:
    """As `search`."""
    return search(image, fitted, reference, config).closer


def search(image: Image, fitted: Image, reference: NDArray[np.floating] | Image, config: PreprocessingConfig) -> Search:
    """The part of a frame, uint8 (H, W, 3), around a small contact.

    fitted: the same frame after `preprocess.fit`; reference: fitted, (h, w, 3) in grey levels. The zoom is the smallest
    of ZOOMS with which the spread reaches `zoom_to`, but the part has at least as many px as the input; where that does
    not even bring the spread to `zoom_below`, the image stays whole. The reference of the part is interpolated from the
    fitted one, which follows drift and is what is stored; an untouched gel is smooth enough for that
    (docs/results/learning.md). Raises ValueError for other shapes.
    """
    if not config.zoom_below:
        return Search(None, False)
    if fitted.shape != reference.shape or fitted.shape != (*config.image_size, 3):
        raise ValueError(f'fitted is {fitted.shape} and reference {reference.shape}; must be {(*config.image_size, 3)}')
    spot = find_spot(fitted, reference)
    if spot is None or spot.spread >= config.zoom_below:
        return Search(None, False)
    (height, width), size = config.image_size, camera_size(image.shape, config)
    wanted = next((zoom for zoom in ZOOMS if zoom * spot.spread >= config.zoom_to), ZOOMS[-1])
    zoom = max((zoom for zoom in ZOOMS if zoom <= min(wanted, size[0] / height, size[1] / width)), default=0.0)
    if zoom * spot.spread < config.zoom_below:  # also where no zoom is possible
        return Search(None, wanted * spot.spread >= config.zoom_below)
    rows, columns = round(size[0] / zoom), round(size[1] / zoom)
    window = Window(_start((spot.row + 0.5) / height, rows, size[0]),
                    _start((spot.column + 0.5) / width, columns, size[1]), rows, columns)
    box = (window.top / size[0], window.left / size[1], rows / size[0], columns / size[1])
    return Search(Closer(enlarge(image, config, window), _interpolated(reference, box), zoom, box), zoom < wanted)


def find_spot(fitted: Image, reference: NDArray[np.floating] | Image) -> Spot | None:
    """The strong differences to the reference, anywhere in the image; None if they may be noise."""
    # Larger inputs are reduced first: a contact is searched for at 96 to 191 px.
    step = max(1, min(fitted.shape[:2]) // _SIDE)
    height, width = fitted.shape[0] // step, fitted.shape[1] // step
    planes = []
    for channel in range(3):  # each by itself: that is how a reference lies in memory
        still = np.ascontiguousarray(reference[..., channel], np.float32)
        now = cv2.extractChannel(fitted, channel)
        if step > 1:
            now, still = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in (now, still))
        planes.append(cv2.subtract(now, still, dtype=cv2.CV_32F))
    light = [_median(plane[2::4, 2::4]) for plane in planes]  # a change everywhere is not a contact
    least = NOISE / STRONG
    # No blurred difference is above the largest one, so nothing has to be blurred in most untouched images.
    if not any(abs(edge - light[c]) >= least for c in range(3) for edge in cv2.minMaxLoc(planes[c])[:2]):
        return None
    sigma = min(height, width) / _SIDE
    parts = [cv2.absdiff(cv2.GaussianBlur(planes[c], (0, 0), sigma), light[c]) for c in range(3)]
    strength = cv2.max(cv2.max(parts[0], parts[1]), parts[2])
    count = max(1, round(_PEAK * height * width / (_SIDE * _SIDE * 4 / 3)))
    peak = float(np.partition(strength, -count, axis=None)[-count])
    if STRONG * peak < NOISE:
        return None
    found = cv2.moments(np.maximum(strength - np.float32(STRONG * peak), 0))
    area = found['m00']
    spread = math.sqrt((found['mu20'] + found['mu02']) / area / 2)
    row = (found['m01'] / area + 0.5) * fitted.shape[0] / height - 0.5
    column = (found['m10'] / area + 0.5) * fitted.shape[1] / width - 0.5
    return Spot(row, column, spread / min(height, width))


def _median(values: NDArray[np.floating]) -> float:
    """The upper one of two."""
    return float(np.partition(values, values.size // 2, axis=None)[values.size // 2])


def _start(centre: float, length: int, whole: int) -> int:
    """First px of a part with this length around the centre, a share of the whole, that is inside."""
    return min(max(round(centre * whole - length / 2), 0), whole - length)


def _interpolated(reference: NDArray[np.floating] | Image, box: tuple[float, float, float, float]) -> Image:
    """The part of the fitted reference, (h, w, 3), rounded as references of training are."""
    height, width = reference.shape[:2]
    top, left, rows, columns = box
    # From px of the part to px of the reference; centres of px are at 0.5.
    map_ = np.array([[columns, 0, left * width + 0.5 * columns - 0.5], [0, rows, top * height + 0.5 * rows - 0.5]])
    part = cv2.warpAffine(np.ascontiguousarray(reference, np.float32), map_, (width, height),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
    return np.rint(part).astype(np.uint8)
