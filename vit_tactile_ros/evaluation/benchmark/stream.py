"""A sensor's stream, frame by frame as in the node: what gate, dropped patches and exits save, beside the baselines.

Everything from the image to the class is timed: decode, resize, reference, gate, network.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.evaluation.benchmark.baselines import Network
from vit_tactile_ros.evaluation.benchmark.contest import Run, Times, interleave
from vit_tactile_ros.evaluation.benchmark.stream_clips import STEP_NS, StreamClip, read_stream_clip
from vit_tactile_ros.inference.classifier import Decision, TactileClassifier
from vit_tactile_ros.inference.decode import decode
from vit_tactile_ros.inference.engines.select import REST
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.gate import GATE_EXIT_INDEX
from vit_tactile_ros.inference.preprocess import fit, normalise
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES, Reference
from vit_tactile_ros.inference.touch_events import NO_CONTACT
from vit_tactile_ros.model import PreprocessingConfig, exit_probabilities

# Frames that a line runs before the next one has its turn: a node runs one network, whose weights stay in the cache.
RUN = 25
FULL, ALL = 'full depth', 'all together'
CHANGES = 'and changes only'  # all together, and an unchanged touch is not computed again
EMPTY = 'preprocessing alone'
Frame = Callable[[Any, int, int], 'Decision | None']  # message, stamp in ns, exit that is forced (-1: none)


class Kind(NamedTuple):
    """What decides the exits of a line beside tau."""

    gate: bool = False  # untouched frames exit at the gate, and what it shows of a touch is evidence at every exit
    changes: bool = False  # an unchanged frame gets an earlier result


@dataclass(frozen=True)
class Subject:
    """What runs on the stream."""

    whole: TactileClassifier  # all patches
    kept: TactileClassifier | None  # only the patches that a touch changes; None: the checkpoint has no threshold
    tau: tuple[float, ...]
    networks: Mapping[str, Network]  # the baselines, by the name of their line
    forced: TactileClassifier | None = None  # decides the exits, where the predictions of `whole` mean nothing


@dataclass
class StreamTimes:
    """What a stream took and gave; one entry per frame in each."""

    is_labelled: bool = False  # `touched` comes from a table of contacts, not from the gate
    clips: int = 0
    skipped: list[str] = field(default_factory=list)  # why a clip was not played
    touched: list[bool] = field(default_factory=list)
    repeated: list[bool] = field(default_factory=list)  # an untouched frame is played again
    times: dict[str, list[float]] = field(default_factory=dict)  # by line, s
    cpu: dict[str, list[float]] = field(default_factory=dict)
    decisions: dict[str, list[Decision]] = field(default_factory=dict)  # of the lines of our network

    def of(self, line: str, rows: NDArray[np.bool_] | None = None) -> Times:
        keep = np.ones(len(self.touched), bool) if rows is None else rows
        return Times(tuple(np.array(self.times[line])[keep]), tuple(np.array(self.cpu[line])[keep]))


class Line(NamedTuple):
    """A line of the table."""

    frame: Frame
    kind: Kind = Kind()


def ours(classifier: TactileClassifier, tau: tuple[float, ...], kind: Kind, exits: bool) -> Line:
    """Our network on a new sensor, as the node calls it."""
    sensor = SensorFrames(Reference(), classifier.preprocessing, classifier.expects_grey, finds_unchanged=kind.changes)
    untouched = classifier.untouched(tau) if kind.gate else None
    full = classifier.thresholds(1.0)
    last: Decision | None = None

    def run(message: Any, stamp: int, forced: int) -> Decision:
        nonlocal last
        frame = sensor.update(message, stamp)
        if untouched is not None and frame.is_untouched:
            return untouched
        if frame.is_unchanged and last is not None and (again := classifier.repeated(last, tau)) is not None:
            return again
        used = full
        if exits:
            used = tau if forced < 0 else tuple(0.0 if i >= forced else 1.0 for i in range(len(tau)))
        decision, = classifier.classify([frame.image], [frame.reference], used, [frame.previous], None,
                                        [frame.touch_odds] if untouched is not None else None)
        last = decision
        return decision
    return Line(run, kind)


def other(network: Network | None, preprocessing: PreprocessingConfig) -> Line:
    """A network without exits on the same inputs, without motion; None: only the preprocessing."""
    reference = Reference()

    def run(message: Any, _stamp: int, _forced: int) -> None:
        image = fit(decode(message), preprocessing)
        reference.update(image)
        inputs = normalise(image, reference.frame, preprocessing, previous=_no_motion(image, preprocessing))[None, :3]
        if network is not None:
            int(exit_probabilities(network(torch.from_numpy(inputs))).numpy().argmax())
    return Line(run)


def _no_motion(image: NDArray[np.uint8], preprocessing: PreprocessingConfig) -> NDArray[np.uint8] | None:
    return np.tile(image, (1, 1, preprocessing.channels // 3 - 1)) if preprocessing.motion_interval else None


def lines_of(subject: Subject) -> dict[str, Line]:
    """The lines of the table, each with a sensor of its own."""
    whole, kept, tau = subject.whole, subject.kept, subject.tau
    none, gate = Kind(), Kind(gate=True)
    lines = {FULL: ours(whole, tau, none, False), 'exits alone': ours(whole, tau, none, True)}
    if kept is not None:
        lines['tokens alone'] = ours(kept, tau, none, False)
    if whole.untouched(tau) is not None:
        lines['gate alone'] = ours(whole, tau, gate, False)
        if kept is not None:
            lines['gate and exits'] = ours(whole, tau, gate, True)
    lines[ALL] = ours(kept or whole, tau, gate, True)
    if whole.untouched(tau) is not None:
        lines[CHANGES] = ours(kept or whole, tau, Kind(gate=True, changes=True), True)
    lines |= {name: other(network, whole.preprocessing) for name, network in subject.networks.items()}
    return lines | {EMPTY: other(None, whole.preprocessing)}


@torch.inference_mode()
def measure_stream(subject: Subject, clips: Sequence[Path], contacts: Mapping[str, list[tuple[int, int]]] | None,
                   seconds: float, threads: int) -> StreamTimes:
    """All lines on the same frames, in turns of RUN frames; whole clips in random order until `seconds` are over.

    Raises DataError if none of the clips can be played.
    """
    found = StreamTimes(is_labelled=contacts is not None)
    begun = time.perf_counter()
    order = np.random.default_rng(0).permutation(len(clips))
    for turn in tqdm(order, 'stream', leave=False, disable=not sys.stderr.isatty()):
        path = clips[turn]
        try:
            if contacts is not None and path.name not in contacts:
                raise DataError(f'{path} is not in the table of contacts')
            clip = read_stream_clip(path, None if contacts is None else contacts[path.name],
                                    subject.whole.preprocessing)
        except DataError as error:
            found.skipped.append(str(error))
            continue
        _play(clip, subject, found, REST if threads > 1 else 0.0)
        if time.perf_counter() - begun > seconds:
            break
    if not found.clips:
        raise DataError('no clip can be played: ' + '; '.join(found.skipped))
    return found


def _play(clip: StreamClip, subject: Subject, found: StreamTimes, rest: float) -> None:
    lines = lines_of(subject)
    forced = _exits_of(clip, subject, {line.kind for line in lines.values()})

    def runner(name: str) -> Run:
        def run(turn: int) -> None:
            first = REFERENCE_FRAMES + turn * RUN
            for number in range(first, min(first + RUN, len(clip.messages))):
                cpu, start = time.process_time(), time.perf_counter()
                line = lines[name]
                decision = line.frame(clip.messages[number], number * STEP_NS, forced[line.kind][number])
                found.times.setdefault(name, []).append(time.perf_counter() - start)
                found.cpu.setdefault(name, []).append(time.process_time() - cpu)
                if decision is not None:
                    found.decisions.setdefault(name, []).append(decision)
        return run

    for line in lines.values():
        for number in range(REFERENCE_FRAMES):
            line.frame(clip.messages[number], number * STEP_NS, forced[line.kind][number])
    runs = -(-(len(clip.messages) - REFERENCE_FRAMES) // RUN)
    interleave({name: runner(name) for name in lines}, math.inf, runs, warm_up=0, seed=found.clips, rest=rest)
    found.touched += clip.touched[REFERENCE_FRAMES:].tolist()
    found.repeated += clip.repeated[REFERENCE_FRAMES:].tolist()
    found.clips += 1


def _exits_of(clip: StreamClip, subject: Subject, kinds: set[Kind]) -> dict[Kind, list[int]]:
    """For lines of each kind, the exit that is forced on each image; -1: none is."""
    classifier = subject.forced
    if classifier is None:
        return {kind: [-1] * len(clip.messages) for kind in kinds}

    def exits(kind: Kind) -> list[int]:
        run = ours(classifier, subject.tau, kind, True).frame
        decisions = [run(message, number * STEP_NS, -1) for number, message in enumerate(clip.messages)]
        return [-1 if decision is None else decision.exit_index for decision in decisions]

    alone = exits(Kind())
    # The gate of the other size may pass an image that the one here does not.
    return {kind: alone if kind == Kind() else
            [without if own == GATE_EXIT_INDEX else own for own, without in zip(exits(kind), alone, strict=True)]
            for kind in kinds}


def summary(found: StreamTimes, subject: Subject, slow: Sequence[str]) -> dict[str, Any]:
    """For the JSON: each line's times, and how many times as fast all together is as the lines named in `slow`."""
    touched = np.array(found.touched)

    def ms(name: str, rows: NDArray[np.bool_]) -> float | None:
        return 1e3 * found.of(name, rows).mean if rows.any() else None

    lines: dict[str, dict[str, Any]] = {}
    for name in found.times:
        times = found.of(name)
        lines[name] = {'mean_ms': 1e3 * times.mean, 'p50_ms': 1e3 * times.p50, 'p99_ms': 1e3 * times.p99,
                       'cpu_s_per_1000': times.cpu_of(1000), 'touched_ms': ms(name, touched),
                       'untouched_ms': ms(name, ~touched)}
    decided = found.decisions[ALL]
    exits = np.array([decision.exit_index for decision in decided])
    network = exits != GATE_EXIT_INDEX
    shares = np.array([decision.compute_share for decision in decided])
    full_shares = np.array([subject.whole.compute_shares[i] for i in exits])
    return {
        'clips': found.clips, 'skipped': found.skipped, 'frames': len(touched),
        'untouched_share': float(1 - touched.mean()),
        'repeated_frames': sum(found.repeated), 'gate_share': float((~network).mean()),
        'exit_rates': [float((exits == i).sum() / max(network.sum(), 1)) for i in range(len(subject.whole.exits))],
        'patches_kept': float((shares / full_shares)[network].mean()) if network.any() else None,
        'unchanged_share': None if CHANGES not in found.decisions else float(np.mean(
            [decision.compute_share == 0 for decision in found.decisions[CHANGES]]) - (~network).mean()),
        'exits_from_own_size': subject.forced is not None, 'lines': lines,
        'times_as_fast': {name: {'mean': lines[name]['mean_ms'] / lines[ALL]['mean_ms'],
                                 'cpu': lines[name]['cpu_s_per_1000'] / lines[ALL]['cpu_s_per_1000']}
                          for name in slow if name in lines},
        'predictions': None if subject.forced is not None else _predictions(found, subject, touched)}


def _predictions(found: StreamTimes, subject: Subject, touched: NDArray[np.bool_]) -> dict[str, Any]:
    """Of each line: share of the touched frames with the class of the full depth; if contacts are labelled, shares of
    the frames with contact right, of the touched ones that are missed, and of untouched ones that are false touches.

    A frame that was played again counts once: otherwise the few before a contact would decide.
    """
    once = ~np.array(found.repeated)
    touched = touched[once]
    classes = {name: np.array([d.class_id for d in decisions])[once] for name, decisions in found.decisions.items()}
    names = subject.whole.class_names
    none = names.index(NO_CONTACT) if NO_CONTACT in names else -1

    def share(of: NDArray[np.bool_]) -> float | None:
        return float(of.mean()) if len(of) else None

    def contact(called: NDArray[np.bool_]) -> dict[str, float | None]:
        return {'contact_right': share(called == touched), 'missed': share(~called[touched]),
                'false': share(called[~touched])}

    return {name: {'frames': len(ids), 'same_class_touched': share((ids == classes[FULL])[touched])}
            | (contact(ids != none) if none >= 0 and found.is_labelled else {}) for name, ids in classes.items()}
