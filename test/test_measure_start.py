"""The command that measures starts with the choice of the engine measured and kept."""

import json

import pytest
import torch
from measure_start import main

from vit_tactile_ros.model import Checkpoint, ModelConfig, PreprocessingConfig, ViTTactile, save_checkpoint

pytest.importorskip('openvino')


def test_it_measures_and_keeps(tmp_path, capsys):
    """Starts that are called kept and measure again, because they look elsewhere for the file."""
    torch.manual_seed(0)
    model = ViTTactile(ModelConfig(num_classes=2, image_size=(32, 32), depth=1, exits=(1,), feature_map_dim=8)).eval()
    path = tmp_path / 'toy.safetensors'
    save_checkpoint(path, Checkpoint(model, PreprocessingConfig(image_size=(32, 32)), ('a', 'b')))
    main(['--starts', '1', '--precision', 'float32', '--checkpoint', str(path)])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found['kept'] == 1 and sum(found['chosen'].values()) == 1 and found['cost'] == 1.0
    assert set(found['milliseconds']) == {'torch float32', 'openvino float32'}
    assert found['starts that measured'] == {'measured': 1, 'kept': 0, 'by name': 0}
