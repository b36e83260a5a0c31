"""The data of a training run: from its settings to examples for training, validation and test."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vit_tactile_ros.data.augment_config import AUGMENTATIONS, Augmentation, AugmentConfig
from vit_tactile_ros.data.frames import Frames, grey_shares
from vit_tactile_ros.data.picture_generator import generator_file
from vit_tactile_ros.data.rendered import RenderedTouches
from vit_tactile_ros.data.simulated import STATE_INTERVAL, TASKS, SimulatedTouches, Task, sensor_key
from vit_tactile_ros.data.source import SIMULATOR, DataSource, SplitSettings, read_all, read_frames, split_table
from vit_tactile_ros.data.table import Source
from vit_tactile_ros.data.touches import DataError, TouchTable
from vit_tactile_ros.data.training_part import digest, training_part
from vit_tactile_ros.foundation.errors import UserError, check_least
from vit_tactile_ros.model import Checkpoint, PreprocessingConfig
from vit_tactile_ros.model.config import check_motion
from vit_tactile_ros.simulator import SensorConfig, SensorFileError, load_sensor
from vit_tactile_ros.training.batches import Order, balanced, consecutive, resized, shuffled
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.inputs import strengthened

logger = logging.getLogger(__name__)

# Keep simulated validation and test examples apart from every training seed.
VALIDATION_SEED_OFFSET = 1_000_000
TEST_SEED_OFFSET = 2_000_000


InputKind = Literal['auto', 'difference', 'frame']


@dataclass(frozen=True)
class TrainingSource:
    """The data of a training run and how the network sees it; raises UserError naming the field that is wrong."""

    DEFAULTS: ClassVar[dict[str, int]] = {'epoch_size': 6400, 'validation_size': 1000}  # simulated touches

    source: DataSource = DataSource()
    split: SplitSettings = SplitSettings()
    input: InputKind = 'auto'
    motion: float | None = None  # s; None: that of the checkpoint to start from, or none
    motion_views: int | None = None  # None: those of the checkpoint to start from, or one
    zoom_below: float | None = None  # None: that of the checkpoint to start from, or 0
    epoch_size: int | None = None  # None: all images, or the default number of simulated touches
    validation_size: int | None = None  # simulated touches
    task: Task = 'shapes'  # of simulated touches
    rendered: Path | None = None
    distinct: int | None = None
    generated: float = 0.0  # share of the simulated touches
    sensors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_least(self, epoch_size=1, validation_size=1, distinct=1)
        if not self.source.is_simulated:
            if self.validation_size is not None:
                raise UserError(f'validation_size is {self.validation_size}, which is for simulated touches; '
                                '--validation sets the share of the images for validation')
            for name in ('task', 'rendered', 'distinct', 'generated', 'sensors'):
                if (value := getattr(self, name)) != 'shapes' and value:
                    value = ' '.join(value) if isinstance(value, tuple) else value
                    raise UserError(f'{name} is {value}, which is for simulated touches; remove it or --data')
        if self.distinct is not None and self.rendered is None:
            raise UserError(f'distinct is {self.distinct}, which needs --rendered FOLDER to store the touches')
        if not 0 <= self.generated <= 1:
            raise UserError(f'generated is {self.generated:g}; must be a share from 0 to 1')
        if self.generated and self.rendered is None:
            raise UserError(f'generated is {self.generated:g}, which needs --rendered FOLDER to store the images: each '
                            'takes a large part of a second')
        check_motion('motion', self.motion or 0.0, self.motion_views)
        try:
            self.sensor_configs()
        except SensorFileError as error:
            raise UserError(f'sensors: {error}') from error

    @property
    def default_motion(self) -> float:
        """s, where neither the user nor the checkpoint to start from says: a state is seen in how the contact moves."""
        return STATE_INTERVAL if self.task == 'states' else 0.0

    def sensor_configs(self) -> list[SensorConfig] | None:
        """The sensors that simulated touches are drawn from; None: all of the package."""
        return [load_sensor(name) for name in self.sensors] or None


@dataclass(frozen=True)
class TrainingData:
    """Examples by part, with the order of the training examples and a description for messages."""

    train: Frames
    validation: Frames | None
    make_test: Callable[[], Frames | None]  # made only when needed
    order: Order | None  # None: all of them, as the config says
    description: str
    settings: dict[str, Any]  # what must match for a run to resume
    training_part: dict[str, str] = field(default_factory=dict)  # for the provenance
    grey_share: float = 0.0  # of the training images


def class_names_of(table: TouchTable | None, task: Task) -> tuple[str, ...]:
    return TASKS[task] if table is None else table.class_names


def choose_preprocessing(table: TouchTable | None, image_size: tuple[int, int], asked: InputKind,
                         checkpoint: Checkpoint | None, control: str = 'none', motion: float | None = None,
                         default_motion: float = 0.0, motion_views: int | None = None,
                         zoom_below: float | None = None) -> PreprocessingConfig:
    """Differences to the reference if every image has one, unless `asked` names the input; logs the choice.

    The control 'reference' uses frames, because the difference would be zero. A checkpoint to start from keeps its
    preprocessing, except for the image size, if the kind of input is the same; its motion in any case, unless `motion`
    or `motion_views` is given. Where neither names one it is `default_motion`. Its `zoom_below` is kept unless that is
    given, or the input has motion or no reference. Raises DataError for touches of which only some have a reference,
    and for 'auto' with a checkpoint of the other kind of input.
    """
    difference = _takes_difference(table, asked, control)
    same = checkpoint is not None and (checkpoint.preprocessing.reference == 'difference') == difference
    if checkpoint and not same and asked == 'auto':
        kinds = {True: 'differences to the reference', False: 'images without a reference'}
        remedy = f'--input {"difference" if difference else "frame"} to train on these'
        if difference:
            remedy += ', or --input frame'
        elif control != 'reference':
            remedy += (', or a reference for every image: reference.png in the data folder, a reference column, or '
                       '--reference_image')
        raise DataError(f'--init names a network whose input is {kinds[not difference]}, but this data gives '
                        f'{kinds[difference]}: give {remedy}')
    logger.info('input: %s', 'difference of each image to its reference' if difference else
                'references, as frames' if control == 'reference' else 'frames, without a reference')
    if motion is None:
        motion = (checkpoint.preprocessing.motion_interval if checkpoint else 0.0) or default_motion
    if not motion and (motion_views or 1) > 1:
        raise UserError(f'motion_views is {motion_views}, and this network has no motion: give --motion 0.08, or leave '
                        'it out')
    if not motion:
        motion_views = 1
    elif motion_views is None:
        motion_views = checkpoint.preprocessing.motion_views if checkpoint else 1
    if motion:
        times = ', '.join(f'{motion * 2**view:g}' for view in range(motion_views))
        logger.info('motion: difference of each image to the one %s s before', times)
    if zoom_below is None:  # a checkpoint's is left out where it can't be used
        zoom_below = checkpoint.preprocessing.zoom_below if checkpoint and difference and not motion else 0.0
    if checkpoint and same:
        return dataclasses.replace(checkpoint.preprocessing, image_size=image_size, motion_interval=motion,
                                   motion_views=motion_views, zoom_below=zoom_below)
    # Differences between frames of a gel are small: a std of 0.1 scales them to what the initial weights expect.
    return PreprocessingConfig(image_size=image_size, reference='difference' if difference else 'none',
                               orientation='match', crop='center', std=(0.1,) * 3 if difference else (0.5,) * 3,
                               motion_interval=motion, motion_views=motion_views, zoom_below=zoom_below)


def _takes_difference(table: TouchTable | None, asked: InputKind, control: str) -> bool:
    if control == 'reference':
        if asked == 'difference':
            raise DataError('--input difference with --control reference: the reference replaces the image, so the '
                            'difference would be zero; remove --input')
        return False
    if table is None or asked == 'frame':
        return asked != 'frame'
    missing = [touch.image for touch in table.touches if touch.reference is None]
    if asked == 'auto' and len(missing) == len(table):
        return False
    if missing:
        raise DataError(f'{table.origin}: {len(missing)} of {len(table)} images have no reference, the first is '
                        f'{missing[0]}; give --reference_image, an image without contact for these, or --input frame '
                        'to train without references')
    return True


def choose_augmentation(augmentation: Augmentation, source: DataSource) -> AugmentConfig:
    """The augmentation that is asked for; 'auto' is 'gel' for images, 'simulated' for simulated touches."""
    kind = augmentation.augment
    if kind == 'auto':
        kind = 'simulated' if source.is_simulated else 'gel'
    return strengthened(AUGMENTATIONS[kind](), augmentation.augment_strength)


def prepare_data(table: TouchTable | None, data: TrainingSource, preprocessing: PreprocessingConfig,
                 config: TrainingConfig, workers: int = 0, keep_test: bool = False, progress: bool = True,
                 ) -> TrainingData:
    """Split and read the table of `read_table`; raises `data.touches.DataError` for mistakes in it.

    keep_test: keep the test images in memory for an evaluation after training.
    """
    seed = config.seed
    if table is None:
        return _simulated(data, preprocessing, config, workers, progress)
    split = split_table(data.split, table)
    parts = table.subset(split.train), table.subset(split.validation), table.subset(split.test)
    order = None
    if data.epoch_size is not None:
        labels = parts[0].labels
        order = resized(balanced(labels, seed) if config.balance else shuffled(len(labels), seed), data.epoch_size)
    # Test images too: a broken one is found now, not after days of training.
    train, held_back, test = read_all(
        [partial(read_frames, data.source, part, preprocessing, keep) if len(part) else lambda: None
         for part, keep in zip(parts, (True, True, keep_test), strict=True)], sum(map(len, parts)))
    assert train is not None
    return TrainingData(
        train=train, validation=held_back, make_test=lambda: test, order=order,
        description=f'{table.origin}: {len(parts[0])} training, {len(parts[1])} validation and {len(parts[2])} test '
                    f'images of {len(table.class_names)} classes{_groups_told(parts)}',
        settings=data_settings(data.source, data.epoch_size, parts[0]),
        training_part=training_part(data.source, data.split.values(), table, parts[0]), grey_share=_note_grey(train))


def _simulated(data: TrainingSource, preprocessing: PreprocessingConfig, config: TrainingConfig, workers: int,
               progress: bool) -> TrainingData:
    seed, sensors = config.seed, data.sensor_configs()
    epoch_size = data.epoch_size or data.DEFAULTS['epoch_size']
    validation_size = data.validation_size or data.DEFAULTS['validation_size']
    if config.balance:
        logger.warning('--balance has no effect: the simulator chooses the share of each class')
    if data.generated:
        generator_file()  # now, not in the first step
    touches = SimulatedTouches(data.distinct or config.epochs * epoch_size, preprocessing, seed, sensors, data.task,
                               data.generated)
    validation = SimulatedTouches(validation_size, preprocessing, seed + VALIDATION_SEED_OFFSET, sensors, data.task)
    order = consecutive(epoch_size)
    if data.distinct:
        order = resized(shuffled(data.distinct, seed), epoch_size)
    return TrainingData(
        train=RenderedTouches(touches, data.rendered) if data.rendered else touches,
        validation=_HeldInMemory(validation, workers, 'validation examples', progress),
        make_test=lambda: SimulatedTouches(validation_size, preprocessing, seed + TEST_SEED_OFFSET, sensors, data.task),
        order=order, description=f'simulated {"states" if data.task == "states" else "touches"}'
                                 + (f' of {", ".join(c.name for c in sensors)}' if sensors else ''),
        settings={'data': SIMULATOR, 'epoch_size': epoch_size, 'distinct': data.distinct,
                  'validation_size': validation_size,
                  # None, as in the states of runs from before there was a choice
                  'sensors': sensors and [sensor_key(c) for c in sensors],
                  **({'generated': data.generated} if data.generated else {}),
                  # As before there were tasks, whose classes differ.
                  **({'task': data.task} if data.task in ('states', 'shapes_small', 'shapes_wide') else {})})


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
    """The number of groups in each part: a result depends on it more than on the number of images."""
    if not parts[0].has_groups:
        return ''
    return f' (of {", ".join(str(len(set(part.groups))) for part in parts)} groups)'


def data_settings(source: DataSource, epoch_size: int | None, train: TouchTable) -> dict[str, Any]:
    """What must match for a run to resume: which real images it trains on and how the network sees them."""
    averaged = max((t.reference.mean_of for t in train.touches if isinstance(t.reference, Source)), default=1)
    return {'data': source.data, 'control': source.control,
            'references': f'mean of {averaged} images' if averaged > 1 else '',
            'border': source.border if source.control == 'border' else None, 'epoch_size': epoch_size,
            'images': f'{len(train)} for training, {digest(train)}'}


class _HeldInMemory(Dataset[tuple[Tensor, Tensor, int]]):
    """Examples made once, at the first access: every epoch uses the whole validation set."""

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
