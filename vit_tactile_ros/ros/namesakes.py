"""Other nodes of the same name, which share this one's services, parameters and results."""

from __future__ import annotations

import time

from rclpy.node import Node

from vit_tactile_ros.ros.throttle import ThrottledLog

PERIOD = 2.0  # s between two looks at the graph


class Namesakes:
    """Counts the nodes of this one's name, at most every PERIOD s; `problem` is empty while it is the only one."""

    def __init__(self, node: Node, throttled: ThrottledLog) -> None:
        self.problem = ''
        self._node = node
        self._throttled = throttled
        self._next = 0.0

    def look(self) -> None:
        """Cheap enough for every report: asks the middleware, which has found the others long since."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PERIOD
        own = (self._node.get_name(), self._node.get_namespace())
        count = self._node.get_node_names_and_namespaces().count(own)
        if count <= 1:
            self.problem = ''
            return
        # A process that was killed is in the graph until its lease ends.
        self.problem = (f'{count} nodes are called {self._node.get_fully_qualified_name()}: requests reach any of '
                        'them, and their results mix; give each its namespace (-r __ns:=/left), or end the others (one '
                        'that was killed is listed for up to 20 s more)')
        self._throttled.warning('namesakes', self.problem)
