"""The cards of the shipped checkpoints agree with their weights."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from vit_tactile_ros.inference.motion_figures import FIGURES
from vit_tactile_ros.inference.slip_network import SLIP_MOTION, load_slip_network
from vit_tactile_ros.model import load_checkpoint
from vit_tactile_ros.model.shipped import SHAPES, SLIP

MODELS = Path(__file__).parents[2] / 'models'
SECTIONS = ('Training data', 'Figures', 'Calibration', 'Known failures', 'Use')


def facts_of(card: Path) -> dict[str, str]:
    text = card.read_text(encoding='utf-8').partition('\n## ')[0]
    return dict(re.findall(r'^\| (\w[\w ]*) \| (.+) \|$', text, re.MULTILINE))


@pytest.mark.parametrize('weights', [MODELS / name for name in (SHAPES, SLIP)], ids=lambda path: path.stem)
def test_a_card_describes_its_weights(weights):
    """A checkpoint is trained again, and its card keeps the classes, the date or the calibration of the one before."""
    card = weights.with_suffix('.md')
    facts, checkpoint = facts_of(card), load_checkpoint(weights)
    config, calibration = checkpoint.model.config, checkpoint.calibration
    assert facts['file'] == f'`{weights.name}`'
    assert facts['digest'] == f'`{checkpoint.digest}`' and checkpoint.digest.startswith('sha256:')
    assert facts['created'] == checkpoint.provenance.created
    assert tuple(re.findall(r'`(\w+)`', facts['classes'])) == checkpoint.class_names
    height, width = config.image_size
    assert facts['input'].startswith(f'{height}x{width} px (height x width) RGB')
    before = [f'{checkpoint.preprocessing.motion_interval * 2**view:.2f}'
              for view in range(checkpoint.preprocessing.motion_views)] if config.channels > 3 else []
    assert re.findall(r'0\.\d+', facts['input']) == before
    assert ('reference' in facts['input']) == (checkpoint.preprocessing.reference == 'difference')
    assert re.findall(r'\d+', facts['network'].partition('exits after blocks ')[2]) == [str(e) for e in config.exits]
    assert f'{config.feature_map_dim} ReLU features' in facts['network'] and f'width {config.width}' in facts['network']
    number = sum(weight.numel() for weight in checkpoint.model.parameters())
    assert facts['weights'].startswith(f'{number:,},') and facts['default tau'] == f'{calibration.tau:g}'
    text = card.read_text(encoding='utf-8')
    assert ' / '.join(f'{error:.3f}' for error in calibration.ece) in text
    assert f'{calibration.num_samples:,} simulated' in re.sub(r'\s+', ' ', text)
    assert all(f'\n## {section}' in text for section in SECTIONS)


def test_a_card_describes_the_networks_on_motion():
    """The networks are trained again, and their card keeps the digest and the sizes of those before."""
    weights = MODELS / SLIP_MOTION
    facts, network = facts_of(weights.with_suffix('.md')), load_slip_network(weights)
    assert facts['file'] == f'`{weights.name}`'
    assert facts['digest'] == f'`sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}` (of the file)'
    assert facts['input'].startswith(f'{len(FIGURES)} figures of each image')
    assert re.findall(r'\d+', facts['networks']) == ['1', str(len(network.slip.layers)), str(len(network.lost)),
                                                    str(len(network.lost[0].layers))]
    assert facts['weights'] == f'{sum(values.size for values in load_file(weights).values()):,}, stored in float32'
    assert all(f'\n## {section}' in weights.with_suffix('.md').read_text(encoding='utf-8') for section in SECTIONS)


def test_every_file_of_weights_has_a_card():
    assert {path.stem for path in MODELS.glob('*.safetensors')} == {path.stem for path in MODELS.glob('*.md')}


def test_cards_are_linked():
    readme = (MODELS.parent / 'README.md').read_text(encoding='utf-8')
    assert [card.name for card in sorted(MODELS.glob('*.md')) if f'(models/{card.name})' not in readme] == []
