"""No code of the package executes what a file or a message holds, and no file is written half."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / 'setup.py', *(path for folder in ('vit_tactile_ros', 'launch', 'tools')
                                for path in sorted((ROOT / folder).rglob('*.py')))]
PICKLES = {'pickle', 'cPickle', '_pickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve', 'pandas'}
# The last parts of the name that is called; '' before the point is a builtin.
FORBIDDEN = {
    '.eval', '.exec', '.compile', '.__import__', 'os.system', 'os.popen', 'os.spawnl', 'os.spawnv',
    'subprocess.getoutput', 'subprocess.getstatusoutput', 'yaml.load', 'yaml.load_all', 'yaml.full_load',
    'yaml.unsafe_load', 'torch.load', 'torch.save', 'np.load', 'numpy.load', 'np.save', 'tempfile.mktemp', 'jit.load',
    'hub.load', 'markupsafe.Markup', 'extractall'}
# What writes into files that nobody else reads, or of which half is of use.
WRITERS = {
    'foundation/files.py': 'the probe', 'training/state.py': 'the lock', 'data/pixel_file.py': 'a temporary folder',
    'data/bags/recording.py': 'a temporary folder', 'data/rendered.py': 'each example has a checksum',
    'ros/live/node_process.py': 'the log and parameters of a process',
    'ros/demo/session.py': 'the null device'}


def called(node: ast.Call) -> str:
    """'os.system' for os.system(...), '.eval' for eval(...), 'x.eval' for model.eval()."""
    function = node.func
    if isinstance(function, ast.Attribute):
        owner = ast.unparse(function.value)
        name = owner if owner.startswith('safetensors') else owner.rpartition('.')[2]
        return f'{name}.{function.attr}'
    return f'.{function.id}' if isinstance(function, ast.Name) else ''


def dangers(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or '']
            found += [f'{node.lineno}: imports {name}' for name in names if name.split('.')[0] in PICKLES]
        elif isinstance(node, ast.Call):
            name = called(node)
            if name in FORBIDDEN or name.rpartition('.')[2] in FORBIDDEN:
                found.append(f'{node.lineno}: calls {name.lstrip(".")}')
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else keyword.value
                if keyword.arg == 'shell' and value is not False or keyword.arg == 'allow_pickle' and value:
                    found.append(f'{node.lineno}: {keyword.arg} of {name}')
                if keyword.arg == 'autoescape' and value is not True:
                    found.append(f'{node.lineno}: HTML that is not escaped')
    return found


def test_nothing_is_executed():
    """A pickle, eval, a shell, a YAML loader that makes objects."""
    found = {str(path.relative_to(ROOT)): lines for path in SOURCES if (lines := dangers(path.read_text('utf-8')))}
    assert not found, found


@pytest.mark.parametrize('line', (
    'import pickle', 'from pickle import loads', 'import dill as d', 'eval(x)', 'exec(x)', 'os.system(x)', 'np.load(x)',
    'subprocess.run(x, shell=True)', 'subprocess.Popen(x, shell=y)', 'yaml.load(x, Loader=y)', 'torch.load(x)',
    'torch.load(x, weights_only=True)', 'np.savez(x, allow_pickle=True)', 'jinja2.Environment(autoescape=False)',
    'archive.extractall(x)', 'torch.hub.load(x)'))
def test_the_scan_finds_it(line):
    assert dangers(line)


def test_the_scan_leaves_the_rest_alone():
    assert not dangers('model.eval()\nsafetensors.torch.load(x)\nyaml.safe_load(x)\nre.compile(x)\nsubprocess.run([x])'
                       '\nself.save(x)\ntorch.compile(x)')


def test_files_are_written_whole():
    """A file that a killed process or a full disk leaves half: everything goes through foundation.files."""
    found = []
    for path in (ROOT / 'vit_tactile_ros').rglob('*.py'):
        if path.relative_to(ROOT / 'vit_tactile_ros').as_posix() in WRITERS:
            continue
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if not isinstance(node, ast.Call):
                continue
            owner, _, name = called(node).rpartition('.')
            modes = [value.value for value in (*node.args[:2], *(k.value for k in node.keywords if k.arg == 'mode'))
                     if isinstance(value, ast.Constant) and isinstance(value.value, str)]
            is_writer = name in ('write_text', 'write_bytes', 'savefig', 'imwrite', 'tofile') or (
                name == 'open' and any(set(mode) & set('wax+') and set(mode) <= set('rwaxbt+') for mode in modes))
            if is_writer and not owner.startswith('temporary') and not (
                    name == 'savefig' and getattr(node.args[0], 'id', '') == 'temporary'):
                found.append(f'{path.relative_to(ROOT)}:{node.lineno}: {owner}.{name}')
    assert not found, found
