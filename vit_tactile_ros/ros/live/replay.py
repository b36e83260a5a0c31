"""Plays bags over DDS to the real node: counts superseded images and compares its results with the offline replay."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.evaluation.recordings.replaying import ReplaySettings, Selection, select
from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.msg import TactileClassification
from vit_tactile_ros.ros.live.node_process import NodeProcess, launched
from vit_tactile_ros.ros.run import spin_once
from vit_tactile_ros.ros.start import init_ros

TOLERANCE = 1e-5  # of probabilities, same engine
FEW = 0.05  # largest share of superseded images at which the node keeps up
TRIAL_IMAGES = 150  # played per speed in the search
DOUBLINGS, BISECTIONS = 6, 4  # steps of the search

Results = dict[tuple[str, int], TactileClassification]  # by sensor and stamp in ns


def play_live(bags: Sequence[Path], names: Sequence[str], checkpoint: Path, device: str, threads: int,
              settings: ReplaySettings, table: FrameTable, speed: float, find_speed: bool, folder: Path,
              ) -> tuple[list[dict[str, Any]], list[str]]:
    """For each bag a report that compares the node with `table`, the offline results; and a list of problems.

    `speed` is relative to the recorded one. Logs of the node and the player are in `folder`.
    """
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')  # hidden from other machines
    reports: list[dict[str, Any]] = []
    wrong: list[str] = []
    init_ros()
    try:
        for bag, name in zip(bags, names, strict=True):
            try:
                with Recording(bag) as recording:
                    selection = select(recording, settings)
            except DataError:
                continue  # reported by the offline replay
            if not selection.sensor_of_topic:
                continue
            session = _Session(bag, name, checkpoint, device, threads, settings, selection, folder)
            try:
                report = session.run(table.subset(table.bag == name), speed, find_speed)
            except RunError as error:
                wrong.append(f'live, {error}')
                continue
            finally:
                session.close()
            reports.append({'bag': name} | report)
            wrong += session.differences(report)
    finally:
        rclpy.try_shutdown()
    return reports, wrong


class _Session:
    """One node, one bag."""

    def __init__(self, bag: Path, name: str, checkpoint: Path, device: str, threads: int, settings: ReplaySettings,
                 selection: Selection, folder: Path) -> None:
        self._bag, self._name, self._settings, self._folder = bag, name, settings, folder
        self._selection = selection
        self._compressed = {topic.endswith('/compressed') for topic in selection.sensor_of_topic} == {True}
        self._sensors = {topic: sensor for topic, sensor in selection.sensor_of_topic.items()
                         if topic.endswith('/compressed') == self._compressed}
        self._namespace = f'/replay_{os.getpid()}'  # apart from a robot's own node on this machine
        self._counters: dict[str, dict[str, int]] = {}
        self._results: Results = {}
        self._node = rclpy.create_node('live_replay', namespace=self._namespace)
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        for sensor in self._sensors.values():
            self._node.create_subscription(TactileClassification, f'{sensor}/tactile'.strip('/'), self._on_result, qos)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 50)
        self._stack = contextlib.ExitStack()
        self._parameters = {
            'sensors': list(self._sensors.values()), 'checkpoint': str(checkpoint.absolute()), 'device': device,
            'threads': threads, 'engine': settings.engine, 'precision': settings.precision,
            'tau': list(settings.tau) or 1.0, 'diagnostics_period': 0.1,
            'image_transport': 'compressed' if self._compressed else 'raw',
            'reference_frames': settings.reference_frames, 'silence_timeout': 60.0,
            'gate': settings.gate, 'reference_drift': settings.reference_drift,
            'slip_motion': settings.slip_motion, 'skip_unchanged': settings.skip_unchanged}
        files = dict(settings.reference_files)
        if any(sensor in files for sensor in self._sensors.values()):
            self._parameters['reference_files'] = [files.get(s, '') for s in self._sensors.values()]

    def close(self) -> None:
        self._stack.close()
        self._node.destroy_node()

    def _spin(self, seconds: float) -> None:
        spin_once(partial(rclpy.spin_once, self._node), seconds)

    def run(self, table: FrameTable, speed: float, find_speed: bool) -> dict[str, Any]:
        node = NodeProcess(self._name, self._namespace, self._parameters, self._folder / 'live_node',
                           pause=partial(self._spin, 0.05))
        self._stack.enter_context(node)
        played = self._play(speed, self._settings.reference_frames, None)
        report = {'speed': speed, **played, **self._compare(table)}
        left_out = sorted(set(self._selection.sensor_of_topic) - set(self._sensors))
        report['left_out'] = left_out  # the node subscribes to either raw or compressed images
        if find_speed:
            report['highest_speed'], report['trials'] = self._highest_speed(speed, played['superseded_share'])
        return report

    def differences(self, report: dict[str, Any]) -> list[str]:
        found = []
        if report['class_differs'] or report['exit_differs'] or report['probability_difference'] > TOLERANCE:
            found.append(f'live, {self._name}: of {report["common"]} frames {report["class_differs"]} have another '
                         f'class and {report["exit_differs"]} another exit than offline; probabilities differ by up '
                         f'to {report["probability_difference"]:.2g}')
        if not report['common']:
            found.append(f'live, {self._name}: the node published no result for any frame of the bag')
        if report['left_out']:
            found.append(f'live, {self._name}: the node subscribes to raw or compressed images, not both; left out '
                         f'{", ".join(report["left_out"])}')
        return found

    def _play(self, speed: float, reference_frames: int, limit: int | None) -> dict[str, Any]:
        """Play the bag once; the counts of sent, classified, rejected and superseded images."""
        before = self._totals()
        self._results.clear()
        order = {'bag': str(self._bag), 'sensors': self._sensors, 'compressed': self._compressed,
                 'start': self._selection.start, 'stop': self._selection.stop, 'speed': speed, 'limit': limit,
                 'reference_frames': reference_frames, 'namespace': self._namespace}
        log_file = self._folder / 'live_player.log'
        player = launched('live.bag_player', [json.dumps(order)], log_file)
        try:
            while player.poll() is None:
                self._spin(0.1)
        finally:
            if player.poll() is None:
                player.kill()
            player.wait()
        text = log_file.read_text(errors='replace').strip()
        if player.returncode:
            raise RunError(f'{self._name}: the player ended with {player.returncode}: {text[-500:]}')
        sent = json.loads(text.splitlines()[-1])
        counted = self._settle(before)
        superseded = sent['sent'] - counted['classified'] - counted['rejected']  # includes lost images
        return {'sent': sent['sent'], 'answered': counted['classified'], 'rejected': counted['rejected'],
                'superseded': superseded, 'superseded_share': superseded / max(1, sent['paced']),
                'images_per_s': sent['paced'] / sent['seconds'] if sent['seconds'] else None,
                'player_late_s': sent['latest']}

    def _settle(self, before: Counter[str]) -> Counter[str]:
        """The counts since `before`, once they no longer change."""
        end, steady, needed = time.monotonic() + 10.0, 0, 5
        last: Counter[str] = Counter()
        while time.monotonic() < end and steady < needed:
            until = time.monotonic() + 0.11
            while (left := until - time.monotonic()) > 0:
                self._spin(left)
            counted = Counter({key: value - before[key] for key, value in self._totals().items()})
            quiet = counted == last and not self._totals()['pending']
            # A result may still arrive; with equal stamps, there are permanently fewer.
            needed = 5 if counted['classified'] == len(self._results) else 15
            steady, last = steady + 1 if quiet else 0, counted
        return last

    def _totals(self) -> Counter[str]:
        return sum((Counter(values) for values in self._counters.values()), Counter())

    def _highest_speed(self, speed: float, share: float) -> tuple[float | None, list[dict[str, float]]]:
        """The highest tested speed with a share below FEW superseded, and all tests."""
        trials = [{'speed': speed, 'superseded_share': share}]

        def keeps_up(at: float) -> bool:
            trial = self._play(at, 0, TRIAL_IMAGES)
            trials.append({'speed': at, 'superseded_share': trial['superseded_share']})
            return bool(trial['superseded_share'] < FEW)

        good, bad = (speed, None) if share < FEW else (None, speed)
        for _ in range(DOUBLINGS):
            if good is not None and bad is not None:
                break
            at = 2 * good if good is not None else (bad or speed) / 2
            good, bad = (at, bad) if keeps_up(at) else (good, at)
        for _ in range(BISECTIONS if good is not None and bad is not None else 0):
            at = (good * bad) ** 0.5  # type: ignore[operator]
            good, bad = (at, bad) if keeps_up(at) else (good, at)
        return good, trials

    def _compare(self, table: FrameTable) -> dict[str, Any]:
        """Compare the results with the offline ones of the same frames, matched by header."""
        keys = list(zip(table.sensor.tolist(), table.stamp.tolist(), strict=True))
        counts = Counter(keys)
        rows = [row for row, key in enumerate(keys) if key in self._results and counts[key] == 1]
        results = [self._results[keys[row]] for row in rows]
        classes = np.array([a.class_id for a in results], np.int64)
        exits = np.array([a.exit_index for a in results], np.int64)
        part = table.subset(np.array(rows, np.int64))
        probabilities = np.array([a.probabilities for a in results], np.float32).reshape(part.probabilities.shape)
        times = 1e3 * np.array([a.inference_time for a in results if a.exit_block])  # the gate's are 0
        return {
            'common': len(rows), 'class_differs': int((classes != part.class_id).sum()),
            'exit_differs': int((exits != part.exit_index).sum()),
            'probability_difference': float(np.abs(probabilities - part.probabilities).max()) if rows else 0.0,
            'inference_ms': {'p50': float(np.percentile(times, 50)), 'p99': float(np.percentile(times, 99))}
            if len(times) else None}

    def _on_result(self, result: TactileClassification) -> None:
        stamp = result.header.stamp
        self._results[result.sensor, stamp.sec * 10**9 + stamp.nanosec] = result

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        node = f'{self._namespace.strip("/")}/tactile_classifier'
        for status in message.status:
            if status.name.startswith(f'{node}: '):
                values = {v.key: v.value for v in status.values}
                if 'received' in values:
                    self._counters[status.name] = {key: int(values[key]) for key in (
                        'received', 'classified', 'superseded', 'rejected', 'paused', 'pending')}
