"""The contents of a checkpoint besides its weights: architecture, preprocessing, classes, calibration."""

from __future__ import annotations

import typing
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vit_tactile_ros.foundation.errors import UserError, shown

Attention = Literal['favor_softmax', 'favor_relu', 'softmax']
Stem = Literal['patch', 'convolution']

# Bounds far beyond any network of this kind (the largest published ViT has width 6144 and depth 48). They refuse a
# damaged or hostile file before memory is allocated from its numbers.
MAX_WEIGHTS = 10**9  # 4 GB in float32
MAX_SIDE = 4096  # px of the input image
MAX_TOKENS = 16384  # patches of an image
MOTION_INTERVALS = (0.01, 1.0)  # s, besides 0: no motion
MAX_MOTION_VIEWS = 6
MAX_NAME = 255  # characters of a class name; the limit of folder names
_FLOAT32 = 3.4e38  # about the largest float32
_BOUNDS = {'num_classes': (1, 4096), 'patch_size': (1, 256), 'width': (4, 8192), 'depth': (1, 256), 'heads': (1, 256),
           'feature_map_dim': (1, 4096), 'queries': (0, 64)}


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of the staged ViT; the defaults are ViT-Tiny with Performer attention and three exits."""

    num_classes: int = 10
    image_size: tuple[int, int] = (224, 224)  # px (height, width), multiples of patch_size
    patch_size: int = 16  # px
    width: int = 192
    depth: int = 12  # blocks
    heads: int = 3
    mlp_ratio: float = 4.0  # hidden width of the MLP over width
    exits: tuple[int, ...] = (4, 8, 12)  # 1-based blocks that an exit follows; the last is depth
    # favor_softmax and favor_relu are Performer's kernels (Choromanski et al. 2021, eq. 5 and 10).
    attention: Attention = 'favor_softmax'
    feature_map_dim: int = 256  # random features per head; unused by 'softmax'
    # 'patch': one linear map per patch; 'convolution': three small strided convolutions before it, which learn fine
    # texture from fewer examples for 1 % more multiply-adds (Xiao et al. 2021, Early convolutions help transformers).
    stem: Stem = 'patch'
    # With its fixed epsilon, FAVOR+ degrades to an average once the rms of queries and keys exceeds 1: normalise them.
    qk_norm: bool = True
    channels: int = 3  # of the input: 3, and 3 more for each earlier image with motion
    # Above 0, only patches whose difference to the reference exceeds it are computed, and a sparse grid of the others
    # (see `model.tokens`). In units of the input: grey levels / 255 / std of the preprocessing. 0: all patches.
    token_threshold: float = 0.0
    # Learned vectors of each head, each of which gives a weighted mean of the tokens; 0: one mean with equal weights.
    queries: int = 0
    # The logits of an exit are the sum of what its own head gives and the logits of the exit before. Temperatures
    # divide the sum only.
    added_exits: bool = False

    @property
    def num_patches(self) -> int:
        """Of an image of `image_size`."""
        return (self.image_size[0] // self.patch_size) * (self.image_size[1] // self.patch_size)

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _BOUNDS.items():
            _require(lowest <= getattr(self, name) <= highest, name, getattr(self, name), f'{lowest} to {highest}')
        _require(0 < self.mlp_ratio <= 64 and self.width * self.mlp_ratio >= 1, 'mlp_ratio', self.mlp_ratio,
                 f'at least 1 / width {self.width} and at most 64')
        _require(self.channels in range(3, 3 * MAX_MOTION_VIEWS + 4, 3), 'channels', self.channels,
                 f'3, or 3 more for each of up to {MAX_MOTION_VIEWS} earlier images of the motion')
        _require(self.attention in typing.get_args(Attention), 'attention', self.attention,
                 f'one of {", ".join(typing.get_args(Attention))}')
        _require(self.stem in typing.get_args(Stem), 'stem', self.stem, f'one of {", ".join(typing.get_args(Stem))}')
        _require(self.stem == 'patch' or (self.patch_size % 8 == 0 and self.width % 12 == 0), 'stem', self.stem,
                 f"'patch' for patch_size {self.patch_size} and width {self.width}: the convolutions need multiples of "
                 '8 and 12')
        _require(0.0 <= self.token_threshold <= 1e6, 'token_threshold', self.token_threshold,
                 'from 0 (all patches) to 1e6')
        _require(not self.token_threshold or self.patch_size % 2 == 0, 'token_threshold', self.token_threshold,
                 f'0 for patch_size {self.patch_size}: the difference of a patch is that of its quarters')
        _require(self.width % self.heads == 0, 'heads', self.heads, f'a divisor of width {self.width}')
        _require(self.width % 4 == 0, 'width', self.width, 'a multiple of 4 (2-D position embedding)')
        _require(len(self.image_size) == 2
                 and all(self.patch_size <= s <= MAX_SIDE and s % self.patch_size == 0 for s in self.image_size),
                 'image_size', self.image_size, f'two multiples of patch_size {self.patch_size} up to {MAX_SIDE}')
        _require(self.num_patches <= MAX_TOKENS, 'image_size', self.image_size,
                 f'at most {MAX_TOKENS} patches of {self.patch_size} px; these are {self.num_patches}')
        exits = self.exits
        _require(len(exits) > 0 and exits[0] >= 1 and exits[-1] == self.depth
                 and all(a < b for a, b in zip(exits, exits[1:], strict=False)), 'exits', exits,
                 f'increasing blocks from 1, the last one depth {self.depth}')
        weights = (self.depth * (self.width**2 * (4 + 2 * self.mlp_ratio) + self.feature_map_dim * self.width)
                   + len(exits) * self.width * (self.queries + max(self.queries, 1) * self.num_classes)
                   + self.channels * self.patch_size**2 * self.width)
        _require(weights <= MAX_WEIGHTS, 'width', self.width,
                 f'smaller: with depth {self.depth} and mlp_ratio {self.mlp_ratio:g} the network would have about '
                 f'{weights:.2g} weights, and at most {MAX_WEIGHTS:.0e} are allowed')


@dataclass(frozen=True)
class PreprocessingConfig:
    """How an RGB uint8 frame becomes the network's input; see `inference.preprocess`."""

    image_size: tuple[int, int] = (224, 224)  # px (height, width)
    # 'difference': clip((frame - reference) / 255 + 0.5, 0, 1) before normalising; 'none': frame / 255.
    reference: Literal['difference', 'none'] = 'none'
    # 'match': a frame whose long side is not the input's long side is rotated by 90 degrees (a portrait DIGIT).
    orientation: Literal['as_is', 'match'] = 'as_is'
    # 'center': the largest centred window of the input's aspect ratio; 'none': the whole frame, squashed to fit.
    crop: Literal['center', 'none'] = 'none'
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of values in 0..1, per RGB channel
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    # s; above 0, three more channels show the motion: clip((frame - previous) / 255 + 0.5, 0, 1), where `previous` is
    # the image of the same sensor that long ago (see `inference.motion`). 0: no motion.
    motion_interval: float = 0.0
    # Earlier images, with three channels each: 1, 2, 4, ... intervals ago. Several show slow motion and its direction.
    motion_views: int = 1
    # Of the motion, whose mean is 0.5. Images of a moving contact 0.08 s apart differ by about 0.04 where they differ.
    motion_std: float = 0.04
    # Shares of the input's shorter side. A contact whose spread (`inference.closer`) is below the first is shown
    # enlarged, cut out of the camera's image, until its spread is about the second. 0: never.
    zoom_below: float = 0.0
    zoom_to: float = 0.16

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 3 + 3 * self.motion_views if self.motion_interval else 3

    def __post_init__(self) -> None:
        for name, choices in (('reference', ('difference', 'none')), ('orientation', ('as_is', 'match')),
                              ('crop', ('center', 'none'))):
            _require(getattr(self, name) in choices, name, getattr(self, name), f'one of {", ".join(choices)}')
        _require(len(self.image_size) == 2 and all(1 <= s <= MAX_SIDE for s in self.image_size), 'image_size',
                 self.image_size, f'two numbers (height, width), 1 to {MAX_SIDE}')
        # Well beyond 0 to 1, and far below the overflow of float32 inputs.
        _require(all(abs(m) <= 1e3 for m in self.mean), 'mean', self.mean, 'numbers from -1000 to 1000')
        _require(all(1e-4 <= s <= 1e3 for s in self.std), 'std', self.std, 'numbers from 0.0001 to 1000')
        _require(1e-4 <= self.motion_std <= 1e3, 'motion_std', self.motion_std, 'a number from 0.0001 to 1000')
        check_motion('motion_interval', self.motion_interval, self.motion_views)
        _require(0 <= self.zoom_below <= 0.5, 'zoom_below', self.zoom_below, '0 (never) to 0.5')
        _require(0 < self.zoom_to <= 0.5, 'zoom_to', self.zoom_to, 'above 0 and at most 0.5')
        _require(not self.zoom_below or self.reference == 'difference', 'zoom_below', self.zoom_below,
                 '0 for an input without a reference: a contact is found by its difference to the reference')
        _require(not self.zoom_below or not self.motion_interval, 'zoom_below', self.zoom_below,
                 '0 for an input with motion: an earlier image would need the same part')


@dataclass(frozen=True)
class DropBound:
    """Thresholds that keep the accuracy drop of early exits below a bound, verified on validation data."""

    max_accuracy_drop: float  # share of all samples, (0, 1): accuracy of the last exit minus that with early exits
    confidence: float  # that the bound holds, (0, 1)
    tau: tuple[float, ...]  # one per early exit; all 1 if there were too few samples: early exit is off

    def __post_init__(self) -> None:
        for name in ('max_accuracy_drop', 'confidence'):
            _require(0.0 < getattr(self, name) < 1.0, name, getattr(self, name), 'above 0 and below 1')
        _require(all(0.0 <= t <= 1.0 for t in self.tau), 'tau', self.tau, 'between 0 and 1')

    @property
    def is_shown(self) -> bool:
        """False if the bound holds only because early exit is off."""
        return any(t < 1.0 for t in self.tau)

    @property
    def effect(self) -> str:
        """The thresholds, for messages."""
        everything = ', so every image exits at the first exit at the latest' if self.tau[:1] == (0.0,) else ''
        return (f'max_accuracy_drop {self.max_accuracy_drop:g}: tau is {", ".join(f"{t:g}" for t in self.tau)}'
                f'{everything}; the bound does not include errors of the gate')


@dataclass(frozen=True)
class Calibration:
    """Temperatures and thresholds of the exits, and the ranges that int8 needs."""

    # Divides the logits of each exit before the softmax (Guo et al. 2017); empty means 1 everywhere.
    temperatures: tuple[float, ...] = ()
    tau: float = 0.8  # the threshold recommended for this checkpoint
    drops: tuple[DropBound, ...] = ()  # strictest first; empty: not calibrated
    num_samples: int = 0  # from which the thresholds of `drops` were chosen
    ece: tuple[float, ...] = ()  # expected calibration error of each exit on these samples, 0..1
    # Lowest and highest input of the four linear layers of each block, in the order of `inference.ranges`, which
    # int8 engines need; empty: not measured.
    activation_ranges: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        _require(all(1e-3 <= t <= 1e3 for t in self.temperatures), 'temperatures', self.temperatures,
                 'numbers from 0.001 to 1000')
        _require(0.0 <= self.tau <= 1.0, 'tau', self.tau, 'between 0 and 1')
        bounds = [d.max_accuracy_drop for d in self.drops]
        _require(all(a < b for a, b in zip(bounds, bounds[1:], strict=False)), 'drops', bounds, 'increasing bounds')
        _require(self.num_samples >= 0, 'num_samples', self.num_samples, 'at least 0')
        _require(all(0.0 <= e <= 1.0 for e in self.ece), 'ece', self.ece, 'between 0 and 1')
        for low, high in self.activation_ranges:
            _require(-_FLOAT32 < low <= 0.0 <= high < _FLOAT32 and low < high, 'activation_ranges', (low, high),
                     'finite, from at most 0 to at least 0, and not empty')

    def bound_for(self, max_accuracy_drop: float) -> DropBound:
        """The largest stored bound that is not above `max_accuracy_drop`; thresholds are never interpolated.

        Raises UserError if the checkpoint is not calibrated, or not that strictly.
        """
        if not self.drops:
            raise UserError('this checkpoint is not calibrated for max_accuracy_drop: run '
                             'python -m vit_tactile_ros.calibrate on it, or set tau')
        kept = [d for d in self.drops if d.max_accuracy_drop <= max_accuracy_drop]
        if not kept:
            stored = ', '.join(f'{d.max_accuracy_drop:g}' for d in self.drops)
            raise UserError(f'this checkpoint is calibrated for {stored}, not for {max_accuracy_drop:g} or less: run '
                            'python -m vit_tactile_ros.calibrate with that bound, or set tau')
        return kept[-1]


UNLABELLED = ('unlabelled',)  # class names of a network that was pre-trained without labels
GREY_SHARE = 'grey_share'  # of the training images, in `Provenance.metrics`


@dataclass(frozen=True)
class Provenance:
    """Where a checkpoint comes from; human-readable."""

    command: str = ''
    data: str = ''
    created: str = ''  # ISO 8601 date
    metrics: dict[str, float] = field(default_factory=dict)  # with GREY_SHARE if it is not 0
    # Identifies the training images (`data.training_part`); empty: simulated, or unknown.
    training_part: dict[str, str] = field(default_factory=dict)


def check_class_names(names: Sequence[str]) -> None:
    """Raises UserError for names that cannot be distinguished in a message, a log line or a table."""
    for name in names:
        can_be_shown = not any(unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') for c in name[:MAX_NAME])
        _require(0 < len(name) <= MAX_NAME and can_be_shown, 'class_names', name,
                 f'1 to {MAX_NAME} characters without line ends or other control characters')
    if len(set(names)) != len(names):
        raise UserError(f'class_names {shown(list(names))} holds a name twice')


def token_threshold(grey_levels: float, preprocessing: PreprocessingConfig) -> float:
    """`ModelConfig.token_threshold` for patches that differ from the reference by more than this, 0 to 127 grey levels.

    0: all patches. Raises UserError for another value, or if there is no reference.
    """
    _require(0 <= grey_levels < 128, 'token_threshold', grey_levels, '0 (all patches) to 127 grey levels')
    if grey_levels:
        _require(preprocessing.reference == 'difference', 'token_threshold', grey_levels, '0 for an input without a '
                 'reference: an untouched patch is recognised by its difference to the reference')
        _require(not preprocessing.motion_interval, 'token_threshold', grey_levels,
                 '0 for an input with motion: a patch that moved may equal the reference')
        _require(all(mean == 0.5 for mean in preprocessing.mean), 'token_threshold', grey_levels,
                 f'0 for an input with mean {preprocessing.mean}: an untouched patch must be 0, as with mean 0.5')
    return grey_levels / 255 / max(preprocessing.std)


def check_motion(name: str, seconds: float, views: int | None = None) -> None:
    """Raises UserError for a time that cannot be a `motion_interval`, or a number that cannot be `motion_views`."""
    low, high = MOTION_INTERVALS
    _require(seconds == 0 or low <= seconds <= high, name, seconds, f'0 (no motion), or {low:g} to {high:g} s')
    _require(views is None or 1 <= views <= MAX_MOTION_VIEWS, 'motion_views', views, f'1 to {MAX_MOTION_VIEWS}')


def _require(condition: bool, name: str, value: Any, right: str) -> None:
    if not condition:
        raise UserError(f'{name} is {shown(value)}; must be {right}')
