"""The camera node over real DDS, on videos and folders; no camera is attached where this runs."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from documentation import ROOT
from live_nodes import TIMEOUT, wait_until
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from real_data import real_data
from sensor_msgs.msg import Image
from toy_clips import write_clip

from vit_tactile_ros.inference.decode import decode
from vit_tactile_ros.ros import camera_node
from vit_tactile_ros.ros.camera.parameters import RULES
from vit_tactile_ros.ros.camera_node import TactileCameraNode
from vit_tactile_ros.ros.topics import image_qos

QOS = 'qos_overrides./image_raw.publisher'
CONFIGS = sorted((ROOT / 'config').glob('camera_*.yaml'))


@pytest.fixture
def camera(start):
    """Starts the camera node with fast diagnostics; no image is lost on a busy machine."""
    common = {'diagnostics_period': 0.1, f'{QOS}.reliability': 'reliable', f'{QOS}.depth': 1000}
    return lambda *arguments, **parameters: start('camera_node', *arguments, **common | parameters)


@pytest.fixture
def images(client) -> list[Image]:
    """Fills with what is published on /image_raw."""
    found: list[Image] = []
    client.create_subscription(Image, '/image_raw', found.append, 1000)
    return found


def status(client):
    return client.status('camera', 'tactile_camera')


def values(client) -> dict[str, str]:
    return client.values('camera', 'tactile_camera')


def stamps(images) -> list[float]:
    return [image.header.stamp.sec + image.header.stamp.nanosec / 1e9 for image in images]


def level(image: Image) -> int:
    """The number that write_clip and write_folder put into an image."""
    return int(decode(image).mean() / 8 + 0.5)


def write_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f'{number}.png'), np.full((12, 16, 3), 8 * number, np.uint8))
    return folder


def test_a_video_is_a_camera_until_it_ends(camera, client, images, tmp_path):
    """At its rate by the stamps, with frame_id; then a line, a last status, and exit status 0."""
    clip = write_clip(tmp_path / 'clip.avi', 300, rate=50.0)
    node = camera(video=clip, frame_id='thumb')
    wait_until(lambda: images, lambda: 'an image')
    assert abs(stamps(images)[0] - time.time()) < 2.0
    assert node.wait_for_end() == 0, node.output
    assert f'video {clip} has ended after 300 images' in node.output
    assert len(images) == 300
    steps = np.diff(stamps(images))
    assert (steps > 0).all()
    assert statistics.median(steps) == pytest.approx(0.02, abs=0.002)
    assert {image.header.frame_id for image in images} == {'thumb'}
    assert [level(image) for image in images] == [n % 30 for n in range(300)]
    wait_until(lambda: status(client) and status(client).message == 'the video has ended', lambda: str(status(client)))
    assert status(client).level == DiagnosticStatus.OK
    assert values(client)['images'] == '300' and values(client)['failed reads'] == '0'


@pytest.mark.parametrize('source', ['video', 'folder'])
def test_a_file_starts_with_its_first_subscriber(camera, client, tmp_path, source):
    """The first images went out before a classifier was found, which then took its reference from touched images."""
    path = write_clip(tmp_path / 'clip.avi', 30) if source == 'video' else write_folder(tmp_path / 'frames', 30)
    node = camera(video=path, rate=50)
    wait_until(lambda: status(client), lambda: node.output)
    assert node.output.count('waits for a subscriber of /image_raw') == 1
    wait_until(lambda: len(client.diagnostics) > 3, lambda: node.output)
    assert status(client).message == 'waits for a subscriber of /image_raw'
    assert status(client).level == DiagnosticStatus.OK and values(client)['images'] == '0'
    found: list[Image] = []
    client.create_subscription(Image, '/image_raw', found.append, 1000)
    assert node.wait_for_end() == 0, node.output
    assert [level(image) for image in found] == list(range(30))
    steps = np.diff(stamps(found))
    assert (steps > 0.01).all()  # the wait does not make the second image early
    assert statistics.median(steps) == pytest.approx(0.02, abs=0.002)


def test_a_file_without_a_subscriber_ends_at_once(camera, client, tmp_path):
    node = camera(video=write_clip(tmp_path / 'clip.avi', 30))
    wait_until(lambda: status(client), lambda: node.output)
    assert node.stop() == 0, node.output


def test_it_loops_and_reports_its_rate(camera, client, images, tmp_path):
    """`rate` goes over that of the video."""
    node = camera(video=write_clip(tmp_path / 'clip.avi', 20), loop=True, rate=50)
    wait_until(lambda: len(images) > 100, lambda: node.output)
    assert {level(image) for image in images} == set(range(20))
    wait_until(lambda: status(client) and status(client).message == 'publishing', lambda: str(status(client)))
    assert 30.0 < float(values(client)['rate [Hz]']) < 55.0  # a busy machine is slower
    assert values(client)['rate asked for [Hz]'] == '50' and values(client)['size'] == '64x48'
    guide = (ROOT / 'docs' / 'guides' / 'any_camera.md').read_text()
    assert [key for key in values(client) if f'`{key}`' not in guide] == []
    assert node.stop() == 0


def test_a_rate_that_is_not_reached_is_a_warning(camera, client, images, tmp_path):
    camera(video=write_clip(tmp_path / 'clip.avi', 20, size=(1920, 1080)), loop=True, rate=1000)
    wait_until(lambda: status(client) and 'images per second instead of 1000' in status(client).message,
               lambda: str(status(client)))
    assert status(client).level == DiagnosticStatus.WARN


def test_a_broken_image_is_counted_and_the_next_one_published(camera, client, images, tmp_path):
    folder = write_folder(tmp_path / 'frames', 6)
    (folder / '3.png').write_bytes((folder / '3.png').read_bytes()[:50])
    node = camera(video=folder, loop=True, rate=50)
    wait_until(lambda: int(values(client).get('failed reads', 0)) >= 3 and len(images) >= 20, lambda: node.output)
    assert {level(image) for image in images} == {0, 1, 2, 4, 5}
    assert f'{folder}/3.png cannot be read as an image' in node.output
    assert any(s.level == DiagnosticStatus.WARN and 'failed reads' in s.message for m in client.diagnostics
               for s in m.status if s.name == 'tactile_camera: camera')


def test_gone_and_back(camera, client, images, tmp_path):
    """What a pulled cable is to a camera: told with the reason, counted, and images again by itself."""
    folder = write_folder(tmp_path / 'frames', 6)
    node = camera(video=folder, loop=True, rate=50)
    wait_until(lambda: len(images) > 10, lambda: node.output)
    folder.rename(tmp_path / 'unplugged')
    wait_until(lambda: status(client) and status(client).level == DiagnosticStatus.ERROR, lambda: node.output)
    assert str(folder) in status(client).message
    count = len(images)
    (tmp_path / 'unplugged').rename(folder)
    wait_until(lambda: len(images) > count + 10, lambda: node.output)
    assert 'trying again' in node.output and 'images again after' in node.output
    wait_until(lambda: status(client).message == 'publishing', lambda: str(status(client)))
    assert values(client)['reconnects'] == '1'
    assert (np.diff(stamps(images)) > 0).all()


def test_the_classifier_takes_its_images(camera, client, classifier, tmp_path):
    """camera_name is the name of a sensor of the classifier."""
    classifier(sensors='[left, right]')
    results = client.listen('/left/tactile')
    camera(video=write_clip(tmp_path / 'clip.avi', 20), loop=True, camera_name='left')
    wait_until(lambda: len(results) > 5, lambda: 'results')
    assert results[-1].header.frame_id == 'left' and results[-1].sensor == 'left'


def test_without_its_camera_it_waits_and_ends_at_once(camera, client):
    """A robot boots in any order. Ctrl-C does not wait for the next attempt."""
    node = camera(serial='D00000', profile='digit')
    node.wait_for_output("no camera has serial number 'D00000'")
    wait_until(lambda: status(client), lambda: node.output)
    assert status(client).level == DiagnosticStatus.ERROR and 'D00000' in status(client).message
    assert node.stop() == 0
    assert 'Traceback' not in node.output


@pytest.mark.parametrize('loop', [False, True])
def test_nothing_that_can_be_played_is_a_failure(camera, client, tmp_path, loop):
    """All images broken: status 0 "after 0 images", and with a video of that kind no end at all."""
    folder = write_folder(tmp_path / 'frames', 2)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    node = camera(video=folder, loop=loop)
    assert node.wait_for_end() == 1, node.output
    assert f'stopping: {folder} has no image that can be decoded' in node.output


@pytest.fixture
def node_of(client, monkeypatch):
    """A node in this process, whose camera is found by a function of the test."""
    nodes = []

    def create(find, **parameters: object) -> TactileCameraNode:
        monkeypatch.setattr(camera_node, 'find', find)
        parameters = {'serial': 'D0', 'diagnostics_period': 0.1} | parameters
        nodes.append(TactileCameraNode(parameter_overrides=[
            Parameter(name, value=value) for name, value in parameters.items()]))
        return nodes[-1]

    yield create
    for node in nodes:
        node.finish()


def statuses(client) -> list[tuple[bytes, str]]:
    return [(s.level, s.message) for m in client.diagnostics for s in m.status if s.name == 'tactile_camera: camera']


def test_a_camera_that_is_being_opened_is_a_warning(client, node_of):
    """A camera that opens normally takes 1 to 2 s, in which the node reported an error."""
    opened = threading.Event()
    node = node_of(lambda serial: opened.wait(TIMEOUT))
    wait_until(lambda: rclpy.spin_once(node, timeout_sec=0.05) or statuses(client), lambda: 'a status')
    assert set(statuses(client)) == {(DiagnosticStatus.WARN, 'not opened yet')}
    opened.set()


def test_a_bug_is_in_the_last_status(client, node_of):
    """The last status was OK or the old problem, while the node ended with an error."""
    def broken(serial):
        raise ZeroDivisionError('oh')

    node = node_of(broken)
    wait_until(lambda: node.failure, lambda: 'the failure')
    wait_until(lambda: rclpy.spin_once(node, timeout_sec=0.05) or statuses(client), lambda: 'a status')
    level, message = statuses(client)[-1]
    assert level == DiagnosticStatus.ERROR
    assert message.startswith('internal error while reading the camera') and 'ZeroDivisionError: oh' in message


def test_qos_overrides_are_those_of_this_topic(node_of):
    """rclpy wrote them into the profile that all sensor topics of the process share."""
    node_of(lambda serial: 1 / 0, **{f'{QOS}.reliability': 'reliable', f'{QOS}.depth': 99})
    assert (qos_profile_sensor_data.reliability, qos_profile_sensor_data.depth) == (ReliabilityPolicy.BEST_EFFORT, 5)
    assert image_qos() == qos_profile_sensor_data


@pytest.mark.parametrize(('parameters', 'message'), [
    ({}, 'give one of the parameters serial, device, video'),
    ({'serial': 'D20025', 'video': '/tmp'}, 'serial and video given'),
    ({'serial': '20025'}, 'serial is 20025; must be text; quote a number twice'),
    ({'device': '0'}, 'device is 0; must be a path such as /dev/video0'),
    ({'video': '/no/such.avi'}, 'video: /no/such.avi cannot be read: No such file or directory'),
    ({'video': str(ROOT / 'README.md')}, 'README.md cannot be read as a video'),
    ({'video': str(ROOT / 'config')}, 'holds no images'),
    ({'serial': 'D20025', 'profile': 'gelsight'}, 'did you mean gelsight_mini?'),
    ({'serial': 'D20025', 'rate': '-1.0'}, 'rate is -1.0; must be a number from 0.0 to 1000.0'),
    ({'serial': 'D20025', 'rotation': '45'}, 'rotation is 45; must be one of 0, 90, 180, 270'),
    ({'serial': 'D20025', 'rotation': "'90'"}, "rotation is '90'; must be one of 0, 90, 180, 270"),
    ({'serial': 'D20025', 'pixel_format': 'MJPEG'}, "pixel_format is 'MJPEG'; must be four characters"),
    ({'serial': 'D20025', 'crop': '[0.5, 0.0, 0.5, 0.0]'}, 'left and right together at most 0.9'),
    ({'serial': 'D20025', 'camera_name': '/left'}, "camera_name is '/left'; must be a name"),
    ({'serial': 'D20025', 'exposure': 'auto'}, "exposure is 'auto'; must be a number"),
    ({'seriol': 'D20025'}, 'seriol is not a parameter of this node; did you mean serial?'),
    ({'sensor': 'digit'}, 'sensor is not a parameter of this node; its parameters are '),
])
def test_a_mistake_is_one_line(camera, parameters, message):
    node = camera(**parameters)
    assert node.wait_for_end() == 2, node.output
    assert message in node.output
    assert len(node.output.splitlines()) == 1, node.output


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_shipped_parameter_files(camera, images, tmp_path, config):
    """Every file is taken by the node, and its images have the size that the guide of the sensor names."""
    sizes = {'camera_gelsight_mini': (820, 616), 'camera_digit': (320, 240), 'camera_generic': (640, 480)}
    published = {'camera_gelsight_mini': (574, 432), 'camera_digit': (240, 320), 'camera_generic': (640, 480)}
    node = camera('--params-file', str(config), video=write_clip(tmp_path / 'clip.avi', 5, size=sizes[config.stem]),
                  loop=True)
    wait_until(lambda: images or node.process.poll() is not None, lambda: node.output)
    assert (images[0].width, images[0].height) == published[config.stem], node.output
    assert 'WARN' not in node.output and 'ignored' not in node.output


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_parameter_files_hold_valid_values(config):
    """Also those in comments."""
    text = config.read_text().replace('    # ', '    ')
    found = {name: yaml.safe_load(value) for name, value in
             (line.strip().split(': ', 1) for line in text.splitlines() if line.strip().split(':')[0] in RULES)}
    assert 'profile' in found and len(found) >= 4
    assert {name: RULES[name].check(value) for name, value in found.items()} == dict.fromkeys(found, '')


def test_real_clips(camera, client, images):
    """All of a real recording is read, at the rate that it has."""
    clip = min(real_data('gelsight_clips', '*.mov').glob('*.mov'))
    capture = cv2.VideoCapture(str(clip))
    count, rate = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
    node = camera(video=clip)
    assert node.wait_for_end() == 0, node.output
    assert f'after {count} images' in node.output
    assert statistics.median(np.diff(stamps(images))) == pytest.approx(1 / rate, rel=0.05)
    assert values(client)['failed reads'] == '0'
