"""Counters of the node and its sensors as diagnostic_msgs, with the reason for every warning."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import Header

from vit_tactile_ros.ros.guard import CallbackGuard
from vit_tactile_ros.ros.image_subscription import ImageSubscription
from vit_tactile_ros.ros.namesakes import Namesakes
from vit_tactile_ros.ros.running import Running
from vit_tactile_ros.ros.sensor import Sensor
from vit_tactile_ros.ros.status import rate_of, status_of
from vit_tactile_ros.ros.throttle import ThrottledLog
from vit_tactile_ros.ros.watchdog import LOOK_PERIOD, Watchdog
from vit_tactile_ros.ros.worker import ClassificationWorker

# Counters that cause a warning when they grow, as those of the rejected images do.
FAULTS = ('lost', 'missing stamps', 'stamps backwards', 'stamps repeated', 'unknown ages', 'resolution changes',
          'grey images', 'blank images', 'frozen images', 'incompatible publishers')
# Faults of this node, not of an image: an error.
ERRORS = ('rejected: internal error', 'rejected: not finite')
LAST_REPORT = Duration(seconds=0.3)  # at most, until every subscriber has the last one


class Reporter:
    """Publishes /diagnostics while the node is active; compares each report with the one before."""

    def __init__(self, node: Node, guard: CallbackGuard, throttled: ThrottledLog) -> None:
        self._node = node
        self._guard = guard
        self._throttled = throttled
        self._namesakes = Namesakes(node, throttled)
        self._previous: dict[str, DiagnosticStatus] = {}
        self._known_errors = (0, 0, 0)  # of the worker, of callbacks, of the watchdog
        self._earlier_errors = 0  # of workers and watchdogs before this activation
        self._watchdog: Watchdog | None = None
        self._stop: Callable[[], None] | None = None

    def start(self, running: Running, worker: ClassificationWorker,
              subscriptions: Sequence[ImageSubscription]) -> None:
        publisher = self._node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        watchdog = self._watchdog = Watchdog(worker, running.sensors, self._throttled)
        self._known_errors = (0, self._known_errors[1], 0)

        def publish() -> None:
            for subscription in subscriptions:
                subscription.adapt()  # not every middleware reports new and lost publishers
            stamp = self._node.get_clock().now().to_msg()
            publisher.publish(DiagnosticArray(header=Header(stamp=stamp), status=self._statuses(
                running, worker, watchdog)))

        def report() -> None:
            if self._stop is not None:  # the executor may still call a timer that was due when it was destroyed
                publish()

        # Steady: a paused simulation must not hide a silent sensor.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        timers = [
            self._node.create_timer(running.settings.value('diagnostics_period'), self._guard('diagnostics', report),
                                    clock=clock),
            self._node.create_timer(LOOK_PERIOD, self._guard('watchdog', lambda: watchdog.look(time.monotonic())),
                                    clock=clock)]

        def stop() -> None:
            publish()
            publisher.wait_for_all_acked(LAST_REPORT)  # destroyed at once, it could take the report with it
            self._earlier_errors += worker.failures + watchdog.rescues
            for timer in timers:
                self._node.destroy_timer(timer)
            self._node.destroy_publisher(publisher)
        self._stop = stop

    @property
    def failure(self) -> str:
        """Why this node can no longer classify although its thread is alive; '' while it can."""
        return self._watchdog.failure if self._watchdog is not None else ''

    def stop(self) -> None:
        """Publish the final counters and stop."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def forget(self) -> None:
        """Forget the sensors and the network of the last configuration."""
        self._previous.clear()
        self._watchdog = None

    def _statuses(self, running: Running, worker: ClassificationWorker,
                  watchdog: Watchdog) -> list[DiagnosticStatus]:
        """One per sensor, where silent ones are marked and logged, and one for the node."""
        name = self._node.get_fully_qualified_name().lstrip('/')  # the nodes of two robots share /diagnostics
        sensors, settings = running.sensors, running.settings
        timeout = settings.value('silence_timeout')
        statuses = []
        for sensor in sensors:
            silent_for = sensor.silence(time.monotonic(), timeout)
            if silent_for is not None:
                self._node.get_logger().warning(f'{sensor.label}: no image for {silent_for:.1f} s; is the sensor '
                                                'plugged in and its driver running?')
            status = sensor_status(sensor, name, self._previous.get(sensor.name))
            self._previous[sensor.name] = status
            statuses.append(status)
        self._namesakes.look()
        errors = [*([worker.failure] if worker.failure else []), *watchdog.problems]
        if watchdog.rescues > self._known_errors[2]:
            errors.append('images waited while the classification thread was idle; it was woken')
        if worker.failures > self._known_errors[0]:
            errors.append(f'classification failed and was restarted: {worker.last_failure}')
        if self._guard.errors > self._known_errors[1]:
            errors.append(f'internal error in {self._guard.last_error}')
        self._known_errors = worker.failures, self._guard.errors, watchdog.rescues
        classifier, steering, budget = worker.classifier, worker.steering, settings.budget()
        facts = {
            'checkpoint': running.checkpoint, 'device': classifier.runtime.device, 'engine': classifier.runtime.name,
            'precision': classifier.runtime.precision, 'threads': classifier.threads,
            'tau': ', '.join(f'{t:g}' for t in settings.thresholds()), 'tau_from': settings.source,
            'latency_budget': f'{budget.seconds:g}', 'tau_min': f'{budget.tau_min:g}',
            'tau in use': ', '.join(f'{t:g}' for t in steering.tau or settings.thresholds()),
            'last reload': running.last_reload,
            'internal errors': (self._earlier_errors + worker.failures + self._guard.errors + watchdog.rescues)}
        warnings = [self._namesakes.problem] if self._namesakes.problem else []
        if running.reload_failed:
            warnings.append(running.last_reload)
        if budget.seconds and steering.level >= 1 and (late := _late_share(sensors, budget.seconds)) > 0.01:
            warnings.append(f'latency_budget is {budget.seconds:g} s, and {100 * late:.0f} % of the last results were '
                            f'later although tau is lowered to tau_min ({budget.tau_min:g})')
        statuses.append(status_of(f'{name}: model', facts, errors, warnings))
        return statuses


def _utc(seconds: float) -> str:
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))


def _late_share(sensors: Sequence[Sensor], budget: float) -> float:
    ages = [age for sensor in sensors for age in list(sensor.ages)]
    return sum(age > budget for age in ages) / len(ages) if ages else 0.0


def sensor_status(sensor: Sensor, node_name: str, previous: DiagnosticStatus | None) -> DiagnosticStatus:
    """One sensor's counters; WARN or ERROR for what went wrong since `previous`, STALE while no image arrives."""
    frames = sensor.frames
    reference, grey = frames.reference, frames.is_grey
    with sensor.lock:
        counts = {
            'received': sensor.received, 'lost': sensor.lost, 'classified': sensor.classified,
            'superseded': sensor.superseded, 'rejected': sensor.rejected.total(), 'paused': sensor.paused,
            'pending': sensor.pending, 'classified as unknown': sensor.unknown,
            **{f'rejected: {reason}': n for reason, n in sorted(sensor.rejected.items())},
            'missing stamps': sensor.missing_stamps, 'stamps backwards': sensor.stamps_backwards,
            'stamps repeated': sensor.stamps_repeated, 'unknown ages': sensor.unknown_ages,
            'resolution changes': frames.resolution_changes, 'grey images': frames.grey_images,
            'blank images': sensor.stream.blank_images, 'frozen images': sensor.stream.frozen_images,
            'motion gaps': frames.motion_gaps,
            'incompatible publishers': sensor.incompatible_publishers, 'silences': sensor.silences,
        }
        by_block = dict(sorted(sensor.exits.items()))
        ages, times, last_exits = list(sensor.ages), list(sensor.result_times), list(sensor.last_exits)
        last_received, is_silent, is_paused = sensor.last_received, sensor.is_silent, sensor.is_paused
        imbalance = sensor.imbalance
    now = time.monotonic()
    exits = {f'exit at block {block}' if block else 'gated': n for block, n in by_block.items()}
    values = {name: str(n) for name, n in {**counts, **exits}.items()}
    health = frames.monitor.health
    values['reference'] = ('not used' if not frames.needs_reference else 'stored' if frames.monitor.is_stored
                           else 'from file' if reference.is_fixed
                           else 'captured' if reference.is_complete else 'waiting for frames')
    if frames.needs_reference:
        values['reference health'] = health.text
        values['reference noise [grey levels]'] = f'{frames.monitor.gate.noise:.2f}'
        values['gain'] = f'{frames.gain:.2f}'
        if frames.is_kept:
            at = frames.stored_at
            values['reference stored at'] = _utc(at) if at is not None else 'not stored'
            if at is not None:
                values['reference stored [s ago]'] = f'{time.time() - at:.0f}'
    if grey is not None:
        values['colour'] = 'grey' if grey else 'colour'
    values['rate [Hz]'] = '0.0' if is_silent else f'{rate_of(times):.1f}'
    if ages:
        values['image age p50 [ms]'] = f'{1e3 * float(np.median(ages)):.2f}'
        values['image age p99 [ms]'] = f'{1e3 * float(np.percentile(ages, 99)):.2f}'
    values['last results'] = str(len(last_exits))  # that the next values and the ones above are of
    for block in by_block:
        name = f'exit share at block {block}' if block else 'gated share'
        values[name] = f'{last_exits.count(block) / max(len(last_exits), 1):.3f}'
    if last_received is not None:
        values['last image [s ago]'] = f'{now - last_received:.2f}'

    before = {kv.key: kv.value for kv in previous.values} if previous else {}
    grown = {name: counts[name] - int(before.get(name, 0)) for name in counts
             if (name.startswith('rejected: ') or name in FAULTS) and counts[name] > int(before.get(name, 0))}
    status = DiagnosticStatus(name=f'{node_name}: {sensor.label}',
                              hardware_id=f'{node_name}/{sensor.name}'.rstrip('/'),
                              values=[KeyValue(key=k, value=v) for k, v in values.items()])
    since = 'since the last report: ' + ', '.join(f'{name} {n}' for name, n in grown.items())
    if last_received is None:
        status.level, status.message = DiagnosticStatus.STALE, 'no image yet'
    elif is_silent:
        status.level, status.message = DiagnosticStatus.STALE, f'no image for {now - last_received:.1f} s'
    elif grown:
        status.level = DiagnosticStatus.ERROR if any(name in grown for name in ERRORS) else DiagnosticStatus.WARN
        status.message = since
    else:
        status.level, status.message = DiagnosticStatus.OK, 'paused by ~/enable' if is_paused else 'classifying'
    if health.level and status.level != DiagnosticStatus.STALE:
        level = DiagnosticStatus.ERROR if health.level > 1 else DiagnosticStatus.WARN
        status.message = '; '.join([f'reference: {health.text}', *([status.message] if grown or is_paused else [])])
        status.level = max(status.level, level)
    if imbalance:
        status.level, status.message = DiagnosticStatus.ERROR, f'{imbalance}; {status.message}'
    if status.level == DiagnosticStatus.STALE and grown:  # for instance silent because every image is lost
        status.message += f'; {since}'
    return status
