"""What a user would run instead, in plain torch and in the engine and precision of our network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vit_tactile_ros.evaluation.agreement import TOLERANCE, DisagreementError
from vit_tactile_ros.evaluation.benchmark.vit_tiny import VitTiny, vit_tiny
from vit_tactile_ros.foundation.errors import MissingPackageError, UserError
from vit_tactile_ros.inference.ranges import ranges_of_blocks
from vit_tactile_ros.inference.runtime import Precision, Runtime

CNN_NAME = 'MobileNetV2'
CNN_CLASSES = 1000
Network = Callable[[Tensor], Tensor]  # float32 (B, 3, H, W) images to logits, (B, C)


@dataclass(frozen=True)
class Baseline:
    """A network without exits, untrained, in plain torch on the CPU in float32."""

    key: str
    name: str
    model: nn.Module  # (B, 3, H, W) -> (B, C), in eval mode


def baselines(image_size: tuple[int, int]) -> tuple[list[Baseline], list[str]]:
    """The baselines that can run here, ViT-Tiny first, and why others cannot."""
    model, name = vit_tiny(image_size)
    found, missing = [Baseline('timm', name, model)], []
    try:
        found.append(Baseline('cnn', CNN_NAME, mobile_net()))
    except MissingPackageError as error:
        missing.append(f'{CNN_NAME} is left out: {error}')
    return found, missing


def mobile_net() -> nn.Module:
    """MobileNetV2 (width 1.0, 3.5 M parameters) of the package transformers; raises MissingPackageError without it."""
    try:
        from transformers import MobileNetV2Config, MobileNetV2ForImageClassification
    except (ImportError, RuntimeError) as error:
        raise MissingPackageError(f"transformers cannot be imported ({error}): pip install 'transformers>=4.40'"
                                  ) from error

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=CNN_CLASSES))

        def forward(self, images: Tensor) -> Any:
            return self.network(images).logits

    model = Logits().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):  # its own start makes all outputs nearly 0, equal in any engine
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
    return model


def in_engine(baseline: Baseline, images: Tensor, engine: str, precision: Precision, threads: int) -> Network:
    """The baseline for batches like these images, in an engine and precision.

    Raises UserError where that combination does not exist, DisagreementError if its outputs differ from plain torch.
    """
    if engine == 'torch' and precision == 'bfloat16':
        rounded = copy.deepcopy(baseline.model).to(torch.bfloat16)
        network: Network = lambda x: rounded(x.to(torch.bfloat16))  # noqa: E731
    elif engine == 'openvino':
        network = _in_openvino(baseline, images, precision, threads)
    else:
        raise UserError(f'{baseline.name} is not compared in engine {engine} and precision {precision}')
    _check(baseline, network, images, precision)
    return network


def networks_in_engine(found: Sequence[Baseline], images: Tensor, like: Runtime, threads: int,
                       ) -> tuple[dict[str, Network], list[str]]:
    """The baselines in the engine and precision of `like`, by their key, and why others cannot; see `in_engine`."""
    if like.device.type != 'cpu':
        return {}, [f'{found[0].name} is compared in the same engine only on the CPU'] if found else []
    networks, missing = {}, []
    for baseline in found:
        try:
            networks[baseline.key] = in_engine(baseline, images[:, :3].contiguous(), like.name, like.precision, threads)
        except UserError as error:
            missing.append(str(error))
    return networks, missing


def _in_openvino(baseline: Baseline, images: Tensor, precision: Precision, threads: int) -> Network:
    # Optional, and takes 0.25 s to import.
    import openvino as ov

    from vit_tactile_ros.evaluation.benchmark.vit_tiny_graph import vit_tiny_graph
    from vit_tactile_ros.inference.engines.openvino import compile_graphs, infer, settings_for

    settings = settings_for(precision, threads)
    if baseline.key == 'timm':
        tiny = VitTiny.copy_of(baseline.model, (images.shape[2], images.shape[3]))
        graph = vit_tiny_graph(tiny, ranges_of_blocks(list(tiny.blocks), tiny, images.split(1))  # type: ignore[arg-type]
                               if precision == 'int8' else ())
    elif precision == 'int8':
        raise UserError(f'{baseline.name} in int8 is not measured: no graph with 8-bit integers is made for it')
    else:
        graph = ov.convert_model(baseline.model, example_input=images[:1])
    graph.reshape(list(images.shape))
    request, = compile_graphs([graph], settings)
    return lambda batch: torch.from_numpy(infer(request, batch.numpy())[0])


@torch.inference_mode()
def _check(baseline: Baseline, network: Network, images: Tensor, precision: Precision) -> None:
    wanted, got = baseline.model(images).float(), network(images).float()
    difference = float((got - wanted).abs().max() / wanted.abs().max())
    if not difference <= TOLERANCE[precision]:  # refuses NaN too
        raise DisagreementError(f'{baseline.name} in {precision}: its logits differ from those of plain torch by '
                                f'{difference:.2g} of the largest; must be at most {TOLERANCE[precision]:g}')
