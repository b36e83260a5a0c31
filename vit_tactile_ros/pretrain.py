"""Pre-train on recordings without labels: the network learns which images show the same touch.

Start `train` or `cross_validate` from the result with --init, and measure its frozen features with `touchbench
--checkpoint`. The checkpoint has no classes. Give recordings of your own sensor: videos, bags, folders of images; only
images that show a touch are used. Ctrl-C and SIGTERM finish the current step and save the state (exit status 130 or
143); started again with the same --output, the run resumes, as with `train`.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vit_tactile_ros import flags
from vit_tactile_ros.data.augment_config import Augmentation
from vit_tactile_ros.data.simulated import Task
from vit_tactile_ros.data.source import SIMULATOR, DataSource
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.data.unlabelled import Numbered, Recordings, read_recordings
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import HIDDEN, REQUIRED, flag
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.model import UNLABELLED, ModelConfig, PreprocessingConfig, Provenance
from vit_tactile_ros.training.batches import resized, shuffled
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.datasets import (
    TrainingData,
    TrainingSource,
    choose_augmentation,
    choose_preprocessing,
    prepare_data,
)
from vit_tactile_ros.training.distributed import Processes, from_first
from vit_tactile_ros.training.initialise import Start, start_from_all, start_told
from vit_tactile_ros.training.loop import fit
from vit_tactile_ros.training.run import Examples, Machine, Recipe, RunOutput
from vit_tactile_ros.training.start_run import run_folder, run_training
from vit_tactile_ros.training.stopping import Stop
from vit_tactile_ros.training.views import DescribingViT, TwoViews, pairs

logger = logging.getLogger('vit_tactile_ros.pretrain')  # also when it is __main__
EXAMPLES = (
    '--data recordings --init shipped --epochs 10 --output runs/pre',
    '--data a.mp4 b.mcap presses --topic /left/image_raw --every 2 --output runs/pre',
)
# They are about labels, or have no effect here.
FLAGS = {name: HIDDEN for name in (
    'balance', 'distillation', 'teacher', 'distillation_temperature', 'label_smoothing', 'freeze', 'exit_gradient',
    'queries', 'added_exits', 'token_threshold')} | {name: flags.SHARED['TrainingRequest'][name] for name in (
        'output', 'device', 'workers', 'use_wandb')} | {name: flags.SHARED['TrainingSource'][name] for name in (
            'task', 'rendered', 'distinct')}


@dataclass(frozen=True)
class PretrainRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    data: tuple[str, ...] = flag(REQUIRED, "videos, bags, folders of images, or folders of these; 'simulator' for "
                                           'simulated touches', 'PATH')
    output: Path | None = None  # None: a folder named after the time
    reach: int = flag(5, 'the second image of a touch is at most this many used images before or after the first; 0: '
                         'the same image')
    touched: float = flag(4.0, 'only images in which at least three patches differ from the reference by more than '
                               'this many grey levels are used, 0 to below 128', 'LEVELS')
    config: TrainingConfig = TrainingConfig(epochs=10, lr=5e-4)
    augmentation: Augmentation = Augmentation()
    start: Start = Start()
    every: int = flag(5, 'use each image whose number is a multiple of this: neighbouring ones are nearly identical')
    topic: str = flag('', "image topic of bags; default: each bag's only one")
    reference_image: Path | None = flag(None, 'image without contact for all recordings; default: reference.png in the '
                                              'folder of the images or above it, or the mean of the first 5 images '
                                              'of each recording', 'IMAGE')
    validation: float = flag(0.1, 'share of the recordings that only validate, 0 to 1', 'SHARE')
    epoch_size: int | None = flag(None, 'examples in an epoch; default: all images, or '
                                        f'{TrainingSource.DEFAULTS["epoch_size"]} simulated touches')
    task: Task = 'shapes'
    rendered: Path | None = None
    distinct: int | None = None
    validation_size: int | None = flag(None, 'simulated touches for validation; default: '
                                             f'{TrainingSource.DEFAULTS["validation_size"]}')
    device: str = 'auto'
    workers: int = 1
    use_wandb: bool = False

    def __post_init__(self) -> None:
        check_least(self, workers=0, every=1, epoch_size=2, reach=0)
        if not 0 <= self.touched < 128:
            raise UserError(f'touched is {self.touched}; must be from 0 to below 128 grey levels')
        if SIMULATOR in self.data and len(self.data) > 1:
            raise UserError(f'data is {" ".join(self.data)}; must be recordings, or {SIMULATOR} alone')
        if odd := [path for path in self.data if path.startswith('-')]:
            raise UserError(f'data is {odd[0]}; must be ./{odd[0]}, so that it is not read as a flag')
        if not 0 <= self.validation < 1:
            raise UserError(f'validation is {self.validation}; must be from 0 to below 1')
        if self.task == 'states':
            raise UserError('task is states, which shows motion; must be another one')
        if self.task == 'shapes_small':
            raise UserError('task is shapes_small, whose small contacts are shown enlarged, which pretrain does not '
                            'do; must be another one')
        if not self.is_simulated:
            self.simulated(DataSource(self.data[0]))  # refuses what is for simulated touches
        if not self.start.init:  # otherwise the checkpoint determines the number of exits
            self.config.weights(len(self.start.exits or ModelConfig().exits))

    @property
    def is_simulated(self) -> bool:
        return self.data == (SIMULATOR,)

    def simulated(self, source: DataSource) -> TrainingSource:
        return TrainingSource(source, epoch_size=self.epoch_size, validation_size=self.validation_size, task=self.task,
                              rendered=self.rendered, distinct=self.distinct)


def parse_arguments(argv: list[str] | None = None) -> PretrainRequest:
    return flags.parse('pretrain', __doc__, EXAMPLES, PretrainRequest, argv, FLAGS)


@command('pretrain', tell=logger.error)
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    return run_training('pretrain', request.device, partial(_pretrain, request))


def _pretrain(request: PretrainRequest, processes: Processes, device: torch.device, stop: Stop) -> int:
    config, start = request.config, request.start
    output = run_folder(request.output, request.use_wandb, processes)
    checkpoints = start.load()
    architecture = dataclasses.replace(start.architecture(checkpoints, len(UNLABELLED)), token_threshold=0.0,
                                       added_exits=False)
    config.weights(len(architecture.exits))
    preprocessing = choose_preprocessing(None, architecture.image_size, 'difference',
                                         checkpoints[0] if checkpoints else None)
    if preprocessing.motion_interval:
        raise UserError(f'init is {start.origin}, whose input has motion; must be a network of single images')
    source = DataSource() if request.is_simulated else DataSource(request.data[0])
    recipe = Recipe(preprocessing, config, choose_augmentation(request.augmentation, source))
    objective = TwoViews(recipe.augment, config.batch_size, config.seed)
    data = _data(request, preprocessing, processes.first)

    torch.manual_seed(config.seed)
    model = DescribingViT(architecture)
    if checkpoints:
        drawn = start_from_all(model, checkpoints, UNLABELLED)
        logger.info('%s', start_told(checkpoints, start.origin, architecture, UNLABELLED,
                                     [part for part in drawn if not part.startswith(('head', 'the heads'))]))
    output = from_first(output, processes)  # another process may have started in another second
    logger.info('%s; writes to %s', data.description, output)
    settings = data.settings | {'init': start.origin, 'touched': request.touched, 'reach': request.reach}
    provenance = Provenance(flags.command_of('pretrain', request, flags=FLAGS), data.description)
    fit(model, Examples(data.train, data.validation, data.order), recipe,
        Machine(device, request.workers, processes),
        RunOutput(output, UNLABELLED, settings, provenance, request.use_wandb), stop=stop, objective=objective)
    if processes.first:
        written = output / 'checkpoint.safetensors'
        print(f'pretrain: wrote {written}')
        print('pretrain: next, train on labels from these weights: python -m vit_tactile_ros.train --data touches '
              f'--init {written}')
    return 0


def _data(request: PretrainRequest, preprocessing: PreprocessingConfig, progress: bool) -> TrainingData:
    config = request.config
    groups: NDArray[np.int64]
    if request.is_simulated:
        data = prepare_data(None, request.simulated(DataSource()), preprocessing, config, request.workers,
                            progress=progress)
        assert data.validation is not None
        data = dataclasses.replace(data, train=Numbered(data.train), validation=Numbered(data.validation))
        groups, reach = np.arange(len(data.train)), 0  # type: ignore[arg-type]
    else:
        paths = tuple(Path(path) for path in request.data)
        found = read_recordings(Recordings(paths, request.touched, request.every, request.topic,
                                           request.reference_image), preprocessing, progress)
        train, validation = found.parts(request.validation, config.seed)
        groups, reach = found.groups[train.indices], request.reach
        if len(set(groups)) < 2:
            raise DataError(f'{" ".join(request.data)}: 1 of {len(set(found.groups))} recordings with a touch is for '
                            'training; must be at least 2, since touches are told from those of other recordings: give '
                            'more recordings, or lower --validation')
        size = request.epoch_size
        order = shuffled(len(train), config.seed)
        data = TrainingData(
            train, validation if len(validation) else None, lambda: None, resized(order, size) if size else order,
            f'{" ".join(request.data)}: {len(train)} images with a touch for training, {len(validation)} for '
            f'validation, of {len(set(found.groups))} recordings',
            {'data': ' '.join(request.data), 'every': request.every, 'validation': request.validation,
             'epoch_size': size, 'images': f'{len(found)}, {found.digest}'})
    assert data.order is not None
    return dataclasses.replace(data, order=pairs(data.order, groups, reach, config.seed))


if __name__ == '__main__':
    sys.exit(main())
