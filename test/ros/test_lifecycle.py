"""What a failed transition logs."""

from __future__ import annotations

import gc

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import Header

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.ros.lifecycle import ExplainingLifecycleNode


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
