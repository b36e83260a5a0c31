"""Replay end to end on toy bags: rows, references, what is missing, exit codes, and one rule with the classifier."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_bags import write_bag, write_intervals
from toy_outputs import NAMES, toy_checkpoint
from toy_touches import picture

from vit_tactile_ros.data.bags.labels import read_intervals
from vit_tactile_ros.evaluation.recordings.frame_table import FrameTable
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.ranges import activation_ranges
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.inference.runtime import has_vnni
from vit_tactile_ros.model import GREY_SHARE, Calibration, DropBound, load_checkpoint, save_checkpoint
from vit_tactile_ros.replay import ReplayRequest, _settings, main
from vit_tactile_ros.simulator import GELSIGHT, SensorUnit, sample_contact

TAU = 0.9


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('checkpoint') / 'toy.safetensors'
    save_checkpoint(path, toy_checkpoint())
    return path


@pytest.fixture
def replay(tmp_path, checkpoint, capsys):
    """Runs it; the exit code, the summary and the rows."""
    def run(*arguments: object) -> tuple[int, dict, FrameTable]:
        code = main([*map(str, arguments), '--checkpoint', str(checkpoint), '--tau', str(TAU), '--batch_size', '7',
                     '--output', str(tmp_path / 'out')])
        lines = capsys.readouterr().out.splitlines()
        summary = json.loads(lines[-1])
        assert summary == json.loads((tmp_path / 'out' / 'summary.json').read_text())
        return code, summary, FrameTable.read_csv(tmp_path / 'out' / 'frames.csv')
    return run


LABELS: list[str | None] = [NAMES[0]] * 12 + [NAMES[1]] * 10 + [None] * 3


@pytest.mark.parametrize(('kind', 'compressed'), [('db3', False), ('mcap', True), ('bag', False)])
def test_as_the_classifier_alone(tmp_path, replay, checkpoint, kind, compressed):
    """Frame by frame what the live node's code says: the mean of the first three images is the reference."""
    bag = write_bag(tmp_path / ('b.bag' if kind == 'bag' else 'b'), {'left': LABELS}, kind, compressed)
    code, summary, table = replay(bag, '--reference_frames', 3)
    classifier, reference = TactileClassifier(load_checkpoint(checkpoint), 'cpu', threads=1), Reference(3)
    for number in range(len(LABELS)):
        frame = classifier.fit(picture(number))
        reference.update(frame)
        alone = classifier.classify([frame], [reference.frame], classifier.thresholds(TAU))[0]
        assert (table.class_id[number], table.exit_index[number]) == (alone.class_id, alone.exit_index)
        np.testing.assert_allclose(table.probabilities[number], alone.probabilities, atol=1e-5)
    assert code == 0 and summary['missing'] == [] and summary['classified'] == len(LABELS)
    assert len(set(table.exit_index)) > 1  # or nothing was decided
    np.testing.assert_array_equal(table.label, [0] * 12 + [1] * 10 + [-1] * 3)
    right = (table.class_id == table.label)[:22]
    assert summary['labelled'] == 22 and summary['accuracy'] == pytest.approx(right.mean())
    assert summary['balanced_accuracy'] == pytest.approx((right[:12].mean() + right[12:].mean()) / 2)
    np.testing.assert_allclose(table.seconds, 0.1 * np.arange(25), atol=1e-9)


def test_several_bags_sensors_and_times(tmp_path, replay):
    bags = [write_bag(tmp_path / 'bags' / name, {'left': [None] * 20, 'right': [None] * 20})
            for name in ('one', 'two') if (tmp_path / 'bags').mkdir(exist_ok=True) is None]
    code, summary, table = replay(bags[0].parent, '--sensors', 'right', '--start', 0.5, '--stop', 1.5)
    assert code == 0 and summary['bags'] == 2 and list(summary['sensors']) == ['right']
    assert table.bag.tolist() == ['one'] * 10 + ['two'] * 10
    np.testing.assert_allclose(table.seconds[:10], 0.5 + 0.1 * np.arange(10), atol=1e-9)


def test_an_earlier_report_is_removed(tmp_path, replay, checkpoint, capsys):
    """The report and figures of an earlier replay stayed beside the new frames.csv."""
    bag, out = write_bag(tmp_path / 'b', {'left': LABELS}), tmp_path / 'out'
    out.mkdir()
    for name in ('report.html', 'exits.png', 'timeline_07.png', 'events.csv', 'touches.csv', 'my.png'):
        (out / name).touch()
    assert replay(bag)[0] == 0
    # Not what a user may have corrected, or put there.
    assert {path.name for path in out.iterdir()} == {'frames.csv', 'frames.json', 'summary.json', 'touches.csv',
                                                     'my.png'}
    assert main([str(bag), '--checkpoint', str(checkpoint), '--output', str(out), '--labels',
                 str(out / 'touches.csv')]) == 2
    assert 'touches.csv, which this replay would overwrite: rename it' in capsys.readouterr().err


def test_a_reference_file(tmp_path, replay):
    import cv2

    bag = write_bag(tmp_path / 'b', {'left': [None] * 9})
    file = tmp_path / 'gel.png'
    cv2.imwrite(str(file), cv2.cvtColor(picture(0), cv2.COLOR_RGB2BGR))
    _, _, given = replay(bag, '--reference_files', f'left={file}')
    _, _, first = replay(bag, '--reference_frames', 1)
    np.testing.assert_array_equal(given.logits, first.logits)
    code, summary, _ = replay(bag, '--reference_files', f'thumb={file}')
    assert code == 1 and "no images of a sensor 'thumb'" in summary['missing'][0]


def test_too_few_images_for_the_reference(tmp_path, replay, checkpoint):
    """A bag with fewer images took its touch as its reference: `no_contact` at 0.9966, no note, status 0."""
    import cv2

    bag = write_bag(tmp_path / 'b', {'left': [None] * 4, 'right': [None] * 5})
    code, summary, table = replay(bag)
    assert code == 1 and len(table) == 9
    for told in (summary['missing'], summary['notes']):
        assert len(told) == 1 and told[0].startswith("b: sensor 'left' has 4 usable images, fewer than the 5 of its")
    assert replay(bag, '--reference_frames', 4)[0] == 0
    file = tmp_path / 'gel.png'
    cv2.imwrite(str(file), picture(0))
    assert replay(bag, '--reference_files', f'left={file}')[0] == 0
    assert replay(bag, '--sensors', 'right')[0] == 0
    assert replay(bag, '--start', 0.15, '--sensors', 'right')[0] == 1  # three are left
    plain = load_checkpoint(checkpoint)
    save_checkpoint(tmp_path / 'plain.safetensors', dataclasses.replace(
        plain, preprocessing=dataclasses.replace(plain.preprocessing, reference='none')))
    assert main([str(bag), '--checkpoint', str(tmp_path / 'plain.safetensors'), '--tau', '1', '--output',
                 str(tmp_path / 'o')]) == 0


def test_a_column_of_another_type(tmp_path, replay):
    """An integer as data became that many zero bytes; a text as timestamp ended the replay of all bags."""
    for number, change in enumerate(('data=2000000000', "timestamp='x'")):
        bag = write_bag(tmp_path / str(number), {'': [None] * 8})
        database = sqlite3.connect(next(bag.glob('*.db3')))
        database.execute(f'UPDATE messages SET {change} WHERE id=3')
        database.commit()
        database.close()
    code, summary, table = replay(tmp_path / '0', tmp_path / '1')
    assert code == 1 and len(table) == 14 and len(summary['missing']) == 2
    assert all('message 3 of /image_raw is damaged' in text for text in summary['missing'])


def test_the_labels_are_read_once(tmp_path, replay, monkeypatch):
    """The file of labels was parsed for every bag, and twice more."""
    from vit_tactile_ros.data.bags import labels as bag_labels

    bags = [write_bag(tmp_path / name, {'left': [None] * 8}) for name in ('one', 'two', 'three')]
    labels = write_intervals(tmp_path / 'l.csv', f'0,1,{NAMES[1]}')
    reads = []
    read_rows = bag_labels.read_rows
    monkeypatch.setattr(bag_labels, 'read_rows', lambda path: reads.append(path) or read_rows(path))
    code, summary, _ = replay(*bags, '--labels', labels)
    assert code == 0 and summary['labelled'] == 24 and reads == [labels]


@pytest.mark.parametrize(('arguments', 'missing'), [
    (['--topics', '/left/image_raw', '/nowhere'], 'no topic /nowhere; it has /left/image_raw'),
    (['--sensors', 'left', 'right'], "no images of a sensor 'right'; it has 'left'"),
    (['--start', 99], 'start is 99.0 s; the recording lasts 1.900 s')])
def test_what_is_missing_is_named(tmp_path, replay, arguments, missing):
    code, summary, table = replay(write_bag(tmp_path / 'b', {'left': [None] * 20}), *arguments)
    assert code == 1 and missing in summary['missing'][0]
    assert len(table) == (0 if '--start' in arguments else 20)


def test_labels_outside_and_overlapping(tmp_path, replay):
    bag = write_bag(tmp_path / 'b', {'left': [None] * 20})
    labels = write_intervals(tmp_path / 'l.csv', f'0,1,{NAMES[1]}', f'0.9,1.2,{NAMES[2]}', f'70,80,{NAMES[2]}')
    code, summary, table = replay(bag, '--labels', labels)
    assert code == 1 and summary['labelled'] == 11
    assert [text.split(': ', 1)[1][:22] for text in summary['missing']] == ['the intervals of lines',
                                                                           'no image lies in this ']


def test_bad_pictures_are_counted(tmp_path, replay):
    """Rejected by reason, and the other sensor's images count."""
    write_bag(tmp_path / 'a', {'': [None] * 4}, encoding='32FC1')
    write_bag(tmp_path / 'b', {'': [None] * 4})
    code, summary, table = replay(tmp_path / 'a', tmp_path / 'b')
    assert summary['rejected'] == {'encoding': 4} and len(table) == 4 and "'32FC1'" in summary[
        'rejected_examples'][0]
    assert summary['images'] == 8


def test_a_damaged_bag_among_others(tmp_path, replay):
    whole = write_bag(tmp_path / 'whole', {'': [None] * 20})
    cut = write_bag(tmp_path / 'cut', {'': [None] * 20}, 'mcap')
    file = next(cut.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    (tmp_path / 'nothing.mcap').write_bytes(b'nothing')
    code, summary, table = replay(whole, cut, tmp_path / 'nothing.mcap')
    assert code == 1 and (table.bag == 'whole').sum() == 20 and 0 < (table.bag == 'cut').sum() < 20
    assert any('cut short' in text for text in summary['missing'])
    assert any('nothing.mcap: no message can be read' in text for text in summary['missing'])


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--tau', '2'], 'tau'), (['nowhere.bag'], 'nowhere.bag does not exist')])
def test_nothing_to_do(tmp_path, checkpoint, capsys, arguments, message):
    bag = write_bag(tmp_path / 'b', {'': [None] * 3})
    bags = [str(bag)] if '--tau' in arguments else []
    assert main([*bags, *arguments, '--checkpoint', str(checkpoint), '--output', str(tmp_path / 'o')]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(('engine', 'message'), [
    ('torch', 'plain torch has no 8-bit layers'), ('auto', 'calibrate --checkpoint FILE|VNNI|not installed')])
def test_int8_that_can_not_be_had_is_refused(tmp_path, checkpoint, capsys, engine, message):
    """A replay in float32 under the name of int8."""
    bag = write_bag(tmp_path / 'b', {'': [None] * 3})
    assert main([str(bag), '--engine', engine, '--precision', 'int8', '--checkpoint', str(checkpoint), '--output',
                 str(tmp_path / 'o')]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.skipif(not has_vnni() or importlib.util.find_spec('openvino') is None,
                    reason='int8 needs OpenVINO and a CPU with VNNI')
def test_int8_reaches_the_network(tmp_path, replay, checkpoint):
    """A precision that is asked for and not obeyed: the rows would be those of float32."""
    bag = write_bag(tmp_path / 'b', {'left': LABELS})
    plain = replay(bag)[2]
    exact = load_checkpoint(checkpoint)
    images = torch.randn(8, 3, *exact.preprocessing.image_size)
    save_checkpoint(tmp_path / 'ranges.safetensors', dataclasses.replace(exact, calibration=dataclasses.replace(
        exact.calibration, activation_ranges=activation_ranges(exact.model, [images]))))
    assert main([str(bag), '--engine', 'openvino', '--precision', 'int8', '--tau', '1', '--checkpoint',
                 str(tmp_path / 'ranges.safetensors'), '--output', str(tmp_path / 'o')]) == 0
    fast = FrameTable.read_csv(tmp_path / 'o' / 'frames.csv')
    assert 1e-4 < np.abs(fast.logits - plain.logits).max() < 0.1 * np.abs(plain.logits).max()


def test_ctrl_c_keeps_what_was_done(tmp_path, checkpoint):
    """The rows until then are written, and the exit code is the shell's for it."""
    code = ('import os, signal, sys\nimport vit_tactile_ros.evaluation.recordings.replaying as r\n'
            'add = r._Collected.add\ndef one(self, *a):\n    add(self, *a)\n    os.kill(os.getpid(), signal.SIGINT)\n'
            'r._Collected.add = one\nfrom vit_tactile_ros.replay import main\nsys.exit(main(sys.argv[1:]))')
    bag = write_bag(tmp_path / 'b', {'': [None] * 40})
    ended = subprocess.run([sys.executable, '-c', code, str(bag), '--checkpoint', str(checkpoint), '--batch_size', '8',
                            '--output', str(tmp_path / 'o')], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 128 + signal.SIGINT, ended.stderr
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary['stopped'] and 0 < len(FrameTable.read_csv(tmp_path / 'o' / 'frames.csv')) < 40


def test_without_ray(tmp_path, checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    bag = write_bag(tmp_path / 'b', {'': [None] * 3})
    assert main([str(bag), '--ray', '--checkpoint', str(checkpoint), '--output', str(tmp_path / 'o')]) == 2
    assert "pip install 'vit_tactile_ros[cluster]'" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec('ray') is None, reason='Ray, an optional extra, is not installed')
def test_a_cluster_gives_the_same_rows(tmp_path, replay):
    bags = [write_bag(tmp_path / name, {'left': LABELS}) for name in ('one', 'two', 'three')]
    _, _, here = replay(*bags, '--timing_frames', 0)
    code, _, there = replay(*bags, '--timing_frames', 0, '--ray')
    assert code == 0
    for field in dataclasses.fields(FrameTable):
        np.testing.assert_array_equal(getattr(here, field.name), getattr(there, field.name))


def test_grey_images_get_a_note(tmp_path, replay, checkpoint):
    """Predicted with 0.99 confidence and right in one case of four, without a word; not so for a network of grey."""
    bag = write_bag(tmp_path / 'b', {'left': [None] * 6}, encoding='mono8')
    code, summary, _ = replay(bag)
    assert code == 0 and len(summary['notes']) == 1
    assert "6 of 6 images of sensor 'left' are grey; the network was trained on colour images" in summary['notes'][0]
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, dataclasses.replace(loaded, provenance=dataclasses.replace(
        loaded.provenance, metrics={GREY_SHARE: 1.0})))
    try:
        assert replay(bag)[1]['notes'] == []
    finally:
        save_checkpoint(checkpoint, loaded)


def test_touches(tmp_path):
    """The summary, the files and the line of a recorded touch, with the shipped checkpoint."""
    rng = np.random.default_rng(3)
    unit = SensorUnit(GELSIGHT, rng)
    contact = sample_contact('ring', GELSIGHT, rng, depth_fraction=0.8)
    images = [unit.render(c, rng) for c in [None] * 8 + [contact] * 8 + [None] * 8]
    bag = write_bag(tmp_path / 'b', {'left': ['no_contact'] * 8 + ['ring'] * 8 + ['no_contact'] * 8}, of=images)
    output = tmp_path / 'out'
    assert main([str(bag), '--output', str(output), '--timing_frames', '0', '--report']) == 0
    touches = json.loads((output / 'summary.json').read_text())['touches']
    assert {k: touches[k] for k in ('touches', 'labelled_touches', 'found', 'false', 'accuracy')} == {
        'touches': 1, 'labelled_touches': 1, 'found': 1, 'false': 0, 'accuracy': 1.0}
    assert touches['onset_error']['max'] == 0.0
    assert [i.label for i in read_intervals(output / 'touches.csv').intervals] == ['ring']


@pytest.mark.parametrize(('setting', 'text'), [
    ({'start': -1.0}, 'start is -1.0; must be s from the start of the bag, at least 0'),
    ({'stop': math.nan}, 'stop is nan'),
    ({'start': 2.0, 'stop': 2.0}, 'the start must be before the stop'),
    ({'speed': 0.0}, 'speed is 0.0; must be above 0'),
    ({'reference_drift': -1.0}, 'reference_drift is -1.0'),
    ({'reference_files': ('left.png',)}, 'reference_files left.png: must be SENSOR=FILE'),
])
def test_settings_that_are_refused(setting, text):
    with pytest.raises(UserError, match=re.escape(text)):
        ReplayRequest((Path('b'),), **setting)


def test_accuracy_drop(capsys):
    """The thresholds of the bound; one below the smallest bound of the checkpoint is refused."""
    drops = (DropBound(0.001, 0.95, (1.0, 1.0)), DropBound(0.005, 0.95, (0.9, 0.8)))
    tuned = toy_checkpoint()
    tuned = dataclasses.replace(tuned, calibration=Calibration(
        (1.0,) * len(tuned.model.config.exits), 0.7, drops, 1000, (0.01,) * len(tuned.model.config.exits)))
    settings = _settings(ReplayRequest((Path('b'),), max_accuracy_drop=0.005), tuned)
    assert settings.tau[:2] == (0.9, 0.8) and 'replay: note: ' in capsys.readouterr().err
    with pytest.raises(UserError, match='--max_accuracy_drop is 0.0001: '):
        _settings(ReplayRequest((Path('b'),), max_accuracy_drop=0.0001), tuned)
