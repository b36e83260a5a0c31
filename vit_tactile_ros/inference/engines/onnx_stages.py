"""The stages of a network as ONNX files, for programs without PyTorch, and ONNX Runtime, which runs them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vit_tactile_ros.foundation.errors import MissingPackageError, UserError
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.foundation.quiet import only_errors
from vit_tactile_ros.inference.runtime import Precision
from vit_tactile_ros.model import ViTTactile
from vit_tactile_ros.model.early_exit import Stages
from vit_tactile_ros.model.tokens import Group, Tokens, run_stages

OPSET = 18  # ONNX Runtime from 1.18 on (of May 2024) reads it
PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
# Names of inputs and outputs.
IMAGES, TOKENS, NEXT_TOKENS, LOGITS, LOGITS_BEFORE = 'images', 'tokens', 'next_tokens', 'logits', 'logits_before'


class _ImagesOrTokens(nn.Module):
    """A stage as it is exported: images or tokens to the logits of its exit and, but for the last one, tokens.

    With added exits, all but the first one also take the logits of the exit before.
    """

    def __init__(self, model: ViTTactile, index: int) -> None:
        super().__init__()
        self.embed = model.embed if index == 0 else nn.Identity()
        self.stage = model.stage_modules[index]
        self.is_last = index == len(model.stage_modules) - 1

    def forward(self, x: Tensor, before: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        tokens, logits = self.stage(self.embed(x), None, before)
        return logits if self.is_last else (logits, tokens)


def check_exportable(model: ViTTactile) -> None:
    """Raises UserError for a network that drops patches, and for packages that are missing or too old."""
    if model.config.token_threshold:
        raise UserError('the checkpoint has a token_threshold: it chooses the patches of each image outside the '
                        'network, which the files cannot do. Give a checkpoint that computes all patches: calibrate '
                        '--token_threshold 0 makes one, with the thresholds that fit it')
    missing = []
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise MissingPackageError(f"{', '.join(missing)}: not installed; pip install {' '.join(PACKAGES)}, or the "
                                  "extra: pip install 'vit_tactile_ros[onnx]'")
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 6):
        raise UserError(f'torch is {torch.__version__}; the export needs at least 2.6')


def write_stages(model: ViTTactile, folder: Path) -> list[Path]:
    """Write a file per stage, `stage_0.onnx` and so on, and return their paths; the batch is dynamic, in float32.

    `model` is in eval mode on the CPU, and `check_exportable` has not raised. Raises OSError.
    """
    import onnx

    config = model.config
    paths = []
    for index in range(len(config.exits)):
        shapes: dict[str, tuple[int, ...]] = {IMAGES: (config.channels, *config.image_size)} if index == 0 else {
            TOKENS: (config.num_patches, config.width)}
        if index and config.added_exits:
            shapes[LOGITS_BEFORE] = (config.num_classes,)
        stage = _ImagesOrTokens(model, index).eval()
        batch = torch.export.Dim('batch')
        names = [LOGITS] if stage.is_last else [LOGITS, NEXT_TOKENS]
        # Without the exporter's remarks about packages that this network does not need.
        with torch.no_grad(), only_errors('torch.onnx'), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            program: Any = torch.onnx.export(
                # Two: the exporter takes a size of 1 for a constant.
                stage, tuple(torch.zeros(2, *shape) for shape in shapes.values()), input_names=list(shapes),
                output_names=names, dynamic_shapes=({0: batch},) * len(shapes), opset_version=OPSET, dynamo=True,
                verbose=False)
        proto = program.model_proto
        _forget_source(proto)
        onnx.checker.check_model(proto)
        paths.append(folder / f'stage_{index}.onnx')
        with written_whole(paths[-1]) as temporary:
            temporary.write_bytes(proto.SerializeToString())
    return paths


def _forget_source(proto: Any) -> None:
    """Remove where in the source each node comes from: half of a small file, and paths of this machine."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField('metadata_props')
        part.ClearField('doc_string')


class OnnxStages:
    """The files of `write_stages` in ONNX Runtime on the CPU; a `runtime.Runtime`."""

    name = 'onnxruntime'
    precision: Precision = 'float32'

    def __init__(self, paths: Sequence[Path], threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        self.device = torch.device('cpu')
        self._sessions = [onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
                          for path in paths]

    def stages(self, images: Tensor, groups: Sequence[Group] | None = None) -> Stages:
        """See `runtime.Runtime`; computes all patches, whatever `groups` says."""
        def run(index: int, tokens: Tokens) -> tuple[Tokens, Tensor]:
            session = self._sessions[index]
            inputs = {IMAGES if index == 0 else TOKENS: tokens.values.numpy()}
            if tokens.logits is not None and len(session.get_inputs()) > 1:
                inputs[LOGITS_BEFORE] = tokens.logits.numpy()
            logits, *rest = map(torch.from_numpy, session.run(None, inputs))
            return Tokens(rest[0], None, logits) if rest else tokens, logits

        yield from run_stages([(torch.arange(len(images)), Tokens(images, None))], len(self._sessions), run,
                              lambda _index, tokens, rows: tokens.subset(rows))
