"""Recordings without labels: which images are used, and with which reference."""

import gc
import pickle

import cv2
import numpy as np
import pytest
import torch
from toy_clips import write_video

from vit_tactile_ros.data import pixel_file
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.data.unlabelled import Recordings, read_recordings
from vit_tactile_ros.model import PreprocessingConfig

PREPROCESSING = PreprocessingConfig(image_size=(48, 64), reference='difference', std=(0.1,) * 3)


def touched(level: int, base: int = 100) -> np.ndarray:
    image = np.full((48, 64, 3), base, np.uint8)
    image[:32, :48, 1] += level
    return image


def read(*paths, **others):
    return read_recordings(Recordings(paths, 4.0, **others), PREPROCESSING, False)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def test_touched_images_of_a_video_and_the_mean_of_its_start(tmp_path):
    """Untouched images that teach nothing, or a reference from the middle of a touch."""
    images = [touched(0) for _ in range(10)] + [touched(20 + i) for i in range(20)] + [touched(0)]
    write_video(tmp_path / 'a.avi', images)
    found = read(tmp_path / 'a.avi', every=5)
    assert [round(float(frame[10, 10, 1])) // 5 * 5 for frame, _, _ in map(found.__getitem__, range(len(found)))] == [
        120, 125, 130, 135]
    for frame, reference, label in map(found.__getitem__, range(len(found))):
        assert frame.shape == reference.shape == (48, 64, 3) and label == 0
        assert abs(float(reference[10, 10, 1]) - 100) < 3 and abs(float(frame[40, 60, 1]) - 100) < 3
    with pytest.raises(IndexError, match='index is 4; must be 0 to 3'):
        found[4]


def test_a_folder_of_folders(tmp_path):
    """A reference of the folder above is not found, that of another sensor is taken, or a recording is left out."""
    for sensor, base in (('left', 100), ('right', 60)):
        write(tmp_path / sensor / 'reference.png', touched(0, base))
        for press in ('a', 'b'):
            for number in range(3):
                write(tmp_path / sensor / press / f'{number}.png', touched(30, base))
    write_video(tmp_path / 'more.avi', [touched(0)] * 6 + [touched(40)] * 3)
    found = read(tmp_path, every=1)
    assert len(found) == 4 * 3 + 3
    differences = sorted(int(frame[10, 10, 1]) - int(reference[10, 10, 1]) for frame, reference, _ in map(
        found.__getitem__, range(len(found))))
    assert differences[:12] == [30] * 12 and all(abs(d - 40) < 4 for d in differences[12:])
    train, validation = found.parts(0.4, seed=0)
    assert len(train) + len(validation) == 15 and len(set(found.groups[validation.indices])) == 2
    assert not set(found.groups[train.indices]) & set(found.groups[validation.indices])
    write(tmp_path / 'flat.png', touched(0, 60))
    fixed = read(tmp_path / 'right', every=1, reference_image=tmp_path / 'flat.png')
    assert len(fixed) == 6 and fixed.digest != found.digest


def test_one_recording_only_trains(tmp_path):
    write_video(tmp_path / 'a.avi', [touched(0)] * 6 + [touched(40)] * 6)
    train, validation = read(tmp_path, every=1).parts(0.9, seed=0)
    assert (len(train), len(validation)) == (6, 0)


def test_what_cannot_be_used_is_said(tmp_path):
    with pytest.raises(DataError, match='nowhere does not exist'):
        read(tmp_path / 'nowhere')
    with pytest.raises(DataError, match='holds no video .* image .* or bag'):
        read(tmp_path)
    (tmp_path / 'notes.txt').write_text('none')
    with pytest.raises(DataError, match='notes.txt is neither a video'):
        read(tmp_path / 'notes.txt')
    write_video(tmp_path / 'a.avi', [touched(0)] * 20)
    with pytest.raises(DataError, match='no image of 1 recordings shows a touch of more than 4 grey levels'):
        read(tmp_path)


def test_the_temporary_file(tmp_path, monkeypatch):
    """A worker of training that is spawned opens it again; only the process that made it removes it."""
    (tmp_path / 'temporary').mkdir()
    monkeypatch.setattr(pixel_file.tempfile, 'tempdir', str(tmp_path / 'temporary'))
    write_video(tmp_path / 'a.avi', [touched(0)] * 6 + [touched(40 + i) for i in range(4)])
    found = read(tmp_path / 'a.avi', every=1)
    copy = pickle.loads(pickle.dumps(found))
    for own, other in zip(map(found.__getitem__, range(4)), map(copy.__getitem__, range(4)), strict=True):
        assert torch.equal(own[0], other[0]) and torch.equal(own[1], other[1]) and own[2] == other[2]
    assert not torch.equal(found[0][0], found[3][0])
    found[0][0].zero_()
    assert found[0][0].any()  # an item is its own
    del copy
    gc.collect()
    assert found[1][0].any() and len(list((tmp_path / 'temporary').iterdir())) == 1
    del found
    gc.collect()
    assert not list((tmp_path / 'temporary').iterdir())


def test_a_full_disk_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    write_video(tmp_path / 'a.avi', [touched(0)] * 6 + [touched(40)] * 6)
    monkeypatch.setattr(pixel_file.PixelFile, 'append', full)
    with pytest.raises(DataError, match='No space left on device after 0 images of 9 KB; make room, set TMPDIR'):
        read(tmp_path / 'a.avi')
