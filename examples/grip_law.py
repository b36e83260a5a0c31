"""How hard a gripper holds, from the events of slip/touch_event; without ROS. grasp_controller.py uses it as a node.

Forces are in N, times in s. The force never falls until `open` is called: RELEASE and LOST are also reported while an
object is held, and a gripper that opens then drops it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ONSET, RELEASE, INTERRUPTED, SLIP_BEGAN, SLIP_ENDED, LOST = 1, 4, 5, 6, 7, 8  # the constants of TouchEvent.msg
BLIND = 0.5  # s without a result, after which it no longer tightens: the sensor may be unplugged
LONGEST_STEP = 0.1  # s; a controller that was held up tightens by no more than this at once


@dataclass
class GripLaw:
    """Call `event` for each event, `result` for each result and `step` regularly, which returns the force.

    Raises ValueError for forces that are not 0 < closing_force <= holding_force <= largest_force, and for a tightening
    or margin out of range.
    """

    closing_force: float = 2.0  # until contact
    holding_force: float = 4.0  # from contact on
    largest_force: float = 20.0
    tightening: float = 20.0  # N/s, above 0, while the object slips
    margin: float = 1.25  # at least 1; factor of the force at the end of a slip: the object may still creep

    def __post_init__(self) -> None:
        # A NaN fails each of these comparisons.
        if not 0 < self.closing_force <= self.holding_force <= self.largest_force < math.inf:
            raise ValueError(f'closing_force is {self.closing_force:g}, holding_force {self.holding_force:g} and '
                             f'largest_force {self.largest_force:g} N; must be above 0, finite, and in rising order')
        if not 0 < self.tightening < math.inf:
            raise ValueError(f'tightening is {self.tightening:g} N/s; must be above 0 and finite')
        if not 1 <= self.margin < math.inf:
            raise ValueError(f'margin is {self.margin:g}; must be at least 1 and finite')
        self.force = 0.0  # 0: open
        self.slips = False
        self.has_contact = False  # since it closes
        self.is_lost = False  # reported; the gripper holds on, until the application decides
        self._unseen = 0.0  # since the last result

    def close(self) -> None:
        self.slips = False  # of an earlier touch
        self.force = self.force or self.closing_force

    def open(self) -> None:
        self.slips = self.has_contact = self.is_lost = False
        self.force = 0.0

    def event(self, kind: int) -> None:
        if self.force == 0:
            return  # open: there is nothing to hold
        if kind == ONSET:
            self.slips, self.is_lost = False, False  # a new touch; a detector that restarts ends no slip
            self.has_contact = True
            self.force = max(self.force, self.holding_force)
        elif kind == SLIP_BEGAN:
            self.slips = True
        elif kind == SLIP_ENDED and self.slips:
            self.slips = False
            self.force = min(self.margin * self.force, self.largest_force)
        elif kind in (RELEASE, INTERRUPTED, LOST):
            self.slips = False  # whether it slips is unknown: hold the force
            self.is_lost |= kind == LOST and self.has_contact  # while it closes, nothing is held yet

    def result(self) -> None:
        self._unseen = 0.0

    def step(self, seconds: float) -> float:
        """The force to command, `seconds` after the last call."""
        self._unseen += seconds
        if self.slips and self._unseen < BLIND:
            self.force = min(self.force + self.tightening * min(seconds, LONGEST_STEP), self.largest_force)
        return self.force
