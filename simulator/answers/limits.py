"""Kinds of work that the parts of a step belong to, and which of them limits it."""

from __future__ import annotations

from collections.abc import Mapping

_KINDS: dict[str, tuple[str, ...]] = {
    "matrix products": ("attention_projections", "attention", "feed_forward", "head"),
    "recomputation": ("recompute",),
    "memory bandwidth": ("normalisation", "elementwise", "embedding", "gradient_accumulation", "optimizer"),
    "communication": (
        "tensor_parallel",
        "context_parallel",
        "expert_parallel",
        "parameter_gather",
        "gradient_reduction",
        "pipeline_transfer",
    ),
    "frozen model": ("reference_model", "teacher"),
    "pipeline idle": ("pipeline_bubble",),
    "host": ("host", "step_overhead", "offload"),
}
"""Kinds of work, and the parts of a step that belong to each."""


def by_kind(breakdown: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The parts of a step under the kinds of work that they belong to [s]."""
    parts_by_kind = {
        kind: {part: breakdown[part] for part in parts if part in breakdown} for kind, parts in _KINDS.items()
    }
    return {kind: parts for kind, parts in parts_by_kind.items() if parts}


def limits_of(breakdown: Mapping[str, float]) -> dict[str, float]:
    """Share of the step that each kind of work takes, largest first."""
    whole = sum(breakdown.values())
    shares = {kind: sum(breakdown.get(name, 0.0) for name in names) / whole for kind, names in _KINDS.items()}
    return dict(sorted(((kind, share) for kind, share in shares.items() if share > 0), key=lambda item: -item[1]))
