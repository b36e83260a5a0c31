"""A simulated touch sensor: publishes `image_raw` as a driver would, and the true class or state on `label`."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64, Header

from vit_tactile_ros.foundation.files import file_problem
from vit_tactile_ros.msg import TactileLabel
from vit_tactile_ros.ros.messages import compressed_message, image_message
from vit_tactile_ros.ros.parameter_rule import ParameterRule, declared_values, is_integer, is_number, is_one_of
from vit_tactile_ros.ros.run import run_node
from vit_tactile_ros.ros.start import StartError
from vit_tactile_ros.ros.transport import publisher_profile
from vit_tactile_ros.simulator import (
    CLASS_NAMES,
    UNKNOWN,
    Contact,
    GrippedObject,
    HandlingSequence,
    Markers,
    SensorFileError,
    SensorUnit,
    TouchSequence,
    load_sensor,
    sensor_names,
)


def _is_sensor(value: str) -> str:
    problem = '' if value in sensor_names() else file_problem(value)
    return f'one of {", ".join(sensor_names())}, or the path of a .json sensor file ({problem})' if problem else ''


RULES: dict[str, ParameterRule] = {rule.name: rule for rule in (
    ParameterRule('sensor', 'gelsight', f'One of {", ".join(sensor_names())}, or the path of a .json sensor file.',
                  _is_sensor, read_only=True),
    ParameterRule('rate', 30.0, 'Images per second, 1 to 120.', is_number(1, 120), read_only=True, dynamic=True),
    ParameterRule('seed', 0, 'Determines the unit and its sequence of touches.', is_integer(0, 2**31 - 1),
                  read_only=True, integer_range=(0, 2**31 - 1)),
    ParameterRule('activity', 'touches', "'touches': random shapes; 'objects': shapes, and as often objects that are "
                  "none of them, with the label unknown; 'handling': objects that are held, shaken and slip, with "
                  'their state as the label, held by a gripper from its first command on gripper/force.',
                  is_one_of('touches', 'objects', 'handling'), read_only=True),
    ParameterRule('frame_id', 'tactile_sensor', 'frame_id of the images.', lambda _: '', read_only=True),
    ParameterRule('image_transport', 'raw', "'raw' (image_raw) or 'compressed' (image_raw/compressed, JPEG).",
                  is_one_of('raw', 'compressed'), read_only=True),
)}


PAUSE_S = 1.25  # without contact before and after an object: the classifier stores a reference after 2 s


class TactileSimulatorNode(Node):
    """One finger, touched every few seconds; its seed determines the touches."""

    def __init__(self, **kwargs: Any) -> None:
        """Raises StartError naming the parameter that is wrong."""
        super().__init__('tactile_simulator', **kwargs)

        values = declared_values(self, RULES.values())
        kind = values['sensor']
        try:
            config = load_sensor(kind if kind in sensor_names() else Path(kind).expanduser())
        except SensorFileError as error:
            raise StartError(f'sensor is {kind!r}: {error}') from error
        self._rng = np.random.default_rng(values['seed'])
        self._force: float | None = None  # N, as commanded; None before the first command
        self._commanded = 0.0  # s from the first subscriber to the first command
        self._happens: Callable[[float], tuple[Contact | None, str]]
        if values['activity'] == 'handling':
            config = dataclasses.replace(config, markers=config.markers or Markers())  # dots show how the gel shears
            self._unit = SensorUnit(config, self._rng)
            script = HandlingSequence(config, self._rng, PAUSE_S)
            held = GrippedObject(config, self._rng)
            self._happens = lambda t: script.at(t) if self._force is None else held.at(t - self._commanded, self._force)
            self.create_subscription(Float64, 'gripper/force', self._on_force, 10)
        else:
            self._unit = SensorUnit(config, self._rng)
            shapes = CLASS_NAMES[1:]
            others = (UNKNOWN,) * len(shapes) if values['activity'] == 'objects' else ()
            touches = TouchSequence(config, self._rng, (*shapes, *others))
            self._happens = lambda t: _with_class(touches.at(t))
        self._frame_id = values['frame_id']
        self._compressed = values['image_transport'] == 'compressed'
        self._images = self.create_publisher(
            CompressedImage if self._compressed else Image,
            'image_raw/compressed' if self._compressed else 'image_raw', qos_profile_sensor_data)
        self._labels = self.create_publisher(TactileLabel, 'label', 10)
        self._started: float | None = None
        self._timer = self.create_timer(1.0 / values['rate'], self._publish)
        self.get_logger().info(f'{kind} at {values["rate"]:g} Hz on {self._images.topic_name}')

    def _publish(self) -> None:
        # No touch before there is a subscriber, and then for a second: a classifier that has just started captures its
        # no-contact reference from its first images.
        if self._started is None and self._images.get_subscription_count():
            self._started = time.monotonic()
        contact, name = None, CLASS_NAMES[0]
        if self._started is not None:
            contact, name = self._happens(time.monotonic() - self._started)
        image = self._unit.render(contact, self._rng)
        # Stamped when the image exists, as a camera driver does.
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        if self._compressed:
            _, jpeg = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            self._images.publish(compressed_message(jpeg.tobytes(), header, 'rgb8; jpeg compressed bgr8'))
        else:
            self._images.publish(image_message(image, header))
        self._labels.publish(TactileLabel(header=header, class_name=name, depth=contact.depth_mm if contact else 0.0))

    def _on_force(self, message: Float64) -> None:
        if math.isfinite(message.data):
            if self._force is None:
                self.get_logger().info('a gripper holds the object now (gripper/force)')
                if self._started is not None:
                    self._commanded = time.monotonic() - self._started
            self._force = message.data

    def finish(self) -> None:
        self.destroy_node()


def _with_class(contact: Contact | None) -> tuple[Contact | None, str]:
    return contact, contact.class_name if contact else CLASS_NAMES[0]


def _create() -> TactileSimulatorNode:
    with publisher_profile():
        return TactileSimulatorNode()


def main(args: list[str] | None = None) -> int:
    """Run until stopped; returns the status of the process, see `run_node`."""
    cv2.setNumThreads(1)
    return run_node(_create, tuple(RULES), args)


if __name__ == '__main__':
    sys.exit(main())
