"""The report of a replay, parsed: complete, escaped, self-contained, with the values of the table."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from html_page import Page, assert_self_contained
from toy_bags import START, STEP, write_bag
from toy_frames import toy_frames
from toy_touches import picture

from vit_tactile_ros.evaluation.recordings import report
from vit_tactile_ros.evaluation.recordings.figures import sweep_recording
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable, Rejection
from vit_tactile_ros.evaluation.recordings.mistakes import fetch_mistakes, worst_mistakes
from vit_tactile_ros.evaluation.recordings.report import write_report

EVIL = '<script>alert("&1")</script>'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A table of a real bag, its folder and its page."""
    folder = tmp_path_factory.mktemp('report')
    bag = write_bag(folder / 'toy', {'left': [None] * 60, 'right': [None] * 60}, 'mcap')
    table = toy_frames(120).decided(0.4)
    table = dataclasses.replace(
        table, received=START + table.index * STEP, inference_time=np.linspace(0.001, 0.1, 120),
        class_names=(EVIL, 'b', 'c', 'd'), rejections=(Rejection('toy', '/x', 'size', 7, f'at 3: {EVIL}'),))
    path = write_report(table, folder / 'out', title=f'Replay {EVIL}', bags={'toy': bag}, missing=[f'no topic {EVIL}'],
                        facts={'checkpoint': EVIL})
    return table, folder / 'out', Page(path)


def test_page_is_self_contained_and_escaped(written):
    """A page that loads a file, or executes a class, topic or reason from a bag."""
    _, folder, page = written
    assert_self_contained(page, folder)
    assert page.text.count(EVIL) >= 6
    assert len(page.images()) == 2 + 5  # two timelines; confusion, reliability, exits, latency, sweep
    assert page.ids >= {'timeline', 'classes', 'confidence', 'exits', 'sweep', 'mistakes', 'rejected', 'missing'}
    assert [p.name for p in folder.iterdir() if p.suffix not in ('.png', '.html')] == []


def test_values_are_those_of_the_table(written):
    """Precision and recall swapped; figures that count unlabelled frames."""
    table, _, page = written
    labels, predictions = table.label[table.is_labelled], table.class_id[table.is_labelled]
    rows = {row[0]: row for row in page.cells if len(row) >= 5}
    for c, name in enumerate(table.class_names):
        recall, precision = (predictions == c)[labels == c].mean(), (labels == c)[predictions == c].mean()
        assert rows[name][1:5] == [
            str((labels == c).sum()), str(len(set(table.touch[table.label == c]))), f'{100 * recall:.1f} %',
            f'{100 * precision:.1f} %']
    assert f'{100 * (labels == predictions).mean():.1f} %' in page.text
    full = table.decided(1.0)
    assert rows['1'][1] == f'{100 * full.right[table.is_labelled].mean():.1f} %'
    assert rows['1'][2] == f'{100 * table.kept_share[table.is_labelled].mean():.1f} %'
    spent = (np.asarray(table.compute_shares)[table.exit_index] * table.kept_share)[table.is_labelled].mean()
    assert rows['0.4'][2] == f'{100 * spent:.1f} %'


def test_mistakes_show_the_right_images(written):
    """The image of another frame; twelve images of one touch."""
    table, folder, page = written
    rows = worst_mistakes(table)
    assert len(rows) == len(page.images('photo')) == 12
    assert not table.right[rows].any() and table.is_labelled[rows].all()
    assert max(np.unique(table.touch[rows], return_counts=True)[1]) <= 2
    assert (np.diff(table.confidence[rows]) <= 0).all()
    wrong = np.flatnonzero(table.is_labelled & ~table.right)
    assert table.confidence[rows[0]] == table.confidence[wrong].max()
    for number, row in enumerate(rows, 1):
        shown = cv2.cvtColor(cv2.imread(str(folder / f'mistake_{number:02d}.png')), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(shown, picture(int(table.index[row])))
        stamp = int(table.stamp[row])
        assert f'stamp {stamp // 10**9}.{stamp % 10**9:09d}' in page.text


def test_missing_images(tmp_path):
    """No page because a bag was moved or cut off; old images beside new ones."""
    table = dataclasses.replace(toy_frames(60).decided(0.3), received=START + np.arange(60) // 2 * STEP)
    bag = write_bag(tmp_path / 'toy', {'left': [None] * 30, 'right': [None] * 30}, 'mcap')
    assert Page(write_report(table, tmp_path / 'out', title='toy', bags={'toy': bag})).images('photo')
    page = Page(write_report(table, tmp_path / 'out', title='toy', bags={'toy': tmp_path / 'gone'}))
    assert not page.images('photo') and 'no image: ' in page.text and 'gone does not exist' in page.text
    assert not list((tmp_path / 'out').glob('mistake_*'))
    rows = worst_mistakes(table, most=40, per_touch=9)
    assert {one.problem for one in fetch_mistakes(table, rows, {})} == {'the path of bag toy is not known'}
    file = next(bag.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    found = fetch_mistakes(table, rows, {'toy': bag})
    assert [one.row for one in found] == rows and {one.image is None for one in found} == {True, False}
    for one in found:
        assert one.problem if one.image is None else np.array_equal(one.image, picture(int(table.index[one.row])))


def test_without_labels_or_times(tmp_path):
    """Accuracies of frames without labels."""
    table = dataclasses.replace(toy_frames(40), label=np.full(40, -1), touch=np.full(40, ''))
    page = Page(write_report(table, tmp_path, title='toy'))
    assert_self_contained(page, tmp_path)
    assert len(page.images()) == 2 + 2 and 'was not measured' in page.text and 'Without labels' in page.text
    assert not page.ids & {'classes', 'confidence', 'mistakes', 'rejected', 'missing'}
    equal = (table.decided(0.5).class_id == table.logits[-1].argmax(axis=1)).mean()
    assert next(row for row in page.cells if row[:1] == ['0.5'])[1] == f'{100 * equal:.1f} %'


def test_without_frames(tmp_path):
    table = toy_frames(4)
    table = FrameTable.empty(table.class_names, table.exits, table.compute_shares, table.temperatures, table.tau)
    page = Page(write_report(table, tmp_path, title='toy', missing=['all of it']))
    assert_self_contained(page, tmp_path)
    assert 'No frame could be classified' in page.text and 'all of it' in page.text and not page.images()


def test_awkward_tables(tmp_path, monkeypatch):
    """One exit, one frame; a class that never occurs; more topics than are drawn."""
    table = toy_frames(40)
    one = dataclasses.replace(table, logits=table.logits[:1], exits=(4,), compute_shares=(1.0,), temperatures=(1.0,),
                              tau=(), exit_index=np.zeros(40, np.int64))
    assert len(Page(write_report(one.subset(np.array([0])), tmp_path / 'a', title='toy')).images()) == 1 + 4
    monkeypatch.setattr(report, 'MAX_TIMELINES', 1)
    page = Page(write_report(table, tmp_path / 'b', title='toy'))
    assert '1 more image topics are not drawn' in page.text and len(page.images()) == 1 + 4


def test_sweep_is_what_each_tau_decides():
    """A sweep on stored logits that differs from the table at that tau."""
    table = toy_frames(60)
    table = table.subset(table.is_labelled)
    for point in sweep_recording(table, [0.3, 0.7, 1.0]):
        decided = table.decided(point.tau)
        assert point.accuracy == pytest.approx(decided.right.mean())
        assert point.exit_shares == pytest.approx(np.bincount(decided.exit_index, minlength=3) / len(table))
        spent = np.asarray(table.compute_shares)[decided.exit_index] * table.kept_share
        assert point.compute_share == pytest.approx(spent.mean())


def test_sweep_counts_the_gate(tmp_path):
    """The sweep showed the network alone: less speed than the live node has, and other errors."""
    table = toy_frames(60)
    names = ('no_contact', *table.class_names[1:])
    gated = dataclasses.replace(table, class_names=names, exit_index=np.where(np.arange(60) < 20, -1, 0)).decided(0.7)
    half, full = sweep_recording(gated, [0.5, 1.0])
    labelled = gated.subset(gated.is_labelled).decided(0.5)
    assert half.gated_share == labelled.is_gated.mean() > 0.3 and full.gated_share == 0
    assert half.gated_share + sum(half.exit_shares) == pytest.approx(1)
    assert half.accuracy == labelled.right.mean()
    assert half.compute_share < sweep_recording(table, [0.5])[0].compute_share
    assert full == sweep_recording(table, [1.0])[0]
    page = Page(write_report(gated, tmp_path, title='toy'))
    assert 'Untouched frames exit at the gate' in page.text
