"""Publishes the frames of a video as a camera driver would: play_clip.py VIDEO FPS LOG.

A process of its own for the clip tests. It waits for a subscriber, publishes rgb8 images on /image_raw at FPS, and
leaves the [seconds, nanoseconds, frame_id] of every one in LOG as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cv2
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vit_tactile_ros.ros.messages import image_message


def main(video: str, fps: float, log: Path) -> None:
    capture = cv2.VideoCapture(video)
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    rclpy.init()
    node = rclpy.create_node('clip_player')
    publisher = node.create_publisher(Image, '/image_raw', qos_profile_sensor_data)
    while not publisher.get_subscription_count():
        time.sleep(0.01)
    time.sleep(0.5)  # the subscriber has to know of us too, and says nothing of it
    sent = []
    start = time.monotonic()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, start + number / fps - time.monotonic()))
        header = Header(stamp=node.get_clock().now().to_msg(), frame_id=f'frame_{number}')
        publisher.publish(image_message(frame, header))
        sent.append([header.stamp.sec, header.stamp.nanosec, header.frame_id])
    log.write_text(json.dumps(sent))
    time.sleep(0.5)  # a publisher that goes takes what is under way with it
    rclpy.shutdown()


if __name__ == '__main__':
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
