"""The launch files with the real `ros2 launch`; its sources are not on the package index, so it may be absent."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess

import pytest
from live_nodes import TIMEOUT, image, wait_until
from toy_clips import write_clip

pytestmark = pytest.mark.skipif(
    shutil.which('ros2') is None,
    reason='no `ros2` command here (launch files are tested on machines with a ROS 2 installation)')


@pytest.fixture
def launch(tmp_path):
    """Starts a launch file of the package and ends it with Ctrl-C, as a user would."""
    started = []

    def start(file: str, **arguments: object) -> subprocess.Popen:
        with (tmp_path / 'launch.log').open('wb') as log:
            started.append(subprocess.Popen(
                ['ros2', 'launch', 'vit_tactile_ros', file, *(f'{k}:={v}' for k, v in arguments.items())],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True))
        return started[-1]

    start.log = lambda: (tmp_path / 'launch.log').read_text(errors='replace')
    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0, start.log()
        # The end of Python took up to 5 s, after which launch kills; a list in an argument was 'ignored'.
        assert 'failed to terminate' not in start.log() and 'is ignored' not in start.log()


def kill(process: subprocess.Popen, executable: str) -> None:
    """The launch process runs in a session of its own, and so do its children."""
    pids = subprocess.run(['pgrep', '-s', str(process.pid), '-f', f'lib/vit_tactile_ros/{executable}'],
                          capture_output=True, text=True, check=True).stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)


def test_tactile_launch_passes_its_arguments(launch, client, tiny_checkpoint):
    """Every argument reaches the node; what is not given comes from the parameter file."""
    launch('tactile.launch.py', sensors='[left, right]', checkpoint=tiny_checkpoint, tau='[1, 0]', device='cpu',
           namespace='hand', skip_unchanged='true')
    results = client.listen('/hand/right/tactile')
    client.send_until(image(3), lambda: results, 'a result', '/hand/right/image_raw')
    assert list(results[0].tau) == [1.0, 0.0]
    assert results[0].sensor == 'right'
    node = '/hand/tactile_classifier'
    assert client.get_parameter_of('device', node) == 'cpu'
    assert client.get_parameter_of('skip_unchanged', node) is True  # was ignored without a word
    assert client.get_parameter_of('diagnostics_period', node) == 1.0


def test_killed_node_comes_back(launch, client, tiny_checkpoint):
    """Respawn: a crash costs seconds, not the robot's touch."""
    process = launch('tactile.launch.py', checkpoint=tiny_checkpoint)
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    kill(process, 'tactile_classifier')
    wait_until(lambda: 'process has died' in launch.log(), launch.log)
    count = len(results)
    client.send_until(image(2), lambda: len(results) > count, 'a result after the crash')


def test_file_is_not_overruled_by_arguments_that_were_not_given(launch, client, tiny_checkpoint, tmp_path):
    """autostart: false in a managed robot's file must not be turned into true by a default."""
    path = tmp_path / 'managed.yaml'
    path.write_text('/**/tactile_classifier:\n  ros__parameters:\n    autostart: false\n'
                    f'    checkpoint: {tiny_checkpoint}\n')
    launch('tactile.launch.py', params_file=path)
    assert client.state() == 'unconfigured'
    assert client.change_state('configure')


def test_a_parameter_file_that_is_not_there_ends_the_launch(tmp_path):
    """The node ran on defaults, and the only trace of a mistyped path was a warning."""
    command = ['ros2', 'launch', 'vit_tactile_ros', 'tactile.launch.py', f'params_file:={tmp_path}/no.yaml']
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert ended.returncode != 0
    assert f"params_file is '{tmp_path}/no.yaml'" in ended.stdout + ended.stderr


def test_a_list_of_mixed_numbers_is_taken(launch, client, tiny_checkpoint):
    """ROS refuses tau:='[0.9, 1]' as a list of two types."""
    launch('tactile.launch.py', checkpoint=tiny_checkpoint, tau='[0.5, 1]')
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    assert list(results[0].tau) == [0.5, 1.0]


@pytest.mark.parametrize('is_in_file', [False, True])
def test_reflex_launch(launch, client, tiny_checkpoint, states_checkpoint, tmp_path, is_in_file):
    """Both nodes classify the same images, also of the sensors that only the parameter file names."""
    file = tmp_path / 'reflex.yaml'
    file.write_text(''.join(f'/**/{node}:\n  ros__parameters:\n    sensors: [left]\n    threads: 1\n'
                            for node in ('tactile_classifier', 'slip_detector')))
    launch('reflex.launch.py', checkpoint=tiny_checkpoint, slip_checkpoint=states_checkpoint, namespace='hand',
           tau='[0.0, 1.0]', device='cpu', **{'params_file': file} if is_in_file else {'sensors': '[left]'})
    shapes, slip = client.listen('/hand/left/tactile'), client.listen('/hand/left/slip/tactile')
    client.send_until(image(3), lambda: shapes and slip, 'both results', '/hand/left/image_raw')
    assert list(shapes[0].tau) == [0.0, 1.0] and list(slip[0].tau) != [0.0, 1.0]
    assert list(slip[0].class_names) == ['no_contact', 'stable', 'moving', 'slip']
    assert client.count_publishers('/hand/left/slip/touch_event') == 1
    assert client.count_publishers('/hand/left/tactile') == client.count_publishers('/hand/left/slip/annotated') == 1
    for node in ('tactile_classifier', 'slip_detector'):
        assert client.get_parameter_of('device', f'/hand/{node}') == 'cpu'


def test_demo_launch(launch, client):
    """The simulated fingers are classified."""
    launch('demo.launch.py', tau=0.5, rate=20)
    for finger in ('left', 'right'):
        results = client.listen(f'/{finger}/tactile')
        client.wait(lambda results=results: results, f'a result of {finger}')
        assert list(results[0].tau) == [0.5, 0.5]


def test_camera_launch(launch, client, tiny_checkpoint, tmp_path):
    """A video in place of the camera, repeated, with the parameter file of the sensor; its images are classified.

    A camera that is killed comes back.
    """
    clip = write_clip(tmp_path / 'clip.avi', 20, size=(320, 240))
    process = launch('tactile_camera.launch.py', sensor='digit', video=clip, checkpoint=tiny_checkpoint)
    results = client.listen()
    client.wait(lambda: len(results) > 20, 'results')
    assert client.get_parameter_of('profile', '/tactile_camera') == 'digit'
    kill(process, 'tactile_camera')
    wait_until(lambda: 'process has died' in launch.log(), launch.log)
    count = len(results)
    client.wait(lambda: len(results) > count + 20, 'results after the crash')


@pytest.mark.parametrize('is_in_file', [False, True])
def test_camera_launch_names_both_nodes(launch, client, tiny_checkpoint, tmp_path, is_in_file):
    """The classifier alone had the namespace, and the camera alone the name in its file: no result, no error."""
    clip = write_clip(tmp_path / 'clip.avi', 20)
    file = tmp_path / 'camera.yaml'
    file.write_text('/**/tactile_camera:\n  ros__parameters:\n'
                    f'    {"camera_name: left" if is_in_file else "rate: 30.0"}\n')
    launch('tactile_camera.launch.py', camera_params_file=file, video=clip, namespace='hand',
           checkpoint=tiny_checkpoint, **{} if is_in_file else {'camera_name': 'left'})
    results = client.listen('/hand/left/tactile')
    client.wait(lambda: len(results) > 5, 'results')
    assert results[0].sensor == 'left'


def test_device_of_the_camera_is_not_that_of_the_classifier(launch, client, tiny_checkpoint):
    """`device` means a path for one and a processor for the other, which ended with status 2 every 2 s."""
    launch('tactile_camera.launch.py', device='/dev/no_camera', checkpoint=tiny_checkpoint)
    assert client.get_parameter_of('device', '/tactile_camera') == '/dev/no_camera'
    assert client.get_parameter_of('device', '/tactile_classifier') == 'auto'
    assert client.get_parameter_of('checkpoint', '/tactile_classifier') == str(tiny_checkpoint)


def test_a_serial_number_of_digits_is_text(launch, client, tiny_checkpoint):
    """ROS makes a number of it unless it is quoted, and the camera refuses a number."""
    launch('tactile_camera.launch.py', serial='0020025', checkpoint=tiny_checkpoint)
    assert client.get_parameter_of('serial', '/tactile_camera') == '0020025'


@pytest.mark.parametrize(('wrong', 'other', 'is_damaged'), [('tactile_camera', 'tactile_classifier', False),
                                                            ('tactile_classifier', 'tactile_camera', False),
                                                            ('tactile_classifier', 'tactile_camera', True)])
def test_a_mistake_is_not_repeated(launch, client, tiny_checkpoint, tmp_path, wrong, other, is_damaged):
    """A node with a wrong parameter or a damaged checkpoint was started every 2 s, each time with the same message."""
    if is_damaged:
        (tmp_path / 'no.safetensors').write_text('not weights')
    file = tmp_path / 'camera.yaml'
    rotation = 45 if wrong == 'tactile_camera' else 90
    file.write_text(f'/**/tactile_camera:\n  ros__parameters:\n    rotation: {rotation}\n')
    process = launch('tactile_camera.launch.py', camera_params_file=file, serial='D0',
                     checkpoint=tiny_checkpoint if wrong == 'tactile_camera' else tmp_path / 'no.safetensors')
    wait_until(lambda: 'exit code 2' in launch.log(), launch.log)
    wait_until(lambda: client.count_publishers('/diagnostics' if other == 'tactile_classifier' else '/image_raw'),
               launch.log)
    kill(process, other)  # it is started again after 2 s, which is when the wrong one would have been
    wait_until(lambda: len(re.findall(other + r'-\d+\]: process started', launch.log())) == 2, launch.log)
    assert len(re.findall(wrong + r'-\d+\]: process started', launch.log())) == 1


def test_a_camera_file_that_is_not_there_ends_the_launch(tmp_path):
    """launch_ros starts the node without it, on defaults."""
    for argument, message in ((f'camera_params_file:={tmp_path}/no.yaml', f'{tmp_path}/no.yaml does not exist'),
                              ('sensor:=gelsight', "sensor (which is 'gelsight') one of gelsight_mini")):
        ended = subprocess.run(['ros2', 'launch', 'vit_tactile_ros', 'tactile_camera.launch.py', argument],
                               capture_output=True, text=True, timeout=TIMEOUT)
        assert ended.returncode != 0
        assert message in ended.stdout + ended.stderr
