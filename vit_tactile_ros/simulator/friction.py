"""How an object that is pressed on the gel moves, sticks and slips, and what state that is.

The object's pose over the gel is (x, y, turn), in mm: turn is the angle times the radius over which friction holds the
object. The gel shears like a spring: a load, given in mm, pulls the object until the gel is sheared by as much.
Friction carries a shear up to its limit, which grows with the depth of the press (Hertz) and falls from the static to
the dynamic value while the object slides. Pose, shear and load are vectors, so sliding and turning share one limit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator

import numpy as np

from .contact import Contact
from .sampling import touched_radius
from .sensor import SensorConfig

STATE_NAMES = ('no_contact', 'stable', 'moving', 'slip')

STEP_S = 0.004
WINDOW_S = 0.04  # a state is that of the motion during this time before it
_TOUCH_MM = 0.03  # shallower contacts are hardly visible: no contact, unless the object never goes deeper
_JUST_S = 0.06  # after contact has begun or before it ends, it is moving
_SLIP_MM_S = 1.0  # speed of the object over the gel's surface
_MOVING_MM_S = 0.6  # speed of the object, or of its depth, over the gel's backing
CREEP_S = 0.08  # a slow slide is that of the motion during this time
_CREEP_MM_S = 0.25  # speed of the object over the gel's surface that is hardly visible, at 0.15 mm per px
_CREPT_MM = 0.1  # way of a slow slide from which on it is one
_FALL_S, _HEAL_S = 0.012, 0.06  # friction falls to the dynamic value, and recovers


@dataclasses.dataclass(frozen=True)
class Grip:
    """How an object is held."""

    limit_mm: float  # shear at which the object starts to slide, at the nominal depth
    dynamic: float  # dynamic friction as a share of the static one
    lag_s: float  # the object follows its load with this time constant; while it slides, its speed is excess / lag

    @classmethod
    def draw(cls, rng: np.random.Generator, slides_slowly: bool = False) -> Grip:
        """slides_slowly: a slide is slow, mostly 1 to 5 mm/s."""
        limit = math.exp(rng.uniform(math.log(0.25), math.log(1.4)))
        if slides_slowly:
            lag = math.exp(rng.uniform(math.log(0.05), math.log(0.4)))
            return cls(limit, dynamic=rng.uniform(0.55, 0.95), lag_s=lag)
        return cls(limit, dynamic=rng.uniform(0.55, 0.9), lag_s=rng.uniform(0.015, 0.05))


Row = tuple[float, ...]  # depth as a share of the nominal one; pose, shear (3 each), slid, in mm; share that sticks
Vector = tuple[float, float, float]  # mm
Step = tuple[float, Vector, Vector, float]  # depth as a share, load, end of a spring that pulls, its stiffness


def motion(grip: Grip, contact: Contact, config: SensorConfig) -> Generator[Row | None, Step, None]:
    """Integrate the motion, step by step: `send` returns the row after the step, after a first `next`.

    Plain floats, because numpy is slow on three numbers.
    """
    half_x, half_y = config.half_size_mm
    room = (-half_x - contact.x_mm, half_x - contact.x_mm, -half_y - contact.y_mm, half_y - contact.y_mm)
    least = min(_TOUCH_MM / contact.depth_mm, 0.3)
    rate = STEP_S / grip.lag_s
    falls, heals = 1 - math.exp(-STEP_S / _FALL_S), 1 - math.exp(-STEP_S / _HEAL_S)
    x = y = turn = 0.0
    sx = sy = sturn = 0.0
    friction, slid, lost = 1.0, 0.0, 1.0
    row: Row | None = None
    while True:
        share, (lx, ly, lturn), (px, py, pturn), spring = yield row
        if lost < 1.0 or not (room[0] < x < room[1] and room[2] < y < room[3]):
            lost = max(lost - STEP_S / 0.06, 0.0)  # it has slid off the gel
        share *= lost
        if share < least:
            sx = sy = sturn = 0.0
            friction = 1.0
            row = (0.0, x, y, turn, 0.0, 0.0, 0.0, slid, 0.0)
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
        row = (share, x, y, turn, sx, sy, sturn, slid, stuck)


def contact_of(row: Row, base: Contact) -> Contact | None:
    """The nominal contact after that motion; None without contact."""
    if row[0] <= 0:
        return None
    depth, x, y, turn, shear_x, shear_y, sheared_turn, _, stuck = row
    radius = turning_radius(base)
    return dataclasses.replace(
        base, depth_mm=depth * base.depth_mm, x_mm=base.x_mm + x, y_mm=base.y_mm + y,
        angle_rad=base.angle_rad + turn / radius, shear_x_mm=shear_x, shear_y_mm=shear_y,
        twist_rad=sheared_turn / radius, stuck=stuck)


def turning_radius(contact: Contact) -> float:
    """Radius in mm over which friction holds an object that turns."""
    return min(max(0.6 * touched_radius(contact), 0.6), 3.0)


def states_of(rows: np.ndarray, contact: Contact, window_s: float = WINDOW_S) -> np.ndarray:
    """The state of every step, as an index of STATE_NAMES, by the mean motion during the time before it.

    rows: (N, 9), with the first before the contact; contact: the nominal one.
    """
    steps = max(round(window_s / STEP_S), 1)
    touching = rows[:, 0] > 0
    before = np.concatenate([np.repeat(rows[:1], steps, axis=0), rows[:-steps]])[:len(rows)]
    change = rows - before
    speed = np.sqrt((change[:, 1:4]**2).sum(axis=1)) / window_s
    deepens = np.abs(change[:, 0]) * contact.depth_mm / window_s
    state = np.where(np.maximum(speed, deepens) > _MOVING_MM_S, 2, 1)
    just = round(_JUST_S / STEP_S)
    edges = np.flatnonzero(np.diff(touching.astype(np.int8)))
    begins, ends = edges[touching[edges + 1]], edges[touching[edges]]
    for end in ends:
        state[max(end + 1 - just, 0):end + 1] = 2
    state[change[:, 7] / window_s > _SLIP_MM_S] = 3
    for begin in begins:
        state[begin + 1:begin + 1 + just] = 2
    state[~touching] = 0
    return state


def slides_of(rows: np.ndarray) -> np.ndarray:
    """For every step, by the way over the gel's surface: 1: slides, also slowly; 0: does not; -1: has just begun.

    A slide that is slower than a state's slip counts once it has come as far as can be seen.
    """
    slid, steps = rows[:, 7], round(CREEP_S / STEP_S)
    before = np.concatenate([np.repeat(slid[:1], steps), slid[:-steps]])[:len(slid)]
    slides = ((slid - before) / CREEP_S > _CREEP_MM_S) & (rows[:, 0] > 0)
    found = slides.astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found, [0]])))
    for begin, end in edges.reshape(-1, 2):
        found[begin:end][slid[begin:end] - before[begin] < _CREPT_MM] = -1
    return found
