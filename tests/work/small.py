"""Transformers so small that what they execute can be worked out by hand, and what an operator says in few words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simulator.pricing.requests import Collective, FusedAttention, MatrixProduct, Send, Stream
from simulator.work.operators import Operator
from simulator.work.program import Block, Program
from tests.work.asking import plain, program

SIZES: dict[str, Any] = {
    "layers": 2,
    "hidden_size": 48,
    "attention_heads": 6,
    "head_size": 8,
    "feed_forward_size": 80,
    "vocabulary_size": 101,
}
"""On 2 tensor-parallel ranks each has 3 heads, 40 of the feed-forward width, and 51 words."""
WORK = {"sequence_length": 20, "global_batch": 24}
"""With 3 sequences in a micro-batch a rank handles 60 tokens."""
WHOLE = 60 * 48 * 2
"""Bytes of an activation of 60 tokens, 48 wide, in 16 bits."""
SHARED = WHOLE // 2
"""Of one half of its tokens, where two ranks share them."""


def small(base: str, plan: dict[str, Any] | None = None, *, sizes: dict[str, Any] | None = None, **how: Any) -> Program:
    """A small model on 8 devices, tensor-parallel by 2 with shared tokens unless told."""
    full_plan = {
        "tp": 2,
        "dp": 4,
        "micro_batch": 3,
        "sequence_parallel": True,
        "parameters_in_fp32": False,
        **(plan or {}),
    }
    model = {"base": base, **SIZES, **(sizes or {})}
    work = {**WORK, **how.pop("workload", {})}
    return program(model, full_plan, devices=8, workload=work, **how)


def named(block: Block, name: str, at: int = 0) -> Operator:
    """The operator of a name, the first of several unless told."""
    return [each for each in block.operators if each.name == name][at]


def sizes(operator: Operator) -> tuple[float, ...]:
    """Of a product m, n, k, batch and how many there are."""
    call = operator.forward[0]
    assert isinstance(call.request, MatrixProduct)
    asked = call.request
    return tuple(plain(each) for each in (asked.m, asked.n, asked.k, asked.batch, call.count))


def moved(operator: Operator) -> tuple[float, float]:
    """Bytes that kernels move forward and backward."""
    ahead, back = operator.forward[0].request, operator.backward[0].request
    assert isinstance(ahead, Stream)
    assert isinstance(back, Stream)
    return plain(ahead.moved_bytes), plain(back.moved_bytes)


def drawn(operator: Operator) -> tuple[float, float]:
    """Random numbers that are drawn forward and backward."""
    ahead, back = operator.forward[0].request, operator.backward[0].request
    assert isinstance(ahead, Stream)
    assert isinstance(back, Stream)
    return plain(ahead.drawn), plain(back.drawn)


def launches(operator: Operator) -> tuple[float, float]:
    """Kernels that the host launches forward and backward."""
    return _sum(each.kernels for each in operator.forward), _sum(each.kernels for each in operator.backward)


def counts(operator: Operator) -> tuple[float, float]:
    """How often its requests are made forward and backward."""
    return _sum(each.count for each in operator.forward), _sum(each.count for each in operator.backward)


def group(operator: Operator) -> tuple[float, ...]:
    """Bytes, degree and stride of what links carry."""
    asked = operator.forward[0].request
    assert isinstance(asked, Collective | Send)
    return tuple(plain(each) for each in (asked.message_bytes, asked.degree, asked.stride))


def heads(operator: Operator) -> tuple[float, ...]:
    """Of fused attention queries, keys, batch, heads, heads of keys and values, and their width."""
    asked = operator.forward[0].request
    assert isinstance(asked, FusedAttention)
    of = (asked.queries, asked.keys, asked.batch, asked.heads, asked.key_value_heads, asked.head_size)
    return tuple(plain(each) for each in of)


def saved(operator: Operator) -> float:
    """Bytes that it keeps for the backward pass."""
    return plain(operator.kept.saved)


def owned(operator: Operator) -> tuple[float, float]:
    """Its parameters, and those of them whose gradient each rank has of its tokens only."""
    return plain(operator.kept.parameters), plain(operator.kept.partial_parameters)


def _sum(numbers: Iterable[Any]) -> float:
    return sum(plain(each) for each in numbers)
