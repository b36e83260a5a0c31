"""What changes between the reference and a frame besides contact: light, colour, the gel's place and the codec."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .contact import Contact
from .faint import Faint
from .unit import SensorUnit

_GRID = 8  # px; drift is smooth, so a grid this much coarser is sufficient


@dataclass(frozen=True)
class Change:
    """What changed between the reference and the frames; drawn independently of the contact."""

    lighting: np.ndarray
    offset: np.ndarray | None
    codec: bool  # each frame has blotches of its own
    creep_mm: tuple[float, float]  # the gel has not fully recovered from the previous touch
    shift_px: np.ndarray | None
    qualities: tuple[int, int] | None  # of JPEG: of the frames and of the reference
    least_visible: float  # a contact that peaks at fewer grey levels would drown in noise

    @classmethod
    def draw(cls, unit: SensorUnit, drift_share: float, rng: np.random.Generator) -> Change:
        """A random change; in drift_share of the draws the reference no longer fits."""
        size = (unit.config.height, unit.config.width)
        drifted = rng.random() < drift_share
        offset = drift_field(size, rng) + marks(size, rng) if drifted else None
        codec = drifted and rng.random() < 0.6
        least = 1.7 + 0.8 * unit.noise + 1.5 * (unit.config.markers is not None) + 0.5 * codec + 1.0 * drifted
        creep = rng.normal(0.0, 0.15 if drifted and rng.random() < 0.5 else 0.08, 2)
        shift, qualities = None, None
        if rng.random() < 0.3:
            far = 0.1 if drifted and rng.random() < 0.3 else 0.03
            shift = rng.normal(0.0, far / unit.mm_per_px, 2)
        if rng.random() < 0.3:
            # image streams are often compressed; then the reference is too, sometimes in another way
            quality = int(rng.integers(60, 96))
            qualities = (quality, int(rng.integers(60, 96)) if drifted else quality)
            least += max(90 - quality, 0) / 20
        return cls(slight_drift(size, rng), offset, codec, (float(creep[0]), float(creep[1])), shift, qualities, least)

    def frame(self, unit: SensorUnit, contact: Contact | None, rng: np.random.Generator,
              faint: Faint | None = None) -> np.ndarray:
        """A frame after the change, with noise of its own."""
        offset = self.offset
        if self.codec:
            noise = codec_noise((unit.config.height, unit.config.width), rng)
            offset = noise if offset is None else offset + noise
        image = unit.render(contact, rng, lighting=self.lighting, creep_mm=self.creep_mm, offset=offset, faint=faint)
        if self.shift_px is not None:
            image = moved(image, self.shift_px)
        return image if self.qualities is None else compressed(image, self.qualities[0])

    def reference(self, unit: SensorUnit) -> np.ndarray:
        """The unit's reference, compressed if the frames are."""
        return unit.reference if self.qualities is None else compressed(unit.reference, self.qualities[1])


def slight_drift(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Brightness relative to the reference, (3, H, W): flicker and a smooth colour gradient.

    A press moves the whole gel slightly. Real sensors show this far from the contact: up to 6 grey levels around
    Taxim's ball presses. Networks trained without it classified these balls as cylinders.
    """
    height, width = size
    flicker = 1 + 0.015 * rng.standard_normal((3, 1, 1))
    strength = rng.uniform(0.0, 0.035)
    corners = 1 + strength * rng.standard_normal((3, 4, 3))
    gradient = cv2.resize(corners.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return flicker.astype(np.float32) * gradient.transpose(2, 0, 1)


def drift_field(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Change of an untouched gel hours after its reference, in grey levels: float32 (3, H, W).

    As between recordings of one real sensor: their mean distance is 1 to 15 grey levels, half of it the same everywhere
    and half in coloured bands a fifth of the image high.
    """
    height, width = size
    y, x = np.mgrid[0:1:(height // _GRID) * 1j, 0:1:(width // _GRID) * 1j].astype(np.float32)
    field = np.zeros((3,) + x.shape, np.float32)
    for _ in range(int(rng.integers(0, 4))):  # a light that has become brighter or darker
        along, across = rng.uniform(0.25, 0.8), rng.uniform(0.1, 0.4)
        wide_x, wide_y = (along, across) if rng.random() < 0.7 else (across, along)
        centre_x, centre_y = rng.uniform(-0.1, 1.1, 2).tolist()
        patch = np.exp(-0.5 * (((x - centre_x) / wide_x) ** 2 + ((y - centre_y) / wide_y) ** 2))
        field += _colour(rng) * patch
    tilt = rng.uniform(0.0, 1.0) * rng.standard_normal((2, 3, 1, 1)).astype(np.float32)
    field += tilt[0] * (x - 0.5) + tilt[1] * (y - 0.5)
    field -= field.mean(axis=(1, 2), keepdims=True)
    # grey levels, the mean over the image
    field *= np.float32(math.exp(rng.uniform(math.log(0.5), math.log(6.0))) / (float(np.abs(field).mean()) + 1e-6))
    if rng.random() < 0.7:
        field += _colour(rng) * np.float32(rng.uniform(0.0, 16.0))
    return _enlarged(field, size)


def marks(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Change along the border of a gel that has moved in its frame, and new dust, in grey levels: float32 (3, H, W).

    Between recordings of one real sensor, the border changes by up to 50 grey levels. A network without such examples
    took 91 % of these frames for touches, and none with a border of 16 px removed.
    """
    height, width = size
    changed = np.zeros((3, height, width), np.float32)
    if rng.random() < 0.6:
        strength = _colour(rng) * np.float32(rng.uniform(3.0, 50.0))
        for axis, length in ((2, width), (1, height)):
            distance = np.arange(length, dtype=np.float32) / height
            for way in (distance, distance[::-1]):
                if rng.random() < 0.5:
                    strip = np.float32(rng.uniform(0.2, 1.0)) * np.exp(-way / np.float32(rng.uniform(0.01, 0.07)))
                    changed += strength * (strip[None, None, :] if axis == 2 else strip[None, :, None])
    mask = np.zeros(size, np.uint8)
    if rng.random() < 0.4:  # the rounded corners of the frame
        radius, out = round(height * rng.uniform(0.03, 0.15)), round(height * rng.uniform(0.0, 0.03))
        for x, y, sign_x, sign_y in ((0, 0, 1, 1), (width, 0, -1, 1), (0, height, 1, -1), (width, height, -1, -1)):
            if rng.random() < 0.5:
                centre = (x + sign_x * (radius - out), y + sign_y * (radius - out))
                cv2.rectangle(mask, (x, y), centre, 255, -1)
                cv2.circle(mask, centre, radius, 0, -1, cv2.LINE_AA)
        changed += (_colour(rng) * np.float32(rng.uniform(10.0, 70.0) / 255)) * mask
    for _ in range(int(rng.poisson(2.0))):
        mask[:] = 0
        x, y = int(rng.integers(width)), int(rng.integers(height))
        long_x, long_y = rng.integers(-5, 6, 2).tolist() if rng.random() < 0.3 else (0, 0)
        cv2.line(mask, (x, y), (x + long_x, y + long_y), 255, 1, cv2.LINE_AA)
        near = (slice(max(y - 8, 0), y + 9), slice(max(x - 8, 0), x + 9))
        changed[:, near[0], near[1]] += np.float32(rng.choice((-1, 1)) * rng.uniform(8.0, 60.0) / 255) * mask[near]
    return changed


def codec_noise(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Blotches of 2 to 8 px as of an H.264 stream, in grey levels: float32 (3, H, W).

    Of the noise of real clips (1.5 grey levels), 0.6 remain after a blur of 4 px; of a camera's own noise 0.2 would.
    """
    height, width = size
    levels = rng.uniform(0.1, 0.7)
    block = int(rng.choice((4, 8))) * height / 240
    grain = rng.standard_normal((3, round(height / block), round(width / block))).astype(np.float32)
    grain += 0.7 * grain[1]  # colours differ less than brightness does
    # blocks with visible borders in some streams
    return _enlarged(np.float32(levels) * grain, size, cv2.INTER_NEAREST if rng.random() < 0.15 else cv2.INTER_LINEAR)


def moved(image: np.ndarray, shift_px: np.ndarray) -> np.ndarray:
    """The image after the camera or the whole gel moved by (x, y) px."""
    move = np.array([[1.0, 0.0, shift_px[0]], [0.0, 1.0, shift_px[1]]])
    return cv2.warpAffine(image, move, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG compression of that quality (1 to 100)."""
    # OpenCV assumes BGR in both directions, so the swap cancels, apart from the weights of chroma
    _, data = cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    restored = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert restored is not None
    return restored


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Of strength 1 in its strongest channel, (3, 1, 1); the channels have the same sign in half of the draws."""
    colour = rng.standard_normal(3)
    if rng.random() < 0.5:
        colour = np.abs(colour) * rng.choice((-1, 1))
    return (colour / np.abs(colour).max()).astype(np.float32)[:, None, None]


def _enlarged(planes: np.ndarray, size: tuple[int, int], interpolation: int = cv2.INTER_CUBIC) -> np.ndarray:
    enlarged = cv2.resize(planes.transpose(1, 2, 0), size[::-1], interpolation=interpolation)
    return np.ascontiguousarray(enlarged.transpose(2, 0, 1))
