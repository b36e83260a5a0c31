"""predict on simulated touches with the shipped checkpoint: as the classifier alone, as replay, and with bad files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_clips import write_video

from vit_tactile_ros import predict, to_bag
from vit_tactile_ros import replay as replay_command
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.inference import closer
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.closer import find_spot
from vit_tactile_ros.inference.image_file import read_image
from vit_tactile_ros.model import load_checkpoint, shipped_checkpoint
from vit_tactile_ros.model.shipped import shipped_checkpoint as shipped
from vit_tactile_ros.simulator import GELSIGHT, Contact, SensorUnit


@pytest.fixture(scope='module')
def touches(tmp_path_factory) -> Path:
    """gel.png, ball_1.png, ball_2.png, still.png (the gel again) and press.avi, in which a ball is pressed."""
    folder = tmp_path_factory.mktemp('touches')
    rng = np.random.default_rng(3)
    unit = SensorUnit(GELSIGHT, rng, variation=0)
    ball, deep = Contact('sphere', 0.8, radius_mm=3.0), Contact('sphere', 1.0, radius_mm=3.0, x_mm=1.0)
    images = {'gel': unit.reference, 'ball_1': unit.render(ball, rng), 'ball_2': unit.render(deep, rng),
              'still': unit.render(None, rng)}
    for name, image in images.items():
        cv2.imwrite(str(folder / f'{name}.png'), image[..., ::-1])
    moving = [unit.render(None, rng) for _ in range(9)] + [
        unit.render(Contact('sphere', 0.1 * depth, radius_mm=3.0), rng) for depth in range(1, 10)]
    write_video(folder / 'press.avi', (image[..., ::-1] for image in moving))
    return folder


def run(capsys, *arguments) -> tuple[int, list[str], str]:
    code = predict.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def rows_of(capsys, *arguments) -> list[dict]:
    code, lines, err = run(capsys, *arguments, '--json')
    assert code == 0, err
    return [json.loads(line) for line in lines]


def test_the_command_of_the_readme(touches):
    """One line per image: class, confidence, exit and compute, and whether the gate decided."""
    done = subprocess.run([sys.executable, '-m', 'vit_tactile_ros', 'predict', 'ball_1.png', 'still.png', '--reference',
                           'gel.png', '--picture', 'out.png'], cwd=touches, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ['image', 'class', 'confidence', 'exit', 'compute']
    assert lines[1][:2] == ['ball_1.png', 'sphere'] and lines[1][3] == 'block' and lines[1][-1].endswith('%')
    assert lines[2] == ['still.png', 'no_contact', '0.95', 'gate', '0%']
    assert done.stdout.splitlines()[3].startswith('2 images: ')
    assert done.stderr == 'drew all images in out.png\n'
    assert cv2.imread(str(touches / 'out.png')).shape[2] == 3


def test_each_image_by_itself(touches, capsys):
    """A prediction that depends on the files before it, or differs from that of the classifier alone."""
    reference = ('--reference', touches / 'gel.png')
    both = rows_of(capsys, touches / 'still.png', touches / 'ball_1.png', touches / 'ball_2.png', *reference)
    assert rows_of(capsys, touches / 'ball_2.png', *reference) == [both[2]]
    checkpoint = load_checkpoint(shipped_checkpoint())
    classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
    gel, ball = (classifier.fit(read_image(touches / name)) for name in ('gel.png', 'ball_1.png'))
    alone, = classifier.classify([ball], [gel], classifier.thresholds(checkpoint.calibration.tau))
    assert (both[1]['class_name'], both[1]['exit_block'], both[1]['is_gated']) == (
        alone.class_name, alone.exit_block, False)
    np.testing.assert_allclose(list(both[1]['probabilities'].values()), alone.probabilities, atol=1e-6)
    assert list(both[1]['probabilities']) == list(classifier.class_names)
    assert both[1]['compute_share'] == pytest.approx(alone.compute_share, abs=1e-6) and both[1]['image'] is None
    assert (both[0]['is_gated'], both[0]['exit_block'], both[0]['compute_share']) == (True, 0, 0.0)
    full = rows_of(capsys, touches / 'still.png', *reference, '--no_gate', '--tau', 1)
    assert full[0]['exit_block'] == 12 and not full[0]['is_gated']


@pytest.mark.parametrize('given', [False, True])
def test_a_video_as_replay_of_its_bag(touches, tmp_path, capsys, given):
    """Another reference, another noise of the gate or another order than in the node and in replay."""
    clip = touches / 'press.avi'
    assert to_bag.main([str(clip), '--output', str(tmp_path / 'bag')]) == 0
    reference = [f'={touches / "gel.png"}'] if given else []
    assert replay_command.main([str(tmp_path / 'bag'), '--output', str(tmp_path / 'out'), '--timing_frames', '0',
                                *(['--reference_files', *reference] if given else [])]) == 0
    capsys.readouterr()
    table = FrameTable.read_csv(tmp_path / 'out' / 'frames.csv')
    code, lines, _ = run(capsys, clip, '--csv', *(['--reference', touches / 'gel.png'] if given else []))
    rows = list(csv.DictReader(lines))
    assert code == 0 and len(rows) == len(table) == 18
    assert [row['class_name'] for row in rows] == [table.class_names[i] for i in table.class_id]
    assert [int(row['exit_block']) for row in rows] == table.exit_blocks.tolist()
    assert [row['is_gated'] == 'True' for row in rows] == table.is_gated.tolist()
    assert 0 < table.is_gated.sum() < 18  # or nothing is shown
    np.testing.assert_allclose([float(row['confidence']) for row in rows], table.confidence, atol=1e-5)
    np.testing.assert_allclose([float(row['compute_share']) for row in rows], table.shares, atol=1e-6)
    np.testing.assert_allclose([float(row['seconds']) for row in rows], np.arange(18) / 25, atol=1e-9)


def test_a_folder_of_consecutive_images(touches, tmp_path, capsys):
    """With --rate the images of a folder are a stream, like those of the video; without, each is judged by itself."""
    video = cv2.VideoCapture(str(touches / 'press.avi'))
    for number in range(12):
        cv2.imwrite(str(tmp_path / f'{number}.png'), video.read()[1])
    stream = rows_of(capsys, tmp_path, '--rate', 25)
    assert [row['image'] for row in stream] == list(range(12))  # 2 before 10
    for row, other in zip(stream, rows_of(capsys, touches / 'press.avi')):
        assert row['probabilities'] == other['probabilities']
    alone = rows_of(capsys, tmp_path)
    assert [Path(row['file']).name for row in alone] == [f'{number}.png' for number in range(1, 12)]
    (tmp_path / '5.png').write_text('no image')
    code, lines, err = run(capsys, tmp_path, '--rate', 25, '--json')
    assert code == 2 and '5.png cannot be read' in err and [json.loads(line)['image'] for line in lines] == [
        0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def test_files_that_cannot_be_read(touches, tmp_path, capsys):
    """One bad file ended the run, or went unnoticed."""
    (tmp_path / 'x.png').write_text('junk')
    (tmp_path / 'x.mp4').write_text('junk')
    (tmp_path / 'x.mcap').touch()
    (tmp_path / 'empty').mkdir()
    code, lines, err = run(capsys, *(tmp_path / name for name in ('x.png', 'x.mp4', 'x.mcap', 'empty', 'none.png')),
                           touches / 'ball_1.png', '--reference', touches / 'gel.png')
    assert code == 2 and lines[1].split()[1] == 'sphere' and lines[2].startswith('1 image: 1 sphere')
    for text in ('x.png cannot be read as an image', 'x.mp4 has no image that can be decoded', 'vit-tactile replay',
                 'empty has no images and no videos', 'none.png does not exist'):
        assert text in err
    assert err.splitlines()[-1] == 'predict: 5 problems, see above; 1 image was classified'
    assert run(capsys, touches / 'ball_1.png', '--reference', tmp_path / 'x.png')[0] == 2


def test_the_reference_is_named(touches, tmp_path, capsys):
    """A touch that becomes the reference without a word, or an image without one that is judged anyway."""
    code, lines, err = run(capsys, touches / 'ball_1.png')
    assert code == 2 and lines == [] and '--reference gel.png' in err
    (tmp_path / 'junk.png').write_text('junk')
    code, _, err = run(capsys, tmp_path / 'junk.png')
    assert code == 2 and 'junk.png cannot be read' in err and '--reference' not in err
    (tmp_path / 'junk.png').unlink()
    code, lines, err = run(capsys, touches / 'gel.png', touches / 'ball_1.png')
    assert code == 0 and 'gel.png, the first image, is the reference' in err and len(lines) == 3
    assert 'the first 5 images are its reference' in run(capsys, touches / 'press.avi')[2]
    for name in ('a_ball', 'reference'):
        source = 'ball_1' if name == 'a_ball' else 'gel'
        (tmp_path / f'{name}.png').write_bytes((touches / f'{source}.png').read_bytes())
    code, lines, err = run(capsys, tmp_path)
    assert code == 0 and f'{tmp_path / "reference.png"} is the reference' in err and lines[1].split()[1] == 'sphere'
    write_video(tmp_path / 'short.avi', [read_image(touches / 'gel.png')[..., ::-1]] * 3)
    code, _, err = run(capsys, tmp_path / 'short.avi')
    assert code == 2 and 'short.avi has 3 usable images, fewer than the 5 of its no-contact reference' in err


def test_two_references(touches, tmp_path, capsys):
    """The reference of the first folder was that of the second, too, which is of another sensor."""
    gel, ball = ((touches / f'{name}.png').read_bytes() for name in ('gel', 'ball_1'))
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'reference.png').write_bytes(gel)
        (tmp_path / folder / f'{folder}.png').write_bytes(ball)
    folders = (tmp_path / 'a', tmp_path / 'b')
    for flags in ((), ('--rate', 25)):
        assert [row['class_name'] for row in rows_of(capsys, *folders, *flags)] == ['sphere'] * 2
    (tmp_path / 'b' / 'reference.png').write_bytes(ball)
    for flags in ((), ('--rate', 25)):
        code, lines, err = run(capsys, *folders, *flags)
        assert code == 2 and lines == [] and f'{tmp_path / "b" / "reference.png"} is another reference than' in err
    assert len(rows_of(capsys, *folders, '--reference', touches / 'gel.png')) == 2


def test_the_reference_beside_a_stream(touches, tmp_path, capsys):
    """With --rate, reference.png was an image of the stream, and the first images were the reference."""
    for name, source in {'0': 'ball_1', '1': 'ball_2', 'reference': 'gel'}.items():
        (tmp_path / f'{name}.png').write_bytes((touches / f'{source}.png').read_bytes())
    code, lines, err = run(capsys, tmp_path, '--rate', 25, '--json')
    assert code == 0 and f'{tmp_path / "reference.png"} is the reference' in err
    assert [json.loads(line)['image'] for line in lines] == [0, 1]
    assert json.loads(lines[0])['class_name'] == 'sphere'
    assert len(rows_of(capsys, tmp_path, '--rate', 25, '--reference', touches / 'gel.png')) == 2


def test_small_contacts_are_told(capsys, tmp_path, monkeypatch):
    """Enlarged contacts were only in the picture; at a low resolution a small ball was a corner without a word.

    Images that stay whole were searched twice.
    """
    rng = np.random.default_rng(5)
    unit = SensorUnit(GELSIGHT, rng, variation=0)
    speck = unit.render(Contact('sphere', 0.6, radius_mm=1.0), rng)
    large = cv2.resize(speck, (640, 480), interpolation=cv2.INTER_CUBIC)
    for size in (640, 128):
        folder = tmp_path / str(size)
        folder.mkdir()
        for name, image in (('reference', cv2.resize(unit.reference, (640, 480))), ('speck', large)):
            cv2.imwrite(str(folder / f'{name}.png'), cv2.resize(image, (size, size * 3 // 4),
                                                                interpolation=cv2.INTER_AREA)[..., ::-1])
    row, = rows_of(capsys, tmp_path / '640')
    assert row['zoom'] > 1
    searched: list[None] = []
    monkeypatch.setattr(closer, 'find_spot', lambda *images: (searched.append(None), find_spot(*images))[1])
    code, lines, err = run(capsys, tmp_path / '640')
    assert code == 0 and '; enlarged 1; compute' in lines[-1] and 'resolution' not in err
    row, = rows_of(capsys, tmp_path / '128')
    assert row['zoom'] == 1 and len(searched) == 2  # once per image
    code, lines, err = run(capsys, tmp_path / '128')
    assert code == 0 and 'enlarged' not in lines[-1]
    assert '1 image shows a contact that covers a small part; the resolution (128x96 px) limits' in err


def test_what_is_unusual_is_noted(touches, tmp_path, capsys):
    """The reference of another gel, or a grey camera: wrong classes without a word."""
    image = cv2.imread(str(touches / 'ball_1.png'))
    cv2.imwrite(str(tmp_path / 'grey.png'), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(tmp_path / 'other.png'), cv2.flip(255 - image, 0)[:100])
    code, _, err = run(capsys, tmp_path / 'grey.png', tmp_path / 'other.png', '--reference', touches / 'gel.png')
    assert code == 0
    assert '1 of 2 images are grey' in err and '2 of 2 images differ from the reference nearly everywhere' in err
    height, width = image.shape[:2]
    assert f'the reference has {width}x{height} px, and there are images of {width}x100' in err


def test_a_checkpoint_of_states_needs_a_sequence(touches, capsys):
    slip = shipped().with_name('tactile_slip.safetensors')
    code, _, err = run(capsys, touches / 'ball_1.png', '--reference', touches / 'gel.png', '--checkpoint', slip)
    assert code == 2 and 'needs motion' in err and 'give a video' in err
    rows = rows_of(capsys, touches / 'press.avi', '--checkpoint', slip)
    assert set(rows[0]['probabilities']) == {'no_contact', 'stable', 'moving', 'slip'} and len(rows) == 18


def test_what_it_refuses(touches, capsys):
    for words, message in ((('--rate', 'nan'), '--rate is nan'), (('--json', '--csv'), 'give only one'),
                           (('--picture', 'x.jpg'), 'must end in .png')):
        with pytest.raises(SystemExit):
            run(capsys, touches / 'ball_1.png', *words)
        assert message in capsys.readouterr().err
    code, _, err = run(capsys, touches / 'ball_1.png', '--tau', 2, '--reference', touches / 'gel.png')
    assert code == 2 and 'tau' in err
