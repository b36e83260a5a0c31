"""Parameters of the live node: tau at work, refusals that leave the old value, and the YAML that documents them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from live_nodes import image

from vit_tactile_ros.ros.parameters import RULES

CONFIG = Path(__file__).parents[2] / 'config' / 'tactile.yaml'


def test_tau_takes_effect_on_the_next_result(classifier, client):
    """The result after `ros2 param set` echoes the new tau and exits by it; integers and lists work."""
    classifier(tau=0.5)
    results = client.listen()

    def next_result():
        # One image at a time: what comes back was taken after the parameter was set.
        return client.result_of(image(len(results) + 1), results)

    assert list(next_result().tau) == [0.5, 0.5]
    for value, tau, block in ((1, [1.0, 1.0], 3), (0, [0.0, 0.0], 1), (0.25, [0.25, 0.25], None),
                              ([1.0, 0.0], [1.0, 0.0], 2), ([1, 1, 0], [1.0, 1.0], 3)):
        answer = client.set_parameter('tau', value)
        assert answer.successful, answer.reason
        result = next_result()
        assert list(result.tau) == tau
        if block:
            assert result.exit_block == block
    assert client.get_parameter_of('tau') == [1, 1, 0]


def test_bad_parameters_are_refused(classifier, client):
    """A refusal gives its reason, and the old value stays in force."""
    classifier(tau=0.5)
    results = client.listen()
    for name, value, reason in (
            ('tau', 1.01, 'between 0 and 1'),
            ('tau', -1, 'between 0 and 1'),
            ('tau', float('nan'), 'between 0 and 1'),
            ('tau', 'high', 'between 0 and 1'),
            ('tau', True, 'between 0 and 1'),
            ('tau', [0.5], 'one per early exit'),
            ('tau', [0.5, 2.0], 'between 0 and 1'),
            ('silence_timeout', 0.0, 'silence_timeout'),
            # so `ros2 param set` has it
            ('tau', '[0.9, 1]', 'in a list every number needs a decimal point: write [0.9, 1.0]'),
            ('checkpoint', '', 'deactivate and clean up first'),
            ('diagnostics_period', 2.0, 'deactivate and clean up first'),
            ('sensors', ['left'], 'deactivate and clean up first')):
        before = client.get_parameter_of(name)
        answer = client.set_parameter(name, value)
        assert not answer.successful, (name, value)
        assert reason in answer.reason
        assert client.get_parameter_of(name) == before
        assert list(client.result_of(image(len(results) + 1), results).tau) == [0.5, 0.5]


def test_integers_do_for_numbers(classifier, client):
    """`silence_timeout: 2` in a YAML file is a number too."""
    classifier(silence_timeout=2, diagnostics_period=1)
    assert client.set_parameter('silence_timeout', 3).successful
    assert client.get_parameter_of('silence_timeout') == 3
    assert not client.set_parameter('silence_timeout', 0).successful


@pytest.mark.parametrize('name', ['tau', 'sensors'])
def test_parameters_cannot_be_deleted(start, client, tiny_checkpoint, name):
    """A dynamically typed parameter that is set to nothing is gone, and configuring failed without a word."""
    start('classifier_node', checkpoint=tiny_checkpoint, threads=1, autostart='false')
    answer = client.set_parameter(name, None)
    assert not answer.successful
    assert 'cannot be deleted' in answer.reason
    assert client.change_state('configure')


def test_tau_defaults_to_the_checkpoints(classifier, client):
    """Nobody set tau: the checkpoint's recommendation is in force and `ros2 param get` shows it."""
    classifier()
    assert client.get_parameter_of('tau') == 0.8
    results = client.listen()
    client.send_until(image(1), lambda: results, 'a result')
    assert list(results[0].tau) == [0.8, 0.8]


def test_parameters_can_change_after_cleanup(classifier, client):
    """What is read at configure can be set on an unconfigured node, and is then in force."""
    classifier()
    assert client.change_state('deactivate')
    assert client.change_state('cleanup')
    answer = client.set_parameter('sensors', ['thumb'])
    assert answer.successful, answer.reason
    assert client.change_state('configure')
    assert client.change_state('activate')
    results = client.listen('/thumb/tactile')
    client.send_until(image(1), lambda: results, 'a result', '/thumb/image_raw')


def test_config_file_documents_every_parameter_and_default():
    """The YAML a user copies must not lack a parameter or state a default that is not one."""
    stated = yaml.safe_load(CONFIG.read_text())['/**/tactile_classifier']['ros__parameters']
    assert stated == {name: rule.default for name, rule in RULES.items() if rule.default is not None}
    text = CONFIG.read_text()
    assert all(f'{name}:' in text for name in RULES)


def test_config_file_is_taken(start, client, tiny_checkpoint, tmp_path):
    """A copy of the shipped YAML with changed values reaches the node, in a namespace too."""
    text = CONFIG.read_text().replace("checkpoint: ''", f"checkpoint: '{tiny_checkpoint}'")
    for default, mine in (("sensors: ['']", 'sensors: [left]'), ('# tau: 0.8', 'tau: 1'), ('threads: 0', 'threads: 1')):
        assert default in text
        text = text.replace(default, mine)
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    node = start('classifier_node', '--params-file', str(path), '-r', '__ns:=/hand')
    node.wait_for_output('waiting for images on /hand/left/image_raw')
    assert client.get_parameter_of('tau', '/hand/tactile_classifier') == 1
    assert client.get_parameter_of('sensors', '/hand/tactile_classifier') == ['left']


def test_what_is_in_force_can_be_set(classifier, client, tiny_checkpoint):
    """`ros2 param load` of a file that was dumped from the very node failed at every parameter that is not live."""
    classifier(sensors='[left, right]')
    for name, value in (('checkpoint', str(tiny_checkpoint)), ('sensors', ['left', 'right']), ('threads', 1),
                        ('diagnostics_period', 0.1), ('autostart', True), ('reference_files', [''])):
        answer = client.set_parameter(name, value)
        assert answer.successful, answer.reason
        assert client.get_parameter_of(name) == value
    for name, value in (('sensors', ['right', 'left']), ('threads', 2), ('autostart', False)):
        assert 'deactivate and clean up first' in client.set_parameter(name, value).reason


UNREADABLE = {'x' * 5000: 'File name too long', '~no_such_user/file': "no user 'no_such_user'",
              '/nowhere/file': 'No such file', '/': 'a folder'}


@pytest.mark.parametrize('path', UNREADABLE, ids=lambda path: path[:20])
def test_a_path_that_cannot_be_looked_at_is_refused_at_start(start, path):
    """What Python raises for it ended the node with a traceback."""
    for name, value in (('checkpoint', path), ('reference_files', f'["{path}"]')):
        node = start('classifier_node', **{name: value})
        assert node.wait_for_end() == 2
        assert name in node.output and UNREADABLE[path] in node.output and 'Traceback' not in node.output
        assert len(node.output) < 1000


def test_a_path_that_cannot_be_looked_at_is_refused_later(start, client, tiny_checkpoint, tmp_path):
    """Set while the node was unconfigured, it ended it with a traceback."""
    node = start('classifier_node', checkpoint=tiny_checkpoint, threads=1, autostart='false')
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    for path, reason in {**UNREADABLE, str(tmp_path / 'loop'): 'symbolic links'}.items():
        for name, value in (('checkpoint', path), ('reference_files', [path])):
            answer = client.set_parameter(name, value)
            assert not answer.successful and answer.reason.startswith(f'{name} is ') and reason in answer.reason
    assert client.get_parameter_of('checkpoint') == str(tiny_checkpoint)
    assert client.change_state('configure')
    assert node.stop() == 0


@pytest.mark.parametrize(('name', 'value', 'right'), [
    ('checkpoint', 3, 'the path of a .safetensors file'), ('reference_files', 'left.png', 'a list with the path'),
    ('reference_files', [1], 'a list with the path'), ('reference_store', 3, 'a folder that can be written to'),
    ('reference_store', '~nobody_has_this_name/references', 'a folder that can be written to'),
    ('sensors', 'left', 'a list of 1 to '), ('sensors', [1], 'a list of 1 to ')])
def test_rules_for_values_of_another_type(name, value, right):
    """rclpy refuses most of them before."""
    assert RULES[name].check(value).startswith(right)
