"""Profiles and records as files: what is written is read back, what is no profile is one sentence, nothing runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simulator
from hardware.catalogue import load_device, load_profile, names
from hardware.errors import InputError
from hardware.measured import (
    ATTENTION_SIZES,
    MOST_SHAPES,
    PRODUCT_SIZES,
    HeldOutScore,
    LinkConstants,
    MeasuredProfile,
    Shapes,
    StackConstants,
    StreamConstants,
)
from hardware.quantity import show
from hardware.reading import MOST_BYTES
from simulator.pricing.measured import device_of
from simulator.profiling import calibrate
from simulator.profiling.records import journal
from simulator.profiling.records.record import Case, Record, Result, Session
from simulator.profiling.writing import text_of, write
from tests.commands.conftest import Capsim, assert_one_sentence, capsim
from tests.profiling.conftest import Calibrated
from tests.profiling.made_up import exactly, graphics, processor

__all__ = ["capsim"]

_ASKED = ("estimate", "bert-large", "--system", "rtx-3090", "--seq-len", "128")


# what is written is read back


@pytest.mark.parametrize("name", names("profiles"))
def test_shipped_profiles_are_read_back(tmp_path: Path, name: str) -> None:
    known = load_profile(name)
    write(tmp_path / "mine.yaml", known)
    assert load_profile(tmp_path / "mine.yaml") == known


def test_fitted_profiles_are_read_back(tmp_path: Path, calibrated: Calibrated) -> None:
    write(tmp_path / "mine.yaml", calibrated.profile)
    again = load_profile(tmp_path / "mine.yaml")
    assert again == calibrated.profile
    asked: dict[str, Any] = {"workload": {"sequence_length": 128, "global_batch": 8}}
    times = {
        simulator.estimate("distilbert", profile=each, **asked).step_time_s for each in (again, calibrated.profile)
    }
    assert len(times) == 1


@pytest.mark.parametrize("name", names("devices")[::4])
def test_sheets_of_devices_are_read_back_with_their_sources(tmp_path: Path, name: str) -> None:
    device = load_device(name)
    profile = graphics().truth.model_copy(update={"device": device})
    write(tmp_path / "mine.yaml", profile)
    again = load_profile(tmp_path / "mine.yaml")
    assert again == profile
    assert isinstance(again.device, type(device))
    assert {n: o for n, _, o in again.device.figures()} == {n: o for n, _, o in device.figures()}


_WORDS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    st.sampled_from(
        ["1e5", "no", "~", "0x1f", "1:30", "1_000", ".5", "- a", "a: b", "#", "&a", "*a", "!x", "'", "{", "="]
    ),
)
_IDS = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,20}", fullmatch=True), st.sampled_from(["1e5", "1e-3", "010", "no"])
)
_RESIDUALS = st.floats(-5.0, 5.0)
_SIZES = st.floats(0.0, 1e12)
_SHARES = st.floats(-10.0, 1e3)
_RATES = st.floats(1e-6, 1e6)


def _times(most: float = 1e3) -> st.SearchStrategy[str]:
    return st.floats(1e-9, most).map(lambda value: show(value, "time"))


def _shapes(width: int) -> st.SearchStrategy[Shapes]:
    rows = st.lists(st.tuples(st.tuples(*[_SIZES] * width), _RESIDUALS), max_size=14)
    return rows.map(lambda pairs: Shapes(sizes=tuple(s for s, _ in pairs), residuals=tuple(r for _, r in pairs)))


_STREAMS = st.builds(StreamConstants, forward=_RATES, backward=_RATES)
_STACKS = st.builds(
    StackConstants,
    launch=_times(),
    step_overhead=_times(),
    drawn=_times(),
    streams=st.dictionaries(_IDS, _STREAMS, max_size=3),
)
_LINKS = st.builds(
    LinkConstants,
    latency=_times(),
    medium_cost=_times(),
    large_cost=_times(),
    medium_size=st.floats(1.0, 1e12).map(lambda value: show(value, "memory size")),
    large_size=st.floats(1.0, 1e12).map(lambda value: show(value, "memory size")),
    rate=st.floats(1e3, 1e13).map(lambda value: show(value, "bandwidth")),
)
_SCORES = st.builds(
    HeldOutScore,
    phase=st.sampled_from(["gemm", "step"]),
    what=_WORDS,
    fitted=st.integers(0, 1000),
    scored=st.integers(1, 1000),
    median=_SHARES,
    p90=_SHARES,
    bias=_SHARES,
    before=st.none() | _SHARES,
)
_PROFILES = st.builds(
    MeasuredProfile,
    id=_IDS,
    title=_WORDS,
    source=_WORDS,
    seen=st.sampled_from(["primary", "derived"]),
    device=st.sampled_from(["rtx-3090", "tpu-v4"]),
    constants=st.just(graphics().truth.constants),
    fitted=st.sampled_from([(), ("bf16",), ("fp32", "bf16")]),
    links=st.dictionaries(
        st.sampled_from(["send", "all_reduce"]), st.dictionaries(st.integers(1, 4096), _LINKS, max_size=2), max_size=2
    ),
    stacks=st.dictionaries(_IDS, _STACKS, max_size=2),
    products=st.dictionaries(st.sampled_from(["fp32", "bf16"]), _shapes(len(PRODUCT_SIZES)), max_size=2),
    attentions=st.dictionaries(st.sampled_from(["fp16", "bf16"]), _shapes(len(ATTENTION_SIZES)), max_size=2),
    held_out=st.lists(_SCORES, max_size=2).map(tuple),
    borrowed=st.dictionaries(_WORDS, _WORDS, max_size=3),
)


@given(profile=_PROFILES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_profile_is_read_back(tmp_path: Path, profile: MeasuredProfile) -> None:
    write(tmp_path / "mine.yaml", profile)
    assert load_profile(tmp_path / "mine.yaml") == profile


def test_a_profile_of_most_shapes_stays_within_what_is_read(tmp_path: Path) -> None:
    """Four number formats, each with all the shapes that a fit keeps."""
    known = load_profile("h100-sxm")
    shapes, fused = known.products["bf16"], known.attentions["bf16"]
    assert len(shapes.sizes) >= 1500
    formats: tuple[Any, ...] = ("fp32", "tf32", "fp16", "bf16")
    full = known.model_copy(
        update={"products": dict.fromkeys(formats, shapes), "attentions": dict.fromkeys(formats, fused)}
    )
    write(tmp_path / "mine.yaml", full)
    assert (tmp_path / "mine.yaml").stat().st_size < MOST_BYTES
    assert load_profile(tmp_path / "mine.yaml") == full


# what is no profile


def _text() -> str:
    shapes = Shapes(sizes=((64.0, 64.0, 64.0, 1.0, 0.0),), residuals=(0.1,))
    return text_of(graphics().truth.model_copy(update={"products": {"bf16": shapes}}))


TEXT = _text()


def _bad(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, 1)

    return change


_BAD: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda _: "", "must hold a mapping"),
    "a list": (lambda _: "- a\n- b\n", "must hold a mapping"),
    "another file": (lambda _: "model: bert-large\n", "is no profile of capsim calibrate; its format does not say so"),
    "a device class": (lambda _: "title: x\nmatrix_unit: vector\n", "is no profile of capsim calibrate"),
    "a record": (_bad("format: capsim-profile", "format: capsim-record"), "is no profile of capsim calibrate"),
    "a format of its own": (_bad("format: capsim-profile", "format: [capsim-profile]"), "is no profile of"),
    "a future version": (
        _bad("version: 1", "version: 2"),
        "is a profile of version 2, and this capsim reads version 1",
    ),
    "a far version": (_bad("version: 1", f"version: {10**30}"), "is a profile of version 1000"),
    "a negative version": (_bad("version: 1", "version: -1"), "version=-1"),
    "a word for a version": (_bad("version: 1", "version: one"), "version='one'"),
    "a flag for a version": (_bad("version: 1", "version: true"), "version=true"),
    "no version's number": (_bad("version: 1", "version: .inf"), "version=inf"),
    "truncated": (lambda text: text[: len(text) // 2], ""),
    "truncated inside a list": (lambda text: text[: text.index("residuals:") + 20], "not valid YAML"),
    "binary": (lambda _: b"\x80\x04\x95\x1f\x00", "is not UTF-8"),
    "control characters": (_bad("title: Made up", "title: Made\x07up"), "not valid YAML"),
    "too narrow": (_bad("- [64, 64, 64, 1, 0]", "- [64, 64, 64, 1]"), "products.bf16: each shape needs 5 sizes, not 4"),
    "too wide": (_bad("- [64, 64, 64, 1, 0]", "- [64, 64, 64, 1, 0, 0]"), "each shape needs 5 sizes, not 6"),
    "uneven": (
        _bad(
            "- [64, 64, 64, 1, 0]\n    residuals:\n      [0.1]",
            "- [64, 64, 64, 1, 0]\n    - [1]\n    residuals: [0, 0]",
        ),
        "all shapes need the same number of sizes",
    ),
    "a shape without its residual": (_bad("[0.1]", "[]"), "1 shapes and 0 residuals; each shape has one"),
    "no number": (_bad("[0.1]", "[.nan]"), "residuals.0=nan: must be"),
    "endless": (_bad("[0.1]", "[.inf]"), "residuals.0=inf: must be"),
    "an endless size": (_bad("- [64, ", "- [.inf, "), "sizes.0.0=inf: must be"),
    "a size of no number": (_bad("- [64, ", "- [.nan, "), "sizes.0.0=nan: must be"),
    "a negative size": (_bad("- [64, ", "- [-64, "), "sizes.0.0=-64: must be at least 0"),
    "a huge size": (_bad("- [64, ", "- [1e13, "), "must be at most 1,000,000,000,000"),
    "a huge residual": (_bad("[0.1]", "[5.1]"), "residuals.0=5.1: must be at most 5"),
    "a flag for a residual": (_bad("[0.1]", "[true]"), "residuals.0=true"),
    "a word for a residual": (_bad("[0.1]", "[much]"), "residuals.0='much': must be a number"),
    "another key": (_bad("seen: recalled", "seen: recalled\nweather: rain"), "unknown key 'weather'"),
    "a key twice": (_bad("seen: recalled", "seen: recalled\nseen: recalled"), "key 'seen' is given twice"),
    "a key that is missing": (_bad("seen: recalled\n", ""), "'seen' is missing"),
    "an unknown number format": (_bad("fitted: [fp32", "fitted: [fp31"), "fitted.0='fp31': valid: 'fp32'"),
    "an unknown collective": (_bad("all_reduce:", "all_reduced:"), "links.all_reduced='all_reduced': valid:"),
    "no ranks": (_bad("'2': {latency", "'0': {latency"), "must be at least 1"),
    "a time without a unit": (_bad("latency: 16 us", "latency: 16"), "links.all_reduce.2.latency"),
    "a negative time": (_bad("latency: 16 us", "latency: -16 us"), "links.all_reduce.2.latency"),
    "a rate of nothing": (_bad("rate: 9.35 GB/s", "rate: 0 GB/s"), "links.all_reduce.2.rate"),
    "an efficiency of nothing": (_bad("efficiency: 0.85", "efficiency: 0"), "efficiency=0: must be at least 1e-06"),
    "an endless fill": (_bad("fill: 90.0", "fill: .inf"), "fill=inf: must be a finite number"),
    "an unknown device": (
        _bad("device: rtx-3090", "device: rtx-3091"),
        "unknown device 'rtx-3091'; did you mean rtx-309",
    ),
    "a file for a device": (_bad("device: rtx-3090", "device: other.yaml"), "unknown device 'other.yaml'"),
    "a path for a device": (_bad("device: rtx-3090", "device: ../secret"), "device='../secret': must be of lower-case"),
    "a number for a device": (_bad("device: rtx-3090", "device: 3090"), "device=3090"),
    "a sheet that is none": (_bad("device: rtx-3090", "device: {id: x, name: y}"), "'device.vendor' is missing"),
    "an object": (
        _bad("title: Made up", "title: !!python/object/apply:os.system ['touch executed']"),
        "the YAML tag 'tag:yaml.org,2002:python/object/apply:os.system' is not accepted",
    ),
    "an object of its own": (_bad("title: Made up", "title: !Thing {a: 1}"), "the YAML tag '!Thing' is not accepted"),
    "a module": (_bad("title: Made up", "title: !!python/module:this"), "python/module:this' is not accepted"),
    "aliases": (_bad("title: Made up", "title: &a Made up\nnote: *a"), "anchors and aliases are not accepted"),
    "deep": (_bad("title: Made up", "title: " + "[" * 300 + "]" * 300), "is nested too deeply"),
    "merged keys": (_bad("title: Made up", "<<: {title: x}"), "<<"),
}


@pytest.mark.parametrize(
    ("command", "what"),
    [*((_ASKED, what) for what in _BAD), *((("calibrate",), what) for what in [*_BAD][::3])],
)
def test_what_is_no_profile_is_one_sentence(
    capsim: Capsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    change, fragment = _BAD[what]
    content = change(TEXT)
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "other.yaml").write_text("must: not be read\n")
    assert_one_sentence(capsim(*command, "--profile", path), f"capsim: {path}", fragment)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine.yaml", "other.yaml"]


def test_the_text_that_is_made_bad_is_good(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    assert load_profile(path).products["bf16"].residuals == (0.1,)


def test_the_line_of_a_mistake_inside_a_sheet_is_named(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = text_of(processor().truth)
    for old, new, fragment in (
        ("clock: 3 GHz", "clock: 3 GHzz", "device.clock"),
        ("kind: host", "kinds: host", "unknown key 'device.memory.kinds'; did you mean 'kind'?"),
        ("device_class: cpu", "device_class: gpu", "unknown device class 'gpu'"),
    ):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        line = 1 + text[: text.index(old)].count("\n")
        assert_one_sentence(capsim("calibrate", "--profile", path), f"capsim: {path}:{line}: ", fragment)


def test_a_profile_of_an_earlier_version_names_the_class_of_its_device(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = text_of(processor().truth)
    path.write_text(text.replace("device_class: cpu", "profile: cpu"))
    earlier = load_profile(path)
    path.write_text(text)
    assert earlier == load_profile(path)
    assert device_of(earlier).device_class == "cpu"


def test_places_that_hold_no_profile(capsim: Capsim, tmp_path: Path) -> None:
    target, link, loop, pipe = (tmp_path / f"{name}.yaml" for name in ("target", "link", "loop", "pipe"))
    target.write_text("some: file\n")
    link.symlink_to(target)
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    for place, fragment in (
        (tmp_path / "none.yaml", "cannot be read (No such file or directory)"),
        (f"{tmp_path}/", "is a directory; give a file"),
        (link, "is no profile of capsim calibrate"),
        (loop, "cannot be read (Too many levels of symbolic links)"),
        (pipe, "is not a regular file; give a file"),
        ("/dev/zero", "is not a regular file"),
        ("h100", "unknown profile 'h100'; did you mean h100-sxm"),
        ("", "unknown profile ''"),
    ):
        assert_one_sentence(capsim(*_ASKED, "--profile", place), fragment)
        assert_one_sentence(capsim("calibrate", f"--profile={place}"), fragment)


def test_a_link_to_a_profile_is_followed(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT)
    (tmp_path / "link.yaml").symlink_to(tmp_path / "mine.yaml")
    assert load_profile(tmp_path / "link.yaml") == load_profile(tmp_path / "mine.yaml")


def test_huge_files_are_refused(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT + "#" + "x" * MOST_BYTES)
    assert_one_sentence(capsim(*_ASKED, "--profile", path), "has more than 1,000,000 bytes, the most that is read")
    many = _bad("- [64, 64, 64, 1, 0]", "- [1, 1, 1, 1, 0]\n    " * MOST_SHAPES + "- [64, 64, 64, 1, 0]")(TEXT)
    path.write_text(str(many))
    assert_one_sentence(capsim(*_ASKED, "--profile", path), "products.bf16.sizes")


@given(position=st.integers(0, 10**6), byte=st.integers(0, 255), length=st.integers(0, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_never_crash(tmp_path: Path, position: int, byte: int, length: int) -> None:
    """A byte that is another, or some that are missing: a sentence, or a profile that can be used."""
    raw = bytearray(TEXT.encode())
    at = position % len(raw)
    raw[at : at + length] = bytes([byte])
    path = tmp_path / "mine.yaml"
    path.write_bytes(raw)
    with suppress(InputError):
        profile = load_profile(path)
        asked: dict[str, Any] = {"plan": {"precision": "bf16"}, "workload": {"sequence_length": 128, "global_batch": 8}}
        assert simulator.estimate("bert-base", "rtx-3090", profile=profile, **asked).step_time_s > 0.0


def test_the_same_as_json(tmp_path: Path) -> None:
    """JSON is YAML too."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(yaml.safe_load(TEXT)))
    assert load_profile(path) == graphics().truth.model_copy(update={"products": load_profile(path).products})


# records


def _record_of(result: Result) -> Record:
    made = graphics()
    return Record((Session(made.environment(), (result,)),))


_GEMM: dict[str, Any] = {
    "phase": "gemm",
    "operation": "linear",
    "dimensions": {"m": 8, "n": 8, "k": 8},
    "dtype": "bf16",
}
_STEP: dict[str, Any] = {
    "phase": "step",
    "operation": "train",
    "dimensions": {"layers": 2, "sequence_length": 128, "micro_batch": 4},
    "dtype": "bf16",
    "variant": "bert-base/fused",
}


def _sized(case: dict[str, Any], **sizes: int | None) -> dict[str, Any]:
    dimensions = {**case["dimensions"], **sizes}
    return {**case, "dimensions": {name: size for name, size in dimensions.items() if size is not None}}


@pytest.mark.parametrize(
    ("case", "model", "fragment"),
    [
        (_sized(_GEMM, k=None), None, "gemm linear m=8 n=8 bf16: k is missing; every gemm has m, n, k"),
        (_sized(_GEMM, m=0), None, "m=0: must be from 1 to 1,000,000,000"),
        (_sized(_GEMM, m=10**12), None, "m=1000000000000: must be from 1 to"),
        ({**_GEMM, "operation": "conv"}, None, "unknown operation 'conv'; valid: batched, input_gradient, linear"),
        ({**_GEMM, "phase": "attention"}, None, "batch is missing; every attention has batch, heads"),
        ({**_GEMM, "phase": "pointwise"}, None, "rows is missing; every pointwise has rows, columns"),
        (
            {"phase": "pointwise", "operation": "swim", "dimensions": {"rows": 8, "columns": 8}},
            None,
            "unknown operation 'swim'; valid: add, cast",
        ),
        ({**_GEMM, "phase": "collective"}, None, "bytes is missing; every collective has bytes, ranks, stride"),
        (_sized(_STEP, layers=None), {}, "layers is missing; every step has layers, sequence_length, micro_batch"),
        (_sized(_STEP, sequence_length=0), {}, "sequence_length=0: must be from 1 to 10,000,000"),
        (_sized(_STEP, layers=0), {}, "layers=0: must be from 1"),
        ({**_STEP, "dtype": "none"}, {}, "names no number format; valid: fp32, tf32, fp16 or bf16"),
        (_STEP, {"id": "x", "base": "bert-base"}, "its model: unknown key 'base'"),
        (_STEP, {"id": "x"}, "its model: 'name' is missing"),
    ],
)
def test_a_case_that_is_none_is_one_sentence(
    capsim: Capsim, tmp_path: Path, case: dict[str, Any], model: Any, fragment: str
) -> None:
    path = tmp_path / "record.jsonl"
    journal.write(
        path,
        _record_of(Result(case=Case(**case), outcome="measured", method="events", times=exactly(1e-3), model=model)),
    )
    for arguments in (("calibrate", path), ("calibrate", "--profile", "a40", "--check", path)):
        assert_one_sentence(capsim(*arguments), f"capsim: {path}: ", fragment)


_SMALL = graphics().record(("bert-base",), ("first", "probe", "step"), keep=lambda case: case.phase != "launch")


@given(
    line=st.integers(1, 10**6),
    at=st.integers(0, 10**6),
    value=st.sampled_from(["0", "1", "1e-9", "1e6", "1000000000000000", '"x"', "[]", "null", "true", "-1", "{}"]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_with_another_number_never_crashes(tmp_path: Path, line: int, at: int, value: str) -> None:
    """One number of one result is something else: a sentence, or a profile."""
    path = tmp_path / "record.jsonl"
    journal.write(path, _SMALL)
    lines = path.read_text().splitlines()
    which = 1 + line % (len(lines) - 1)
    document = json.loads(lines[which])
    places = _numbers(document)
    where, name = places[at % len(places)]
    where[name] = json.loads(value)
    lines[which] = json.dumps(document)
    path.write_text("\n".join(lines) + "\n")
    with suppress(InputError):
        profile = calibrate.calibrate([path])
        assert load_profile(profile) == profile


def _numbers(document: Any) -> list[tuple[Any, Any]]:
    """Every number in a document, with what holds it."""
    places: list[tuple[Any, Any]] = []
    for name, value in document.items() if isinstance(document, dict) else enumerate(document):
        if isinstance(value, dict | list):
            places += _numbers(value)
        elif isinstance(value, int | float):
            places.append((document, name))
    return places
