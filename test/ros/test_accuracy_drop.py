"""`max_accuracy_drop` in place of tau: what is in force, what is refused, and how the two live together."""

from __future__ import annotations

import pytest
from live_nodes import image


@pytest.fixture
def next_result(client):
    """Sends an image and gives the result that was taken after the parameters were set."""
    results = None

    def get():
        nonlocal results
        results = client.listen() if results is None else results
        return client.result_of(image(len(results) + 1), results)
    return get


def test_a_stored_bound_gives_its_thresholds(classifier, client, calibrated_checkpoint, next_result):
    """max_accuracy_drop that changes nothing, or a tau that does not say what is in force."""
    classifier(checkpoint=calibrated_checkpoint, max_accuracy_drop=0.005)
    assert list(next_result().tau) == [0.9, 0.8]
    assert list(client.get_parameter_of('tau')) == [0.9, 0.8]
    assert client.get_parameter_of('max_accuracy_drop') == 0.005


def test_the_next_stricter_bound_is_taken_and_named(classifier, client, calibrated_checkpoint, next_result):
    """Thresholds in between, or those of a looser bound: a promise that nobody tested."""
    node = classifier(checkpoint=calibrated_checkpoint, max_accuracy_drop=0.019)
    assert list(next_result().tau) == [0.9, 0.8]
    assert 'the next stricter one, 0.005, is used' in node.output


def test_it_is_live_and_the_last_one_set_counts(classifier, client, calibrated_checkpoint, next_result):
    """Two parameters that contradict each other, with one of them quietly without effect."""
    node = classifier(checkpoint=calibrated_checkpoint, tau=0.5)
    assert list(next_result().tau) == [0.5, 0.5]
    assert client.set_parameter('max_accuracy_drop', 0.02).successful
    result = next_result()
    assert list(result.tau) == [0.0, 0.0] and result.exit_block == 1
    assert client.get_parameter_of('tau') == 0.0
    assert client.set_parameter('tau', 1).successful
    result = next_result()
    assert list(result.tau) == [1.0, 1.0] and result.exit_block == 3
    assert client.get_parameter_of('max_accuracy_drop') == -1.0
    assert client.set_parameter('max_accuracy_drop', 0.001).successful
    assert list(next_result().tau) == [1.0, 1.0]
    node.wait_for_output('so no image exits early: calibrate with more, or allow a larger drop')
    assert client.set_parameter('latency_budget', 0.05).successful  # gives up the bound under load
    node.wait_for_output('max_accuracy_drop holds for results with its own tau only')


@pytest.mark.parametrize(('own', 'tau', 'source'), [(0.5, 0.5, 'tau'), (None, 0.7, 'checkpoint')])
def test_taken_back_the_tau_before_is_in_force(classifier, client, calibrated_checkpoint, next_result, own, tau,
                                                 source):
    """max_accuracy_drop set back to -1 left the thresholds of the bound in force, as if the user had chosen them."""
    classifier(checkpoint=calibrated_checkpoint, **({} if own is None else {'tau': own}))
    for drop in (0.005, 0.02):  # the second must not take the first for the user's own
        assert client.set_parameter('max_accuracy_drop', drop).successful
    assert client.get_parameter_of('tau') == 0.0
    assert client.set_parameter('max_accuracy_drop', -1).successful
    assert client.get_parameter_of('tau') == tau
    assert list(next_result().tau) == [tau, tau]
    client.wait(lambda: client.values('model').get('tau_from') == source, f'tau_from {source}')


def test_what_no_checkpoint_can_keep_is_refused(classifier, client, calibrated_checkpoint, next_result):
    """A percentage, or a bound stricter than any stored, taken for the strictest."""
    classifier(checkpoint=calibrated_checkpoint, tau=0.5)
    for value, reason in (
            (0.0005, 'calibrated for 0.001, 0.005, 0.02, not for 0.0005 or less'),
            (0.0, 'above 0 and below 1'), (1.0, 'above 0 and below 1'), (-0.5, 'above 0 and below 1'), (5, 'above 0'),
            ('low', 'above 0 and below 1'), (True, 'above 0 and below 1')):
        answer = client.set_parameter('max_accuracy_drop', value)
        assert not answer.successful and reason in answer.reason
        assert client.get_parameter_of('max_accuracy_drop') == -1.0
        assert list(next_result().tau) == [0.5, 0.5]


def test_a_checkpoint_that_is_not_calibrated_is_refused_live(classifier, client, next_result):
    """A promise made by a checkpoint that holds none; the refusal says what to run."""
    classifier(tau=0.5)
    answer = client.set_parameter('max_accuracy_drop', 0.01)
    assert not answer.successful
    assert 'not calibrated' in answer.reason and 'python -m vit_tactile_ros.calibrate' in answer.reason
    assert list(next_result().tau) == [0.5, 0.5]


def test_a_checkpoint_that_is_not_calibrated_is_refused_at_start(start, tiny_checkpoint):
    """A robot that starts with a promise it can't keep."""
    node = start('classifier_node', checkpoint=tiny_checkpoint, threads=1, max_accuracy_drop=0.01)
    assert node.wait_for_end() == 2
    assert 'cannot configure' in node.output and 'python -m vit_tactile_ros.calibrate' in node.output


def test_both_at_the_start_are_refused(start, client, calibrated_checkpoint):
    """A parameter file whose one line has no effect; under a manager one of them can be set and it continues."""
    node = start('classifier_node', checkpoint=calibrated_checkpoint, threads=1, tau=0.5, max_accuracy_drop=0.005,
                 autostart='false')
    assert not client.change_state('configure')
    assert 'tau is 0.5 and max_accuracy_drop is 0.005; give only one of them' in node.output
    assert client.set_parameter('tau', 0.6).successful
    assert client.get_parameter_of('max_accuracy_drop') == -1.0
    assert client.change_state('configure')


def test_another_checkpoint_after_cleanup(classifier, client, calibrated_checkpoint, next_result):
    """Thresholds of the checkpoint before, kept for one that has others."""
    classifier(max_accuracy_drop=-1)
    assert client.get_parameter_of('tau') == 0.8
    assert client.change_state('deactivate') and client.change_state('cleanup')
    assert client.set_parameter('checkpoint', str(calibrated_checkpoint)).successful
    assert client.set_parameter('max_accuracy_drop', 0.005).successful
    assert client.change_state('configure') and client.change_state('activate')
    assert list(next_result().tau) == [0.9, 0.8]
    assert client.change_state('deactivate') and client.change_state('cleanup')
    assert client.set_parameter('max_accuracy_drop', 0.02).successful
    assert client.change_state('configure')
    assert client.get_parameter_of('tau') == 0.0
