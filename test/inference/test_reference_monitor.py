"""The reference of one sensor over time: drift, health, a start in mid-grasp, restarts; with and without real clips."""

import array
import contextlib
import csv
import dataclasses
import re
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from real_data import real_data

from vit_tactile_ros.inference.frames import SensorFrames, sensor_frames
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.inference.reference_store import (
    StoredReference,
    StoreError,
    read_reference,
    stored_path,
    write_reference,
)
from vit_tactile_ros.model import PreprocessingConfig

CONTACTS = Path(__file__).parents[1] / 'helpers' / 'contacts_by_eye.csv'
CONFIG = PreprocessingConfig(image_size=(48, 64), reference='difference')
STEP = 40_000_000  # ns
GEL = np.random.default_rng(0).integers(60, 180, (48, 64, 3)).astype(np.float32)  # the untouched gel


def message(pixels: np.ndarray) -> SimpleNamespace:
    data = np.clip(pixels, 0, 255).round().astype(np.uint8)
    return SimpleNamespace(height=data.shape[0], width=data.shape[1], encoding='rgb8', is_bigendian=0,
                           step=data.shape[1] * 3, data=array.array('B', data.tobytes()))


class Stream:
    """A sensor that sees the gel, brighter by `light`, with a round press of `press` grey levels."""

    def __init__(self, frames: SensorFrames, seed: int = 0) -> None:
        self.frames = frames
        self.notes: list[str] = []
        self._rng = np.random.default_rng(seed)
        self._number = 0

    def see(self, count: int, light: float = 0.0, press: float = 0.0, image: np.ndarray | None = None,
            radius: int = 8):
        for _ in range(count):
            spot = np.zeros((48, 64), np.float32)
            cv2.circle(spot, (30, 20), radius, press, -1)
            seen = GEL + light + spot[:, :, None] + self._rng.normal(0, 1, GEL.shape)
            frame = self.frames.update(message(seen if image is None else image), self._number * STEP)
            self.notes += [note.text for note in frame.notes if note.is_warning]
            self._number += 1
        return frame


def stream(drift: float = 60.0, fixed: np.ndarray | None = None) -> Stream:
    return Stream(SensorFrames(Reference(5, fixed), CONFIG, True, drift))


def path_in(folder: Path) -> Path:
    return stored_path(folder, '/left/image_raw')


def stored(folder: Path, config: PreprocessingConfig = CONFIG) -> Stream:
    """A sensor of a node that keeps its reference."""
    return Stream(sensor_frames(['left'], [''], 5, config, True, stores={'left': path_in(folder)})['left'])


def another_gel() -> np.ndarray:
    coarse = np.random.default_rng(5).integers(60, 180, (6, 8, 3)).astype(np.float32)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)


def offset(frames: SensorFrames) -> float:
    return float((frames.reference.frame - GEL).mean())


def test_slow_drift_is_followed_and_a_touch_is_not():
    one = stream(drift=10.0)
    one.see(5)
    for step in range(300):  # 12 s
        assert one.see(1, light=step * 0.01).is_untouched
    assert offset(one.frames) > 0.5
    before = one.frames.reference.frame
    assert not one.see(200, light=3.0, press=20).is_untouched
    assert not one.see(1, light=3.0, press=20).is_untouched
    assert one.frames.reference.frame is before
    one.see(40, light=3.0)  # for 2 s after the release the gel creeps
    assert one.frames.reference.frame is before
    one.see(40, light=3.0)
    assert one.frames.reference.frame is not before


def test_a_difference_is_a_touch_only_if_the_reference_fitted():
    """A start in mid-grasp, or a reference of another light, that overrules the network for ever."""
    one = stream()
    assert one.see(10).touch_odds == 1 and one.see(1, press=20).touch_odds > 5
    assert one.see(1500, press=20).touch_odds > 5 and one.see(1).touch_odds == 1  # held still for a minute
    one.see(5, press=80)
    assert one.see(1, press=12).touch_odds == 1  # what a firm press may leave on the gel
    one.see(1)
    assert one.see(1, press=12).touch_odds > 5  # a light press
    one.frames.monitor.doubt()
    assert one.see(1, press=20).touch_odds == 1 and one.see(1).touch_odds == 1 < one.see(1, press=20).touch_odds
    other = stream(fixed=GEL + 20 * np.eye(48, 64, dtype=np.float32)[:, :, None])
    assert other.see(10, press=20).touch_odds == 1 and other.frames.monitor.health.level


def test_without_drift_the_reference_stays():
    one = stream(drift=0.0)
    captured = one.see(5).reference
    assert one.see(100, light=1.0).reference is captured


def test_the_light_changes():
    """Not followed if it changes by more than drift does, and reported until it is as before."""
    one = stream(drift=10.0)
    one.see(60)
    before = one.frames.reference.frame
    assert not one.see(100, light=8.0).is_untouched and one.frames.monitor.health.level == 0
    one.see(50, light=8.0)
    assert one.frames.monitor.health.level == 1 and 'no longer fits' in one.notes[0] and len(one.notes) == 1
    one.see(100, light=8.0)
    assert one.frames.reference.frame is before
    assert one.see(5).is_untouched and one.frames.monitor.health.text == 'fits'


def test_a_wide_press_is_a_touch():
    """Of a quarter of the image, held, after the noise was learned: the reference is not blamed."""
    one = stream()
    one.see(100)
    one.see(800, press=30, radius=16)
    verdict = one.frames.monitor.verdict
    assert 0.2 < verdict.touched_share < 0.4 and verdict.shift < 1
    assert one.frames.monitor.health.text == 'fits' and not one.notes
    assert one.frames.monitor.touch and not one.frames.monitor.is_doubtful


def test_another_gel():
    """A warning after 5 s, an error after 30 s; only then capture_reference may be confirmed."""
    one = stream()
    one.see(10)
    other = another_gel()
    one.see(60, image=other)
    assert one.frames.monitor.touch and not one.frames.monitor.is_doubtful
    one.see(80, image=other)
    assert one.frames.monitor.health.level == 1 and one.frames.monitor.is_doubtful
    one.see(640, image=other)
    assert one.frames.monitor.health.level == 2 and len(one.notes) == 2
    one.frames.request_recapture()
    assert one.see(7, image=other).is_untouched and one.frames.monitor.health.text == 'fits'


def test_a_start_in_mid_grasp():
    """With a reference given: nothing has matched it. Without one: the images that would become it change."""
    one = stream(fixed=GEL.astype(np.uint8))
    one.see(5, press=20)
    assert len(one.notes) == 1 and 'something touches since the start' in one.notes[0]
    assert one.frames.monitor.touch.endswith('of the image differ from the reference')
    assert one.see(2).is_untouched and one.frames.monitor.health.text == 'fits'
    two = stream()
    for press in (0, 5, 10, 15, 20):
        two.see(1, press=press)
    assert len(two.notes) == 1 and 'as in a grasp' in two.notes[0] and two.frames.monitor.health.level == 1


@pytest.mark.parametrize('presses', [(0, 0, 12, 0, 0), (0, 0, 0, 12, 20)])
def test_a_touch_that_begins_while_the_reference_is_captured(presses):
    """It became part of the reference, and for 2 s no difference counted as a touch: four contacts were missed."""
    one = stream()
    for press in presses:
        one.see(1, press=press)
    assert not one.frames.monitor.is_doubtful
    assert len(one.notes) == 1 and 'are left out of it; if something touched in the first one' in one.notes[0]
    still = stream()
    still.see(5)
    assert np.abs(one.frames.reference.frame - still.frames.reference.frame).mean() < 1
    assert one.see(1).is_untouched and one.see(1, press=12).touch_odds > 10


@pytest.mark.parametrize('presses', [(0, 0, 20, 20, 20), (0, 20, 20, 20, 20), (20, 20, 0, 0, 0)])
def test_the_reference_does_not_change_to_what_came_later(presses):
    """A touch held from the third image on became the reference without a warning, and the gel after it a touch."""
    one = stream()
    for press in presses:
        one.see(1, press=press)
    assert one.frames.monitor.is_doubtful and 'as in a grasp' in one.notes[0]
    assert one.see(1, press=presses[-1]).touch_odds == 1


def test_disturbed_images_of_the_reference():
    """The warning ends once nothing has touched for 2 s; other warnings are not hidden by it."""
    one = stream()
    for press in (0, 5, 0, 5, 2.5):
        one.see(1, press=press)
    assert 'as in a grasp' in one.notes[0]
    assert one.see(80).is_untouched and one.frames.monitor.health.text == 'fits'
    two = stream()
    for press in (0, 5, 10, 15, 20):
        two.see(1, press=press)
    assert two.frames.monitor.is_doubtful
    two.see(800, image=another_gel())
    assert two.frames.monitor.health.level == 2 and 'no longer fits' in two.notes[-1]


def test_a_held_touch_is_reported_after_a_minute():
    one = stream()
    one.see(10)
    one.see(1400, press=20)
    assert one.frames.monitor.health.level == 0
    one.see(110, press=20)
    assert one.frames.monitor.health.level == 1 and 'no image has matched it for 60 s' in one.notes[0]


def test_stamps_that_go_back_or_stand_still():
    one = stream()
    one.see(10)
    before = one.frames.reference.frame
    for _ in range(200):
        one._number = 5
        assert one.see(1, light=1.0).is_untouched
    assert one.frames.reference.frame is before


def test_kept_across_restarts(tmp_path):
    """With its noise, and not unless it is known to fit."""
    one = stored(tmp_path)
    one.see(20)
    one.frames.save_reference()
    assert not list(tmp_path.iterdir())  # 2 s without a touch have not passed
    one.see(60)
    one.frames.save_reference()
    path = path_in(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ['left.reference.npz']
    two = stored(tmp_path)
    assert two.see(1).is_untouched and two.frames.monitor.is_stored and not two.notes
    np.testing.assert_array_equal(two.frames.reference.frame, one.frames.reference.frame)
    np.testing.assert_allclose(read_reference(path, CONFIG).variance, one.frames.monitor.gate.variance)
    grasping = stored(tmp_path)
    grasping.see(5, press=20)
    assert grasping.frames.monitor.is_stored and 'something touches since the start' in grasping.notes[0]


def test_the_store_is_not_replaced_unasked(tmp_path):
    """By a grasp in which the node, or a camera with another resolution, starts; only by capture_reference."""
    one = stored(tmp_path)
    one.see(80)
    one.frames.save_reference()
    path = path_in(tmp_path)
    kept = path.read_bytes()
    two = stored(tmp_path)
    assert not two.see(200, press=30, radius=26).is_untouched  # more than half of the gel
    assert two.frames.monitor.is_stored and two.frames.monitor.health.level and two.frames.monitor.is_doubtful
    two.frames.save_reference()
    assert path.read_bytes() == kept
    assert two.see(60).is_untouched
    larger = cv2.resize(GEL, (128, 96))
    assert two.see(80, image=larger).is_untouched
    two.frames.save_reference()
    assert path.read_bytes() == kept and 'until capture_reference' in two.notes[-1]
    two.frames.request_recapture()
    two.see(80, image=larger)
    two.frames.save_reference()
    assert read_reference(path, CONFIG).camera_size == (96, 128)


def test_saved_if_it_is_worth_it(tmp_path):
    """While the node runs, at a change of half a grey level; at its end in any case."""
    one = stored(tmp_path)
    one.see(80)
    one.frames.save_reference(0.5)
    path = path_in(tmp_path)
    kept = path.read_bytes()
    one.see(60)
    one.frames.save_reference(0.5)
    assert path.read_bytes() == kept
    one.frames.save_reference()
    assert path.read_bytes() != kept
    kept = path.read_bytes()
    one.see(1000, light=2.0)
    one.frames.save_reference(0.5)
    assert path.read_bytes() != kept


def test_a_damaged_file_is_never_an_internal_error(tmp_path):
    one = stored(tmp_path)
    one.see(80)
    one.frames.save_reference()
    path = path_in(tmp_path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    # Not the images themselves: zip and numpy headers are where the readers differ.
    headers = [at for at in range(len(whole)) if any(abs(at - start) < 200 for start in _headers(whole))]
    for _ in range(600):
        damaged = bytearray(whole)
        for at in rng.choice(headers, rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(StoreError):
            read_reference(path, CONFIG)


def _headers(data: bytes) -> list[int]:
    return [found.start() for found in re.finditer(rb'PK|NUMPY', data)]


def test_a_stored_reference_that_does_not_fit(tmp_path):
    """Of another gel, another camera resolution, another input, or damaged: said."""
    one = stored(tmp_path)
    one.see(80)
    one.frames.save_reference()
    two = stored(tmp_path)
    two.see(140, image=another_gel())
    assert 'no longer fits' in two.frames.monitor.health.text and two.frames.monitor.is_stored
    three = stored(tmp_path)
    three.see(1, image=cv2.resize(GEL, (128, 96)))
    assert 'it is of 64x48 images, these are 128x96' in three.notes[0]
    path = path_in(tmp_path)
    with pytest.raises(StoreError, match='is of input 64x48 .* this checkpoint needs 32x24'):
        read_reference(path, PreprocessingConfig(image_size=(24, 32), reference='difference'))
    for unusable in ('another input', 'damaged'):
        if unusable == 'damaged':
            path.write_bytes(path.read_bytes()[:500])
        kept = path.read_bytes()
        config = CONFIG if unusable == 'damaged' else dataclasses.replace(CONFIG, image_size=(24, 32))
        four = stored(tmp_path, config)
        assert four.see(80).is_untouched and 'is not stored until capture_reference' in four.notes[0]
        assert ('cannot be read' if unusable == 'damaged' else 'is of input') in four.notes[0]
        assert four.frames.save_reference() is None and path.read_bytes() == kept
        assert four.frames.stored_at is None
    four.frames.request_recapture()
    four.see(80)
    assert four.frames.save_reference() == path and path.read_bytes() != kept
    assert four.frames.stored_at == pytest.approx(time.time(), abs=60)


def test_a_stored_reference_with_a_number_that_is_not_finite(tmp_path):
    """Every difference to it would be NaN."""
    path = tmp_path / 'a.npz'
    whole = StoredReference(np.zeros((48, 64, 3), np.float32), np.ones((3, 4), np.float32), (48, 64))
    for frame, variance in ((np.nan, 1), (1, np.inf)):
        write_reference(path, dataclasses.replace(whole, frame=whole.frame + np.float32(frame),
                                                  variance=whole.variance * np.float32(variance)), CONFIG)
        with pytest.raises(StoreError, match='is damaged'):
            read_reference(path, CONFIG)


def test_names_of_stored_files():
    """Two nodes of one namespace that remap image_raw shared a file."""
    topics = ['/image_raw', '/left/image_raw', '/one/left/image_raw', '/one/image_raw', '/two/image_raw', '/left',
              '/one/left', '/a%2Fb/image_raw', '/a/b/image_raw', '/compressed', '/..']
    paths = [stored_path(Path('x'), topic) for topic in topics]
    assert len(set(paths)) == len(topics) and all(path.parent == Path('x') for path in paths)
    assert [path.name for path in paths[:3]] == [
        '_unnamed.reference.npz', 'left.reference.npz', 'one%2Fleft.reference.npz']  # as in earlier versions
    assert stored_path(Path('x'), '/left/image_raw/compressed') == paths[1]


def test_real_first_contacts():
    """Of four clips: untouched frames exit at the gate, no frame from the second one of contact on does."""
    rows = [row for row in csv.DictReader(CONTACTS.open(encoding='utf-8')) if row['clip'].startswith(
        ('avocado', 'oven_mitt', 'wood_ruler', 'mandarin'))]
    clips = real_data('gelsight_clips')
    for row in rows:
        frames = SensorFrames(Reference(), PreprocessingConfig(image_size=(96, 128), reference='difference'), True)
        video, untouched = cv2.VideoCapture(str(clips / row['clip'])), []
        while (read := video.read())[0]:
            untouched.append(frames.update(message(read[1][:, :, ::-1]), len(untouched) * STEP).is_untouched)
        first, last = int(row['first']), int(row['last'])
        assert np.mean(untouched[5:first]) > 0.8
        assert not any(untouched[first + 1:last - 1]), row['clip']


@pytest.mark.parametrize(('count', 'kept'), [(15, 15), (16, 0)])
def test_a_long_reference_keeps_no_whole_images(count, kept):
    """1000 frames of 96x128 px were kept, 37 MB for each sensor; frames that differ are left out of up to 15."""
    frames = SensorFrames(Reference(count), CONFIG)
    stream = Stream(frames)
    stream.see(count - 1)
    assert sum(image is not None for _, image in frames.monitor._gathered) == max(0, kept - 1)
    stream.see(1, press=60.0)
    has_left_out = np.abs(frames.reference.frame - GEL).max() < 3
    assert has_left_out == bool(kept) and (frames.monitor.health.level > 0) != has_left_out
    assert not frames.monitor._gathered
