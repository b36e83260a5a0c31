"""The simulated sensor as a node."""

from __future__ import annotations

import dataclasses

import pytest
from live_nodes import wait_until
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64

from vit_tactile_ros.inference.decode import decode
from vit_tactile_ros.msg import TactileLabel
from vit_tactile_ros.simulator import CLASS_NAMES, GELSIGHT, save_sensor


@pytest.mark.parametrize(('sensor', 'transport', 'shape'), [
    ('gelsight', 'raw', (240, 320, 3)), ('digit', 'compressed', (320, 240, 3)),
])
def test_images_and_labels_belong_together(start, client, sensor, transport, shape):
    """Each image has a label with the same header; the image is the sensor's, and touches come and go."""
    message_type, topic = (Image, 'image_raw') if transport == 'raw' else (CompressedImage, 'image_raw/compressed')
    images: list = []
    labels: list = []
    client.create_subscription(TactileLabel, '/thumb/label', labels.append, 100)
    start('simulator_node', '-r', '__ns:=/thumb', sensor=sensor, image_transport=transport, rate=60, frame_id='thumb')
    # Longer than the pause before the first touch: it must not come while nobody looks.
    wait_until(lambda: len(labels) > 120, lambda: 'labels')
    assert {m.class_name for m in labels} == {'no_contact'}
    client.create_subscription(message_type, f'/thumb/{topic}', images.append, qos_profile_sensor_data)
    wait_until(lambda: len({m.class_name for m in labels}) >= 2 and len(images) >= 30, lambda: 'a touch')
    assert {m.class_name for m in labels} <= set(CLASS_NAMES)
    assert all((m.class_name == 'no_contact') == (m.depth == 0.0) for m in labels)
    by_stamp = {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in labels}
    paired = [by_stamp[key] for m in images if (key := (m.header.stamp.sec, m.header.stamp.nanosec)) in by_stamp]
    assert len(paired) >= 0.5 * len(images)
    assert decode(images[0]).shape == shape
    assert images[0].header.frame_id == labels[0].header.frame_id == 'thumb'


def test_a_sensor_of_ones_own(start, client, tmp_path):
    """What fit_sensor wrote is shown as it is."""
    save_sensor(tmp_path / 'mine.json', dataclasses.replace(GELSIGHT, name='mine', height=96, width=128))
    images: list = []
    client.create_subscription(Image, 'image_raw', images.append, qos_profile_sensor_data)
    start('simulator_node', sensor=str(tmp_path / 'mine.json'))
    wait_until(lambda: images, lambda: 'an image')
    assert decode(images[0]).shape == (96, 128, 3)


def test_objects(start, client):
    """Half of the touches are by objects that are none of the shapes."""
    labels: list = []
    client.create_subscription(TactileLabel, 'label', labels.append, 100)
    client.create_subscription(Image, 'image_raw', lambda _: None, qos_profile_sensor_data)
    start('simulator_node', activity='objects', rate=60)
    wait_until(lambda: any(m.class_name == 'unknown' and m.depth > 0 for m in labels), lambda: 'another object')


def test_handling(start, client):
    """Labels are states; from its first command on, the gripper decides whether something touches."""
    labels: list = []
    client.create_subscription(TactileLabel, 'label', labels.append, 100)
    client.create_subscription(Image, 'image_raw', lambda _: None, qos_profile_sensor_data)
    start('simulator_node', activity='handling', rate=60)
    wait_until(lambda: any(m.class_name in ('stable', 'moving', 'slip') for m in labels), lambda: 'a held object')
    assert all((m.class_name == 'no_contact') == (m.depth == 0.0) for m in labels)
    gripper = client.create_publisher(Float64, 'gripper/force', 1)
    wait_until(gripper.get_subscription_count, lambda: 'the simulator')
    gripper.publish(Float64(data=0.0))
    wait_until(lambda: labels[-1].class_name == 'no_contact', lambda: 'an open gripper')
    gripper.publish(Float64(data=12.0))
    wait_until(lambda: labels[-1].class_name == 'stable', lambda: 'an object that is held firmly')


@pytest.mark.parametrize(('name', 'value'), [('sensor', 'skin'), ('sensor', '/no/such.json'), ('rate', '0.0'),
                                             ('image_transport', 'theora'), ('activity', 'juggling')])
def test_wrong_parameter(start, name, value):
    """One line that names the parameter, and status 2."""
    node = start('simulator_node', **{name: value})
    assert node.wait_for_end() == 2
    assert name in node.output
    assert 'Traceback' not in node.output
