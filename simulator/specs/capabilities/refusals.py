"""Combinations that software refuses, as data: a condition on a plan, evaluated for one plan or for millions."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import cache, reduce
from string import Formatter
from typing import Annotated, Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from hardware.classes import Precision
from hardware.errors import nearest, shown
from hardware.sheet import Seen, Sheet, Words
from simulator.specs.choices import EVERY_RECOMPUTE, OPTIMIZERS, SCHEDULES, SHARDINGS

Terms = Mapping[str, NDArray[Any]]
"""Values of `NUMBERS` and `WORDS` by name; they broadcast against each other."""
Mask = NDArray[np.bool_]

OF_PLANS = (
    *("dp", "tp", "pp", "cp", "ep", "etp", "virtual_stages", "first_stage_layers", "last_stage_layers"),
    *("micro_batch", "micro_batches", "sequence_parallel", "sharding_group", "offload_optimizer"),
    *("optimizer_in_backward", "activation_inputs_in_fp8", "gradients_in_fp32", "dp_stride", "pp_stride"),
)
"""Numbers of a plan that a condition may name; flags are 0 or 1, and a stride is the distance between ranks."""
NUMBERS = (
    *OF_PLANS,
    *("layers", "attention_heads", "key_value_heads", "experts", "tied_head", "sequence_length", "global_batch"),
    *("quantised_base", "multi_token"),
)
"""All numbers that a condition may name."""
WORDS: dict[str, tuple[str, ...]] = {
    "sharding": SHARDINGS,
    "schedule": SCHEDULES,
    "recompute": EVERY_RECOMPUTE,
    "optimizer": OPTIMIZERS,
    "precision": get_args(Precision),
}
"""Fields of a plan whose values are words."""
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Mod: np.mod,
    ast.FloorDiv: np.floor_divide,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda values, among: np.isin(values, among),
    ast.NotIn: lambda values, among: ~np.isin(values, among),
}
_MOST = 1_000_000_000
"""The largest number in a condition."""
_EXAMPLE = "pp > 1 and sharding in ('zero2', 'zero3')"


class Refusal(Sheet):
    """A combination that software refuses."""

    when: Annotated[str, Field(min_length=1, max_length=300)]
    """What holds of the plans that are refused, such as ``pp > 1 and sharding in ('zero2', 'zero3')``: comparisons of
    fields, numbers and words with ``and``, ``or``, ``not``, ``+``, ``-``, ``*``, ``//`` and ``%`` (the remainder)."""
    sentence: Words
    """Why, and what would do; ``{pp}`` stands for the plan's value of a field."""
    source: Words
    """Repository, file and release where it is refused."""
    seen: Seen = "primary"
    """How that was seen: in the code, in a quotation of it, by arithmetic, or from memory only."""

    @field_validator("when")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        _checked(_tree(value), value)
        return value

    @field_validator("sentence")
    @classmethod
    def _can_be_written(cls, value: str) -> str:
        for _, name, form, conversion in Formatter().parse(value):
            if name is not None and (name not in (*NUMBERS, *WORDS) or form or conversion):
                raise ValueError(f"{shown('{' + name + '}')} is no field that a sentence can name")
        return value

    @property
    def names(self) -> frozenset[str]:
        """The fields that it is about."""
        return names_in(self.when)

    def holds(self, terms: Terms) -> Mask:
        """Which plans are refused; it broadcasts over the terms that it names."""
        with np.errstate(all="ignore"):
            return np.asarray(_value(_tree(self.when), terms), dtype=np.bool_)


@cache
def _tree(condition: str) -> ast.expr:
    """A condition as a tree.

    Raises
    ------
    ValueError
        Where it is none.
    """
    try:
        return ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{shown(condition)} cannot be read; write a condition such as {_EXAMPLE}") from None


@cache
def names_in(condition: str) -> frozenset[str]:
    """The fields that a condition names."""
    return frozenset(node.id for node in ast.walk(_tree(condition)) if isinstance(node, ast.Name))


def _checked(tree: ast.expr, condition: str) -> None:
    """Refuse what is no condition on a plan.

    Raises
    ------
    ValueError
        With the part that is none.
    """
    faults = (fault for node in ast.walk(tree) if (fault := _fault(node)) is not None)
    fault = next(faults, None)
    if fault is None and not isinstance(tree, ast.Compare | ast.BoolOp | ast.UnaryOp):
        fault = "nothing is compared"
    if fault is not None:
        raise ValueError(f"{shown(condition)}: {fault}; write a condition such as {_EXAMPLE}")


def _fault(node: ast.AST) -> str | None:
    """What is wrong with a part of a condition."""
    if isinstance(node, ast.Name) and node.id not in (*NUMBERS, *WORDS):
        close = nearest(node.id, (*NUMBERS, *WORDS))
        return f"{shown(node.id)} is no field of a plan{', did you mean ' + ' or '.join(close) if close else ''}"
    if isinstance(node, ast.Constant) and not isinstance(node.value, str):
        whole = isinstance(node.value, int) and not isinstance(node.value, bool) and node.value <= _MOST
        return None if whole else f"{shown(str(node.value))} is neither a whole number up to {_MOST:,} nor a word"
    if isinstance(node, ast.Compare):
        word = next(_strange_words(node), None)
        return None if word is None else f"{shown(word)} is no value of what it is compared with"
    return None if isinstance(node, _ALLOWED) else "it holds what no condition may"


_ALLOWED: tuple[type[ast.AST], ...] = (
    *(ast.Name, ast.Load, ast.Constant, ast.Tuple),
    *(ast.Compare, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.BinOp),
    *_ARITHMETIC,
    *_COMPARISONS,
)


def _strange_words(node: ast.Compare) -> Iterator[str]:
    """Words that a field is compared with and cannot be, and words compared with numbers."""
    sides = [node.left, *node.comparators]
    known = {word for side in sides if isinstance(side, ast.Name) for word in WORDS.get(side.id, ())}
    for side in sides:
        for part in side.elts if isinstance(side, ast.Tuple) else [side]:
            if isinstance(part, ast.Constant) and (isinstance(part.value, str) or known) and part.value not in known:
                yield str(part.value)


def _value(node: ast.expr, terms: Terms) -> Any:
    """The value of a part of a condition."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return terms[name]
        case ast.Tuple(elts=parts):
            return [_value(part, terms) for part in parts]
        case ast.UnaryOp(operand=inner):
            return ~np.asarray(_value(inner, terms), dtype=np.bool_)
        case ast.BoolOp(op=joined, values=parts):
            join = operator.and_ if isinstance(joined, ast.And) else operator.or_
            return reduce(join, (np.asarray(_value(part, terms), dtype=np.bool_) for part in parts))
        case ast.BinOp(left=left, op=sign, right=right):
            return _ARITHMETIC[type(sign)](_value(left, terms), _value(right, terms))
        case ast.Compare(left=left, ops=signs, comparators=others):
            sides = [_value(side, terms) for side in (left, *others)]
            pairs = zip(sides, signs, sides[1:], strict=False)
            return reduce(operator.and_, (_COMPARISONS[type(sign)](one, other) for one, sign, other in pairs))
    raise AssertionError(node)
