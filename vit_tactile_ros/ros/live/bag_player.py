"""Plays the images of recordings over DDS as cameras would, with the headers that they have: a process of its own.

Started by `live_replay` with a JSON of what to play. It publishes on the sensors' topics at the recorded moments
divided by the speed, and prints as its last line what it sent.
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
from vit_tactile_ros.ros.transport import publisher_profile

WAIT = 30.0  # s for the node to be found
ANSWER = 5.0  # s for an image that the reference needs


def to_ros(message: Any, stamp: int) -> Image | CompressedImage:
    """A message of a bag as one of rclpy; `stamp` in ns, since the node can't answer to a header without one."""
    header = Header(frame_id=message.header.frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
    data = array('B', bytes(memoryview(message.data)))
    if hasattr(message, 'format'):
        return CompressedImage(header=header, format=message.format, data=data)
    return Image(header=header, height=message.height, width=message.width, encoding=message.encoding,
                 is_bigendian=message.is_bigendian, step=message.step, data=data)


class Player:
    """The publishers of one recording's sensors, and an ear for the node's answers."""

    def __init__(self, order: dict[str, Any]) -> None:
        with publisher_profile():
            self._node = rclpy.create_node('bag_player', namespace=order['namespace'])
        self._answered: set[tuple[str, int, int]] = set()
        self._answers = threading.Condition()
        # Reliable and with room: what is lost is to be lost in the node, not here.
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
        kind, name = (CompressedImage, 'image_raw/compressed') if order['compressed'] else (Image, 'image_raw')
        self.publishers = {topic: self._node.create_publisher(kind, f'{sensor}/{name}'.strip('/'), qos)
                           for topic, sensor in order['sensors'].items()}
        for topic, sensor in order['sensors'].items():
            self._node.create_subscription(TactileClassification, f'{sensor}/tactile'.strip('/'),
                                           partial(self._hear, topic), qos)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            rclpy.spin(self._node)

    def _hear(self, topic: str, result: TactileClassification) -> None:
        with self._answers:
            self._answered.add((topic, result.header.stamp.sec, result.header.stamp.nanosec))
            self._answers.notify_all()

    def wait_for_node(self) -> None:
        end = time.monotonic() + WAIT
        while not all(publisher.get_subscription_count() for publisher in self.publishers.values()):
            if time.monotonic() > end:
                raise SystemExit('bag_player: the node is not there')
            time.sleep(0.01)
        time.sleep(0.5)  # the subscriber has to know of us too, and says nothing of it

    def close(self) -> None:
        """End the thread first: rclpy aborts the process if its executor is cut off."""
        rclpy.try_shutdown()
        self._thread.join(WAIT)

    def publish_and_wait(self, topic: str, message: Image | CompressedImage) -> None:
        """Until the node has answered; an image that it rejects costs ANSWER seconds."""
        key = (topic, message.header.stamp.sec, message.header.stamp.nanosec)
        self.publishers[topic].publish(message)
        with self._answers:
            self._answers.wait_for(lambda: key in self._answered, ANSWER)


def main(order: dict[str, Any]) -> None:
    """`order` is a dictionary.

    bag: its path; sensors: topic in the bag to sensor; compressed: the kind of images; start and stop: ns or null;
    speed: over that of the recording; limit: images to send at most, or null; reference_frames: the first images of
    each sensor, which are sent one by one, each when the one before is answered, so that none of them is superseded;
    namespace: of the topics.
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
                if begun:  # the clock stood still meanwhile
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
    time.sleep(0.5)  # a publisher that goes takes what is under way with it
    print(json.dumps({'sent': sent, 'paced': paced, 'seconds': (last - first) / 1e9 / order['speed'], 'latest': late}))
    player.close()


def _prepared(recording: Recording, order: dict[str, Any]) -> Any:
    for found in recording.messages(order['sensors'], order['start'], order['stop']):
        try:
            message = recording.deserialise(found)
        except DataError:  # the replay has named it
            continue
        yield found.topic, found.received, to_ros(message, stamp_of(message, found))


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
