"""The live node `tactile_classifier`: classifies the images of one or several touch sensors."""

from __future__ import annotations

import gc
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image

from vit_tactile_ros.foundation.files import WriteError
from vit_tactile_ros.foundation.memory import return_freed_memory
from vit_tactile_ros.inference.annotation import Annotated
from vit_tactile_ros.inference.classifier import Decision, TactileClassifier
from vit_tactile_ros.inference.frames import WORTH_SAVING, Frame
from vit_tactile_ros.inference.slip_network import SLIP_MOTION
from vit_tactile_ros.inference.touch_events import are_states
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.ros.annotator import Annotator
from vit_tactile_ros.ros.diagnostics import Reporter
from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.image_subscription import ImageSubscription
from vit_tactile_ros.ros.library_log import library_log
from vit_tactile_ros.ros.lifecycle import ExplainingLifecycleNode
from vit_tactile_ros.ros.node_parameters import NodeParameters
from vit_tactile_ros.ros.parameters import RULES
from vit_tactile_ros.ros.qos_events import QosEvents
from vit_tactile_ros.ros.run import fastest_executor, run_node
from vit_tactile_ros.ros.running import Running, new_frames
from vit_tactile_ros.ros.sensor import Sensor, WaitingImage
from vit_tactile_ros.ros.sensor_publishers import SensorPublishers
from vit_tactile_ros.ros.services import NodeServices
from vit_tactile_ros.ros.start import unused_qos_overrides
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.topics import OVERRIDABLE_QOS, image_topic, incompatible_qos_text
from vit_tactile_ros.ros.transport import classifier_profile
from vit_tactile_ros.ros.vision_publishers import ABSENT
from vit_tactile_ros.ros.worker import STOP_LIMIT, ClassificationWorker

SAVE_PERIOD = 60.0  # s between two writes of the references to their files, which also follow at deactivation


class TactileClassifierNode(ExplainingLifecycleNode):
    """Declares parameters, subscribes to images, passes them to the worker and publishes its decisions."""

    def __init__(self, **kwargs: Any) -> None:
        """Raises rclpy's parameter exceptions for a start-up parameter that is wrong."""
        super().__init__('tactile_classifier', **kwargs)
        self._running: Running | None = None  # from configure to cleanup
        self._image_subscriptions: list[ImageSubscription] = []
        self._saving: Timer | None = None
        self._annotator: Annotator | None = None
        self._hang = ''  # why the thread of an earlier activation has not ended
        self._throttled = ThrottledLog(self.get_logger())
        self._guard = CallbackGuard(self._throttled)
        self._qos_events = QosEvents(self, self._guard)
        self._reporter = Reporter(self, self._guard, self._throttled)
        self._settings = NodeParameters(self, self._guard)
        self._node_services = NodeServices(self, self._guard)
        if ABSENT:
            self.get_logger().info(ABSENT)

    @property
    def failure(self) -> str:
        """Why this node can no longer classify, so that its process must end; empty while it can."""
        worker_failure = self._worker.failure if self._worker is not None else ''
        return self._hang or worker_failure or self._reporter.failure

    @property
    def _worker(self) -> ClassificationWorker | None:
        return self._running.worker if self._running is not None else None

    def on_executor_error(self, error: Exception) -> None:
        """An exception between two callbacks, which is counted as one of a callback is."""
        self._guard.count('the executor', error)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint, warm it up, create publishers and services."""
        return self.transition('configure', self._configure, self._release)

    def _configure(self) -> None:
        started = time.monotonic()
        value = self._settings.value
        path = Path(value('checkpoint')).expanduser() if value('checkpoint') else shipped_checkpoint()
        checkpoint = load_checkpoint(path)
        with library_log(self.get_logger()):
            classifier = TactileClassifier(checkpoint, value('device'), value('precision'), value('threads'),
                                           value('engine'))
        self._settings.configure(checkpoint.calibration, len(classifier.exits))
        running = self._running = Running(self, self._settings, path, classifier, [
            Sensor(name, frames) for name, frames in new_frames(self, self._settings, classifier).items()])
        for sensor in running.sensors:
            running.outputs[sensor.name] = SensorPublishers(self, sensor.name, classifier.class_names,
                                                            len(classifier.exits), partial(value, 'slip_threshold'),
                                                            partial(value, 'lost_threshold'))
        if value('gate') and classifier.gate_problem:
            self.get_logger().info(f'{classifier.gate_problem}, so no image exits before the first block')
        if value('slip_motion') and are_states(classifier.class_names):
            self.get_logger().info(f'slip and lost objects are found by {SLIP_MOTION}, contact by {path.name}; with '
                                   'slip_motion false, slip by that, too')
        self._node_services.create(running)
        self._annotator = Annotator(self, [sensor.name for sensor in running.sensors], self._guard)
        classifier.warm_up(range(1, len(running.sensors) + 1))
        gc.collect()
        gc.freeze()  # scanning all objects of torch takes 0.1 s, in which no image would be classified
        self.get_logger().info(
            f'{path.name}: {len(classifier.class_names)} classes, exits at blocks {classifier.exits}, '
            f'engine {classifier.runtime.name} in {classifier.runtime.precision} on {classifier.runtime.device} with '
            f'{classifier.threads} CPU threads, tau {self._settings.thresholds()}, '
            f'ready in {time.monotonic() - started:.1f} s')

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to classify."""
        super().on_activate(state)  # first, since a publisher that is not active drops messages
        result = self.transition('activate', self._activate, self._stop)
        if result != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return result

    def _activate(self) -> None:
        running = self._running
        assert running is not None
        # Fast DDS keeps each buffer of a subscription at the size of the largest image that it has held. The executor
        # has let go of earlier subscriptions only now.
        return_freed_memory()
        for sensor in running.sensors:
            sensor.forget_the_past()
            running.outputs[sensor.name].start()
        running.worker = ClassificationWorker(running.classifier, running.sensors, self._settings.thresholds,
                                              self._publish, self.get_logger(), self._throttled,
                                              partial(self._settings.value, 'gate'), self._settings.budget,
                                              self._guard('annotated image', self._show))
        running.worker.start()
        transport = self._settings.value('image_transport')
        for sensor in running.sensors:
            self._image_subscriptions.append(ImageSubscription(
                self, sensor, CompressedImage if transport == 'compressed' else Image,
                image_topic(sensor.name, transport), partial(self._on_image, sensor),
                partial(self._on_incompatible_qos, sensor), OVERRIDABLE_QOS.policy_kinds, self._throttled, self._guard))
        for warning in unused_qos_overrides(self):
            self.get_logger().warning(warning)
        if self._settings.value('reference_store'):
            self._saving = self.create_timer(SAVE_PERIOD, self._guard(
                'saving references', partial(self._save_references, WORTH_SAVING)),
                                             clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._reporter.start(running, running.worker, self._image_subscriptions)
        topics = ', '.join(s.topic_name for s in self._image_subscriptions)
        self.get_logger().info(f'active, waiting for images on {topics}')

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take no more images; finish those that are waiting."""
        result = self.transition('deactivate', self._stop)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the model and the sensors' counters."""
        return self.transition('clean up', self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.transition('shut down', self._end)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after any error."""
        return self.transition('recover', self._end)

    def _end(self) -> None:
        self._stop()
        self._release()

    def finish(self) -> None:
        """Stop the worker and destroy the node, in any state."""
        self._end()
        self._node_services.join()
        self.destroy_node()

    def _stop(self) -> None:
        self._qos_events.take()  # images that were lost until now
        for subscription in self._image_subscriptions:
            subscription.destroy()
        self._image_subscriptions.clear()
        if self._saving is not None:
            self.destroy_timer(self._saving)
            self._saving = None
        running = self._running
        if running is not None and running.worker is not None:
            if not running.worker.stop(STOP_LIMIT if not self._reporter.failure else 0.0):
                self._hang = 'the network has not returned from its last batch'
            self._save_references()
            for outputs in running.outputs.values():
                outputs.stop()
        if self._annotator is not None:
            self._annotator.stop()
        self._reporter.stop()
        if running is not None:
            running.worker = None

    def _release(self) -> None:
        self._node_services.destroy()
        if self._annotator is not None:
            self._annotator.destroy()
            self._annotator = None
        if self._running is not None:
            for outputs in self._running.outputs.values():
                outputs.destroy()
        self._running = None
        self._reporter.forget()
        self._settings.forget()
        gc.unfreeze()

    # Images

    def _on_image(self, sensor: Sensor, message: Any) -> None:
        arrival = sensor.receive(message, time.monotonic(), self._clock_ns)
        if (worker := self._worker) is not None:
            worker.notify()
        if arrival.silent_for:
            self.get_logger().info(f'{sensor.label}: images again after {arrival.silent_for:.1f} s')
        for cause, text in arrival.warnings():
            self._throttled.warning(f'{sensor.name} {cause}', f'{sensor.label}: {text}')

    def _clock_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _publish(self, sensor: Sensor, image: WaitingImage, decision: Decision) -> float | None:
        """Publish one result and its events; returns its image's age in s, None if unknown. Called by the worker."""
        header = image.message.header
        stamp_ns = image.stamp_ns
        if not stamp_ns:
            stamp_ns = image.received_ns or time.time_ns()  # simulated time is 0 until the first /clock
            header.stamp = rclpy.time.Time(nanoseconds=stamp_ns).to_msg()
        age, warning = sensor.age(image, self._clock_ns())
        assert self._running is not None  # the worker ends before it is forgotten
        outputs = self._running.outputs[sensor.name]
        outputs.publish_result(decision, header, age)
        self._guard('touch events', outputs.publish_events)(decision, stamp_ns, header.frame_id)
        if warning:
            self._throttled.warning(f'{sensor.name} age', f'{sensor.label}: {warning}')
        return age

    def _save_references(self, least: float = 0.0) -> None:
        for sensor in self._running.sensors if self._running is not None else ():
            try:
                if (path := sensor.frames.save_reference(least)) is not None:
                    self.get_logger().info(f'{sensor.label}: no-contact reference stored in {path}')
            except WriteError as error:
                self._throttled.warning(f'{sensor.name} reference store', f'{sensor.label}: {error}')

    def _show(self, sensor: Sensor, image: WaitingImage, frame: Frame, decision: Decision, age: float | None) -> None:
        running, annotator = self._running, self._annotator
        if annotator is not None and running is not None:
            classifier = running.classifier
            annotator.offer(sensor.name, image.message.header, lambda: Annotated(
                frame.whole_image, frame.image, frame.reference, decision, classifier.class_names, classifier.exits,
                age, running.outputs[sensor.name].touch_state, sensor.name, frame.closer))

    def _on_incompatible_qos(self, sensor: Sensor, event: QoSRequestedIncompatibleQoSInfo) -> None:
        with sensor.lock:
            sensor.incompatible_publishers = event.total_count
        self._throttled.error(f'{sensor.name} qos', f'{sensor.label}: {incompatible_qos_text(event)}')


def main(args: list[str] | None = None) -> int:
    """Run the node until it is stopped; returns the status of the process, see `run_node`."""
    cv2.setNumThreads(1)  # for images this small, distributing the work costs more than it gains
    with classifier_profile():
        return run_node(TactileClassifierNode, tuple(RULES), args, fastest_executor)


if __name__ == '__main__':
    sys.exit(main())
