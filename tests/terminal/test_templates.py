"""Files to begin with: each is read as it is, says what its entry says, and explains every field."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hardware import catalogue
from hardware.errors import InputError
from hardware.reading import parse_yaml
from simulator.corpus import runs
from simulator.specs.loading import load_model, load_scenario, load_stack
from simulator.terminal.files.examples import WORDS, examples_of
from simulator.terminal.files.kinds import KINDS, kind_of, sections
from simulator.terminal.files.templates import template

_LOADED: dict[str, Callable[[Path], Any]] = {
    "device": catalogue.load_device,
    "system": catalogue.load_system,
    "model": load_model,
    "stack": load_stack,
    "scenario": load_scenario,
    "runs": lambda path: runs.load([path])[0],
    "prices": lambda path: catalogue.load_prices(path)[0],
}
_ITSELF = {
    *("id", "name", "title", "note", "timed_as", "price", "collection"),
    *("published_parameters", "published_parameters_tolerance"),
}
"""Fields that tell of an entry itself."""
_NOT_ALONE = {
    *("decoder_layers", "devices_per_pod", "cross_pod", "dimensions", "bridge", "experts_per_token"),
    *("target_length", "steps"),
    *("value_head_size", "query_rank", "key_value_rank", "rotary_head_size", "maps_words", "position_products"),
    "dense_layers",
}
"""Fields that need another, or that some other excludes."""


def _entries(word: str) -> list[str]:
    names = examples_of(KINDS[word]).names()
    return names[::90] if word == "runs" else names


def _written(word: str, folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def _said(sheet: BaseModel, outer: bool = True) -> dict[str, Any]:
    """What a sheet says, without what it says of itself and keys that its schema does not name."""
    kept = {name: value for name, value in sheet if name in type(sheet).model_fields}
    plain = {name: _said(value, outer=False) if isinstance(value, BaseModel) else value for name, value in kept.items()}
    return {name: value for name, value in plain.items() if name not in (_ITSELF if outer else {"note"})}


@pytest.mark.parametrize(("word", "entry"), [(word, entry) for word in WORDS for entry in _entries(word)])
def test_every_entry_can_be_begun_with(tmp_path: Path, word: str, entry: str) -> None:
    begun = template(KINDS[word], "mine", like=entry)
    again = _LOADED[word](_written(word, tmp_path, begun.text))
    original = _LOADED[word](_original(word, entry))
    said, was = _said(again), _said(original)
    for sheet in (said, was):
        if word in ("model", "stack"):
            sheet.pop("source")
    assert said == was
    assert getattr(again, "id", "mine") == "mine"


def _original(word: str, entry: str) -> Any:
    """What an entry is loaded by; loose ones as they are."""
    if word == "runs":
        (run,) = runs.named([entry])
        return _Ready(run)
    if word == "prices":
        return _Ready(next(offer for offer in catalogue.prices() if offer.id == entry))
    return entry


class _Ready:
    """An entry that needs no loading."""

    def __init__(self, sheet: Any) -> None:
        self.sheet = sheet


for _word in ("runs", "prices"):
    _load = _LOADED[_word]
    _LOADED[_word] = lambda path, load=_load: path.sheet if isinstance(path, _Ready) else load(path)  # type: ignore[misc]


@pytest.mark.parametrize("word", WORDS)
def test_every_field_is_explained_with_its_unit(word: str) -> None:
    told = " ".join(template(KINDS[word], "mine").text.replace("#", " ").split())
    for section in sections(KINDS[word]):
        for row in section.rows:
            if row.field in ("id", "collection") and word in ("prices", "runs"):
                continue
            assert f"{row.field}:" in told, row.field
            if section.place.count(",") == 0:
                assert " ".join(row.meaning.split()) in told, row.field
            if row.unit not in ("", "1") and "with unit" not in row.form:
                assert f"unit: {row.unit}]" in told, row.field


@pytest.mark.parametrize("word", WORDS)
def test_lines_are_readable(word: str) -> None:
    text = template(KINDS[word], "mine").text
    assert max(len(line) for line in text.splitlines() if line.lstrip().startswith("# ")) <= 104
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert "  \n" not in text


def _fields_behind(text: str) -> list[tuple[int, str]]:
    """Every field behind #: its line and name; of a sheet behind #, the line where it begins."""
    matches = re.finditer(r"^ *#([a-z0-9_]+):.*$", text, re.MULTILINE)
    return [(text[: match.start()].count("\n"), match[1]) for match in matches]


def _with_field(text: str, number: int) -> str:
    """A file with one field given that stands behind #, and all that is inside it."""
    lines = text.split("\n")
    indent = lines[number].index("#")
    head = " " * indent + "#"
    lines[number] = lines[number].replace("#", "", 1)
    for at in range(number + 1, len(lines)):
        if not lines[at].startswith(head + "  "):
            break
        lines[at] = " " * indent + lines[at][indent + 1 :]
    return "\n".join(lines)


@pytest.mark.parametrize("word", WORDS)
def test_every_field_behind_a_mark_can_be_given(tmp_path: Path, word: str) -> None:
    text = template(KINDS[word], "mine").text
    before = parse_yaml(text, "mine")
    behind = _fields_behind(text)
    assert len(behind) > 1
    for number, field in behind:
        changed = _with_field(text, number)
        assert parse_yaml(changed, "mine") != before, field
        try:
            _LOADED[word](_written(word, tmp_path, changed))
        except InputError as error:
            if field not in _NOT_ALONE:
                raise AssertionError(f"{field}: {error}") from None


def test_a_kind_that_nobody_begins_by_hand_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"plan: is no file to begin with \(it is a part of a scenario\); valid: device"
    ):
        template(kind_of("plan"), "mine")
    with pytest.raises(InputError, match=r"profile: is no file to begin with \(capsim calibrate writes it\)"):
        template(kind_of("profile"), "mine")


@pytest.mark.parametrize("name", ["", "Mine", "my cluster", "-mine", "mine.yaml", "m" * 81, "../mine", "a\nb"])
def test_a_name_that_is_no_word_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="must be a word of lower-case letters"):
        template(kind_of("system"), name)


@pytest.mark.parametrize("name", ["1e5", "null", "true", "2026", "no"])
def test_a_name_that_yaml_takes_for_something_else_stays_a_word(tmp_path: Path, name: str) -> None:
    for word in ("system", "prices"):
        text = template(KINDS[word], name).text
        assert _LOADED[word](_written(word, tmp_path, text)).id == name


def test_an_unknown_entry_is_refused() -> None:
    with pytest.raises(InputError, match="unknown entry of stack 'pytorch-fsd'; did you mean pytorch-fsdp"):
        template(kind_of("stack"), "mine", like="pytorch-fsd")


def test_the_command_fits_the_entry() -> None:
    assert template(kind_of("stack"), "mine", like="xla-tpu").use.endswith("--system tpu-v4-pod --stack mine.yaml")
    offer = next(offer for offer in catalogue.prices() if offer.device == "h100-sxm5-80gb")
    use = template(kind_of("prices"), "mine", like=offer.id, file="ours.yaml").use
    assert use.endswith("--system h100-sxm5-80gb --price ours.yaml")
