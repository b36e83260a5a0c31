"""From predictions frame by frame to events of a touch: onset, class settled or changed, slip, release."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.foundation.errors import UserError
from vit_tactile_ros.inference.gate import GATE_EXIT_INDEX
from vit_tactile_ros.inference.slip_evidence import SlipEvidence

# Probability of no contact that a frame at the gate counts as here. Its confidence in results, 0.95, is that of a frame
# alone; with it, releases came a frame later, and not one false release fewer (docs/results/touch_events.md).
GATE_EVIDENCE = 0.99
MAX_STEP = 0.2  # s; in a slower stream every frame would be as likely to end the contact as not
_MARGIN = 0.8  # of the odds with which one frame alone would begin or end a touch in a stream that had settled
NO_CONTACT = 'no_contact'  # the class of a frame that shows no touch
UNKNOWN = 'unknown'  # the class of a touch that is like none of the other classes, if the checkpoint has it
SLIP = 'slip'
NOT_HELD = 'not held'  # in the state of a touch, after LOST
STATES = (NO_CONTACT, 'stable', 'moving', SLIP)  # of a held object, in place of the shapes
SLIP_THRESHOLD = 0.7
LOST_THRESHOLD = 0.5
LOST_AGAIN = 1.0  # log odds below those of the threshold, at which an object counts as held again


def are_states(class_names: Sequence[str]) -> bool:
    """Whether the classes are states of a held object: no_contact, slip, and no other names than those of STATES."""
    return {NO_CONTACT, SLIP} < set(class_names) <= set(STATES)


class EventKind(IntEnum):
    """The values are those of the constants in TouchEvent.msg."""

    ONSET = 1
    CLASS_SETTLED = 2  # the first class of a touch that is certain enough
    CLASS_CHANGED = 3  # a class other than the one that had settled
    RELEASE = 4
    INTERRUPTED = 5  # the stream was interrupted during the touch; how it ended is unknown
    SLIP_BEGAN = 6
    SLIP_ENDED = 7  # the object is held again; release and interrupted end a slip, too
    LOST = 8  # displacement and difference to the reference show that no object is held; without a touch, too


@dataclass(frozen=True)
class EventSettings:
    """When a touch begins, ends, and has a class. Raises UserError naming the field that is out of its range."""

    confidence: float = 0.95  # probability at which contact, its end, or its class counts as certain, above 0.5
    contact_rate: float = 1.0  # 1/s, how often contact begins or ends
    class_rate: float = 0.5  # 1/s, how often the class changes while the contact lasts
    state_rate: float = 2.0  # 1/s, the same for states, which change more often than shapes
    state_weight: float = 0.8  # the same as weight for states: a slip must be reported within two frames
    slip_share: float = 0.1  # share of slip among the states that begin, 0..1
    slip_threshold: float = SLIP_THRESHOLD  # probability of slip, 0..1, at which it begins
    lost_threshold: float = LOST_THRESHOLD  # probability that no object is held, 0..1, at which it is reported
    weight: float = 0.5  # exponent of each frame's probabilities: neighbouring frames share their errors, 0..1
    contact_weight: float = 0.8  # the same of contact against none
    floor: float = 0.001  # smallest probability that one frame may give a class, so that none is decisive alone
    max_gap: float = 0.5  # s between two frames, above which the stream was interrupted; more for slow streams

    def __post_init__(self) -> None:
        for name, low, high in (('confidence', 0.5, 1), ('contact_rate', 0, 100), ('class_rate', 0, 100),
                                ('state_rate', 0, 100), ('slip_share', 0, 1), ('slip_threshold', 0, 1),
                                ('lost_threshold', 0, 1), ('weight', 0, 1), ('contact_weight', 0, 1),
                                ('state_weight', 0, 1), ('floor', 0, 0.1), ('max_gap', 0, math.inf)):
            value = getattr(self, name)
            if not low < value < high and not ('weight' in name and value == 1):
                raise UserError(f'{name} is {value}; must be above {low} and below {high}')


@dataclass(frozen=True)
class TouchEvent:
    """Something that happened at one sensor. Stamps are those of frames, in ns."""

    kind: EventKind
    touch: int  # number of the touch, from 1
    stamp: int  # of the frame that decided; interrupted: of the last frame before
    first_stamp: int  # of the first frame of contact, class, slip, its end, or no contact; interrupted: last of contact
    class_id: int  # most probable class of the touch so far; release, interrupted: the settled one, if there is one
    confidence: float  # probability of contact (onset, interrupted), its end, slip, its end, or the class, 0..1
    duration: float  # s, from the first frame of contact to first_stamp (release, interrupted) or stamp
    frames: int  # of this touch that show contact, from the first one
    exits: tuple[int, ...]  # those frames by exit index


@dataclass
class _Touch:
    number: int
    first_stamp: int
    last_stamp: int  # of the last frame of contact
    exits: Counter[int]
    settled: int | None = None  # the class that counts as certain; of states: the last one
    slips: bool = False

    @property
    def frames(self) -> int:
        return sum(self.exits.values())


class TouchTracker:
    """Follows one sensor: a hidden Markov model over the network's classes, `no_contact` among them.

    The forward recursion (Rabiner 1989, eq. 20) with the frame's probabilities, raised to `weight`, as the likelihood
    of each class. The evidence for a change must outweigh its low prior rate, so decisions have a hysteresis in seconds
    that does not depend on the frame rate.

    Contact is decided before the class: the log odds of contact of each frame, times `contact_weight`, are added up
    until they reach those of `confidence` (a sequential probability ratio test, Wald 1945), so that two clear frames
    are enough and faint ones need more. Half of the training images show no contact, so the odds are the evidence.
    One frame alone never begins or ends a touch, however long ago the one before was, unless the stream starts with it.

    A repeated result (`Decision.is_repeated`) is evidence of contact, which its image shows, but not of the class: the
    probabilities within contact stay as they are. So one result and its repeats can begin a touch.

    If the classes are states of a held object, they have rates of their own, and the events are those of slip instead
    of the class: stable and moving alternate within one touch, and are not what an object is. With evidence of the
    motion, a second model of the same rates follows the states within contact; contact stays with the network and the
    gate. Not thread-safe.
    """

    def __init__(self, class_names: Sequence[str], num_exits: int, settings: EventSettings | None = None) -> None:
        """Raises UserError for classes without `no_contact`, without which no onset can be detected."""
        if NO_CONTACT not in class_names or len(class_names) < 2:
            raise UserError(f'classes are {", ".join(class_names)}; touch events need {NO_CONTACT} and another one')
        self.settings = settings or EventSettings()
        names = list(class_names)
        self._nothing = names.index(NO_CONTACT)
        self._slip = names.index(SLIP) if are_states(names) else None
        self._num_exits = num_exits
        self.slip_threshold = self.settings.slip_threshold  # may be changed between two frames
        self.lost_threshold = self.settings.lost_threshold  # this one, too
        self._lost_at: float | None = None  # log odds that were reported; None: held, or not known
        has_states = self._slip is not None
        self._of_states = [STATES.index(name) for name in names] if has_states else []
        self._change_rate = self.settings.state_rate if has_states else self.settings.class_rate
        self._weight = self.settings.state_weight if has_states else self.settings.weight
        # which class a contact begins with, or changes to
        self._shares = np.full(len(names), 1 / (len(names) - 1))
        if self._slip is not None:
            self._shares[:] = (1 - self.settings.slip_share) / (len(names) - 2)
            self._shares[self._slip] = self.settings.slip_share
        self._shares[self._nothing] = 0.0
        self._stationary = 0.5 * self._shares
        self._stationary[self._nothing] = 0.5
        self._belief = self._stationary
        self._held: NDArray[np.float64] | None = None  # (C,) of the states within contact, by the motion; sum 1
        self._stamp: int | None = None  # of the last frame
        self._touch: _Touch | None = None
        self._touches = 0
        self._step = 0.0  # s between the last two frames
        self._most = math.inf  # odds of contact that one frame may give
        self._since: int | None = None  # first stamp of the frames that contradict the present state
        self._exits: Counter[int] = Counter()  # of those frames, before an onset
        self._candidate: tuple[int, int] | None = None  # the leading class, and the stamp since which it leads
        self._slip_since: int | None = None  # first stamp of the frames that contradict whether it slips

    @property
    def contact(self) -> float:
        """Probability of contact after the last frame, 0..1."""
        return float(1 - self._belief[self._nothing])

    @property
    def slip(self) -> float:
        """Probability of slip after the last frame, 0..1, which is compared with the threshold; 0 without states."""
        if self._slip is None:
            return 0.0
        return float(self._belief[self._slip]) if self._held is None else self.contact * float(self._held[self._slip])

    @property
    def state(self) -> str:
        """'not held' from LOST until an object is held again; otherwise 'no_contact', 'slip' or 'contact'."""
        if self._lost_at is not None:
            return NOT_HELD
        return NO_CONTACT if self._touch is None else SLIP if self._touch.slips else 'contact'

    def reset(self) -> list[TouchEvent]:
        """Forget everything: the stream was interrupted, or the node is deactivated."""
        events = []
        if self._touch is not None and self._stamp is not None:
            events.append(self._event(EventKind.INTERRUPTED, self._stamp, self._touch.last_stamp, self.contact))
        self._touch = self._since = self._candidate = self._stamp = self._slip_since = self._lost_at = None
        self._exits.clear()
        self._belief, self._held, self._most = self._stationary, None, math.inf
        return events

    def update(self, stamp: int, probabilities: NDArray[np.floating], exit_index: int,
               slip: SlipEvidence | None = None, is_repeated: bool = False) -> list[TouchEvent]:
        """The events that this frame decides.

        stamp: ns. One before the last frame's, or more than `max_gap` and three times the last interval after it,
        interrupts the stream; a repeated one is ignored. probabilities: (C,), sum 1. slip: of the motion, for classes
        that are states: which state it is within contact. Contact is that of the network or the gate. is_repeated: the
        network computed the probabilities for an earlier frame. Raises ValueError for evidence that is not finite.
        """
        if slip is not None and (not np.isfinite(slip.states).all() or math.isinf(slip.lost)):
            raise ValueError(f'the evidence of slip is {slip}; must be finite, apart from lost before it is known')
        events: list[TouchEvent] = []
        last = self._belief
        if self._stamp is not None:
            step = (stamp - self._stamp) / 1e9
            if step == 0:
                return events
            if 0 < step <= max(self.settings.max_gap, 3 * self._step):
                self._predict(min(step, MAX_STEP))
            else:
                events += self.reset()
                last = self._belief
            self._step = min(step, 4 * self.settings.max_gap)  # after a gap, the next one is a gap too
        self._stamp = stamp
        if exit_index == GATE_EXIT_INDEX:
            probabilities = np.full(len(self._belief), (1 - GATE_EVIDENCE) / (len(self._belief) - 1))
            probabilities[self._nothing] = GATE_EVIDENCE
        before, self._belief = self._belief, self._seen(self._belief, probabilities)
        if self._slip is None:
            self._see_contact(float(before[self._nothing]), float(probabilities[self._nothing]))
        if is_repeated:
            self._keep_class(last)
        touches = probabilities[self._nothing] < 0.5  # what this frame alone shows
        events += self._follow(stamp, touches, exit_index)
        if self._slip is not None:
            slips = bool(probabilities[self._slip] >= 0.5)
            if slip is None:
                self._held = None
            else:
                slips = self._see_motion(slip) and touches
            events += self._follow_slip(stamp, slips)
            if slip is not None:
                events += self._follow_lost(stamp, slip.lost)
        return events

    def _seen(self, belief: NDArray[np.float64], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """The belief after these probabilities, (C,), of one frame."""
        evidence = np.clip(np.asarray(probabilities, np.float64), self.settings.floor, None)
        belief = belief * (evidence / evidence.sum()) ** self._weight
        return belief / belief.sum()

    def _see_contact(self, before: float, nothing: float) -> None:
        """Contact by its own odds, whatever its class; `before` and `nothing`: probability of none, in the frame."""
        nothing = min(max(nothing, self.settings.floor), 1 - self.settings.floor)
        evidence = ((1 - nothing) / nothing) ** self.settings.contact_weight
        odds = (1 - before) / before * min(max(evidence, 1 / self._most), self._most)
        self._belief[self._nothing] = 0.0
        self._belief *= odds / (1 + odds) / self._belief.sum()
        self._belief[self._nothing] = 1 / (1 + odds)

    def _keep_class(self, last: NDArray[np.float64]) -> None:
        """Contact as it is now; the classes within contact in the proportions of the belief `last`."""
        contact = self.contact
        nothing = self._belief[self._nothing]
        self._belief = last * (contact / (1 - last[self._nothing]))
        self._belief[self._nothing] = nothing

    def _see_motion(self, slip: SlipEvidence) -> bool:
        """Whether the evidence of this frame alone is for slip, within contact."""
        states = slip.states[self._of_states].astype(np.float64)
        states[self._nothing] = 0.0
        states /= max(states.sum(), 1e-9)
        self._held = self._seen(self._shares if self._held is None else self._held, states)
        return bool(states[self._slip] >= 0.5)

    def _follow_lost(self, stamp: int, odds: float) -> list[TouchEvent]:
        """odds: log odds that no object is held; NaN: not known yet."""
        least = math.log(self.lost_threshold / (1 - self.lost_threshold))
        if self._lost_at is not None and odds < least - LOST_AGAIN:
            self._lost_at = None
        if self._lost_at is not None or not odds >= least:
            return []
        self._lost_at = odds
        return [self._event(EventKind.LOST, stamp, stamp, 1 / (1 + math.exp(-odds)))]

    def _predict(self, step: float) -> None:
        """The belief `step` s later: contact begins or ends at contact_rate, its class changes at its rate."""
        old, settings = self._belief, self.settings
        ends = -math.expm1(-settings.contact_rate * step)
        self._most = _MARGIN * settings.confidence / (1 - settings.confidence) * (1 - ends) / ends
        changes = -math.expm1(-self._change_rate * step)
        nothing = old[self._nothing]
        others = 1 - nothing
        new = old * (1 - ends) * (1 - changes) + (ends * nothing + (1 - ends) * changes * others) * self._shares
        new[self._nothing] = nothing * (1 - ends) + ends * others
        if self._held is not None:
            begins, stays = ends * nothing, (1 - ends) * others
            held = stays * ((1 - changes) * self._held + changes * self._shares) + begins * self._shares
            self._held = held / (begins + stays)
        self._belief = new

    def _follow(self, stamp: int, touches: bool, exit_index: int) -> list[TouchEvent]:
        events: list[TouchEvent] = []
        if touches == (self._touch is not None):
            self._since = None
            self._exits.clear()
        elif self._since is None:
            self._since = stamp
        changed_at = stamp if self._since is None else self._since
        if self._touch is None:
            if touches:
                self._exits[exit_index] += 1
            if self.contact >= self.settings.confidence:
                self._touches += 1
                self._touch = _Touch(self._touches, changed_at, stamp, self._exits)
                self._exits = Counter()
                self._candidate, self._since = (self._leading, changed_at), None
                events.append(self._event(EventKind.ONSET, stamp, changed_at, self.contact))
        else:
            if touches:
                self._touch.exits[exit_index] += 1
                self._touch.last_stamp = stamp
            if 1 - self.contact >= self.settings.confidence:
                events.append(self._event(EventKind.RELEASE, stamp, changed_at, 1 - self.contact))
                self._touch = self._since = self._candidate = None
        if self._touch is None:
            return events
        if self._slip is not None:
            if touches:
                self._touch.settled = self._leading
        elif (event := self._settle(stamp)) is not None:
            events.append(event)
        return events

    def _follow_slip(self, stamp: int, slips: bool) -> list[TouchEvent]:
        """`slips`: what this frame alone shows.

        It ends when the object is held with a probability of threshold, above 1 - threshold / 2: not when contact ends.
        """
        touch, threshold = self._touch, self.slip_threshold
        has_slip = touch is not None and touch.slips
        if slips == has_slip:
            self._slip_since = None
        elif self._slip_since is None:
            self._slip_since = stamp
        confidence = self.contact - self.slip if has_slip else self.slip
        if touch is None or confidence < (max(threshold, 1 - threshold / 2) if has_slip else threshold):
            return []
        touch.slips = not has_slip
        first = max(stamp if self._slip_since is None else self._slip_since, touch.first_stamp)
        self._slip_since = None
        return [self._event(EventKind.SLIP_BEGAN if touch.slips else EventKind.SLIP_ENDED, stamp, first, confidence)]

    def _settle(self, stamp: int) -> TouchEvent | None:
        assert self._touch is not None
        leading = self._leading
        if self._candidate is None or self._candidate[0] != leading:
            self._candidate = (leading, stamp)
        confidence = float(self._belief[leading] / self.contact)
        if leading == self._touch.settled or confidence < self.settings.confidence:
            return None
        kind = EventKind.CLASS_SETTLED if self._touch.settled is None else EventKind.CLASS_CHANGED
        self._touch.settled = leading
        return self._event(kind, stamp, self._candidate[1], confidence)

    @property
    def _leading(self) -> int:
        """The most probable class apart from no contact."""
        others = (self._belief if self._held is None else self._held).copy()
        others[self._nothing] = -1
        return int(others.argmax())

    def _event(self, kind: EventKind, stamp: int, first_stamp: int, confidence: float) -> TouchEvent:
        touch = self._touch or _Touch(self._touches, first_stamp, first_stamp, Counter())  # lost without a touch
        has_ended = kind in (EventKind.RELEASE, EventKind.INTERRUPTED)
        end = first_stamp if has_ended else stamp
        # At its end the belief is in no contact: the class of the touch is the one that had settled.
        class_id = touch.settled if has_ended and touch.settled is not None else self._leading
        return TouchEvent(kind, touch.number, stamp, first_stamp, class_id, confidence,
                          (end - touch.first_stamp) / 1e9, touch.frames,
                          tuple(touch.exits[i] for i in range(self._num_exits)))


def slip_scores(stamps: Sequence[int], probabilities: NDArray[np.floating], class_names: Sequence[str],
                settings: EventSettings | None = None) -> NDArray[np.float64]:
    """The probability of slip after each frame of one sensor, (N,) 0..1, that is compared with slip_threshold.

    stamps: ns, (N,); probabilities: (N, C). Raises UserError unless the classes are states.
    """
    if not are_states(class_names):
        raise UserError(f'classes are {", ".join(class_names)}; slip needs {NO_CONTACT}, {SLIP} and one or both of '
                        f'{STATES[1]} and {STATES[2]}')
    tracker = TouchTracker(class_names, 1, settings)
    scores = np.empty(len(stamps))
    for row, stamp in enumerate(stamps):
        tracker.update(int(stamp), probabilities[row], 0)
        scores[row] = tracker.slip
    return scores
