"""The dataset of a table: the live node's fitting, one reading of every picture, and pictures that can't be read."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from toy_touches import picture, write_csv, write_folders, write_picture

from vit_tactile_ros.data import frames, pixel_file
from vit_tactile_ros.data.frames import TouchFrames, grey_shares
from vit_tactile_ros.data.simulated import SimulatedTouches, draw_shape
from vit_tactile_ros.data.touches import DataError, load_touches
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.inference.preprocess import fit
from vit_tactile_ros.model import PreprocessingConfig
from vit_tactile_ros.simulator import sample_example, sample_state_example

DIFFERENCE = PreprocessingConfig(image_size=(16, 16), reference='difference', crop='center', orientation='match')
PLAIN = PreprocessingConfig(image_size=(16, 16))


@pytest.fixture
def table(tmp_path):
    return load_touches(write_csv(tmp_path / 'labels.csv', [
        {'image': f'{n}.png', 'label': 'ab'[n % 2], 'reference': 'r.png'} for n in range(7)]))


@pytest.mark.parametrize('cache', [True, False])
def test_items_are_what_the_live_path_makes_of_the_files(table, cache):
    touches = TouchFrames(table, DIFFERENCE, cache)
    assert len(touches) == 7
    for index in range(7):
        frame, reference, label = touches[index]
        assert frame.dtype == reference.dtype == torch.uint8
        np.testing.assert_array_equal(frame, fit(picture(index), DIFFERENCE))
        np.testing.assert_array_equal(reference, fit(picture(10_000), DIFFERENCE))
        assert label == index % 2 and isinstance(label, int)
    for wrong in (-1, 7):
        with pytest.raises(IndexError, match=f'index is {wrong}'):
            touches[wrong]


def test_no_reference_is_zeros(table):
    """Also where the data has references: a network without a reference must not depend on one."""
    _, reference, _ = TouchFrames(table, PLAIN)[3]
    assert reference.shape == (16, 16, 3) and reference.dtype == torch.uint8 and not reference.any()


def test_every_picture_is_read_once(table, monkeypatch):
    """A press of a hundred frames has one reference: it is not decoded and stored a hundred times."""
    read = []
    monkeypatch.setattr(frames, 'read_image', lambda path: read.append(path.name) or read_image(path))
    touches = TouchFrames(table, DIFFERENCE)
    [touches[index] for index in (0, 1, 0)]
    assert sorted(read) == sorted([f'{n}.png' for n in range(7)] + ['r.png'])


@pytest.mark.parametrize('context', ['fork', 'spawn'])
def test_workers_share_the_cache(table, context):
    """Spawned workers open the file again, and no worker removes it."""
    touches = TouchFrames(table, DIFFERENCE)
    own = [touches[index][0] for index in range(7)]
    loader = DataLoader(touches, 7, num_workers=1, multiprocessing_context=context)
    for _ in range(2):
        frame, _, label = next(iter(loader))
        assert torch.equal(frame, torch.stack(own)) and label.tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_the_cache_goes_with_the_dataset(table, tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_file.tempfile, 'tempdir', str(tmp_path))
    touches = TouchFrames(table, DIFFERENCE)
    copy = pickle.loads(pickle.dumps(touches))
    assert len(list(tmp_path.glob('touch_frames_*'))) == 1
    del copy
    gc.collect()
    assert torch.equal(touches[0][0], TouchFrames(table, DIFFERENCE, cache=False)[0][0])
    del touches
    gc.collect()
    assert not list(tmp_path.glob('touch_frames_*'))


def test_what_an_item_holds_is_its_own(table):
    """Augmentation that writes into an item must not reach the cache."""
    touches = TouchFrames(table, DIFFERENCE)
    touches[0][0].zero_()
    assert touches[0][0].any()


def test_a_full_disk_says_so(table, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(pixel_file.tempfile, 'tempdir', str(tmp_path))
    monkeypatch.setattr(pixel_file.os, 'posix_fallocate', full)
    with pytest.raises(DataError, match='No space left on device; make room, or set TMPDIR'):
        TouchFrames(table, DIFFERENCE)
    assert not list(tmp_path.glob('touch_frames_*'))


def test_a_touch_without_a_reference(tmp_path):
    table = load_touches(write_folders(tmp_path, ['a/1.png', 'b/2.png']))
    with pytest.raises(DataError, match=r'2 of 2 images have no reference.*1.png.*reference.png in the class'):
        TouchFrames(table, DIFFERENCE)
    TouchFrames(table, PLAIN)


def damaged(kind: str, path: Path) -> Path:
    if kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'text':
        path.write_text('no picture')
    elif kind == 'truncated':
        _, data = cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
        path.write_bytes(data.tobytes()[:-100])
    return path


@pytest.mark.parametrize(('kind', 'suffix'), [
    *itertools.product(('empty', 'text', 'gone'), ('.png', '.jpg', '.bmp')), ('truncated', '.jpg')])
def test_unreadable_pictures_are_named(tmp_path, kind, suffix):
    """OpenCV fills what a truncated JPEG lacks with grey and reports success."""
    write_folders(tmp_path, ['a/1.png', 'b/2.png'])
    bad = write_picture(tmp_path / 'a' / f'bad{suffix}')
    table = load_touches(tmp_path)
    damaged(kind, bad)
    if kind == 'gone':
        bad.unlink()
    with pytest.raises(UserError, match=rf'bad\{suffix}'):
        TouchFrames(table, PLAIN)
    with pytest.raises(UserError, match=rf'bad\{suffix}'):
        TouchFrames(table, PLAIN, cache=False)[1]


def test_other_formats_are_rgb(tmp_path):
    for suffix in ('.png', '.bmp', '.tif'):
        np.testing.assert_array_equal(read_image(write_picture(tmp_path / f'a{suffix}', 5)), picture(5))


@pytest.mark.parametrize('preprocessing', [DIFFERENCE, PLAIN], ids=['difference', 'plain'])
def test_simulated_touches_are_the_same_triple(preprocessing):
    touches = SimulatedTouches(4, preprocessing, seed=3)
    rng = np.random.default_rng((3, 2))
    image, reference, class_id = sample_example(rng, class_name=draw_shape(rng))
    frame, no_contact, label = touches[2]
    np.testing.assert_array_equal(frame, fit(image, preprocessing))
    wanted = fit(reference, preprocessing) * (preprocessing.reference == 'difference')
    np.testing.assert_array_equal(no_contact, wanted)
    assert label == class_id and frame.dtype == no_contact.dtype == torch.uint8 and len(touches) == 4
    with pytest.raises(IndexError, match='index is 4'):
        touches[4]
    with pytest.raises(ValueError, match='size is 0'):
        SimulatedTouches(0, preprocessing)


@pytest.mark.parametrize('preprocessing', [DIFFERENCE, PLAIN], ids=['difference', 'plain'])
def test_simulated_states_are_a_frame_with_the_one_before_and_the_reference(preprocessing):
    image, previous, *others = sample_state_example(np.random.default_rng((3, 1)), 0.05, views=2)
    preprocessing = dataclasses.replace(preprocessing, motion_interval=0.05, motion_views=2)
    states = SimulatedTouches(2, preprocessing, seed=3, task='states')
    frame, no_contact, state = states[1]
    wanted = [fit(each, preprocessing) for each in (image, *previous)]
    np.testing.assert_array_equal(frame, np.concatenate(wanted, axis=2))
    np.testing.assert_array_equal(no_contact, fit(others[0], preprocessing) * (preprocessing.reference == 'difference'))
    assert state == others[1] and len(states) == 2
    with pytest.raises(IndexError, match='index is 2'):
        states[2]


def test_a_16_bit_file_of_small_range_is_refused(tmp_path):
    """12 bits in 16 became black training images."""
    path = tmp_path / 'deep.png'
    cv2.imwrite(str(path), np.full((8, 8, 3), 900, np.uint16))
    with pytest.raises(UserError, match=r'deep\.png cannot be read as an image: 16-bit .* above 900 .*become black'):
        read_image(path)
    cv2.imwrite(str(path), np.full((8, 8, 3), 257 * 77, np.uint16))
    np.testing.assert_array_equal(read_image(path), np.full((8, 8, 3), 77))


def test_the_share_of_grey_images(tmp_path):
    """Of images and of references apart; what is too dark to say does not count."""
    for number, level in enumerate(((90, 90, 90), (90, 40, 160), (91, 90, 89), (3, 3, 3))):
        folder = tmp_path / 'ab'[number % 2]
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f'{number}.png'), np.full((24, 24, 3), level, np.uint8))
    cv2.imwrite(str(tmp_path / 'reference.png'), np.full((24, 24, 3), (30, 90, 200), np.uint8))
    table = load_touches(tmp_path)
    assert grey_shares(TouchFrames(table, DIFFERENCE)) == (pytest.approx(2 / 3), 0.0)
    assert grey_shares(TouchFrames(table, PLAIN)) == (pytest.approx(2 / 3), None)


MOTION = PreprocessingConfig(image_size=(16, 16), motion_interval=0.08)


@pytest.mark.parametrize(('column', 'flags'), [('previous', {}), ('before', {'previous': 'before'}),
                                               ('n', {'previous': 'p{n}.png'})])
def test_the_image_before_is_a_column(tmp_path, column, flags):
    """By its name, another one, or a pattern; it follows the frame, and is not read for a network without motion."""
    path = write_csv(tmp_path / 'labels.csv', [
        {'image': f'{n}.png', 'label': 'ab'[n % 2], column: n if column == 'n' else f'p{n}.png'} for n in range(4)])
    for n in range(4):
        write_picture(tmp_path / f'p{n}.png', 100 + n)
    table = load_touches(path, **flags).subset([3, 0])
    frame, reference, _ = TouchFrames(table, MOTION)[0]
    np.testing.assert_array_equal(frame[..., :3], fit(picture(3), MOTION))
    np.testing.assert_array_equal(frame[..., 3:], fit(picture(103), MOTION))
    assert reference.shape == (16, 16, 3)
    assert grey_shares(TouchFrames(table, MOTION)) == (0.0, None)
    assert TouchFrames(table, PLAIN)[0][0].shape == (16, 16, 3)
    told = 'name one earlier image, and the input .* has 2: give a bag.* --motion_views 1'
    with pytest.raises(DataError, match=told):
        TouchFrames(table, dataclasses.replace(MOTION, motion_views=2))
    (tmp_path / 'p0.png').unlink()
    with pytest.raises(DataError, match='1 of 8 images are missing, among them .*p0.png'):
        load_touches(path, **flags)


def test_motion_without_images_before_is_explained(tmp_path):
    """A directory of single images: the network would see motion nowhere."""
    table = load_touches(write_folders(tmp_path, ['rough/a.png', 'smooth/b.png']))
    with pytest.raises(DataError, match='2 of 2 images have no previous image, among them .*a.png, and the input '
                                        'of this network has the motion since 0.08 s before. Give a bag, .* or a CSV'):
        TouchFrames(table, MOTION)
