"""The weights and the architecture that training starts from: another checkpoint's, wherever they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vit_tactile_ros.foundation.command_line import nearest
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.touch_events import NO_CONTACT, UNKNOWN
from vit_tactile_ros.model import (
    Checkpoint,
    ModelConfig,
    PreprocessingConfig,
    ViTTactile,
    load_checkpoint,
    shipped_checkpoint,
    token_threshold,
)
from vit_tactile_ros.model.config import Attention, Stem

SHIPPED = 'shipped'
_ALL_HEADS = 'the heads (other classes)'
_CLASS = 'the head of class '


@dataclass(frozen=True)
class Start:
    """Checkpoints whose weights training starts from, and the architecture where it differs from the first one's.

    None, or an empty tuple: that of the first checkpoint, or without one the default. Raises UserError naming the field
    that is wrong.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = vars(
        ModelConfig(feature_map_dim=64, image_size=(96, 128), stem='convolution'))

    init: tuple[str, ...] = ()  # paths, or 'shipped'
    attention: Attention | None = None
    stem: Stem | None = None
    feature_map_dim: int | None = None
    exits: tuple[int, ...] = ()
    image_size: tuple[int, int] | None = None  # height, width in px
    token_threshold: float | None = None  # grey levels; 0: all patches
    queries: int | None = None  # of each head; 0: the mean of the tokens
    added_exits: bool = False  # each exit adds to the logits of the exit before; False: as the first checkpoint

    def __post_init__(self) -> None:
        for name in self.init:
            if name != SHIPPED and not Path(name).exists() and (hint := nearest(name, [SHIPPED])):
                raise UserError(f'init is {name}: no such file{hint}')
        try:
            self.paths()
        except FileNotFoundError as error:
            raise UserError(f'init is {" ".join(self.init)}: {error}') from error

    def paths(self) -> list[Path]:
        return [shipped_checkpoint() if name == SHIPPED else Path(name) for name in self.init]

    @property
    def origin(self) -> str:
        """The checkpoints as messages and the settings of a run name them."""
        return ' '.join(map(str, self.paths()))

    def load(self) -> list[Checkpoint]:
        return [load_checkpoint(path) for path in self.paths()]

    def architecture(self, checkpoints: Sequence[Checkpoint], num_classes: int) -> ModelConfig:
        """The architecture to train, given the loaded checkpoints; raises UserError naming the field that is wrong."""
        start = checkpoints[0].model.config if checkpoints else ModelConfig(**self.DEFAULTS)
        asked: dict[str, Any] = {
            'image_size': self.image_size, 'attention': self.attention, 'feature_map_dim': self.feature_map_dim,
            'stem': self.stem, 'queries': self.queries, 'added_exits': self.added_exits or None,
            'exits': self.exits or None, 'depth': self.exits[-1] if self.exits else None}
        return dataclasses.replace(start, num_classes=num_classes, **{k: v for k, v in asked.items() if v is not None})

    def for_inputs(self, architecture: ModelConfig, preprocessing: PreprocessingConfig) -> ModelConfig:
        """The architecture for these inputs; raises UserError if patches would be dropped without a reference."""
        asked, threshold = self.token_threshold, architecture.token_threshold
        if asked is not None:
            threshold = token_threshold(asked, preprocessing)
        elif threshold:
            token_threshold(1, preprocessing)  # whether it can be used with these inputs
        return dataclasses.replace(architecture, channels=preprocessing.channels, token_threshold=threshold)


def start_from(model: ViTTactile, checkpoint: Checkpoint, class_names: tuple[str, ...]) -> list[str]:
    """Copy the weights of `checkpoint` into `model`; returns what stays random, for messages.

    Blocks are matched by their number, independent of the exits. A head is copied if both networks have an exit after
    the same block, but only the rows of classes that both know by the same name; random features are copied if kernel
    and number are the same. The position embedding is computed, so the image size may differ. Heads that get more
    queries predict the same; for heads that become added ones see `as_added`. Raises UserError if no block fits, or if
    heads would get fewer queries, lose exits that they add to or add to others.
    """
    theirs, ours = checkpoint.model.config, model.config
    for name in ('width', 'heads', 'patch_size', 'mlp_ratio', 'qk_norm'):
        if getattr(theirs, name) != getattr(ours, name):
            raise UserError(f'{name} is {getattr(ours, name)}; the checkpoint to start from has '
                            f'{getattr(theirs, name)}')
    kept = kept_classes(class_names, checkpoint)
    rows = [class_names.index(name) for name in kept]
    their_rows = [checkpoint.class_names.index(name) for name in kept]
    source, target = weights_by_block(checkpoint.model), weights_by_block(model)
    if kept and set(theirs.exits) & set(ours.exits):
        source = with_queries(source, theirs.queries, ours.queries)
        check_added(theirs, ours)
        if ours.added_exits and not theirs.added_exits:
            source = as_added(source, ours.exits)
    drawn: dict[str, None] = {}
    for name, tensor in target.items():
        part = name.split('.')[0]
        if part.startswith('head') and not kept:
            drawn[_ALL_HEADS] = None
        elif name.endswith('projection_matrix') and (theirs.attention, theirs.feature_map_dim) != (
                ours.attention, ours.feature_map_dim):
            drawn['the random features (another kernel or number)'] = None
        elif name not in source:
            drawn[f'{part} (not in the checkpoint)'] = None
        elif tensor.shape != source[name].shape and name.startswith('embed.'):
            # One network has motion and the other has not. Without its weights, both start with the same predictions.
            shared = min(ours.channels, theirs.channels)
            with torch.no_grad():
                tensor[:, shared:] = 0
                tensor[:, :shared] = source[name][:, :shared]
        elif '.classify.' in name and class_names != checkpoint.class_names:
            drawn |= dict.fromkeys(f'{_CLASS}{other!r}' for other in class_names if other not in kept)
            with torch.no_grad():
                tensor[rows] = source[name][their_rows]
        else:
            with torch.no_grad():
                tensor.copy_(source[name])
    return list(drawn)


def with_queries(weights: dict[str, Tensor], theirs: int, ours: int) -> dict[str, Tensor]:
    """`weights_by_block` with `ours` queries in each head in place of `theirs`, and the same predictions.

    Theirs are repeated in turn; the mean of the tokens counts as a query of zeros. Copies share the weights of the
    classifier and then differ by random numbers whose sum is 0, so that each learns something else. Raises UserError
    for fewer queries, which could not predict the same.
    """
    if ours == theirs:
        return weights
    if ours < theirs:
        raise UserError(f'queries is {ours}; the heads of the checkpoint to start from have {theirs}, which cannot be '
                        f'merged: give at least {theirs}')
    found = dict(weights)
    original = torch.arange(ours) % max(theirs, 1)  # which of theirs each one is a copy of
    copies = F.one_hot(original).float()  # (ours, theirs)
    for name in [name for name in weights if name.endswith('.classify.weight')]:
        head = name.removesuffix('classify.weight')
        width = len(weights[f'{head}norm.weight'])
        queries = weights.get(f'{head}queries', torch.zeros(1, width))
        apart = 0.02 * torch.randn(len(weights[name]), ours, width)
        apart -= torch.einsum('cqw,qt,pt->cpw', apart, copies / copies.sum(dim=0), copies)  # the mean over the copies
        parts = weights[name].reshape(len(weights[name]), -1, width) / copies.sum(dim=0)[:, None]
        found[f'{head}queries'] = queries[original]
        found[name] = (parts[:, original] + apart).flatten(1)
    return found


def check_added(theirs: ModelConfig, ours: ModelConfig) -> None:
    """Raises UserError where a head that adds to the exits before would be copied without one, or get another one."""
    if not theirs.added_exits:
        return
    if not ours.added_exits:
        raise UserError('added_exits is False; the heads of a checkpoint to start from add to the exit before, and '
                        'predict nothing alone: give --added_exits')
    last = max(set(theirs.exits) & set(ours.exits))
    if lost := [block for block in theirs.exits if block < last and block not in ours.exits]:
        raise UserError(f'exits are {" ".join(map(str, ours.exits))}; the checkpoint to start from adds the exit after '
                        f'block {last} to those after {" ".join(map(str, lost))}: give these too')
    if new := [block for block in ours.exits if block < last and block not in theirs.exits]:
        raise UserError(f'exits are {" ".join(map(str, ours.exits))}; the exit after block {last} of a checkpoint to '
                        f'start from would add to those after {" ".join(map(str, new))}, without which it was trained: '
                        'leave these out')


def as_added(weights: dict[str, Tensor], exits: Sequence[int]) -> dict[str, Tensor]:
    """`weights_by_block` with heads that add to the exit before, from heads that predict alone.

    The k-th of `exits` gets 1 / k of the logits, so that the sums are at most twice as large as before, with four exits
    2.1 times. The predictions are not the same: no head can take back, from its own tokens, what another gave from
    earlier ones. The first exit's are.
    """
    found = dict(weights)
    for place, block in enumerate(exits, start=1):
        for name in (f'head {block}.classify.weight', f'head {block}.classify.bias'):
            if name in weights:
                found[name] = weights[name] / place
    return found


def kept_classes(class_names: tuple[str, ...], checkpoint: Checkpoint) -> tuple[str, ...]:
    """The classes whose rows of the heads `start_from` copies, in the order of `class_names`."""
    return tuple(name for name in class_names if name in checkpoint.class_names)


def heads_are_new(checkpoints: Sequence[Checkpoint], class_names: tuple[str, ...]) -> bool:
    """Whether `start_from_all` copies blocks, and of the heads at most the rows of `no_contact` and `unknown`."""
    return bool(checkpoints) and all(set(kept_classes(class_names, checkpoint)) <= {NO_CONTACT, UNKNOWN}
                                     for checkpoint in checkpoints)


def start_told(checkpoints: Sequence[Checkpoint], origin: str, model: ModelConfig, class_names: tuple[str, ...],
               drawn: Sequence[str]) -> str:
    """What was copied and what was not, for a message; `drawn` is what `start_from` returned."""
    told = f'starts from {origin}'
    if drawn:
        told += f'; new, with random weights: {", ".join(drawn)}'
    if _ALL_HEADS not in drawn and (kept := dict.fromkeys(
            name for checkpoint in checkpoints
            if checkpoint.class_names != class_names and set(checkpoint.model.config.exits) & set(model.exits)
            for name in kept_classes(class_names, checkpoint))):
        told += f'; classes copied: {", ".join(repr(name) for name in kept)}'
    if model.queries != checkpoints[0].model.config.queries and _ALL_HEADS not in drawn:
        told += f'; the {model.queries} queries of each copied head start with its predictions'
    if model.added_exits and not checkpoints[0].model.config.added_exits and _ALL_HEADS not in drawn:
        told += '; copied heads add to the exit before, so the predictions of later exits change a little'
    if others := sorted({c.model.config.attention for c in checkpoints} - {model.attention}):
        told += (f'; attention is {model.attention}, but these weights were trained with {", ".join(others)}: the '
                 'copied blocks must adapt')
    return told


def check_frozen(freeze: int, checkpoints: Sequence[Checkpoint], origin: str, model: ModelConfig) -> None:
    """Raises UserError if the first `freeze` blocks would be kept without having been trained for this use."""
    known = max((checkpoint.model.config.depth for checkpoint in checkpoints), default=0)
    if freeze > known:
        raise UserError(f'freeze is {freeze}; {origin} has {known} blocks, so the others would keep random '
                        f'weights: give at most {known}')
    if freeze > 0 and any(c.model.config.channels < model.channels for c in checkpoints):
        raise UserError(f'freeze is {freeze} and motion is new to {origin}: the weights of its channels start at 0 and '
                        'would stay there; give --freeze 0, or --motion 0')
    theirs = sorted({c.model.config.attention for c in checkpoints})
    if freeze > 0 and theirs != [model.attention]:
        raise UserError(f'freeze is {freeze} and attention is {model.attention}; the blocks of {origin} were trained '
                        f'with {", ".join(theirs)} and could not adapt: give --attention {theirs[0]}, or --freeze 0')


def start_from_all(model: ViTTactile, checkpoints: Sequence[Checkpoint], class_names: tuple[str, ...]) -> list[str]:
    """`start_from` each in turn, so later ones replace what earlier ones gave; returns what none of them gave.

    Blocks refine one residual stream, so the deep ones still fit after the first ones were trained further: a network
    with 12 blocks that is grown this way starts at about the accuracy of the one with 4.
    """
    drawn = [start_from(model, checkpoint, class_names) for checkpoint in checkpoints]
    return [part for part in drawn[0] if all(part in others for others in drawn)] if drawn else []


def weights_by_block(model: ViTTactile) -> dict[str, Tensor]:
    """Weights named by the number of the block they belong to or follow, independent of the stages."""
    named = {}
    starts = (0, *model.config.exits)
    for name, tensor in model.state_dict().items():
        if name.startswith('stage_modules.'):
            _, stage, kind, rest = name.split('.', 3)
            if kind == 'blocks':
                index, rest = rest.split('.', 1)
                name = f'block {starts[int(stage)] + int(index) + 1}.{rest}'
            else:
                name = f'head {model.config.exits[int(stage)]}.{rest}'
        named[name] = tensor
    return named
