"""The live node `tactile_classifier`: images of one or several touch sensors in, classifications out."""

from __future__ import annotations

import gc
import math
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo
from rclpy.exceptions import ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import (
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.service import Service
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vit_tactile_ros.inference.classifier import Decision, TactileClassifier
from vit_tactile_ros.inference.reference import Reference, fixed_references
from vit_tactile_ros.model import Calibration, CheckpointError, load_checkpoint, shipped_checkpoint
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.diagnostics import diagnostic_array, node_status, sensor_status
from vit_tactile_ros.ros.image_subscription import ImageSubscription
from vit_tactile_ros.ros.library_log import library_log
from vit_tactile_ros.ros.messages import classification_message
from vit_tactile_ros.ros.parameters import NO_DROP, RULES, refusal
from vit_tactile_ros.ros.run import run_lifecycle_node
from vit_tactile_ros.ros.sensor import Sensor, WaitingImage
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.transport import classifier_profile
from vit_tactile_ros.ros.worker import ClassificationWorker

OVERRIDABLE_QOS = QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
                                        QoSPolicyKind.DURABILITY))

BOTH = 'tau is {} and max_accuracy_drop is {}; give only one of them: either decides when an image leaves'
RCLError = rclpy_implementation.RCLError


class TactileClassifierNode(LifecycleNode):
    """Declares, subscribes, hands images to the worker and publishes what it decides."""

    def __init__(self, **kwargs: Any) -> None:
        """Raises rclpy's parameter exceptions for a start-up parameter that is wrong."""
        super().__init__('tactile_classifier', **kwargs)
        self._classifier: TactileClassifier | None = None
        self._worker: ClassificationWorker | None = None
        self._sensors: list[Sensor] = []
        self._results: dict[str, LifecyclePublisher] = {}
        self._image_subscriptions: list[ImageSubscription] = []
        self._capture_services: list[Service] = []
        self._diagnostics_timer: Timer | None = None
        self._previous_statuses: dict[str, DiagnosticStatus] = {}
        self._checkpoint_path = Path()
        self._tau: tuple[float, ...] = ()
        self._calibration = Calibration()
        self._decides = 'checkpoint'  # what the thresholds come from: this, 'tau' or 'max_accuracy_drop'
        self._both_given = False
        self._is_echo = False  # while the node itself sets the one of the two parameters that does not decide
        self._class_names: list[str] = []
        self._throttled = ThrottledLog()
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        for rule in RULES.values():
            self.declare_parameter(rule.name, rule.default, rule.descriptor())
        has_tau, has_drop = self._value('tau') is not None, self._value('max_accuracy_drop') != NO_DROP
        self._decides = 'tau' if has_tau else 'max_accuracy_drop' if has_drop else 'checkpoint'
        self._both_given = has_tau and has_drop

    # Parameters

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        num_exits = len(self._classifier.exits) if self._classifier else None
        given = {p.name: p.value for p in parameters}
        for parameter in parameters:
            reason = refusal(parameter.name, parameter.value, self.has_parameter(parameter.name), num_exits)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        drop = given.get('max_accuracy_drop', NO_DROP)
        if drop != NO_DROP and 'tau' in given:
            return SetParametersResult(successful=False, reason=BOTH.format(given['tau'], drop))
        if drop != NO_DROP and self._classifier is not None:
            try:
                self._calibration.bound_for(drop)
            except ValueError as error:
                return SetParametersResult(successful=False, reason=f'max_accuracy_drop is {drop:g}: {error}')
        return SetParametersResult(successful=True)

    def _apply_parameters(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if self._is_echo or parameter.value is None:
                continue
            if parameter.name == 'tau':
                self._decides, self._both_given = 'tau', False
                if self.has_parameter('max_accuracy_drop') and self._value('max_accuracy_drop') != NO_DROP:
                    self._echo('max_accuracy_drop', NO_DROP)
                if self._classifier is not None:
                    self._tau = self._classifier.thresholds(_numbers(parameter.value))
            elif parameter.name == 'max_accuracy_drop':
                self._both_given = False
                if parameter.value != NO_DROP:
                    self._decides = 'max_accuracy_drop'
                elif self._decides == 'max_accuracy_drop':
                    self._decides = 'tau'  # which shows what has been in force
                if self._classifier is not None and self._decides == 'max_accuracy_drop':
                    self._keep_drop(self._classifier)

    def _keep_drop(self, classifier: TactileClassifier) -> None:
        """Put the thresholds in force that the checkpoint holds for max_accuracy_drop, and show them as tau."""
        asked = self._value('max_accuracy_drop')
        bound = self._calibration.bound_for(asked)
        self._tau = classifier.thresholds(bound.tau)
        self._echo('tau', bound.tau[0] if len(set(bound.tau)) == 1 else list(bound.tau) or 1.0)
        if bound.max_accuracy_drop != asked:
            self.get_logger().info(f'max_accuracy_drop {asked:g} is not among what this checkpoint was calibrated for: '
                                   f'the next stricter one, {bound.max_accuracy_drop:g}, is in force')
        if not bound.is_shown:
            self.get_logger().warning(
                f'max_accuracy_drop {bound.max_accuracy_drop:g} could not be shown with the '
                f'{self._calibration.num_samples} samples of the calibration, so no image leaves early: calibrate with '
                'more, or allow a larger drop')

    def _echo(self, name: str, value: Any) -> None:
        self._is_echo = True
        try:
            self.set_parameters([Parameter(name, value=value)])
        finally:
            self._is_echo = False

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint, warm it up, create publishers and services."""
        try:
            self._configure()
            return super().on_configure(state)
        except Exception as error:  # rclpy would take it for an error of ours and say nothing of it
            self._explain('configure', error)
            self._release()
            return TransitionCallbackReturn.FAILURE

    def _configure(self) -> None:
        started = time.monotonic()
        cv2.setNumThreads(1)  # pictures this small lose more in handing out work than they gain
        self._checkpoint_path = Path(self._value('checkpoint')).expanduser() if self._value('checkpoint') else (
            shipped_checkpoint())
        checkpoint = load_checkpoint(self._checkpoint_path)
        with library_log(self.get_logger()):
            classifier = TactileClassifier(checkpoint, self._value('device'), self._value('precision'),
                                           self._value('threads'), self._value('engine'))
        names = list(self._value('sensors') or [''])
        if self._both_given:
            raise ValueError(BOTH.format(self._value('tau'), self._value('max_accuracy_drop')))
        self._calibration = checkpoint.calibration
        if self._decides == 'max_accuracy_drop':
            self._keep_drop(classifier)
        else:
            if self._decides == 'checkpoint':
                self._echo('tau', checkpoint.calibration.tau)
            self._tau = classifier.thresholds(_numbers(self._value('tau')))
        self._class_names = list(classifier.class_names)
        references = fixed_references(list(self._value('reference_files') or ['']), names, checkpoint.preprocessing)
        self._sensors = [Sensor(name, Reference(self._value('reference_frames'), fixed))
                         for name, fixed in zip(names, references, strict=True)]
        for sensor in self._sensors:
            self._results[sensor.name] = self.create_lifecycle_publisher(
                TactileClassification, _topic(sensor, 'tactile'),
                QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE),
                qos_overriding_options=OVERRIDABLE_QOS)
            self._capture_services.append(self.create_service(
                Trigger, '~/' + _topic(sensor, 'capture_reference'), partial(self._capture_reference, sensor)))
        classifier.warm_up(range(1, len(names) + 1))
        self._classifier = classifier
        gc.collect()
        gc.freeze()  # looking through all that torch brings takes 0.1 s, in which no image would be answered
        self.get_logger().info(
            f'{self._checkpoint_path.name}: {len(self._class_names)} classes, exits at blocks {classifier.exits}, '
            f'engine {classifier.runtime.name} in {classifier.runtime.precision} on {classifier.runtime.device} with '
            f'{classifier.threads} CPU threads, tau {self._tau}, '
            f'ready in {time.monotonic() - started:.1f} s')

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to classify."""
        try:
            result = super().on_activate(state)  # first: a publisher that is not active drops what it is given
            self._activate()
            return result
        except Exception as error:
            self._explain('activate', error)
            self._stop()
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE

    def _activate(self) -> None:
        assert self._classifier is not None
        for sensor in self._sensors:
            sensor.forget_the_past()
        self._worker = ClassificationWorker(self._classifier, self._sensors, lambda: self._tau, self._publish,
                                            self.get_logger(), self._throttled)
        self._worker.start()
        compressed = self._value('image_transport') == 'compressed'
        for sensor in self._sensors:
            self._image_subscriptions.append(ImageSubscription(
                self, sensor, CompressedImage if compressed else Image,
                _topic(sensor, 'image_raw/compressed' if compressed else 'image_raw'), partial(self._on_image, sensor),
                partial(self._on_incompatible_qos, sensor), OVERRIDABLE_QOS.policy_kinds, self._throttled))
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Steady: a paused simulation must not hide a silent sensor.
        self._diagnostics_timer = self.create_timer(self._value('diagnostics_period'), self._publish_diagnostics,
                                                    clock=Clock(clock_type=ClockType.STEADY_TIME))
        topics = ', '.join(s.topic_name for s in self._image_subscriptions)
        self.get_logger().info(f'active, waiting for images on {topics}')

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take no more images, finish those that are waiting."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the model and the sensors' counters."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self._release()
        return super().on_error(state)

    def _explain(self, transition: str, error: Exception) -> None:
        """Say why a transition failed; where it is no mistake of the user's, with the place in the code."""
        is_users = isinstance(error, (CheckpointError, ValueError, OSError, ParameterException,
                                      InvalidQosOverridesError))
        self.get_logger().error(f'cannot {transition}: {error}' if is_users else
                                f'cannot {transition}: {"".join(traceback.format_exception(error))}')

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        """rclpy's own, but a transition that is not possible now is refused where rclpy raises.

        A manager that repeats a request would otherwise end the node, and get no answer.
        """
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]
        except RCLError as error:
            self.get_logger().warning(f'transition {transition_id} is not possible now: {error}')
            return TransitionCallbackReturn.FAILURE

    def finish(self) -> None:
        """Stop the worker and leave the graph, whatever state the node is in."""
        self._stop()
        self._release()
        self.destroy_node()

    def _stop(self) -> None:
        for subscription in self._image_subscriptions:
            subscription.destroy()
        self._image_subscriptions.clear()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        if self._diagnostics_timer is not None:
            self._publish_diagnostics()
            self.destroy_timer(self._diagnostics_timer)
            self._diagnostics_timer = None
            self.destroy_publisher(self._diagnostics_publisher)

    def _release(self) -> None:
        for publisher in self._results.values():
            self.destroy_lifecycle_publisher(publisher)
        self._results.clear()
        for service in self._capture_services:
            self.destroy_service(service)
        self._capture_services.clear()
        self._sensors.clear()
        self._previous_statuses.clear()
        self._classifier = None
        gc.unfreeze()

    # Images

    def _on_image(self, sensor: Sensor, message: Any) -> None:
        now = time.monotonic()
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        received_ns = 0 if stamp_ns else self.get_clock().now().nanoseconds
        with sensor.lock:
            backwards_by = (sensor.last_stamp_ns - stamp_ns) / 1e9 if stamp_ns and sensor.last_stamp_ns else 0.0
            if stamp_ns:
                sensor.last_stamp_ns = stamp_ns
                sensor.stamps_backwards += backwards_by > 0
            else:
                sensor.missing_stamps += 1
            silent_for = now - (sensor.last_received or now) if sensor.is_silent else 0.0
            sensor.is_silent = False
            sensor.put(WaitingImage(message, received_ns, stamp_ns), now)
        if self._worker is not None:
            self._worker.notify()
        if silent_for:
            self.get_logger().info(f'{sensor.label}: images again after {silent_for:.1f} s')
        if not stamp_ns:
            self._throttled(self.get_logger().warning, f'{sensor.name} no stamp', f'{sensor.label}: image without a '
                            'stamp; its result carries the time of receipt, and latency is unknown: fix the publisher')
        if backwards_by > 0:
            self._throttled(self.get_logger().warning, f'{sensor.name} backwards', f'{sensor.label}: stamp went back '
                            f'by {backwards_by:.3f} s (a bag that starts again, or two publishers on one topic?)')

    def _publish(self, sensor: Sensor, image: WaitingImage, decision: Decision) -> float | None:
        """Fill and send one result; its image's age in s, None without a stamp. Called by the worker."""
        header: Header = image.message.header
        if not image.stamp_ns:
            # Simulated time is 0 until the first /clock.
            header.stamp = rclpy.time.Time(nanoseconds=image.received_ns or time.time_ns()).to_msg()
        message = classification_message(decision, header, sensor.name, self._class_names)
        age = None
        if image.stamp_ns:
            age = (self.get_clock().now().nanoseconds - image.stamp_ns) / 1e9
        message.image_age = math.nan if age is None else age
        self._results[sensor.name].publish(message)
        return age

    def _on_incompatible_qos(self, sensor: Sensor, event: QoSRequestedIncompatibleQoSInfo) -> None:
        with sensor.lock:
            sensor.incompatible_publishers = event.total_count
        try:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
        except ValueError:
            policy = 'unknown'
        self._throttled(self.get_logger().error, f'{sensor.name} qos',
                        f'{sensor.label}: a publisher offers another {policy} than this node asks for, so '
                        'none of its images arrive; set the parameter qos_overrides.<topic>.subscription.'
                        f'{policy.lower()} of this node, or change the publisher')

    def _capture_reference(self, sensor: Sensor, _request: Trigger.Request, response: Trigger.Response,
                           ) -> Trigger.Response:
        if self._classifier is None or not self._classifier.needs_reference:
            response.success, response.message = False, 'this checkpoint uses no reference'
            return response
        with sensor.lock:
            sensor.recapture_requested = True
        response.success = True
        response.message = f'the next {sensor.reference.num_frames} frames become the reference: touch nothing'
        return response

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        assert self._classifier is not None
        now, timeout = time.monotonic(), self._value('silence_timeout')
        # Two robots' nodes share /diagnostics.
        name = self.get_fully_qualified_name().lstrip('/')
        statuses = []
        for subscription in self._image_subscriptions:
            subscription.adapt()  # not every middleware reports that publishers come and go
        for sensor in self._sensors:
            with sensor.lock:
                silent_for = now - sensor.last_received if sensor.last_received is not None else 0.0
                newly_silent = silent_for > timeout and not sensor.is_silent
                if newly_silent:
                    sensor.is_silent = True
                    sensor.silences += 1
                    sensor.result_times.clear()  # a rate over the gap would be wrong for long
            if newly_silent:
                self.get_logger().warning(f'{sensor.label}: no image for {silent_for:.1f} s; is the sensor '
                                          'plugged in and its driver running?')
            status = sensor_status(sensor, name, self._classifier.needs_reference,
                                   self._previous_statuses.get(sensor.name))
            self._previous_statuses[sensor.name] = status
            statuses.append(status)
        statuses.append(node_status(name, {
            'checkpoint': str(self._checkpoint_path), 'device': str(self._classifier.runtime.device),
            'engine': self._classifier.runtime.name, 'precision': self._classifier.runtime.precision,
            'threads': str(self._classifier.threads),
            'tau': ', '.join(f'{t:g}' for t in self._tau), 'tau_from': self._decides,
        }))
        self._diagnostics_publisher.publish(diagnostic_array(self.get_clock().now().to_msg(), statuses))


def _topic(sensor: Sensor, name: str) -> str:
    return f'{sensor.name}/{name}' if sensor.name else name


def _numbers(tau: Any) -> float | list[float]:
    return float(tau) if isinstance(tau, (int, float)) else [float(t) for t in tau]


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; 0 after a clean stop, 1 when it can't configure, 2 for a bad parameter."""
    with classifier_profile():
        return run_lifecycle_node(TactileClassifierNode, args)


if __name__ == '__main__':
    sys.exit(main())
