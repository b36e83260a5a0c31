"""Small Parquet files and LeRobot data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CAMERA = 'observation.images.digit'


def png(level: int, size: tuple[int, int] = (24, 32)) -> bytes:
    """An image of one grey level, but for its red corner."""
    image = np.full((*size, 3), level, np.uint8)
    image[:4, :4] = (0, 0, 255)
    return cv2.imencode('.png', image)[1].tobytes()


def write_parquet(path: Path, columns: dict[str, list[Any]], names: dict[str, list[str]] | None = None) -> Path:
    """names: of the columns that are class labels, as the package datasets describes them."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(columns)
    if names:
        features = {name: {'names': values, '_type': 'ClassLabel'} for name, values in names.items()}
        table = table.replace_schema_metadata({'huggingface': json.dumps({'info': {'features': features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)
    return path


def images(levels: list[int]) -> list[dict[str, Any]]:
    return [{'bytes': png(level), 'path': None} for level in levels]


def write_video(path: Path, levels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 10, (32, 24))
    for level in levels:
        writer.write(np.full((24, 32, 3), level, np.uint8))
    writer.release()


def write_lerobot(folder: Path, version: int, episodes: list[list[int]], kind: str = 'video') -> Path:
    """A data set whose frames have these grey levels; task 0 is 'hold it', task 1 'let go' (above level 100)."""
    is_v3 = version == 3
    info: dict[str, Any] = {
        'codebase_version': f'v{version}.0', 'fps': 10, 'total_episodes': len(episodes), 'chunks_size': 1000,
        'total_frames': sum(map(len, episodes)), 'splits': {'train': f'0:{len(episodes)}'},
        'features': {CAMERA: {'dtype': kind}, 'observation.state': {'dtype': 'float32'}},
        'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet' if is_v3 else
                     'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
        'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4' if is_v3 else
                      'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4'}
    (folder / 'meta').mkdir(parents=True)
    (folder / 'meta' / 'info.json').write_text(json.dumps(info))
    tasks = ['hold it', 'let go']
    rows = [{'episode_index': [n] * len(levels), 'frame_index': list(range(len(levels))),
             'task_index': [int(level > 100) for level in levels], 'contact': [level <= 100 for level in levels]}
            | ({CAMERA: images(levels)} if kind == 'image' else {}) for n, levels in enumerate(episodes)]
    if is_v3:
        joined = {name: sum((one[name] for one in rows), []) for name in rows[0]}
        write_parquet(folder / 'data/chunk-000/file-000.parquet', joined)
        write_parquet(folder / 'meta/tasks.parquet', {'task_index': [0, 1], '__index_level_0__': tasks})
        starts = np.cumsum([0, *map(len, episodes)])[:-1].tolist()
        place = {f'videos/{CAMERA}/chunk_index': [0] * len(episodes),
                 f'videos/{CAMERA}/file_index': [0] * len(episodes),
                 f'videos/{CAMERA}/from_timestamp': [start / 10 for start in starts]} if kind == 'video' else {}
        write_parquet(folder / 'meta/episodes/chunk-000/file-000.parquet', {
            'episode_index': list(range(len(episodes))), 'length': list(map(len, episodes)),
            'data/chunk_index': [0] * len(episodes), 'data/file_index': [0] * len(episodes)} | place)
        if kind == 'video':
            write_video(folder / f'videos/{CAMERA}/chunk-000/file-000.mp4', sum(episodes, []))
        return folder
    (folder / 'meta' / 'tasks.jsonl').write_text(''.join(
        json.dumps({'task_index': n, 'task': task}) + '\n' for n, task in enumerate(tasks)))
    for number, levels in enumerate(episodes):
        write_parquet(folder / f'data/chunk-000/episode_{number:06d}.parquet', rows[number])
        if kind == 'video':
            write_video(folder / f'videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4', levels)
    return folder

