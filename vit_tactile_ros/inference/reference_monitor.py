"""Whether the reference of a sensor still fits: untouched frames, slow drift, a start in mid-grasp, health."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vit_tactile_ros.inference.gate import Cells, Gate, Verdict, to_cells
from vit_tactile_ros.inference.note import Note
from vit_tactile_ros.inference.reference import Reference
from vit_tactile_ros.inference.reference_store import StoredReference

Image = NDArray[np.uint8]

DRIFT = 60.0  # s, time constant with which the reference follows untouched frames: drift takes minutes, a touch seconds
SETTLING = 2.0  # s without contact before the reference is followed: the gel creeps after a release
_TOUCH_FRAMES = 3  # frames in a row that make a touch; fewer are noise, which does not restart SETTLING
_FOLLOW_STEP = 0.5  # s between two steps of following
_MAX_STEP = 0.5  # s between two frames; more is an interruption, which says nothing about drift

START_FRAMES = 5  # frames after a start with a given reference, of which one should match it
_MOVED = 4.0  # grey levels by which a cell may vary among the frames that become the reference
_COMPARED = 15  # most frames of a reference that are kept whole, to leave some of them out
_EVERYWHERE = 0.9  # share of the cells; only a touch of the whole gel differs so widely
UNFIT_WARNING, UNFIT_ERROR = 5.0, 30.0  # s that everything differs
TOUCHED_WARNING = 60.0  # s without an untouched frame
_LEFT = 1 / 3  # of the highest score of a touch: what is below may be left on the gel after the release

class Health(NamedTuple):
    level: int  # 0: fine, 1: warning, 2: error
    text: str


FITS = Health(0, 'fits')
WAITING = Health(0, 'not checked yet')
MOVED = Health(1, 'the images changed while the reference was captured, as in a grasp')


class ReferenceMonitor:
    """Judges every frame of a sensor against its reference, which it moves slowly while nothing touches.

    Not thread-safe, apart from reading `health`, `verdict` and `snapshot`.
    """

    def __init__(self, reference: Reference, drift: float = DRIFT, stored: StoredReference | None = None) -> None:
        """drift: s, 0: the reference is not followed. stored: what `reference` was given as, with its noise."""
        self.reference = reference
        self.gate = Gate()
        self.verdict: Verdict | None = None  # of the last frame; None while the reference is gathered
        self.cells: Cells | None = None  # of the last judged frame
        self.health = self.worst = WAITING
        self.version = 0  # of the reference; changes when it is captured or followed
        self.is_settled = False  # for SETTLING s nothing has touched since the reference was captured
        self._drift = drift
        self._stored = stored
        self._gathered: list[tuple[Cells, Image | None]] = []
        self._seen: NDArray[np.float32] | None = None  # the frame of the reference that _cells is of
        self._cells: Cells | None = None
        self._forget()
        if stored is not None:
            self.gate.restart(stored.variance)

    def _forget(self) -> None:
        self._judged = self._touching = 0  # frames; those in a row that show a touch
        self._is_confirmed = self._has_moved = False
        self._highest = 0.0  # score since the last untouched frame
        self._stamp: int | None = None
        self._still_for = self._since_follow = 0.0  # s
        self._touched_for = self._unfit_for = 0.0

    def restart(self) -> None:
        """Another reference is gathered from the next frames."""
        self.gate.restart()
        self.verdict, self.cells, self.health, self.is_settled, self._stored = None, None, WAITING, False, None
        self._gathered.clear()
        self._forget()

    def doubt(self) -> None:
        """The images are of another view: a frame has to show again that the reference fits."""
        self._is_confirmed, self._judged = False, 0

    @property
    def is_stored(self) -> bool:
        """Whether the reference was read from a file of an earlier run."""
        return self._stored is not None

    @property
    def is_untouched(self) -> bool:
        """Whether the last frame shows no touch."""
        return self.verdict is not None and self.verdict.is_untouched

    @property
    def touch_odds(self) -> float:
        """Of the last frame, as `Verdict.touch_odds`; 1 unless an earlier frame has shown that the reference fits.

        Also 1 where far less differs than earlier in this touch: that may be what a touch leaves on the gel.
        """
        if self.verdict is None or not self._is_confirmed or self._has_moved:
            return 1.0
        return self.verdict.touch_odds if self.verdict.score >= _LEFT * self._highest else 1.0

    @property
    def is_unfit(self) -> bool:
        """Whether the last frame differs nearly everywhere, or in its light: as of another gel or reference."""
        verdict = self.verdict
        return verdict is not None and (verdict.touched_share > _EVERYWHERE
                                        or (verdict.is_still and not verdict.is_untouched))

    @property
    def touch(self) -> str:
        """What the last frame shows if something touches, or the reference is another one; '' if neither."""
        if self.verdict is None or self.verdict.is_still:
            return ''
        return f'{100 * self.verdict.touched_share:.0f} % of the image differ from the reference'

    @property
    def is_doubtful(self) -> bool:
        """Whether the reference itself is reported, so that a difference to it may not be a touch."""
        return self._has_moved or self._unfit_for >= UNFIT_WARNING or self._never_matched

    @property
    def _never_matched(self) -> bool:
        return not self._is_confirmed and self._judged >= START_FRAMES

    def gather(self, image: Image) -> list[Note]:
        """A frame that has become part of the reference."""
        self._gathered.append((to_cells(image), image if self.reference.num_frames <= _COMPARED else None))
        if not self.reference.is_complete:
            return []
        notes, images = [], [image for _, image in self._gathered if image is not None]
        cells = np.stack([one for one, _ in self._gathered])
        self._gathered = []
        ranges = cells.max(axis=0) - cells.min(axis=0)
        most = max(_MOVED, 5 * float(np.median(ranges)))  # a noisy sensor varies everywhere
        self._has_moved = bool(ranges.max() > most)
        if self._has_moved and images:  # unless the first and most of the others are alike, as where a touch begins
            alike = np.abs(cells - np.median(cells, axis=0)).max(axis=(1, 2, 3)) <= most / 2
            if alike.sum() > len(alike) / 2 and alike[0]:
                self._has_moved, cells = False, cells[alike]
                self.reference.replace(np.mean([one for one, is_kept in zip(images, alike, strict=True) if is_kept],
                                               axis=0, dtype=np.float32))
                notes.append(Note('reference', f'{(~alike).sum()} of the {len(alike)} frames of the reference differ '
                                               'from the first one and most others and are left out of it; if '
                                               'something touched in the first one, capture the reference again'))
        self.gate.restart(cells.var(axis=0).mean(axis=-1))
        self.version += 1
        if not self._has_moved:
            return notes
        self.health = MOVED
        return [self._health_note()]

    def check(self, image: Image, stamp_ns: int) -> list[Note]:
        """Judge a frame that is not part of the reference, and follow it if nothing touches."""
        step = 0.0 if self._stamp is None else (stamp_ns - self._stamp) / 1e9
        self._stamp = stamp_ns
        step = step if 0 <= step <= _MAX_STEP else 0.0
        self.cells = to_cells(image)
        verdict = self.verdict = self.gate.judge(self.cells - self._reference_cells())
        self._judged += 1
        if verdict.is_still:
            self._touching = 0
            self._still_for += step
        else:
            self._touching += 1
            if self._touching >= _TOUCH_FRAMES:
                self._still_for = 0.0
        self._is_confirmed |= verdict.is_untouched
        self._highest = 0.0 if verdict.is_untouched else max(self._highest, verdict.score)
        self._touched_for = 0.0 if verdict.is_untouched else self._touched_for + step
        self._unfit_for = self._unfit_for + step if self.is_unfit else 0.0
        if verdict.is_still and self._still_for >= SETTLING:
            self.is_settled, self._has_moved = True, False
            if verdict.is_untouched:  # a larger change of light is not drift, and may be a touch of the whole gel
                self._follow(image, step)
        return self._judge_health(verdict)

    def snapshot(self, camera_size: tuple[int, int]) -> StoredReference | None:
        """What is worth keeping; None if it is not known to fit."""
        frame, variance = self.reference.frame, self.gate.variance
        if frame is None or variance is None or not self.is_settled or self.health.level:
            return None
        return StoredReference(frame, variance, camera_size)

    def _follow(self, image: Image, step: float) -> None:
        self._since_follow += step
        if self._drift and self._since_follow >= _FOLLOW_STEP:
            self.reference.follow(image, -math.expm1(-self._since_follow / self._drift))
            self._since_follow = 0.0
            self.version += 1

    def _reference_cells(self) -> Cells:
        frame = self.reference.frame
        assert frame is not None
        if frame is not self._seen or self._cells is None:
            self._seen, self._cells = frame, to_cells(frame)
        return self._cells

    def _judge_health(self, verdict: Verdict) -> list[Note]:
        before, self.health = self.health, MOVED if self._has_moved else FITS if self._is_confirmed else WAITING
        if self._unfit_for >= UNFIT_WARNING:
            self.health = Health(2 if self._unfit_for >= UNFIT_ERROR else 1,
                                 f'no longer fits: for {self._unfit_for:.0f} s {self._difference(verdict)}; the light '
                                 f'or the gel has changed, or the whole gel is pressed')
        elif self._touched_for >= TOUCHED_WARNING:
            self.health = Health(1, f'no image has matched it for {self._touched_for:.0f} s '
                                    f'({self._difference(verdict)})')
        elif self._never_matched and not self._has_moved:
            self.health = Health(1, f'no image has matched it yet ({self._difference(verdict)}): something touches '
                                    f'since the start, or it is of another gel or light')
        if self.health.level <= before.level:
            return []
        return [self._health_note()]

    def _health_note(self) -> Note:
        if self.health.level > self.worst.level:
            self.worst = self.health
        cure = 'call capture_reference' if self.is_doubtful else 'restart the node'
        return Note('reference health', f'reference: {self.health.text}. If nothing touches the sensor, {cure}; '
                                        'otherwise release it first')

    @staticmethod
    def _difference(verdict: Verdict) -> str:
        return (f'{100 * verdict.touched_share:.0f} % of the image differ locally and the light by up to '
                f'{verdict.shift:.1f} grey levels')
