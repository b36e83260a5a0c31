"""Outputs kept in a folder, so that calibrating and sweeping take one forward pass; a file knows its origin."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from vit_tactile_ros.evaluation.outputs import ExitOutputs, collect_outputs, inputs_of
from vit_tactile_ros.evaluation.parts import Part
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.foundation.strict_json import parse_json
from vit_tactile_ros.inference.ranges import ENOUGH_IMAGES, Range, activation_ranges
from vit_tactile_ros.model import Checkpoint, ModelConfig, compute_shares


class DamagedOutputs(Exception):
    """A file of outputs that can't be read, from a full disk say."""


def fingerprint(checkpoint: Checkpoint) -> str:
    """A hash of all that the logits depend on: architecture, weights, preprocessing, classes; not the calibration."""
    digest = hashlib.sha256(json.dumps([asdict(checkpoint.model.config), asdict(checkpoint.preprocessing),
                                        checkpoint.class_names], sort_keys=True).encode())
    for name, tensor in sorted(checkpoint.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def cached_outputs(folder: Path | None, checkpoint: Checkpoint, part: Part, device: torch.device | str = 'cpu',
                   workers: int = 0, progress: str = '') -> ExitOutputs:
    """The outputs of a part, from `folder` where it holds those of these very weights and data, else collected.

    Its files are named after checkpoint and data, so a folder may be shared by many; None keeps nothing.
    Raises as `collect_outputs` and the reading of the data do, and OSError when the folder can't be written.
    """
    key = _key(checkpoint, part)
    path = _outputs_path(folder, key)
    if path and path.is_file():
        with contextlib.suppress(DamagedOutputs):  # they are collected again
            kept_key, kept = read_outputs(path, checkpoint.class_names, checkpoint.model.config)
            if kept_key == key:
                return kept
    outputs = collect_outputs(checkpoint.model, part.frames(), checkpoint.preprocessing, device, progress=progress,
                              class_names=checkpoint.class_names, workers=workers)
    if path:
        write_outputs(path, key, outputs)
    return outputs


def cached_ranges(folder: Path | None, checkpoint: Checkpoint, part: Part) -> tuple[Range, ...]:
    """The activation ranges of the checkpoint on images from all over a part, from `folder` as `cached_outputs`.

    The network runs on the CPU. Raises as the reading of the data does, and OSError when the folder can't be written.
    """
    path = folder / f'ranges-{_key(checkpoint, part)[:20]}.json' if folder else None
    if path and path.is_file():
        with contextlib.suppress(ValueError, TypeError, OverflowError):  # of a damaged file: they are measured again
            ranges = tuple((float(low), float(high)) for low, high in parse_json(path.read_text()))
            if len(ranges) == 4 * checkpoint.model.config.depth:
                return ranges
    # Not the first ones: a table of touches is often sorted by class.
    indices = np.linspace(0, part.size - 1, min(part.size, ENOUGH_IMAGES)).round().astype(int).tolist()
    batches = (torch.from_numpy(inputs_of(part.frames(), checkpoint.preprocessing, indices[i:i + 16]))
               for i in range(0, len(indices), 16))
    ranges = activation_ranges(checkpoint.model, batches)
    if path:
        with written_whole(path, sync=False) as temporary:
            temporary.write_text(json.dumps(ranges))
    return ranges


def is_cached(folder: Path | None, checkpoint: Checkpoint, part: Part) -> bool:
    """Whether `cached_outputs` would probably find a file, and so need no picture."""
    path = _outputs_path(folder, _key(checkpoint, part))
    return path is not None and path.is_file()


def _outputs_path(folder: Path | None, key: str) -> Path | None:
    return folder / f'outputs-{key[:20]}.npz' if folder else None


def _key(checkpoint: Checkpoint, part: Part) -> str:
    return hashlib.sha256(f'{fingerprint(checkpoint)} {part.key}'.encode()).hexdigest()


def write_outputs(path: Path, key: str, outputs: ExitOutputs) -> None:
    """Keep outputs, whole or not at all, with a `key` that says what they are of; OSError when the disk refuses."""
    with written_whole(path) as temporary:
        np.savez(temporary, key=key, logits=outputs.logits, labels=outputs.labels)


def read_outputs(path: Path, class_names: Sequence[str], config: ModelConfig) -> tuple[str, ExitOutputs]:
    """The key and the outputs that `write_outputs` wrote, if they are of these classes and this architecture.

    Raises DamagedOutputs for a file that is not whole.
    """
    try:
        with np.load(path) as kept:
            return str(kept['key']), ExitOutputs(kept['logits'], kept['labels'], tuple(class_names), config.exits,
                                                 compute_shares(config))
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile) as error:
        raise DamagedOutputs(f'{path} is not a whole file of answers ({type(error).__name__})') from error
