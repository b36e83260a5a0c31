"""A camera driver in a process of its own: play_images.py VIDEO|WIDTHxHEIGHT*COUNT RATE reliable|best_effort.

Waits for a subscriber and publishes rgb8 images on /image_raw. Black ones start with a tiny one and end with three,
since a loss is known once a later image has arrived. Then it prints the [seconds, nanoseconds, frame_id] of every image
as one line of JSON, and waits to be ended: a publisher that ends drops unsent images.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator

import cv2
import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vit_tactile_ros.ros.messages import image_message


def images_of(source: str) -> Iterator[NDArray[np.uint8]]:
    black = re.fullmatch(r'(\d+)x(\d+)\*(\d+)', source)
    if black:
        width, height, count = map(int, black.groups())
        large, tiny = np.zeros((height, width, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
        yield from [tiny, *[large] * (count - 4)]
        for _ in range(3):
            time.sleep(0.2)  # not into shared memory that is full of the last large one
            yield tiny
    capture = cv2.VideoCapture(source)
    while not black and (read := capture.read())[0]:
        yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)


def main(source: str, rate: float, reliability: str) -> None:
    rclpy.init()
    node = rclpy.create_node('driver')
    publisher = node.create_publisher(Image, '/image_raw', QoSProfile(
        depth=5, reliability=ReliabilityPolicy[reliability.upper()]))
    while not publisher.get_subscription_count():
        time.sleep(0.01)
    time.sleep(1.0)  # the subscriber has to find this publisher too, and may subscribe again; it reports neither
    sent = []
    start = time.monotonic()
    for number, image in enumerate(images_of(source)):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        header = Header(stamp=node.get_clock().now().to_msg(), frame_id=f'frame_{number}')
        publisher.publish(image_message(image, header))
        sent.append([header.stamp.sec, header.stamp.nanosec, header.frame_id])
    print(json.dumps(sent), flush=True)
    time.sleep(60)


if __name__ == '__main__':
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
