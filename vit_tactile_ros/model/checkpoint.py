"""A safetensors file with the weights and, in its metadata, everything needed to use them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError

from vit_tactile_ros.foundation.errors import PassingError, UserError, shown
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.foundation.strict_json import build, joined, parse_json
from vit_tactile_ros.model.config import (
    Calibration,
    ModelConfig,
    PreprocessingConfig,
    Provenance,
    check_class_names,
)
from vit_tactile_ros.model.vit import ViTTactile
from vit_tactile_ros.model.weights_header import MAX_HEADER, read_header

FORMAT = 'vit_tactile'
# Version 2 added bounds on the accuracy drop, version 3 the digest. The digest needs a new version: older releases
# refuse an unknown field, but for an unknown version they ask for an update. A version 3 file without it is refused.
VERSION = '3'
# Fields that version 1 lacks, with their implied values.
VERSION_1: dict[str, dict[str, Any]] = {
    'model': {'stem': 'patch'},
    'calibration': {'drops': [], 'num_samples': 0, 'ece': []},
}
# Fields that files of any version may lack, with their implied values.
OPTIONAL: dict[str, dict[str, Any]] = {
    'model': {'channels': 3, 'token_threshold': 0.0, 'queries': 0, 'added_exits': False},
    'preprocessing': {'motion_interval': 0.0, 'motion_views': 1, 'motion_std': 0.04, 'zoom_below': 0.0,
                      'zoom_to': 0.16},
    'provenance': {'training_part': {}}, 'calibration': {'activation_ranges': []}}
FIELDS = ('format', 'version', 'model', 'preprocessing', 'class_names', 'calibration', 'provenance')

Section = TypeVar('Section', ModelConfig, PreprocessingConfig, Calibration, Provenance)


# Where systems mount disks, also at folders that exist only while they are mounted.
MOUNT_PLACES = ('/mnt', '/media', '/run/media', '/net', '/Volumes')


class CheckpointError(UserError):
    """An unusable checkpoint; the message names the file, the field and what would be right."""


class MissingFolderError(CheckpointError, PassingError):
    """A checkpoint does not exist, but may be on a disk that is not mounted yet."""


@dataclass(frozen=True)
class Checkpoint:
    """A model in eval mode on the CPU in float32, with its preprocessing, classes and calibration."""

    model: ViTTactile
    preprocessing: PreprocessingConfig
    class_names: tuple[str, ...]
    calibration: Calibration = field(default_factory=Calibration)
    provenance: Provenance = field(default_factory=Provenance)
    digest: str = ''  # of the file that it was read from; '': of none, or one of an earlier version


def may_be_mounted(path: Path, there: Path) -> bool:
    """Whether a missing path may be on a disk that is mounted later; there: the nearest folder that exists.

    It is where systems mount disks, or that folder is empty, as the place of a disk is until it is mounted.
    """
    if any(path.absolute().is_relative_to(place) for place in MOUNT_PLACES):
        return True
    try:
        return not any(there.iterdir())
    except OSError:  # for instance an automounter that can't reach its server
        return True


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, dtype: torch.dtype = torch.float16) -> None:
    """Write `checkpoint` atomically; weights are stored as `dtype`.

    Raises CheckpointError for a checkpoint that could not be loaded, OSError when it cannot be written.
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
    if (size := sum(map(len, metadata.values()))) > MAX_HEADER // 2:  # the other half is for the names of the weights
        raise CheckpointError(f'{path}: metadata of {size} characters, {len(metadata["provenance"])} of them in '
                              f'provenance; must be at most {MAX_HEADER // 2}')
    weights = {name: t.detach().to('cpu', dtype).contiguous() for name, t in checkpoint.model.state_dict().items()}
    _check_finite(path, weights)
    metadata['digest'] = digest(metadata, weights)
    with written_whole(path) as temporary:
        # safetensors' own writer ignores the umask (0600) and hides the reason of a failed write.
        temporary.write_bytes(safetensors.torch.save(weights, metadata))


def load_checkpoint(path: str | Path, expected_classes: Sequence[str] | None = None) -> Checkpoint:
    """Read a checkpoint; the model comes back in eval mode, on the CPU, in float32.

    Raises CheckpointError with the file and the field for anything missing, unknown, damaged or contradictory, also if
    `expected_classes` differ from the checkpoint's. The metadata is checked against the size of the file before weights
    are read or memory is allocated.
    """
    path = Path(path)
    with _reading(path):
        if not path.is_file():
            there = next(folder for folder in path.absolute().parents if folder.exists())
            kind = MissingFolderError if may_be_mounted(path, there) else CheckpointError
            why = '' if path.parent.exists() else \
                f', because the folder {path.parent} does not exist ({there} does)'
            raise kind(f'{path}: no such file{why}; give the path of a .safetensors checkpoint')
        file = path.open('rb')
    with file:
        with _reading(path):
            header = read_header(file, os.fstat(file.fileno()).st_size)
        checkpoint = _described(path, header.metadata, header.shapes)
        if expected_classes is not None and tuple(expected_classes) != checkpoint.class_names:
            raise CheckpointError(f'{path}: class_names are {list(checkpoint.class_names)}; '
                                  f'expected {list(expected_classes)}')
        with _reading(path):
            weights = safetensors.torch.load(header.raw + file.read())
    if header.metadata['version'] == VERSION and header.metadata['digest'] != digest(header.metadata, weights):
        raise CheckpointError(f'{path}: weights or metadata were changed: their digest is not metadata digest; copy '
                              'the file again, or train again')
    _check_finite(path, weights)
    checkpoint.model.take_weights({name: t.to(torch.float32, copy=True) for name, t in weights.items()})
    return dataclasses.replace(checkpoint, digest=header.metadata.get('digest', ''))


def digest(metadata: Mapping[str, str], weights: Mapping[str, torch.Tensor]) -> str:
    """A hash of all metadata and weights, to detect a damaged file."""
    known = sorted((name, value) for name, value in metadata.items() if name != 'digest')
    result = hashlib.sha256(json.dumps(known).encode())
    for name, tensor in sorted(weights.items()):
        result.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        result.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f'sha256:{result.hexdigest()}'


def network_digest(model: ViTTactile, *more: Any) -> str:
    """A hash of architecture, weights and `more`, which JSON can hold."""
    result = hashlib.sha256(json.dumps([dataclasses.asdict(model.config), *more], sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        result.update(name.encode())
        result.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()


def _described(path: Path, metadata: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Checkpoint:
    """The checkpoint from the metadata, with a model without weights; checks the shapes of the weights."""
    if metadata.get('format') != FORMAT:
        raise CheckpointError(f'{path}: metadata format is {shown(metadata.get("format"))}; must be {FORMAT!r}: '
                              'this file was not written by vit_tactile_ros')
    version = metadata.get('version')
    if version not in ('1', '2', VERSION):
        raise CheckpointError(f'{path}: metadata version is {shown(version)}; this release reads '
                              f"'1', '2' and {VERSION!r}: update vit_tactile_ros or train the checkpoint again")
    fields = (*FIELDS, 'digest') if version == VERSION else FIELDS
    if unknown := sorted(set(metadata) - set(fields)):
        raise CheckpointError(f'{path}: {joined("metadata", unknown[0], " ")} is unknown; known are '
                              f'{", ".join(fields)}')
    if missing := [name for name in fields if name not in metadata]:
        raise CheckpointError(f'{path}: metadata {missing[0]} is missing')
    config = _section(path, metadata, 'model', ModelConfig)
    preprocessing = _section(path, metadata, 'preprocessing', PreprocessingConfig)
    calibration = _section(path, metadata, 'calibration', Calibration)
    provenance = _section(path, metadata, 'provenance', Provenance)
    class_names = _json(path, metadata, 'class_names')
    if not isinstance(class_names, list) or not all(isinstance(name, str) for name in class_names):
        raise CheckpointError(f'{path}: metadata class_names is {shown(class_names)}; must be a list of strings')
    if len(shapes) < 10 * config.depth:  # a block has more; checked before a model of that depth is made
        raise CheckpointError(f'{path}: metadata model.depth is {config.depth}; the file holds only {len(shapes)} '
                              'weights')
    model = ViTTactile.without_weights(config, calibration.tau).eval()
    model.temperatures = calibration.temperatures or model.temperatures
    checkpoint = Checkpoint(model, preprocessing, tuple(class_names), calibration, provenance)
    _check(path, checkpoint)

    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if missing := sorted(set(wanted) - set(shapes)):
        raise CheckpointError(f'{path}: {len(missing)} weights are missing, the first is {missing[0]}')
    if unknown := sorted(set(shapes) - set(wanted)):
        raise CheckpointError(f'{path}: {len(unknown)} weights are unknown to the model it describes, '
                              f'the first is {shown(unknown[0])}')
    for name, shape in shapes.items():
        if shape != wanted[name]:
            raise CheckpointError(f'{path}: weight {name} has shape {shape}; '
                                  f'the model it describes needs {wanted[name]}')
    return checkpoint


def _check(path: Path, checkpoint: Checkpoint) -> None:
    """Check that the sections agree."""
    config, calibration = checkpoint.model.config, checkpoint.calibration
    if len(checkpoint.class_names) != config.num_classes:
        raise CheckpointError(f'{path}: class_names has {len(checkpoint.class_names)} names; '
                              f'model.num_classes is {config.num_classes}')
    try:
        check_class_names(checkpoint.class_names)
    except ValueError as error:
        raise CheckpointError(f'{path}: {error}') from error
    if checkpoint.preprocessing.image_size != config.image_size:
        raise CheckpointError(f'{path}: preprocessing.image_size is {checkpoint.preprocessing.image_size}; '
                              f'model.image_size is {config.image_size}')
    if checkpoint.preprocessing.channels != config.channels:
        raise CheckpointError(f'{path}: preprocessing.motion_interval is {checkpoint.preprocessing.motion_interval:g} '
                              f'and motion_views {checkpoint.preprocessing.motion_views}, which gives '
                              f'{checkpoint.preprocessing.channels} channels; model.channels is {config.channels}')
    for name in ('temperatures', 'ece'):
        if (count := len(getattr(calibration, name))) not in (0, len(config.exits)):
            raise CheckpointError(f'{path}: calibration.{name} has {count} values; '
                                  f'the model has {len(config.exits)} exits')
    if (count := len(calibration.activation_ranges)) not in (0, 4 * config.depth):
        raise CheckpointError(f'{path}: calibration.activation_ranges has {count} ranges; a model of {config.depth} '
                              f'blocks has {4 * config.depth}')
    early = len(config.exits) - 1
    for drop in calibration.drops:
        if len(drop.tau) != early:
            raise CheckpointError(f'{path}: calibration.drops holds {len(drop.tau)} thresholds {shown(drop.tau)}; '
                                  f'the model has {early} early exits')


def _check_finite(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in weights.items():
        lowest, highest = torch.aminmax(tensor)  # NaN if any value is; takes 1/20 of the time of isfinite
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise CheckpointError(f'{path}: weight {name} holds values that are not finite in {tensor.dtype}; '
                                  'train again')


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of a file that cannot be read or is incomplete, as CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read: {error.strerror}') from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f'{path}: not a complete safetensors file ({error}); copy it or train again') from error


def _json(path: Path, metadata: Mapping[str, str], name: str) -> Any:
    try:
        return parse_json(metadata[name])
    except ValueError as error:
        raise CheckpointError(f'{path}: metadata {name} is not JSON: {error}') from error


def _section(path: Path, metadata: Mapping[str, str], name: str, kind: type[Section]) -> Section:
    values = _json(path, metadata, name)
    if isinstance(values, dict):
        values = OPTIONAL.get(name, {}) | (VERSION_1.get(name, {}) if metadata['version'] == '1' else {}) | values
    try:
        return build(kind, values, f'metadata {name}')
    except ValueError as error:
        raise CheckpointError(f'{path}: {error}') from error
