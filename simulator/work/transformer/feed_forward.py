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
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, last_output_unused, linear_input


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
    """
    element, inputs, of = scenarios.plans.element_bytes, part.inputs, experts or _ALONE
    batch = of.experts
    called: dict[str, Any] = {
        "batch": batch / of.calls,
        "count": used * of.calls,
        "useful": of.useful,
        "element_bytes": element,
        "launches": (used * of.launches, used * of.launches),
    }
    width = widen * part.size / (scenarios.plans.tp if experts is None else scenarios.plans.etp)
    into = used * batch * parameters.linear(layers.hidden_size, inputs * width, bias=part.bias)
    out_of = used * batch * parameters.linear(width, layers.hidden_size, bias=part.bias)
    between = activations.tensor(batch * rows, width, element_bytes=scenarios.plans.product_bytes)
    # Outputs of experts are kept, since the gradient of the router needs them.
    unused = last_output_unused(layers, scenarios) if experts is None else 0.0
    return [
        product(
            "feed-forward input",
            "feed_forward",
            m=rows,
            k=layers.hidden_size,
            n=inputs * width,
            **called,
            kept=_owned(Holding(saved=kept), into, of_experts=experts is not None),
        ),
        _activation(part, scenarios, batch * rows, width, used * of.modules),
        product(
            "feed-forward output",
            "feed_forward",
            m=rows,
            k=width,
            n=layers.hidden_size,
            **called,
            kept=_owned(
                Holding(saved=between, partial_parameters=batch * part.bias * layers.hidden_size, output_unused=unused),
                out_of,
                of_experts=experts is not None,
            ),
        ),
    ]


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
