"""The weights that training starts from: another checkpoint's, wherever they fit."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import Checkpoint, ModelConfig, ViTTactile, shipped_checkpoint
from vit_tactile_ros.model.config import Attention, Stem

_ALL_HEADS = 'the heads (other classes)'
_CLASS = 'the head of class '


def init_path(text: str) -> Path:
    """What `--init` names: a file, or 'shipped' for the checkpoint that comes with the package."""
    try:
        return shipped_checkpoint() if text == 'shipped' else Path(text)
    except FileNotFoundError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_architecture_arguments(parser: argparse.ArgumentParser, kernel: bool = True) -> None:
    """Flags of the network; `kernel` False leaves out those of attention and stem, for who searches these."""
    if kernel:
        parser.add_argument('--attention', choices=get_args(Attention), default=None,
                            help='attention kernel; by default that of --init, or favor_softmax')
        parser.add_argument('--stem', choices=get_args(Stem), default=None,
                            help='what makes tokens of the image: convolution learns fine texture faster; by default '
                                 'that of --init, or convolution')
        parser.add_argument('--feature_map_dim', type=int, default=None,
                            help='random features per head; by default those of --init, or 64')
    parser.add_argument('--exits', type=int, nargs='+', default=None, metavar='BLOCK',
                        help='blocks that an exit follows, the last being the depth; by default those of --init, or '
                             '4 8 12; 12 alone is a plain ViT')
    parser.add_argument('--image_size', type=int, nargs=2, default=None, metavar=('HEIGHT', 'WIDTH'),
                        help='px, multiples of 16; by default that of --init, or 96 128')


def asked_architecture(arguments: argparse.Namespace, checkpoint: Checkpoint | None, num_classes: int) -> ModelConfig:
    """`model_config` of these flags; raises ValueError naming the one that is wrong."""
    kernel = {name: getattr(arguments, name, None) for name in ('attention', 'stem', 'feature_map_dim')}
    return model_config(checkpoint, num_classes, tuple(arguments.image_size or ()) or None,
                        exits=tuple(arguments.exits or ()) or None, **kernel)


def start_from(model: ViTTactile, checkpoint: Checkpoint, class_names: tuple[str, ...]) -> list[str]:
    """Copy the weights of `checkpoint` into `model`; returns what stays as it was drawn, for people.

    Blocks go by their number, whatever the exits. Heads fit where both networks have an exit after the same block, and
    of them the rows of the classes that both know by the same name; random features where kernel and their number are
    the same. The position embedding is computed, so that the image size may differ. Raises ValueError where no block
    would fit.
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
        elif '.classify.' in name and class_names != checkpoint.class_names:
            drawn |= dict.fromkeys(f'{_CLASS}{other!r}' for other in class_names if other not in kept)
            with torch.no_grad():
                tensor[rows] = source[name][their_rows]
        else:
            with torch.no_grad():
                tensor.copy_(source[name])
    return list(drawn)


def kept_classes(class_names: tuple[str, ...], checkpoint: Checkpoint) -> tuple[str, ...]:
    """The classes whose rows of the heads `start_from` takes over, in the order of `class_names`."""
    return tuple(name for name in class_names if name in checkpoint.class_names)


def start_told(checkpoints: Sequence[Checkpoint], origin: str, model: ModelConfig, class_names: tuple[str, ...],
               drawn: Sequence[str]) -> str:
    """What was started from and what was not, for people; `drawn` is what `start_from` returned."""
    told = f'starts from {origin}'
    if drawn:
        told += f'; new are {", ".join(drawn)}'
    if _ALL_HEADS not in drawn and (kept := dict.fromkeys(
            name for checkpoint in checkpoints
            if checkpoint.class_names != class_names and set(checkpoint.model.config.exits) & set(model.exits)
            for name in kept_classes(class_names, checkpoint))):
        told += f'; taken over are the classes {", ".join(repr(name) for name in kept)}'
    if others := sorted({c.model.config.attention for c in checkpoints} - {model.attention}):
        told += (f'; attention is {model.attention} here, while these weights learned with {", ".join(others)}: blocks '
                 'are taken over and have to learn it anew')
    return told


def check_frozen(freeze: int, checkpoints: Sequence[Checkpoint], origin: str, model: ModelConfig) -> None:
    """Raises ValueError where the first `freeze` blocks would be kept without ever having learned as they are used."""
    known = max((checkpoint.model.config.depth for checkpoint in checkpoints), default=0)
    if freeze > known:
        raise UserError(f'freeze is {freeze}; {origin} has {known} blocks, so that the others would keep random '
                        f'weights: give at most {known}')
    theirs = sorted({c.model.config.attention for c in checkpoints})
    if freeze > 0 and theirs != [model.attention]:
        raise UserError(f'freeze is {freeze} and attention is {model.attention}; the blocks of {origin} learned with '
                        f'{", ".join(theirs)} and could not learn another anew: give --attention {theirs[0]}, or '
                        '--freeze 0')


def start_from_all(model: ViTTactile, checkpoints: Sequence[Checkpoint], class_names: tuple[str, ...]) -> list[str]:
    """`start_from` each in turn, so that later ones replace what earlier ones gave; returns what none of them gave.

    Blocks are refinements of one residual stream, so that deep ones still fit after the first ones were trained on:
    grown this way, a network with 12 blocks starts about where the one with 4 had come to.
    """
    drawn = [start_from(model, checkpoint, class_names) for checkpoint in checkpoints]
    return [part for part in drawn[0] if all(part in others for others in drawn)]


def weights_by_block(model: ViTTactile) -> dict[str, Tensor]:
    """Weights named by the number of the block they belong to or follow, whatever stages these form."""
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


def model_config(checkpoint: Checkpoint | None, num_classes: int, image_size: tuple[int, int] | None = None,
                 attention: str | None = None, feature_map_dim: int | None = None,
                 exits: tuple[int, ...] | None = None, stem: str | None = None) -> ModelConfig:
    """The architecture asked for; what is not given (None) is the checkpoint's, or without one the default.

    Raises ValueError naming the field that is wrong.
    """
    start = checkpoint.model.config if checkpoint else ModelConfig(feature_map_dim=64, image_size=(96, 128),
                                                                   stem='convolution')
    asked: dict[str, Any] = {'image_size': image_size, 'attention': attention, 'feature_map_dim': feature_map_dim,
                             'stem': stem, 'exits': exits, 'depth': exits[-1] if exits else None}
    return dataclasses.replace(start, num_classes=num_classes, **{k: v for k, v in asked.items() if v is not None})
