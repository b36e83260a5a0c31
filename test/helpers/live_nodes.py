"""For the ROS tests: real nodes in separate processes over real DDS, without mocks of ROS."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_forker import forked
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.live.node_process import launched

TIMEOUT = 60.0  # s; generous, since no test depends on being fast
CLASSES = ('nothing', 'ball', 'edge')


class NodeProcess:
    """A node in a process of its own, with its output.

    fresh: start it as a user does, which takes 4 s more of a core. patch: otherwise, code to execute before it runs.
    python: what runs `-m MODULE`, always fresh; default: this Python.
    """

    def __init__(self, module: str, folder: Path, *arguments: str, fresh: bool = False, patch: str = '',
                 python: Sequence[str] = ()) -> None:
        self.log = folder / f'{module}_{time.monotonic_ns()}.log'
        words = ['--ros-args', *arguments]
        self.process = (launched(module, words, self.log, python or (sys.executable,)) if fresh or python else
                        forked(module, words, self.log, patch))

    @property
    def output(self) -> str:
        return self.log.read_text(errors='replace')

    def wait_for_output(self, text: str) -> None:
        wait_until(lambda: text in self.output or self.process.poll() is not None,
                   lambda: f'{text!r} in:\n{self.output}')
        assert text in self.output, f'node ended with {self.process.returncode}:\n{self.output}'

    def wait_for_end(self) -> int:
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:  # a node that hangs would take part in later tests
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(TIMEOUT)
            pytest.fail(f'the node did not end:\n{self.output}')

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait_for_end()


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Poll until the condition holds; fails with `what` after a generous time."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f'timed out waiting for {what()}'
        time.sleep(0.01)


class Client(Node):
    """The test's own node: publishes images, collects results and diagnostics, calls services."""

    def __init__(self) -> None:
        super().__init__('test_client')
        self._condition = threading.Condition()
        self.results: dict[str, list[TactileClassification]] = {}
        self.result_ages: dict[str, list[float]] = {}  # s from the image's stamp to the receipt of its result
        self.diagnostics: list[DiagnosticArray] = []
        self._image_publishers: dict[str, object] = {}
        self.create_subscription(DiagnosticArray, '/diagnostics', self._collect(self.diagnostics), 50)

    def _collect(self, into: list) -> Callable[[object], None]:
        def add(message: object) -> None:
            with self._condition:
                into.append(message)
                self._condition.notify_all()
        return add

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Until the condition, on what has been collected, holds."""
        with self._condition:
            assert self._condition.wait_for(condition, TIMEOUT), f'timed out waiting for {what}'

    def listen(self, topic: str = '/tactile') -> list[TactileClassification]:
        """A list that fills with the results on a topic."""
        results = self.results[topic] = []
        ages = self.result_ages[topic] = []
        collect = self._collect(results)

        def on_result(message: TactileClassification) -> None:
            stamp = message.header.stamp
            ages.append(self.get_clock().now().nanoseconds / 1e9 - stamp.sec - stamp.nanosec / 1e9)
            collect(message)

        self.create_subscription(TactileClassification, topic, on_result, 100)
        wait_until(lambda: self.count_publishers(topic), lambda: f'a publisher of {topic}')
        return results

    def image_publisher(self, topic: str = '/image_raw', message_type: type = Image,
                        qos: QoSProfile = qos_profile_sensor_data, matched: bool = True):
        """A publisher that the node under test has found (or, with matched=False, only exists)."""
        if topic not in self._image_publishers:
            publisher = self._image_publishers[topic] = self.create_publisher(message_type, topic, qos)
            if matched:
                wait_until(publisher.get_subscription_count, lambda: f'a subscriber of {topic}')
        return self._image_publishers[topic]

    def send(self, message: Image | CompressedImage, topic: str = '/image_raw') -> None:
        self.image_publisher(topic, type(message)).publish(message)

    def send_until(self, message: Image | CompressedImage, condition: Callable[[], object], what: str,
                   topic: str = '/image_raw') -> None:
        """Repeat a message, since a best-effort one may be lost, until the condition holds."""
        end = time.monotonic() + TIMEOUT
        while True:
            self.send(message, topic)
            with self._condition:
                if self._condition.wait_for(condition, 0.5):
                    return
            assert time.monotonic() < end, f'timed out waiting for {what}'

    def result_of(self, message: Image | CompressedImage, results: list[TactileClassification],
                  topic: str = '/image_raw') -> TactileClassification:
        """Send an image, with a stamp of its own, until its result is among `results`; returns that.

        Any result ended such waits: after an image that was sent twice, that of an earlier one was taken for it.
        """
        def found() -> TactileClassification | None:
            return next((result for result in results if result.header.stamp == message.header.stamp), None)

        self.send_until(message, found, f'the result of the image of {message.header.stamp}', topic)
        return found()

    def call(self, service_type: type, name: str, request: object, is_repeatable: bool = False):
        """The response. A repeatable request is sent again every 5 s: DDS may lose a response during discovery."""
        client = self.create_client(service_type, name)
        assert client.wait_for_service(TIMEOUT), f'no service {name}'
        done = threading.Event()
        end = time.monotonic() + TIMEOUT
        futures = []
        while not done.is_set():
            assert time.monotonic() < end, f'service {name} did not respond to {len(futures)} requests'
            futures.append(client.call_async(request))
            futures[-1].add_done_callback(lambda _: done.set())
            done.wait(5.0 if is_repeatable else TIMEOUT)
        self.destroy_client(client)
        return next(future for future in futures if future.done()).result()

    def set_parameter(self, name: str, value: object, node: str = '/tactile_classifier'):
        """The node's response: .successful and .reason."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f'{node}/set_parameters', request, is_repeatable=True).results[0]

    def get_parameter_of(self, name: str, node: str = '/tactile_classifier') -> object:
        response = self.call(GetParameters, f'{node}/get_parameters', GetParameters.Request(names=[name]),
                             is_repeatable=True)
        return rclpy.parameter.parameter_value_to_python(response.values[0])

    def state(self, node: str = '/tactile_classifier') -> str:
        return self.call(GetState, f'{node}/get_state', GetState.Request(), is_repeatable=True).current_state.label

    def change_state(self, label: str, node: str = '/tactile_classifier') -> bool:
        return self.call(ChangeState, f'{node}/change_state',
                         ChangeState.Request(transition=Transition(label=label))).success

    def change_state_by_id(self, transition: int, node: str = '/tactile_classifier') -> bool:
        return self.call(ChangeState, f'{node}/change_state',
                         ChangeState.Request(transition=Transition(id=transition))).success

    def status(self, name: str = 'sensor', node: str = 'tactile_classifier'):
        """The sensor's newest status on /diagnostics, None before the first."""
        wanted = f'{node}: {name}'
        for message in reversed(self.diagnostics):
            for status in message.status:
                if status.name == wanted:
                    return status
        return None

    def values(self, name: str = 'sensor', node: str = 'tactile_classifier') -> dict[str, str]:
        """The values of the newest status on /diagnostics; empty before the first."""
        status = self.status(name, node)
        return {v.key: v.value for v in status.values} if status else {}

    def counter(self, key: str, name: str = 'sensor') -> int:
        return int(self.values(name).get(key, 0))


def image(number: int = 1, encoding: str = 'rgb8', height: int = 24, width: int = 32, channels: int = 3,
          padding: int = 0) -> Image:
    """An image with a stamp of `number` seconds; its bytes depend on the number."""
    step = width * channels + padding
    # 37: neighbouring bytes differ, or the three channels would be those of a grey image
    data = array('B', [(7 * number + 37 * i) % 256 for i in range(height * step)])
    message = Image(header=Header(frame_id=f'finger_{number}'), height=height, width=width, encoding=encoding,
                    step=step, data=data)
    message.header.stamp.sec = number
    return message


@contextlib.contextmanager
def spinning_client(profile: contextlib.AbstractContextManager | None = None) -> Iterator[Client]:
    """rclpy with a client that a thread spins; `profile`: of the middleware, while the client is created."""
    rclpy.init()
    with profile or contextlib.nullcontext():
        node = Client()
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            while rclpy.ok():
                with contextlib.suppress(InvalidHandle):  # a test destroyed a subscription while this waited for it
                    executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        rclpy.try_shutdown()
        thread.join(TIMEOUT)
