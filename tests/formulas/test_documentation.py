"""Docstrings of formulas: every parameter has a unit that the glossary knows, every formula an example."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.formulas.public import formulas, glossary, title

_SECTION = re.compile(r"^(?P<name>[A-Z][a-z]+)\n-+\n", re.MULTILINE)
_PARAMETER = re.compile(r"^(?P<name>\w+)\n(?P<text>(?:    .*\n?)+)", re.MULTILINE)
_UNIT = re.compile(r"\[(?P<unit>[^\]]+)\]\s*(?:;.*)?\Z", re.DOTALL)
_UNITS = {
    "1", "1/s", "B", "B/parameter", "B/s", "FLOP", "FLOP/s", "FLOP/token", "J", "USD", "USD/J", "USD/s", "W", "device",
    "kgCO2e", "kgCO2e/J", "parameter", "s", "s/B^0.5", "sequence", "token",
}  # fmt: skip
_UNITS_OF_RETURNS = _UNITS

EVERY = pytest.mark.parametrize("formula", formulas(), ids=title)


def _sections(formula: Callable[..., Any]) -> dict[str, str]:
    text = inspect.getdoc(formula) or ""
    matches = list(_SECTION.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    return {match["name"]: text[match.end() : end] for match, end in zip(matches, ends, strict=True)}


def _unit(text: str) -> str | None:
    match = _UNIT.search(text.strip().rstrip("."))
    return match["unit"] if match else None


def test_there_are_formulas() -> None:
    assert len(formulas()) > 25


@EVERY
def test_every_parameter_is_described_with_its_unit(formula: Callable[..., Any]) -> None:
    described = {match["name"]: match["text"] for match in _PARAMETER.finditer(_sections(formula)["Parameters"])}
    assert list(described) == list(inspect.signature(formula).parameters)
    known = glossary()
    for name, text in described.items():
        unit = _unit(text)
        assert unit in _UNITS, f"{name}: {text.strip()!r} ends with no unit"
        assert name in known, f"{name} is not in the glossary"
        assert unit in known[name], f"{name} is in [{unit}] here and in {known[name]} in the glossary"


@EVERY
def test_the_return_has_a_unit(formula: Callable[..., Any]) -> None:
    assert _unit(_sections(formula)["Returns"]) in _UNITS_OF_RETURNS


@EVERY
def test_there_is_an_example(formula: Callable[..., Any]) -> None:
    assert ">>> " in _sections(formula)["Examples"]


@EVERY
def test_parameters_past_the_second_are_named(formula: Callable[..., Any]) -> None:
    kinds = [parameter.kind for parameter in inspect.signature(formula).parameters.values()]
    assert all(kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds[2:])


def test_the_glossary_lists_nothing_that_is_not_used() -> None:
    used = {name for formula in formulas() for name in inspect.signature(formula).parameters}
    assert set(glossary()) == used
