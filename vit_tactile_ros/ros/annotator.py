"""The annotated image of each sensor, drawn in a thread of its own while somebody subscribes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vit_tactile_ros.inference.annotation import Annotated, draw
from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.messages import image_message
from vit_tactile_ros.ros.topics import OVERRIDABLE_QOS, result_qos, topic

PERIOD = 1 / 15  # s between two images of a sensor


class Annotator:
    """Publishers `annotated` of all sensors, and the thread that draws for them.

    The classification thread calls `offer` after it has published its results; an image that is offered while another
    one is being drawn, or too early, is not drawn.
    """

    def __init__(self, node: LifecycleNode, sensors: list[str], guard: CallbackGuard) -> None:
        self._node = node
        self._guard = guard
        self._publishers = {name: node.create_lifecycle_publisher(Image, topic(name, 'annotated'), result_qos(),
                                                                  qos_overriding_options=OVERRIDABLE_QOS)
                            for name in sensors}
        self._next = dict.fromkeys(sensors, 0.0)  # monotonic s of the next image, or of the next look for subscribers
        self._jobs: queue.Queue[tuple[Header, Annotated] | None] = queue.Queue(len(sensors))
        self._thread: threading.Thread | None = None

    def offer(self, sensor: str, header: Header, content: Callable[[], Annotated]) -> None:
        """Draw an image if somebody subscribes and it is time for the next one."""
        now = time.monotonic()
        if now < self._next[sensor]:
            return
        # Of a fixed grid of times: at 30 Hz every second image is due, although images come at irregular times.
        self._next[sensor] = max(self._next[sensor] + PERIOD, now + PERIOD / 2)
        if not self._publishers[sensor].get_subscription_count():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name='annotation', daemon=True)
            self._thread.start()
        try:
            self._jobs.put_nowait((header, content()))
        except queue.Full:
            pass  # drawing is slower than the images

    def stop(self) -> None:
        """Draw what is waiting, then end the thread; `offer` starts another."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()

    def destroy(self) -> None:
        self.stop()
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._guard('the annotated image', self._publish)(*job)

    def _publish(self, header: Header, content: Annotated) -> None:
        self._publishers[content.sensor].publish(image_message(draw(content), header))
