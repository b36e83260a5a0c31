"""The labels of a bag's images as classes of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vit_tactile_ros.data.bags.labels import Labels
from vit_tactile_ros.evaluation.recordings.frame_table import UNLABELLED


class Label(NamedTuple):
    """The label of one frame."""

    label: int  # class, or UNLABELLED
    touch: str  # as in FrameTable


class Truth:
    """The labels of one bag, looked up frame by frame in the order of recording."""

    def __init__(self, labels: Labels, class_names: Sequence[str], name: str) -> None:
        """name: of the bag, for touches and messages."""
        self._labels = labels
        self._classes = {class_name: number for number, class_name in enumerate(class_names)}
        self._name = name
        self._unknown: set[str] = set()

    def of(self, sensor: str, received: int, stamp: Any) -> Label:
        """received: ns, the bag's clock; stamp: the header's, with sec and nanosec."""
        name, touch = self._labels.of(sensor, received, stamp)
        if name and name not in self._classes:
            self._unknown.add(name)
        elif name:
            return Label(self._classes[name], f'{self._name}/{sensor}/{touch}')
        return Label(UNLABELLED, '')

    def finish(self, is_whole: bool) -> None:
        """Record unused labels; is_whole: the whole bag was replayed."""
        self._labels.finish(is_whole)

    @property
    def problems(self) -> list[str]:
        """Problems of the labels so far."""
        unknown = [] if not self._unknown else [
            f'{self._name}: the checkpoint has no class called {", ".join(map(repr, sorted(self._unknown)))}; these '
            f'frames count as unlabelled. Its classes are {", ".join(self._classes)}']
        return [*self._labels.problems, *unknown]

    @property
    def used(self) -> frozenset[int]:
        """Lines of the label file that apply to an image."""
        return frozenset(self._labels.used)
