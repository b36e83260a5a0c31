"""Names and QoS of the node's topics, and which QoS overrides are possible."""

from __future__ import annotations

from typing import Any

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

OVERRIDABLE_QOS = QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
                                        QoSPolicyKind.DURABILITY))
QOS_PREFIX = 'qos_overrides.'
# Messages in a queue. More would be minutes of images.
MAX_DEPTH = 10_000
_POLICIES = {'history': HistoryPolicy, 'reliability': ReliabilityPolicy, 'durability': DurabilityPolicy}

# DDS allows 255 characters, of which ROS uses some itself.
MAX_TOPIC = 247


# A new profile for every topic: rclpy writes the qos_overrides of a topic into it.


def image_qos() -> QoSProfile:
    """Of a sensor driver: best effort, 5 images."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def result_qos() -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)


def latched_qos() -> QoSProfile:
    """Late subscribers get the last message."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL)


def topic(sensor: str, name: str) -> str:
    """The relative topic of a sensor; that of the unnamed sensor is `name` itself."""
    return f'{sensor}/{name}' if sensor else name


def image_topic(sensor: str, transport: str) -> str:
    """The relative topic of a sensor's images, for the parameter image_transport."""
    return topic(sensor, 'image_raw/compressed' if transport == 'compressed' else 'image_raw')


ENABLE_SERVICE, RELOAD_SERVICE = '~/enable', '~/reload_checkpoint'


def capture_service(sensor: str) -> str:
    return '~/' + topic(sensor, 'capture_reference')


def longest_sensor_name(node_name: str) -> int:
    """Characters that a sensor's name may have in a node of that full name: its longest topic or service must fit."""
    namespace = node_name.rpartition('/')[0]
    return MAX_TOPIC - max(len(f'{node_name}//capture_reference'), len(f'{namespace}//image_raw/compressed'))


def qos_refusal(name: str, value: Any) -> str:
    """Why a parameter `qos_overrides.<topic>.<kind>.<policy>` can't have this value; empty if it can."""
    policy = name.rpartition('.')[2]
    if policy == 'depth':
        ok = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_DEPTH
        return '' if ok else f'{name} is {value!r}; must be an integer from 1 to {MAX_DEPTH}'
    if policy in _POLICIES:
        known = [member.name.lower() for member in _POLICIES[policy] if member.name != 'UNKNOWN']
        ok = isinstance(value, str) and value.lower() in known
        return '' if ok else f'{name} is {value!r}; must be one of {", ".join(known)}'
    return ''


def incompatible_qos_text(event: QoSRequestedIncompatibleQoSInfo) -> str:
    try:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
    except ValueError:
        policy = 'unknown'
    return (f'a publisher offers another {policy} than this node requests, so none of its images arrive; set the '
            f'parameter qos_overrides.<topic>.subscription.{policy.lower()} of this node, or change the publisher')
