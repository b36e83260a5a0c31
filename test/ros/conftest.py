"""Fixtures of the ROS tests."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from live_nodes import CLASSES, Client, NodeProcess, spinning_client
from toy_outputs import toy_checkpoint

from vit_tactile_ros.inference.touch_events import STATES
from vit_tactile_ros.model import (
    Calibration,
    Checkpoint,
    DropBound,
    ModelConfig,
    PreprocessingConfig,
    ViTTactile,
    load_checkpoint,
    save_checkpoint,
)


@pytest.fixture(scope='session')
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A small untrained network; its predictions do not matter here."""
    torch.manual_seed(0)
    config = ModelConfig(num_classes=len(CLASSES), image_size=(32, 48), width=48, depth=3, exits=(1, 2, 3),
                         feature_map_dim=16)
    path = tmp_path_factory.mktemp('checkpoint') / 'tiny.safetensors'
    save_checkpoint(path, Checkpoint(ViTTactile(config), PreprocessingConfig(
        image_size=(32, 48), reference='difference', orientation='match'), CLASSES))
    return path


@pytest.fixture(scope='session')
def states_checkpoint(tmp_path_factory) -> Path:
    """A small untrained network with the classes and the motion input of one that detects slip."""
    path = tmp_path_factory.mktemp('checkpoint') / 'states.safetensors'
    save_checkpoint(path, toy_checkpoint(names=STATES, motion=0.08))
    return path


@pytest.fixture(scope='session')
def calibrated_checkpoint(tiny_checkpoint, tmp_path_factory) -> Path:
    """The tiny network with thresholds for three bounds; the strictest could not be shown."""
    path = tmp_path_factory.mktemp('checkpoint') / 'calibrated.safetensors'
    drops = (DropBound(0.001, 0.95, (1.0, 1.0)), DropBound(0.005, 0.95, (0.9, 0.8)), DropBound(0.02, 0.95, (0.0, 0.0)))
    save_checkpoint(path, dataclasses.replace(load_checkpoint(tiny_checkpoint), calibration=Calibration(
        (1.0, 1.0, 1.0), 0.7, drops, 1000, (0.01, 0.01, 0.01))))
    return path


@pytest.fixture(scope='session')
def full_size_checkpoint(tmp_path_factory) -> Path:
    """An untrained ViT-Tiny at 224x224, slow enough to fall behind a camera."""
    path = tmp_path_factory.mktemp('checkpoint') / 'full.safetensors'
    save_checkpoint(path, Checkpoint(ViTTactile(ModelConfig(num_classes=len(CLASSES))), PreprocessingConfig(), CLASSES))
    return path


@pytest.fixture
def client() -> Iterator[Client]:
    with spinning_client() as node:
        yield node
    node.destroy_node()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes, each parameter as name=value, and ends them with the test."""
    started: list[NodeProcess] = []

    def start_node(module: str, *arguments: str, fresh: bool = False, patch: str = '', **parameters: object,
                   ) -> NodeProcess:
        for name, value in parameters.items():
            arguments += ('-p', f'{name}:={value}')
        started.append(NodeProcess(module, tmp_path, *arguments, fresh=fresh, patch=patch))
        return started[-1]

    with contextlib.ExitStack() as stack:  # all are stopped, even if one fails to end
        yield start_node
        for node in started:
            stack.callback(lambda node=node: print(f'{node.log.name}:\n{node.output}'))  # shown if the test failed
            stack.callback(node.stop)  # before that


@pytest.fixture
def play() -> Iterator[Callable[..., list]]:
    """Plays a video or black images as a camera driver does (play_images.py); returns their headers."""
    processes: list[subprocess.Popen] = []

    def run(source: object, rate: float, reliability: str, **environment: str) -> list:
        command = [sys.executable, str(Path(__file__).with_name('play_images.py')), str(source), str(rate), reliability]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment))
        return json.loads(processes[-1].stdout.readline())

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def classifier(start, tiny_checkpoint) -> Callable[..., NodeProcess]:
    """Starts the classifier on the tiny checkpoint and waits until it is active."""
    def start_classifier(*arguments: str, **parameters: object) -> NodeProcess:
        parameters = {'checkpoint': tiny_checkpoint, 'threads': 1, 'diagnostics_period': 0.1} | parameters
        node = start('classifier_node', *arguments, **parameters)
        node.wait_for_output('active, waiting for images')
        return node
    return start_classifier
