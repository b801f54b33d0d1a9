"""What the formulas price and torch cannot be made to send in one process."""

from __future__ import annotations

from collections.abc import Iterator

from measure.verification.reference import Reference, number
from measure.verification.rows import Row
from simulator.work.messages import messages

_REASONS = {
    "ring of keys and values": "torch's context parallelism was not made to run without devices",
    "all-to-all of experts": "experts on several devices are not built",
}


def uncounted(reference: Reference) -> Iterator[Row]:
    """Rings of context parallelism, and tokens that are sent to experts, of one step of the first stage."""
    found = messages(reference.columns, reference.counted)
    for name, reason in _REASONS.items():
        size = sum(number(one.count) * number(one.message_bytes) for one in found if one.name == name)
        if size:
            yield Row("sent in a step, first stage", name, "B", size, None, reason=reason)
