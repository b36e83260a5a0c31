"""The checkpoint that comes with the package."""

import pytest
import torch

from vit_tactile_ros.model import compute_shares, load_checkpoint, shipped, shipped_checkpoint


def test_shipped_checkpoint_loads():
    """A shipped file that this release can't read, that is not whole or that outgrew the repository's limit."""
    try:
        path = shipped_checkpoint()
    except FileNotFoundError:
        pytest.skip('models/ holds no checkpoint yet')
    assert path.stat().st_size <= 12e6
    checkpoint = load_checkpoint(path)
    model = checkpoint.model
    assert not model.training and checkpoint.provenance.command
    with torch.no_grad():
        logits, exits = model(torch.zeros(2, 3, *checkpoint.preprocessing.image_size))
    assert logits.shape == (2, len(checkpoint.class_names)) and torch.isfinite(logits).all()
    assert len(compute_shares(model.config)) == len(model.config.exits)


def test_an_installation_without_it_says_so(monkeypatch):
    """An error about some path deep inside the package that does not say what is missing."""
    monkeypatch.setattr(shipped, 'NAME', 'no_such_model.safetensors')
    with pytest.raises(FileNotFoundError, match='no_such_model.safetensors is not beside the package'):
        shipped_checkpoint()


@pytest.mark.parametrize('folder', ('share/vit_tactile_ros/models', 'models'))
def test_found_in_an_install_space_and_in_a_source_tree(monkeypatch, tmp_path, folder):
    """A checkpoint that only one of the ways of installing the package finds."""
    module = tmp_path / 'lib' / 'python3.12' / 'site-packages' / 'vit_tactile_ros' / 'model' / 'shipped.py'
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / 'some.safetensors').touch()
    monkeypatch.setattr(shipped, '__file__', str(module))
    monkeypatch.setattr(shipped, 'NAME', 'some.safetensors')
    assert shipped_checkpoint() == tmp_path / folder / 'some.safetensors'
