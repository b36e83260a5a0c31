"""For launch files: a node that is started again when it ends, except after a mistake in its settings."""

from __future__ import annotations

from typing import Any

from launch.actions import OpaqueFunction, PopLaunchConfigurations, PushLaunchConfigurations, TimerAction
from launch_ros.actions import Node

MISTAKE = 2  # exit status for wrong parameters or a wrong checkpoint, with which a restart would fail again
DELAY = 2.0  # s


class _ScopedNode(Node):
    """Remembers the namespace, remappings and parameters of the group that it is in."""

    scope: dict[str, Any]

    def execute(self, context: Any) -> Any:
        self.scope = dict(context.launch_configurations)
        return super().execute(context)


def restarted_node(executable: str, name: str = '', **settings: Any) -> Node:
    """An executable of this package; its name is the default of `name`.

    `settings` are those of launch_ros.actions.Node. Its parameter `respawn` restarts whatever the exit status is.
    """
    def restart(event: Any, context: Any) -> TimerAction | None:
        if event.returncode == MISTAKE or context.is_shutdown:
            return None
        # The group that the node was started in has ended by now.
        return TimerAction(period=DELAY, actions=[
            PushLaunchConfigurations(), OpaqueFunction(function=restore),
            restarted_node(executable, name, **settings), PopLaunchConfigurations()])

    def restore(context: Any) -> None:
        context.launch_configurations.update(node.scope)

    node = _ScopedNode(package='vit_tactile_ros', executable=executable, name=name or executable,
                       output='screen', emulate_tty=True, on_exit=restart, **settings)
    return node
