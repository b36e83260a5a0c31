"""All commands: `vit-tactile train ...` is `python -m vit_tactile_ros.train ...`; without a command it lists them."""

from __future__ import annotations

import importlib
import sys

from vit_tactile_ros import __version__
from vit_tactile_ros.foundation import interrupt
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import nearest, program
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.interrupt import PROGRAM

COMMANDS = {
    'try': {
        'demo': 'two simulated fingers, classified live by the ROS 2 node',
        'predict': 'classify image files and videos: class, confidence, exit',
    },
    'train': {
        'pretrain': 'learn from recordings without labels, to train from the result',
        'train': 'train a network on labelled touches, or on simulated ones',
        'tune': 'search for good training settings',
        'cross_validate': 'train and test on groups kept apart (objects, recordings)',
        'average': 'average checkpoints that were fine-tuned from the same one',
        'fit_sensor': 'fit the simulator to your own sensor',
    },
    'set up a sensor': {
        'adapt': 'adapt to another gel without labels: reference, noise, contrast',
    },
    'evaluate recordings': {
        'replay': 'run bags offline: predictions, confidences, times',
        'compare': 'compare two replays of the same bags',
        'touchbench': 'measure touch on real data: checkpoint, baselines and controls on the same groups',
        'to_bag': 'write a video or a folder of images as a bag',
        'extract': 'write the labelled images of bags as files with a CSV',
    },
    'use elsewhere': {
        'export': 'write the network as ONNX files, for programs without PyTorch',
    },
    'choose and measure speed': {
        'calibrate': 'fit confidences and thresholds of a checkpoint to validation data',
        'sweep': 'accuracy, compute and time for several exit thresholds',
        'benchmark': 'time of the network, compared with ViT-Tiny and softmax attention',
        'latency': 'time from image to result in the live node',
    },
}


def overview() -> str:
    """What `vit-tactile` prints: every command in one line."""
    lines = [f'usage: {program()} COMMAND [flags]; {program()} COMMAND --help has examples and all flags']
    for title, group in COMMANDS.items():
        lines += ['', f'{title}:', *(f'  {name:15}{what}' for name, what in group.items())]
    return '\n'.join(lines)


def _tell(text: str) -> None:
    print(f'{PROGRAM}: {text}', file=sys.stderr)


# Its own `tell`, since the warnings of the library are for the command that is run to print.
@command(PROGRAM, tell=_tell)
def main(argv: list[str] | None = None) -> int:
    """The status of the command that the first argument names; 2 for an unknown one."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ['--help']
    if name in ('--help', '-h', 'help'):
        print(overview())
        return 0
    if name == '--version':
        print(f'vit_tactile_ros {__version__}')
        return 0
    names = [known for group in COMMANDS.values() for known in group]
    if name.replace('-', '_') in names:
        with interrupt.at_once():
            module = importlib.import_module(f'vit_tactile_ros.{name.replace("-", "_")}')
        return int(module.main(rest))
    if name.startswith('-'):
        raise UserError(f'{name} is not a command; flags come after the command: {program()} COMMAND {name}')
    raise UserError(f'unknown command {name!r}{nearest(name, names)}; {program()} lists the commands')


if __name__ == '__main__':
    sys.exit(main())
