"""The dense feed-forward layer; the two products are those of every expert too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import DenseFeedForward, Layers
from simulator.work.operators import Holding, Operator, product, stream
from simulator.work.transformer.adapters import Linear, Matrix, tuned
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, last_output_unused, linear_input
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


_ALONE = ExpertProducts(experts=1.0)


@operators_of.register
def feed_forward(part: DenseFeedForward, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Into the feed-forward width, activation, and back."""
    return two_products(part, layers, scenarios, rows=tokens.all, kept=kept_input(layers, scenarios, tokens))


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
    """
    element, inputs, of = scenarios.plans.element_bytes, part.inputs, experts or _ALONE
    batch, called = of.experts, _called(of, used, element)
    ranks = scenarios.plans.tp if experts is None else scenarios.plans.etp
    width = widen * part.size / ranks
    into = used * batch * parameters.linear(layers.hidden_size, inputs * width, bias=part.bias)
    out_of = used * batch * parameters.linear(width, layers.hidden_size, bias=part.bias)
    tensors = _weights(part, layers, scenarios, width, (used, batch), ranks)
    leaves = Holding(partial_parameters=batch * part.bias * layers.hidden_size)
    between = activations.tensor(batch * rows, width, element_bytes=scenarios.plans.product_bytes)
    unused = last_output_unused(layers, scenarios) if experts is None else 0.0  # a router's gradient needs them
    inward = product(
        "feed-forward input",
        "feed_forward",
        m=rows,
        k=layers.hidden_size,
        n=inputs * width,
        **called,
        kept=_owned(Holding(saved=kept, weights=tensors[0]), into, of_experts=experts is not None),
    )
    outward = product(
        "feed-forward output",
        "feed_forward",
        m=rows,
        k=width,
        n=layers.hidden_size,
        **called,
        kept=_owned(
            replace(leaves, saved=between, output_unused=unused, weights=tensors[1]),
            out_of,
            of_experts=experts is not None,
        ),
    )
    # Adapters read 16 bits also where the products beside them are in 8.
    read = kept * (element / np.asarray(scenarios.plans.product_bytes)) if read is None else read
    reads = _Reads(rows, width, used, ranks, of, experts is not None)
    return [
        *tuned(inward, reads.inward(part, layers, scenarios, read), scenarios),
        _activation(part, scenarios, batch * rows, width, used * of.modules),
        *tuned(outward, reads.outward(part, layers, scenarios), scenarios),
    ]


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


def _activation(part: DenseFeedForward, scenarios: Scenarios, rows: Num, width: Num, used: Num) -> Operator:
    """The activation function, and the product with its gate where there is one."""
    element, eager, inputs = scenarios.plans.element_bytes, scenarios.stacks.eager, part.inputs
    size, gated = rows * width * element, inputs - 1.0
    # Beside what torch keeps: both factors of an activation in single operations; a fused gate keeps its inputs only.
    more = scenarios.stacks.activation_copies - scenarios.stacks.fused_gate * gated
    saved = activations.gate(rows, width, element_bytes=element, inputs=inputs, rectified=part.rectified)
    return stream(
        "activation function",
        "elementwise",
        StreamKind.GATED_ACTIVATION if np.all(np.asarray(gated) > 0.0) else StreamKind.ACTIVATION,
        moved=(
            size * (2.0 + gated + (1.0 + gated) * eager),
            size * (3.0 + 2.0 * gated + (1.0 + 3.0 * gated) * eager),
        ),
        launches=(used * (1.0 + gated * eager), used * (1.0 + (1.0 + gated) * eager)),
        kept=Holding(saved=saved + more * size, widest=inputs * size),
    )
