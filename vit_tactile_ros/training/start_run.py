"""How a command that trains begins and ends: its processes, its messages, its folder, a stop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch

from vit_tactile_ros.foundation.files import check_folder_writable
from vit_tactile_ros.training.distributed import Processes, join, leave
from vit_tactile_ros.training.monitoring import check_wandb
from vit_tactile_ros.training.stopping import Stop

logger = logging.getLogger(__name__)


def run_training(name: str, device: str, train: Callable[[Processes, torch.device, Stop], int]) -> int:
    """The exit status of `train` in the command `name`; 130 after Ctrl-C, 143 after SIGTERM.

    Progress goes to stdout, warnings to stderr. With torchrun only the first process logs, except errors.
    """
    _log_to_terminal(name)
    with Stop() as stop:
        try:
            processes, chosen = join(device)
            if not processes.first:
                logging.disable(logging.WARNING)
                _log_to_terminal(f'{name}, process {processes.rank}')
            return train(processes, chosen, stop)
        except KeyboardInterrupt as stopped:
            # A warning, because only one of several processes logs it.
            logger.warning('stopped; %s', stopped if str(stopped) else
                           'training had not started, so nothing was written')
            return stop.exit_code
        finally:
            leave()


def run_folder(asked: Path | None, use_wandb: bool, processes: Processes) -> Path:
    """`asked`, or a folder named after the time; raises UserError if it or Weights & Biases cannot be written to."""
    output = asked or Path('runs') / datetime.now().strftime('%Y-%m-%d_%H-%M-%S')
    if processes.first:
        check_folder_writable(output, create=False)
        if use_wandb:
            check_wandb()
    return output


def _log_to_terminal(name: str) -> None:
    """Progress to stdout, warnings and errors to stderr."""
    package = logging.getLogger('vit_tactile_ros')
    package.handlers.clear()
    out, err = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    out.addFilter(lambda record: record.levelno <= logging.INFO)
    err.setLevel(logging.WARNING)
    for handler in (out, err):
        handler.setFormatter(logging.Formatter(f'{name}: %(message)s'))
        package.addHandler(handler)
    package.setLevel(logging.INFO)
