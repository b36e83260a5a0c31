"""to_bag: what it writes is read back by our reader of bags, image by image, and by rosbags."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from toy_clips import write_clip
from toy_touches import picture, write_picture

from vit_tactile_ros import to_bag
from vit_tactile_ros.data.bags.recording import Recording, stamp_of
from vit_tactile_ros.data.video import images_of
from vit_tactile_ros.inference.decode import decode


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = to_bag.main([str(a) for a in arguments])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(('storage', 'compressed'), [('mcap', False), ('sqlite3', True)])
def test_a_folder_is_read_back(tmp_path, capsys, storage, compressed):
    """Images in the order of their names as text, other pixels, a wrong step or stamp, or a bag that is not whole."""
    for number in (2, 10, 1):
        write_picture(tmp_path / 'images' / f'{number}.png', number)
    flags = ['--storage', storage, '--topic', 'left/image_raw', '--frame_id', 'gel', '--rate', 8]
    code, out, err = run(capsys, tmp_path / 'images', '--output', tmp_path / 'bag', *flags,
                         *(['--compressed'] if compressed else []))
    assert code == 0, err
    topic = '/left/image_raw' + '/compressed' * compressed
    assert json.loads(out.splitlines()[-1]) == {'bag': str(tmp_path / 'bag'), 'topic': topic, 'images': 3}
    with Recording(tmp_path / 'bag') as recording:
        found = list(recording.messages([topic]))
        messages = [recording.deserialise(each) for each in found]
        stamps = [stamp_of(message, each) for message, each in zip(messages, found)]
        assert not recording.problems and not recording.notes
    for message, number in zip(messages, (1, 2, 10), strict=True):
        np.testing.assert_array_equal(decode(message), picture(number))
        assert message.header.frame_id == 'gel'
    assert stamps == [each.received for each in found]
    assert np.diff(stamps).tolist() == [125_000_000] * 2 and stamps[0] > 1.7e18
    with AnyReader([tmp_path / 'bag']) as reader:  # another reader, by the metadata
        assert [c.topic for c in reader.connections] == [topic] and reader.message_count == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bag', 'images']


def test_a_video_keeps_its_rate(tmp_path, capsys):
    clip = write_clip(tmp_path / 'touch.avi', 4, rate=20.0)
    assert run(capsys, clip, '--output', tmp_path / 'bag')[0] == 0
    with Recording(tmp_path / 'bag') as recording:
        found = list(recording.messages(['/image_raw']))
        for message, image in zip((recording.deserialise(each) for each in found), images_of(clip), strict=True):
            np.testing.assert_array_equal(decode(message), image)
    assert np.diff([each.received for each in found]).tolist() == [50_000_000] * 3


def test_nothing_is_left_of_a_bag_that_fails(tmp_path, capsys):
    """Half a bag that replay takes for a whole one."""
    write_picture(tmp_path / 'images' / '1.png', 1)
    (tmp_path / 'images' / '2.png').write_text('junk')
    code, _, err = run(capsys, tmp_path / 'images', '--output', tmp_path / 'bag')
    assert code == 2 and '2.png cannot be read as an image' in err
    assert [path.name for path in tmp_path.iterdir()] == ['images']


def test_what_it_refuses(tmp_path, capsys):
    clip = write_clip(tmp_path / 'touch.avi', 3)
    assert run(capsys, clip, '--output', tmp_path / 'bag')[0] == 0
    cv2.imwrite(str(tmp_path / 'one.png'), picture(0))
    for words, message in (((tmp_path / 'bag', '--output', tmp_path / 'b'), 'is a bag already'),
                           ((clip, '--output', tmp_path / 'bag'), 'bag exists and is not empty'),
                           ((tmp_path / 'one.png', '--output', tmp_path / 'b'), 'is neither a video'),
                           ((tmp_path / 'none', '--output', tmp_path / 'b'), 'none does not exist')):
        code, _, err = run(capsys, *words)
        assert code == 2 and message in err
    for flag, value in (('--topic', 'a b'), ('--topic', '/'), ('--rate', '-1')):
        with pytest.raises(SystemExit):
            run(capsys, clip, '--output', tmp_path / 'b', flag, value)
        assert f'{flag} is ' in capsys.readouterr().err
    assert not (tmp_path / 'b').exists()


def test_the_folder_that_it_runs_in(tmp_path, monkeypatch, capsys):
    """A traceback: '.' has no name, beside which a temporary folder could be made."""
    clip = write_clip(tmp_path / 'touch.avi', 4)
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path / 'empty')
    for output in ('.', tmp_path / 'empty'):
        code, _, err = run(capsys, clip, '--output', output)
        assert code == 2 and 'the folder that this runs in; give a new one' in err
    assert not list((tmp_path / 'empty').iterdir())
