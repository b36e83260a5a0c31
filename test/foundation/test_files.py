"""Files that are written whole or not at all."""

import os
import re
import stat
from pathlib import Path

import pytest

from vit_tactile_ros.foundation import files
from vit_tactile_ros.foundation.files import (
    WriteError,
    check_folder_writable,
    check_writable,
    file_problem,
    folder_written_whole,
    leftovers,
    temporary_beside,
    written_whole,
)

PACKAGE = Path(files.__file__).parents[1]


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


def test_an_exception_keeps_the_old_file_and_nothing_else(tmp_path):
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
    """/dev/full can be opened but not written; it is not a regular file."""
    with pytest.raises(WriteError, match='could not write /dev/full: not a regular file'):
        check_writable('/dev/full')


def test_a_check_leaves_nothing(tmp_path):
    check_folder_writable(tmp_path / 'output')
    assert list((tmp_path / 'output').iterdir()) == []


@pytest.mark.parametrize('mask', [0o022, 0o077])
def test_a_folder_appears_whole(tmp_path, mask):
    """Images read while they are still being written, or that nobody else may read."""
    before = os.umask(mask)
    try:
        with folder_written_whole(tmp_path / 'a' / 'out') as folder:
            (folder / 'deep').mkdir()
            (folder / 'deep' / 'file').write_text('x')
            assert not (tmp_path / 'a' / 'out').exists()
    finally:
        os.umask(before)
    assert [p.name for p in (tmp_path / 'a').iterdir()] == ['out']
    assert (tmp_path / 'a' / 'out' / 'deep' / 'file').read_text() == 'x'
    assert stat.S_IMODE((tmp_path / 'a' / 'out').stat().st_mode) == 0o777 & ~mask
    with pytest.raises(WriteError, match=f'could not write {tmp_path}/a/out: Directory not empty'):
        with folder_written_whole(tmp_path / 'a' / 'out') as folder:
            pass
    assert [p.name for p in (tmp_path / 'a').iterdir()] == ['out']


@pytest.mark.parametrize('error', [KeyboardInterrupt(), WriteError(Path('inner'), OSError(28, 'No space left')),
                                   ValueError('of the data')])
def test_a_folder_that_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)) as raised, folder_written_whole(tmp_path / 'out') as folder:
        (folder / 'file').write_text('half')
        raise error
    assert list(tmp_path.iterdir()) == []
    if isinstance(error, WriteError):
        assert str(raised.value) == f'could not write {tmp_path}/out: No space left'


def test_leftovers_of_killed_processes_are_known(tmp_path):
    """Another file removed by mistake."""
    path = tmp_path / 'a.b[1].npz'
    left = temporary_beside(path)
    for other in (left, path, tmp_path / '.a.b[1].mine.npz', temporary_beside(tmp_path / 'a.npz')):
        other.touch()
    assert leftovers(path) == [left]


def test_a_file_can_be_written_without_waiting_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'fsync', lambda handle: pytest.fail('waited for the disk'))
    with written_whole(tmp_path / 'file', sync=False) as temporary:
        temporary.write_text('x')
    assert (tmp_path / 'file').read_text() == 'x'


def test_long_names_can_be_written(tmp_path):
    """A temporary name longer than the file system allows."""
    for path in (tmp_path / ('x' * 250 + '.npz'), tmp_path / ('ß' * 120 + '.json')):
        with written_whole(path) as temporary:
            temporary.write_text('x')
        assert path.read_text() == 'x'


def test_files_are_written_by_one_writer():
    """Temporary names that can be guessed, modes that ignore the umask, incomplete files."""
    forbidden = re.compile(r'os\.replace|os\.rename|\.rename\(|\.replace\((?:path|folder|current|target)\)|mkstemp|'
                           r'NamedTemporary|chmod|\.tmp\b|(?<!functools)\.partial\b|0o644|save_file')
    # One keeps the state before the current one, and removes what earlier releases left under a name of theirs; the
    # other moves files within a folder of `folder_written_whole`.
    allowed = {'foundation/files.py', 'training/state.py', 'data/bags/writing.py'}
    found = [f'{path.relative_to(PACKAGE)}:{number}: {line.strip()}'
             for path in sorted(PACKAGE.rglob('*.py')) if str(path.relative_to(PACKAGE)) not in allowed
             for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1) if forbidden.search(line)]
    assert found == [], 'use foundation.files.written_whole or folder_written_whole'


def test_a_check_can_remove_its_folder(tmp_path):
    """A run refused because of its data left empty folders behind; existing folders must remain."""
    check_folder_writable(tmp_path / 'a' / 'b', create=False)
    check_writable(tmp_path / 'a' / 'b' / 'file', create=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'a').mkdir()
    check_folder_writable(tmp_path / 'a', create=False)
    assert list(tmp_path.iterdir()) == [tmp_path / 'a']


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
def test_a_path_that_is_not_a_file_is_explained(tmp_path, make, problem):
    """Checking a path raises OSError, ValueError or RuntimeError, depending on the problem; some callers crashed."""
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
