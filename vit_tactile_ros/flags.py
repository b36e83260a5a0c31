"""Help and metavar of the flags that commands share; name, type and default come from the field of a dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from vit_tactile_ros.foundation.command_flags import HIDDEN, Field, Flag, command_words, module_command, parse_settings
from vit_tactile_ros.foundation.command_line import CommandParser

Settings = TypeVar('Settings')
Flags = Mapping[str, Flag]  # by the name of the field

DEVICE = Flag("'auto', 'cpu', 'cuda' or 'cuda:N'")
CHECKPOINT = Flag('.safetensors file; default: the shipped one')
TOKEN_THRESHOLD = ('compute only the patches that differ from the reference by more than this many grey levels, and a '
                   'sparse grid of the others, 0 to 127 (0: all patches; 3 is a start)')
ZOOM_BELOW = ('show the network an enlarged part of the image where the spread of the contact is below this share of '
              'the shorter side, 0 (never) to 0.5; 0.05 for contacts smaller than those of the simulated shapes')
THREADS = Flag('CPU threads of the network; 0 measures which number is faster')
WORKERS = Flag('processes that read or simulate')
HEIGHT_WIDTH = ('HEIGHT', 'WIDTH')

# By dataclass. {default} is the value in its DEFAULTS, which a field has that is not set.
SHARED: dict[str, Flags] = {
    'DataSource': {
        'data': Flag("folder of class folders, CSV, or bag; 'simulator' for simulated touches", 'PATH'),
        'label': Flag('column of a CSV with the class', 'COLUMN'),
        'group': Flag('column with the object, recording or press; a+b joins two columns', 'COLUMN'),
        'image': Flag('column with the path of the image', 'COLUMN'),
        'reference': Flag('column with the path of the image without contact, or a pattern of columns: gel{gel}.png',
                          'COLUMN'),
        'previous': Flag('column with the path of the image a moment before, for --motion, or a pattern of columns',
                         'COLUMN'),
        'split': Flag('column with train, validation or test', 'COLUMN'),
        'splits': Flag('which names in that column belong to which split, for instance test=new_pose,regrasp',
                       'SPLIT=NAMES'),
        'labels': Flag('intervals with the labels of a bag: start,end,label', 'CSV'),
        'reference_image': Flag('image without contact, for all images that name no reference', 'IMAGE'),
        'control': Flag('replace each image by one that does not show the touch but still reveals which recording it '
                        'comes from: its reference, or only its border'),
        'border': Flag('width of the border of --control, as a share of the image', 'SHARE'),
    },
    'SplitSettings': {
        'split_by': Flag('images that stay in the same split; {default} (default): those of a group, if groups are '
                         'known'),
        'validation': Flag('share of the images in the validation split, 0 to 1; default: {default}', 'SHARE'),
        'test': Flag('share of the images in the test split, 0 to 1; default: {default}', 'SHARE'),
        'split_seed': Flag('seed of the split, independent of --seed: all commands must use the same splits'),
    },
    'EvaluationData': {
        'size': Flag('simulated touches per split (validation, test)'),
        'seed': Flag('seed of the simulated touches and of random choices'),
        'workers': Flag(f'{WORKERS.help}; 0: this process'),
        'cache': Flag('folder for the outputs of the network, so that calibrate and sweep together need only one pass',
                      'FOLDER'),
    },
    'TrainingSource': {
        'input': Flag('input of the network: difference from the reference, or the frame itself; auto: the difference '
                      'if every image has a reference'),
        'motion': Flag('also give the network the change since the image so many seconds before, 0.01 to 1 (0.08 suits '
                       'slip); 0: none; default: that of --init, or 0; 0.08 for --task states', 'SECONDS'),
        'motion_views': Flag('earlier images that motion is the change since: 1, 2, 4, ... times --motion before; '
                             'default: those of --init, or 1'),
        'zoom_below': Flag(f'{ZOOM_BELOW}; default: that of --init, or 0'),
        'epoch_size': Flag('examples in an epoch; default: all images, or {default} simulated touches'),
        'validation_size': Flag('simulated touches for validation; default: {default}'),
        'task': Flag('what simulated touches show and the network learns: shapes of contacts, with the class '
                     'unknown for other objects (indenters: without it; shapes_small: small contacts too, shown '
                     'enlarged; shapes_wide: smaller balls too, on more different sensors); imprints: letters, sizes, '
                     'counts of bumps, pairs and fine textures, 52 classes; or states from motion (no_contact, stable, '
                     'moving, slip)'),
        'rendered': Flag('folder for rendered simulated touches, which later epochs and runs read', 'FOLDER'),
        'distinct': Flag('number of different simulated touches, which are repeated; needs --rendered; default: new '
                         'ones in every epoch'),
        'generated': Flag('share of the simulated touches whose images are drawn by the generator of the package '
                          'tactile-mnist, as real GelSight Minis show them, 0 to 1; needs --rendered', 'SHARE'),
        'sensors': Flag('sensors of the simulated touches, by name or as sensor files (.json); default: all of the '
                        'package', 'NAME|FILE'),
    },
    'Start': {
        'init': Flag("'shipped', or a file: start from these weights, and their architecture unless a flag changes it; "
                     'with several, the first one sets the architecture, and later ones replace the weights of the '
                     'blocks that they have', 'CHECKPOINT'),
        'attention': Flag('attention kernel; default: that of --init, or {default}'),
        'stem': Flag('what turns the image into tokens: convolution learns fine texture faster; default: that of '
                     '--init, or {default}'),
        'feature_map_dim': Flag('random features per head; default: that of --init, or {default}'),
        'exits': Flag('blocks with an exit after them; the last one is the depth; default: those of --init, or '
                      '{default}; 12 alone is a plain ViT', 'BLOCK'),
        'queries': Flag('learned vectors of each head, each of which gives a weighted mean of the tokens; 0: the plain '
                        'mean; default: that of --init, or {default}'),
        'added_exits': Flag('each exit adds its logits to those of the exit before, which it corrects; default: as '
                            '--init, otherwise each exit predicts alone'),
        'image_size': Flag('input size in px, multiples of 16; default: that of --init, or {default}', HEIGHT_WIDTH),
        'token_threshold': Flag(f'{TOKEN_THRESHOLD}; default: that of --init, or {{default}}'),
    },
    'TrainingConfig': {
        'batch_size': Flag('examples per step, over all processes'),
        'epochs': Flag('number of epochs; may change when a run resumes'),
        'lr': Flag('peak learning rate of AdamW'),
        'head_lr_factor': Flag('factor on the learning rate for the heads of the exits; default: 8 where they are new, '
                               'because --init has none of the classes but no_contact and unknown, and blocks are '
                               'trained; otherwise 1', 'FACTOR'),
        'warmup': Flag('share of the steps with a rising learning rate'),
        'weight_decay': Flag('weight decay of AdamW'),
        'clip': HIDDEN,
        'loss_weights': Flag('weight of the loss of each exit; default: {default}, and 1 for the last'),
        'distillation': Flag("share of the early exits' loss that comes from the prediction of the teacher"),
        'teacher': Flag('last: the last exit teaches the early ones; average: the last exit of the moving average of '
                        'the weights teaches all of them'),
        'exit_gradient': Flag('factor on the gradients of the early exits where they reach the blocks; their heads '
                              'learn at full rate', 'FACTOR'),
        'distillation_temperature': Flag('divisor of the logits of teacher and exit in the distillation'),
        'label_smoothing': Flag('share of each label that is spread over all classes, 0 to 1'),
        'balance': Flag('draw all classes equally often'),
        'freeze': Flag('the first BLOCKS blocks keep the weights of --init; if all are frozen, only the heads are '
                       'trained, which takes a third of the time and suits a few hundred images', 'BLOCKS'),
        'ema': Flag('decay per step of the moving average of the weights'),
        'precision': Flag('number format of the forward pass; auto: bfloat16 if the GPU or CPU supports it'),
        'seed': Flag('seed of the weights, the order of the examples and their augmentation'),
    },
    'Augmentation': {
        'augment': Flag('variations of the images; auto: gel for images, simulated for simulated touches; other_gel: '
                        'stronger, for use on a gel that is not in the data'),
        'augment_strength': Flag('factor on the strength of every variation', 'FACTOR'),
    },
    'TrainingRequest': {
        'output': Flag('folder for checkpoint, logs and the state to resume from; default: runs/<date-time>'),
        'evaluate': Flag('at the end, measure the accuracy of each exit on the test split, which is not used '
                         'otherwise'),
        'device': DEVICE,
        'workers': WORKERS,
        'use_wandb': Flag('also log to Weights & Biases', name='use-wandb'),
    },
}
TITLES = {'DataSource': 'data', 'SplitSettings': 'splitting data that names no splits',
          'EvaluationData': 'evaluation data', 'TrainingSource': 'training data'}


def parse(name: str, doc: str | None, examples: Sequence[str], settings: type[Settings],
          argv: Sequence[str] | None, flags: Flags = MappingProxyType({})) -> Settings:
    """The settings of the command `name` from its flags; `flags` has those that differ from the shared ones."""
    return parse_settings(CommandParser(name, doc, examples), settings, partial(_flag, flags), TITLES, argv)


def command_of(name: str, *settings: Any, flags: Flags = MappingProxyType({}), first: Sequence[str] = ()) -> str:
    """The command line that gives these settings: `first`, and the flags that are not at their default."""
    words = [word for each in settings for word in command_words(each, partial(_flag, flags))]
    return module_command(name, [*first, *words])


def _flag(own: Flags, field: Field) -> Flag:
    found = own.get(field.name) or field.flag or SHARED.get(field.owner.__name__, {}).get(field.name)
    if found is None:
        raise LookupError(f'{field.owner.__name__}.{field.name}: has no flag; add it to vit_tactile_ros/flags.py')
    if '{default}' not in found.help:
        return found
    default = field.owner.DEFAULTS[field.name]
    shown = ' '.join(map(str, default)) if isinstance(default, tuple) else str(default)
    return replace(found, help=found.help.replace('{default}', shown))
