"""The decision rule on hand-made logits, without a network, so every number can be checked by hand."""

import array
import math

import numpy as np
import pytest
import torch

from vit_tactile_ros.model import Hurry, early_exit, exit_probabilities, exit_score, thresholds


class HandMade:
    """Stages that yield given logits, (exits, samples, classes), and record the requests."""

    def __init__(self, logits):
        self.logits = torch.as_tensor(logits)
        self.rows = []  # samples that each stage that ran has seen
        self.closed = False

    def stages(self):
        rows = torch.arange(self.logits.shape[1])
        try:
            for logits in self.logits:
                self.rows.append(rows.tolist())
                kept = yield logits[rows]
                if kept is not None:
                    rows = rows[kept]
        finally:
            self.closed = True


# Confidence of logits (x, 0) is the logistic function of x: 0.5, 0.731, 0.881, 0.953 for 0, 1, 2, 3.
LOGITS = [
    [[3.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]],
    [[0.0, 9.0], [0.0, 3.0], [2.0, 0.0], [9.0, 0.0]],
    [[0.0, 9.0], [9.0, 0.0], [0.0, 1.0], [9.0, 0.0]],
]


def test_each_sample_exits_at_the_first_exit_that_reaches_tau():
    """The prediction of a later exit for a sample that exited, or rows mixed up when some exit."""
    fake = HandMade(LOGITS)
    result = early_exit(fake.stages(), (0.85, 0.9), (1.0, 1.0, 1.0))
    assert result.exit_index.tolist() == [0, 1, 2, 0]
    assert result.logits.tolist() == [[3.0, 0.0], [0.0, 3.0], [0.0, 1.0], [0.0, 2.0]]
    torch.testing.assert_close(result.probabilities, result.logits.softmax(dim=1))
    assert fake.rows == [[0, 1, 2, 3], [1, 2], [2]]
    assert fake.closed


def test_confidences_are_those_of_the_exits_evaluated():
    """A confidence reported for an exit that a sample never reached."""
    result = early_exit(HandMade(LOGITS).stages(), (0.85, 0.9), (1.0, 1.0, 1.0))
    nan = math.nan
    wanted = torch.tensor([[3.0, nan, nan], [0.0, 3.0, nan], [1.0, 2.0, 1.0], [2.0, nan, nan]]).sigmoid()
    torch.testing.assert_close(result.confidences, wanted, equal_nan=True)


def test_no_stage_runs_after_all_samples_exited():
    """Later stages that run without samples would cost the whole gain of early exit."""
    fake = HandMade(LOGITS)
    result = early_exit(fake.stages(), (0.5, 0.5), (1.0, 1.0, 1.0))
    assert result.exit_index.tolist() == [0, 0, 0, 0]
    assert fake.rows == [[0, 1, 2, 3]]
    assert fake.closed


def test_samples_below_tau_use_the_last_exit():
    """Samples below tau at every exit must get the prediction of the last exit."""
    fake = HandMade(LOGITS)
    result = early_exit(fake.stages(), (1.0, 1.0), (1.0, 1.0, 1.0))
    assert result.exit_index.tolist() == [2, 2, 2, 2]
    assert torch.equal(result.logits, torch.tensor(LOGITS[2]))
    assert fake.rows == [[0, 1, 2, 3]] * 3


def test_reaching_tau_is_enough():
    """'>' in place of '>=': a confidence of exactly tau, here of two equal logits, would not exit."""
    fake = HandMade([[[7.0, 7.0]], [[0.0, 200.0]]])
    assert early_exit(fake.stages(), (0.5,), (1.0, 1.0)).exit_index.tolist() == [0]


def test_tau_of_one_means_the_full_depth():
    """A sample with a float32 probability of exactly 1 exits early at tau 1, so no bound could hold."""
    fake = HandMade([[[200.0, 0.0]], [[0.0, 200.0]]])
    assert early_exit(fake.stages(), (1.0,), (1.0, 1.0)).exit_index.tolist() == [1]
    fake = HandMade([[[200.0, 0.0]], [[0.0, 200.0]]])
    assert early_exit(fake.stages(), (math.nextafter(1.0, 0.0),), (1.0, 1.0)).exit_index.tolist() == [0]


def test_temperature_belongs_to_its_exit():
    """One temperature for all exits, or one that scales the class's probability but not the decision."""
    fake = HandMade(LOGITS)
    result = early_exit(fake.stages(), (0.85, 0.85), (3.0, 1.0, 0.5))
    assert result.exit_index.tolist() == [1, 1, 1, 1]  # at temperature 3 the first exit is sure of nothing
    torch.testing.assert_close(result.confidences[:, 0], (torch.tensor([3.0, 0.0, 1.0, 2.0]) / 3).sigmoid())
    torch.testing.assert_close(result.probabilities, torch.tensor(LOGITS[1]).softmax(dim=1))
    assert torch.equal(result.logits, torch.tensor(LOGITS[1]))  # logits stay as the network gave them
    last = early_exit(HandMade(LOGITS).stages(), (1.0, 1.0), (3.0, 3.0, 0.5))
    torch.testing.assert_close(last.probabilities, (torch.tensor(LOGITS[2]) / 0.5).softmax(dim=1))


def test_probabilities_of_bfloat16_logits_are_float32():
    """A softmax in bfloat16, whose probabilities do not add up to one."""
    logits = torch.randn(4, 10).bfloat16()
    probabilities = exit_probabilities(logits)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(4))
    result = early_exit((logits for _ in range(1)), (), (1.0,))
    assert result.logits.dtype == torch.bfloat16 and result.probabilities.dtype == torch.float32


@pytest.mark.parametrize(('tau', 'wanted'), (
    (0.8, (0.8, 0.8)), (1, (1.0, 1.0)), (0, (0.0, 0.0)), (np.float64(0.5), (0.5, 0.5)), ([0.5, 1], (0.5, 1.0)),
    ((0.5, 0.6, 0.7), (0.5, 0.6)), (array.array('d', [0.5, 0.25]), (0.5, 0.25)),
))
def test_thresholds_accept(tau, wanted):
    """`ros2 param set tau 1` is an integer, a parameter's list an array; a value for the last exit is dropped."""
    got = thresholds(tau, 3)
    assert got == wanted and all(type(t) is float for t in got)


@pytest.mark.parametrize(('tau', 'message'), (
    (1.01, 'tau is 1.01'), (-0.1, 'tau is -0.1'), (80, 'tau is 80'), (math.nan, 'tau is nan'), (math.inf, 'tau is inf'),
    ([0.5, 1.5], 'tau is 1.5'), ([0.5, 0.5, 7], 'tau is 7'), ([0.5], 'tau has 1 value'), ([], 'tau has 0 values'),
    ([0.5] * 4, 'tau has 4 values'),
))
def test_thresholds_refuse(tau, message):
    """A percentage, a NaN that no confidence reaches, or a list for another network."""
    with pytest.raises(ValueError, match=message):
        thresholds(tau, 3)


def test_thresholds_of_a_single_exit_are_still_checked():
    """With one exit no threshold is used, but a wrong one must be refused."""
    assert thresholds(0.8, 1) == thresholds([0.8], 1) == thresholds([], 1) == ()
    with pytest.raises(ValueError, match='tau is 2'):
        thresholds(2, 1)


@pytest.mark.parametrize('tau', ((0.0, 0.0), (0.85, 0.9), (0.7, 0.95), (1.0, 1.0), (1.0, 0.0)))
@pytest.mark.parametrize('kind', (torch.float32, torch.bfloat16))
def test_one_sample_alone_equals_one_of_a_batch(tau, kind):
    """The separate code for a batch of one, with another softmax, threshold, temperature or exit."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(3, 40, 5, generator=generator)).to(kind)
    temperatures = (1.3, 0.8, 1.1)
    batch = early_exit(HandMade(logits).stages(), tau, temperatures)
    for sample in range(40):
        fake = HandMade(logits[:, sample:sample + 1])
        alone = early_exit(fake.stages(), tau, temperatures)
        assert fake.closed and len(fake.rows) == alone.exit_index.item() + 1
        for field in ('logits', 'probabilities', 'exit_index', 'confidences'):
            wanted = getattr(batch, field)[sample:sample + 1]
            assert getattr(alone, field).dtype == wanted.dtype
            torch.testing.assert_close(getattr(alone, field), wanted, rtol=0, atol=2e-7, equal_nan=True)


@pytest.mark.parametrize('count', (1, 2))
def test_tau_is_compared_in_float32(count):
    """A sample with a confidence of exactly tau that exits or not depending on the batch size."""
    logits = [[[1.0, 0.0]] * count, [[9.0, 0.0]] * count]
    confidence = early_exit(HandMade(logits).stages(), (1.0,), (1.0, 1.0)).confidences[0, 0].numpy()
    same, above = math.nextafter(float(confidence), 1.0), float(np.nextafter(confidence, np.float32(1.0)))
    assert float(confidence) < same < above
    for tau, exit_index in ((same, 0), (above, 1)):
        result = early_exit(HandMade(logits).stages(), (tau,), (1.0, 1.0))
        assert result.exit_index.tolist() == [exit_index] * count


@pytest.mark.parametrize('shape', [(3,), (1, 3), (2, 4, 3)])
def test_the_score_of_arrays_and_tensors(shape):
    """One axis fewer, the same values of the same type."""
    probabilities = torch.rand(shape, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    score = exit_score(probabilities)
    assert score.shape == shape[:-1] and score.dtype == torch.float32
    np.testing.assert_array_equal(exit_score(probabilities.numpy()), score.numpy())
    assert exit_score(probabilities.numpy()).dtype == np.float32


@pytest.mark.parametrize('batch', [1, 4])
def test_a_sample_in_a_hurry_exits_at_its_own_threshold(batch):
    """The other samples of a batch that exit with it, or a sample that exits below its threshold."""
    rows = torch.tensor([[[2.0, 0.0]], [[3.0, 0.0]], [[9.0, 0.0]]]).expand(3, batch, 2)  # 0.881, 0.953, 1.000
    asked = []

    def applies(place: int) -> bool:
        asked.append(place)
        return place == batch - 1 and len(asked) > batch  # a newer image arrives during the second stage

    result = early_exit(HandMade(rows).stages(), (0.99, 0.99), (1.0, 1.0, 1.0), Hurry((0.8, 0.9), applies))
    assert result.exit_index.tolist() == [2] * (batch - 1) + [1]
    assert asked == [*range(batch), *range(batch)]
    high = early_exit(HandMade(rows).stages(), (0.99, 0.99), (1.0, 1.0, 1.0), Hurry((0.9, 1.0), lambda _: True))
    assert high.exit_index.tolist() == [2] * batch
