"""One safetensors file with the weights and, in its metadata, all that is needed to use them."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model.config import (
    Calibration,
    ModelConfig,
    PreprocessingConfig,
    Provenance,
    config_from_dict,
)
from vit_tactile_ros.model.vit import ViTTactile

FORMAT = 'vit_tactile'
VERSION = '2'
# What version 1 did not know of, with what a file of that version means.
VERSION_1: dict[str, dict[str, Any]] = {
    'model': {'stem': 'patch'},
    'calibration': {'drops': [], 'num_samples': 0, 'ece': []},
}
# What files of any version may lack, with what that means.
OPTIONAL: dict[str, dict[str, Any]] = {'provenance': {'training_part': {}}, 'calibration': {'activation_ranges': []}}
FIELDS = ('format', 'version', 'model', 'preprocessing', 'class_names', 'calibration', 'provenance')


class CheckpointError(UserError):
    """A checkpoint that can't be used; the message names the file, the field and what would be right."""


@dataclass(frozen=True)
class Checkpoint:
    """A model in eval mode on the CPU in float32, with everything that says how to use it."""

    model: ViTTactile
    preprocessing: PreprocessingConfig
    class_names: tuple[str, ...]
    calibration: Calibration = field(default_factory=Calibration)
    provenance: Provenance = field(default_factory=Provenance)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, dtype: torch.dtype = torch.float16) -> None:
    """Write `checkpoint` whole or not at all; weights are stored as `dtype`.

    Raises CheckpointError for a checkpoint that could not be loaded again, OSError when the disk refuses.
    """
    path = Path(path)
    _check(path, checkpoint)
    metadata = {
        'format': FORMAT,
        'version': VERSION,
        'model': json.dumps(dataclasses.asdict(checkpoint.model.config)),
        'preprocessing': json.dumps(dataclasses.asdict(checkpoint.preprocessing)),
        'class_names': json.dumps(checkpoint.class_names),
        'calibration': json.dumps(dataclasses.asdict(checkpoint.calibration)),
        'provenance': json.dumps(dataclasses.asdict(checkpoint.provenance)),
    }
    tensors = {name: t.detach().to('cpu', dtype).contiguous() for name, t in checkpoint.model.state_dict().items()}
    _check_finite(path, tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata)
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing in it
        os.chmod(temporary, 0o644)  # mkstemp keeps the file to its owner; a checkpoint is shared
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, SafetensorError):  # how the library reports a full disk
            raise OSError(f'{path}: could not be written: {error}') from error
        raise


def load_checkpoint(path: str | Path, expected_classes: Sequence[str] | None = None) -> Checkpoint:
    """Read a checkpoint; the model comes back in eval mode, on the CPU, in float32.

    Raises CheckpointError naming the file and the field for anything missing, unknown, truncated or contradictory,
    also when `expected_classes` is given and differs from the checkpoint's.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: no such file; give the path of a .safetensors checkpoint')
    try:
        with safe_open(str(path), framework='pt') as f:
            metadata = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'{path}: not a whole safetensors file ({error}); copy or train it again') from error

    if metadata.get('format') != FORMAT:
        raise CheckpointError(f'{path}: metadata format is {metadata.get("format")!r}; must be {FORMAT!r}: '
                              'this file was not written by vit_tactile_ros')
    if metadata.get('version') not in ('1', VERSION):
        raise CheckpointError(f'{path}: metadata version is {metadata.get("version")!r}; this release reads '
                              f"'1' and {VERSION!r}: update vit_tactile_ros or train the checkpoint again")
    if unknown := sorted(set(metadata) - set(FIELDS)):
        raise CheckpointError(f'{path}: metadata {unknown[0]} is unknown; known are {", ".join(FIELDS)}')
    config = _section(path, metadata, 'model', ModelConfig)
    preprocessing = _section(path, metadata, 'preprocessing', PreprocessingConfig)
    calibration = _section(path, metadata, 'calibration', Calibration)
    provenance = _section(path, metadata, 'provenance', Provenance)
    class_names = _json(path, metadata, 'class_names')
    if not isinstance(class_names, list) or not all(isinstance(name, str) for name in class_names):
        raise CheckpointError(f'{path}: metadata class_names is {class_names!r}; must be a list of strings')

    model = ViTTactile(config, calibration.tau)
    wanted = model.state_dict()
    if missing := sorted(set(wanted) - set(tensors)):
        raise CheckpointError(f'{path}: {len(missing)} weights are missing, the first is {missing[0]}')
    if unknown := sorted(set(tensors) - set(wanted)):
        raise CheckpointError(f'{path}: {len(unknown)} weights are unknown to the model it describes, '
                              f'the first is {unknown[0]}')
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(f'{path}: weight {name} has shape {tuple(tensor.shape)}; '
                                  f'the model it describes needs {tuple(wanted[name].shape)}')
    _check_finite(path, tensors)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    model.temperatures = calibration.temperatures or model.temperatures
    checkpoint = Checkpoint(model.eval(), preprocessing, tuple(class_names), calibration, provenance)
    _check(path, checkpoint)
    if expected_classes is not None and tuple(expected_classes) != checkpoint.class_names:
        raise CheckpointError(f'{path}: class_names are {list(checkpoint.class_names)}; '
                              f'expected {list(expected_classes)}')
    return checkpoint


def _check(path: Path, checkpoint: Checkpoint) -> None:
    """What the sections must agree on."""
    config = checkpoint.model.config
    if len(checkpoint.class_names) != config.num_classes:
        raise CheckpointError(f'{path}: class_names has {len(checkpoint.class_names)} names; '
                              f'model.num_classes is {config.num_classes}')
    if len(set(checkpoint.class_names)) != len(checkpoint.class_names):
        raise CheckpointError(f'{path}: class_names {list(checkpoint.class_names)} holds a name twice')
    if checkpoint.preprocessing.image_size != config.image_size:
        raise CheckpointError(f'{path}: preprocessing.image_size is {checkpoint.preprocessing.image_size}; '
                              f'model.image_size is {config.image_size}')
    if len(checkpoint.calibration.temperatures) not in (0, len(config.exits)):
        raise CheckpointError(f'{path}: calibration.temperatures has {len(checkpoint.calibration.temperatures)} '
                              f'values; the model has {len(config.exits)} exits')
    if (count := len(checkpoint.calibration.activation_ranges)) not in (0, 4 * config.depth):
        raise CheckpointError(f'{path}: calibration.activation_ranges has {count} ranges; a model of {config.depth} '
                              f'blocks has {4 * config.depth}')
    early = len(config.exits) - 1
    for drop in checkpoint.calibration.drops:
        if len(drop.tau) != early:
            raise CheckpointError(f'{path}: calibration.drops holds {len(drop.tau)} thresholds {drop.tau}; '
                                  f'the model has {early} early exits')


def _check_finite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f'{path}: weight {name} holds values that are not finite in {tensor.dtype}; '
                                  'train it again')


def _json(path: Path, metadata: dict[str, str], name: str) -> Any:
    if name not in metadata:
        raise CheckpointError(f'{path}: metadata {name} is missing')
    try:
        return json.loads(metadata[name])
    except json.JSONDecodeError as error:
        raise CheckpointError(f'{path}: metadata {name} is not JSON: {error}') from error


def _section(path: Path, metadata: dict[str, str], name: str, kind: Any) -> Any:
    values = _json(path, metadata, name)
    if not isinstance(values, dict):
        raise CheckpointError(f'{path}: metadata {name} is {values!r}; must be an object')
    if metadata['version'] == '1':
        values = VERSION_1.get(name, {}) | values
    values = OPTIONAL.get(name, {}) | values
    try:
        return config_from_dict(kind, values)
    except ValueError as error:
        raise CheckpointError(f'{path}: metadata {name}.{error}') from error
