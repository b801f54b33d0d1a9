"""``capsim schema``: what it prints for every kind of file."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from simulator.terminal.files.kinds import KINDS, sections
from tests.commands.conftest import Capsim, assert_one_sentence


@pytest.mark.parametrize("word", KINDS)
def test_every_kind_is_told_in_eighty_columns(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = capsim("schema", word)
    assert (outcome.status, outcome.err) == (0, "")
    told = outcome.out.splitlines()
    assert max(map(len, told)) <= 80
    assert told[0].startswith(f"{word}: ")
    for row in (row for section in sections(KINDS[word]) for row in section.rows):
        line = next(line for line in told if line.split(" ")[0] == row.field)
        assert line.rstrip() == line
    assert {len(row.meaning) > 5 for section in sections(KINDS[word]) for row in section.rows} == {True}


@pytest.mark.parametrize("word", KINDS)
def test_json_is_a_schema_of_the_dialect_that_it_names(capsim: Capsim, word: str) -> None:
    outcome = capsim("schema", word, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    document = outcome.json
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["title"].startswith(f"capsim {word}: ")
    names = {ref.rpartition("/")[2] for ref in _refs(document)}
    assert names <= set(document.get("$defs", {}))
    if find_spec("jsonschema") is not None:
        from jsonschema import Draft202012Validator

        Draft202012Validator.check_schema(document)


def _refs(part: Any) -> list[str]:
    """Every reference of a schema."""
    if isinstance(part, dict):
        own = [part["$ref"]] if "$ref" in part else []
        return own + [ref for value in part.values() for ref in _refs(value)]
    return [ref for value in part for ref in _refs(value)] if isinstance(part, list) else []


def test_an_unknown_kind_is_refused(capsim: Capsim) -> None:
    assert_one_sentence(capsim("schema", "sistem"), "unknown kind of file 'sistem'", "did you mean system")
    assert_one_sentence(capsim("schema"), "kind")
