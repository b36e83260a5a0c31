"""What stands on the command line of a node and in its parameter files, and is not what was meant."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import rclpy
from live_nodes import TIMEOUT
from node_forker import forked
from rclpy.node import Node

from vit_tactile_ros.data.plain_yaml import load_yaml
from vit_tactile_ros.ros.live.node_process import launched
from vit_tactile_ros.ros.start import parameters_in


def ended(module: str, *words: str, fresh: bool = False) -> str:
    """The output of a node that ends with status 2 and without a traceback. fresh: started as a user does."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / 'log'
        node = launched(module, list(words), log, (sys.executable,)) if fresh else forked(module, words, log)
        try:
            status = node.wait(TIMEOUT)
        finally:
            node.send_signal(signal.SIGKILL)
        told = log.read_text(errors='replace')
    assert status == 2, told
    assert 'Traceback' not in told
    return told


@pytest.mark.parametrize('module', ['classifier_node', 'simulator_node'])
def test_the_same_in_a_fresh_process(module):
    """The others are forks of a process that has imported everything."""
    words = ('--ros-args', '-p', 'tua:=5.0')
    fresh, fork = (re.sub(r'\d+\.\d{6,}', 'TIME', ended(module, *words, fresh=fresh)) for fresh in (True, False))
    assert fresh == fork and 'tua' in fresh


@pytest.mark.parametrize(('module', 'words', 'told'), [
    ('classifier_node', ['tau:=0.9'], 'tau:=0.9 is ignored; parameters are given as --ros-args -p tau:=0.9'),
    ('classifier_node', ['--tau', '0.9'], '--tau is ignored; parameters are given as --ros-args -p tau:=0.9'),
    ('simulator_node', ['rate:=5'], 'rate:=5 is ignored; parameters are given as --ros-args -p rate:=5'),
    ('simulator_node', ['--rate=5'], '--rate=5 is ignored; parameters are given as --ros-args -p rate:=5'),
    ('simulator_node', ['--rat', '5'], '--rat is ignored; parameters are given as --ros-args -p rate:=5'),
    ('classifier_node', ['device:=cpu'], 'device:=cpu is ignored; parameters are given as --ros-args -p device:=cpu'),
    ('simulator_node', ['--ros-args', '__ns:=/left'], 'remappings are given as --ros-args -r __ns:=/left'),
    ('simulator_node', ['--ros-args', '-p', 'rate:=5.0', '--', 'seed:=3'], '--ros-args -p seed:=3'),
    ('simulator_node', ['--ros-args', 'rate:=5'], '--ros-args -p rate:=5'),
    ('simulator_node', ['--ros-args', '--rate', '5'], '--ros-args -p rate:=5'),
    ('simulator_node', ['--help'], 'the parameters are sensor, rate, seed, activity, frame_id, image_transport'),
])
def test_words_that_rclpy_drops(module, words, told):
    """A parameter without --ros-args was dropped silently: the node ran with another tau than the one written there."""
    assert told in ended(module, *words)


def test_remappings_without_ros_args_still_work():
    """rcl takes them, with a warning of its own that the syntax is old."""
    process = subprocess.Popen([sys.executable, '-m', 'vit_tactile_ros.ros.simulator_node', '__ns:=/left'],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert any('at 30 Hz on /left/image_raw' in line for line in process.stdout)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(('words', 'told'), [
    (['-p', 'rat:=5.0'], '-p rat: rat is not a parameter of this node; did you mean rate?'),
    (['-p', 'tactile_simulator:rat:=5.0'], 'did you mean rate?'),
    (['-r', 'x:='], '-r x:=: must be FROM:=TO, two names, neither of them empty'),
    (['-r', ':=y'], '-r :=y: must be FROM:=TO'),
    (['-p', 'rate:='], "-p rate:=: must be -p NAME:=VALUE, such as -p tau:=0.9; an empty text is written NAME:=''"),
    (['-p', 'rate:=500'], 'rate is 500; must be a number from 1 to 120 (-p rate)'),
    (['-p', 'frame_id:=5'], 'frame_id is 5; must be a text, in quotes where it looks like a number (-p frame_id)'),
    (['-p', 'x:=[0.9, 1]'], 'in a list every number needs a decimal point: write [0.9, 1.0]'),
    (['-p'], 'trailing -p'),
    (['--params-file', '/no/such.yaml'], '/no/such.yaml'),
    (['-r', '__ns:=/' + 'x' * 300], 'may have 247 characters'),
    (['-r', '__ns:=/' + 'x' * 230], 'may have 247 characters'),
    (['-r', '__node:=' + 'x' * 300], 'may have 247 characters'),
])
def test_ros_arguments_that_are_wrong(words, told):
    assert told in ended('simulator_node', '--ros-args', *words)


@pytest.mark.parametrize('environment', [{'HOME': '/proc/none'}, {'HOME': ''}, {'ROS_LOG_DIR': '/proc'}])
@pytest.mark.parametrize('module', ['ros.simulator_node', 'demo'])
def test_a_log_folder_that_cannot_be_written(module, environment):
    """rclpy's own error has a traceback, and does not say what to set."""
    others = {name: value for name, value in os.environ.items() if name != 'ROS_LOG_DIR'}
    done = subprocess.run([sys.executable, '-m', f'vit_tactile_ros.{module}'], capture_output=True, text=True,
                          timeout=TIMEOUT, env=others | environment)
    assert done.returncode == 2
    assert 'set ROS_LOG_DIR (or HOME) to a writable folder' in done.stderr and 'Traceback' not in done.stderr


def write(tmp_path, section: str, **values: object) -> str:
    path = tmp_path / 'parameters.yaml'
    lines = ''.join(f'    {name}: {value}\n' for name, value in values.items())
    path.write_text(f'{section}:\n  ros__parameters:\n{lines}')
    return str(path)


@pytest.mark.parametrize('section', ['/**/tactile_simulator', 'tactile_simulator', '/tactile_simulator', '/*'])
def test_a_misspelt_parameter_in_a_file(start, tmp_path, section):
    """A typo ran on the default. In a section for several nodes it may be another node's, so it is a warning."""
    path = write(tmp_path, section, rat=5.0)
    if section != '/*':
        told = ended('simulator_node', '--ros-args', '--params-file', path)
        assert f'{path}, section' in told and 'rat is not a parameter of this node; did you mean rate?' in told
    else:
        node = start('simulator_node', '--params-file', path)
        node.wait_for_output('rat is not a parameter of this node; did you mean rate? (ignored')
        assert node.stop() == 0


@pytest.mark.parametrize(('values', 'told'), [
    ({'seed': 1.5}, 'seed is 1.5; must be an integer'), ({'rate': 500}, 'rate is 500; must be a number from 1 to 120')])
def test_a_wrong_value_in_a_file_is_traced_to_it(tmp_path, values, told):
    """Neither the file nor what would be right was named: `expecting type 'INTEGER': seed`."""
    path = write(tmp_path, '/**', **values)
    assert f'{told} ({path}, section /**)' in ended('simulator_node', '--ros-args', '--params-file', path)


def test_an_integer_in_a_file_is_a_number(start, tmp_path):
    node = start('simulator_node', '--params-file', write(tmp_path, '/**', rate=5))
    node.wait_for_output('at 5 Hz')
    assert node.stop() in (0, 130)


def test_a_list_as_launch_writes_it(start, tmp_path):
    """launch_ros gives lists a tag: the node told that the file, which it used, was ignored."""
    path = tmp_path / 'launch_params'
    path.write_text('/**:\n  ros__parameters:\n    sensors: !!python/tuple\n    - left\n    - right\n')
    node = start('simulator_node', '--params-file', str(path))
    node.wait_for_output('sensors is not a parameter of this node')  # so the section was found
    assert node.stop() in (0, 130) and 'has no parameters' not in node.output


def test_a_file_for_another_node(start, tmp_path):
    """A file whose section names another node changes nothing, and nothing told so."""
    path = write(tmp_path, '/left/tactile_simulator', rate=5.0)
    node = start('simulator_node', '--params-file', path)
    node.wait_for_output(f'{path} has no parameters for /tactile_simulator (its sections: /left/tactile_simulator)')
    assert node.stop() in (0, 130)  # it may not spin yet
    node = start('simulator_node', '--params-file', path, '-r', '__ns:=/left')
    node.wait_for_output('at 5 Hz')
    assert node.stop() in (0, 130) and 'holds nothing' not in node.output


def test_nested_sections_and_parameters_are_found(tmp_path):
    file = tmp_path / 'p.yaml'
    file.write_text('{n: {a: {ros__parameters: {x: 1, y: {z: 2}}}}, /**: {ros__parameters: {w: 3}}, odd: 4}')
    assert parameters_in(str(file)) == [('/n/a', ['x', 'y.z']), ('/**', ['w'])]


WORDS = ("y no On off tRue 'yes' 1_000 1:30 010 08 -010 0x1F 0o17 0b11 +5 9223372036854775808 1e3 1. .5 1.5e "
         '1e400 0x1p3 .inf -inf .NaN nan 2026-01-02 1,000 = <<').split()


def test_values_of_a_parameter_file_are_those_of_rcl(tmp_path):
    """1:30 was 90, 1_000 was 1000 and 010 differed between Python and ROS."""
    file = tmp_path / 'words.yaml'
    file.write_text('/**:\n  ros__parameters:\n' + ''.join(f'    p{n}: {word}\n' for n, word in enumerate(WORDS)))
    context = rclpy.Context()
    rclpy.init(args=['x', '--ros-args', '--params-file', str(file)], context=context)
    try:
        node = Node('reader', context=context, enable_rosout=False)
        of_rcl = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    values = load_yaml(file.read_text())['/**']['ros__parameters']
    assert len(values) == len(WORDS) and repr(dict(sorted(values.items()))) == repr(dict(sorted(of_rcl.items())))
