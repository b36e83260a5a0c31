"""The logic around CUDA graphs, executed on CPU tensors: its predictions are those of plain early exit."""

import pytest
import torch
from direct_backend import DirectBackend

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.decide import decide
from vit_tactile_ros.inference.engines.cuda_graph import CudaGraphRuntime
from vit_tactile_ros.inference.engines.eager import TorchRuntime
from vit_tactile_ros.inference.engines.exit_loop import padded_size
from vit_tactile_ros.model import Hurry, ModelConfig, ViTTactile, early_exit

TEMPERATURES = (1.2, 0.9, 1.1)


@pytest.fixture(scope='module', params=({}, {'token_threshold': 0.1, 'queries': 2, 'added_exits': True}),
                ids=('all patches', 'tokens, queries and added exits'))
def model(request):
    torch.manual_seed(0)
    model = ViTTactile(ModelConfig(num_classes=4, image_size=(32, 64), width=48, depth=3, exits=(1, 2, 3),
                                   feature_map_dim=16, **request.param)).eval()
    for stage in model.stage_modules:
        torch.nn.init.normal_(stage.head.classify.weight, std=0.6)
        if stage.head.queries is not None:
            torch.nn.init.normal_(stage.head.queries, std=0.6)
    return model


def engine(model, speculate=None):
    return CudaGraphRuntime(model, torch.device('cpu'), speculate=speculate, backend=DirectBackend())


def images(count: int, seed: int = 0, alike: bool = False):
    """A model that drops patches keeps different numbers of them."""
    found = torch.randn(count, 3, 32, 64, generator=torch.Generator().manual_seed(seed))
    for number, image in enumerate(found if not alike else ()):
        image[:, :, 16 * (4 - number % 5):] *= 0.01
    return found


def middling(model, batch):
    """Thresholds that about half of a batch reaches at each exit."""
    with torch.no_grad():
        confidences = [(logits / t).softmax(1).amax(1) for logits, t in zip(model.stages(batch), TEMPERATURES)]
    return tuple(float(c.median()) + 1e-4 for c in confidences[:2])


def test_stages_take_no_more_images_than_the_buffers(model):
    with pytest.raises(UserError, match='a batch of 65; must be at most 64'):
        engine(model).stages(images(65))


@pytest.mark.parametrize('speculate', (None, False, True))
@pytest.mark.parametrize('count', (1, 2, 3, 8, 13, 64, 70))
def test_early_exit_equals_plain(model, speculate, count):
    """Padding taken for samples, a row swapped by compaction, an answer read from another exit or batch size."""
    ours = engine(model, speculate)
    for seed in range(3):  # buffers hold what earlier batches left there
        batch = images(count, seed)
        for tau in (middling(model, images(64)), (0.0, 0.0), (1.0, 1.0), (1.0, 0.5)):
            with torch.inference_mode():
                got = decide(ours, batch, tau, TEMPERATURES)
                wanted = early_exit(model.stages(batch), tau, TEMPERATURES)
            assert torch.equal(got.exit_index, wanted.exit_index)
            for name in ('logits', 'probabilities', 'confidences'):
                torch.testing.assert_close(getattr(got, name), getattr(wanted, name), equal_nan=True, rtol=1e-4,
                                           atol=1e-5)


@pytest.mark.parametrize('count', (1, 5, 70))
def test_evidence_counts_as_if_the_network_had_it(model, count):
    """Of another sample after some have exited, without the temperature, or in the probabilities only."""
    batch, tau = images(count), middling(model, images(64))
    evidence = torch.linspace(-3, 0, count)[:, None] * torch.tensor([1.0, 0, 0, 0])
    with torch.inference_mode():
        whole = [logits + t * evidence for logits, t in zip(model.stages(batch), TEMPERATURES)]

        def stages():
            rows = slice(None)
            for logits in whole:
                kept = yield logits[rows]
                if kept is not None:
                    rows = torch.arange(count)[rows][kept]

        wanted = early_exit(stages(), tau, TEMPERATURES)
        plain = early_exit(model.stages(batch), tau, TEMPERATURES)
        for runtime in (engine(model), TorchRuntime(model, torch.device('cpu'))):
            got = decide(runtime, batch, tau, TEMPERATURES, None, evidence)
            assert torch.equal(got.exit_index, wanted.exit_index)
            for name in ('logits', 'probabilities', 'confidences'):
                torch.testing.assert_close(getattr(got, name), getattr(wanted, name), equal_nan=True, rtol=1e-4,
                                           atol=1e-5)
    assert not torch.allclose(plain.probabilities, wanted.probabilities, atol=0.01)


def test_a_tau_of_1_means_the_full_depth(model):
    """A sample whose float32 probability is exactly 1 left early."""
    result = engine(model).early_exit(images(8), (1.0, 1.0), (1e-4, 1e-4, 1.0))
    assert (result.confidences[:, 0] == 1).any() and (result.exit_index == 2).all()


def test_the_batch_of_mixed_exits_is_really_mixed(model):
    """The equality above on batches that all leave together."""
    result = engine(model).early_exit(images(64), middling(model, images(64)), TEMPERATURES)
    assert min(torch.bincount(result.exit_index, minlength=3)) >= 5


def test_order_of_launches(model):
    """A next stage that waits for the answer although it should not, or one that is started for nobody."""
    batch = images(16, alike=True)
    tau = middling(model, batch)
    waiting, ahead = engine(model, False)._loop, engine(model, True)._loop
    waiting.early_exit(batch, (0.0, 0.0), TEMPERATURES)
    assert waiting.launched == [(0, 16)]
    ahead.early_exit(batch, (0.0, 0.0), TEMPERATURES)
    assert ahead.launched == [(0, 16), (1, 16)]
    left = waiting.early_exit(batch, tau, TEMPERATURES).exit_index
    after = [padded_size(int((left > i).sum())) for i in range(2)]
    assert waiting.launched == [(0, 16), (1, after[0]), (2, after[1])] and after[0] < 16
    ahead.early_exit(batch, tau, TEMPERATURES)
    assert ahead.launched == [(0, 16), (1, 16), (2, after[0])]  # the third starts before the second's answer


def test_speculation_stops_where_most_leave_and_comes_back(model):
    """A wasted stage for every image at a low tau, or none ever again."""
    loop = engine(model)._loop
    for _ in range(20):
        loop.early_exit(images(1), (0.0, 0.0), TEMPERATURES)
    assert loop.launched == [(0, 1)]
    for _ in range(20):
        loop.early_exit(images(1), (1.0, 1.0), TEMPERATURES)
    assert loop.ended[0] < 0.5 and loop.ended[2] > 0.5


def test_stages_equal_the_model_also_for_chosen_rows(model):
    """The protocol of every engine: rows in any order, also twice the same number."""
    batch, picked = images(13), torch.tensor([12, 3, 7, 0, 5])
    with torch.inference_mode():
        ours, plain = engine(model).stages(batch), model.stages(batch)
        torch.testing.assert_close(next(ours), next(plain))
        for rows in (picked, torch.tensor([4, 0, 1, 3, 2])):
            torch.testing.assert_close(ours.send(rows), plain.send(rows), rtol=1e-4, atol=1e-5)


def test_images_of_another_size_are_refused(model):
    """An error of a buffer's shape from deep inside."""
    for call in (lambda x: engine(model).stages(x), lambda x: engine(model).early_exit(x, (0.5, 0.5), TEMPERATURES)):
        with pytest.raises(ValueError, match=r'images have shape \(1, 3, 48, 32\); must be \(B, 3, 32, 64\)'):
            call(torch.zeros(1, 3, 48, 32))


def test_motion():
    """Buffers of three channels for a network of six."""
    torch.manual_seed(0)
    model = ViTTactile(ModelConfig(num_classes=4, image_size=(32, 32), width=48, depth=1, exits=(1,),
                                   feature_map_dim=16, channels=6)).eval()
    batch = torch.randn(3, 6, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(next(engine(model).stages(batch)), next(model.stages(batch)))
    with pytest.raises(ValueError, match=r'must be \(B, 6, 32, 32\)'):
        engine(model).stages(batch[:, :3])


@pytest.mark.parametrize('count', (1, 13, 70))
def test_hurry_equals_plain(model, count):
    """Samples of another part of a large batch, or of other rows after compaction, that exit instead."""
    batch, tau = images(count), middling(model, images(64))
    hurry = Hurry(tuple(t - 0.1 for t in tau), lambda place: place % 3 == 0)
    with torch.inference_mode():
        got = decide(engine(model), batch, (1.0, 1.0), TEMPERATURES, hurry)
        wanted = early_exit(model.stages(batch), (1.0, 1.0), TEMPERATURES, hurry)
    assert torch.equal(got.exit_index, wanted.exit_index)
    if count == 70:
        assert {0, 1, 2} == set(got.exit_index[::3].tolist()) and set(got.exit_index[1::3].tolist()) == {2}
