"""The driver node `tactile_camera`: a USB camera, a video or a folder of images as `image_raw`, with capture times."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vit_tactile_ros.foundation.words import counted
from vit_tactile_ros.ros.camera.devices import CameraError, existing, find
from vit_tactile_ros.ros.camera.parameters import RULES, SOURCES, declared
from vit_tactile_ros.ros.camera.reader import NOT_OPENED, CameraReader
from vit_tactile_ros.ros.camera.sources import (
    DEFAULT_RATE,
    Frame,
    Frames,
    Pace,
    device_frames,
    folder_frames,
    held_back,
    stored_rate,
    video_frames,
)
from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.messages import image_message
from vit_tactile_ros.ros.run import run_node
from vit_tactile_ros.ros.start import StartError
from vit_tactile_ros.ros.status import status_of
from vit_tactile_ros.ros.subscribers import wait_for_subscribers
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.topics import OVERRIDABLE_QOS, image_qos, topic
from vit_tactile_ros.ros.transport import publisher_profile

LOW_RATE = 0.8  # of the rate asked for: below it is a warning
LAST_MESSAGES = 0.5  # s from the end of a video to that of the node: a publisher that ends drops unsent messages


class TactileCameraNode(Node):
    """Publishes what its reader reads, and reports its state."""

    def __init__(self, **kwargs: Any) -> None:
        """Raises StartError naming the parameter that is wrong."""
        super().__init__('tactile_camera', **kwargs)
        values, self._profile = declared(self)
        throttled = ThrottledLog(self.get_logger())
        self._source = next(f'{name} {values[name]}' for name in SOURCES if values[name])
        self._frame_id = values['frame_id'] or values['camera_name'] or 'tactile_sensor'
        self._rate = self._profile.rate
        self._size = ''
        self._known = 0, 0
        self._waits = False
        open_frames = (self._files(Path(values['video']).expanduser(), values) if values['video'] else
                       self._device(find, values['serial']) if values['serial'] else
                       self._device(existing, values['device']))
        self._images = self.create_publisher(Image, topic(values['camera_name'], 'image_raw'), image_qos(),
                                             qos_overriding_options=OVERRIDABLE_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._reader = CameraReader(open_frames, self._publish, throttled)
        self.create_timer(values['diagnostics_period'], CallbackGuard(throttled)('diagnostics', self._report),
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._reader.start()
        self.get_logger().info(f'{self._source} with profile {values["profile"]} on {self._images.topic_name}')

    @property
    def failure(self) -> str:
        return self._reader.failure

    @property
    def is_done(self) -> bool:
        """Whether the video has ended."""
        return self._reader.has_ended

    def _device(self, look_up: Callable[[str], Path], name: str) -> Callable[[Callable[[float], bool]], Frames]:
        """Looks the device up at every attempt: it may come back under another device number."""
        return lambda _: device_frames(lambda: look_up(name), self._profile,
                                       lambda text: self.get_logger().warning(text))

    def _files(self, path: Path, values: dict[str, Any]) -> Callable[[Callable[[float], bool]], Frames]:
        """Opens a video or folder, which has to be there at the start."""
        try:
            stored = stored_rate(path)
        except CameraError as error:
            raise StartError(f'video: {error}; must be a video file, or a folder of images') from error
        # A profile's rate is that of its camera; a video has its own recorded rate.
        self._rate = values['rate'] or stored or self._profile.rate or DEFAULT_RATE
        frames = folder_frames if path.is_dir() else video_frames

        def opened(wait: Callable[[float], bool]) -> Frames:
            pace = Pace(self._rate, wait)
            found = frames(path, self._profile, values['loop'], pace)
            return held_back(found, lambda: self._await_subscriber(wait), pace) if not self._reader.images else found
        return opened

    def _await_subscriber(self, wait: Callable[[float], bool]) -> None:
        """A file has a start, which the first subscriber must not miss: the untouched gel, for a classifier."""
        self._waits = True
        self.get_logger().info(f'waits for a subscriber of {self._images.topic_name} before the first image')
        wait_for_subscribers([self._images], wait)
        self._waits = False

    def _publish(self, frame: Frame) -> None:
        """Called by the reader, in its thread."""
        age = time.monotonic() - frame.captured
        stamp = Time(nanoseconds=max(0, self.get_clock().now().nanoseconds - round(1e9 * age)))
        self._size = f'{frame.image.shape[1]}x{frame.image.shape[0]}'
        self._images.publish(image_message(frame.image, Header(stamp=stamp.to_msg(), frame_id=self._frame_id), 'bgr8'))

    def _report(self) -> None:
        reader = self._reader
        rate, last = reader.rate(), reader.last_image()
        values = {'source': self._source, 'images': reader.images, 'failed reads': reader.failed_reads,
                  'reconnects': reader.reconnects, 'rate [Hz]': f'{rate:.1f}', 'rate asked for [Hz]': f'{self._rate:g}',
                  'size': self._size}
        if last is not None:
            values['last image [s ago]'] = f'{time.monotonic() - last:.2f}'
        failed, reconnected = reader.failed_reads - self._known[0], reader.reconnects - self._known[1]
        self._known = reader.failed_reads, reader.reconnects
        errors: list[str] = [reader.failure] if reader.failure else []
        warnings: list[str] = []
        if self._waits:
            pass  # no images, as intended
        elif reader.problem and not reader.has_ended:
            (warnings if reader.problem == NOT_OPENED else errors).append(reader.problem)
        elif failed or reconnected:
            warnings.append(f'since the last report: failed reads {failed}, reconnects {reconnected}')
        elif rate < LOW_RATE * self._rate and not reader.has_ended:
            warnings.append(f'{rate:.1f} images per second instead of {self._rate:g}')
        name = self.get_fully_qualified_name().lstrip('/')
        self._diagnostics.publish(DiagnosticArray(
            header=Header(stamp=self.get_clock().now().to_msg()), status=[status_of(
                f'{name}: camera', values, errors, warnings,
                f'waits for a subscriber of {self._images.topic_name}' if self._waits else
                'the video has ended' if reader.has_ended else 'publishing', self._source)]))

    def finish(self) -> None:
        self._reader.stop()
        if self.is_done:
            self.get_logger().info(f'{self._source} has ended after {counted(self._reader.images, "image")}')
        self._report()
        if self.is_done:
            time.sleep(LAST_MESSAGES)
        self.destroy_node()


def _create() -> TactileCameraNode:
    with publisher_profile():
        return TactileCameraNode()


def main(args: list[str] | None = None) -> int:
    """Run until stopped or a video ends; returns the status, see `run_node`."""
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its warnings at every attempt to reconnect
    return run_node(_create, tuple(RULES), args)


if __name__ == '__main__':
    sys.exit(main())
