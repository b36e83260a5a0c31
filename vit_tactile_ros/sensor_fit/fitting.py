"""Fit a sensor's lights and gel to ball presses by inverting the simulator's shading.

The image is linear in the lights' colours, so these are solved for in closed form (variable projection, Golub and
Pereyra 1973). Only the lights' directions and falloffs and the gel's stretch are searched, in turn with the actual
position of each ball.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from scipy.optimize import least_squares, minimize, nnls

from vit_tactile_ros.simulator import gel as gel_surface
from vit_tactile_ros.simulator.contact import Contact
from vit_tactile_ros.simulator.sensor import Gel, Light
from vit_tactile_ros.simulator.shapes import penetration

from .example_table import ExampleTable
from .presses import Press

RING = 1.8  # contact radii: a press is evaluated this far around the contact
ROUNDS = 3  # each fits the lights to the placements, then the placements to the lights
NUM_PIXELS = 6000  # used by the search; more do not change the result
# azimuth (rad), elevation (rad), falloff of a light
_LOWEST, _HIGHEST, _STEP = (-3 * math.pi, 0.15, -0.8), (3 * math.pi, 1.2, 0.8), 0.01
_STRETCH = (0.4, 3.0)  # factor on the gel's spread_mm
_DEEPEST = 1.3  # ball radii
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """Position and depth of a ball."""

    x_px: float
    y_px: float
    depth_mm: float

    def moved(self, x_px: float, y_px: float, depth_mm: float) -> Placement:
        return Placement(self.x_px + x_px, self.y_px + y_px, max(self.depth_mm + depth_mm, 0.01))


@dataclass(frozen=True)
class Shading:
    """The result of a fit: how the simulator colours a surface."""

    lights: tuple[Light, ...]
    depth_rgb: tuple[float, ...]
    gel: Gel
    lens_blur_px: float = 0.0


@dataclass(frozen=True)
class View:
    """The evaluated part of a press's image, on the grid of the simulator."""

    press: Press
    x_px: np.ndarray  # float32 (h, w): pixel coordinates
    y_px: np.ndarray
    seen: np.ndarray  # bool (h, w): within RING contact radii of the labelled centre
    inside: np.ndarray  # bool (n,): of the seen pixels, those in the labelled contact disc
    change: np.ndarray  # float32 (n, 3): what the real sensor shows at the seen pixels, grey levels

    @property
    def labelled(self) -> Placement:
        return Placement(self.press.x_px, self.press.y_px, self.press.depth_mm)


Predictor = Callable[[View, Placement], np.ndarray]  # the change at the seen pixels, (n, 3)


def view_of(press: Press, gel: Gel) -> View:
    """gel: its stretch sets the margin around the evaluated pixels."""
    height, width = press.frame.shape[:2]
    reach = RING * press.radius_px + 3.0 * gel.spread_mm[0] / press.mm_per_px
    spans = []
    for centre, length in ((press.y_px, height), (press.x_px, width)):
        # multiples of 8 px, the coarsest grid that gel.py blurs on
        first, last = math.floor((centre - reach) / 8) * 8, math.ceil((centre + reach) / 8) * 8
        spans.append(slice(max(first, 0), min(last, length)))
    y, x = np.mgrid[spans[0], spans[1]].astype(np.float32)
    distance = press.distance_px()[spans[0], spans[1]]
    seen = distance < RING * press.radius_px
    return View(press, x, y, seen, distance[seen] < press.radius_px, press.change[spans[0], spans[1]][seen])


@dataclass(frozen=True)
class _Relief:
    """A surface (float32 arrays of one shape): height in mm, slopes, the normal's third component, place.

    x and y: pixel positions from the image's centre, in units of half its longer side.
    """

    height: np.ndarray
    slope_x: np.ndarray
    slope_y: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def upright(self) -> np.ndarray:
        return 1 / np.sqrt(1 + self.slope_x**2 + self.slope_y**2)


def _relief(view: View, placement: Placement, gel: Gel) -> _Relief:
    scale = view.press.mm_per_px
    ball = Contact('sphere', placement.depth_mm, radius_mm=view.press.ball_radius_mm)
    pressed = penetration(ball, (view.x_px - np.float32(placement.x_px)) * np.float32(scale),
                          (view.y_px - np.float32(placement.y_px)) * np.float32(scale))
    height = gel_surface.deform(pressed, gel, scale)
    slope_x, slope_y = gel_surface.slopes(height, scale)
    return _Relief(height, slope_x, slope_y, *_from_centre(view.x_px, view.y_px, view.press.frame.shape))


def _from_centre(x_px: np.ndarray, y_px: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    height, width = shape[:2]
    half = np.float32(max(height, width) / 2)
    return (x_px - np.float32((width - 1) / 2)) / half, (y_px - np.float32((height - 1) / 2)) / half


def _light_planes(relief: _Relief, directions: np.ndarray) -> list[np.ndarray]:
    """Change of the flat gel's brightness by each light of strength 1: `SensorUnit._add_shading` without shadows."""
    upright, planes = relief.upright, []
    for azimuth, elevation, falloff in directions.tolist():
        along_x, along_y = np.float32(math.cos(azimuth)), np.float32(math.sin(azimuth))
        flat, across = np.float32(math.sin(elevation)), np.float32(-math.cos(elevation))
        lit = np.maximum(flat + across * (along_x * relief.slope_x + along_y * relief.slope_y), 0) * upright - flat
        planes.append(lit * np.exp((relief.x * along_x + relief.y * along_y) * np.float32(falloff)))
    return planes


def _columns(view: View, relief: _Relief, directions: np.ndarray, lens_blur_px: float) -> np.ndarray:
    """Contribution of 1 mm of height and of each light of strength 1 at the seen pixels: float32 (n, 1 + lights)."""
    planes = [relief.height, *_light_planes(relief, directions)]
    if lens_blur_px >= 0.3:
        size = 2 * math.ceil(2 * lens_blur_px) + 1
        planes = [cv2.GaussianBlur(plane, (size, size), lens_blur_px, borderType=cv2.BORDER_REPLICATE)
                  for plane in planes]
    return np.stack([plane[view.seen] for plane in planes], axis=1)


def _colours(columns: np.ndarray, change: np.ndarray, signed: bool) -> np.ndarray:
    """(1 + lights, 3): grey levels per mm of height (any sign), then of each light."""
    # the height with both signs, so that non-negative least squares can give it either
    factor, triangle = np.linalg.qr(np.column_stack([columns, -columns[:, 0]]).astype(np.float64))
    wanted = factor.T @ change
    if signed:
        found = np.linalg.lstsq(triangle, wanted, rcond=1e-6)[0]
    else:
        found = np.stack([nnls(triangle, wanted[:, channel])[0] for channel in range(3)], axis=1)
    found[0] -= found[-1]
    return found[:-1]


def predict(view: View, placement: Placement, shading: Shading) -> np.ndarray:
    """The change of colour at the seen pixels that the simulator renders, (n, 3), grey levels."""
    directions = np.array([(light.azimuth_rad, light.elevation_rad, light.falloff) for light in shading.lights])
    columns = _columns(view, _relief(view, placement, shading.gel), directions, shading.lens_blur_px)
    return columns @ np.array([shading.depth_rgb, *(light.rgb for light in shading.lights)])


def predict_from_table(view: View, placement: Placement, table: ExampleTable, gel: Gel) -> np.ndarray:
    """As `predict`, by an example-based table: slopes of the ball in the contact disc, those of `gel` around it."""
    press = view.press
    relief = _relief(view, placement, gel)
    slope_x, slope_y = relief.slope_x[view.seen], relief.slope_y[view.seen]
    x_mm = (view.x_px[view.seen] - np.float32(placement.x_px)) * np.float32(press.mm_per_px)
    y_mm = (view.y_px[view.seen] - np.float32(placement.y_px)) * np.float32(press.mm_per_px)
    depth = min(placement.depth_mm, press.ball_radius_mm)
    touched = x_mm**2 + y_mm**2 < min(depth * (2 * press.ball_radius_mm - depth), 0.998 * press.ball_radius_mm**2)
    below = np.sqrt(np.where(touched, press.ball_radius_mm**2 - x_mm**2 - y_mm**2, 1.0))
    return table.change(np.where(touched, -x_mm / below, slope_x), np.where(touched, -y_mm / below, slope_y),
                        view.x_px[view.seen], view.y_px[view.seen])


def refine(view: View, predictor: Predictor, start: Placement) -> Placement:
    """The placement near `start` at which the prediction is closest to the image (mean absolute error)."""
    radius = view.press.ball_radius_mm
    unit = np.array([1.0, 1.0, radius / 12])  # search steps: 1 px sideways, a twelfth of the radius in depth
    reach = view.press.radius_px / 2

    def placed(step: np.ndarray) -> Placement:
        x, y, depth = (np.clip(step, -reach, reach) * unit).tolist()
        depth = min(max(start.depth_mm + depth, 0.03 * radius), _DEEPEST * radius)
        return Placement(start.x_px + x, start.y_px + y, depth)

    def error(step: np.ndarray) -> float:
        return float(np.abs(predictor(view, placed(step)) - view.change).mean())

    simplex = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, -1]], float)
    found = minimize(error, simplex[0], method='Nelder-Mead',
                     options={'maxfev': 50, 'initial_simplex': simplex, 'xatol': 0.02, 'fatol': 1e-3})
    return placed(found.x)


def fit_shading(views: Sequence[View], gel: Gel, lens_blur_px: float, num_lights: int = 3, signed: bool = True,
                rounds: int = ROUNDS) -> tuple[Shading, list[Placement]]:
    """The shading that fits the presses best, and the placement of each ball that goes with it.

    gel: its spread_mm are scaled by one fitted factor. Its skin and the lens's blur are kept, because a ball is too
    smooth to show them. signed: lights may darken a channel, as they do after a camera's colour correction; otherwise
    colours are at least 0. Logs the error after every round.
    """
    placements = [view.labelled for view in views]
    total = sum(len(view.change) for view in views)
    chosen = np.sort(np.random.default_rng(0).permutation(total)[:NUM_PIXELS])
    change = np.concatenate([view.change for view in views])[chosen]
    values = np.array([1.0])
    for step in range(rounds):
        columns = _PressColumns(views, placements, gel, lens_blur_px, chosen)
        if step == 0:
            # the labels are too coarse to separate the gel's stretch from an offset of the ball
            values = _search(columns, change, _starts(values, num_lights), signed, fixed=1)
        else:
            values = _search(columns, change, [values], signed, fixed=0)
        colours = _colours(columns(values), change, signed)
        shading = Shading(_lights(values[1:].reshape(-1, 3), colours), tuple(colours[0].tolist()),
                          _stretched(gel, float(values[0])), lens_blur_px)
        logger.info('round %d of %d: error %.2f grey levels', step + 1, rounds,
                    np.abs(columns(values) @ colours - change).mean())
        predictor = partial(predict, shading=shading)
        placements = [refine(view, predictor, place) for view, place in zip(views, placements)]
    return shading, placements


def fit_lights_to_table(table: ExampleTable, shape: tuple[int, int], num_lights: int = 3, signed: bool = True
                        ) -> tuple[tuple[Light, ...], float, float]:
    """Lights that colour slopes like the table: (lights, mean absolute error, the error without any light).

    shape: height and width in px of the images that the table was made from. Slopes of 3 to 52 degrees are compared,
    in the middle 70 % of the image, where tables hold examples. Extrapolated values are clipped to 150 grey levels.
    """
    rng, n = np.random.default_rng(0), 20_000
    tilt, direction = rng.uniform(0.05, 0.9, n), rng.uniform(-math.pi, math.pi, n)
    x_px, y_px = rng.uniform(0.15, 0.85, n) * shape[1], rng.uniform(0.15, 0.85, n) * shape[0]
    slope_x, slope_y = np.tan(tilt) * np.cos(direction), np.tan(tilt) * np.sin(direction)
    change = np.clip(table.change(slope_x, slope_y, x_px, y_px), -150, 150)
    relief = _Relief(np.zeros(n), slope_x, slope_y, *_from_centre(x_px, y_px, shape))
    few = slice(0, NUM_PIXELS)

    def columns(values: np.ndarray) -> np.ndarray:
        return np.stack([relief.height, *_light_planes(relief, values.reshape(-1, 3))], axis=1)

    values = _search(lambda values: columns(values)[few], change[few], _starts(np.empty(0), num_lights), signed,
                     fixed=0)
    colours = _colours(columns(values), change, signed)
    error = float(np.abs(columns(values) @ colours - change).mean())
    return _lights(values.reshape(-1, 3), colours), error, float(np.abs(change).mean())


class _PressColumns:
    """The columns of all presses at the chosen pixels, by the gel's stretch and the lights' directions."""

    def __init__(self, views: Sequence[View], placements: Sequence[Placement], gel: Gel, lens_blur_px: float,
                 chosen: np.ndarray) -> None:
        self.views, self.placements, self.gel = views, placements, gel
        self.lens_blur_px, self.chosen = lens_blur_px, chosen
        self._stretch = math.nan
        self._reliefs: list[_Relief] = []

    def __call__(self, values: np.ndarray) -> np.ndarray:
        stretch = float(values[0])
        if stretch != self._stretch:  # surfaces take the most time, and most search steps do not change them
            gel = _stretched(self.gel, stretch)
            self._stretch = stretch
            self._reliefs = [_relief(view, place, gel) for view, place in zip(self.views, self.placements)]
        parts = [_columns(view, relief, values[1:].reshape(-1, 3), self.lens_blur_px)
                 for view, relief in zip(self.views, self._reliefs)]
        return np.concatenate(parts)[self.chosen]


def _stretched(gel: Gel, factor: float) -> Gel:
    return dataclasses.replace(gel, spread_mm=tuple(factor * spread for spread in gel.spread_mm))


def _starts(first: np.ndarray, num_lights: int) -> list[np.ndarray]:
    """Two starts: the values `first`, then lights evenly spaced around the gel, at two rotations."""
    starts = []
    for turn in (0.25, 0.75):
        azimuths = (np.arange(num_lights) + turn) * 2 * math.pi / num_lights - math.pi
        starts.append(np.concatenate([first, *(np.array([azimuth, 0.5, 0.2]) for azimuth in azimuths)]))
    return starts


def _search(columns: Callable[[np.ndarray], np.ndarray], change: np.ndarray, starts: Sequence[np.ndarray], signed: bool,
            fixed: int) -> np.ndarray:
    """The values with the smallest squared residual under the best colours; the first `fixed` values do not change.

    Values are the gel's stretch (optional), then azimuth, elevation and falloff of every light.
    """
    def residual(values: np.ndarray) -> np.ndarray:
        made = columns(values)
        return (made @ _colours(made, change, signed) - change).ravel()

    best = None
    for start in starts:
        lights, rest = len(start) // 3, len(start) % 3
        lowest = np.array([_STRETCH[0]] * rest + list(_LOWEST) * lights)[fixed:]
        highest = np.array([_STRETCH[1]] * rest + list(_HIGHEST) * lights)[fixed:]
        kept = start[:fixed]

        def free_residual(values: np.ndarray, kept: np.ndarray = kept) -> np.ndarray:
            return residual(np.concatenate([kept, values]))

        def slope(values: np.ndarray, free_residual: Callable[[np.ndarray], np.ndarray] = free_residual,
                  highest: np.ndarray = highest) -> np.ndarray:
            # wide enough to cross the discontinuities of gel.deform's coarse grids
            here, parts = free_residual(values), []
            for i in range(len(values)):
                step = np.zeros(len(values))
                step[i] = _STEP if values[i] + _STEP <= highest[i] else -_STEP
                parts.append((free_residual(values + step) - here) / step[i])
            return np.stack(parts, axis=1)

        found = least_squares(free_residual, np.clip(start[fixed:], lowest + 1e-6, highest - 1e-6), jac=slope,
                              bounds=(lowest, highest), max_nfev=12 if len(starts) > 1 else 20)
        if best is None or found.cost < best[0]:
            best = found.cost, np.concatenate([kept, found.x])
    assert best is not None
    return best[1]


def _lights(directions: np.ndarray, colours: np.ndarray) -> tuple[Light, ...]:
    return tuple(Light(math.remainder(azimuth, 2 * math.pi), elevation, tuple(colour.tolist()), falloff)
                 for (azimuth, elevation, falloff), colour in zip(directions.tolist(), colours[1:]))
