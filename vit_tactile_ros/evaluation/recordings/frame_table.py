"""A table with a row per classified frame: source, label, logits of every exit, prediction."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.evaluation.outputs import ExitOutputs
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.foundation.strict_json import parse_json
from vit_tactile_ros.inference.classifier import gate_probabilities
from vit_tactile_ros.inference.gate import GATE_CONFIDENCE, GATE_EXIT_BLOCK, GATE_EXIT_INDEX
from vit_tactile_ros.inference.slip_evidence import SlipEvidence
from vit_tactile_ros.inference.touch_events import NO_CONTACT, STATES
from vit_tactile_ros.model import thresholds

UNLABELLED = -1
FEW_TIMES = 100  # below so many, the 99th percentile is only the largest
_COLUMNS: dict[str, Any] = {
    'bag': np.str_, 'sensor': np.str_, 'topic': np.str_, 'index': np.int64, 'stamp': np.int64, 'received': np.int64,
    'seconds': np.float64, 'label': np.int64, 'touch': np.str_, 'exit_index': np.int64, 'class_id': np.int64,
    'confidence': np.float32, 'touch_odds': np.float64, 'kept_share': np.float64, 'zoom': np.float64,
    'inference_time': np.float64}
_LATER = ('touch_odds', 'kept_share', 'zoom')  # columns that the files of older versions do not have; NaN there

_MOTION = tuple(f'motion_{name}' for name in (*STATES, 'lost_odds'))  # columns of recordings with such evidence


@dataclass(frozen=True)
class Rejection:
    """Messages of one topic that were rejected for one reason."""

    bag: str
    topic: str
    reason: str  # a short key: 'encoding', 'compressed', 'size', 'unreadable', ...
    count: int
    example: str  # position and explanation of the first one


@dataclass(frozen=True)
class FrameTable:
    """N frames in the order of their bags, and within a bag in the order of recording."""

    bag: NDArray[np.str_]  # (N,) name
    sensor: NDArray[np.str_]  # (N,)
    topic: NDArray[np.str_]  # (N,)
    index: NDArray[np.int64]  # (N,) of the message among those replayed of its topic, 0-based, with rejected ones
    stamp: NDArray[np.int64]  # (N,) ns, of the header; the bag's clock if the header has none
    received: NDArray[np.int64]  # (N,) ns, the bag's clock
    seconds: NDArray[np.float64]  # (N,) s by the bag's clock since its first message
    label: NDArray[np.int64]  # (N,) 0..C-1; UNLABELLED
    touch: NDArray[np.str_]  # (N,) 'bag/sensor/number' of the labelled interval or run of equal labels; '' is none
    logits: NDArray[np.float32]  # (E, N, C) of every exit, also after the exit that was used
    exit_index: NDArray[np.int64]  # (N,) the exit that is used at `tau`; -1: the gate
    class_id: NDArray[np.int64]  # (N,)
    confidence: NDArray[np.float32]  # (N,) 0..1
    touch_odds: NDArray[np.float64]  # (N,) 1 or more, from the reference, and in the logits; NaN: not known
    kept_share: NDArray[np.float64]  # (N,) of the patches that the network computes, 0..1; NaN: not known
    zoom: NDArray[np.float64]  # (N,) of the part that the network sees; 1: the whole image; NaN: not known
    inference_time: NDArray[np.float64]  # (N,) s, one frame with early exit, as live; NaN if not measured
    class_names: tuple[str, ...]
    exits: tuple[int, ...]  # 1-based block that each exit follows
    compute_shares: tuple[float, ...]  # multiply-adds up to each exit over those of the full depth
    temperatures: tuple[float, ...]  # one per exit
    tau: tuple[float, ...]  # one per early exit
    rejections: tuple[Rejection, ...] = ()
    motion: NDArray[np.float32] | None = None  # (N, 5) `SlipEvidence`: probabilities of STATES, log odds of lost

    def __len__(self) -> int:
        return len(self.stamp)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """(N,)"""
        return self.label >= 0

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is the label, (N,); False without a label."""
        return self.class_id == self.label

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """At the exit that is used, (N, C)."""
        everywhere = self.outputs_of_all().probabilities(self.temperatures)
        found = everywhere[self.exit_index, np.arange(len(self))]
        found[self.is_gated] = gate_probabilities(self.class_names)
        return found

    @property
    def is_gated(self) -> NDArray[np.bool_]:
        """Whether the gate decided, so that live no block runs, (N,); the logits are those of the network anyway."""
        return self.exit_index == GATE_EXIT_INDEX

    @property
    def is_unchanged(self) -> NDArray[np.bool_]:
        """Whether the result is that of an earlier image (`skip_unchanged`), for which nothing is computed, (N,)."""
        return (self.kept_share == 0) & ~self.is_gated

    @property
    def exit_blocks(self) -> NDArray[np.int64]:
        """(N,), 1-based; 0: the gate."""
        return np.where(self.is_gated, GATE_EXIT_BLOCK, np.asarray(self.exits)[self.exit_index])

    @property
    def shares(self) -> NDArray[np.float64]:
        """Multiply-adds over those of the full depth, times the kept share, (N,); 0 where the gate decided."""
        kept = np.where(np.isnan(self.kept_share), 1.0, self.kept_share)
        return np.where(self.is_gated, 0.0, np.asarray(self.compute_shares)[self.exit_index] * kept)

    def outputs(self) -> ExitOutputs:
        """The labelled rows, for sweeps, calibration and figures."""
        return self.outputs_of_all().subset(np.flatnonzero(self.is_labelled))

    def outputs_of_all(self) -> ExitOutputs:
        """All rows; labels may be UNLABELLED."""
        return ExitOutputs(self.logits, self.label, self.class_names, self.exits, self.compute_shares)

    def decided(self, tau: float | Sequence[float]) -> FrameTable:
        """The same frames at another tau, by the rule of the live node; inference times become NaN.

        Frames that exited at the gate still do, unless no image exits early at this tau.
        """
        limits = thresholds(tau, len(self.exits))
        exit_index, class_id, confidence = self.outputs_of_all().decide(limits, self.temperatures)
        if not limits or min(limits) < 1:
            exit_index = np.where(self.is_gated, GATE_EXIT_INDEX, exit_index)
            if self.is_gated.any():
                class_id = np.where(self.is_gated, self.class_names.index(NO_CONTACT), class_id)
                confidence = np.where(self.is_gated, np.float32(GATE_CONFIDENCE), confidence)
        return replace(self, tau=limits, exit_index=exit_index, class_id=class_id, confidence=confidence,
                       inference_time=np.full(len(self), np.nan))

    def subset(self, rows: NDArray[Any]) -> FrameTable:
        """The rows at indices or under a mask, (n,) or bool (N,); rejections stay."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return replace(self, **columns, logits=self.logits[:, rows],
                       motion=None if self.motion is None else self.motion[rows])

    def slip(self, row: int) -> SlipEvidence | None:
        """What the motion up to this frame shows; None if that was not computed."""
        if self.motion is None or np.isnan(self.motion[row, 0]):
            return None
        return SlipEvidence(self.motion[row, :-1], float(self.motion[row, -1]))

    @staticmethod
    def empty(class_names: Sequence[str], exits: Sequence[int], compute_shares: Sequence[float],
              temperatures: Sequence[float], tau: Sequence[float]) -> FrameTable:
        columns: dict[str, Any] = {name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()}
        return FrameTable(**columns, logits=np.empty((len(exits), 0, len(class_names)), np.float32),
                          class_names=tuple(class_names), exits=tuple(exits), compute_shares=tuple(compute_shares),
                          temperatures=tuple(temperatures), tau=tuple(tau))

    @staticmethod
    def concatenate(tables: Sequence[FrameTable]) -> FrameTable:
        """All rows in the given order; ValueError for tables of different networks or settings, or none."""
        if not tables:
            raise ValueError('no table to join; give at least one')
        first = tables[0]
        for table in tables[1:]:
            for name in ('class_names', 'exits', 'compute_shares', 'temperatures', 'tau'):
                if getattr(table, name) != getattr(first, name):
                    raise ValueError(f'tables of different {name} cannot be joined: {getattr(first, name)} and '
                                     f'{getattr(table, name)}')
        columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in _COLUMNS}
        motion = None if all(table.motion is None for table in tables) else np.concatenate([
            np.full((len(table), len(_MOTION)), np.nan, np.float32) if table.motion is None else table.motion
            for table in tables])
        return replace(first, **columns, logits=np.concatenate([table.logits for table in tables], axis=1),
                       motion=motion,
                       rejections=merge_rejections(r for table in tables for r in table.rejections))

    def write_csv(self, path: Path) -> None:
        """Write a row per frame, and a JSON file of the same name with classes, exits, settings and rejections.

        Both files are written atomically, and never form a pair of different tables: if the process is killed in
        between, there is a CSV without its JSON, which `read_csv` refuses.
        """
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in (*_COLUMNS, 'logits', 'motion')}
        facts['rejections'] = [asdict(r) for r in self.rejections]
        logit_names = [f'logit_block_{block}_{name}' for block in self.exits for name in self.class_names]
        facts_path = path.with_suffix('.json')
        columns = [getattr(self, name) for name in _COLUMNS]
        # The inner file appears first.
        with written_whole(facts_path) as temporary_facts, written_whole(path) as temporary:
            temporary_facts.write_text(json.dumps(facts, indent=1), encoding='utf-8')
            with temporary.open('w', newline='', encoding='utf-8') as file:
                writer = csv.writer(file)
                exit_blocks = self.exit_blocks
                writer.writerow([*_COLUMNS, 'label_name', 'class_name', 'exit_block', *logit_names,
                                 *(_MOTION if self.motion is not None else ())])
                for row in range(len(self)):
                    label = int(self.label[row])
                    writer.writerow([*(column[row] for column in columns), '' if label < 0 else self.class_names[label],
                                     self.class_names[self.class_id[row]], exit_blocks[row],
                                     *self.logits[:, row].ravel(),
                                     *(self.motion[row] if self.motion is not None else ())])
            facts_path.unlink(missing_ok=True)

    @staticmethod
    def read_csv(path: Path) -> FrameTable:
        """Exactly what `write_csv` wrote, also in older versions.

        Raises UserError for other files, OSError for a missing one.
        """
        facts_path = path.with_suffix('.json')
        if path.is_file() and not facts_path.exists():
            raise UserError(f'{path}: {facts_path.name} is missing beside it, as after a replay that was killed while '
                            'writing; replay again')
        text = facts_path.read_bytes()
        try:
            facts = parse_json(text)
            rejections = tuple(Rejection(**r) for r in facts.pop('rejections'))
            facts = {name: tuple(values) for name, values in facts.items()}
            with path.open(newline='', encoding='utf-8') as file:
                header, *rows = csv.reader(file)
            at = {name: header.index(name) for name in _COLUMNS if name in header or name not in _LATER}
            columns: dict[str, Any] = {
                name: np.full(len(rows), np.nan, dtype) if name not in at else
                np.array([row[at[name]] for row in rows], np.str_).astype(dtype) if rows else np.empty(0, dtype)
                for name, dtype in _COLUMNS.items()}
            start = header.index('exit_block') + 1
            end = -len(_MOTION) if header[-1] == _MOTION[-1] else None
            motion = np.array([row[end:] for row in rows], np.float32).reshape(-1, len(_MOTION)) if end else None
            logits = np.array([row[start:end] for row in rows], np.float32).reshape(
                len(rows), len(facts['exits']), len(facts['class_names']))
            table = FrameTable(**columns, logits=np.ascontiguousarray(logits.transpose(1, 0, 2)),
                               rejections=rejections, motion=motion, **facts)
            table._check()
            return table
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError, ValueError) as error:
            raise UserError(f'{path} is not a table of frames that replay wrote: {error!r}') from error

    def _check(self) -> None:
        """Raises ValueError for values of which one does not fit another, which would fail later."""
        exits, classes = len(self.exits), len(self.class_names)
        for name, count in (('compute_shares', exits), ('temperatures', exits), ('tau', exits - 1)):
            values = np.asarray(getattr(self, name), np.float64)
            if values.shape != (count,) or not np.isfinite(values).all() or (values < 0).any():
                raise ValueError(f'{name} must be {count} numbers, at least 0')
        for name, least, end in (('exit_index', GATE_EXIT_INDEX, exits), ('class_id', 0, classes),
                                 ('label', UNLABELLED, classes)):
            if ((values := getattr(self, name)) < least).any() or (values >= end).any():
                raise ValueError(f'{name} must be {least} to {end - 1}')
        if self.motion is not None:
            known = self.motion[~np.isnan(self.motion).all(axis=1)]
            states, odds = known[:, :-1], known[:, -1]
            if not ((states >= 0) & (states <= 1)).all() or not np.allclose(states.sum(axis=1), 1, atol=1e-3) \
                    or np.isinf(odds).any():
                raise ValueError(f'{", ".join(_MOTION)} must be probabilities with a sum of 1 and log odds, or all nan')
        if self.is_gated.any() and NO_CONTACT not in self.class_names:
            raise ValueError(f'exit_index is {GATE_EXIT_INDEX}, the gate, although no class is {NO_CONTACT}')


def merge_rejections(rejections: Iterable[Rejection]) -> tuple[Rejection, ...]:
    """One per bag, topic and reason, with the sum of the counts and the first example."""
    merged: dict[tuple[str, str, str], Rejection] = {}
    for rejection in rejections:
        key = (rejection.bag, rejection.topic, rejection.reason)
        known = merged.get(key)
        merged[key] = rejection if known is None else replace(known, count=known.count + rejection.count)
    return tuple(merged.values())
