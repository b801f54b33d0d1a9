"""What software can run, as a sheet; what is left out is not limited."""

from __future__ import annotations

import re
from itertools import permutations
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from hardware.classes import Precision
from hardware.errors import shown
from hardware.sheet import Seen, Sheet, Words
from simulator.specs.capabilities.refusals import Refusal
from simulator.specs.choices import (
    EVERY_RECOMPUTE,
    METHODS,
    MODULES,
    OPTIMIZERS,
    SHARDINGS,
    USUAL_SCHEDULES,
    Axis,
    Optimizer,
    Recompute,
    RecomputeMethod,
    RecomputeModule,
    Schedule,
    Sharding,
)

Order = Annotated[str, Field(max_length=20)]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Capabilities(Sheet):
    """What software can run beside its axes: what a list lacks is refused, and each list starts with what is usual."""

    release: Words | None = None
    """The release, or the commit, that it is of."""
    shardings: tuple[Sharding, ...] = SHARDINGS
    """What replicas can share."""
    schedules: Annotated[tuple[Schedule, ...], Field(min_length=1)] = USUAL_SCHEDULES
    """Orders of the micro-batches in a pipeline, by default 1f1b, gpipe, interleaved and zero-bubble; the first is that
    of a pipeline for which nobody chooses one."""
    placements: Annotated[tuple[Order, ...], Field(min_length=1)] | None = None
    """Orders of the axes, from the innermost, such as tp-cp-dp-pp; any unless given."""
    recompute: tuple[Recompute, ...] = EVERY_RECOMPUTE
    """What the backward pass can compute again instead of keeping."""
    recompute_modules: tuple[RecomputeModule, ...] = MODULES
    """Modules of a layer that selective recomputation can be of."""
    recompute_methods: tuple[RecomputeMethod, ...] = METHODS
    """How layers that are recomputed can be counted."""
    precisions: tuple[Precision, ...] = PRECISIONS
    """Number formats of matrix products."""
    optimizers: tuple[Optimizer, ...] = OPTIMIZERS
    """Optimizers."""
    sequence_parallel: bool = True
    """Whether tensor-parallel ranks can share the tokens of normalisations and dropouts."""
    expert_tensor_parallel: bool = True
    """Whether experts can be split over other tensor-parallel ranks than the dense layers."""
    offload_optimizer: bool = True
    """Whether optimizer states can live in the host's memory."""
    quantised_base: bool = True
    """Whether frozen weights can be held in a few bits, as bitsandbytes and torchao do."""
    optimizer_in_backward: bool = True
    """Whether the optimizer can update parameters as their gradients come, while the backward pass runs."""
    activation_inputs_in_fp8: bool = True
    """Whether what gated activation functions read can be kept in fp8."""
    multi_token: bool = True
    """Whether modules that predict further tokens can be trained."""
    context: tuple[Literal["ring", "all-gather", "ulysses"], ...] = ("ring",)
    """How ranks that share a sequence see its keys: in a ring, all at once, or each for some heads (Ulysses). The
    first is priced, all at once like a ring."""
    refuses: tuple[Refusal, ...] = ()
    """Combinations that are refused."""
    source: Words | None = None
    """Where it was read."""
    seen: Seen = "unstated"
    """How it was seen: in the code, in a quotation of it, by arithmetic, or from memory only."""

    @field_validator("placements")
    @classmethod
    def _are_orders(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for order in value or ():
            if sorted(re.split("-", order)) != ["cp", "dp", "pp", "tp"]:
                raise ValueError(f"{shown(order)} must name tp, cp, dp and pp once each, such as tp-cp-dp-pp")
        return value

    @property
    def orders(self) -> tuple[tuple[Axis, ...], ...]:
        """Placements as tuples of axes, the usual one first."""
        if self.placements is None:
            return tuple(permutations(get_args(Axis)))
        return tuple(order for order in permutations(get_args(Axis)) if "-".join(order) in self.placements)
