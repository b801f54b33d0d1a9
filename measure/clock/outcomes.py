"""Results of cases that could not be measured: each is a line of the record, and never a crash."""

from __future__ import annotations

from hardware.errors import one_line
from simulator.profiling.records.record import Case, Outcome, Result

_ROOM = 0.9
"""Share of the free memory that a case may need by count; beyond, it is not tried."""
_LONGEST_REASON = 120


def without(case: Case, outcome: Outcome, why: object) -> Result:
    """A result without times, with the first line of what was in the way."""
    text = str(why).strip()
    reason = one_line(text.splitlines()[0] if text else type(why).__name__)
    return Result(case=case, outcome=outcome, reason=reason[:_LONGEST_REASON])


def beyond(footprint: float, free: float) -> str:
    """Why a case is not even tried, where it is too large by count; nothing where it may fit.

    >>> beyond(80 * 2**30, 24 * 2**30), beyond(2**30, 24 * 2**30)
    ('needs 80.0 GiB and 24.0 GiB are free', '')
    """
    if footprint <= _ROOM * free:
        return ""
    return f"needs {footprint / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free"
