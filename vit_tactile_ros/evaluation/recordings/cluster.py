"""Replays bags on several machines with Ray: one task per bag; bags of a lost worker are run again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vit_tactile_ros.evaluation.recordings.replaying import Replayed, ReplaySettings, replay
from vit_tactile_ros.foundation.errors import MissingPackageError, UserError
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.runtime import Precision
from vit_tactile_ros.model import load_checkpoint

RETRIES = 5  # of a bag whose worker is lost


def replay_on_cluster(bags: Sequence[Path], names: Sequence[str], checkpoint: Path, device: str, threads: int,
                      settings: ReplaySettings, address: str, progress: Callable[[int], Any] = lambda images: None,
                      ) -> list[Replayed | str]:
    """For each bag its result, or an error message.

    `address`: of a running cluster ('auto': the one that this machine belongs to); '' starts Ray on this machine. Every
    machine needs this package, and the bags and the checkpoint under the same paths.
    Raises UserError if Ray is not installed or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError("--ray needs Ray, which is an optional extra: pip install 'vit_tactile_ros[cluster]' "
                                  'or pip install ray') from error
    try:
        ray.init(address=address or None, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f'no Ray cluster at {address or "this machine"}: {error}') from error
    try:
        # Workers of an existing cluster run in another folder.
        settings = replace(settings, reference_files=tuple((sensor, str(Path(file).absolute()))
                                                     for sensor, file in settings.reference_files))
        # Without max_calls=1, which would import torch again for each bag: a worker keeps its classifier.
        task = ray.remote(num_cpus=max(1, threads), num_gpus=1 if device.startswith('cuda') else 0,
                          max_retries=RETRIES)(_replay_one)
        references = [task.remote(bag.absolute(), name, checkpoint.absolute(), device, max(1, threads), settings)
                      for bag, name in zip(bags, names, strict=True)]
        waiting = list(references)
        while waiting:
            done, waiting = ray.wait(waiting)
            for reference in done:
                result = _result(ray, reference, '')
                progress(result.images if isinstance(result, Replayed) else 0)
        return [_result(ray, reference, str(bag)) for reference, bag in zip(references, bags, strict=True)]
    finally:
        ray.shutdown()


def _result(ray: Any, reference: Any, bag: str) -> Replayed | str:
    try:
        result: Replayed | str = ray.get(reference)
        return result
    except ray.exceptions.RayError as error:  # for instance after RETRIES lost workers
        return f'{bag}: not replayed: {type(error).__name__}: {str(error).splitlines()[0]}'


def _replay_one(bag: Path, name: str, checkpoint: Path, device: str, threads: int, settings: ReplaySettings,
                ) -> Replayed | str:
    try:
        return replay(bag, name, _classifier(checkpoint, device, threads, settings.engine, settings.precision),
                      settings)
    except (UserError, OSError) as error:
        return str(error)


_CLASSIFIERS: dict[tuple[Path, str, int, str, Precision], TactileClassifier] = {}  # of this worker


def _classifier(checkpoint: Path, device: str, threads: int, engine: str, precision: Precision) -> TactileClassifier:
    key = (checkpoint, device, threads, engine, precision)
    if key not in _CLASSIFIERS:
        _CLASSIFIERS[key] = TactileClassifier(load_checkpoint(checkpoint), device, precision, threads, engine)
    return _CLASSIFIERS[key]
