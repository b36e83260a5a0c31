"""The tool that trains other heads on frozen blocks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from measure_heads import KINDS, PARTS, ExitTokens, Heads, Kind, load_tokens, main, outputs_of_heads, train_heads

from vit_tactile_ros.data.rendered import RenderedTouches
from vit_tactile_ros.data.simulated import SimulatedTouches
from vit_tactile_ros.evaluation.outputs import collect_outputs
from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.model import Checkpoint, ModelConfig, PreprocessingConfig, ViTTactile, save_checkpoint
from vit_tactile_ros.simulator import IMPRINT_NAMES


@pytest.fixture
def checkpoint():
    torch.manual_seed(0)
    config = ModelConfig(num_classes=len(IMPRINT_NAMES), image_size=(32, 48), width=48, depth=2, exits=(1, 2),
                         feature_map_dim=16)
    return Checkpoint(ViTTactile(config).eval(), PreprocessingConfig((32, 48), 'difference'), IMPRINT_NAMES)


def test_an_added_exit_corrects_the_one_before_and_changes_it_only_if_joint():
    torch.manual_seed(0)
    heads = Heads(exits=2, width=4, classes=3)
    tokens = [torch.randn(5, 6, 4) for _ in range(2)]
    for queries in heads.queries:
        torch.nn.init.zeros_(queries)  # attention is then the mean
    logits = dict(zip(KINDS, heads(tokens), strict=True))
    for number, kind in enumerate(KINDS):
        heads.zero_grad()
        first, last = (classify(x.mean(dim=1).tile(max(kind.queries, 1)))
                       for classify, x in zip(heads.classify[number], tokens, strict=True))
        torch.testing.assert_close(logits[kind][0], first)
        torch.testing.assert_close(logits[kind][1], last + first * (kind.added != 'separate'))
        logits[kind][1].square().sum().backward(retain_graph=True)
        gradient = next(heads.classify[number][0].parameters()).grad
        assert (gradient is not None and bool(gradient.any())) == (kind.added == 'joint')


def test_attention_finds_the_one_token_that_tells_the_class():
    """The mean of the tokens cannot: the class is in one of twelve, among noise as large."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 4, 2000))
    tokens = rng.standard_normal((2, 2000, 12, 16)).astype(np.float32)
    tokens[:, :, :, 15] = 0
    for row, label in enumerate(labels.tolist()):
        place = rng.integers(12)
        tokens[:, row, place, 15] = 3
        tokens[:, row, place, :4] = 2 * np.eye(4)[label]
    torch.manual_seed(0)
    heads = Heads(exits=2, width=16, classes=4)
    train_heads(ExitTokens(tokens[:, :1000].astype(np.float16), labels[:1000]), heads, epochs=20, lr=0.02, seed=0)
    with torch.inference_mode():
        right = [[(out.argmax(1) == labels[1000:]).float().mean().item() for out in logits]
                 for logits in heads([torch.from_numpy(one[1000:]) for one in tokens])]
    found = dict(zip(KINDS, right, strict=True))
    assert min(found[Kind(1, 'separate', taught)][1] for taught in (False, True)) > 0.95
    assert max(found[Kind(0, 'separate', taught)][1] for taught in (False, True)) < 0.6


def test_tokens_are_those_of_the_network(checkpoint, tmp_path):
    rendered, config = tmp_path / 'rendered', checkpoint.model.config
    train, *_held_out = load_tokens(checkpoint, 10, 8, rendered, tmp_path / 'tokens')
    touches = RenderedTouches(SimulatedTouches(10, checkpoint.preprocessing, 0, None, 'imprints'), rendered)
    expected = collect_outputs(checkpoint.model, touches, checkpoint.preprocessing)
    logits = [stage.head.classify(F.layer_norm(x, (config.width,)).mean(dim=1))
              for stage, x in zip(checkpoint.model.stage_modules, train.batch(torch.arange(10)), strict=True)]
    np.testing.assert_allclose(torch.stack(logits).detach().numpy(), expected.logits, atol=1e-3)
    assert train.labels.tolist() == expected.labels.tolist()
    heads = Heads(2, config.width, config.num_classes)
    assert outputs_of_heads(train, heads, checkpoint)[0].logits.shape == (2, 10, config.num_classes)


def test_heads_are_measured_from_end_to_end(checkpoint, tmp_path, capsys):
    path = tmp_path / 'checkpoint.safetensors'
    save_checkpoint(path, checkpoint)
    arguments = [str(path), '--costs', '0.5', '1', '--examples', '70', '--size', '60', '--epochs', '1', '--seeds', '2',
                 '--splits', '1', '--rendered', str(tmp_path / 'rendered'), '--cache', str(tmp_path / 'tokens')]
    with pytest.raises(UserError, match=r'costs are \[0.5\]; must be one for each exit'):
        main([str(path), '--costs', '0.5'])
    main(arguments)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    heads = found['heads'][str(path)]
    assert list(heads) == [str(kind) for kind in KINDS] and len(KINDS) == 22
    assert heads['mean, separate, labels']['gain'] == [[0, 0], [0, 0]]
    assert all(len(row['points lost, by seed']) == 2 and len(row['auroc']) == 1 for row in heads.values())
    assert min(found['times'].values()) > 0
    assert len(list(Path(tmp_path / 'tokens').glob('*.labels.npy'))) == len(PARTS)
