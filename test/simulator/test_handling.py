"""Held objects: friction, the true states, and whether images show what the states say."""

import dataclasses
import itertools
import math

import cv2
import numpy as np
import pytest

from vit_tactile_ros.simulator import (
    GELSIGHT,
    STATE_NAMES,
    Contact,
    HandlingSequence,
    Light,
    Markers,
    SensorUnit,
    sample_state_example,
)
from vit_tactile_ros.simulator.friction import slides_of
from vit_tactile_ros.simulator.handling import sample_handling

STEP_S = 0.004
BALL = Contact('sphere', 0.6, radius_mm=3.0)


def followed(activity, seed):
    """(times, contacts, states) of a ball in one activity, in steps of the simulation."""
    handling = sample_handling(GELSIGHT, np.random.default_rng(seed), (activity,), BALL)
    times = np.arange(round(handling.duration_s / STEP_S)) * STEP_S
    return times, [handling.contact(t) for t in times], [handling.state(t) for t in times]


def motion(contacts):
    """Per pair of steps in contact: (movement of the object over the gel's surface, shear after, depth after), mm."""
    for before, after in itertools.pairwise(contacts):
        if before and after:
            # a ball turns within what friction holds, too: 0.6 of the radius that touches
            held = max(0.6 * math.sqrt(BALL.depth_mm * (2 * BALL.radius_mm - BALL.depth_mm)), 0.6)
            pose, shear = (np.array([[c.x_mm, c.y_mm, c.angle_rad * held], [c.shear_x_mm, c.shear_y_mm,
                                                                           c.twist_rad * held]])
                           for c in (before, after))
            slid = float(np.linalg.norm((shear[0] - pose[0]) - (shear[1] - pose[1])))
            yield slid, float(np.linalg.norm(shear[1])), after


@pytest.mark.parametrize('seed', range(4))
def test_it_sticks_below_the_limit_of_friction_and_slides_at_it(seed):
    # what the ball's gel can carry per depth: the largest shear of an overload
    _, contacts, states = followed('slip', seed)
    rows = list(motion(contacts))
    carried = np.array([shear / (contact.depth_mm / BALL.depth_mm) ** 1.5 for _, shear, contact in rows])
    sliding = np.array([slid for slid, _, _ in rows]) > 1e-9
    limit = carried.max()
    assert sliding.any() and not sliding.all() and 'slip' in states
    # static friction when it starts to slide, less while it slides, never more
    settled = sliding & (np.array([contact.depth_mm for _, _, contact in rows]) == BALL.depth_mm)
    assert 0.5 * limit < carried[settled].min() < 0.95 * limit
    start = int(np.flatnonzero(settled)[0])
    assert carried[start] == pytest.approx(limit, rel=0.05)


@pytest.mark.parametrize('activity, slides', [('shake', False), ('slip', True), ('loosen', True), ('drop', True)])
def test_only_what_exceeds_friction_slips(activity, slides):
    slips = []
    for seed in range(8):
        times, contacts, states = followed(activity, seed)
        held = [state for contact, state in zip(contacts, states) if contact][50:]  # after the press
        held = held if slides else held[:-100]  # before the release
        slips.append('slip' in held)
        assert ('moving' in held) or not activity == 'shake'
    assert np.mean(slips) == (1.0 if slides else 0.0)


def test_the_state_is_that_of_the_motion_just_before():
    for seed, activity in enumerate(('shake', 'slip', 'twist', 'pull', 'loosen')):
        times, contacts, states = followed(activity, seed)
        assert set(states) >= {'no_contact', 'stable', 'moving'}
        begins = next(i for i, contact in enumerate(contacts) if contact)
        assert set(states[begins:begins + 15]) == {'moving'}
        assert [state == 'no_contact' for state in states] == [contact is None for contact in contacts]
        slid = np.cumsum([0.0] * (begins + 1) + [s for s, _, _ in motion(contacts)])
        for i in range(begins + 30, begins + len(slid) - begins - 1):
            if contacts[i] and contacts[i - 10]:
                speed = (slid[i] - slid[i - 10]) / 0.04
                assert (states[i] == 'slip') == (speed > 1.0) or abs(speed - 1.0) < 0.05, (activity, i, speed)


def moved_px(before, after):
    """How far the second image has moved, in px (x, y)."""
    move = np.eye(2, 3, dtype=np.float32)
    cv2.findTransformECC(np.float32(before), np.float32(after), move, cv2.MOTION_TRANSLATION)
    return move[:, 2]


def test_dots_move_with_an_object_that_sticks_and_stay_behind_one_that_slips():
    """Registration of the dots alone and of the imprint alone, over 80 ms."""
    dark = (Light(0.0, 0.45, (0.0, 0.0, 0.0)),)
    plain = dataclasses.replace(GELSIGHT, noise=0.0, texture=0.0, specks=0)
    dots = SensorUnit(dataclasses.replace(plain, lights=dark, markers=Markers(reach_mm=40.0)),
                      np.random.default_rng(0), 0.0)
    imprint = SensorUnit(plain, np.random.default_rng(0), 0.0)
    ring = Contact('ring', 0.6, radius_mm=3.0, width_mm=0.6)
    apart = {'moving': [], 'slip': []}
    rng = np.random.default_rng(3)
    for activity, state in (('shake', 'moving'), ('slip', 'slip')) * 5:
        handling = sample_handling(GELSIGHT, rng, (activity,), ring)
        for now in rng.permutation(handling.times(state, 0.08)):
            first, last = handling.contact(now - 0.08), handling.contact(now)
            way = last and first and np.array([last.x_mm - first.x_mm, last.y_mm - first.y_mm])
            if way is not None and 0.1 < np.linalg.norm(way) < 1.0 and abs(last.angle_rad - first.angle_rad) < 0.02:
                break
        else:
            continue
        rest = [unit.render(None, rng)[..., 1].astype(np.float32) for unit in (dots, imprint)]
        shifts = [moved_px(unit.render(first, rng)[..., 1] - still, unit.render(last, rng)[..., 1] - still)
                  * unit.mm_per_px for unit, still in zip((dots, imprint), (0 * rest[0], rest[1]))]
        # the imprint moves with the object, the dots with the gel's surface
        np.testing.assert_allclose(shifts[1], way, atol=0.06)
        np.testing.assert_allclose(shifts[0], (last.shear_x_mm - first.shear_x_mm,
                                               last.shear_y_mm - first.shear_y_mm), atol=0.08)
        apart[state].append(float(np.linalg.norm(shifts[1] - shifts[0])))
    assert min(map(len, apart.values())) >= 2
    assert max(apart['moving']) < 0.05 < 0.08 < min(apart['slip'])


def test_a_sequence_depends_on_its_seed_and_not_on_the_frame_rate():
    slow, fast = (HandlingSequence(GELSIGHT, np.random.default_rng(5)) for _ in range(2))
    seen = []
    for step in range(1200):
        now = fast.at(step / 60)
        seen.append(now[1])
        if step % 4 == 0:
            assert slow.at(step / 60) == now
    assert set(seen) == set(STATE_NAMES)
    assert seen[0] == 'no_contact' and 0.1 < seen.count('no_contact') / len(seen) < 0.4
    with pytest.raises(ValueError, match='1.0'):
        fast.at(1.0)


def test_pauses_as_long_as_asked():
    """The classifier stores a reference after 2 s without contact."""
    sequence = HandlingSequence(GELSIGHT, np.random.default_rng(5), pause_s=1.25)
    states = [sequence.at(step / 30)[1] for step in range(1200)]
    pauses = [len(list(run)) for state, run in itertools.groupby(states) if state == 'no_contact']
    assert len(pauses) > 4 and min(pauses[1:-1]) >= 2.4 * 30


def test_state_examples_are_balanced_deterministic_and_of_one_unit():
    counts = np.zeros(len(STATE_NAMES), int)
    change = {name: [] for name in STATE_NAMES}
    for seed in range(80):
        frame, (previous,), reference, state_id = sample_state_example(np.random.default_rng(seed))
        assert frame.shape == previous.shape == reference.shape and frame.dtype == previous.dtype == np.uint8
        counts[state_id] += 1
        blurred = cv2.GaussianBlur(frame.astype(np.float32) - previous, (0, 0), 0.01 * len(frame))
        change[STATE_NAMES[state_id]].append(np.abs(blurred).max())
    assert counts.min() >= 10
    # drift against the reference is large, between two frames there is none
    assert np.median(change['no_contact']) < 4 < np.median(change['moving']) < np.median(change['slip'])
    again = [sample_state_example(np.random.default_rng(7), state_name='slip') for _ in range(2)]
    for first, second in zip(*again):
        np.testing.assert_array_equal(first, second)
    assert again[0][3] == STATE_NAMES.index('slip')


def test_several_images_before_are_of_their_times():
    """A view of another time, or another frame than with one view."""
    one, four = (sample_state_example(np.random.default_rng(5), state_name='slip', views=views) for views in (1, 4))
    assert len(four[1]) == 4 and four[3] == one[3]
    change = [float(np.abs(cv2.blur(four[0].astype(np.float32) - each, (9, 9))).max()) for each in four[1]]
    assert change[0] < change[1] < change[3]


@pytest.mark.parametrize('arguments, message', [({'state_name': 'lost'}, "'lost'"), ({'interval_s': 0.0}, '0.0')])
def test_wrong_arguments_of_state_examples_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_state_example(np.random.default_rng(0), **arguments)


@pytest.mark.parametrize('speed, begins', [(0.1, None), (0.4, 0.25), (2.0, 0.05)])
def test_a_slide_counts_once_it_can_be_seen(speed, begins):
    """A slide at less than 1 mm/s was labelled stable, so that networks learnt not to report it."""
    rows = np.zeros((400, 9))
    rows[:350, 0] = 1.0
    rows[100:, 7] = speed * STEP_S * np.arange(1, 301)  # slides from 0.4 s on
    found = slides_of(rows)
    assert not found[:100].any() and not found[350:].any()
    if begins is None:
        assert not found.any()
    else:
        slides = np.flatnonzero(found == 1)
        assert slides[0] * STEP_S - 0.4 == pytest.approx(begins, abs=0.01) and (found[slides[0]:350] == 1).all()
        assert set(found[120:slides[0]]) <= {-1}


def test_streams_of_objects_that_creep_have_slow_slides():
    sequence, slow, slides = HandlingSequence(GELSIGHT, np.random.default_rng(3), slides_slowly=True), 0, 0
    for t in np.arange(0.0, 40.0, 0.04):
        _, state = sequence.at(t)
        slides += sequence.slide(t) == 1
        slow += sequence.slide(t) == 1 and state != 'slip'
    assert slow > 0 and slides > slow
