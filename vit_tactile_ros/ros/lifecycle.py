"""A lifecycle node that logs why a transition failed, where rclpy logs nothing or ends the process."""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import EventHandler
from rclpy.exceptions import InvalidParameterValueException, NameValidationException, ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos_overriding_options import InvalidQosOverridesError
from rclpy.waitable import Waitable

from vit_tactile_ros.foundation.errors import PassingError, UserError
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

    is_mistaken = False  # the last transition failed by its settings, with which it would fail again

    @cached_property
    def default_callback_group(self) -> ForgettingGroup:
        return ForgettingGroup()

    @property
    def waitables(self) -> Iterator[Waitable]:
        """Without the QoS events, which `QosEvents` takes instead of the executor."""
        return (waitable for waitable in super().waitables if not isinstance(waitable, EventHandler))

    def qos_event_handlers(self) -> list[EventHandler]:
        """Of the publishers and subscriptions that exist now."""
        return [waitable for waitable in super().waitables if isinstance(waitable, EventHandler)]

    def transition(self, name: str, step: Callable[[], object], undo: Callable[[], object] | None = None,
                   ) -> TransitionCallbackReturn:
        """SUCCESS. If `step` raises: FAILURE after `undo`, or ERROR without one, which `on_error` handles.

        rclpy would swallow the exception.
        """
        self.is_mistaken = False
        try:
            step()
            return TransitionCallbackReturn.SUCCESS
        except Exception as error:
            # These may pass: a full disk; the folder of the checkpoint is not mounted yet; a GPU that is out of memory.
            # A file that is missing in a folder that exists, or has the wrong content, is a mistake.
            self.is_mistaken = isinstance(error, USERS_ERRORS) and not isinstance(error, (OSError, PassingError))
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
