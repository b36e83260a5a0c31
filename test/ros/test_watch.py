"""The example that prints results and events."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from live_nodes import wait_until
from rclpy.qos import qos_profile_sensor_data

from vit_tactile_ros.inference.touch_events import EventKind
from vit_tactile_ros.msg import TactileClassification, TouchEvent

WATCH = Path(__file__).parents[2] / 'examples' / 'watch.py'


@pytest.fixture
def watch(tmp_path):
    """Its process and log, on the topics of the sensor left."""
    log = tmp_path / 'watch.log'
    with log.open('wb') as file:
        process = subprocess.Popen([sys.executable, str(WATCH), '--ros-args', '-r', 'tactile:=/left/tactile', '-r',
                                    'touch_event:=/left/touch_event'], stdout=file, stderr=subprocess.STDOUT)
    yield process, log
    process.kill()
    process.wait(10)


def test_results_and_every_event_by_name(client, watch):
    process, log = watch
    results = client.create_publisher(TactileClassification, '/left/tactile', qos_profile_sensor_data)
    events = client.create_publisher(TouchEvent, '/left/touch_event', 10)
    wait_until(lambda: results.get_subscription_count() and events.get_subscription_count(), lambda: 'subscriptions')
    for kind in EventKind:
        events.publish(TouchEvent(kind=int(kind), touch=3, class_name='edge', confidence=0.97))
    lines = lambda: log.read_text().splitlines()  # noqa: E731
    wait_until(lambda: len(lines()) == len(EventKind), lambda: f'the events: {lines()}')
    assert lines() == [f'touch 3: {kind.name} edge 0.97' for kind in EventKind]

    def has_both() -> bool:  # results are best effort, so one may be lost
        results.publish(TactileClassification(sensor='left', class_name='edge', confidence=0.92, exit_block=4))
        results.publish(TactileClassification(sensor='left', class_name='no_contact', confidence=0.95, exit_index=-1))
        return {'left: edge 0.92, block 4', 'left: no_contact 0.95, gate'} <= set(lines())

    wait_until(has_both, lambda: f'both results: {lines()}')
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0 and 'Traceback' not in log.read_text()
