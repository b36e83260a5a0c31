"""Sections of parameter files, and what launch files read from them."""

import pytest

from vit_tactile_ros.data.plain_yaml import MAX_BYTES
from vit_tactile_ros.ros.parameter_file import full_name, matches, value_in


@pytest.mark.parametrize(('section', 'name', 'is_match'), [
    ('/a', '/a', True), ('/a', '/n/a', False), ('/**', '/n/m/a', True), ('/**/a', '/a', True),
    ('/**/a', '/n/m/a', True), ('/**/a', '/n/ab', False), ('/*/a', '/n/a', True), ('/*/a', '/a', False),
    ('/*/a', '/n/m/a', False), ('/*', '/a', True),
])
def test_sections_match_as_in_rcl(section, name, is_match):
    assert matches(section, name) == is_match


@pytest.mark.parametrize(('text', 'value'), [
    ('hand/tactile_camera: {ros__parameters: {camera_name: left}}', 'left'),
    ('/**: {ros__parameters: {camera_name: left}}', 'left'),
    ('/hand/tactile_camera: {ros__parameters: {camera_name: left}}', 'left'),
    ('hand: {tactile_camera: {ros__parameters: {camera_name: left}}}', 'left'),  # was not found
    ('/**: {ros__parameters: {camera_name: left}}\n'
     'hand/tactile_camera: {ros__parameters: {camera_name: right}}', 'right'),
    ('hand: {tactile_camera: {ros__parameters: {camera_name: left}}}\n'  # gave the name of the other hand
     'other: {tactile_camera: {ros__parameters: {camera_name: right}}}', 'left'),
    ('tactile_camera: {ros__parameters: {camera_name: left}}', None),  # of the node without a namespace
    ('other: {ros__parameters: {camera_name: right}}\n"*/*": {ros__parameters: {camera_name: left}}', 'left'),
    ('hand/tactile_camera: {ros__parameters: {rate: 30.0}}', None),
    ('/**: {ros__parameters: {camera_name: ""}}', None),
    ('/**: {ros__parameters: }', None), ('hand: left', None), ('[tactile_camera]', None),
    ('', None)])
def test_the_value_for_a_node(tmp_path, text, value):
    (tmp_path / 'p.yaml').write_text(text)
    assert value_in(tmp_path / 'p.yaml', '/hand/tactile_camera', 'camera_name') == value


@pytest.mark.parametrize(('text', 'problem'), [('#' * (MAX_BYTES + 1), 'it is longer than 2 MB'), ('a: [', 'Error')])
def test_a_file_that_cannot_be_read_is_named(tmp_path, text, problem):
    """The error had the line of the file, and not which file."""
    (tmp_path / 'p.yaml').write_text(text)
    with pytest.raises(ValueError, match=f'^parameter file {tmp_path}/p.yaml: .*{problem}'):
        value_in(tmp_path / 'p.yaml', '/a', 'camera_name')


@pytest.mark.parametrize(('group', 'namespace', 'name'), [
    ('', '', '/a'), ('', 'hand', '/hand/a'), ('/robot', '', '/robot/a'), ('/robot', 'hand', '/robot/hand/a'),
    ('/robot', '/hand/', '/hand/a'), ('/', 'hand', '/hand/a'), ('/robot', '/', '/a')])
def test_the_full_name_is_that_of_launch_ros(group, namespace, name):
    assert full_name(group, namespace, 'a') == name
