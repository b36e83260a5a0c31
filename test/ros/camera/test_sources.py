"""Images of devices, videos and folders. No camera is attached here: a device is stood in for at cv2.VideoCapture."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_clips import write_clip

from vit_tactile_ros.foundation.errors import RunError
from vit_tactile_ros.ros.camera.devices import CameraError
from vit_tactile_ros.ros.camera.profiles import PROFILES, Profile
from vit_tactile_ros.ros.camera.sources import (
    MAX_FAILURES,
    BadFrame,
    Frame,
    Pace,
    device_frames,
    folder_frames,
    folder_images,
    stored_rate,
    video_frames,
)

PICTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (480, 1280, 3), np.uint8), (0, 0), 8)


def at_once() -> Pace:
    return Pace(1e6, lambda seconds: False)


class Device:
    """What is used of cv2.VideoCapture: settings, and reads from a list (None: a failed read)."""

    def __init__(self, reads, settings=(), refused=(), age=0.02):
        self.settings = dict(settings)
        self.released = False
        self._reads, self._refused, self._age = iter(reads), refused, age

    def isOpened(self):
        return True

    def set(self, key, value):
        if key not in self._refused:
            self.settings[key] = value
        return key not in self._refused

    def get(self, key):
        if key == cv2.CAP_PROP_POS_MSEC:
            return 1e3 * (time.monotonic() - self._age)
        return self.settings.get(key, 0.0)

    def read(self):
        read = next(self._reads)
        return read is not None, read

    def release(self):
        self.released = True


def jpeg(image=PICTURE):
    return cv2.imencode('.jpg', image)[1].reshape(1, -1)


def played(device, profile=PROFILES['generic'], path=Path('/dev/null'), notes=None):
    return device_frames(lambda: path, profile, (notes if notes is not None else []).append, lambda _: device)


MJPG = Profile(width=1280, height=480, rate=25.0, pixel_format='MJPG', least_width=320)


def test_a_jpeg_is_decoded_at_the_reduced_size():
    """Decoding a GelSight Mini at full size takes longer than its 40 ms."""
    device = Device([jpeg()])
    frame = next(played(device, MJPG))
    assert frame.image.shape == (120, 320, 3)
    assert np.abs(frame.image.astype(int) - cv2.resize(PICTURE, (320, 120), interpolation=cv2.INTER_AREA)).mean() < 3
    assert device.settings[cv2.CAP_PROP_CONVERT_RGB] == 0
    assert list(device.settings)[0] == cv2.CAP_PROP_FOURCC  # before the size: each format has its own


def test_damaged_jpegs_are_passed_over():
    """Cut, empty, not a JPEG; extra bytes before the end marker, which many cameras send, are not damage."""
    whole = jpeg()
    extra = np.concatenate([whole[:, :-2], np.zeros((1, 3), np.uint8), whole[:, -2:]], axis=1)
    padded = np.concatenate([whole, np.zeros((1, 500), np.uint8)], axis=1)
    sent = [whole[:, :2000], whole[:, :0], np.zeros((1, 99), np.uint8), extra, padded]
    found = list(itertools.islice(played(Device(sent), MJPG), len(sent)))
    assert [type(frame) for frame in found] == [BadFrame, BadFrame, BadFrame, Frame, Frame]
    assert 'truncated' in found[0].reason and 'no bytes' in found[1].reason and '00000000' in found[2].reason


def test_the_time_of_capture_is_that_of_the_buffer():
    """On a busy machine an image was stamped when it was read, not when it was taken."""
    for age, expected in ((0.03, 0.03), (3600.0, 0.0), (-5.0, 0.0)):  # beyond: on another clock
        before = time.monotonic()
        captured = next(played(Device([PICTURE], age=age))).captured
        assert before - expected - 0.001 <= captured <= time.monotonic() - expected + 0.001


def test_settings():
    device = Device([PICTURE, PICTURE])
    next(played(device, Profile(width=640, height=480, rate=30.0, exposure=5.0, lighting=0xFFF)))
    assert device.settings == {
        cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 480, cv2.CAP_PROP_FPS: 30.0,
        cv2.CAP_PROP_AUTO_EXPOSURE: 1, cv2.CAP_PROP_EXPOSURE: 50, cv2.CAP_PROP_ZOOM: 0xFFF}


def test_what_the_camera_does_not_take_is_told():
    notes: list[str] = []
    device = Device([PICTURE], {cv2.CAP_PROP_FRAME_WIDTH: 3280, cv2.CAP_PROP_FRAME_HEIGHT: 2464,
                                cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*'YUYV')},
                    refused=(cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_EXPOSURE))
    next(played(device, Profile(width=640, height=480, rate=25.0, exposure=5.0), notes=notes))
    assert len(notes) == 2
    assert 'rejects an exposure of 5 ms' in notes[0]
    assert 'delivers 3280x2464 YUYV at 25 Hz instead of 640x480' in notes[1]


def test_failed_reads_then_reopen():
    """One failed read is survived; some in a row open the device again."""
    device = Device([PICTURE, None, PICTURE, *[None] * MAX_FAILURES])
    frames = played(device)
    assert [type(next(frames)) for _ in range(3)] == [Frame, BadFrame, Frame]
    with pytest.raises(CameraError, match='failed reads in a row'):
        list(frames)
    assert device.released


def test_unplugged(tmp_path):
    """The device file is gone: no waiting for more failed reads."""
    device = Device([PICTURE, None])
    with pytest.raises(CameraError, match='unplugged'):
        list(played(device, path=tmp_path / 'video0'))


def test_a_device_that_cannot_be_opened():
    """The real OpenCV on something that is not a camera."""
    with pytest.raises(CameraError, match='/dev/null cannot be opened'):
        next(device_frames(lambda: Path('/dev/null'), PROFILES['generic'], print))


def test_pace():
    """Equal steps while the caller keeps up; from now on, without a burst, when it was late."""
    now = 100.0
    waited: list[float] = []
    pace = Pace(50.0, waited.append, lambda: now)
    assert [pace() for _ in range(4)] == pytest.approx([100.0, 100.02, 100.04, 100.06], abs=1e-9)
    assert waited == pytest.approx([0.0, 0.02, 0.04, 0.06], abs=1e-9)
    now = 100.2
    assert [pace(), pace()] == pytest.approx([100.2, 100.22], abs=1e-9)
    assert waited[4:] == pytest.approx([0.0, 0.02], abs=1e-9)


def test_video(tmp_path):
    clip = write_clip(tmp_path / 'clip.avi', 12, rate=25.0)
    assert stored_rate(clip) == 25.0
    levels = [int(frame.image.mean() / 8 + 0.5) for frame in video_frames(clip, PROFILES['generic'], False, at_once())]
    assert levels == list(range(12))
    looped = video_frames(clip, PROFILES['generic'], True, at_once())
    assert [int(frame.image.mean() / 8 + 0.5) for frame in itertools.islice(looped, 24)] == 2 * levels


@pytest.mark.parametrize(('content', 'reason'), [(None, 'No such file'), (b'no video', 'cannot be read as a video')])
def test_no_video(tmp_path, content, reason):
    if content:
        (tmp_path / 'clip.avi').write_bytes(content)
    with pytest.raises(CameraError, match=reason):
        next(video_frames(tmp_path / 'clip.avi', PROFILES['generic'], True, at_once()))


def test_a_cut_video_is_told(tmp_path):
    clip = write_clip(tmp_path / 'clip.avi', 60)
    clip.write_bytes(clip.read_bytes()[:clip.stat().st_size // 2])
    *frames, last = video_frames(clip, PROFILES['generic'], False, at_once())
    assert 10 <= len(frames) < 40
    assert isinstance(last, BadFrame) and 'cut or damaged' in last.reason


def test_folder(tmp_path):
    """In the order of the numbers in the names; what is not an image is passed over, a broken image takes its turn."""
    for number in (1, 2, 9, 10):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((4, 5, 3), (number, 0, 0), np.uint8))
    (tmp_path / '2.png').write_bytes((tmp_path / '2.png').read_bytes()[:40])
    (tmp_path / 'notes.txt').touch()
    assert [path.name for path in folder_images(tmp_path)] == ['1.png', '2.png', '9.png', '10.png']
    frames = list(folder_frames(tmp_path, PROFILES['generic'], False, at_once()))
    assert 'truncated' in frames.pop(1).reason
    assert [frame.image[0, 0].tolist() for frame in frames] == [[1, 0, 0], [9, 0, 0], [10, 0, 0]]


@pytest.mark.parametrize('loop', [False, True])
def test_folder_of_broken_images(tmp_path, loop):
    """It ended as if it had been played."""
    for name in ('1.png', '2.png'):
        (tmp_path / name).write_bytes(b'no image')
    frames = folder_frames(tmp_path, PROFILES['generic'], loop, at_once())
    assert [type(next(frames)) for _ in range(2)] == [BadFrame, BadFrame]
    with pytest.raises(RunError, match='has no image that can be decoded') as raised:
        next(frames)
    assert not isinstance(raised.value, CameraError)  # which would open it again


def test_folder_that_holds_none(tmp_path):
    for folder, reason in ((tmp_path, 'holds no images'), (tmp_path / 'none', 'does not exist')):
        with pytest.raises(CameraError, match=reason):
            next(folder_frames(folder, PROFILES['generic'], True, at_once()))
