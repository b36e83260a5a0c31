"""Parquet files with image columns and LeRobot data sets through extract: images, labels, groups, errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_parquet import CAMERA, images, png, write_lerobot, write_parquet

from vit_tactile_ros import extract
from vit_tactile_ros.data.parquet_file import MAX_PART_BYTES, ParquetFile
from vit_tactile_ros.data.touches import load_touches
from vit_tactile_ros.foundation.errors import MissingPackageError
from vit_tactile_ros.inference.image_file import read_image

pytest.importorskip('pyarrow', reason='Parquet needs the optional package pyarrow')


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = extract.main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def level_of(path: Path) -> int:
    """The grey level of most of an image."""
    return int(np.median(read_image(path)))


def extracted(capsys, folder: Path, *arguments):
    code, output, error = run(capsys, *arguments, '--output', folder)
    assert code == 0, error
    return load_touches(Path(json.loads(output.splitlines()[-1])['table']))


def test_a_data_set_of_hugging_face(tmp_path, capsys):
    """Class names from the numbers of a ClassLabel, splits from the names of the files, -1 as no label."""
    names = {'label': ['smooth', 'rough']}
    write_parquet(tmp_path / 'data/train-00000-of-00002.parquet', {
        'image': images([10, 20, 30]), 'label': [0, 1, -1], 'group': ['a', 'b', 'b'],
        'reference': images([1, 2, 2])}, names)
    write_parquet(tmp_path / 'data/train-00001-of-00002.parquet', {
        'image': images([40]), 'label': [1], 'group': ['c'], 'reference': images([2])}, names)
    write_parquet(tmp_path / 'data/test-00000-of-00001.parquet', {
        'image': images([50]), 'label': [0], 'group': ['d'], 'reference': images([1])}, names)
    table = extracted(capsys, tmp_path / 'out', tmp_path / 'data')
    found = [(level_of(t.image.path), table.class_names[t.label], t.group, t.split, level_of(t.reference.path))
             for t in table.touches]
    assert sorted(found) == [(10, 'smooth', 'a', 'train', 1), (20, 'rough', 'b', 'train', 2),
                             (40, 'rough', 'c', 'train', 2), (50, 'smooth', 'd', 'test', 1)]
    assert len(list((tmp_path / 'out' / 'references').iterdir())) == 2
    np.testing.assert_array_equal(read_image(table.touches[0].image.path)[0, 0], (255, 0, 0))  # not BGR


def test_columns_of_other_names(tmp_path, capsys):
    """Images as bytes without a path, labels as text, two image columns, and only one in two images."""
    write_parquet(tmp_path / 'a.parquet', {
        'left': [png(n) for n in range(10, 90, 10)], 'right': [png(n) for n in range(110, 190, 10)],
        'material': ['wood', 'wood', 'wood', 'wood', 'steel', 'steel', 'steel', None]})
    code, _, error = run(capsys, tmp_path / 'a.parquet', '--label', 'material', '--output', tmp_path / 'x')
    assert code == 2 and "['left', 'right']" in error and '--image' in error
    table = extracted(capsys, tmp_path / 'out', tmp_path / 'a.parquet', '--image', 'right', '--label', 'material',
                      '--every', '2')
    assert [(level_of(t.image.path), table.class_names[t.label], t.group) for t in table.touches] == [
        (110, 'wood', ''), (130, 'wood', ''), (150, 'steel', ''), (170, 'steel', '')]


def refused(capsys, folder: Path, *arguments) -> str:
    code, _, error = run(capsys, *arguments, '--output', folder)
    assert code == 2 and not folder.exists()
    return error


def test_an_image_without_a_group_among_others(tmp_path, capsys):
    """One row without a group left out the column group of all, so that images of one object got into both parts; the
    last lines still counted the groups."""
    levels = images([10] * 4)
    path = write_parquet(tmp_path / 'a.parquet', {
        'image': levels, 'label': list('abab'), 'group': ['x', 'x', None, 'y'], 'object': [None, 'p', 'p', 'q']})
    assert f'{path}, row 2 has no group, but {path}, row 0 has one' in refused(capsys, tmp_path / 'x', path)
    error = refused(capsys, tmp_path / 'x', path, '--group', 'object')
    assert f'{path}, row 0 has no object, which --group names' in error
    other = write_parquet(tmp_path / 'b.parquet', {'image': levels, 'label': list('abab')})
    assert f'{other}, row 0 has no group' in refused(capsys, tmp_path / 'x', other, path)
    code, output, _ = run(capsys, other, '--output', tmp_path / 'out')
    assert code == 0 and '4 images without groups' in output
    assert (tmp_path / 'out' / 'touches.csv').read_text().startswith('image,reference,label\n')
    data = write_lerobot(tmp_path / 'data', 2, [[20, 150, 20]], 'image')
    rows = {'episode_index': [0] * 3, 'frame_index': [0, 1, 2], 'task_index': [0, 1, 0], CAMERA: images([20, 150, 20]),
            'object': ['p', '', 'p']}
    write_parquet(data / 'data/chunk-000/episode_000000.parquet', rows)
    assert 'episode 0, row 1 has no object' in refused(capsys, tmp_path / 'x', data, '--group', 'object')


def test_a_file_without_a_part_among_others(tmp_path, capsys):
    """One file without a part in its name left out the column split of all: images of the test were trained on."""
    for name in ('train', 'test', 'more'):
        write_parquet(tmp_path / 'data' / f'{name}-0.parquet', {'image': images([10] * 2), 'label': list('ab')})
    error = refused(capsys, tmp_path / 'x', tmp_path / 'data')
    assert 'more-0.parquet has no part in its name' in error and 'test-0.parquet has one' in error
    (tmp_path / 'data' / 'more-0.parquet').unlink()
    assert {touch.split for touch in extracted(capsys, tmp_path / 'out', tmp_path / 'data').touches} == {
        'train', 'test'}


@pytest.mark.parametrize('version', [2, 3])
@pytest.mark.parametrize('kind', ['video', 'image'])
def test_lerobot_episodes(tmp_path, capsys, version, kind):
    """Frames of the next episode under the labels of this one; the first five are the reference of an episode."""
    episodes = [[20, 20, 20, 20, 20, 60, 140, 180], [40] * 6 + [160]]
    data = write_lerobot(tmp_path / 'data', version, episodes, kind)
    table = extracted(capsys, tmp_path / 'out', data)
    assert table.class_names == ('hold it', 'let go') and not table.has_splits
    assert sorted({(t.group, level_of(t.reference.path) // 10 * 10) for t in table.touches}) == [
        ('episode 0', 20), ('episode 1', 40)] or kind == 'video'
    found: dict[str, list[int]] = {'episode 0': [], 'episode 1': []}
    for touch in table.touches:
        level = level_of(touch.image.path)
        found[touch.group].append(level)
        assert table.class_names[touch.label] == ('let go' if level > 100 else 'hold it')
    for own, levels in zip(found.values(), episodes, strict=True):
        np.testing.assert_allclose(own, levels, atol=4 if kind == 'video' else 0)
    for touch in table.touches:
        assert abs(level_of(touch.reference.path) - (20 if touch.group == 'episode 0' else 40)) <= 4
    named = extracted(capsys, tmp_path / 'held', data, '--label', 'contact', '--image', CAMERA)
    assert named.class_names == ('false', 'true') and len(named) == 15


def test_names_cannot_leave_the_folder(tmp_path, capsys):
    hostile = ['../x', '/etc/x', 'references', 'touches.csv', 'a\nb', 'é' * 200]
    write_parquet(tmp_path / 'a.parquet', {'image': images([10] * 6), 'label': hostile, 'group': hostile[::-1]})
    code, _, error = run(capsys, tmp_path / 'a.parquet', '--output', tmp_path / 'in' / 'out')
    assert code == 0, error
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.parquet', 'in']
    assert [p.name for p in (tmp_path / 'in').iterdir()] == ['out']


def broken(levels, value):
    found = images(levels)
    found[2] = value
    return found


@pytest.mark.parametrize(('columns', 'named'), [
    ({'image': broken([10] * 4, {'bytes': b'no image', 'path': None}), 'label': list('abab')}, 'row 2, column image'),
    ({'image': broken([10] * 4, {'bytes': None, 'path': '../../etc/passwd'}), 'label': list('abab')},
     'row 2, column image has no bytes'),
    ({'image': broken([10] * 4, {'bytes': png(10)[:60], 'path': None}), 'label': list('abab')}, 'row 2, column image'),
    ({'image': images([10] * 4), 'label': [0.5, 1, 2, 3]}, 'row 0, column label is 0.5'),
    ({'image': images([10] * 4), 'name': list('abab')}, "no column 'label'"),
    ({'image': images([10] * 4), 'label': [None] * 4}, 'no image has a label'),
    ({'label': list('abab')}, "no image column 'image'")])
def test_errors_name_row_and_column(tmp_path, capsys, columns, named):
    write_parquet(tmp_path / 'a.parquet', columns)
    code, _, error = run(capsys, tmp_path / 'a.parquet', '--output', tmp_path / 'out')
    assert code == 2 and named in error and 'a.parquet' in error
    assert not (tmp_path / 'out').exists()


def test_a_number_without_a_name(tmp_path, capsys):
    write_parquet(tmp_path / 'a.parquet', {'image': images([10] * 2), 'label': [0, 7]}, {'label': ['x', 'y']})
    code, _, error = run(capsys, tmp_path / 'a.parquet', '--output', tmp_path / 'out')
    assert code == 2 and 'row 1, column label is 7' in error and '2 class names' in error


def test_damaged_and_huge_files(tmp_path, capsys, monkeypatch):
    path = write_parquet(tmp_path / 'a.parquet', {'image': images([10] * 4), 'label': list('abab')})
    (tmp_path / 'cut.parquet').write_bytes(path.read_bytes()[:-100])
    code, _, error = run(capsys, tmp_path / 'cut.parquet', '--output', tmp_path / 'out')
    assert code == 2 and 'cannot be read as Parquet' in error
    assert MAX_PART_BYTES >= 2**30
    monkeypatch.setattr('vit_tactile_ros.data.parquet_file.MAX_PART_BYTES', 100)
    code, _, error = run(capsys, path, '--output', tmp_path / 'out')
    assert code == 2 and 'row group 0 has' in error and not (tmp_path / 'out').exists()


def test_a_value_of_a_dictionary_in_every_row(tmp_path):
    """60 rows that refer to one value of 30 MB, a file of 2 kB, were unpacked together and took 4.6 GB."""
    import pyarrow
    import pyarrow.parquet

    size = 2_000_000
    path, value = tmp_path / 'a.parquet', bytes(size)
    pyarrow.parquet.write_table(pyarrow.table({'image': [{'bytes': value, 'path': None}] * 60, 'label': ['a'] * 60}),
                                path, compression='zstd', dictionary_pagesize_limit=2**30)
    before = pyarrow.total_allocated_bytes()
    with ParquetFile(path) as file:
        rows = file.read(['image', 'label'])
        assert path.stat().st_size < 3000 and len(next(rows)[1]['image']['bytes']) == size
        assert pyarrow.total_allocated_bytes() - before < 10 * size
        assert len(list(rows)) == 59


def test_a_huge_row(tmp_path, capsys, monkeypatch):
    path = write_parquet(tmp_path / 'a.parquet', {'image': images([10] * 2), 'label': ['a', 'b' * 5000]})
    monkeypatch.setattr('vit_tactile_ros.data.parquet_file.MAX_ROW_BYTES', 4000)
    assert f'{path}, row 1 has 0 MB; must have at most 0 MB' in refused(capsys, tmp_path / 'out', path)
    lists = write_parquet(tmp_path / 'b.parquet', {'image': images([10] * 2), 'label': [['a', 'b'], ['a']]})
    assert 'row group 0 has 3 values in 2 rows' in refused(capsys, tmp_path / 'out', lists)


def change(data: Path, **values) -> None:
    info = json.loads((data / 'meta/info.json').read_text())
    (data / 'meta/info.json').write_text(json.dumps(info | values))


@pytest.mark.parametrize(('values', 'named'), [
    ({'codebase_version': 'v1.6'}, "codebase_version is 'v1.6'"), ({'codebase_version': 3}, 'codebase_version is 3'),
    ({'total_frames': -1}, 'total_frames is -1'),
    ({'features': 3}, 'features is 3'), ({'features': {}}, 'has the cameras []'),
    ({'data_path': '../{episode_index}.parquet'}, 'must be inside the data set'),
    ({'data_path': '/etc/passwd'}, 'must be inside the data set'),
    ({'data_path': '{episode_index.__class__}'}, 'must be a pattern'),
    ({'data_path': '{episode_index:0999999999d}'}, 'at most 3 digits'), ({'data_path': '{nothing}'}, 'data_path is'),
    ({'video_path': 'videos/{episode_index}.mp4'}, 'not there'), ({'chunks_size': 0}, 'chunks_size is 0')])
def test_a_damaged_info(tmp_path, capsys, values, named):
    data = write_lerobot(tmp_path / 'data', 2, [[20] * 6, [150] * 6])
    change(data, **values)
    code, _, error = run(capsys, data, '--output', tmp_path / 'out')
    assert code == 2 and named in error and not (tmp_path / 'out').exists()


def test_a_short_video(tmp_path, capsys):
    data = write_lerobot(tmp_path / 'data', 2, [[20] * 6, [150] * 9])
    videos = sorted((data / 'videos').rglob('*.mp4'))
    shutil.copy(videos[0], videos[1])
    code, _, error = run(capsys, data, '--output', tmp_path / 'out')
    assert code == 2 and 'frame 6 cannot be read' in error and videos[1].name in error


def rewrite(path: Path, **changes) -> None:
    """A Parquet file with other values in some columns."""
    import pyarrow.parquet

    write_parquet(path, pyarrow.parquet.read_table(path).to_pydict() | changes)


@pytest.mark.parametrize(('version', 'changes', 'named'), [
    (2, {'episode_index': [0, 0, 1, 0, 0, 0]}, 'row 2 is of episode_index 1 and frame_index 2; must be frame 2'),
    (2, {'frame_index': [0, 1, 2, 4, 3, 5]}, 'row 3 is of episode_index 0 and frame_index 4; must be frame 3'),
    (2, {'frame_index': [1, 2, 3, 4, 5, 6]}, 'row 0 is of episode_index 0 and frame_index 1'),
    (3, {'episode_index': [0] * 6 + [2] + [1] * 5}, 'row 6 is of episode_index 2 and frame_index 0; must be frame 0'),
    (3, {'episode_index': [0] * 5 + [1] * 7}, 'row 5 is of episode_index 1')])
def test_rows_that_are_not_those_of_the_episode(tmp_path, capsys, version, changes, named):
    """Rows of other episodes were left out, and frame_index was not compared: labels were given to other images."""
    data = write_lerobot(tmp_path / 'data', version, [[20] * 5 + [150], [150] * 6])
    rewrite(sorted((data / 'data').rglob('*.parquet'))[0], **changes)
    assert named in refused(capsys, tmp_path / 'out', data)


@pytest.mark.parametrize(('length', 'named'), [(5, 'row 11 is of episode_index 1; it must be the end of the file'),
                                               (7, 'has too few rows; the next one must be frame 6 of episode 1')])
def test_a_length_that_is_not_that_of_the_rows(tmp_path, capsys, length, named):
    """Rows after the end were left out; missing ones were not noticed."""
    data = write_lerobot(tmp_path / 'data', 3, [[20] * 5 + [150], [150] * 6], 'image')
    rewrite(data / 'meta/episodes/chunk-000/file-000.parquet', length=[6, length])
    assert named in refused(capsys, tmp_path / 'out', data)


@pytest.mark.parametrize('index', ['x', None, 0])
def test_a_task_without_a_number(tmp_path, capsys, index):
    """A text ended in a traceback, and a missing number was task 0."""
    data = write_lerobot(tmp_path / 'data', 3, [[20] * 5 + [150]])
    write_parquet(data / 'meta/tasks.parquet', {'task_index': ['0', 'x'] if index == 'x' else [0, index],
                                                'task': ['hold it', 'let go']})
    shown = "row 0, column task_index is '0'" if index == 'x' else f'row 1, column task_index is {index}'
    assert shown in refused(capsys, tmp_path / 'out', data)


@pytest.mark.parametrize('version', [2, 3])
def test_the_videos_of_another_camera(tmp_path, capsys, version):
    """A data set was refused because a video of a camera that is not read was not there."""
    data = write_lerobot(tmp_path / 'data', version, [[20] * 5 + [150], [40] * 5 + [160]])
    other = {'observation.images.front': {'dtype': 'video'}, CAMERA: {'dtype': 'video'}}
    change(data, features=other)
    assert len(extracted(capsys, tmp_path / 'out', data, '--image', CAMERA)) == 12
    shutil.rmtree(data / 'videos')
    assert 'not there' in refused(capsys, tmp_path / 'x', data, '--image', CAMERA)


def test_each_file_of_version_3_is_read_once(tmp_path, capsys, monkeypatch):
    """Each episode read the Parquet file, and the video, from the start."""
    episodes = [[10 * n] * 6 + [150] for n in range(1, 9)]
    data = write_lerobot(tmp_path / 'data', 3, episodes)
    opened: list[str] = []

    class Counted(ParquetFile):
        def __init__(self, path: Path) -> None:
            opened.append(f'{path.parts[-3]}/{path.name}')
            super().__init__(path)

    class Capture:
        def __new__(cls, path: str) -> cv2.VideoCapture:
            opened.append('video')
            return capture(path)

    capture = cv2.VideoCapture
    monkeypatch.setattr('vit_tactile_ros.data.lerobot.ParquetFile', Counted)
    monkeypatch.setattr('vit_tactile_ros.data.lerobot.cv2.VideoCapture', Capture)
    table = extracted(capsys, tmp_path / 'out', data)
    assert opened.count('data/file-000.parquet') == opened.count('video') == 1
    levels = [level_of(touch.image.path) for touch in table.touches]
    np.testing.assert_allclose(np.sort(levels), np.sort(np.concatenate(episodes)), atol=4)


def test_a_class_label_that_is_missing(tmp_path, capsys):
    """It was an error, although rows without a label are left out."""
    path = write_parquet(tmp_path / 'a.parquet', {'image': images([10, 20, 30]), 'label': [0, None, 1]},
                         {'label': ['x', 'y']})
    assert [level_of(t.image.path) for t in extracted(capsys, tmp_path / 'out', path).touches] == [10, 30]


def test_bags_beside_a_parquet_file(tmp_path, capsys):
    """Only the Parquet file was read, and the bags were ignored with exit status 0."""
    from toy_bags import write_bag

    folder = tmp_path / 'recordings'
    write_bag(folder / 'bag', {'left': ['none'] * 3})
    write_parquet(folder / 'stray.parquet', {'image': images([10] * 2), 'label': list('ab')})
    error = refused(capsys, tmp_path / 'out', folder)
    assert f'{folder} holds bags ({folder / "bag"}) and Parquet files ({folder / "stray.parquet"})' in error


def test_flags_of_another_format(tmp_path, capsys):
    path = write_parquet(tmp_path / 'a.parquet', {'image': images([10] * 2), 'label': list('ab')})
    for flags in (('--motion', '0.1'), ('--labels', path)):
        code, _, error = run(capsys, path, *flags, '--output', tmp_path / 'out')
        assert code == 2 and 'are for bags' in error
    code, _, error = run(capsys, tmp_path, '--output', tmp_path / 'a' / 'out', '--image', 'none')
    assert code == 2 and "no image column 'none'" in error


def test_without_pyarrow(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / 'a.parquet', {'label': ['a']})
    monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
    with pytest.raises(MissingPackageError, match='parquet'):
        ParquetFile(path)
