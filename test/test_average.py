"""Averaging checkpoints that were trained from one another."""

import dataclasses

import pytest
import torch

from vit_tactile_ros.average import main
from vit_tactile_ros.model import (
    Checkpoint,
    ModelConfig,
    PreprocessingConfig,
    Provenance,
    ViTTactile,
    load_checkpoint,
    save_checkpoint,
)
from vit_tactile_ros.training.initialise import start_from

CONFIG = ModelConfig(num_classes=2, image_size=(32, 32), depth=1, exits=(1,), feature_map_dim=8)
PREPROCESSING = PreprocessingConfig(image_size=(32, 32))


def save(path, config=CONFIG, seed=0, names=('a', 'b'), start=None):
    torch.manual_seed(seed)
    checkpoint = Checkpoint(ViTTactile(config).eval(), PREPROCESSING, names, provenance=Provenance(command=path.stem))
    if start:
        start_from(checkpoint.model, start, names)
        with torch.no_grad():
            for parameter in checkpoint.model.parameters():
                parameter += 0.5
    save_checkpoint(path, checkpoint, dtype=torch.float32)
    return checkpoint


def test_common_weights_are_averaged_and_the_rest_stays(tmp_path, capsys):
    """A network grown deeper from a shallow one: the shared block and head meet half way, the new ones stay."""
    shallow = save(tmp_path / 'one.safetensors')
    deep = save(tmp_path / 'two.safetensors', dataclasses.replace(CONFIG, depth=2, exits=(1, 2)), 1, start=shallow)
    output = tmp_path / 'both.safetensors'
    assert main([str(tmp_path / 'two.safetensors'), str(tmp_path / 'one.safetensors'), '--output', str(output)]) == 0
    both = load_checkpoint(output)
    weights, low, high = (c.model.state_dict() for c in (both, shallow, deep))
    for name, tensor in high.items():
        wanted = (tensor + low[name]) / 2 if name in low else tensor
        torch.testing.assert_close(weights[name], wanted, atol=1e-3, rtol=1e-3)
    assert any('stage_modules.1' in name for name in high)
    assert both.provenance.command.startswith('one; two; python -m vit_tactile_ros.average')


def test_strangers_are_refused(tmp_path, capsys):
    """Other random features: the mean of the two would be neither."""
    first, second = tmp_path / 'one.safetensors', tmp_path / 'two.safetensors'
    save(first)
    save(second, seed=1)
    assert main([str(first), str(second), '--output', str(tmp_path / 'x.safetensors')]) == 2
    assert 'trained from the other' in capsys.readouterr().err
    save(second, dataclasses.replace(CONFIG, added_exits=True))
    assert main([str(first), str(second), '--output', str(tmp_path / 'x.safetensors')]) == 2
    assert 'of one add to the exit before' in capsys.readouterr().err
    save(second, names=('a', 'c'))
    assert main([str(first), str(second), '--output', str(tmp_path / 'x.safetensors')]) == 2
    assert 'a, c' in capsys.readouterr().err
    assert not (tmp_path / 'x.safetensors').exists()


def test_one_checkpoint_is_not_enough(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / 'one.safetensors'), '--output', 'x.safetensors'])
    assert 'two or more' in capsys.readouterr().err
