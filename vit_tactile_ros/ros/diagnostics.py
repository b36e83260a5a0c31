"""Counters of the node and its sensors as diagnostic_msgs, with the reason for every warning in words."""

from __future__ import annotations

import time

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from vit_tactile_ros.ros.sensor import Sensor


def sensor_status(sensor: Sensor, node_name: str, needs_reference: bool, previous: DiagnosticStatus | None,
                  ) -> DiagnosticStatus:
    """One sensor's counters; WARN where something went wrong since `previous`, STALE while no image comes."""
    with sensor.lock:
        counts = {
            'received': sensor.received, 'lost': sensor.lost, 'classified': sensor.classified,
            'superseded': sensor.superseded, 'rejected': sensor.rejected.total(), 'pending': sensor.pending,
            **{f'rejected: {reason}': n for reason, n in sorted(sensor.rejected.items())},
            'missing stamps': sensor.missing_stamps, 'stamps backwards': sensor.stamps_backwards,
            'resolution changes': sensor.resolution_changes,
            'incompatible publishers': sensor.incompatible_publishers, 'silences': sensor.silences,
        }
        exits = {f'exit at block {block}': n for block, n in sorted(sensor.exits.items())}
        ages, times = list(sensor.ages), list(sensor.result_times)
        last_received, is_silent = sensor.last_received, sensor.is_silent
        reference = sensor.reference
        reference_state = ('not used' if not needs_reference else 'from file' if reference.is_fixed
                           else 'captured' if reference.is_complete else 'waiting for frames')
    now = time.monotonic()
    values = {name: str(n) for name, n in {**counts, **exits}.items()}
    values['reference'] = reference_state
    is_flowing = len(times) > 1 and not is_silent
    values['rate [Hz]'] = f'{(len(times) - 1) / (times[-1] - times[0]):.1f}' if is_flowing else '0.0'
    if ages:
        values['image age p50 [ms]'] = f'{1e3 * float(np.median(ages)):.2f}'
        values['image age p99 [ms]'] = f'{1e3 * float(np.percentile(ages, 99)):.2f}'
    if last_received is not None:
        values['last image [s ago]'] = f'{now - last_received:.2f}'

    before = {kv.key: kv.value for kv in previous.values} if previous else {}
    grown = [f'{name} {counts[name] - int(before.get(name, 0))}' for name in counts
             if (name.startswith('rejected: ') or name in (
                 'lost', 'missing stamps', 'stamps backwards', 'resolution changes', 'incompatible publishers'))
             and counts[name] > int(before.get(name, 0))]
    status = DiagnosticStatus(name=f'{node_name}: {sensor.label}',
                              hardware_id=f'{node_name}/{sensor.name}'.rstrip('/'),
                              values=[KeyValue(key=k, value=v) for k, v in values.items()])
    since = 'since the last report: ' + ', '.join(grown) if grown else ''
    if last_received is None:
        status.level, status.message = DiagnosticStatus.STALE, 'no image yet'
    elif is_silent:
        status.level, status.message = DiagnosticStatus.STALE, f'no image for {now - last_received:.1f} s'
    elif grown:
        status.level, status.message = DiagnosticStatus.WARN, since
    else:
        status.level, status.message = DiagnosticStatus.OK, 'classifying'
    if status.level == DiagnosticStatus.STALE and grown:  # silent, since every image is lost, say
        status.message += f'; {since}'
    return status


def node_status(node_name: str, values: dict[str, str]) -> DiagnosticStatus:
    """What the node runs on."""
    return DiagnosticStatus(level=DiagnosticStatus.OK, name=f'{node_name}: model', message='active',
                            values=[KeyValue(key=k, value=v) for k, v in values.items()])


def diagnostic_array(stamp: Time, statuses: list[DiagnosticStatus]) -> DiagnosticArray:
    return DiagnosticArray(header=Header(stamp=stamp), status=statuses)
