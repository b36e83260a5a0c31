"""Touch events of the running node: the same as offline, and what ends them."""

from __future__ import annotations

import numpy as np
from live_nodes import Client, image

from vit_tactile_ros.inference.touch_events import EventKind, TouchTracker
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.msg import TouchEvent
from vit_tactile_ros.ros.messages import image_message
from vit_tactile_ros.simulator import GELSIGHT, SensorUnit, sample_contact

STEP = 40_000_000  # ns


def listen(client: Client) -> list[TouchEvent]:
    events: list[TouchEvent] = []
    client.create_subscription(TouchEvent, '/touch_event', client._collect(events), 100)
    return events


def send(client: Client, results: list, images: list[np.ndarray], first: int = 0,
         frame_id: str = 'finger_1', begin: int = 10**9) -> None:
    """One after the other, each when the result of the one before has come; stamped at 25 Hz from `begin` ns on."""
    for number, picture in enumerate(images, first):
        header = image(1).header
        header.frame_id = frame_id
        header.stamp.sec, header.stamp.nanosec = divmod(begin + number * STEP, 10**9)
        client.result_of(image_message(picture, header), results)


def touch(frames: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    unit = SensorUnit(GELSIGHT, rng)
    contact = sample_contact('ring', GELSIGHT, rng, depth_fraction=0.8)
    return [unit.render(c, rng) for c in [None] * frames + [contact] * frames + [None] * frames]


def test_the_events_are_those_of_the_results(classifier, client):
    """Onset, class and release of one touch, each once, as the tracker makes them of the published predictions."""
    classifier(checkpoint=shipped_checkpoint())
    results, events = client.listen(), listen(client)
    send(client, results, touch())
    client.wait(lambda: len(events) >= 3, 'three events')
    assert [e.kind for e in events] == [TouchEvent.ONSET, TouchEvent.CLASS_SETTLED, TouchEvent.RELEASE]
    assert [e.class_name for e in events] == ['ring'] * 3 and {e.touch for e in events} == {1}
    names = load_checkpoint(shipped_checkpoint()).class_names
    tracker, expected = TouchTracker(names, 3), []
    for r in results:
        stamp = r.header.stamp.sec * 10**9 + r.header.stamp.nanosec
        expected += tracker.update(stamp, np.asarray(r.probabilities), r.exit_index)
    for event, offline in zip(events, expected, strict=True):
        assert event.header.stamp.sec * 10**9 + event.header.stamp.nanosec == offline.stamp
        assert event.first_stamp.sec * 10**9 + event.first_stamp.nanosec == offline.first_stamp
        assert (event.confidence, event.frames) == (np.float32(offline.confidence), offline.frames)
        assert list(event.exits) == list(offline.exits) and event.header.frame_id == 'finger_1'
    assert events[0].first_stamp.sec * 10**9 + events[0].first_stamp.nanosec == 10**9 + 12 * STEP


def test_interrupted(classifier, client):
    """By deactivation, and by a gap between the images. The next activation counts from 1.

    The event of a deactivation had no frame_id, that of a gap the frame_id of the image after it.
    """
    classifier(checkpoint=shipped_checkpoint())
    results, events = client.listen(), listen(client)
    images = touch()
    send(client, results, images[:24])
    client.wait(lambda: len(events) >= 2, 'onset and class')
    assert client.change_state('deactivate')
    client.wait(lambda: len(events) >= 3, 'the interruption')
    assert [e.kind for e in events] == [EventKind.ONSET, EventKind.CLASS_SETTLED, EventKind.INTERRUPTED]
    assert client.change_state('activate')
    send(client, results, images[:24], first=100)
    client.wait(lambda: len(events) >= 5, 'the events of the next touch')
    assert (events[3].kind, events[3].touch) == (TouchEvent.ONSET, 1)
    send(client, results, images[:1], first=200, frame_id='finger_2')
    client.wait(lambda: len(events) >= 6, 'the second interruption')
    assert events[5].kind == TouchEvent.INTERRUPTED
    for event, last in ((events[2], 23), (events[5], 123)):
        assert event.header.stamp.sec * 10**9 + event.header.stamp.nanosec == 10**9 + last * STEP
        assert event.header.frame_id == 'finger_1'


def test_a_checkpoint_without_no_contact(classifier, client, tiny_checkpoint):
    """It has no events, and classifies as before."""
    classifier(checkpoint=tiny_checkpoint)
    results = client.listen()
    client.send_until(image(), lambda: results, 'a result')
    assert client.count_publishers('/touch_event') == 0


def test_stamps_before_1970(classifier, client):
    """A clock that was never set: the events, too, cope with it."""
    classifier(checkpoint=shipped_checkpoint())
    results, events = client.listen(), listen(client)
    send(client, results, touch(8)[:16], begin=-10**12)
    client.wait(lambda: events, 'an event')
    assert events[0].kind == TouchEvent.ONSET and events[0].first_stamp.sec < 0
