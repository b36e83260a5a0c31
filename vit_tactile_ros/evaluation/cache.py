"""Outputs stored in a folder, so that calibration and sweeps need one forward pass; each file records its origin."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from vit_tactile_ros.evaluation.outputs import ExitOutputs, collect_outputs, inputs_of
from vit_tactile_ros.evaluation.parts import Part
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.foundation.strict_json import parse_json
from vit_tactile_ros.inference.arrays import read_arrays
from vit_tactile_ros.inference.ranges import ENOUGH_IMAGES, Range, activation_ranges
from vit_tactile_ros.model import Checkpoint, ModelConfig, compute_shares, network_digest
from vit_tactile_ros.model.tokens import choose_tokens, kept_shares


class DamagedOutputs(Exception):
    """An unreadable file of outputs, for instance after a full disk."""


def fingerprint(checkpoint: Checkpoint) -> str:
    """A hash of everything that determines the logits: architecture, weights, preprocessing, classes."""
    return network_digest(checkpoint.model, asdict(checkpoint.preprocessing), checkpoint.class_names)


def cached_outputs(folder: Path | None, checkpoint: Checkpoint, part: Part, device: torch.device | str = 'cpu',
                   workers: int = 0, progress: str = '') -> ExitOutputs:
    """The outputs of a part, from `folder` if it has those of the same weights and data, otherwise computed.

    File names contain a hash of checkpoint and data, so a folder can be shared; None stores nothing.
    Raises like `collect_outputs` and the reading of the data, and OSError if the folder cannot be written.
    """
    key = _key(checkpoint, part)
    path = _outputs_path(folder, key)
    if path and path.is_file():
        with contextlib.suppress(DamagedOutputs):  # they are computed again
            kept_key, kept = read_outputs(path, checkpoint.class_names, checkpoint.model.config)
            if kept_key == key:
                return kept
    outputs = collect_outputs(checkpoint.model, part.frames, checkpoint.preprocessing, device, progress=progress,
                              class_names=checkpoint.class_names, workers=workers)
    if path:
        write_outputs(path, key, outputs)
    return outputs


def cached_ranges(folder: Path | None, checkpoint: Checkpoint, part: Part) -> tuple[Range, ...]:
    """The activation ranges of the checkpoint on images spread over a part; `folder` as in `cached_outputs`.

    The network runs on the CPU. Raises like the reading of the data, and OSError if the folder cannot be written.
    """
    path = folder / f'ranges-{_key(checkpoint, part)[:20]}.json' if folder else None
    if path and path.is_file():
        with contextlib.suppress(ValueError, TypeError, OverflowError):  # a damaged file: they are measured again
            ranges = tuple((float(low), float(high)) for low, high in parse_json(path.read_text()))
            if len(ranges) == 4 * checkpoint.model.config.depth:
                return ranges
    ranges = activation_ranges(checkpoint.model, _spread(checkpoint, part))
    if path:
        with written_whole(path, sync=False) as temporary:
            temporary.write_text(json.dumps(ranges))
    return ranges


def kept_share(checkpoint: Checkpoint, part: Part) -> float:
    """Mean share of the patches that the network computes, 0..1, on images spread over a part; 1 without a threshold.

    Raises like the reading of the data.
    """
    config = checkpoint.model.config
    if not config.token_threshold:
        return 1.0
    return float(np.concatenate([kept_shares(choose_tokens(batch, config.patch_size, config.token_threshold), config)
                                 for batch in _spread(checkpoint, part)]).mean())


def _spread(checkpoint: Checkpoint, part: Part) -> Iterator[torch.Tensor]:
    """Inputs spread evenly over a part, because a table of touches is often sorted by class; in small batches."""
    indices = np.linspace(0, part.size - 1, min(part.size, ENOUGH_IMAGES)).round().astype(int).tolist()
    for i in range(0, len(indices), 16):
        yield torch.from_numpy(inputs_of(part.frames, checkpoint.preprocessing, indices[i:i + 16]))


def is_cached(folder: Path | None, checkpoint: Checkpoint, part: Part) -> bool:
    """Whether `cached_outputs` would probably find a file, and so read no image."""
    path = _outputs_path(folder, _key(checkpoint, part))
    return path is not None and path.is_file()


def _outputs_path(folder: Path | None, key: str) -> Path | None:
    return folder / f'outputs-{key[:20]}.npz' if folder else None


def _key(checkpoint: Checkpoint, part: Part) -> str:
    return hashlib.sha256(f'{fingerprint(checkpoint)} {part.key}'.encode()).hexdigest()


def write_outputs(path: Path, key: str, outputs: ExitOutputs) -> None:
    """Write outputs atomically with a `key` that identifies their origin; OSError if that fails."""
    with written_whole(path) as temporary:
        np.savez(temporary, key=key, logits=outputs.logits, labels=outputs.labels)


def read_outputs(path: Path, class_names: Sequence[str], config: ModelConfig) -> tuple[str, ExitOutputs]:
    """The key and the outputs that `write_outputs` wrote, for these classes and this architecture.

    Raises DamagedOutputs for an incomplete file.
    """
    try:
        kept = read_arrays(path)
        key, logits, labels = str(kept['key']), kept['logits'], kept['labels']
        if (logits.dtype != np.float32 or logits.shape != (len(config.exits), len(labels), len(class_names))
                or labels.ndim != 1 or labels.dtype != np.int64):
            raise ValueError(f'logits of shape {logits.shape} for {len(labels)} labels')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedOutputs(f'{path} is not a complete file of outputs ({type(error).__name__})') from error
    return key, ExitOutputs(logits, labels, tuple(class_names), config.exits, compute_shares(config))
