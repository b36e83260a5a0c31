"""What goes wrong inside the node: seen in /diagnostics, and no image is lost silently."""

from __future__ import annotations

import subprocess

import pytest
from live_nodes import image
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image

from vit_tactile_ros.model import load_checkpoint, save_checkpoint

CLASSIFY_EXITS = """
from vit_tactile_ros.inference.classifier import TactileClassifier
classify, left = TactileClassifier.classify, [{times}]
def failing(self, *arguments):
    if left[0]:
        left[0] -= 1
        raise SystemExit('the library called exit')
    return classify(self, *arguments)
TactileClassifier.classify = failing
"""


@pytest.fixture
def broken(start, tiny_checkpoint):
    """Starts a node in which a part is replaced by one that fails."""
    return lambda patch: start('classifier_node', patch=patch, checkpoint=tiny_checkpoint, threads=1,
                               diagnostics_period=0.1)


def levels(client, name: str) -> set[tuple[bytes, str]]:
    wanted = f'tactile_classifier: {name}'
    return {(s.level, s.message) for array in client.diagnostics for s in array.status if s.name == wanted}


def test_the_worker_is_restarted(broken, client):
    """The thread ended: active, "classifying", and no image was ever classified again."""
    node = broken(CLASSIFY_EXITS.format(times=2))
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    client.wait(lambda: client.counter('classified'), 'the counter')
    assert client.counter('rejected: internal error') == 2
    numbers = {key: client.counter(key) for key in ('received', 'classified', 'superseded', 'rejected', 'pending')}
    assert numbers['received'] == sum(numbers.values()) - numbers['received']
    assert any(level == b'\x02' and 'SystemExit: the library called exit' in text
               for level, text in levels(client, 'model'))
    assert any(level == b'\x02' and 'internal error' in text for level, text in levels(client, 'sensor'))
    assert 'Traceback' in node.output and 'the library called exit' in node.output


def test_a_worker_that_keeps_failing_ends_the_node(broken, client):
    """Status 1, so that launch starts another; the last report says why."""
    node = broken(CLASSIFY_EXITS.format(times=10**6))
    process = node.process
    client.listen()
    client.wait(lambda: client.diagnostics, 'a report: it is subscribed before the node ends')
    client.image_publisher()
    while process.poll() is None:
        client.send(image(1))
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 1
    assert 'stopping: the classification thread has ended: SystemExit' in node.output
    client.wait(lambda: any('the classification thread has ended' in text for _, text in levels(client, 'model')),
                'the last report')
    assert client.counter('received') == client.counter('rejected: internal error') + client.counter('superseded')


def test_a_callback_that_raises(broken, client):
    """An exception in a callback ended the process; the image was not taken, and the next one is."""
    broken("""
from vit_tactile_ros.ros.sensor import Sensor
receive, left = Sensor.receive, [1]
def failing(self, *arguments):
    if left[0]:
        left[0] -= 1
        raise ZeroDivisionError('in a callback')
    return receive(self, *arguments)
Sensor.receive = failing
""")
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    client.wait(lambda: any(level == b'\x02' and 'in a callback' in text for level, text in levels(client, 'model')),
                'the error')
    client.wait(lambda: client.counter('internal errors', 'model') == 1, 'the counter')


def test_a_warning_then_an_error_of_a_publisher(classifier, client):
    """rclpy refuses a second severity from one line of code: in the event callback that was a segmentation fault."""
    node = classifier('-p', 'qos_overrides./image_raw.subscription.reliability:=reliable')
    reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    client.image_publisher(qos=reliable)
    client.send_until(image(1, encoding='32FC1'), lambda: client.counter('rejected: encoding'), 'the counter')
    client.create_publisher(Image, '/image_raw', qos_profile_sensor_data)
    client.wait(lambda: client.counter('incompatible publishers') == 1, 'the counter')
    node.wait_for_output('a publisher offers another RELIABILITY than this node requests')
    results = client.listen()
    client.send_until(image(2), lambda: results, 'a result')
    assert node.stop() == 0


def test_a_warning_then_an_error_of_the_worker(classifier, client, tiny_checkpoint, tmp_path):
    """As above: the worker ended with it."""
    import torch

    checkpoint = load_checkpoint(tiny_checkpoint)
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.mul_(1e20)
    save_checkpoint(tmp_path / 'huge.safetensors', checkpoint, torch.float32)
    node = classifier(checkpoint=tmp_path / 'huge.safetensors', engine='torch')
    client.listen()
    client.send_until(image(1, encoding='32FC1'), lambda: client.counter('rejected: encoding'), 'the counter')
    client.send_until(image(2), lambda: client.counter('rejected: not finite') >= 2, 'the counter')
    node.wait_for_output('the output of the network is not finite')
    client.wait(lambda: any(level == b'\x02' and 'not finite' in text for level, text in levels(client, 'sensor')),
                'ERROR')
    assert node.stop() == 0


def test_two_nodes_of_one_name(classifier, start, client, tiny_checkpoint):
    """They ran unwarned, and parameters and services reached either of them."""
    node = classifier()
    assert not any('nodes are called' in text for _, text in levels(client, 'model'))
    other = start('classifier_node', checkpoint=tiny_checkpoint, threads=1, diagnostics_period=0.1)
    for process in (node, other):
        process.wait_for_output('2 nodes are called /tactile_classifier')
    client.wait(lambda: any(level == b'\x01' and '2 nodes are called' in text for level, text in
                            levels(client, 'model')), 'WARN')
    assert other.stop() == 0
    count = len(client.diagnostics)
    client.wait(lambda: any(s.message == 'active' for array in client.diagnostics[count:] for s in array.status),
                'OK again')


def test_simulated_time_without_a_clock(classifier, client):
    """image_age was -1.8e9 s, in the results and in the percentiles of /diagnostics."""
    node = classifier(use_sim_time=True)
    results = client.listen()
    client.send_until(image(1_700_000_000), lambda: results, 'a result')
    assert results[0].image_age != results[0].image_age  # NaN
    client.wait(lambda: client.counter('unknown ages'), 'the counter')
    assert 'image age p50 [ms]' not in client.values()
    node.wait_for_output('use_sim_time is true and no /clock was received')


def test_stamps_that_repeat(classifier, client):
    """A driver that publishes an image twice left no trace."""
    node = classifier()
    results = client.listen()
    client.send_until(image(5), lambda: len(results) >= 2, 'two results')
    client.wait(lambda: client.counter('stamps repeated') >= 1, 'the counter')
    assert client.counter('stamps backwards') == 0
    node.wait_for_output('an image has the stamp of the previous one')


@pytest.mark.parametrize(('override', 'told'), [
    ('depth:=-1', 'depth is -1; must be an integer from 1 to 10000'),
    ('depth:=0', 'depth is 0; must be an integer from 1 to 10000'),
    ('depth:=2000000000', 'must be an integer from 1 to 10000'),
    ('reliability:=bogus', "reliability is 'bogus'; must be one of system_default, reliable, best_effort"),
    ('history:=keep', "history is 'keep'; must be one of system_default, keep_last, keep_all"),
    ('durability:=1', 'durability'),
])
def test_absurd_qos(start, tiny_checkpoint, override, told):
    """A depth of -1 was a traceback; others a message that names no parameter."""
    node = start('classifier_node', '-p', f'qos_overrides./image_raw.subscription.{override}',
                 checkpoint=tiny_checkpoint, threads=1)
    assert node.wait_for_end() == 2
    assert told in node.output and 'Traceback' not in node.output
    assert 'qos_overrides./image_raw.subscription.' in node.output


def test_qos_of_a_topic_that_is_not_there(classifier):
    """A typo in the topic ran with the default QoS."""
    node = classifier('-p', 'qos_overrides./imag_raw.subscription.depth:=5')
    node.wait_for_output('qos_overrides./imag_raw.subscription.depth has no effect')
    assert 'did you mean qos_overrides./image_raw.subscription.depth?' in node.output


@pytest.mark.parametrize(('namespace', 'length', 'fits'), [
    ('', 209, True), ('', 210, False), ('', 300, False), ('/' + 'n' * 100, 108, True), ('/' + 'n' * 100, 109, False)])
def test_long_sensor_names(start, client, tiny_checkpoint, namespace, length, fits):
    """A traceback while configuring; the limit is that of ROS, with the namespace."""
    name = 's' * length
    node = start('classifier_node', *(['-r', f'__ns:={namespace}'] if namespace else []), checkpoint=tiny_checkpoint,
                 threads=1, sensors=f'[{name}]')
    if fits:
        node.wait_for_output('active, waiting for images')
        assert node.stop() == 0
    else:
        assert node.wait_for_end() == 2
        assert f'must be names of at most {209 - len(namespace)} characters' in node.output
    assert 'Traceback' not in node.output


