"""The live node over real DDS: results, accounting, lifecycle, services, stopping."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from live_nodes import CLASSES, TIMEOUT, image, wait_until
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.model import load_checkpoint
from vit_tactile_ros.ros.messages import image_message
from vit_tactile_ros.simulator import GELSIGHT, SensorUnit, sample_contact


def test_result_carries_header_classes_and_decision(classifier, client):
    """A result is filled from the decision and keeps the image's header to the nanosecond."""
    classifier(tau=0.0)
    results = client.listen()
    message = image(7)
    message.header.stamp.nanosec = 123456789
    client.send_until(message, lambda: results, 'a result')
    result = results[0]
    assert result.header == message.header
    assert result.sensor == ''
    assert tuple(result.class_names) == CLASSES
    assert result.class_name == CLASSES[result.class_id]
    assert len(result.probabilities) == len(CLASSES)
    assert sum(result.probabilities) == pytest.approx(1.0, abs=1e-5)
    assert result.confidence == max(result.probabilities)
    assert (result.exit_index, result.exit_block) == (0, 1)
    assert list(result.tau) == [0.0, 0.0]
    assert list(result.exit_confidences) == [result.confidence]
    assert 0 < result.compute_share < 1
    assert 0 < result.inference_time < 60
    # The stamp is 1970: the image is old, not young.
    assert result.image_age == pytest.approx(time.time() - 7.123, abs=600)


def test_live_result_equals_the_library(classifier, client, tiny_checkpoint):
    """Live = offline: the node must not decode, preprocess or decide in a way of its own."""
    classifier(tau=1.0, reference_frames=1)
    results = client.listen()
    rng = np.random.default_rng(3)
    unit = SensorUnit(GELSIGHT, rng)
    pictures = [unit.reference] + [unit.render(sample_contact(name, GELSIGHT, rng), rng) for name in ('ring', 'weave')]
    library = TactileClassifier(load_checkpoint(tiny_checkpoint), 'cpu', threads=1)
    reference = library.fit(pictures[0])
    for number, picture in enumerate(pictures, start=1):
        header = image(number).header
        got = client.result_of(image_message(picture, header), results)
        expected = library.classify([library.fit(picture)], [reference], library.thresholds(1.0))[0]
        assert got.header == header
        assert got.class_name == expected.class_name
        assert got.exit_block == expected.exit_block == 3
        np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-5)
    assert not np.allclose(results[1].probabilities, results[2].probabilities, atol=1e-5)


def test_every_image_is_accounted_for(classifier, client, full_size_checkpoint):
    """classified + superseded + rejected = received, at a rate that the node can't keep up with."""
    node = classifier(sensors='[left, right]', tau=1.0, checkpoint=full_size_checkpoint)
    sent = {'left': 0, 'right': 0}
    results = {name: client.listen(f'/{name}/tactile') for name in sent}
    for name in sent:
        client.image_publisher(f'/{name}/image_raw')
    for number in range(1, 201):
        for name in sent:
            bad = number % 10 == 0
            message = image(number, encoding='rgb16' if bad else 'rgb8', height=240, width=320)
            client.send(message, f'/{name}/image_raw')
            sent[name] += 1
    final = {}

    def settled() -> bool:
        for name in sent:
            numbers = {key: client.counter(key, name) for key in
                       ('received', 'classified', 'superseded', 'rejected', 'pending')}
            if numbers['pending'] or not numbers['received'] or len(results[name]) < numbers['classified']:
                return False
            # Two reports that agree: nothing is under way any more.
            if final.get(name) != numbers:
                final[name] = numbers
                return False
        return True

    client.wait(lambda: len(client.diagnostics) > 3, 'diagnostics')
    seen = 0

    def settled_on_new_report() -> bool:
        nonlocal seen
        if len(client.diagnostics) == seen:
            return False
        seen = len(client.diagnostics)
        return settled()

    client.wait(settled_on_new_report, 'all images to be finished')
    for name, numbers in final.items():
        assert numbers['classified'] + numbers['superseded'] + numbers['rejected'] == numbers['received'], numbers
        assert numbers['received'] <= sent[name]
        assert numbers['superseded'] > 0, 'the node kept up: this test shows nothing'
        assert numbers['classified'] == len(results[name])
        stamps = [r.header.stamp.sec for r in results[name]]
        assert stamps == sorted(set(stamps)), 'a result twice or out of order'
        assert all(r.header.frame_id == f'finger_{r.header.stamp.sec}' for r in results[name])
        assert all(r.sensor == name for r in results[name])
        assert not any(s % 10 == 0 for s in stamps), 'a rejected image has a result'
    assert node.process.poll() is None


def test_compressed_transport(classifier, client):
    """image_transport=compressed subscribes image_raw/compressed and decodes JPEG."""
    classifier(image_transport='compressed')
    results = client.listen()
    _, jpeg = cv2.imencode('.jpg', np.full((24, 32, 3), 90, np.uint8))
    message = CompressedImage(header=image(5).header, format='rgb8; jpeg compressed bgr8', data=jpeg.tobytes())
    client.send_until(message, lambda: results, 'a result', '/image_raw/compressed')
    assert results[0].header == message.header


def test_portrait_sensor_beside_landscape_one(classifier, client):
    """Two sensors of different shape go through one batch."""
    classifier(sensors='[left, right]')
    left, right = client.listen('/left/tactile'), client.listen('/right/tactile')
    client.image_publisher('/right/image_raw')
    client.send_until(image(1, height=24, width=32), lambda: left, 'left', '/left/image_raw')
    client.send_until(image(1, height=32, width=24), lambda: right, 'right', '/right/image_raw')


def test_lifecycle(classifier, client, start, tiny_checkpoint):
    """autostart=false waits; configure, activate, deactivate and clean up do what a manager expects."""
    node = start('classifier_node', checkpoint=tiny_checkpoint, threads=1, autostart='false', diagnostics_period=0.1)
    assert client.state() == 'unconfigured'
    node.wait_for_output('waiting for a lifecycle manager, or for: ros2 lifecycle set /tactile_classifier configure')
    assert client.change_state('configure')
    assert client.state() == 'inactive'
    # It takes no images now: a capture that is promised would never come.
    response = client.call(Trigger, '/tactile_classifier/capture_reference', Trigger.Request())
    assert not response.success and 'this node is inactive' in response.message
    assert not client.change_state_by_id(Transition.TRANSITION_DEACTIVATE), 'an impossible transition succeeded'
    assert client.state() == 'inactive'
    assert client.change_state('activate')
    assert client.state() == 'active'
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    assert client.change_state('deactivate')
    wait_until(lambda: client.count_subscribers('/image_raw') == 0, lambda: 'the subscription to go')
    assert client.change_state('activate')
    assert not client.change_state_by_id(Transition.TRANSITION_ACTIVATE), 'a repeated request succeeded'
    before = len(results)
    client.send_until(image(2), lambda: len(results) > before, 'a result after activating again')
    assert client.change_state('deactivate')
    assert client.change_state('cleanup')
    assert client.state() == 'unconfigured'
    assert client.change_state('configure')
    assert client.change_state('activate')
    assert client.change_state('shutdown')
    assert client.state() == 'finalized'
    assert node.stop() == 0
    assert 'Traceback' not in node.output


def test_accounting_over_a_pause(classifier, client):
    """Images on their way at deactivation are finished and counted; the pause itself is no silence."""
    node = classifier(silence_timeout=0.5)
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    for number in range(2, 30):
        client.send(image(number))
    assert client.change_state('deactivate')
    wait_until(lambda: client.count_subscribers('/image_raw') == 0, lambda: 'the subscription to go')
    reports = len(client.diagnostics)
    assert client.change_state('activate')
    client.wait(lambda: len(client.diagnostics) >= reports + 3, 'diagnostics')
    numbers = {key: client.counter(key) for key in ('received', 'classified', 'superseded', 'rejected', 'pending')}
    assert numbers['pending'] == 0
    assert numbers['classified'] + numbers['superseded'] + numbers['rejected'] == numbers['received'] > 0
    client.wait(lambda: len(results) == numbers['classified'], 'all results')
    assert client.status().message == 'no image yet'
    count = len(results)
    client.send_until(image(50), lambda: len(results) > count, 'a result')
    assert 'images again' not in node.output


def test_two_nodes_do_not_mix_on_diagnostics(start, client, tiny_checkpoint):
    """/diagnostics is shared by all robots' nodes; the status says whose it is."""
    for namespace in ('/l', '/r'):
        start('classifier_node', '-r', f'__ns:={namespace}', checkpoint=tiny_checkpoint, threads=1,
              diagnostics_period=0.1)
    client.wait(lambda: {status.name for message in client.diagnostics for status in message.status} >= {
        'l/tactile_classifier: sensor', 'r/tactile_classifier: sensor'}, 'both')


@pytest.mark.parametrize('override', [
    'qos_overrides./image_raw.subscription.reliability:=bogus', 'qos_overrides./tactile.publisher.depth:=abc'])
def test_wrong_qos_override_ends_with_the_reason(start, tiny_checkpoint, override):
    """rclpy swallows what a transition raises: the node ended without a word."""
    node = start('classifier_node', '-p', override, checkpoint=tiny_checkpoint, threads=1)
    assert node.wait_for_end() == 2
    assert 'cannot configure' in node.output or 'cannot activate' in node.output
    assert 'qos_overrides' in node.output or 'bogus' in node.output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_stops_cleanly_on_a_signal(classifier, client, number):
    """Ctrl-C and a launch file's SIGTERM end the node with 0 and without a traceback, images on the way or not."""
    node = classifier(fresh=True)
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    for i in range(2, 20):
        client.send(image(i))
    assert node.stop(number) == 0
    assert 'Traceback' not in node.output


def test_wrong_checkpoint_ends_with_the_reason(start, tmp_path):
    """A file that is not a checkpoint: the reason, not a node with random predictions. With status 1 launch started it
    again every 2 s."""
    path = tmp_path / 'broken.safetensors'
    path.write_bytes(b'not weights')
    node = start('classifier_node', fresh=True, checkpoint=path)
    assert node.wait_for_end() == 2
    assert 'not a complete safetensors file' in node.output
    assert 'Traceback' not in node.output


def test_int8_without_ranges_ends_with_the_reason(start, tiny_checkpoint):
    """A robot that quietly runs in another precision than its configuration says."""
    node = start('classifier_node', checkpoint=tiny_checkpoint, precision='int8', threads=1)
    assert node.wait_for_end() == 2
    assert "precision is 'int8'; " in node.output or 'openvino is not installed' in node.output
    assert 'Traceback' not in node.output


def test_the_choice_of_engine_and_precision_is_in_the_log(classifier):
    """What the library logs has no handler in the node: which precision was taken, and what was left out, was lost."""
    node = classifier(engine='auto', precision='auto')
    assert re.search(r'ms for one image in full depth, against .* of torch float32', node.output)
    assert 'is left out in int8: ' in node.output  # this checkpoint has no ranges
    assert re.search(r'engine \w+ in (float32|bfloat16) on cpu', node.output)


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('tau', '1.5', 'between 0 and 1'),
    ('tau', 'high', 'between 0 and 1'),
    ('tau', '[0.9, 1]', 'in a list every number needs a decimal point: write [0.9, 1.0]'),
    ('sensors', '[left, left]', 'different names'),
    ('device', 'gpu', "'cuda'"),
    ('engine', 'tensorrt', 'openvino'),
    ('precision', 'float16', 'float32, bfloat16, int8'),
    ('threads', '-1', '0'),
    ('checkpoint', '/nowhere/x.safetensors', 'exists'),
    ('image_transport', 'theora', 'compressed'),
])
def test_wrong_parameter_at_start(start, name, value, reason):
    """A bad parameter ends the node with status 2 and one line that says what would be right."""
    node = start('classifier_node', **{name: value})
    assert node.wait_for_end() == 2
    assert name in node.output
    assert reason in node.output
    assert 'Traceback' not in node.output


def test_capture_reference(classifier, client):
    """The service takes the next frames as the no-contact reference: the same frame then differs by nothing."""
    node = classifier(reference_frames=2, tau=1.0)
    results = client.listen()
    for number in (1, 2):
        client.send_until(image(1), lambda number=number: len(results) >= number, 'a result')
    node.wait_for_output('no-contact reference captured from 2 frames')
    other = image(1)
    other.data = type(other.data)('B', bytes(255 - b for b in other.data))
    client.send_until(other, lambda: len(results) >= 3, 'a result')
    for _ in range(50):  # refused while the last image is recent and differs
        response = client.call(Trigger, '/tactile_classifier/capture_reference', Trigger.Request())
        if response.success:
            break
        assert 'something touches' in response.message
        time.sleep(0.2)
    assert response.success, response.message
    count = len(results)
    client.send_until(other, lambda: len(results) > count, 'a result')
    np.testing.assert_allclose(results[-1].probabilities, results[0].probabilities, atol=1e-6)
    assert not np.allclose(results[count - 1].probabilities, results[0].probabilities, atol=1e-4)


def test_reference_file(classifier, client, tmp_path):
    """A given no-contact image is used as it is, from the first frame on."""
    bare = image(1)
    picture = np.frombuffer(bare.data, np.uint8).reshape(24, 32, 3)
    path = tmp_path / 'bare.png'
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    classifier(reference_files=f'["{path}"]', tau=1.0)
    results = client.listen()
    other = image(1)
    other.data = type(other.data)('B', bytes(255 - b for b in other.data))
    client.send_until(other, lambda: results, 'a result')
    count = len(results)
    client.send_until(bare, lambda: len(results) > count, 'a result')
    # With a captured reference the first frame would be its own reference.
    assert not np.allclose(results[0].probabilities, results[-1].probabilities, atol=1e-4)


def test_8uc3_is_read_as_bgr_and_said_once(classifier, client):
    """digit360's 8UC3 does not define its order: one warning, then silence."""
    node = classifier()
    results = client.listen()
    for number in range(1, 4):
        client.send_until(image(number, encoding='8UC3'), lambda number=number: len(results) >= number, 'a result')
    assert node.output.count('8UC3 does not define its colour order') == 1


def test_incompatible_publisher_is_reported(classifier, client):
    """A QoS override that the publisher can't serve would otherwise be plain silence."""
    node = classifier('-p', 'qos_overrides./image_raw.subscription.reliability:=reliable')
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    client.image_publisher(qos=best_effort, matched=False)
    node.wait_for_output('a publisher offers another RELIABILITY')
    client.wait(lambda: client.counter('incompatible publishers') == 1, 'the counter')
    # Another publisher that fits is heard all the same.
    results = client.listen()
    reliable = client.create_publisher(type(image()), '/image_raw', QoSProfile(depth=1))
    wait_until(reliable.get_subscription_count, lambda: 'a match')
    reliable.publish(image(3))
    client.wait(lambda: results, 'a result')


def test_age_is_unknown_without_a_stamp(classifier, client):
    """A missing stamp is counted and replaced by the time of receipt; the age is NaN, not decades."""
    node = classifier()
    results = client.listen()
    message = image(0)
    client.send_until(message, lambda: results, 'a result')
    assert math.isnan(results[0].image_age)
    assert abs(results[0].header.stamp.sec - time.time()) < 600
    assert results[0].header.frame_id == message.header.frame_id
    node.wait_for_output('image without a stamp')
    client.wait(lambda: client.counter('missing stamps') >= 1, 'the counter')


def test_no_pause_for_old_garbage(tiny_checkpoint):
    """A collection that looks through all of torch's objects takes 0.1 s, in which images are superseded.

    What a configured node holds is frozen, and given free again by cleanup.
    """
    script = """
import gc, sys, rclpy
from vit_tactile_ros.ros.classifier_node import TactileClassifierNode
rclpy.init(args=['--ros-args', '-p', f'checkpoint:={sys.argv[1]}', '-p', 'threads:=1', '-p', 'engine:=torch'])
node = TactileClassifierNode()
node.trigger_configure()
print(gc.get_freeze_count(), len(gc.get_objects()))
node.trigger_cleanup()
print(gc.get_freeze_count())
node.finish()
rclpy.try_shutdown()
"""
    ended = subprocess.run([sys.executable, '-c', script, str(tiny_checkpoint)], capture_output=True, text=True,
                           timeout=TIMEOUT)
    assert ended.returncode == 0, ended.stderr
    (frozen, others), (after,) = [[int(word) for word in line.split()] for line in ended.stdout.splitlines()[-2:]]
    assert frozen > 50 * others and after == 0
