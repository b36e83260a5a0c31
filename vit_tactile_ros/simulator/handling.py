"""Objects that are pressed, held, lifted, shaken, that slip and are released, with the true state at every moment.

The object's pose over the gel is (x, y, turn), in mm: turn is the angle times the radius over which friction holds the
object. The gel shears like a spring: a load, given in mm, pulls the object until the gel is sheared by as much.
Friction carries a shear up to its limit, which grows with the depth of the press (Hertz) and falls from the static to
the dynamic value while the object slides. Pose, shear and load are vectors, so sliding and turning share one limit.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property

import numpy as np

from .contact import CLASS_NAMES, Contact
from .sampling import sample_contact, touched_radius
from .sensor import SensorConfig

STATE_NAMES = ('no_contact', 'stable', 'moving', 'slip')
ACTIVITIES = ('rest', 'shake', 'squeeze', 'slip', 'twist', 'pull', 'loosen', 'drop')

_STEP_S = 0.004
_WINDOW_S = 0.04  # a state is that of the motion during this time before it
_TOUCH_MM = 0.03  # shallower contacts are hardly visible: no contact, unless the object never goes deeper
_JUST_S = 0.06  # after contact has begun or before it ends, it is moving
_SLIP_MM_S = 1.0  # speed of the object over the gel's surface
_MOVING_MM_S = 0.6  # speed of the object, or of its depth, over the gel's backing
_RECOVERY, _RECOVERY_S = 0.3, 0.15  # share of the shear that is left after release, and how fast it disappears
_FALL_S, _HEAL_S = 0.012, 0.06  # friction falls to the dynamic value, and recovers


@dataclasses.dataclass(frozen=True)
class _Grip:
    """How an object is held."""

    limit_mm: float  # shear at which the object starts to slide, at the nominal depth
    dynamic: float  # dynamic friction as a share of the static one
    lag_s: float  # the object follows its load with this time constant; while it slides, its speed is excess / lag

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Grip:
        limit = math.exp(rng.uniform(math.log(0.25), math.log(1.4)))
        return cls(limit, dynamic=rng.uniform(0.55, 0.9), lag_s=rng.uniform(0.015, 0.05))


class Handling:
    """One object from its approach to its release: the whole motion, computed once.

    activities: from ACTIVITIES, in this order; the object is lifted before the first and put back after the last.
    """

    def __init__(self, config: SensorConfig, rng: np.random.Generator, contact: Contact,
                 activities: tuple[str, ...], pause_s: float) -> None:
        self._contact = contact
        self._radius_mm = min(max(0.6 * touched_radius(contact), 0.6), 3.0)
        self._grip = _Grip.draw(rng)
        depth, load, pull, stiffness = self._plan(rng, activities, pause_s)
        half_x, half_y = config.half_size_mm
        room = (-half_x - contact.x_mm, half_x - contact.x_mm, -half_y - contact.y_mm, half_y - contact.y_mm)
        rows = self._simulate(depth, load, pull, stiffness, room)
        # an object that is gone does not return
        last = int(np.flatnonzero(rows[:, 0])[-1]) + round(pause_s / _STEP_S)
        self._rows = rows[:last]
        self._touching = self._rows[:, 0] > 0
        self.duration_s = len(self._rows) * _STEP_S

    def _plan(self, rng: np.random.Generator, activities: tuple[str, ...],
              pause_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Per step: depth (share of the nominal one), load (mm, 3), end of a spring that pulls (mm, 3), stiffness.

        The stiffness is relative to the gel's.
        """
        limit = self._grip.limit_mm
        # breakpoints of the depth and of a constant load, which is the weight
        t = pause_s
        press_s = rng.uniform(0.12, 0.5)
        depths, weights = [(0.0, 0.0), (t, 0.0), (t + press_s, 1.0)], [(0.0, 0.0)]
        t += press_s + rng.uniform(0.2, 0.8)
        weight = rng.uniform(0.1, 0.6) * limit
        weights.append((t, 0.0))
        t += rng.uniform(0.15, 0.6)
        weights.append((t, weight))
        t += rng.uniform(0.2, 0.8)
        spans = []  # (activity, from, until)
        level = 1.0
        for activity in activities:
            # an object that slides for longer is gone
            lasts = rng.uniform(0.2, 0.8) if activity in ('slip', 'twist', 'drop') else rng.uniform(0.5, 1.5)
            spans.append((activity, t, t + lasts))
            if activity in ('squeeze', 'loosen'):
                depths.append((t, level))
                # loosened below the depth at which friction still carries the weight
                loose = (weight / limit) ** (2 / 3)
                level = rng.uniform(0.6, 1.1) if activity == 'squeeze' else loose * rng.uniform(0.65, 0.95)
                depths.append((t + rng.uniform(0.15, 0.6), level))
            t += lasts + rng.uniform(0.2, 0.6)
        dropped = activities[-1:] == ('drop',)
        if not dropped:
            weights.append((t, weight))
            t += rng.uniform(0.15, 0.5)
            # put back; some objects are dragged along a little while they are released
            weights.append((t, weight * (rng.uniform(0.0, 0.3) if rng.random() < 0.3 else 0.0)))
            t += rng.uniform(0.1, 0.5)
        depths.append((t, level))
        t += rng.uniform(0.04, 0.15) if dropped else rng.uniform(0.08, 0.4)
        depths.append((t, 0.0))
        t += pause_s
        times = np.arange(0.0, t, _STEP_S)

        depth, weighs = (np.interp(times, [at for at, _ in points], [value for _, value in points])
                         for points in (depths, weights))
        load = weighs[:, None] * _direction(rng)
        pull, stiffness = np.zeros_like(load), np.zeros_like(times)
        for activity, start, end in spans:
            share = np.clip(np.minimum(times - start, end - times) / min(0.3 * (end - start), 0.2), 0.0, 1.0)
            towards = _direction(rng, turning=0.9 if activity == 'twist' else 0.25)
            if activity == 'shake':
                amplitude = rng.uniform(0.3, 1.0) * (limit - weight)
                phase = 2 * math.pi * rng.uniform(1.5, 6.0) * (times - start)
                load += (share * amplitude * np.sin(phase))[:, None] * towards
                # a phase of its own: the fingers give way as the object swings
                depth *= 1 + rng.uniform(0.0, 0.2) * share * np.sin(phase + rng.uniform(-math.pi, math.pi))
            elif activity in ('slip', 'twist', 'drop'):
                # beyond the limit, whatever the weight pulls at
                load += (share * (weight + limit * rng.uniform(1.05, 1.9)))[:, None] * towards
            elif activity == 'pull':
                # through a spring, which relaxes as the object slides: it sticks and slips in turn
                stiffness += share * rng.uniform(0.3, 1.0)
                speed = rng.uniform(3.0, 15.0)
                pull += (np.clip(times - start, 0.0, end - start) * speed)[:, None] * towards
        # a hand or a robot is never quite still
        for _ in range(2):
            phase = 2 * math.pi * rng.uniform(0.5, 8.0) * times + rng.uniform(0, 2 * math.pi)
            load += (0.01 * limit * rng.uniform() * np.sin(phase))[:, None] * _direction(rng)
        return depth, load, pull, stiffness

    def _simulate(self, depth: np.ndarray, load: np.ndarray, pull: np.ndarray, stiffness: np.ndarray,
                  room: tuple[float, float, float, float]) -> np.ndarray:
        """Integrate the motion, (N, 9); plain floats, because numpy is slow on three numbers."""
        grip, least = self._grip, min(_TOUCH_MM / self._contact.depth_mm, 0.3)
        rate = _STEP_S / grip.lag_s
        falls, heals = 1 - math.exp(-_STEP_S / _FALL_S), 1 - math.exp(-_STEP_S / _HEAL_S)
        x = y = turn = 0.0
        sx = sy = sturn = 0.0
        friction, slid, lost = 1.0, 0.0, 1.0
        rows = []
        springs = stiffness.tolist()
        for share, (lx, ly, lturn), (px, py, pturn), spring in zip(
                depth.tolist(), load.tolist(), pull.tolist(), springs):
            if lost < 1.0 or not (room[0] < x < room[1] and room[2] < y < room[3]):
                lost = max(lost - _STEP_S / 0.06, 0.0)  # it has slid off the gel
            share *= lost
            if share < least:
                sx = sy = sturn = 0.0
                friction = 1.0
                rows.append((0.0, x, y, turn, 0.0, 0.0, 0.0, slid, 0.0))
                continue
            if spring:
                lx, ly, lturn = lx + spring * (px - x), ly + spring * (py - y), lturn + spring * (pturn - turn)
            dx, dy, dturn = rate * (lx - sx), rate * (ly - sy), rate * (lturn - sturn)
            x, y, turn = x + dx, y + dy, turn + dturn
            tx, ty, tturn = sx + dx, sy + dy, sturn + dturn
            carried = math.sqrt(tx * tx + ty * ty + tturn * tturn)
            limit = friction * grip.limit_mm * share**1.5
            if carried > limit:
                kept = limit / carried
                slid += carried - limit
                tx, ty, tturn = kept * tx, kept * ty, kept * tturn
                friction += falls * (grip.dynamic - friction)
                carried = limit
            else:
                friction += heals * (1.0 - friction)
            sx, sy, sturn = tx, ty, tturn
            # the rim slides first (Cattaneo and Mindlin)
            stuck = (1.0 - carried / limit) ** (1 / 3) if carried < limit else 0.0
            rows.append((share, x, y, turn, sx, sy, sturn, slid, stuck))
        return np.array(rows)

    def contact(self, t_seconds: float) -> Contact | None:
        """The contact at that time after the start; None without contact."""
        row = self._rows[self._index(t_seconds)]
        if row[0] <= 0:
            return None
        depth, x, y, turn, shear_x, shear_y, sheared_turn, _, stuck = row.tolist()
        base = self._contact
        return dataclasses.replace(
            base, depth_mm=depth * base.depth_mm, x_mm=base.x_mm + x, y_mm=base.y_mm + y,
            angle_rad=base.angle_rad + turn / self._radius_mm, shear_x_mm=shear_x, shear_y_mm=shear_y,
            twist_rad=sheared_turn / self._radius_mm, stuck=stuck)

    def states(self, window_s: float = _WINDOW_S) -> np.ndarray:
        """The state of every step, as an index of STATE_NAMES, by the mean motion during the time before it."""
        steps = max(round(window_s / _STEP_S), 1)
        rows, touching = self._rows, self._touching
        before = np.concatenate([np.repeat(rows[:1], steps, axis=0), rows[:-steps]])
        change = rows - before
        speed = np.sqrt((change[:, 1:4]**2).sum(axis=1)) / window_s
        deepens = np.abs(change[:, 0]) * self._contact.depth_mm / window_s
        state = np.where(np.maximum(speed, deepens) > _MOVING_MM_S, 2, 1)
        just = round(_JUST_S / _STEP_S)
        edges = np.flatnonzero(np.diff(touching.astype(np.int8)))
        begins, ends = edges[touching[edges + 1]], edges[touching[edges]]
        for end in ends:
            state[end + 1 - just:end + 1] = 2
        state[change[:, 7] / window_s > _SLIP_MM_S] = 3
        for begin in begins:
            state[begin + 1:begin + 1 + just] = 2
        state[~touching] = 0
        return state

    @cached_property
    def _states(self) -> np.ndarray:
        return self.states()

    def state(self, t_seconds: float) -> str:
        """One of STATE_NAMES."""
        return STATE_NAMES[self._states[self._index(t_seconds)]]

    def creep_mm(self, t_seconds: float) -> tuple[float, float]:
        """How far the markers are from their rest positions because the gel recovers slowly from the shear."""
        index = self._index(t_seconds)
        released = np.flatnonzero(self._touching[:index + 1])
        if not len(released) or released[-1] == index:
            return 0.0, 0.0
        left = _RECOVERY * math.exp(-(index - released[-1]) * _STEP_S / _RECOVERY_S)
        shear_x, shear_y = self._rows[released[-1], 4:6].tolist()
        return left * shear_x, left * shear_y

    def times(self, state_name: str, window_s: float = _WINDOW_S) -> np.ndarray:
        """All moments in that state, in seconds after the start, apart from those of the first window."""
        steps = np.flatnonzero(self.states(window_s) == STATE_NAMES.index(state_name))
        return steps[steps * _STEP_S > window_s] * _STEP_S

    def _index(self, t_seconds: float) -> int:
        return min(max(int(t_seconds / _STEP_S + 0.5), 0), len(self._rows) - 1)


def sample_handling(config: SensorConfig, rng: np.random.Generator, activities: tuple[str, ...] | None = None,
                    contact: Contact | None = None) -> Handling:
    """Draw an object and what happens to it; activities: default: one to three, a slip in about half of them."""
    if contact is None:
        name = str(rng.choice(CLASS_NAMES[1:]))
        contact = sample_contact(name, config, rng, depth_fraction=rng.uniform(0.2, 1.0))
    if activities is None:
        activities = tuple(str(name) for name in rng.choice(ACTIVITIES[:-1], int(rng.integers(1, 4))))
        if rng.random() < 0.15:
            activities += ('drop',)
    return Handling(config, rng, contact, activities, pause_s=rng.uniform(0.3, 0.6))


class HandlingSequence:
    """An endless sequence of handled objects, determined by rng's seed.

    rng is used once, for the seed: later draws from it do not change the sequence.
    """

    def __init__(self, config: SensorConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = np.random.default_rng(int(rng.integers(2**63)))
        self._last_s = 0.0
        self._start_s = 0.5  # with the first pause, long enough to take a reference
        self._handling = sample_handling(config, self._rng)

    def at(self, t_seconds: float) -> tuple[Contact | None, str]:
        """The contact at that time, None without contact, and the state, one of STATE_NAMES.

        t_seconds: at least 0 and not less than in the previous call, else ValueError.
        """
        if not (math.isfinite(t_seconds) and t_seconds >= self._last_s):
            raise ValueError(f't_seconds is {t_seconds!r}; must be at least {self._last_s:.3f} as in the last call')
        self._last_s = t_seconds
        while t_seconds >= self._start_s + self._handling.duration_s:
            self._start_s += self._handling.duration_s
            self._handling = sample_handling(self._config, self._rng)
        since = t_seconds - self._start_s
        return self._handling.contact(since), self._handling.state(since)


def _direction(rng: np.random.Generator, turning: float = 0.25) -> np.ndarray:
    """A unit vector (x, y, turn), with turning as the typical share of the turn."""
    angle = rng.uniform(-math.pi, math.pi)
    turn = min(max(turning * rng.choice((-1, 1)) * rng.uniform(0.6, 1.1), -1.0), 1.0)
    along = math.sqrt(1 - turn * turn)
    return np.array([along * math.cos(angle), along * math.sin(angle), turn])
