"""Realistic variation of camera-based touch sensors, added to batches of frames and their references.

A contact adds to the image a sum over the lights: the colour of each light times the shading of the tilted surface. So
another unit (other LEDs, other paint, other positions of the lights) is a linear change of the difference between frame
and reference: its colours are mixed by a 3x3 matrix, and its strength varies slowly over the gel. Frame and reference
get the same geometry; they differ as in reality: in shear, drift of the light and noise.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_tactile_ros.data.augment_config import AugmentConfig
from vit_tactile_ros.model import PreprocessingConfig


class Augment(nn.Module):
    """Batches of fitted frames and references, varied differently at every call, on their device."""

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        self.config = config
        # The cross product with the grey axis, which turns hues. A buffer, because a tensor made in every call would be
        # copied from the host each time, and the copy waits for the device.
        cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        self.register_buffer('_cross', cross, persistent=False)

    @torch.no_grad()
    def forward(self, frames: Tensor, references: Tensor, generator: torch.Generator,
                luck: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """frames, references: uint8 (B, h, w, 3). Returns both as float32 (B, 3, h, w), 0 to 255.

        frames may also be (B, h, w, 6) or more: each with earlier ones, which vary in the same way except for
        their noise.

        generator: draws everything; on the CPU it gives every device the same variation (up to rounding), on the GPU it
        is faster.
        luck: a generator on the CPU for the numbers of images that get a variation: with `generator` on the GPU, the
        host would have to wait for them.
        """
        if frames.ndim != 4 or frames.shape[-1] % 3 or not frames.shape[-1] or (
                *frames.shape[:3], 3) != tuple(references.shape):
            raise ValueError(f'frames are {tuple(frames.shape)} and references {tuple(references.shape)}; '
                             'both must be (B, h, w, 3), frames with motion (B, h, w, 6) or more')
        config, views = self.config, frames.shape[-1] // 3
        draw = _Draw(len(frames), generator, frames.device, luck or generator)
        frame, reference = _planes(frames), _planes(references)
        erased, marked = draw.chosen(config.erase_markers, config.markers)
        if len(erased):
            for picture in (*frame.split(3, dim=1), reference):
                picture[erased] = _without_dark_spots(picture[erased], config.marker_size)
        if len(marked):
            # Drawn before the shear, so that the dots of the frame move with it.
            light = _marker_light(draw, len(marked), frame.shape[2:], config)
            frame[marked] *= light
            reference[marked] *= light
        if config.shift or config.rotation_deg or config.scale or config.flip or config.shear:
            at_rest = _grid(draw, frame.shape[2:], config)
            dragged = at_rest + _shear(draw, frame.shape[2:], config) if config.shear else at_rest
            frame, reference = _resample(frame, dragged), _resample(reference, at_rest)
        if config.blur:
            chosen, _ = draw.chosen(config.blur)
            share = draw.uniform(0, 1, len(chosen))[:, None, None, None]
            for picture in (frame, reference):
                sharp = picture[chosen]
                picture[chosen] = torch.lerp(sharp, _binomial(sharp), share)
        both = frame.unflatten(1, (views, 3))  # (B, views, 3, h, w): the frame, and earlier ones
        both -= reference[:, None]  # from here on the difference
        if config.hue_deg or config.swap or config.mixing or config.contrast:
            matrix = _colour_matrix(draw, config, self.get_buffer('_cross')).repeat_interleave(views, dim=0)
            both = torch.bmm(matrix, both.flatten(3).flatten(0, 1)).view_as(both)
        if config.uneven:
            both *= _slow_field(draw, frame.shape[2:], config.uneven).add_(1).clamp_(0.2, 2)[:, None]
        if config.brightness or config.tone:
            _relight(draw, reference, config)
        both += reference[:, None]
        if config.drift:
            both += _slow_field(draw, frame.shape[2:], config.drift)[:, None]
        if config.noise:
            _add_noise(draw, both, config.noise)
        frame = both.flatten(1, 2)
        return frame.clamp_(0, 255), reference.clamp_(0, 255)


def to_input(frames: Tensor, references: Tensor, preprocessing: PreprocessingConfig) -> Tensor:
    """The network's input from frames and references, float (B, 3, h, w) in 0..255: `preprocess.normalise` in torch.

    With motion, frames are (B, 6, h, w) or more: each with earlier ones.
    """
    values = now = frames[:, :3]
    if preprocessing.reference == 'difference':
        values = (now - references).add_(127.5).clamp_(0, 255)
    scale, shift = _scale_and_shift(preprocessing.mean, preprocessing.std, values.dtype, values.device)
    inputs = values * scale - shift
    if not preprocessing.motion_interval:
        return inputs
    motion = now.repeat(1, preprocessing.motion_views, 1, 1).sub_(frames[:, 3:])
    motion.clamp_(-127.5, 127.5).div_(255 * preprocessing.motion_std)
    return torch.cat((inputs, motion), dim=1)


@lru_cache(maxsize=8)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype,
                     device: torch.device) -> tuple[Tensor, Tensor]:
    """The factor of the grey levels and the value to subtract then, (3, 1, 1) each.

    Kept on the device: a copy for every batch would wait for it.
    """
    with torch.inference_mode(False):  # also if the first call is in inference mode
        mean_, std_ = (torch.tensor(v, dtype=dtype, device=device).view(3, 1, 1) for v in (mean, std))
        return 1 / (255 * std_), mean_ / std_


class _Draw:
    """Random numbers for a batch, from one generator, on one device."""

    def __init__(self, batch: int, generator: torch.Generator, device: torch.device, luck: torch.Generator) -> None:
        self.batch, self.generator, self.device, self.luck = batch, generator, device, luck

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        values = torch.rand(shape or (self.batch,), generator=self.generator, device=self.generator.device)
        return values.to(self.device).mul_(high - low).add_(low)

    def normal(self, std: float, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return values.to(self.device).mul_(std)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator, device=self.generator.device).to(self.device)

    def chosen(self, first: float, second: float = 0.0) -> tuple[Tensor, Tensor]:
        """Indices of two random shares of the batch; half of the first, if there are so many, are also in the second.

        The numbers are known on the host, so that it does not have to wait for the device.
        """
        order = torch.randperm(self.batch, generator=self.generator, device=self.generator.device).to(self.device)
        # The fraction is rounded randomly: a batch of one is varied sometimes, too.
        luck = torch.rand(3, generator=self.luck, device=self.luck.device).tolist()
        a, b, both = (math.floor(share * self.batch + u) for share, u in zip((first, second, first / 2), luck))
        start = min(a - min(both, a, b), self.batch - b)
        return order[:a], order[start:start + b]


def _planes(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def _coordinates(size: torch.Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """x (w) and y (h) of the pixels' centres, -1 to 1 from edge to edge: grid_sample's with align_corners=False."""
    height, width = size
    x = (torch.arange(width, device=device, dtype=torch.float32) * 2 + 1) / width - 1
    y = (torch.arange(height, device=device, dtype=torch.float32) * 2 + 1) / height - 1
    return x, y


def _grid(draw: _Draw, size: torch.Size, config: AugmentConfig) -> Tensor:
    """The source of every pixel of the new image, (B, h, w, 2)."""
    height, width = size
    angle = draw.uniform(-1, 1) * math.radians(config.rotation_deg)
    zoom = torch.exp(draw.uniform(-config.scale, config.scale))
    mirror = 1 - 2 * (draw.uniform(0, 1, 2, draw.batch) < config.flip).float()
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # A rotation in pixels: the axes of the unit square have different lengths.
    aspect = height / width
    across = torch.stack((mirror[0] * cosine, -mirror[0] * sine * aspect), 1)
    down = torch.stack((mirror[1] * sine / aspect, mirror[1] * cosine), 1)
    shift = draw.uniform(-2, 2, draw.batch, 2, 1) * config.shift
    return F.affine_grid(torch.cat((torch.stack((across, down), 1), shift), 2), [draw.batch, 1, height, width],
                         align_corners=False)


def _shear(draw: _Draw, size: torch.Size, config: AugmentConfig) -> Tensor:
    """Tangential shift of the surface by friction, (B, h, w, 2) in the units of the grid: largest at one point."""
    x, y = _coordinates(size, draw.device)
    centre = draw.uniform(-0.8, 0.8, 2, draw.batch, 1)
    reach = draw.uniform(0.3, 1.5, 2, draw.batch, 1)  # wide: the whole surface moves
    hill_x = torch.exp(-0.5 * ((x - centre[0]) / reach[0]) ** 2)
    hill_y = torch.exp(-0.5 * ((y - centre[1]) / reach[1]) ** 2)
    pull = draw.normal(2 * config.shear, draw.batch, 2)
    pull[:, 1] *= size[1] / size[0]
    return (hill_y[:, :, None] * hill_x[:, None, :])[..., None] * pull[:, None, None, :]


def _resample(pictures: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(pictures, grid, mode='bilinear', padding_mode='reflection', align_corners=False)


def _marker_light(draw: _Draw, count: int, size: torch.Size, config: AugmentConfig) -> Tensor:
    """The share of light that a lattice of dots reflects, (count, 1, h, w)."""
    height, width = size
    pitch = draw.uniform(*config.marker_pitch, count, 1) * width  # px
    # Not smaller than the pixels can resolve.
    radius = (draw.uniform(*config.marker_radius, count, 1) * pitch).clamp_(min=0.6)
    start = draw.uniform(0, 1, 2, count, 1)
    squared = []
    for pixels, offset in zip((height, width), start):
        position = torch.arange(pixels, device=draw.device, dtype=torch.float32) / pitch + offset
        squared.append(((position - position.round()) * pitch) ** 2)
    # The distance to the nearest dot, in pixels; the edge of a dot is about a pixel wide.
    distance = (squared[0][:, :, None] + squared[1][:, None, :]).sqrt_()
    covered = distance.neg_().add_(radius[:, :, None]).div_(draw.uniform(0.8, 2.0, count, 1, 1)).add_(0.5).clamp_(0, 1)
    darkness = draw.uniform(*config.marker_darkness, count, 1, 1)
    return covered.mul_(-darkness).add_(1)[:, None]


def _without_dark_spots(pictures: Tensor, size: float) -> Tensor:
    """The images with filled dark spots: those darker in all channels than around, smaller than `size` of the width.

    By a grey-level closing of all channels: the shading of a contact is coloured (one channel loses what another
    gains), so it stays, and so does fine texture.
    """
    reach = max(1, math.ceil(size * pictures.shape[3] / 2))
    padded = F.pad(pictures, (2 * reach,) * 4, mode='replicate')
    closed = _running_maximum(_running_maximum(padded, 2 * reach + 1).neg_(), 2 * reach + 1).neg_()
    lost = (closed - pictures).div_(closed + 1).amin(dim=1, keepdim=True)
    # From 3 % of the light lost (noise, paint) to 10 %, a dot's soft edge.
    return torch.lerp(pictures, closed, lost.sub_(0.03).div_(0.07).clamp_(0, 1))


def _running_maximum(pictures: Tensor, window: int) -> Tensor:
    """The maximum over windows of `window` by `window` px, without padding: window - 1 rows and columns fewer.

    By doubling, with four passes for nine pixels: max_pool2d takes ten times as long on a CPU.
    """
    for axis in (2, 3):
        reached = 1
        while reached < window:
            step = min(reached, window - reached)
            length = pictures.shape[axis] - step
            pictures = torch.maximum(pictures.narrow(axis, 0, length), pictures.narrow(axis, step, length))
            reached += step
    return pictures


def _binomial(pictures: Tensor) -> Tensor:
    """Blurred by (1 4 6 4 1)/16 both ways: standard deviation 1 px.

    Sums of neighbours: a convolution per channel takes several times as long on a CPU.
    """
    blurred = F.pad(pictures, (2, 2, 2, 2), mode='replicate')
    for axis in (2, 3):
        for _ in range(4):
            length = blurred.shape[axis] - 1
            blurred = blurred.narrow(axis, 0, length) + blurred.narrow(axis, 1, length)
    return blurred.div_(256)


def _colour_matrix(draw: _Draw, config: AugmentConfig, cross: Tensor) -> Tensor:
    """The matrix that mixes the channels of the difference, (B, 3, 3).

    With three lights 120 degrees apart, moving them around the gel rotates the colours about the grey axis by the same
    angle; lights in the other order exchange two channels.
    """
    angle = draw.uniform(-1, 1, draw.batch, 1, 1) * math.radians(config.hue_deg)
    grey = torch.full((3, 3), 1 / 3, device=draw.device)
    identity = torch.eye(3, device=draw.device)
    matrix = torch.cos(angle) * (identity - grey) + torch.sin(angle) * cross + grey  # Rodrigues about (1, 1, 1)
    matrix = matrix + draw.normal(config.mixing, draw.batch, 3, 3)
    if config.swap:
        swapped = (draw.uniform(0, 1) < config.swap)[:, None, None]
        matrix = torch.where(swapped, torch.stack((matrix[:, 1], matrix[:, 0], matrix[:, 2]), 1), matrix)
    return matrix * torch.exp(draw.uniform(-1, 1, draw.batch, 1, 1) * config.contrast)


def _slow_field(draw: _Draw, size: torch.Size, std: float) -> Tensor:
    """Random polynomials of second order over the gel, (B, 3, h, w); half of the variance is common to the channels."""
    x, y = _coordinates(size, draw.device)
    x, y = x[None, :].expand(*size), y[:, None].expand(*size)
    # Each term has variance of about 1 over the gel.
    terms = torch.stack((torch.ones_like(x), 1.7 * x, 1.7 * y, 3 * x * y, 3.4 * (x * x - 1 / 3), 3.4 * (y * y - 1 / 3)))
    weights = draw.normal(1, draw.batch, 3, 6) + draw.normal(1, draw.batch, 1, 6)
    weights *= std / math.sqrt(2 * 6)
    return (weights.view(-1, 6) @ terms.view(6, -1)).view(draw.batch, 3, *size)


def _relight(draw: _Draw, reference: Tensor, config: AugmentConfig) -> None:
    """Another brightness, white balance and tone curve of the background, in place."""
    log_gain = (draw.uniform(-1, 1, draw.batch, 1) + draw.uniform(-1, 1, draw.batch, 3)) * config.brightness
    gain = torch.exp(log_gain)[:, :, None, None]
    curve = (draw.uniform(-1, 1, draw.batch, 3) * config.tone)[:, :, None, None]
    # x + c x (1 - x) for x in 0..1: one pass of multiply-adds where a power would take ten times as long.
    reference *= (reference * (-curve / 255)).add_(1 + curve).mul_(gain)


def _add_noise(draw: _Draw, both: Tensor, largest: float) -> None:
    """Noise with a random standard deviation for every frame, in place; earlier ones get other noise of as much.

    The whole batch shares a few planes of noise: new ones would cost as much as everything else together.
    """
    batch, views, _, height, width = both.shape
    planes = draw.normal(1, 8, 3, height, width)
    std = draw.uniform(0, largest) * (1 - 2 * draw.integers(2, batch).float())
    chosen = draw.integers(8, batch)
    both[:, 0].addcmul_(planes[chosen], std[:, None, None, None])
    for view in range(1, views):
        both[:, view].addcmul_(planes[(chosen + 1 + draw.integers(7, batch)) % 8], std[:, None, None, None])
