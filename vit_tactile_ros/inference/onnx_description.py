"""What a program needs besides the ONNX files of the stages to predict as this package does, for JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vit_tactile_ros import __version__
from vit_tactile_ros.inference import closer
from vit_tactile_ros.inference.engines.onnx_stages import (
    IMAGES,
    LOGITS,
    LOGITS_BEFORE,
    NEXT_TOKENS,
    OPSET,
    TOKENS,
)
from vit_tactile_ros.inference.gate import constants
from vit_tactile_ros.inference.motion import FARTHEST
from vit_tactile_ros.inference.preprocess import motion_scale, scale_and_shift
from vit_tactile_ros.inference.reference import REFERENCE_FRAMES
from vit_tactile_ros.model import Checkpoint, PreprocessingConfig, compute_shares, thresholds

FORMAT, VERSION = 'vit_tactile_onnx', 1
FILE = 'network.json'


def description(checkpoint: Checkpoint, stages: Sequence[Path], fingerprint: str) -> dict[str, Any]:
    """Of the files of `write_stages`; docs/guides/onnx.md explains every entry."""
    config, calibration = checkpoint.model.config, checkpoint.calibration
    shares = compute_shares(config)
    temperatures = calibration.temperatures or (1.0,) * len(config.exits)
    last = len(stages) - 1
    return {
        'format': FORMAT, 'version': VERSION, 'opset': OPSET, 'fingerprint': fingerprint,
        'made_by': {'vit_tactile_ros': __version__, 'torch': torch.__version__},
        'class_names': list(checkpoint.class_names),
        'input': {'channels': config.channels, 'height': config.image_size[0], 'width': config.image_size[1]},
        'preprocessing': _preprocessing(checkpoint.preprocessing),
        'stages': [{
            'file': path.name, 'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
            'input': TOKENS if index else IMAGES,
            **({'logits_input': LOGITS_BEFORE} if index and config.added_exits else {}),
            'outputs': [LOGITS] if index == last else [LOGITS, NEXT_TOKENS],
            'exit_block': config.exits[index], 'temperature': temperatures[index], 'compute_share': shares[index],
        } for index, path in enumerate(stages)],
        'tau': list(thresholds(calibration.tau, len(config.exits))),
        'bounds': [asdict(bound) for bound in calibration.drops],
        'gate': constants(),
    }


def _preprocessing(config: PreprocessingConfig) -> dict[str, Any]:
    scale, shift = scale_and_shift(tuple(config.mean), tuple(config.std), config.reference)
    motion = {
        'seconds': [config.motion_interval * 2**view for view in range(config.motion_views)],
        'farthest_seconds': FARTHEST * config.motion_interval, 'scale': float(motion_scale(config))}
    return {
        'colours': 'RGB', 'orientation': config.orientation, 'crop': config.crop, 'reference': config.reference,
        'reference_frames': REFERENCE_FRAMES, 'scale': scale.ravel().tolist(), 'shift': shift.ravel().tolist(),
        'motion': motion if config.motion_interval else None, 'zoom': closer.constants(config)}
