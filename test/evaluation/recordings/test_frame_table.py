"""The table of frames: decisions as in the live node, joins in order, an exact CSV."""

from __future__ import annotations

import csv
import dataclasses
import os

import numpy as np
import pytest
import torch
from toy_frames import toy_frames

from vit_tactile_ros.evaluation.recordings.figures import exits_figure
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable, Rejection
from vit_tactile_ros.evaluation.recordings.summary import judged
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import early_exit


def assert_equal(a: FrameTable, b: FrameTable) -> None:
    for field in dataclasses.fields(FrameTable):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=field.name)
            assert left.dtype.kind == right.dtype.kind == 'U' or left.dtype == right.dtype, field.name
        else:
            assert left == right, field.name


@pytest.mark.parametrize('frames', [0, 1, 40])
def test_csv_and_back(tmp_path, frames):
    table = toy_frames(frames)
    table.write_csv(tmp_path / 'frames.csv')
    assert_equal(FrameTable.read_csv(tmp_path / 'frames.csv'), table)
    assert len((tmp_path / 'frames.csv').read_text().splitlines()) == frames + 1


@pytest.mark.parametrize('frames', [1, 40])
def test_evidence_of_motion_in_csv_and_joined(tmp_path, frames):
    """Lost when it is written, read, joined with a table without it, or when rows are taken."""
    without = toy_frames(frames)
    motion = np.random.default_rng(0).random((frames, 5), np.float32)
    motion[:, :4] /= motion[:, :4].sum(axis=1, keepdims=True)
    motion[0, 4] = np.nan
    table = dataclasses.replace(without, motion=motion)
    table.write_csv(tmp_path / 'frames.csv')
    assert_equal(FrameTable.read_csv(tmp_path / 'frames.csv'), table)
    joined = FrameTable.concatenate([without, table]).subset(np.arange(frames, 2 * frames))
    assert_equal(joined, table)
    assert without.slip(0) is None and (table.slip(frames - 1).states == motion[-1, :4]).all()


@pytest.mark.parametrize(('column', 'value'), [(0, np.nan), (3, np.inf), (1, 1.5), (4, np.inf)])
def test_evidence_of_motion_that_is_none(tmp_path, column, value):
    """It was read, and made every later probability of contact NaN."""
    motion = np.full((3, 5), 0.25, np.float32)
    motion[1, column] = value
    dataclasses.replace(toy_frames(3), motion=motion).write_csv(tmp_path / 'frames.csv')
    with pytest.raises(UserError, match='motion_lost_odds must be probabilities with a sum of 1'):
        FrameTable.read_csv(tmp_path / 'frames.csv')


@pytest.mark.parametrize('name', ['touch_odds', 'kept_share', 'zoom'])
def test_a_file_of_an_older_version_lacks_a_column(tmp_path, name):
    table = toy_frames(12)
    table.write_csv(path := tmp_path / 'frames.csv')
    with path.open(newline='') as file:
        rows = list(csv.reader(file))
    at = rows[0].index(name)
    assert [float(row[at]) for row in rows[1:]] == getattr(table, name).tolist() and np.ptp(getattr(table, name)) > 0
    with path.open('w', newline='') as file:
        csv.writer(file).writerows(row[:at] + row[at + 1:] for row in rows)
    assert_equal(FrameTable.read_csv(path), dataclasses.replace(table, **{name: np.full(12, np.nan)}))


def test_files_that_are_not_a_table(tmp_path):
    (tmp_path / 'frames.csv').write_text('a,b\n1,2\n')
    (tmp_path / 'frames.json').write_text('{"rejections": [], "exits": [4], "class_names": ["a"]}')
    with pytest.raises(ValueError, match='frames.csv is not a table of frames'):
        FrameTable.read_csv(tmp_path / 'frames.csv')


@pytest.mark.parametrize(('file', 'old', 'new', 'told'), [
    ('frames.json', '1.3,\n  1.1,', '1.3,', 'temperatures must be 3 numbers'),
    ('frames.json', '"tau": [\n  0.7,', '"tau": [', 'tau must be 2 numbers'),
    ('frames.json', '0.34', '"x"', 'could not convert'), ('frames.json', '0.34', '-1', 'compute_shares must be 3'),
    ('frames.json', '"class 1",', '', 'cannot reshape'),
    ('frames.csv', ',-1,,', ',4,,', 'label must be -1 to 3'),
    ('frames.csv', 'toy/left/0,1,', 'toy/left/0,-1,', 'exit_index is -1, the gate, although no class is no_contact')])
def test_values_that_do_not_fit_each_other(tmp_path, file, old, new, told):
    """Two temperatures for three exits, or three classes for twelve columns of logits in twelve rows, were taken, and
    failed when the table was used; found by fuzzing."""
    toy_frames(12).write_csv(tmp_path / 'frames.csv')
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text(text.replace(old, new, 1))
    assert old in text
    with pytest.raises(UserError, match=told):
        FrameTable.read_csv(tmp_path / 'frames.csv')


@pytest.mark.parametrize('tau', [0.0, 0.5, 0.7, 1.0])
def test_the_rule_of_the_model_decides(tau):
    """Decisions from stored logits equal those of early_exit, stage by stage."""
    table = toy_frames(40).decided(tau)

    def stages():
        rows = torch.arange(len(table))
        for logits in torch.from_numpy(table.logits):
            stay = yield logits[rows]
            rows = rows if stay is None else rows[stay]

    result = early_exit(stages(), table.tau, table.temperatures)
    np.testing.assert_array_equal(table.exit_index, result.exit_index.numpy())
    np.testing.assert_array_equal(table.class_id, result.probabilities.argmax(1).numpy())
    np.testing.assert_array_equal(table.probabilities, result.probabilities.numpy())
    assert table.tau == (tau, tau)


def test_labelled_rows_alone_are_judged():
    table = toy_frames(40)
    outputs = table.outputs()
    assert 0 < len(outputs) < 40 and outputs.labels.min() == 0
    np.testing.assert_array_equal(outputs.logits, table.logits[:, table.is_labelled])


def test_parts_join_to_the_whole():
    table = dataclasses.replace(toy_frames(40), rejections=(Rejection('b', '/t', 'size', 2, 'first'),))
    rows = np.arange(40)
    parts = [table.subset(rows[:7]), table.subset(rows < 0), dataclasses.replace(
        table.subset(rows >= 7), rejections=(Rejection('b', '/t', 'size', 3, 'later'),))]
    whole = FrameTable.concatenate(parts)
    assert_equal(dataclasses.replace(whole, rejections=table.rejections), table)
    assert whole.rejections == (Rejection('b', '/t', 'size', 2 + 2 + 3, 'first'),)


def test_tables_of_other_settings_do_not_join():
    with pytest.raises(ValueError, match=r'different tau .* \(0.7, 0.7\) and \(0.5, 0.5\)'):
        FrameTable.concatenate([toy_frames(3), toy_frames(3).decided(0.5)])


@pytest.mark.parametrize('fails', ['frames.csv', 'frames.json'])
def test_a_crash_never_pairs_two_tables(tmp_path, monkeypatch, fails):
    """A new CSV beside the JSON of the old one: other classes, other exits, without an error."""
    path = tmp_path / 'frames.csv'
    toy_frames(3).write_csv(path)
    replace = os.replace

    def killed(source, target):
        if target.name == fails:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
        toy_frames(40).write_csv(path)
    monkeypatch.setattr(os, 'replace', replace)
    with pytest.raises(ValueError, match='frames.csv: frames.json is missing beside it'):
        FrameTable.read_csv(path)
    toy_frames(40).write_csv(path)
    assert_equal(FrameTable.read_csv(path), toy_frames(40))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['frames.csv', 'frames.json']


def test_frames_that_exit_at_the_gate(tmp_path):
    """No block, no compute, no_contact; at another tau too, unless no image exits early. The logits stay."""
    names = ('no_contact', 'a', 'b', 'c')
    table = dataclasses.replace(toy_frames(40), class_names=names)
    gated = np.arange(40) % 4 == 0
    table = dataclasses.replace(table, exit_index=np.where(gated, -1, table.exit_index)).decided(0.7)
    for one in (table, table.decided(0.2)):
        np.testing.assert_array_equal(one.is_gated, gated)
        for values in (one.exit_blocks, one.shares, one.class_id):
            assert (values[gated] == 0).all()
        assert (one.confidence[gated] == one.probabilities[gated, 0]).all()
        np.testing.assert_allclose(one.probabilities.sum(axis=1), 1, atol=1e-6)
    assert not table.decided(1.0).is_gated.any()
    facts = judged(table)
    assert facts['exit_rates']['0'] == 0.25 and abs(sum(facts['exit_rates'].values()) - 1) < 1e-9
    assert facts['compute_share'] == pytest.approx(table.shares.mean())
    table.write_csv(tmp_path / 'frames.csv')
    assert_equal(FrameTable.read_csv(tmp_path / 'frames.csv'), table)
    assert exits_figure(table, '').legends[0].get_texts()[0].get_text() == 'gate'
