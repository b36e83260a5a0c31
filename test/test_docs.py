"""The documentation against the code: links, paths, generated pages, and every command that a page prints."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import architecture_figure
import pytest
import reference
from command_reference import commands as command_names
from command_reference import commands_page
from documentation import PAGES, ROOT, broken_links, commands, of_package
from markdown_text import prose

# First words of the shell lines that are no command of this package.
TOOLS = {'make', 'export', 'tools/gpu_check.sh', '.', 'cd', 'source', 'pip', 'colcon', 'python3', 'ros2', 'python'}
ALL = [command for page in PAGES for command in commands(page)]
OURS = [command for command in ALL if of_package(command.text)]
MARKDOWN = sorted({*PAGES, *ROOT.glob('*.md'), *ROOT.glob('.github/**/*.md')})


def rules(module: str) -> dict:
    """The parameters of a node; skips the test where the package was installed by pip, which excludes the nodes."""
    reason = 'the nodes need ROS 2 and the built package'
    return pytest.importorskip(f'vit_tactile_ros.ros.{module}', reason=reason).RULES


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope='module')
def generated() -> dict[Path, str]:
    rules('parameters')
    return reference.generated()


@pytest.mark.parametrize('page', [*reference.PAGES, *reference.REGIONS])
def test_generated_pages_are_up_to_date(generated, page):
    """A parameter, a message field, an option, a docstring or a layer that was changed without `make reference`."""
    assert (ROOT / page).read_text(encoding='utf-8') == generated[ROOT / page], f'{page}: run `make reference`'


@pytest.mark.parametrize('name', command_names())
def test_the_summary_of_a_command_is_in_its_page(name):
    """The table showed the second paragraph of the docstring, and no section had the first."""
    module = importlib.import_module(f'vit_tactile_ros.{name}')
    summary = prose(module.__doc__.split('\n\n')[0])
    page = commands_page('')
    assert f'| [`{name}`](#{name}) | {summary} |\n' in page
    section = page.split(f'\n## {name}\n\n')[1].split('\n\n')[0]
    assert ' '.join(section.split()) == summary


def test_the_figure_is_up_to_date():
    assert architecture_figure.FIGURE.read_text(encoding='utf-8') == architecture_figure.figure(), (
        'run `make architecture`')


def test_a_generated_page_out_of_date_is_named(tmp_path):
    """`tools/reference.py --check` ends with 1 and names the page."""
    page = ROOT / 'docs' / 'reference' / 'messages.md'
    script = ('import sys, reference; reference.PAGES = {"docs/reference/messages.md": lambda: "other"}; '
              'reference.REGIONS = {}; sys.argv = ["reference.py", "--check"]; sys.exit(reference.main())')
    done = subprocess.run([sys.executable, '-c', f'import sys; sys.path.insert(0, {str(ROOT / "tools")!r}); {script}'],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (
        1, f'{name_of(page)} is out of date: run `make reference`\n'), done.stderr


@pytest.mark.parametrize('page', MARKDOWN, ids=name_of)
def test_links_lead_somewhere(page):
    """Every relative link and image is a file, and every anchor a heading of it."""
    assert broken_links(page) == []


@pytest.mark.parametrize(('text', 'broken'), [
    ('[a](other.md)', 0), ('[a](other.md#a-heading-with-code)', 0), ('[a](#here)', 0), ('[a](https://x.org/y)', 0),
    ('`[a](nothing.md)`', 0), ('```sh\n[a](nothing.md)\n```', 0),
    ('[a](nothing.md)', 1), ('![a](nothing.svg)', 1), ('[a](other.md#nothing)', 1), ('[a](#nothing)', 1)])
def test_broken_links_are_found(tmp_path, text, broken):
    (tmp_path / 'other.md').write_text('# A heading, with `code`!\n')
    page = tmp_path / 'page.md'
    page.write_text(f'# Here\n\n{text}\n')
    assert len(broken_links(page)) == broken


@pytest.mark.parametrize('page', reference.handwritten(), ids=name_of)
def test_named_files_exist(page):
    """Every path of the repository that a page names; `tools/reference.py --follow-moves` corrects moved ones."""
    gone = [path for path in reference.paths_in(page.read_text(encoding='utf-8')) if not (ROOT / path).exists()]
    assert gone == []


def test_moved_files_are_followed(tmp_path, monkeypatch, capsys):
    """A path is corrected where one file of that name is left, and named where none or several are."""
    monkeypatch.setattr(reference, 'ROOT', tmp_path)
    for file in ('tools/deep/one.py', 'tools/a/two.py', 'tools/b/two.py'):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / 'README.md').write_text('`tools/one.py` `tools/one.py` `tools/two.py` `tools/none.py`')
    reference.follow_moves()
    assert (tmp_path / 'README.md').read_text() == (
        '`tools/deep/one.py` `tools/deep/one.py` `tools/two.py` `tools/none.py`')
    assert capsys.readouterr().err.splitlines() == [
        'README.md: tools/two.py is gone; 2 files have that name',
        'README.md: tools/none.py is gone; 0 files have that name']


def test_changes_are_described():
    """docs/architecture.md says for at least twenty changes where to go."""
    section = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8').split('## To change X, go to Y')[1]
    rows = [line for line in section.splitlines() if line.startswith('| ')][1:]
    assert len(rows) >= 20
    assert [row for row in rows if not reference.paths_in(row)] == []


@pytest.fixture(scope='module')
def inputs(tmp_path_factory) -> Path:
    """A folder with the files that parsers look for."""
    folder = tmp_path_factory.mktemp('inputs') / 'here'
    (folder / 'clips').mkdir(parents=True)
    (folder.parent / 'before').mkdir()  # another checkout
    (folder.parent / 'before' / 'env.sh').touch()
    for clip in ('touch.avi', 'clips/touch.avi'):
        (folder / clip).touch()
    shutil.copy(next((ROOT / 'vit_tactile_ros').rglob('sensors/gelsight.json')), folder / 'my_sensor.json')
    return folder


@pytest.mark.parametrize('command', OURS, ids=str)
def test_commands_are_understood(command, inputs, monkeypatch):
    """Every command's flags and values are taken by its own parser."""
    monkeypatch.chdir(inputs)
    name, arguments = of_package(command.text)
    if '--help' in arguments:
        assert name in command_names()
    else:
        importlib.import_module(f'vit_tactile_ros.{name}').parse_arguments(arguments)


def test_every_command_is_in_a_guide():
    """A command that no page shows."""
    assert set(command_names()) - {of_package(command.text)[0] for command in OURS} == set()


def test_no_other_command_is_printed():
    """A line in a shell block that no test looks at."""
    assert [f'{c}: {c.text}' for c in ALL if c not in OURS and c.text.split()[0] not in TOOLS] == []
    assert [f'{c}: {c.text}' for c in ALL if c not in OURS and c.text.startswith('python ')
            and not c.text.startswith('python -m pytest test/')] == []


def test_make_targets_exist():
    """Every `make X` of a page is a target."""
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(encoding='utf-8'), flags=re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r'(?:^|`)make ([a-z]+)', page.read_text(encoding='utf-8'), flags=re.MULTILINE))
        assert named <= targets, name_of(page)


def test_launch_files_and_arguments_exist():
    """Every `ros2 launch` names a launch file, and every argument one that it declares."""
    lines = [command for command in ALL if command.text.startswith('ros2 launch')]
    assert len(lines) >= 3
    for command in lines:
        _, _, package, file, *given = command.text.split(maxsplit=4)
        assert package == 'vit_tactile_ros'
        files = {file} | set(re.findall(r"'(\w+\.launch\.py)'", (ROOT / 'launch' / file).read_text()))  # it includes
        declared = {name for each in files for name, _, _ in reference.launch_arguments(ROOT / 'launch' / each)}
        assert set(re.findall(r'(\w+):=', ' '.join(given))) <= declared, str(command)


def test_executables_exist():
    """Every `ros2 run` names an executable."""
    cmake = (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8')
    named = {command.text.split()[3] for command in ALL if command.text.startswith('ros2 run')}
    assert named == {'tactile_classifier', 'tactile_camera', 'tactile_simulator', 'grasp_controller.py'}
    assert [name for name in named if f'install_node({name} ' not in cmake and f'examples/{name} ' not in cmake] == []


def test_parameters_that_are_set_exist():
    """Every `ros2 param set` and `-p NAME:=` names a parameter, with a value that its rule takes."""
    classifier, camera, simulator = (rules(name) for name in ('parameters', 'camera.parameters', 'simulator_node'))
    for command in ALL:
        names = re.findall(r'-p "?(\w+):=', command.text)
        if match := re.fullmatch(r'ros2 param set /tactile_classifier (\w+) (\S+)', command.text):
            names.append(match[1])
            value = float(match[2]) if re.fullmatch(r'[\d.]+', match[2]) else match[2]
            assert classifier[match[1]].check(value) == '', str(command)
        known = (simulator.keys() if 'tactile_simulator' in command.text else
                 camera.keys() if 'tactile_camera' in command.text else classifier.keys())
        assert set(names) <= set(known), str(command)
    guide = (ROOT / 'docs/guides/ros.md').read_text(encoding='utf-8').split('## Simulated sensors')[1]
    assert [name for name in simulator if f'| `{name}` |' not in guide] == []


def test_diagnostics_are_described():
    """A value that the node publishes on /diagnostics and docs/guides/ros.md does not explain."""
    source = ast.parse((ROOT / 'vit_tactile_ros' / 'ros' / 'diagnostics.py').read_text(encoding='utf-8'))
    function = next(node for node in source.body if getattr(node, 'name', '') == 'sensor_status')
    keys = {key.value for node in ast.walk(function) if isinstance(node, ast.Dict) for key in node.keys
            if isinstance(key, ast.Constant)}
    keys |= {node.slice.value for node in ast.walk(function) if isinstance(node, ast.Subscript)
             and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)}
    guide = (ROOT / 'docs' / 'guides' / 'ros.md').read_text(encoding='utf-8')
    assert len(keys) >= 14
    assert [key for key in sorted(keys) if f'`{key}`' not in guide] == []


def test_columns_of_a_replay_are_described(tmp_path):
    """A column of frames.csv that docs/guides/recordings.md does not explain."""
    from toy_frames import toy_frames

    toy_frames(4).write_csv(tmp_path / 'frames.csv')
    columns = (tmp_path / 'frames.csv').read_text(encoding='utf-8').splitlines()[0].split(',')
    guide = (ROOT / 'docs' / 'guides' / 'recordings.md').read_text(encoding='utf-8')
    assert [name for name in columns if not name.startswith('logit_block_') and f'`{name}`' not in guide] == []


def test_the_counters_of_the_node_are_in_the_glossary():
    glossary = (ROOT / 'docs' / 'reference' / 'glossary.md').read_text(encoding='utf-8')
    assert [word for word in ('received', 'classified', 'superseded', 'rejected', 'pending', 'lost')
            if f'| {word} |' not in glossary] == []


@pytest.mark.parametrize('page', MARKDOWN, ids=name_of)
def test_no_placeholder_is_left(page):
    """TABLE_2 where measurements should be."""
    assert not re.findall(r'^[A-Z][A-Z_0-9]{3,}$|@+[A-Z][^@\n]*@', page.read_text(encoding='utf-8'), re.MULTILINE)


# Words that stopped readers; docs/reference/glossary.md has those to use. Code is not searched.
BANNED = re.compile(
    r'\banswer(?:s|ed|ing)?\b|\bleav(?:e|es|ing) (?:at|early)\b|\bsure(?:r|ly)? of\b|\bhow sure\w*|\banew\b|\btold\b'
    r'|\b(?:go|goes|going|went) on\b|\bsome \d\w*|(?<!there )\b(?:is|are|was|were) no (?!longer|more|less|\w+er\b)\w+'
    r'|; none: |\bfor people\b|\bdisk refused\b|\bsays?\b|\bas it were\b|\bpromis\w+|\bpictures?\b(?! of the view\b)',
    re.IGNORECASE)
HELP_TEXTS = [ROOT / 'docs' / 'reference' / f'{page}.md' for page in ('commands', 'parameters', 'messages')]
WORDED = [*MARKDOWN, *HELP_TEXTS, *ROOT.glob('.github/ISSUE_TEMPLATE/*.yml'),
          ROOT / 'vit_tactile_ros' / 'evaluation' / 'recordings' / 'report.html']


def banned_words(text: str) -> list[str]:
    text = re.sub(r'```.*?```|`[^`\n]*`', '`', text, flags=re.DOTALL)
    return [' '.join(found[0].split()) for found in BANNED.finditer(text)]


@pytest.mark.parametrize('page', sorted({*WORDED} - {ROOT / 'docs' / 'reference' / 'modules.md'}), ids=name_of)
def test_wording(page):
    """In the pages, the help of commands, parameters and messages, the issue templates and the report."""
    assert banned_words(page.read_text(encoding='utf-8')) == []


@pytest.mark.parametrize(('text', 'words'), [
    ('an image leaves at the first exit that is at least so sure of it', ['leaves at', 'sure of']),
    ('the fastest that answers as torch does', ['answers']), ('takes some 800 samples', ['some 800']),
    ('stop and go on', ['go on']), ('it is no default', ['is no default']), ('file; none: the shipped', ['; none:']),
    ('its origin, for people', ['for people']), ('what the network says', ['says']), ('no picture', ['picture']),
    ('an image exits at the first head whose confidence reaches tau', []), ('Stop and resume', []),
    ('about 800 samples', []), ('it is no longer used', []), ('the deeper exits are no better', []),
    ('there is no label', []),
    ('`--picture FILE` writes a picture of the view', []), ('```sh\necho answer\n```', [])])
def test_words_that_stop_readers_are_found(text, words):
    assert banned_words(text) == words


def test_library_examples_run(request):
    """The Python blocks work as written."""
    import torch

    guide = (ROOT / 'docs' / 'guides' / 'train.md').read_text(encoding='utf-8')
    untrained, shipped = re.findall(r'```python\n(.*?)```', guide, flags=re.DOTALL)
    scope = {'images': torch.zeros(2, 3, 224, 224)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine torch's threads spend most of their time waiting for one another
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    exec(untrained, scope)
    assert scope['logits'].shape == (2, 10)
    assert scope['exit_idx'].shape == (2,)
    exec(shipped, scope)
    # An image that equals its reference is no contact, at the first exit.
    assert scope['decision'].class_name == 'no_contact'
    assert scope['decision'].exit_block == 4
