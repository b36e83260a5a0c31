"""The command that trains on grasps labelled as a whole: its labels, its loss and what it leaves as it was."""

import numpy as np
import torch
import torch.nn.functional as F
from train_slip import logits_of, loss_of, states_of, train

from vit_tactile_ros.model import ModelConfig, ViTTactile

CONFIG = ModelConfig(num_classes=4, image_size=(16, 16), patch_size=8, width=12, depth=3, heads=2, exits=(1, 3))


def test_states_are_what_the_label_of_the_grasp_leaves_open():
    """Slip that a stable grasp is said to have, or contact that a lost object is said to have."""
    assert states_of(True, 0.5) == set() and states_of(True, 1.0) == {'no_contact', 'slip'}
    assert states_of(False, 2.9) == {'no_contact', 'stable', 'moving'} and states_of(False, 3.0) == {'stable', 'moving'}


def test_a_set_of_one_state_is_a_label():
    """A loss of a set that is not minus the log of its probability."""
    logits, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(loss_of([logits], F.one_hot(labels, 4).bool()), F.cross_entropy(logits, labels))
    pair = torch.tensor([True, False, False, True]).expand(5, 4)
    wanted = -logits.softmax(1)[:, [0, 3]].sum(1).log().mean()
    torch.testing.assert_close(loss_of([logits], pair), wanted)


def test_only_the_last_blocks_and_the_heads_change():
    """First blocks whose stored outputs no longer fit, or a network that learns nothing."""
    torch.manual_seed(0)
    start = ViTTactile(CONFIG).eval()
    generator = torch.Generator().manual_seed(1)

    def tokens(count):
        return torch.randn(count, 1, 4, 12, generator=generator).half()

    clips = [(tokens(6), torch.tensor([[slipped, not slipped, not slipped, slipped]] * 6))
             for slipped in (True, False)]
    simulated = tokens(60), F.one_hot(torch.arange(60) % 4, 4).bool()
    model = train(start, clips, np.array([True, False]), np.array(['cup', 'cup']), simulated, 12, 3e-2, 0)
    before, after = start.state_dict(), model.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(('embed', 'stage_modules.0.blocks'))} <= same
    assert not any(name.startswith('stage_modules.1.blocks') and name.endswith('weight') for name in same)
    with torch.no_grad():
        losses = [sum(loss_of(logits_of(m, t), sets) for t, sets in clips) for m in (start, model)]
    assert losses[1] < losses[0]
