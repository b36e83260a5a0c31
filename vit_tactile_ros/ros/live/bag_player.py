"""A process that plays the images of a bag over DDS like cameras, with their original headers.

Started by `ros.live.replay` with its settings as JSON. It publishes on the sensors' topics at the recorded times
divided by the speed. The last line that it prints has the counts.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from array import array
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vit_tactile_ros.data.bags.recording import Recording, stamp_of
from vit_tactile_ros.data.prefetch import Prefetch
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.start import init_ros
from vit_tactile_ros.ros.subscribers import wait_for_subscribers
from vit_tactile_ros.ros.transport import publisher_profile

WAIT = 30.0  # s for the node to be found
RESULT_TIMEOUT = 5.0  # s for each image of the reference


def to_ros(message: Any, stamp: int) -> Image | CompressedImage:
    """A message of a bag as an rclpy message; `stamp` in ns replaces the header's, which may be missing."""
    header = Header(frame_id=message.header.frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
    data = array('B', bytes(memoryview(message.data)))
    if hasattr(message, 'format'):
        return CompressedImage(header=header, format=message.format, data=data)
    return Image(header=header, height=message.height, width=message.width, encoding=message.encoding,
                 is_bigendian=message.is_bigendian, step=message.step, data=data)


class Player:
    """The publishers of one bag's sensors, and a subscription to the node's results."""

    def __init__(self, order: dict[str, Any]) -> None:
        with publisher_profile():
            self._node = rclpy.create_node('bag_player', namespace=order['namespace'])
        self._received: set[tuple[str, int, int]] = set()
        self._arrival = threading.Condition()
        # Reliable and with a queue: images should be lost only in the node, not here.
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
        kind, name = (CompressedImage, 'image_raw/compressed') if order['compressed'] else (Image, 'image_raw')
        self.publishers = {topic: self._node.create_publisher(kind, f'{sensor}/{name}'.strip('/'), qos)
                           for topic, sensor in order['sensors'].items()}
        for topic, sensor in order['sensors'].items():
            self._node.create_subscription(TactileClassification, f'{sensor}/tactile'.strip('/'),
                                           partial(self._on_result, topic), qos)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            rclpy.spin(self._node)

    def _on_result(self, topic: str, result: TactileClassification) -> None:
        with self._arrival:
            self._received.add((topic, result.header.stamp.sec, result.header.stamp.nanosec))
            self._arrival.notify_all()

    def wait_for_node(self) -> None:
        if not wait_for_subscribers(self.publishers.values(), timeout=WAIT):
            raise SystemExit(f'bag_player: the node was not found within {WAIT:g} s')

    def close(self) -> None:
        """Join the thread: rclpy aborts the process if the executor is running at exit."""
        rclpy.try_shutdown()
        self._thread.join(WAIT)

    def publish_and_wait(self, topic: str, message: Image | CompressedImage) -> None:
        """Publish an image and wait for its result, or RESULT_TIMEOUT seconds if the node rejects it."""
        key = (topic, message.header.stamp.sec, message.header.stamp.nanosec)
        self.publishers[topic].publish(message)
        with self._arrival:
            self._arrival.wait_for(lambda: key in self._received, RESULT_TIMEOUT)


def main(order: dict[str, Any]) -> None:
    """Play a bag; `order` has the settings.

    bag: path; sensors: topic in the bag to sensor; compressed: type of the images; start and stop: ns or null; speed:
    relative to the recorded one; limit: maximum number of images, or null; reference_frames: number of first images of
    each sensor that are sent one by one, each after the previous result, so that none is superseded; namespace: of the
    topics.
    """
    init_ros()
    player = Player(order)
    player.wait_for_node()
    gathered = dict.fromkeys(order['sensors'], 0)
    sent, paced, late, begun, first, last = 0, 0, 0.0, 0.0, 0, 0
    with Recording(Path(order['bag'])) as recording:
        prepared = Prefetch(_prepared(recording, order), 30)
        for topic, received, message in prepared:
            if order['limit'] is not None and paced >= order['limit']:
                break
            sent += 1
            if gathered[topic] < order['reference_frames']:
                gathered[topic] += 1
                player.publish_and_wait(topic, message)
                if begun:  # the playback clock was paused meanwhile
                    begun = time.monotonic() - (received - first) / 1e9 / order['speed']
                continue
            if not begun:
                begun, first = time.monotonic(), received
            wait = begun + (received - first) / 1e9 / order['speed'] - time.monotonic()
            late = max(late, -wait)
            time.sleep(max(0.0, wait))
            player.publishers[topic].publish(message)
            paced += 1
            last = received
        prepared.close()
    time.sleep(0.5)  # a publisher that is destroyed drops unsent messages
    print(json.dumps({'sent': sent, 'paced': paced, 'seconds': (last - first) / 1e9 / order['speed'], 'latest': late}))
    player.close()


def _prepared(recording: Recording, order: dict[str, Any]) -> Any:
    for found in recording.messages(order['sensors'], order['start'], order['stop']):
        try:
            message = recording.deserialise(found)
        except DataError:  # reported by the offline replay
            continue
        yield found.topic, found.received, to_ros(message, stamp_of(message, found))


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
