"""The gain of one sensor, which `adapt` measures: read from its file, and given up with the reference it is for."""

from __future__ import annotations

import time
from pathlib import Path

from vit_tactile_ros.inference.note import Note
from vit_tactile_ros.inference.reference_store import StoredReference, StoreError, read_reference, written_at
from vit_tactile_ros.model import PreprocessingConfig

CAUSE = 'gain'  # of its notes


class SensorGain:
    """The factor on the difference to the reference, at least 1, for the network with the digest `weights`."""

    def __init__(self, weights: str) -> None:
        self.value = 1.0
        self._weights = weights
        self._given_up_at: float | None = None  # s since 1970, with the reference; what adapt writes later counts

    def use(self, stored: StoredReference, path: Path) -> list[Note]:
        """That of the file, if it is for this network."""
        is_ours = bool(stored.gain_for) and stored.gain_for == self._weights
        self.value = stored.gain if is_ours else 1.0
        if is_ours or stored.gain == 1:
            return []
        return [Note(CAUSE, f'the gain of {stored.gain:.2f} in {path} is for another checkpoint and not used: run '
                            'adapt with this one')]

    def give_up(self) -> list[Note]:
        """Another reference takes the place of the one with which it was measured; perhaps of another gel or camera."""
        before, self.value, self._given_up_at = self.value, 1.0, time.time()
        if before == 1:
            return []
        return [Note(CAUSE, f'the gain of {before:.2f} was measured with the previous reference and is 1 from now on: '
                            'run adapt again if the sensor is still of low contrast')]

    def take_over(self, other: SensorGain, stored_at: float | None) -> None:
        """Give it up if `other` has since `stored_at`, when the file was written that this one is from."""
        self._given_up_at = other._given_up_at
        if self._is_outdated(stored_at):
            self.value = 1.0

    def to_store(self, path: Path, config: PreprocessingConfig) -> tuple[float, str]:
        """(gain, digest of its network) to write to the file: what it has now, unless that was given up.

        adapt may have written it since it was read.
        """
        try:
            stored = read_reference(path, config)
        except StoreError:
            return 1.0, ''
        if stored is None or self._is_outdated(written_at(path)):
            return 1.0, ''
        return stored.gain, stored.gain_for

    def _is_outdated(self, stored_at: float | None) -> bool:
        return self._given_up_at is not None and (stored_at is None or stored_at < self._given_up_at)
