"""A camera driver for the transport tests: publish_images.py WIDTH HEIGHT RATE COUNT reliable|best_effort.

Waits for a subscriber, publishes COUNT rgb8 images on /image_raw, the first and the last three of them tiny, since a
loss is known once a later image has arrived. Then it prints 'published' and waits to be ended.
"""

from __future__ import annotations

import sys
import time
from array import array

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image


def main(width: int, height: int, rate: float, count: int, reliability: str) -> None:
    rclpy.init()
    node = rclpy.create_node('driver')
    publisher = node.create_publisher(Image, '/image_raw', QoSProfile(
        depth=5, reliability=ReliabilityPolicy[reliability.upper()]))
    while not publisher.get_subscription_count():
        time.sleep(0.01)
    time.sleep(1.0)  # the subscriber has to know of us too, and may subscribe again; it reports neither
    large, tiny = (Image(height=h, width=w, step=3 * w, encoding='rgb8', data=array('B', bytes(3 * w * h)))
                   for w, h in ((width, height), (8, 8)))
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        if number >= count - 3:
            time.sleep(0.2)  # not into shared memory that is full of the last large one
        message = large if 0 < number < count - 3 else tiny
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
    print('published', flush=True)
    time.sleep(60)


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
