"""The types of messages that are read, and the check that a message has the fields of its type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vit_tactile_ros.data.bags.storage import Found, Topic
from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.foundation.errors import MissingPackageError

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
# msg/TactileLabel.msg, for bags without type definitions (ROS 2 before Iron).
LABEL_SUFFIX = '/TactileLabel'
TACTILE_LABEL = 'std_msgs/Header header\nstring class_name\nfloat32 depth\n'
# The fields that are read of each type, and the Python types of their values.
_FIELDS: dict[str, Mapping[str, type]] = {
    'Image': {'height': int, 'width': int, 'encoding': str, 'is_bigendian': int, 'step': int, 'data': np.ndarray},
    'CompressedImage': {'format': str, 'data': np.ndarray},
    'TactileLabel': {'class_name': str},
}
_SEPARATOR = '=' * 80 + '\n'


def check_rosbags(bag: Path) -> None:
    """Raise MissingPackageError if the optional package with the message types is not installed."""
    try:
        import rosbags  # noqa: F401 (folders and CSVs do not need it)
    except ImportError as error:
        raise MissingPackageError(f"{bag}: reading bags needs rosbags: pip install rosbags, or the extra: pip install "
                                  "'vit_tactile_ros[bags]'") from error


def message_types(ros1: bool = False) -> Any:
    """The types of images and labels, for bags without their own definitions."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(TACTILE_LABEL, 'vit_tactile_ros/msg/TactileLabel'))
    return store


class MessageTypes:
    """Deserialises the messages of one recording, each type as the recording defines it.

    A definition is only used if it matches its digest; otherwise the standard one is used, and `problems` reports
    it.
    """

    def __init__(self, topics: Iterable[Topic], is_ros1: bool) -> None:
        self.problems: list[str] = []
        self._known = message_types(is_ros1)
        self._is_ros1 = is_ros1
        self._topics = list(topics)
        self._stores: dict[str, Any] = {}
        self._sound: set[str] = set()  # types of which a message had all fields; the values' types follow from the type

    def deserialise(self, found: Found) -> Any:
        """The message. Raises DataError for one that can't be read, or whose type is unknown or was changed."""
        try:
            store = self._store(found.msgtype)
            read = store.deserialize_ros1 if self._is_ros1 else store.deserialize_cdr
            message = read(found.raw, found.msgtype)
        except Exception as error:  # any error of the library
            raise DataError(f'a message of {found.topic} ({found.msgtype}) cannot be read: {error!r}') from error
        if found.msgtype not in self._sound:
            if trouble := _missing(message, found.msgtype):
                raise DataError(f'a message of {found.topic} cannot be read: the recording defines {found.msgtype} '
                                f'otherwise, {trouble}')
            self._sound.add(found.msgtype)
        return message

    def _store(self, msgtype: str) -> Any:
        if msgtype not in self._stores:
            self._stores[msgtype] = self._find(msgtype)
        return self._stores[msgtype]

    def _find(self, msgtype: str) -> Any:
        defined = [topic for topic in self._topics if topic.msgtype == msgtype and topic.definition]
        if not defined:
            return self._known
        trouble = ''
        for topic in defined:
            try:
                store = _defined(topic.definition, msgtype)
                # The digest of the file's definition, which distinguishes a changed type from a damaged text.
                digest = store.generate_msgdef(msgtype)[1] if self._is_ros1 else store.hash_rihs01(msgtype)
                store.get_msgdef(msgtype)
            except Exception as error:  # any error of the library for a damaged text
                trouble = repr(error)
                continue
            if not topic.digest or digest == topic.digest:
                return store
            trouble = f'its digest is {digest} and should be {topic.digest}'
        if msgtype not in self._known.fielddefs:
            raise ValueError(f'the definition of {msgtype} is damaged: {trouble}')
        self.problems.append(f'the definition of {msgtype} in the recording is damaged ({trouble}); the standard one '
                             'is used')
        return self._known


def _defined(definition: str, msgtype: str) -> Any:
    """A store with a type and those that it holds, by its definition in the formats msg or idl."""
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    if definition.startswith(f'{_SEPARATOR}IDL: '):
        for part in definition.split(_SEPARATOR)[1:]:
            store.register(get_types_from_idl(part.split('\n', 1)[1]))
    elif 'module ' in definition and '};' in definition:
        store.register(get_types_from_idl(definition))
    else:
        store.register(get_types_from_msg(definition, msgtype))
    return store


def _missing(message: Any, msgtype: str) -> str:
    """The field of a message that has another type than the code expects; '' if none has."""
    wanted = _FIELDS.get(msgtype.rpartition('/')[2], {})
    header = getattr(message, 'header', None)
    stamp = getattr(header, 'stamp', None)
    checks = [('header.stamp.sec', getattr(stamp, 'sec', None), int),
              ('header.stamp.nanosec', getattr(stamp, 'nanosec', None), int),
              ('header.frame_id', getattr(header, 'frame_id', None), str),
              *((name, getattr(message, name, None), kind) for name, kind in wanted.items())]
    for name, value, kind in checks:
        if not isinstance(value, kind) or isinstance(value, bool):
            return f'{name} must be of type {kind.__name__} and is ' + (
                'not there' if value is None else f'of type {type(value).__name__}')
        if isinstance(value, np.ndarray) and value.dtype != np.uint8:
            return f'{name} must be uint8 and is {value.dtype}'
    return ''
