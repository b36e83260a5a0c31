"""The training loop: each epoch ends with a checkpoint and a state to resume from; a stop saves a state."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import math
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from vit_tactile_ros.data.frames import Frames
from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.inference.runtime import computes_in_bfloat16
from vit_tactile_ros.model import Calibration, Checkpoint, ViTTactile, save_checkpoint
from vit_tactile_ros.model.config import check_class_names
from vit_tactile_ros.training.batches import EpochBatches, Order, balanced, make_loader, own_rows, shuffled
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.distributed import Processes, from_first, sum_over_processes
from vit_tactile_ros.training.inputs import Inputs
from vit_tactile_ros.training.loss import scaled_exit_gradients
from vit_tactile_ros.training.monitoring import CollapseWatch, RunLog, query_key_rms
from vit_tactile_ros.training.objective import Classification, Objective
from vit_tactile_ros.training.optimizer import (
    average_decay,
    freeze,
    learning_rate,
    make_optimizer,
    move_average,
    resume,
    set_rate,
)
from vit_tactile_ros.training.run import Examples, Machine, Recipe, RunOutput
from vit_tactile_ros.training.settings import check_settings
from vit_tactile_ros.training.state import RunFolder
from vit_tactile_ros.training.stopping import Stop, StopAsked, signals_blocked

logger = logging.getLogger(__name__)


class TrainingError(RunError):
    """Training that cannot continue; the message names the step, the reason and what to do."""


class SaveError(OSError):
    """An epoch that could not be written; the message has the reason and what is saved."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with what is saved."""


def fit(model: ViTTactile, examples: Examples, recipe: Recipe, machine: Machine, output: RunOutput | None = None, *,
        on_epoch: Callable[[int, dict[str, float]], None] | None = None, stop: Stop | None = None,
        objective: Objective | None = None) -> ViTTactile:
    """Train `model` and return the moving average of its weights, in eval mode on the CPU.

    objective: what is learned; None: the classes of the examples. With `output`, a run that was killed resumes from its
    last complete epoch. `on_epoch` is called after every epoch with the number of epochs done and their metrics; what
    it raises ends the training.

    When a stop is requested, the step is finished and the state saved, so that the resumed run gives the same result as
    an uninterrupted one. All processes end after the same step, whichever process received the signal. A
    KeyboardInterrupt that does not come from `stop`, such as a second Ctrl-C, ends at once with what was saved before.

    Raises TrainingError when the loss is not finite, StateError or SettingsError when `output` cannot be resumed,
    SaveError when a file cannot be written, Stopped at Ctrl-C. Earlier contents of `output` are never damaged.
    """
    config, processes, device = recipe.config, machine.processes, machine.device
    stop = stop or Stop()
    if output:
        check_class_names(output.class_names)  # a checkpoint would refuse them after the first epoch
    with contextlib.ExitStack() as stack:
        if device.type == 'cpu':
            # Small features of attention become denormal, which is slow. This setting affects the whole thread.
            torch.set_flush_denormal(True)
            stack.callback(torch.set_flush_denormal, False)
        folder = stack.enter_context(RunFolder(output.folder)) if output and processes.first else None
        run = _Run(model, examples, recipe, machine, stop, objective or Classification(config))
        stack.enter_context(scaled_exit_gradients(run.model, config.exit_gradient))
        settings = recipe.settings(run.model.config, output.settings if output else {})
        state = from_first(folder.load() if folder else None, processes)
        if output and state is not None:
            check_settings(state, settings, output.class_names, output.folder)
            run.restore(state)
            logger.info('resuming after epoch %d of %d%s', run.epoch, config.epochs,
                        f' and {run.done} of {len(run.batches)} steps' if run.done else '')
            if state['settings']['epochs'] != config.epochs:
                logger.info('the run was started for %d epochs: the cosine schedule now covers %d, so the learning '
                            'rate continues at %.3g', state['settings']['epochs'], config.epochs,
                            run.rate(run.step + run.done))
        if config.head_factor != 1:
            logger.info('the learning rate of the heads is %g times that of the blocks', config.head_factor)
        if output and folder and run.epoch < config.epochs:
            run.log = RunLog(folder.path, settings, run.step + run.done, output.use_wandb)
            stack.callback(run.log.close)
        begun, share = time.monotonic(), 1 / len(run.batches)
        first_epoch = run.epoch + run.done * share
        if run.epoch < config.epochs:
            stack.enter_context(stop.holding(True))
        try:
            while run.epoch < config.epochs:
                started = time.monotonic()
                loss = run.train_epoch(machine.progress and processes.first)
                metrics = run.end_epoch(examples.validation, machine.progress)
                if output and folder:
                    _save(folder, run, output, settings, metrics)
                taken = time.monotonic() - begun
                left = taken / max(run.epoch - first_epoch, share) * (config.epochs - run.epoch)
                logger.info('epoch %d/%d: loss %.3f%s, %.0f s, %s left', run.epoch, config.epochs, loss,
                            _figures(run, metrics), time.monotonic() - started, _duration(left))
                if on_epoch:
                    on_epoch(run.epoch, {'loss': loss, **metrics})
        except StopAsked:
            try:
                if output and folder:
                    _save_part(folder, run, output, settings)
                if not run.validating:
                    _wait_for_the_first(processes)
            except OSError as error:
                raise SaveError(f'stopped, but step {run.done} of epoch {run.epoch + 1} could not be written: {error}; '
                                f'{_saved(folder)}') from error
            except KeyboardInterrupt:
                pass
            raise Stopped(_saved(folder)) from None
        except KeyboardInterrupt:
            raise Stopped(_saved(folder)) from None
        except TrainingError as error:
            raise TrainingError(f'{error}; {_saved(folder)}') from None
        except torch.cuda.OutOfMemoryError as error:
            raise TrainingError(f'{error}: lower --batch_size (it is {config.batch_size}) or --image_size; '
                                f'{_saved(folder)}') from None
        except OSError as error:  # of the epoch's files or of the logs
            raise SaveError(f'epoch {max(run.epoch, 1)} could not be written: {error}; {_saved(folder)}'
                            ) from error
        return run.objective.result(run.average.cpu().eval())


class _Run:
    """Everything that changes while a model is trained."""

    def __init__(self, model: ViTTactile, examples: Examples, recipe: Recipe, machine: Machine, stop: Stop,
                 objective: Objective) -> None:
        config, device = recipe.config, machine.device
        self.model = model.to(device).train()
        self.average = copy.deepcopy(self.model).eval()
        freeze(self.model, config.freeze)
        self.config = config
        self.objective = objective
        self.preprocessing = recipe.preprocessing
        self.device = device
        self.processes = machine.processes
        self.stop = stop
        self.weights = torch.tensor(config.weights(len(model.config.exits)), device=device)
        self.bfloat16 = config.precision == 'bfloat16' or (config.precision == 'auto' and computes_in_bfloat16(device))
        self.optimizer = make_optimizer(self.model, config)
        self.inputs = Inputs(recipe.augment, recipe.preprocessing, device, config.seed)
        self.batches = EpochBatches(examples.order or _order(examples.train, config), config.batch_size,
                                    machine.processes)
        self.loader: DataLoader[Any] = make_loader(examples.train, self.batches, machine.workers, device)
        self.watch = CollapseWatch(model.config.attention, model.config.qk_norm)
        self.epoch = 0  # complete epochs
        self.done = 0  # steps done of the next one
        self.loss_sum = 0.0  # of the examples of these
        self.validating = False
        self.log: RunLog | None = None
        self._last_inputs: Tensor | None = None
        if self.processes.count > 1:  # the same initial weights even if the machines' random numbers differ
            # Through the CPU: tensors of another process's device cannot be pickled, and a second copy may not fit.
            start = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
            self.model.load_state_dict(from_first(start, self.processes))
            self.average.load_state_dict(self.model.state_dict())

    @property
    def step(self) -> int:
        """Steps done at the start of the epoch."""
        return self.epoch * len(self.batches)

    def rate(self, step: int) -> float:
        return learning_rate(step, self.config.epochs * len(self.batches), self.config.lr, self.config.warmup)

    def state(self) -> dict[str, Any]:
        return {'epoch': self.epoch, 'step': self.done, 'loss_sum': self.loss_sum, 'model': self.model.state_dict(),
                'average': self.average.state_dict(), 'optimizer': self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state['model'])
        self.average.load_state_dict(state['average'])
        resume(self.optimizer, state['optimizer'])
        self.epoch, self.done, self.loss_sum = state['epoch'], state['step'], state['loss_sum']

    def train_epoch(self, progress: bool) -> float:
        """One pass over the remaining examples of the epoch; returns the mean weighted loss of the whole epoch.

        Raises StopAsked between two steps, the same ones in all processes.
        """
        alone = self.processes.count == 1
        if alone:
            self.stop.check()
        self.batches.epoch, self.batches.first = self.epoch, self.done
        sizes = self.batches.sizes()
        # Reading a value waits for the device, so on CUDA it is done only every ten steps.
        every = 1 if self.device.type == 'cpu' else 10
        pending: list[Tensor] = []
        first, started = self.done, time.monotonic()
        with signals_blocked():  # a signal would kill a worker that has just started
            batches = iter(self.loader)
        bar = tqdm(batches, total=len(self.loader), desc=f'epoch {self.epoch + 1}/{self.config.epochs}', initial=first,
                   mininterval=1.0, leave=False, disable=not (progress and sys.stderr.isatty()))
        for i, batch in enumerate(bar, start=first):
            pending.append(self._train_step(batch, i, sizes[i]))
            stopping = alone and self.stop.number > 0
            if len(pending) < every and i + 1 < len(sizes) and not stopping:
                continue
            for step, (*row, asked) in enumerate(torch.stack(pending).tolist(), start=i + 1 - len(pending)):
                loss = self._read(row, self.step + step)
                self.loss_sum += loss * sizes[step]
                stopping = stopping or asked > 0
            pending.clear()
            self.done = i + 1
            if stopping:
                self.stop.number = self.stop.number or signal.SIGTERM  # another process was asked
                raise StopAsked
            bar.set_postfix(loss=f'{loss:.3f}')
        if self.log:
            self.log.scalars({'images_per_s': sum(sizes[first:]) / (time.monotonic() - started)},
                             self.step + len(sizes) - 1)
        return self.loss_sum / sum(sizes)

    def _train_step(self, batch: Any, i: int, size: int) -> Tensor:
        """One step of AdamW; returns (E + 2,): each exit's loss over the whole batch, the norm of the gradient, and the
        number of processes that were asked to stop.
        """
        step = self.step + i
        set_rate(self.optimizer, self.rate(step))
        self.model.token_threshold = self.model.config.token_threshold * _token_factor(self.config.seed, step)
        self.optimizer.zero_grad(set_to_none=False)
        losses = torch.zeros_like(self.weights)
        if batch is not None:
            frames, references, labels = batch
            inputs = self.inputs(frames, references, self.epoch, i, own_rows(size, self.processes).start)
            if step == 0 and self.log:
                self.log.pictures('inputs', inputs, self.preprocessing, step)
            self._last_inputs = inputs
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                outputs = self.objective.outputs(self.model, self.average, inputs)
            # This process's part of the mean over the whole batch, so that the sum over processes is that mean.
            losses = self.objective.losses(outputs, labels.to(self.device, non_blocking=True))
            losses = losses * (len(labels) / size)
            (losses * self.weights).sum().backward()
        gradients = [_gradient(p) for p in self.model.parameters() if p.requires_grad]
        losses = losses.detach()
        asked = losses.new_full((1,), float(self.stop.number > 0))
        sum_over_processes([*gradients, losses, asked], self.processes)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        move_average(self.average, self.model, average_decay(step, self.config.ema))
        return torch.cat((losses, norm.detach().reshape(1), asked))

    def _read(self, row: list[float], step: int) -> float:
        """Log the figures of a step; returns its weighted loss. Raises TrainingError if it is not finite."""
        *losses, norm = row
        loss = sum(w * value for w, value in zip(self.weights.tolist(), losses, strict=True))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(f'at step {step} the loss is {loss} and the norm of its gradient {norm}: lower '
                                f'--lr (it is {self.config.lr}) or raise --warmup')
        if self.log:
            exits = self.model.config.exits
            self.log.scalars({'loss/total': loss, 'learning_rate': self.rate(step), 'gradient_norm': norm}
                             | {f'loss/block_{b}': value for b, value in zip(exits, losses, strict=True)}, step)
        return loss

    def end_epoch(self, validation_frames: Frames | None, progress: bool) -> dict[str, float]:
        """Check attention and validate, in the first process, and count the epoch; returns the metrics.

        A stop interrupts it at once (StopAsked), because it can be repeated.
        """
        metrics: dict[str, float] = {}
        if self.processes.first:
            self.validating = True
            with self.stop.holding(False):
                metrics = self._look_and_validate(validation_frames, progress)
            self.validating = False
        self.epoch, self.done, self.loss_sum = self.epoch + 1, 0, 0.0
        return metrics

    def _look_and_validate(self, validation_frames: Frames | None, progress: bool) -> dict[str, float]:
        metrics: dict[str, float] = {}
        last_step = self.step + len(self.batches) - 1
        if self._last_inputs is not None:
            rms = query_key_rms(self.model, self._last_inputs)
            if self.log:
                self.log.scalars({f'rms/{name}_{block}': value for block, pair in enumerate(rms, start=1)
                                  for name, value in zip(('query', 'key'), pair, strict=True)}, last_step)
            self.watch.look(rms)
        if validation_frames is not None:
            metrics = self.objective.validate(self.average, validation_frames, self.preprocessing, self.device,
                                              'validation' if progress else '')
            if self.log:
                self.log.scalars({f'validation/{name}': a for name, a in metrics.items()}, last_step)
        return metrics


def _token_factor(seed: int, step: int) -> float:
    """1 to 4, log-uniform: the network learns to do with fewer patches than simulated touches keep."""
    return float(4 ** random.Random(f'{seed} {step}').random())


def _order(frames: Frames, config: TrainingConfig) -> Order:
    if not config.balance:
        return shuffled(len(frames), config.seed)  # type: ignore[arg-type]
    labels = getattr(frames, 'labels', None)
    if labels is None:
        raise ValueError(f'balance needs the labels in advance; {type(frames).__name__} has none')
    return balanced(labels, config.seed)


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _save(folder: RunFolder, run: _Run, output: RunOutput, settings: dict[str, Any], metrics: dict[str, float]) -> None:
    provenance = dataclasses.replace(output.provenance, created=date.today().isoformat(),
                                     metrics=output.provenance.metrics | metrics | {'epoch': run.epoch})
    save_checkpoint(folder.checkpoint, Checkpoint(run.objective.result(copy.deepcopy(run.average).cpu()),
                                                  run.preprocessing, output.class_names, Calibration(), provenance))
    # Last: a run killed in between repeats the epoch; in the other order it would lose the checkpoint of the epoch.
    _save_state(folder, run, output, settings)


def _save_state(folder: RunFolder, run: _Run, output: RunOutput, settings: dict[str, Any]) -> None:
    folder.save({**run.state(), 'settings': settings, 'class_names': list(output.class_names)})


def _save_part(folder: RunFolder, run: _Run, output: RunOutput, settings: dict[str, Any]) -> None:
    """Save an unfinished epoch; a checkpoint only if there is none, because that of a complete epoch is better."""
    if (run.epoch, run.done) == (folder.saved_epoch, folder.saved_step):
        return
    if folder.checkpoint.exists():
        _save_state(folder, run, output, settings)
    else:
        _save(folder, run, output, settings, {'step': run.done})


def _wait_for_the_first(processes: Processes) -> None:
    """torchrun ends all processes when one has ended: wait until the first one has saved."""
    with contextlib.suppress(RuntimeError):  # it has ended already and reported why
        from_first(None, processes)


def _saved(folder: RunFolder | None) -> str:
    return folder.told() if folder else 'no output folder was given, so nothing is saved'


def _figures(run: _Run, metrics: dict[str, float]) -> str:
    return f', {run.objective.told(metrics, run.model.config.exits)}' if metrics else ''


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60} min'
