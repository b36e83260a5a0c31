"""The classifier: a batch gives the predictions of each frame alone, and of the model."""

import dataclasses

import numpy as np
import pytest
import torch

from vit_tactile_ros.inference.classifier import TactileClassifier
from vit_tactile_ros.inference.preprocess import normalise
from vit_tactile_ros.model import (
    Calibration,
    Checkpoint,
    ModelConfig,
    PreprocessingConfig,
    ViTTactile,
    compute_shares,
    load_checkpoint,
    save_checkpoint,
    tokens,
)
from vit_tactile_ros.model.tokens import kept_shares

NAMES = ('none', 'sphere', 'edge', 'ring')


def some_checkpoint(reference: str = 'difference', attention: str = 'favor_softmax', temperatures=(1.2, 0.8, 1.1)):
    """An untrained model whose heads are loud enough to give every frame its own confidence."""
    torch.manual_seed(5)
    config = ModelConfig(num_classes=4, width=48, heads=3, depth=3, exits=(1, 2, 3), image_size=(32, 48),
                         attention=attention, feature_map_dim=32)
    model = ViTTactile(config).eval()
    with torch.no_grad():
        for stage in model.stage_modules:
            stage.head.classify.weight.mul_(15)
    return Checkpoint(model, PreprocessingConfig(image_size=(32, 48), reference=reference, std=(0.3, 0.3, 0.3)), NAMES,
                      Calibration(temperatures=temperatures, tau=0.7))


@pytest.fixture(autouse=True)
def thread_count():
    """The thread count belongs to the process: give it back as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def frames(count: int = 8, seed: int = 0) -> np.ndarray:
    """Random images of different contrast."""
    rng = np.random.default_rng(seed)
    contrast = np.linspace(0.2, 1.0, count)[:, None, None, None]
    return (127.5 + contrast * rng.uniform(-127, 127, (count, 32, 48, 3))).astype(np.uint8)


def splitting_taus(classifier: TactileClassifier, inputs: np.ndarray) -> tuple[float, float]:
    """Thresholds in the middle of the confidences at each early exit, of those that reach it."""
    confidences = np.stack([d.exit_confidences for d in classifier.classify_inputs(inputs, (1.0, 1.0))])
    first = float(np.median(confidences[:, 0]))
    second = float(np.median(confidences[confidences[:, 0] < first, 1]))
    return first, second


def test_the_gate_is_an_early_exit():
    """A network with one exit has no threshold that could forbid it."""
    names = ('no_contact', *NAMES[1:])
    classifier = TactileClassifier(dataclasses.replace(some_checkpoint(), class_names=names), 'cpu', threads=1)
    # `calibrate` may choose these where the first exit is poor: every untouched image then passed through the network.
    assert classifier.untouched((1.0, 0.5)).exit_index == -1
    assert classifier.untouched((1.0, 1.0)) is None and classifier.untouched((0.99, 1.0)).exit_index == -1
    model = ViTTactile(ModelConfig(num_classes=4, width=48, heads=3, depth=1, exits=(1,), image_size=(32, 48)))
    one = dataclasses.replace(some_checkpoint(), class_names=names, model=model, calibration=Calibration())
    classifier = TactileClassifier(one, 'cpu', threads=1)
    assert classifier.untouched(()) is None and classifier.gate_problem == 'this checkpoint has no early exit'


def test_the_odds_of_a_touch_change_the_decision():
    """Odds that raise no contact, or that act on a checkpoint without that class."""
    checkpoint = dataclasses.replace(some_checkpoint(), class_names=('no_contact', *NAMES[1:]))
    classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
    images, references, tau = frames(2), frames(2, seed=1), (1.0, 1.0)
    plain = classifier.classify(images, references, tau)
    odds = classifier.classify(images, references, tau, None, None, [1.0, 10.0])
    np.testing.assert_allclose(odds[0].probabilities, plain[0].probabilities, atol=1e-6)
    nothing, rest = plain[1].probabilities[0] / 10, plain[1].probabilities[1:]
    np.testing.assert_allclose(odds[1].probabilities, np.array([nothing, *rest]) / (nothing + rest.sum()), atol=1e-5)
    other = TactileClassifier(some_checkpoint(), 'cpu', threads=1)
    assert other.evidence([10.0]) is None and classifier.evidence([1.0, 1.0]) is None
    states = dataclasses.replace(some_checkpoint(), class_names=('no_contact', 'stable', 'moving', 'slip'))
    assert TactileClassifier(states, 'cpu', threads=1).evidence([10.0]) is None


@pytest.mark.parametrize('attention', ('favor_softmax', 'favor_relu', 'softmax'))
def test_a_batch_answers_as_each_frame_alone(attention):
    """Two fingers classified together that answer otherwise than one by one."""
    classifier = TactileClassifier(some_checkpoint(attention=attention), 'cpu', threads=1)
    images, references = frames(), frames(seed=1)
    inputs = np.stack([normalise(i, r, classifier.preprocessing) for i, r in zip(images, references, strict=True)])
    tau = splitting_taus(classifier, inputs)
    batched = classifier.classify(images, references, tau)
    assert {d.exit_index for d in batched} == {0, 1, 2}
    for decision, image, reference in zip(batched, images, references, strict=True):
        alone, = classifier.classify([image], [reference], tau)
        assert (alone.class_id, alone.exit_index) == (decision.class_id, decision.exit_index)
        np.testing.assert_allclose(alone.probabilities, decision.probabilities, atol=1e-5)
        np.testing.assert_allclose(alone.exit_confidences, decision.exit_confidences, atol=1e-5)


def test_decisions_are_those_of_the_model():
    """The live path deciding otherwise than `model(images)` in a script: another softmax, threshold or exit."""
    checkpoint = some_checkpoint()
    model = checkpoint.model
    model.temperatures = checkpoint.calibration.temperatures
    classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
    inputs = np.stack([normalise(image, reference, checkpoint.preprocessing)
                       for image, reference in zip(frames(), frames(seed=1), strict=True)])
    tau = splitting_taus(classifier, inputs)
    model.tau = tau
    with torch.no_grad():
        logits, exits = model(torch.from_numpy(inputs))
    decisions = classifier.classify_inputs(inputs, tau)
    assert [d.exit_index for d in decisions] == exits.tolist()
    assert [d.class_id for d in decisions] == logits.argmax(dim=1).tolist()
    shares = compute_shares(model.config)
    for decision, row in zip(decisions, logits, strict=True):
        temperature = model.temperatures[decision.exit_index]
        np.testing.assert_allclose(decision.probabilities, (row / temperature).softmax(dim=0).numpy(), atol=1e-6)
        assert decision.class_name == NAMES[decision.class_id]
        assert decision.confidence == decision.probabilities.max() == decision.exit_confidences[-1]
        assert decision.exit_block == decision.exit_index + 1 == len(decision.exit_confidences)
        assert decision.compute_share == shares[decision.exit_index]
        assert decision.tau == tau and decision.inference_time > 0


def test_exits_follow_the_thresholds():
    """A decision whose confidences contradict the threshold it reports."""
    classifier = TactileClassifier(some_checkpoint(), 'cpu', threads=1)
    for tau in ((0.0, 0.0), (0.6, 0.6), (1.0, 1.0), (1.0, 0.0)):
        for decision in classifier.classify(frames(), frames(seed=1), tau):
            early = list(zip(decision.exit_confidences, tau, strict=False))[:decision.exit_index]
            assert all(confidence < t for confidence, t in early)
            assert decision.exit_index == 2 or decision.exit_confidences[-1] >= tau[decision.exit_index]


def test_a_missing_reference_is_an_error():
    """A checkpoint of differences given whole frames: confident nonsense."""
    classifier = TactileClassifier(some_checkpoint(), 'cpu', threads=1)
    assert classifier.needs_reference
    with pytest.raises(ValueError, match='this checkpoint needs a no-contact reference'):
        classifier.classify(frames(2), [frames(1)[0], None], (0.5, 0.5))


def test_no_reference_needed():
    """A checkpoint of whole frames that asks for a reference all the same."""
    classifier = TactileClassifier(some_checkpoint(reference='none'), 'cpu', threads=1)
    assert not classifier.needs_reference
    assert len(classifier.classify(frames(2), [None, None], (0.5, 0.5))) == 2


def test_raw_frames_are_fitted_first():
    """A frame of the sensor's own size that reaches the network unfitted."""
    classifier = TactileClassifier(some_checkpoint(reference='none'), 'cpu', threads=1)
    raw = np.zeros((64, 96, 3), np.uint8)
    with pytest.raises(ValueError, match='must be fitted'):
        classifier.classify([raw], [None], (0.5, 0.5))
    assert len(classifier.classify([classifier.fit(raw)], [None], (0.5, 0.5))) == 1


def test_a_checkpoint_answers_alike_before_and_after_saving(tmp_path):
    """The calibration of a checkpoint that was just made was ignored until it had been saved and loaded."""
    checkpoint = some_checkpoint(temperatures=(3.0, 2.0, 4.0))
    save_checkpoint(tmp_path / 'c.safetensors', checkpoint, torch.float32)
    answers = [TactileClassifier(c, 'cpu', threads=1).classify(frames(), frames(seed=1), (0.5, 0.5))
               for c in (checkpoint, load_checkpoint(tmp_path / 'c.safetensors'))]
    for before, after in zip(*answers, strict=True):
        assert before.exit_index == after.exit_index
        np.testing.assert_array_equal(before.probabilities, after.probabilities)


def test_no_calibration_is_temperature_one():
    """A checkpoint without temperatures that can't be used, or that takes those of another."""
    plain = TactileClassifier(some_checkpoint(temperatures=()), 'cpu', threads=1)
    ones = TactileClassifier(some_checkpoint(temperatures=(1.0, 1.0, 1.0)), 'cpu', threads=1)
    for a, b in zip(*(c.classify(frames(), frames(seed=1), (0.5, 0.5)) for c in (plain, ones)), strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_warm_up_runs_every_stage():
    """A model that is sure of the blank warm-up image leaves at once: the first hard frame was the slow one."""
    checkpoint = some_checkpoint()
    with torch.no_grad():
        for stage in checkpoint.model.stage_modules:
            stage.head.classify.bias[1] = 1000.0
    classifier = TactileClassifier(checkpoint, 'cpu', threads=1)
    seen = []
    for index, stage in enumerate(classifier.runtime._model.stage_modules):
        stage.register_forward_pre_hook(lambda _module, inputs, index=index: seen.append((index, len(inputs[0]))))
    classifier.warm_up((1, 3))
    assert {(stage, batch) for stage in range(3) for batch in (1, 3)} <= set(seen)


def test_tau_is_checked_against_the_exits():
    """A live change of tau that has one value too many, or a percentage."""
    classifier = TactileClassifier(some_checkpoint(), 'cpu', threads=1)
    assert classifier.thresholds(1) == (1.0, 1.0)
    assert classifier.thresholds([0.5, 0.6]) == (0.5, 0.6)
    for tau in (80, [0.5], [0.5] * 4):
        with pytest.raises(ValueError, match='tau'):
            classifier.thresholds(tau)


def test_bad_devices_and_precisions_are_refused():
    """A classifier that quietly runs elsewhere or with other numbers than it was told."""
    for arguments in ({'device': 'tpu'}, {'device': 'cpu', 'precision': 'float16'}):
        with pytest.raises(ValueError, match=' is .*; must be'):
            TactileClassifier(some_checkpoint(), threads=1, **arguments)


def test_int8_is_refused_with_what_to_do():
    """The default engine's refusal, plain torch's, in place of what the user has to do."""
    wanted = 'openvino is not installed|VNNI|calibrate --checkpoint FILE --output NEW'
    with pytest.raises(ValueError, match=wanted) as error:
        TactileClassifier(some_checkpoint(), 'cpu', 'int8', threads=1)
    assert 'plain torch has no' not in str(error.value)


def test_two_precisions_of_one_checkpoint():
    """The second classifier of a process answered with the first one's rounded weights."""
    checkpoint = some_checkpoint()
    alone = TactileClassifier(checkpoint, 'cpu', threads=1).classify(frames(), frames(seed=1), (0.5, 0.5))
    rounded = TactileClassifier(checkpoint, 'cpu', 'bfloat16', threads=1).classify(frames(), frames(seed=1), (1.0, 1.0))
    after = TactileClassifier(checkpoint, 'cpu', threads=1).classify(frames(), frames(seed=1), (0.5, 0.5))
    for a, b in zip(alone, after, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
    for decision in rounded:
        assert decision.probabilities.dtype == np.float32 and decision.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_threads_are_set():
    """A thread count that is asked for and not obeyed."""
    assert TactileClassifier(some_checkpoint(), 'cpu', threads=2).threads == 2 == torch.get_num_threads()
    assert TactileClassifier(some_checkpoint(), 'cpu', threads=1).threads == 1 == torch.get_num_threads()


def dropping(monkeypatch):
    """A classifier that drops patches, and what its engine was given: the share kept of each image, at each call."""
    checkpoint = some_checkpoint()
    model = checkpoint.model.changed(token_threshold=0.1)
    classifier = TactileClassifier(dataclasses.replace(checkpoint, model=model), 'cpu', threads=1)
    seen: list[list[float]] = []
    stages = classifier.runtime.stages

    def watched(images, groups=None):
        assert groups is None or len(torch.cat([group.rows for group in groups])) == len(images)
        seen.append(kept_shares(model.choose(images) if groups is None else groups, model.config).tolist())
        return stages(images, groups)
    monkeypatch.setattr(classifier.runtime, 'stages', watched)
    return classifier, seen


def test_warm_up_runs_every_number_of_patches(monkeypatch):
    """The first touch of each size would be slow."""
    classifier, seen = dropping(monkeypatch)
    classifier.warm_up((1, 2), rounds=1)
    assert {(len(shares), round(6 * shares[0])) for shares in seen} == {(n, k) for n in (1, 2) for k in (2, 3, 5, 6)}


def test_patches_are_chosen_once_and_count_in_the_compute_share(monkeypatch):
    """A choice that is repeated takes 0.3 ms of every image; a share of all patches hides what they save."""
    classifier, seen = dropping(monkeypatch)
    inputs = torch.zeros(3, 3, 32, 48)
    inputs[1, :, :, :32], inputs[2] = 1.0, torch.randn(3, 32, 48)
    chosen = []
    monkeypatch.setattr(tokens, 'patch_differences', lambda *a, f=tokens.patch_differences: chosen.append(a) or f(*a))
    decisions = classifier.classify_inputs(inputs.numpy(), (0.5, 0.5))
    assert len(chosen) == len(seen) == 1
    assert len(set(seen[0])) == 3
    for decision, kept in zip(decisions, seen[0], strict=True):
        assert decision.compute_share == pytest.approx(classifier.compute_shares[decision.exit_index] * kept)
