"""Programs of inference: one forward pass, with weights as they are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.pricing.requests import Collective, MatrixProduct, Request
from simulator.work.operators import Call, Operator
from simulator.work.program import Block, Program, forward_program
from simulator.work.transformer import Scenarios

if TYPE_CHECKING:
    from simulator.serving.served import ServingScenario

_NARROW_BYTES = {"int8": 1.0, "fp8": 1.0, "mxfp8": 33.0 / 32.0, "nvfp4": 9.0 / 16.0}
"""Of an element of what products in few bits read, with its share of scales."""


def served_program(served: ServingScenario, columns: Scenarios) -> Program:
    """The program of a forward pass of a model that is served.

    Parameters
    ----------
    served
        What is served.
    columns
        What it does: of `ServingScenario.iteration` or `ServingScenario.encoding`.
    """
    whole = forward_program(columns)

    def stored(block: Block) -> Block:
        return replace(block, operators=tuple(_stored(operator, served) for operator in block.operators))

    return Program(whole.scenarios, tuple(map(stored, whole.groups)), stored(whole.embedding), stored(whole.head))


def stored_bytes(request: MatrixProduct, served: ServingScenario) -> float:
    """Of an element of the weight of a product, with its share of scales [B]."""
    kept_wide = request.wide and served.weights.covers != "all"
    wide = 4.0 if served.precision in ("fp32", "tf32") else 2.0
    return max(wide, 2.0) if kept_wide else served.weights.bytes


def _stored(operator: Operator, served: ServingScenario) -> Operator:
    """An operator whose weights are stored in the format of the plan."""
    calls = tuple(replace(call, request=_request(call, served)) for call in operator.forward)
    return replace(operator, forward=calls)


def _request(call: Call, served: ServingScenario) -> Request:
    """The request of a call with stored weights, or with small messages that are reduced in one kernel."""
    asked = call.request
    if isinstance(asked, Collective):
        return replace(asked, one_shot=1.0) if served.stack.one_shot_all_reduce else asked
    if not isinstance(asked, MatrixProduct) or not asked.of_weight:
        return asked
    packed = stored_bytes(asked, served)
    precision = served.wide_precision if asked.wide else served.precision
    same = precision in (served.weights.product, served.weights.id) or packed >= 2.0
    return replace(
        asked,
        input_bytes=None if asked.wide else _NARROW_BYTES.get(precision),
        packed_bytes=packed,
        unpacking=0.0 if same else served.weights.unpacking,
    )
