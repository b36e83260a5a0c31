"""Events of touches from predictions: when they come, what they report, and what breaks a stream off."""

from __future__ import annotations

import numpy as np
import pytest

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.gate import GATE_EXIT_INDEX
from vit_tactile_ros.inference.slip_evidence import SlipEvidence
from vit_tactile_ros.inference.touch_events import (
    STATES,
    EventKind,
    EventSettings,
    TouchEvent,
    TouchTracker,
    slip_scores,
)

NAMES = ('no_contact', 'sphere', 'edge')
START, STEP = 10**9, 33_333_333  # ns
ONSET, SETTLED, CHANGED, RELEASE, INTERRUPTED, SLIP_BEGAN, SLIP_ENDED, LOST = EventKind


def predictions(classes: str, certainty: float = 0.98) -> list[np.ndarray]:
    """One row per character: n no contact, s sphere, e edge, ? nothing known."""
    rows = []
    for name in classes:
        row = np.full(3, (1 - certainty) / 2)
        row['nse'.find(name)] = certainty
        rows.append(np.array([0.5, 0.25, 0.25]) if name == '?' else row)
    return rows


def events_of(classes: str, certainty: float = 0.98, step: int = STEP, settings: EventSettings | None = None,
              ) -> list[TouchEvent]:
    tracker = TouchTracker(NAMES, 3, settings)
    return [event for i, row in enumerate(predictions(classes, certainty))
            for event in tracker.update(START + i * step, row, i % 3)]


def kinds(events: list[TouchEvent]) -> list[EventKind]:
    return [event.kind for event in events]


def at(frame: int, step: int = STEP) -> int:
    return START + frame * step


def test_one_touch():
    """Onset, class and release, once each, with the stamps of the frames that they are about."""
    events = events_of('n' * 10 + 's' * 20 + 'n' * 10)
    assert kinds(events) == [ONSET, SETTLED, RELEASE]
    onset, settled, release = events
    assert onset.first_stamp == at(10) and at(10) < onset.stamp <= at(13)
    assert settled.first_stamp <= at(12) and settled.class_id == 1 and settled.confidence >= 0.95
    assert release.first_stamp == at(30) and at(30) < release.stamp <= at(33)
    assert (release.class_id, release.touch, release.frames) == (1, 1, 20)
    assert release.duration == pytest.approx(20 * STEP / 1e9)
    assert sum(release.exits) == release.frames and max(release.exits) - min(release.exits) <= 1


def test_release_at_the_gate():
    """The gate's confidence of 0.95 delayed the release, as if the network doubted what it had not seen."""
    tracker, released = TouchTracker(('no_contact', *map(str, range(9))), 3), []
    for i in range(40):
        is_gated = not 10 <= i < 30
        row = np.full(10, 0.002 if not is_gated else 0.05 / 9)
        row[0 if is_gated else 1] = 0.95 if is_gated else 0.982
        events = tracker.update(at(i), row, -1 if is_gated else 0)
        released += [event for event in events if event.kind == RELEASE]
    assert [(event.first_stamp, event.stamp) for event in released] == [(at(30), at(31))]
    assert released[0].exits == (20, 0, 0)


def test_contact_again_right_after_a_release():
    """Each touch counts its own frames."""
    released = next(e for e in events_of('n' * 10 + 's' * 10 + 'n' * 10) if e.kind == RELEASE)
    pause = (released.stamp - at(20)) // STEP + 1
    events = events_of('n' * 10 + 's' * 10 + 'n' * pause + 's' * 12 + 'n' * 10)
    assert [(e.touch, e.frames) for e in events if e.kind == RELEASE] == [(1, 10), (2, 12)]


@pytest.mark.parametrize('classes', ['n' * 40, 'n' * 20 + 's' + 'n' * 20, 'nnnnnnnnns' * 6, '?' * 40])
def test_no_touch(classes):
    """A single frame of contact, also every third of a second, is noise."""
    assert events_of(classes) == []


@pytest.mark.parametrize('noise', ['e', 'n', '?'])
def test_one_odd_frame_changes_nothing(noise):
    events = events_of('n' * 10 + 's' * 10 + noise + 's' * 10 + 'n' * 10)
    assert kinds(events) == [ONSET, SETTLED, RELEASE] and events[-1].class_id == 1


@pytest.mark.parametrize('rate', [60, 30, 20, 14, 10, 5])
@pytest.mark.parametrize('lost', [0, 1, 2, 5])
def test_one_odd_frame_is_no_touch_at_any_rate(rate, lost):
    """Below 14 Hz, and after two lost images at 30 Hz, one wrong image began a touch, or ended one."""
    for odd, classes in (('s', 'n'), ('n', 's')):
        tracker, events = TouchTracker(NAMES, 3), []
        stamp = START
        for name in classes * 40 + odd + classes * 10:
            stamp += round(1e9 / rate) * (1 + lost * (name == odd)) if (1 + lost) / rate < 0.5 else round(1e9 / rate)
            row, = predictions(name, 0.999)
            events += tracker.update(stamp, row, -1 if name == 'n' and classes == 'n' else 0)
        assert [kind for kind in kinds(events) if kind != SETTLED] == [ONSET] * (classes == 's')


@pytest.mark.parametrize('rate', [60, 30, 10, 5])
def test_two_clear_frames_are_enough(rate):
    """A touch of two images in a slow stream, and its end, that are never reported."""
    events = events_of('n' * 20 + 'ss' + 'nn', 0.999, round(1e9 / rate))
    assert [kind for kind in kinds(events) if kind != SETTLED] == [ONSET, RELEASE]


@pytest.mark.parametrize('certainty', [0.9, 0.99])
def test_contact_does_not_wait_for_its_class(certainty):
    """Each frame counted as contact only as far as it agreed about the class: four clear ones were not enough."""
    rows = [np.array([0.98, *[0.002] * 10])] * 10
    for name in range(1, 5):
        row = np.full(11, (1 - certainty) / 10)
        row[name] = certainty
        rows.append(row)
    tracker = TouchTracker(('no_contact', *map(str, range(10))), 3)
    events = [event for i, row in enumerate(rows) for event in tracker.update(at(i), row, -1 if i < 10 else 0)]
    assert kinds(events) == [ONSET] and (events[0].first_stamp, events[0].stamp) == (at(10), at(11))


def test_class_changes():
    events = events_of('n' * 10 + 's' * 10 + 'e' * 12 + 'n' * 10)
    assert kinds(events) == [ONSET, SETTLED, CHANGED, RELEASE]
    assert (events[2].class_id, events[2].first_stamp) == (2, pytest.approx(at(22), abs=2 * STEP))
    assert events[3].class_id == 2


def test_numbers_count_up():
    events = events_of(('n' * 10 + 's' * 10) * 3)
    assert [e.touch for e in events if e.kind == ONSET] == [1, 2, 3]


@pytest.mark.parametrize(('rate', 'most'), [(1, 2.0), (2, 1.0), (5, 0.4), (15, 0.2), (30, 0.1), (60, 0.07),
                                            (120, 0.05)])
def test_delay_does_not_grow_with_the_rate(rate, most):
    """s from the first frame of contact to the event."""
    step = 10**9 // rate
    count = max(rate, 10)
    onset = events_of('n' * count + 's' * count, step=step)[0]
    assert onset.first_stamp == at(count, step) and (onset.stamp - onset.first_stamp) / 1e9 <= most


def test_uncertain_predictions_take_longer():
    delays = [events_of('n' * 10 + 's' * 30, certainty)[0].stamp for certainty in (0.6, 0.8, 0.98)]
    assert delays[0] > delays[1] > delays[2]


@pytest.mark.parametrize('next_stamp', [at(20) + 600_000_000, at(5)])
def test_a_stream_that_breaks_off(next_stamp):
    """A touch that was in progress is neither silently continued nor reported as released."""
    tracker = TouchTracker(NAMES, 3)
    events = [e for i, row in enumerate(predictions('n' * 10 + 's' * 10)) for e in tracker.update(at(i), row, 0)]
    events += tracker.update(next_stamp, predictions('n')[0], 0)
    assert kinds(events) == [ONSET, SETTLED, INTERRUPTED]
    assert (events[2].stamp, events[2].class_id) == (at(19), 1)
    after = [e for i, row in enumerate(predictions('n' * 9 + 's' * 9)) for e in
             tracker.update(next_stamp + (i + 1) * STEP, row, 0)]
    assert [(e.kind, e.touch) for e in after[:1]] == [(ONSET, 2)]


def test_a_repeated_stamp_is_ignored():
    tracker = TouchTracker(NAMES, 3)
    row = predictions('s')[0]
    tracker.update(START, row, 0)
    contact = tracker.contact
    assert [e for _ in range(50) for e in tracker.update(START, row, 0)] == [] and tracker.contact == contact


def test_started_in_contact():
    """The first frames of a node that was started while something touched."""
    assert kinds(events_of('s' * 20)) == [ONSET, SETTLED]


def test_belief_is_a_probability():
    """Of the forward recursion written out, with the transition matrix, frame by frame."""
    rng = np.random.default_rng(0)
    settings = EventSettings()
    tracker, belief = TouchTracker(NAMES, 3), np.array([0.5, 0.25, 0.25])
    ends, changes = 1 - np.exp(-settings.contact_rate * STEP / 1e9), 1 - np.exp(-settings.class_rate * STEP / 1e9)
    stay, move = (1 - ends) * (1 - changes), (1 - ends) * changes
    transition = np.array([[1 - ends, ends / 2, ends / 2], [ends, stay + move / 2, move / 2],
                           [ends, move / 2, stay + move / 2]])
    for i in range(200):
        row = rng.dirichlet([0.3, 0.3, 0.3])
        belief = belief @ transition if i else belief
        nothing, none = belief[0], np.clip(row[0], settings.floor, 1 - settings.floor)
        belief = belief * np.clip(row, settings.floor, None) ** settings.weight
        odds = (1 - nothing) / nothing * ((1 - none) / none) ** settings.contact_weight
        belief = np.array([1, *odds * belief[1:] / belief[1:].sum()]) / (1 + odds)
        tracker.update(at(i), row, 0)
        assert tracker.contact == pytest.approx(1 - belief[0], abs=1e-9)


@pytest.mark.parametrize('names', [('sphere', 'edge'), ('no_contact',)])
def test_classes_without_an_onset_are_refused(names):
    with pytest.raises(UserError, match='no_contact'):
        TouchTracker(names, 3)


def states(classes: str, certainty: float = 0.97) -> np.ndarray:
    """One row per character: n no contact, h held (stable), m moving, s slip."""
    rows = np.full((len(classes), 4), (1 - certainty) / 3)
    rows[np.arange(len(classes)), ['nhms'.index(name) for name in classes]] = certainty
    return rows


def slip_events(classes: str, threshold: float = 0.9, certainty: float = 0.97, step: int = STEP) -> list[TouchEvent]:
    tracker = TouchTracker(STATES, 3)
    tracker.slip_threshold = threshold
    return [event for i, row in enumerate(states(classes, certainty)) for event in tracker.update(at(i, step), row, 0)]


def test_one_slip():
    """Began and ended once each, at most two frames after the frames that they are about."""
    events = slip_events('n' * 10 + 'm' * 3 + 'h' * 17 + 's' * 10 + 'h' * 20 + 'n' * 10)
    assert kinds(events) == [ONSET, SLIP_BEGAN, SLIP_ENDED, RELEASE]
    began, ended = events[1:3]
    assert (began.first_stamp, ended.first_stamp) == (at(30), at(40))
    assert began.stamp <= at(32) and ended.stamp <= at(43)
    assert (began.class_id, ended.class_id, events[3].class_id) == (3, 1, 1)
    assert min(began.confidence, ended.confidence) >= 0.9 and {e.touch for e in events} == {1}
    assert began.duration == pytest.approx((began.stamp - at(10)) / 1e9)


def test_a_held_object_that_is_shaken_has_no_class_events():
    """Stable and moving alternate several times a second."""
    assert kinds(slip_events('n' * 10 + 'mmmmhhhh' * 6 + 'n' * 10)) == [ONSET, RELEASE]


@pytest.mark.parametrize('odd', ['s', 'n', 'sms', 'hsh'])
def test_one_odd_frame_is_no_slip(odd):
    assert kinds(slip_events('n' * 10 + 'h' * 12 + odd[0] + 'h' * 12 + odd[1:] + 'h' * 12 + 'n' * 10)) == [
        ONSET, RELEASE]


def test_a_pause_of_one_frame_is_the_same_slip():
    events = slip_events('n' * 10 + 'h' * 10 + 'ssssshsssss' + 'h' * 10 + 'n' * 10)
    assert kinds(events) == [ONSET, SLIP_BEGAN, SLIP_ENDED, RELEASE]


def test_an_object_that_is_dropped():
    """The release ends the slip, and its class is the last state of contact.

    SLIP_ENDED came one frame before, as if the object were held again.
    """
    for threshold in (0.3, 0.5, 0.9):
        events = slip_events('n' * 10 + 'h' * 10 + 's' * 10 + 'n' * 10 + 'h' * 10, threshold, 0.8)
        assert kinds(events) == [ONSET, SLIP_BEGAN, RELEASE, ONSET]
        assert (events[2].class_id, events[3].touch) == (3, 2)


def test_sliding_from_the_first_frame():
    """No slip without a touch."""
    events = slip_events('n' * 10 + 's' * 10)
    assert kinds(events) == [ONSET, SLIP_BEGAN]
    assert events[1].stamp >= events[0].stamp and events[1].first_stamp == events[0].first_stamp == at(10)


def test_a_lower_threshold_is_earlier_and_never_flickers():
    pattern = 'n' * 10 + 'h' * 10 + 's' * 20 + 'h' * 20
    began = {threshold: slip_events(pattern, threshold, 0.6)[1].stamp for threshold in (0.2, 0.5, 0.9, 0.95)}
    assert began[0.2] < began[0.5] < began[0.9] <= began[0.95]
    uncertain = np.random.default_rng(0).choice(list('hs'), 500)
    for threshold in (0.2, 0.5, 0.9):
        slips = [e for e in slip_events('n' * 10 + ''.join(uncertain), threshold, 0.5) if e.kind != ONSET]
        assert kinds(slips) == [SLIP_BEGAN, SLIP_ENDED] * (len(slips) // 2) + [SLIP_BEGAN] * (len(slips) % 2)
        assert all(b.stamp > a.stamp for a, b in zip(slips, slips[1:]))


@pytest.mark.parametrize(('rate', 'most'), [(10, 0.21), (30, 0.08), (120, 0.05)])
def test_delay_of_a_slip_does_not_grow_with_the_rate(rate, most):
    step = 10**9 // rate
    began = slip_events('n' * rate + 'h' * rate + 's' * rate, step=step)[1]
    assert began.kind == SLIP_BEGAN and (began.stamp - at(2 * rate, step)) / 1e9 <= most


def test_scores_are_what_the_threshold_is_compared_with():
    """The first score at or above the threshold, within a touch, is the event."""
    pattern = 'n' * 10 + 'h' * 10 + 's' * 10 + 'h' * 10
    scores = slip_scores([at(i) for i in range(len(pattern))], states(pattern, 0.8), STATES)
    began = next(e for e in slip_events(pattern, certainty=0.8) if e.kind == SLIP_BEGAN)
    assert at(int(np.argmax(scores >= 0.9))) == began.stamp and scores.max() <= 1 and scores[15] < 0.1
    with pytest.raises(UserError, match='slip needs'):
        slip_scores([0], states('n'), NAMES)


def test_an_interruption_ends_a_slip():
    tracker = TouchTracker(STATES, 3)
    events = [e for i, row in enumerate(states('n' * 10 + 'h' * 10 + 's' * 10)) for e in tracker.update(at(i), row, 0)]
    assert kinds(events + tracker.reset()) == [ONSET, SLIP_BEGAN, INTERRUPTED]
    assert tracker.slip < 0.1


@pytest.mark.parametrize(('name', 'value'), [('confidence', 0.5), ('confidence', 1.0), ('weight', 0.0),
                                             ('max_gap', float('nan')), ('contact_rate', -1.0),
                                             ('slip_threshold', 1.0)])
def test_settings_out_of_range(name, value):
    with pytest.raises(UserError, match=f'{name} is'):
        EventSettings(**{name: value})


def with_motion(shown: str, motion: str, names: tuple[str, ...] = STATES) -> list[TouchEvent]:
    """One frame per character: h held, m moving, s slip, n no contact, g the same at the gate; motion: u unknown."""
    tracker, events = TouchTracker(names, 3), []
    rows, evidence = states(shown.replace('g', 'n')), states(motion.replace('u', 'n'))
    evidence[[one == 'u' for one in motion]] = 0.25
    for n, (name, row, one) in enumerate(zip(shown, rows, evidence, strict=True)):
        row = row[[STATES.index(name) for name in names]]
        events += tracker.update(at(n), row, GATE_EXIT_INDEX if name == 'g' else 0,
                                 SlipEvidence(one.astype(np.float32), float('nan')))
    return events


def test_the_motion_decides_about_slip():
    """Slip from the states of the network although the motion shows others; the order of names."""
    names = ('slip', 'no_contact', 'stable', 'moving')
    events = with_motion('n' * 10 + 'h' * 30, 'n' * 10 + 'h' * 10 + 's' * 10 + 'h' * 10, names)
    assert kinds(events) == [ONSET, SLIP_BEGAN, SLIP_ENDED]
    assert (events[1].first_stamp, names[events[1].class_id]) == (at(20), 'slip') and events[1].stamp <= at(22)
    assert (events[2].first_stamp, names[events[2].class_id]) == (at(30), 'stable')
    assert kinds(with_motion('n' * 10 + 'h' * 10 + 's' * 20, 'n' * 10 + 'h' * 30, names)) == [ONSET]


@pytest.mark.parametrize('motion', ['n', 'h', 's', 'u'])
def test_the_motion_decides_nothing_about_contact(motion):
    """Onset and release were those of the motion, false in a quarter of the recorded clips of a held object."""
    shown = 'g' * 10 + 'h' * 30 + 'g' * 10 + 'n' * 10 + 's' * 20 + 'n' * 10
    tracker = TouchTracker(STATES, 3)
    wanted = [event for n, (name, row) in enumerate(zip(shown, states(shown.replace('g', 'n'))))
              for event in tracker.update(at(n), row, GATE_EXIT_INDEX if name == 'g' else 0)]
    contact = (ONSET, RELEASE)
    events = with_motion(shown, motion * len(shown))
    assert [(e.kind, e.stamp, e.first_stamp, e.confidence, e.frames) for e in events if e.kind in contact] == [
        (e.kind, e.stamp, e.first_stamp, e.confidence, e.frames) for e in wanted if e.kind in contact]
    assert [e.kind for e in wanted if e.kind in contact] == [ONSET, RELEASE] * 2


def test_no_slip_without_evidence():
    """The states of the network at the start, before the motion is known, were reported as slip."""
    assert kinds(with_motion('n' * 5 + 's' * 60, 'u' * 65)) == [ONSET]


@pytest.mark.parametrize(('states', 'lost'), [([0.5, float('nan'), 0.1, 0.1], 0.0), ([0.25] * 4, float('inf'))])
def test_evidence_that_is_not_finite(states, lost):
    """NaN became the probability of contact, for ever."""
    tracker = TouchTracker(STATES, 3)
    with pytest.raises(ValueError, match='must be finite'):
        tracker.update(at(0), np.full(4, 0.25), 0, SlipEvidence(np.array(states, np.float32), lost))
    assert np.isfinite(tracker.contact)


def test_an_object_that_is_lost():
    """An event for each image of the same loss; none without a touch; one before the odds are known."""
    tracker = TouchTracker(STATES, 3)
    nothing = np.array([0.97, 0.01, 0.01, 0.01], np.float32)
    odds = [float('nan'), -2.0, 0.4, 2.0, -0.5, 1.0, -1.5, 0.2]
    events = [event for n, one in enumerate(odds)
              for event in tracker.update(at(n), nothing, 0, SlipEvidence(nothing, one))]
    assert tracker.state == 'not held'
    assert kinds(events) == [LOST, LOST] and [event.stamp for event in events] == [at(2), at(7)]
    assert events[0].touch == 0 and events[0].confidence == pytest.approx(0.599, abs=1e-3)
    tracker.lost_threshold = 0.9
    assert not tracker.update(at(8), nothing, 0, SlipEvidence(nothing, -3.0))
    assert tracker.state == 'no_contact'  # the object is held again, or nothing touches; "not held" stayed
    assert not tracker.update(at(9), nothing, 0, SlipEvidence(nothing, 2.0))
    assert kinds(tracker.update(at(10), nothing, 0, SlipEvidence(nothing, 2.3))) == [LOST]


def test_states_have_no_odds_of_contact_of_their_own():
    """Contact of a held object decided as that of shapes, in fewer frames: another delay than was measured for slip."""
    certain = np.array([0.1, 0.3, 0.3, 0.3])
    rows = [states('n')[0]] * 10 + [certain] * 10
    tracker, settings = TouchTracker(STATES, 3), EventSettings()
    for n, row in enumerate(rows):
        tracker.update(at(n), row, 0)
        if n == 9:
            belief = tracker._belief.copy()
    # The same by hand: the belief is that of Bayes' rule over the states, and nothing else.
    shares = np.array([0, *[(1 - settings.slip_share) / 2] * 2, settings.slip_share])
    ends, changes = (-np.expm1(-rate * STEP / 1e9) for rate in (settings.contact_rate, settings.state_rate))
    for row in rows[10:]:
        nothing = belief[0]
        belief = belief * (1 - ends) * (1 - changes) + (ends * nothing + (1 - ends) * changes * (1 - nothing)) * shares
        belief[0] = nothing * (1 - ends) + ends * (1 - nothing)
        belief *= row**settings.state_weight
        belief /= belief.sum()
    assert tracker.contact == pytest.approx(1 - belief[0], rel=1e-9)


def settled_after(repeated: int, certainty: float = 0.9) -> tuple[list[EventKind], int]:
    """The events of a touch whose class each computed frame shows, followed by so many repeated ones; frames until the
    class has settled."""
    tracker = TouchTracker(NAMES, 3)
    found: list[TouchEvent] = []
    classes = 'n' * 10 + 's' * 20
    for i, row in enumerate(predictions(classes, certainty)):
        is_repeated = i > 10 and (i - 10) % (repeated + 1) != 0
        found += tracker.update(at(i), row, 0, is_repeated=is_repeated)
    settled = next((e for e in found if e.kind == SETTLED), None)
    return kinds(found), -1 if settled is None else (settled.stamp - at(10)) // STEP


def test_a_repeated_result_is_no_evidence_of_the_class():
    """With skip_unchanged, one wrong result that was repeated for half a second settled the class of the touch."""
    tracker = TouchTracker(NAMES, 3)
    for i, row in enumerate(predictions('n' * 10 + 's', 0.7)):
        tracker.update(at(i), row, 0)
    belief = tracker._belief[1] / tracker.contact
    for i in range(11, 26):
        row, = predictions('s', 0.7)
        events = tracker.update(at(i), row, 0, is_repeated=True)
        assert SETTLED not in kinds(events) and tracker._belief[1] / tracker.contact == pytest.approx(belief)
        assert tracker._belief.sum() == pytest.approx(1)
    assert tracker.state == 'contact' and tracker.contact > 0.95  # the images show that it goes on
    counts = [settled_after(repeated) for repeated in (0, 1, 3)]
    assert all(found == [ONSET, SETTLED] for found, _ in counts)
    first = counts[0][1]
    assert [frames for _, frames in counts] == [first, 2 * first, 4 * first] and first > 0


def test_a_touch_of_repeated_results_begins_and_ends_as_usual():
    """Only the class waits for results that are computed."""
    tracker, found = TouchTracker(NAMES, 3), []
    for i, row in enumerate(predictions('n' * 10 + 's' * 20 + 'n' * 10)):
        found += tracker.update(at(i), row, 0, is_repeated=11 <= i < 30)
    usual = events_of('n' * 10 + 's' * 20 + 'n' * 10)
    assert [(e.kind, e.stamp, e.first_stamp, e.frames) for e in found if e.kind != SETTLED] == [
        (e.kind, e.stamp, e.first_stamp, e.frames) for e in usual if e.kind != SETTLED]
