"""Images from outside for `fuzz`: messages, compressed ones and files, through decode, fit and reference."""

from __future__ import annotations

import functools
import json
import random
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from fuzz_folders import made, own
from mutations import mutate_bytes


def noise(height: int = 24, width: int = 32, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype)
    pixels[:, :, 3:] = np.iinfo(dtype).max  # opaque
    return pixels[:, :, 0] if channels == 1 else pixels


def message_bytes(about: dict[str, Any], data: bytes) -> bytes:
    return json.dumps(about).encode() + b'\n' + data


def raw_messages(folder: Path) -> list[Path]:
    from vit_tactile_ros.inference.decode import ENCODINGS

    made = []
    for name, encoding in ENCODINGS.items():
        step = 32 * encoding.channels * encoding.sample_bytes
        data = random.Random(0).randbytes(int(24 * encoding.rows) * step)
        made.append((f'{name}.message', message_bytes({'height': 24, 'width': 32, 'encoding': name, 'is_bigendian': 0,
                                                       'step': step}, data)))
    return own(folder, *made)


def mutate_message(data: bytes, rng: random.Random) -> bytes:
    head, _, pixels = data.partition(b'\n')
    about = json.loads(head)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(about))
        if name == 'encoding':
            about[name] = rng.choice(('', 'rgb8', 'mono16', 'bayer_rggb8', 'nv12', 'x' * 10_000, 'rgb8\n', '32FC1'))
        else:
            about[name] = rng.choice((0, 1, 2, 3, 7, 24, 31, 33, 96, 10**4, 2**16, 2**25, 2**31, 2**32 - 1,
                                      about[name] + 1, max(about[name] - 1, 0), about[name] * 2))
    if rng.random() < 0.3:
        pixels = mutate_bytes(pixels, rng)
    if rng.random() < 0.3 and about['step'] * about['height'] < 2**20:  # sizes that agree
        pixels = bytes(about['step'] * about['height'])
    return message_bytes(about, pixels)


def message_strategy(_: dict[Path, bytes]) -> Any:
    from hypothesis import strategies as st

    from vit_tactile_ros.inference.decode import ENCODINGS

    side = st.one_of(st.integers(0, 70), st.integers(0, 2**32 - 1))
    step = st.one_of(st.integers(0, 600), st.integers(0, 2**32 - 1))
    encoding = st.one_of(st.sampled_from(list(ENCODINGS)), st.text(max_size=20))

    @st.composite
    def message(draw: Any) -> bytes:
        about = {'height': draw(side), 'width': draw(side), 'encoding': draw(encoding),
                 'is_bigendian': draw(st.integers(0, 255)), 'step': draw(step)}
        known = ENCODINGS.get(about['encoding'])
        if known and draw(st.booleans()):
            about['step'] = min(about['width'] * known.channels * known.sample_bytes, 2**32 - 1)
        size = int(about['height'] * about['step'] * (known.rows if known else 1))
        if size > 2**20 or draw(st.booleans()):
            size = draw(st.integers(0, 2000))
        return message_bytes(about, bytes(size))

    return message()


@functools.cache
def preprocessing() -> Any:
    from vit_tactile_ros.model import PreprocessingConfig

    return PreprocessingConfig(image_size=(32, 48), reference='difference', orientation='match', crop='center')


def update(message: Any) -> str:
    """The whole way of an image in the node up to the network."""
    from vit_tactile_ros.inference.frames import SensorFrames
    from vit_tactile_ros.inference.reference import Reference

    frames = SensorFrames(Reference(1), preprocessing(), expects_grey=False)
    for stamp in (0, 1):
        frame = frames.update(message, stamp)
    assert frame.image.shape == (32, 48, 3) and frame.image.dtype == np.uint8
    assert frame.reference is not None and np.isfinite(frame.reference).all()
    return 'read'


def read_message(path: Path) -> str:
    head, _, pixels = path.read_bytes().partition(b'\n')
    return update(SimpleNamespace(**json.loads(head), data=pixels))


def encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, pixels, options)[1])


def compressed_messages(folder: Path) -> list[Path]:
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    return own(folder, ('a.jpg', encoded('.jpg', noise())), ('b.jpg', encoded('.jpg', noise(channels=1))),
               ('c.jpg', encoded('.jpg', noise(), *progressive)), ('d.png', encoded('.png', noise())),
               ('e.png', encoded('.png', noise(channels=4, dtype=np.uint16))),
               ('f.jpg', encoded('.jpg', noise())[:2] + exif(6) + encoded('.jpg', noise())[2:]))


def exif(orientation: int) -> bytes:
    body = b'Exif\0\0II*\0\x08\0\0\0' + struct.pack('<HHHIHH', 1, 0x0112, 3, 1, orientation, 0) + bytes(4)
    return b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body


def image_files(folder: Path) -> list[Path]:
    return [*compressed_messages(made(folder / 'both')), *own(
        made(folder / 'files'), ('a.bmp', encoded('.bmp', noise())), ('b.tif', encoded('.tif', noise())),
        ('c.tif', encoded('.tif', noise(channels=1, dtype=np.uint16))), ('d.tif', encoded('.tif', noise(channels=4))),
        ('e.webp', encoded('.webp', noise())), ('f.webp', encoded('.webp', noise(channels=4), 64, 101)))]


@functools.cache
def many_zeros() -> bytes:
    return zlib.compress(bytes(10**7))


def mutate_image(data: bytes, rng: random.Random) -> bytes:
    """Half of the changed PNGs have right checksums."""
    if not data.startswith(b'\x89PNG') or rng.random() < 0.5:
        return mutate_bytes(data, rng)
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = struct.unpack_from('>I', data, at)[0]
        chunks.append((data[at + 4:at + 8], data[at + 8:at + 8 + size]))
        at += 12 + size
    number = rng.randrange(len(chunks))
    kind, body = chunks[number]
    if kind == b'IDAT' and rng.random() < 0.7:
        body = zlib.compress(mutate_bytes(zlib.decompress(body), rng), 1) if rng.random() < 0.9 else many_zeros()
    else:
        body = mutate_bytes(body or b'\0', rng)
    chunks[number] = (rng.choice((kind, kind, kind, b'PLTE', b'tRNS', b'eXIf', b'iCCP', b'acTL')), body)
    return data[:8] + b''.join(struct.pack('>I', len(b)) + k + b + struct.pack('>I', zlib.crc32(k + b))
                               for k, b in chunks)


def read_compressed(path: Path) -> str:
    return update(SimpleNamespace(format='jpeg', data=path.read_bytes()))


def read_image_file(path: Path) -> str:
    from vit_tactile_ros.inference.image_file import ImageFileError, read_image
    from vit_tactile_ros.inference.preprocess import fit

    try:
        image = read_image(path)
    except ImageFileError as error:
        assert str(error).startswith(str(path))
        raise
    assert fit(image, preprocessing()).shape == (32, 48, 3)
    return 'read'
