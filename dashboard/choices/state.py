"""What is chosen on a page, and the same as the query of a link: pure, without streamlit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hardware.amounts import read_number
from hardware.errors import nearest, shown
from hardware.quantity import read_amount

Value = str | int | float | bool
Kind = Literal["choice", "level", "several", "whole", "amount", "money", "flag", "text"]
"""One of the options; the same on a slider; several of them, separated by commas; numbers, USD, yes or no, anything."""

_MOST = 10**15
"""No whole number that somebody means is larger."""
_FLAGS = {"yes": True, "no": False}


@dataclass(frozen=True)
class Field:
    """Something that can be chosen."""

    name: str
    """In links, in the session, and where a scenario has it, there."""
    label: str
    kind: Kind
    options: tuple[str, ...] = ()
    """Of a choice, a level or several."""
    default: Value | None = None
    """What it is unless somebody chooses; nothing where it then stays open."""
    group: str = ""
    """The part of a scenario that it belongs to, such as ``plan``."""
    labels: tuple[str, ...] = ()
    """What options are called, where not by their names."""
    example: str = ""
    """Of a text or an amount, or what an open choice says."""
    longest: int = 200
    """Characters of a text."""

    def read(self, text: str) -> Value:
        """What a text means.

        Raises
        ------
        ValueError
            One sentence that says what would be valid.
        """
        value: Value | None = _READERS[self.kind](self, text.strip())
        if value is None:
            raise ValueError(f"{self.name}={shown(text)}: {self._valid(text)}")
        return value

    def write(self, value: Value) -> str:
        """A value as a text that `read` understands."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if not isinstance(value, float):
            return str(value)
        short = f"{value:.15g}"
        return short if float(short) == value else f"{value:.17g}"

    def _valid(self, text: str) -> str:
        """What would be valid instead of a text."""
        if self.options:
            wrong = next((each for each in text.split(",") if each.strip() not in self.options), text)
            close = nearest(wrong.strip(), self.options)
            known = ", ".join(self.options[:12]) + (", ..." if len(self.options) > 12 else "")
            return f"did you mean {' or '.join(close)}?" if close else f"valid: {known}"
        words = {
            "whole": "write a whole number from 1",
            "amount": f"write a number such as {self.example or '780B'}",
            "money": f"write an amount of USD such as {self.example or '$50k'}",
            "flag": "write yes or no",
            "text": f"write at most {self.longest:,} characters, such as {self.example}",
        }
        return words[self.kind]


def _whole(_: Field, text: str) -> Value | None:
    """A whole number from 1, also written as 1e6 or 4k."""
    number = read_number(text)
    return number if isinstance(number, int) and 1 <= number <= _MOST else None


def _amount(_: Field, text: str) -> Value | None:
    """A positive number, also written as 780B."""
    number = read_number(text)
    return float(number) if number is not None and number > 0 else None


def _money(_: Field, text: str) -> Value | None:
    """A positive amount of USD, also written as $50k."""
    try:
        dollars = read_amount(text, "sum of money")
    except ValueError:
        return None
    return dollars if 0 < dollars < math.inf else None


def _text(field: Field, text: str) -> Value | None:
    """Anything printable of moderate length."""
    return text if text and len(text) <= field.longest and text.isprintable() else None


def _several(field: Field, text: str) -> Value | None:
    """Some of the options, each of them once, in their order."""
    named = {each.strip() for each in text.split(",")}
    return ",".join(each for each in field.options if each in named) if named <= set(field.options) else None


_READERS: dict[Kind, Callable[[Field, str], Value | None]] = {
    "choice": lambda field, text: text if text in field.options else None,
    "level": lambda field, text: text if text in field.options else None,
    "several": _several,
    "whole": _whole,
    "amount": _amount,
    "money": _money,
    "flag": lambda _, text: _FLAGS.get(text.lower()),
    "text": _text,
}


@dataclass(frozen=True)
class Choices:
    """What is chosen, by the name of its field; hashable, so that answers can be kept by it."""

    values: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Value | None]) -> Choices:
        """Choices by name; nothing is an open one."""
        return cls(tuple(sorted((name, value) for name, value in values.items() if value is not None)))

    def __getitem__(self, name: str) -> Value | None:
        """What is chosen, or nothing."""
        return dict(self.values).get(name)

    def text(self, name: str) -> str:
        """What is chosen where it is a text that is never open."""
        return str(self[name])

    def whole(self, name: str) -> int:
        """What is chosen where it is a whole number that is never open."""
        value = self[name]
        return int(value) if isinstance(value, int) else 0

    def change(self, values: Mapping[str, Value | None]) -> Choices:
        """The choices with other values for some fields; None leaves a field open."""
        return Choices.of({**dict(self.values), **values})

    def only(self, fields: Iterable[Field]) -> Choices:
        """Those of some fields."""
        names = {field.name for field in fields}
        return Choices(tuple((name, value) for name, value in self.values if name in names))


def opening(fields: Iterable[Field]) -> Choices:
    """What a page shows before anybody chose."""
    return Choices.of({field.name: field.default for field in fields})


def is_of_session(field: Field, value: Value | None) -> bool:
    """Whether a choice is none of its options: something that only one session has, such as an upload."""
    return field.kind == "choice" and value is not None and value not in field.options


def to_query(choices: Choices, fields: Iterable[Field]) -> dict[str, str]:
    """The query of a link, without what is as usual; an opened field whose usual value is not open is empty.

    What only one session has stays out of links.
    """
    query: dict[str, str] = {}
    for field in fields:
        value = choices[field.name]
        if is_of_session(field, value):
            continue
        if value != field.default or type(value) is not type(field.default):
            query[field.name] = "" if value is None else field.write(value)
    return query


def from_query(query: Mapping[str, str], fields: Iterable[Field]) -> tuple[Choices, list[str]]:
    """What a link says, and a sentence for each part of it that is wrong, in whose place the usual value stands.

    Parameters
    ----------
    query
        Names and texts.
    fields
        Those that the page knows.
    """
    known = {field.name: field for field in fields}
    values: dict[str, Value | None] = {name: field.default for name, field in known.items()}
    problems = []
    for name, text in query.items():
        if name not in known:
            close = nearest(name, known, most=1)
            hint = f"did you mean {close[0]}?" if close else "it is left out"
            problems.append(f"The link names {shown(name)}, which this page does not know; {hint}")
        elif text == "":
            values[name] = known[name].default if known[name].kind in ("choice", "level") else None
        else:
            try:
                values[name] = known[name].read(text)
            except ValueError as error:
                problems.append(f"The link says {error}")
    return Choices.of(values), problems
