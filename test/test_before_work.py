"""What can be known before the work is found before it: broken images, outputs that can't be written, logins."""

import importlib
import re
import sys
import types

import pytest
from toy_runs import arguments, write_presses

from vit_tactile_ros import cross_validate, train, tune
from vit_tactile_ros.data.source import read_all
from vit_tactile_ros.data.table import UnreadableImages
from vit_tactile_ros.data.touches import load_touches


@pytest.fixture
def broken(tmp_path):
    """A data set of which the images of every second recording of a class can't be read."""
    folder = write_presses(tmp_path / 'presses')
    for path in folder.glob('edge/*[13]__*.png'):
        path.write_bytes(path.read_bytes()[:100])
    return folder


@pytest.fixture
def no_training(monkeypatch):
    for module in (train, cross_validate, tune):
        monkeypatch.setattr(module, 'fit', lambda *_, **__: pytest.fail('trained'))


@pytest.mark.parametrize('flags', [[], ['--evaluate']])
def test_broken_images_of_all_parts_are_named_before_training(broken, tmp_path, no_training, capsys, flags):
    """A test image that can't be read was found after the last epoch; of several only the first was named."""
    assert train.main([*arguments(tmp_path / 'run', data=broken), *flags]) == 2
    err = capsys.readouterr().err
    assert '6 of 24 images cannot be read: ' in err and 'and 3 more' in err
    assert len(set(re.findall(r'edge[13]__\d.png', err))) == 3
    assert not (tmp_path / 'run').exists()


def test_a_single_broken_test_image(tmp_path, no_training, capsys):
    folder = write_presses(tmp_path / 'presses')
    for path in folder.glob('*/*'):
        part = {'0': 'val', '1': 'test'}.get(path.name[4], 'train')
        target = folder / part / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for name in ('edge', 'flat'):
        (folder / name).rmdir()
    (folder / 'test' / 'edge' / 'edge1__0.png').write_bytes(b'\x89PNG')
    assert train.main(arguments(tmp_path / 'run', data=folder)) == 2
    assert 'edge1__0.png' in capsys.readouterr().err


def test_broken_images_are_named_before_the_first_fold(broken, tmp_path, no_training, capsys):
    assert cross_validate.main(['--data', str(broken), '--output', str(tmp_path / 'out'), '--folds', '2', '--epochs',
                                '1', '--exits', '1', '--image_size', '32', '32', '--device', 'cpu']) == 2
    assert '6 of 25 images cannot be read' in capsys.readouterr().err


def test_broken_images_of_several_parts_judged_on(broken):
    table = load_touches(broken)

    def fail(rows):
        raise UnreadableImages('presses', [ValueError(str(table.touches[row].image)) for row in rows], 12)

    with pytest.raises(UnreadableImages, match='presses: 3 of 24 images cannot be read'):
        read_all([lambda: fail([0]), lambda: fail([1, 2])], 24)


OUTPUTS = [('train', ['--output', 'X']), ('cross_validate', ['--data', 'd', '--output', 'X']),
           ('tune', ['--storage', 'sqlite:///X/tune.db']), ('calibrate', ['--output', 'X/c.safetensors']),
           ('calibrate', ['--check', '9', '--plot', 'X/c.png']), ('sweep', ['--output', 'X']),
           ('sweep', ['--cache', 'X', '--output', 'fine']),
           ('average', ['a', 'b', '--output', 'X/c.safetensors']), ('benchmark', ['--output', 'X']),
           ('replay', ['bag', '--output', 'X']), ('compare', ['a', 'b', '--output', 'X']),
           ('touchbench', ['--output', 'X']), ('touchbench', ['--cache', 'X']),
           ('extract', ['bag', '--output', 'X/touches']), ('to_bag', ['clip.mp4', '--output', 'X/bag']),
           ('predict', ['a.png', '--picture', 'X/p.png']), ('export', ['--output', 'X/network']),
           ('fit_sensor', ['--presses', 'p', '--reference', 'r', '--output', 'X/s.json']),
           ('fit_sensor', ['--presses', 'p', '--reference', 'r', '--output', 's.json', '--picture', 'X/p.png']),
           ('demo', ['--picture', 'X/demo.svg'])]


@pytest.mark.parametrize(('name', 'flags'), OUTPUTS, ids=[f'{name} {flags[0]}' for name, flags in OUTPUTS])
def test_an_output_that_cannot_be_written_is_named_before_anything_is_read(name, flags, tmp_path, monkeypatch, capsys):
    """Minutes of reading, then '[Errno 20] Not a directory' without a path. The inputs here do not even exist."""
    monkeypatch.chdir(tmp_path)
    blocked = tmp_path / 'file'
    blocked.write_text('')
    module = importlib.import_module(f'vit_tactile_ros.{name}')
    for reader in ('read_table', 'load_parts', 'read_presses', 'find_recordings', 'touches_of_bags'):
        if hasattr(module, reader) and '--cache' not in flags:
            monkeypatch.setattr(module, reader, lambda *_, **__: pytest.fail('read the data'))
    assert module.main([flag.replace('X', str(blocked / 'run')) for flag in flags]) == 1
    assert re.fullmatch(rf'{name}: could not write {blocked}/run\S*: (Not a directory|File exists)'
                        r'(; the checkpoint is as it was)?\n', capsys.readouterr().err)


@pytest.mark.parametrize(('mode', 'key', 'status'), [('online', None, 2), ('online', 'x' * 40, None),
                                                     ('offline', None, None)])
def test_wandb_without_a_login_is_found_first(tmp_path, monkeypatch, capsys, mode, key, status):
    fake = types.SimpleNamespace(api=types.SimpleNamespace(api_key=key),
                                 setup=lambda: types.SimpleNamespace(settings=types.SimpleNamespace(mode=mode)))
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    monkeypatch.setattr(train, 'read_table', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert train.main([*arguments(tmp_path / 'run'), '--use-wandb']) == (status or 130)
    assert ('run `wandb login`' in capsys.readouterr().err) == (status == 2)


@pytest.mark.parametrize('url', ['postgresql://me:s3cr%2Ft@localhost:1/db', 'mysql://me:p@s3cr/t@localhost/db',
                                 'postgresql://localhost/db?user=me&password=s3cr/t', 'nonsense://me:s3cr/t@x',
                                 'me:s3cr/t@x', 'sqlite:///nowhere/s3cr.db?x=://me:s3cr/t@'])
def test_the_password_of_the_storage_is_never_printed(url, tmp_path, monkeypatch, capsys):
    """An error of the database printed the whole URL."""
    monkeypatch.setattr(tune, 'read_table', lambda *_: pytest.fail('read the data'))
    (tmp_path / 'nowhere').write_text('')
    monkeypatch.chdir(tmp_path)
    assert tune.main(['--storage', url]) in (1, 2)
    out, err = capsys.readouterr()
    assert 's3cr/t' not in out + err and 's3cr%2Ft' not in out + err and err.startswith('tune: ')
