"""The image of a sensor some time ago, from which the motion in the newest one is computed."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
FARTHEST = 2.5  # intervals: an older image does not show the motion of this moment
KEPT_PER_INTERVAL = 8


class Motion:
    """The few last images of one sensor with their stamps; gives for each new image the one that precedes it.

    That is the kept image whose stamp is nearest to `interval` before that of the new one. The difference is not scaled
    to the interval: a camera that is slower gives the image before, at most 2.5 intervals old.

    Without an earlier image the image itself is given, so the motion is zero: for the first image, after a gap of
    more than 2.5 intervals, and after a stamp that went back; both drop the images before and count in `gaps`.
    An image with the stamp of the one before is compared as that one was, and is not kept. At most one image per eighth
    of the interval is kept, and none that cannot be needed any more, so about ten whatever the rate.
    """

    def __init__(self, interval: float) -> None:
        """interval: in s, above 0."""
        self._interval = round(interval * 1e9)
        self._kept: deque[tuple[int, Image]] = deque()  # stamps in ns increase
        self._newest: int | None = None  # stamp of the last image, kept or not
        self.gaps = 0

    @property
    def farthest(self) -> float:
        """s from which an image is too old."""
        return FARTHEST * self._interval / 1e9

    def clear(self) -> None:
        """Forget all images: those that follow show another view."""
        self._kept.clear()
        self._newest = None

    def update(self, image: Image, stamp_ns: int) -> Image:
        """The image that precedes `image`, which must not be changed afterwards."""
        kept, newest = self._kept, self._newest
        if newest is not None and not newest <= stamp_ns <= kept[-1][0] + FARTHEST * self._interval:
            self.gaps += 1
            kept.clear()
        self._newest = stamp_ns
        wanted = stamp_ns - self._interval
        while len(kept) > 1 and kept[1][0] <= wanted:  # the second one is nearer, also for all later images
            kept.popleft()
        previous = min((one for one in kept if one[0] < stamp_ns), key=lambda one: abs(one[0] - wanted),
                       default=(stamp_ns, image))[1]
        if not kept or stamp_ns - kept[-1][0] >= self._interval / KEPT_PER_INTERVAL:
            kept.append((stamp_ns, image))
        return previous
