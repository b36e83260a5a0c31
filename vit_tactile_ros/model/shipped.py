"""The paths of the shipped checkpoints."""

from __future__ import annotations

from pathlib import Path

SHAPES, SLIP = 'tactile_shapes.safetensors', 'tactile_slip.safetensors'


def shipped_checkpoint(name: str = SHAPES) -> Path:
    """Path of a shipped checkpoint, in a source tree, a ROS install space or a pip installation.

    Raises FileNotFoundError if the installation lacks it.
    """
    for folder in Path(__file__).resolve().parents:
        for path in (folder / 'share' / 'vit_tactile_ros' / 'models' / name, folder / 'models' / name):
            if path.is_file():
                return path
    raise FileNotFoundError(f'{name} was not found for the package at {Path(__file__).parents[1]}; install '
                            'vit_tactile_ros again or give the path of a checkpoint')
