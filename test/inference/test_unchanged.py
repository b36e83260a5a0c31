"""Which touched images show the same as the one before, so that its result still holds."""

from types import SimpleNamespace

import numpy as np
import pytest

from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.inference.unchanged import LONGEST
from vit_tactile_ros.model import PreprocessingConfig

CONFIG = PreprocessingConfig(image_size=(48, 64), reference='difference')
STEP = 40_000_000  # ns


class Stream:
    """A sensor whose noise is 1 grey level, with a square press of so many grey levels."""

    def __init__(self, **settings) -> None:
        self.frames = SensorFrames(Reference(), CONFIG, **{'finds_unchanged': True} | settings)
        self.stamp, self._rng = 0, np.random.default_rng(0)
        self.see(*[0.0] * 30)

    def see(self, *presses: float, step: int = STEP) -> list[bool]:
        """Whether each image is unchanged."""
        found = []
        for press in presses:
            image = self._rng.normal(100, 1, (48, 64, 3))
            image[16:32, 16:32] += press
            data = image.clip(0, 255).round().astype(np.uint8)
            self.stamp += step
            found.append(self.frames.update(SimpleNamespace(
                height=48, width=64, encoding='rgb8', is_bigendian=0, step=192, data=data.tobytes()),
                self.stamp).is_unchanged)
        return found


def test_a_held_touch_is_unchanged_and_a_growing_one_is_not():
    """The result of an earlier image for one that shows something else."""
    stream = Stream()
    assert stream.see(40, 40, 40, 60, 60) == [False, True, True, False, True]


def test_a_slow_change_adds_up():
    """Each image close to the one before, the last one far from the one whose result is repeated."""
    found = Stream().see(40, *np.arange(40, 52, 1.0), step=STEP // 4)
    assert found[1] and not all(found[1:])


def test_a_result_is_not_repeated_for_long():
    """An image that the network judged wrongly, repeated for the whole grasp."""
    stream = Stream()
    found = np.array(stream.see(*[40] * 40))
    again = np.flatnonzero(~found)
    assert again[0] == 0 and np.diff(again).max() <= LONGEST * 1e9 / STEP + 1 and len(again) >= 3


@pytest.mark.parametrize('between', ([0], [0, 0, 0]))
def test_a_new_touch_is_judged_anew(between):
    """The result of a touch for the next one, which looks alike."""
    stream = Stream()
    assert stream.see(40, 40) == [False, True]
    assert stream.see(*between, 40, 40) == [False] * len(between) + [False, True]


def test_untouched_images_and_those_of_the_reference_are_never_unchanged():
    """The result of a touch for an image without one."""
    stream = Stream()
    assert not any(stream.see(*[0.0] * 20))
    stream.see(40, 40)
    stream.frames.request_recapture()
    assert not any(stream.see(*[40.0] * 5))


def test_a_stamp_that_goes_back_and_a_network_with_motion():
    """A negative age that counts as recent; motion that is over although the touch is the same."""
    stream = Stream()
    stream.see(40, 40)
    stream.stamp -= 10 * STEP
    assert stream.see(40) == [False]
    assert not any(Stream(motion=(0.08, 1)).see(40, 40, 40))
    assert not any(Stream(finds_unchanged=False).see(40, 40, 40))


def test_stamps_that_stand_still():
    """A driver that stamps every image alike: one result for ever, since no time seemed to pass."""
    stream = Stream()
    assert not any(stream.see(*[40] * 5, step=0))
