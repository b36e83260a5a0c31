"""The README against what it speaks of, so that neither is changed alone."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def shell_lines() -> list[str]:
    """The commands in the README's shell blocks, without comments."""
    blocks = re.findall(r'```sh\n(.*?)```', README, flags=re.DOTALL)
    return [line.split(' #')[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_make_targets_exist():
    """Every `make X` is a target."""
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), flags=re.MULTILINE))
    named = set(re.findall(r'(?:^|[`\s])make ([a-z]+)', '\n'.join(shell_lines()) + README))
    assert {'demo', 'test'} <= named
    assert named <= targets


def test_launch_files_and_arguments_exist():
    """Every `ros2 launch` names a launch file, and every argument one that it declares."""
    lines = [line for line in shell_lines() if line.startswith('ros2 launch')]
    assert len(lines) >= 3
    for line in lines:
        _, _, package, file, *arguments = line.split(maxsplit=4)
        assert package == 'vit_tactile_ros'
        source = (ROOT / 'launch' / file).read_text()
        for name in re.findall(r'(\w+):=', ' '.join(arguments)):
            assert f"'{name}'" in source, line


def test_executables_and_modules_exist():
    """Every `ros2 run` and `python -m` names something that is there."""
    cmake = (ROOT / 'CMakeLists.txt').read_text()
    for executable in re.findall(r'ros2 run vit_tactile_ros (\w+)', README):
        assert f'install_node({executable} ' in cmake
    modules = re.findall(r'python -m vit_tactile_ros\.(\w+)', README)
    assert modules
    for module in modules:
        assert (ROOT / 'vit_tactile_ros' / f'{module}.py').is_file()


@pytest.mark.parametrize('line', [line for line in shell_lines() if line.startswith('python -m vit_tactile_ros.')
                                  and '--help' not in line])
def test_commands_are_understood(line):
    """Every command's flags and values are taken by its own parser."""
    _, _, module, *arguments = shlex.split(line)
    importlib.import_module(module).parse_arguments(arguments)


@pytest.mark.parametrize('path', [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))], ids=lambda p: p.name)
def test_no_placeholder_is_left(path):
    """TABLE_2 where measurements should be."""
    assert not re.findall(r'^[A-Z][A-Z_0-9]{3,}$|@+[A-Z][^@\n]*@', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize('file', sorted(set(re.findall(r'\]\(([^)#:]+)\)', README))))
def test_linked_files_exist(file):
    """Every relative link and picture leads somewhere."""
    assert (ROOT / file).is_file()


def test_message_fields_are_described():
    """The message table speaks of every field."""
    definition = (ROOT / 'msg' / 'TactileClassification.msg').read_text()
    fields = re.findall(r'^[\w/\[\]]+ (\w+)\s+#', definition, re.MULTILINE)
    section = README.split('## The message')[1].split('\n## ')[0]
    assert len(fields) >= 14
    assert [f for f in fields if f'`{f}`' not in section] == []


def test_parameters_are_listed():
    """The parameter table has exactly the node's parameters."""
    tree = ast.parse((ROOT / 'vit_tactile_ros' / 'ros' / 'parameters.py').read_text())
    declared = {node.args[0].value for node in ast.walk(tree)
                if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'ParameterRule'}
    section = README.split('## Parameters')[1].split('\n## ')[0]
    listed = {name for line in section.splitlines() if line.startswith('| `')
              for name in re.findall(r'`(\w+)`', line.split('|')[1])}
    assert listed == declared


def test_library_example_runs():
    """The Python blocks work as written."""
    import torch

    untrained, shipped = re.findall(r'```python\n(.*?)```', README, flags=re.DOTALL)
    scope = {'images': torch.zeros(2, 3, 224, 224)}
    exec(untrained, scope)
    assert scope['logits'].shape == (2, 10)
    assert scope['exit_idx'].shape == (2,)
    exec(shipped, scope)
    # An image that equals its reference is no contact, at the first exit.
    assert scope['decision'].class_name == 'no_contact'
    assert scope['decision'].exit_block == 4
