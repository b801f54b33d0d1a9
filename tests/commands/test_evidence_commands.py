"""``capsim validate`` and ``capsim fit``: runs of a user from file to answer, and every kind of file that is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.corpus import runs
from simulator.evidence.fitting import ConstantsFit
from tests.commands.conftest import Capsim, assert_one_sentence
from tests.evidence.examples import fitted_to, timed, written
from tests.platforms import on_linux

_BERT = ("estimate", "bert-large", "--system", "dgx-a100-640gb", "--stack", "composer-0.11", "--micro-batch", "8")


def _rows(slower: float = 1.0) -> list[dict[str, Any]]:
    """Three runs of a user."""
    rows = [written(run) for run in fitted_to("mosaic_gpt_2022", 3)]
    for row in rows:
        row["id"] = f"own-{row['id']}"
        row["measured"]["step_time_s"] *= slower
    return rows


def _write(path: Path, rows: Any) -> Path:
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of own runs, slower than expected."""
    return _write(tmp_path / "own.yaml", _rows(1.4))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Fewer shipped runs, to be quick."""
    sample = tuple(timed()[::150])
    monkeypatch.setattr(runs, "shipped", lambda: sample)
    return len(sample)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of few iterations."""
    monkeypatch.setattr("simulator.evidence.fitting._STAGES", ((0.6, 1), (0.15, 2)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits that find what they start from."""
    monkeypatch.setattr(ConstantsFit, "solve", lambda self, *_: self.centre)


# validate


def test_the_shipped_runs_as_text(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    outcome = capsim("validate")
    assert (outcome.status, outcome.err) == (0, "")
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    assert lines[0] == f"{few} runs, {few} of them trained and tell the time of a step;"
    for start in (
        r"\d+ priced \(\d+\.\d %\) in \d+\.\d s, the others not because:",
        r"Error of the step +median +mean +90th +bias +macro +inside +90 % interval",
        r"new source +\d+\.\d % +\d+\.\d % +\d+\.\d % +[+-]\d+\.\d % +\d+\.\d % +\d+\.\d % +x0\.\d\d to \d\.\d\d",
        r"known stack +\d+\.\d %",
        r"nothing fitted +\d+\.\d %",
        r"By source",
        r"By device",
        r"By stack",
        r"By task",
    ):
        assert any(re.match(start, line) for line in lines), start
    assert max(map(len, lines)) <= 120


def test_the_shipped_runs_as_json_and_as_a_page(capsim: Capsim, tmp_path: Path, few: int) -> None:
    page = tmp_path / "page.html"
    outcome = capsim("validate", "--json", "--html", page)
    assert (outcome.status, outcome.err) == (0, "")
    answer = outcome.json
    assert answer["rows"] == few
    assert answer["priced"] + sum(answer["refused"].values()) == few
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert all(row["id"] in text for row in answer["runs"])


def test_own_runs(capsim: Capsim, own: Path, tmp_path: Path) -> None:
    answer = capsim("validate", own, "--json").json
    assert (answer["rows"], answer["priced"], answer["refused"]) == (3, 3, {})
    assert [row["id"] for row in answer["runs"]] == [row["id"] for row in _rows()]
    assert {row["source"] for row in answer["runs"]} == {"own"}
    assert answer["bias"] < -0.2
    assert capsim("validate", tmp_path, "--json").json["runs"] == answer["runs"]


def test_own_runs_as_text_tell_of_unknown_keys(capsim: Capsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    path = _write(tmp_path / "own.yaml", [row | {"weather": "rain"} for row in _rows()])
    outcome = capsim("validate", path)
    assert (outcome.status, outcome.err) == (0, "")
    assert re.search(r"keys that the schema does not know, and that were ignored: .*\bweather \(3\)", outcome.out)


def test_unknown_keys_cannot_steer_the_terminal(capsim: Capsim, tmp_path: Path) -> None:
    path = _write(tmp_path / "own.yaml", [row | {"\x1b[31mred\x07": 1} for row in _rows()])
    outcome = capsim("validate", path)
    assert outcome.status == 0
    assert "\x1b" not in outcome.out
    assert "\x07" not in outcome.out


def test_own_runs_by_other_constants(capsim: Capsim, own: Path) -> None:
    fitted, plain = (capsim("validate", own, "--json", *more).json for more in ((), ("--constants", "none")))
    assert plain["runs"][0]["predicted_s"] == plain["runs"][0]["unfitted_s"]
    assert fitted["runs"][0]["predicted_s"] != fitted["runs"][0]["unfitted_s"]


def test_several_files_are_taken_together(capsim: Capsim, tmp_path: Path) -> None:
    one, two = (_write(tmp_path / f"{name}.yaml", rows) for name, rows in (("a", _rows()[:1]), ("b", _rows()[1:])))
    assert set(capsim("validate", one, two, "--json").json["by_source"]) == {"a", "b"}


# fit


@pytest.mark.usefixtures("hasty")
def test_a_fit_changes_the_answer_and_the_interval(capsim: Capsim, own: Path, tmp_path: Path) -> None:
    path = tmp_path / "constants.yaml"
    outcome = capsim("fit", "--runs", own, "-o", path)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("capsim fit: 3 runs of 1 source, written to ")
    assert "use it with --constants" in outcome.out
    before = capsim(*_BERT, "--json").json
    after = capsim(*_BERT, "--constants", path, "--json").json
    assert after["step_time_s"] > 1.02 * before["step_time_s"]
    for answer in (before, after):
        assert answer["step_time_low_s"] < answer["step_time_s"] < answer["step_time_high_s"]
        assert answer["interval_level"] == 0.9
    assert _limits(before) != pytest.approx(_limits(after))
    assert after["evidence"]["constants"] == "capsim fit: 3 runs of 1 source"
    assert abs(capsim("validate", own, "--constants", path, "--json").json["bias"]) < 0.2


def _limits(answer: Any) -> tuple[float, float]:
    """An interval as factors."""
    middle = answer["step_time_s"]
    return answer["step_time_low_s"] / middle, answer["step_time_high_s"] / middle


def test_without_constants_there_is_no_interval(capsim: Capsim) -> None:
    answer = capsim(*_BERT, "--constants", "none", "--json").json
    assert answer["step_time_low_s"] is answer["step_time_high_s"] is answer["interval_level"] is None
    assert answer["evidence"] is None
    assert answer["step_time_s"] != capsim(*_BERT, "--json").json["step_time_s"]
    assert capsim(*_BERT, "--constants", "none").status == 0


@pytest.mark.usefixtures("quick")
def test_a_fit_as_json(capsim: Capsim, own: Path, tmp_path: Path) -> None:
    path = tmp_path / "constants.yaml"
    answer = capsim("fit", "--runs", own, "--output", path, "--json").json
    assert (answer["runs"], answer["runs_by_source"], answer["refused"]) == (3, {"own": 3}, {})
    assert answer["output"] == str(path)
    assert answer["moved"] == {}
    assert answer["median_abs_error_before"] == answer["median_abs_error_left_out"] > 0.2
    assert path.exists()


@pytest.mark.usefixtures("quick")
def test_a_fit_replaces_what_was_written_before(capsim: Capsim, own: Path, tmp_path: Path) -> None:
    path = tmp_path / "constants.yaml"
    assert capsim("fit", "--runs", own, "-o", path).status == 0
    first = path.read_bytes()
    path.write_text("something else " * 20_000)
    assert capsim("fit", "--runs", own, "-o", path).status == 0
    assert path.read_bytes() == first


@pytest.mark.usefixtures("quick")
def test_without_a_name_the_file_lies_here(
    capsim: Capsim, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert capsim("fit", "--runs", own).status == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["constants.yaml", "own.yaml"]


@pytest.mark.usefixtures("quick")
def test_a_fit_may_start_from_other_constants(capsim: Capsim, own: Path, tmp_path: Path) -> None:
    path = tmp_path / "constants.yaml"
    answer = capsim("fit", "--runs", own, "-o", path, "--constants", "none", "--json").json
    again = capsim("fit", "--runs", own, "-o", path, "--json").json
    assert answer["median_abs_error_before"] != again["median_abs_error_before"]


# Bad input


_COMMANDS = (("validate",), ("fit", "-o", "never-written.yaml", "--runs"))
_BOTH = pytest.mark.parametrize("command", _COMMANDS, ids=lambda command: command[0])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@_BOTH
def test_a_path_that_is_none(capsim: Capsim, here: Path, command: tuple[str, ...]) -> None:
    assert_one_sentence(capsim(*command, "nowhere.yaml"), "nowhere.yaml: cannot be read")
    folder = here / "folder"
    folder.mkdir()
    assert_one_sentence(capsim(*command, folder), "folder: holds no YAML files")
    (folder / "inner.yaml").mkdir()
    assert_one_sentence(capsim(*command, folder), "inner.yaml: is a directory")
    assert_one_sentence(capsim(*command, "two\nlines.yaml"), r"two\nlines.yaml")
    assert [each.name for each in here.iterdir()] == ["folder"]


@_BOTH
@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "must hold a list of runs"),
        (b"runs: []", "must hold a list of runs"),
        (b"5", "must hold a list of runs"),
        (b"- 5", "run 0: must be a mapping"),
        (b"- [a]", "run 0: must be a mapping"),
        (b"- {}", "is missing"),
        (b"- {id: x}", "run 'x': 'model' is missing"),
        (b"- {id: x, model: {}, hardware: 5}", "run 'x': hardware=5: must be a mapping"),
        (b"- {id: x, model: {layers: many}, hardware: {}}", "run 'x': model.layers='many': must be a number"),
        (b"- {id: x, model: {layers: -3}, hardware: {}}", "model.layers=-3: must be greater than 0"),
        (b"- {id: x, model: {layers: true}, hardware: {}}", "run 'x'"),
        (b"- {id: x, model: {layers: [1]}, hardware: {}}", "run 'x'"),
        (b"- {id: x, model: {}, hardware: {devices: .inf}}", "must be a finite number"),
        (b"- {id: x, model: {}, hardware: {}, measured: {step_time_s: .nan}}", "must be a finite number"),
        (b"- {id: x, model: {}, hardware: {}, measured: {step_time_s: fast}}", "measured.step_time_s='fast'"),
        (b"- {id: x, model: {}, hardware: {}, plan: {flash_attention: maybe}}", "plan.flash_attention='maybe'"),
        (b"- {id: [x], model: {}, hardware: {}}", "run ['x']: id=['x']: must be text"),
        (b"- {id: x, id: y, model: {}, hardware: {}}", "given twice"),
        (b"- {id: x, model: {}, hardware: {}}\n- {id: x, model: {}, hardware: {}}", "another run has this id"),
        (b"- &a {id: x}\n- *a", "anchors and aliases are not accepted"),
        (b"[" * 100_000, "nested too deeply"),
        (b"- {", "not valid YAML"),
        (bytes(range(256)), "is not UTF-8 text"),
    ],
    ids=lambda value: value[:70].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_file_that_holds_no_runs(
    capsim: Capsim, here: Path, command: tuple[str, ...], content: bytes, fragment: str
) -> None:
    path = here / "runs.yaml"
    path.write_bytes(content)
    assert_one_sentence(capsim(*command, path), "runs.yaml:", fragment)
    assert [each.name for each in here.iterdir()] == ["runs.yaml"]


@_BOTH
def test_one_run_in_two_files(capsim: Capsim, here: Path, command: tuple[str, ...]) -> None:
    _write(here / "a.yaml", _rows()[:1])
    _write(here / "b.yaml", _rows()[:1])
    assert_one_sentence(capsim(*command, here), "b.yaml: run 'own-", "another run has this id")


@_BOTH
def test_a_huge_file(capsim: Capsim, here: Path, command: tuple[str, ...]) -> None:
    path = here / "runs.yaml"
    with path.open("wb") as file:
        file.truncate(60_000_000)
    assert_one_sentence(capsim(*command, path), "runs.yaml: has more than 50,000,000 bytes")


def test_runs_that_cannot_be_fitted_to(capsim: Capsim, here: Path) -> None:
    kept = here / "constants.yaml"
    kept.write_text("mine")
    path = _write(here / "runs.yaml", [row | {"measured": {}} for row in _rows()])
    assert_one_sentence(capsim("fit", "--runs", path, "-o", kept), "no run to fit to: none trained with a step time")
    assert_one_sentence(capsim("fit", "--runs", _write(path, []), "-o", kept), "no run to fit to")
    assert kept.read_text() == "mine"
    assert capsim("validate", path, "--json").json["rows"] == 0


@pytest.mark.usefixtures("quick")
def test_an_output_that_cannot_be_written(capsim: Capsim, own: Path, here: Path) -> None:
    for output, why in (("no/where.yaml", "No such file"), (".", "directory")):
        assert_one_sentence(capsim("fit", "--runs", own, "-o", output), f"{output}: cannot be written", why)
        assert_one_sentence(capsim("validate", own, "--html", output), f"{output}: cannot be written", why)
        assert_one_sentence(capsim("validate", own, "--json", "--html", output), "cannot be written", why)
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("quick")
@on_linux
def test_a_full_disk(capsim: Capsim, own: Path) -> None:
    assert_one_sentence(capsim("fit", "--runs", own, "-o", "/dev/full"), "No space left on device")
    assert_one_sentence(capsim("validate", own, "--html", "/dev/full"), "No space left on device")


@pytest.mark.parametrize("output", ["no/where.yaml", "."])
def test_the_long_fit_refuses_an_output_before_it_starts(
    capsim: Capsim, here: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    def never() -> None:
        raise AssertionError("fitted for minutes before looking at the output")

    monkeypatch.setattr("simulator.evidence.refit.shipped", never)
    assert_one_sentence(capsim("fit", "-o", output), "cannot be written")


@pytest.mark.parametrize("command", [_BERT, ("validate",), ("fit", "-o", "never-written.yaml")], ids=lambda c: c[0])
@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (None, "cannot be read"),
        ("layers: 3", "no shifts; write the file with capsim fit"),
        ("- 3", "must hold a mapping"),
        ("shifts: {speed: {}}", "unknown kind of constant 'speed'"),
        ("shifts: {launches: {stack: {composer: fast}}}", "composer=fast: write a number from -5 to 5"),
        ("shifts: {launches: {stack: {composer: .nan}}}", "write a number from -5 to 5"),
    ],
)
def test_constants_that_are_none(
    capsim: Capsim, own: Path, here: Path, command: tuple[str, ...], content: str | None, fragment: str
) -> None:
    path = here / "mine.yaml"
    if content is not None:
        path.write_text(content)
    runs_too = [] if command == _BERT else ["--runs", own] if command[0] == "fit" else [own]
    assert_one_sentence(capsim(*command, *runs_too, "--constants", path), "mine.yaml: ", fragment)
    assert [each.name for each in here.iterdir()] == ([] if content is None else ["mine.yaml"])


@pytest.mark.parametrize("arguments", [("validate", "--nonsense"), ("fit", "--runs"), ("fit", "extra"), ("fit", "-o")])
def test_options_that_cannot_be(capsim: Capsim, arguments: tuple[str, ...]) -> None:
    assert_one_sentence(capsim(*arguments), "see capsim ", "--help")


def test_help_has_an_example(capsim: Capsim) -> None:
    for command in ("validate", "fit"):
        outcome = capsim(command, "--help")
        assert (outcome.status, outcome.err) == (0, "")
        assert f"capsim {command}" in outcome.out


# How one run is read


def test_one_run_is_explained_field_by_field(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    outcome = capsim("validate", "--explain", "titan-202412-8b-8gpu-bf16")
    assert (outcome.status, outcome.err) == (0, "")
    first, *lines = outcome.out.splitlines()
    assert re.fullmatch(r"titan-202412-8b-8gpu-bf16: measured 2\.84 s, predicted .* s \([-+].* %\)", first)
    told = next(line for line in lines if line.startswith("hardware.device "))
    assert 'devices: "h100-sxm5-96g"' in told
    assert told.rstrip().endswith("system.device = h100-sxm5-96gb-500w")
    assert "assumed: device: the edition with HBM2e" in lines
    assert any(line.startswith("rule devices: ^h100") for line in lines)


def test_one_run_is_explained_as_json(capsim: Capsim, own: Path) -> None:
    name = _rows()[0]["id"]
    answer = capsim("validate", own, "--explain", name, "--json").json
    assert (answer["id"], answer["refused"]) == (name, None)
    rows = {row["field"]: row for row in answer["fields"]}
    assert rows["hardware.device"]["result"].startswith("system.device = ")
    assert answer["outcome"]["measured_s"] == pytest.approx(_rows(1.4)[0]["measured"]["step_time_s"])


def test_a_refused_run_is_explained(capsim: Capsim) -> None:
    outcome = capsim("validate", "--explain", "tpurec-v5p-deepseek3-512")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("tpurec-v5p-deepseek3-512: not priced: recomputes some parts of a layer")


def test_an_unknown_run_is_refused_with_those_spelled_alike(capsim: Capsim) -> None:
    assert_one_sentence(
        capsim("validate", "--explain", "palm-540b-6145"), "--explain='palm-540b-6145'", "palm-540b-6144"
    )
    assert_one_sentence(capsim("validate", "--explain", "?"), "no run has this id")
    assert_one_sentence(capsim("validate", "--explain", "palm-540b-6144", "--html", "page.html"), "give one of them")


# Logs


def test_a_log_tells_the_time_of_a_step_and_becomes_a_run(capsim: Capsim, tmp_path: Path) -> None:
    lines = [
        f"iteration {step} / 90 | elapsed time per iteration (ms): {9000 if step < 3 else 2000}"
        for step in range(1, 21)
    ]
    log, scenario, run = (tmp_path / name for name in ("train.log", "mine.yaml", "run.yaml"))
    log.write_text("\n".join(lines))
    scenario.write_text("{model: llama-3-8b, system: dgx-h100, workload: {sequence_length: 4096, global_batch: 64}}")
    assert "2 s a step" in capsim("read-log", log).out.replace("2.00", "2")
    answer = capsim("read-log", log, "--scenario", scenario, "-o", run, "--json").json
    assert (answer["step_time_s"], answer["records"], answer["warm_up"]) == (2.0, 20, 4)
    (row,) = yaml.safe_load(run.read_text())
    assert (row["id"], row["measured"]["step_time_s"]) == ("mine", 2.0)
    fitted = capsim("fit", "--runs", run, "-o", tmp_path / "constants.yaml", "--json").json
    assert fitted["runs"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--name", "speed"), "no line of Megatron"),
        (("--warm-up", "few"), "--warm-up='few': write a whole number"),
        (("--warm-up", "9"), "1 records, of which 9 are warm-up"),
        (("-o", "run.yaml"), "--scenario and -o go together"),
        (("--scenario", "mine.yaml"), "--scenario and -o go together"),
    ],
)
def test_what_a_log_cannot_is_one_sentence(
    capsim: Capsim, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    log = tmp_path / "train.log"
    log.write_text("iteration 1 / 90 | elapsed time per iteration (ms): 9000")
    assert_one_sentence(capsim("read-log", log, *options), words)


def test_a_run_is_explained_with_what_its_prediction_rests_on(capsim: Capsim) -> None:
    answer = capsim("validate", "--explain", "palm-540b-6144", "--json").json["prediction"]
    assert sum(answer["breakdown_s"].values()) == pytest.approx(answer["predicted_s"])
    assert answer["low_s"] < answer["predicted_s"] < answer["high_s"]
    assert len(answer["neighbours"]) == 5
    text = capsim("validate", "--explain", "palm-540b-6144").out
    assert "Part of the step" in text
    assert "Run of another source" in text
