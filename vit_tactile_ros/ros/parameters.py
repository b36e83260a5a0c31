"""The parameters of the classifier node: names, types, ranges and their validation, in one table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import check_folder_writable, file_problem
from vit_tactile_ros.foundation.names import SENSOR_NAME
from vit_tactile_ros.inference.engines.select import engine_names
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.inference.reference_monitor import DRIFT
from vit_tactile_ros.inference.runtime import AUTO_OR_PRECISION
from vit_tactile_ros.inference.tau_steering import TAU_MIN
from vit_tactile_ros.inference.touch_events import LOST_THRESHOLD, SLIP_THRESHOLD
from vit_tactile_ros.model import thresholds
from vit_tactile_ros.ros.exit_policy import NO_DROP
from vit_tactile_ros.ros.parameter_rule import ParameterRule, is_bool, is_integer, is_number, is_one_of, short
from vit_tactile_ros.ros.topics import MAX_TOPIC, QOS_PREFIX, longest_sensor_name, qos_refusal

MAX_SENSORS = 64


def _is_device(value: Any) -> str:
    ok = isinstance(value, str) and re.fullmatch(r'auto|cpu|cuda(:\d+)?', value)
    return '' if ok else "'auto', 'cpu', 'cuda' or 'cuda:N'"


def _is_checkpoint(value: Any) -> str:
    right = "the path of a .safetensors file that exists, or '' for the shipped one"
    if not isinstance(value, str):
        return right
    problem = file_problem(value) if value else ''
    return f'{right} ({problem})' if problem else ''


def _are_reference_files(value: Any) -> str:
    right = "a list with the path of an existing image, or '', per sensor"
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, str) for v in value):
        return right
    problems = [f'{short(v)}: {problem}' for v in value if v and (problem := file_problem(v))]
    return f'{right} ({"; ".join(problems)})' if problems else ''


def _is_store(value: Any) -> str:
    right = "a folder that can be written to, or ''"
    if not isinstance(value, str):
        return right
    try:
        if value:
            check_folder_writable(Path(value).expanduser(), create=False)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: ~name of an unknown user
        return f'{right} ({error})'
    return ''


def _are_sensors(value: Any) -> str:
    right = (f'a list of 1 to {MAX_SENSORS} different names such as [left, right] '
             "(letters, digits and _, starting with a letter), or [''] for one unnamed sensor")
    if value is None:
        return ''
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, str) for v in value):
        return right
    names = list(value)
    if names in ([], ['']):
        return ''
    ok = len(names) <= MAX_SENSORS and len(set(names)) == len(names) and all(SENSOR_NAME.fullmatch(n) for n in names)
    return '' if ok else right


def check_tau(value: Any, num_exits: int | None = None) -> str:
    """What would be right if `value` is not a threshold; the number of exits is known once a model is loaded."""
    if value is None:
        return ''
    right = 'a number between 0 and 1, or one such number per early exit'
    if isinstance(value, str) and value.startswith('['):  # how `ros2 param set` passes a list of mixed types
        return f'{right}; in a list every number needs a decimal point: write [0.9, 1.0] in place of [0.9, 1]'
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not values or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        return right
    if not all(0 <= v <= 1 for v in values):
        return right
    try:
        thresholds(value if isinstance(value, Sequence) else float(value), num_exits or len(values))
    except UserError as error:
        return f'{right} ({error})'
    return ''


def _is_accuracy_drop(value: Any) -> str:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and (value == NO_DROP or 0 < value < 1)
    return '' if ok else f'above 0 and below 1 (0.005: half a percentage point), or {NO_DROP:g}: tau decides'


def _is_probability(value: Any) -> str:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1
    return '' if ok else 'a number above 0 and below 1'


RULES: dict[str, ParameterRule] = {rule.name: rule for rule in (
    ParameterRule('autostart', True, 'Configure and activate at start; false: wait for a lifecycle manager.', is_bool,
                  at_start=True),
    ParameterRule('checkpoint', '', "Path of a .safetensors checkpoint; '' is the shipped one.", _is_checkpoint),
    ParameterRule('device', 'auto', "'auto' (CUDA if there is a GPU), 'cpu', 'cuda' or 'cuda:N'.", _is_device),
    ParameterRule('engine', 'auto', "What runs the network: 'auto' picks the fastest engine whose outputs match "
                  "'torch', as measured at the first start and kept in a file; or a name, one of "
                  f"{', '.join(engine_names()[1:])}.", is_one_of(*engine_names())),
    ParameterRule('precision', 'float32', "'float32', 'bfloat16', 'int8' (engine 'openvino', a checkpoint that "
                  "vit_tactile_ros.calibrate has been run on), or 'auto': picks the fastest that matches float32 "
                  'within its tolerance, as measured at the first start, which then takes about 3 s longer.',
                  is_one_of(*AUTO_OR_PRECISION)),
    ParameterRule('threads', 0, 'CPU threads of the network, 0 to 256; 0 measures whether more than one is faster.',
                  is_integer(0, 256), integer_range=(0, 256)),
    ParameterRule('tau', None, 'Exit threshold, 0 to 1 (an integer works too): an image exits at the first exit whose '
                  'confidence reaches it. One number, or one per early exit (a value for the last exit is '
                  "accepted and ignored). Default: the checkpoint's.", check_tau, live=True, dynamic=True),
    ParameterRule('max_accuracy_drop', NO_DROP, 'Accepted accuracy drop of early exits, instead of tau, such as 0.005 '
                  'for half a percentage point. Needs a checkpoint that vit_tactile_ros.calibrate has been run on, and '
                  'uses the next stricter bound stored there; tau then shows the thresholds in use. '
                  f'{NO_DROP:g}: tau is used. Whichever of the two was set last takes effect.', _is_accuracy_drop,
                  live=True, dynamic=True, float_range=(NO_DROP, 1.0)),
    ParameterRule('latency_budget', 0.0, 'Accepted time from the image to its result, in s, 0 to 60, for 99 of 100 '
                  'results: under load, tau is lowered as far as necessary, but not below tau_min. Every result '
                  'contains the tau that was used. 0: off.', is_number(0.0, 60.0), live=True, dynamic=True,
                  float_range=(0.0, 60.0)),
    ParameterRule('tau_min', TAU_MIN, 'Lowest tau that latency_budget may use, 0 to 1; a lower tau stays as it is. 1: '
                  'tau is never lowered.', is_number(0.0, 1.0), live=True, dynamic=True, float_range=(0.0, 1.0)),
    ParameterRule('sensors', [''], "Names of the sensors: 'left' subscribes to left/image_raw and publishes "
                  "left/tactile. [''] is one unnamed sensor: image_raw and tactile.", _are_sensors, dynamic=True),
    ParameterRule('image_transport', 'raw', "'raw' (image_raw) or 'compressed' (image_raw/compressed).",
                  is_one_of('raw', 'compressed')),
    ParameterRule('reference_files', [''], "Image of each sensor without contact, in the order of sensors; '' "
                  'averages its first images instead.', _are_reference_files, dynamic=True),
    ParameterRule('reference_frames', REFERENCE_FRAMES, 'Number of images averaged into the no-contact reference, 1 '
                  'to 1000.', is_integer(1, 1000), integer_range=(1, 1000)),
    ParameterRule('reference_drift', DRIFT, 'Time constant in s with which the reference follows untouched images, '
                  '0 to 86400; 0: it does not.', is_number(0.0, 86400.0), dynamic=True, float_range=(0.0, 86400.0)),
    ParameterRule('reference_store', '', "Folder that keeps the captured reference of each sensor across restarts; '' "
                  'keeps none. Not for sensors with a reference file.', _is_store),
    ParameterRule('gate', True, 'Untouched images exit before the first block, recognised by their difference to the '
                  'reference. Needs a checkpoint with the class no_contact; with tau 1 no image exits early.', is_bool,
                  live=True),
    ParameterRule('skip_unchanged', False, 'A touched image that shows the same as one of the last 0.5 s, within the '
                  "gate's noise, gets the result of that one without the network. Not for checkpoints with motion; "
                  'with tau 1 every image is computed.', is_bool),
    ParameterRule('slip_threshold', SLIP_THRESHOLD, 'Probability of slip, above 0 and below 1, at which touch_event '
                  'reports SLIP_BEGAN: lower is earlier, with more false alarms. For a checkpoint of states.',
                  _is_probability, live=True, dynamic=True, float_range=(0.0, 1.0)),
    ParameterRule('slip_motion', True, 'For a checkpoint of states: slip is found by the motion of the gel over '
                  'seconds (models/slip_motion.safetensors); false: by the checkpoint alone, without LOST.', is_bool),
    ParameterRule('lost_threshold', LOST_THRESHOLD, 'Probability that no object is held, above 0 and below 1, at '
                  'which touch_event reports LOST: lower is earlier, with more false alarms. Needs slip_motion.',
                  _is_probability, live=True, dynamic=True, float_range=(0.0, 1.0)),
    ParameterRule('silence_timeout', 1.0, 'Time without an image, in s, after which a sensor is reported as silent, '
                  '0.05 to 3600.', is_number(0.05, 3600.0), live=True, dynamic=True, float_range=(0.05, 3600.0)),
    ParameterRule('diagnostics_period', 1.0, 'Time in s between two messages on /diagnostics, 0.1 to 60.',
                  is_number(0.1, 60.0), dynamic=True, float_range=(0.1, 60.0)),
)}


def refusal(name: str, value: Any, is_declared: bool, current: Any, node_name: str, num_exits: int | None) -> str:
    """Why a parameter can't have this value now, in a sentence; empty when it can.

    `current` is its value, `node_name` the node's full name; `num_exits` that of the configured model, None while the
    node is not configured.
    """
    if name.startswith(QOS_PREFIX):
        return qos_refusal(name, value)
    rule = RULES.get(name)
    if rule is None:
        return ''  # rclpy checks use_sim_time and the like
    if value is None and is_declared:
        return f'{name} cannot be deleted'
    if num_exits is not None and not rule.live:
        if _is_same(value, current):
            return ''
        return (f'{name} is read at configure and this node is configured: deactivate and clean up first '
                '(ros2 lifecycle set), then set it')
    right = check_tau(value, num_exits) if name == 'tau' else rule.check(value)
    if not right and name == 'sensors':
        right = _have_room(value or [], longest_sensor_name(node_name))
    return f'{name} is {short(value)}; must be {right}' if right else ''


def _have_room(names: Sequence[str], limit: int) -> str:
    if (length := max(map(len, names), default=0)) <= limit:
        return ''
    return (f'names of at most {limit} characters, since ROS topics and services end at {MAX_TOPIC} with the namespace '
            f'and the node name (one has {length})')


def _is_same(value: Any, current: Any) -> bool:
    """Whether a parameter has this value already; an integer is the number that it stands for."""
    def plain(v: Any) -> Any:
        if isinstance(v, Sequence) and not isinstance(v, str):
            return [plain(item) for item in v]
        return ('bool', v) if isinstance(v, bool) else v

    return bool(plain(value) == plain(current))

