"""Files as data: what is read, and the one sentence for everything else."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hardware.errors import InputError, about, nearest, one_line, shown, unknown
from hardware.reading import (
    MOST_BYTES,
    MOST_LEVELS,
    build,
    is_path,
    parse_json,
    parse_yaml,
    placed,
    read_mapping,
    read_text,
)
from hardware.spec import Device, DeviceMemory, System
from tests.platforms import on_linux
from tests.rights import open_folder, without_rights

ROOT = Path(__file__).parents[2]


def _sentence(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_mapping(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert sentence.isprintable()
    return sentence.removeprefix(str(path))


def _written(folder: Path, text: str | bytes, name: str = "file.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_mapping_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    assert read_mapping(_written(tmp_path, "a: 1\nb: [x, 2.5]\n")) == {"a": 1, "b": ["x", 2.5]}
    assert read_mapping(_written(tmp_path, '{"a": 1, "b": null}', "file.json")) == {"a": 1, "b": None}
    assert read_mapping(_written(tmp_path, b"\xef\xbb\xbfa: 1")) == {"a": 1}  # with the mark that Windows writes


def test_the_largest_file_is_read_and_a_byte_more_is_not(tmp_path: Path) -> None:
    fill = "a: " + "x" * (MOST_BYTES - 3)
    assert len(read_mapping(_written(tmp_path, fill))["a"]) == MOST_BYTES - 3
    assert _sentence(_written(tmp_path, fill + "x")) == ": has more than 1,000,000 bytes, the most that is read"


def test_ten_megabytes_are_not_read(tmp_path: Path) -> None:
    assert "more than 1,000,000 bytes" in _sentence(_written(tmp_path, b"x" * 10_000_000))


def test_a_missing_file(tmp_path: Path) -> None:
    assert _sentence(tmp_path / "none.yaml") == ": cannot be read (No such file or directory)"


def test_a_directory(tmp_path: Path) -> None:
    assert _sentence(tmp_path) == ": is a directory; give a file"


def test_a_file_inside_a_file(tmp_path: Path) -> None:
    assert "cannot be read (Not a directory)" in _sentence(_written(tmp_path, "a: 1") / "b.yaml")


def test_a_link_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.symlink_to(path)
    assert "cannot be read" in _sentence(path)


def test_a_name_that_is_too_long_or_impossible(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_mapping(tmp_path / ("x" * 5000))
    assert len(str(caught.value)) < 600
    with pytest.raises(InputError, match="cannot be read"):
        read_mapping(tmp_path / "a\0b.yaml")


def test_an_unreadable_file() -> None:
    with open_folder() as folder:
        open_to_all, closed = _written(folder, "a: 1"), _written(folder, "a: 1", "closed.yaml")
        open_to_all.chmod(0o644)
        closed.chmod(0)
        with without_rights():
            assert read_mapping(open_to_all) == {"a": 1}
            assert _sentence(closed) == ": cannot be read (Permission denied)"


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    assert _sentence(path) == ": is not a regular file; give a file"


def test_a_device_without_end_does_not_hang() -> None:
    assert _sentence(Path("/dev/zero")) == ": is not a regular file; give a file"


@on_linux
def test_a_file_that_reports_no_size_is_read() -> None:
    assert Path("/proc/version").stat().st_size == 0
    assert read_text(Path("/proc/version")).startswith("Linux")


@pytest.mark.parametrize("content", [b"\xff\xfea\x00:\x001\x00", b"a: \xc3", bytes(range(128, 256)), b"a: caf\xe9"])
def test_what_is_not_utf_8(tmp_path: Path, content: bytes) -> None:
    assert "is not UTF-8 text (byte" in _sentence(_written(tmp_path, content))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- 1\n- 2\n", "word", "5", "null", "[a, b]", "---\n"])
def test_the_top_level_is_a_mapping(tmp_path: Path, text: str) -> None:
    assert _sentence(_written(tmp_path, text)) == ": must hold a mapping of names to values at the top level"


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ("a: 1\nb: 'open\n", 3, "not valid YAML"),
        ("a: 1\nb: c: d\n", 2, "mapping values are not allowed"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: [1, 2\n", 2, "not valid YAML"),
        ("a: 1\n- 2\n", 2, "not valid YAML"),
        ("a: 1\n--- \nb: 2\n", 2, "another document"),
        ("a: 1\nb: 2\na: 3\n", 3, "key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", 3, "key 'b' is given twice"),
        ("a: {value: 1, value: 2}\n", 1, "key 'value' is given twice"),
        ('a: 1\n"a": 2\n', 2, "key 'a' is given twice"),
        ("1: a\n", 1, "a key must be a word"),
        ("x: {null: a}\n", 1, "a key must be a word"),
        ("true: a\n", 1, "a key must be a word"),
        ("? [a, b]\n: c\n", 1, "a key must be a word"),
        ("a: &anchor 1\nb: *anchor\n", 1, "anchors and aliases are not accepted"),
        ("a: 1\nb: &x [1]\n", 2, "anchors and aliases are not accepted"),
        ("a: *unknown\n", 1, "anchors and aliases are not accepted"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "the YAML tag 'tag:yaml.org,2002:python/object"),
        ("a: 1\nb: !!bool maybe\n", 2, "the YAML tag 'tag:yaml.org,2002:bool' is not accepted"),
        ("a: !!timestamp soon\n", 1, "the YAML tag"),
        ("a: !own {b: 1}\n", 1, "the YAML tag '!own' is not accepted"),
        ("a: " + "9" * 5000 + "\n", 1, "not valid YAML: Exceeds the limit"),
    ],
)
def test_wrong_yaml_is_told_with_its_line(tmp_path: Path, text: str, line: int, fragment: str) -> None:
    sentence = _sentence(_written(tmp_path, text))
    assert sentence.startswith(f":{line}: ")
    assert fragment in sentence


def test_a_character_that_no_text_has(tmp_path: Path) -> None:
    assert "not valid YAML: unacceptable character" in _sentence(_written(tmp_path, "a: x\0y"))


def test_aliases_do_not_explode(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "anchors and aliases are not accepted" in _sentence(_written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("a: &x 1\nb: *x\n", {"a": 1, "b": 1}),
        ("a: &x {p: 1, q: [2]}\nb:\n  <<: *x\n  p: 3\n", {"a": {"p": 1, "q": [2]}, "b": {"p": 3, "q": [2]}}),
        (
            "a: &x {p: 1}\nb: &y {p: 2, r: 0}\nc: {<<: [*x, *y]}\n",
            {"a": {"p": 1}, "b": {"p": 2, "r": 0}, "c": {"p": 1, "r": 0}},
        ),
    ],
)
def test_aliases_in_files_of_others_are_read(text: str, document: dict[str, Any]) -> None:
    assert parse_yaml(text, "run.yaml", repeats=True) == document


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a: &a [*a]\n", "run.yaml:1: the YAML anchor holds itself"),
        ("a: &a {b: {c: *a}}\n", "run.yaml:1: the YAML anchor holds itself"),
        ("a: 1\nb: {<<: 3}\n", "run.yaml:2: not valid YAML: << must name a mapping"),
        ("a: {<<: &x {b: 1}, b: 1, b: 2}\n", "key 'b' is given twice"),
        ("a: *unknown\n", "run.yaml:1: not valid YAML: found undefined alias"),
        ("a: !!python/name:os.system x\n", "the YAML tag"),
    ],
)
def test_aliases_that_are_wrong_are_refused(text: str, fragment: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_yaml(text, "run.yaml", repeats=True)
    assert fragment in str(refused.value)


def test_aliases_in_files_of_others_do_not_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(InputError, match="holds more than 20,000 values with its YAML aliases"):
        parse_yaml("\n".join(lines), "run.yaml", repeats=True)
    chain = ["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 60))]
    with pytest.raises(InputError, match="is nested too deeply"):
        parse_yaml("\n".join(chain), "run.yaml", repeats=True)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 200_000,
        "a: " + "{b: " * 100_000,
        "- " * 200_000,
        "? " * 200_000,
        "\n".join(f"{' ' * level}a:" for level in range(1300)),
        "a: " + "[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1),
    ],
    ids=["brackets", "braces", "dashes", "questions", "indents", "one level too many"],
)
def test_deep_nesting_does_not_overflow_the_stack(tmp_path: Path, text: str) -> None:
    assert "is nested too deeply; at most 30 levels are read" in _sentence(_written(tmp_path, text))


def test_nesting_up_to_the_limit_is_read() -> None:
    inside = "[" * (MOST_LEVELS - 1) + "]" * (MOST_LEVELS - 1)
    assert parse_yaml(f"a: {inside}", "text") == {"a": json.loads(inside)}
    assert parse_json(f'{{"a": {inside}}}', "text") == {"a": json.loads(inside)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("1e9", 1e9),
        ("1E+9", 1e9),
        ("780.0e+9", 780e9),
        ("1.5e-3", 0.0015),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+3", 3),
        ("1_000_000", 1_000_000),
        ("010", 10),
        ("08", 8),
        ("0x10", "0x10"),
        ("0o17", "0o17"),
        ("0b11", "0b11"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01 12:00:00", "2024-01-01 12:00:00"),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("1e400", math.inf),
        ("=", "="),
        ("'5'", "5"),
        ('"a\\nb"', "a\nb"),
        ("a&b*c!d", "a&b*c!d"),
        ("'&a *b !c'", "&a *b !c"),
        ("<<", "<<"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("312 TFLOP/s", "312 TFLOP/s"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    assert parse_yaml(f"key: {text}", "text") == {"key": value}
    assert type(parse_yaml(f"key: {text}", "text")["key"]) is type(value)


def test_not_a_number_is_read_as_that_and_refused_where_it_is_used() -> None:
    assert math.isnan(parse_yaml("a: .nan", "text")["a"])
    memory = {"kind": "HBM", "capacity": math.nan, "bandwidth": "1 GB/s"}
    with pytest.raises(InputError, match="capacity: 'nan' is not a memory size"):
        build(DeviceMemory, memory)


def test_no_merging_of_mappings() -> None:
    assert parse_yaml("<<: {a: 1}\nb: 2", "text") == {"<<": {"a": 1}, "b": 2}


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", ":1: not valid JSON"),
        ('{"a": 1', ":1: not valid JSON"),
        ('{\n"a": 1,\n}', ":3: not valid JSON"),
        ("{'a': 1}", ":1: not valid JSON"),
        ('{"a": NaN}', ": NaN is not a number that can be used"),
        ('{"a": Infinity}', ": Infinity is not a number"),
        ('{"a": -Infinity}', ": -Infinity is not a number"),
        ('{"a": 1, "a": 2}', ": key 'a' is given twice"),
        ('{"a": ' + "9" * 5000 + "}", ": not valid JSON: Exceeds the limit"),
        ("[" * 200_000, ": is nested too deeply"),
        ('{"a": ' * 100_000, ": is nested too deeply"),
        ("[1, 2]", ": must hold a mapping"),
        ("null", ": must hold a mapping"),
    ],
)
def test_wrong_json(tmp_path: Path, text: str, fragment: str) -> None:
    assert _sentence(_written(tmp_path, text, "file.json")).startswith(fragment)


def _device_with(changes: dict[str, Any]) -> dict[str, Any]:
    return {"id": "x", **read_mapping(ROOT / "hardware" / "devices" / "a100-sxm4-80gb.yaml"), **changes}


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"processors": 0}, ["processors=0: must be at least 1"]),
        ({"processors": -3}, ["processors=-3: must be at least 1"]),
        ({"processors": 10**9}, ["processors=1000000000: must be at most 10,000,000"]),
        ({"processors": 2.5}, ["processors=2.5: must be a whole number"]),
        ({"processors": "many"}, ["processors='many': must be a whole number"]),
        ({"processors": True}, ["processors=true: must be a number"]),
        ({"processors": None}, ["processors=null: must be a whole number"]),
        ({"processors": math.nan}, ["processors=nan: must be a finite number"]),
        ({"processors": 10**400}, ["processors=1000", "...", "must be"]),
        ({"processors": 10**5000}, ["processors=a very large int", "must be"]),
        ({"kind": "fpga"}, ["kind='fpga': valid: 'gpu', 'tpu' or 'cpu'"]),
        ({"name": ""}, ["name='': must not be empty"]),
        ({"name": "x" * 700}, ["name='xxx", "must have at most 600 characters"]),
        ({"name": 5}, ["name=5: must be text"]),
        ({"id": "Not A Name"}, ["id='Not A Name': must be of lower-case letters, digits and . + -"]),
        ({"peak": 5}, ["peak=5: must be a mapping of names to values"]),
        ({"memry": {}}, ["unknown key 'memry'; did you mean 'memory'?"]),
        ({"wheels": 4}, ["unknown key 'wheels'; valid: id, name, vendor"]),
        ({"peak": {"bf61": "1 TFLOP/s"}}, ["unknown key 'peak.bf61'; did you mean 'bf16'?"]),
        ({"clock": {"value": "1 GHz", "sorce": ["x"]}}, ["unknown key 'clock.sorce'; did you mean 'source'?"]),
        ({"clock": {"value": "1 GHz", "seen": "once"}}, ["clock.seen='once'", "'primary'"]),
        ({"clock": {"value": "1 GHz", "source": "x"}}, ["clock.source='x': must be a list"]),
        ({"clock": {"source": ["x"]}}, ["clock: a mapping without 'value' is not a frequency"]),
        ({"clock": "1410"}, ["clock: '1410' has no unit"]),
        ({"power": {}}, ["power: give at least one of limit, mean, maximum"]),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_is_valid(changes: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        build(Device, _device_with(changes))
    sentence = str(caught.value)
    assert all(fragment in sentence for fragment in fragments), sentence
    assert sentence.isprintable()
    assert len(sentence) < 600


def test_a_missing_field_is_named() -> None:
    document = _device_with({})
    del document["memory"]
    with pytest.raises(InputError, match="'memory' is missing"):
        build(Device, document)


@pytest.mark.parametrize("document", [None, 5, "word", [1], ["a", "b"]])
def test_what_is_no_mapping_at_all(document: Any) -> None:
    with pytest.raises(InputError, match="must be a mapping of names to values"):
        build(Device, document)


def test_an_error_of_a_file_has_its_line(tmp_path: Path) -> None:
    text = (ROOT / "hardware" / "systems" / "dgx-a100-640gb.yaml").read_text()
    path = _written(tmp_path, text.replace("300 GB/s", "300 GB"))
    line = next(number for number, line in enumerate(path.read_text().splitlines(), 1) if "300 GB" in line)
    device = {"device": _device_with({})}
    with pytest.raises(InputError) as caught:
        build(System, {"id": "x", **read_mapping(path), **device}, path=path)
    assert str(caught.value).startswith(f"{path}:{line}: intra_node.bandwidth: '300 GB': 'GB' is not a unit")


def test_an_error_of_a_file_that_is_gone_still_has_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml: 'kind' is missing"):
        build(DeviceMemory, {}, path=tmp_path / "gone.yaml")


class _Inner(BaseModel):
    a: int = 1


def test_errors_about_fields_get_the_line_that_gives_the_field(tmp_path: Path) -> None:
    path = _written(tmp_path, "model: m\nplan:\n  dp: 2\n  tp: 7\n")

    def message(*fields: str, **where: Any) -> str:
        with pytest.raises(InputError) as caught, placed(path, **where):
            raise InputError("wrong", fields=fields)
        return str(caught.value)

    assert message("plan.tp") == f"{path}:4: wrong"
    assert message("plan.pp", "plan.dp") == f"{path}:3: wrong"
    assert message("plan.pp") == "wrong"
    assert message() == "wrong"
    assert message("plan.tp", besides=["plan.tp"]) == "wrong"
    assert message("x.plan.tp", under="x.") == f"{path}:4: wrong"
    with pytest.raises(InputError, match=r"\Awrong\Z"), placed("a-name"):
        raise InputError("wrong", fields=["plan.tp"])


def test_a_context_says_what_an_error_is_about() -> None:
    with pytest.raises(InputError) as caught, about("model"):
        raise InputError("wrong")
    assert caught.value.fields == ("model",)
    with pytest.raises(InputError) as caught, about("model"):
        raise InputError("wrong", fields=["plan.tp"])
    assert caught.value.fields == ("plan.tp",)


def test_a_sentence_is_one_line_of_moderate_length() -> None:
    assert one_line("a\nb\r\x1b[31m\u2028\0é") == "a\\nb\\r\\x1b[31m\\u2028\\x00é"
    long = str(InputError("x" * 300 + "y" * 5000 + "z" * 300))
    assert len(long) < 600
    assert long.startswith("xxx")
    assert long.endswith("zzz")


@pytest.mark.parametrize(
    ("word", "names", "first"),
    [
        ("a100", ["a10", "a100-pcie-40gb", "h100-pcie-80gb"], "a100-pcie-40gb"),
        ("bert-larg", ["albert-large", "bert-large", "roberta-large"], "bert-large"),
        ("A100-SXM4-80GB", ["a100-sxm4-40gb", "a100-sxm4-80gb"], "a100-sxm4-80gb"),
        ("megatron", ["deepspeed", "megatron-lm", "megatron-lm-2021"], "megatron-lm"),
        ("h100-sxm-80gb", ["a100-sxm4-80gb", "h100-sxm5-80gb"], "h100-sxm5-80gb"),
    ],
)
def test_the_nearest_name_comes_first(word: str, names: list[str], first: str) -> None:
    assert nearest(word, names)[0] == first


def test_nothing_is_near_a_stranger() -> None:
    assert nearest("qqqq", ["bert-large", "palm-540b"]) == []
    assert str(unknown("model", "qqqq", ["bert-large", "palm-540b"])) == (
        "unknown model 'qqqq'; known: bert-large, palm-540b"
    )
    many = [f"name-{i}" for i in range(100)]
    assert str(unknown("model", "q" * 5000, many)).endswith("name-15, ...")
    assert len(str(unknown("model", "q" * 5000, many))) < 400


def test_values_are_shown_briefly() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert shown(10**5000) == "a very large int"
    assert shown(deep) == "a very large list"
    assert len(shown("x" * 5000)) == 60
    assert shown(None) == "null"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a100-sxm4-80gb", False),
        ("palm-540b.1", False),
        ("x.yaml", True),
        ("x.yml", True),
        ("x.json", True),
        ("./x", True),
        ("a/b", True),
        ("a\\b", True),
        (Path("x"), True),
        (5, False),
        (None, False),
        (_Inner(), False),
    ],
)
def test_what_means_a_file(name: Any, expected: bool) -> None:
    assert is_path(name) is expected
