"""Raw encodings besides 8-bit RGB and grey: YUV, Bayer and 16 bits, against formulas, OpenCV and cv_bridge's rules."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vit_tactile_ros.inference.decode import ENCODINGS, UNDEFINED_ORDER, DecodeError, decode

HEIGHT, WIDTH = 6, 8
RNG = np.random.default_rng(0)
LUMA = RNG.integers(16, 236, (HEIGHT, WIDTH)).astype(np.uint8)
# One pair of chroma for two pixels of a row; every one differs.
BLUENESS, REDNESS = (RNG.integers(64, 193, (HEIGHT, WIDTH // 2)).astype(np.uint8) for _ in range(2))
DEEP = RNG.integers(0, 65536, (HEIGHT, WIDTH, 4)).astype(np.uint16)
TESTED_IN_DECODE = {'rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', '8UC1', '8UC3', '8UC4'}


def message(encoding: str, rows: np.ndarray, padding: int = 0, **changes) -> SimpleNamespace:
    """rows: uint8 (rows of data, bytes), padded with 255."""
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    fields = {'height': HEIGHT, 'width': WIDTH, 'encoding': encoding, 'is_bigendian': 0, 'step': padded.shape[1],
              'data': padded.tobytes()}
    return SimpleNamespace(**(fields | changes))


def refusal(bad: SimpleNamespace) -> DecodeError:
    with pytest.raises(DecodeError) as error:
        decode(bad)
    return error.value


def yuv_to_rgb(luma: np.ndarray, blueness: np.ndarray, redness: np.ndarray) -> np.ndarray:
    """BT.601, limited range: black is 16, white 235."""
    y, u, v = 1.164 * (luma - 16.0), blueness - 128.0, redness - 128.0
    rgb = np.stack((y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u), axis=2)
    return np.clip(np.rint(rgb), 0, 255)


def packed(order: str) -> np.ndarray:
    """4:2:2 rows: two lumas and their two chromas."""
    parts = {'y': iter((LUMA[:, ::2], LUMA[:, 1::2])), 'u': iter((BLUENESS,)), 'v': iter((REDNESS,))}
    return np.stack([next(parts[letter]) for letter in order], axis=2).reshape(HEIGHT, 2 * WIDTH)


@pytest.mark.parametrize('padding', (0, 1, 16))
@pytest.mark.parametrize(('encoding', 'order'), (('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuv422_yuy2', 'yuyv'),
                                                 ('yuyv', 'yuyv')))
def test_yuv_422(encoding, order, padding):
    """usb_cam's default encoding was refused; the two orders exchanged give green and pink."""
    got = decode(message(encoding, packed(order), padding)).astype(float)
    want = yuv_to_rgb(LUMA, BLUENESS.repeat(2, axis=1), REDNESS.repeat(2, axis=1))
    assert got.shape == (HEIGHT, WIDTH, 3) and np.abs(got - want).max() <= 2
    code = cv2.COLOR_YUV2RGB_UYVY if order == 'uyvy' else cv2.COLOR_YUV2RGB_YUY2  # as cv_bridge
    np.testing.assert_array_equal(got, cv2.cvtColor(packed(order).reshape(HEIGHT, WIDTH, 2), code))


@pytest.mark.parametrize('padding', (0, 2))
@pytest.mark.parametrize('encoding', ('nv12', 'nv21'))
def test_yuv_420(encoding, padding):
    """Chroma rows below the image, one for two rows; NV21 exchanges the two chromas."""
    u, v = BLUENESS[:HEIGHT // 2], REDNESS[:HEIGHT // 2]
    chroma = np.stack((u, v) if encoding == 'nv12' else (v, u), axis=2).reshape(HEIGHT // 2, WIDTH)
    rows = np.concatenate((LUMA, chroma))
    got = decode(message(encoding, rows, padding)).astype(float)
    want = yuv_to_rgb(LUMA, *(np.kron(plane, np.ones((2, 2))) for plane in (u, v)))
    assert got.shape == (HEIGHT, WIDTH, 3) and np.abs(got - want).max() <= 2
    error = refusal(message(encoding, LUMA))
    assert error.reason == 'data' and '9 rows of step 8' in str(error)


@pytest.mark.parametrize(('encoding', 'changes'), (
    *((e, {'width': 7}) for e in ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21')),
    *((e, {'height': 5}) for e in ('nv12', 'nv21'))))
def test_odd_sizes_are_refused(encoding, changes):
    """OpenCV raises cv2.error for half a pair of pixels."""
    error = refusal(message(encoding, packed('yuyv'), **changes))
    assert error.reason == 'size' and 'must be even' in str(error) and encoding in str(error)


@pytest.mark.parametrize('padding', (0, 3))
@pytest.mark.parametrize('pattern', ('rggb', 'bggr', 'gbrg', 'grbg'))
@pytest.mark.parametrize('bits', (8, 16))
def test_bayer(pattern, bits, padding):
    """The four patterns are one another's shifts: the wrong one exchanges colours."""
    colour = dict(zip('rgb', (40, 120, 220)))
    mosaic = np.tile([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]],
                     (HEIGHT // 2, WIDTH // 2))
    values = mosaic.astype(np.uint8) if bits == 8 else (257 * mosaic).astype('<u2')
    got = decode(message(f'bayer_{pattern}{bits}', values.view(np.uint8).reshape(HEIGHT, -1), padding))
    assert got.shape == (HEIGHT, WIDTH, 3) and got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.broadcast_to((40, 120, 220), got.shape))


def test_a_mosaic_too_small_is_refused():
    """OpenCV returns black."""
    error = refusal(message('bayer_rggb8', LUMA[:2, :2], width=2, height=2))
    assert error.reason == 'size' and 'at least 3' in str(error)


@pytest.mark.parametrize('padding', (0, 1, 6))
@pytest.mark.parametrize('is_bigendian', (0, 1))
@pytest.mark.parametrize(('encoding', 'channels'), (
    ('mono16', (0, 0, 0)), ('16UC1', (0, 0, 0)), ('rgb16', (0, 1, 2)), ('bgr16', (2, 1, 0)), ('16UC3', (2, 1, 0)),
    ('rgba16', (0, 1, 2)), ('bgra16', (2, 1, 0)), ('16UC4', (2, 1, 0))))
def test_sixteen_bits(encoding, channels, is_bigendian, padding):
    """65535 is 255, as cv_bridge scales; swapped bytes are noise, and an odd step made the rows unreadable."""
    count = 1 if encoding in ('mono16', '16UC1') else 4 if '4' in encoding or 'a' in encoding else 3
    values = np.ascontiguousarray(DEEP[:, :, :count])
    if count == 4:
        values[:, :, 3] = 65535  # alpha
    rows = values.astype('>u2' if is_bigendian else '<u2').view(np.uint8).reshape(HEIGHT, -1)
    got = decode(message(encoding, rows, padding, is_bigendian=is_bigendian))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.rint(values[:, :, list(channels)] / 257))


@pytest.mark.parametrize('encoding', ('mono16', '16UC1', 'rgba16', 'bayer_rggb16'))
def test_a_small_range_is_refused(encoding):
    """10 or 12 bits in 16 became a black image; alpha, always at its maximum, does not count."""
    values = np.full((HEIGHT, WIDTH, 4 if encoding == 'rgba16' else 1), 4095, '<u2')
    if encoding == 'rgba16':
        values[:, :, 3] = 65535
    error = refusal(message(encoding, values.view(np.uint8).reshape(HEIGHT, -1)))
    assert error.reason == 'range' and '4095' in str(error) and 'by 16' in str(error)


def test_a_claim_of_too_many_pixels_is_refused_by_its_size():
    """No allocation by what the header says."""
    error = refusal(message('mono8', LUMA, width=2**13, height=2**13))
    assert error.reason == 'size' and '8192x8192, 67.1 Mpx' in str(error) and '33.6 Mpx' in str(error)


def test_every_encoding_is_tested():
    own = {'yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21', 'mono16', '16UC1', 'rgb16', 'bgr16', '16UC3',
           'rgba16', 'bgra16', '16UC4'}
    bayer = {f'bayer_{pattern}{bits}' for pattern in ('rggb', 'bggr', 'gbrg', 'grbg') for bits in (8, 16)}
    assert TESTED_IN_DECODE | own | bayer == set(ENCODINGS) and UNDEFINED_ORDER < set(ENCODINGS)
