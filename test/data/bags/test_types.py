"""Messages whose type the recording defines otherwise than everybody else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from toy_recordings import TOPIC, TYPE, file_of, write

from vit_tactile_ros.data.bags import types
from vit_tactile_ros.data.bags.recording import Recording
from vit_tactile_ros.data.table import DataError

START = 1_700_000_000 * 10**9
USUAL = {'header': 'std_msgs/Header header', 'height': 'uint32 height', 'width': 'uint32 width',
         'encoding': 'string encoding', 'is_bigendian': 'uint8 is_bigendian', 'step': 'uint32 step',
         'data': 'uint8[] data'}
SIZE = 4 * 4 * 3


def write_changed(path: Path, plugin: StoragePlugin, changed: dict[str, str | None], values: dict[str, object]) -> Path:
    """Six images of a type of the usual name: some fields are of another type, have another name, or are left out."""
    store = get_typestore(Stores.ROS2_JAZZY)
    fields = [line for line in (USUAL | changed).values() if line]
    for name in (TYPE, 'sensor_msgs/msg/CompressedImage'):
        store.fielddefs.pop(name, None)
    store.types.pop(TYPE, None)
    store.register(get_types_from_msg('\n'.join(fields) + '\n', TYPE))
    header = store.types['std_msgs/msg/Header'](store.types['builtin_interfaces/msg/Time'](1_700_000_000, 0), '')
    usual = {'header': header, 'height': 4, 'width': 4, 'encoding': 'rgb8', 'is_bigendian': 0, 'step': 12,
             'data': np.zeros(SIZE, np.uint8)} | values
    names = [line.split()[1] for line in fields]
    with Writer2(path, version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection(TOPIC, TYPE, typestore=store)
        for number in range(6):
            message = store.types[TYPE](**{name: usual[name] for name in names})
            writer.write(connection, START + number * 10**8, store.serialize_cdr(message, TYPE))
    return path


@pytest.mark.parametrize('plugin', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize(('changed', 'values', 'message'), [
    ({'height': 'uint32 rows'}, {'rows': 4}, 'height must be of type int and is not there'),
    ({'header': None}, {}, 'header.stamp.sec must be of type int and is not there'),
    ({'height': 'string height'}, {'height': '4'}, 'height must be of type int and is of type str'),
    ({'height': 'float64 height'}, {'height': 4.0}, 'height must be of type int and is of type float'),
    ({'encoding': 'uint32 encoding'}, {'encoding': 1}, 'encoding must be of type str and is of type int'),
    ({'data': 'float64[] data'}, {'data': np.zeros(SIZE)}, 'data must be uint8 and is float64'),
    ({'data': 'string[] data'}, {'data': ['a']}, 'data must be of type ndarray and is of type list'),
    ({'data': 'string data'}, {'data': 'abc'}, 'data must be of type ndarray and is of type str')])
def test_a_changed_type_is_named(tmp_path, plugin, changed, values, message):
    """It ended with an AttributeError, or reached the decoder as a text."""
    with Recording(write_changed(tmp_path / 'b', plugin, changed, values)) as recording:
        found = list(recording.messages({TOPIC}))
        assert len(found) == 6 and not recording.problems
        for one in found:
            with pytest.raises(DataError, match=f'the recording defines {TYPE} otherwise, {message}'):
                recording.deserialise(one)


@pytest.mark.parametrize('plugin', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_type_with_more_fields_is_read(tmp_path, plugin):
    with Recording(write_changed(tmp_path / 'b', plugin, {'extra': 'string extra'}, {'extra': 'x'})) as recording:
        messages = [recording.deserialise(found) for found in recording.messages({TOPIC})]
        assert [(m.height, m.width, m.extra) for m in messages] == [(4, 4, 'x')] * 6 and not recording.problems


@pytest.mark.parametrize('kind', ['db3', 'bag'])
def test_a_damaged_definition(tmp_path, kind):
    """One letter of the text refused the whole file; its digest tells which of the two is damaged."""
    path = write(tmp_path, kind, numbers=range(3))
    data = file_of(path).read_bytes()
    assert b'uint32 height' in data
    file_of(path).write_bytes(data.replace(b'uint32 height', b'uint32 heighu'))
    with Recording(path) as recording:
        messages = [recording.deserialise(found) for found in recording.messages({TOPIC})]
        assert [m.height for m in messages] == [120] * 3
        assert 'the definition of sensor_msgs/msg/Image in the recording is damaged' in '; '.join(recording.problems)


def test_a_changed_type_is_counted_in_a_replay(tmp_path, capsys):
    """And the other bags are replayed."""
    import json

    from toy_bags import write_bag

    from vit_tactile_ros.replay import main

    write_changed(tmp_path / 'changed', StoragePlugin.MCAP, {'height': 'uint32 rows'}, {'rows': 4})
    write_bag(tmp_path / 'usual', {'': [None] * 6})
    assert main([str(tmp_path / 'changed'), str(tmp_path / 'usual'), '--output', str(tmp_path / 'out')]) in (0, 1)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary['rejected'] == {'unreadable': 6} and summary['classified'] == 6
    assert 'height must be of type int and is not there' in summary['rejected_examples'][0]


@pytest.mark.parametrize('head', ['', f'{types._SEPARATOR}IDL: toy/msg/Pressed\n'])
def test_definition_in_idl(head):
    """As rosbag2 stores the types of IDL files; it is the type that the same definition as .msg gives."""
    idl = 'module toy {\n module msg {\n  struct Pressed {\n   string name;\n   uint32 number;\n  };\n };\n};\n'
    found, expected = (types._defined(text, 'toy/msg/Pressed') for text in (head + idl, 'string name\nuint32 number\n'))
    assert found.get_msgdef('toy/msg/Pressed').fields == expected.get_msgdef('toy/msg/Pressed').fields
    assert found.hash_rihs01('toy/msg/Pressed') == expected.hash_rihs01('toy/msg/Pressed')
