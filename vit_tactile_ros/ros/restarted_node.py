"""For launch files: a node that is started again when it ends, except after a mistake in its parameters."""

from __future__ import annotations

from typing import Any

from launch.actions import TimerAction
from launch_ros.actions import Node

MISTAKE = 2  # exit status for wrong parameters, with which a restart would fail again
DELAY = 2.0  # s


def restarted_node(executable: str, name: str = '', **settings: Any) -> Node:
    """An executable of this package; its name is the default of `name`.

    `settings` are those of launch_ros.actions.Node. Its parameter `respawn` restarts whatever the exit status is.
    """
    def restart(event: Any, context: Any) -> TimerAction | None:
        is_final = event.returncode == MISTAKE or context.is_shutdown
        return None if is_final else TimerAction(period=DELAY, actions=[restarted_node(executable, name, **settings)])

    return Node(package='vit_tactile_ros', executable=executable, name=name or executable,
                output='screen', emulate_tty=True, on_exit=restart, **settings)
