"""What a run shows: its logs, read back, and the warning before attention collapses."""

import dataclasses
import json
import logging
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_training import CONFIG, Colours, fit_toy, make_model

from vit_tactile_ros.model import ModelConfig, ViTTactile
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.monitoring import COLLAPSE_RMS, CollapseWatch, LogError, RunLog, query_key_rms

SETTINGS = TrainingConfig(batch_size=16, epochs=2, lr=1e-3)


def train(output, epochs=2, **others):
    return fit_toy(output, None, Colours(36), Colours(6, seed=1), dataclasses.replace(SETTINGS, epochs=epochs),
                   **others)


def test_tensorboard_has_every_figure_once(tmp_path):
    """A figure that is missing, or logged twice or lost where a run went on."""
    train(tmp_path)
    train(tmp_path, epochs=3)
    events = EventAccumulator(str(tmp_path / 'tensorboard'), {'scalars': 0, 'images': 0}).Reload()
    steps = {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}
    every, ends = list(range(9)), [2, 5, 8]
    wanted = dict.fromkeys(('loss/total', 'loss/block_1', 'loss/block_2', 'learning_rate', 'gradient_norm'), every)
    wanted |= dict.fromkeys(('validation/accuracy_block_1', 'validation/accuracy_block_2', 'images_per_s',
                             'rms/query_1', 'rms/key_1', 'rms/query_2', 'rms/key_2'), ends)
    assert steps == wanted
    assert events.Scalars('learning_rate')[0].value == pytest.approx(1e-3)
    assert events.Scalars('images_per_s')[0].value > 0
    picture, = events.Images('inputs')
    assert (picture.width, picture.height) == (4 * 32, 4 * 32)


def test_wandb_works_offline(tmp_path, monkeypatch):
    """--use-wandb that needs an account or a network, or logs nothing."""
    pytest.importorskip('wandb', reason='wandb is optional (pip install wandb) and is not installed')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    train(tmp_path, use_wandb=True)
    name = (tmp_path / 'wandb_id').read_text()
    files = list(tmp_path.glob(f'wandb/offline-run-*-{name}/run-{name}.wandb'))
    assert len(files) == 1 and files[0].stat().st_size > 1000


def test_wandb_that_is_missing_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(LogError, match='--use-wandb needs it: pip install wandb'):
        RunLog(tmp_path, {}, use_wandb=True)


def test_rms_is_that_of_queries_and_keys():
    """Queries taken for keys, a block for its neighbour, or a hook that stays."""
    model = make_model().train()
    inputs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for stage, (query, key) in zip(model.stage_modules, ((0.5, 0.25), (2.0, 3.0)), strict=True):
            stage.blocks[0].attention.q_norm.gain.fill_(query)
            stage.blocks[0].attention.k_norm.gain.fill_(key)
    measured = query_key_rms(model, inputs)
    assert measured == [pytest.approx((0.5, 0.25), rel=1e-2), pytest.approx((2.0, 3.0), rel=1e-2)]
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def test_rms_without_normalisation():
    model = ViTTactile(dataclasses.replace(CONFIG, qk_norm=False))
    assert all(0 < value < 10 for pair in query_key_rms(model, torch.randn(2, 3, 32, 32)) for value in pair)


def test_rms_is_by_block_where_images_keep_other_patches():
    """Groups of images run one after the other: their values were taken for those of further blocks."""
    model = ViTTactile(ModelConfig(num_classes=3, image_size=(32, 64), width=48, depth=2, exits=(1, 2),
                                   feature_map_dim=16, token_threshold=0.1))
    images = torch.zeros(2, 3, 32, 64)
    images[1] = torch.randn(3, 32, 64)
    assert len(model.choose(images)) == 2 and len(query_key_rms(model, images)) == 2


def test_collapse_is_warned_of_once_per_block(caplog):
    watch = CollapseWatch('favor_softmax', qk_norm=True)
    with caplog.at_level(logging.WARNING):
        assert watch.look([(0.5, 0.5), (COLLAPSE_RMS + 0.1, 0.5)]) == [2]
        assert watch.look([(0.5, 0.5), (COLLAPSE_RMS + 0.2, 0.5)]) == []
        assert watch.look([(0.5, 2.0), (2.0, 2.0)]) == [1]
    assert 'block 2: the rms of its queries is 1.35, of its keys 0.50' in caplog.text
    assert '--attention favor_relu' in caplog.text
    assert CollapseWatch('favor_relu', True).look([(9.0, 9.0)]) == []
    assert CollapseWatch('softmax', True).look([(9.0, 9.0)]) == []


def test_attention_does_collapse_where_it_is_warned_of():
    """The threshold is about this implementation: above it attention really is the plain average of the values."""
    from vit_tactile_ros.model.attention import SelfAttention

    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, width=192, feature_map_dim=64)
    x = torch.randn(2, 48, 192)

    def distance_from_average(rms):
        attention = SelfAttention(config)
        captured = []
        attention.kernel.register_forward_hook(lambda m, inputs, out: captured.append((inputs[2], out)))
        with torch.no_grad():
            attention.q_norm.gain.fill_(rms)
            attention.k_norm.gain.fill_(rms)
            attention(x)
        values, out = captured[0]
        mean = values.mean(dim=2, keepdim=True)
        return float((out - mean).norm() / mean.expand_as(out).norm())

    assert distance_from_average(0.5) > 10 * distance_from_average(1.5)
    assert distance_from_average(1.5) < 0.05
    assert json.dumps(COLLAPSE_RMS) == '1.25'
