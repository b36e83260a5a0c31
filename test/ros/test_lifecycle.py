"""What a failed transition logs."""

from __future__ import annotations

import pytest
from rclpy.lifecycle import TransitionCallbackReturn

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
