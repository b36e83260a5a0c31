"""The network: attention, the staged ViT, its checkpoint."""

from vit_tactile_ros.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    network_digest,
    save_checkpoint,
)
from vit_tactile_ros.model.config import (
    GREY_SHARE,
    UNLABELLED,
    Calibration,
    DropBound,
    ModelConfig,
    PreprocessingConfig,
    Provenance,
    token_threshold,
)
from vit_tactile_ros.model.early_exit import ExitResult, Hurry, early_exit, exit_probabilities, exit_score, thresholds
from vit_tactile_ros.model.shipped import shipped_checkpoint
from vit_tactile_ros.model.vit import ViTTactile, compute_shares, create_vit_tactile, multiply_adds

__all__ = [
    'GREY_SHARE', 'UNLABELLED', 'Calibration', 'Checkpoint', 'CheckpointError', 'DropBound', 'ExitResult', 'Hurry',
    'ModelConfig', 'PreprocessingConfig', 'Provenance', 'ViTTactile', 'compute_shares', 'create_vit_tactile',
    'early_exit', 'exit_probabilities', 'exit_score', 'load_checkpoint', 'multiply_adds', 'network_digest',
    'save_checkpoint', 'shipped_checkpoint', 'thresholds', 'token_threshold',
]
