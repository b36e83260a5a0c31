"""Hours of two sensors at 60 Hz with random faults and requests mixed in: does the node grow, or slow down?"""

from __future__ import annotations

import json
import math
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from faults import rows  # noqa: F401  (first, since the order of the imports is that of the rows)
from faults.bench import LEDGER, RATE, Bench, FaultError, set_stamp, stamp_of
from faults.parameters import KINDS
from faults.scene import message
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.parameters import RULES

SENSORS = ('left', 'right')
SAMPLE = 10.0  # s between two samples
WARM_UP = 0.2  # share of the time, at least 60 s and at most 600 s; every fault and request occurs in it
# Of the memory, from the first to the last third of the time after the warm-up. Of each third, the value that a tenth
# of its samples are below: a reload holds two networks for a moment, and a large image its pixels.
GROWTH, LOW = 0.01, 10
MUTE, FIRST = 10.0, 60.0  # s without a result of any sensor; until the first result
HALF_TOUCH = 30  # images, then as many without a touch


@dataclass
class Record:
    """What a soak has measured; one JSON line for each entry."""

    samples: list[dict[str, Any]] = field(default_factory=list)  # every SAMPLE s
    minutes: list[dict[str, Any]] = field(default_factory=list)
    faults: int = 0
    requests: int = 0
    problems: list[str] = field(default_factory=list)


class Soak:
    """Publishes, asks and measures until the time is over; `record` holds the result."""

    def __init__(self, bench: Bench, file: Path, seed: int = 0) -> None:
        self.record = Record()
        self._bench = bench
        self._client = bench.client
        self._file = file
        self._random = random.Random(seed)
        self._pixels = np.random.default_rng(seed)
        self._ages: list[float] = []  # s, of the results since the last minute
        self._last_result = time.monotonic()
        self._is_paused = False  # by a request
        self._is_over = threading.Event()
        self._large = message(self._pixels.integers(0, 256, (1080, 1920, 3), np.uint8))
        self._requests: list[Callable[[random.Random], object]] = [
            self._set_good, self._set_wrong, self._pause, self._capture, self._reload, self._restart, self._listen]

    def run(self, seconds: float) -> Record:
        bench = self._bench
        bench.start(sensors=f'[{", ".join(SENSORS)}]', diagnostics_period=0.5, wait=False)
        assert bench.node is not None
        while 'active, waiting for images' not in bench.node.output:  # however busy the machine is
            if not bench.is_alive:
                raise FaultError(f'the node has ended: {bench.node.output[-500:]}')
            time.sleep(0.1)
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        publishers = [self._client.image_publisher(f'/{name}/image_raw', qos=qos) for name in SENSORS]
        for name in SENSORS:
            self._client.create_subscription(TactileClassification, f'/{name}/tactile', self._on_result, 100)
        cameras = [self._camera() for _ in SENSORS]
        asking = threading.Thread(target=self._ask, args=(seconds,), daemon=True)
        asking.start()
        start, tick = time.monotonic(), 0
        self._last_result = start + FIRST - MUTE
        next_sample, next_minute = SAMPLE, 60.0
        try:
            while (now := time.monotonic() - start) < seconds:
                for publisher, camera in zip(publishers, cameras, strict=True):
                    if (image := next(camera)) is not None:
                        publisher.publish(image)
                if now >= next_sample:
                    next_sample += SAMPLE
                    self._sample(now)
                if now >= next_minute:
                    next_minute += 60.0
                    self._minute(round(now / 60))
                if not bench.is_alive:
                    raise FaultError(f'the node ended with {bench.node.process.returncode}: {bench.node.output[-500:]}')
                if not self._is_paused and time.monotonic() - self._last_result > MUTE:
                    raise FaultError(f'mute: no result for {MUTE:g} s')
                tick += 1
                time.sleep(max(0.0, start + tick / RATE - time.monotonic()))
                if start + tick / RATE < time.monotonic() - 1.0:  # this machine was busy: do not catch up
                    start = time.monotonic() - tick / RATE
        except FaultError as error:
            self.record.problems.append(str(error))
        self._is_over.set()
        asking.join(30.0)
        self.record.problems += self._growth(seconds)
        if 'Traceback' in bench.node.output:
            self.record.problems.append('a traceback in the log')
        return self.record

    def _write(self, **values: Any) -> None:
        with self._file.open('a', encoding='utf-8') as file:
            file.write(json.dumps(values) + '\n')

    # Images

    def _camera(self) -> Iterator[Image | None]:
        """The images of one sensor, one per tick; None: none is published."""
        number, faults = 0, 0
        kinds = [self._black, self._noise, self._wrong, self._backwards, self._no_stamp, self._silent, self._large_one,
                 self._small, self._frozen]
        while True:
            for _ in range(self._random.randint(60, 300)):
                number += 1
                yield self._good(number)
            # Each once, in order, then at random.
            kind = kinds[faults] if faults < len(kinds) else self._random.choice(kinds)
            faults += 1
            self.record.faults += 1
            for image in kind(number):
                number += 1
                yield image

    def _good(self, number: int) -> Image:
        image = self._bench.scene.frame(number, number % (2 * HALF_TOUCH) >= HALF_TOUCH)
        set_stamp(image, self._bench.now_ns())
        return image

    def _stamped(self, image: Image) -> Image:
        copy = Image(height=image.height, width=image.width, encoding=image.encoding, step=image.step, data=image.data)
        set_stamp(copy, self._bench.now_ns())
        return copy

    def _black(self, _number: int) -> Iterator[Image]:
        black = message(np.zeros_like(self._bench.scene.untouched[0]))
        yield from (self._stamped(black) for _ in range(20))

    def _noise(self, _number: int) -> Iterator[Image]:
        shape = self._bench.scene.untouched[0].shape
        yield from (self._stamped(message(self._pixels.integers(0, 256, shape, np.uint8))) for _ in range(20))

    def _wrong(self, number: int) -> Iterator[Image]:
        for change in ({'encoding': '32FC1'}, {'height': 2**32 - 1}, {'step': 3}, {'width': 0}):
            for _ in range(5):
                image = self._good(number)
                for name, value in change.items():
                    setattr(image, name, value)
                yield image

    def _backwards(self, number: int) -> Iterator[Image]:
        for shift in (-3600, 3600):
            for _ in range(10):
                image = self._good(number)
                set_stamp(image, stamp_of(image) + shift * 10**9)
                yield image

    def _no_stamp(self, number: int) -> Iterator[Image]:
        for _ in range(10):
            image = self._good(number)
            set_stamp(image, 0)
            yield image

    def _silent(self, _number: int) -> Iterator[None]:
        yield from (None for _ in range(90))

    def _large_one(self, number: int) -> Iterator[Image]:
        yield self._stamped(self._large)
        yield from self._small(number)

    def _small(self, number: int) -> Iterator[Image]:
        """Another resolution for a moment, then untouched images, which become the reference."""
        frames = self._bench.scene.untouched
        small = [message(frame[::2, ::2]) for frame in frames]
        yield from (self._stamped(small[step % len(small)]) for step in range(30))
        for step in range(30):
            yield self._stamped(self._bench.scene.frame(number + step, False))

    def _frozen(self, number: int) -> Iterator[Image]:
        image = self._good(number)
        yield from (self._stamped(image) for _ in range(150))

    # Requests

    def _ask(self, seconds: float) -> None:
        """Each request once, in order, then at random."""
        chance = random.Random(1)
        while not self._is_over.wait(chance.uniform(0.5, 3.0)):
            request = (self._requests[self.record.requests] if self.record.requests < len(self._requests)
                       else chance.choice(self._requests))
            try:
                request(chance)
            except BaseException as error:  # also a test's own failure
                if not self._is_over.is_set():
                    self.record.problems.append(f'{request.__name__.strip("_")}: {error}')
            self.record.requests += 1

    def _set(self, parameters: list[Parameter]) -> list[Any]:
        request = SetParameters.Request(parameters=[p.to_parameter_msg() for p in parameters])
        return self._client.call(SetParameters, '/tactile_classifier/set_parameters', request,
                                 is_repeatable=True).results

    def _set_good(self, chance: random.Random) -> None:
        self._set([Parameter('tau', value=chance.uniform(0.3, 1.0)),
                   Parameter('latency_budget', value=chance.choice([0.0, 0.02])),
                   Parameter('gate', value=chance.random() < 0.7),
                   Parameter('silence_timeout', value=chance.uniform(0.3, 3.0))])

    def _set_wrong(self, chance: random.Random) -> None:
        values = KINDS[chance.choice(['NaN', 'infinities', 'huge numbers'])]
        for result in self._set([Parameter(name, *values[chance.randrange(len(values))]) for name in RULES]):
            if result.successful:
                raise FaultError('a wrong value was taken')

    def _pause(self, chance: random.Random) -> None:
        self._is_paused = True
        for value in (False, True):
            self._client.call(SetBool, '/tactile_classifier/enable', SetBool.Request(data=value), is_repeatable=True)
            self._is_over.wait(chance.uniform(0.1, 1.0) if not value else 0.0)
        self._go()

    def _capture(self, chance: random.Random) -> None:
        for name in SENSORS:
            self._client.call(Trigger, f'/tactile_classifier/{name}/capture_reference', Trigger.Request(),
                              is_repeatable=True)

    def _reload(self, chance: random.Random) -> None:
        if chance.random() < 0.5:
            self._bench.checkpoint.write_text('broken')
        self._client.call(Trigger, '/tactile_classifier/reload_checkpoint', Trigger.Request())
        self._bench.restore_checkpoint()

    def _restart(self, chance: random.Random) -> None:
        self._is_paused = True
        for label in ('deactivate', 'activate'):
            if not self._client.change_state(label):
                raise FaultError(f'cannot {label}')
        self._go()

    def _listen(self, chance: random.Random) -> None:
        listener = self._client.create_subscription(TactileClassification, '/left/tactile', lambda _: None, 10)
        self._is_over.wait(0.5)
        self._client.destroy_subscription(listener)

    def _go(self) -> None:
        self._last_result = time.monotonic()
        self._is_paused = False

    # Measurements

    def _on_result(self, result: TactileClassification) -> None:
        self._last_result = time.monotonic()
        if 0.0 <= result.image_age < 60.0:
            self._ages.append(result.image_age)

    def _sample(self, now: float) -> None:
        process = Path(f'/proc/{self._bench.process_id}')
        with self._client._condition:
            del self._client.diagnostics[:-20]
        sample: dict[str, Any] = {
            'seconds': round(now, 1), 'memory_mb': round(self._bench.memory(), 2),
            'handles': len(list((process / 'fd').iterdir())), 'threads': len(list((process / 'task').iterdir()))}
        for name in SENSORS:
            values = {key: int(value) for key, value in self._client.values(name).items() if value.isdigit()}
            if not values:
                continue
            if values['received'] != sum(values[key] for key in LEDGER):
                self.record.problems.append(f'the ledger of {name} does not add up: {values}')
            sample[name] = {key: values[key] for key in ('received', *LEDGER, 'lost')}
        self.record.samples.append(sample)
        self._write(**sample, faults=self.record.faults, requests=self.record.requests)

    def _minute(self, minute: int) -> None:
        ages, self._ages = sorted(self._ages), []
        if ages:
            values = {'minute': minute, 'p50_ms': round(1e3 * statistics.median(ages), 2),
                      'p99_ms': round(1e3 * ages[math.ceil(0.99 * len(ages)) - 1], 2), 'results': len(ages)}
            self.record.minutes.append(values)
            self._write(**values)

    def _growth(self, seconds: float) -> list[str]:
        warm = min(max(60.0, WARM_UP * seconds), 600.0)
        after = [sample for sample in self.record.samples if sample['seconds'] > warm]
        third = len(after) // 3
        if third < 3:
            return [f'only {len(after)} samples after the warm-up of {warm:g} s; take at least 3 minutes']
        problems = []
        first, last = after[:third], after[-third:]
        before, now = (float(np.percentile([s['memory_mb'] for s in part], LOW)) for part in (first, last))
        if now > (1 + GROWTH) * before:
            problems.append(f'memory grew from {before:.1f} to {now:.1f} MB, {100 * (now / before - 1):.1f} %')
        for name in ('handles', 'threads'):  # a reload has one more for a moment, a node that is inactive fewer
            before, now = (float(np.percentile([s[name] for s in part], LOW)) for part in (first, last))
            if now > before:
                problems.append(f'{name} grew from {before:g} to {now:g}')
        return problems


def figure(record: Record, path: Path) -> None:
    """Memory, handles, threads and latency over the time, as SVG or PNG by the suffix."""
    import matplotlib
    matplotlib.use('Agg')
    matplotlib.rcParams['svg.hashsalt'] = 'soak'
    import matplotlib.pyplot as plt

    minutes = [sample['seconds'] / 60 for sample in record.samples]
    figure, (memory, counts, times) = plt.subplots(3, 1, sharex=True, figsize=(8, 7), layout='constrained')
    memory.plot(minutes, [sample['memory_mb'] for sample in record.samples])
    memory.set(ylabel='memory [MB]', ylim=(0, None))
    for name in ('handles', 'threads'):
        counts.plot(minutes, [sample[name] for sample in record.samples], label=name)
    counts.set(ylabel='number', ylim=(0, None))
    counts.legend()
    for name in ('p50_ms', 'p99_ms'):
        times.plot([entry['minute'] for entry in record.minutes], [entry[name] for entry in record.minutes],
                   label=name.replace('_ms', ''), marker='.')
    times.set(ylabel='image age [ms]', xlabel='time [min]', ylim=(0, None))
    times.legend()
    figure.savefig(path, metadata={'Date': None} if path.suffix == '.svg' else None)
    plt.close(figure)


def page(record: Record, seconds: float, image: str) -> str:
    """docs/results/soak.md."""
    last, p50, p99 = record.samples[-1], *([entry[name] for entry in record.minutes] for name in ('p50_ms', 'p99_ms'))
    ledger = '\n'.join(
        f'| {name} | {" | ".join(f"{last[name][key]:,}" for key in ("received", *LEDGER, "lost"))} |'
        for name in SENSORS if name in last)
    return f"""# Soak

<!-- Generated by tools/soak.py (make soak MINUTES=60). Do not edit. -->

{seconds / 60:.0f} minutes of two sensors at 60 Hz, with {record.faults:,} faults of the images and {record.requests:,}
requests (parameters, pauses, captures, reloads, deactivations) mixed in, each at random.

![Memory, handles, threads and latency over the time]({image})

p50 of the image age was {min(p50):.1f} to {max(p50):.1f} ms per minute, p99 {min(p99):.1f} to {max(p99):.1f} ms.
Counters at the end:

| sensor | received | {" | ".join(LEDGER)} | lost |
| --- | --- | {" | ".join("---" for _ in LEDGER)} | --- |
{ledger}

{"Nothing went wrong." if not record.problems else "Problems: " + "; ".join(record.problems)}

[Memory](memory.md) explains the height of the first curve.
"""
