"""The export to ONNX, and the example that uses it without PyTorch and this package."""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toy_clips import write_video
from toy_touches import picture

reason = "the export needs onnx, onnxscript and onnxruntime: pip install '.[onnx]'"
for name in ('onnx', 'onnxscript', 'onnxruntime'):
    if importlib.util.find_spec(name) is None:
        pytest.skip(reason, allow_module_level=True)

from vit_tactile_ros import export  # noqa: E402
from vit_tactile_ros.evaluation.cache import fingerprint  # noqa: E402
from vit_tactile_ros.inference.classifier import TactileClassifier  # noqa: E402
from vit_tactile_ros.inference.frames import SensorFrames  # noqa: E402
from vit_tactile_ros.inference.reference import Reference  # noqa: E402
from vit_tactile_ros.model import (  # noqa: E402
    Calibration,
    Checkpoint,
    DropBound,
    ModelConfig,
    PreprocessingConfig,
    ViTTactile,
    load_checkpoint,
    save_checkpoint,
)

EXAMPLE = Path(__file__).parents[1] / 'examples' / 'classify_onnx.py'
NAMES = ('no_contact', 'ball', 'edge')
# A program that has neither torch nor this package.
ALONE = ('import runpy, sys\n'
         'class Missing:\n def find_spec(self, name, *_):\n'
         '  if name.partition(".")[0] in ("torch", "vit_tactile_ros"): raise ImportError(name)\n'
         'sys.meta_path.insert(0, Missing())\n'
         'sys.argv = sys.argv[1:]\n'
         'runpy.run_path(sys.argv[0], run_name="__main__")')


def save_toy(path: Path, seed: int = 0, **changes) -> Path:
    """Every weight random, so that each part shows; motion with two views, a reference, rotated and cropped images."""
    torch.manual_seed(seed)
    model = ViTTactile(ModelConfig(**{'num_classes': 3, 'width': 48, 'heads': 3, 'depth': 2, 'exits': (1, 2),
                                      'image_size': (32, 48), 'feature_map_dim': 32, 'stem': 'convolution',
                                      'channels': 9, 'queries': 2,
                                      'added_exits': True} | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    motion = {'motion_interval': 0.08, 'motion_views': 2} if model.config.channels == 9 else {}
    preprocessing = PreprocessingConfig(image_size=(32, 48), reference='difference', orientation='match', crop='center',
                                        mean=(0.5, 0.4, 0.6), std=(0.1, 0.2, 0.3), **motion)
    save_checkpoint(path, Checkpoint(model, preprocessing, NAMES, Calibration(
        temperatures=(0.7, 1.3), tau=0.6, drops=(DropBound(0.01, 0.95, (0.55,)),))), torch.float32)
    return path


@pytest.fixture(scope='module')
def exported(tmp_path_factory) -> tuple[Path, Path]:
    """Checkpoint and folder."""
    folder = tmp_path_factory.mktemp('export')
    checkpoint = save_toy(folder / 'toy.safetensors')
    assert export.main(['--checkpoint', str(checkpoint), '--output', str(folder / 'network'), '--size', '8']) == 0
    return checkpoint, folder / 'network'


def run_example(*words: object) -> list[tuple[str, float, int]]:
    done = subprocess.run([sys.executable, '-c', ALONE, EXAMPLE, *map(str, words)], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [int(row[0]) for row in rows] == list(range(len(rows)))
    return [(row[1], float(row[2]), int(row[4])) for row in rows]


def expected(checkpoint: Path, images: list[np.ndarray], rate: float, tau: float, fixed: np.ndarray | None = None,
             ) -> list[tuple[str, float, int]]:
    """Of our own classifier; images as OpenCV reads them, BGR."""
    loaded = load_checkpoint(checkpoint)
    classifier = TactileClassifier(loaded, 'cpu', threads=1)
    reference = Reference(fixed=None if fixed is None else classifier.fit(fixed[:, :, ::-1]))
    frames = SensorFrames(reference, loaded.preprocessing, drift=0)
    found = []
    for number, image in enumerate(images):
        frame = frames.update(_message(image), round(number / rate * 1e9))
        limits = classifier.thresholds(tau)
        decision = classifier.classify([frame.image], [frame.reference], limits, [frame.previous])[0]
        found.append((decision.class_name, decision.confidence, decision.exit_block))
    return found


def _message(image: np.ndarray) -> object:
    import array
    from types import SimpleNamespace
    height, width = image.shape[:2]
    return SimpleNamespace(height=height, width=width, encoding='bgr8', is_bigendian=0, step=image.size // height,
                           data=array.array('B', image.tobytes()))


def test_the_example_looks_closer_as_our_classifier_does(tmp_path):
    """Small contacts whole in the program that users copy: another class than the node's."""
    checkpoint = load_checkpoint(save_toy(tmp_path / 'plain.safetensors', channels=3, added_exits=False))
    path = tmp_path / 'zoomed.safetensors'
    save_checkpoint(path, replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, zoom_below=0.05)))
    network, video = tmp_path / 'network', tmp_path / 'touch.avi'
    assert export.main(['--checkpoint', str(path), '--output', str(network), '--size', '8']) == 0
    y, x = np.mgrid[:320, :240]  # portrait: it is rotated
    still = np.stack([90 + y // 8, 100 + x // 8, 110 + (x + y) // 16], axis=2).astype(np.uint8)
    sizes = (3, 5, 7, 12, 40)  # the first stays too small even when enlarged 4 times, the last is large enough
    bumps = [70 * np.exp(-((y - 90 - 9 * n)**2 + (x - 150)**2) / (2 * size**2)) for n, size in enumerate(sizes)]
    images = [still] * 5 + [np.clip(still + bump[..., None], 0, 255).astype(np.uint8) for bump in bumps]
    write_video(video, images, 30.0)
    reader, read = cv2.VideoCapture(str(video)), []
    while (one := reader.read())[0]:
        read.append(one[1])
    wanted = expected(path, read, 30.0, 1.0)
    assert [(name, block) for name, _, block in run_example(network, video, '--tau', 1)] == [
        (name, block) for name, _, block in wanted]
    np.testing.assert_allclose([row[1] for row in run_example(network, video, '--tau', 1)],
                               [row[1] for row in wanted], atol=2e-4)
    whole = expected(tmp_path / 'plain.safetensors', read, 30.0, 1.0)
    enlarged = [abs(a[1] - b[1]) > 1e-3 for a, b in zip(wanted, whole, strict=True)]
    assert enlarged[5:] == [False, True, True, True, False]


def test_the_example_predicts_as_our_classifier(exported, tmp_path):
    """Another resize, colour order, reference, motion, temperature or threshold in the program that users copy."""
    checkpoint, network = exported
    path, rate = tmp_path / 'touch.avi', 30.0
    still = picture(0, 100, 60)  # portrait: it is rotated
    write_video(path, [still if number < 6 else cv2.addWeighted(still, 0.7, picture(number, 100, 60), 0.3, 0)
                       for number in range(24)], rate)
    reader, images = cv2.VideoCapture(str(path)), []
    while (read := reader.read())[0]:
        images.append(read[1])
    everything = expected(checkpoint, images, rate, 0.0)
    tau = sorted(confidence for _, confidence, _ in everything)[12] - 1e-3
    wanted = expected(checkpoint, images, rate, tau)
    got = run_example(network, path, '--tau', tau)
    assert [(name, block) for name, _, block in got] == [(name, block) for name, _, block in wanted]
    assert np.abs(np.subtract([c for _, c, _ in got], [c for _, c, _ in wanted])).max() < 1e-4
    assert len(wanted) == 24 and {block for _, _, block in wanted} == {1, 2}, 'too alike to show anything'


def test_the_example_takes_an_image_and_a_reference(exported, tmp_path):
    """The threshold of the checkpoint, and images that are smaller than the input."""
    checkpoint, network = exported
    images = [picture(number, 30, 40) for number in (1, 2)]
    for name, image in zip(('touch.png', 'still.png'), images, strict=True):
        cv2.imwrite(str(tmp_path / name), image)
    [(name, confidence, block)] = run_example(network, tmp_path / 'touch.png', '--reference', tmp_path / 'still.png')
    [wanted] = expected(checkpoint, images[:1], 30.0, 0.6, fixed=images[1])
    assert (name, block) == (wanted[0], wanted[2]) and abs(confidence - wanted[1]) < 1e-4


def test_what_is_written(exported):
    checkpoint, network = exported
    loaded, about = load_checkpoint(checkpoint), json.loads((network / 'network.json').read_text())
    assert sorted(path.name for path in network.iterdir()) == ['network.json', 'stage_0.onnx', 'stage_1.onnx']
    assert about['fingerprint'] == fingerprint(loaded) and about['class_names'] == list(NAMES)
    assert [(stage['exit_block'], stage['temperature']) for stage in about['stages']] == [(1, 0.7), (2, 1.3)]
    assert [stage.get('logits_input') for stage in about['stages']] == [None, 'logits_before']
    assert about['tau'] == [0.6] and about['bounds'][0]['tau'] == [0.55] and about['gate']['threshold'] == 3.0
    assert about['checked']['largest_difference'] < about['checked']['tolerance'] == 1e-4
    halves = about['checked']['decisions'][1]
    assert halves['exits'] == [4, 4] and halves['differ'] == 0
    assert not any(str(Path(export.__file__).parent).encode() in path.read_bytes() for path in network.iterdir())


def test_files_with_other_outputs_are_not_written(exported, tmp_path, monkeypatch, capsys):
    """Wrong files with status 0."""
    _, network = exported
    other = save_toy(tmp_path / 'other.safetensors', seed=1)
    monkeypatch.setattr(export, 'write_stages', lambda model, folder: [
        Path(shutil.copy(network / f'stage_{index}.onnx', folder)) for index in range(2)])
    assert export.main(['--checkpoint', str(other), '--output', str(tmp_path / 'out'), '--size', '8']) == 1
    assert "engine 'onnxruntime' differs from plain torch: logits of exit 0" in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_network_that_drops_patches_is_refused(tmp_path, capsys):
    """All patches in silence, with thresholds that were fitted to fewer."""
    path = save_toy(tmp_path / 'toy.safetensors', channels=3, token_threshold=0.1)
    assert export.main(['--checkpoint', str(path), '--output', str(tmp_path / 'out')]) == 2
    assert 'has a token_threshold' in capsys.readouterr().err


def test_nothing_is_overwritten(exported, capsys):
    checkpoint, network = exported
    assert export.main(['--checkpoint', str(checkpoint), '--output', str(network)]) == 2
    assert 'exists and is not empty' in capsys.readouterr().err
