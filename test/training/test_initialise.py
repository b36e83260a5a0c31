"""Starting from another checkpoint: what fits is taken over exactly, and what does not is said."""

import dataclasses

import pytest
import torch
from toy_training import CLASS_NAMES, CONFIG, PREPROCESSING, make_model

from vit_tactile_ros.model import Checkpoint, ViTTactile
from vit_tactile_ros.training.initialise import (
    Start,
    check_frozen,
    heads_are_new,
    start_from,
    start_from_all,
    start_told,
)

CHECKPOINT = Checkpoint(make_model(3), PREPROCESSING, CLASS_NAMES)
IMAGES = torch.randn(2, 3, 32, 32)


def new(**changes):
    torch.manual_seed(0)
    return ViTTactile(dataclasses.replace(CONFIG, **changes))


@pytest.mark.parametrize(('freeze', 'changes', 'told'), [
    (3, {'exits': (1, 2, 3), 'depth': 3}, 'freeze is 3; a.safetensors has 2 blocks'),
    (1, {'attention': 'softmax'}, 'freeze is 1 and attention is softmax; the blocks of a.safetensors were trained')])
def test_blocks_that_never_learned_as_they_are_used_are_not_frozen(freeze, changes, told):
    model = dataclasses.replace(CONFIG, **changes)
    with pytest.raises(ValueError, match=told):
        check_frozen(freeze, [CHECKPOINT], 'a.safetensors', model)
    check_frozen(0, [CHECKPOINT], 'a.safetensors', model)
    check_frozen(CONFIG.depth, [CHECKPOINT], 'a.safetensors', CONFIG)


def test_classes_are_only_told_where_a_head_was_taken_over():
    model, classes = new(exits=(3,), depth=3), (*CLASS_NAMES[:-1], 'sand')
    drawn = start_from(model, CHECKPOINT, classes)
    told = start_told([CHECKPOINT], 'a.safetensors', model.config, classes, drawn)
    assert 'head 3 (not in the checkpoint)' in told and 'copied' not in told


def logits(model, images=IMAGES):
    with torch.no_grad():
        return list(model.stages(images))


def test_the_same_architecture_answers_the_same():
    model = new()
    assert start_from(model, CHECKPOINT, CLASS_NAMES) == []
    for ours, theirs in zip(logits(model), logits(CHECKPOINT.model), strict=True):
        assert torch.equal(ours, theirs)


def test_other_classes_get_new_heads():
    model = new(num_classes=5)
    heads = [stage.head.classify.weight.clone() for stage in model.stage_modules]
    assert start_from(model, CHECKPOINT, ('a', 'b', 'c', 'd', 'e')) == ['the heads (other classes)']
    for stage, head in zip(model.stage_modules, heads, strict=True):
        assert torch.equal(stage.head.classify.weight, head)
    assert torch.equal(model.embed.project.weight, CHECKPOINT.model.embed.project.weight)


def test_as_many_but_other_classes_get_new_heads():
    """A head that answers 'sand' with what it knew of another class."""
    model = new()
    assert start_from(model, CHECKPOINT, ('sand', 'salt', 'ice')) == ['the heads (other classes)']


@pytest.mark.parametrize('reordered', [False, True])
def test_classes_of_the_same_name_keep_their_rows(reordered):
    """Eight known classes learned anew because of a ninth; rows given to the wrong class."""
    first, second, third = CLASS_NAMES
    names = (third, first, second) if reordered else (third, 'new', first, 'other')
    model = new(num_classes=len(names))
    before = [stage.head.classify.weight.clone() for stage in model.stage_modules]
    drawn = start_from(model, CHECKPOINT, names)
    assert drawn == ([] if reordered else ["the head of class 'new'", "the head of class 'other'"])
    for index, (ours, theirs) in enumerate(zip(logits(model), logits(CHECKPOINT.model), strict=True)):
        for row, name in enumerate(names):
            if name in CLASS_NAMES:
                torch.testing.assert_close(ours[:, row], theirs[:, CLASS_NAMES.index(name)])
            else:
                assert torch.equal(model.stage_modules[index].head.classify.weight[row], before[index][row])
    told = start_told([CHECKPOINT], 'x', model.config, names, drawn)
    assert f"classes copied: {', '.join(repr(n) for n in names if n in CLASS_NAMES)}" in told


def test_of_several_checkpoints_each_gives_the_classes_that_it_has():
    names = ('a', *CLASS_NAMES)
    other = Checkpoint(make_model(3), PREPROCESSING, ('a', 'x', 'y'))
    assert start_from_all(new(num_classes=4), [CHECKPOINT, other], names) == []


def test_another_kernel_is_said():
    """softmax has no random features, so that nothing was said of weights that learned with another kernel."""
    told = start_told([CHECKPOINT], 'x', new(attention='softmax').config, CLASS_NAMES, [])
    assert f'attention is softmax, but these weights were trained with {CONFIG.attention}' in told
    assert start_told([CHECKPOINT], 'x', CONFIG, CLASS_NAMES, []) == 'starts from x'


def test_another_image_size_is_fine():
    model = new(image_size=(48, 64))
    assert start_from(model, CHECKPOINT, CLASS_NAMES) == []
    for ours, theirs in zip(logits(model), logits(CHECKPOINT.model), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert logits(model, torch.randn(1, 3, 48, 64))[0].shape == (1, 3)


def test_blocks_go_by_number_whatever_the_exits():
    """Names of weights hold the stage, which another choice of exits changes."""
    model = new(exits=(2,))
    assert start_from(model, CHECKPOINT, CLASS_NAMES) == []
    assert torch.equal(logits(model)[0], logits(CHECKPOINT.model)[1])
    deeper = new(exits=(1, 3), depth=3)
    assert start_from(deeper, CHECKPOINT, CLASS_NAMES) == [
        'block 3 (not in the checkpoint)', 'head 3 (not in the checkpoint)']
    assert torch.equal(logits(deeper)[0], logits(CHECKPOINT.model)[0])


def test_of_several_the_later_one_gives_the_blocks_that_it_has():
    shallow = Checkpoint(ViTTactile(dataclasses.replace(CONFIG, exits=(1,), depth=1)).eval(), PREPROCESSING,
                         CLASS_NAMES)
    model = new()
    assert start_from_all(model, [CHECKPOINT, shallow], CLASS_NAMES) == []
    assert torch.equal(logits(model)[0], logits(shallow.model)[0])
    for ours, theirs in zip(model.stage_modules[1:], CHECKPOINT.model.stage_modules[1:], strict=True):
        for weight, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(weight, wanted)
    deeper = new(exits=(1, 3), depth=3)
    assert start_from_all(deeper, [CHECKPOINT, shallow], CLASS_NAMES) == [
        'block 3 (not in the checkpoint)', 'head 3 (not in the checkpoint)']


@pytest.mark.parametrize('theirs', (0, 1, 3))
@pytest.mark.parametrize('names', (CLASS_NAMES, ('new', *CLASS_NAMES[::-1])))
def test_more_queries_predict_the_same_and_can_learn_apart(theirs, names):
    """Heads that start anew, or copies of a query that get equal gradients and stay copies."""
    known = new(queries=theirs)
    for stage in known.stage_modules if theirs else ():
        torch.nn.init.normal_(stage.head.queries)
    checkpoint = Checkpoint(known.eval(), PREPROCESSING, CLASS_NAMES)
    model = new(queries=4, num_classes=len(names))
    drawn = start_from(model, checkpoint, names)
    assert drawn == [f'the head of class {name!r}' for name in names if name not in CLASS_NAMES]
    assert 'the 4 queries of each copied head start with its predictions' in start_told(
        [checkpoint], 'x', model.config, names, drawn)
    order = [names.index(name) for name in CLASS_NAMES]
    for ours, wanted in zip(logits(model), logits(known), strict=True):
        torch.testing.assert_close(ours[:, order], wanted, atol=1e-5, rtol=1e-4)
    sum(out[:, order[0]].sum() for out in model.stages(IMAGES)).backward()
    for stage in model.stage_modules:
        assert torch.cdist(stage.head.queries.grad, stage.head.queries.grad)[~torch.eye(4, dtype=bool)].min() > 1e-3


def test_fewer_queries_are_refused_where_a_head_would_be_copied():
    """A head that predicts otherwise in silence."""
    checkpoint = Checkpoint(new(queries=3).eval(), PREPROCESSING, CLASS_NAMES)
    with pytest.raises(ValueError, match='queries is 2; the heads of .* have 3, .*: give at least 3'):
        start_from(new(queries=2), checkpoint, CLASS_NAMES)
    start_from(new(queries=2), checkpoint, ('other', 'classes', 'here'))
    start_from(new(exits=(3,), depth=3), checkpoint, CLASS_NAMES)


@pytest.mark.parametrize('queries', (0, 4))
def test_heads_that_predicted_alone_start_as_added_ones(queries):
    """Sums of whole heads would be as many times as large as there are exits."""
    model = new(added_exits=True, queries=queries)
    assert start_from(model, CHECKPOINT, CLASS_NAMES) == []
    assert 'copied heads add to the exit before' in start_told([CHECKPOINT], 'x', model.config, CLASS_NAMES, [])
    first, second = logits(CHECKPOINT.model)
    for got, wanted in zip(logits(model), (first, first + second / 2), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    again = new(added_exits=True, queries=queries)
    start_from(again, Checkpoint(model.eval(), PREPROCESSING, CLASS_NAMES), CLASS_NAMES)
    for got, wanted in zip(logits(again), logits(model), strict=True):
        assert torch.equal(got, wanted)


def test_added_heads_are_refused_without_the_exits_that_they_add_to():
    """A part of a sum taken for a prediction, in silence."""
    checkpoint = Checkpoint(new(added_exits=True).eval(), PREPROCESSING, CLASS_NAMES)
    with pytest.raises(ValueError, match=r'exits are 2; .* adds the exit after block 2 to those after 1: give these'):
        start_from(new(added_exits=True, exits=(2,)), checkpoint, CLASS_NAMES)
    with pytest.raises(ValueError, match='added_exits is False; .*: give --added_exits'):
        start_from(new(), checkpoint, CLASS_NAMES)
    start_from(new(added_exits=True, exits=(1,), depth=1), checkpoint, CLASS_NAMES)
    start_from(new(), checkpoint, ('other', 'classes', 'here'))


def test_added_heads_are_refused_with_another_one_before_them():
    """They were copied, and added to a head of another checkpoint, or of random weights."""
    checkpoint = Checkpoint(new(added_exits=True, exits=(2,)).eval(), PREPROCESSING, CLASS_NAMES)
    for others in ([], [CHECKPOINT]):
        with pytest.raises(ValueError, match=r'exits are 1 2; the exit after block 2 .* add to those after 1, '):
            start_from_all(new(added_exits=True), [checkpoint, *others], CLASS_NAMES)
    start_from(new(added_exits=True, exits=(2, 3), depth=3), checkpoint, CLASS_NAMES)


def test_exits_are_added_as_in_the_checkpoint_or_if_asked():
    checkpoints = [Checkpoint(new(added_exits=added), PREPROCESSING, CLASS_NAMES) for added in (False, True)]
    assert [[Start(added_exits=asked).architecture([known], 3).added_exits for asked in (False, True)]
            for known in checkpoints] == [[False, True], [True, True]]


def test_queries_are_those_of_the_checkpoint_unless_asked():
    checkpoint = Checkpoint(new(queries=3), PREPROCESSING, CLASS_NAMES)
    assert [Start(queries=asked).architecture([checkpoint], 3).queries for asked in (None, 4, 0)] == [3, 4, 0]


@pytest.mark.parametrize('changes', ({'feature_map_dim': 32}, {'attention': 'favor_relu'}))
def test_another_kernel_keeps_its_own_features(changes):
    model = new(**changes)
    assert start_from(model, CHECKPOINT, CLASS_NAMES) == ['the random features (another kernel or number)']


def test_the_baseline_has_no_features():
    assert start_from(new(attention='softmax'), CHECKPOINT, CLASS_NAMES) == []


def test_another_width_is_refused():
    with pytest.raises(ValueError, match='width is 96; the checkpoint to start from has 48'):
        start_from(new(width=96), CHECKPOINT, CLASS_NAMES)


def test_architecture_is_the_checkpoints_where_nothing_else_is_asked():
    assert Start().architecture([CHECKPOINT], 7) == dataclasses.replace(CONFIG, num_classes=7)
    start = Start(image_size=(64, 64), attention='softmax', feature_map_dim=8, exits=(1, 4))
    config = start.architecture([CHECKPOINT], 7)
    assert (config.image_size, config.attention, config.feature_map_dim) == ((64, 64), 'softmax', 8)
    assert (config.exits, config.depth, config.width) == ((1, 4), 4, 48)


def test_default_architecture():
    config = Start().architecture([], 10)
    assert (config.image_size, config.exits, config.attention, config.feature_map_dim) == (
        (96, 128), (4, 8, 12), 'favor_softmax', 64)
    assert Start(exits=(2, 4)).architecture([], 10).depth == 4
    with pytest.raises(ValueError, match='exits is'):
        Start(exits=(4, 2)).architecture([], 10)


@pytest.mark.parametrize('stem', ('patch', 'convolution'))
def test_motion_that_is_new_changes_nothing_at_first(stem):
    """A network with motion that must learn shapes again; and one without that starts from one with."""
    plain, moving = new(stem=stem), new(stem=stem, channels=6)
    assert start_from(moving, Checkpoint(plain, PREPROCESSING, CLASS_NAMES), CLASS_NAMES) == []
    six = torch.cat((IMAGES, torch.randn_like(IMAGES)), dim=1)
    for ours, theirs in zip(logits(moving, six), logits(plain), strict=True):
        torch.testing.assert_close(ours, theirs)
    back = new(stem=stem)
    assert start_from(back, Checkpoint(moving, PREPROCESSING, CLASS_NAMES), CLASS_NAMES) == []
    assert torch.equal(logits(back)[-1], logits(plain)[-1])
    with pytest.raises(ValueError, match='freeze is 1 and motion is new to a.safetensors'):
        check_frozen(1, [CHECKPOINT], 'a.safetensors', dataclasses.replace(CONFIG, channels=6))


def test_the_threshold_of_tokens_is_given_in_grey_levels():
    """A threshold in other units than those of the input drops everything, or nothing."""
    given = Start(token_threshold=5.1).for_inputs(CONFIG, PREPROCESSING)
    assert given.token_threshold == pytest.approx(5.1 / 25.5)
    assert Start().for_inputs(given, PREPROCESSING).token_threshold == pytest.approx(given.token_threshold)
    assert Start(token_threshold=0).for_inputs(given, PREPROCESSING).token_threshold == 0
    alone = dataclasses.replace(PREPROCESSING, reference='none')
    assert Start().for_inputs(CONFIG, alone).token_threshold == 0
    with pytest.raises(ValueError, match='token_threshold is 5.1; must be 0 for an input without a reference'):
        Start(token_threshold=5.1).for_inputs(CONFIG, alone)
    for wrong in (-1.0, 128.0, float('nan')):
        with pytest.raises(ValueError, match='token_threshold is .*; must be 0 .* to 127 grey levels'):
            Start(token_threshold=wrong).for_inputs(CONFIG, PREPROCESSING)


def test_which_heads_are_new():
    """`no_contact`, which most data has, kept new heads at the rate of the blocks."""
    shipped = dataclasses.replace(CHECKPOINT, class_names=('no_contact', 'ring', 'unknown'))
    for names, are_new in ((('bolt', 'nut'), True), (('bolt', 'no_contact', 'nut'), True), (('bolt', 'ring'), False)):
        assert heads_are_new([shipped], names) == are_new
    assert not heads_are_new([], ('bolt', 'nut')) and not heads_are_new([shipped, CHECKPOINT], CHECKPOINT.class_names)
