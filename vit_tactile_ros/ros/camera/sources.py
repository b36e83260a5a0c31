"""Images with their capture times from a V4L2 device, a video file or a folder of images, one generator each.

A generator yields a Frame or a BadFrame and ends when a video does. It raises CameraError when it has to be opened
again, and RunError for a video or folder without any image that can be decoded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from vit_tactile_ros.data.bags.find import natural
from vit_tactile_ros.data.folders import IMAGE_SUFFIXES
from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.foundation.files import file_problem
from vit_tactile_ros.inference.image_file import ImageFileError, read_image
from vit_tactile_ros.inference.image_header import DecodeError, read_jpeg_header
from vit_tactile_ros.ros.camera.devices import CameraError
from vit_tactile_ros.ros.camera.profiles import Image, Profile, prepared, reduction

READ_TIMEOUT = 1  # s without an image that count as a failed read; OpenCV takes whole seconds
MAX_FAILURES = 3  # failed reads in a row after which the device is opened again
MAX_AGE = 2.0  # s; a buffer's time stamp that is older is not on the monotonic clock
DEFAULT_RATE = 30.0  # Hz, of a folder of images or a video without a rate
_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8}


class Frame(NamedTuple):
    image: Image
    captured: float  # s of time.monotonic()


class BadFrame(NamedTuple):
    """One image that could not be read, with the reason."""

    reason: str


Frames = Iterator[Frame | BadFrame]


class Pace:
    """Waits for the moments of a fixed rate. A caller that is late by more than a period starts again from now."""

    def __init__(self, rate: float, wait: Callable[[float], object], clock: Callable[[], float] = time.monotonic,
                 ) -> None:
        self._period = 1.0 / rate
        self._wait = wait
        self._clock = clock
        self._due = clock()

    def __call__(self) -> float:
        now = self._clock()
        due = self._due if now < self._due + self._period else now
        self._wait(max(0.0, due - now))
        self._due = due + self._period
        return due


# Devices


def open_v4l2(path: Path) -> Any:
    os.environ.setdefault('OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT', str(READ_TIMEOUT))
    return cv2.VideoCapture(str(path), cv2.CAP_V4L2)


def device_frames(find: Callable[[], Path], profile: Profile, note: Callable[[str], object],
                  open_device: Callable[[Path], Any] = open_v4l2) -> Frames:
    """The images of a camera; `note` is called for every setting that the camera did not accept."""
    path = find()
    capture = open_device(path)
    try:
        if not capture.isOpened():
            raise CameraError(f'{path} cannot be opened: ' + (
                'it is in use by another program, or does not capture images' if os.access(path, os.R_OK | os.W_OK)
                else 'no permission; add your user to the group video'))
        for text in _configure(capture, profile):
            note(f'{path}: {text}')
        failures = 0
        while failures < MAX_FAILURES:
            is_read, data = capture.read()
            if not is_read:
                failures += 1
                if not path.exists():
                    raise CameraError(f'{path} is gone: unplugged?')
                yield BadFrame(f'{path}: no image within {READ_TIMEOUT} s')
                continue
            failures = 0
            captured = _capture_time(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3, time.monotonic())
            try:
                image = data if data.ndim == 3 and data.shape[2] == 3 else _decode(data.tobytes(), profile)
            except DecodeError as error:
                yield BadFrame(f'{path}: {error}')
                continue
            yield Frame(prepared(image, profile), captured)
        raise CameraError(f'{path}: {MAX_FAILURES} failed reads in a row; opening it again')
    finally:
        capture.release()


def _configure(capture: Any, profile: Profile) -> Iterator[str]:
    """Yields the settings that the camera rejects."""
    size = f'{profile.width}x{profile.height}'
    # The format first: each one has sizes and rates of its own.
    if profile.pixel_format:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*profile.pixel_format))
    for key, value in ((cv2.CAP_PROP_FRAME_WIDTH, profile.width), (cv2.CAP_PROP_FRAME_HEIGHT, profile.height),
                       (cv2.CAP_PROP_FPS, profile.rate)):
        if value:
            capture.set(key, value)
    # 1: manual exposure; V4L2 counts in units of 0.1 ms.
    if profile.exposure and not (capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, 1)
                                 and capture.set(cv2.CAP_PROP_EXPOSURE, round(10 * profile.exposure))):
        yield f'rejects an exposure of {profile.exposure:g} ms'
    if profile.lighting >= 0 and not capture.set(cv2.CAP_PROP_ZOOM, profile.lighting):
        yield f'rejects lighting {profile.lighting}'
    pixel_format = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, 'little').decode('ascii', 'replace')
    is_size = f'{capture.get(cv2.CAP_PROP_FRAME_WIDTH):.0f}x{capture.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}'
    rate = capture.get(cv2.CAP_PROP_FPS)
    if (profile.width and is_size != size) or (profile.pixel_format and pixel_format != profile.pixel_format) or (
            profile.rate and abs(rate - profile.rate) > 0.5):
        yield (f'delivers {is_size} {pixel_format} at {rate:g} Hz instead of {size} {profile.pixel_format} at '
               f'{profile.rate:g} Hz; `v4l2-ctl --list-formats-ext` lists what the camera supports')
    if pixel_format in ('MJPG', 'JPEG'):
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # the JPEG itself, to decode it at a reduced size


def _decode(jpeg: bytes, profile: Profile) -> Image:
    """BGR. Not `decode_image`: it rejects the harmless extra bytes that many UVC cameras put before the end marker."""
    if not jpeg.startswith(b'\xff\xd8'):
        raise DecodeError('compressed', f'the camera sent {jpeg[:4].hex() or "no bytes"} instead of a JPEG')
    header = read_jpeg_header(jpeg)  # rejects a truncated file
    flag = _REDUCED[reduction(header.width, profile.least_width)]
    image = cv2.imdecode(np.frombuffer(jpeg[:header.end], np.uint8), flag)
    if image is None:
        raise DecodeError('compressed', f'JPEG of {len(jpeg)} bytes is damaged')
    return np.asarray(image, np.uint8)


def _capture_time(stamp: float, now: float) -> float:
    """V4L2's time of the buffer, which UVC cameras give on the monotonic clock; else the time of the read."""
    return stamp if 0.0 <= now - stamp <= MAX_AGE else now


# Files


def held_back(frames: Frames, hold: Callable[[], object], pace: Callable[[], float]) -> Frames:
    """`frames`, of which the first image waits until `hold` returns. Read before that: a file without images is told at
    once."""
    for frame in frames:
        if isinstance(frame, Frame):
            hold()
            yield Frame(frame.image, pace())
            break
        yield frame
    yield from frames


def stored_rate(path: Path) -> float:
    """The rate of a video, 0 if it stores none and for a folder. Raises CameraError for what cannot be played."""
    if path.is_dir():
        folder_images(path)
        return 0.0
    capture = _open_video(path)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate if 0 < rate <= 1000 else 0.0


def video_frames(path: Path, profile: Profile, loop: bool, pace: Callable[[], float]) -> Frames:
    """The images of a video file at the rate of `pace`, which returns the time of each."""
    while True:
        capture = _open_video(path)
        try:
            count = 0
            while (read := capture.read())[0]:
                count += 1
                yield Frame(prepared(np.asarray(read[1], np.uint8), profile), pace())
            if not count:
                raise _nothing_in(path)
            stored = capture.get(cv2.CAP_PROP_FRAME_COUNT)  # an estimate in some formats
            if count < 0.9 * stored:
                yield BadFrame(f'{path} is cut or damaged: {count} of {stored:.0f} images could be read')
        finally:
            capture.release()
        if not loop:
            return


def _open_video(path: Path) -> cv2.VideoCapture:
    if problem := file_problem(str(path)):
        raise CameraError(f'{path} cannot be read: {problem}')
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise CameraError(f'{path} cannot be read as a video')
    return capture


def folder_images(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names, 9.png before 10.png. Raises CameraError if none."""
    found = [path for path in folder.glob('*') if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise CameraError(f'{folder} ' + ('holds no images' if folder.is_dir() else 'does not exist'))
    return sorted(found, key=natural)


def folder_frames(folder: Path, profile: Profile, loop: bool, pace: Callable[[], float]) -> Frames:
    """The images of a folder at the rate of `pace`; yields a BadFrame in place of one that cannot be read."""
    while True:
        count = 0
        for path in folder_images(folder):
            try:
                image = np.ascontiguousarray(read_image(path)[:, :, ::-1])
            except ImageFileError as error:
                if not folder.is_dir():
                    raise CameraError(f'{folder} is gone') from error
                pace()
                yield BadFrame(str(error))
                continue
            count += 1
            yield Frame(prepared(image, profile), pace())
        if not count:
            raise _nothing_in(folder)
        if not loop:
            return


def _nothing_in(path: Path) -> RunError:
    return RunError(f'{path} has no image that can be decoded')
