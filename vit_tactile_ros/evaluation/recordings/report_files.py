"""The files of a report of a replay, without what is needed to write them."""

from __future__ import annotations

from pathlib import Path

PAGE = 'report.html'
FIGURES = ('confusion.png', 'reliability.png', 'exits.png', 'latency.png', 'tau_sweep.png', 'timeline_*.png',
           'mistake_*.png')


def remove_report(folder: Path) -> None:
    """Remove an earlier report, so that its page and figures are not taken for those of a later replay."""
    for name in (PAGE, *FIGURES):
        for old in folder.glob(name):
            old.unlink()
