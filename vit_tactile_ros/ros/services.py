"""The services of the classifier: `capture_reference` of every sensor, `enable` and `reload_checkpoint`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.service import Service
from rclpy.timer import Timer
from std_srvs.srv import SetBool, Trigger

from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.late_service import late_service
from vit_tactile_ros.ros.reload import CheckpointReload
from vit_tactile_ros.ros.running import Running, adopt, load_beside
from vit_tactile_ros.ros.sensor import Sensor
from vit_tactile_ros.ros.topics import ENABLE_SERVICE, RELOAD_SERVICE, capture_service
from vit_tactile_ros.ros.worker import HangError

RELOAD_POLL = 0.1  # s between two looks at a checkpoint that is being loaded
JOIN_LIMIT = 5.0  # s for checkpoints that are being loaded when the node ends


class NodeServices:
    """They exist while the node is configured, from `create` to `destroy`."""

    def __init__(self, node: Node, guard: CallbackGuard) -> None:
        self._node = node
        self._guard = guard
        self._services: list[Service] = []
        self._timer: Timer | None = None
        self._reloads: list[CheckpointReload] = []  # those whose threads have not ended, and the newest

    def create(self, running: Running) -> None:
        node, guard = self._node, self._guard
        for sensor in running.sensors:
            self._services.append(node.create_service(Trigger, capture_service(sensor.name), guard(
                'capture_reference', partial(self._capture_reference, running, sensor), _internal_error)))
        self._services += [
            node.create_service(SetBool, ENABLE_SERVICE, guard('enable', partial(self._enable, running),
                                                               _internal_error)),
            late_service(node, Trigger, RELOAD_SERVICE, guard(
                'reload_checkpoint', partial(self._reload_checkpoint, running),
                lambda error, respond: respond(_internal_error(error, None, Trigger.Response()))))]
        # Steady: simulated time may stand still. One that exists already also runs when there is no memory for another.
        self._timer = node.create_timer(RELOAD_POLL, guard('reload_checkpoint', self._poll_reloads),
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy(self) -> None:
        """A reload that is running fails."""
        for reload in self._reloads:
            reload.cancel('not reloaded: the node was cleaned up')
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        for service in self._services:
            self._node.destroy_service(service)
        self._services.clear()

    def join(self) -> None:
        """Before the process ends, which should not happen while a checkpoint is being loaded: one that hangs has
        JOIN_LIMIT, all together."""
        end = time.monotonic() + JOIN_LIMIT
        for reload in self._reloads:
            if not reload.join(max(0.0, end - time.monotonic())):
                self._node.get_logger().error(f'a checkpoint is still being loaded after {JOIN_LIMIT:g} s; the node '
                                              'ends without it')

    def _capture_reference(self, running: Running, sensor: Sensor, _request: Trigger.Request,
                           response: Trigger.Response) -> Trigger.Response:
        name = self._node.get_fully_qualified_name()
        if not running.classifier.needs_reference:
            response.success, response.message = False, 'this checkpoint uses no reference'
        elif running.worker is None:
            response.success, response.message = False, (
                f'this node is inactive and receives no images: ros2 lifecycle set {name} activate, then call this '
                'service again')
        elif sensor.is_paused:
            response.success, response.message = False, (
                f'this node is paused: ros2 service call {name}/enable std_srvs/srv/SetBool "{{data: true}}", then '
                'call this service again')
        elif refusal := sensor.refuses_capture(time.monotonic()):
            response.success, response.message = False, refusal
        else:
            sensor.frames.request_recapture()
            response.success = True
            response.message = (f'the next {sensor.frames.reference.num_frames} frames become the reference: '
                                'touch nothing')
        return response

    def _enable(self, running: Running, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        for sensor in running.sensors:
            sensor.pause(not request.data)
        response.success = True
        response.message = 'images are classified' if request.data else 'paused: images are counted, not classified'
        if not request.data and running.worker is not None:
            try:
                with running.worker.held():  # the image being classified still counts
                    for outputs in running.outputs.values():
                        outputs.interrupt()
            except HangError as error:  # the next image then interrupts a touch that is in progress
                response.message += f'; {error}'
        self._node.get_logger().info(response.message)
        return response

    def _reload_checkpoint(self, running: Running, respond: Callable[[Trigger.Response], None]) -> None:
        if any(reload.is_running for reload in self._reloads):
            respond(Trigger.Response(success=False, message='the checkpoint is being loaded already'))
            return

        def finish(success: bool, message: str) -> None:
            running.reload_failed = not success
            running.last_reload = message
            respond(Trigger.Response(success=success, message=message))

        # A reload that was cancelled may still be loading.
        self._reloads = [reload for reload in self._reloads if not reload.join(0.0)]
        self._reloads.append(CheckpointReload(self._node, partial(load_beside, running, running.classifier),
                                              partial(adopt, running), finish))

    def _poll_reloads(self) -> None:
        for reload in self._reloads:
            reload.poll()


def _internal_error(error: Exception, _request: Any, response: Any) -> Any:
    response.success, response.message = False, f'internal error, see the log of the node: {error}'
    return response
