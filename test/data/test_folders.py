"""Class folders with more in them than images."""

import logging

import pytest
from toy_touches import write_folders

from vit_tactile_ros.data.split import split_touches
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.data.touches import load_touches


@pytest.mark.parametrize('top', ['', 'train/'])
def test_files_of_unknown_kind_are_counted_and_named(tmp_path, caplog, top):
    """A third of the images, as .heic of a phone, passed over without a word."""
    write_folders(tmp_path, [f'{top}smooth/can/a.JPG', f'{top}rough/cup/b.png', f'{top}rough/cup/.hidden/c.png'])
    others = ['smooth/c.heic', 'smooth/d.HEIC', 'rough/cup/e.npy', 'rough/f', 'smooth/Thumbs.db', 'smooth/.DS_Store',
              'rough/desktop.ini', 'rough/.hidden/g.txt']
    for name in others:
        (tmp_path / top / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / top / name).write_text('x')
    with caplog.at_level(logging.WARNING):
        table = load_touches(tmp_path)
    assert sorted(t.image.path.name for t in table.touches) == ['a.JPG', 'b.png']
    record, = caplog.records
    assert 'ignored 4 files that are not png/jpg/' in record.message
    assert '2 .heic' in record.message and '1 .npy' in record.message and '1 without a suffix' in record.message


def test_nothing_to_tell(tmp_path, caplog):
    load_touches(write_folders(tmp_path, ['smooth/a.png', 'rough/b.png', 'smooth/.x.png']))
    assert caplog.records == []


def test_a_link_that_leads_nowhere(tmp_path):
    """An image of a moved data set passed over as if it had never been there."""
    write_folders(tmp_path, ['smooth/a.png', 'rough/b.png'])
    (tmp_path / 'smooth' / 'gone.png').symlink_to(tmp_path / 'moved.png')
    with pytest.raises(DataError, match='gone.png cannot be read: No such file'):
        split_touches(load_touches(tmp_path), 0, 0)
