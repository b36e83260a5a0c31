"""What launch files read from a parameter file."""

import pytest

from vit_tactile_ros.ros.parameter_file import value_in


@pytest.mark.parametrize(('text', 'value'), [
    ('tactile_camera: {ros__parameters: {camera_name: left}}', 'left'),
    ('/**: {ros__parameters: {camera_name: left}}', 'left'),
    ('/hand/tactile_camera: {ros__parameters: {camera_name: left}}', 'left'),
    ('hand: {tactile_camera: {ros__parameters: {camera_name: left}}}', 'left'),  # was not found
    ('/**: {ros__parameters: {camera_name: left}}\ntactile_camera: {ros__parameters: {camera_name: right}}', 'right'),
    ('other: {ros__parameters: {camera_name: right}}\n"*": {ros__parameters: {camera_name: left}}', 'left'),
    ('tactile_camera: {ros__parameters: {rate: 30.0}}', None),
    ('tactile_camera: {ros__parameters: {camera_name: ""}}', None),
    ('tactile_camera: {ros__parameters: }', None), ('tactile_camera: left', None), ('[tactile_camera]', None),
    ('', None)])
def test_the_value_for_a_node(tmp_path, text, value):
    (tmp_path / 'p.yaml').write_text(text)
    assert value_in(tmp_path / 'p.yaml', 'tactile_camera', 'camera_name') == value
