"""Touch events of replayed frames, judged against labels, and written so that bags can be labelled by them."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from vit_tactile_ros.data.bags.labels import read_intervals
from vit_tactile_ros.evaluation.recordings.events import find_touches, judge_touches, write_events
from vit_tactile_ros.evaluation.recordings.frame_table import UNLABELLED, FrameTable
from vit_tactile_ros.inference.touch_events import STATES, EventSettings

NAMES = ('no_contact', 'sphere', 'edge')
START, STEP = 1_700_000_000 * 10**9, 33_333_333  # ns


def stream(predicted: str, labels: str = '', sensor: str = 'left', names=NAMES) -> FrameTable:
    """A frame per character: n no contact, s sphere, e edge; of `labels` also ? for no label."""
    labels = labels or '?' * len(predicted)
    count, order = len(predicted), np.arange(len(predicted))
    label = np.array([UNLABELLED if c == '?' else 'nse'.index(c) for c in labels])
    runs = np.cumsum(np.concatenate([[0], label[1:] != label[:-1]]))
    logits = np.zeros((1, count, 3), np.float32)
    logits[0, order, ['nse'.index(c) for c in predicted]] = 5.0
    table = FrameTable(
        bag=np.full(count, 'bag'), sensor=np.full(count, sensor), topic=np.full(count, f'/{sensor}/image_raw'),
        index=order, stamp=START + order * STEP, received=START + order * STEP, seconds=order * STEP / 1e9, label=label,
        touch=np.where(label < 0, '', [f'bag/{sensor}/{run}' for run in runs]), logits=logits, exit_index=order * 0,
        class_id=order * 0, confidence=np.zeros(count, np.float32), touch_odds=np.ones(count),
        kept_share=np.ones(count), zoom=np.ones(count), inference_time=np.full(count, np.nan),
        class_names=names, exits=(4,), compute_shares=(1.0,), temperatures=(1.0,), tau=())
    return table.decided(1.0)


def stream_of_states(predicted: str, labels: str = '') -> FrameTable:
    """A frame per character: n no contact, h held (stable), m moving, s slip."""
    table = stream('n' * len(predicted))
    logits = np.zeros((1, len(predicted), 4), np.float32)
    logits[0, np.arange(len(predicted)), ['nhms'.index(c) for c in predicted]] = 5.0
    label = np.array(['nhms'.index(c) if c in 'nhms' else UNLABELLED for c in labels or '?' * len(predicted)])
    runs = np.cumsum(np.concatenate([[0], label[1:] != label[:-1]]))
    return dataclasses.replace(table, class_names=STATES, logits=logits, label=label,
                               touch=np.array([f'bag/left/{run}' for run in runs])).decided(1.0)


def judged(table: FrameTable) -> dict:
    return judge_touches(table, find_touches(table))


def test_found_once_each():
    pattern = 'n' * 15 + 's' * 20 + 'n' * 15 + 'e' * 20 + 'n' * 15
    found = judged(stream(pattern, pattern))
    assert {k: found[k] for k in ('labelled_touches', 'found', 'split', 'missed', 'false', 'accuracy')} == {
        'labelled_touches': 2, 'found': 2, 'split': 0, 'missed': 0, 'false': 0, 'accuracy': 1.0}
    assert found['onset_error'] == {'p50': 0.0, 'max': 0.0}
    assert 0 < found['decision_delay']['max'] <= 0.1


@pytest.mark.parametrize(('predicted', 'labels', 'name'), [
    ('n' * 60, 'n' * 20 + 's' * 20 + 'n' * 20, 'missed'),
    ('n' * 20 + 's' * 20 + 'n' * 20, 'n' * 60, 'false'),
    ('n' * 10 + 's' * 15 + 'n' * 10 + 's' * 15 + 'n' * 10, 'n' * 10 + 's' * 40 + 'n' * 10, 'split')])
def test_what_goes_wrong_is_counted(predicted, labels, name):
    found = judged(stream(predicted, labels))
    assert {k: found[k] for k in ('missed', 'false', 'split', 'found')} == {
        'missed': 0, 'false': 0, 'split': 0, 'found': 0} | {name: 1}


def test_wrong_class_and_late_onset():
    found = judged(stream('n' * 15 + 'e' * 20 + 'n' * 15, 'n' * 10 + 's' * 25 + 'n' * 15))
    assert (found['found'], found['accuracy']) == (1, 0.0)
    assert found['onset_error']['max'] == pytest.approx(5 * STEP / 1e9)


def test_a_touch_without_labels_is_not_false():
    assert judged(stream('n' * 10 + 's' * 20 + 'n' * 10))['false'] == 0


def test_sensors_apart():
    """What one sensor touches is not what the other one missed."""
    pattern = 'n' * 15 + 's' * 20 + 'n' * 15
    table = FrameTable.concatenate([stream(pattern, pattern, 'left'), stream('n' * 50, pattern, 'right')])
    found = judged(table)
    assert (found['found'], found['missed']) == (1, 1)


def test_no_class_of_no_contact():
    assert find_touches(stream('n' * 5, names=('plain', 'sphere', 'edge'))) is None


def test_bags_are_labelled_by_touch(tmp_path):
    """touches.csv is read as labels: the touch from its first frame up to the first one without contact."""
    table = stream('n' * 15 + 's' * 20 + 'n' * 15 + 'e' * 20)
    touches = find_touches(table)
    write_events(touches, NAMES, tmp_path)
    times = [round(s * 1e9) for s in table.seconds]
    found = [(i.label, i.sensor, [n for n, time in enumerate(times) if i.start <= time < i.end])
             for i in read_intervals(tmp_path / 'touches.csv').intervals]
    assert found == [('sphere', 'left', list(range(15, 35))), ('edge', 'left', list(range(50, 70)))]
    with (tmp_path / 'events.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [(r['event'], r['class_name']) for r in rows] == [
        ('onset', 'sphere'), ('class_settled', 'sphere'), ('release', 'sphere'), ('onset', 'edge'),
        ('class_settled', 'edge')]


def test_slips_against_labels():
    """Found with its delay, missed, and false; states that alternate are one touch without an accuracy."""
    held = 'n' * 15 + 'mm' + 'h' * 13
    labels = held + 's' * 10 + 'h' * 20 + 's' * 3 + 'h' * 2 + 's' * 3 + 'h' * 10 + 'm' * 20 + 'n' * 10
    predicted = held + 's' * 10 + 'h' * 20 + 'h' * 8 + 'h' * 10 + 'ssssss' + 'm' * 14 + 'n' * 10
    table = stream_of_states(predicted, labels)
    found = judged(table)
    assert {k: found[k] for k in ('labelled_touches', 'found', 'accuracy')} == {
        'labelled_touches': 1, 'found': 1, 'accuracy': None}
    slips = found['slips']
    assert {k: slips[k] for k in ('slips', 'labelled_slips', 'found', 'missed', 'false')} == {
        'slips': 2, 'labelled_slips': 2, 'found': 1, 'missed': 1, 'false': 1}
    assert 0 < slips['delay']['p50'] <= 2.1 * STEP / 1e9
    assert not [t.slips for t in find_touches(table, EventSettings(slip_threshold=0.9999)) if t.slips]
    assert judged(stream('n' * 15 + 's' * 20))['slips'] is None


def test_bags_are_labelled_by_slip(tmp_path):
    """The slips are intervals of their own, and the parts between them have the state of most of their frames."""
    table = stream_of_states('n' * 15 + 'mmhhhhhhhhhh' + 's' * 10 + 'hh' + 'm' * 10 + 'n' * 10)
    write_events(find_touches(table), STATES, tmp_path)
    times = [round(s * 1e9) for s in table.seconds]
    found = [(i.label, [n for n, time in enumerate(times) if i.start <= time < i.end])
             for i in read_intervals(tmp_path / 'touches.csv').intervals]
    assert found == [('stable', list(range(15, 27))), ('slip', list(range(27, 37))), ('moving', list(range(37, 49)))]
    with (tmp_path / 'events.csv').open() as file:
        assert [r['event'] for r in csv.DictReader(file)] == ['onset', 'slip_began', 'slip_ended', 'release']
