"""Whether an image shows the same as the last one that the network saw, so that its result still holds."""

from __future__ import annotations

from vit_tactile_ros.inference.gate import THRESHOLD, Cells
from vit_tactile_ros.inference.reference_monitor import ReferenceMonitor

LONGEST = 0.5  # s for which a result is repeated: what one image does not show, for instance noise, is judged anew


class Unchanged:
    """Compares the touched images of one sensor with the last one that was not called unchanged.

    An image is unchanged if no cell of the gate differs by more than `gate.THRESHOLD` times the noise that the gate has
    learned. Since that image stays the same until the network sees another one, a slow change adds up and is noticed.
    Only the images count, never the network's results, as for the gate. Not thread-safe.
    """

    def __init__(self) -> None:
        self._cells: Cells | None = None
        self._stamp = 0  # ns

    def check(self, monitor: ReferenceMonitor, stamp_ns: int) -> bool:
        """For an image that the monitor has just seen; never of an untouched one, or while the reference is gathered.
        """
        cells = monitor.cells
        if cells is None or monitor.verdict is None or monitor.is_untouched:
            self._cells = None
            return False
        if (self._cells is not None and self._cells.shape == cells.shape
                and 0 < stamp_ns - self._stamp <= LONGEST * 1e9  # stamps that repeat show no time
                and monitor.gate.change(cells - self._cells) < THRESHOLD):
            return True
        self._cells, self._stamp = cells, stamp_ns
        return False
