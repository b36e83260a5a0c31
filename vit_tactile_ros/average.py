"""Average checkpoints that were trained from one another.

A model soup (Wortsman et al. 2022): networks that are fine-tunings of one another mostly share a valley, and its middle
is often better than either. What the others lack (deeper blocks, say) stays as it is in the first.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from datetime import date
from pathlib import Path

import torch

from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import CommandParser
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


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('average', __doc__, EXAMPLES)
    parser.add_argument('checkpoints', type=Path, nargs='+', metavar='CHECKPOINT',
                        help='two or more; the first gives architecture, preprocessing and classes')
    parser.add_argument('--output', type=Path, required=True, help='checkpoint to write; it is to be calibrated anew')
    arguments = parser.parse_args(argv)
    if len(arguments.checkpoints) < 2:
        parser.error(f'there is {len(arguments.checkpoints)} checkpoint; must be two or more')
    return arguments


@torch.no_grad()
def average(checkpoints: list[Checkpoint]) -> int:
    """Put into the first model the mean of what it has in common with the others; returns how many tensors that is.

    Blocks go by their number, whatever the exits. Raises UserError for other classes, another preprocessing or kind of
    block, or nothing in common.
    """
    first, *others = checkpoints
    for other in others:
        if (other.class_names, other.preprocessing) != (first.class_names, first.preprocessing):
            raise UserError(f'one has the classes {", ".join(first.class_names)} and {first.preprocessing}, another '
                            f'{", ".join(other.class_names)} and {other.preprocessing}; they must be the same')
    sources = [weights_by_block(other.model) for other in others]
    averaged = 0
    for name, tensor in weights_by_block(first.model).items():
        found = [source[name] for source in sources if name in source]
        for same in found:
            if same.shape != tensor.shape or (name.endswith('projection_matrix') and not torch.equal(same, tensor)):
                raise UserError(f'{name} is of another kind: {tuple(tensor.shape)} here, {tuple(same.shape)} there; '
                                'average only checkpoints of which one was trained from the other')
        if found:
            tensor.copy_(torch.stack([tensor, *found]).mean(dim=0))
            averaged += 1
    if not averaged:
        raise UserError('the checkpoints have no weights in common')
    return averaged


@command('average', stopped='stopped; nothing was written')
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    check_writable(arguments.output, create=False)
    given = shlex.join(['python', '-m', 'vit_tactile_ros.average', *(argv if argv is not None else sys.argv[1:])])
    checkpoints = [load_checkpoint(path) for path in arguments.checkpoints]
    averaged = average(checkpoints)
    first = checkpoints[0]
    commands = '; '.join(dict.fromkeys(c.provenance.command for c in reversed(checkpoints)))
    save_checkpoint(arguments.output, dataclasses.replace(
        first, calibration=Calibration(), provenance=dataclasses.replace(
            Provenance(), command=f'{commands}; {given}', data=first.provenance.data,
            created=date.today().isoformat(),
            metrics={k: v for k, v in first.provenance.metrics.items() if k == GREY_SHARE})))
    print(f'average: {averaged} tensors averaged; wrote {arguments.output}, which is to be calibrated')
    return 0


if __name__ == '__main__':
    sys.exit(main())
