"""The settings of the demo, importable without ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from vit_tactile_ros.foundation.errors import UserError


@dataclass(frozen=True)
class DemoSettings:
    """Raises UserError naming the field that is wrong."""

    seconds: float | None = None  # s from the first results; None: until stopped
    tau: float | None = None  # None: that of the checkpoint
    rate: float = 30.0  # images/s per finger
    device: str = 'auto'
    checkpoint: str = ''  # '': the shipped one
    picture: Path | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UserError(f'seconds is {self.seconds}; must be above 0')
        if self.tau is not None and not 0 <= self.tau <= 1:
            raise UserError(f'tau is {self.tau}; must be between 0 and 1')
        if not 1 <= self.rate <= 120:
            raise UserError(f'rate is {self.rate}; must be from 1 to 120')
