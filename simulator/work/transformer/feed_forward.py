"""The dense feed-forward layer; the two products are those of every expert too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.choices import RecomputeModule
from simulator.specs.parts import DenseFeedForward, Layers
from simulator.work.operators import Holding, Operator, product, stream
from simulator.work.transformer.adapted.adapters import tuned
from simulator.work.transformer.adapted.linears import Linear, Matrix
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import (
    Scenarios,
    Tokens,
    last_output_unused,
    linear_input,
    normalised_input,
    own_input,
    plain,
)
from simulator.work.weights import Weight, linear_weights


@dataclass(frozen=True, kw_only=True)
class ExpertProducts:
    """Products of the experts of one rank."""

    experts: Num
    """Experts of the rank [1]."""
    calls: Num = 1.0
    """Calls one after the other, in which as many of them each run at the same time [1]."""
    launches: Num = 1.0
    """Launches by the host [1]."""
    modules: Num = 1.0
    """Modules that are run one by one, with an activation function each [1]."""
    useful: Num = 1.0
    """Share of their rows that is not padding or more than the mean [1]."""


Inside = tuple[tuple[RecomputeModule, Num], ...]
"""Modules that hold an operator, the outermost first, with what is kept where each is recomputed [B]."""
_ALONE = ExpertProducts(experts=1.0)
_NARROW_BYTES = 1.0
"""Of an element in fp8 [B]."""


@operators_of.register
def feed_forward(part: DenseFeedForward, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Into the feed-forward width, activation, and back."""
    kept, own = kept_input(layers, scenarios, tokens), own_input(tokens, layers.hidden_size, scenarios)
    return two_products(part, layers, scenarios, rows=tokens.all, kept=kept, modules=("mlp",), input_bytes=own)


def kept_input(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Num:
    """Bytes of the input that a column-parallel product keeps."""
    element = scenarios.plans.product_bytes
    return activations.tensor(linear_input(tokens, scenarios), layers.hidden_size, element_bytes=element)


def two_products(
    part: DenseFeedForward,
    layers: Layers,
    scenarios: Scenarios,
    *,
    rows: Num,
    kept: Num,
    experts: ExpertProducts | None = None,
    widen: Num = 1.0,
    used: Num = 1.0,
    read: Num | None = None,
    modules: tuple[RecomputeModule, ...] = (),
    input_bytes: Num = 0.0,
) -> list[Operator]:
    """The two products with the activation function between them.

    Parameters
    ----------
    part, layers, scenarios
        What it is of.
    rows
        Tokens of one of them [token].
    kept
        Bytes of the input that is kept [B].
    experts
        Those of this rank, if it is of experts.
    widen
        How many times as wide as the part says [1].
    used
        1 or 0 [1].
    read
        Bytes of the input that is kept where only an adapter needs it; as much unless given [B].
    modules
        Modules that can be recomputed and hold it, the outermost first.
    input_bytes
        Kept where the innermost of them is recomputed [B].
    """
    element, inputs, of = scenarios.plans.element_bytes, part.inputs, experts or _ALONE
    batch, called = of.experts, _called(of, used, element)
    ranks = scenarios.plans.tp if experts is None else scenarios.plans.etp
    width = widen * part.size / ranks
    into = used * batch * parameters.linear(layers.hidden_size, inputs * width, bias=part.bias)
    out_of = used * batch * parameters.linear(width, layers.hidden_size, bias=part.bias)
    inside: Inside = tuple((name, 0.0) for name in modules)
    before = _before(part, scenarios, rows, used * width, kept, inside, input_bytes)
    after = _after(part, layers, scenarios, rows, used, batch * rows * width, inside)
    after = replace(after, partial_parameters=batch * part.bias * layers.hidden_size)
    tensors = _weights(part, layers, scenarios, width, (used, batch), ranks)
    inward = product(
        "feed-forward input",
        "feed_forward",
        m=rows,
        k=layers.hidden_size,
        n=inputs * width,
        cast_before=(experts is None, experts is None),
        **called,
        kept=_owned(replace(before, weights=tensors[0]), into, of_experts=experts is not None),
    )
    outward = product(
        "feed-forward output",
        "feed_forward",
        m=rows,
        k=width,
        n=layers.hidden_size,
        cast_before=(experts is None, False),
        **called,
        kept=_owned(replace(after, weights=tensors[1]), out_of, of_experts=experts is not None),
    )
    # Adapters read 16 bits also where the products beside them are in 8.
    read = kept * (element / np.asarray(scenarios.plans.product_bytes)) if read is None else read
    reads = _Reads(rows, width, used, ranks, of, experts is not None)
    return [
        *tuned(inward, reads.inward(part, layers, scenarios, read), scenarios),
        _activation(part, scenarios, batch * rows, width, used * of.modules, inside, of_experts=experts is not None),
        *tuned(outward, reads.outward(part, layers, scenarios), scenarios),
    ]


def _before(
    part: DenseFeedForward, scenarios: Scenarios, rows: Num, width: Num, kept: Num, inside: Inside, input_bytes: Num
) -> Holding:
    """What the product into the layer keeps; those of experts at once are none that policies by operator know."""
    of_experts = inside == (("moe", 0.0),)
    one = 0.0 if of_experts else plain(rows, width, scenarios, bias=part.bias)
    return Holding(
        saved=kept,
        matrices=(one, one * (part.inputs - 1.0)),
        repeated_in=(*inside[:-1], *((name, input_bytes) for name, _ in inside[-1:])),
        discards=() if of_experts else normalised_input(kept, scenarios),
    )


def _after(
    part: DenseFeedForward, layers: Layers, scenarios: Scenarios, rows: Num, used: Num, elements: Num, inside: Inside
) -> Holding:
    """What the product out of the layer keeps; of experts its output too, which the router's gradient needs."""
    of_experts = inside == (("moe", 0.0),)
    between = elements * scenarios.plans.product_bytes
    return Holding(
        saved=between,
        output_unused=0.0 if of_experts else last_output_unused(layers, scenarios),
        matrices=() if of_experts else (used * plain(rows, layers.hidden_size, scenarios, bias=part.bias),),
        repeated_in=inside,
        discards=(("moe_act", between),) if of_experts else (),
    )


def _weights(
    part: DenseFeedForward,
    layers: Layers,
    scenarios: Scenarios,
    width: Num,
    factors: tuple[Num, ...],
    ranks: Num,
) -> tuple[tuple[Weight, ...], tuple[Weight, ...]]:
    """The matrix into the layer, with that of a gate, and the one out of it.

    Libraries that join no projections join the two of a gate neither.
    """
    inward = linear_weights(
        layers.hidden_size,
        width,
        (part.inputs - 1.0) * width,
        bias=part.bias,
        factors=factors,
        apart=1.0 - np.asarray(scenarios.stacks.fused_qkv),
        row_ranks=ranks,
    )
    return inward, linear_weights(width, layers.hidden_size, bias=part.bias, factors=factors, column_ranks=ranks)


def _called(of: ExpertProducts, used: Num, element: Num) -> dict[str, Any]:
    """How the products are called."""
    return {
        "batch": of.experts / of.calls,
        "count": used * of.calls,
        "useful": of.useful,
        "element_bytes": element,
        "launches": (used * of.launches, used * of.launches),
    }


@dataclass(frozen=True)
class _Reads:
    """What the matrices of a feed-forward layer read."""

    rows: Num
    width: Num
    """Of the layer, on this rank [1]."""
    used: Num
    ranks: Num
    of: ExpertProducts
    of_experts: bool

    def _linear(self, width: Num, matrices: tuple[Matrix, ...], saved: Num, **others: Any) -> Linear:
        return Linear(
            part="feed_forward",
            rows=self.rows,
            width=width,
            matrices=matrices,
            saved=saved,
            ranks=self.ranks,
            used=self.used,
            experts=self.of.experts if self.of_experts else 0.0,
            calls=self.of.calls,
            launches=self.of.launches,
            useful=self.of.useful,
            **others,
        )

    def inward(self, part: DenseFeedForward, layers: Layers, scenarios: Scenarios, saved: Num) -> Linear:
        """The matrix into the layer, and with a gate the other one."""
        tuning, gated = scenarios.workloads.tuning, np.asarray(part.inputs) > 1.0
        plain = np.where(gated, tuning.up, np.maximum(tuning.gate, tuning.up))
        matrices = [Matrix(width=self.width, adapted=plain)]
        if np.any(gated):
            matrices.append(Matrix(width=np.where(gated, self.width, 0.0), adapted=np.where(gated, tuning.gate, 0.0)))
        return self._linear(layers.hidden_size, tuple(matrices), saved)

    def outward(self, part: DenseFeedForward, layers: Layers, scenarios: Scenarios) -> Linear:
        """The matrix out of the layer, whose input a plain ReLU keeps, as its output, whether or not it does."""
        rows, element = self.of.experts * self.rows, scenarios.plans.element_bytes
        saved = activations.tensor(rows, self.width, element_bytes=element)
        matrix = Matrix(width=layers.hidden_size, adapted=scenarios.workloads.tuning.down)
        rectified = part.rectified * (2.0 - np.asarray(part.inputs))
        return self._linear(self.width, (matrix,), saved, otherwise=rectified * saved, adds_up=True)


def _owned(kept: Holding, weights: Num, *, of_experts: bool) -> Holding:
    """The holding with `weights` parameters added, which expert parallelism divides where they are of experts."""
    return replace(kept, expert_parameters=weights) if of_experts else replace(kept, parameters=weights)


def _activation(
    part: DenseFeedForward,
    scenarios: Scenarios,
    rows: Num,
    width: Num,
    used: Num,
    inside: Inside,
    *,
    of_experts: bool,
) -> Operator:
    """The activation function, and the product with its gate where there is one.

    Where it reads a fused gate's inputs and the plan has them in fp8 it writes a copy of them, which alone is kept
    (`SwiGLUFunction` in `megatron/core/fusions/fused_bias_swiglu.py` of core_v0.19.0; DeepSeek-AI, DeepSeek-V3, arXiv
    2412.19437, section 3.3.3).
    """
    element, eager, inputs = scenarios.plans.element_bytes, scenarios.stacks.eager, part.inputs
    size, gated = rows * width * element, inputs - 1.0
    # Beside what torch keeps: both factors of an activation in single operations; a fused gate keeps its inputs only.
    fused = scenarios.stacks.fused_gate * gated
    weighs = scenarios.stacks.weighs_activations if inside == (("moe", 0.0),) else 0.0
    more = scenarios.stacks.activation_copies - fused + weighs * (1.0 - fused)
    narrowed = fused * scenarios.plans.narrow_activations * inputs * size
    saves = 1.0 - _NARROW_BYTES / element
    saved = activations.gate(rows, width, element_bytes=element, inputs=inputs, rectified=part.rectified)
    again = inputs * size - narrowed * saves * scenarios.stacks.casts_repeated_inputs
    return stream(
        "activation function",
        "elementwise",
        StreamKind.GATED_ACTIVATION if np.all(np.asarray(gated) > 0.0) else StreamKind.ACTIVATION,
        moved=(
            size * (2.0 + gated + (1.0 + gated) * eager) + narrowed * (1.0 - saves),
            size * (3.0 + 2.0 * gated + (1.0 + 3.0 * gated) * eager) - narrowed * saves,
        ),
        launches=(used * (1.0 + gated * eager), used * (1.0 + (1.0 + gated) * eager)),
        kept=Holding(
            saved=saved + more * size - narrowed * saves,
            widest=inputs * size,
            repeated_in=(*inside, ("moe_act", again)) if of_experts else inside,
        ),
    )
