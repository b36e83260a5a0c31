"""Time of the network, compared with ViT-Tiny and softmax attention.

First checks that the outputs of every engine match plain torch, then times all of them in turns in one process. If
others use the machine too, only ratios within one run are meaningful. --accuracy measures what the precision costs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from vit_tactile_ros import flags
from vit_tactile_ros.evaluation.agreement import DisagreementError, check_agreement
from vit_tactile_ros.evaluation.benchmark import measurements, stream, tables
from vit_tactile_ros.evaluation.benchmark.baselines import Baseline, Network, baselines, networks_in_engine
from vit_tactile_ros.evaluation.benchmark.engine_accuracy import compare_accuracy, outputs_of_engines
from vit_tactile_ros.evaluation.benchmark.figure import benchmark_figure
from vit_tactile_ros.evaluation.benchmark.measurements import SIDES, Budget, Subject
from vit_tactile_ros.evaluation.benchmark.stream_subject import stream_subject
from vit_tactile_ros.evaluation.cache import cached_ranges
from vit_tactile_ros.evaluation.calibration import tau_shown
from vit_tactile_ros.evaluation.figures import save_figure
from vit_tactile_ros.evaluation.outputs import inputs_of
from vit_tactile_ros.evaluation.parts import EvaluationData, load_parts
from vit_tactile_ros.evaluation.touchbench.clips import contacts_of, find_clips
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import flag
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.foundation.files import check_folder_writable
from vit_tactile_ros.inference.engines.select import BY_NAME, CPU_ENGINES, CUDA_ENGINES, check_images, make_runtime
from vit_tactile_ros.inference.ranges import Range, activation_ranges
from vit_tactile_ros.inference.runtime import AUTO_OR_PRECISION, PRECISIONS, Precision, Runtime, select_device
from vit_tactile_ros.model import (
    Checkpoint,
    PreprocessingConfig,
    ViTTactile,
    create_vit_tactile,
    early_exit,
    load_checkpoint,
    shipped_checkpoint,
    thresholds,
)
from vit_tactile_ros.simulator import CLASS_NAMES

ENGINES = tuple(sorted({*CPU_ENGINES, *CUDA_ENGINES}))
BATCHES = (1, 2, 4, 8, 16, 32, 64)
EXAMPLES = (
    '--quick',
    '--batch_size 1 --skip_sizes --stream clips --contacts contacts.csv',
    '--batch_size 1 --checkpoint mine.safetensors --precision int8 --accuracy 1000',
)


@dataclass(frozen=True)
class BenchmarkRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    batch_size: int = flag(16, 'images that run at once; 1: one sensor')
    tau: tuple[float, ...] = flag((), "exit threshold, 0 to 1, one or one per early exit; default: the checkpoint's")
    checkpoint: Path | None = flag(None, flags.CHECKPOINT)
    random: bool = flag(False, 'an untrained network of create_vit_tactile(), 224x224; its predictions are random')
    image_size: tuple[int, int] | None = flag(
        None, "input size in px, multiples of the patch size; default: the checkpoint's", flags.HEIGHT_WIDTH)
    engines: tuple[str, ...] = flag((), f'engines to time: {", ".join(ENGINES)}; default: all that can run here; the '
                                        'fastest of them is measured in detail', 'ENGINE', choices=ENGINES)
    device: str = flag('auto', flags.DEVICE)
    precision: Precision | Literal['auto'] = flag(
        'float32', "number format of the engines; int8 needs a calibrated checkpoint; 'auto' tries all that can run "
                   'here, and measures in detail the fastest whose outputs match', choices=AUTO_OR_PRECISION)
    accuracy: int = flag(0, 'also measure the accuracy of the fastest engine, on N simulated touches or on at most N '
                            'images of the test split of --data, compared with plain torch in float32; 0: skip', 'N')
    threads: int = flag(1, 'CPU threads')
    seconds: float = flag(40.0, 'total seconds of the three measurements')
    rounds: int = flag(200, 'maximum number of rounds per measurement')
    quick: bool = flag(False, 'a rough measurement: 8 s of timing, without torch.compile')
    skip_sizes: bool = flag(False, 'do not measure other batch sizes and numbers of tokens')
    output: Path = flag(Path('runs/benchmark'), 'folder for benchmark.csv and benchmark.png')
    stream: Path | None = flag(None, 'a video, or a folder of videos, of touches: also measure every frame as in the '
                                     'node, with gate, dropped patches and exits', 'PATH')
    stream_seconds: float = flag(60.0, 'seconds of --stream; the clip in hand is completed')
    contacts: Path | None = flag(None, 'CSV of clip,first,last: the touched frames of --stream; default: the gate '
                                       'tells which frames are touched', 'CSV')
    data: EvaluationData = EvaluationData(size=128)

    def __post_init__(self) -> None:
        check_least(self, batch_size=1, threads=1, rounds=1, accuracy=0)
        for name in ('seconds', 'stream_seconds'):
            if not getattr(self, name) > 0:
                raise UserError(f'{name} is {getattr(self, name)}; must be above 0')
        if wrong := [tau for tau in self.tau if not 0 <= tau <= 1]:
            raise UserError(f'tau is {wrong[0]}; must be between 0 and 1')
        if self.random and self.checkpoint:
            raise UserError('random: not allowed with --checkpoint; give only one of them')
        if self.contacts and not self.stream:
            raise UserError('contacts: only allowed with --stream; give both')
        if self.random and self.stream:
            raise UserError('random: not allowed with --stream, which needs the exits of a trained network')

    @property
    def budget(self) -> Budget:
        return Budget(min(self.seconds, 8.0) if self.quick else self.seconds, self.rounds)


def parse_arguments(argv: list[str] | None = None) -> BenchmarkRequest:
    return flags.parse('benchmark', __doc__, EXAMPLES, BenchmarkRequest, argv)


def load_network(request: BenchmarkRequest) -> Checkpoint:
    """The checkpoint of the request, for its image size; raises UserError.

    For a size other than its own, the ranges of activations are removed.
    """
    if request.random:
        torch.manual_seed(0)
        checkpoint = Checkpoint(create_vit_tactile(len(CLASS_NAMES)).eval(), PreprocessingConfig(), CLASS_NAMES)
    else:
        checkpoint = load_checkpoint(request.checkpoint or shipped_checkpoint())
    if not request.image_size:
        return checkpoint
    size = (request.image_size[0], request.image_size[1])
    preprocessing = PreprocessingConfig(**(vars(checkpoint.preprocessing) | {'image_size': size}))
    calibration = dataclasses.replace(checkpoint.calibration, activation_ranges=())
    return Checkpoint(checkpoint.model.changed(image_size=size), preprocessing, checkpoint.class_names, calibration,
                      checkpoint.provenance)


def prepare_engines(request: BenchmarkRequest, model: ViTTactile, ranges: Sequence[Range]) -> dict[str, Runtime]:
    """The requested engines, or all; with precision auto, or if none is requested, only those that can run here.

    Raises UserError for a requested one that cannot run.
    """
    known = CUDA_ENGINES if select_device(request.device).type == 'cuda' else CPU_ENGINES
    asked = request.precision
    engines = {}
    for name in request.engines or [name for name in known if name not in BY_NAME]:
        for precision in PRECISIONS if asked == 'auto' else (asked,):
            title = f'{name} {precision}' if asked == 'auto' else name
            try:
                engines[title] = _make(request, model, name, precision, ranges)
            except (UserError, NotImplementedError) as error:
                if request.engines and asked != 'auto':
                    raise UserError(str(error)) from error
                print(f'benchmark: engine {title} is skipped: {error}', file=sys.stderr)
    if not engines:
        raise UserError(f'no engine can run here in precision {asked!r} (see above): choose another one')
    return engines


def _make(request: BenchmarkRequest, model: ViTTactile, engine: str, precision: Precision,
          ranges: Sequence[Range]) -> Runtime:
    return make_runtime(model, device=request.device, engine=engine, precision=precision, threads=request.threads,
                        ranges=ranges)


def _make_other(request: BenchmarkRequest, like: Runtime, other: ViTTactile, images: Tensor) -> Runtime:
    """The same engine and precision for a network of another size or attention, with its own ranges for int8."""
    ranges: tuple[Range, ...] = ()
    if like.precision == 'int8':
        fitted = F.interpolate(images[:2], other.config.image_size, mode='bilinear')
        ranges = activation_ranges(other, torch.cat([fitted, check_images(other)]).split(1))
    # The kernels of engine 'triton' have no exact softmax.
    engine = 'cuda_graph' if (like.name, other.config.attention) == ('triton', 'softmax') else like.name
    return _make(request, other, engine, like.precision, ranges)


def _agreeing(request: BenchmarkRequest, engines: dict[str, Runtime], reference: Runtime, images: Tensor,
              tau: Sequence[float], temperatures: Sequence[float]) -> dict[str, float]:
    """The differences of the engines whose outputs match plain torch; with one requested precision, all must match."""
    differences = {}
    for name, engine in engines.items():
        try:
            differences[name] = check_agreement(engine, reference, images, tau, temperatures, request.batch_size)
        except DisagreementError as error:
            if request.precision != 'auto' or engine.precision == 'float32':
                raise
            print(f'benchmark: engine {name} is skipped: {error}', file=sys.stderr)
    return differences


def measure_stream(request: BenchmarkRequest, checkpoint: Checkpoint, runtime: Runtime, ranges: Sequence[Range],
                   found: Sequence[Baseline], image: Tensor, tau: tuple[float, ...], console: Console,
                   built: Mapping[str, Network] | None) -> dict[str, Any]:
    """Measure and print the stream; `image` is one input, (1, channels, h, w), built as for `stream_subject`."""
    assert request.stream
    # At another size than the checkpoint's, its confidences mean nothing.
    own = load_checkpoint(request.checkpoint or shipped_checkpoint()) if request.image_size else None
    if own is not None and own.preprocessing.image_size == checkpoint.preprocessing.image_size:
        own = None
    subject, lines = stream_subject(checkpoint, own, runtime, ranges, tau, found, image, request.threads, built)
    contacts = contacts_of(request.contacts) if request.contacts else None
    measured = stream.measure_stream(subject, find_clips([request.stream]), contacts, request.stream_seconds,
                                     request.threads)
    result = stream.summary(measured, subject, lines)
    height, width = checkpoint.model.config.image_size
    tables.print_stream(console, result, f'stream, {height}x{width} px, {runtime.name} in {runtime.precision}, CPU '
                                         f'threads: {request.threads}, from image to class')
    return result


@command('benchmark')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    check_folder_writable(request.output)
    console = Console(width=None if sys.stdout.isatty() else 120)
    torch.set_num_threads(request.threads)
    cv2.setNumThreads(request.threads)  # otherwise OpenCV takes all cores, and waits for those that are taken
    result = run(request, load_network(request), console)
    print(json.dumps(result))
    return 0


def run(request: BenchmarkRequest, checkpoint: Checkpoint, console: Console) -> dict[str, Any]:
    """Check, measure, print and write; returns the JSON object of the last line."""
    model, size = checkpoint.model, request.batch_size
    exits = model.config.exits
    given = request.tau or (checkpoint.calibration.tau,)
    tau = given[0] if len(given) == 1 else given
    limits, temperatures = thresholds(tau, len(exits)), checkpoint.calibration.temperatures or (1.0,) * len(exits)
    timed = request.data.size
    parts = load_parts(dataclasses.replace(request.data, size=max(timed, request.accuracy)), checkpoint, 'test')
    part = parts['test']
    count = max(size, min(part.size, timed) // size * size)
    images = torch.from_numpy(inputs_of(part.frames, checkpoint.preprocessing, [i % part.size for i in range(count)]))
    data = part.description if count >= part.size else f'{count} of {part.description}'
    reference = make_runtime(model, device=request.device, engine='torch', threads=request.threads)
    ranges = checkpoint.calibration.activation_ranges
    if request.precision in ('int8', 'auto') and (request.random or request.image_size):
        ranges = cached_ranges(None, checkpoint, parts['validation'] if parts['validation'].size else part)
    engines = prepare_engines(request, model, ranges)
    differences = _agreeing(request, engines, reference, images, limits, temperatures)
    engines = {name: engines[name] for name in differences}
    console.print('engines agree with plain torch, largest difference of logits over the largest logit: '
                  + ', '.join(f'{name} {d:.1e}' for name, d in differences.items()), soft_wrap=True)
    batches = list(images.split(size))
    with torch.inference_mode():
        left = torch.cat([early_exit(reference.stages(b), limits, temperatures).exit_index.cpu() for b in batches])
    rates = [float((left == i).float().mean()) for i in range(len(exits))]
    main_engine = measurements.fastest(engines, batches[0])
    runtime = engines[main_engine]
    found, missing = baselines(model.config.image_size)
    networks, not_in_engine = networks_in_engine(found, batches[0], runtime, request.threads)
    for reason in (*missing, *not_in_engine):
        print(f'benchmark: {reason}', file=sys.stderr)
    tiny = found[0].name
    subject = Subject(model, engines, main_engine, batches, limits, temperatures,
                      lambda other: _make_other(request, runtime, other, images), found, networks)
    budget = request.budget
    times, operations = measurements.measure_batch(subject, budget, not request.quick, f'batch of {size}')
    sizes, sides = (() if request.skip_sizes else each for each in (BATCHES, (14, 28, 56) if request.quick else SIDES))
    over_batches = measurements.measure_batches(subject, sizes, budget, 'batch sizes')
    own, softmax = measurements.measure_tokens(subject, sides, budget, 'tokens')
    shares = measurements.matrix_share(times, operations, model, size)
    mixed = measurements.mixed_over_parts(times, len(exits))
    device = str(subject.runtime.device)
    if subject.runtime.device.type == 'cuda':
        device += f' ({torch.cuda.get_device_name(subject.runtime.device)})'
    where = (f'{device}, {request.threads} thread{"s" * (request.threads > 1)}, engine {runtime.name} in '
             f'{runtime.precision}')
    height, width = model.config.image_size
    console.print(f'early exits on {data} at tau {tau_shown(limits)}: '
                  + ', '.join(f'{r:.0%} at block {b}' for b, r in zip(exits, rates, strict=True)), soft_wrap=True)
    tables.print_batch(console, times, shares, exits, f'batch of {size}, {height}x{width} px, {where}', found,
                       tau_shown(limits), size, f'{runtime.name} {runtime.precision}')
    ratio, early_ratio = times['timm'].p50 / times['full'].p50, times['timm'].p50 / times['early'].mean
    accuracy = None
    if request.accuracy:
        judged = min(request.accuracy, part.size)
        # Of all patches, so that what dropping some costs is counted.
        whole = reference if not model.config.token_threshold else make_runtime(
            model.changed(token_threshold=0.0), device=request.device, engine='torch', threads=request.threads)
        ours, plain = outputs_of_engines((runtime, whole), part.frames, checkpoint, judged, size, 'accuracy')
        accuracy = compare_accuracy(ours, plain, limits, temperatures)
        tables.print_accuracy(console, accuracy, f'accuracy on {judged} touches, {runtime.name} in {runtime.precision}',
                              tau_shown(limits))
        console.print(f'over {tiny} in plain torch: full depth {ratio:.2f} times as fast, early exits '
                      f'(mean) {early_ratio:.2f} times, {accuracy["early"]["points_below_full"]:.2f} points '
                      'below the full depth in plain torch', soft_wrap=True)
    on_stream = measure_stream(request, checkpoint, runtime, ranges, found, images[:1], limits, console,
                               networks if size == 1 else None) if request.stream else None
    growth, gain = (own[3136].p50 / own[784].p50, softmax[3136].p50 / own[3136].p50) if own else (None, None)
    if mixed is not None:
        console.print(f'a batch of {size} with mixed exits takes {mixed:.2f} times the sum of its stages (half of the '
                      'images exit at each exit)', soft_wrap=True)
    if own:
        console.print(f'3136 over 784 tokens: {growth:.2f} times the time '
                      f'(softmax: {softmax[3136].p50 / softmax[784].p50:.2f}); '
                      f'softmax over ours at 3136: {gain:.2f}', soft_wrap=True)
    console.print('times depend on the load of this machine; if others use it too, only ratios within one run are '
                  'meaningful', soft_wrap=True)
    tables.write_csv(request.output / 'benchmark.csv', times, over_batches, own, softmax)
    written = 'benchmark.csv'
    if own:
        save_figure(benchmark_figure(own, softmax, over_batches, model.config.attention, where),
                    request.output / 'benchmark.png')
        written += ', benchmark.png'
    console.print(f'wrote {written} to {request.output}', soft_wrap=True)
    return {
        'device': device, 'threads': request.threads, 'engine': runtime.name, 'batch_size': size, 'tau': tau,
        'n': times['full'].n,
        'exit_ms': {str(b): 1e3 * times[f'exit {i}'].p50 for i, b in enumerate(exits)},
        'full_ms': {'p50': 1e3 * times['full'].p50, 'p99': 1e3 * times['full'].p99},
        'early_ms': {'mean': 1e3 * times['early'].mean, 'p50': 1e3 * times['early'].p50,
                     'p99': 1e3 * times['early'].p99},
        'speedup_percent': 100 * (times['full'].mean / times['early'].mean - 1),
        'timm_ms': {'p50': 1e3 * times['timm'].p50},
        'ratio_vs_timm': ratio,
        'extra': {
            'timm': tiny, 'image_size': list(model.config.image_size), 'precision': runtime.precision,
            'agreement': differences, 'data': data, 'exit_rates': rates,
            'early_ratio_vs_timm': early_ratio, 'accuracy': accuracy,
            **{f'{key.replace(" ", "_")}_ms': 1e3 * times[key].p50 for key in (
                'timm engine', 'cnn', 'cnn compiled', 'cnn engine') if key in times},
            'cnn': next((b.name for b in found if b.key == 'cnn'), None),
            'cpu_s_per_1000': {key: t.cpu_of(1000, size) for key, t in times.items() if not key.startswith('part ')},
            'stream': on_stream,
            'timm_compiled_ms': 1e3 * times['timm compiled'].p50 if 'timm compiled' in times else None,
            'softmax_ms': 1e3 * times['softmax'].p50, 'matrix_share': {str(b): s for b, s in shares.items()},
            'matrix_gflops': 2e-9 * operations / times['matrix'].p50, 'mixed_over_parts': mixed,
            'growth_3136_over_784': growth, 'softmax_over_own_3136': gain,
            'batches_ms': {str(b): 1e3 * t.p50 for b, t in over_batches.items()},
            'tokens_ms': {str(b): 1e3 * t.p50 for b, t in own.items()},
            'tokens_softmax_ms': {str(b): 1e3 * t.p50 for b, t in softmax.items()}, 'torch': torch.__version__}}


if __name__ == '__main__':
    sys.exit(main())
