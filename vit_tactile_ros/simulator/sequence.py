"""An endless sequence of random touches: approach, press, slide, release, pause."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from .contact import CLASS_NAMES, UNKNOWN, Contact
from .sampling import depth_range, place, sample_contact
from .sensor import SensorConfig

_FIRST_PAUSE_S = 1.0  # long enough to take a reference before the first touch


@dataclass(frozen=True)
class _Touch:
    start_s: float  # end of the pause; the finger approaches
    approach_s: float
    press_s: float
    slide_s: float
    release_s: float
    pause_s: float  # besides the moments at both ends when the touch is too light to be visible
    deepest: Contact  # where the slide begins
    shallowest_mm: float  # a shallower contact looks like no contact, or its class is ambiguous
    move_mm: tuple[float, float]  # over the slide
    turn_rad: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.approach_s + self.press_s + self.slide_s + self.release_s + self.pause_s


class TouchSequence:
    """An endless sequence of random touches of 2 to 4 s with pauses of about 0.7 s, determined by rng's seed.

    rng is used once, for the seed: later draws from it do not change the sequence.
    classes: those that occur, equally often, 'unknown' among them if wanted; without 'no_contact', which the pauses
    are.
    """

    def __init__(self, config: SensorConfig, rng: np.random.Generator,
                 classes: tuple[str, ...] = CLASS_NAMES[1:]) -> None:
        possible = (*CLASS_NAMES[1:], UNKNOWN)
        if not classes or not set(classes) <= set(possible):
            raise ValueError(f'classes is {classes!r}; it must name one or more of {", ".join(possible)}')
        self._config = config
        self._rng = np.random.default_rng(int(rng.integers(2**63)))
        self._classes = tuple(classes)
        self._left: list[str] = []
        self._last_s = 0.0
        self._touch = self._next_touch(_FIRST_PAUSE_S)

    def at(self, t_seconds: float) -> Contact | None:
        """The contact at that time; None without contact, or while it is too light to be visible.

        t_seconds: at least 0 and not less than in the previous call, else ValueError.
        """
        if not (math.isfinite(t_seconds) and t_seconds >= self._last_s):
            raise ValueError(f't_seconds is {t_seconds!r}; must be at least {self._last_s:.3f} as in the last call')
        self._last_s = t_seconds
        while t_seconds >= self._touch.end_s:
            self._touch = self._next_touch(self._touch.end_s)
        touch = self._touch
        since = t_seconds - touch.start_s - touch.approach_s
        if since < 0:
            return None
        release_from = touch.press_s + touch.slide_s
        pressed = min(_smooth(since / touch.press_s), 1 - _smooth((since - release_from) / touch.release_s))
        depth = touch.deepest.depth_mm * pressed
        # tolerance: a touch whose deepest press is the shallowest visible one stays visible despite rounding
        if depth < touch.shallowest_mm - 1e-9:
            return None
        slid = _smooth((since - touch.press_s) / touch.slide_s)
        # friction drags the gel along until the surface slips, at about half a millimetre
        distance = math.hypot(*touch.move_mm)
        drag = min(distance * slid, 0.5) / distance if distance > 0 else 0.0
        return dataclasses.replace(
            touch.deepest, depth_mm=depth,
            x_mm=touch.deepest.x_mm + slid * touch.move_mm[0],
            y_mm=touch.deepest.y_mm + slid * touch.move_mm[1],
            angle_rad=touch.deepest.angle_rad + slid * touch.turn_rad,
            shear_x_mm=drag * touch.move_mm[0], shear_y_mm=drag * touch.move_mm[1])

    def _next_touch(self, start_s: float) -> _Touch:
        rng = self._rng
        if not self._left:
            self._left = [str(name) for name in rng.permutation(self._classes)]
        contact = sample_contact(self._left.pop(), self._config, rng, depth_fraction=rng.uniform(0.35, 1.0))
        slide_s = rng.uniform(1.0, 2.0)
        # towards another place where the contact is in view, at a finger's speed
        to_x, to_y = place(contact, self._config, rng)
        way_x, way_y = to_x - contact.x_mm, to_y - contact.y_mm
        share = min(1.0, rng.uniform(0.5, 3.0) * slide_s / max(math.hypot(way_x, way_y), 1e-6))
        return _Touch(
            start_s=start_s, approach_s=rng.uniform(0.1, 0.2), press_s=rng.uniform(0.4, 0.7), slide_s=slide_s,
            release_s=rng.uniform(0.3, 0.6), pause_s=rng.uniform(0.1, 0.25), deepest=contact,
            shallowest_mm=depth_range(contact, self._config)[0], move_mm=(share * way_x, share * way_y),
            turn_rad=rng.uniform(-0.7, 0.7) if rng.random() < 0.6 else 0.0)


def _smooth(share: float) -> float:
    """0 below 0, 1 above 1, and smooth in between (smoothstep)."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)
