"""The list of commands, and the command line that they share."""

import importlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forking import fork
from layers import SHARED_BY_ENTRY_POINTS

from vit_tactile_ros import __main__ as overview

SOURCE = Path(overview.__file__).parent
NAMES = [name for group in overview.COMMANDS.values() for name in group]


def forked(code: str, folder: Path) -> tuple[int, str]:
    """Exit status and output of Python code in a copy of this process."""
    import torch

    def run_code() -> None:
        signal.alarm(200)  # ends it
        torch.set_num_threads(1)  # those of the parent are not there
        os.chdir(folder)
        exec(code, {'__name__': 'code'})

    log = folder / 'output'
    return os.waitstatus_to_exitcode(os.waitpid(fork(run_code, log), 0)[1]), log.read_text()


def run(*words):
    return subprocess.run([sys.executable, '-m', *words], capture_output=True, text=True, timeout=120)


def test_every_command_is_listed_in_one_line(capsys):
    assert sorted(NAMES) == sorted(path.stem for path in SOURCE.glob('*.py')
                           if not path.stem.startswith('__') and path.stem not in SHARED_BY_ENTRY_POINTS)
    assert overview.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(sum(line.split()[:1] == [name] and len(line) <= 100 for line in lines) == 1 for name in NAMES)


def test_the_list_loads_no_heavy_module():
    code = ('import sys; from vit_tactile_ros.__main__ import main; main([]); '
            'assert not {"torch", "numpy", "cv2", "rich"} & set(sys.modules)')
    assert subprocess.run([sys.executable, '-c', code], stdout=subprocess.DEVNULL).returncode == 0


def test_a_command_is_the_same_either_way():
    """Other flags, another status or another message through the list of commands than by its own module."""
    for words in (['--help'], ['/no/such/a', '/no/such/b']):
        direct, listed = run('vit_tactile_ros.compare', *words), run('vit_tactile_ros', 'compare', *words)
        assert direct.returncode == listed.returncode
        told = [(done.stdout + done.stderr).replace('vit_tactile_ros.compare', 'vit_tactile_ros compare')
                for done in (direct, listed)]
        assert ''.join(told[0].split()) == ''.join(told[1].split())
    assert direct.returncode == 2 and '/no/such/a does not exist' in listed.stderr


def test_warnings_have_the_name_of_the_command_and_come_once(tmp_path):
    """A second handler of the program that runs the command printed all of train's lines again."""
    flags = ('--epochs 1 --epoch_size 4 --batch_size 4 --validation_size 4 --image_size 32 32 --exits 1 --workers 0 '
             '--balance')
    done = run('vit_tactile_ros', 'train', *flags.split(), '--output', str(tmp_path / 'run'))
    assert done.returncode == 0 and done.stdout.count('epoch 1/1') == 1
    assert done.stderr == 'train: --balance has no effect: the simulator chooses the share of each class\n'


@pytest.mark.parametrize(('words', 'message'), [
    (['trian'], "unknown command 'trian'; did you mean train?"),
    (['cross-validat'], "unknown command 'cross-validat'; did you mean cross_validate?"),
    (['zzz'], "unknown command 'zzz'; python -m"),
    (['--tau', '0.9'], '--tau is not a command; flags come after the command'),
])
def test_an_unknown_command(capsys, words, message):
    assert overview.main(words) == 2
    assert capsys.readouterr().err.startswith(f'vit-tactile: {message}')


def test_version(capsys):
    assert overview.main(['--version']) == 0
    assert capsys.readouterr().out == f'vit_tactile_ros {overview.__version__}\n'


@pytest.mark.parametrize('name', NAMES)
def test_help_examples_are_taken_by_the_parser(name, tmp_path, monkeypatch):
    """Examples that the command itself refuses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'touch.avi').touch()
    module = importlib.import_module(f'vit_tactile_ros.{name}')
    assert 2 <= len(module.EXAMPLES) <= 3
    for example in module.EXAMPLES:
        module.parse_arguments(shlex.split(example))


@pytest.mark.parametrize('name', NAMES)
def test_every_command_goes_through_the_wrapper(name):
    """Its main is wrapped: otherwise a bug is a bare traceback."""
    source = (SOURCE / f'{name}.py').read_text()
    assert f"@command('{name}'" in source
    assert 'except ValueError' not in source.split('def main(')[1]


@pytest.mark.parametrize(('name', 'package', 'words', 'message'), [
    ('tune', 'optuna', [], 'vit_tactile_ros[tune]'),
    ('demo', 'rclpy', [], 'needs ROS 2 and the built package'),
    ('demo', 'vit_tactile_ros.ros', [], 'needs ROS 2 and the built package'),  # as `pip install` gives it
    ('latency', 'vit_tactile_ros.ros', ['touch.avi'], 'needs ROS 2 and the built package'),
    ('latency', 'rclpy', ['touch.avi'], 'needs ROS 2 and the built package'),
    ('replay', 'rosbags', ['x.mcap'], 'vit_tactile_ros[bags]'),
    ('extract', 'rosbags', ['x.mcap', '--output', 'out'], 'vit_tactile_ros[bags]'),
    ('replay', 'ray', ['x.mcap', '--ray'], 'vit_tactile_ros[cluster]'),
    ('train', 'wandb', ['--use-wandb'], 'vit_tactile_ros[wandb]'),
    ('export', 'onnxscript', ['--output', 'out'], 'vit_tactile_ros[onnx]'),
    ('benchmark', 'openvino', ['--engines', 'openvino', '--size', '4', '--batch_size', '2'], "the extra 'fast'"),
])
def test_a_missing_package_names_the_extra(name, package, words, message, tmp_path):
    (tmp_path / 'touch.avi').touch()
    (tmp_path / 'x.mcap').touch()
    code = ('import sys, importlib.util\n'
            f'for loaded in [n for n in sys.modules if (n + ".").startswith(("vit_tactile_ros.", "{package}."))]:\n'
            ' del sys.modules[loaded]\n'
            f'class Missing:\n def find_spec(self, name, *_):\n  if (name + ".").startswith("{package}."):\n'
            f'   raise ModuleNotFoundError("No module named {package}")\n'
            'sys.meta_path.insert(0, Missing())\n'
            'find = importlib.util.find_spec\n'
            f'importlib.util.find_spec = lambda n, *a: None if n == {package!r} else find(n, *a)\n'
            f'from vit_tactile_ros.{name} import main; sys.exit(main({words!r}))')
    status, told = forked(code, tmp_path)
    assert status == 2, told
    assert message in told and 'Traceback' not in told
