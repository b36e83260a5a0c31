"""What a training command's --data becomes: examples to train on, to validate on and to test on."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vit_tactile_ros.data.arguments import (
    SIMULATOR,
    add_split_arguments,
    add_table_arguments,
    check_split_arguments,
    read_parts,
    split_table,
)
from vit_tactile_ros.data.augment import AUGMENTATIONS, AugmentConfig
from vit_tactile_ros.data.frames import Frames, grey_shares
from vit_tactile_ros.data.rendered import RenderedTouches
from vit_tactile_ros.data.simulated import SimulatedTouches, sensor_key
from vit_tactile_ros.data.table import Source
from vit_tactile_ros.data.touches import DataError, TouchTable
from vit_tactile_ros.data.training_part import digest, training_part
from vit_tactile_ros.model import Checkpoint, PreprocessingConfig
from vit_tactile_ros.simulator import CLASS_NAMES, SensorFileError, load_sensor
from vit_tactile_ros.training.batches import Order, balanced, consecutive, resized, shuffled
from vit_tactile_ros.training.inputs import strengthened

logger = logging.getLogger(__name__)

# Keep simulated validation and test examples apart from every training seed.
VALIDATION_SEED_OFFSET = 1_000_000
TEST_SEED_OFFSET = 2_000_000


@dataclass(frozen=True)
class TrainingData:
    """Examples by part, with the order of the training examples and a description for people."""

    train: Frames
    validation: Frames | None
    make_test: Callable[[], Frames | None]  # only made when it is asked for
    order: Order | None  # None: all of them, as the config says
    description: str
    settings: dict[str, Any]  # what must not change when a run goes on
    training_part: dict[str, str] = field(default_factory=dict)  # for the provenance
    grey_share: float = 0.0  # of the training images


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    add_table_arguments(parser)
    add_split_arguments(parser)
    group = parser.add_argument_group('what is trained on')
    group.add_argument('--input', choices=('auto', 'difference', 'frame'), default='auto',
                       help='what the network sees: difference to the reference, or the frame; '
                            'auto: the difference where every image has a reference')
    group.add_argument('--epoch_size', type=int, default=None,
                       help='examples in an epoch; by default all images, or 6400 simulated ones')
    group.add_argument('--validation_size', type=int, default=None,
                       help='simulated examples for validation; by default 1000')
    group.add_argument('--rendered', type=Path, default=None, metavar='FOLDER',
                       help='keep simulated touches there once they are rendered, for later epochs and runs')
    group.add_argument('--distinct', type=int, default=None,
                       help='different simulated touches to train on, over and over, with --rendered; by default all '
                            'epochs bring new ones')
    group.add_argument('--sensors', nargs='+', default=None, metavar='NAME|FILE',
                       help='sensors that simulated touches are drawn from, .json files among them; by default all of '
                            'the package')


def check_data_arguments(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.data == SIMULATOR:
        arguments.epoch_size = 6400 if arguments.epoch_size is None else arguments.epoch_size
        arguments.validation_size = 1000 if arguments.validation_size is None else arguments.validation_size
    elif arguments.validation_size is not None:
        parser.error(f'--validation_size {arguments.validation_size} is for simulated touches; --validation says which '
                     'share of the images is for validation')
    for name in ('rendered', 'distinct'):
        if getattr(arguments, name) is not None and arguments.data != SIMULATOR:
            parser.error(f'--{name} {getattr(arguments, name)} is for simulated touches; leave out --data')
    if arguments.distinct is not None and arguments.rendered is None:
        parser.error(f'--distinct {arguments.distinct} goes with --rendered FOLDER, which keeps them')
    if arguments.sensors and arguments.data != SIMULATOR:
        parser.error(f'--sensors {" ".join(arguments.sensors)} is for simulated touches; leave out --data')
    try:
        arguments.sensor_configs = [load_sensor(name) for name in arguments.sensors] if arguments.sensors else None
    except SensorFileError as error:
        parser.error(f'--sensors: {error}')
    for name in ('epoch_size', 'validation_size', 'distinct'):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            parser.error(f'--{name} is {getattr(arguments, name)}; must be at least 1')
    check_split_arguments(parser, arguments)


def class_names_of(table: TouchTable | None) -> tuple[str, ...]:
    return CLASS_NAMES if table is None else table.class_names


def choose_preprocessing(table: TouchTable | None, image_size: tuple[int, int], asked: str,
                         checkpoint: Checkpoint | None, control: str = 'none') -> PreprocessingConfig:
    """Differences to the reference where there is one for every image, unless `asked` says what to take; logs which.

    The control 'reference' leaves no difference, so it takes frames. A checkpoint to start from keeps its
    preprocessing, but for the image size, where the kind of input is the same. Raises DataError for touches of which
    only some have a reference, and for 'auto' with a checkpoint of the other kind of input.
    """
    difference = _takes_difference(table, asked, control)
    same = checkpoint is not None and (checkpoint.preprocessing.reference == 'difference') == difference
    if checkpoint and not same and asked == 'auto':
        kinds = {True: 'differences to the reference', False: 'frames'}
        remedy = '--input difference to change to these' if difference else '--input frame to change to these'
        if difference:
            remedy += ', or --input frame'
        elif control != 'reference':
            remedy += ', or a reference for every image (--reference_image)'
        raise DataError(f'--init names a network that looks at {kinds[not difference]}, and this data would be shown '
                        f'as {kinds[difference]}: give {remedy}')
    logger.info('input: %s', 'the difference of each image to its reference' if difference else
                'the references, as frames' if control == 'reference' else 'the frames, without a reference')
    if checkpoint and same:
        return dataclasses.replace(checkpoint.preprocessing, image_size=image_size)
    # Differences of a gel's frames are small: a std of 0.1 brings them to the scale that the network starts with.
    return PreprocessingConfig(image_size=image_size, reference='difference' if difference else 'none',
                               orientation='match', crop='center', std=(0.1,) * 3 if difference else (0.5,) * 3)


def _takes_difference(table: TouchTable | None, asked: str, control: str) -> bool:
    if control == 'reference':
        if asked == 'difference':
            raise DataError('--input difference: with --control reference the reference stands in for the image, and '
                            'nothing would be left of the difference; leave --input out')
        return False
    if table is None or asked == 'frame':
        return asked != 'frame'
    missing = [touch.image for touch in table.touches if touch.reference is None]
    if asked == 'auto' and len(missing) == len(table):
        return False
    if missing:
        raise DataError(f'{table.origin}: {len(missing)} of {len(table)} images have no reference, the first is '
                        f'{missing[0]}; give --reference_image, a picture without contact for these, or --input frame '
                        'to do without references')
    return True


def choose_augmentation(kind: str, data: str, strength: float = 1.0) -> AugmentConfig:
    """The variation called `kind`; 'auto' is 'gel' for images, 'simulated' for simulated touches."""
    if kind == 'auto':
        kind = 'simulated' if data == SIMULATOR else 'gel'
    return strengthened(AUGMENTATIONS[kind](), strength)


def prepare_data(table: TouchTable | None, arguments: argparse.Namespace, preprocessing: PreprocessingConfig,
                 progress: bool = True) -> TrainingData:
    """Split and read what `read_table` found; raises `data.touches.DataError` for what is wrong with it.

    Of the arguments it takes those of `add_data_arguments` and epochs, seed, balance and workers.
    """
    seed = arguments.seed
    if table is None:
        if arguments.balance:
            logger.warning('--balance has no effect: the simulator makes all classes equally often')
        sensors = arguments.sensor_configs
        validation = SimulatedTouches(arguments.validation_size, preprocessing, seed + VALIDATION_SEED_OFFSET, sensors)
        description = 'simulated touches' + (f' of {", ".join(c.name for c in sensors)}' if sensors else '')
        touches = SimulatedTouches(arguments.distinct or arguments.epochs * arguments.epoch_size, preprocessing,
                                   seed, sensors)
        order: Order | None = consecutive(arguments.epoch_size)
        if arguments.distinct:
            order = resized(shuffled(arguments.distinct, seed), arguments.epoch_size)
        return TrainingData(
            train=RenderedTouches(touches, arguments.rendered) if arguments.rendered else touches,
            validation=_HeldInMemory(validation, arguments.workers, 'validation examples', progress),
            make_test=lambda: SimulatedTouches(arguments.validation_size, preprocessing, seed + TEST_SEED_OFFSET,
                                               sensors),
            order=order, description=description,
            settings={'data': SIMULATOR, 'epoch_size': arguments.epoch_size, 'distinct': arguments.distinct,
                      'validation_size': arguments.validation_size,
                      # None, as in the states of runs that could not choose
                      'sensors': sensors and [sensor_key(c) for c in sensors]})
    split = split_table(arguments, table)
    parts = table.subset(split.train), table.subset(split.validation), table.subset(split.test)
    order = None
    if arguments.epoch_size is not None:
        labels = parts[0].labels
        order = resized(balanced(labels, seed) if arguments.balance else shuffled(len(labels), seed),
                        arguments.epoch_size)
    # The test images too, which are looked at when days of training are over: a broken one is found now.
    train, held_back, test = read_parts(arguments, parts, preprocessing,
                                        (True, True, getattr(arguments, 'evaluate', False)))
    assert train is not None
    return TrainingData(
        train=train, validation=held_back, make_test=lambda: test,
        order=order,
        description=f'{table.origin}: {len(parts[0])} training, {len(parts[1])} validation and {len(parts[2])} test '
                    f'images of {len(table.class_names)} classes{_groups_told(parts)}',
        settings=data_settings(arguments, parts[0]), training_part=training_part(arguments, table, parts[0]),
        grey_share=_note_grey(train))


def _note_grey(train: Frames) -> float:
    """The share of grey training images; logs it where it is not 0."""
    images, references = grey_shares(train)
    if images == 1:
        logger.info('the training images are grey, so the network will expect grey images')
    elif images:
        logger.warning('about %.0f %% of the training images are grey and the others are not: were they all recorded '
                       'with the same camera settings?', 100 * images)
    if references is not None and round(images) != round(references):
        logger.warning('the training images are %s and their references are %s: a difference of the two shows colour '
                       'instead of touch', *(('colour', 'grey') if references > images else ('grey', 'colour')))
    return images


def _groups_told(parts: Sequence[TouchTable]) -> str:
    """The groups of each part, of which a figure's worth depends more than on the images."""
    if not parts[0].has_groups:
        return ''
    return f' (of {", ".join(str(len(set(part.groups))) for part in parts)} groups)'


def data_settings(arguments: argparse.Namespace, train: TouchTable) -> dict[str, Any]:
    """What says which real images a run trains on and how they are shown."""
    averaged = max((t.reference.mean_of for t in train.touches if isinstance(t.reference, Source)), default=1)
    return {'data': str(arguments.data), 'control': arguments.control,
            'references': f'mean of {averaged} images' if averaged > 1 else '',
            'border': arguments.border if arguments.control == 'border' else None, 'epoch_size': arguments.epoch_size,
            'images': f'{len(train)} for training, {digest(train)}'}


class _HeldInMemory(Dataset[tuple[Tensor, Tensor, int]]):
    """Examples made once, when first asked for: a validation set is gone through in every epoch."""

    def __init__(self, frames: SimulatedTouches, workers: int, name: str, progress: bool) -> None:
        self._frames = frames
        self._workers = workers
        self._name = name
        self._progress = progress
        self._examples: list[tuple[Tensor, Tensor, int]] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if self._examples is None:
            loader = DataLoader(self._frames, batch_size=None, num_workers=self._workers)
            bar = tqdm(loader, desc=self._name, leave=False, mininterval=1.0,
                       disable=None if self._progress else True)
            self._examples = [(frame.clone(), reference.clone(), int(label)) for frame, reference, label in bar]
        return self._examples[index]
