"""Simulated touches as a torch dataset: an example is a function of the seed and its index, in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vit_tactile_ros.data.picture_generator import picture_generator
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.inference.closer import look_closer
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import (
    CLASS_NAMES,
    IMPRINT_NAMES,
    STATE_NAMES,
    UNKNOWN,
    SensorConfig,
    draw_small,
    sample_example,
    sample_imprint_example,
    sample_small_example,
    sample_state_example,
)
from vit_tactile_ros.simulator.generated import ContactNotShown, GeneratedUnit, generated_config

Task = Literal['shapes', 'shapes_small', 'shapes_wide', 'indenters', 'states', 'imprints']
TASKS: dict[Task, tuple[str, ...]] = {
    'shapes': (*CLASS_NAMES, UNKNOWN), 'shapes_small': (*CLASS_NAMES, UNKNOWN),
    'shapes_wide': (*CLASS_NAMES, UNKNOWN), 'indenters': CLASS_NAMES, 'states': STATE_NAMES,
    'imprints': IMPRINT_NAMES}
# Of the simulated shapes. In use a sensor is untouched most of the time; a network that was trained with all classes
# equally often (1 in 10) took drift and noise of real sensors for contact.
UNTOUCHED_SHARE = 0.5
IMPRINT_UNTOUCHED_SHARE = 0.1  # of the task imprints, which is there to compare networks on touches
UNKNOWN_SHARE = 0.25  # of the simulated touches of the task shapes
SMALL_SHARE = 0.25  # of the touches of the task shapes_small; more than half of them are enlarged within the tries
SMALL_TRIES = 4
GENERATED_TASKS = ('shapes', 'shapes_wide', 'indenters')
GENERATED_TRIES = 4  # contacts of a class, until the generator shows one
STATE_INTERVAL = 0.08  # s between the two images that show a state; Sparsh looks back as far


def draw_shape(rng: np.random.Generator, task: Task = 'shapes') -> str:
    """The class of the next simulated touch of a single image."""
    if task == 'imprints':
        return str(rng.choice(IMPRINT_NAMES[1:])) if rng.random() >= IMPRINT_UNTOUCHED_SHARE else IMPRINT_NAMES[0]
    if rng.random() < UNTOUCHED_SHARE:
        return CLASS_NAMES[0]
    if task != 'indenters' and rng.random() < UNKNOWN_SHARE:
        return UNKNOWN
    # wide, balls are drawn twice as often as the other indenters, since their sizes differ most
    return str(rng.choice(('sphere', *CLASS_NAMES[1:]) if task == 'shapes_wide' else CLASS_NAMES[1:]))


def sensor_key(config: SensorConfig) -> str:
    """A name of a sensor that changes with its properties."""
    return f'{config.name} {hashlib.sha256(repr(config).encode()).hexdigest()[:12]}'


class SimulatedTouches(Dataset[tuple[Tensor, Tensor, int]]):
    """`size` examples (frame, reference, label): uint8 (h, w, 3), fitted, twice, and the class index.

    Classes are those of the task in `TASKS`: which shape or object touches, or whether the contact is held, moves or
    slips. States are equally frequent. Of the shapes, the share UNTOUCHED_SHARE has no contact; of the others,
    UNKNOWN_SHARE is unknown (not of the task 'indenters') and the rest equally frequent, but for balls of the task
    'shapes_wide', twice as frequent, from smaller ones on, and on more different sensors (`sample_example`). Of the
    task 'shapes_small', examples are those of 'shapes', to the bit, but for up to SMALL_SHARE of the touches: these are
    small contacts, drawn up to SMALL_TRIES times until one is shown enlarged (`sample_small_example`). Of the imprints,
    IMPRINT_UNTOUCHED_SHARE has no contact, and the rest is equally frequent. With motion, the frame is (h, w, 6) or
    more, with earlier images; only states move. The reference is zeros if the preprocessing does not use one, as in
    `frames.TouchFrames`.
    `sensors`: those that touches are drawn from; default: all of the package. `generated`: the share of the examples
    whose images the generator of `data.picture_generator` draws, instead of the simulator; UserError from an example if
    it is not installed.
    """

    def __init__(self, size: int, preprocessing: PreprocessingConfig, seed: int = 0,
                 sensors: Sequence[SensorConfig] | None = None, task: Task = 'shapes',
                 generated: float = 0.0) -> None:
        """Raises DataError for motion with a task other than 'states', for small contacts without `zoom_below`, and for
        generated images of another task.
        """
        if preprocessing.motion_interval and task != 'states':
            raise DataError('the simulated shapes are single images, and the input of this network '
                            'has motion: give labelled touches with --data, or train with --task states')
        if task == 'shapes_small' and not preprocessing.zoom_below:
            raise DataError('the task shapes_small shows small contacts enlarged, and the input of this network is '
                            'always the whole image: give --zoom_below 0.05, or train with --task shapes')
        if generated and task not in GENERATED_TASKS:
            raise DataError(f'generated is {generated:g}, which is for the tasks {", ".join(GENERATED_TASKS)}, and the '
                            f'task is {task}')
        if size < 1:
            raise ValueError(f'size is {size}; must be at least 1')
        if sensors is not None and not sensors:
            raise ValueError('sensors is empty; name at least one, or none for all of the package')
        self.size = size
        self.preprocessing = preprocessing
        self.seed = seed
        self.sensors = sensors
        self.task = task
        self.generated = generated

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if not 0 <= index < self.size:
            raise IndexError(f'index is {index}; must be 0 to {self.size - 1}')
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self.seed, index))
        if self.task != 'states':
            name = draw_shape(rng, self.task)
            if self.task == 'shapes_small' and name != CLASS_NAMES[0] and (small := self._small(index)):
                return small
            image, reference, class_id = (
                sample_imprint_example(rng, name, self.sensors) if self.task == 'imprints' else
                self._shape(rng, name, index))
            frame = torch.from_numpy(fit(image, self.preprocessing))
        else:
            interval = self.preprocessing.motion_interval
            image, previous, reference, class_id = sample_state_example(
                rng, interval or STATE_INTERVAL, sensors=self.sensors, views=self.preprocessing.motion_views)
            views = (image, *previous) if interval else (image,)
            frame = torch.cat([torch.from_numpy(fit(view, self.preprocessing)) for view in views], dim=2)
        if self.preprocessing.reference == 'none':
            return frame, torch.zeros_like(frame[..., :3]), class_id
        still = fit(reference, self.preprocessing)
        return self._enlarged(image, frame, still, class_id) or (frame, torch.from_numpy(still), class_id)

    def _small(self, index: int) -> tuple[Tensor, Tensor, int] | None:
        """The example in place of the touch with this index if it is a small contact; None: it stays as it is."""
        rng = np.random.default_rng((self.seed, index, 1))  # so that the others stay those of the task shapes
        if rng.random() >= SMALL_SHARE:
            return None
        name = draw_small(rng)
        for _ in range(SMALL_TRIES):
            image, reference, class_id = sample_small_example(rng, name, self.sensors)
            frame, still = torch.from_numpy(fit(image, self.preprocessing)), fit(reference, self.preprocessing)
            if enlarged := self._enlarged(image, frame, still, class_id):
                return enlarged
        return None

    def _enlarged(self, image: NDArray[np.uint8], frame: Tensor, still: NDArray[np.uint8], class_id: int,
                  ) -> tuple[Tensor, Tensor, int] | None:
        closer = look_closer(image, frame[..., :3].numpy(), still, self.preprocessing)
        return closer and (torch.from_numpy(closer.image), torch.from_numpy(closer.reference), class_id)

    def _shape(self, rng: np.random.Generator, name: str, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        """An example of the class, of the simulator or the generator; of the simulator if the generator shows none."""
        wide = self.task == 'shapes_wide'
        if self.generated and np.random.default_rng((self.seed, index, 1)).random() < self.generated:
            make_unit = partial(GeneratedUnit, generator=picture_generator())
            for _ in range(GENERATED_TRIES):
                try:
                    return sample_example(rng, sensors=[generated_config()], class_name=name, wide=wide,
                                          make_unit=make_unit)
                except ContactNotShown:
                    pass
        return sample_example(rng, sensors=self.sensors, class_name=name, wide=wide)
