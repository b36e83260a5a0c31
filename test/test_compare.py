"""compare end to end on stored tables: its figures, its warnings, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_frames import toy_frames

from vit_tactile_ros import compare


def write(folder: Path, table) -> Path:
    folder.mkdir(exist_ok=True)
    table.write_csv(folder / 'frames.csv')
    return folder


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = compare.main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def test_two_settings(tmp_path, capsys):
    """Rows joined by their place and not by their key; differences with the wrong sign; a picture that is missing."""
    table = toy_frames(200)
    times = np.where(np.arange(200) % 2, 0.004, 0.002)
    a = write(tmp_path / 'a', dataclasses.replace(table.decided(1.0), inference_time=times))
    shuffled = np.random.default_rng(0).permutation(200)
    b = write(tmp_path / 'b', dataclasses.replace(table.decided(0.5), inference_time=times / 2).subset(shuffled))
    code, output, error = run(capsys, a, b, '--output', tmp_path / 'out', '--resamples', 200)
    found = json.loads(output.splitlines()[-1])
    full, early = table.decided(1.0), table.decided(0.5)
    labelled = table.is_labelled
    values = {name: estimate['value'] for name, estimate in found['estimates'].items()}
    assert code == 0 and error == ''
    assert found['all_frames'] == 200 and found['frames'] == labelled.sum() < 200
    assert found['touches'] == len(set(table.touch[labelled]))
    assert values['accuracy'] == pytest.approx(early.right[labelled].mean() - full.right[labelled].mean())
    assert values['agreement'] == pytest.approx((early.class_id == full.class_id)[labelled].mean())
    assert values['compute_a'] == pytest.approx(table.kept_share[labelled].mean()) and values['compute'] < 0
    assert values['latency_ratio'] == pytest.approx(0.5)
    assert f'{values["accuracy"] * 100:+.2f} points' in output and '67 frames without a label are ignored' in output
    assert cv2.imread(str(tmp_path / 'out' / 'comparison.png')).std() > 5
    # Another tau on the stored answers is the same as another replay.
    again = json.loads(run(capsys, a, a, '--tau_b', '0.5', '--resamples', 200)[1].splitlines()[-1])
    assert again['estimates']['accuracy'] == found['estimates']['accuracy']
    assert again['estimates']['latency']['value'] is None


def test_few_touches(tmp_path, capsys):
    a = write(tmp_path / 'a', toy_frames(20))
    code, output, error = run(capsys, a, a / 'frames.csv')
    assert code == 0 and 'warning: 8 touches are few' in error
    assert json.loads(output.splitlines()[-1])['few_touches']


def test_without_labels(tmp_path, capsys):
    table = toy_frames(40)
    none = dataclasses.replace(table, label=np.full(40, -1), touch=np.full(40, ''))
    code, output, _ = run(capsys, write(tmp_path / 'a', none), write(tmp_path / 'b', none.decided(1.0)),
                          '--output', tmp_path / 'out')
    found = json.loads(output.splitlines()[-1])
    assert code == 0 and found['touches'] == 0 and 'accuracy' not in found['estimates']
    assert found['estimates']['agreement']['value'] == (table.class_id == table.decided(1.0).class_id).mean()
    assert 'accuracy' not in output.splitlines()[-2]


def relabelled(table):
    return dataclasses.replace(table, label=np.where(table.label == 0, 1, table.label))


@pytest.mark.parametrize(('change', 'message'), [
    (lambda t: t.subset(np.arange(37)),
     '3 of 40 are only in A, 0 of 37 only in B, such as /right/image_raw of .toy. at'),
    (lambda t: dataclasses.replace(t, bag=np.full(40, 'other')), '40 of 40 are only in A, 40 of 40 only in B'),
    (lambda t: dataclasses.replace(t, class_names=('a', 'b', 'c', 'd')), 'the classes differ: class 0, .* in A, a, b'),
    (relabelled, r'the labels of \d+ of 40 frames differ, such as /left/image_raw of .toy. at .* ns: 0 in A, 1 in'),
    (lambda t: dataclasses.replace(t, touch=np.char.add(t.touch, 'x')), 'the touches of 40'),
    (lambda t: dataclasses.replace(t, received=t.received + 1), '40 of 40 are only in A, 40 of 40 only in B'),
    (lambda t: t.subset(np.array([0, 0])), '39 of 40 are only in A, 1 of 2 only in B'),
])
def test_other_frames_are_refused(tmp_path, capsys, change, message):
    """Answers to other frames, or to another truth, compared as if they were the same."""
    table = toy_frames(40)
    code, output, error = run(capsys, write(tmp_path / 'a', table), write(tmp_path / 'b', change(table)))
    assert code == 2 and output == ''
    assert re.search(message, error), error


def test_what_is_no_replay(tmp_path, capsys):
    code, _, error = run(capsys, tmp_path, tmp_path / 'x')
    assert code == 2 and 'frames.csv does not exist; must be the output folder of a replay' in error
    with pytest.raises(SystemExit):
        run(capsys, 'a', 'b', '--resamples', 5)
    assert '--resamples is 5; must be at least 100' in capsys.readouterr().err
    a = write(tmp_path / 'a', toy_frames(5))
    assert 'tau' in run(capsys, a, a, '--tau_a', 1.5)[2]
