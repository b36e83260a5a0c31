"""Training of the networks of inference/slip_network.py: on simulated streams, and on grasps labelled as a whole."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vit_tactile_ros.inference.motion_figures import FIGURES
from vit_tactile_ros.inference.slip_network import LARGEST, LARGEST_LOST, LEAST_BINS
from vit_tactile_ros.inference.touch_events import SLIP, STATES

Floats = NDArray[np.float32]
Stream = tuple[Floats, NDArray[np.int64]]  # figures (T, F), index of STATES or NO_LABEL (T,)
NO_LABEL = -1  # no loss
WINDOW = 160  # images that the networks are trained on at a time
WARM_UP = 32  # images at its start without a loss
SHARE_BEFORE_GRASPS = 0.25  # share of the weights before the grasps
STATE_WEIGHTS = (0.5, 1.0, 1.0, 1.3)
_SLIP = STATES.index(SLIP)


class SlipModel(nn.Module):
    """Figures (B, T, F) to logits of STATES (B, T, 4); looks back 63 images."""

    def __init__(self, width: int = 48, layers: int = 5) -> None:
        super().__init__()
        self.inp = nn.Linear(len(FIGURES), width)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=2**n) for n in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(width, len(STATES))

    def forward(self, figures: torch.Tensor) -> torch.Tensor:
        hidden = self.inp(figures)
        for n, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            seen = nn.functional.pad(norm(hidden).transpose(1, 2), (2 * 2**n, 0))
            hidden = hidden + self.drop(torch.relu(conv(seen)).transpose(1, 2))
        return self.out(hidden)


class LostModel(nn.Module):
    """Means and largest values of the figures in each 0.2 s, (B, T, 2 F), to log odds (B, T); looks back 3 s."""

    def __init__(self, width: int = 24, layers: int = 3, drop: float = 0.25) -> None:
        super().__init__()
        self.inp = nn.Linear(2 * len(FIGURES), width)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=2**n) for n in range(layers))
        self.drop = nn.Dropout(drop)
        self.out = nn.Linear(width, 1)

    def forward(self, figures: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.inp(self.drop(figures))))
        for n, conv in enumerate(self.convs):
            seen = nn.functional.pad(hidden.transpose(1, 2), (2 * 2**n, 0), mode='replicate')
            hidden = hidden + self.drop(torch.relu(conv(seen)).transpose(1, 2))
        return self.out(hidden)[..., 0]


@dataclasses.dataclass
class Trained:
    """A network with the scale of its input."""

    model: nn.Module
    mean: Floats
    std: Floats
    clip: float

    def outputs(self, series: Floats) -> Floats:
        """Of a series (T, F), (T,) or (T, C)."""
        with torch.inference_mode():
            return self.model(torch.from_numpy(self.scaled(series))[None])[0].numpy()

    def scaled(self, series: Floats) -> Floats:
        return np.clip((series - self.mean) / self.std, -self.clip, self.clip).astype(np.float32)

    def tensors(self, name: str) -> dict[str, Floats]:
        own = {f'{name}.{key}': value.numpy() for key, value in self.model.state_dict().items()}
        return own | {f'{name}.mean': self.mean.astype(np.float32), f'{name}.std': self.std.astype(np.float32)}


def train_slip(streams: Sequence[Stream], steps: int, start: Trained | None = None) -> Trained:
    """On simulated streams alone; start: the network to continue with, at a lower rate (default: a new one)."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    if start is None:
        every = np.concatenate([figures for figures, _ in streams])
        trained = Trained(SlipModel(), every.mean(axis=0), every.std(axis=0) + 1e-3, LARGEST)
    else:
        trained = dataclasses.replace(start, model=copy.deepcopy(start.model).train())
    rate = 2e-3 if start is None else 1e-3
    optimizer = torch.optim.AdamW(trained.model.parameters(), rate, weight_decay=0.02)
    for step in range(steps):
        _set_rate(optimizer, rate, step, steps, 50)
        figures, states = _windows(streams, rng)
        loss = _state_loss(trained.model(torch.from_numpy(trained.scaled(figures))), states)
        _descend(optimizer, loss, trained.model)
    return dataclasses.replace(trained, model=trained.model.eval())


def adapt_slip(trained: Trained, streams: Sequence[Stream], clips: Sequence[Floats],
               slipped: NDArray[np.bool_], steps: int, seed: int) -> Trained:
    """With grasps beside the simulated streams: a stable grasp has no slip, the others have one somewhere, perhaps.

    The weights are SHARE_BEFORE_GRASPS times those before, and the rest those afterwards (Wortsman et al. 2022, "Robust
    fine-tuning"): after the grasps alone, it reports fewer of the slow slips.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = copy.deepcopy(trained.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), 8e-4, weight_decay=0.02)
    for step in range(steps):
        _set_rate(optimizer, 8e-4, step, steps, 20)
        figures, states = _windows(streams, rng)
        grasps, used = [], []
        for clip in (*rng.choice(np.flatnonzero(~slipped), 5), *rng.choice(np.flatnonzero(slipped), 3)):
            start = int(rng.integers(0, max(1, len(clips[clip]) - WINDOW)))
            some = clips[clip][start:start + WINDOW]
            grasps.append(np.concatenate([some, np.repeat(some[-1:], WINDOW - len(some), axis=0)]))
            used.append((np.arange(WINDOW) >= (WARM_UP if len(some) > 60 else 10)) & (np.arange(WINDOW) < len(some)))
        logits = model(torch.from_numpy(trained.scaled(np.concatenate([figures, np.stack(grasps)]))))
        log = logits[8:].log_softmax(dim=2)[..., _SLIP]
        odds, mask = log - torch.log1p(-log.exp().clamp(max=1 - 1e-5)), torch.from_numpy(np.stack(used))
        false = nn.functional.softplus(odds[:5]) * mask[:5]
        most = nn.functional.softplus(-odds[5:].masked_fill(~mask[5:], -30.0).topk(6, dim=1).values)
        loss = _state_loss(logits[:8], states) + false.sum() / mask[:5].sum() \
            + 0.3 * false.topk(12, dim=1).values.mean() + 0.15 * most.mean()
        _descend(optimizer, loss, model)
    before, after = trained.model.state_dict(), model.state_dict()
    model.load_state_dict({key: torch.lerp(after[key], before[key], SHARE_BEFORE_GRASPS) for key in after})
    return dataclasses.replace(trained, model=model.eval())


def train_lost(clips: Sequence[Floats], slipped: NDArray[np.bool_], steps: int, seed: int) -> Trained:
    """On grasps alone, by the highest log odds of each: it is the alarm that is trained."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    every = np.concatenate(list(clips))
    trained = Trained(LostModel(), every.mean(axis=0), every.std(axis=0) + 0.05, LARGEST_LOST)
    optimizer = torch.optim.AdamW(trained.model.parameters(), 4e-3, weight_decay=0.05)
    scaled, longest = [trained.scaled(clip) for clip in clips], max(map(len, clips))
    for step in range(steps):
        _set_rate(optimizer, 4e-3, step, steps, 20)
        chosen = [*rng.choice(np.flatnonzero(slipped), 12), *rng.choice(np.flatnonzero(~slipped), 12)]
        inputs, used = [], []
        for clip in chosen:
            some = scaled[clip][int(rng.integers(0, 6)) if len(scaled[clip]) > 14 else 0:]
            some = some * np.exp(0.1 * rng.standard_normal()) + 0.1 * rng.standard_normal((1, some.shape[1]))
            inputs.append(np.concatenate([some, np.repeat(some[-1:], longest - len(some), axis=0)]))
            used.append((np.arange(longest) >= min(LEAST_BINS - 1, len(some) - 1)) & (np.arange(longest) < len(some)))
        odds = trained.model(torch.from_numpy(np.stack(inputs).astype(np.float32)))
        most = odds.masked_fill(~torch.from_numpy(np.stack(used)), -30.0).max(dim=1).values
        truth = torch.from_numpy(slipped[chosen].astype(np.float32)) * 0.96 + 0.02
        _descend(optimizer, nn.functional.binary_cross_entropy_with_logits(most, truth), trained.model)
    return dataclasses.replace(trained, model=trained.model.eval())


def _windows(streams: Sequence[Stream], rng: np.random.Generator,
             ) -> tuple[Floats, torch.Tensor]:
    figures, states = [], []
    for place in rng.integers(len(streams), size=8):
        start = int(rng.integers(0, len(streams[place][1]) - WINDOW))
        figures.append(streams[place][0][start:start + WINDOW])
        states.append(streams[place][1][start:start + WINDOW])
    return np.stack(figures), torch.from_numpy(np.stack(states))


def _state_loss(logits: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits[:, WARM_UP:].reshape(-1, len(STATES)), states[:, WARM_UP:].reshape(-1),
                                       weight=torch.tensor(STATE_WEIGHTS), label_smoothing=0.02, ignore_index=NO_LABEL)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int, warmup: int) -> None:
    for group in optimizer.param_groups:
        group['lr'] = rate * min(1, step / warmup) * (0.5 * (1 + np.cos(np.pi * step / steps)) + 0.01)


def _descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor, model: nn.Module) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
