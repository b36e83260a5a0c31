"""Results and classes as vision_msgs/Classification and LabelInfo, where vision_msgs is installed."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from vit_tactile_ros.inference.classifier import Decision
from vit_tactile_ros.ros.topics import OVERRIDABLE_QOS, latched_qos, result_qos, topic

try:
    from vision_msgs.msg import Classification, LabelInfo, ObjectHypothesis, VisionClass
except ImportError:  # a package of its own in every distribution
    Classification = None

ABSENT = '' if Classification is not None else (
    'vision_msgs is not installed, so the topics classification and label_info do not exist')


class VisionPublishers:
    """Publishers `classification` and `label_info` of a sensor; only if not ABSENT."""

    def __init__(self, node: LifecycleNode, sensor: str) -> None:
        self._node = node
        self._results = node.create_lifecycle_publisher(Classification, topic(sensor, 'classification'), result_qos(),
                                                        qos_overriding_options=OVERRIDABLE_QOS)
        self._labels = node.create_lifecycle_publisher(LabelInfo, topic(sensor, 'label_info'), latched_qos())

    def publish_labels(self, class_names: Sequence[str]) -> None:
        """At every activation, since an inactive publisher drops messages, and when the classes change."""
        self._labels.publish(LabelInfo(
            header=Header(stamp=self._node.get_clock().now().to_msg()),
            class_map=[VisionClass(class_id=i, class_name=name) for i, name in enumerate(class_names)]))

    def publish_result(self, decision: Decision, header: Header) -> None:
        """All classes, the most probable first; class_id is the key of LabelInfo."""
        if not self._results.get_subscription_count():
            return
        order = (-decision.probabilities).argsort(kind='stable').tolist()
        self._results.publish(Classification(header=header, results=[
            ObjectHypothesis(class_id=str(i), score=float(decision.probabilities[i])) for i in order]))

    def destroy(self) -> None:
        for publisher in (self._results, self._labels):
            self._node.destroy_lifecycle_publisher(publisher)
