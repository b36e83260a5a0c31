"""The engine that runs a checkpoint: the requested one, or the fastest that agrees with plain torch."""

from __future__ import annotations

import datetime
import importlib.util
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vit_tactile_ros.foundation.errors import MissingPackageError, PassingError, UserError
from vit_tactile_ros.inference.decide import decide
from vit_tactile_ros.inference.engines.choice import Choice, conditions, keep_choice, kept_choice
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.ranges import Range
from vit_tactile_ros.inference.runtime import (
    AUTO_OR_PRECISION,
    PRECISIONS,
    Precision,
    Runtime,
    check_precision,
    computes_in_bfloat16,
    select_device,
)
from vit_tactile_ros.model import ViTTactile, early_exit, exit_probabilities, exit_score
from vit_tactile_ros.model.tokens import touched_images

if TYPE_CHECKING:
    from vit_tactile_ros.inference.engines.cuda_graph import CudaGraphRuntime

# Share of the largest logit by which an engine may differ from plain torch in float32 on `check_images`. Int8, with the
# shipped weights: at most 0.026 with ranges of 128 touches, at least 0.054 with those of other layers or blocks, half
# or five times as wide. Its cost in accuracy shows only on touches (`evaluation.agreement`, benchmark --accuracy).
TOLERANCE: dict[Precision, float] = {'float32': 1e-3, 'bfloat16': 0.1, 'int8': 0.05}
# Never run on a GPU so far, only in Triton's interpreter: `auto` does not consider it.
BY_NAME = ('triton',)
MEASURING_TIME = 0.4  # s for each engine; busy machines reach it before MEASURING_ROUNDS
MEASURING_ROUNDS = 15
REST = 0.005  # s between two engines: torch's threads spin that long, on a core that the next engine uses

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What an engine is prepared for."""

    model: ViTTactile  # in eval mode, float32, on the CPU
    device: torch.device
    precision: Precision
    threads: int  # CPU threads, at least 1
    ranges: tuple[Range, ...] = ()  # of `inference.ranges`; int8 needs them


# Prepares a runtime; raises UserError with what to install or change if it can't.
Prepare = Callable[[Request], Runtime]


def _torch(request: Request) -> Runtime:
    return TorchRuntime(request.model, request.device, request.precision)


def _cuda_graph(request: Request) -> Runtime:
    from vit_tactile_ros.inference.engines.cuda_graph import CudaGraphRuntime
    return _captured(CudaGraphRuntime, request)


def _captured(runtime: type[CudaGraphRuntime], request: Request) -> Runtime:
    try:
        return runtime(request.model, request.device, request.precision)
    except RuntimeError as error:  # an operation that can't be captured, or out of memory
        kind = PassingError if 'out of memory' in str(error) else UserError  # another program may release its memory
        raise kind(f"the capture of CUDA graphs failed: {error}: use engine 'torch'") from error


def _triton(request: Request) -> Runtime:
    _require('triton', 'triton', 'pip install triton (torch for CUDA brings it along)')
    try:
        from vit_tactile_ros.inference.engines.triton_engine import TritonRuntime
        return _captured(TritonRuntime, request)
    except UserError:
        raise
    except Exception as error:  # of the compiler, the C compiler, Python's headers, the driver, the cache folder
        raise UserError(f'Triton could not compile or start its kernels: {type(error).__name__}: {error}: use engine '
                        "'cuda_graph'") from error


def _openvino(request: Request) -> Runtime:
    _require('openvino', 'openvino', "pip install 'openvino>=2024.6' (the extra 'fast' of vit_tactile_ros)")
    from vit_tactile_ros.inference.engines.openvino import OpenVinoRuntime  # optional, and takes 0.25 s to import
    return OpenVinoRuntime(request.model, request.precision, request.threads, request.ranges)


def _require(package: str, engine: str, how: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(f'{package} is not installed: {how}, or use another engine than {engine!r}')


CPU_ENGINES: dict[str, Prepare] = {'torch': _torch, 'openvino': _openvino}
# Add engines for a GPU here, each in a file of its own next to this one.
CUDA_ENGINES: dict[str, Prepare] = {'torch': _torch, 'cuda_graph': _cuda_graph, 'triton': _triton}


def engine_names() -> tuple[str, ...]:
    """All names of engines, installed or not."""
    return tuple(dict.fromkeys(('auto', *CPU_ENGINES, *CUDA_ENGINES)))


def make_runtime(model: ViTTactile, device: str = 'auto', engine: str = 'auto',
                 precision: Precision | Literal['auto'] = 'float32', threads: int = 1,
                 ranges: Sequence[Range] = ()) -> Runtime:
    """A model prepared to run; 'auto' takes the fastest engine whose outputs match plain torch in float32.

    With precision 'auto' that is the fastest of every precision that the device computes in; int8 only with `ranges`,
    those of the checkpoint's calibration. On a CPU, what was measured is kept for the next start (`engines.choice`),
    which checks the outputs of that engine only. Raises UserError for a device that does not exist, an unknown engine
    or precision, or a requested one that can't run here or whose outputs differ, with what would be right.
    """
    torch_device = select_device(device)
    check_precision(precision, AUTO_OR_PRECISION, engine)
    engines = CUDA_ENGINES if torch_device.type == 'cuda' else CPU_ENGINES
    if engine != 'auto' and engine not in engines:
        raise UserError(f"engine is {engine!r}; on {torch_device} it must be 'auto' or one of {', '.join(engines)}")
    reference = TorchRuntime(model, torch_device)

    def prepared(name: str, each: Precision) -> Runtime:
        request = Request(model, torch_device, each, threads, tuple(ranges))
        return _prepare(name, engines[name], request, reference)

    if precision != 'auto' and engine != 'auto':
        try:
            return prepared(engine, precision)
        except (UserError, NotImplementedError) as error:
            raise UserError(f'engine is {engine!r}: {error}') from error
    candidates = [(name, each) for each in (PRECISIONS if precision == 'auto' else (precision,))
                  for name in ([n for n in engines if n not in BY_NAME] if engine == 'auto' else [engine])
                  if not (name == 'triton' and precision == 'auto' and each != 'bfloat16') and not (
                      name == 'torch' and (each == 'int8' or (  # not supported, or emulated
                      each == 'bfloat16' and precision == 'auto' and not computes_in_bfloat16(torch_device))))]
    measured_under = conditions(model, ranges, [f'{name} {each}' for name, each in candidates], threads)
    is_kept = torch_device.type == 'cpu' and len(candidates) > 1
    if is_kept and (runtime := _as_before(measured_under, candidates, prepared)):
        return runtime
    runtimes: list[Runtime] = []
    refusals: list[str] = []
    for name, each in candidates:
        try:
            runtimes.append(prepared(name, each))
        except Exception as error:  # any error of a library: plain torch still runs
            refusals.append(f'{name} is left out{f" in {each}" if precision == "auto" else ""}: {error}')
            # A missing precision that was not requested is not worth a warning.
            is_expected = precision == 'auto' and each != 'float32'
            log.log(logging.INFO if is_expected else logging.WARNING, 'engine %s', refusals[-1])
            # The next start warns again, and tries again what may have failed by chance.
            is_kept &= is_expected and isinstance(error, (UserError, NotImplementedError))
    if not runtimes:
        raise UserError(f'engine is {engine!r}, and none can run the checkpoint in precision {precision!r} here: '
                        + '; '.join(refusals))
    if len(runtimes) == 1:
        return runtimes[0]
    best, milliseconds, rounds = _fastest(runtimes, model)
    choice = Choice(measured_under, best.name, best.precision, datetime.date.today().isoformat(), rounds, milliseconds)
    log.info('engine chosen: %s', choice)
    if is_kept:
        keep_choice(choice)
    return best


def _as_before(measured_under: dict[str, str], candidates: Sequence[tuple[str, Precision]],
               prepared: Callable[[str, Precision], Runtime]) -> Runtime | None:
    """The runtime that an earlier start has measured to be the fastest, if it still matches; None: measure."""
    found = kept_choice(measured_under)
    if found is None:
        return None
    choice, path = found
    try:
        if (choice.engine, choice.precision) not in candidates:
            raise UserError(f'{path} has {choice.title}; must be one of '
                            f'{", ".join(f"{name} {each}" for name, each in candidates)}')
        runtime = prepared(choice.engine, choice.precision)
    except Exception as error:  # any error of a library
        log.warning('the choice of the engine is measured again: %s', error)
        return None
    log.info('engine chosen on %s: %s; from %s, delete it to measure again', choice.measured, choice, path)
    return runtime


def _prepare(name: str, prepare: Prepare, request: Request, reference: Runtime) -> Runtime:
    """The runtime if its outputs match those of `reference`; raises UserError otherwise."""
    if name == 'torch':
        return reference if request.precision == 'float32' else prepare(request)
    runtime = prepare(request)
    tolerance = TOLERANCE[request.precision]
    difference = _difference(runtime, reference, request.model)
    if not difference <= tolerance:
        raise UserError(f'its logits differ from those of plain torch by {difference:.2g} of the largest; must be at '
                        f"most {tolerance:g}: use engine 'torch'"
                        + ", or calibrate the checkpoint again, if its ranges of activations are another network's"
                        * (request.precision == 'int8'))
    return runtime


def check_images(model: ViTTactile) -> Tensor:
    """Three inputs, float32 (3, channels, h, w), on which engines must agree: noise, a smooth image and noise.

    Int8 differs more on smooth images, such as touches, than on noise.
    """
    images = torch.randn(3, model.config.channels, *model.config.image_size, generator=torch.Generator().manual_seed(0))
    coarse = torch.randn(1, model.config.channels, 3, 4, generator=torch.Generator().manual_seed(1))
    images[1] = 0.5 * F.interpolate(coarse, model.config.image_size, mode='bicubic')[0]
    return images


@torch.inference_mode()
def _difference(runtime: Runtime, reference: Runtime, model: ViTTactile) -> float:
    """Largest difference of the logits of any exit over the largest logit, for one image and for two, or of the
    probabilities if one of three images exits early.
    """
    images = check_images(model)
    worst = 0.0
    batches = [images[:2], images[1:2]]
    if model.config.token_threshold:  # every number of patches, together and alone
        touched = touched_images(model.config) + 0.1 * model.config.token_threshold * images[:1]
        batches += [touched, *touched.split(1)]
    for batch in batches:
        for got, wanted in zip(runtime.stages(batch), reference.stages(batch), strict=True):
            got, wanted = got.float().cpu(), wanted.float().cpu()
            relative = float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6))
            worst = max(worst, relative if relative == relative else float('inf'))
    if worst > TOLERANCE[runtime.precision]:
        return worst
    # An engine that decides itself may decide wrongly even if its stages are right.
    temperatures = (1.0,) * len(model.config.exits)
    tau = [_amid(exit_score(exit_probabilities(logits.float()))) for logits in reference.stages(images)][:-1]
    result = decide(runtime, images, tau, temperatures)
    expected = early_exit(reference.stages(images), tau, temperatures)
    same = result.exit_index.cpu() == expected.exit_index.cpu()  # one may have exited elsewhere by rounding
    off = (result.probabilities.float().cpu() - expected.probabilities.float().cpu())[same].abs()
    worst = max(worst, float(off.max()) if int(same.sum()) >= 2 and bool(off.isfinite().all()) else float('inf'))
    return worst


def _amid(confidences: Tensor) -> float:
    """The threshold in the widest gap between the confidences of an exit, (B,), so that rounding hardly matters.

    Half the lowest where they are all equal: any threshold between them would be decided by rounding.
    """
    ordered = confidences.sort().values
    if float(ordered[-1] - ordered[0]) < 1e-4:
        return float(ordered[0]) / 2
    place = int(ordered.diff().argmax())
    return float(ordered[place:place + 2].mean())


@torch.inference_mode()
def _fastest(runtimes: list[Runtime], model: ViTTactile) -> tuple[Runtime, dict[str, float], int]:
    """The runtime with the smallest median time of one image in full depth, from interleaved rounds.

    And all medians in ms, by engine and precision, and the number of rounds.
    """
    image = touched_images(model.config)[-1:]  # of which all patches are computed
    times: list[list[float]] = [[] for _ in runtimes]
    begun = time.perf_counter()
    for _ in range(1 + MEASURING_ROUNDS):  # the first round is for warm-up
        for runtime, taken in zip(runtimes, times, strict=True):
            time.sleep(REST)
            start = time.perf_counter()
            for logits in runtime.stages(image):
                logits.cpu()  # waits for a GPU
            taken.append(time.perf_counter() - start)
        if len(times[0]) > 1 and time.perf_counter() - begun > MEASURING_TIME * len(runtimes):
            break
    medians = [1e3 * statistics.median(taken[1:]) for taken in times]
    return (runtimes[medians.index(min(medians))], {f'{runtime.name} {runtime.precision}': median for runtime, median in
                                                    zip(runtimes, medians, strict=True)}, len(times[0]) - 1)
