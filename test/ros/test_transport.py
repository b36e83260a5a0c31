"""Large images between processes: what is lost is counted and named, and the defaults lose little."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from live_nodes import NodeProcess, image, wait_until
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import Image

from vit_tactile_ros.ros import transport

PROFILE = transport.shipped_profile(transport.PUBLISHER_PROFILE)
VARIABLES = (transport.OLD_VARIABLE, transport.NEW_VARIABLE)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
OVERRIDE = 'qos_overrides./image_raw.subscription.reliability'
# So that nothing is replaced in the middleware's queue, which is in no counter.
DEPTH = {'qos_overrides./image_raw.subscription.depth': 20}
COUNT = 60

needs_fast_dds = pytest.mark.skipif('fastrtps' not in get_rmw_implementation_identifier(), reason='needs Fast DDS')


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch):
    for name in transport.USERS_OWN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def publish(play) -> Callable[..., None]:
    """Plays COUNT black images, with variables added to the environment."""
    def run(reliability: str, width: int = 640, height: int = 480, **environment: str) -> None:
        assert len(play(f'{width}x{height}*{COUNT}', 30, reliability, **environment)) == COUNT
    return run


def subscribed(client) -> ReliabilityPolicy | None:
    """The reliability that the node's only subscription asks for."""
    found = [info.qos_profile.reliability for info in client.get_subscriptions_info_by_topic('/image_raw')]
    return found[0] if len(found) == 1 else None


def wait_until_subscribed(client, reliability: ReliabilityPolicy) -> None:
    wait_until(lambda: subscribed(client) == reliability, lambda: f'a subscription that is {reliability.name}')


def wait_until_accounted(client) -> tuple[int, int]:
    """received and lost, once they are all that was published."""
    client.wait(lambda: client.counter('received') + client.counter('lost') == COUNT, 'received + lost = published')
    return client.counter('received'), client.counter('lost')


@needs_fast_dds
def test_lost_images_are_counted_and_both_remedies_named(classifier, client, publish):
    """Most 640x480 images of a best-effort driver got lost, and no counter, status or line of log showed it."""
    node = classifier(**DEPTH)
    publish('best_effort')
    _, lost = wait_until_accounted(client)
    assert lost > 0
    statuses = [s for m in client.diagnostics for s in m.status if re.search(r'last report: .*\blost \d', s.message)]
    assert statuses
    assert {s.level for s in statuses} <= {b'\x01', b'\x03'}  # WARN, or STALE where all of a second are lost
    assert sum(int(re.search(r'\blost (\d+)', s.message)[1]) for s in statuses) == lost
    assert f'the parameter {OVERRIDE} of this node to reliable' in node.output
    assert f'{transport.OLD_VARIABLE}={PROFILE}' in node.output
    assert node.output.count('lost in transport') <= 3, 'throttled'
    # Back to normal once nothing more is lost.
    client.send_until(image(1), lambda: client.status().message == 'classifying', 'OK')


@needs_fast_dds
def test_named_profile_brings_them(classifier, client, publish):
    """What the warning advises helps a best-effort driver."""
    classifier(**DEPTH)
    publish('best_effort', **dict.fromkeys(VARIABLES, str(PROFILE)))
    received, _ = wait_until_accounted(client)
    assert received >= 0.9 * COUNT  # all, where the machine is not busy


def test_default_carries_large_images(classifier, client, publish):
    """Of a driver with rclpy's default QoS and nothing configured, 3 to 20 of 60 images of 640x480 arrived."""
    node = classifier()
    publish('reliable')
    assert subscribed(client) == ReliabilityPolicy.RELIABLE
    received, _ = wait_until_accounted(client)
    assert received >= 0.9 * COUNT  # all, where the machine is not busy
    assert 'incompatible' not in node.output


def test_best_effort_override_stays(classifier, client, publish):
    """A user's qos_overrides decide, whatever the publishers offer."""
    classifier(**{OVERRIDE: 'best_effort'}, **DEPTH)
    publish('reliable', 64, 48)
    wait_until_accounted(client)
    assert subscribed(client) == ReliabilityPolicy.BEST_EFFORT
    assert client.get_parameter_of(OVERRIDE) == 'best_effort'


def test_subscription_follows_its_publishers(classifier, client):
    """A best-effort driver that joins or replaces reliable ones is received, and the way back works."""
    node = classifier(reference_frames=1)
    results = client.listen()
    assert client.get_parameter_of(OVERRIDE) == 'best_available'
    assert subscribed(client) == ReliabilityPolicy.BEST_EFFORT
    assert client.get_subscriptions_info_by_topic('/image_raw')[0].qos_profile.depth in (0, 1)  # 0: not announced
    reliable = client.create_publisher(Image, '/image_raw', RELIABLE)
    wait_until_subscribed(client, ReliabilityPolicy.RELIABLE)
    best_effort = client.image_publisher(qos=qos_profile_sensor_data, matched=False)
    wait_until_subscribed(client, ReliabilityPolicy.BEST_EFFORT)
    wait_until(best_effort.get_subscription_count, lambda: 'a match')
    client.send_until(image(7), lambda: results, 'a result of the best-effort publisher')
    client.destroy_publisher(reliable)
    client.send_until(image(8), lambda: results[-1].header.stamp.sec == 8, 'a result of the one that stays')
    client.destroy_publisher(best_effort)
    client.create_publisher(Image, '/image_raw', RELIABLE)
    wait_until_subscribed(client, ReliabilityPolicy.RELIABLE)
    assert client.counter('incompatible publishers') == 0
    assert client.counter('lost') == 0, 'what was published before a subscription is not lost to it'
    assert client.change_state('deactivate') and client.change_state('activate')
    wait_until_subscribed(client, ReliabilityPolicy.RELIABLE)
    assert 'Traceback' not in node.output


def segments(node: NodeProcess) -> list[int]:
    """Sizes of the shared memory that a process sends from or receives from, in MB."""
    maps = Path(f'/proc/{node.process.pid}/maps').read_text()
    found = re.findall(r'^(\w+)-(\w+) .*/fast(?:rtps|dds)_[0-9a-f]{16}$', maps, re.MULTILINE)
    return [(int(end, 16) - int(start, 16)) >> 20 for start, end in found]


@needs_fast_dds
@pytest.mark.skipif(not transport._has_room(), reason='/dev/shm is too small for the profile')
def test_simulator_has_room_for_large_images(start):
    """Our own publishers load the profile by themselves, under launch as well as alone."""
    node = start('simulator_node')
    node.wait_for_output(' Hz on ')
    assert max(segments(node)) >= transport.SEGMENT >> 20
    assert 'Error' not in node.output


@needs_fast_dds
@pytest.mark.parametrize('name', ['FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'])
def test_users_own_profile_is_kept(start, monkeypatch, name):
    """A profile that the user has named is not replaced by ours."""
    monkeypatch.setenv(name, str(transport.shipped_profile('fastdds2_classifier.xml')))  # any but ours
    node = start('simulator_node')
    node.wait_for_output(' Hz on ')
    assert max(segments(node), default=0) < 8


def test_profile_is_set_only_meanwhile(tmp_path, monkeypatch):
    """Both variables, since Fast DDS 2.x reads one and 3.x the other; child processes do not inherit them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transport, '_has_room', lambda: True)
    with transport.publisher_profile():
        assert [os.environ.get(name) for name in VARIABLES] == [str(PROFILE)] * 2
    assert not any(name in os.environ for name in VARIABLES)
    with transport.classifier_profile():
        assert all(Path(os.environ[name]).is_file() for name in VARIABLES)


@pytest.mark.parametrize('case', ['cyclonedds', 'zenoh', 'transports', 'file', 'no room', 'no shared memory'])
def test_profile_is_not_set(case, tmp_path, monkeypatch):
    """Other middleware, whatever the user has configured, and a machine without the memory stay as they are."""
    monkeypatch.chdir(tmp_path)
    if case in ('cyclonedds', 'zenoh'):
        monkeypatch.setenv('RMW_IMPLEMENTATION', f'rmw_{case}_cpp')
    elif case == 'transports':
        monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    elif case == 'file':
        Path('DEFAULT_FASTRTPS_PROFILES.xml').touch()
    elif case == 'no room':
        monkeypatch.setattr(transport, 'SEGMENT', 2**60)
    else:
        monkeypatch.setattr(transport, 'SHARED_MEMORY', str(tmp_path / 'missing'))
    before = dict(os.environ)
    with transport.publisher_profile():
        assert dict(os.environ) == before
    assert dict(os.environ) == before


def test_profile_holds_the_segment_that_is_checked_for():
    """The size is in the XML and in the check for room."""
    size = ElementTree.parse(PROFILE).find('.//{*}segment_size')
    assert int(size.text) == transport.SEGMENT


def test_measuring_script():
    """tools/measure_transport.py from end to end."""
    script = Path(__file__).parents[2] / 'tools' / 'measure_transport.py'
    ended = subprocess.run([sys.executable, script, '--sizes', '64x48', '--rates', '20', '--images', '10', '--offered',
                            'reliable', '--profiles', 'shipped', '--subscriptions', 'default'],
                           capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    row = ended.stdout.splitlines()[-1]
    assert row.startswith('| 64x48 | 20 | reliable | shipped | default | 10 of 10 | 0 | '), ended.stdout
