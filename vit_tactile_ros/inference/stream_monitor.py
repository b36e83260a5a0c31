"""Whether the images of a sensor still show the gel: blank ones, and a driver that repeats an old image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.colour import is_blank
from vit_tactile_ros.inference.note import Note

Image = NDArray[np.uint8]

FROZEN_AFTER, FROZEN_IMAGES = 2.0, 4  # s, and images in a row; a camera has noise, so two equal images are rare


class StreamMonitor:
    """Counts the blank and the frozen images of one live sensor; both are classified all the same."""

    def __init__(self) -> None:
        self.blank_images = 0
        self.frozen_images = 0
        self.forget()

    def forget(self) -> None:
        """The next image follows a period without images."""
        self._last: Image | None = None
        self._last_stamp = 0
        self._since = 0.0  # s, monotonic; since then all images are equal
        self._equal = 0  # how many

    def check(self, image: Image, stamp_ns: int, now: float) -> list[Note]:
        """`image` is fitted, and must not be changed afterwards; `now` is monotonic time in s."""
        notes = []
        if is_blank(image):
            self.blank_images += 1
            notes.append(Note('blank', 'the image is blank (black, overexposed or of one brightness), so its '
                                       'prediction is unreliable, whatever its confidence. Check the light and the '
                                       'exposure'))
        # The first row first: it differs in nearly all images.
        is_equal = self._last is not None and np.array_equal(image[:1], self._last[:1]) and np.array_equal(
            image, self._last)
        if is_equal and stamp_ns == self._last_stamp:
            return notes  # a message that was sent twice; counted as a repeated stamp
        self._equal = self._equal + 1 if is_equal else 1
        if not is_equal:
            self._since = now
        elif self._equal >= FROZEN_IMAGES and now - self._since > FROZEN_AFTER:
            self.frozen_images += 1
            notes.append(Note('frozen', f'frozen: the images have been identical for {now - self._since:.1f} s, '
                                        'although their stamps change, so the predictions are those of an old image. '
                                        'Restart the driver, or plug the sensor in again'))
        self._last, self._last_stamp = image, stamp_ns
        return notes
