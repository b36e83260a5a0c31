"""Two classifiers on the same images, as reflex.launch.py starts them: one of shapes, one of slip."""

from __future__ import annotations

from live_nodes import image

SLIP_NODE = ('-r', '__node:=slip_detector', '-r', 'tactile:=slip/tactile', '-r', 'touch_event:=slip/touch_event')


def test_side_by_side(classifier, client, states_checkpoint):
    """Each publishes its own classes; slip_threshold can be set while they run, if it is a probability."""
    classifier()
    classifier(*SLIP_NODE, checkpoint=states_checkpoint, slip_threshold=0.8)
    shapes, slip = client.listen('/tactile'), client.listen('/slip/tactile')
    client.send_until(image(3), lambda: shapes and slip, 'both results')
    assert list(shapes[0].class_names) == ['nothing', 'ball', 'edge']
    assert list(slip[0].class_names) == ['no_contact', 'stable', 'moving', 'slip']
    assert shapes[0].header == slip[0].header
    assert client.count_publishers('/slip/touch_event') == 1 and client.count_publishers('/touch_event') == 0
    client.wait(lambda: client.status() and client.status(node='slip_detector'), 'diagnostics of both')
    assert client.get_parameter_of('slip_threshold', '/slip_detector') == 0.8
    assert client.set_parameter('slip_threshold', 0.95, '/slip_detector').successful
    refused = client.set_parameter('slip_threshold', 1, '/slip_detector')
    assert not refused.successful and 'above 0 and below 1' in refused.reason
