"""measure_slip_supervised.py end to end on toy grasps: what is drawn, what is judged, and the figures."""

import json

import cv2
import numpy as np
from measure_slip_supervised import JUDGED, LIFTED, Clips, main
from toy_clips import write_grasps
from toy_outputs import toy_checkpoint

from vit_tactile_ros.inference.touch_events import STATES
from vit_tactile_ros.model import PreprocessingConfig, save_checkpoint


def test_toy_grasps(tmp_path, capsys):
    def images(number, slips):
        for frame in range(60):
            image = np.full((60, 80, 3), 100, np.uint8)
            if not slips or frame < 25:
                cv2.circle(image, (40, 30), 22, (30, 250 - 20 * (number // 2), 30 + 40 * (number // 2)), -1)
            yield image

    grasps = write_grasps(tmp_path, images)
    save_checkpoint(tmp_path / 'states.safetensors', toy_checkpoint(names=STATES, motion=0.08))
    main(['--grasps', str(grasps), '--cache', str(tmp_path / 'cache'), '--steps', '1', '--batch', '2',
          '--checkpoint', str(tmp_path / 'states.safetensors')])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found) == ['ViT-Tiny, random', 'own, from the checkpoint', 'own, random']
    for rules in found.values():
        assert list(rules) == ['sustained', 'sustained, still', 'mean, not an alarm']
        assert all(0 <= row['auc'] <= 1 and 0 <= row['balanced'] <= 1 for row in rules.values())


def test_images_of_another_clip_are_not_the_ones_before():
    """The motion of the first images of a clip, from the end of the clip before; images before the lift."""
    images = np.zeros((100, 16, 16, 3), np.uint8)
    images[50:] = 90
    config = PreprocessingConfig(image_size=(16, 16), reference='difference', motion_interval=0.08, motion_views=2)
    clips = Clips(images, np.array([0, 50, 100]), np.zeros((2, 16, 16, 3), np.float32), config)
    assert not clips.inputs(1, 0)[3:].any() and not clips.inputs(1, 30, is_still=True)[3:].any()
    assert clips.judged(0) == list(range(LIFTED, 50, JUDGED))
