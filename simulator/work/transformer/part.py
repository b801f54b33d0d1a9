"""One function for all parts of a layer; the module of a part registers what it executes."""

from __future__ import annotations

from functools import singledispatch

from simulator.specs.parts import Layers, Part
from simulator.work.operators import Operator
from simulator.work.transformer.tokens import Scenarios, Tokens


@singledispatch
def operators_of(part: Part, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Operators of one part of a layer, with what they keep and own.

    Parameters
    ----------
    part
        The part; its class decides.
    layers
        The layers that it belongs to.
    scenarios
        Columns that broadcast against each other.
    tokens
        What one rank handles of them.

    Raises
    ------
    TypeError
        For a kind of part that no module has registered.
    """
    del layers, scenarios, tokens
    raise TypeError(f"no module of simulator.work.transformer registers {type(part).__name__}")
