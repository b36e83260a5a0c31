"""Average checkpoints that were fine-tuned from the same one.

A model soup (Wortsman et al. 2022): the average of networks that were fine-tuned from the same one is often more
accurate than each of them. Weights that the others do not have, such as those of deeper blocks, are kept from the first
one.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

from vit_tactile_ros import flags
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_flags import REQUIRED, flag
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import check_writable
from vit_tactile_ros.model import (
    GREY_SHARE,
    Calibration,
    Checkpoint,
    Provenance,
    load_checkpoint,
    save_checkpoint,
)
from vit_tactile_ros.training.initialise import weights_by_block

EXAMPLES = (
    'runs/a/checkpoint.safetensors runs/b/checkpoint.safetensors --output averaged.safetensors',
    'a.safetensors b.safetensors c.safetensors --output averaged.safetensors',
)


@dataclass(frozen=True)
class AverageRequest:
    """The settings of the command; raises UserError naming the field that is wrong."""

    checkpoints: tuple[Path, ...] = flag(
        REQUIRED, 'two or more; the first one gives architecture, preprocessing and classes', 'CHECKPOINT',
        is_positional=True)
    output: Path = flag(REQUIRED, 'checkpoint to write; calibrate it again')

    def __post_init__(self) -> None:
        if len(self.checkpoints) < 2:
            raise UserError(f'checkpoints: {len(self.checkpoints)} given; must be two or more')


def parse_arguments(argv: list[str] | None = None) -> AverageRequest:
    return flags.parse('average', __doc__, EXAMPLES, AverageRequest, argv)


@torch.no_grad()
def average(checkpoints: list[Checkpoint]) -> int:
    """Replace the weights that the first model has in common with the others by the mean; returns how many tensors.

    Blocks are matched by their number, independent of the exits. Raises UserError for different classes, preprocessing
    or kinds of block, or nothing in common.
    """
    first, *others = checkpoints
    for other in others:
        if (other.class_names, other.preprocessing) != (first.class_names, first.preprocessing):
            raise UserError(f'one has the classes {", ".join(first.class_names)} and {first.preprocessing}, another '
                            f'{", ".join(other.class_names)} and {other.preprocessing}; they must be the same')
        if other.model.config.added_exits != first.model.config.added_exits:
            raise UserError('the exits of one add to the exit before, those of another predict alone; they must be of '
                            'one kind')
        if first.model.config.added_exits and other.model.config.exits != first.model.config.exits:
            raise UserError(f'exits are {first.model.config.exits} in one, {other.model.config.exits} in another; '
                            'where heads add to the exit before, they must be the same')
    sources = [weights_by_block(other.model) for other in others]
    averaged = 0
    for name, tensor in weights_by_block(first.model).items():
        found = [source[name] for source in sources if name in source]
        for same in found:
            if same.shape != tensor.shape or (name.endswith('projection_matrix') and not torch.equal(same, tensor)):
                raise UserError(f'{name} differs: {tuple(tensor.shape)} in one, {tuple(same.shape)} in another; '
                                'average only checkpoints of which one was trained from the other')
        if found:
            tensor.copy_(torch.stack([tensor, *found]).mean(dim=0))
            averaged += 1
    if not averaged:
        raise UserError('the checkpoints have no weights in common')
    return averaged


@command('average', stopped='stopped; nothing was written')
def main(argv: list[str] | None = None) -> int:
    request = parse_arguments(argv)
    check_writable(request.output, create=False)
    given = flags.command_of('average', request)
    checkpoints = [load_checkpoint(path) for path in request.checkpoints]
    averaged = average(checkpoints)
    first = checkpoints[0]
    commands = '; '.join(dict.fromkeys(c.provenance.command for c in reversed(checkpoints)))
    save_checkpoint(request.output, dataclasses.replace(
        first, calibration=Calibration(), provenance=dataclasses.replace(
            Provenance(), command=f'{commands}; {given}', data=first.provenance.data,
            created=date.today().isoformat(),
            metrics={k: v for k, v in first.provenance.metrics.items() if k == GREY_SHARE})))
    print(f'average: {averaged} tensors averaged; wrote {request.output}, which must be calibrated')
    return 0


if __name__ == '__main__':
    sys.exit(main())
