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
    Layer('foundation', 'command line, flags, exit status, Ctrl-C, user errors, atomic writes, strict JSON', (),
          STANDARD_LIBRARY),
    Layer('model', 'attention, the ViT, the exit decision, the checkpoint', ('foundation',),
          frozenset({'torch', 'numpy', 'safetensors', 'performer_pytorch'})),
    Layer('simulator', 'a simulated gel, its lights and contacts over time', ('foundation',),
          frozenset({'numpy', 'cv2'})),
    Layer('inference', 'decode, fit, reference, engines, the classifier that joins them, touch events',
          ('foundation', 'model')),
    Layer('data', 'datasets, bags, labels, augmentation', ('foundation', 'model', 'simulator', 'inference')),
    Layer('sensor_fit', 'fit of a simulated sensor to real presses of a ball',
          ('foundation', 'model', 'simulator', 'inference', 'data')),
    Layer('evaluation', 'outputs of the exits, calibration, metrics; replay and report, benchmark',
          ('foundation', 'model', 'simulator', 'inference', 'data')),
    Layer('training', 'the loop, loss, batches, resume, monitoring',
          ('foundation', 'model', 'simulator', 'inference', 'data', 'evaluation')),
    Layer('ros', 'the nodes, parameters, messages, diagnostics; cameras, the demo, commands that run the real node',
          ('foundation', 'model', 'simulator', 'inference', 'data', 'evaluation', 'training')),
)
BY_NAME = {layer.name: layer for layer in LAYERS}

# The only parts that may import rclpy and generated messages: one layer, and the entry point that starts nodes.
USES_ROS = frozenset({'ros', 'demo'})
# Beside the entry points, which may import it; it is not a command.
SHARED_BY_ENTRY_POINTS = frozenset({'flags'})
ENTRY_POINTS = ('one file per command, beside the folders: `python -m vit_tactile_ros.NAME`; `flags.py`, which they '
                'share')


def rule() -> str:
    """The rule as text, highest layer first."""
    lines = ['Imports go down the layers only:',
             f'    entry points may import every layer and {", ".join(SHARED_BY_ENTRY_POINTS)}, but not one another']
    lines += [f'    {layer.name + "/":12} may import {", ".join(layer.may_import) or "the standard library only"}'
              for layer in reversed(LAYERS)]
    return '\n'.join([*lines, f'Only {" and ".join(sorted(USES_ROS))} import rclpy and generated messages.'])
