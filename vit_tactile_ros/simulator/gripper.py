"""An object between the fingers of a gripper whose force is commanded: it slips unless it is held firmly enough."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from .contact import CLASS_NAMES, Contact
from .friction import STATE_NAMES, STEP_S, Grip, Row, contact_of, motion, states_of
from .sampling import sample_contact
from .sensor import SensorConfig

NOMINAL_N = 10.0  # force at which the object is pressed to its nominal depth
LARGEST_N = 20.0
_CLOSING_S, _OPENING_S = 0.6, 0.1  # until the fingers touch after the first command, and until they have let go
_FOLLOWS_S = 0.04  # time constant of the force
_LIFTED_S = (1.0, 0.6)  # after contact: when the object is lifted, and how long that takes
_PULLED_S = (2.0, 1.0)  # the same for a pull beside its weight
_LONGEST_S = 2.0  # between two calls; what is longer is cut to this
_KEPT = 40  # steps that the state depends on


class GrippedObject:
    """Objects one after the other: each approaches with the first force above 0, and is gone after a force of 0.

    Coulomb: the shear that friction carries is proportional to the force, since that is proportional to depth^1.5
    (Hertz). The weight needs 2 to 4 N, the pull 6 to 9 N in all.
    """

    def __init__(self, config: SensorConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = np.random.default_rng(int(rng.integers(2**63)))
        self._steps = 0
        self._begin()

    def _begin(self) -> None:
        rng = self._rng
        self._contact: Contact = sample_contact(str(rng.choice(CLASS_NAMES[1:])), self._config, rng,
                                                depth_fraction=rng.uniform(0.3, 0.5))
        # slow enough for a controller to act: at most about 10 mm/s
        self._grip = Grip(rng.uniform(0.6, 1.2), dynamic=rng.uniform(0.55, 0.9), lag_s=0.1)
        angle = rng.uniform(-math.pi, math.pi)
        per_n = self._grip.limit_mm / NOMINAL_N  # mm, shear that friction carries per N of force
        self._direction = (per_n * math.cos(angle), per_n * math.sin(angle))
        self._weight_n = rng.uniform(2.0, 4.0)
        self._pull_n = rng.uniform(6.0, 9.0) - self._weight_n
        self._motion = motion(self._grip, self._contact, self._config)
        next(self._motion)
        self._rows: deque[Row] = deque([(0.0,) * 9], _KEPT)
        self._force_n = 0.0
        self._held_s = -_CLOSING_S  # since contact

    def at(self, t_seconds: float, force_n: float) -> tuple[Contact | None, str]:
        """The contact at that time, and the state, one of STATE_NAMES, with the force since the last call.

        t_seconds: not less than in the previous call; force_n: 0 opens the gripper; at most LARGEST_N.
        """
        force_n = min(max(force_n, 0.0), LARGEST_N)
        # A process that was stopped for long does not catch up: that would take long as well.
        self._steps = max(self._steps, int((t_seconds - _LONGEST_S) / STEP_S))
        while self._steps < t_seconds / STEP_S:
            self._steps += 1
            self._step(force_n)
        state = int(states_of(np.array(self._rows), self._contact)[-1])
        return contact_of(self._rows[-1], self._contact), STATE_NAMES[state]

    @property
    def slid_mm(self) -> float:
        """How far the object has slid over the gel, in all."""
        return self._rows[-1][7]

    @property
    def needed_n(self) -> float:
        """Force at which the whole load is carried without a slip."""
        return self._weight_n + self._pull_n

    def _step(self, force_n: float) -> None:
        is_open = force_n == 0 and self._force_n < 0.01
        if is_open:
            if self._held_s > 0:
                self._begin()
            self._held_s = -_CLOSING_S
        else:
            self._held_s += STEP_S
        wanted = force_n if self._held_s > 0 else 0.0
        self._force_n += (wanted - self._force_n) * STEP_S / (_FOLLOWS_S if wanted else _OPENING_S / 5)
        load_n = sum(most * min(max((self._held_s - start) / lasts, 0.0), 1.0)
                     for most, (start, lasts) in ((self._weight_n, _LIFTED_S), (self._pull_n, _PULLED_S)))
        load = (load_n * self._direction[0], load_n * self._direction[1], 0.0)
        row = self._motion.send(((self._force_n / NOMINAL_N) ** (2 / 3), load, (0.0, 0.0, 0.0), 0.0))
        assert row is not None
        self._rows.append(row)
