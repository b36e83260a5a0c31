"""Files that are written whole or not at all."""

import os
import stat

import pytest

from vit_tactile_ros.foundation.files import (
    WriteError,
    check_folder_writable,
    check_writable,
    file_problem,
    written_whole,
)


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


@pytest.mark.parametrize(('make', 'problem'), [
    (lambda folder: str(folder / 'none'), 'No such file'),
    (lambda folder: str(folder), 'a folder'),
    (lambda folder: os.mkfifo(folder / 'pipe') or str(folder / 'pipe'), 'not a regular file'),
    (lambda folder: str(folder / 'file' / 'below'), 'Not a directory'),
    (lambda folder: 'x' * 5000, 'File name too long'),
    (lambda folder: 'a\0b', 'null byte'),
    (lambda folder: '~no_such_user/file', "no user 'no_such_user'"),
    (lambda folder: (folder / 'loop').symlink_to(folder / 'loop') or str(folder / 'loop'), 'symbolic links'),
    (lambda folder: '\udcff', 'No such file'),
    (lambda folder: '', 'a folder'),
])
def test_a_path_that_is_no_file_is_explained(tmp_path, make, problem):
    """Looking at a path raises OSError, ValueError or RuntimeError by what is wrong with it; callers died of it."""
    (tmp_path / 'file').write_text('')
    assert problem in file_problem(make(tmp_path))


def test_a_file_has_no_problem(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert file_problem(str(tmp_path / 'file')) == '' == file_problem('~/file')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'file').chmod(0)
    assert file_problem(str(tmp_path / 'file')) == 'Permission denied'
