"""The layers of the package, lowest first; test/test_layers.py enforces this table, docs/architecture.md shows it."""

from __future__ import annotations

from dataclasses import dataclass

STANDARD_LIBRARY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Layer:
    """One folder of the package."""

    name: str
    holds: str
    may_import: tuple[str, ...]  # other layers
    libraries: frozenset[str] | None = None  # besides the standard library; None: any, apart from ROS


LAYERS: tuple[Layer, ...] = (
    Layer('foundation', 'user errors, files written whole, strict JSON', (), STANDARD_LIBRARY),
    Layer('model', 'attention, the ViT, the exit decision, the checkpoint', ('foundation',),
          frozenset({'torch', 'numpy', 'safetensors', 'performer_pytorch'})),
    Layer('simulator', 'a simulated gel, its lights and contacts over time', ('foundation',),
          frozenset({'numpy', 'cv2'})),
    Layer('inference', 'decode, fit, reference, engines, the classifier that joins them', ('foundation', 'model')),
    Layer('data', 'datasets, bags, labels, augmentation', ('foundation', 'model', 'simulator', 'inference')),
    Layer('sensor_fit', 'a simulated sensor fitted to real presses of a ball',
          ('foundation', 'model', 'simulator', 'inference', 'data')),
    Layer('evaluation', 'outputs of the exits, calibration, metrics; replay and report, benchmark',
          ('foundation', 'model', 'simulator', 'inference', 'data')),
    Layer('training', 'the loop, loss, batches, resuming, monitoring',
          ('foundation', 'model', 'simulator', 'inference', 'data', 'evaluation')),
    Layer('ros', 'the nodes, parameters, messages, diagnostics; cameras, the demo, nodes run beside a command',
          ('foundation', 'model', 'simulator', 'inference', 'data', 'evaluation', 'training')),
)
BY_NAME = {layer.name: layer for layer in LAYERS}

# The only parts that may import rclpy and generated messages: one layer, and the entry point that starts nodes.
USES_ROS = frozenset({'ros', 'demo'})
ENTRY_POINTS = 'one file per command, beside the folders: `python -m vit_tactile_ros.NAME`'


def rule() -> str:
    """The rule as text, highest layer first."""
    lines = ['Imports go down the layers only:',
             '    entry points may import every layer, but not one another']
    lines += [f'    {layer.name + "/":12} may import {", ".join(layer.may_import) or "the standard library only"}'
              for layer in reversed(LAYERS)]
    return '\n'.join([*lines, f'Only {" and ".join(sorted(USES_ROS))} import rclpy and generated messages.'])
