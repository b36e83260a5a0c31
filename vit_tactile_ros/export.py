"""Write the network as ONNX files, one for each exit, for programs without PyTorch.

Writes a folder with a file per stage, from the images or tokens to the logits of the next exit, and `network.json`
with everything else that a program needs: input size and preprocessing, class names, exits, temperatures, thresholds,
constants of the gate. Before the folder appears, ONNX Runtime runs the files on simulated touches and must give the
outputs, exits and classes of plain PyTorch; otherwise nothing is written. The network is written in float32 and
computes all patches. `examples/classify_onnx.py` is a program that uses the folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vit_tactile_ros import flags
from vit_tactile_ros.data.extraction import check_unused
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.evaluation.agreement import check_agreement
from vit_tactile_ros.evaluation.cache import fingerprint
from vit_tactile_ros.evaluation.outputs import inputs_of
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import check_least
from vit_tactile_ros.foundation.files import check_folder_writable, folder_written_whole, written_whole
from vit_tactile_ros.inference.decide import decide
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.onnx_stages import OPSET, OnnxStages, check_exportable, write_stages
from vit_tactile_ros.inference.onnx_description import FILE, description
from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import (
    Checkpoint,
    exit_probabilities,
    exit_score,
    load_checkpoint,
    shipped_checkpoint,
    thresholds,
)

EXAMPLES = (
    '--output network',
    '--checkpoint runs/mine/checkpoint.safetensors --output network',
)
# Of the largest logit; the differences of rounding measured were at most 3e-6. Twice as much for a confidence and tau.
TOLERANCE = 1e-4
BATCH_SIZES = (1, 7)
SEED = 4_000_000_000  # far from those of training and evaluation


@dataclass(frozen=True)
class ExportRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    output: Path = flag(REQUIRED, 'folder to write; new or empty')
    checkpoint: Path | None = flag(None, flags.CHECKPOINT)
    size: int = flag(64, 'simulated touches on which the files are compared with plain PyTorch')

    def __post_init__(self) -> None:
        check_least(self, size=8)


def parse_arguments(argv: list[str] | None = None) -> ExportRequest:
    return flags.parse('export', __doc__, EXAMPLES, ExportRequest, argv)


@command('export', stopped='stopped; nothing was written')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    check_folder_writable(request.output, create=False)
    check_unused(request.output)
    torch.set_num_threads(1)
    path = request.checkpoint or shipped_checkpoint()
    checkpoint = load_checkpoint(path)
    check_exportable(checkpoint.model)
    with folder_written_whole(request.output) as folder:
        stages = write_stages(checkpoint.model, folder)
        checked = check(checkpoint, stages, request.size)
        text = json.dumps(description(checkpoint, stages, fingerprint(checkpoint)) | {'checked': checked}, indent=1)
        with written_whole(folder / FILE) as temporary:
            temporary.write_text(text + '\n', encoding='utf-8')
        sizes = [stage.stat().st_size for stage in stages]
    _report(request, path, checkpoint, sizes, checked)
    print(json.dumps({'output': str(request.output), 'checkpoint': str(path), 'opset': OPSET, 'bytes': sizes,
                      'checked': checked}))
    return 0


def check(checkpoint: Checkpoint, stages: Sequence[Path], size: int) -> dict[str, Any]:
    """Compare the files with plain PyTorch on simulated touches, alone and in batches; the figures, for JSON.

    With the thresholds of the checkpoint, and with those at which about half of the touches continue after each exit.
    Raises RunError where outputs differ by more than TOLERANCE, or a decision differs although its confidence is not as
    close to its threshold.
    """
    import onnxruntime

    preprocessing = checkpoint.preprocessing
    touches = SimulatedTouches(size, preprocessing, SEED, task='states' if preprocessing.motion_interval else 'shapes')
    images = torch.from_numpy(inputs_of(touches, preprocessing, range(size)))
    reference, runtime = TorchRuntime(checkpoint.model, torch.device('cpu')), OnnxStages(stages)
    temperatures = checkpoint.calibration.temperatures or (1.0,) * len(stages)
    worst, decisions = 0.0, []
    for tau in (thresholds(checkpoint.calibration.tau, len(stages)), _middle(reference, images, temperatures)):
        for batch_size in BATCH_SIZES:
            worst = max(worst, check_agreement(runtime, reference, images, tau, temperatures, batch_size, TOLERANCE))
        decisions.append(_decisions(runtime, reference, images, tau, temperatures))
    return {'touches': size, 'onnxruntime': onnxruntime.__version__, 'largest_difference': worst,
            'tolerance': TOLERANCE, 'decisions': decisions}


@torch.inference_mode()
def _middle(reference: Runtime, images: Tensor, temperatures: Sequence[float]) -> tuple[float, ...]:
    """For each early exit, the middle between the two median confidences: no touch is exactly there."""
    middle = len(images) // 2
    return tuple(float(exit_score(exit_probabilities(logits, t)).sort().values[middle - 1:middle + 1].mean())
                 for logits, t in zip(reference.stages(images), temperatures[:-1], strict=False))


@torch.inference_mode()
def _decisions(runtime: Runtime, reference: Runtime, images: Tensor, tau: tuple[float, ...],
               temperatures: Sequence[float]) -> dict[str, Any]:
    """How many touches exit at each exit, and how many get another exit or class in the files."""
    ours, theirs = (decide(engine, images, tau, temperatures) for engine in (runtime, reference))
    differ = (ours.exit_index != theirs.exit_index) | (ours.logits.argmax(dim=1) != theirs.logits.argmax(dim=1))
    return {'tau': list(tau), 'exits': torch.bincount(theirs.exit_index, minlength=len(temperatures)).tolist(),
            'differ': int(differ.sum())}


def _report(request: ExportRequest, path: Path, checkpoint: Checkpoint, sizes: Sequence[int],
            checked: dict[str, Any]) -> None:
    for index, (block, size) in enumerate(zip(checkpoint.model.config.exits, sizes, strict=True)):
        print(f'export: stage_{index}.onnx, to the exit after block {block}, {size / 1e6:.1f} MB')
    print(f'export: in ONNX Runtime {checked["onnxruntime"]} the logits of {checked["touches"]} simulated touches '
          f'differ from those of PyTorch by at most {checked["largest_difference"]:.1g} of the largest (permitted: '
          f'{checked["tolerance"]:g})')
    for found in checked['decisions']:
        exits = ', '.join(f'{count} at block {block}' for count, block in zip(
            found['exits'], checkpoint.model.config.exits, strict=True))
        print(f'export: with tau {", ".join(f"{tau:.4f}" for tau in found["tau"]) or "1"}: {exits}; another exit or '
              f'class: {found["differ"]}')
    print(f'export: wrote {request.output} from {path.name}')


if __name__ == '__main__':
    sys.exit(main())
