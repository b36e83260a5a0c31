"""The engine and precision that were measured to be the fastest, in a file, so that the next start need not measure."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vit_tactile_ros import __version__
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import WriteError, file_problem, written_whole
from vit_tactile_ros.foundation.strict_json import build, parse_json
from vit_tactile_ros.inference.ranges import Range
from vit_tactile_ros.inference.runtime import Precision
from vit_tactile_ros.model import ViTTactile, network_digest

FORMAT = 1  # of the file, and of what is measured: a new number makes every start measure again
FOLDER = 'VIT_TACTILE_CACHE'  # environment variable: the folder to use; empty: keep nothing
LARGEST = 2**16  # bytes of a file; ours have about 1,000
MOST_FILES = 100  # each training gives a new one
ENOUGH_ROUNDS = 3  # with fewer, for instance on a busy machine, the next start measures again

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What was measured, and under which conditions."""

    conditions: dict[str, str]
    engine: str
    precision: Precision
    measured: str  # ISO 8601 date
    rounds: int
    milliseconds: dict[str, float]  # of one image in full depth, median; by engine and precision: 'openvino int8'

    def __post_init__(self) -> None:
        if self.title not in self.milliseconds:
            raise UserError(f'milliseconds has no {self.title!r}, the engine and precision that it chooses')
        if not all(0 <= time < math.inf for time in self.milliseconds.values()):
            raise UserError('milliseconds must be at least 0')

    @property
    def title(self) -> str:
        return f'{self.engine} {self.precision}'

    def __str__(self) -> str:
        others = ', '.join(f'{time:.2f} of {title}' for title, time in sorted(
            self.milliseconds.items(), key=lambda item: item[1]) if title != self.title)
        return (f'{self.title}: {self.milliseconds[self.title]:.2f} ms for one image in full depth, against {others} '
                f'(medians of {self.rounds})')


def conditions(model: ViTTactile, ranges: Sequence[Range], candidates: Sequence[str], threads: int) -> dict[str, str]:
    """Everything that the times depend on; `candidates` are the engines and precisions that can be chosen."""
    height, width = model.config.image_size
    return {
        'format': str(FORMAT), 'vit_tactile_ros': __version__, 'torch': torch.__version__,
        'openvino': _version('openvino'), 'cpu': (cpu := cpu_description()).get('model name', platform.machine()),
        'cpu details': hashlib.sha256(json.dumps(cpu, sort_keys=True).encode()).hexdigest()[:16],
        'threads': str(threads), 'candidates': ', '.join(candidates), 'input': f'{width}x{height}',
        'network': network_digest(model, ranges)}


def cpu_description(path: Path = Path('/proc/cpuinfo')) -> dict[str, str]:
    """What Linux reports of the first processor that does not change: model, stepping, flags; elsewhere the model."""
    known = {'vendor_id', 'cpu family', 'model', 'model name', 'stepping', 'flags', 'cpu implementer',
             'cpu architecture', 'cpu variant', 'cpu part', 'cpu revision', 'features', 'isa', 'uarch'}
    found = {'machine': platform.machine(), 'processor': platform.processor()}
    with contextlib.suppress(OSError):
        for line in path.read_text(errors='replace').split('\n\n')[0].splitlines():
            name, _, value = (part.strip() for part in line.partition(':'))
            if (name := name.lower()) in known:
                found[name] = ' '.join(sorted(value.split())) if name in ('flags', 'features') else value
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'


def path_for(wanted: Mapping[str, str]) -> Path | None:
    """The file of a choice under these conditions; None: nothing is kept.

    In the folder of the environment variable VIT_TACTILE_CACHE, or vit_tactile_ros/ in the user's cache folder. Each
    set of conditions has a file of its own, so machines can share a home.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        cache = os.environ.get('XDG_CACHE_HOME', '')
        try:
            folder = str((Path(cache) if os.path.isabs(cache) else Path.home() / '.cache') / 'vit_tactile_ros')
        except RuntimeError:  # a user without a home, for instance in a container
            return None
    if not folder:
        return None
    name = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:20]
    return Path(folder) / f'engine-{name}.json'


def read_choice(path: Path, wanted: Mapping[str, str]) -> Choice:
    """Raises UserError for a file that cannot be read, is damaged, or was measured under other conditions."""
    if problem := file_problem(str(path)):
        raise UserError(f'{path} cannot be read: {problem}')
    try:
        with path.open('rb') as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f'it has more than {LARGEST} bytes')
        choice = build(Choice, parse_json(data))
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'{path} is damaged, or not a choice of an engine: {error}') from error
    for name in sorted({*wanted, *choice.conditions}):
        if (there := choice.conditions.get(name)) != (here := wanted.get(name)):
            raise UserError(f'{path} was measured with {name} {there}; here it is {here}')
    return choice


def kept_choice(wanted: Mapping[str, str]) -> tuple[Choice, Path] | None:
    """The choice that an earlier start has made under the same conditions, and its file; a damaged one is logged."""
    path = path_for(wanted)
    if path is None or not os.path.lexists(path):
        return None
    try:
        return read_choice(path, wanted), path
    except UserError as error:
        log.warning('the choice of the engine is measured again: %s', error)
        return None


def keep_choice(choice: Choice) -> None:
    """Write it for the next start, and remove the oldest of many; a failure is logged and changes nothing else."""
    path = path_for(choice.conditions)
    if path is None or choice.rounds < ENOUGH_ROUNDS:
        return
    try:
        # Without a sync, which may take a second on an SD card: a damaged file is measured again.
        with written_whole(path, sync=False) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(choice), indent=1) + '\n', encoding='utf-8')
        files = sorted(path.parent.glob('engine-*.json'), key=lambda file: file.stat().st_mtime)
        for old in files[:-MOST_FILES]:
            old.unlink()
    except WriteError as error:
        log.info('the next start measures again: %s (the environment variable %s names another folder, or is empty to '
                 'keep nothing)', error, FOLDER)
    except OSError:  # another start has removed the same file
        pass
