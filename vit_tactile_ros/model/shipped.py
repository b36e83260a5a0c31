"""The path of the shipped checkpoint."""

from __future__ import annotations

from pathlib import Path

NAME = 'tactile_shapes.safetensors'


def shipped_checkpoint() -> Path:
    """Path of the shipped checkpoint, in a source tree, a ROS install space or a pip installation.

    Raises FileNotFoundError if the installation lacks it.
    """
    for folder in Path(__file__).resolve().parents:
        for path in (folder / 'share' / 'vit_tactile_ros' / 'models' / NAME, folder / 'models' / NAME):
            if path.is_file():
                return path
    raise FileNotFoundError(f'{NAME} was not found for the package at {Path(__file__).parents[1]}; install '
                            'vit_tactile_ros again or give the path of a checkpoint')
