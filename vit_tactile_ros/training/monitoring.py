"""Logs of a run: TensorBoard, Weights & Biases, and a warning before attention collapses."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vit_tactile_ros.foundation.errors import MissingPackageError, RunError, UserError
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.model import PreprocessingConfig, ViTTactile
from vit_tactile_ros.model.vit import Block

logger = logging.getLogger(__name__)

# Where FAVOR+'s fixed epsilon outweighs its softmax features: attention is then the plain average of the values, and
# the gradients of queries and keys are below 1 % of exact ones.
COLLAPSE_RMS = 1.25


class LogError(RunError):
    """A log that cannot be written; the message has what to install or to set."""


class MissingLogError(MissingPackageError, LogError):
    """A log whose package is not installed."""


class RunLog:
    """Metrics of a run to TensorBoard (`folder`/tensorboard) and optionally to W&B; steps count from 0."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], first_step: int = 0, use_wandb: bool = False) -> None:
        """Raises LogError when tensorboard or wandb is missing, or when W&B can't be reached."""
        self._wandb: Any = _start_wandb(folder, settings) if use_wandb else None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise LogError(f'{error}: training logs to TensorBoard: pip install tensorboard') from error
        # purge_step: metrics that a killed run logged after its last complete epoch are logged again.
        self._writer = SummaryWriter(str(folder / 'tensorboard'), purge_step=first_step or None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log({**values, 'step': step})

    def pictures(self, name: str, inputs: Tensor, preprocessing: PreprocessingConfig, step: int) -> None:
        """The first 16 of a batch of network inputs, (B, 3, h, w), as one grid, with the colours they had."""
        shown = inputs[:16, :3].detach().float().cpu()
        mean, std = (torch.tensor(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
        grid = _grid((shown * std + mean).clamp(0, 1), columns=4)
        self._writer.add_image(name, grid, step)
        if self._wandb:
            import wandb

            self._wandb.log({name: wandb.Image(grid.permute(1, 2, 0).numpy()), 'step': step})

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk was reported before
            self._writer.close()
        if self._wandb:
            self._wandb.finish()


def check_wandb() -> None:
    """Raises UserError where W&B is not installed, or would need a login that there is not: before anything is read."""
    wandb = _import_wandb()
    if wandb.setup().settings.mode in ('online', 'run', 'shared') and not wandb.api.api_key:
        raise UserError('--use-wandb: not logged in to Weights & Biases: run `wandb login`, set '
                        'WANDB_API_KEY, or set WANDB_MODE=offline to keep the figures here for `wandb sync` later')


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise MissingLogError(f'{error}: --use-wandb needs it: pip install wandb, or the extra: pip install '
                              "'vit_tactile_ros[wandb]'") from error
    return wandb


def _start_wandb(folder: Path, settings: Mapping[str, Any]) -> Any:
    wandb = _import_wandb()
    name = folder / 'wandb_id'  # so that a resumed run stays the same run on the server
    if not name.exists():
        with written_whole(name) as temporary:
            temporary.write_text(uuid.uuid4().hex[:12])
    try:
        run = wandb.init(project='vit_tactile_ros', name=folder.name, id=name.read_text(), resume='allow',
                         dir=str(folder), config=dict(settings))
    except wandb.errors.Error as error:
        raise LogError(f'Weights & Biases: {error}; WANDB_MODE=offline keeps the figures here, for `wandb sync` later'
                       ) from error
    # A separate step metric: W&B's own count may only grow, but a resumed run logs some steps again.
    run.define_metric('*', step_metric='step')
    return run


def _grid(pictures: Tensor, columns: int) -> Tensor:
    """(B, 3, h, w) to one image (3, rows * h, columns * w), black in empty cells."""
    missing = -len(pictures) % columns
    pictures = torch.cat((pictures, pictures.new_zeros(missing, *pictures.shape[1:])))
    rows = pictures.unflatten(0, (-1, columns))  # (rows, columns, 3, h, w)
    return rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)


@torch.no_grad()
def query_key_rms(model: ViTTactile, inputs: Tensor) -> list[tuple[float, float]]:
    """Root mean square of the queries and of the keys, as attention gets them, per block, on one batch of inputs."""
    # Of each norm: sum of the squares, and their number. Images that keep other patches run in another call.
    sums: dict[nn.Module, tuple[Tensor, int]] = {
        norm: (inputs.new_zeros(()), 0) for block in model.modules() if isinstance(block, Block)
        for norm in (block.attention.q_norm, block.attention.k_norm)}

    def add(norm: nn.Module, _inputs: object, out: Tensor) -> None:
        total, count = sums[norm]
        sums[norm] = total + out.float().square().sum(), count + out.numel()

    hooks = [norm.register_forward_hook(add) for norm in sums]
    try:
        for _logits in model.stages(inputs):
            pass
    finally:
        for hook in hooks:
            hook.remove()
    values = torch.stack([total / count for total, count in sums.values()]).sqrt().tolist()
    return list(zip(values[::2], values[1::2], strict=True))


class CollapseWatch:
    """Warns once per block whose queries or keys are too large for FAVOR+ softmax features to distinguish."""

    def __init__(self, attention: str, qk_norm: bool) -> None:
        self.attention = attention
        self.qk_norm = qk_norm
        self._warned: set[int] = set()

    def look(self, rms: list[tuple[float, float]]) -> list[int]:
        """The blocks (1-based) for which it warns now."""
        if self.attention != 'favor_softmax':
            return []  # ReLU features and exact softmax have no such epsilon
        new = [block for block, pair in enumerate(rms, start=1) if max(pair) > COLLAPSE_RMS
               and block not in self._warned]
        remedy = ('train with --attention favor_relu, or with a lower --lr' if self.qk_norm else
                  'train a model with qk_norm, or with --attention favor_relu')
        for block in new:
            query, key = rms[block - 1]
            logger.warning('block %d: the rms of its queries is %.2f, of its keys %.2f; above %.2f the features of '
                           'favor_softmax drown in their fixed epsilon and attention becomes a plain average: %s',
                           block, query, key, COLLAPSE_RMS, remedy)
        self._warned.update(new)
        return new
