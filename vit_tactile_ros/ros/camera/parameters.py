"""The parameters of the camera node: which camera, its profile, and what differs from the profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node

from vit_tactile_ros.foundation.command_line import nearest
from vit_tactile_ros.foundation.names import SENSOR_NAME
from vit_tactile_ros.ros.camera.devices import attached, listed
from vit_tactile_ros.ros.camera.profiles import PROFILES, Profile
from vit_tactile_ros.ros.parameter_rule import ParameterRule, declared_values, is_bool, is_integer, is_number
from vit_tactile_ros.ros.start import StartError, check_parameters

SOURCES = ('serial', 'device', 'video')


def _is_text(value: Any) -> str:
    """rclpy reads a serial number of digits as a number, and has lost its leading zeros."""
    return '' if isinstance(value, str) else "text; quote a number twice: '\"20025\"'"


def _is_path(value: Any) -> str:
    return '' if isinstance(value, str) else 'a path such as /dev/video0'


def _is_profile(value: Any) -> str:
    return '' if value in PROFILES else f'one of {", ".join(PROFILES)}{nearest(value, PROFILES)}'


def _is_name(value: Any) -> str:
    ok = value == '' or SENSOR_NAME.fullmatch(value)
    return '' if ok else "a name such as left (letters, digits and _, starting with a letter), or ''"


def _is_format(value: Any) -> str:
    ok = isinstance(value, str) and value.isascii() and len(value) in (0, 4)
    return '' if ok else "four characters such as MJPG or YUYV, or '' for the one that OpenCV picks"


def _is_crop(value: Any) -> str:
    ok = isinstance(value, Sequence) and len(value) == 4 and all(not is_number(0.0, 0.9)(v) for v in value) and (
        value[0] + value[2] <= 0.9 and value[1] + value[3] <= 0.9)
    return '' if ok else ('four shares of the image to cut off, at the left, top, right and bottom: [0.15, 0.15, 0.15, '
                          '0.15]; left and right together at most 0.9, top and bottom too')


def _is_rotation(value: Any) -> str:
    return '' if type(value) is int and value in (0, 90, 180, 270) else 'one of 0, 90, 180, 270'


def _rule(name: str, default: Any, description: str, check: Callable[[Any], str], dynamic: bool = True,
          ) -> ParameterRule:
    return ParameterRule(name, default, description, check, read_only=True, dynamic=dynamic)


def _override(name: str, description: str, check: Callable[[Any], str]) -> ParameterRule:
    return _rule(name, None, f"{description} Unset: the profile's.", lambda v: '' if v is None else check(v))


RULES: dict[str, ParameterRule] = {rule.name: rule for rule in (
    _rule('serial', '', 'USB serial number of the camera. Give one of serial, device and video.', _is_text),
    _rule('device', '', 'Path of the camera: /dev/video0, or a link in /dev/v4l/by-path.', _is_path),
    _rule('video', '', 'Video file, or folder of images, that is played as a camera as soon as someone subscribes.',
          _is_path),
    _rule('loop', False, 'Repeat the video or folder; otherwise the node exits at its end.', is_bool, False),
    _rule('profile', 'generic', f'Settings of a kind of sensor: {", ".join(PROFILES)}.', _is_profile, False),
    _rule('camera_name', '', "'left' publishes left/image_raw, to which tactile_classifier subscribes if sensors is "
          "[left]; '' publishes image_raw.", _is_name, False),
    _rule('frame_id', '', "frame_id of the images; '': camera_name, or tactile_sensor.", _is_text, False),
    _rule('diagnostics_period', 1.0, 'Time in s between two messages on /diagnostics, 0.1 to 60.',
          is_number(0.1, 60.0)),
    _override('width', 'Width to ask the camera for, px.', is_integer(0, 16384)),
    _override('height', 'Height to ask the camera for, px.', is_integer(0, 16384)),
    _override('rate', "Images per second, up to 1000; 0: the camera's or the video's own.", is_number(0.0, 1000.0)),
    _override('pixel_format', "MJPG, YUYV, or another V4L2 format; '': OpenCV picks one.", _is_format),
    _override('least_width', 'Images are reduced by the largest factor of 2, 4 or 8 that leaves them at least this '
              'wide, px; 0: never. A JPEG is decoded at the reduced size, which takes less time.',
              is_integer(0, 16384)),
    _override('crop', 'Shares of the image cut off at the left, top, right and bottom.', _is_crop),
    _override('rotation', 'Degrees clockwise, after the crop: 0, 90, 180 or 270.', _is_rotation),
    _override('exposure', "Exposure, ms; 0: keep the camera's setting.", is_number(0.0, 1000.0)),
    _override('lighting', "Value of the camera's zoom control, which sets the LEDs of a DIGIT: red * 256 + green * 16 "
              "+ blue, 0 to 15 each; -1: keep the camera's setting.", is_integer(-1, 65535)),
)}


def declared(node: Node) -> tuple[dict[str, Any], Profile]:
    """The values of all parameters, and the profile with what was set over it. Raises StartError."""
    values = declared_values(node, RULES.values())
    given = [name for name in SOURCES if values[name]]
    if len(given) != 1:
        check_parameters(node)  # a misspelt name is the likelier reason
        raise StartError(f'{" and ".join(given) or "no camera"} given; give one of the parameters '
                         f'{", ".join(SOURCES)}, such as --ros-args -p serial:=D20025 ({listed(attached())})')
    fields = {field.name for field in dataclasses.fields(Profile)}
    over = {name: value for name, value in values.items() if name in fields and value is not None}
    if 'crop' in over:
        over['crop'] = tuple(over['crop'])
    return values, dataclasses.replace(PROFILES[values['profile']], **over)
