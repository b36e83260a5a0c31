"""The images of a sensor some time ago, from which the motion in the newest one is computed."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
FARTHEST = 2.5  # intervals: an older image does not show the motion of this moment
KEPT_PER_INTERVAL = 8


class Motion:
    """The last images of one sensor with their stamps; gives for each new image those that precede it.

    These are, for 1, 2, 4, ... intervals (one per view), the kept images whose stamps are nearest to that long before
    the new one. The difference is not scaled to the interval: a camera that is slower gives the image before, at most
    2.5 intervals old; where no image is as old as a view asks, the oldest one is given.

    Without an earlier image the image itself is given, so the motion is zero: for the first image, after a gap of
    more than 2.5 intervals, and after a stamp that went back; both drop the images before and count in `gaps`.
    An image with the stamp of the one before is compared as that one was, and is not kept. At most one image per eighth
    of the interval is kept, and none that cannot be needed any more: about ten with one view, whatever the rate, twice
    as many with each further one.
    """

    def __init__(self, interval: float, views: int = 1) -> None:
        """interval: in s, above 0; views: at least 1."""
        self._interval = round(interval * 1e9)
        self._ages = [self._interval * 2**view for view in range(views)]
        self._stamps: list[int] = []  # in ns, of the kept images; increase
        self._images: list[Image] = []
        self._newest: int | None = None  # stamp of the last image, kept or not
        self.gaps = 0
        self.step = 0.0  # s from the stamp of the last image but one to that of the last one

    @property
    def farthest(self) -> float:
        """s from which an image is too old."""
        return FARTHEST * self._interval / 1e9

    def clear(self) -> None:
        """Forget all images: those that follow show another view."""
        self._drop(len(self._stamps))
        self._newest = None

    def update(self, image: Image, stamp_ns: int) -> Image:
        """The images that precede `image`, (h, w, 3 * views), for one view without a copy.

        `image`, (h, w, 3), must not be changed afterwards.
        """
        stamps, newest = self._stamps, self._newest
        if newest is not None and not newest <= stamp_ns <= stamps[-1] + FARTHEST * self._interval:
            self.gaps += 1
            self._drop(len(stamps))
        self.step = 0.0 if newest is None else (stamp_ns - newest) / 1e9
        self._newest = stamp_ns
        oldest = stamp_ns - self._ages[-1]
        while len(stamps) > 1 and stamps[1] <= oldest:  # the second one is nearer, also for all later images
            self._drop(1)
        earlier = bisect_left(stamps, stamp_ns)
        views = [self._nearest(stamp_ns - age, earlier) if earlier else image for age in self._ages]
        if not stamps or stamp_ns - stamps[-1] >= self._interval / KEPT_PER_INTERVAL:
            stamps.append(stamp_ns)
            self._images.append(image)
        return views[0] if len(views) == 1 else np.concatenate(views, axis=2)

    def _nearest(self, stamp_ns: int, count: int) -> Image:
        """Among the oldest `count` images, at least one; the older one of two that are as near."""
        at = bisect_left(self._stamps, stamp_ns, 0, count)
        if at == count or (at and stamp_ns - self._stamps[at - 1] <= self._stamps[at] - stamp_ns):
            at -= 1
        return self._images[at]

    def _drop(self, count: int) -> None:
        del self._stamps[:count], self._images[:count]
