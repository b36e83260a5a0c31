"""The example of a controller, with the simulated sensor: contact, slip, a firmer grip, and opening."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from live_nodes import wait_until
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Float64
from std_srvs.srv import Trigger
from test_reflex import SLIP_NODE

from vit_tactile_ros.inference.touch_events import STATES, TouchTracker
from vit_tactile_ros.model import shipped_checkpoint
from vit_tactile_ros.msg import TactileClassification, TactileLabel, TouchEvent
from vit_tactile_ros.ros.messages import event_message

CONTROLLER = Path(__file__).parents[2] / 'examples' / 'grasp_controller.py'
TOPIC = 'slip/touch_event'


@pytest.fixture
def controller(tmp_path):
    with (tmp_path / 'controller.log').open('wb') as log:
        process = subprocess.Popen([sys.executable, str(CONTROLLER)], stdout=log, stderr=subprocess.STDOUT)
    yield process
    process.terminate()
    process.wait(10)


def test_wrong_forces_end_it_with_one_line():
    """holding_force 30 with largest_force 20 commanded 30 N, and loosened to 20 N on slip; NaN passed."""
    ended = subprocess.run([sys.executable, str(CONTROLLER), '--ros-args', '-p', 'holding_force:=30.0'],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        'grasp_controller.py: closing_force is 2, holding_force 30 and largest_force 20 N; '
        'must be above 0, finite, and in rising order']


@pytest.mark.parametrize(('value', 'told'), [
    ('30', 'closing_force is 2, holding_force 30 and largest_force 20 N'),
    ('hard', "holding_force is 'hard'; must be a number")])
def test_a_force_without_a_decimal_point_is_a_number(value, told, tmp_path):
    """`holding_force: 5` in a file: one line about the types of rclpy."""
    file = tmp_path / 'forces.yaml'
    file.write_text(f'/**:\n  ros__parameters:\n    holding_force: {value}\n')
    ended = subprocess.run([sys.executable, str(CONTROLLER), '--ros-args', '--params-file', str(file)],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and told in ended.stderr and len(ended.stderr.splitlines()) == 1


def publish_events_of_labels(client) -> None:
    """A detector that is always right: the events of the true states. The shipped network still misses some slips."""
    publisher = client.create_publisher(TouchEvent, TOPIC, 10)
    results = client.create_publisher(TactileClassification, 'slip/tactile', 10)
    tracker = TouchTracker(STATES, 1)

    def on_label(label: TactileLabel) -> None:
        stamp = label.header.stamp.sec * 10**9 + label.header.stamp.nanosec
        row = np.where(np.array(STATES) == label.class_name, 0.97, 0.01)
        results.publish(TactileClassification(header=label.header))
        for event in tracker.update(stamp, row, 0):
            publisher.publish(event_message(event, '', '', STATES))

    client.create_subscription(TactileLabel, 'label', on_label, 100)


def test_it_tightens_until_the_object_no_longer_slips(start, client, controller):
    """And it closes and opens on request."""
    forces, labels, events = [], [], []
    client.create_subscription(Float64, 'gripper/force', lambda m: forces.append(m.data), 100)
    client.create_subscription(TactileLabel, 'label', labels.append, 100)
    client.create_subscription(TouchEvent, TOPIC, events.append, 100)
    wait_until(lambda: forces, lambda: 'the controller')
    publish_events_of_labels(client)
    simulator = start('simulator_node', activity='handling')
    # Before there is a subscriber, without which nothing touches.
    simulator.wait_for_output('a gripper holds the object now')
    client.create_subscription(Image, 'image_raw', lambda _: None, qos_profile_sensor_data)
    wait_until(lambda: len(labels) > 20, lambda: 'labels')
    assert client.call(Trigger, '/grasp_controller/close', Trigger.Request()).success
    kinds = lambda: [event.kind for event in events]  # noqa: E731
    wait_until(lambda: TouchEvent.SLIP_ENDED in kinds(), lambda: f'the end of a slip: {kinds()}, forces {forces[-5:]}')
    began = kinds().index(TouchEvent.SLIP_BEGAN)
    assert kinds()[:began + 2] == [TouchEvent.ONSET, TouchEvent.SLIP_BEGAN, TouchEvent.SLIP_ENDED]
    assert 4.0 < forces[-1] <= 20.0 and max(forces[:10]) == 0.0
    assert labels[-1].class_name in ('stable', 'moving') and labels[-1].depth > 0
    assert client.call(Trigger, '/grasp_controller/open', Trigger.Request()).success
    wait_until(lambda: TouchEvent.RELEASE in kinds(), lambda: f'the release: {kinds()}')
    wait_until(lambda: labels[-1].class_name == 'no_contact' and forces[-1] == 0.0, lambda: 'an open gripper')


def test_with_the_shipped_slip_detector(start, client, controller):
    """It saw a touch on the untouched gel, so that the real one had no onset, and found no slip.

    The test did not wait until the nodes had found each other, which takes Fast DDS up to 3 s: the simulator touched
    the gel by itself before the first command, or the reference was captured while the gripper held the object.
    """
    labels, events = [], []
    client.create_subscription(TactileLabel, 'label', labels.append, 100)
    client.create_subscription(TouchEvent, TOPIC, events.append, 100)
    simulator = start('simulator_node', activity='handling', seed=1)
    simulator.wait_for_output('a gripper holds the object now')
    detector = start('classifier_node', *SLIP_NODE, checkpoint=shipped_checkpoint('tactile_slip.safetensors'),
                     engine='torch')
    detector.wait_for_output('no-contact reference captured')
    results = client.listen('slip/tactile')
    wait_until(lambda: len(results) > 76, lambda: 'the 2.5 s before which no slip begins')
    kinds = lambda: [event.kind for event in events if event.kind != TouchEvent.LOST]  # noqa: E731
    assert kinds() == [], 'a touch before the gripper closes'
    assert client.call(Trigger, '/grasp_controller/close', Trigger.Request()).success
    wait_until(lambda: TouchEvent.SLIP_ENDED in kinds(), lambda: f'the end of a slip: {kinds()}')
    assert kinds()[:3] == [TouchEvent.ONSET, TouchEvent.SLIP_BEGAN, TouchEvent.SLIP_ENDED]
    onset = next(event for event in events if event.kind == TouchEvent.ONSET).first_stamp
    truth = next(label.header.stamp for label in labels if label.class_name != 'no_contact')
    assert abs(onset.sec - truth.sec + (onset.nanosec - truth.nanosec) / 1e9) < 0.2
    count = len(labels)  # while the pull grows, it may slip once more
    wait_until(lambda: len(labels) > count + 60 and {m.class_name for m in labels[-60:]} <= {'stable', 'moving'},
               lambda: f'two seconds in which the object is held: {kinds()}, {labels[-1].class_name}')
    assert kinds().count(TouchEvent.SLIP_BEGAN) <= 4, 'a grip that holds after a few slips'
