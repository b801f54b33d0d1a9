"""What the Calibrate page asks: which files make which question, what is found, and how it is told."""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import simulator
from dashboard.choices.scenario import BEST, arguments, fields
from dashboard.choices.state import Choices, opening
from dashboard.choices.uploaded import Upload
from dashboard.content import calibrated as told
from dashboard.content.calibrating import (
    CHECK,
    DEVICE,
    DO,
    FIELDS,
    MOST_FILES,
    OPENING,
    PHASE,
    ROWS,
    SHIPPED,
    Calibrated,
    CalibrateQuestion,
    devices_of,
    find,
    is_known,
    part_of,
    question,
    sent,
    usual,
)
from hardware import units
from hardware.errors import InputError
from simulator.profiling.comparison import WORDS
from tests.dashboard import records

_RECORD = Upload.of("record.jsonl", records.of_graphics())
_CORE = Upload.of("core.jsonl", records.of_processor())
_TABLE = Upload.of("passes.csv.gz", records.table())
_CARD = Upload.of("card.csv", records.table_of_one())
_PROFILE = Upload.of("mine.yaml", records.profile())


def _with(**values: Any) -> Choices:
    return opening((*fields(), *FIELDS)).change(values)


@pytest.fixture(scope="module")
def fitted() -> Calibrated:
    """A profile of a record."""
    return find(question(_with(), [_RECORD]))


def test_it_opens_on_a_profile_for_the_system_at_hand() -> None:
    assert question(_with()) == CalibrateQuestion("a100-sxm")
    assert question(_with(system="dgx-h100")) == CalibrateQuestion("h100-sxm")
    assert question(_with(system="rtx-3090")) == CalibrateQuestion(OPENING)
    assert question(_with(system="tpu-v4")) == CalibrateQuestion(OPENING)
    assert usual(_with(system="some-host@123456789012")) == OPENING
    assert question(_with(**{SHIPPED: "l40s"})) == CalibrateQuestion("l40s")


def test_what_has_no_part_in_a_question_is_not_in_it() -> None:
    """So that an answer that is known is found again."""
    chosen = _with(**{SHIPPED: "l40s", DEVICE: "rtx-3090", ROWS: "b200", PHASE: "step"})
    assert question(chosen) == CalibrateQuestion("l40s")
    assert question(chosen, [_PROFILE]) == CalibrateQuestion("", (_PROFILE,))
    assert question(chosen, [_RECORD]) == CalibrateQuestion("", (_RECORD,), "rtx-3090")
    assert question(chosen.change({DO: CHECK}), [_RECORD]) == CalibrateQuestion("l40s", (_RECORD,))
    assert question(_with(), [_RECORD, _PROFILE]) == CalibrateQuestion("", (_RECORD, _PROFILE))
    assert question(_with(), [_RECORD]).fits
    assert not question(_with(), [_RECORD, _PROFILE]).fits


@pytest.mark.parametrize(
    ("values", "uploads", "said", "place"),
    [
        ({}, [_CARD], "card.csv: does not say which device it is of; choose it", DEVICE),
        ({DEVICE: "rtx-3090"}, [_TABLE], "passes.csv.gz: has rows of 2 devices; choose one of them", ROWS),
        ({DO: CHECK, SHIPPED: "l40s"}, [_TABLE], "passes.csv.gz: has rows of 2 devices; choose one of them", ROWS),
        ({}, [_PROFILE, Upload.of("b.yaml", b"")], "b.yaml: is a second profile beside mine.yaml; remove one", None),
        ({}, [Upload.of("a.exe", b"")], "a.exe: is none of the files that are read", None),
        ({}, [_RECORD] * (MOST_FILES + 1), f"9 files were uploaded; remove some, {MOST_FILES} are the most", None),
        ({DEVICE: "rtx-3090"}, [Upload.of("a.csv", b"a,b\n1,2\n")], "a.csv: column device is missing", None),
    ],
)
def test_files_that_say_too_little(values: dict[str, Any], uploads: list[Upload], said: str, place: str | None) -> None:
    with pytest.raises(InputError) as caught:
        question(_with(**values), uploads)
    assert str(caught.value).startswith(said)
    assert caught.value.fields == (() if place is None else (place,))


def test_tables_are_read_by_the_names_that_they_have() -> None:
    assert devices_of([_TABLE, _CARD, _RECORD]) == ("a100-pcie-80gb", "b200", "card")
    assert question(_with(**{DEVICE: "rtx-3090"}), [_CARD]).rows_of == "card"
    assert question(_with(**{DEVICE: "a100-pcie-80gb"}), [_TABLE]).rows_of is None
    assert question(_with(**{DEVICE: "rtx-3090", ROWS: "b200"}), [_TABLE]).rows_of == "b200"
    assert question(_with(**{DEVICE: "a100-pcie-80gb", ROWS: "gone"}), [_TABLE]).rows_of is None
    assert question(_with(**{DO: CHECK, SHIPPED: "a100-pcie"}), [_TABLE]).rows_of is None


def test_a_record_becomes_the_profile_of_the_api(fitted: Calibrated, tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    file.write_bytes(records.of_graphics())
    wanted = simulator.calibrate([file], name="record.yaml")
    assert fitted.profile == wanted
    assert fitted.comparison.to_dict() == simulator.compare_profile(wanted, [file]).to_dict()
    assert fitted.constants == simulator.profile_constants(wanted)
    assert (fitted.uploaded, fitted.rows, fitted.file) == (True, "fitted", "record.yaml")
    assert simulator.load_profile(_saved(fitted, tmp_path)) == wanted.model_copy(update={"id": "record"})


def _saved(calibrated: Calibrated, folder: Path) -> Path:
    path = folder / calibrated.file
    path.write_text(told.as_yaml(calibrated))
    return path


@pytest.mark.parametrize(
    ("values", "uploads", "rows", "phases"),
    [
        ({}, [], "fitted", {"gemm", "attention", "stream", "collective"}),
        ({DEVICE: "h100-sxm5-80gb"}, [_CARD], "fitted", {"gemm"}),
        ({DEVICE: "rtx-3090"}, [_CARD], "fitted", set()),
        ({}, [_CORE], "fitted", {"gemm", "attention", "stream", "step"}),
        ({}, [_PROFILE], "kept", {"gemm"}),
        ({}, [_PROFILE, _TABLE], "others", {"gemm"}),
        ({DO: CHECK, SHIPPED: "a100-pcie"}, [_TABLE], "others", {"gemm"}),
        ({DEVICE: "rtx-3090", ROWS: "b200"}, [_RECORD, _TABLE], "fitted", set(WORDS)),
    ],
)
def test_what_is_found(values: dict[str, Any], uploads: list[Upload], rows: str, phases: set[str]) -> None:
    calibrated = find(question(_with(**values), uploads))
    assert calibrated.rows == rows
    assert set(calibrated.comparison.parts) == phases
    assert calibrated.uploaded == ((rows != "others" and bool(uploads)) or _PROFILE in uploads)


def test_an_answer_is_found_again(fitted: Calibrated) -> None:
    asked = question(_with(), [Upload.of("record.jsonl", records.of_graphics())])
    assert is_known(asked)
    assert find(asked) is fitted
    assert not is_known(question(_with(), [Upload.of("other.jsonl", records.of_graphics())]))


def test_work_tells_how_far_it_is_and_ends_when_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said: list[str] = []

    class _LeftError(Exception):
        pass

    def tell(words: str) -> None:
        said.append(words)
        if "matrix products" in words:
            raise _LeftError

    asked = question(_with(), [Upload.of("left.jsonl", records.of_graphics())])
    with pytest.raises(_LeftError):
        find(asked, tell)
    assert not is_known(asked)
    ended = time.monotonic() + 30.0
    while list(tmp_path.iterdir()) and time.monotonic() < ended:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
    assert "393 matrix products" in said


def test_a_mistake_in_a_file_is_one_sentence() -> None:
    for name, content, sentence in (
        ("a.jsonl", b"{}", "a.jsonl: is no record of capsim measure; its first line does not say so"),
        ("a.yaml", b"hello: 1", "a.yaml: is no profile of capsim calibrate; its format does not say so"),
        ("a.yaml", b"\xff\xfe", "a.yaml: is not UTF-8 text (byte 0)"),
        ("a.yaml", b"a: &x [1]\nb: *x", "a.yaml:1: YAML anchors and aliases are not accepted; write the value out"),
    ):
        with pytest.raises(InputError) as caught:
            find(question(_with(), [Upload.of(name, content)]), lambda _: None)
        assert str(caught.value) == sentence
    text = b"device,dtype,m,n,k,us\na,bf16,x,2,3,4\n"
    with pytest.raises(InputError, match=r"^a\.csv:2: m='x' is no number from 1 to 1e\+12"):
        find(question(_with(**{DEVICE: "rtx-3090"}), [Upload.of("a.csv", text)]))
    with pytest.raises(InputError, match=r"^record\.jsonl: is of .*, and the profile of A100"):
        find(question(_with(**{DO: CHECK}), [_RECORD]))


def test_the_kind_of_work_that_is_drawn(fitted: Calibrated) -> None:
    assert part_of(fitted, _with())[0] == "gemm"
    assert part_of(fitted, _with(**{PHASE: "step"})) == ("step", fitted.comparison.parts["step"])
    core = find(question(_with(), [_CORE]))
    assert part_of(core, _with(**{PHASE: "collective"})) == ("collective", None)


def test_headlines_are_scores_of_rows_that_were_held_out(fitted: Calibrated) -> None:
    scores = told.headlines(fitted.profile)
    assert [score.phase for score in scores] == ["gemm", "attention", "stream", "collective", "step"]
    assert all(score in fitted.profile.held_out for score in scores)
    assert all(told.is_taken(score) for score in scores)
    by_phase = {score.phase: score for score in scores}
    assert told.error_of(by_phase["gemm"]) == by_phase["gemm"].with_residuals
    assert told.error_of(by_phase["step"]) == by_phase["step"].median
    pcie = simulator.load_profile("a100-pcie")
    taken = {score.phase: told.is_taken(score) for score in told.headlines(pcie)}
    assert taken["gemm"]
    assert taken["attention"] == ("bf16" in pcie.attentions)


def test_tables_say_what_the_profile_does(fitted: Calibrated) -> None:
    rows = told.score_rows(fitted.profile)
    assert len(rows) == len(fitted.profile.held_out)
    assert set(told.PERCENTAGES) < set(rows[0])
    assert rows[0]["constants alone"] == pytest.approx(100.0 * fitted.profile.held_out[0].median)
    listed = told.fitted_rows(fitted)
    assert {(row["of"], row["constant"]) for row in listed} > {
        ("products, bf16", "launch"),
        ("send over 2 ranks", "rate"),
    }
    reasons = told.borrowed(fitted)
    profile = fitted.profile
    assert set(reasons) == {*profile.borrowed.values(), *profile.kept.values()}
    assert sum(map(len, reasons.values())) == len(profile.borrowed) + len(profile.kept)
    assert "products, fp32" in {name for names in reasons.values() for name in names}


@pytest.mark.parametrize("rows", ["fitted", "kept", "others"])
def test_errors_in_words(fitted: Calibrated, rows: Any) -> None:
    part = fitted.comparison.parts["step"]
    words = told.errors_in_words(part, "after_s", rows)
    assert words.startswith(f"{len(part)} rows: the median error is ")
    assert units.percent(part.errors(part.before_s).median) in words
    assert words.endswith(".")
    same = told.errors_in_words(replace(part, after_s=part.before_s), "after_s", rows)
    assert same.endswith("The catalogue's constants stand for them: nothing that was measured gave better ones.")


def test_errors_are_plain(fitted: Calibrated) -> None:
    plain = json.loads(json.dumps(told.as_errors(fitted), allow_nan=False))
    assert plain["errors"]["step"]["profile"]["rows"] == 12
    assert plain["held_out"][0]["phase"] == "gemm"


@pytest.mark.parametrize(
    ("values", "uploads"),
    [
        ({}, []),
        ({}, [_PROFILE]),
        ({DEVICE: "h100-sxm5-80gb"}, [_CARD]),
        ({DEVICE: "gb200", ROWS: "b200"}, [_TABLE]),
        ({}, [_PROFILE, _TABLE]),
        ({DO: CHECK, SHIPPED: "a100-pcie"}, [_TABLE]),
    ],
)
def test_programs_do_the_same(
    values: dict[str, Any],
    uploads: list[Upload],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = question(_with(**values), uploads)
    wanted = find(asked)
    for each in uploads:
        (tmp_path / each.name).write_bytes(each.content)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(told.as_python(asked), namespace)
    assert namespace["comparison"].to_dict()["errors"] == wanted.comparison.to_dict()["errors"]
    assert namespace["profile"].constants == wanted.profile.constants
    assert capsys.readouterr().out


def test_commands_do_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from simulator.cli import app

    (tmp_path / "card.csv").write_bytes(records.table_of_one())
    (tmp_path / "core.jsonl").write_bytes(records.of_processor())
    monkeypatch.chdir(tmp_path)
    wanted = find(question(_with(**{DEVICE: "rtx-3090"}), [_CARD]))
    commands = {
        told.as_command(question(_with(**{DEVICE: "rtx-3090"}), [_CARD])): "card.yaml: written",
        told.as_command(question(_with(**{SHIPPED: "l40s"}))): "L40S",
        told.as_command(question(_with(), [_CORE])): "core.yaml: written",
        "capsim calibrate --profile core.yaml --check core.jsonl": "bert-base",
    }
    for command, said in commands.items():
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
        assert said in result.output.replace("\n", " ")
    assert simulator.load_profile("card.yaml").constants == wanted.profile.constants
    core = Upload.of("core.yaml", (tmp_path / "core.yaml").read_bytes())
    assert told.as_command(question(_with(), [core, _CORE])) == list(commands)[-1]


def test_a_scenario_uses_a_profile_on_a_system_that_it_speaks_for(fitted: Calibrated) -> None:
    shipped = find(question(_with()))
    assert sent(shipped, _with()) == {"profile": "a100-sxm", BEST: False}
    assert sent(shipped, _with(precision="fp16")) == {"profile": "a100-sxm", BEST: False}
    moved = sent(fitted, _with(devices=8))
    assert moved == {"profile": fitted.name, BEST: False, "system": "rtx-3090", "devices": None, "stack": None}
    assert sent(fitted, _with(system="rtx-3090", profile=fitted.name)) == {"profile": fitted.name, BEST: False}
    for choices in (_with().change(moved), _with().change(sent(find(question(_with(), [_CORE])), _with()))):
        estimate = simulator.estimate(**arguments(choices))
        assert estimate.basis is not None
        assert estimate.basis["catalogue"] < 0.5
