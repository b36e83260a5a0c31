"""The loss against the textbook's formulas, and the settings it takes."""

import pytest
import torch
import torch.nn.functional as F

from vit_tactile_ros.model import ModelConfig, ViTTactile
from vit_tactile_ros.training.config import TrainingConfig
from vit_tactile_ros.training.loss import exit_losses, scaled_exit_gradients

LABELS = torch.tensor([0, 1, 2, 3, 0])


def exits(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 4, generator=generator, requires_grad=True) for _ in range(3)]


def test_without_distillation_every_exit_learns_from_the_labels():
    """Losses of the wrong exits, or a mean over them."""
    logits = exits()
    wanted = torch.stack([F.cross_entropy(out, LABELS) for out in logits])
    torch.testing.assert_close(exit_losses(logits, LABELS), wanted)


def test_distillation_is_hintons():
    """Divergence the wrong way round, no temperature squared, or a mean over classes in place of their sum."""
    logits = exits()
    losses = exit_losses(logits, LABELS, distillation=0.25, temperature=3.0)
    teacher = torch.softmax(logits[2] / 3, dim=1)
    for i in (0, 1):
        pupil = torch.softmax(logits[i] / 3, dim=1)
        divergence = (teacher * (teacher / pupil).log()).sum(dim=1).mean() * 9
        torch.testing.assert_close(losses[i], 0.75 * F.cross_entropy(logits[i], LABELS) + 0.25 * divergence)
    torch.testing.assert_close(losses[2], F.cross_entropy(logits[2], LABELS))


def test_the_teacher_learns_nothing_from_its_pupils():
    """A last exit that is pulled towards what is easy to copy."""
    logits = exits()
    exit_losses(logits, LABELS, distillation=0.9, temperature=2.0)[:2].sum().backward()
    assert logits[2].grad.abs().sum() == 0
    assert logits[0].grad.abs().sum() > 0


def test_an_exit_that_agrees_with_the_teacher_pays_for_the_label_only():
    same = torch.randn(5, 4)
    losses = exit_losses([same, same.clone()], LABELS, distillation=0.5, temperature=2.0)
    torch.testing.assert_close(losses[0], 0.5 * F.cross_entropy(same, LABELS))


def test_another_network_teaches_every_exit():
    """A last exit that learns from the labels alone, or a teacher that gets a gradient."""
    logits, (other, *_) = exits(), exits(1)
    losses = exit_losses(logits, LABELS, distillation=0.25, temperature=2.0, teacher=other)
    known = torch.softmax(other.detach() / 2, dim=1)
    for out, loss in zip(logits, losses, strict=True):
        divergence = F.kl_div(F.log_softmax(out / 2, dim=1), known, reduction='batchmean') * 4
        torch.testing.assert_close(loss, 0.75 * F.cross_entropy(out, LABELS) + 0.25 * divergence)
    losses.sum().backward()
    assert other.grad is None
    one = exit_losses(logits[-1:], LABELS, distillation=0.25, temperature=2.0, teacher=other)
    torch.testing.assert_close(one[0], losses[-1])


@pytest.mark.parametrize('factor', (0.0, 0.25))
def test_early_exits_tell_the_blocks_less_and_their_heads_as_much(factor):
    """A factor that reaches the heads, the last exit, or the gradient on its way from later blocks."""
    config = ModelConfig(num_classes=4, image_size=(32, 32), width=48, depth=3, exits=(1, 2, 3), feature_map_dim=16)
    images, weights = torch.randn(5, 3, 32, 32), (0.5, 0.3, 1.0)

    def gradients(used, scale):
        torch.manual_seed(0)
        model = ViTTactile(config).train()
        with scaled_exit_gradients(model, scale):
            losses = exit_losses(model(images), LABELS)
            sum(weights[i] * losses[i] for i in used).backward()
        assert not any(module._forward_pre_hooks for module in model.modules())  # another run would scale them again
        return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}

    early, last, both = gradients((0, 1), 1.0), gradients((2,), 1.0), gradients((0, 1, 2), factor)
    for name, found in both.items():
        share = 1.0 if '.head.' in name else factor
        torch.testing.assert_close(found, last[name] + share * early[name], atol=1e-6, rtol=1e-4)


def test_label_smoothing_is_torchs():
    logits = exits()
    wanted = torch.stack([F.cross_entropy(out, LABELS, label_smoothing=0.1) for out in logits])
    torch.testing.assert_close(exit_losses(logits, LABELS, label_smoothing=0.1), wanted)


def test_bfloat16_logits_give_a_float32_loss():
    logits = [out.detach().bfloat16() for out in exits()]
    losses = exit_losses(logits, LABELS, distillation=0.5, temperature=2.0)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, exit_losses([out.float() for out in logits], LABELS, 0.5, 2.0))


def test_default_weights():
    """0.3, 0.3, 1 as the docs say, and the same idea for other exits."""
    assert TrainingConfig().weights(3) == (0.3, 0.3, 1.0)
    assert TrainingConfig().weights(1) == (1.0,)
    assert TrainingConfig(loss_weights=(0.5, 1.0)).weights(2) == (0.5, 1.0)
    with pytest.raises(ValueError, match=r'loss_weights is \(0.5, 1.0\); must be 3 numbers'):
        TrainingConfig(loss_weights=(0.5, 1.0)).weights(3)
    with pytest.raises(ValueError, match=r'exit_gradient is 0.25; must be 1 for a network with one exit'):
        TrainingConfig(exit_gradient=0.25).weights(1)


def test_new_heads_on_trained_blocks_learn_faster():
    """At the rate of the blocks they lost 3 to 11 points on real objects; a rate that was given stays."""
    config = TrainingConfig()
    assert config.head_factor == 1.0
    assert config.for_heads(are_new=True, depth=12).head_factor == 8.0
    assert config.for_heads(are_new=False, depth=12).head_factor == 1.0
    assert TrainingConfig(freeze=12).for_heads(are_new=True, depth=12).head_factor == 1.0
    assert TrainingConfig(head_lr_factor=2.0).for_heads(are_new=True, depth=12).head_factor == 2.0


@pytest.mark.parametrize(('name', 'value'), (
    ('head_lr_factor', -1.0), ('batch_size', 0), ('epochs', 0), ('lr', -1.0), ('lr', float('nan')),
    ('weight_decay', float('inf')), ('seed', -1),
    ('warmup', 1.1), ('distillation', -0.1), ('label_smoothing', 2.0), ('ema', 1.5), ('clip', 0.0),
    ('distillation_temperature', 0.0), ('loss_weights', (0.0, 0.0)), ('loss_weights', (-1.0, 1.0)),
    ('precision', 'float16'), ('teacher', 'first'), ('exit_gradient', -0.5),
))
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f'^{name} is '):
        TrainingConfig(**{name: value})
