"""Train the early-exit ViT on labelled touches, or on simulated ones.

Ctrl-C and SIGTERM finish the step in hand and save what was learned (exit status 130 or 143); a second Ctrl-C stops at
once. Started again with the same --output, a run goes on from there as if it had not been stopped; one that was killed
goes on where its last whole epoch ended.
On several GPUs: `torchrun --nproc_per_node 4 -m vit_tactile_ros.train ...`; --batch_size counts all of them together.
"""

from __future__ import annotations

import argparse
import logging
import math
import shlex
import sys
from datetime import datetime
from pathlib import Path

import torch

from vit_tactile_ros.data.arguments import SIMULATOR, judging_flags, read_table
from vit_tactile_ros.data.augment import AUGMENTATIONS
from vit_tactile_ros.evaluation.outputs import collect_outputs
from vit_tactile_ros.foundation.command import command
from vit_tactile_ros.foundation.command_line import CommandParser
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import check_folder_writable
from vit_tactile_ros.model import GREY_SHARE, PreprocessingConfig, Provenance, ViTTactile, load_checkpoint
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.datasets import (
    TrainingData,
    add_data_arguments,
    check_data_arguments,
    choose_augmentation,
    choose_preprocessing,
    class_names_of,
    prepare_data,
)
from vit_tactile_ros.training.distributed import from_first, join, leave
from vit_tactile_ros.training.initialise import (
    add_architecture_arguments,
    asked_architecture,
    check_frozen,
    init_path,
    start_from_all,
    start_told,
)
from vit_tactile_ros.training.loop import Stopped, fit
from vit_tactile_ros.training.monitoring import check_wandb
from vit_tactile_ros.training.stopping import Stop

logger = logging.getLogger('vit_tactile_ros.train')  # also when it is __main__
EXAMPLES = (
    '--epochs 20 --output runs/simulated',
    '--data touches --init shipped --epochs 20 --lr 3e-4 --output runs/mine --evaluate',
    '--data labels.csv --label roughness --group object --output runs/roughness',
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser('train', __doc__, EXAMPLES)
    defaults = TrainingConfig()
    parser.add_argument('--output', type=Path, default=None,
                        help='folder for checkpoint, logs and what is needed to go on; by default runs/<date-time>')
    parser.add_argument('--batch_size', type=int, default=defaults.batch_size, help='examples, over all processes')
    parser.add_argument('--epochs', type=int, default=defaults.epochs, help='may change when a run goes on')
    parser.add_argument('--lr', type=float, default=defaults.lr, help='peak learning rate of AdamW')
    parser.add_argument('--warmup', type=float, default=defaults.warmup,
                        help='share of the steps with a rising learning rate')
    parser.add_argument('--weight_decay', type=float, default=defaults.weight_decay, help='of AdamW')
    parser.add_argument('--loss_weights', type=float, nargs='+', default=None,
                        help='one per exit; by default 0.3 each and 1 for the last')
    parser.add_argument('--distillation', type=float, default=defaults.distillation,
                        help="share of the early exits' loss that comes from the last exit's answer")
    parser.add_argument('--distillation_temperature', type=float, default=defaults.distillation_temperature,
                        help='softens both answers')
    parser.add_argument('--label_smoothing', type=float, default=defaults.label_smoothing, help='0 to 1')
    parser.add_argument('--balance', action='store_true', help='draw all classes equally often')
    parser.add_argument('--freeze', type=int, default=defaults.freeze, metavar='BLOCKS',
                        help='the first so many blocks keep the weights of --init; all of them: only the heads learn, '
                             'which takes a third of the time and suits some hundred images')
    parser.add_argument('--ema', type=float, default=defaults.ema,
                        help='decay per step of the moving average of the weights')
    parser.add_argument('--augment', choices=('auto', *AUGMENTATIONS), default='auto',
                        help='what varies: auto is gel for images, simulated for simulated touches; '
                             'other_gel is strong, for use on units unlike those of the data')
    parser.add_argument('--augment_strength', type=float, default=1.0, metavar='FACTOR',
                        help='makes every variation so many times as strong')
    parser.add_argument('--precision', choices=('auto', 'float32', 'bfloat16'), default=defaults.precision,
                        help='of the forward pass; auto: bfloat16 on a GPU or CPU that computes in it')
    parser.add_argument('--init', type=init_path, nargs='+', default=None, metavar='CHECKPOINT',
                        help="'shipped', or a file: start from these weights, and their architecture where no flag "
                             'says more; of several the first one gives the architecture, and a later one the weights '
                             'of the blocks that it has')
    add_architecture_arguments(parser)
    parser.add_argument('--evaluate', action='store_true',
                        help='at the end, accuracy per exit on the test images, which nothing else looks at')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda' or 'cuda:N'")
    parser.add_argument('--workers', type=int, default=1, help='processes that read or simulate')
    parser.add_argument('--seed', type=int, default=defaults.seed,
                        help='of the weights, the order of the examples and their augmentation')
    parser.add_argument('--use-wandb', action='store_true', help='also log to Weights & Biases')
    add_data_arguments(parser)
    arguments = parser.parse_args(argv)
    check_data_arguments(parser, arguments)
    if arguments.workers < 0:
        parser.error(f'--workers is {arguments.workers}; must be at least 0')
    if arguments.freeze > 0 and arguments.init is None:
        parser.error(f'--freeze {arguments.freeze} would keep random weights: give --init')
    if not 0 <= arguments.augment_strength < math.inf:
        parser.error(f'--augment_strength is {arguments.augment_strength}; must be at least 0')
    try:
        arguments.config = TrainingConfig(
            **{name: getattr(arguments, name) for name in (
                'batch_size', 'epochs', 'lr', 'warmup', 'weight_decay', 'distillation', 'distillation_temperature',
                'label_smoothing', 'balance', 'freeze', 'ema', 'precision', 'seed')},
            loss_weights=tuple(arguments.loss_weights or ()))
        if arguments.init is None:  # else the checkpoint says how many exits there are
            arguments.config.weights(len(arguments.exits or (4, 8, 12)))
    except UserError as error:
        parser.error(f'--{error}')
    return arguments


@command('train', tell=logger.error)
def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    given = shlex.join(['python', '-m', 'vit_tactile_ros.train', *(argv if argv is not None else sys.argv[1:])])
    _log_to_terminal()
    with Stop() as stop:
        return _main(arguments, given, stop)


def _main(arguments: argparse.Namespace, given: str, stop: Stop) -> int:
    try:
        return _train(arguments, given, stop)
    except KeyboardInterrupt as stopped:
        # A warning, as one process says it for all.
        logger.warning('stopped; %s', stopped if str(stopped) else 'training had not begun, so nothing was written')
        return stop.exit_code
    finally:
        leave()


def _train(arguments: argparse.Namespace, given: str, stop: Stop) -> int:
    processes, device = join(arguments.device)
    if not processes.first:
        logging.disable(logging.WARNING)  # one process speaks for all, but for what went wrong in another
        _log_to_terminal(f'train, process {processes.rank}')
    config: TrainingConfig = arguments.config
    output = arguments.output or Path('runs') / datetime.now().strftime('%Y-%m-%d_%H-%M-%S')
    if processes.first:
        check_folder_writable(output, create=False)
        if arguments.use_wandb:
            check_wandb()

    table = read_table(arguments)
    class_names = class_names_of(table)
    checkpoints = [load_checkpoint(path) for path in arguments.init or ()]
    checkpoint = checkpoints[0] if checkpoints else None
    architecture = asked_architecture(arguments, checkpoint, len(class_names))
    config.weights(len(architecture.exits))
    check_frozen(config.freeze, checkpoints, _init(arguments), architecture)
    preprocessing = choose_preprocessing(table, architecture.image_size, arguments.input, checkpoint,
                                         arguments.control)
    augment = choose_augmentation(arguments.augment, arguments.data, arguments.augment_strength)
    data = prepare_data(table, arguments, preprocessing, progress=processes.first)

    torch.manual_seed(config.seed)
    model = ViTTactile(architecture)
    if checkpoints:
        drawn = start_from_all(model, checkpoints, class_names)
        logger.info('%s', start_told(checkpoints, _init(arguments), architecture, class_names, drawn))
    output = from_first(output, processes)  # another process may have started in another second
    logger.info('%s; writes to %s', data.description, output)
    average = fit(model, data.train, data.validation, preprocessing, config, augment, device, output,
                  class_names=class_names, order=data.order, workers=arguments.workers, processes=processes,
                  use_wandb=arguments.use_wandb, settings=data.settings | {'init': _init(arguments)},
                  provenance=Provenance(given, data.description, training_part=data.training_part,
                                        metrics={GREY_SHARE: data.grey_share} if data.grey_share else {}), stop=stop)
    if not processes.first:
        return 0
    written = output / 'checkpoint.safetensors'
    if arguments.evaluate:
        try:
            stop.check()
            _evaluate(average, data, preprocessing, device, config.batch_size, class_names, arguments.workers)
        except KeyboardInterrupt:
            raise Stopped(f'training is done and {written} whole, but --evaluate was not finished') from None
    print(f'train: wrote {written}')
    _tell_next(arguments, data, written)
    return 0


def _tell_next(arguments: argparse.Namespace, data: TrainingData, written: Path) -> None:
    """Print the command that calibrates the checkpoint on the same parts of the same data, if these suffice for it."""
    from vit_tactile_ros.evaluation.calibration import LEAST_SAMPLES  # scikit-learn takes seconds to load

    samples = 0 if data.validation is None else len(data.validation)  # type: ignore[arg-type]
    if arguments.sensors if arguments.data == SIMULATOR else samples < LEAST_SAMPLES:
        return  # calibrate knows no --sensors
    command = ['python', '-m', 'vit_tactile_ros.calibrate', '--checkpoint', str(written), *judging_flags(arguments)]
    print(f'train: next, let validation data set confidences and thresholds: {shlex.join(command)}')


def _init(arguments: argparse.Namespace) -> str:
    return ' '.join(str(path) for path in arguments.init or ())


def _evaluate(model: ViTTactile, data: TrainingData, preprocessing: PreprocessingConfig, device: torch.device,
              batch_size: int, class_names: tuple[str, ...], workers: int) -> None:
    """Print the accuracy per exit on the test images."""
    from vit_tactile_ros.evaluation.metrics import balanced_accuracy  # scikit-learn takes seconds to load

    test = data.make_test()
    if test is None:
        logger.warning('--evaluate: the data has no test images')
    else:
        outputs = collect_outputs(model, test, preprocessing, device, batch_size, 'test',
                                  class_names=class_names, workers=workers)
        print(f'{len(outputs)} test images')
        print('exit after block  accuracy  balanced accuracy')
        for block, right, answers in zip(outputs.exits, outputs.right, outputs.logits.argmax(axis=2), strict=True):
            balanced = balanced_accuracy(outputs.labels, answers)
            print(f'{block:16d}  {right.mean():8.4f}  {balanced:17.4f}')


def _log_to_terminal(name: str = 'train') -> None:
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


if __name__ == '__main__':
    sys.exit(main())
