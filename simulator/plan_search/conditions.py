"""Conditions on plans, such as ``tp<=8,sharding!=zero3``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from hardware.amounts import read_number
from hardware.errors import InputError, shown, unknown
from simulator.specs.choices import EVERY_RECOMPUTE, SCHEDULES, SHARDINGS
from simulator.specs.plan import Plan
from simulator.step.chances import read_wished

_NUMBERS = ("tp", "pp", "cp", "dp", "ep", "etp", "micro_batch", "micro_batches", "virtual_stages", "sharding_group")
_NAMES: dict[str, tuple[str, ...]] = {
    "sharding": SHARDINGS,
    "schedule": SCHEDULES,
    "recompute": EVERY_RECOMPUTE,
    "sequence_parallel": ("yes", "no"),
    "offload_optimizer": ("yes", "no"),
}
_YES = {"true": "yes", "1": "yes", "on": "yes", "false": "no", "0": "no", "off": "no"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FIELDS = (*_NUMBERS, *_NAMES, "placement")
_CHANCE = "fits"
"""What is no field of a plan: the probability that it fits in memory."""
_MOST = 1000
"""Characters of a list of conditions."""


@dataclass(frozen=True)
class Condition:
    """What one field of a plan must be."""

    field: str
    compare: str
    values: tuple[Any, ...]
    """The values of which the field must have one, or none where it must differ."""

    def __str__(self) -> str:
        return f"{self.field}{self.compare}{'|'.join(map(written, self.values))}"

    def keeps(self, value: Any) -> bool:
        """Whether a value of the field meets it."""
        if self.compare == "!=":
            return all(value != each for each in self.values)
        return any(_COMPARE[self.compare](value, each) for each in self.values)


def parse(text: str | None) -> tuple[Condition, ...]:
    """Read conditions that are separated by commas; alternatives are separated by ``|``.

    Raises
    ------
    InputError
        With the condition that cannot be read, and what could be.

    Examples
    --------
    >>> [(c.field, c.compare, c.values) for c in parse("tp<=8, sharding=zero1|zero3")]
    [('tp', '<=', (8.0,)), ('sharding', '=', ('zero1', 'zero3'))]
    """
    if text is None:
        return ()
    if not isinstance(text, str):
        raise InputError(f"where={shown(text)}: write conditions as text, such as tp<=8")
    if len(text) > _MOST:
        raise InputError(f"where: {len(text)} characters are too long; write at most {_MOST}")
    return tuple(_condition(part.strip()) for part in text.split(",") if part.strip())


def _condition(text: str) -> Condition:
    """Read one condition."""
    match = re.fullmatch(r"(\w[\w-]*)\s*(<=|>=|!=|==|=|<|>)\s*(.+)", text)
    if match is None:
        raise InputError(f"where={shown(text)}: write a field, a comparison and a value, such as tp<=8")
    name, compare, right = match[1].replace("-", "_"), match[2], match[3]
    if name == _CHANCE:
        if compare != ">=":
            raise InputError(f"where={shown(text)}: write a least probability of fitting, such as fits>=0.8")
        return Condition(name, compare, (read_wished(right.strip()),))
    if name not in _FIELDS:
        raise unknown("field of a plan in where", name, [*_FIELDS, _CHANCE], fields=["where"])
    if name not in _NUMBERS and compare not in ("=", "==", "!="):
        raise InputError(f"where={shown(text)}: {name} has no order; compare it with = or !=")
    return Condition(name, compare, tuple(_value(name, part.strip(), text) for part in right.split("|")))


def _value(name: str, text: str, whole: str) -> Any:
    """Read the value that a field is compared with."""
    if name == "placement":
        order = tuple(text.split("-"))
        if sorted(order) != ["cp", "dp", "pp", "tp"]:
            raise InputError(f"where={shown(whole)}: name tp, cp, dp and pp once each, such as tp-cp-dp-pp")
        return order
    if name in _NAMES:
        value = _YES.get(text.lower(), text.lower()) if "yes" in _NAMES[name] else text.lower()
        if value not in _NAMES[name]:
            raise InputError(f"where={shown(whole)}: {name} is one of {', '.join(_NAMES[name])}")
        return value == "yes" if "yes" in _NAMES[name] else value
    read = read_number(text)
    if read is None or not abs(read) < 1e15:
        raise InputError(f"where={shown(whole)}: {name} is compared with a number")
    return float(read)


def refuse_contradicting(wanted: Iterable[Condition]) -> None:
    """Refuse conditions on one field that no value keeps together.

    Raises
    ------
    InputError
        With those of the first such field, and how alternatives are written.

    Examples
    --------
    >>> refuse_contradicting(parse("tp=8,tp=4"))
    Traceback (most recent call last):
    hardware.errors.InputError: where: no plan keeps tp=8 and tp=4; write alternatives as tp=8|4
    """
    by_field: dict[str, list[Condition]] = {}
    for one in wanted:
        by_field.setdefault(one.field, []).append(one)
    for name, conditions in by_field.items():
        if name == _CHANCE or any(all(one.keeps(value) for one in conditions) for value in _possible(name, conditions)):
            continue
        told = list(dict.fromkeys(map(str, conditions)))
        equals = [value for one in conditions if one.compare in ("=", "==") for value in one.values]
        either = f"; write alternatives as {name}={'|'.join(map(written, equals))}" if len(equals) > 1 else ""
        raise InputError(f"where: no plan keeps {' and '.join(told)}{either}", fields=["where"])


def _possible(name: str, conditions: Sequence[Condition]) -> list[Any]:
    """Values of a field among which is one that all conditions allow, where any value does."""
    if name in _NAMES:
        return [True, False] if "yes" in _NAMES[name] else list(_NAMES[name])
    if name == "placement":
        return list(permutations(("tp", "cp", "dp", "pp")))
    least = 0 if name == "sharding_group" else 1
    near = {math.floor(value) + step for one in conditions for value in one.values for step in (-1, 0, 1)}
    return sorted(value for value in near | {least} if value >= least)


def written(value: Any) -> str:
    """A value as conditions write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-".join(value) if isinstance(value, tuple) else f"{value:.15g}" if isinstance(value, float) else str(value)


def apart(wanted: Iterable[Condition], fits: float) -> tuple[tuple[Condition, ...], float]:
    """Conditions on fields of plans, and the probability with which plans have to fit.

    Parameters
    ----------
    wanted
        All conditions.
    fits
        The probability, where none of them names one; the largest of several.

    Examples
    --------
    >>> fields, fits = apart(parse("tp<=8, fits>=90%"), 0.8)
    >>> [each.field for each in fields], fits
    (['tp'], 0.9)
    """
    every = tuple(wanted)
    chances = [each.values[0] for each in every if each.field == _CHANCE]
    return tuple(each for each in every if each.field != _CHANCE), max(chances, default=fits)


def of_plan(plan: Plan) -> tuple[Condition, ...]:
    """Conditions that a plan makes which leaves some fields open."""
    said: Mapping[str, Any] = {name: getattr(plan, name) for name in _FIELDS if name != "micro_batches"}
    return tuple(Condition(name, "=", (value,)) for name, value in said.items() if value is not None)
