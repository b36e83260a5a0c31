"""Other nodes of the same name, which share this one's services, parameters and results."""

from __future__ import annotations

import time

from rclpy.node import Node

from vit_tactile_ros.ros.throttle import ThrottledLog

PERIOD = 2.0  # s between two checks of the graph


class Namesakes:
    """Counts the nodes with this node's name, at most every PERIOD s; `problem` is empty while there is only one."""

    def __init__(self, node: Node, throttled: ThrottledLog) -> None:
        self.problem = ''
        self._node = node
        self._throttled = throttled
        self._next = 0.0

    def look(self) -> None:
        """Cheap enough for every report: the middleware already knows the others."""
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
        self.problem = (f'{count} nodes are called {self._node.get_fully_qualified_name()}: a request may reach any '
                        'of them, and their results are mixed; give each its own namespace (-r __ns:=/left), or stop '
                        'the others (a killed one is listed for up to 20 s)')
        self._throttled.warning('namesakes', self.problem)
