"""The gate and the managed reference of the running node."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from live_nodes import Client, image
from std_srvs.srv import Trigger

from vit_tactile_ros.inference.gate import GATE_CONFIDENCE
from vit_tactile_ros.model import shipped_checkpoint
from vit_tactile_ros.ros.messages import image_message
from vit_tactile_ros.simulator import GELSIGHT, SensorUnit, sample_contact

STEP = 100_000_000  # ns
CAPTURE = '/tactile_classifier/capture_reference'


class Finger:
    """A simulated sensor, untouched or pressed."""

    def __init__(self, client: Client) -> None:
        self._client, self._results, self._number = client, client.listen(), 0
        self._rng = np.random.default_rng(3)
        self._unit = SensorUnit(GELSIGHT, self._rng)
        self._contact = sample_contact('ring', GELSIGHT, self._rng, depth_fraction=0.8)

    def see(self, count: int = 1, touched: bool = False):
        """The last result."""
        for _ in range(count):
            self._number += 1
            header = image(1).header
            header.stamp.sec, header.stamp.nanosec = divmod(10**9 + self._number * STEP, 10**9)
            seen = self._unit.render(self._contact if touched else None, self._rng)
            result = self._client.result_of(image_message(seen, header), self._results)
        return result


def test_gate_capture_and_store(classifier, client, tmp_path):
    """Results, the live parameter, the service that refuses during a touch, diagnostics, and a restart in mid-grasp."""
    node = classifier(checkpoint=shipped_checkpoint(), reference_store=str(tmp_path / 'references'))
    finger = Finger(client)
    gated = finger.see(30)
    assert (gated.exit_index, gated.exit_block, gated.compute_share, gated.inference_time) == (-1, 0, 0.0, 0.0)
    assert gated.class_name == 'no_contact' and gated.confidence == np.float32(GATE_CONFIDENCE)
    assert gated.class_names[gated.class_id] == 'no_contact' and not gated.exit_confidences
    assert gated.probabilities[gated.class_id] == gated.confidence and abs(sum(gated.probabilities) - 1) < 1e-6
    client.wait(lambda: client.counter('gated') >= 20, 'gated images in the diagnostics')
    assert client.values()['reference health'] == 'fits'

    assert client.set_parameter('gate', False).successful
    assert finger.see().exit_block == 4
    assert client.set_parameter('gate', True).successful
    assert client.set_parameter('tau', 1.0).successful
    assert finger.see().exit_block == 12
    assert client.set_parameter('tau', 0.9).successful
    assert finger.see().exit_block == 0

    finger.see(5, touched=True)
    refused = client.call(Trigger, CAPTURE, Trigger.Request())
    assert not refused.success and 'something touches' in refused.message and 'release it' in refused.message
    for _ in range(3):  # as a controller that tries again until it succeeds
        assert not client.call(Trigger, CAPTURE, Trigger.Request()).success
    finger.see(2)
    assert client.call(Trigger, CAPTURE, Trigger.Request()).success
    assert finger.see(35).exit_block == 0
    assert 'reference stored at' in client.values()
    node.stop()
    assert 'sensor: no-contact reference stored in' in node.output
    assert [path.name for path in (tmp_path / 'references').iterdir()] == ['_unnamed.reference.npz']

    node = classifier(checkpoint=shipped_checkpoint(), reference_store=str(tmp_path / 'references'))
    assert finger.see(8, touched=True).exit_block > 0
    client.wait(lambda: 'something touches since the start' in client.status().message, 'the warning')
    assert client.status().level == DiagnosticStatus.WARN and client.values()['reference'] == 'stored'
    assert abs(int(client.values()['reference stored [s ago]'])) < 600
    assert client.values()['reference stored at'][:2] == '20' and client.values()['reference stored at'][-1] == 'Z'
    assert 'something touches since the start' in node.output
    finger.see(touched=True)
    refused = client.call(Trigger, CAPTURE, Trigger.Request())
    assert not refused.success and 'call it again within 10 s' in refused.message
    assert client.call(Trigger, CAPTURE, Trigger.Request()).success  # confirmed: it may be of another gel
