"""Magnitudes of weights beside adapters, which then change their directions (Liu et al., DoRA, arXiv 2402.09353).

PEFT makes the product of both factors as a matrix, from a unit matrix, for the norms of the adapted weights; these
count as constants, so that nothing of that runs backward. What the frozen matrix and the adapter make are both kept,
each a factor of a magnitude's gradient. Where adapters drop elements of their input, the frozen
matrix reads what is left of it once more (`DoraLinearLayer.forward` and `DoraLinearVariant.forward` of PEFT 0.21.2,
peft/tuners/lora/dora.py and variants.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.formulas import activations
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.work.operators import Holding, Operator, product, stream, untrained
from simulator.work.transformer.linears import Linear
from simulator.work.transformer.tokens import Scenarios
from simulator.work.weights import vectors

_VECTORS = 3.0
"""As wide as an output that are kept: norms, magnitudes over norms, and these less one."""
_WEIGHTS_AT_ONCE = 3.0
"""As large as a frozen matrix that exist at once: the product of both factors, that scaled, and the sum of all."""
_NORMS = 2.0, 4.0
"""Times that such a matrix crosses memory for the norms: product and weight are read; single operations scale, add and
read again."""
_FORWARD, _BACKWARD = (0.0, 7.0), (3.0, 12.0)
"""Times that what a matrix makes crosses memory beside what adapters without magnitudes do: fused, and in addition
where eager."""


def magnitudes(
    name: str, linear: Linear, scenarios: Scenarios, kinds: list[tuple[Num, Num]], modules: Num
) -> list[Operator]:
    """Norms of adapted weights, and what scales by magnitudes over them.

    Parameters
    ----------
    name
        Of the frozen product.
    linear
        What the matrices read.
    scenarios
        Columns that broadcast.
    kinds
        Widths of what adapted matrices make, and how many of each there are [1].
    modules
        Adapters of that input [1].
    """
    used = scenarios.workloads.tuning.magnitudes
    if not np.any(np.asarray(used) > 0.0):
        return []
    of_kinds = [(width, used * count) for width, count in kinds if np.any(np.asarray(count) > 0.0)]
    operators = [_factor(f"directions into {name}", linear, scenarios, used * modules)]
    for width, count in of_kinds:
        operators += [
            _factor(f"directions out of {name}", linear, scenarios, count, width),
            _norms(name, linear, scenarios, width, count),
            *_dropped_again(name, linear, scenarios, width, count),
            _scaled(name, linear, scenarios, width, count),
        ]
    return operators


def _factor(name: str, linear: Linear, scenarios: Scenarios, count: Num, width: Num | None = None) -> Operator:
    """A unit matrix times the factor into the rank, or what that makes times the one out of it; forward only."""
    rank = scenarios.workloads.tuning.rank
    made = product(
        name,
        linear.part,
        m=linear.width,
        k=linear.width if width is None else rank,
        n=rank if width is None else width,
        count=count,
        element_bytes=scenarios.plans.element_bytes,
        wide=True,
        launches=(count, count),
    )
    return replace(made, backward=())


def _norms(name: str, linear: Linear, scenarios: Scenarios, width: Num, count: Num) -> Operator:
    """Norms of a weight with its adapter, of which a quantised one is first made one of 16 bits."""
    tuning, eager, element = scenarios.workloads.tuning, scenarios.stacks.eager, scenarios.plans.element_bytes
    each, unit = linear.width * width * element, linear.width * linear.width * element
    quantised = np.where(np.asarray(tuning.weight_bytes) > 0.0, each + linear.width * width * tuning.weight_bytes, 0.0)
    moved = count * (each * (_NORMS[0] + _NORMS[1] * eager) + unit + quantised)
    return stream(
        f"norms of adapted weights of {name}",
        linear.part,
        StreamKind.ADAPTER,
        moved=(moved, 0.0),
        launches=(count * (2.0 + 4.0 * eager), 0.0),
        reduces=True,
        kept=Holding(passing=np.where(np.asarray(count) > 0.0, _WEIGHTS_AT_ONCE * each + unit, 0.0)),
    )


def _dropped_again(name: str, linear: Linear, scenarios: Scenarios, width: Num, count: Num) -> list[Operator]:
    """The frozen product of what dropout has left of the input, which keeps 16-bit weights made of quantised ones."""
    tuning, element = scenarios.workloads.tuning, scenarios.plans.element_bytes
    again = count * np.asarray(tuning.drops)
    if not np.any(again > 0.0):
        return []
    made = product(
        f"{name} of dropped input",
        linear.part,
        m=linear.rows,
        n=width,
        k=linear.width,
        count=again,
        element_bytes=element,
        wide=True,
        launches=(again, again),
    )
    of_16_bits = activations.tensor(linear.width, width, element_bytes=element)
    return [untrained(made, 0.0, saved=again * np.where(np.asarray(tuning.weight_bytes) > 0.0, of_16_bits, 0.0))]


def _scaled(name: str, linear: Linear, scenarios: Scenarios, width: Num, count: Num) -> Operator:
    """What matrix and adapter make, scaled by magnitudes over norms."""
    element, eager = scenarios.plans.element_bytes, scenarios.stacks.eager
    made = activations.tensor(linear.rows, width, element_bytes=element)
    of_vectors = _VECTORS * activations.tensor(width, 1.0, element_bytes=element)
    ahead, back = ((fused + alone * eager) * count * made for fused, alone in (_FORWARD, _BACKWARD))
    return stream(
        f"magnitudes of {name}",
        linear.part,
        StreamKind.ADAPTER,
        moved=(ahead, back),
        launches=(count * 5.0 * eager, count * (1.0 + 6.0 * eager)),
        kept=Holding(
            saved=count * (2.0 * made + of_vectors),
            parameters=count * width,
            weights=(vectors(width, count),),
            added=True,
        ),
    )
