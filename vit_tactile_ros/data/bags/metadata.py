"""What rosbag2 stores about a recording in metadata.yaml and in the files: files, topics, counts, times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_tactile_ros.data.plain_yaml import load_yaml, read_yaml
from vit_tactile_ros.foundation.errors import one_line, shown


@dataclass(frozen=True)
class Metadata:
    """The parts that a reader needs; missing parts are empty."""

    files: tuple[str, ...]  # names without folders, in order
    counts: dict[tuple[str, str], int]  # messages by topic and type
    start: int | None  # ns; of the first message
    digests: dict[str, str]  # of the types
    is_compressed: bool  # each message by itself


def read_metadata(folder: Path) -> Metadata | None:
    """None if there is none. Raises ValueError for one that can't be read."""
    path = folder / 'metadata.yaml'
    try:
        return _metadata(read_yaml(path, has_aliases=True))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(one_line(f'{path} cannot be read: {error}')) from error


def parse_metadata(text: str) -> Metadata:
    """Raises only ValueError, for anything that is not metadata."""
    return _metadata(load_yaml(text, has_aliases=True))


def _metadata(about: Any) -> Metadata:
    try:
        about = about.get('rosbag2_bagfile_information', about)  # in the file itself it is left out
        counts: Counter[tuple[str, str]] = Counter()
        digests = {}
        for entry in about['topics_with_message_count']:
            topic = entry['topic_metadata']
            counts[_text(topic['name']), _text(topic['type'])] += _number(entry['message_count'])
            if digest := topic.get('type_description_hash'):
                digests[topic['type']] = _text(digest)
        total = _number(about['message_count'])
        if total != sum(counts.values()):
            raise ValueError(f'it counts {total} messages, and {sum(counts.values())} by topic')
        start = _number(about['starting_time']['nanoseconds_since_epoch']) if total else None
        files = tuple(_text(name).replace('\\', '/').rpartition('/')[2] for name in about['relative_file_paths'])
    except ValueError:
        raise
    except Exception as error:  # errors of the library, and of a changed key or type
        raise ValueError(f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}') from error
    return Metadata(files, dict(counts), start, digests,
                    isinstance(mode := about.get('compression_mode'), str) and mode.lower() == 'message')


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} must be a string')
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f'{shown(value)} must be a whole number')
    return value
