"""A lifecycle node that logs why a transition failed, where rclpy logs nothing or ends the process."""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.exceptions import InvalidParameterValueException, NameValidationException, ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos_overriding_options import InvalidQosOverridesError

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.ros.start import reason_of

RCLError = rclpy_implementation.RCLError
USERS_ERRORS = (UserError, OSError, ParameterException, InvalidParameterValueException, NameValidationException,
                InvalidQosOverridesError)


class ForgettingGroup(MutuallyExclusiveCallbackGroup):
    """The default of rclpy keeps an entry for every timer, subscription and event that was destroyed."""

    def add_entity(self, entity: Any) -> None:
        self.entities.add(weakref.ref(entity, self.entities.discard))


class ExplainingLifecycleNode(LifecycleNode):
    """Runs the steps of transitions and logs their exceptions."""

    @cached_property
    def default_callback_group(self) -> ForgettingGroup:
        return ForgettingGroup()

    def transition(self, name: str, step: Callable[[], object], undo: Callable[[], object] | None = None,
                   ) -> TransitionCallbackReturn:
        """SUCCESS. If `step` raises: FAILURE after `undo`, or ERROR without one, which `on_error` handles.

        rclpy would swallow the exception.
        """
        try:
            step()
            return TransitionCallbackReturn.SUCCESS
        except Exception as error:
            self._explain(name, error)
            if undo is None:
                return TransitionCallbackReturn.ERROR
            undo()
            return TransitionCallbackReturn.FAILURE

    def _explain(self, name: str, error: Exception) -> None:
        """With the place in the code, unless it is a mistake that the user can correct."""
        self.get_logger().error(f'cannot {name}: {reason_of(error)}' if isinstance(error, USERS_ERRORS) else
                                f'cannot {name}: {"".join(traceback.format_exception(error))}')

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        """As in rclpy, but a transition that is not possible now is refused; rclpy raises an exception.

        A manager that repeats a request would otherwise end the node and receive no response.
        """
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]
        except RCLError as error:
            self.get_logger().warning(f'transition {transition_id} is not possible now: {error}')
            return TransitionCallbackReturn.FAILURE
