"""Bytes of an image file to a uint8 RGB array: the one reader of image files and of compressed messages.

An image is rotated according to its EXIF orientation, in files and in messages alike: as viewers show it, and as OpenCV
(and with it cv_bridge and image_transport) decodes it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.foundation.files import written_whole
from vit_tactile_ros.inference.file_header import read_bmp_header, read_tiff_header, read_webp_header
from vit_tactile_ros.inference.image_header import (
    MAX_PIXELS,
    DecodeError,
    Header,
    damaged,
    read_jpeg_header,
    read_png_header,
)
from vit_tactile_ros.inference.sixteen_bit import to_eight_bits

try:
    import simplejpeg
except ImportError:  # a ROS installation has only OpenCV
    simplejpeg = None

Image = NDArray[np.uint8]

MESSAGE_KINDS = ('JPEG', 'PNG')  # what sensor_msgs/CompressedImage carries
FILE_KINDS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WebP')
MAX_FILE_BYTES = 8 * MAX_PIXELS + 2**20  # four channels of 16 bits, uncompressed
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
logger = logging.getLogger(__name__)
_is_warned = False


class ImageFileError(UserError):
    """An image file that cannot be read: the message names the file."""


def read_image(path: str | Path) -> Image:
    """The image in a file, uint8 RGB (H, W, 3); its first bytes give its kind, not its extension.

    Raises ImageFileError, whose message starts with the path, for a missing, truncated, damaged or too large file.
    """
    path = Path(path).expanduser()
    try:
        if path.exists() and not path.is_file():
            raise ImageFileError(f'{path} is not a regular file; must be an image file')
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise ImageFileError(f'{path} has {size / 1e6:.0f} MB; an image file must have at most '
                                 f'{MAX_FILE_BYTES / 1e6:.0f} MB')
        data = path.read_bytes()
    except OSError as error:
        raise ImageFileError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:  # a zero byte in the name
        raise error if isinstance(error, UserError) else ImageFileError(f'{path!r} is not a file name') from error
    try:
        return decode_image(data)
    except DecodeError as error:
        raise ImageFileError(f'{path} cannot be read as an image: {error}; replace or remove it') from error


def write_png(path: Path, image: Image) -> None:
    """Write uint8 RGB (H, W, 3), whole or not at all; raises WriteError."""
    with written_whole(path, sync=False) as temporary:
        temporary.write_bytes(png_of(image))


def png_of(image: Image) -> bytes:
    """The bytes of a PNG file of uint8 RGB (H, W, 3)."""
    return cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def decode_image(data: bytes, kinds: tuple[str, ...] = FILE_KINDS) -> Image:
    """The image in the bytes of a file, uint8 RGB (H, W, 3), possibly a reversed view of BGR data.

    Alpha is dropped, a palette and grey become RGB, 16 bits are scaled as in `sixteen_bit`. Raises DecodeError with
    reason 'compressed' for data of another kind, truncated, damaged or too large, or with reason 'range'.
    """
    kind = _kind(data)
    if kind not in kinds:
        raise DecodeError('compressed', f'data starts with {data[:8].hex() or "nothing"}'
                                        f'{f" ({kind})" if kind else ""}; must be {" or ".join(kinds)}')
    if kind == 'JPEG':
        header = read_jpeg_header(data)
        return _decode_jpeg(data[:header.end], header.orientation)
    header = {'PNG': read_png_header, 'BMP': read_bmp_header, 'TIFF': read_tiff_header, 'WebP': read_webp_header}[kind](
        data)
    image = _decode_with_opencv(data[:header.end], header)
    if kind == 'TIFF' and image.dtype == np.uint8:
        _check_opaque(data)
    if image.dtype == np.uint16:
        image = to_eight_bits(image)
    return image[:, :, ::-1]


def _kind(data: bytes) -> str:
    if data.startswith(b'\xff\xd8'):
        return 'JPEG'
    if data.startswith(b'\x89PNG\r\n\x1a\n'):
        return 'PNG'
    if data.startswith(b'BM'):
        return 'BMP'
    if data.startswith((b'II*\x00', b'MM\x00*')):
        return 'TIFF'
    return 'WebP' if data.startswith(b'RIFF') and data[8:12] == b'WEBP' else ''


def _decode_jpeg(data: bytes, orientation: int) -> Image:
    """uint8 RGB (H, W, 3).

    On damage libjpeg only warns, and fills in grey. simplejpeg raises an error then; OpenCV, which decodes to the
    same pixels, only prints the warning.
    """
    global _is_warned
    if simplejpeg is not None:
        try:
            image = simplejpeg.decode_jpeg(data, 'RGB')
        except ValueError as error:
            if 'subsampling' not in str(error):  # unusual but valid factors, which OpenCV decodes
                raise damaged('JPEG', data, str(error)) from error
        else:
            return image if orientation == 1 else _rotated(image, orientation)
    elif not _is_warned:
        _is_warned = True
        logger.warning('simplejpeg is not installed: a damaged JPEG that is not cut is decoded and not noticed; '
                       'pip install simplejpeg')
    return _decode_with_opencv(data, None)[:, :, ::-1]


def _rotated(image: Image, orientation: int) -> Image:
    """The image rotated according to the EXIF orientation, 1 to 8; OpenCV does this itself when it decodes."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _check_opaque(tiff: bytes) -> None:
    """OpenCV multiplies the 8-bit colours of a TIFF by their alpha, which cannot be undone."""
    image = cv2.imdecode(np.frombuffer(tiff, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is not None and image.ndim == 3 and image.shape[2] == 4 and image[:, :, 3].min() < 255:
        raise DecodeError('compressed', 'TIFF is partly transparent; save it without alpha')


def _decode_with_opencv(data: bytes, header: Header | None) -> NDArray[Any]:
    """BGR, uint8 or uint16 (H, W, 3)."""
    kind = header.kind if header else 'JPEG'
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error:  # raised, not returned as None, for some damaged headers
        image = None
    if image is None:
        raise damaged(kind, data, 'OpenCV cannot decode it')
    if image.dtype not in (np.uint8, np.uint16):
        raise DecodeError('compressed', f'{kind} has pixels of type {image.dtype}; must be 8 or 16 bits, unsigned')
    if header and image.shape[:2] not in ((header.height, header.width), (header.width, header.height)):
        raise damaged(kind, data, f'its header gives {header.width}x{header.height}, but it decodes to '
                                  f'{image.shape[1]}x{image.shape[0]}')
    return image
