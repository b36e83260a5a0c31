"""Time of early exit, image by image as in the live node, and of the full depth measured at the same time."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import exit_probabilities


@dataclass(frozen=True)
class Timing:
    """Times of one image, s."""

    full: float  # mean over the images at full depth
    early: tuple[float, ...]  # the same per thresholds, in their order
    exits: tuple[float, ...]  # median of an image that is forced to exit at each exit
    images: int
    rounds: int

    def speed_up(self, index: int) -> float:
        """Full depth's time over that with early exits, minus 1."""
        return self.full / self.early[index] - 1.0


def spread_sample(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """`count` indices spread evenly over the sorted scores of the first exit.

    At every threshold, about the same share of this sample exits as of all samples.
    """
    order = np.argsort(scores, kind='stable')
    places = (np.arange(min(count, len(order))) + 0.5) * len(order) / min(count, len(order))
    return order[places.astype(int)]


@torch.inference_mode()
def measure_times(classifier: TactileClassifier, inputs: NDArray[np.float32], taus: Sequence[tuple[float, ...]],
                  rounds: int = 3, progress: str = '') -> Timing:
    """Run every image, float32 (n, 3, h, w), alone at every tau and up to every exit; an image's time is its median.

    For each image, the taus and exits are run in random order, so that load on the machine affects all of them alike.
    """
    num_exits = len(classifier.exits)
    rng = np.random.default_rng(0)
    classifier.warm_up((1,), rounds=5)
    times = np.zeros((len(taus) + num_exits, len(inputs), rounds))
    bar = tqdm(total=rounds * len(inputs), desc=progress, unit='image', leave=False,
               disable=not progress or not sys.stderr.isatty())
    with bar:
        for turn in range(rounds):
            for image in range(len(inputs)):
                one = inputs[image:image + 1]
                for way in rng.permutation(len(times)):
                    start = time.perf_counter()
                    if way < len(taus):
                        classifier.classify_inputs(one, taus[way])
                    else:
                        _exit_at(classifier, one, int(way) - len(taus))
                    times[way, image, turn] = time.perf_counter() - start
                bar.update()
    of_image = np.median(times, axis=2)
    means = of_image.mean(axis=1)
    return Timing(float(means[-1]), tuple(float(m) for m in means[:len(taus)]),
                  tuple(float(m) for m in np.median(of_image[len(taus):], axis=1)), len(inputs), rounds)


def _exit_at(classifier: TactileClassifier, one: NDArray[np.float32], exit_index: int) -> None:
    """Run up to an exit and compute its probabilities, without evaluating the confidence at earlier exits."""
    stages = classifier.runtime.stages(torch.from_numpy(one))
    for _ in range(exit_index + 1):
        logits = next(stages)
    stages.close()
    exit_probabilities(logits, classifier.temperatures[exit_index]).cpu().numpy()
