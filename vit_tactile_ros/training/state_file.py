"""The state of a run as a safetensors file: the tensors, and everything else as JSON in its metadata."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from vit_tactile_ros.foundation.strict_json import build, parse_json
from vit_tactile_ros.model.checkpoint import digest
from vit_tactile_ros.model.weights_header import MAX_HEADER, read_header

FORMAT = 'vit_tactile training state'
# Versions 1 to 3 were pickles, which can execute code.
VERSION = '4'
_WEIGHTS = ('model', 'average')
_PARAMETER = 'optimizer/'  # the tensors of the optimizer for one parameter: optimizer/NUMBER/NAME


class OtherReleaseError(ValueError):
    """A state that another release wrote."""


@dataclass(frozen=True)
class _Facts:
    """What is not a tensor."""

    epoch: int
    step: int
    loss_sum: float
    class_names: tuple[str, ...]
    settings: str  # JSON: they are compared, not interpreted
    groups: str  # JSON: of the parameters of the optimizer
    parameters: tuple[int, ...] = field(default=())  # numbers of those that the optimizer has tensors for

    def __post_init__(self) -> None:
        for name in ('epoch', 'step'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} is {getattr(self, name)}; must be at least 0')


def pack(state: Mapping[str, Any]) -> bytes:
    """The bytes of a file with `state`, as `_Run.state` gives it, with settings and class_names."""
    optimizer = state['optimizer']
    tensors = {f'{part}/{name}': tensor for part in _WEIGHTS for name, tensor in state[part].items()}
    tensors |= {f'{_PARAMETER}{number}/{name}': tensor for number, own in optimizer['state'].items()
                for name, tensor in own.items()}
    facts = {'epoch': state['epoch'], 'step': state['step'], 'loss_sum': state['loss_sum'],
             'class_names': list(state['class_names']), 'settings': json.dumps(state['settings']),
             'groups': json.dumps(optimizer['param_groups']), 'parameters': list(optimizer['state'])}
    metadata = {'format': FORMAT, 'version': VERSION, 'facts': json.dumps(facts)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata['digest'] = digest(metadata, tensors)
    return bytes(safetensors.torch.save(tensors, metadata))


def unpack(data: bytes) -> dict[str, Any]:
    """What `pack` was given, on the CPU. Raises ValueError for anything else, OtherReleaseError for another version."""
    try:
        header = read_header(io.BytesIO(data), len(data), 8 * MAX_HEADER)
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if header.metadata.get('digest') != digest(header.metadata, tensors):
        raise ValueError('its digest differs')
    if header.metadata.get('format') != FORMAT or header.metadata.get('version') != VERSION:
        raise OtherReleaseError('is not a state of this release')
    facts = build(_Facts, parse_json(header.metadata.get('facts', '')))
    state: dict[str, Any] = {
        'epoch': facts.epoch, 'step': facts.step, 'loss_sum': facts.loss_sum, 'class_names': list(facts.class_names),
        'settings': _settings(facts.settings),
        'optimizer': {'state': {number: {} for number in facts.parameters}, 'param_groups': _groups(facts.groups)},
        **{part: _below(f'{part}/', tensors) for part in _WEIGHTS}}
    for number, own in state['optimizer']['state'].items():
        own.update(_below(f'{_PARAMETER}{number}/', tensors))
    return state


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _settings(text: str) -> dict[str, Any]:
    settings = parse_json(text)
    if not isinstance(settings, dict):
        raise ValueError('settings must be an object')
    return settings


def _groups(text: str) -> list[dict[str, Any]]:
    groups = parse_json(text)
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise ValueError('groups must be a list of objects')
    return [{name: tuple(value) if name == 'betas' else value for name, value in group.items()} for group in groups]
