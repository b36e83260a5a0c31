"""One physical sensor with its tolerances: renders the camera image of a contact."""

from __future__ import annotations

import math

import cv2
import numpy as np

from . import gel
from .background import add_noise, paint_background
from .contact import Contact
from .faint import Faint
from .markers import marker_shade
from .sensor import Light, SensorConfig
from .shapes import penetration

_SHADOW_GRID = 4  # shadows are soft, so a grid this much coarser is sufficient
_SHADOW_REACH_MM = 0.9
_WINDOW_GRID = 8  # px; contacts are located on this grid; a multiple of the grids that gel.py blurs on
_ENOUGH_DEPTH_MM = 0.3  # a contact this deep covers at least one point of that grid
_SPREAD_REACH = 3.4  # beyond this many of its widest standard deviations from the contact, the gel is at rest
_MOST_AMPLIFIED = 5.0  # a contact that is almost out of view stays weak

Window = tuple[slice, slice]


class SensorUnit:
    """One unit of a sensor model: the config plus the differences between units, drawn once from rng.

    variation: 1 for the tolerances of real units, 0 for the nominal unit, above 1 for randomised training.
    reference: uint8 (H, W, 3) RGB, a no-contact frame with its noise.
    Not thread-safe.
    """

    def __init__(self, config: SensorConfig, rng: np.random.Generator, variation: float = 1.0) -> None:
        if not variation >= 0:
            raise ValueError(f'variation is {variation!r}; it must be 0 (nominal) or more (1: real units)')
        self.config = config
        draw = lambda scale: float(scale * variation * rng.standard_normal())  # noqa: E731
        self.gain = math.exp(draw(0.05))
        self.noise = config.noise * math.exp(draw(0.25))
        self.mm_per_px = config.mm_per_px * math.exp(draw(0.015))
        self.centre_px = ((config.width - 1) / 2 + draw(3.0), (config.height - 1) / 2 + draw(3.0))
        roll = draw(0.02)
        self.lights = tuple(
            Light(azimuth_rad=light.azimuth_rad + roll + draw(0.10),
                  elevation_rad=min(max(light.elevation_rad + draw(0.05), 0.15), 1.2),
                  rgb=tuple(level * math.exp(draw(0.12)) for level in light.rgb),
                  falloff=light.falloff + draw(0.06))
            for light in config.lights)
        self.depth_rgb = tuple(self.gain * level for level in config.depth_rgb)

        columns = (np.arange(config.width) - self.centre_px[0]) * self.mm_per_px
        rows = (np.arange(config.height) - self.centre_px[1]) * self.mm_per_px
        x_mm, y_mm = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
        # the camera's roll rotates the scene, not the pixels
        self.x_mm = math.cos(roll) * x_mm - math.sin(roll) * y_mm
        self.y_mm = math.sin(roll) * x_mm + math.cos(roll) * y_mm

        coarse = slice(_WINDOW_GRID // 2, None, _WINDOW_GRID)
        self._coarse_x_mm = np.ascontiguousarray(self.x_mm[coarse, coarse])
        self._coarse_y_mm = np.ascontiguousarray(self.y_mm[coarse, coarse])

        sharp = paint_background(config, rng, variation) * np.float32(self.gain)
        self.background = np.stack([self._through_lens(plane) for plane in sharp])
        self._reach = [self._light_reach(light) for light in self.lights]
        colours = np.array([light.rgb for light in self.lights], np.float32)
        self._colours = colours.T * np.float32(self.gain)  # (3, L)
        # reused for every frame: allocating this much memory takes longer than computing in it
        self._image = np.empty_like(self.background)
        self.reference = self.render(None, rng)

    def render(self, contact: Contact | None, rng: np.random.Generator,
               lighting: np.ndarray | float = 1.0, creep_mm: tuple[float, float] = (0.0, 0.0),
               offset: np.ndarray | None = None, faint: Faint | None = None) -> np.ndarray:
        """The camera's frame, uint8 (H, W, 3) RGB; None is no contact.

        rng: for this frame's noise. lighting: brightness relative to the unit's own (flicker and drift), which
        broadcasts to (3, H, W). creep_mm: offset (x, y) of the markers from their rest positions. offset: grey levels
        added, (3, H, W). faint: strength of the contact's image; default: as deep as it is pressed.
        """
        image = self._image
        np.copyto(image, self.background)
        if contact is not None:
            self._add_shading(contact, image, faint)
        markers = self.config.markers
        if markers is not None:
            dots = marker_shade(markers, contact, self.centre_px, self.mm_per_px, image.shape[1:], creep_mm)
            image *= self._through_lens(dots)
        if not (np.isscalar(lighting) and lighting == 1.0):
            image *= np.asarray(lighting, np.float32)
        if offset is not None:
            image += offset
        self._add_noise(image, rng)
        # OpenCV rounds and clips to 0 and 255 when it converts
        return cv2.merge([cv2.add(plane, 0.0, dtype=cv2.CV_8U) for plane in image])

    def _add_noise(self, image: np.ndarray, rng: np.random.Generator) -> None:
        add_noise(image, self.noise, rng)

    def surface(self, contact: Contact) -> np.ndarray:
        """The gel's surface under a contact, in mm towards the camera: float32 (H, W), 0 at rest."""
        full = np.zeros_like(self.x_mm)
        window = self._window(contact)
        if window is not None:
            full[window] = self._deformed(contact, window)
        return full

    def _deformed(self, contact: Contact, window: Window) -> np.ndarray:
        reached = penetration(contact, self.x_mm[window], self.y_mm[window])
        return gel.deform(reached, self.config.gel, self.mm_per_px)

    def _window(self, contact: Contact) -> Window | None:
        """The part of the image that the contact can change, or None if it is out of view.

        Most contacts change a quarter of the image; rendering only that part halves the time of a frame.
        """
        # the tips of a light touch would fall between the grid's points
        above = min(contact.depth_mm - _ENOUGH_DEPTH_MM, 0.0)
        touched = penetration(contact, self._coarse_x_mm, self._coarse_y_mm) > above
        if contact.class_name == 'sphere':
            # a small ball lies between the grid's points
            away_x, away_y = self._coarse_x_mm - contact.x_mm, self._coarse_y_mm - contact.y_mm
            touched |= away_x * away_x + away_y * away_y < (0.75 * _WINDOW_GRID * self.mm_per_px) ** 2
        if not touched.any():
            return None
        # the contact may extend one grid step further, and the gel around it is stretched
        margin = 1 + math.ceil(_SPREAD_REACH * self.config.gel.spread_mm[0] / (self.mm_per_px * _WINDOW_GRID))
        spans = []
        for axis, length in ((1, self.config.height), (0, self.config.width)):
            hit = np.flatnonzero(touched.any(axis=axis))
            first, last = int(hit[0]) - margin, int(hit[-1]) + margin + 1
            spans.append(slice(max(first, 0) * _WINDOW_GRID, min(last * _WINDOW_GRID, length)))
        return spans[0], spans[1]

    def _add_shading(self, contact: Contact, image: np.ndarray, faint: Faint | None = None) -> None:
        """Add the contact's change of brightness to the image (3, H, W), in grey levels.

        Lambert's law for each light: tilted gel minus flat gel.
        """
        window = self._window(contact)
        if window is None:
            return
        surface = self._deformed(contact, window)
        slope_x, slope_y = gel.slopes(surface, self.mm_per_px)
        # (-slope_x, -slope_y, 1) * upright is the surface's normal
        upright = slope_x * slope_x
        upright += slope_y * slope_y
        upright += 1
        np.sqrt(upright, out=upright)
        np.reciprocal(upright, out=upright)
        received = np.empty((len(self.lights),) + surface.shape, np.float32)
        size = (max(surface.shape[1] // _SHADOW_GRID, 1), max(surface.shape[0] // _SHADOW_GRID, 1))
        coarse = cv2.resize(surface, size, interpolation=cv2.INTER_AREA)
        for light, reach, change in zip(self.lights, self._reach, received):
            flat = math.sin(light.elevation_rad)
            across = -math.cos(light.elevation_rad)
            cv2.addWeighted(slope_x, across * math.cos(light.azimuth_rad),
                            slope_y, across * math.sin(light.azimuth_rad), flat, dst=change)
            cv2.max(change, 0.0, dst=change)  # turned away from the light
            change *= upright
            if self.config.shadow:
                change *= cv2.resize(self._shadow(coarse, light), surface.shape[::-1])
            change -= np.float32(flat)
            change *= reach[window]
        changes = (self._colours @ received.reshape(len(self.lights), -1)).reshape((3,) + surface.shape)
        for change, per_mm in zip(changes, self.depth_rgb):
            if per_mm:
                cv2.scaleAdd(surface, per_mm, change, dst=change)
        if faint is not None:
            changes = self._weakened(changes, faint)
        for plane, change in zip(image, changes):
            lit = plane[window]
            lit += self._through_lens(change)
            # nothing is darker than black; `lighting` would scale a negative brightness
            cv2.max(lit, 0.0, dst=lit)

    def _weakened(self, changes: np.ndarray, faint: Faint) -> np.ndarray:
        """The changes (3, h, w) of a contact that is softer and weaker."""
        if faint.soft_mm:
            changes = np.stack([gel.wide_blur(change, faint.soft_mm, self.mm_per_px) for change in changes])
        # where it peaks after the blur of a lens or a codec, not in a single pixel
        size = (max(changes.shape[2] // 2, 1), max(changes.shape[1] // 2, 1))
        peak = max(float(np.abs(cv2.resize(change, size, interpolation=cv2.INTER_AREA)).max()) for change in changes)
        return changes * np.float32(min(faint.levels / max(peak, 1e-3), _MOST_AMPLIFIED))

    def _shadow(self, coarse: np.ndarray, light: Light) -> np.ndarray:
        """The share of a light that the gel's own bumps do not block, float32 in 0 to 1, on the coarse grid."""
        step = _SHADOW_REACH_MM / (self.mm_per_px * _SHADOW_GRID)
        towards = np.array([[1, 0, step * math.cos(light.azimuth_rad)],
                            [0, 1, step * math.sin(light.azimuth_rad)]])
        blocker = cv2.warpAffine(coarse, towards, coarse.shape[::-1], borderMode=cv2.BORDER_REPLICATE,
                                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        # how far the neighbour towards the light rises above the line of sight to the light
        hidden = blocker - coarse - np.float32(0.5 * _SHADOW_REACH_MM * math.tan(light.elevation_rad))
        hidden = cv2.GaussianBlur(np.clip(hidden * np.float32(3), 0, 1), (5, 5), 1.0)
        return 1 - np.float32(self.config.shadow) * hidden

    def _through_lens(self, image: np.ndarray) -> np.ndarray:
        sigma = self.config.lens_blur_px
        if sigma < 0.3:
            return image
        size = 2 * math.ceil(2 * sigma) + 1
        return cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REPLICATE)

    def _light_reach(self, light: Light) -> np.ndarray:
        """A light's strength across the gel relative to the centre, float32 (H, W)."""
        half_x, half_y = self.config.half_size_mm
        # smooth, so the coarse grid is sufficient
        x_mm, y_mm = self._coarse_x_mm, self._coarse_y_mm
        near = x_mm * math.cos(light.azimuth_rad) + y_mm * math.sin(light.azimuth_rad)
        corner = (x_mm / half_x) ** 2 + (y_mm / half_y) ** 2
        reach = np.exp(near * (light.falloff / max(half_x, half_y)))
        reach *= 1 - corner * (self.config.vignette / 4)
        return cv2.resize(reach, (self.config.width, self.config.height), interpolation=cv2.INTER_LINEAR)
