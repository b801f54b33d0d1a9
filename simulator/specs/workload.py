"""What is trained on: sequence lengths, batch, and how much of it in total."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from hardware.spec import Sheet
from simulator.columns import Columns
from simulator.formulas.typing import Num
from simulator.specs.model import Model, Size

Amount = Annotated[float, Field(gt=0, le=1e18, allow_inf_nan=False)]


class Workload(Sheet):
    """The data of a training run; what is not given comes from the model's published training."""

    sequence_length: Size | None = None
    target_length: Size | None = None
    """Tokens of a target sequence, of encoder-decoder models."""
    effective_tokens: Annotated[float, Field(gt=0, le=10_000_000)] | None = None
    """Mean number of real tokens a sequence, where sequences are padded; all of them unless given."""
    predictions: Size | None = None
    """Masked positions of a sequence that the head predicts; the model's mask rate unless given."""
    global_batch: Size | None = None
    """Sequences of one optimizer step."""
    tokens: Amount | None = None
    """Tokens of the whole run, padding included."""
    steps: Size | None = None

    @model_validator(mode="after")
    def _one_total(self) -> Self:
        if self.tokens is not None and self.steps is not None:
            raise ValueError("tokens and steps say the same; give one of them")
        if self.effective_tokens and self.sequence_length and self.effective_tokens > self.sequence_length:
            raise ValueError(
                f"effective_tokens={self.effective_tokens:g} exceeds sequence_length={self.sequence_length}"
            )
        return self

    def resolve(self, model: Model) -> Workload:
        """Fill what is not given from the model's training."""
        given, training = self, model.training
        sequence = given.sequence_length or training.sequence_length
        filled: dict[str, float | None] = {
            "sequence_length": sequence,
            "global_batch": given.global_batch or training.global_batch,
            "effective_tokens": min(given.effective_tokens or sequence, sequence),
        }
        if model.decoder_layers is not None:
            filled["target_length"] = given.target_length or training.target_length or sequence
        if model.objective == "mlm":
            filled["predictions"] = given.predictions or math.ceil(round(model.mask_rate * sequence, 6))
        if given.tokens is None and given.steps is None:
            filled |= {"tokens": training.tokens, "steps": training.steps}
        return given.model_copy(update=filled)

    @property
    def tokens_per_step(self) -> float:
        """Tokens of one step, padding included; only of a resolved workload."""
        per_sequence = (self.sequence_length or 0) + (self.target_length or 0)
        return float(per_sequence * (self.global_batch or 0))

    @property
    def total_steps(self) -> int:
        """Steps of the run; one where nothing says how long it is."""
        if self.steps is not None:
            return self.steps
        return math.ceil(self.tokens / self.tokens_per_step) if self.tokens is not None else 1

    def columns(self) -> Workloads:
        """The resolved workload as numbers."""
        sequence = float(self.sequence_length or 0)
        return Workloads(
            sequence_length=sequence,
            target_length=float(self.target_length or 0),
            effective_tokens=float(self.effective_tokens or sequence),
            predictions=float(self.predictions or 0),
            global_batch=float(self.global_batch or 0),
        )


@dataclass(frozen=True)
class Workloads(Columns):
    """Workloads as numbers."""

    sequence_length: Num
    target_length: Num
    effective_tokens: Num
    predictions: Num
    global_batch: Num
