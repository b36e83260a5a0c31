"""A status for /diagnostics, and the rate that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue


def status_of(name: str, values: Mapping[str, object], errors: Sequence[str] = (), warnings: Sequence[str] = (),
              fine: str = 'active', hardware_id: str = '') -> DiagnosticStatus:
    """ERROR or WARN with everything that is wrong, errors first; otherwise OK with the message `fine`."""
    level = DiagnosticStatus.ERROR if errors else DiagnosticStatus.WARN if warnings else DiagnosticStatus.OK
    return DiagnosticStatus(level=level, name=name, message='; '.join([*errors, *warnings]) or fine,
                            hardware_id=hardware_id,
                            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])


def rate_of(times: Sequence[float]) -> float:
    """Hz of events at these times in s; 0 for fewer than two different ones."""
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0
