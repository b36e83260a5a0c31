"""Faults of single images: what is in them, and what their headers claim."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import Image

from faults.bench import Bench, FaultError, stamp_of
from faults.scene import message
from faults.suite import fault

COUNT = 20
Change = Callable[[Image], None]


def _set(**values: object) -> Change:
    def change(image: Image) -> None:
        for name, value in values.items():
            setattr(image, name, value)
    return change


def _data(cut: int) -> Change:
    def change(image: Image) -> None:
        image.data = image.data[:cut] if cut < 0 else image.data + array('B', bytes(cut))
    return change


def _broken(bench: Bench, change: Change) -> None:
    images = list(bench.good(COUNT, is_touched=True))
    for image in images:
        change(image)
    bench.play(images)
    bench.counters()
    sent = {stamp_of(image) for image in images}
    if any(stamp_of(result) in sent for result in bench.results):
        raise FaultError('a rejected image has a result')


for _name, _what, _change, _log, _short in (
    ('unknown encoding', 'The encoding is not one that the node reads.', _set(encoding='32FC1'), 'encoding is', True),
    ('empty encoding', 'The encoding is empty.', _set(encoding=''), 'encoding is', False),
    ('no pixels', 'Width and height are 0.', _set(width=0, height=0, step=0, data=array('B')), 'image is 0x0', False),
    ('huge header', 'The header claims 4,294,967,295 rows.', _set(height=2**32 - 1), 'must be at most', True),
    ('step too small', 'Rows are claimed to be shorter than their pixels.', _set(step=10), 'step is 10', False),
    ('step too large', 'Rows are claimed to be 4 GB long.', _set(step=2**32 - 1), 'data holds', False),
    ('data too short', 'One byte of the pixels is missing.', _data(-1), 'data holds', True),
    ('data too long', 'One byte follows the pixels.', _data(1), 'data holds', False),
    ('no data', 'There are no pixels, although the header claims some.', _set(data=array('B')), 'data holds 0', False),
    ('odd nv12', 'An nv12 image of odd size: its pixels cannot share colours.', _set(encoding='nv12', height=239),
     'must be even', False),
):
    fault(_what, _log, 'since the last report: .*rejected', short=_short, name=_name, change=_change)(_broken)


def _uniform(bench: Bench, level: int) -> None:
    height, width = bench.scene.untouched[0].shape[:2]
    bench.play(message(np.full((height, width, 3), level, np.uint8)) for _ in range(COUNT))


for _name, _what, _level in (('black', 'The light is off: every pixel is 0.', 0),
                             ('saturated', 'The exposure is far too long: every pixel is 255.', 255)):
    fault(_what, 'blank', 'blank images', short=_level == 0, name=_name, level=_level)(_uniform)


@fault('Only three columns are lit: the rest of the image is black.', 'blank', 'blank images')
def almost_black(bench: Bench) -> None:
    def dark() -> Image:
        pixels = np.zeros_like(bench.scene.untouched[0])
        pixels[:, :3] = 255
        return message(pixels)
    bench.play(dark() for _ in range(COUNT))


@fault('The camera sends mono8 although the network was trained on colour.', 'the images are grey', 'grey images',
       short=True)
def grey(bench: Bench) -> None:
    bench.play(message(frame.mean(axis=-1).astype(np.uint8), 'mono8') for frame in bench.scene.untouched * 4)


@fault('For 6.5 s, three quarters of every image repeat its first row, as after a broken transfer.', 'no longer fits',
       'reference: no longer fits')
def torn(bench: Bench) -> None:
    def frame(pixels: np.ndarray) -> Image:
        torn = pixels.copy()
        torn[len(torn) // 4:] = torn[0]
        return message(torn)
    bench.play((frame(pixels) for pixels in bench.scene.untouched * 33), rate=30.0)


@fault('For 6.5 s, every pixel is random.', 'no longer fits', 'reference: no longer fits')
def noise(bench: Bench) -> None:
    random = np.random.default_rng(0)
    bench.play((message(random.integers(0, 256, bench.scene.untouched[0].shape, np.uint8))
               for _ in range(200)), rate=30.0)


@fault('One image in the middle of a stream is black.', 'blank', 'blank images')
def one_black_image(bench: Bench) -> None:
    bench.play([*bench.good(5), message(np.zeros_like(bench.scene.untouched[0])), *bench.good(5)])


@fault('3840x2160 images between those of the usual size.', 'resolution changed', 'resolution changes', soon=6.0,
       more_memory=400.0)
def four_k(bench: Bench) -> None:
    large = message(np.random.default_rng(0).integers(0, 256, (2160, 3840, 3), np.uint8))
    for _ in range(2):
        bench.show(large)


@fault('The camera changes between two sizes every few images, with nothing touching.', 'resolution changed',
       'resolution changes', short=True)
def resolution_flips(bench: Bench) -> None:
    for _ in range(4):
        bench.play(message(pixels[::2, ::2]) for pixels in bench.scene.untouched)
        bench.play(bench.good(6))
    bench.wait_for_reference()


@fault('The frame_id has 100,000 characters.', short=False)
def long_frame_id(bench: Bench) -> None:
    images = list(bench.good(COUNT))
    for image in images:
        image.header.frame_id = 'x' * 100_000
    bench.play(images)


@fault('One pixel, then one row, then one column.', 'resolution changed', 'resolution changes')
def tiny_images(bench: Bench) -> None:
    for shape in ((1, 1, 3), (1, 320, 3), (240, 1, 3)):
        bench.play(message(np.full(shape, 120, np.uint8)) for _ in range(3))
    bench.wait_for_reference()
