"""Normalisation of queries and keys between their projections and their product."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import HeadNormalisation, MultiHeadAttention
from simulator.work.operators import Holding, Operator, stream
from simulator.work.transformer.attention.core import Heads, heads_of
from simulator.work.transformer.exchanges import splits, tensor_exchange
from simulator.work.transformer.tokens import Scenarios, Tokens, stream_bytes
from simulator.work.weights import Weight, table, vectors


def head_normalisation(
    normalised: HeadNormalisation | None, part: MultiHeadAttention, scenarios: Scenarios, tokens: Tokens
) -> list[Operator]:
    """What it reads and writes, keeps and owns; vectors of all heads together need a sum over their ranks.

    Parameters
    ----------
    normalised
        The normalisation; None where the attention has none.
    part, scenarios, tokens
        What it is of.
    """
    if normalised is None:
        return []
    plans, eager = scenarios.plans, scenarios.stacks.eager
    heads = heads_of(part, plans)
    elements = tokens.all * (heads.query_width + heads.key_width)
    vectors = tokens.all * (2.0 * normalised.joint + (1.0 - normalised.joint) * (heads.query + heads.key_value))
    size = elements * plans.element_bytes
    kept = elements * stream_bytes(scenarios) + vectors * normalised.statistics * activations.STATISTIC_BYTES
    weights = _weights(normalised, part, heads.query_width + heads.key_width)
    tensors = _tensors(normalised, part, heads)
    norm = stream(
        "normalisation of queries and keys",
        "normalisation",
        StreamKind.NORMALISATION,
        moved=(size * (2.0 + eager), size * (3.0 + eager)),
        launches=(2.0, 2.0 * (1.0 + eager)),
        reduces=True,
        kept=Holding(
            saved=kept, parameters=weights, partial_parameters=weights * _is_everybodys(normalised), weights=tensors
        ),
    )
    if not splits(scenarios):
        return [norm]
    sums = tokens.all * 2.0 * normalised.statistics * activations.STATISTIC_BYTES
    both = (normalised.joint, normalised.joint)
    return [norm, tensor_exchange("all_reduce", "of normalised queries and keys", sums, scenarios, counts=both)]


def _is_everybodys(normalised: HeadNormalisation) -> Num:
    """1 where all ranks have the same weights, which heads share; 0 where each has those of its own heads."""
    return np.where(np.asarray(normalised.weights) < 2.0, 1.0, 0.0)


def _weights(normalised: HeadNormalisation, part: MultiHeadAttention, own: Num) -> Num:
    """Parameters on one rank: two vectors of the width of a head, or weights of its own heads, whose width is `own`."""
    shared = 2.0 * part.head_size
    width = np.where(_is_everybodys(normalised) > 0.0, normalised.weights * shared, own)
    return width * (1.0 + normalised.bias)


def _tensors(normalised: HeadNormalisation, part: MultiHeadAttention, heads: Heads) -> tuple[Weight, ...]:
    """The same as tensors, of queries and of keys; own weights of each head are a matrix, of all together a vector."""
    own, shared = (np.where(np.asarray(normalised.weights) == times, 1.0, 0.0) for times in (2.0, 1.0))
    both = 1.0 + np.asarray(normalised.bias)
    of_all, of_each = own * normalised.joint, own * (1.0 - np.asarray(normalised.joint))
    return (
        vectors(part.head_size, 2.0 * shared, both),
        *(vectors(width, of_all, both) for width in (heads.query_width, heads.key_width)),
        *(table(number, part.head_size, of_each, both) for number in (heads.query, heads.key_value)),
    )
