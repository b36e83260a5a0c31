"""The live node `tactile_classifier`: classifies the images of one or several touch sensors."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.service import Service
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from vit_tactile_ros.foundation.files import WriteError
from vit_tactile_ros.inference.classifier import Decision, TactileClassifier
from vit_tactile_ros.inference.frames import WORTH_SAVING, Frame, SensorFrames, sensor_frames
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.ros.annotation import Annotated
from vit_tactile_ros.ros.annotator import Annotator
from vit_tactile_ros.ros.diagnostics import Reporter
from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.image_subscription import ImageSubscription
from vit_tactile_ros.ros.late_service import late_service
from vit_tactile_ros.ros.library_log import library_log
from vit_tactile_ros.ros.lifecycle import ExplainingLifecycleNode
from vit_tactile_ros.ros.node_parameters import NodeParameters
from vit_tactile_ros.ros.parameters import RULES
from vit_tactile_ros.ros.reload import CheckpointReload, Loaded
from vit_tactile_ros.ros.run import fastest_executor, run_node
from vit_tactile_ros.ros.sensor import Sensor, WaitingImage
from vit_tactile_ros.ros.sensor_publishers import SensorPublishers
from vit_tactile_ros.ros.start import unused_qos_overrides
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.topics import (
    ENABLE_SERVICE,
    OVERRIDABLE_QOS,
    RELOAD_SERVICE,
    capture_service,
    incompatible_qos_text,
    topic,
)
from vit_tactile_ros.ros.transport import classifier_profile
from vit_tactile_ros.ros.vision_publishers import ABSENT
from vit_tactile_ros.ros.worker import STOP_LIMIT, ClassificationWorker

SAVE_PERIOD = 60.0  # s between two writes of the references to their files, which also follow at deactivation


class TactileClassifierNode(ExplainingLifecycleNode):
    """Declares parameters, subscribes to images, passes them to the worker and publishes its decisions."""

    def __init__(self, **kwargs: Any) -> None:
        """Raises rclpy's parameter exceptions for a start-up parameter that is wrong."""
        super().__init__('tactile_classifier', **kwargs)
        self._classifier: TactileClassifier | None = None
        self._worker: ClassificationWorker | None = None
        self._sensors: list[Sensor] = []
        self._outputs: dict[str, SensorPublishers] = {}
        self._image_subscriptions: list[ImageSubscription] = []
        self._node_services: list[Service] = []
        self._saving: Timer | None = None
        self._annotator: Annotator | None = None
        self._reload: CheckpointReload | None = None
        self._checkpoint_path = Path()
        self._hang = ''  # why the thread of an earlier activation has not ended
        self._throttled = ThrottledLog(self.get_logger())
        self._guard = CallbackGuard(self._throttled)
        self._reporter = Reporter(self, self._guard, self._throttled)
        self._settings = NodeParameters(self, self._guard)
        if ABSENT:
            self.get_logger().info(ABSENT)

    @property
    def failure(self) -> str:
        """Why this node can no longer classify, so that its process must end; empty while it can."""
        worker_failure = self._worker.failure if self._worker is not None else ''
        return self._hang or worker_failure or self._reporter.failure

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
        path = value('checkpoint')
        self._checkpoint_path = Path(path).expanduser() if path else shipped_checkpoint()
        checkpoint = load_checkpoint(self._checkpoint_path)
        with library_log(self.get_logger()):
            classifier = TactileClassifier(checkpoint, value('device'), value('precision'), value('threads'),
                                           value('engine'))
        names = list(value('sensors') or [''])
        self._settings.configure(checkpoint.calibration, len(classifier.exits))
        frames = self._frames(classifier)
        self._sensors = [Sensor(name, frames[name]) for name in names]
        for sensor in self._sensors:
            self._outputs[sensor.name] = SensorPublishers(self, sensor.name, classifier.class_names,
                                                             len(classifier.exits))
            self._node_services.append(self.create_service(Trigger, capture_service(sensor.name), self._guard(
                'capture_reference', partial(self._capture_reference, sensor), _internal_error)))
        if value('gate') and classifier.gate_problem:
            self.get_logger().info(f'{classifier.gate_problem}, so no image exits before the first block')
        self._node_services += [
            self.create_service(SetBool, ENABLE_SERVICE, self._guard('enable', self._enable, _internal_error)),
            late_service(self, Trigger, RELOAD_SERVICE, self._guard(
                'reload_checkpoint', self._reload_checkpoint,
                lambda error, respond: respond(_internal_error(error, None, Trigger.Response()))))]
        self._annotator = Annotator(self, names, self._guard)
        classifier.warm_up(range(1, len(names) + 1))
        self._classifier = classifier
        gc.collect()
        gc.freeze()  # scanning all objects of torch takes 0.1 s, in which no image would be classified
        self.get_logger().info(
            f'{self._checkpoint_path.name}: {len(classifier.class_names)} classes, exits at blocks {classifier.exits}, '
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
        assert self._classifier is not None
        for sensor in self._sensors:
            sensor.forget_the_past()
            self._outputs[sensor.name].start()
        self._worker = ClassificationWorker(self._classifier, self._sensors, self._settings.thresholds, self._publish,
                                            self.get_logger(), self._throttled,
                                            partial(self._settings.value, 'gate'), self._settings.budget,
                                            self._guard('annotated image', self._show))
        self._worker.start()
        compressed = self._settings.value('image_transport') == 'compressed'
        for sensor in self._sensors:
            self._image_subscriptions.append(ImageSubscription(
                self, sensor, CompressedImage if compressed else Image,
                topic(sensor.name, 'image_raw/compressed' if compressed else 'image_raw'),
                partial(self._on_image, sensor), partial(self._on_incompatible_qos, sensor),
                OVERRIDABLE_QOS.policy_kinds, self._throttled, self._guard))
        for warning in unused_qos_overrides(self):
            self.get_logger().warning(warning)
        if self._settings.value('reference_store'):
            self._saving = self.create_timer(SAVE_PERIOD, self._guard(
                'saving references', partial(self._save_references, WORTH_SAVING)),
                                             clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._reporter.start(self._sensors, self._worker, self._settings, self._checkpoint_path,
                             self._image_subscriptions)
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
        if self._reload is not None:
            self._reload.join()
        self.destroy_node()

    def _stop(self) -> None:
        for subscription in self._image_subscriptions:
            subscription.destroy()
        self._image_subscriptions.clear()
        if self._saving is not None:
            self.destroy_timer(self._saving)
            self._saving = None
        if self._worker is not None:
            if not self._worker.stop(STOP_LIMIT if not self._reporter.failure else 0.0):
                self._hang = 'the network has not returned from its last batch'
            self._save_references()
            for outputs in self._outputs.values():
                outputs.stop()
        if self._annotator is not None:
            self._annotator.stop()
        self._reporter.stop()
        self._worker = None

    def _release(self) -> None:
        if self._reload is not None:
            self._reload.cancel('not reloaded: the node was cleaned up')
        if self._annotator is not None:
            self._annotator.destroy()
            self._annotator = None
        for outputs in self._outputs.values():
            outputs.destroy()
        self._outputs.clear()
        for service in self._node_services:
            self.destroy_service(service)
        self._node_services.clear()
        self._sensors.clear()
        self._reporter.forget()
        self._settings.forget()
        self._classifier = None
        gc.unfreeze()

    # Images

    def _on_image(self, sensor: Sensor, message: Any) -> None:
        arrival = sensor.receive(message, time.monotonic(), self._clock_ns)
        if self._worker is not None:
            self._worker.notify()
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
        outputs = self._outputs[sensor.name]
        outputs.publish_result(decision, header, age)
        self._guard('touch events', outputs.publish_events)(decision, stamp_ns, header.frame_id)
        if warning:
            self._throttled.warning(f'{sensor.name} age', f'{sensor.label}: {warning}')
        return age

    def _save_references(self, least: float = 0.0) -> None:
        for sensor in self._sensors:
            try:
                sensor.frames.save_reference(least)
            except WriteError as error:
                self._throttled.warning(f'{sensor.name} reference store', f'{sensor.label}: {error}')

    def _show(self, sensor: Sensor, image: WaitingImage, frame: Frame, decision: Decision, age: float | None) -> None:
        classifier, annotator = self._classifier, self._annotator
        if annotator is not None and classifier is not None:
            annotator.offer(sensor.name, image.message.header, lambda: Annotated(
                frame.image, frame.reference, decision, classifier.class_names, classifier.exits, age,
                self._outputs[sensor.name].touch_state, sensor.name))

    def _on_incompatible_qos(self, sensor: Sensor, event: QoSRequestedIncompatibleQoSInfo) -> None:
        with sensor.lock:
            sensor.incompatible_publishers = event.total_count
        self._throttled.error(f'{sensor.name} qos', f'{sensor.label}: {incompatible_qos_text(event)}')

    def _capture_reference(self, sensor: Sensor, _request: Trigger.Request, response: Trigger.Response,
                           ) -> Trigger.Response:
        if self._classifier is None or not self._classifier.needs_reference:
            response.success, response.message = False, 'this checkpoint uses no reference'
        elif self._worker is None:
            response.success, response.message = False, (
                f'this node is inactive and receives no images: ros2 lifecycle set {self.get_fully_qualified_name()} '
                'activate, then call this service again')
        elif sensor.is_paused:
            response.success, response.message = False, (
                f'this node is paused: ros2 service call {self.get_fully_qualified_name()}/enable std_srvs/srv/SetBool '
                '"{data: true}", then call this service again')
        elif refusal := sensor.refuses_capture(time.monotonic()):
            response.success, response.message = False, refusal
        else:
            sensor.frames.request_recapture()
            response.success = True
            response.message = (f'the next {sensor.frames.reference.num_frames} frames become the reference: '
                                'touch nothing')
        return response

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        for sensor in self._sensors:
            sensor.pause(not request.data)
        if not request.data and self._worker is not None:
            with self._worker.held():  # the image being classified still counts
                for outputs in self._outputs.values():
                    outputs.interrupt()
        response.success = True
        response.message = 'images are classified' if request.data else 'paused: images are counted, not classified'
        self.get_logger().info(response.message)
        return response

    def _reload_checkpoint(self, respond: Callable[[Trigger.Response], None]) -> None:
        if self._reload is not None and self._reload.is_running:
            respond(Trigger.Response(success=False, message='the checkpoint is being loaded already'))
            return
        assert self._classifier is not None
        self._reload = CheckpointReload(self, partial(self._load_beside, self._classifier), self._adopt, respond,
                                        self._guard)

    def _load_beside(self, running: TactileClassifier) -> Loaded:
        """In a thread: with the engine, precision and threads that were chosen, since measuring under load misleads."""
        checkpoint = load_checkpoint(self._checkpoint_path)
        runtime = running.runtime
        classifier = TactileClassifier(checkpoint, str(runtime.device), runtime.precision, running.threads,
                                       runtime.name)
        classifier.warm_up(range(1, len(self._sensors) + 1))
        return Loaded(classifier, checkpoint.calibration, self._frames(classifier))

    def _frames(self, classifier: TactileClassifier) -> dict[str, SensorFrames]:
        value = self._settings.value
        return sensor_frames(list(value('sensors') or ['']), list(value('reference_files') or ['']),
                             value('reference_frames'), classifier.preprocessing, classifier.expects_grey,
                             value('reference_drift'),
                             Path(value('reference_store')).expanduser() if value('reference_store') else None,
                             self.get_namespace())

    def _adopt(self, loaded: Loaded) -> str:
        """Put a loaded classifier in place, between two batches; returns what is new about it."""
        new, old = loaded.classifier, self._classifier
        assert old is not None
        sees_the_same = (new.preprocessing, new.expects_grey) == (old.preprocessing, old.expects_grey)
        fits_the_same = all(getattr(new.preprocessing, name) == getattr(old.preprocessing, name)
                            for name in ('image_size', 'orientation', 'crop', 'reference'))
        with self._worker.held() if self._worker is not None else contextlib.nullcontext():
            self._settings.check(loaded.calibration, len(new.exits))
            try:
                self._use_classes(new)
            except BaseException:
                self._use_classes(old)
                raise
            self._settings.configure(loaded.calibration, len(new.exits))
            for sensor in self._sensors:
                if not sees_the_same:
                    fresh = loaded.frames[sensor.name]
                    if fits_the_same:
                        fresh.take_over(sensor.frames)
                    sensor.frames = fresh
            self._classifier = new
            if self._worker is not None:
                self._worker.classifier = new
        notes = [f'{len(new.class_names)} classes', f'tau {self._settings.thresholds()}']
        if new.class_names != old.class_names:
            notes.append('other classes than before')
        if not fits_the_same and new.needs_reference:
            notes.append('another preprocessing than before, so references without a file are captured again from the '
                         'next frames: touch nothing')
        return ', '.join(notes)

    def _use_classes(self, classifier: TactileClassifier) -> None:
        for outputs in self._outputs.values():
            outputs.use(classifier.class_names, len(classifier.exits))


def _internal_error(error: Exception, _request: Any, response: Any) -> Any:
    response.success, response.message = False, f'internal error, see the log of the node: {error}'
    return response


def main(args: list[str] | None = None) -> int:
    """Run the node until it is stopped; returns the status of the process, see `run_node`."""
    cv2.setNumThreads(1)  # for images this small, distributing the work costs more than it gains
    with classifier_profile():
        return run_node(TactileClassifierNode, tuple(RULES), args, fastest_executor)


if __name__ == '__main__':
    sys.exit(main())
