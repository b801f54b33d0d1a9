"""What the formulas price and torch cannot be made to send in one process."""

from __future__ import annotations

from collections.abc import Iterator

from measure.verification.reference import Reference, number
from measure.verification.rows import Row
from simulator.work.messages import messages
from simulator.work.tasks import Part

_REASONS: dict[Part, str] = {
    "context_parallel": "torch's context parallelism was not made to run without devices",
    "expert_parallel": "experts on several devices are not built",
}


def uncounted(reference: Reference) -> Iterator[Row]:
    """Rings of context parallelism, and tokens that are sent to experts, of one step of the first stage."""
    listed = messages(reference.program)
    for part, reason in _REASONS.items():
        sent = [one for one in listed if one.part == part]
        size = sum(number(one.count) * number(one.message_bytes) for one in sent)
        if size:
            yield Row("sent in a step, first stage", sent[0].name, "B", size, None, reason=reason)
