"""The checkpoints that come with the package."""

import hashlib
import json

import pytest
import torch

from vit_tactile_ros.model import CheckpointError, compute_shares, load_checkpoint, shipped, shipped_checkpoint

DIGESTS = {
    shipped.SHAPES: '9271bf1dc240ab0cb1a8e06cb4cde9bc0ec632e79652a9c6cba85d82214500a2',
    shipped.SLIP: '5f4da8112cdd411e93bdb611cfc2a478e1e696d59feb7ce4be1d44c7ec2288d0',
}


@pytest.mark.parametrize('name', DIGESTS)
def test_shipped_checkpoint_loads(name):
    """A shipped file that this release cannot read, that is incomplete or too large for the repository."""
    path = shipped_checkpoint(name)
    assert path.stat().st_size <= 12e6
    checkpoint = load_checkpoint(path)
    model = checkpoint.model
    assert not model.training and checkpoint.provenance.command
    with torch.no_grad():
        logits, exits = model(torch.zeros(2, model.config.channels, *checkpoint.preprocessing.image_size))
    assert logits.shape == (2, len(checkpoint.class_names)) and torch.isfinite(logits).all()
    assert len(compute_shares(model.config)) == len(model.config.exits)


@pytest.mark.parametrize('name', DIGESTS)
def test_the_shipped_weights_are_those_that_were_measured(name):
    """Weights that change when only metadata should change; the results in the docs are of these weights."""
    raw = shipped_checkpoint(name).read_bytes()
    size = int.from_bytes(raw[:8], 'little')
    assert json.loads(raw[8:8 + size])['__metadata__']['digest'].startswith('sha256:')
    assert hashlib.sha256(raw[8 + size:]).hexdigest() == DIGESTS[name]


def test_one_flipped_bit_in_the_shipped_weights_is_refused(tmp_path):
    """A copy with a damaged block on the disk, which was loaded without an error."""
    data = bytearray(shipped_checkpoint().read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / 'copy.safetensors').write_bytes(data)
    with pytest.raises(CheckpointError, match='copy.safetensors: weights or metadata were changed'):
        load_checkpoint(tmp_path / 'copy.safetensors')


def test_an_installation_without_it_is_reported():
    """An error about a path inside the package that does not name the missing file."""
    with pytest.raises(FileNotFoundError, match='no_such_model.safetensors was not found for the package'):
        shipped_checkpoint('no_such_model.safetensors')


@pytest.mark.parametrize('folder', ('share/vit_tactile_ros/models', 'models'))
def test_found_in_an_install_space_and_in_a_source_tree(monkeypatch, tmp_path, folder):
    """A checkpoint that is found in only one kind of installation."""
    module = tmp_path / 'lib' / 'python3.12' / 'site-packages' / 'vit_tactile_ros' / 'model' / 'shipped.py'
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / 'some.safetensors').touch()
    monkeypatch.setattr(shipped, '__file__', str(module))
    assert shipped_checkpoint('some.safetensors') == tmp_path / folder / 'some.safetensors'
