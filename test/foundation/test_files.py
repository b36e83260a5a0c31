"""Files that are written whole or not at all."""

import os
import stat

import pytest

from vit_tactile_ros.foundation.files import WriteError, check_folder_writable, check_writable, written_whole


@pytest.mark.parametrize('mask', [0o022, 0o077, 0o002])
def test_mode_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with written_whole(tmp_path / 'new' / 'file.json') as temporary:
            temporary.write_text('whole')
    finally:
        os.umask(before)
    assert (tmp_path / 'new' / 'file.json').read_text() == 'whole'
    assert stat.S_IMODE((tmp_path / 'new' / 'file.json').stat().st_mode) == 0o666 & ~mask
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['file.json']


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(KeyboardInterrupt), written_whole(path) as temporary:
        temporary.write_text('half')
        raise KeyboardInterrupt
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path / 'target')
    with written_whole(tmp_path / 'link') as temporary:
        temporary.write_text('new')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'target').read_text() == 'new'


def test_temporary_names_differ(tmp_path):
    with written_whole(tmp_path / 'a.npz') as first, written_whole(tmp_path / 'a.npz') as second:
        assert first != second
        assert first.suffix == '.npz'


@pytest.mark.parametrize('check', [check_writable, lambda path: written_whole(path).__enter__()])
def test_the_error_names_the_file_and_the_reason(tmp_path, check):
    (tmp_path / 'file').write_text('')
    with pytest.raises(WriteError, match='could not write .*/file/below: (Not a directory|File exists)'):
        check(tmp_path / 'file' / 'below')
    with pytest.raises(WriteError, match=f'could not write {tmp_path}: a folder'):
        check(tmp_path)


def test_a_full_disk_names_the_file():
    """/dev/full takes the name and refuses the bytes, but is not a regular file."""
    with pytest.raises(WriteError, match='could not write /dev/full: not a regular file'):
        check_writable('/dev/full')


def test_a_check_leaves_nothing(tmp_path):
    check_folder_writable(tmp_path / 'output')
    assert list((tmp_path / 'output').iterdir()) == []


def test_a_check_can_leave_no_folder_either(tmp_path):
    """A run that its data refuses left empty folders behind; folders that were there stay."""
    check_folder_writable(tmp_path / 'a' / 'b', create=False)
    check_writable(tmp_path / 'a' / 'b' / 'file', create=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'a').mkdir()
    check_folder_writable(tmp_path / 'a', create=False)
    assert list(tmp_path.iterdir()) == [tmp_path / 'a']
