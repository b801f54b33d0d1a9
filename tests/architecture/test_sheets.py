"""Every field of every sheet says what it means, and every number in which unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, Field

import hardware.measured
import simulator.corpus.schema
import simulator.specs.loading
import simulator.specs.serving.plan
import simulator.specs.serving.stack
from hardware.fields import BESIDE, COUNTED, PHYSICAL, Unit, unit_of
from hardware.quantity import SI, UNITS
from hardware.schema import meanings, summary
from hardware.sheet import Provenance, Sheet
from simulator.corpus.schema import RunPart
from simulator.specs.loading import ScenarioFile


def _below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A class and all that are derived from it, of the product."""
    yield kind
    for derived in kind.__subclasses__():
        yield from _below(derived)


def _sheets() -> list[type[BaseModel]]:
    kinds: set[type[BaseModel]] = {ScenarioFile, *_below(Provenance), *_below(Sheet), *_below(RunPart)}
    return sorted((kind for kind in kinds if not kind.__module__.startswith("tests")), key=lambda kind: kind.__name__)


def _has_number(annotation: Any) -> bool:
    """Whether a type holds numbers, outside the sheets inside it and the keys of mappings."""
    if annotation in (int, float):
        return True
    inside = get_args(annotation)
    keyed = getattr(annotation, "__origin__", None) is dict
    return any(_has_number(part) for part in (inside[1:] if keyed else inside))


def _faults(kind: type[BaseModel]) -> list[str]:
    """What the fields of a sheet do not say."""
    words, known = meanings(kind), {*PHYSICAL, *COUNTED, BESIDE}
    faults = [f"{kind.__name__}.{name} has no description" for name in kind.model_fields if not words.get(name)]
    for name, field in kind.model_fields.items():
        unit = unit_of(field)
        if unit is None and _has_number(field.annotation):
            faults.append(f"{kind.__name__}.{name} has no unit")
        if unit is not None and unit not in known:
            faults.append(f"{kind.__name__}.{name} has the unknown unit {unit}")
    return faults


def test_all_sheets_are_walked() -> None:
    names = {kind.__name__ for kind in _sheets()}
    assert {"Device", "System", "Link", "Model", "Training", "Stack", "Overlap", "Defaults", "Plan"} <= names
    assert {"Workload", "Price", "Ownership", "Reliability", "MeasuredProfile", "Run", "ScenarioFile"} <= names


@pytest.mark.parametrize("kind", _sheets(), ids=lambda kind: str(kind.__name__))
def test_every_field_is_described_and_every_number_has_a_unit(kind: type[BaseModel]) -> None:
    assert not _faults(kind)


@pytest.mark.parametrize("kind", _sheets(), ids=lambda kind: str(kind.__name__))
def test_descriptions_are_sentences(kind: type[BaseModel]) -> None:
    for name, words in meanings(kind).items():
        assert words[0].isupper() or words.startswith(("log(", "90th")), (name, words)
        assert words.endswith("."), (name, words)


def test_a_field_that_says_nothing_is_found() -> None:
    class Silent(RunPart):
        length: float = 1.0
        tokens: Annotated[float, Field(gt=0), Unit("furlong")] = 1.0
        """How many."""
        widths: dict[str, tuple[int, ...]] | None = None
        by_rank: dict[int, str] = {}
        flag: bool = False

    assert _faults(Silent) == [
        *(f"Silent.{name} has no description" for name in ("length", "tokens", "widths", "by_rank", "flag")),
        "Silent.length has no unit",
        "Silent.tokens has the unknown unit furlong",
        "Silent.widths has no unit",
    ]


def test_every_unit_is_used() -> None:
    used = {unit_of(field) for kind in _sheets() for field in kind.model_fields.values()}
    assert used - {None, BESIDE} == {*PHYSICAL, *COUNTED}
    assert set(SI) == set(UNITS)


def test_the_nearest_unit_counts() -> None:
    class Nested(Sheet):
        ratio: Annotated[hardware.measured.Share, Unit("s")]
        several: tuple[Annotated[int, Unit("layer")], ...]

    assert [unit_of(field) for field in Nested.model_fields.values()] == ["s", "layer"]


def test_words_below_fields_are_read_as_they_stand() -> None:
    assert meanings(simulator.corpus.schema.Measured)["mfu"].startswith("Model FLOPs utilisation, by")
    assert summary(hardware.measured.LinkConstants).startswith("One collective over so many ranks")
