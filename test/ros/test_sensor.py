"""Stamps, silence and the ledger of one sensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from live_nodes import image

from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.ros.diagnostics import sensor_status
from vit_tactile_ros.ros.messages import image_message
from vit_tactile_ros.ros.sensor import Sensor


@pytest.fixture
def sensor() -> Sensor:
    return Sensor('left', SensorFrames(Reference()))


def receive(sensor: Sensor, stamp: int, now: float = 1.0):
    return sensor.receive(image(stamp), now, lambda: 5_000_000_000)


def is_exact(sensor: Sensor) -> bool:
    return sensor.received == (sensor.classified + sensor.superseded + sensor.rejected.total() + sensor.paused
                               + sensor.pending)


def test_an_image_as_it_should_be(sensor):
    assert not any(receive(sensor, 1)) and not any(receive(sensor, 2))


def test_repeated_and_backward_stamps_are_told_apart(sensor):
    """An image published twice, or a driver that stamps in whole seconds, left no trace."""
    receive(sensor, 3)
    arrival = receive(sensor, 3)
    assert arrival.has_same_stamp and arrival.backwards_by == 0.0
    assert [cause for cause, _ in arrival.warnings()] == ['repeated']
    arrival = receive(sensor, 1)
    assert arrival.backwards_by == 2.0 and not arrival.has_same_stamp
    assert (sensor.stamps_repeated, sensor.stamps_backwards) == (1, 1)


def test_a_missing_stamp_is_not_a_repeated_one(sensor):
    for _ in range(2):
        arrival = receive(sensor, 0)
    assert arrival.has_no_stamp and not arrival.has_same_stamp
    assert (sensor.missing_stamps, sensor.stamps_repeated) == (2, 0)
    assert sensor.waiting.received_ns == 5_000_000_000


@pytest.mark.parametrize(('stamp', 'clock', 'age', 'warning'), [
    (100, 101, 1.0, ''),
    (100, 90, -10.0, ''),  # the clock of another machine
    (7, 1_700_000_000, 1_700_000_000 - 7, ''),  # old, not unknown
    (0, 100, None, ''),  # warned of when it came
    (1_700_000_000, 0, None, 'no /clock was received'),
    (1_700_000_000, 12, None, '1699999988 s ahead of the clock'),
])
def test_age(sensor, stamp, clock, age, warning):
    """image_age of -1.8e9 s where the node has simulated time and the images do not."""
    receive(sensor, stamp)
    found, text = sensor.age(sensor.take(), clock * 10**9)
    assert found == age and warning in text and bool(warning) == bool(text)
    assert sensor.unknown_ages == bool(warning)


def test_silence_is_reported_once_and_ends(sensor):
    assert sensor.silence(10.0, 1.0) is None, 'no image yet is another thing'
    receive(sensor, 1, now=10.0)
    assert sensor.silence(10.5, 1.0) is None
    assert sensor.silence(11.5, 1.0) == 1.5
    assert sensor.silence(12.5, 1.0) is None
    assert receive(sensor, 2, now=13.0).silent_for == 3.0
    assert receive(sensor, 3, now=13.1).silent_for == 0.0
    assert sensor.silences == 1


def test_ledger(sensor):
    """Whatever happens to an image, it is counted once."""
    for stamp in (1, 2, 3):
        receive(sensor, stamp)
    assert sensor.take() is not None
    receive(sensor, 4)
    assert is_exact(sensor) and sensor.pending == 2
    sensor.finish(4, 0.1, 2.0)
    sensor.abandon('internal error')  # finished: nothing to abandon
    assert is_exact(sensor) and not sensor.rejected
    assert sensor.take() is not None
    sensor.abandon('internal error')
    sensor.abandon('internal error')
    assert sensor.take() is None
    assert is_exact(sensor) and sensor.pending == 0
    assert sensor.rejected == {'internal error': 1} and (sensor.classified, sensor.superseded) == (1, 2)


def test_paused_images_are_in_the_ledger(sensor):
    """An image that waits when the pause begins, and images during it, that are classified later or not counted."""
    receive(sensor, 1)
    sensor.pause(True)
    receive(sensor, 2)
    assert (sensor.paused, sensor.pending, sensor.waiting) == (2, 0, None) and is_exact(sensor)
    sensor.pause(False)
    receive(sensor, 3)
    assert sensor.waiting.stamp_ns == 3_000_000_000 and is_exact(sensor)


def test_capture_is_refused_while_something_touches():
    """Also for a camera of 1 Hz; called again it is only confirmed if the reference itself is reported."""
    gel = np.random.default_rng(0).integers(60, 180, (48, 64, 3)).astype(np.uint8)
    pressed = gel.copy()
    pressed[10:20, 10:20] += 40
    sensor = Sensor('left', SensorFrames(Reference(1, gel), PreprocessingConfig(image_size=(48, 64),
                                                                                reference='difference')))
    for second, seen in enumerate((gel, pressed), start=1):
        message = image_message(seen, image(second).header)
        sensor.receive(message, float(second), lambda: 0)
        sensor.frames.update(message, second * 10**9)
    for now in (2.9, 2.95, 3.5):
        assert 'release it' in sensor.refuses_capture(now)
    assert not sensor.refuses_capture(5.0)  # no image since: nothing is known
    sensor.frames.monitor.restart()
    for second in range(3, 9):
        sensor.receive(message, float(second), lambda: 0)
        sensor.frames.monitor.check(pressed, second * 10**9)
    assert 'call it again within 10 s' in sensor.refuses_capture(8.1)
    assert not sensor.refuses_capture(8.2)


def test_the_values_of_diagnostics_are_documented(tmp_path):
    """Tools read them by name: those that are always there, and those that come with images, exits and a store."""
    guide = (Path(__file__).parents[2] / 'docs' / 'guides' / 'ros.md').read_text(encoding='utf-8')
    config = PreprocessingConfig(image_size=(48, 64), reference='difference')
    sensor = Sensor('left', SensorFrames(Reference(1), config, expects_grey=False))

    def keys() -> list[str]:
        return [value.key for value in sensor_status(sensor, 'tactile_classifier', None).values]

    always = keys()
    assert not {'image age p50 [ms]', 'colour', 'gated', 'reference stored at'} & set(always)
    sensor.frames.keep_in(tmp_path / 'left.reference.npz')
    for second, block in enumerate((4, 0), start=1):
        receive(sensor, second)
        sensor.frames.update(sensor.take().message, second)
        sensor.finish(block, 0.1, float(second))
    receive(sensor, 3)
    sensor.take()
    sensor.reject('unreadable')
    sensor.frames.stored_at = 1.0
    later = keys()
    assert set(always) <= set(later) and {'gated share', 'reference stored [s ago]', 'colour'} <= set(later)
    missing = [key for key in later if f'`{key}`' not in guide and not key.startswith('rejected: ')]
    assert not missing
    stamp = next(value.value for value in sensor_status(sensor, 'tactile_classifier', None).values
                 if value.key == 'reference stored at')
    assert stamp == '1970-01-01T00:00:01Z'
