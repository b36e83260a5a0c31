"""What runs on the stream of the benchmark: the checkpoint with and without dropped patches, and the baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from vit_tactile_ros.evaluation.benchmark.baselines import Baseline, Network, networks_in_engine
from vit_tactile_ros.evaluation.benchmark.stream import Subject
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.ranges import Range
from vit_tactile_ros.inference.runtime import Runtime
from vit_tactile_ros.model import Checkpoint


def stream_subject(checkpoint: Checkpoint, own: Checkpoint | None, like: Runtime, ranges: Sequence[Range],
                   tau: tuple[float, ...], found: Sequence[Baseline], image: Tensor, threads: int,
                   built: Mapping[str, Network] | None = None) -> tuple[Subject, list[str]]:
    """The subject, warmed up, in the engine and precision of `like`, and the names of the lines of the baselines.

    own: the checkpoint at its own image size, if that is another one: it decides the exits. image: one input,
    (1, channels, h, w). built: the baselines by their key, as `networks_in_engine` made them for one image.
    """
    device = str(like.device)

    def classifier(threshold: float) -> TactileClassifier:
        model = checkpoint.model.changed(token_threshold=threshold)
        calibration = dataclasses.replace(checkpoint.calibration, activation_ranges=tuple(ranges))
        made = TactileClassifier(dataclasses.replace(checkpoint, model=model, calibration=calibration), device,
                                 like.precision, threads, like.name)
        made.warm_up()
        return made

    threshold = checkpoint.model.config.token_threshold
    fast = networks_in_engine(found, image, like, threads)[0] if built is None else built
    lines: dict[str, Network] = {f'{b.name}, {like.name} in {like.precision}': fast[b.key] for b in found
                                 if b.key in fast}
    lines[f'{found[0].name}, plain torch'] = found[0].model
    forced = None if own is None else TactileClassifier(own, device, 'float32', threads, like.name)
    return Subject(classifier(0.0), classifier(threshold) if threshold else None, tau, lines, forced), list(lines)
