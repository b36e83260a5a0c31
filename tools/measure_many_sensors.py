"""Several sensors on one node: what happened to every image, fairness between sensors, and the time to the results.

    python tools/measure_many_sensors.py                                         2 sensors at 60 Hz, 8 at 30 Hz
    python tools/measure_many_sensors.py --sensors 4 --rate 30 --seconds 10
    python tools/measure_many_sensors.py --untouched 0.8                         mostly untouched gels

One process publishes the images of all sensors, one after the other within each period: a simulated gel that is
touched about two thirds of the time, or less with --untouched, rendered before. The real node classifies them, over
DDS. Fairness is the difference between the sensors with the most and the fewest results, over their mean. Prints a
table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from vit_tactile_ros.ros.live.node_process import NodeProcess
from vit_tactile_ros.simulator import Contact, SensorUnit, TouchSequence, load_sensor

sys.path.insert(0, str(Path(__file__).parent))
from measure_transport import LEDGER, SETTLE, Observer, topics

NAMESPACE = '/measure_many_sensors'
FRAMES = 240  # that are rendered, for 8 s at 30 Hz; then they repeat
UNTOUCHED = 10  # first frames, from which every sensor gets its reference


def scene() -> tuple[SensorUnit, list[Contact | None], np.random.Generator]:
    """The gel, what touches it in each of FRAMES frames, and the generator of the noise."""
    rng = np.random.default_rng(0)
    config = load_sensor('gelsight')
    unit, touches = SensorUnit(config, rng), TouchSequence(config, rng)
    return unit, [touches.at(number / 30) for number in range(FRAMES)], rng


def rendered(untouched: float) -> list[array]:
    """Images that are played in a circle; those at the end are untouched, as many as the share needs."""
    unit, contacts, rng = scene()
    touched = sum(contact is not None for contact in contacts)
    contacts += [None] * max(0, round(touched / (1 - untouched)) - FRAMES)
    return [array('B', unit.render(contact, rng).tobytes()) for contact in contacts]


def publish(sensors: int, rate: float, seconds: float, untouched: float) -> None:
    """The publisher's process."""
    config, frames = load_sensor('gelsight'), rendered(untouched)
    rclpy.init()
    node = rclpy.create_node('publisher', namespace=NAMESPACE)
    publishers = [node.create_publisher(Image, topic, qos_profile_sensor_data) for topic in topics(sensors)]
    while not all(publisher.get_subscription_count() for publisher in publishers):
        time.sleep(0.01)
    time.sleep(SETTLE)
    message = Image(height=config.height, width=config.width, step=3 * config.width, encoding='rgb8')
    start = time.monotonic()
    for number in range(round(rate * seconds)):
        for sensor, publisher in enumerate(publishers):
            time.sleep(max(0.0, start + (number + sensor / sensors) / rate - time.monotonic()))
            # The sensors are touched at different times.
            shifted = (number + len(frames) * sensor // sensors) % len(frames)
            message.data = frames[number if number < UNTOUCHED else shifted]
            message.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(message)
    time.sleep(SETTLE)  # a publisher that is destroyed drops unsent messages


def start_publisher(sensors: int, rate: float, seconds: float, untouched: float = 0.0) -> subprocess.Popen[bytes]:
    """It sends from 1 s after each topic has a subscription; `check_sent` tells whether it sent everything."""
    return subprocess.Popen([sys.executable, __file__, '--publish', *map(str, (sensors, rate, seconds, untouched))])


def measure(sensors: int, rate: float, seconds: float, untouched: float, parameters: dict[str, Any],
            ) -> dict[str, Any]:
    names = [topic.rpartition('/')[0] for topic in topics(sensors)]
    given = {'sensors': names, 'diagnostics_period': 0.2, 'silence_timeout': 3600.0, **parameters}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, NodeProcess('node', NAMESPACE, given, Path(folder) / 'node'):
        observer = Observer(sensors, NAMESPACE)
        observer.spin(SETTLE)
        observer.watch(start_publisher(sensors, rate, seconds, untouched))
        observer.spin(2 * SETTLE)
        observer.close()
    ages, counts = 1e3 * np.array(observer.ages), list(observer.counts.values())
    results = [count['classified'] for count in counts]
    return {
        'sensors': sensors, 'rate': rate, 'sent': round(rate * seconds) * sensors,
        **{key: observer.total(key) for key in ('received', 'lost', 'gated', *LEDGER)},
        'unaccounted': sum(abs(count['received'] - sum(count[key] for key in LEDGER)) for count in counts),
        'results received': len(ages), 'fairness': (max(results) - min(results)) / max(float(np.mean(results)), 1.0),
        'ms': {'p50': float(np.percentile(ages, 50)), 'p99': float(np.percentile(ages, 99))} if len(ages) else None,
        'load before': load}


def processor() -> str:
    """The model and the number of cores."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), 'unknown')
    return f'{name}, {os.cpu_count()} cores'


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sensors', type=int, help='number of sensors, 2 or more; default: 2 and 8')
    parser.add_argument('--rate', type=float, default=30.0, help='images per second and sensor, with --sensors')
    parser.add_argument('--seconds', type=float, default=30.0, help='s of each measurement (default: 30)')
    parser.add_argument('--checkpoint', type=Path, help='default: the shipped one')
    parser.add_argument('--untouched', type=float, default=0.0, help='share of the images without contact, at least; '
                        '0 to 0.95 (default: 0, a third are)')
    parser.add_argument('--publish', nargs=4, type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.publish:
        sensors, rate, seconds, untouched = arguments.publish
        publish(int(sensors), rate, seconds, untouched)
        return 0
    if arguments.sensors is not None and arguments.sensors < 2:
        parser.error(f'--sensors is {arguments.sensors}; must be at least 2')
    if not 0 <= arguments.untouched <= 0.95:
        parser.error(f'--untouched is {arguments.untouched}; must be 0 to 0.95')
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    parameters = {'checkpoint': str(arguments.checkpoint.absolute())} if arguments.checkpoint else {}
    cases = [(arguments.sensors, arguments.rate)] if arguments.sensors else [(2, 60.0), (8, 30.0)]
    rclpy.init()
    try:
        found = [measure(sensors, rate, arguments.seconds, arguments.untouched, parameters)
                 for sensors, rate in cases]
    finally:
        rclpy.try_shutdown()
    print(processor())
    print('| sensors | sent | received | gated | classified | superseded | rejected | unaccounted | lost | fairness | '
          'image to result, ms, p50 / p99 | load before |\n|' + '---|' * 12)
    for row in found:
        times = f'{row["ms"]["p50"]:.1f} / {row["ms"]["p99"]:.1f}' if row['ms'] else '-'
        print(f'| {row["sensors"]} at {row["rate"]:g} Hz | {row["sent"]} | {row["received"]} | {row["gated"]} | '
              f'{row["classified"]} | {row["superseded"]} | {row["rejected"]} | {row["unaccounted"]} | {row["lost"]} | '
              f'{100 * row["fairness"]:.1f} % | {times} | {row["load before"]:.1f} |')
    print(json.dumps(found))
    return 0


if __name__ == '__main__':
    sys.exit(main())
