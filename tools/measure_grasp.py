"""Grasps of a simulated gripper that is controlled by the events of slip: are the objects kept?

    python tools/measure_grasp.py                          by the shipped detector, and its controls
    python tools/measure_grasp.py --by shipped --grasps 60 --slip_threshold 0.9

Each grasp is a unit and an object of its own, on a gel with dots: the gripper closes after 2 s, the object is lifted
1 s after contact and pulled 1 s later (simulator/gripper.py). The controller is that of examples/grip_law.py. It does
not wait for real time, and the same seeds give the same grasps. Detectors (--by):

    shipped     models/tactile_slip.safetensors and the networks on motion, as in the node
    motion      the networks on motion, with the true contact: takes a third of the time
    no_motion   the checkpoint alone (slip_motion: false)
    truth       a detector that is always right and late by --latency images only: slip is the true state
    never       contact, but no slip: it never tightens
    firm        the largest force from the start

Kept: the object is on the gel at the end and does not slide. Slid: over the gel before the first report. A report is
false if the object has slid less than 0.02 mm in the 0.3 s before it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vit_tactile_ros.evaluation.touchbench.clips import message_of
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.inference.slip_network import SlipNetwork, load_slip_network, shipped_slip_network
from vit_tactile_ros.inference.touch_events import (
    NO_CONTACT,
    SLIP,
    SLIP_THRESHOLD,
    STATES,
    EventKind,
    EventSettings,
    TouchEvent,
    TouchTracker,
)
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.simulator import GrippedObject, Markers, SensorUnit, load_sensor, sensor_names

# PYTHONSAFEPATH, which env.sh sets, excludes the script's folder.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / 'examples')]
from grip_law import GripLaw  # noqa: E402
from measure_touch_events import decision  # noqa: E402

TAU = 0.95
CLOSES_S, LASTS_S = 2.0, 7.5  # of a grasp; the object is lifted at 3.6 s and pulled from 4.6 to 5.6 s
FALSE_MM, FALSE_S = 0.02, 0.3
CONTROLLERS = ('shipped', 'motion', 'no_motion', 'truth', 'never', 'firm')
RENDERED = ('shipped', 'motion', 'no_motion')  # need images
Detector = Callable[[np.ndarray, int, str], list[TouchEvent]]  # image, stamp, true state


@dataclasses.dataclass
class Grasp:
    """What happened; forces in N, times in s, distances in mm."""

    sensor: str
    seed: int
    kept: bool = False
    slides_at: float | None = None  # when the object had slid by 0.02 mm
    reported_at: float | None = None  # first SLIP_BEGAN after that
    slid_before: float | None = None  # until that report; without one: in all
    slid: float = 0.0
    false: int = 0
    releases: int = 0  # RELEASE while the object was held
    lost_while_held: int = 0
    lost_reported: bool = False  # LOST after the object had left the gel
    force: float = 0.0  # at the end
    needed: float = 0.0  # force that carries the whole load without slip

    @property
    def text(self) -> str:
        reported = 'not reported' if self.reported_at is None else f'reported at {self.reported_at:.2f} s'
        slides = 'never slides' if self.slides_at is None else (
            f'slides at {self.slides_at:.2f} s, {reported} after {self.slid_before or 0.0:.2f} mm, '
            f'{self.slid:.2f} mm in all')
        return (f'{self.sensor} {self.seed}: {"kept" if self.kept else "lost"}; {slides}; {self.force:.1f} N at the '
                f'end, {self.needed:.1f} N needed; {self.false} false reports')


def detector(by: str, classifier: TactileClassifier, network: SlipNetwork | None,
             settings: EventSettings) -> Detector:
    if by in RENDERED:
        frames = SensorFrames(Reference(), classifier.preprocessing,
                              slip_network=None if by == 'no_motion' else network)
        tracker = TouchTracker(classifier.class_names, len(classifier.exits), settings)
        tau = classifier.thresholds(TAU)

        def seen(image: np.ndarray, stamp: int, state: str) -> list[TouchEvent]:
            frame = frames.update(message_of(image), stamp)
            if by == 'motion':
                nothing = np.array(STATES) == NO_CONTACT
                row = np.where(nothing == (state == NO_CONTACT), 1.0, 0.0)
                return tracker.update(stamp, row / row.sum(), 0, frame.slip)
            found = decision(classifier, frame, tau)
            return tracker.update(stamp, found.probabilities, found.exit_index, frame.slip)

        return seen
    tracker = TouchTracker(STATES, 1, settings)

    def known(_: np.ndarray, stamp: int, state: str) -> list[TouchEvent]:
        state = 'stable' if by != 'truth' and state == SLIP else state
        row = np.where(np.array(STATES) == state, 1.0, 0.0)
        return tracker.update(stamp, row, 0)

    return known


def grasp(sensor: str, seed: int, detect: Detector, law: GripLaw, latency: int, rate: float = 30.0,
          renders: bool = True) -> Grasp:
    """latency: images between the one that decides and the command that follows from it."""
    rng = np.random.default_rng(seed)
    config = load_sensor(sensor)
    config = dataclasses.replace(config, markers=config.markers or Markers())
    unit, held = SensorUnit(config, rng), GrippedObject(config, rng)
    found = Grasp(sensor, seed, needed=held.needed_n)
    commands = deque([0.0] * latency)
    touched = False
    slid: deque[float] = deque([0.0], round(FALSE_S * rate) + 1)
    for number in range(int(LASTS_S * rate)):
        t = number / rate
        if number == round(CLOSES_S * rate):
            law.close()
        commands.append(law.step(1 / rate))
        contact, state = held.at(t, commands.popleft())
        touched |= contact is not None
        slid.append(held.slid_mm)
        if found.slides_at is None and held.slid_mm > FALSE_MM:
            found.slides_at = t
        image = unit.render(contact, rng) if renders else np.empty(0)
        for event in detect(image, 10**9 + round(t * 1e9), state):
            law.event(event.kind)
            if event.kind == EventKind.SLIP_BEGAN:
                if slid[-1] - slid[0] < FALSE_MM:
                    found.false += 1
                elif found.reported_at is None:
                    found.reported_at, found.slid_before = t, held.slid_mm
            found.releases += event.kind == EventKind.RELEASE and contact is not None
            found.lost_while_held += event.kind == EventKind.LOST and contact is not None and law.force > 0
            found.lost_reported |= event.kind == EventKind.LOST and contact is None and touched
        law.result()
    found.kept = contact is not None and slid[-1] - slid[0] < FALSE_MM
    found.slid, found.force = held.slid_mm, law.force
    if found.slid_before is None and found.slides_at is not None:
        found.slid_before = found.slid
    return found


def summary(grasps: list[Grasp]) -> dict[str, float | None]:
    slid = [g.slid_before for g in grasps if g.slid_before is not None]
    delays = [g.reported_at - g.slides_at for g in grasps if g.reported_at is not None and g.slides_at is not None]
    kept = [g for g in grasps if g.kept]
    return {
        'grasps': len(grasps), 'kept': len(kept), 'slid': len(slid), 'reported': len(delays),
        'slid_before_mm': float(np.median(slid)) if slid else 0.0,
        'slid_before_mm_90': float(np.quantile(slid, 0.9)) if slid else 0.0,
        'delay_s': float(np.median(delays)) if delays else None,
        'false': sum(g.false for g in grasps), 'releases': sum(g.releases > 0 for g in grasps),
        'lost_while_held': sum(g.lost_while_held > 0 for g in grasps),
        'lost_reported': sum(g.lost_reported for g in grasps),
        'force_over_needed': float(np.median([g.force / g.needed for g in kept])) if kept else None}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--by', nargs='+', choices=CONTROLLERS, default=list(CONTROLLERS),
                        help='detectors (default: all of them)')
    parser.add_argument('--grasps', type=int, default=42, help='of each, a third per sensor (default: 42)')
    parser.add_argument('--first', type=int, default=0, help='first seed (default: 0)')
    parser.add_argument('--slip_threshold', type=float, default=SLIP_THRESHOLD,
                        help=f'probability of slip at which it begins (default: {SLIP_THRESHOLD:g})')
    parser.add_argument('--latency', type=int, default=1, metavar='IMAGES',
                        help='from the image that decides to the command (default: 1)')
    parser.add_argument('--network', type=Path, help='networks on motion (default: the shipped ones)')
    arguments = parser.parse_args(argv)
    if arguments.grasps < 1:
        parser.error(f'--grasps is {arguments.grasps}; must be at least 1')
    if not 0 < arguments.slip_threshold < 1:
        parser.error(f'--slip_threshold is {arguments.slip_threshold}; must be above 0 and below 1')
    classifier = TactileClassifier(load_checkpoint(shipped_checkpoint('tactile_slip.safetensors')), engine='auto',
                                   threads=1)
    network = load_slip_network(arguments.network) if arguments.network else shipped_slip_network(STATES)
    settings = EventSettings(slip_threshold=arguments.slip_threshold)
    results = {}
    for by in arguments.by:
        grasps = []
        for number in range(arguments.grasps):
            law = GripLaw(holding_force=20.0) if by == 'firm' else GripLaw()
            sensors = sensor_names()
            grasps.append(grasp(sensors[number % len(sensors)], 20_000 + arguments.first + number,
                                detector(by, classifier, network, settings), law, arguments.latency,
                                renders=by in RENDERED))
            print(f'{by} {number + 1}/{arguments.grasps}: {grasps[-1].text}', flush=True)
        results[by] = summary(grasps)
    for by, row in results.items():
        print(f'{by:10}', *(f'{key} {"-" if value is None else format(value, ".3g")}' for key, value in row.items()))
    print(json.dumps(results))


if __name__ == '__main__':
    main()
