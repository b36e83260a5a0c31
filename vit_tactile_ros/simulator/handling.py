"""Objects that are pressed, held, lifted, shaken, that slip and are released, with the true state at every moment.

How they move is in `friction`.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from .contact import CLASS_NAMES, Contact
from .friction import STATE_NAMES, STEP_S, WINDOW_S, Grip, contact_of, motion, slides_of, states_of
from .sampling import sample_contact
from .sensor import SensorConfig

ACTIVITIES = ('rest', 'shake', 'squeeze', 'slip', 'twist', 'pull', 'loosen', 'drop')
_SLOW = ('rest', 'shake', 'squeeze', 'pull', 'loosen', 'creep', 'creep', 'creep')  # of objects that creep

_RECOVERY, _RECOVERY_S = 0.3, 0.15  # share of the shear that is left after release, and how fast it disappears


class Handling:
    """One object from its approach to its release: the whole motion, computed once.

    activities: from ACTIVITIES, or 'creep', in this order; the object is lifted before the first and put back after the
    last.
    """

    def __init__(self, config: SensorConfig, rng: np.random.Generator, contact: Contact,
                 activities: tuple[str, ...], pause_s: float, slides_slowly: bool = False) -> None:
        self._contact = contact
        self._grip = Grip.draw(rng, slides_slowly)
        depth, load, pull, stiffness = self._plan(rng, activities, pause_s)
        moves = motion(self._grip, contact, config)
        next(moves)
        rows = np.array([moves.send(step) for step in zip(
            depth.tolist(), load.tolist(), pull.tolist(), stiffness.tolist(), strict=True)])
        # an object that is gone does not return
        last = int(np.flatnonzero(rows[:, 0])[-1]) + round(pause_s / STEP_S)
        self._rows = rows[:last]
        self._touching = self._rows[:, 0] > 0
        self.duration_s = len(self._rows) * STEP_S

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
            if activity == 'creep':
                lasts = rng.uniform(1.0, 3.0)
                if rng.random() < 0.5:  # held more firmly at the end, as by a controller
                    caught = t + lasts * rng.uniform(0.4, 1.0)
                    depths.append((caught, level))
                    level *= rng.uniform(1.2, 1.8)
                    depths.append((caught + rng.uniform(0.1, 0.4), level))
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
        times = np.arange(0.0, t, STEP_S)

        depth, weighs = (np.interp(times, [at for at, _ in points], [value for _, value in points])
                         for points in (depths, weights))
        down = _direction(rng)
        load = weighs[:, None] * down
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
            elif activity == 'creep':
                # slowly beyond the limit, or almost to it
                begins = rng.uniform(0.2, 0.7) * (end - start)
                grows = np.clip(np.minimum((times - start) / begins, (end - times) / 0.15), 0.0, 1.0)
                most = rng.uniform(0.5, 0.95) if rng.random() < 0.3 else rng.uniform(1.0, 1.6)
                carries = limit * float(np.interp(start, times, depth)) ** 1.5
                load += (grows * max(most * carries - weight, 0.0))[:, None] * down
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

    def contact(self, t_seconds: float) -> Contact | None:
        """The contact at that time after the start; None without contact."""
        return contact_of(self._rows[self._index(t_seconds)].tolist(), self._contact)

    def states(self, window_s: float = WINDOW_S) -> np.ndarray:
        """The state of every step, as an index of STATE_NAMES, by the mean motion during the time before it."""
        return states_of(self._rows, self._contact, window_s)

    @cached_property
    def _slides(self) -> np.ndarray:
        return slides_of(self._rows)

    def slide(self, t_seconds: float) -> int:
        """1: the object slides over the gel, also slowly; 0: it does not; -1: it has just begun."""
        return int(self._slides[self._index(t_seconds)])

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
        left = _RECOVERY * math.exp(-(index - released[-1]) * STEP_S / _RECOVERY_S)
        shear_x, shear_y = self._rows[released[-1], 4:6].tolist()
        return left * shear_x, left * shear_y

    def times(self, state_name: str, window_s: float = WINDOW_S) -> np.ndarray:
        """All moments in that state, in seconds after the start, apart from those of the first window."""
        steps = np.flatnonzero(self.states(window_s) == STATE_NAMES.index(state_name))
        return steps[steps * STEP_S > window_s] * STEP_S

    def _index(self, t_seconds: float) -> int:
        return min(max(int(t_seconds / STEP_S + 0.5), 0), len(self._rows) - 1)


def sample_handling(config: SensorConfig, rng: np.random.Generator, activities: tuple[str, ...] | None = None,
                    contact: Contact | None = None, pause_s: float | None = None,
                    slides_slowly: bool = False) -> Handling:
    """Draw an object and what happens to it; activities: default: one to three, a slip in about half of them.

    pause_s: without contact, before it and after it; default: drawn, 0.3 to 0.6. slides_slowly: at 1 to 5 mm/s mostly,
    and pressed lightly, as by a gripper.
    """
    if contact is None:
        name = str(rng.choice(CLASS_NAMES[1:]))
        contact = sample_contact(name, config, rng, depth_fraction=rng.uniform(0.12, 0.6) if slides_slowly
                                 else rng.uniform(0.2, 1.0))
    if activities is None:
        some = _SLOW if slides_slowly else ACTIVITIES[:-1]
        activities = tuple(str(name) for name in rng.choice(some, int(rng.integers(1, 4))))
        if rng.random() < 0.15:
            activities += ('drop',)
    pause_s = rng.uniform(0.3, 0.6) if pause_s is None else pause_s
    return Handling(config, rng, contact, activities, pause_s, slides_slowly)


class HandlingSequence:
    """An endless sequence of handled objects, determined by rng's seed.

    rng is used once, for the seed: later draws from it do not change the sequence.
    """

    def __init__(self, config: SensorConfig, rng: np.random.Generator, pause_s: float | None = None,
                 slides_slowly: bool = False) -> None:
        """pause_s, slides_slowly: as for sample_handling."""
        self._config = config
        self._pause_s = pause_s
        self._slides_slowly = slides_slowly
        self._rng = np.random.default_rng(int(rng.integers(2**63)))
        self._last_s = 0.0
        self._start_s = 0.5  # with the first pause, long enough to take a reference
        self._handling = sample_handling(config, self._rng, pause_s=pause_s, slides_slowly=slides_slowly)

    def at(self, t_seconds: float) -> tuple[Contact | None, str]:
        """The contact at that time, None without contact, and the state, one of STATE_NAMES.

        t_seconds: at least 0 and not less than in the previous call, else ValueError.
        """
        if not (math.isfinite(t_seconds) and t_seconds >= self._last_s):
            raise ValueError(f't_seconds is {t_seconds!r}; must be at least {self._last_s:.3f} as in the last call')
        self._last_s = t_seconds
        while t_seconds >= self._start_s + self._handling.duration_s:
            self._start_s += self._handling.duration_s
            self._handling = sample_handling(self._config, self._rng, pause_s=self._pause_s,
                                             slides_slowly=self._slides_slowly)
        since = t_seconds - self._start_s
        return self._handling.contact(since), self._handling.state(since)

    def slide(self, t_seconds: float) -> int:
        """As `Handling.slide`, at the time of the last call of `at`."""
        return self._handling.slide(t_seconds - self._start_s)

    def creep_mm(self, t_seconds: float) -> tuple[float, float]:
        """As `Handling.creep_mm`, at the time of the last call of `at`."""
        return self._handling.creep_mm(t_seconds - self._start_s)


def _direction(rng: np.random.Generator, turning: float = 0.25) -> np.ndarray:
    """A unit vector (x, y, turn), with turning as the typical share of the turn."""
    angle = rng.uniform(-math.pi, math.pi)
    turn = min(max(turning * rng.choice((-1, 1)) * rng.uniform(0.6, 1.1), -1.0), 1.0)
    along = math.sqrt(1 - turn * turn)
    return np.array([along * math.cos(angle), along * math.sin(angle), turn])
