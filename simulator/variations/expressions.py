"""What a user writes of a variation: a place in the scenario and the values that it shall take."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hardware.amounts import UNSIGNED, split_values, strip_thousands
from hardware.errors import InputError, shown

_FORM = "write PATH=VALUE,VALUE such as system.inter_node.bandwidth=0.5x,2x"
_MULTIPLE = re.compile(rf"({UNSIGNED})\s*x", re.ASCII)
_DIFFERENCE = re.compile(rf"([-+]?)({UNSIGNED})\s*%", re.ASCII)
_LONGEST = 200
"""Characters of the longest value."""

Vary = str | Iterable[str] | Mapping[str, object]
"""Expressions such as ``devices=8,16``, or places with the values of each."""


class WrongValueError(InputError):
    """A place that a scenario does not have, or a value that cannot stand there, whatever else is varied."""


@dataclass(frozen=True)
class Value:
    """One value of a place, as it was written."""

    text: str
    factor: float | None = None
    """What it multiplies the present value by, where it is a multiple or a difference."""


@dataclass(frozen=True)
class Varied:
    """A place of the scenario and the values that it takes in turn."""

    path: str
    values: tuple[Value, ...]


def parse(vary: Vary) -> tuple[Varied, ...]:
    """Read what is to be varied.

    Parameters
    ----------
    vary
        One expression ``PATH=VALUE,VALUE``, several of them, or a mapping from paths to values.

    Raises
    ------
    InputError
        Where an expression has no path or no value, or a path is given twice.

    Examples
    --------
    >>> [value.factor for value in parse("system.inter_node.bandwidth=0.5x,+20%,100 GB/s")[0].values]
    [0.5, 1.2, None]
    """
    if isinstance(vary, Mapping):
        all_varied = [_varied(str(path), _texts(values), path) for path, values in vary.items()]
    else:
        all_varied = [_expression(text) for text in ([vary] if isinstance(vary, str) else vary)]
    paths = [varied.path for varied in all_varied]
    for path in paths:
        if paths.count(path) > 1:
            raise WrongValueError(f"{path} is varied twice; give all its values at once, such as {path}=VALUE,VALUE")
    return tuple(all_varied)


def _expression(text: str) -> Varied:
    """Read one expression."""
    path, sign, values = str(text).partition("=")
    if not sign:
        raise WrongValueError(f"vary={shown(text)} has no values; {_FORM}")
    return _varied(path, split_values(values), text)


def _texts(values: object) -> list[str]:
    """The values of a mapping's entry as texts."""
    if isinstance(values, str):
        return split_values(values)
    return [str(value) for value in values] if isinstance(values, Iterable) else [str(values)]


def _varied(path: str, values: list[str], original: object) -> Varied:
    """A path with its values."""
    if not path.strip():
        raise WrongValueError(f"vary={shown(original)} names no place of the scenario; {_FORM}")
    texts = [value.strip() for value in values]
    if not texts or not all(texts):
        raise WrongValueError(f"vary={shown(original)} has an empty value; {_FORM}")
    return Varied(path.strip(), tuple(_value(path.strip(), text) for text in texts))


def _value(path: str, text: str) -> Value:
    """One value: a multiple, a difference, or what is to stand there."""
    if len(text) > _LONGEST:
        raise WrongValueError(f"{path}={shown(text)}: a value has at most {_LONGEST} characters")
    if multiple := _MULTIPLE.fullmatch(text):
        return Value(text, _positive(path, text, _number(multiple[1])))
    if difference := _DIFFERENCE.fullmatch(text):
        sign, share = difference[1], _number(difference[2]) / 100.0
        if not sign:
            raise WrongValueError(f"{path}={shown(text)}: write +{text} or -{text}, or a multiple such as 0.5x")
        return Value(text, _positive(path, text, 1.0 + share if sign == "+" else 1.0 - share))
    return Value(text)


def _number(text: str) -> float:
    """A written number."""
    return float(strip_thousands(text))


def _positive(path: str, text: str, factor: float) -> float:
    """A factor that leaves something to estimate."""
    if not 0.0 < factor < math.inf:
        raise WrongValueError(f"{path}={shown(text)}: must leave more than nothing and be finite, such as 0.5x or -20%")
    return float(f"{factor:.15g}")
