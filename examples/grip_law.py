"""How hard a gripper holds, from the events of slip/touch_event; without ROS. grasp_controller.py uses it as a node.

Forces are in N, times in s. The gripper opens only when `open` is called: RELEASE and LOST are also reported while an
object is held, and a gripper that opens then drops it.
"""

from __future__ import annotations

from dataclasses import dataclass

ONSET, RELEASE, INTERRUPTED, SLIP_BEGAN, SLIP_ENDED, LOST = 1, 4, 5, 6, 7, 8  # the constants of TouchEvent.msg
BLIND = 0.5  # s without a result, after which it no longer tightens: the sensor may be unplugged


@dataclass
class GripLaw:
    """Call `event` for each event, `result` for each result and `step` regularly, which returns the force."""

    closing_force: float = 2.0  # until contact
    holding_force: float = 4.0  # from contact on
    largest_force: float = 20.0
    tightening: float = 20.0  # N/s, while the object slips
    margin: float = 1.25  # factor of the force at the end of a slip: the object may still creep

    def __post_init__(self) -> None:
        self.force = 0.0  # 0: open
        self.slips = False
        self.is_lost = False  # reported; the gripper holds on, until the application decides
        self._unseen = 0.0  # since the last result

    def close(self) -> None:
        self.force = self.force or self.closing_force

    def open(self) -> None:
        self.slips, self.is_lost, self.force = False, False, 0.0

    def event(self, kind: int) -> None:
        if kind == ONSET and self.force > 0:
            self.force = max(self.force, self.holding_force)
            self.is_lost = False
        elif kind == SLIP_BEGAN:
            self.slips = True
        elif kind == SLIP_ENDED:
            self.slips = False
            self.force = min(self.margin * self.force, self.largest_force)
        elif kind in (RELEASE, INTERRUPTED):
            self.slips = False  # whether it slips is unknown: hold the force
        elif kind == LOST:
            self.is_lost = self.force > 0

    def result(self) -> None:
        self._unseen = 0.0

    def step(self, seconds: float) -> float:
        """The force to command, `seconds` after the last call."""
        self._unseen += seconds
        if self.slips and self._unseen < BLIND and self.force > 0:
            self.force = min(self.force + self.tightening * seconds, self.largest_force)
        return self.force
