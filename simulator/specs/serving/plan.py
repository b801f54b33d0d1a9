"""How a model that is served is split and stored, and what requests it gets, as a user says it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from hardware.fields import Unit
from hardware.sheet import NO_FLAG, Fraction, Sheet
from simulator.specs.plan import Ranks, Stages
from simulator.specs.serving.formats import FormatName, ProductFormat

Tokens = Annotated[float, Field(ge=1, le=1e9, allow_inf_nan=False), NO_FLAG, Unit("token")]
Sequences = Annotated[int, Field(ge=1, le=10_000_000), NO_FLAG, Unit("sequence")]
_LOADS = ("batch", "concurrency", "rate")


class ServingPlan(Sheet):
    """A split of the model and the formats of what is stored. What is not given is chosen, and the answer says so."""

    tp: Ranks | None = None
    """Tensor-parallel ranks of a replica."""
    pp: Stages | None = None
    """Pipeline stages of a replica."""
    ep: Ranks | None = None
    """Expert-parallel ranks: some or all of the tensor-parallel ones, or beyond these those of several replicas."""
    replicas: Annotated[int, Field(ge=1, le=1_000_000), NO_FLAG, Unit("copy")] | None = None
    """Copies of the model, which share the requests."""
    weights: FormatName | None = None
    """Format of stored weights."""
    kv_cache: FormatName | None = None
    """Format of cached keys and values."""
    precision: ProductFormat | None = None
    """Number format of products; that of the weights where the device has units for it, else 16 bits."""
    memory_utilisation: Fraction | None = None
    """Share of a device's memory that the engine takes."""
    block_size: Annotated[int, Field(ge=1, le=65_536), NO_FLAG, Unit("token")] | None = None
    """Tokens of one block of a paged cache."""
    chunk: Annotated[int, Field(ge=1, le=10_000_000), NO_FLAG, Unit("token")] | None = None
    """Tokens of an iteration at most, prompts in chunks with them."""


class ServingLoad(Sheet):
    """The requests."""

    input_tokens: Tokens
    """Tokens of a prompt, or of a sequence that is encoded; the mean of all."""
    output_tokens: Tokens | None = None
    """Tokens that are generated for it; the mean of all."""
    batch: Sequences | None = None
    """Sequences that are processed together from beginning to end, on all replicas together."""
    concurrency: Sequences | None = None
    """Requests that are in work at any time, each followed by another at once, on all replicas together."""
    rate: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False), NO_FLAG, Unit("1/s")] | None = None
    """Requests that arrive in a second."""
    cached: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NO_FLAG, Unit("1")] = 0.0
    """Share of a prompt whose keys and values are in the cache already."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in _LOADS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different loads; give one of them")
        return self
