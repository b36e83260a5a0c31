"""What a failed transition logs."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from live_nodes import wait_until
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import Header

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import load_checkpoint
from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.lifecycle import ExplainingLifecycleNode
from vit_tactile_ros.ros.qos_events import QosEvents
from vit_tactile_ros.ros.throttle import ThrottledLog


@pytest.mark.parametrize(('error', 'is_bug'), [(ValueError('operands could not be broadcast'), True),
                                               (UserError('tau is 7'), False)])
def test_a_bug_has_a_traceback_and_a_mistake_has_not(client, capfd, error, is_bug):
    """A ValueError of NumPy or PyTorch was one line without the place in the code."""
    def step():
        raise error

    node = ExplainingLifecycleNode('lifecycle')
    assert node.transition('configure', step, lambda: None) == TransitionCallbackReturn.FAILURE
    node.destroy_node()
    logged = capfd.readouterr().err
    assert f'cannot configure: {"Traceback" if is_bug else error}' in logged
    assert ('in step' in logged) == is_bug and str(error) in logged


def load(path: Path) -> None:
    if path.name == 'junk':
        path.write_text('junk')
    load_checkpoint(path)


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(('step', 'is_mistaken'), [
    (lambda folder: fail(UserError('tau is 7')), True),
    (lambda folder: fail(ValueError('a bug')), False),
    (lambda folder: fail(OSError(28, 'No space left on device')), False),
    (lambda folder: load(Path(__file__).parent / 'none.safetensors'), True),
    (lambda folder: load(folder / 'none.safetensors'), False),  # an empty folder: of a disk that is not mounted
    (lambda folder: load(folder / 'junk'), True),
    (lambda folder: load(folder / 'not_mounted' / 'one.safetensors'), False),
    (lambda folder: load(Path('/mnt/not_mounted/one.safetensors')), False),
    (lambda folder: load(Path(__file__).parent / 'typo' / 'one.safetensors'), True)])
def test_what_a_restart_may_cure(client, tmp_path, step, is_mistaken):
    """A checkpoint on a disk that is mounted a moment later ended the node for ever, and a typo in the name of its
    folder restarted it for ever."""
    node = ExplainingLifecycleNode('lifecycle')
    node.transition('configure', lambda: step(tmp_path), lambda: None)
    assert node.is_mistaken is is_mistaken
    node.transition('configure', lambda: None)
    assert not node.is_mistaken
    node.destroy_node()


def test_what_was_destroyed_is_forgotten(client):
    """Each activation left about 20 entries in the node's callback group, so that it grew for as long as it ran."""
    node = ExplainingLifecycleNode('lifecycle')
    before = len(node.default_callback_group.entities)
    for _ in range(3):
        node.destroy_timer(node.create_timer(1.0, print))
        node.destroy_subscription(node.create_subscription(Header, 'topic', print, 1))
        node.destroy_publisher(node.create_publisher(Header, 'topic', 1))
    gc.collect()
    assert len(node.default_callback_group.entities) == before > 0
    kept = node.create_timer(1.0, print)
    assert node.default_callback_group.has_entity(kept)
    node.destroy_node()


def test_qos_events_do_not_reach_the_executor(client):
    """A segmentation fault of rclpy's events executor, in about half of the runs of 25 s in which drivers came and went
    while the subscription was made again: an event was in its queue when its subscription was destroyed."""
    node = ExplainingLifecycleNode('lifecycle')
    guard = CallbackGuard(ThrottledLog(node.get_logger(), 0.0))
    QosEvents(node, guard)
    matched, calls = [], []

    def subscribe():
        return node.create_subscription(Header, 'topic', calls.append, 1, event_callbacks=SubscriptionEventCallbacks(
            matched=on_matched))

    def on_matched(status):
        matched.append(status.current_count)
        if len(matched) == 1:
            node.destroy_subscription(subscriptions.pop())  # in the callback of its own event
            subscriptions.append(subscribe())

    subscriptions = [subscribe()]
    assert len(node.qos_event_handlers()) >= 3 and not list(node.waitables)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    publisher = client.create_publisher(Header, 'topic', 1)

    def seen(expected):
        executor.spin_once(timeout_sec=0.1)
        return matched == expected

    wait_until(lambda: seen([1, 1]), lambda: f'an event of each subscription: {matched}')
    client.destroy_publisher(publisher)
    wait_until(lambda: seen([1, 1, 0]), lambda: f'the event of the publisher that left: {matched}')
    executor.remove_node(node)
    node.destroy_node()
    assert not guard.errors, guard.last_error
