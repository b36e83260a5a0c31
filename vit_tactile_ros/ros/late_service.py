"""A service that responds later, while other callbacks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.service import Service


def late_service(node: Node, service_type: type, name: str,
                 callback: Callable[[Callable[[Any], None]], None]) -> Service:
    """`callback` gets a function that sends the response, to be called once, in the executor's thread.

    A callback that is a coroutine could wait too, but the events executor of rclpy 7.1 does not run those of services.
    """
    service = node.create_service(service_type, name, lambda _request, response: response)
    send = service.send_response
    service.send_response = (  # type: ignore[method-assign]
        lambda response, header: callback(lambda late: send(late, header)))
    return service
