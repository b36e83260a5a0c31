"""A toy table of frames."""

from __future__ import annotations

import numpy as np

from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable


def toy_frames(frames: int = 40, seed: int = 0, classes: int = 4) -> FrameTable:
    """`frames` frames of two sensors of one bag, the odd thirds unlabelled; later exits are better."""
    rng = np.random.default_rng(seed)
    number = np.arange(frames)
    truth = (number // 5) % classes
    strength = np.array([1.0, 2.0, 3.0])[:, None, None]
    logits = (rng.normal(size=(3, frames, classes)) + strength * np.eye(classes)[truth]).astype(np.float32)
    label = np.where(number % 3 == 1, -1, truth)
    sensor = np.array(['left', 'right'])[number % 2]
    table = FrameTable(
        bag=np.full(frames, 'toy'), sensor=sensor, topic=np.char.add(np.char.add('/', sensor), '/image_raw'),
        index=number // 2, stamp=10**18 + number * 40_000_000, received=10**18 + number * 40_000_000 + 1_234_567,
        seconds=number * 0.04, label=label,
        touch=np.array([f'toy/{s}/{n // 5}' if lab >= 0 else '' for s, n, lab in zip(sensor, number, label)], np.str_),
        logits=logits, exit_index=np.zeros(frames, np.int64), class_id=np.zeros(frames, np.int64),
        confidence=np.zeros(frames, np.float32), touch_odds=1.0 + number % 7 / 3,
        kept_share=0.25 + number % 4 / 4, zoom=1.0 + number % 3,
        inference_time=np.full(frames, np.nan),
        class_names=tuple(f'class {i}' for i in range(classes)), exits=(4, 8, 12), compute_shares=(0.34, 0.67, 1.0),
        temperatures=(1.3, 1.1, 0.9), tau=(0.7, 0.7))
    return table.decided(0.7)
