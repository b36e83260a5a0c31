"""Blank images, and a driver that repeats an old image."""

from __future__ import annotations

import numpy as np
import pytest

from vit_tactile_ros.inference.stream_monitor import FROZEN_AFTER, StreamMonitor

GEL = np.random.default_rng(0).integers(60, 180, (96, 128, 3), np.uint8)


def causes(notes) -> list[str]:
    return [note.cause for note in notes]


@pytest.mark.parametrize(('image', 'is_blank'), [
    (np.zeros_like(GEL), True), (np.full_like(GEL, 255), True), (np.full_like(GEL, 90), True),
    (np.where(np.arange(128)[:, None] < 2, GEL, 0), True),  # two lit columns
    (np.where(np.arange(128)[:, None] < 6, GEL, 0), False), (GEL, False)])
def test_blank_images_are_counted(image, is_blank):
    """A light that is off: a confident class of a black image, and no word about it."""
    monitor = StreamMonitor()
    notes = monitor.check(image.astype(np.uint8), 1, 0.0)
    assert (causes(notes), monitor.blank_images) == (['blank'] * is_blank, int(is_blank))


def test_a_frozen_stream_is_counted():
    """A driver that repeats its last image: "classifying", and the class of a touch that had ended."""
    monitor = StreamMonitor()
    times = np.arange(0.0, FROZEN_AFTER + 1.0, 0.1)
    found = [causes(monitor.check(GEL.copy(), 1 + round(1e9 * now), now)) for now in times]
    assert found[:20] == [[]] * 20 and found[22:] == [['frozen']] * len(found[22:])
    assert monitor.frozen_images == sum(map(bool, found))
    assert causes(monitor.check(GEL ^ 1, 10**10, times[-1] + 0.1)) == []
    assert causes(monitor.check(GEL, 2 * 10**10, times[-1] + 0.2)) == []


def test_a_message_that_is_sent_again_is_not_frozen():
    """Equal stamps are counted elsewhere."""
    monitor = StreamMonitor()
    assert [causes(monitor.check(GEL, 5, now)) for now in (0.0, 3.0, 6.0)] == [[]] * 3


def test_one_equal_image_after_a_gap_is_not_frozen():
    """A process that was stopped for some seconds, and a camera with little noise."""
    monitor = StreamMonitor()
    assert [causes(monitor.check(GEL, stamp, now)) for stamp, now in ((1, 0.0), (2, 0.1), (3, 9.0))] == [[]] * 3


def test_a_stream_that_starts_again_is_not_frozen():
    monitor = StreamMonitor()
    monitor.check(GEL, 1, 0.0)
    monitor.forget()
    assert causes(monitor.check(GEL, 2, 100.0)) == []
