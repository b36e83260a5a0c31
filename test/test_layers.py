"""The layer rule of the package, read off its import statements: imports go down only."""

import ast
import sys
from pathlib import Path

import pytest
from layers import BY_NAME, SHARED_BY_ENTRY_POINTS, USES_ROS, rule

PACKAGE = 'vit_tactile_ros'
ROS = {'rclpy', 'launch', 'launch_ros', 'launch_testing', 'ament_index_python', 'rosidl_runtime_py',
       'builtin_interfaces', 'cv_bridge', 'rosbag2_py'}
STANDARD = sys.stdlib_module_names
SOURCE = Path(__file__).parents[1] / PACKAGE


def is_ros(name: str) -> bool:
    top, *rest = name.split('.')
    ours = top == PACKAGE and rest[:1] in (['msg'], ['srv'])
    return ours or top in ROS or top.endswith(('_msgs', '_srvs', '_interfaces'))


def imported_names(tree: ast.AST, module: str, is_package: bool):
    """Yields (line, dotted name) of every import in `module`, also inside functions, relative ones resolved.

    `from a import b` counts as `a.b`, since b may be a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ''
            if node.level:
                parts = module.split('.')
                anchor = parts[:len(parts) - node.level + is_package]
                source = '.'.join(anchor + ([node.module] if node.module else []))
            for alias in node.names:
                yield node.lineno, f'{source}.{alias.name}'


def part_of(module: str) -> str:
    """Layer or entry point of a name: `vit_tactile_ros.model.vit` -> 'model', the package itself -> ''."""
    return (module.split('.') + [''])[1]


def violations(path: Path, source: str, entry_points: frozenset[str]) -> list[str]:
    """What breaks the rule in the file at `path` (relative to the package), one line each."""
    is_package = path.name == '__init__.py'
    module = '.'.join((PACKAGE, *(path.parent if is_package else path.with_suffix('')).parts))
    own = part_of(module)
    found = []
    for line, name in imported_names(ast.parse(source), module, is_package):
        def broken(why, line=line, name=name):
            found.append(f'{PACKAGE}/{path}:{line}: {name}: {why}')

        top, other = name.split('.')[0], part_of(name)
        if is_ros(name):
            if own not in USES_ROS:
                broken('only ros/ and the demo may import rclpy and messages')
        elif top == PACKAGE:
            if own in BY_NAME and other in BY_NAME and other not in (own, *BY_NAME[own].may_import):
                broken(f'{own}/ may not import {other}/')
            elif other in SHARED_BY_ENTRY_POINTS and own in BY_NAME:
                broken(f'only entry points may import {other}')
            elif other in entry_points - SHARED_BY_ENTRY_POINTS and other != own:
                broken(f'no module may import the entry point {other}')
            elif own == '' and other in BY_NAME and other != 'foundation':
                broken('the package itself imports no layer, or `import vit_tactile_ros` would load torch')
        elif own in BY_NAME and (libraries := BY_NAME[own].libraries) is not None and top not in libraries | STANDARD:
            broken(f'{own}/ may import {", ".join([*sorted(libraries), "the standard library"])}')
    return found


def all_violations() -> list[str]:
    files = sorted(SOURCE.rglob('*.py'))
    entry_points = frozenset(file.stem for file in SOURCE.glob('*.py')) - {'__init__'}
    return [line for file in files
            for line in violations(file.relative_to(SOURCE), file.read_text(encoding='utf-8'), entry_points)]


def test_imports_go_down_the_layers():
    found = all_violations()
    assert not found, '\n'.join([*found, '', rule()])


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """The modules of the package that each module imports, anywhere in its file; `sources` by module name.

    A package whose submodule is imported does not count: only what is imported from it does.
    """
    packages = {name for name in sources if any(other.startswith(f'{name}.') for other in sources)}
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        names = (name for _, name in imported_names(ast.parse(source), module, module in packages))
        found = (name if name in sources else name.rpartition('.')[0] for name in names)
        graph[module] = {name for name in found if name in sources and name != module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[str]:
    """One path through each circle that a search meets."""
    found: list[str] = []
    done: set[str] = set()

    def search(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(' -> '.join((*path[path.index(module):], module)))
        elif module not in done:
            for imported in sorted(graph[module]):
                search(imported, (*path, module))
            done.add(module)

    for module in sorted(graph):
        search(module, ())
    return found


def test_no_module_imports_itself_by_way_of_others():
    """Also where the import stands in a function or under TYPE_CHECKING, which only hides a circle."""
    sources = {}
    for file in SOURCE.rglob('*.py'):
        parts = file.relative_to(SOURCE).with_suffix('').parts
        module = '.'.join((PACKAGE, *(parts[:-1] if parts[-1] == '__init__' else parts)))
        sources[module] = file.read_text(encoding='utf-8')
    assert circles(import_graph(sources)) == []


@pytest.mark.parametrize('second', ('from p.a import x', 'def late():\n    from . import a', 'import p.c',
                                    'if TYPE_CHECKING:\n    from p.a import X'))
def test_circles_are_found(second):
    sources = {'p': '', 'p.a': 'from p import b', 'p.b': second, 'p.c': 'from p.b import y'}
    assert len(circles(import_graph(sources))) == 1


def test_a_package_may_collect_its_modules():
    sources = {'p': 'from p.a import x', 'p.a': 'import p.b', 'p.b': ''}
    assert circles(import_graph(sources)) == []
    assert circles(import_graph(sources | {'p.b': 'from p import x'})) == ['p -> p.a -> p.b -> p']


def test_the_table_has_no_circle():
    """A layer that may import a later one of the table."""
    seen: set[str] = set()
    for layer in BY_NAME.values():
        assert set(layer.may_import) <= seen, layer.name
        seen.add(layer.name)


def test_every_folder_is_a_layer():
    folders = {folder.name for folder in SOURCE.iterdir() if any(folder.glob('*.py'))} - {'__pycache__'}
    assert folders == set(BY_NAME), rule()


@pytest.mark.parametrize(('path', 'source'), [
    ('training/loop.py', 'from vit_tactile_ros import flags'),
    ('training/loop.py', 'from vit_tactile_ros.flags import Flag'),
    ('model/vit.py', 'import vit_tactile_ros.inference.decode'),
    ('model/vit.py', 'from vit_tactile_ros.inference import decode'),
    ('model/vit.py', 'from ..inference import decode'),
    ('model/vit.py', 'from .. import data'),
    ('model/__init__.py', 'from ..data import bags'),
    ('model/vit.py', 'def late():\n    from vit_tactile_ros.ros import messages'),
    ('model/vit.py', 'import cv2'),
    ('foundation/files.py', 'import numpy'),
    ('foundation/files.py', 'from ..model import vit'),
    ('inference/decode.py', 'from vit_tactile_ros.data import simulator'),
    ('inference/decode.py', 'from sensor_msgs.msg import Image'),
    ('inference/decode.py', 'from vit_tactile_ros.msg import TactileClassification'),
    ('inference/decode.py', 'from vit_tactile_ros import msg'),
    ('data/bags.py', 'from vit_tactile_ros.ros import classifier_node'),
    ('data/bags.py', 'import rclpy.node'),
    ('data/bags.py', 'from vit_tactile_ros.evaluation import outputs'),
    ('evaluation/outputs.py', 'from vit_tactile_ros.training import loop'),
    ('data/deep/down.py', 'from ...ros import messages'),
    ('train.py', 'from vit_tactile_ros.sweep import main'),
    ('train.py', 'from . import sweep'),
    ('train.py', 'import rclpy'),
    ('inference/decode.py', 'from vit_tactile_ros import sweep'),
    ('ros/classifier_node.py', 'from ..train import main'),
    ('__init__.py', 'from .model import create_vit_tactile'),
])
def test_checker_refuses(path, source):
    assert len(violations(Path(path), source, frozenset({'train', 'sweep', 'demo'}))) == 1


@pytest.mark.parametrize(('path', 'source'), [
    ('model/vit.py', 'import math, torch\nfrom torch import nn\nfrom safetensors.torch import save_file'),
    ('model/vit.py', 'from .attention import Attention\nfrom vit_tactile_ros.model import attention'),
    ('model/vit.py', 'from vit_tactile_ros import __version__'),
    ('model/__init__.py', 'from .vit import create_vit_tactile'),
    ('inference/decode.py', 'import cv2\nfrom ..model import create_vit_tactile'),
    ('data/bags.py', 'import rosbags.highlevel\nfrom ..inference.decode import decode'),
    ('data/deep/down.py', 'from ..bags import read\nfrom ...model import vit'),
    ('ros/classifier_node.py', 'import rclpy\nfrom vit_tactile_ros.msg import Any\nfrom ..data import bags'),
    ('demo.py', 'import rclpy\nfrom std_msgs.msg import String\nfrom .ros import simulator_node'),
    ('train.py', 'import torch\nfrom vit_tactile_ros.data import simulator'),
    ('train.py', 'from vit_tactile_ros import flags\nfrom vit_tactile_ros.flags import Flag'),
    ('__init__.py', 'from vit_tactile_ros.foundation import interrupt'),
])
def test_checker_allows(path, source):
    assert violations(Path(path), source, frozenset({'train', 'sweep', 'demo'})) == []
