"""Slip from the motion of the gel over seconds: two small causal networks on `motion_figures`, image by image.

`slip` gives the probabilities of the states of a held object; `lost`, five times a second, the log odds that no object
is held. The weights are trained by tools/train_slip_motion.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.strict_json import parse_json
from vit_tactile_ros.inference.motion_figures import FIGURES, MotionMaps, figures_of
from vit_tactile_ros.inference.slip_evidence import SlipEvidence
from vit_tactile_ros.inference.touch_events import STATES, are_states
from vit_tactile_ros.model.shipped import shipped_checkpoint

Floats = NDArray[np.float32]
FORMAT = 'vit_tactile_motion'
SLIP_MOTION = 'slip_motion.safetensors'
STEP = 0.04  # s between two images of the training, roughly: 25 and 30 Hz
LEAST_STEP = 0.025  # s; an image sooner after the last one changes nothing
MOST_STEPS = 12  # that one image stands for, in a slow stream
MAX_GAP = 0.5  # s; then the stream was interrupted
BIN = 0.2  # s, over which `lost` sees mean and largest value of each figure
LEAST_BINS = 10  # before `lost` is known
LARGEST, LARGEST_LOST = 10.0, 5.0  # standard deviations of an input


@dataclass(frozen=True)
class Convolutions:
    """Weights of one causal network: a linear layer, dilated convolutions over 3 steps with a residual, a linear layer.

    With norms, each convolution's input is normalised and starts with zeros; without, with copies of the first one.
    """

    mean: Floats  # (F,)
    std: Floats
    clip: float
    inner: tuple[Floats, Floats]  # (W, F), (W,)
    layers: tuple[tuple[int, Floats, Floats], ...]  # dilation, (W, W, 3), (W,)
    norms: tuple[tuple[Floats, Floats], ...]  # (W,), (W,)
    outer: tuple[Floats, Floats]  # (C, W), (C,)

    @property
    def context(self) -> int:
        """Earlier inputs that an output depends on."""
        return sum(2 * dilation for dilation, _, _ in self.layers)

    def check(self, inputs: int, outputs: int) -> None:
        """Raises UserError for shapes that do not fit each other, and for weights that are not finite."""
        width = self.inner[1].size
        wanted = [('mean', self.mean, (inputs,)), ('std', self.std, (inputs,)),
                  ('inp.weight', self.inner[0], (width, inputs)), ('inp.bias', self.inner[1], (width,)),
                  ('out.weight', self.outer[0], (outputs, width)), ('out.bias', self.outer[1], (outputs,))]
        for n, (_, weight, bias) in enumerate(self.layers):
            wanted += [(f'convs.{n}.weight', weight, (width, width, 3)), (f'convs.{n}.bias', bias, (width,))]
        for n, (weight, bias) in enumerate(self.norms):
            wanted += [(f'norms.{n}.weight', weight, (width,)), (f'norms.{n}.bias', bias, (width,))]
        for name, values, shape in wanted:
            if values.shape != shape or values.dtype != np.float32:
                raise UserError(f'{name} has the shape {values.shape}, {values.dtype}; must be {shape}, float32')
            if not np.isfinite(values).all() or (name == 'std' and (values <= 0).any()):
                raise UserError(f'{name} has values that are not finite, or of std not above 0')
        if not self.layers or len(self.norms) not in (0, len(self.layers)):
            raise UserError(f'{len(self.layers)} convolutions and {len(self.norms)} norms; must be at least one, and '
                            'as many norms, or none')

    @staticmethod
    def of(tensors: dict[str, Floats], name: str, clip: float) -> Convolutions:
        own = {key.removeprefix(f'{name}.'): value for key, value in tensors.items() if key.startswith(f'{name}.')}
        numbers = range(sum(key.startswith('convs.') and key.endswith('.bias') for key in own))
        return Convolutions(
            own['mean'], own['std'], clip, (own['inp.weight'], own['inp.bias']),
            tuple((2**n, own[f'convs.{n}.weight'], own[f'convs.{n}.bias']) for n in numbers),
            tuple((own[f'norms.{n}.weight'], own[f'norms.{n}.bias']) for n in numbers if f'norms.{n}.weight' in own),
            (own['out.weight'], own['out.bias']))


class _Stream:
    """One network step by step; keeps what its convolutions look back to."""

    def __init__(self, network: Convolutions) -> None:
        self._network = network
        self._past: list[list[Floats]] = []

    def clear(self) -> None:
        self._past = []

    def step(self, values: Floats) -> Floats:
        """The outputs, (C,), of one more input, (F,)."""
        network = self._network
        scaled = np.clip((values - network.mean) / network.std, -network.clip, network.clip)
        hidden = network.inner[0] @ scaled + network.inner[1]
        if not network.norms:
            hidden = np.maximum(hidden, 0)
        starts = not self._past
        for place, (dilation, weight, bias) in enumerate(network.layers):
            seen = _normalised(hidden, *network.norms[place]) if network.norms else hidden
            if starts:
                self._past.append([np.zeros_like(seen) if network.norms else seen] * (2 * dilation))
            past = self._past[place]
            out = weight[:, :, 0] @ past[0] + weight[:, :, 1] @ past[dilation] + weight[:, :, 2] @ seen + bias
            past.append(seen)
            del past[0]
            hidden = hidden + np.maximum(out, 0)
        return network.outer[0] @ hidden + network.outer[1]


@dataclass(frozen=True)
class SlipNetwork:
    """The weights; `detector` makes the state of one sensor."""

    slip: Convolutions
    lost: tuple[Convolutions, ...]  # whose log odds are averaged

    def detector(self) -> SlipDetector:
        return SlipDetector(self)


class SlipDetector:
    """Follows one sensor; live and in replay. Not thread-safe.

    An image less than 25 ms after the last one adds nothing, one in a slow stream counts several times. After a gap of
    more than 0.5 s, and after a stamp that went back, it starts again. Until the network of slip has seen as much as it
    looks back to, about 2.5 s, it adds nothing about the states.
    """

    def __init__(self, network: SlipNetwork) -> None:
        self._maps = MotionMaps()
        self._slip = _Stream(network.slip)
        self._lost = [_Stream(one) for one in network.lost]
        self._context = network.slip.context
        self._seen = 0  # steps
        self._stamp: int | None = None  # ns, of the last image that counted
        self._newest: int | None = None
        self._bin: list[Floats] = []
        self._bin_start = 0
        self._bins = 0
        self._lost_odds = float('nan')

    def clear(self) -> None:
        self._maps.clear()
        for stream in (self._slip, *self._lost):
            stream.clear()
        self._stamp = self._newest = None
        self._bin, self._bins, self._seen = [], 0, 0
        self._lost_odds = float('nan')

    def update(self, image: NDArray[np.uint8], stamp_ns: int, reference: NDArray[np.floating]) -> SlipEvidence:
        """image: fitted, uint8 RGB (h, w, 3), not to be changed afterwards; reference: of its size, grey levels."""
        if self._newest is not None and not self._newest <= stamp_ns <= self._newest + MAX_GAP * 1e9:
            self.clear()
        self._newest = stamp_ns
        if self._is_too_soon(stamp_ns):
            return self._nothing_new
        return self.see(stamp_ns, self._maps.update(image, stamp_ns, reference))

    def see(self, stamp_ns: int, maps: Floats) -> SlipEvidence:
        """As `update`, from the maps of an image, (12, 12, 16), without its check of the stamp."""
        if self._is_too_soon(stamp_ns):
            return self._nothing_new
        steps = 1
        if self._stamp is not None:
            steps = min(max(1, round((stamp_ns - self._stamp) / 1e9 / STEP)), MOST_STEPS)
        self._stamp = stamp_ns
        figures = figures_of(maps[None])[0]
        for _ in range(steps):
            logits = self._slip.step(figures)
        self._seen += steps
        self._see_lost(stamp_ns, figures)
        if self._seen <= self._context:
            return self._nothing_new
        states = np.exp(logits - logits.max())
        return SlipEvidence((states / states.sum()).astype(np.float32), self._lost_odds)

    def _is_too_soon(self, stamp_ns: int) -> bool:
        return self._stamp is not None and (stamp_ns - self._stamp) / 1e9 < LEAST_STEP

    @property
    def _nothing_new(self) -> SlipEvidence:
        return SlipEvidence(np.full(len(STATES), 1 / len(STATES), np.float32), self._lost_odds)

    def _see_lost(self, stamp_ns: int, figures: Floats) -> None:
        if self._bin and stamp_ns - self._bin_start >= round(BIN * 1e9) - 1_000_000:
            seen = np.concatenate([np.mean(self._bin, axis=0), np.max(self._bin, axis=0)])
            # Rounded as replay keeps it, so that both decide alike.
            odds = float(np.float32(np.mean([stream.step(seen)[0] for stream in self._lost])))
            self._bin = []
            self._bins += 1
            if self._bins >= LEAST_BINS:
                self._lost_odds = odds
        if not self._bin:
            self._bin_start = stamp_ns
        self._bin.append(figures)


def shipped_slip_network(class_names: Sequence[str]) -> SlipNetwork | None:
    """For classes that are states; None for others."""
    return _shipped() if are_states(class_names) else None


@cache
def _shipped() -> SlipNetwork:
    return load_slip_network(shipped_checkpoint(SLIP_MOTION))


def load_slip_network(path: Path) -> SlipNetwork:
    """Raises UserError for a file that is not one of this format, of other figures, or with weights that do not fit."""
    try:
        with safe_open(path, 'np') as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f'{path} is not a readable .safetensors file: {error}') from error
    if facts.get('format') != FORMAT:
        raise UserError(f'{path} has the format {facts.get("format")!r}; must be {FORMAT!r}, as trained by '
                        'tools/train_slip_motion.py')
    try:
        figures = parse_json(facts.get('figures', '').encode())
    except ValueError as error:
        raise UserError(f'{path}: the metadata figures are not JSON: {error}') from error
    if figures != list(FIGURES):
        raise UserError(f'{path} was trained on other figures of the motion than this version computes')
    try:
        names = sorted({name.split('.')[0] for name in tensors if name.startswith('lost')})
        if not names:
            raise UserError('no network lost; must have at least one')
        network = SlipNetwork(Convolutions.of(tensors, 'slip', LARGEST),
                              tuple(Convolutions.of(tensors, name, LARGEST_LOST) for name in names))
        network.slip.check(len(FIGURES), len(STATES))
        for one in network.lost:
            one.check(2 * len(FIGURES), 1)
        return network
    except UserError as error:
        raise UserError(f'{path}: {error}') from error
    except KeyError as error:
        raise UserError(f'{path} lacks the weights {error}') from error


def _normalised(values: Floats, weight: Floats, bias: Floats) -> Floats:
    centred = values - values.mean()
    return centred / np.sqrt((centred**2).mean() + 1e-5) * weight + bias
