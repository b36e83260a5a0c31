"""Exits of replayed frames that may exit below tau with the class of their touch, as the live node decides them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vit_tactile_ros.inference.classifier import gate_probabilities
from vit_tactile_ros.inference.gate import GATE_EXIT_INDEX
from vit_tactile_ros.inference.touch_events import TouchTracker
from vit_tactile_ros.model import Hurry, early_exit
from vit_tactile_ros.model.early_exit import Stages


class SettledExits:
    """Follows the touches of one sensor, frame by frame, by the logits of all exits."""

    def __init__(self, class_names: Sequence[str], tau: Sequence[float], temperatures: Sequence[float]) -> None:
        self._names, self._tau, self._temperatures = class_names, tuple(tau), temperatures
        self._tracker = TouchTracker(class_names, len(temperatures))
        self._last: tuple[int, NDArray[np.float32]] | None = None  # exit and probabilities of the last frame

    def hurry(self, stamp: int) -> Hurry | None:
        """With which the frame at this stamp, ns, runs live."""
        expected = self._tracker.expected_class(stamp)
        return None if expected is None else Hurry(self._tau, expected=(expected,))

    def exit_of(self, stamp: int, logits: NDArray[np.float32], is_gated: bool, is_unchanged: bool) -> int:
        """The exit index of the next frame; logits: (E, C). is_unchanged: it repeats the result of the last one."""
        shows_class = not is_unchanged
        if is_gated:
            self._last = GATE_EXIT_INDEX, gate_probabilities(self._names)
        elif not is_unchanged or self._last is None:
            result = early_exit(_stages(logits), self._tau, self._temperatures, self.hurry(stamp))
            exit_index = int(result.exit_index)
            score = float(result.confidences[0, exit_index])
            shows_class = exit_index == len(self._tau) or bool(score >= np.float32(self._tau[exit_index]))
            self._last = exit_index, result.probabilities[0].numpy()
        exit_index, probabilities = self._last
        self._tracker.update(stamp, probabilities, exit_index, shows_class=shows_class)
        return exit_index


def _stages(logits: NDArray[np.float32]) -> Stages:
    for of_exit in logits:
        yield torch.from_numpy(of_exit[None])
