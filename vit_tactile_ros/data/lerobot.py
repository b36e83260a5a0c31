"""Episodes of a LeRobot data set, versions 2 and 3: Parquet of frames, images in it or in videos, meta/info.json."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.data.bags.find import natural
from vit_tactile_ros.data.parquet_file import ParquetFile, image_of, label_of
from vit_tactile_ros.data.table import DataError, part_of
from vit_tactile_ros.foundation.errors import shown
from vit_tactile_ros.foundation.strict_json import parse_json
from vit_tactile_ros.inference.image_header import MAX_PIXELS

INFO = Path('meta') / 'info.json'
MAX_INFO_BYTES = 2**26  # of info.json and of tasks.jsonl
MAX_FRAMES = 10**8  # of a data set
TASK = 'task'  # the label unless another column is named: the text of the episode's task


class Episode(NamedTuple):
    number: int
    length: int  # frames
    data: Path  # Parquet file with its rows
    video: tuple[Path, int] | None  # of the camera: the file, and the frame at which the episode begins


class Row(NamedTuple):
    label: str
    group: str


class LeRobot:
    """A data set; raises DataError for one that is damaged or of an unknown version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._info = _object(path / INFO)
        version = self._info.get('codebase_version')
        if not isinstance(version, str) or version.partition('.')[0] not in ('v2', 'v3'):
            raise DataError(f'{path / INFO}: codebase_version is {shown(version)}; must be v2.x or v3.x')
        self._is_v3 = version.startswith('v3')
        self.frames = self._number('total_frames', MAX_FRAMES)
        features = self._info.get('features')
        if not isinstance(features, dict) or not all(isinstance(value, dict) for value in features.values()):
            raise DataError(f'{path / INFO}: features is {shown(features)}; must be an object of objects')
        self._kinds = {name: value.get('dtype') for name, value in features.items()}
        self._tasks: dict[int, str] | None = None

    def _number(self, name: str, highest: int, lowest: int = 0) -> int:
        value = self._info.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise DataError(f'{self.path / INFO}: {name} is {shown(value)}; must be {lowest} to {highest}')
        return value

    def camera(self, name: str = '') -> str:
        """The camera of that name, or the only one."""
        cameras = [key for key, kind in self._kinds.items() if kind in ('video', 'image')]
        if name and name not in cameras:
            raise DataError(f'{self.path} has no camera {shown(name)}; it has {shown(cameras)}')
        if not name and len(cameras) != 1:
            raise DataError(f'{self.path} has the cameras {shown(cameras)}; choose the touch sensor with --image')
        return name or cameras[0]

    def split_of(self, episode: int) -> str:
        """What `splits` of info.json ({"train": "0:40"}) says of an episode; '' if nothing."""
        splits = self._info.get('splits')
        for name, text in splits.items() if isinstance(splits, dict) else ():
            first, _, last = text.partition(':') if isinstance(text, str) and len(text) < 30 else ('', '', '')
            if first.isdecimal() and last.isdecimal() and int(first) <= episode < int(last):
                return part_of(name) or ''
        return ''

    def episodes(self, camera: str) -> Iterator[Episode]:
        """In order, with the files of this camera, which are there."""
        yield from self._episodes_3(camera) if self._is_v3 else self._episodes_2(camera)

    def _episodes_2(self, camera: str) -> Iterator[Episode]:
        size = self._number('chunks_size', MAX_FRAMES, 1)
        for number in range(self._number('total_episodes', MAX_FRAMES)):
            values = {'episode_chunk': number // size, 'episode_index': number,
                      'total_episodes': self._info['total_episodes']}
            data = self._file('data_path', values)
            with ParquetFile(data) as file:
                length = file.rows
            yield Episode(number, length, data, (self._file('video_path', values | {'video_key': camera}), 0)
                          if self._kinds[camera] == 'video' else None)

    def _episodes_3(self, camera: str) -> Iterator[Episode]:
        video = f'videos/{camera}/' if self._kinds[camera] == 'video' else ''
        columns = ['episode_index', 'length', 'data/chunk_index', 'data/file_index']
        columns += [f'{video}{part}' for part in ('chunk_index', 'file_index', 'from_timestamp') if video]
        files = sorted((self.path / 'meta' / 'episodes').rglob('*.parquet'), key=lambda one: natural(one))
        if not files:
            raise DataError(f'{self.path} has no meta/episodes/*/*.parquet, which version 3 needs')
        rate = self._rate()
        for path in files:
            with ParquetFile(path) as file:
                for place, row in file.read(columns):
                    for name, value in row.items():
                        is_number = isinstance(value, (int, float)) and 0 <= value <= MAX_FRAMES
                        if not is_number or (isinstance(value, float) and not name.endswith('from_timestamp')):
                            raise DataError(f'{path}, row {place}, column {name} is {shown(value)}; must be a number '
                                            f'from 0 to {MAX_FRAMES}')
                    data = self._file('data_path', {'chunk_index': row['data/chunk_index'],
                                                    'file_index': row['data/file_index']})
                    yield Episode(row['episode_index'], row['length'], data, (
                        self._file('video_path', {'video_key': camera, 'chunk_index': row[f'{video}chunk_index'],
                                                  'file_index': row[f'{video}file_index']}),
                        round(row[f'{video}from_timestamp'] * rate)) if video else None)

    def _rate(self) -> float:
        rate = self._info.get('fps')
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate <= 10_000:
            raise DataError(f'{self.path / INFO}: fps is {shown(rate)}; must be above 0 and at most 10000')
        return float(rate)

    def _file(self, name: str, values: dict[str, Any]) -> Path:
        """The path that a pattern of info.json gives, inside the data set."""
        pattern = self._info.get(name)
        try:
            if not isinstance(pattern, str) or any(
                    key and not key.isidentifier() for _, key, _, _ in string.Formatter().parse(pattern)):
                raise ValueError('must be a pattern such as data/chunk-{episode_chunk:03d}/...')
            if any(len(width) > 4 for _, _, width, _ in string.Formatter().parse(pattern) if width):
                raise ValueError('a number has at most 3 digits of width')
            place = Path(pattern.format(**values))
            if place.is_absolute() or '..' in place.parts:
                raise ValueError('must be inside the data set')
            is_there = (self.path / place).is_file()
        except (ValueError, LookupError, TypeError, OSError) as error:
            raise DataError(f'{self.path / INFO}: {name} is {shown(pattern)}: {error}') from error
        if not is_there:
            raise DataError(f'{self.path / INFO}: {name} {shown(pattern)} gives {shown(str(place))}, which is not '
                            'there: was it fetched (git lfs pull)?')
        return self.path / place

    def images(self, camera: str, label: str, group: str,
               ) -> Iterator[tuple[Episode, Iterator[tuple[int, NDArray[np.uint8], Row]]]]:
        """Each episode with (number of the frame, RGB image, label and group) of its frames, in order.

        Take all frames of an episode before the next one. Each file is read once, since in version 3 it has many
        episodes; raises DataError where their rows are not in the order of the episodes, or incomplete.
        """
        wanted = ['episode_index', 'frame_index', *([] if self._kinds[camera] == 'video' else [camera]),
                  *([label] if label else ['task_index']), *([group] if group else [])]
        with contextlib.ExitStack() as open_files:
            rows = open_files.enter_context(_Rows(list(dict.fromkeys(wanted))))
            video = open_files.enter_context(_Video(self._codec(camera)))
            for episode in self.episodes(camera):
                yield episode, self._images(episode, camera, label, group, rows, video)
            rows.check_end()

    def _images(self, episode: Episode, camera: str, label: str, group: str, rows: _Rows, video: _Video,
                ) -> Iterator[tuple[int, NDArray[np.uint8], Row]]:
        images = None if episode.video is None else video.read(*episode.video, episode.length)
        for number, (place, row) in enumerate(rows.of(episode)):
            where = f'{episode.data}, row {place}, column'
            image = image_of(row[camera], f'{where} {camera}') if images is None else next(images)
            text = (label_of(row[label], None, f'{where} {label}') if label
                    else self.task(row['task_index'], f'{where} task_index'))
            own = label_of(row[group], None, f'{where} {group}') if group else ''
            yield number, image, Row(text, own)

    def _codec(self, camera: str) -> str:
        info = self._info['features'][camera].get('info')
        codec = info.get('video.codec') if isinstance(info, dict) else ''
        return codec[:40] if isinstance(codec, str) else ''

    def task(self, index: Any, where: str) -> str:
        """The text of a task; `where` names the index in errors."""
        if self._tasks is None:
            self._tasks = self._read_tasks()
        if not isinstance(index, int) or index not in self._tasks:
            raise DataError(f'{where} is {shown(index)}; must be a task of meta/tasks: '
                            f'{shown(list(self._tasks)[:20])}. Choose another label with --label COLUMN')
        return self._tasks[index]

    def _read_tasks(self) -> dict[int, str]:
        if (parquet := self.path / 'meta' / 'tasks.parquet').is_file():
            with ParquetFile(parquet) as file:
                name = 'task' if 'task' in file.columns else '__index_level_0__'  # the index of pandas
                tasks: dict[int, str] = {}
                for place, row in file.read(['task_index', name]):
                    where = f'{parquet}, row {place}, column'
                    if not isinstance(index := row['task_index'], int) or isinstance(index, bool) or index in tasks:
                        raise DataError(f'{where} task_index is {shown(index)}; must be a whole number, each once')
                    tasks[index] = label_of(row[name], None, f'{where} {name}')
                return tasks
        path = self.path / 'meta' / 'tasks.jsonl'
        found: dict[int, str] = {}
        for line, text in enumerate(_text(path).splitlines(), 1):
            if not text.strip():
                continue
            try:
                value = parse_json(text)
                index, task = value['task_index'], value['task']
                if not isinstance(index, int) or not isinstance(task, str):
                    raise ValueError('of other types')
                found[index] = task.strip()
            except (ValueError, LookupError, TypeError) as error:
                raise DataError(f'{path}, line {line} is {shown(text)}; must be {{"task_index": 0, "task": "..."}}'
                                ) from error
        return found


class _Rows(contextlib.ExitStack):
    """The rows of one Parquet file after the other, in the order of the episodes."""

    def __init__(self, columns: list[str]) -> None:
        super().__init__()
        self._columns = columns
        self._path: Path | None = None
        self._rows: Iterator[tuple[int, dict[str, Any]]] = iter(())

    def of(self, episode: Episode) -> Iterator[tuple[int, dict[str, Any]]]:
        """(row, values) of each frame; raises DataError if they are not the next ones, or not all there."""
        if episode.data != self._path:
            self.check_end()
            self.close()
            self._rows, self._path = self.enter_context(ParquetFile(episode.data)).read(self._columns), episode.data
        for number in range(episode.length):
            expected = f'must be frame {number} of episode {episode.number}, which has {episode.length} frames'
            place, row = next(self._rows, (-1, {}))
            if not row:
                raise DataError(f'{episode.data} has too few rows; the next one {expected}')
            found = row['episode_index'], row['frame_index']
            if found != (episode.number, number):
                raise DataError(f'{episode.data}, row {place} is of episode_index {shown(found[0])} and frame_index '
                                f'{shown(found[1])}; {expected}, in the order of meta/episodes')
            yield place, row

    def check_end(self) -> None:
        """Raises DataError if the file has rows that belong to none of its episodes."""
        if (left := next(self._rows, None)) is not None:
            raise DataError(f'{self._path}, row {left[0]} is of episode_index {shown(left[1]["episode_index"])}; it '
                            'must be the end of the file: the episodes before it have no more frames')


class _Video(contextlib.ExitStack):
    """The images of one video after the other, each read once from its start: seeking may not be exact."""

    def __init__(self, codec: str) -> None:
        super().__init__()
        self._codec = codec
        self._path: Path | None = None
        self._next = 0  # the frame that is read next

    def read(self, path: Path, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
        """`count` images from the frame `first` on."""
        if path != self._path or first < self._next:
            self.close()
            self._video, self._path, self._next = cv2.VideoCapture(str(path)), path, 0
            self.callback(self._video.release)
            size = [self._video.get(one) for one in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
            if size[0] * size[1] > MAX_PIXELS:
                raise DataError(f'{path} has images of more than {MAX_PIXELS} pixels')
        while self._next < first and self._video.grab():
            self._next += 1
        for number in range(count):
            read, image = self._video.read()
            if not read:
                problem = f'; it is in {self._codec}, which not every build of OpenCV decodes: convert it to H.264' if (
                    self._codec and not number) else ''
                raise DataError(f'{path}: frame {first + number} cannot be read, and {count} from {first} on are '
                                f'needed{problem}')
            self._next += 1
            yield np.ascontiguousarray(image[:, :, ::-1])


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_INFO_BYTES:
            raise DataError(f'{path} has {path.stat().st_size} bytes; must have at most {MAX_INFO_BYTES}')
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path} cannot be read: {getattr(error, "strerror", "") or error}') from error


def _object(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(_text(path))
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(f'{path} is not JSON: {error}') from error
    if not isinstance(value, dict):
        raise DataError(f'{path} is {shown(value)}; must be an object')
    return value
