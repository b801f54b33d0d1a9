"""Every kind of file in words and as JSON Schema."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from hardware import catalogue
from hardware.reading import read_mapping
from hardware.schema import UNIT, of
from hardware.spec import Device
from simulator.corpus.runs import shipped
from simulator.terminal import catalogue as browse
from simulator.terminal.files.kinds import KINDS, FileKind, form_of, json_schema, kind_of, sections
from simulator.terminal.files.tables import lines, markdown

ROOT = Path(__file__).parents[2]
_HAS_VALIDATOR = find_spec("jsonschema") is not None
_FILES = {
    "device": "hardware/devices/*.yaml",
    "system": "hardware/systems/*.yaml",
    "class": "hardware/classes/*.yaml",
    "profile": "hardware/profiles/*.yaml",
    "prices": "hardware/prices/*.yaml",
    "model": "simulator/specs/models/*.yaml",
    "stack": "simulator/specs/stacks/*.yaml",
    "scenario": "simulator/specs/scenarios/*.yaml",
}
_PRINTED = {
    "device": "devices",
    "system": "systems",
    "model": "models",
    "stack": "stacks",
    "class": "classes",
    "profile": "profiles",
}
needs_validator = pytest.mark.skipif(not _HAS_VALIDATOR, reason="jsonschema is not installed")


def _validator(kind: FileKind) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json_schema(kind))


@pytest.mark.parametrize("word", KINDS)
@pytest.mark.parametrize("width", [20, 72, 80, 200])
def test_nothing_is_cut_at_any_width(word: str, width: int) -> None:
    told = "".join("".join(lines(KINDS[word], width)).split())
    for section in sections(KINDS[word]):
        for row in section.rows:
            assert "".join(row.meaning.split()) in told
    if width >= 72:
        assert max(map(len, lines(KINDS[word], width))) <= width


def test_a_row_says_type_unit_default_and_meaning() -> None:
    told = lines(KINDS["stack"], 100)
    at = next(i for i, line in enumerate(told) if line.startswith("step_overhead"))
    assert told[at].split() == ["step_overhead", "time", "with", "unit", "s", "0", "s"]
    assert told[at + 1] == "    Host time of a step beside launches: data, logging, loss scaling."
    assert "A time is written like 10 us; units: s, ms, us, ns, min, h, d, weeks." in told


def test_required_fields_say_so() -> None:
    rows = {row.field: row for row in sections(KINDS["system"])[0].rows}
    assert rows["devices_per_node"].default == "required"
    assert rows["id"].default == "file's name"
    assert rows["price"].default == "-"
    assert rows["device"].form == "a device's name or file or fields as in schema device"
    assert {row.field: row for row in sections(KINDS["prices"])[0].rows}["id"].default == "its key"


def test_sheets_inside_are_sections_of_their_own() -> None:
    places = {word: [section.place for section in sections(kind)] for word, kind in KINDS.items()}
    assert places["device"] == ["", "peak", "memory", "power", "host_link, scale_up"]
    assert places["system"] == ["", "bridge, intra_node, inter_node, cross_pod", "host"]
    assert places["scenario"] == ["", "ownership", "reliability"]
    assert places["class"] == ["", "gemm.*", "attention.*", "memory", "decoding"]
    assert "links.*" in " ".join(places["profile"])
    assert "held_out.1" in places["profile"]


@pytest.mark.parametrize("word", KINDS)
def test_every_field_of_the_schema_is_described(word: str) -> None:
    document = json_schema(KINDS[word], sourced=False)
    sheets = [
        document.get("items", document.get("additionalProperties") or document),
        *document.get("$defs", {}).values(),
    ]
    for sheet in sheets:
        for name, field in sheet.get("properties", {}).items():
            assert field["description"], name
            assert (UNIT in field) or not {"number", "integer", "x-dimension"} & _kinds(field), name


def _kinds(part: Any) -> set[str]:
    """Types and keys inside the schema of a field."""
    if isinstance(part, dict):
        keys = {str(part.get("type")), *part} - ({"integer"} if "const" in part else set())
        return keys.union(*(_kinds(value) for name, value in part.items() if name not in ("default", "x-units")))
    return set().union(*map(_kinds, part)) if isinstance(part, list) else set()


@needs_validator
@pytest.mark.parametrize("word", _FILES)
def test_files_of_the_catalogue_follow_the_schema(word: str) -> None:
    validator = _validator(KINDS[word])
    paths = sorted(ROOT.glob(_FILES[word]))
    assert paths
    for path in paths:
        faults = [f"{list(fault.path)}: {fault.message}" for fault in validator.iter_errors(read_mapping(path))]
        assert not faults, (path.name, faults[0][:300])


@needs_validator
@pytest.mark.parametrize("word", _PRINTED)
def test_what_the_catalogue_prints_follows_the_schema(word: str) -> None:
    validator = _validator(KINDS[word])
    for name in browse.names(_PRINTED[word]):
        validator.validate(json.loads(json.dumps(browse.data(_PRINTED[word], name))))


@needs_validator
def test_runs_follow_the_schema() -> None:
    some = [json.loads(run.model_dump_json(exclude_defaults=True)) for run in shipped()[::60]]
    _validator(KINDS["runs"]).validate(some)


@needs_validator
@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"clock": "1410"}, "clock"),
        ({"clock": 1410}, "clock"),
        ({"clock": {"value": "1410 MHz", "source": "sheet"}}, "clock"),
        ({"clock": {"value": "1410 GB"}}, "clock"),
        ({"clock": {"source": ["sheet"]}}, "clock"),
        ({"processors": 0}, "processors"),
        ({"processors": True}, "processors"),
        ({"peak": {"bf17": "1 TFLOP/s"}}, "peak"),
        ({"kind": "npu"}, "kind"),
        ({"note": ""}, "note"),
    ],
)
def test_what_capsim_refuses_the_schema_refuses(change: dict[str, Any], place: str) -> None:
    good = catalogue.load_device("rtx-3090").written()
    faults = list(_validator(KINDS["device"]).iter_errors({**good, **change}))
    assert [fault.path[0] for fault in faults] == [place]
    with pytest.raises(ValueError, match=place):
        Device.model_validate({**good, **change})


@needs_validator
@pytest.mark.parametrize(
    ("word", "document"),
    [
        ("scenario", {"model": {"base": "bert-large"}, "price": 2, "ownership": {"purchase_price": 30000}}),
        ("scenario", {"model": "bert-large", "price": "2 USD/h", "plan": {"placement": "tp-cp-dp-pp", "tp": 8}}),
        ("plan", {"placement": ["tp", "cp", "dp", "pp"]}),
        ("stack", read_mapping(ROOT / "simulator/specs/stacks/pytorch-fsdp.yaml") | {"communication_buffers": "0 B"}),
    ],
)
def test_other_spellings_are_in_the_schema(word: str, document: dict[str, Any]) -> None:
    _validator(KINDS[word]).validate(document)
    KINDS[word].sheet.model_validate({"id": "mine", **document} if KINDS[word].named else document)


def test_defaults_are_spelled_as_in_files() -> None:
    assert of(KINDS["stack"].sheet)["properties"]["step_overhead"]["default"] == "0 s"
    assert of(KINDS["stack"].sheet)["properties"]["communication_buffers"]["default"] == "0 B"


def test_kinds_are_found_by_other_words() -> None:
    assert kind_of("Systems") is KINDS["system"]
    assert kind_of("price") is KINDS["prices"]
    assert kind_of("classes") is KINDS["class"]


def test_forms_in_words() -> None:
    assert form_of({"type": "number", "minimum": 0, "maximum": 1}, {}) == "number from 0 to 1"
    assert form_of({"type": "number", "minimum": 1e-6, "maximum": 1e6}, {}) == "number above 0"
    assert form_of({"type": "array", "items": {"type": "string"}}, {}) == "list of text"
    assert form_of({"type": "object", "additionalProperties": {"$ref": "#/$defs/A"}}, {}) == "by name: fields below"


def test_markdown_has_a_row_for_every_field() -> None:
    for kind in KINDS.values():
        page = markdown(kind)
        rows = [line for line in page.splitlines() if line.startswith("| `")]
        assert len(rows) == sum(len(section.rows) for section in sections(kind))
        assert all(line.replace("\\|", "").count("|") == 6 for line in rows)


def test_yaml_spells_what_the_page_says() -> None:
    told = lines(KINDS["device"], 80)
    example = "{value: 80 GB, source: [data sheet], seen: primary, note: as labelled}"
    assert example in " ".join(told)
    assert Device.model_validate(
        catalogue.load_device("rtx-3090").written() | {"last_level_cache": yaml.safe_load(example)}
    ).provenance["last_level_cache"].source == ("data sheet",)
