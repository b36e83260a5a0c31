"""Train the early-exit ViT on labelled touches, or on simulated ones.

Ctrl-C and SIGTERM finish the current step and save the state (exit status 130 or 143); a second Ctrl-C stops at once.
Started again with the same --output, a stopped run resumes and gives the same result as if it had not been stopped; a
run that was killed resumes from its last complete epoch.
On several GPUs: `torchrun --nproc_per_node 4 -m vit_tactile_ros.train ...`; --batch_size is the sum over all of them.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

import torch

from vit_tactile_ros import flags
from vit_tactile_ros.data.source import read_table
from vit_tactile_ros.evaluation.outputs import collect_outputs
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.model import GREY_SHARE, Provenance, ViTTactile
from vit_tactile_ros.training.datasets import (
    TrainingData,
    choose_augmentation,
    choose_preprocessing,
    class_names_of,
    prepare_data,
)
from vit_tactile_ros.training.distributed import Processes, from_first
from vit_tactile_ros.training.initialise import check_frozen, heads_are_new, start_from_all, start_told
from vit_tactile_ros.training.loop import Stopped, fit
from vit_tactile_ros.training.request import TrainingRequest
from vit_tactile_ros.training.run import Examples, Machine, Recipe, RunOutput
from vit_tactile_ros.training.start_run import run_folder, run_training
from vit_tactile_ros.training.stopping import Stop

logger = logging.getLogger('vit_tactile_ros.train')  # also when it is __main__
EXAMPLES = (
    '--epochs 20 --output runs/simulated',
    '--data touches --init shipped --epochs 20 --lr 3e-4 --output runs/mine --evaluate',
    '--data labels.csv --label roughness --group object --output runs/roughness',
)


def parse_arguments(argv: list[str] | None = None) -> TrainingRequest:
    return flags.parse('train', __doc__, EXAMPLES, TrainingRequest, argv)


@command('train', tell=logger.error)
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    return run_training('train', request.device, partial(_train, request))


def _train(request: TrainingRequest, processes: Processes, device: torch.device, stop: Stop) -> int:
    config, start, source = request.config, request.start, request.data.source
    output = run_folder(request.output, request.use_wandb, processes)

    table = read_table(source)
    class_names = class_names_of(table, request.data.task)
    checkpoints = start.load()
    architecture = start.architecture(checkpoints, len(class_names))
    config.weights(len(architecture.exits))
    preprocessing = choose_preprocessing(table, architecture.image_size, request.data.input,
                                         checkpoints[0] if checkpoints else None, source.control,
                                         request.data.motion, request.data.default_motion,
                                         request.data.motion_views, request.data.zoom_below)
    architecture = start.for_inputs(architecture, preprocessing)
    check_frozen(config.freeze, checkpoints, start.origin, architecture)
    config = config.for_heads(heads_are_new(checkpoints, class_names), architecture.depth)
    recipe = Recipe(preprocessing, config, choose_augmentation(request.augmentation, source))
    machine = Machine(device, request.workers, processes)
    data = prepare_data(table, request.data, preprocessing, config, request.workers, request.evaluate, processes.first)

    torch.manual_seed(config.seed)
    model = ViTTactile(architecture)
    if checkpoints:
        drawn = start_from_all(model, checkpoints, class_names)
        logger.info('%s', start_told(checkpoints, start.origin, architecture, class_names, drawn))
    output = from_first(output, processes)  # another process may have started in another second
    logger.info('%s; writes to %s', data.description, output)
    provenance = Provenance(flags.command_of('train', request), data.description, training_part=data.training_part,
                            metrics={GREY_SHARE: data.grey_share} if data.grey_share else {})
    average = fit(model, Examples(data.train, data.validation, data.order), recipe, machine,
                  RunOutput(output, class_names, data.settings | {'init': start.origin}, provenance,
                            request.use_wandb), stop=stop)
    if not processes.first:
        return 0
    written = output / 'checkpoint.safetensors'
    if request.evaluate:
        try:
            stop.check()
            _evaluate(average, data, recipe, machine, class_names)
        except KeyboardInterrupt:
            raise Stopped(f'training is complete and {written} is whole, but --evaluate was not finished') from None
    print(f'train: wrote {written}')
    _tell_next(request, data, written)
    return 0


def _tell_next(request: TrainingRequest, data: TrainingData, written: Path) -> None:
    """Print the command that calibrates the checkpoint on the validation part, if the part is large enough."""
    from vit_tactile_ros.evaluation.calibration import LEAST_SAMPLES  # scikit-learn takes seconds to load

    source = request.data.source
    samples = 0 if data.validation is None else len(data.validation)  # type: ignore[arg-type]
    if source.is_simulated and request.data.sensors:
        return  # calibrate has no flag for sensors
    if not source.is_simulated and samples < LEAST_SAMPLES:
        print(f'train: not calibrated: there are {samples} validation images, and calibrate needs at least '
              f'{LEAST_SAMPLES}')
        return
    suggested = flags.command_of('calibrate', source, request.data.split, first=['--checkpoint', str(written)])
    print(f'train: next, fit confidences and thresholds to the validation data: {suggested}')


def _evaluate(model: ViTTactile, data: TrainingData, recipe: Recipe, machine: Machine, class_names: tuple[str, ...],
              ) -> None:
    """Print the accuracy per exit on the test images."""
    from vit_tactile_ros.evaluation.metrics import balanced_accuracy  # scikit-learn takes seconds to load

    test = data.make_test()
    if test is None:
        logger.warning('--evaluate: the data has no test images')
    else:
        outputs = collect_outputs(model, test, recipe.preprocessing, machine.device, recipe.config.batch_size, 'test',
                                  class_names=class_names, workers=machine.workers)
        print(f'{len(outputs)} test images')
        print('exit after block  accuracy  balanced accuracy')
        for block, right, predicted in zip(outputs.exits, outputs.right, outputs.logits.argmax(axis=2), strict=True):
            balanced = balanced_accuracy(outputs.labels, predicted)
            print(f'{block:16d}  {right.mean():8.4f}  {balanced:17.4f}')


if __name__ == '__main__':
    sys.exit(main())
