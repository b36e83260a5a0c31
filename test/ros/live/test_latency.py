"""The latency command end to end: real nodes, a short video, and what is wrong with its arguments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy_clips import write_video

from vit_tactile_ros.evaluation.touchbench.clips import find_clips
from vit_tactile_ros.latency import main, parse_arguments, parse_variant
from vit_tactile_ros.model import Checkpoint, ModelConfig, PreprocessingConfig, ViTTactile, save_checkpoint
from vit_tactile_ros.ros.live.latency import Measured

ROOT = Path(__file__).parents[3].resolve()


@pytest.fixture
def clip(tmp_path) -> Path:
    """Twelve frames of different grey levels."""
    return write_video(tmp_path / 'clip.avi', [np.full((48, 64, 3), grey, np.uint8) for grey in range(0, 240, 20)], 30)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / 'tiny.safetensors'
    config = ModelConfig(num_classes=3, image_size=(32, 48), width=48, depth=3, exits=(1, 2, 3), feature_map_dim=16)
    save_checkpoint(path, Checkpoint(ViTTactile(config), PreprocessingConfig(
        image_size=(32, 48), reference='difference'), ('nothing', 'ball', 'edge')))
    return path


def run(*arguments: object) -> subprocess.CompletedProcess:
    # A domain of its own, so that no other node on the machine is heard.
    return subprocess.run([sys.executable, '-m', 'vit_tactile_ros.latency', *map(str, arguments)], text=True,
                          capture_output=True, timeout=240)


def test_the_gate_is_not_in_the_times_of_the_network():
    """With an untouched stream, the median in the network was 0."""
    measured = Measured(latency=[0.01, 0.02, 0.03], inference_time=[0.0, 0.0, 0.01], image_age=[0.01] * 3,
                        exit_blocks=[0, 0, 4]).summary()
    assert measured['inference_ms'] == {'p50': 10, 'p99': 10} and measured['around_ms']['p50'] == pytest.approx(20)
    assert measured['latency_ms']['p50'] == pytest.approx(20) and measured['exits'] == {'0': 2, '4': 1}
    assert Measured(latency=[0.01], inference_time=[0.0], exit_blocks=[0]).summary()['inference_ms'] is None
    assert Measured().summary()['latency_ms'] is None


@pytest.mark.parametrize('transport', ('raw', 'compressed'))
def test_two_variants(clip, checkpoint, transport):
    """Times of one node assigned to the other, images of a later clip lost, or a last line that is not JSON.

    The second node has all its images answered by the last exit: its parameters reach it and its results are its own.
    """
    common = [f'checkpoint={checkpoint}', 'threads=1', 'engine=torch']
    ended = run(clip, '--rate', 20, '--rounds', 2, '--cold_starts', 1, '--image_transport', transport,
                '--variant', 'early', *common, 'tau=0', '--variant', 'deep', *common, 'tau=1', f'checkout={ROOT}')
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert 'image to result' in ended.stdout and 'early' in ended.stdout
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result['clips'] == 1 and list(result['variants']) == ['early', 'deep']
    for name, block in (('early', '1'), ('deep', '3')):
        row = result['variants'][name]
        assert row['engine'] == 'torch'
        assert row['sent'] == 24
        assert 12 <= row['results'] <= 24  # a busy machine may supersede some
        assert row['exits'] == {block: row['results']}
        assert 0 < row['inference_ms']['p50'] < row['image_age_ms']['p50'] < row['latency_ms']['p50']
        assert row['cold_start_s']['n'] == 1 and row['cold_start_s']['p50'] > 0.2


def test_a_node_that_does_not_start_ends_it(clip):
    """A wait of two minutes, or an empty table, although the node reports the error immediately."""
    ended = run(clip, '--variant', 'broken', 'tau=7')
    assert ended.returncode == 1
    assert 'broken: the node ended with 2' in ended.stderr and 'tau is 7' in ended.stderr


def start(clip: Path, checkpoint: Path) -> subprocess.Popen:
    """Playing one image a second, for twelve seconds."""
    return subprocess.Popen(
        [sys.executable, '-m', 'vit_tactile_ros.latency', str(clip), '--rate', '1', '--variant', 'one',
         f'checkpoint={checkpoint}', 'engine=torch', 'threads=1'], stderr=subprocess.PIPE, text=True)


def nodes_of(command: subprocess.Popen) -> list[int]:
    found = subprocess.run(['pgrep', '-f', f'__ns:=/latency_{command.pid}_'], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def wait_for_node(command: subprocess.Popen) -> int:
    end = time.monotonic() + 60
    while not (found := nodes_of(command)):
        assert command.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    return found[0]


@pytest.mark.parametrize('number', (signal.SIGTERM, signal.SIGINT))
@pytest.mark.parametrize('seconds', (0, 8))  # while the node starts, and while images are played
def test_no_node_is_left_behind(clip, checkpoint, number, seconds):
    """A command that is interrupted or timed out, and whose nodes keep running."""
    command = start(clip, checkpoint)
    wait_for_node(command)
    time.sleep(seconds)
    command.send_signal(number)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 130 and 'stopped' in errors and 'Traceback' not in errors
    assert not nodes_of(command)


def test_a_node_that_crashes_ends_the_measurement(clip, checkpoint):
    """A table of the results before the crash, and exit status 0."""
    command = start(clip, checkpoint)
    node = wait_for_node(command)
    time.sleep(8)
    os.kill(node, signal.SIGKILL)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 1 and 'one: the node ended with -9' in errors


def test_a_clip_that_is_not_a_video(tmp_path, clip, checkpoint):
    """A damaged file measured as a clip without images, or detected only after hours."""
    broken = tmp_path / 'broken.avi'
    broken.write_bytes(b'RIFF')
    begun = time.monotonic()
    ended = run(clip, broken, '--rate', 0.1, '--variant', 'one', f'checkpoint={checkpoint}', 'engine=torch',
                'threads=1')
    assert ended.returncode == 1
    assert f'{broken} cannot be read as a video' in ended.stderr
    assert time.monotonic() - begun < 60  # s; the good clip takes 120


def test_clips_of_folders(tmp_path, clip):
    """Other files of a folder used as clips, or a misspelt path ignored."""
    (tmp_path / 'clips.csv').write_text('a,b\n')
    assert find_clips([tmp_path, clip]) == [clip, clip]
    for wrong in (tmp_path / 'missing.avi', tmp_path / 'nowhere'):
        with pytest.raises(ValueError, match=wrong.name):
            find_clips([wrong])


def test_variants_are_parsed(tmp_path):
    """Numbers that reach the node as text, which it refuses."""
    name, parameters, checkout = parse_variant(['fast', 'engine=openvino', 'tau=0.5', 'threads=2'])
    assert (name, checkout) == ('fast', None)
    assert parameters == {'engine': 'openvino', 'tau': 0.5, 'threads': 2}
    assert parse_variant(['before', f'checkout={ROOT}'])[2] == ROOT
    for words, part in ((['engine=torch'], 'name must come first'), (['a', 'torch'], "'torch' must be PARAMETER=VALUE"),
                        (['a', 'sensors=[left]'], 'sensors cannot differ between variants'),
                        (['a', 'tau=[0.9'], "'tau=\\[0.9' must be"), (['a', '=3'], "'=3' must be"),
                        (['a', 'tau='], "'tau=' must be"),
                        (['a', f'checkout={tmp_path}'], 'must be a checkout of this repository')):
        with pytest.raises(ValueError, match=part):
            parse_variant(words)


@pytest.mark.parametrize(('arguments', 'part'), (
    (['--rate', '0'], '--rate is 0.0'), (['--images', '0'], '--images is 0'), (['--rounds', '0'], '--rounds is 0'),
    (['--cold_starts', '-1'], '--cold_starts is -1'),
    (['--variant', 'a', '--variant', 'a', 'tau=1'], 'the names are a, a'),
))
def test_bad_arguments(arguments, part, clip, capsys):
    """A division by zero far from its cause, or two variants counted as one."""
    with pytest.raises(SystemExit) as ended:
        parse_arguments([str(clip), *arguments])
    assert ended.value.code == 2 and part in capsys.readouterr().err


def test_without_ros_it_says_so(clip, monkeypatch, capsys):
    """A traceback where ROS or the build is missing."""
    monkeypatch.setitem(sys.modules, 'vit_tactile_ros.ros.live.latency', None)
    assert main([str(clip)]) == 2
    assert 'needs ROS 2' in capsys.readouterr().err
