"""What a user steers on the running node: latency budget, pause, reload; and what can be seen of it."""

from __future__ import annotations

import dataclasses
import shutil
import threading

import numpy as np
import pytest
import rclpy
from live_nodes import TIMEOUT, image, wait_until
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from vit_tactile_ros.inference import annotation
from vit_tactile_ros.model import ModelConfig, ViTTactile, load_checkpoint, save_checkpoint
from vit_tactile_ros.ros import services
from vit_tactile_ros.ros.classifier_node import TactileClassifierNode
from vit_tactile_ros.ros.running import adopt, load_beside
from vit_tactile_ros.ros.topics import latched_qos
from vit_tactile_ros.ros.vision_publishers import ABSENT


@pytest.fixture
def own_checkpoint(tiny_checkpoint, tmp_path):
    return shutil.copy(tiny_checkpoint, tmp_path / 'own.safetensors')


def with_classes(checkpoint, path, names: tuple[str, ...], exits: tuple[int, ...] = (1, 2, 3)) -> None:
    """The same preprocessing with another, untrained network."""
    config = ModelConfig(num_classes=len(names), image_size=(32, 48), width=48, depth=3, exits=exits,
                         feature_map_dim=16)
    save_checkpoint(path, dataclasses.replace(load_checkpoint(checkpoint), model=ViTTactile(config), class_names=names))


def is_exact(values: dict[str, str]) -> bool:
    return int(values['received']) == sum(int(values[k]) for k in
                                          ('classified', 'superseded', 'rejected', 'paused', 'pending'))


def test_budget_pause_and_annotated_image(classifier, client, tiny_checkpoint):
    """A budget that steers nothing, or raises tau; a pause in which images are lost, or that ends a stream's record."""
    classifier(checkpoint=tiny_checkpoint, tau=0.9, engine='torch')
    results, drawn = client.listen(), []

    def send():
        return client.result_of(image(len(results) + 1), results)

    assert list(send().tau) == [0.9, 0.9]
    # The stamps of these images are decades old: every result is late.
    assert client.set_parameter('tau_min', 0.25).successful
    assert client.set_parameter('latency_budget', 0.05).successful
    taus = [send().tau[0] for _ in range(7)]
    assert taus[0] == 0.9 and taus[6] == 0.25 and taus == sorted(taus, reverse=True)
    client.wait(lambda: client.values('model').get('tau in use') == '0.25, 0.25', 'the tau in use')
    client.wait(lambda: 'although tau is lowered to tau_min (0.25)' in client.status('model').message, 'the warning')
    assert client.get_parameter_of('tau') == 0.9 and client.values('model')['tau'] == '0.9, 0.9'
    assert client.set_parameter('latency_budget', 0).successful
    assert list(send().tau) == [0.9, 0.9]
    for name, value in (('latency_budget', -1.0), ('tau_min', 1.5), ('tau_min', 'low')):
        assert not client.set_parameter(name, value).successful

    client.create_subscription(Image, '/annotated', client._collect(drawn), 10)
    client.send_until(image(50), lambda: drawn, 'an annotated image')
    assert (drawn[0].encoding, drawn[0].width, drawn[0].header.frame_id) == ('rgb8', annotation.WIDTH, 'finger_50')
    assert np.array(drawn[0].data).reshape(drawn[0].height, drawn[0].width, 3).std() > 10

    client.wait(lambda: client.counter('last results') == client.counter('classified') == len(results), 'the counters')
    values = client.values()
    shares = [float(value) for key, value in values.items() if key.startswith('exit share at block ')]
    assert sum(shares) == pytest.approx(1, abs=0.01)

    response = client.call(SetBool, '/tactile_classifier/enable', SetBool.Request(data=False), is_repeatable=True)
    assert response.success and 'paused' in response.message
    count = len(results)
    client.send_until(image(99), lambda: client.counter('paused') >= 2, 'paused images')
    client.wait(lambda: 'paused by ~/enable' in client.status().message, 'the status')
    assert len(results) == count
    assert client.state() == 'active' and is_exact(client.values())
    response = client.call(Trigger, '/tactile_classifier/capture_reference', Trigger.Request())
    assert not response.success and 'this node is paused' in response.message
    assert client.call(SetBool, '/tactile_classifier/enable', SetBool.Request(data=True), is_repeatable=True).success
    assert send().class_name
    client.wait(lambda: 'paused' not in client.status().message and is_exact(client.values()), 'the record')


def test_reload(classifier, client, tiny_checkpoint, own_checkpoint):
    """Images that are lost during a reload, a failed one that ends classification, or results of two checkpoints."""
    node = classifier(checkpoint=own_checkpoint, engine='torch')
    results = client.listen()
    client.image_publisher(qos=QoSProfile(depth=20))  # reliable: a best-effort image may be lost on the way
    client.send_until(image(1), lambda: results, 'a result')

    def reload():
        return client.call(Trigger, '/tactile_classifier/reload_checkpoint', Trigger.Request())

    stamps = iter(range(2, 100_000))
    timer = client.create_timer(0.02, lambda: client.send(image(next(stamps))))
    with_classes(tiny_checkpoint, own_checkpoint, ('no_contact', 'ball'))
    response = reload()
    assert response.success and 'other classes than before' in response.message, response.message
    client.wait(lambda: results[-1].class_names == ['no_contact', 'ball'], 'a result of the new checkpoint')
    assert all(len(r.probabilities) == len(r.class_names) for r in results)
    wait_until(lambda: client.count_publishers('/touch_event'), lambda: 'the events of a checkpoint with no_contact')
    client.wait(lambda: client.values()['reference'] == 'captured', 'a report after the first images')
    assert node.output.count('no-contact reference captured') == 1  # the preprocessing is the same

    assert client.set_parameter('tau', [0.5, 0.5]).successful
    with_classes(tiny_checkpoint, own_checkpoint, ('no_contact', 'ball'), exits=(3,))
    response = reload()
    assert not response.success and 'tau has 2 values' in response.message, response.message
    own_checkpoint.write_bytes(b'damaged')
    response = reload()
    assert not response.success and 'the previous checkpoint stays in use: ' in response.message
    assert 'own.safetensors' in response.message and 'Traceback' not in node.output
    client.wait(lambda: client.values('model')['last reload'] == response.message, 'the failure')
    assert response.message in client.status('model').message
    count = len(results)
    client.wait(lambda: len(results) > count + 5, 'more results')
    with_classes(tiny_checkpoint, own_checkpoint, ('no_contact', 'ball'))
    assert reload().success
    client.wait(lambda: client.values('model')['last reload'].startswith('reloaded'), 'the success')
    assert client.status('model').message == 'active'
    client.destroy_timer(timer)
    assert list(results[-1].tau) == [0.5, 0.5]
    sent = next(stamps) - 1
    client.wait(lambda: client.counter('received') >= sent - 1 and is_exact(client.values()), 'the record')
    assert client.counter('rejected') == client.counter('paused') == 0


def test_reload_that_fails_half_way(client, tiny_checkpoint, own_checkpoint, monkeypatch):
    """Thresholds and classes of the new checkpoint with the network of the old one: no image was classified."""
    node = TactileClassifierNode(parameter_overrides=[
        Parameter('checkpoint', value=str(own_checkpoint)), Parameter('sensors', value=['left', 'right']),
        Parameter('engine', value='torch'), Parameter('threads', value=1)])
    try:
        node.trigger_configure()
        running = node._running
        left, right = (running.outputs[name] for name in ('left', 'right'))
        classifier, tau, names = running.classifier, node._settings.thresholds(), left._class_names
        with_classes(tiny_checkpoint, own_checkpoint, ('no_contact', 'ball'), exits=(1, 3))
        loaded = load_beside(running, classifier)

        def fail():
            raise RuntimeError('no publisher')

        monkeypatch.setattr(right, '_create_events', fail)
        with pytest.raises(RuntimeError, match='no publisher'):
            adopt(running, loaded)
        assert left._class_names == right._class_names == names and len(tau) == left._num_exits - 1 == 2
        assert running.classifier is classifier and node._settings.thresholds() == tau
        monkeypatch.undo()
        adopt(running, loaded)
        assert left._class_names == right._class_names == ['no_contact', 'ball']
        assert len(node._settings.thresholds()) == 1
    finally:
        node.finish()


def test_the_end_waits_for_every_reload(client, own_checkpoint, monkeypatch):
    """Only the newest was joined: a cancelled one could still be in a library when the process ended."""
    is_released, responses = threading.Event(), []
    monkeypatch.setattr(services, 'load_beside', lambda running, classifier: is_released.wait(TIMEOUT))
    monkeypatch.setattr(services, 'JOIN_LIMIT', 0.1)
    node = TactileClassifierNode(parameter_overrides=[
        Parameter('checkpoint', value=str(own_checkpoint)), Parameter('engine', value='torch'),
        Parameter('threads', value=1)])
    try:
        for _ in range(2):
            node.trigger_configure()
            node._node_services._reload_checkpoint(node._running, responses.append)
            node.trigger_cleanup()
        loading = [thread for thread in threading.enumerate() if thread.name == 'reload']
        assert len(loading) == 2 and not any(response.success for response in responses)
        node._node_services.join()  # ends, although both hang
        assert all(thread.is_alive() for thread in loading)
        monkeypatch.setattr(services, 'JOIN_LIMIT', TIMEOUT)
        threading.Timer(0.2, is_released.set).start()
    finally:
        node.finish()
    assert not any(thread.is_alive() for thread in loading)


def test_reload_without_memory_for_a_thread(client, own_checkpoint, monkeypatch):
    """The log had a traceback, and /diagnostics nothing of the failed reload."""
    start = threading.Thread.start

    def start_others(thread):
        if thread.name == 'reload':
            raise RuntimeError("can't start new thread")
        start(thread)

    node = TactileClassifierNode(parameter_overrides=[
        Parameter('checkpoint', value=str(own_checkpoint)), Parameter('engine', value='torch'),
        Parameter('threads', value=1)])
    try:
        node.trigger_configure()
        responses = []
        monkeypatch.setattr(threading.Thread, 'start', start_others)
        node._node_services._reload_checkpoint(node._running, responses.append)
        monkeypatch.undo()
        wait_until(lambda: rclpy.spin_once(node, timeout_sec=0.1) or responses, lambda: 'the response')
        assert not responses[0].success
        assert responses[0].message.endswith("no thread to load it in: can't start new thread")
        assert node._running.reload_failed
        assert node._node_services._reloads[0].join(0.0)
    finally:
        node.finish()


@pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
def test_vision_msgs(classifier, client, tiny_checkpoint):
    """Classes in another order than their names, or names that only those get who listened at the start."""
    from vision_msgs.msg import Classification, LabelInfo

    classifier(checkpoint=tiny_checkpoint, engine='torch')
    results, ours, names = client.listen(), [], []
    client.create_subscription(LabelInfo, '/label_info', client._collect(names), latched_qos())
    client.create_subscription(Classification, '/classification', client._collect(ours), 10)
    client.wait(lambda: names, 'the names')
    by_id = {c.class_id: c.class_name for c in names[0].class_map}
    client.send_until(image(1), lambda: results and ours, 'both results')
    result = next(r for r in results if r.header == ours[0].header)
    assert [by_id[i] for i in range(len(by_id))] == list(result.class_names)
    assert by_id[int(ours[0].results[0].class_id)] == result.class_name
    assert {int(r.class_id): pytest.approx(r.score) for r in ours[0].results} == dict(enumerate(result.probabilities))
