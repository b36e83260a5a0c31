"""The stream of the benchmark: what is played, and that each line decides as the node does."""

import dataclasses

import numpy as np
import pytest
import torch
from toy_clips import write_video
from toy_outputs import toy_checkpoint

from vit_tactile_ros.data.table import DataError
from vit_tactile_ros.evaluation.benchmark import stream
from vit_tactile_ros.evaluation.benchmark.stream_clips import STEP_NS, read_stream_clip
from vit_tactile_ros.evaluation.benchmark.vit_tiny import VitTiny
from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.frames import SensorFrames
from vit_tactile_ros.inference.gate import GATE_EXIT_INDEX
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.simulator import CLASS_NAMES


@pytest.fixture
def clip(tmp_path):
    """40 frames: a grey gel, and a bright square on frames 12 to 31."""
    frames = np.full((40, 64, 64, 3), 90, np.uint8)
    frames[12:32, 16:40, 16:40] = 200
    return write_video(tmp_path / 'press.avi', frames)


@pytest.fixture
def checkpoint():
    return toy_checkpoint(names=CLASS_NAMES)


@pytest.mark.parametrize('contacts', ([(12, 31)], None))
def test_untouched_frames_are_repeated(clip, checkpoint, contacts):
    """A share of untouched frames that is not reached, or touched frames among those played again."""
    found = read_stream_clip(clip, contacts, checkpoint.preprocessing)
    assert found.touched.sum() == 20 and found.repeated.sum() == 60 and len(found.messages) == 100
    assert np.flatnonzero(found.touched).tolist() == list(range(72, 92))
    levels = np.array([np.frombuffer(m.data, np.uint8).reshape(64, 64, 3)[28, 28, 0] for m in found.messages])
    assert ((levels > 150) == found.touched).all()


def test_a_clip_that_begins_in_contact_is_left_out(clip, checkpoint):
    """A reference that shows the touch: everything after it would be untouched."""
    with pytest.raises(DataError, match='is touched from frame 4 on; its first 5 frames are the no-contact reference'):
        read_stream_clip(clip, [(4, 30)], checkpoint.preprocessing)
    whole = TactileClassifier(checkpoint, 'cpu', threads=1)
    with pytest.raises(DataError, match='no clip can be played'):
        stream.measure_stream(stream.Subject(whole, None, (0.5, 0.5), {}), [clip], {clip.name: [(4, 30)]}, 1, 1)


def test_the_lines_decide_as_the_node(clip, checkpoint):
    """A gate, exits or dropped patches that the figures name and nothing ran with."""
    kept = dataclasses.replace(checkpoint, model=checkpoint.model.changed(token_threshold=0.1))
    whole, tau = TactileClassifier(checkpoint, 'cpu', threads=1), (0.2, 0.2)
    tiny = VitTiny((32, 32), 5).eval()
    subject = stream.Subject(whole, TactileClassifier(kept, 'cpu', threads=1), tau, {'tiny': tiny})
    found = stream.measure_stream(subject, [clip], {clip.name: [(12, 31)]}, 1, 1)
    result = stream.summary(found, subject, ['tiny', 'not there'])
    assert set(found.times) == {'full depth', 'exits alone', 'tokens alone', 'gate alone', 'gate and exits',
                                'all together', 'and changes only', 'tiny', 'preprocessing alone'}
    assert all(len(times) == len(found.touched) == 95 for times in found.times.values())
    played = read_stream_clip(clip, [(12, 31)], checkpoint.preprocessing)
    sensor = SensorFrames(Reference(), checkpoint.preprocessing)
    for number, message in enumerate(played.messages):
        frame = sensor.update(message, number * STEP_NS)
        if number < 5:
            continue
        of = {name: decisions[number - 5] for name, decisions in found.decisions.items()}
        for name in ('gate alone', 'all together'):
            assert (of[name].exit_index == GATE_EXIT_INDEX) is frame.is_untouched
        full, = whole.classify([frame.image], [frame.reference], (1.0, 1.0))
        early, = whole.classify([frame.image], [frame.reference], tau)
        assert of['full depth'].class_id == full.class_id and of['full depth'].exit_index == 2
        assert (of['exits alone'].class_id, of['exits alone'].exit_index) == (early.class_id, early.exit_index)
        assert of['tokens alone'].compute_share <= 1 and of['tokens alone'].exit_index == 2
        if not frame.is_untouched:
            assert (of['gate and exits'].class_id, of['gate and exits'].exit_index) == (early.class_id,
                                                                                       early.exit_index)
    # The square is the same on all its frames: its result is repeated, but not for longer than half a second.
    touch = [d for d in found.decisions['and changes only'] if d.exit_index != GATE_EXIT_INDEX]
    assert len(touch) == 20 and sum(d.compute_share == 0 for d in touch) == 18
    assert len({d.class_id for d in touch}) == 1 and result['unchanged_share'] == pytest.approx(18 / 95)
    assert result['untouched_share'] == pytest.approx(75 / 95) and result['gate_share'] > 0.7
    full, gate = (result['predictions'][name] for name in ('full depth', 'gate alone'))
    assert full['same_class_touched'] == 1 and gate['frames'] == 35 and result['repeated_frames'] == 60
    assert gate['contact_right'] == pytest.approx(1 - (20 * gate['missed'] + 15 * gate['false']) / 35)
    assert list(result['times_as_fast']) == ['tiny'] and result['times_as_fast']['tiny']['mean'] > 0
    # At another size, the exits of the checkpoint's own size, and no statement about the predictions.
    forced = stream.measure_stream(dataclasses.replace(subject, forced=whole, tau=(0.0, 0.0)), [clip],
                                   {clip.name: [(12, 31)]}, 1, 1)
    assert {d.exit_index for d in forced.decisions['exits alone']} == {0}
    assert stream.summary(forced, dataclasses.replace(subject, forced=whole), [])['predictions'] is None


def test_forced_exits_are_taken(clip, checkpoint):
    """Exits that follow confidences which mean nothing."""
    message = read_stream_clip(clip, [(12, 31)], checkpoint.preprocessing).messages[80]
    run = stream.ours(TactileClassifier(checkpoint, 'cpu', threads=1), (0.5, 0.5), stream.Kind(), True).frame
    with torch.inference_mode():
        assert [run(message, 0, exit_index).exit_index for exit_index in (0, 1, 2)] == [0, 1, 2]


def test_the_forced_exits_are_those_of_the_node(clip, checkpoint, monkeypatch):
    """Exits without the gate's evidence of a touch were forced on frames that had it, so too few passed all blocks."""
    whole = TactileClassifier(checkpoint, 'cpu', threads=1)
    subject = stream.Subject(whole, None, (0.5, 0.5), {}, forced=whole)
    played = read_stream_clip(clip, [(12, 31)], checkpoint.preprocessing)
    seen = []
    classify = whole.classify
    monkeypatch.setattr(whole, 'classify', lambda *arguments: seen.append(arguments[5]) or classify(*arguments))
    with torch.inference_mode():
        for kind in (stream.Kind(), stream.Kind(gate=True), stream.Kind(gate=True, changes=True)):
            seen.clear()
            exits = stream._exits_of(played, subject, {kind})[kind]
            computed = seen[len(played.messages) if kind.gate else 0:]  # the first ones are those without the gate
            assert len(exits) == len(played.messages) and set(exits) <= {0, 1, 2}
            assert all((odds is None) != kind.gate for odds in computed), kind
            assert len(computed) < len(played.messages) if kind.gate else len(computed) == len(played.messages)
