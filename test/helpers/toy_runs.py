"""Command lines and images for runs of `train` that take seconds."""

import cv2
import numpy as np

TINY = {'epochs': 2, 'epoch_size': 8, 'batch_size': 4, 'validation_size': 4, 'workers': 0, 'feature_map_dim': 16,
        'device': 'cpu'}


def arguments(output, **changes) -> list[str]:
    """Command line of a run of two epochs of two steps each."""
    flags = []
    flags_of = TINY | {'exits': '1 2', 'image_size': '32 32'} | changes
    if 'data' in changes and changes['data'] != 'simulator':
        del flags_of['validation_size']
    for name, value in flags_of.items():
        flags += [f'--{name}', *str(value).split()]
    return ['--output', str(output), *flags]


def write_presses(folder, pictures=3):
    """A folder of class folders: 2 classes of 4 recordings with several images each, and a reference."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    reference = np.full((48, 64, 3), 110, np.uint8)
    cv2.imwrite(str(folder / 'reference.png'), reference)
    for channel, name in enumerate(('edge', 'flat')):
        (folder / name).mkdir()
        for recording in range(4):
            for i in range(pictures):
                picture = reference + rng.integers(0, 5, reference.shape, dtype=np.uint8)
                picture[10:30, 10:50, channel] += 80
                cv2.imwrite(str(folder / name / f'{name}{recording}__{i}.png'), picture)
    return folder
