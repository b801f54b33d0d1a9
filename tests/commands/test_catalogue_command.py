"""``capsim catalogue``: every part, every entry, for people and for programs."""

from __future__ import annotations

import doctest
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hardware import catalogue
from hardware.quantity import parse
from simulator.specs.loading import load_model, names
from simulator.terminal import catalogue as browse
from tests.commands.conftest import Capsim, assert_one_sentence
from tests.thorough import cases

ROOT = Path(__file__).parents[2]
_PARTS = {
    "devices": "a100-sxm4-80gb",
    "systems": "dgx-a100-640gb",
    "models": "bert-large",
    "stacks": "megatron-lm",
    "prices": "aws-p4d.24xlarge",
    "classes": "a100-sxm",
    "profiles": "a100-sxm",
    "links": "nvlink3",
    "grids": "world",
    "overheads": "default",
    "failures": "hopper",
    "sites": "default",
    "measurements": "0",
    "reliability": "0",
    "differences": "0",
}


def test_the_parts(capsim: Capsim) -> None:
    outcome = capsim("catalogue")
    assert (outcome.status, outcome.err) == (0, "")
    listed = [line.split()[0] for line in outcome.out.splitlines()[1:] if line.strip()]
    assert listed[: len(_PARTS)] == list(_PARTS)
    counts = capsim("catalogue", "--json").json
    assert list(counts) == list(_PARTS)
    assert all(isinstance(number, int) and number > 0 for number in counts.values())


@pytest.mark.parametrize("part", _PARTS)
def test_every_part_is_listed(capsim: Capsim, part: str) -> None:
    outcome = capsim("catalogue", part)
    assert (outcome.status, outcome.err) == (0, "")
    entries = capsim("catalogue", part, "--json").json
    assert len(entries) == capsim("catalogue", "--json").json[part]
    if part not in ("measurements", "reliability", "differences"):
        names = {entry["id"] if isinstance(entry["id"], str) else entry["id"]["value"] for entry in entries}
        assert all(re.search(rf"^{re.escape(name)}\s", outcome.out, re.MULTILINE) for name in names)
        assert _PARTS[part] in names


@pytest.mark.parametrize(("part", "name"), _PARTS.items())
def test_one_entry_of_every_part_is_shown(capsim: Capsim, part: str, name: str) -> None:
    outcome = capsim("catalogue", part, name)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.strip()
    entry = capsim("catalogue", part, name, "--json").json
    assert isinstance(entry, dict)
    assert entry


def _every_name(capsim: Capsim, part: str) -> list[str]:
    entries = capsim("catalogue", part, "--json").json
    if part in ("measurements", "reliability", "differences"):
        return [str(number) for number in range(len(entries))][:20]
    names = [entry["id"] for entry in entries]
    return random.Random(3).sample(names, min(len(names), cases(usual=40, thorough=len(names))))


@pytest.mark.parametrize("part", _PARTS)
def test_every_entry_is_shown(capsim: Capsim, part: str) -> None:
    for name in _every_name(capsim, part):
        outcome = capsim("catalogue", part, name)
        assert (outcome.status, outcome.err) == (0, ""), name


def test_a_figure_is_shown_with_its_source(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = capsim("catalogue", "devices", "a100-sxm4-80gb").out
    assert re.search(r"^peak\.bf16 +312 TFLOP/s +primary \[\d", out, re.MULTILINE)
    assert re.search(r"^memory\.bandwidth +2\.039 TB/s +primary", out, re.MULTILINE)
    assert re.search(r"^peak\.fp8 +none ", out, re.MULTILINE)
    assert re.search(r"^\[\d+\] NVIDIA Ampere Architecture In-Depth", out, re.MULTILINE)


def test_what_is_only_recalled_says_so(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = capsim("catalogue", "devices", "rtx-3090").out
    assert re.search(r"^memory\.usable +23\.7 GiB +recalled \[\d", out, re.MULTILINE)
    assert re.search(r"^peak\.tf32 +35\.6 TFLOP/s +recalled", out, re.MULTILINE)
    assert re.search(r"^peak\.fp16 +71\.2 TFLOP/s +secondary", out, re.MULTILINE)
    listed = capsim("catalogue", "devices").out
    row = next(line for line in listed.splitlines() if line.startswith("rtx-3090"))
    assert "35.6°" in row
    assert "23.7°" in row
    assert "A figure with ° is unverified" in listed


def _value(entry: dict[str, Any], *figure: str) -> Any:
    value: Any = entry
    for part in figure:
        value = value[part]
    return value["value"] if isinstance(value, dict) else value


def test_json_holds_values_with_units_and_sources(capsim: Capsim) -> None:
    entry = capsim("catalogue", "devices", "a100-sxm4-80gb", "--json").json
    assert entry["peak"]["bf16"]["value"] == "312 TFLOP/s"
    assert entry["peak"]["bf16"]["seen"] == "primary"
    assert entry["peak"]["bf16"]["source"]
    assert entry["peak"]["fp4"] is None
    assert _value(entry, "memory", "usable") == "79.35 GiB"
    assert _value(entry, "processors") == 108


def test_a_figure_in_json_is_the_figure_itself(capsim: Capsim) -> None:
    """What is written with a unit is read back as the same number."""
    for name in catalogue.names("devices"):
        device = catalogue.load_device(name)
        entry = capsim("catalogue", "devices", name, "--json").json
        assert parse(_value(entry, "memory", "bandwidth"), "bandwidth") == device.memory.bandwidth
        assert parse(_value(entry, "memory", "capacity"), "memory size") == device.memory.capacity


def test_names_and_parts_are_read_in_any_case(capsim: Capsim) -> None:
    assert capsim("catalogue", "Devices").out == capsim("catalogue", "devices").out


def test_a_file_of_ones_own_is_shown(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((ROOT / "hardware" / "devices" / "a100-sxm4-80gb.yaml").read_text())
    outcome = capsim("catalogue", "devices", path, "--json")
    assert outcome.status == 0
    assert outcome.json["id"] == "mine"
    path.write_text((ROOT / "hardware" / "systems" / "dgx-a100-640gb.yaml").read_text())
    assert capsim("catalogue", "systems", path).status == 0


def test_lists_survive_a_narrow_and_a_wide_terminal(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (30, 80, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        for part in _PARTS:
            lines = capsim("catalogue", part).out.splitlines()
            assert max(map(len, lines)) <= columns


def test_claims_are_compared(capsim: Capsim) -> None:
    rows = capsim("claims", "--json").json
    assert len(rows) > 5
    assert all({"claim", "claimed", "predicted", "error", "source"} <= set(row) for row in rows)
    outcome = capsim("claims")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"of {len(rows)} within the stated tolerance" in outcome.out


@pytest.mark.parametrize("part", _PARTS)
def test_no_cell_is_ever_cut(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """A table that is too wide breaks its cells; it never cuts 16,384 to 16,38."""
    characters = {}
    for columns in (60, 80, 1000):
        monkeypatch.setenv("COLUMNS", str(columns))
        characters[columns] = Counter("".join(capsim("catalogue", part).out.split()))
    assert characters[60] == characters[80] == characters[1000]


def test_numbers_stay_whole_in_a_usual_terminal(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = {line.split()[0]: line.split() for line in capsim("catalogue", "models").out.splitlines() if line.strip()}
    for name in names("models"):
        assert f"{load_model(name).hidden_size:,}" in rows[name]


def test_what_was_called_a_profile_is_found(capsim: Capsim) -> None:
    assert_one_sentence(capsim("catalogue", "measured"), "capsim: ", "listed by: capsim catalogue profiles")
    assert_one_sentence(capsim("catalogue", "profiles", "ga102"), "capsim: ", "capsim catalogue classes ga102")
    assert_one_sentence(capsim("catalogue", "classes", "ga201"), "capsim: ", "unknown device class 'ga201'")


def test_what_other_programs_read_is_what_is_printed(capsim: Capsim) -> None:
    assert doctest.testmod(browse).failed == 0
    assert list(browse.parts()) == list(_PARTS)
    for part in _PARTS:
        assert len(browse.rows(part)) == len(browse.names(part)) == capsim("catalogue", "--json").json[part]


def test_a_large_entry_is_told_part_by_part() -> None:
    lines = {line.figure: line.value for line in browse.entry("profiles", "a100-sxm").lines}
    assert re.fullmatch(r"[\d.]+ us", lines["links.all_reduce.8.latency"])
    assert re.fullmatch(r"[\d,]+ values", lines["products.bf16.sizes"])
    assert lines["held_out.1"].startswith("phase gemm, ")
    assert max(map(len, lines.values())) < 700


def test_a_figure_without_a_sheet_names_its_source() -> None:
    entry = browse.entry("reliability", "0")
    assert [line.figure for line in entry.lines[:3]] == ["subject", "what", "value"]
    assert entry.lines[2].sources == (1,)
    assert entry.sources[0].startswith("Llama 3 Herd of Models")


def test_a_price_has_the_digits_that_it_was_written_with(capsim: Capsim) -> None:
    names = browse.names("prices")
    for name in names[:: max(1, len(names) // cases(usual=40, thorough=len(names)))]:
        rate = capsim("catalogue", "prices", name, "--json").json["rate"]["value"]
        assert re.fullmatch(r"\d+(\.\d{1,5})? USD/h", rate), rate


def test_models_are_listed_by_what_they_are_called_best_match_first(capsim: Capsim) -> None:
    listed = [entry["id"] for entry in capsim("catalogue", "models", "--search", "llama 3.1", "--json").json]
    assert listed == ["llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b"]
    printed = capsim("catalogue", "models", "--search", "meta-llama/Llama-3.1").out.splitlines()
    assert [line.split()[0] for line in printed[1:4]] == listed
    assert capsim("catalogue", "models", "Qwen/Qwen2.5-7B", "--json").json["id"] == "qwen2.5-7b"
    devices = capsim("catalogue", "devices", "--search", "h100", "--json").json
    assert devices
    assert all("h100" in entry["id"] for entry in devices)


def test_a_search_that_means_nothing_gets_one_sentence(capsim: Capsim) -> None:
    assert_one_sentence(capsim("catalogue", "models", "--search", "zzz"), "capsim: ", "search='zzz'", "lists all")
    assert_one_sentence(capsim("catalogue", "--search", "llama"), "capsim: ", "capsim catalogue models --search")
    assert_one_sentence(capsim("catalogue", "models", "bert-base", "--search", "x"), "capsim: ", "--search looks in")


def test_families_are_compared_with_those_of_the_library(capsim: Capsim) -> None:
    outcome = capsim("catalogue", "families", "nomic_bert")
    assert (outcome.status, outcome.err) == (0, "")
    assert "8 of 8 counts of 1 families are equal." in outcome.out
    rows = capsim("catalogue", "families", "nomic_bert", "--json").json
    assert {row["difference"] for row in rows} == {0}
    assert rows[0]["ours"] == rows[0]["theirs"] == 137_354_304


def test_families_that_cannot_be_counted_are_refused_by_name(capsim: Capsim) -> None:
    assert_one_sentence(capsim("catalogue", "families", "mamba"), "capsim: mamba cannot be counted", "no attention")
    assert_one_sentence(capsim("catalogue", "families", "gemma3"), "capsim: ", "capsim catalogue families gemma3_text")
    assert_one_sentence(capsim("catalogue", "families", "lama"), "capsim: ", "did you mean llama")


def test_without_the_library_families_say_what_to_install(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "measure.verification.families", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert_one_sentence(capsim("catalogue", "families"), "capsim: ", "transformers is not installed", "pip install")


def test_families_that_differ_end_with_status_one(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    from measure.verification import families

    wrong = families.CountedFamily("bert", "BertModel", 7, 5)
    monkeypatch.setattr(families, "counted_families", lambda _: [wrong])
    outcome = capsim("catalogue", "families")
    assert outcome.status == 1
    assert "0 of 1 counts of 1 families are equal." in outcome.out
    assert "mamba: it is a state-space model and has no attention" in outcome.out
