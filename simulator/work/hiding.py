"""Phases and parts of a step, and what hides behind what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from simulator.formulas.typing import Num

OperatorPart = Literal[
    "attention_projections",
    "attention",
    "feed_forward",
    "normalisation",
    "elementwise",
    "embedding",
    "head",
    "tensor_parallel",
    "context_parallel",
    "expert_parallel",
]
"""Parts of the compute of a step, as the breakdown of an estimate names them."""


class Phase(Enum):
    """When a task runs."""

    FORWARD = "forward"
    RECOMPUTE = "recompute"
    BACKWARD = "backward"
    STEP = "step"
    """After the last micro-batch, once a step."""


@dataclass(frozen=True)
class Hiding:
    """What covers a task.

    Of a task's time a `share` may be hidden: outright, or where `line` is given behind named work, as far as that
    lasts. Tasks of one place, phase and line wait for each other and share the work beside them. They fall into equal
    occasions, each of which has `reach` of the named work of one micro-batch's pass beside it.
    """

    share: Num = 0.0
    """Share of the task's time that may be hidden [1]."""
    across: Num | None = None
    """The same where the ranks of a collective do not share a node; `share` unless given."""
    line: str = ""
    """Name of the line; empty where the share is hidden outright."""
    behind: Phase | None = None
    """The pass whose compute covers it; its own phase unless given."""
    parts: frozenset[OperatorPart] | None = None
    """The parts of that pass which do; all compute unless given."""
    halves: tuple[tuple[frozenset[OperatorPart], Num], ...] = ()
    """Those of these parts that cover a share of the task each, with this share, where a block has all of them."""
    reach: Num = 1.0
    """Share of that work that one occasion has beside it [1]."""
    occasions: Num = 1.0
    """Into how many equal occasions the line falls [1]."""
    slowing: Num = 0.0
    """Share of the device's compute that it takes for itself while it is hidden [1]."""


OPEN = Hiding()
"""Nothing covers it."""
