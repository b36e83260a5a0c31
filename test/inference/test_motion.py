"""Which earlier image the motion of an image is the difference to, by their stamps."""

import numpy as np
import pytest

from vit_tactile_ros.inference.motion import Motion

MS = 1_000_000


def images(count: int) -> list[np.ndarray]:
    return [np.full((2, 3, 3), number, np.uint8) for number in range(count)]


def previous(motion: Motion, times: list[float]) -> list[int]:
    """The number of the image that each image at these times, in ms, is compared with."""
    return [int(motion.update(image, round(time * MS))[0, 0, 0]) for image, time in zip(images(len(times)), times)]


@pytest.mark.parametrize(('times', 'wanted'), (
    # 30 Hz: the first two have no image 80 ms ago, only nearer ones; then the one 66.7 ms before, not 100 ms.
    ([0, 33.3, 66.7, 100, 133.3, 166.7], [0, 0, 0, 1, 2, 3]),
    ([0, 40, 80, 120, 160], [0, 0, 0, 1, 2]),  # 25 Hz: exactly 80 ms
    ([0, 150, 300, 500], [0, 0, 1, 2]),  # slower than the interval: the one before, up to 200 ms old
    ([0, 30, 85, 95, 100], [0, 0, 0, 0, 1]),  # uneven: the nearest to 5, 15 and 20 ms
    ([0, 50, 251, 281], [0, 0, 2, 2]),  # a gap of 201 ms: a start
    ([0, 50, 250, 280], [0, 0, 1, 2]),  # 200 ms is not one
    ([100, 150, 120, 160, 190], [0, 0, 2, 2, 2]),  # a stamp that goes back: a start
    ([0, 40, 80, 80, 80, 120], [0, 0, 0, 0, 0, 1]),  # repeated: as the first one of that stamp
    ([0, 0, 0, 40], [0, 1, 2, 0]),  # repeated at the start: none of them moves
), ids=str)
def test_the_image_before(times, wanted):
    """The wrong neighbour, an image that is not older, or one from before a gap: motion where nothing moved."""
    assert previous(Motion(0.08), times) == wanted


@pytest.mark.parametrize(('times', 'wanted'), (
    # 25 Hz: 80, 160 and 320 ms before; as far back as there are images at the start
    (range(0, 440, 40), [(0, 0, 0)] * 3 + [(1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 2, 0), (5, 3, 0), (6, 4, 0), (7, 5, 1),
                                           (8, 6, 2)]),
    ([0, 150, 300, 450, 500], [(0, 0, 0), (0, 0, 0), (1, 1, 0), (2, 2, 1), (3, 2, 1)]),  # slower than the interval
    ([0, 80, 160, 400, 480], [(0, 0, 0), (0, 0, 0), (1, 0, 0), (3, 3, 3), (3, 3, 3)]),  # a gap: a start of all views
), ids=str)
def test_several_images_before(times, wanted):
    """A view of another time, of the newest image at the start, or of an image from before a gap."""
    motion, found = Motion(0.08, 3), []
    for image, time in zip(images(len(times)), times):
        views = motion.update(image, round(time * MS))
        assert views.shape == (2, 3, 9) and not np.ptp(views, axis=(0, 1)).any()
        found.append(tuple(int(views[0, 0, 3 * view]) for view in range(3)))
    assert found == wanted


def test_gaps_are_counted():
    motion = Motion(0.08)
    previous(motion, [0, 40, 300, 340, 100, 140])
    assert motion.gaps == 2
    motion.clear()
    previous(motion, [9000, 9040])
    assert motion.gaps == 2  # another view is a start


@pytest.mark.parametrize(('views', 'kept'), ((1, 10), (4, 66)))
def test_a_flood_keeps_few_images(views, kept):
    """1,000 Hz for 2 s: 2,000 images in memory, or a search through all of them for each image."""
    motion, most = Motion(0.08, views), 0
    for number in range(2000):
        image = np.full((1, 1, 3), number % 256, np.uint8)
        before = motion.update(image, number * MS)
        most = max(most, len(motion._images))
        if number >= 80:
            assert abs((number - int(before[0, 0, 0])) % 256 - 80) <= 5  # 10 ms apart, so at most 5 ms off
    assert most <= kept
