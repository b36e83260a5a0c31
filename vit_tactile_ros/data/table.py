"""The table of labelled touches of a folder, a CSV or a bag, before any image is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.foundation.errors import UserError

PARTS = ('train', 'validation', 'test')
# Names that folders and split columns give to the parts.
_PART_NAMES = {'train': 'train', 'training': 'train', 'val': 'validation', 'valid': 'validation',
               'validation': 'validation', 'dev': 'validation', 'test': 'test', 'testing': 'test'}


class DataError(UserError):
    """A mistake in the data of a user; the message has what is wrong, where, and what would be right."""


class UnreadableImages(DataError):
    """Images that cannot be read: all of them, so that they can be repaired together."""

    def __init__(self, origin: str, errors: Sequence[UserError], total: int) -> None:
        self.origin = origin
        self.errors = tuple(errors)
        told = '; '.join(map(str, self.errors[:3]))
        if len(self.errors) > 1:
            more = len(self.errors) - 3
            told = (f'{origin}: {len(self.errors)} of {total} images cannot be read: {told}'
                    + (f'; and {more} more' if more > 0 else ''))
        super().__init__(told)


@dataclass(frozen=True)
class Source:
    """The place of one image: a file, or a message of a bag."""

    path: Path
    topic: str = ''  # of the bag; '' is a file
    stamp: int = 0  # ns, when the bag recorded the message
    mean_of: int = 1  # a reference that averages this many images of the topic, starting with that one
    motion_interval: float = 0.0  # s; above 0: an image that `inference.motion` gives for that message,
    motion_view: int = 0  # 2**view intervals before it

    def __str__(self) -> str:
        mean = f' (mean of {self.mean_of})' if self.mean_of > 1 else ''
        before = f' (image {self.motion_interval * 2**self.motion_view:g} s before)' if self.motion_interval else ''
        return f'{self.path} {self.topic} at {self.stamp} ns{mean}{before}' if self.topic else str(self.path)


@dataclass(frozen=True)
class Touch:
    """One labelled frame."""

    image: Source
    reference: Source | None  # the no-contact frame
    label: int  # index into the table's class_names
    group: str = ''  # object, recording or press: frames of one group are never split apart; '' is unknown
    split: str = ''  # 'train', 'validation', 'test' if the data names the split; '' if not
    previous: Source | None = None  # the image that motion is the difference to; not needed for messages of bags


@dataclass(frozen=True)
class TouchTable:
    """Labelled touches of one origin."""

    class_names: tuple[str, ...]
    touches: tuple[Touch, ...]
    origin: str  # what the user gave, for messages

    def __len__(self) -> int:
        return len(self.touches)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of every touch, (n,)."""
        return np.array([touch.label for touch in self.touches], np.int64)

    @property
    def groups(self) -> list[str]:
        return [touch.group for touch in self.touches]

    @property
    def has_groups(self) -> bool:
        return any(touch.group for touch in self.touches)

    @property
    def has_splits(self) -> bool:
        return any(touch.split for touch in self.touches)

    def subset(self, indices: Iterable[int]) -> TouchTable:
        """The touches at `indices`, in that order; the class names stay, also those that no longer occur."""
        return dataclasses.replace(self, touches=tuple(self.touches[int(index)] for index in indices))


@dataclass(frozen=True)
class NamedTouch:
    """A touch as a reader found it, with its label still a name."""

    image: Source
    reference: Source | None
    label: str
    group: str = ''
    split: str = ''
    previous: Source | None = None


def build_table(found: Sequence[NamedTouch], origin: str, class_names: Sequence[str] | None = None) -> TouchTable:
    """The table of what a reader found.

    class_names: the classes and their order, as a checkpoint gives them; without, the labels that occur in
    alphabetical (whole numbers: numerical) order. Raises DataError for no touches, labels that are not among
    class_names, a single class (unless class_names says that there are more), and touches of which some have a group or
    a split and others none.
    """
    if not found:
        raise DataError(f'{origin}: no labelled images')
    labels = {touch.label for touch in found}
    if class_names is None:
        names = tuple(sorted(labels, key=int if all(label.isdecimal() for label in labels) else None))
        if len(names) < 2:
            raise DataError(f'{origin}: all {len(found)} images are of the class {names[0]!r}; '
                            'a classifier needs at least two classes')
    else:
        names = tuple(class_names)
        if unknown := sorted(labels - set(names)):
            raise DataError(f'{origin}: label {unknown[0]!r} of {next(t.image for t in found if t.label == unknown[0])}'
                            f' is not one of the classes {", ".join(names)}')
    for what in ('group', 'split'):
        empty = [touch for touch in found if not getattr(touch, what)]
        if empty and len(empty) < len(found):
            raise DataError(f'{origin}: {len(empty)} of {len(found)} images have no {what}, among them '
                            f'{empty[0].image}; give all of them one, or none')
    index = {name: i for i, name in enumerate(names)}
    return TouchTable(names, tuple(Touch(t.image, t.reference, index[t.label], t.group, t.split, t.previous)
                                   for t in found), origin)


def previous_of(table: TouchTable, motion_interval: float, motion_views: int = 1) -> list[tuple[Source, ...]]:
    """The earlier images of each touch, none without motion; raises DataError if one is not known."""
    if not motion_interval:
        return [()] * len(table)
    previous: list[tuple[Source, ...]] = []
    missing = []
    for touch in table.touches:
        if touch.image.topic:
            previous.append(tuple(dataclasses.replace(touch.image, motion_interval=motion_interval, motion_view=view)
                                  for view in range(motion_views)))
        elif touch.previous is None:
            missing.append(touch.image)
        else:
            previous.append((touch.previous,))
    if missing:
        raise DataError(
            f'{table.origin}: {len(missing)} of {len(table)} images have no previous image, among them '
            f'{missing[0]}, and the input of this network has the motion since '
            f'{motion_interval:g} s before. Give a bag, whose stamps tell which it is, or a CSV with the column '
            'previous (the path of that image; the image itself where nothing had moved), or use a network without '
            'motion')
    if any(len(sources) != motion_views for sources in previous):
        raise DataError(f'{table.origin}: its images name one earlier image, and the input of this network has '
                        f'{motion_views}: give a bag, whose stamps tell which they are, or train with --motion_views 1')
    return previous


def part_of(name: str, splits: Mapping[str, Sequence[str]] | None = None) -> str | None:
    """The part that a folder or an entry of a split column names; None if it does not name one.

    splits: for each of 'train', 'validation', 'test' the names that mean it, instead of the usual ones (train,
    training, val, valid, validation, dev, test, testing, in any case). ValueError for another key.
    """
    if splits is None:
        return _PART_NAMES.get(name.strip().lower())
    if unknown := sorted(set(splits) - set(PARTS)):
        raise ValueError(f'splits names the split {unknown[0]!r}; must be one of {", ".join(PARTS)}')
    return next((part for part, names in splits.items() if name.strip() in names), None)


def parse_splits(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`splits` from a command line: ['test=test_pose,test_regrasp', 'train=train'].

    Raises DataError for anything else.
    """
    splits: dict[str, tuple[str, ...]] = {}
    for text in texts:
        part, equals, names = text.partition('=')
        part_name = _PART_NAMES.get(part.strip().lower())
        values = tuple(name.strip() for name in names.split(',') if name.strip())
        if not equals or part_name is None or not values:
            raise DataError(f'split {text!r} must be one of {", ".join(PARTS)}, =, and names of the split column: '
                            'test=test_pose,test_regrasp')
        splits[part_name] = splits.get(part_name, ()) + values
    return splits
