"""extract end to end: the pictures equal the bag's, training runs on them, and nothing is overwritten or left half."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from toy_bags import START, STEP, write_bag
from toy_touches import picture

from vit_tactile_ros import extract, train
from vit_tactile_ros.data import extraction
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.inference.image_file import read_image

TOUCHES = ['none', 'none', 'none', 'ring / wide', 'ring / wide', 'none', 'ring / wide', None]


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = extract.main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def number_of(image: Path) -> int:
    """Which of the toy bag's pictures a file must hold, by its name."""
    return round((int(image.stem) - START) / STEP)


def test_pictures_equal_the_bag_s(tmp_path, capsys):
    """Lossy or shifted pictures, a lost label or group, a class name that breaks its path."""
    bag = write_bag(tmp_path / 'one', {'left': TOUCHES, 'hand/right': ['none', 'ring / wide']}, 'mcap')
    code, output, _ = run(capsys, bag, '--output', tmp_path / 'out')
    assert code == 0
    told = json.loads(output.splitlines()[-1])
    assert told['images'] == 9 and told['touches'] == 6 and told['references'] == 2
    assert told['images_of_class'] == {'none': 5, 'ring / wide': 4}
    table, source = load_touches(Path(told['table'])), load_touches(bag)
    assert [(t.label, t.group) for t in table.touches] == [(t.label, t.group) for t in source.touches]
    assert table.class_names == source.class_names
    for touch in table.touches:
        np.testing.assert_array_equal(read_image(touch.image.path), picture(number_of(touch.image.path)))
        count = 5 if 'left' in touch.group else 2  # images of that sensor
        np.testing.assert_allclose(read_image(touch.reference.path),
                                   np.mean([picture(n) for n in range(count)], axis=0), atol=0.51)
    assert len({t.reference for t in table.touches if 'left' in t.group}) == 1
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('.')] == []


def test_names_cannot_leave_the_folder(tmp_path, capsys):
    """Labels are text from a bag. A class 'touches.csv' made a folder where the table belongs."""
    hostile = ['../x', '/etc/x', '..', '.', '~', 'touches.csv', 'references', 'CON', 'a\\b', 'é' * 300, '漢' * 300,
               '$(touch x)', 'a\nb', '\u202e', '-rf', 'C:\\x', '<b>', '\x1b[2J']
    bag = write_bag(tmp_path / 'bag', {'left/../..': hostile, 'right': hostile[::-1]})
    code, output, error = run(capsys, bag, '--output', tmp_path / 'all' / 'out')
    assert code == 0, error
    table = load_touches(Path(json.loads(output.splitlines()[-1])['table']))
    assert set(table.class_names) == {name.strip() for name in hostile} and len(table) == 2 * len(hostile)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['all', 'bag'] and len(list((tmp_path / 'all').iterdir())) == 1
    for touch in table.touches:
        inside = touch.image.path.relative_to(tmp_path / 'all' / 'out')
        assert len(inside.parts) == 3 and '..' not in inside.parts and inside.parts[0] not in ('references', 'CON')
        np.testing.assert_array_equal(read_image(touch.image.path), picture(number_of(touch.image.path)))
    assert '\x1b' not in output and '\u202e' not in output


def test_the_images_before(tmp_path, capsys):
    """Corrected images that can no longer train a network with motion, or whose image before is another."""
    bag = write_bag(tmp_path / 'one', {'left': TOUCHES})
    code, output, _ = run(capsys, bag, '--motion', 0.08, '--output', tmp_path / 'out')
    assert code == 0
    for touch in load_touches(Path(json.loads(output.splitlines()[-1])['table'])).touches:
        np.testing.assert_array_equal(read_image(touch.previous.path),
                                      picture(max(0, number_of(touch.image.path) - 1)))
    with pytest.raises(SystemExit):
        run(capsys, bag, '--motion', 5, '--output', tmp_path / 'no')
    assert 'extract: --motion is 5.0; must be 0 (no motion), or 0.01 to 1 s' in capsys.readouterr().err


def test_several_bags_intervals_and_every(tmp_path, capsys):
    """Thinning that goes by the table and not by the touch; touches of two bags in one group."""
    bags = [write_bag(tmp_path / name, {'': [None] * 8}) for name in ('one', 'two')]
    labels = tmp_path / 'l.csv'
    labels.write_text('start,end,label\n0,0.35,flat\n0.45,9,ring\n')
    code, output, _ = run(capsys, *bags, '--labels', labels, '--every', 2, '--output', tmp_path / 'out')
    assert code == 0
    table = load_touches(Path(json.loads(output.splitlines()[-1])['table']))
    assert [(t.group, number_of(t.image.path)) for t in table.touches] == [
        (f'{bag}//{line}', n) for bag in ('one', 'two') for line, n in ((2, 0), (2, 2), (3, 5), (3, 7))]


@pytest.mark.parametrize('kind', ['db3', 'mcap', 'bag'])
def test_a_bag_of_a_killed_recorder(tmp_path, capsys, caplog, kind):
    """It was replayed, and refused here: its whole images are extracted, and the damage is named."""
    labels = ['flat', 'flat', 'ring', 'ring'] * 8
    bag = write_bag(tmp_path / ('b.bag' if kind == 'bag' else 'b'), {'left': labels}, kind)
    file = bag if kind == 'bag' else next(bag.glob(f'*.{kind}'))
    file.write_bytes(file.read_bytes()[:file.stat().st_size * 6 // 10])
    if kind != 'bag':
        (bag / 'metadata.yaml').unlink()
    code, output, error = run(capsys, bag, '--output', tmp_path / 'out')
    assert code == 0, error
    assert file.name in caplog.text and ('cut short' in caplog.text or 'damaged' in caplog.text)
    told = json.loads(output.splitlines()[-1])
    assert 12 <= told['images'] < 32
    for touch in load_touches(Path(told['table'])).touches:
        np.testing.assert_array_equal(read_image(touch.image.path), picture(number_of(touch.image.path)))


def test_too_few_images_for_the_reference(tmp_path, capsys, caplog):
    """The touch became its own reference without a word."""
    bag = write_bag(tmp_path / 'b', {'left': ['flat', 'flat', 'ring'], 'right': ['flat', 'ring'] * 3})
    assert run(capsys, bag, '--output', tmp_path / 'out')[0] == 0
    assert f"{bag}: sensor 'left' has 3 usable images, fewer than the 5 of its no-contact" in caplog.text
    assert "sensor 'right'" not in caplog.text


def test_bags_in_folders_of_folders(tmp_path, capsys):
    """A day of recordings: replay found them and extraction did not."""
    for name in ('one', 'two'):
        (tmp_path / 'day' / 'morning').mkdir(parents=True, exist_ok=True)
        write_bag(tmp_path / 'day' / 'morning' / name, {'': ['flat', 'ring'] * 3})
    code, output, _ = run(capsys, tmp_path / 'day', '--output', tmp_path / 'out')
    assert code == 0 and json.loads(output.splitlines()[-1])['images'] == 12
    assert len(load_touches(tmp_path / 'day')) == 12


def test_train_takes_it(tmp_path, capsys):
    """A table that train refuses, or splits across touches."""
    bag = write_bag(tmp_path / 'b', {'': ['flat', 'flat', 'ring', 'ring'] * 4})
    assert run(capsys, bag, '--output', tmp_path / 'out')[0] == 0
    flags = ('--epochs 1 --batch_size 4 --workers 0 --feature_map_dim 16 --device cpu --exits 1 2 --image_size 32 32 '
             '--split_by group').split()
    assert train.main(['--data', str(tmp_path / 'out' / 'touches.csv'), *flags, '--output', str(tmp_path / 'run')]) == 0
    assert (tmp_path / 'run' / 'checkpoint.safetensors').is_file()


def test_nothing_is_overwritten(tmp_path, capsys):
    bag = write_bag(tmp_path / 'b', {'': TOUCHES})
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine.txt').write_text('mine')
    code, _, error = run(capsys, bag, '--output', tmp_path / 'out')
    assert code == 2 and 'out exists and is not empty' in error
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['mine.txt']


@pytest.mark.parametrize('stopped', [KeyboardInterrupt(), OSError(28, 'No space left on device')])
def test_half_done_output_goes(tmp_path, capsys, monkeypatch, stopped):
    """Ctrl-C or a full disk after some pictures leaves nothing; a killed run's rest does not come into the next."""
    bag = write_bag(tmp_path / 'b', {'': TOUCHES})
    write, written = extraction._write_picture, []

    def interrupted(*arguments):
        write(*arguments)
        written.append(arguments)
        if len(written) == 3:
            raise stopped

    with monkeypatch.context() as patch:
        patch.setattr(extraction, '_write_picture', interrupted)
        code = run(capsys, bag, '--output', tmp_path / 'out')[0]
    assert code == (130 if isinstance(stopped, KeyboardInterrupt) else 1)
    assert [p.name for p in tmp_path.iterdir()] == ['b']
    rest = tmp_path / '.out.0123456789abcdef' / 'ring'  # as kill -9 leaves it
    rest.mkdir(parents=True)
    shutil.copy(bag / 'metadata.yaml', rest / 'old.png')
    assert run(capsys, bag, '--output', tmp_path / 'out')[0] == 0
    assert not list((tmp_path / 'out').rglob('old.png')) and not rest.exists()


def test_bags_of_one_name_stay_apart(tmp_path, capsys):
    """`train` accepted two bags of one name in different folders, and `extract` refused them."""
    for folder in ('monday', 'tuesday'):
        (tmp_path / folder).mkdir()
        write_bag(tmp_path / folder / 'b', {'': TOUCHES})
    assert run(capsys, tmp_path / 'monday', tmp_path / 'tuesday', '--output', tmp_path / 'out')[0] == 0
    both, one = load_touches(tmp_path / 'out' / 'touches.csv'), load_touches(tmp_path / 'monday' / 'b')
    assert len(both) == 2 * len(one) and len(set(both.groups)) == 2 * len(set(one.groups))


def test_what_it_refuses(tmp_path, capsys):
    """Errors without the name of what is wrong."""
    bag = write_bag(tmp_path / 'b', {'': [None] * 3})
    labelled = write_bag(tmp_path / 'labelled', {'': TOUCHES})
    for arguments, message in (((bag,), 'has no labels'), ((tmp_path / 'x',), 'x does not exist'),
                               ((labelled, '--reference_image', tmp_path / 'r.png'), 'r.png does not exist')):
        code, _, error = run(capsys, *arguments, '--output', tmp_path / 'out')
        assert code == 2 and message in error
    with pytest.raises(SystemExit):
        run(capsys, bag, '--every', 0, '--output', tmp_path / 'out')
    assert '--every is 0; must be at least 1' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
