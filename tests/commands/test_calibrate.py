"""``capsim calibrate``: from a record to a profile to better estimates, and all that can go wrong on the way."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hardware.catalogue import load_profile
from simulator.profiling.records import journal
from tests.commands.conftest import Capsim, assert_one_sentence
from tests.profiling.made_up import graphics, processor
from tests.rights import open_folder, without_rights

ROOT = Path(__file__).parents[2]
_ESTIMATE = ("estimate", "bert-large", "--system", "rtx-3090", "--stack", "pytorch-eager", "--precision", "bf16")
_WORK = ("--seq-len", "128", "--global-batch", "32", "--micro-batch", "8", "--recompute", "none")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a few minutes on an RTX 3090 would leave."""
    path = tmp_path_factory.mktemp("record") / "record.jsonl"
    journal.write(path, graphics().record(("bert-base", "gpt2-124m"), ("first", "probe", "model", "step")))
    return path


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps of another model on the same device."""
    path = tmp_path_factory.mktemp("check") / "check.jsonl"
    journal.write(path, graphics().record(("distilbert",), ("step",), seed=5))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A record of twelve products."""
    path = tmp_path / "small.jsonl"
    journal.write(path, graphics().record((), ("first", "probe")))
    return path


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# from a record to an estimate


def test_from_a_record_to_an_estimate(capsim: Capsim, record: Path, check: Path, tmp_path: Path, wide: None) -> None:
    profile = tmp_path / "mine.yaml"
    outcome = capsim("calibrate", record, "-o", profile, "--check", check)
    assert (outcome.status, outcome.err) == (0, "")
    lines = [line.strip() for line in outcome.out.splitlines()]
    assert lines[0] == "GeForce RTX 3090, measured: GeForce RTX 3090"
    for start in (
        r"capsim measure on GeForce RTX 3090, 2026-\d\d-\d\d, torch 2\.13\.0, CUDA 13\.0, \d+ results$",
        r"9 of 10 +of the +near$",
        r"Held out +fitted +scored +median +below +sum +shapes +catalogue$",
        r"matrix products$",
        r"all bf16 products +\d+ +\d+ +\d\.\d % .* \d+\.\d %$",
        r"training steps$",
        r"steps of models left out +\d+ +12 +\d\.\d %",
        r"matrix products, bf16 +\d\d\.\d % +\d\d\.\d % +\d\.\d\d us +\d\d\.\d %$",
        r"fused attention, bf16 +\d\d\.\d / \d\d\.\d %",
        r"Not measured$",
        r"products, bf16: fill +\d+ shapes, 60 needed; as rtx-3090$",
        r"steps of pytorch-eager: streams +the steps hardly depend on some; as is usual of kernels: ",
        r"Step +measured +predicted +off +off$",
        r"distilbert/fused, 2 layers, 8 x 512 +\d+\.\d ms +\d+\.\d ms +[+-]\d\.\d % +-\d\d\.\d %$",
        re.escape(f"{profile}: written; use it with capsim estimate ... --profile {profile}") + "$",
    ):
        assert any(re.match(start, line) for line in lines), start
    assert _files(tmp_path) == ["mine.yaml"]
    loaded_profile = load_profile(profile)
    assert (loaded_profile.id, loaded_profile.device, loaded_profile.seen) == ("mine", "rtx-3090", "primary")
    answer = capsim(*_ESTIMATE, *_WORK, "--profile", profile, "--explain")
    assert (answer.status, answer.err) == (0, "")
    for start in (
        r"Basis of the step time",
        r"  shapes near measured ones +\d+\.?\d* ms +\d\d?\.\d % +█",
        r"  forms fitted to measurements +\d+\.?\d* ms +\d\d?\.\d % +█",
    ):
        assert any(re.match(start, line) for line in answer.out.splitlines()), start


def test_estimates_with_a_profile_are_nearer(capsim: Capsim, record: Path, tmp_path: Path) -> None:
    truth, profile = tmp_path / "truth.yaml", tmp_path / "mine.yaml"
    from simulator.profiling.writing import write

    write(truth, graphics().truth)
    assert capsim("calibrate", record, "-o", profile).status == 0
    times = [
        capsim(*_ESTIMATE, *_WORK, "--json", *options).json["step_time_s"]
        for options in (("--profile", truth), ("--profile", profile), ())
    ]
    assert times[1] == pytest.approx(times[0], rel=0.05)
    assert abs(times[2] / times[0] - 1.0) > 0.15


def test_as_json(capsim: Capsim, record: Path, check: Path, tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    answer = capsim("calibrate", record, "--check", check, "-o", profile, "--json").json
    assert answer["profile"]["id"] == "mine"
    assert answer["profile"]["format"] == "capsim-profile"
    assert {score["phase"] for score in answer["profile"]["held_out"]} == {"gemm", "step"}
    assert all(score["scored"] >= 1 and score["median"] >= 0.0 for score in answer["profile"]["held_out"])
    assert "gemm.fp16" in answer["profile"]["borrowed"]
    assert len(answer["steps"]) == 6
    for step in answer["steps"]:
        assert step["step"] in ("distilbert/fused", "distilbert/unfused")
        assert step["predicted_s"] == pytest.approx(step["measured_s"], rel=0.12)
        assert abs(step["predicted_s"] - step["measured_s"]) < abs(step["catalogue_s"] - step["measured_s"])
    again = capsim("calibrate", "--profile", profile, "--check", check, "--json").json
    assert again == answer
    basis = capsim(*_ESTIMATE, *_WORK, "--profile", profile, "--json").json["basis"]
    assert list(basis) == ["measured", "near", "fitted", "catalogue", "stack"]
    assert sum(basis.values()) == pytest.approx(1.0)
    assert capsim(*_ESTIMATE, *_WORK, "--json").json["basis"] is None


def test_explained_without_a_profile(capsim: Capsim, wide: None) -> None:
    outcome = capsim(*_ESTIMATE, "--explain")
    assert "Basis: data sheets and constants fitted to published runs; see --profile." in outcome.out


def test_without_an_output_nothing_is_written(
    capsim: Capsim, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = capsim("calibrate", small)
    assert outcome.status == 0
    assert "written" not in outcome.out
    assert _files(tmp_path) == ["small.jsonl"]


def test_a_shipped_profile_is_shown(capsim: Capsim, wide: None) -> None:
    outcome = capsim("calibrate", "--profile", "h100-sxm")
    assert (outcome.status, outcome.err) == (0, "")
    assert re.search(
        r"^ all-reduce .*\n   over 2 ranks .*\n   over 4 ranks .*\n   over 8 ranks ", outcome.out, re.MULTILINE
    )
    assert "training steps were measured" in outcome.out


def test_a_profile_is_copied(capsim: Capsim, tmp_path: Path) -> None:
    assert capsim("calibrate", "--profile", "a40", "-o", tmp_path / "copy.yaml").status == 0
    assert load_profile(tmp_path / "copy.yaml") == load_profile("a40")


def test_a_table_and_a_device(capsim: Capsim, tmp_path: Path) -> None:
    table, profile = tmp_path / "table.csv", tmp_path / "mine.yaml"
    table.write_text("device,dtype,m,n,k,us\nmine,bf16,4096,4096,4096,2400\nmine,bf16,8192,8192,8192,19000\n")
    outcome = capsim("calibrate", table, "--device", "rtx-3090", "--rows-of", "mine", "-o", profile)
    assert (outcome.status, outcome.err) == (0, "")
    assert "Too little was measured to hold any of it out, so that no error is known." in " ".join(outcome.out.split())
    assert load_profile(profile).fitted == ("bf16",)


def test_a_processor_brings_its_own_system(capsim: Capsim, tmp_path: Path, wide: None) -> None:
    record, profile = tmp_path / "record.jsonl", tmp_path / "core.yaml"
    journal.write(record, processor().record(("bert-base",), ("first", "probe", "model", "step")))
    assert capsim("calibrate", record, "-o", profile).status == 0
    answer = capsim("estimate", "bert-base", "--profile", profile, "--seq-len", 128, "--global-batch", 4, "--json").json
    assert (answer["system"], answer["stack"]) == ("some-processor-1-thread", "pytorch-cpu")
    assert answer["basis"]["catalogue"] == 0.0


def test_other_commands_take_a_profile(capsim: Capsim, small: Path, tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    assert capsim("calibrate", small, "-o", profile).status == 0
    asked = ("--system", "rtx-3090", "--seq-len", "128", "--global-batch", "32", "--precision", "bf16", "--json")
    alone = capsim("estimate", "bert-base", *asked, "--profile", profile).json["step_time_s"]
    without = capsim("estimate", "bert-base", *asked).json["step_time_s"]
    assert alone != without
    answer = capsim("search", "bert-base", *asked, "--profile", profile).json
    assert answer["best"][0]["step_time_s"] == pytest.approx(alone, rel=0.02)
    changed = capsim(
        "whatif", "bert-base", *asked, "--profile", profile, "--vary", "system.device.power.limit=0.5x"
    ).json
    assert changed["base"]["step_time_s"] == alone


def test_a_scenario_file_names_a_profile(capsim: Capsim, small: Path, tmp_path: Path) -> None:
    """The place of a profile in a file is from where the file lies."""
    (tmp_path / "here").mkdir()
    assert capsim("calibrate", small, "-o", tmp_path / "here" / "mine.yaml").status == 0
    scenario = tmp_path / "here" / "scenario.yaml"
    scenario.write_text("model: bert-base\nprofile: ./mine.yaml\nworkload: {sequence_length: 128}\n")
    answer = capsim("estimate", scenario, "--json").json
    assert (answer["backend"], answer["system"]) == ("measured", "rtx-3090")
    scenario.write_text("model: bert-base\nsystem: dgx-h100\nprofile: a40\n")
    assert_one_sentence(
        capsim("estimate", scenario), f"{scenario}:3: profile=a40: was measured on a40, and dgx-h100 has"
    )


# bad input


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([], "give records or tables to fit, or --profile to show one, and not both"),
        (["{record}", "--profile", "a40"], "give records or tables to fit, or --profile to show one, and not both"),
        (["--profile", "a40", "--device", "a40"], "--device and --rows-of say what is fitted"),
        (["--profile", "a40", "--rows-of", "x"], "leave them out"),
        (["none.jsonl"], "none.jsonl: cannot be read (No such file or directory)"),
        (["none.csv", "--device", "a40"], "none.csv: cannot be read"),
        (["/"], "/: is a directory; give a file"),
        (
            ["{folder}/table.csv"],
            "table.csv: a table does not say which device of the catalogue it is of; give --device",
        ),
        (["{folder}/table.csv", "--device", "a41"], "unknown device 'a41'; did you mean a4"),
        (["{folder}/table.csv", "--device", "a40"], "a40"),
        (["{record}", "--device", "none.yaml"], "none.yaml: cannot be read"),
        (["{record}", "--check", "none.jsonl"], "none.jsonl: cannot be read"),
        (["{record}", "--check", "{record}"], "small.jsonl: has no training steps; measure some with capsim measure"),
        (["{record}", "--nonsense"], "see capsim calibrate --help"),
        (["{record}", "-o"], "requires an argument"),
    ],
)
def test_bad_input(
    capsim: Capsim,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    fragment: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("device,dtype,m,n,k,us\nmine,bf16,4096,4096,4096,2400\n")
    before = _files(tmp_path)
    words = [each.format(record=small, folder=tmp_path) for each in arguments]
    output = [] if "-o" in words or "--nonsense" in words else ["-o", str(tmp_path / "mine.yaml")]
    assert_one_sentence(capsim("calibrate", *words, *output), fragment)
    assert _files(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda raw: b"", "is empty; a record begins with a line that says what was measured on"),
        (lambda raw: raw[:100], "is no record of capsim measure; its first line does not say so"),
        (lambda raw: b"PK\x03\x04" + raw, "is no record of capsim measure"),
        (lambda raw: b"\xff\xfe" + raw, "is not UTF-8 text (byte 0)"),
        (lambda raw: b'{"format":"capsim-profile","version":1}\n', "is no record of capsim measure"),
        (lambda raw: b"format: capsim-profile\nversion: 1\n", "is no record of capsim measure"),
        (
            lambda raw: raw.replace(b'"version":1', b'"version":2', 1),
            "is a record of version 2, and this capsim reads version 1; update capsim",
        ),
        (lambda raw: raw.replace(b'"version":1', b'"version":true', 1), ":1: version=true"),
        (lambda raw: raw.replace(b'"median":', b'"median":NaN,"x":', 1), "is damaged (NaN is not a number"),
        (lambda raw: raw.replace(b'"samples":9', b'"samples":-9', 1), "samples=-9: must be at least 1"),
        (lambda raw: raw.replace(b'"phase":"gemm"', b'"phase":"germ"', 1), "case.phase='germ': valid:"),
        (lambda raw: raw.replace(b'"m":', b'"em":', 1), "m is missing; every gemm has m, n, k"),
        (lambda raw: raw.replace(b'{"case"', b'{"cas\x00', 1), "is damaged"),
        (lambda raw: raw + b"!!python/object/apply:os.system ['touch executed']\n", "is damaged"),
        (lambda raw: raw + b"[" * 10_000 + b"\n", "is damaged"),
        (lambda raw: raw + b" " * 30_000 + b"\n", "characters, the most that are read"),
        (
            lambda raw: raw.replace(b'"catalogue":"rtx-3090"', b'"catalogue":"rtx-3091"', 1),
            "which is not in the catalogue",
        ),
    ],
)
def test_damaged_records(
    capsim: Capsim, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, fragment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = tmp_path / "mine.yaml"
    profile.write_text("what was there before\n")
    raw = small.read_bytes()
    assert change(raw) != raw
    small.write_bytes(change(raw))
    assert_one_sentence(capsim("calibrate", small, "-o", profile), f"capsim: {small}", fragment)
    assert _files(tmp_path) == ["mine.yaml", "small.jsonl"]
    assert profile.read_text() == "what was there before\n"


def test_a_record_whose_end_is_missing_is_used_as_far_as_it_goes(capsim: Capsim, small: Path, tmp_path: Path) -> None:
    raw = small.read_bytes()
    small.write_bytes(raw[: len(raw) - 40])
    answer = capsim("calibrate", small, "--json").json
    lines = raw.count(b"\n") - 1  # without the first, which says where it was measured
    assert f"{lines - 1} results" in answer["profile"]["source"]


@pytest.mark.parametrize(
    ("place", "fragment"),
    [
        ("none/mine.yaml", "cannot be written (No such file or directory); name a file in a folder that exists"),
        ("", "cannot be written (it is a directory); name a file"),
        ("small.jsonl/mine.yaml", "cannot be written (No such file or directory)"),
    ],
)
def test_places_that_cannot_be_written(capsim: Capsim, small: Path, tmp_path: Path, place: str, fragment: str) -> None:
    before = small.read_bytes()
    assert_one_sentence(capsim("calibrate", small, "-o", f"{tmp_path}/{place}"), fragment)
    assert (_files(tmp_path), small.read_bytes()) == (["small.jsonl"], before)


def test_a_folder_of_somebody_else(capsim: Capsim, small: Path) -> None:
    with open_folder() as folder:
        record, closed = folder / "small.jsonl", folder / "closed"
        record.write_bytes(small.read_bytes())
        closed.mkdir(mode=0o500)
        assert capsim("calibrate", record, "-o", folder / "mine.yaml").status == 0  # all is imported that it needs
        with without_rights():
            outcome = capsim("calibrate", record, "-o", closed / "mine.yaml")
        assert_one_sentence(outcome, "cannot be written (Permission denied)")
        assert list(closed.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(
    capsim: Capsim, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("what was there before\n")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert_one_sentence(capsim("calibrate", small, "-o", profile), "cannot be written (No space left on device)")
    assert _files(tmp_path) == ["mine.yaml", "small.jsonl"]
    assert profile.read_text() == "what was there before\n"


def test_a_profile_of_another_device_is_refused(capsim: Capsim) -> None:
    for command in ("estimate", "search"):
        outcome = capsim(command, "bert-large", "--system", "dgx-h100", "--profile", "a100-sxm")
        assert_one_sentence(
            outcome, "profile=a100-sxm: was measured on a100-sxm4-80gb, and dgx-h100 has h100-sxm5-80gb"
        )


def test_steps_of_another_device_are_not_checked(capsim: Capsim, check: Path) -> None:
    outcome = capsim("calibrate", "--profile", "a40", "--check", check)
    assert_one_sentence(outcome, f"{check}: is of GeForce RTX 3090, and the profile of")


# what it loads

_LOADED = """
import sys
from simulator import cli
try:
    cli.main(sys.argv[1:])
except SystemExit as ended:
    assert ended.code == 0, ended.code
print([name for name in ("torch", "streamlit", "plotly", "pandas", "measure") if name in sys.modules])
"""


def test_torch_is_not_needed(small: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LOADED, "calibrate", str(small), "-o", str(tmp_path / "mine.yaml"), "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
    assert json.loads(ran.stdout.rpartition("[]")[0])["profile"]["id"] == "mine"
