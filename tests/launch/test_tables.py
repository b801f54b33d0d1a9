"""Option tables: the fields that they name are there, and a word that is written is read as what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import simulator.launch.tables
from hardware.errors import InputError
from hardware.reading import build
from simulator.launch.documents import nested, settings_from
from simulator.launch.tables import FieldOption, OptionTable, options_of
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload

_TABLES = sorted(path.stem for path in (Path(simulator.launch.tables.__file__).parent / "options").glob("*.yaml"))
_PARTS: dict[str, type[BaseModel]] = {"plan": Plan, "workload": Workload, "model": Model}


def test_there_is_a_table_for_each_framework() -> None:
    assert len(_TABLES) >= 11
    for name in _TABLES:
        assert options_of(name).source
        assert options_of(name).release


@pytest.mark.parametrize("name", _TABLES)
def test_fields_are_those_of_a_scenario(name: str) -> None:
    table = options_of(name)
    assert table.fields or table.places
    for field in (*table.fields, *table.places):
        part, _, what = field.partition(".")
        assert what in _PARTS[part].model_fields, field


@pytest.mark.parametrize("name", _TABLES)
def test_what_is_written_is_read_as_it_was_meant(name: str) -> None:
    for field, option in options_of(name).fields.items():
        part, _, what = field.partition(".")
        for meaning in option.words.values():
            written = {option.names[0]: option.word(meaning)}
            settings = settings_from(nested(written), "run.yaml", options_of(name))
            assert settings.fields(part, what) == {what: meaning}, (field, meaning)


@pytest.mark.parametrize("name", _TABLES)
def test_what_a_table_reads_is_an_option_of_the_framework(name: str) -> None:
    table = options_of(name)
    if table.known:
        assert {option.names[0] for option in table.fields.values()} <= set(table.known)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ({"option": "a.b", "usual": 1}, {None: 1, 4: 4}),
        ({"option": "a.b"}, {None: None, 4: 4}),
        ({"option": "a.b", "unlimited": True}, {-1: None, 0: None, 7: 7}),
        ({"option": "a.b", "flag": True}, {None: False, True: True, "no": False}),
        ({"option": "a.b", "flag": True, "usual": True}, {None: True, False: False}),
        ({"option": "a.b", "flag": True, "words": {"true": "full", "false": "none"}}, {None: "none", True: "full"}),
        ({"option": "a.b", "words": {"X": "x", "Y": "y"}, "usual": "y"}, {None: "y", "x": "x", "X": "x"}),
    ],
)
def test_an_option_says_its_field(option: dict[str, Any], values: dict[Any, Any]) -> None:
    fields = {"plan.tp": FieldOption(**option)}
    table = OptionTable(framework="F", release="1", source="here", fields=fields)
    for value, meaning in values.items():
        settings = settings_from({"a": {"b": value}} if value is not None else {}, "run.yaml", table)
        assert settings.fields("plan") == ({} if meaning is None else {"tp": meaning})


def test_an_option_that_is_needed_is_asked_for() -> None:
    needed = {"plan.tp": FieldOption(option="a.b", needed=True)}
    table = OptionTable(framework="F", release="1", source="here", fields=needed)
    with pytest.raises(InputError, match=r"run.yaml: a.b is missing; add it"):
        settings_from({}, "run.yaml", table).fields("plan")


def test_a_table_with_a_key_that_there_is_not_is_refused() -> None:
    document = {
        "framework": "F",
        "release": "1",
        "source": "here",
        "fields": {"plan.tp": {"option": "a", "words2": {}}},
    }
    with pytest.raises(InputError, match="words2"):
        build(OptionTable, document)


def test_features_that_are_off_are_ignored_and_those_that_are_on_refused() -> None:
    table = OptionTable(framework="F", release="1", source="here", switches=("a.*",))
    assert settings_from({"a": {"b": False}}, "run.yaml", table).finish() == ("a.b=False",)
    with pytest.raises(InputError, match="may change time or memory"):
        settings_from({"a": {"b": True}}, "run.yaml", table).finish()
