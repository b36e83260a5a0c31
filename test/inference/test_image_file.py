"""The one reader of image files and compressed messages: whole images only, right pixels, nothing else raised."""

import array
import io
import logging
import pickle
import resource
import struct
import subprocess
import sys
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference import image_file
from vit_tactile_ros.inference.decode import DecodeError, decode
from vit_tactile_ros.inference.image_file import ImageFileError, decode_image, read_image
from vit_tactile_ros.inference.image_header import read_jpeg_header, read_png_header

needs_simplejpeg = pytest.mark.skipif(image_file.simplejpeg is None, reason='simplejpeg is not installed')


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """RGB that JPEG keeps: red grows to the right, green downwards, blue is low."""
    y, x = np.mgrid[:height, :width]
    return np.stack((60 + 2 * x, 40 + 3 * y, np.full_like(x, 20)), axis=2).astype(np.uint8)


def saved(kind: str, mode: str = 'RGB', picture: np.ndarray | None = None, **options) -> bytes:
    """A file as Pillow writes it, which shares no code with OpenCV."""
    file = io.BytesIO()
    Image.fromarray(smooth() if picture is None else picture).convert(mode).save(file, kind, **options)
    return file.getvalue()


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def busy(seed: int = 0) -> np.ndarray:
    """A soft coloured pattern with noise, as a gel has."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


JPEG, PNG = saved('JPEG', quality=95), saved('PNG')
WHOLE = {'JPEG': JPEG, 'PNG': PNG, 'BMP': saved('BMP'), 'TIFF': saved('TIFF'), 'WebP': saved('WEBP', lossless=True)}
PROGRESSIVE = saved('JPEG', progressive=True)


def compressed(data) -> SimpleNamespace:
    return SimpleNamespace(format='jpeg', data=data)


def refusal(data: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as error:
        decode_image(data)
    return error.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def exif(orientation: int) -> bytes:
    return b'II*\x00\x08\x00\x00\x00' + struct.pack('<HHHIHH', 1, 0x0112, 3, 1, orientation, 0) + b'\x00' * 4


# Whole or not

@pytest.mark.parametrize('whole', (JPEG, PROGRESSIVE, PNG), ids=('jpeg', 'progressive', 'png'))
@pytest.mark.parametrize('tail', (b'', b'\x00' * 7), ids=('cut', 'cut and padded'))
def test_a_truncated_file_is_never_an_image(whole, tail):
    """OpenCV fills what is missing with grey and reports success: half a touch classified as a whole one."""
    for cut in range(len(whole)):
        with pytest.raises(DecodeError) as error:
            decode(compressed(whole[:cut] + tail))
        assert error.value.reason == 'compressed'


@pytest.mark.parametrize('kind', WHOLE)
def test_a_cut_file_of_any_kind_is_refused(kind, tmp_path):
    """A reference that is cut was taken half grey."""
    data = WHOLE[kind]
    for cut in (0, 1, 9, 15, 30, len(data) // 3, len(data) // 2, len(data) - 100, len(data) - 3):
        path = tmp_path / 'cut.jpg'
        path.write_bytes(data[:cut])
        with pytest.raises(ImageFileError, match=r'cut\.jpg'):
            read_image(path)


@pytest.mark.parametrize('whole', (JPEG, PROGRESSIVE, PNG), ids=('jpeg', 'progressive', 'png'))
@pytest.mark.parametrize('trailer', (
    b'\x00' * 100, b'\xff' * 9, b'\r\n', b'trailer of a phone', b'abc\xff\xd9', b'abc\xff\xd9def', JPEG, JPEG[:200],
    b'\xff\xd8 half an image', PNG, bytes(range(256)) * 40), ids=range(11))
def test_bytes_after_the_end_are_ignored(whole, trailer):
    """Padding, a phone's trailer or the second image of a multi-image file was called truncated."""
    np.testing.assert_array_equal(decode(compressed(whole + trailer)), decode(compressed(whole)))


def test_an_end_marker_before_the_end_is_not_the_end():
    """A thumbnail inside the header, or a comment, holds one."""
    thumbnail = saved('JPEG', picture=smooth(8, 8))
    for segment in (b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail,
                    b'\xff\xfe\x00\x06\xff\xd9\xff\xd9'):
        whole = JPEG[:2] + segment + JPEG[2:]
        np.testing.assert_array_equal(decode_image(whole), decode_image(JPEG))
        assert read_jpeg_header(whole).end == len(whole)
        assert 'truncated' in str(refusal(whole[:-2]))


def test_cut_inside_with_the_end_put_back():
    """A cut JPEG with a trailer that happens to hold an end marker: OpenCV decodes it, half of it grey."""
    data = saved('JPEG', picture=busy(), quality=90)
    for tail in (b'\xff\xd9', bytes(500) + b'\xff\xd9'):
        if image_file.simplejpeg is not None:
            assert 'damaged' in str(refusal(data[:len(data) // 2] + tail))


# Damage

@needs_simplejpeg
def test_what_libjpeg_warns_of_is_damage(capfd):
    """1,500 bytes lost were decoded: OpenCV prints libjpeg's warning and continues."""
    data = saved('JPEG', picture=busy(), quality=95)
    middle = len(data) // 2
    lost = data[:middle] + bytes(1500) + data[middle + 1500:]
    error = refusal(lost)
    assert error.reason == 'compressed' and 'damaged' in str(error) and 'Corrupt JPEG data' in str(error)
    assert cv2.imdecode(np.frombuffer(lost, np.uint8), cv2.IMREAD_COLOR) is not None


@needs_simplejpeg
@pytest.mark.parametrize('options', ({}, {'progressive': True}, {'restart_marker_rows': 1}), ids=str)
def test_a_damaged_jpeg_is_refused_when_libjpeg_warns(options, capfd):
    """Any other exception would end the node's thread. Flipped bytes that are a valid JPEG again stay unseen."""
    rng = np.random.default_rng(0)
    whole = saved('JPEG', picture=busy(), quality=90, **options)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        capfd.readouterr()
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        warned = decoded is None or 'JPEG' in capfd.readouterr().err
        try:
            image = decode(compressed(bytes(data)))
        except DecodeError as error:
            assert error.reason == 'compressed'
            refused += 1
        else:
            assert not warned
            np.testing.assert_array_equal(image, decoded[:, :, ::-1])
    assert refused > 50


def test_a_png_with_a_flipped_byte_is_refused():
    """It carries checksums, also where libpng only warns (of text, say)."""
    whole = PNG[:33] + chunk(b'tEXt', b'Comment\x00of a camera') + PNG[33:]
    np.testing.assert_array_equal(decode_image(whole), smooth())
    rng = np.random.default_rng(0)
    for place in (*range(60), *rng.integers(60, len(whole), 200)):
        data = bytearray(whole)
        data[place] ^= int(rng.integers(1, 256))
        assert refusal(bytes(data)).reason == 'compressed'


def test_a_png_that_lacks_pixels_is_refused():
    """Checksums that are right, of too few bytes."""
    half = zlib.compress(b''.join(b'\x00' + bytes(30) for _ in range(5)))
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', 10, 10, 8, 2, 0, 0, 0))
    for pixels in (chunk(b'IDAT', half), b''):
        assert 'damaged' in str(refusal(PNG[:8] + header + pixels + chunk(b'IEND', b'')))


@pytest.mark.parametrize('kind', ('BMP', 'TIFF', 'WebP'))
def test_flipped_bytes_of_other_kinds_raise_nothing_else(kind, tmp_path):
    rng = np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(WHOLE[kind])
        data[rng.integers(min(len(data), 400))] ^= int(rng.integers(1, 256))
        try:
            image = decode_image(bytes(data))
        except DecodeError:
            continue
        assert image.dtype == np.uint8 and image.shape[2] == 3


@pytest.mark.parametrize('data', (
    b'', b'\x00' * 50, b'GIF89a' + b'\x01' * 50, bytes(range(256)), b'\xff\xd8\xff\xd9', b'\xff\xd8\xff',
    b'\xff\xd8' + b'\x55' * 500 + b'\xff\xd9', b'\xff\xd8\xff\xc0\x00\x02\xff\xd9', b'BM', b'II*\x00', b'MM\x00*' * 9,
    b'RIFF\x08\x00\x00\x00WEBP', b'RIFF\x08\x00\x00\x00WEBPVP8 ' + bytes(40), PNG[:8] + chunk(b'IEND', b'')),
    ids=range(14))
def test_garbage_is_refused(data):
    """Data of no known kind, or with nothing between its markers."""
    assert refusal(data).reason == 'compressed'
    with pytest.raises(DecodeError, match="format is 'jpeg'"):
        decode(compressed(array.array('B', data)))


@pytest.mark.parametrize('kind', ('BMP', 'TIFF', 'WebP'))
def test_messages_are_jpeg_or_png(kind):
    """Other kinds have a name in files only."""
    with pytest.raises(DecodeError, match=f'{kind}.*must be JPEG or PNG'):
        decode(compressed(WHOLE[kind]))


# Size, from the header

def claiming(kind: str, width: int, height: int) -> bytes:
    """A small file whose header says another size."""
    if kind == 'PNG':
        header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
        return PNG[:8] + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'0')) + chunk(b'IEND', b'')
    data = bytearray(WHOLE[kind])
    if kind == 'JPEG':
        struct.pack_into('>HH', data, data.index(b'\xff\xc0') + 5, height, width)
    elif kind == 'BMP':
        struct.pack_into('<ii', data, 18, width, height)
    elif kind == 'WebP':
        struct.pack_into('<I', data, 21, width - 1 | (height - 1) << 14)
    else:
        directory = struct.unpack_from('<I', data, 4)[0]
        for entry in range(directory + 2, directory + 2 + 24, 12):
            tag = struct.unpack_from('<H', data, entry)[0]
            struct.pack_into('<HII', data, entry + 2, 4, 1, {256: width, 257: height}[tag])
    return bytes(data)


@pytest.mark.parametrize(('kind', 'size'), (
    ('JPEG', (32000, 32000)), ('JPEG', (65535, 65535)), ('PNG', (200_000, 200_000)), ('PNG', (6000, 6000)),
    ('BMP', (30000, 30000)), ('BMP', (30000, -30000)), ('TIFF', (100_000, 100_000)), ('WebP', (16383, 16383))))
def test_an_absurd_size_in_the_header_is_refused(kind, size):
    """A JPEG of 3 kB that claims 32000x32000 took 6 GB and seconds."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = refusal(claiming(kind, *size))
    assert error.reason == 'compressed' and f'{kind} is {size[0]}x{abs(size[1])}' in str(error)
    assert 'at most 33.6 Mpx' in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 20_000  # kB


@pytest.mark.parametrize('start', (b'', b'\xff\xe0\x00\x04ab'))
def test_a_jpeg_too_short_for_its_size_is_refused_undecoded(start, monkeypatch):
    """Within the limit, too: 100 MB of grey for 1 kB of data."""
    monkeypatch.setattr(image_file, '_decode_jpeg', None)
    data = claiming('JPEG', 5000, 5000)
    for lying in (data[:2] + start + data[2:], PROGRESSIVE.replace(struct.pack('>HH', 48, 64), b'\x13\x88\x13\x88')):
        assert 'too few for 5000x5000' in str(refusal(lying))


@pytest.mark.parametrize('kind', ('JPEG', 'PNG', 'BMP', 'TIFF'))
def test_a_size_of_zero_is_refused(kind):
    assert 'must be at least 1' in str(refusal(claiming(kind, 0, 48)))


def test_the_largest_sizes_pass():
    """8K video, and an image without anything in it, which takes the fewest bytes a pixel."""
    blank = np.zeros((4320, 7680), np.uint8)
    for data in (cv2.imencode('.jpg', blank)[1].tobytes(), saved('JPEG', 'L', blank, progressive=True),
                 cv2.imencode('.png', blank)[1].tobytes()):
        assert decode_image(data).shape == (4320, 7680, 3)


def test_many_scans_are_refused():
    """Each scan of a progressive JPEG goes through the whole image: minutes for a few kB."""
    scan = PROGRESSIVE.rindex(b'\xff\xda')
    assert 'scans; must be at most 100' in str(refusal(PROGRESSIVE[:scan] + 200 * PROGRESSIVE[scan:-2] + b'\xff\xd9'))


# Pixels

@pytest.mark.parametrize('kind', ('PNG', 'BMP', 'TIFF', 'WebP'))
def test_lossless_kinds_are_exact(kind):
    """Red and blue exchanged, or a lossy path."""
    np.testing.assert_array_equal(decode_image(WHOLE[kind]), smooth())


@pytest.mark.parametrize('options', (
    {}, {'progressive': True}, {'subsampling': 0}, {'subsampling': 1}, {'subsampling': 2}, {'keep_rgb': True},
    {'restart_marker_rows': 1}, {'optimize': True}), ids=str)
def test_every_jpeg_is_as_pillow_reads_it(options):
    data = saved('JPEG', quality=95, **options)
    assert np.abs(decode_image(data).astype(int) - opened(data)).max() <= 2


@needs_simplejpeg
def test_simplejpeg_and_opencv_agree(monkeypatch):
    """The same recording on two machines, one without simplejpeg."""
    for data in (JPEG, PROGRESSIVE, saved('JPEG', 'L'), saved('JPEG', picture=busy())):
        with monkeypatch.context() as without:
            without.setattr(image_file, 'simplejpeg', None)
            plain = decode_image(data)
        np.testing.assert_array_equal(decode_image(data), plain)


def test_without_simplejpeg_it_is_said_once(monkeypatch, caplog):
    """A ROS installation without it: still decoded, cut files still refused, and what is not noticed is named."""
    monkeypatch.setattr(image_file, 'simplejpeg', None)
    monkeypatch.setattr(image_file, '_is_warned', False)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert decode_image(JPEG).shape == (48, 64, 3)
    assert [record.getMessage() for record in caplog.records] == [
        'simplejpeg is not installed: a damaged JPEG that is not cut is decoded and not noticed; '
        'pip install simplejpeg']
    assert 'truncated' in str(refusal(JPEG[:-2]))


@needs_simplejpeg
def test_unusual_sampling_is_decoded():
    """simplejpeg does not know three samples to one; OpenCV does."""
    data = bytearray(saved('JPEG', 'YCbCr', np.full((48, 48, 3), 90, np.uint8), subsampling=0))
    data[data.index(b'\xff\xc0') + 11] = 0x31
    with pytest.raises(ValueError, match='subsampling'):
        image_file.simplejpeg.decode_jpeg(bytes(data))
    assert decode_image(bytes(data)).shape == (48, 48, 3)


@pytest.mark.parametrize('mode', ('L', 'LA', 'P', '1', 'RGBA'))
@pytest.mark.parametrize('kind', ('PNG', 'TIFF'))
def test_grey_palette_one_bit_and_alpha(kind, mode):
    """Alpha is dropped, not blended; everything else becomes RGB."""
    data = saved(kind, mode)
    np.testing.assert_array_equal(decode_image(data), opened(data))
    if mode in ('LA', 'RGBA'):
        image = Image.fromarray(smooth()).convert(mode)
        image.putalpha(9)
        file = io.BytesIO()
        image.save(file, kind)
        if (kind, mode) == ('TIFF', 'RGBA'):  # OpenCV would make it black
            assert 'transparent' in str(refusal(file.getvalue()))
        else:
            np.testing.assert_array_equal(decode_image(file.getvalue()), opened(data))


def test_a_palette_with_transparent_colours():
    data = saved('PNG', 'P', transparency=3)
    np.testing.assert_array_equal(decode_image(data), opened(data))


def test_grey_jpeg_has_three_equal_channels():
    data = saved('JPEG', 'L')
    image = decode_image(data)
    assert image.shape == (48, 64, 3) and (image == image[:, :, :1]).all()
    np.testing.assert_array_equal(image, opened(data))


def test_cmyk_is_refused():
    """Inverted or not depends on who wrote it."""
    assert 'CMYK' in str(refusal(saved('JPEG', 'CMYK')))


@pytest.mark.parametrize(('marker', 'said'), ((0xC3, 'lossless'), (0xC7, 'lossless or hierarchical')))
def test_jpeg_of_other_processes_is_refused(marker, said):
    data = bytearray(JPEG)
    data[data.index(b'\xff\xc0') + 1] = marker
    assert said in str(refusal(bytes(data)))


def test_jpeg_of_12_bits_is_refused():
    data = bytearray(JPEG)
    data[data.index(b'\xff\xc0') + 4] = 12
    assert '12 bits per channel; must be 8' in str(refusal(bytes(data)))


@pytest.mark.parametrize('extension', ('.png', '.tif'))
@pytest.mark.parametrize('channels', (1, 3, 4))
def test_sixteen_bits(extension, channels):
    """The full range is scaled, and alpha, always at its maximum, does not count as range."""
    values = np.random.default_rng(0).integers(0, 65536, (48, 64, channels)).astype(np.uint16)
    if channels == 4:
        values[:, :, 3] = 65535
    want = np.rint(values[:, :, :3][:, :, ::-1] / 257)
    got = decode_image(cv2.imencode(extension, values)[1].tobytes())
    np.testing.assert_array_equal(got, np.broadcast_to(want, got.shape))
    values[:, :, :3] //= 16
    error = refusal(cv2.imencode(extension, values)[1].tobytes())
    assert error.reason == 'range' and 'would become black' in str(error)


def test_floating_point_is_refused():
    assert refusal(cv2.imencode('.tif', np.ones((48, 64, 3), np.float32))[1].tobytes()).reason == 'compressed'


def with_orientation(kind: str, orientation: int) -> bytes:
    if kind == 'JPEG':
        return with_segments(app1(exif(orientation)))
    if kind == 'PNG':
        return PNG[:33] + chunk(b'eXIf', exif(orientation)) + PNG[33:]
    if kind == 'TIFF':
        return saved('TIFF', tiffinfo={274: orientation})
    return saved('WEBP', lossless=True, exif=exif(orientation))


def app1(block: bytes, start: bytes = b'Exif\x00\x00') -> bytes:
    return b'\xff\xe1' + struct.pack('>H', len(start) + len(block) + 2) + start + block


def with_segments(*segments: bytes) -> bytes:
    return JPEG[:2] + b''.join(segments) + JPEG[2:]


def by_opencv(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ('JPEG', 'PNG', 'TIFF', 'WebP'))
def test_an_image_is_turned_as_its_exif_says(kind, orientation, tmp_path):
    """A photo on its side: every viewer, OpenCV, cv_bridge and image_transport turn it."""
    data = with_orientation(kind, orientation)
    assert Image.open(io.BytesIO(data)).getexif()[274] == orientation
    path = tmp_path / 'turned.jpg'
    path.write_bytes(data)
    image = read_image(path)
    np.testing.assert_array_equal(image, by_opencv(data))
    np.testing.assert_array_equal(image, np.asarray(turned_by_pillow(decode_image(WHOLE[kind]), orientation)))
    if kind in ('JPEG', 'PNG'):
        np.testing.assert_array_equal(decode(compressed(data)), image)


def turned_by_pillow(image: np.ndarray, orientation: int) -> Image.Image:
    way = (None, 'FLIP_LEFT_RIGHT', 'ROTATE_180', 'FLIP_TOP_BOTTOM', 'TRANSPOSE', 'ROTATE_270', 'TRANSVERSE',
           'ROTATE_90')[orientation - 1]
    whole = Image.fromarray(np.ascontiguousarray(image))
    return whole.transpose(getattr(Image.Transpose, way)) if way else whole


BIG_ENDIAN = b'MM\x00*\x00\x00\x00\x08' + struct.pack('>HHHIHH', 1, 0x0112, 3, 1, 6, 0) + b'\x00' * 4
XMP = app1(b'<x/>', b'http://ns.adobe.com/xap/1.0/\x00')


@pytest.mark.parametrize('segments', (
    [app1(BIG_ENDIAN)], [XMP, app1(exif(6))], [app1(exif(6)), XMP], [app1(exif(6)), app1(exif(8))],
    [app1(exif(1)), app1(exif(6))], [app1(exif(9)), app1(exif(6))], [app1(exif(6)), app1(exif(9))], [app1(exif(0))],
    [app1(b'II*\x00\x08\x00\x00\x00\x00\x00'), app1(exif(6))], [app1(exif(6)[:14])], [app1(exif(6)[:20])],
    [app1(b'II+\x00' + exif(6)[4:])], [app1(b'II*\x00\xff\xff\x00\x00' + exif(6)[8:])], [app1(b'')],
    [app1(exif(6), b'JUNK\x00\x00')], [app1(exif(6)[:8] + b'\x05' + exif(6)[9:])]), ids=range(16))
def test_unusual_exif_of_a_jpeg_is_read_as_opencv_does(segments, monkeypatch):
    """Several segments, other byte orders, damage: turned on one machine only, without simplejpeg."""
    data = with_segments(*segments)
    wanted = by_opencv(data)
    np.testing.assert_array_equal(decode_image(data), wanted)
    monkeypatch.setattr(image_file, 'simplejpeg', None)
    np.testing.assert_array_equal(decode_image(data), wanted)


def test_between_the_segments_of_a_jpeg():
    """Fill bytes and markers without a length are allowed there, anything else is damage."""
    np.testing.assert_array_equal(decode_image(with_segments(b'\xff' * 5 + app1(b''), b'\xff\x01')), decode_image(JPEG))
    for segment, said in ((b'abcd', 'no marker at byte 2'), (b'\xff\xbf\x00\x02', 'marker 0xbf at byte 2'),
                          (b'\xff\xd8', 'marker 0xd8')):
        assert said in str(refusal(with_segments(segment)))


# Files

@pytest.mark.parametrize('kind', WHOLE)
def test_the_data_says_what_it_is(kind, tmp_path):
    """A JPEG called .bmp was read without any check."""
    for suffix in ('.png', '.bmp', ''):
        path = tmp_path / f'a{suffix}'
        path.write_bytes(WHOLE[kind])
        np.testing.assert_array_equal(read_image(path), decode_image(WHOLE[kind]))


def test_what_is_not_a_file_is_named(tmp_path):
    for path, said in ((tmp_path, 'not a regular file'), (tmp_path / 'gone.png', 'cannot be read: No such file'),
                       (tmp_path / ('x' * 300), 'cannot be read'), ('/dev/zero', 'not a regular file'),
                       ('a\0b', 'not a file name')):
        with pytest.raises(ImageFileError, match=said):
            read_image(path)
    with (tmp_path / 'huge.png').open('wb') as file:
        file.truncate(10**9)
    with pytest.raises(ImageFileError, match='has 1000 MB'):
        read_image(tmp_path / 'huge.png')


def test_errors_are_a_users_mistakes_and_cross_processes():
    """Ray and multiprocessing pickle them; an exception with two arguments is lost on the way."""
    error = refusal(b'nothing')
    assert isinstance(error, UserError) and issubclass(ImageFileError, UserError)
    copy = pickle.loads(pickle.dumps(error))
    assert copy.reason == error.reason and str(copy) == str(error)


def test_headers():
    assert read_jpeg_header(PROGRESSIVE + b'abc') == ('JPEG', 64, 48, len(PROGRESSIVE), 1)
    assert read_png_header(PNG + b'abc') == ('PNG', 64, 48, len(PNG), 1)


def test_the_simulator_reads_images_without_torch():
    code = 'import sys, vit_tactile_ros.inference.image_file; assert "torch" not in sys.modules'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
