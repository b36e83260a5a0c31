"""The staged network: every path through it gives the same result, and stages that are not needed do not run."""

import inspect

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vit_tactile_ros.model import ModelConfig, ViTTactile, compute_shares, create_vit_tactile, exit_probabilities
from vit_tactile_ros.model.vit import position_embedding

KINDS = ('favor_softmax', 'favor_relu', 'softmax')
SMALL = {'num_classes': 4, 'width': 48, 'heads': 3, 'depth': 3, 'exits': (1, 2, 3), 'image_size': (32, 48),
         'patch_size': 16, 'feature_map_dim': 32}


def small_model(attention: str = 'favor_softmax', tau=0.8, **changes) -> ViTTactile:
    """An untrained model in eval mode with scaled heads, so that confidences differ between images."""
    torch.manual_seed(5)
    model = ViTTactile(ModelConfig(**(SMALL | {'attention': attention} | changes)), tau).eval()
    with torch.no_grad():
        for stage in model.stage_modules:
            stage.head.classify.weight.mul_(15)
    return model


def images_of(count: int, height: int = 32, width: int = 48) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(6))


@torch.no_grad()
def splitting_taus(model: ViTTactile, images: torch.Tensor) -> tuple[tuple[float, float], list[int]]:
    """Thresholds at which half of the samples exit at each of the two early exits, and each sample's exit."""
    confidences = [exit_probabilities(logits, temperature).amax(dim=1)
                   for logits, temperature in zip(model.stages(images), model.temperatures, strict=True)]
    exits = torch.full((len(images),), 2)
    taus = []
    inside = torch.arange(len(images))
    for exit_index in range(2):
        ordered = confidences[exit_index][inside].sort().values
        below, above = ordered[len(ordered) // 2 - 1:len(ordered) // 2 + 1].tolist()
        assert above - below > 1e-4, 'too close for a test of equality at 1e-5'
        taus.append((below + above) / 2)
        leaves = confidences[exit_index][inside] >= taus[-1]
        exits[inside[leaves]] = exit_index
        inside = inside[~leaves]
    return (taus[0], taus[1]), exits.tolist()


def rows_seen(model: ViTTactile) -> list[tuple[int, int]]:
    """Fills with (stage, rows) of every stage that runs."""
    seen: list[tuple[int, int]] = []
    for index, stage in enumerate(model.stage_modules):
        stage.register_forward_pre_hook(lambda _module, inputs, index=index: seen.append((index, len(inputs[0]))))
    return seen


@torch.no_grad()
def test_added_exits_are_the_sums_of_the_heads():
    """An exit added twice, or to another one than that before; a batch is what a sample is alone."""
    model, alone = small_model(added_exits=True), small_model()
    alone.load_state_dict(model.state_dict())
    images = images_of(5)
    own = torch.stack(list(alone.stages(images)))
    torch.testing.assert_close(torch.stack(list(model.stages(images))), own.cumsum(dim=0))
    taus, exits = splitting_taus(model, images)
    model.tau = taus
    logits, exit_index = model(images)
    assert exit_index.tolist() == exits and len(set(exits)) == 3
    torch.testing.assert_close(logits, own.cumsum(dim=0)[exit_index, torch.arange(5)])


def test_heads_before_an_added_exit_learn_from_it():
    """Sums without the gradient of later exits, the recipe that gains less."""
    for added in (False, True):
        model = small_model(added_exits=added).train()
        model(images_of(2))[-1].square().sum().backward()
        assert [stage.head.classify.bias.grad is not None for stage in model.stage_modules] == [added, added, True]


@pytest.mark.parametrize('attention', KINDS)
def test_stages_equal_the_full_forward(attention):
    """A training loop that optimises another network than the one that runs stage by stage."""
    model = small_model(attention)
    images = images_of(3)
    with torch.no_grad():
        staged = list(model.stages(images))
        full = model.train()(images)
        x = model.embed(images)  # straight through all blocks, with no generator
        for block in [block for stage in model.stage_modules for block in stage.blocks]:
            x = block(x)
        last = model.stage_modules[-1].head(x)
    assert len(full) == len(staged) == 3
    for a, b in zip(full, staged, strict=True):
        assert a.shape == (3, 4) and torch.equal(a, b)
    assert torch.equal(full[-1], last)


@pytest.mark.parametrize('attention', KINDS)
@pytest.mark.parametrize('temperatures', ((1.0, 1.0, 1.0), (2.0, 0.7, 1.3)))
def test_a_batch_equals_each_sample_alone(attention, temperatures):
    """Predictions that depend on the batch: rows mixed up when some exit, or statistics over the batch."""
    model = small_model(attention)
    model.temperatures = temperatures
    images = images_of(8)
    with torch.no_grad():
        # Centred, so that the class varies with the image whatever the random weights of this release of torch are.
        for stage, logits in zip(model.stage_modules, model.stages(images)):
            stage.head.classify.bias -= logits.mean(dim=0)
    model.tau, wanted = splitting_taus(model, images)
    assert sorted(wanted) == [0, 0, 0, 0, 1, 1, 2, 2]
    with torch.no_grad():
        logits, exits = model(images)
        alone = [model(image[None]) for image in images]
    assert exits.tolist() == wanted == [int(e) for _, e in alone]
    single = torch.cat([row for row, _ in alone])
    assert logits.argmax(dim=1).tolist() == single.argmax(dim=1).tolist()
    assert len(set(logits.argmax(dim=1).tolist())) > 1
    torch.testing.assert_close(logits.softmax(dim=1), single.softmax(dim=1), atol=1e-5, rtol=0)


def test_the_result_is_that_of_the_exit_used():
    """Logits of one exit returned with the index of another."""
    model = small_model()
    images = images_of(8)
    model.tau, wanted = splitting_taus(model, images)
    with torch.no_grad():
        every_exit = torch.stack(list(model.stages(images)))
        logits, exits = model(images)
    torch.testing.assert_close(logits, every_exit[exits, torch.arange(8)], atol=1e-5, rtol=1e-5)
    assert exits.tolist() == wanted


def test_finished_samples_are_removed_from_the_batch():
    """Finished samples that are masked but still computed."""
    model = small_model()
    images = images_of(8)
    model.tau, _ = splitting_taus(model, images)
    seen = rows_seen(model)
    with torch.no_grad():
        model(images)
    assert seen == [(0, 8), (1, 4), (2, 2)]


def test_no_stage_runs_when_all_samples_exited():
    """A stage that runs before it is needed."""
    model = small_model(tau=0)
    seen = rows_seen(model)
    with torch.no_grad():
        assert model(images_of(5))[1].tolist() == [0] * 5
        stages = model.stages(images_of(1))
        next(stages)
    assert seen == [(0, 5), (0, 1)]


def test_stages_accept_rows_in_any_order():
    """Rows sent back are indices into what was yielded, not into the first batch."""
    model = small_model()
    images = images_of(4)
    with torch.no_grad():
        every_exit = list(model.stages(images))
        stages = model.stages(images)
        next(stages)
        second = stages.send(torch.tensor([3, 1]))
        third = stages.send(torch.tensor([1]))
    torch.testing.assert_close(second, every_exit[1][[3, 1]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(third, every_exit[2][[1]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('attention', KINDS)
def test_eval_is_deterministic_and_draws_nothing(attention):
    """Random features or dropout at inference; also a model that changes the user's random state."""
    model = small_model(attention)
    state = torch.get_rng_state()
    with torch.no_grad():
        first, second = model(images_of(3)), model(images_of(3))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('size', ((48, 32), (16, 16), (64, 96), (16, 80)))
def test_other_sizes_equal_a_model_made_for_them(size):
    """Height and width mixed up in the position embedding, or a size other than the configured one refused."""
    model = small_model()
    made_for_it = small_model(image_size=size)
    made_for_it.load_state_dict(model.state_dict())
    images = images_of(2, *size)
    with torch.no_grad():
        for a, b in zip(model.stages(images), made_for_it.stages(images), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_position_in_the_image_matters():
    """A position embedding that is lost or that depends on one direction only."""
    position = position_embedding(3, 5, 48).reshape(3, 5, 48)
    flat = position.reshape(15, 48)
    distances = torch.cdist(flat, flat) + torch.eye(15) * 9
    assert distances.min() > 0.1
    # x in the first half, y in the second (Beyer et al. 2022): rows share the one, columns the other.
    assert torch.equal(position[0, :, :24], position[2, :, :24])
    assert torch.equal(position[:, 0, 24:], position[:, 4, 24:])
    model, image = small_model(), images_of(1)
    with torch.no_grad():
        for flipped in (image.roll(16, dims=2), image.roll(16, dims=3)):
            assert (next(model.stages(flipped)) - next(model.stages(image))).abs().max() > 1e-3


@pytest.mark.parametrize('shape', ((3, 32, 48), (1, 1, 32, 48), (1, 3, 30, 48), (1, 3, 32, 47), (0, 3, 32, 48),
                                   (1, 3, 0, 48)))
def test_misshapen_images_are_refused(shape):
    """A shape that torch would crop, or refuse without the right one."""
    with pytest.raises(ValueError, match=r'images have shape .*multiples of 16'):
        small_model()(torch.zeros(shape))


def test_tau_can_be_set_while_it_runs():
    """A tau that is fixed at construction, or an invalid one that replaces the current one."""
    model = small_model(tau=1)
    assert model.tau == (1.0, 1.0)
    with torch.no_grad():
        assert model(images_of(2))[1].tolist() == [2, 2]
        model.tau = 0
        assert model(images_of(2))[1].tolist() == [0, 0]
        model.tau = (1.0, 0.0)
        assert model(images_of(2))[1].tolist() == [1, 1]
    with pytest.raises(ValueError, match='tau is 1.5'):
        model.tau = 1.5
    assert model.tau == (1.0, 0.0)


def test_create_vit_tactile_is_compatible():
    """The call in users' scripts: its argument names, its two results, and an exit index that indexes a list."""
    model = create_vit_tactile(num_classes=10, tau=0.8, feature_map_dim=256).eval()
    with torch.no_grad():
        logits, exit_idx = model(torch.randn(1, 3, 224, 224))
    assert logits.shape == (1, 10)
    assert ('early', 'middle', 'late')[exit_idx] == 'late'  # an untrained model is sure of nothing
    assert exit_idx == 2 and int(exit_idx) == 2
    assert model.config == ModelConfig() and model.config.exits == (4, 8, 12)
    assert [len(stage.blocks) for stage in model.stage_modules] == [4, 4, 4]
    assert list(inspect.signature(create_vit_tactile).parameters)[:3] == ['num_classes', 'tau', 'feature_map_dim']
    projections = [b for name, b in model.named_buffers() if name.endswith('projection_matrix')]
    assert [tuple(p.shape) for p in projections] == [(256, 64)] * 12
    assert 5.3e6 < sum(p.numel() for p in model.parameters()) < 5.6e6  # ViT-Tiny


@pytest.mark.parametrize(('arguments', 'name'), (
    ({'num_classes': 0}, 'num_classes'), ({'tau': 2}, 'tau'), ({'tau': (0.1, 0.2, 0.3, 0.4)}, 'tau'),
    ({'feature_map_dim': 0}, 'feature_map_dim'), ({'attention': 'flash'}, 'attention'),
    ({'image_size': (240, 321)}, 'image_size'), ({'exits': ()}, 'exits'), ({'exits': (8, 4)}, 'exits'),
))
def test_create_vit_tactile_names_the_wrong_argument(arguments, name):
    """A wrong argument that surfaces as an error of torch."""
    with pytest.raises(ValueError, match=f'^{name} '):
        create_vit_tactile(**arguments)


@pytest.mark.parametrize('attention', KINDS)
@pytest.mark.parametrize(('image_size', 'queries'), ((None, 0), ((128, 96), 0), (None, 64)))
def test_compute_shares_agree_with_counted_multiply_adds(attention, image_size, queries):
    """A formula that forgets a part. Attention is made the largest part here, so that a factor of two in it shows."""
    config = ModelConfig(num_classes=7, width=48, heads=3, depth=5, exits=(1, 2, 5), image_size=(96, 192), mlp_ratio=1,
                         patch_size=16, feature_map_dim=128, attention=attention, queries=queries)
    model = ViTTactile(config).eval()
    counted = []
    for exits in (1, 2, 3):
        # The counter does not know the CPU's fused attention.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            stages = model.stages(torch.zeros(1, 3, *(image_size or config.image_size)))
            for _ in range(exits):
                next(stages)
        counted.append(counter.get_total_flops())
    shares = compute_shares(config, image_size)
    assert shares == pytest.approx([c / counted[-1] for c in counted], rel=0.01)
    assert 0 < shares[0] < shares[1] < shares[2] == 1.0


@torch.inference_mode()
def test_queries_weigh_the_tokens():
    """Weights over the queries in place of the tokens, or means that the classifier takes in another order."""
    head = small_model(queries=2).stage_modules[0].head
    head.queries[0].zero_()
    head.queries[1].normal_()
    x = torch.randn(3, 6, 48)
    wanted = []
    for tokens in head.norm(x):
        shares = torch.stack([head.queries[1] @ token for token in tokens]).softmax(dim=0)
        attended = sum(share * token for share, token in zip(shares, tokens, strict=True))
        wanted.append(head.classify(torch.cat((tokens.mean(dim=0), attended))))
    torch.testing.assert_close(head(x), torch.stack(wanted), atol=1e-4, rtol=1e-4)


def test_compute_shares_of_the_default_model():
    """Stages of four blocks each cost a third of the whole, the patches almost nothing (DESIGN.md)."""
    shares = compute_shares(ModelConfig())
    assert shares == pytest.approx((0.34, 0.67, 1.0), abs=0.01)


def test_convolutions_make_the_same_grid_of_tokens():
    """The stem changes how patches are seen, not how many tokens there are."""
    plain, convolved = (create_vit_tactile(3, image_size=(32, 48), exits=(1, 2), stem=stem)
                        for stem in ('patch', 'convolution'))
    images = torch.randn(2, 3, 32, 48)
    assert plain.embed(images).shape == convolved.embed(images).shape == (2, 6, 192)


def test_share_of_compute_counts_the_stem():
    """Multiply-adds of the stem as torch's own counter sees them."""
    from torch.utils.flop_counter import FlopCounterMode
    config = ModelConfig(num_classes=10, image_size=(64, 96), attention='softmax', stem='convolution')
    model = ViTTactile(config).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad(), FlopCounterMode(display=False) as to_first, torch.nn.attention.sdpa_kernel(
            torch.nn.attention.SDPBackend.MATH):
        next(model.stages(images))
    with torch.no_grad(), FlopCounterMode(display=False) as to_last, torch.nn.attention.sdpa_kernel(
            torch.nn.attention.SDPBackend.MATH):
        for _ in model.stages(images):
            pass
    assert compute_shares(config)[0] == pytest.approx(to_first.get_total_flops() / to_last.get_total_flops(), rel=1e-3)


@pytest.mark.parametrize(('field', 'value'), [('stem', 'linear'), ('patch_size', 4), ('width', 64)])
def test_stem_that_does_not_fit_is_refused(field, value):
    with pytest.raises(ValueError, match="stem is '(linear|convolution)'"):
        ModelConfig(**({'stem': 'convolution', 'heads': 1, 'image_size': (64, 64)} | {field: value}))
