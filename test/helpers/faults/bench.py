"""One node in a process of its own, a camera for it, and all that the node reports: log, /diagnostics, results."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus
from live_nodes import Client, NodeProcess
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from faults.scene import Scene
from vit_tactile_ros.ros.live.node_process import START_TIMEOUT

RATE = 60.0  # Hz, of the camera
LEDGER = ('classified', 'superseded', 'rejected', 'paused', 'pending')  # add up to `received`; gated: classified
RESULT_LIMIT = 20.0  # s until a good frame must have its result, whatever happened before; far more than is allowed
GOOD = 8  # frames of each kind in a row
NODE = 'tactile_classifier'
_NUMBER = re.compile(r'\b\d+(\.\d+)?\b')  # that changes from report to report
_LINE = re.compile(r'\[(WARN|ERROR|FATAL)\] \[[\d.]+\] \[[^\]]*\]: (.*)')

# Starts the node after some code that replaces a part of it by one that fails.
PATCHED = """
import sys
patch = sys.argv[1]
del sys.argv[1:4]
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.ros import classifier_node
exec(patch)
sys.exit(classifier_node.main())
"""


class FaultError(AssertionError):
    """The node did something wrong."""


class Recovery(NamedTuple):
    seconds: float  # from the first good frame to the first right result of a touched one
    frames: int  # good ones sent until then
    wrong: int  # results of good frames with another class, before that


class Mark(NamedTuple):
    """A moment; what was logged and reported since then can be read."""

    log: int  # bytes
    diagnostics: int  # messages
    results: int


class Bench:
    """A node on `/image_raw`, the frames that it sees, and its classes of the two kinds of frames."""

    def __init__(self, client: Client, folder: Path, checkpoint: Path, scene: Scene) -> None:
        self.client = client
        self.folder = folder
        self.checkpoint = folder / 'checkpoint.safetensors'  # a copy, which faults may damage
        self._original = checkpoint
        self.restore_checkpoint()
        self.scene = scene
        self.results = client.results.setdefault('/tactile', [])
        self.node: NodeProcess | None = None
        self.expected: dict[bool, str] = {}  # class by whether it is touched
        self.is_patched = False
        self.is_compressed = False  # whether the camera sends PNG
        self._publisher: Any = None
        self._number = 0

    # The node

    def start(self, *arguments: str, patch: str = '', environment: Mapping[str, str] | None = None, wait: bool = True,
              python: Sequence[str] = (sys.executable,), **parameters: object) -> NodeProcess:
        """Start the node, and wait until it has classified both kinds of frames."""
        parameters = {'checkpoint': self.checkpoint, 'threads': 1, 'engine': 'torch', 'diagnostics_period': 0.1,
                      'image_transport': 'compressed' if self.is_compressed else 'raw'} | parameters
        for name, value in parameters.items():
            arguments += ('-p', f'{name}:={value}')
        self.is_patched = bool(patch)
        with _environment(environment or {}):
            self.node = NodeProcess('classifier_node', self.folder, *arguments, python=[
                *python, *(['-c', PATCHED, patch] if patch else [])])
        if wait:
            self.node.wait_for_output('active, waiting for images')
            self.settle()
        return self.node

    def settle(self) -> None:
        """Wait for the first results; the first start of all learns which classes are right."""
        if not self.results and '/tactile' not in self.client.result_ages:
            self.results = self.client.listen()
        self.camera(START_TIMEOUT)
        first, end = len(self.results), time.monotonic() + 2 * RESULT_LIMIT
        while len(self.results) < first + GOOD:  # a killed node seems to be subscribed for some time
            self.play(self.good(1))
            time.sleep(1 / RATE)
            if time.monotonic() > end:
                raise FaultError('mute: no result after the start')
        if not self.expected:
            self._learn()
        self.recover()

    def stop(self) -> None:
        if self.node is not None and self.node.process.poll() is None:
            self.node.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.node.process.wait(5.0)
            self.node.process.kill()
            self.node.process.wait()
        self.node = None

    def go_to(self, state: str) -> None:
        """Bring the node from any state to 'unconfigured', 'inactive' or 'active'."""
        steps = {('unconfigured', 'inactive'): 'configure', ('unconfigured', 'active'): 'configure',
                 ('inactive', 'active'): 'activate', ('inactive', 'unconfigured'): 'cleanup',
                 ('active', 'inactive'): 'deactivate', ('active', 'unconfigured'): 'deactivate'}
        while (now := self.client.state()) != state:
            if (now, state) not in steps or not self.client.change_state(steps[now, state]):
                raise FaultError(f'cannot go from {now} to {state}')

    def restore_checkpoint(self) -> None:
        if self.checkpoint.is_dir():
            self.checkpoint.rmdir()
        shutil.copyfile(self._original, self.checkpoint)

    def reload_after_failure(self) -> None:
        """/diagnostics has a failed reload, which every row would find, until one succeeds."""
        self.play(self.good(75))  # longer than the period of /diagnostics
        response = self.client.call(Trigger, '/tactile_classifier/reload_checkpoint', Trigger.Request())
        if not response.success:
            raise FaultError(response.message)

    @property
    def process_id(self) -> int:
        assert self.node is not None
        return self.node.process.pid

    @property
    def is_alive(self) -> bool:
        return self.node is not None and self.node.process.poll() is None

    def memory(self) -> float:
        """MB of the node that are resident."""
        try:
            pages = int(Path(f'/proc/{self.process_id}/statm').read_text().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf('SC_PAGESIZE') / 2**20

    # The camera

    def camera(self, limit: float = RESULT_LIMIT) -> Any:
        """Its publisher, reliable as a driver that wants no loss, matched with the node."""
        if self._publisher is None:
            self._publisher = self.client.image_publisher(
                *(('/image_raw/compressed', CompressedImage) if self.is_compressed else ('/image_raw', Image)),
                qos=QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE))
        end = time.monotonic() + limit
        while not self._publisher.get_subscription_count():
            if time.monotonic() > end:
                raise FaultError('the node does not subscribe to /image_raw')
            time.sleep(0.005)
        return self._publisher

    def unplug(self) -> None:
        if self._publisher is not None:
            self.client.destroy_publisher(self._publisher)
            self.client._image_publishers.clear()
            self._publisher = None

    def good(self, count: int, is_touched: bool = False) -> Iterator[Image | CompressedImage]:
        for _ in range(count):
            self._number += 1
            yield self.scene.frame(self._number, is_touched, self.is_compressed)

    def now_ns(self) -> int:
        return int(self.client.get_clock().now().nanoseconds)

    def play(self, messages: Iterable[Image | CompressedImage], rate: float = RATE, shift: float = 0.0,
             is_stamped: bool = True, is_heard: bool = True) -> int:
        """Publish at `rate`, stamped with the time plus `shift` s, or with the messages' own; returns how many.

        `is_heard`: wait for the node's subscription first.
        """
        publisher = self.camera() if is_heard or self._publisher is None else self._publisher
        start, count = time.monotonic(), 0
        for message in messages:
            time.sleep(max(0.0, start + count / rate - time.monotonic()))
            if is_stamped:
                set_stamp(message, self.now_ns() + round(1e9 * shift))
            publisher.publish(message)
            count += 1
        return count

    # What the node reports

    def mark(self) -> Mark:
        assert self.node is not None
        return Mark(self.node.log.stat().st_size, len(self.client.diagnostics), len(self.results))

    def log_since(self, mark: Mark) -> list[str]:
        """Lines at WARN, ERROR and FATAL."""
        assert self.node is not None
        with self.node.log.open('rb') as file:
            file.seek(mark.log)
            text = file.read().decode(errors='replace')
        return [f'{level}: {line}' for level, line in _LINE.findall(text)]

    def diagnostics_since(self, mark: Mark) -> list[str]:
        """Messages of statuses that are not OK, each once."""
        levels = {DiagnosticStatus.WARN: 'WARN', DiagnosticStatus.ERROR: 'ERROR', DiagnosticStatus.STALE: 'STALE'}
        found = {f'{levels[status.level]}: {_NUMBER.sub("N", status.message)}': None
                 for array in self.client.diagnostics[mark.diagnostics:] for status in array.status
                 if status.name.startswith(NODE) and status.level in levels}
        return list(found)

    def wait_for(self, read: Callable[[], Iterable[str]], pattern: str, limit: float = 5.0) -> bool:
        """Whether one of the texts that `read` gives matches within `limit` s."""
        end = time.monotonic() + limit
        while not any(re.search(pattern, text) for text in read()):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def counters(self) -> dict[str, int]:
        """Of the sensor, from a report that is newer than this call, once no image is pending; checks the sum."""
        before, end = len(self.client.diagnostics), time.monotonic() + RESULT_LIMIT
        while True:
            values = self._newest(before)
            if values and values['pending'] == 0:
                break
            if time.monotonic() > end:
                raise FaultError(f'mute: {"images stay pending" if values else "no report on /diagnostics"}')
            time.sleep(0.02)
        if values['received'] != sum(values[name] for name in LEDGER):
            raise FaultError(f'the ledger does not add up: {values}')
        return values

    def _newest(self, first: int) -> dict[str, int]:
        """Integer values of the sensor in the newest report, if it came after the `first` ones and one more."""
        for array in reversed(self.client.diagnostics[first + 1:]):
            for status in array.status:
                if status.name == f'{NODE}: sensor':
                    return {v.key: int(v.value) for v in status.values if v.value.isdigit()}
        return {}

    # Good frames

    def recover(self, limit: float = RESULT_LIMIT) -> Recovery:
        """Play good frames until a touched one has the right class, then some more, all of which must be right."""
        first, sent = len(self.results), {}
        begun, publisher = time.monotonic(), self.camera()
        right_at, number = 0.0, 0
        seconds, wrong = 0.0, 0
        while True:
            is_touched = number % (2 * GOOD) >= GOOD
            message, = self.good(1, is_touched)
            stamp = self.now_ns()
            set_stamp(message, stamp)
            sent[stamp] = is_touched
            time.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            publisher.publish(message)
            number += 1
            judged = [(is_touched, result.class_name == self.expected[is_touched]) for result in self.results[first:]
                      if (is_touched := sent.get(stamp_of(result))) is not None]
            if (True, True) in judged and not right_at:
                right_at, frames = time.monotonic(), number
                seconds, wrong = right_at - begun, sum(not right for _, right in judged)
                rest = len(judged)
            if right_at and number >= frames + 2 * GOOD and number % (2 * GOOD) == GOOD:
                break
            if not self.is_alive:
                raise FaultError('the node has ended')
            if not right_at and time.monotonic() - begun > limit:
                raise FaultError(f'mute: no right result within {limit:g} s ({len(judged)} results)' if not judged else
                                 f'no right result of {len(judged)} within {limit:g} s')
        if bad := sum(not right for _, right in judged[rest:]):
            raise FaultError(f'{bad} of {len(judged) - rest} results are wrong after the first right one')
        return Recovery(seconds, frames, wrong)

    def wait_for_reference(self) -> None:
        """Play untouched frames until the reference is captured again, as the node asks for it to be done."""
        seen, end = len(self.client.diagnostics), time.monotonic() + RESULT_LIMIT
        while len(self.client.diagnostics) < seen + 2 or self.client.values().get('reference') != 'captured':
            self.play(self.good(2))
            if time.monotonic() > end:
                raise FaultError(f'the reference stays {self.client.values().get("reference")!r}')

    def show(self, image: Image | CompressedImage) -> None:
        """Publish an image of another size between good ones, until the node has seen it; then the reference."""
        before, end = self.counters()['resolution changes'], time.monotonic() + RESULT_LIMIT
        self.play(self.good(3))
        while self.counters()['resolution changes'] == before:
            self.play([image])
            time.sleep(0.5)  # it is large
            if time.monotonic() > end:
                raise FaultError('the image of another size did not arrive')
        self.play(self.good(3))
        self.wait_for_reference()

    def _learn(self) -> None:
        for is_touched in (False, True):
            first = len(self.results)
            for _ in range(20):
                self.play(self.good(GOOD, is_touched))
                if len(self.results) > first + GOOD // 2:
                    break
            names = [result.class_name for result in self.results[first + 2:]]
            self.expected[is_touched] = max(set(names), key=names.count)
        if self.expected[True] == self.expected[False]:
            raise FaultError(f'the checkpoint predicts {self.expected[True]} with and without a touch: use another')


def set_stamp(message: Image | CompressedImage, nanoseconds: int) -> None:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, 10**9)


def stamp_of(message: Any) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
