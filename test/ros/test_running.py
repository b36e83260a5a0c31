"""Another checkpoint in the place of the running one."""

from types import SimpleNamespace

import pytest

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import sensor_frames
from vit_tactile_ros.model import load_checkpoint
from vit_tactile_ros.ros.running import Loaded, Running, adopt
from vit_tactile_ros.ros.sensor import Sensor


@pytest.mark.parametrize('is_refused', [False, True])
def test_no_result_outlives_its_network(tiny_checkpoint, is_refused):
    """With skip_unchanged, an image like the last one got the result of the network before the reload."""
    def check(*_):
        if is_refused:
            raise ValueError('a threshold too many')

    checkpoint = load_checkpoint(tiny_checkpoint)
    old, new = (TactileClassifier(checkpoint, 'cpu', threads=1) for _ in range(2))
    frames = [sensor_frames(['left', 'right'], [''], 5, old.preprocessing, True, finds_unchanged=True)
              for _ in range(2)]
    sensors = [Sensor(name, own) for name, own in frames[0].items()]
    last = old.untouched((0.5, 0.5)) or object()
    for sensor in sensors:
        sensor.last_decision = last
    settings = SimpleNamespace(check=check, configure=lambda *_: None, thresholds=lambda: (1.0, 1.0))
    running = Running(None, settings, tiny_checkpoint, old, sensors)
    if is_refused:
        with pytest.raises(ValueError, match='a threshold too many'):
            adopt(running, Loaded(new, checkpoint.calibration, frames[1]))
    else:
        adopt(running, Loaded(new, checkpoint.calibration, frames[1]))
    kept = last if is_refused else None
    assert [sensor.last_decision for sensor in sensors] == [kept] * 2
    assert running.classifier is (old if is_refused else new)
