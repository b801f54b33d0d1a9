"""``capsim whatif``: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import simulator
from tests.commands.conftest import Capsim, Outcome, assert_one_sentence

ROOT = Path(__file__).parents[2]
WORK = {"sequence_length": 128, "global_batch": 512}
BERT = ("whatif", "bert-large", "--system", "dgx-a100-640gb", "--seq-len", 128, "--global-batch", 512)
PALM = ("whatif", ROOT / "simulator" / "specs" / "scenarios" / "palm-540b.yaml")
HALF = ("--vary", "system.device.memory_bandwidth=0.5x,1x,3 TB/s")
_HEAVY = {"torch", "scipy", "pandas", "streamlit", "plotly", "sklearn", "transformers", "matplotlib"}


def _lines(outcome: Outcome) -> list[str]:
    assert (outcome.status, outcome.err) == (0, "")
    return [line.rstrip() for line in outcome.out.splitlines()]


# rows


def test_json_holds_the_estimates(capsim: Capsim) -> None:
    answer = capsim(*BERT, *HALF, "--json").json
    assert answer == simulator.whatif("bert-large", "dgx-a100-640gb", vary=[HALF[1]], workload=WORK).to_dict()
    assert answer["base"] == capsim("estimate", *BERT[1:], "--json").json
    half, same, more = answer["variations"]
    assert half["time_per_token_ratio"] > same["time_per_token_ratio"] == 1.0 > more["time_per_token_ratio"]
    assert same["estimate"] == answer["base"]
    assert half["changes"] == [
        {"path": "system.device.memory_bandwidth", "text": "0.5x", "value": "1.0195 TB/s", "ratio": 0.5}
    ]


def test_rows_without_an_answer_are_null_in_json(capsim: Capsim) -> None:
    broken, lacking = capsim(*BERT, "--vary", "devices=7,512", "--vary", "plan.micro_batch=1", "--json").json[
        "variations"
    ]
    assert broken["estimate"] is broken["time_per_token_ratio"] is broken["fits"] is None
    assert "global_batch" in broken["problem"]
    assert lacking["problem"] is None


@pytest.mark.parametrize("width", [80, 120])
def test_the_table(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = _lines(capsim(*BERT, *HALF, "--vary", "system.device.memory_capacity=1x,0.2x"))
    assert lines[0] == "bert-large on dgx-a100-640gb, 8 devices"
    assert max(map(len, lines)) <= width
    table = "\n".join(lines)
    assert re.search(r"^   as it is +\d+ ms +same +", table, re.MULTILINE)
    assert re.search(r"^1  0\.5x +1x +\d+ ms +\+\d+\.\d % +.*\d GiB +", table, re.MULTILINE)
    assert re.search(r"^6  3 TB/s +0\.2x +\d+ ms +-\d+\.\d % +.*\d GiB!", table, re.MULTILINE)
    assert re.search(r"^6  does not fit: needs \d+\.\d GiB on a device with 15\.9 GiB", table, re.MULTILINE)
    assert ("MFU" in table) == (width == 120)


def test_rows_that_break_a_rule_say_so_below_the_table(capsim: Capsim) -> None:
    lines = _lines(capsim(*BERT, "--vary", "workload.global_batch=100,256,1024"))
    text = "\n".join(lines)
    assert re.search(r"^1  100 +-  ", text, re.MULTILINE)
    assert "1  dp=8 x micro_batch=64 does not divide global_batch=100" in text
    assert "2  dp=8 x micro_batch=64 does not divide global_batch=256" in text


def test_a_new_plan_is_told(capsim: Capsim) -> None:
    lines = _lines(capsim(*BERT, "--vary", "system.device.memory_capacity=0.15x", "--replan"))
    assert "chosen anew where it was left open" in " ".join(lines[1:3])
    assert any(re.match(r"1  dp=8, micro-batch \d+, sharding none, recompute", line) for line in lines)
    assert "does not fit" not in "\n".join(lines)


def test_what_is_to_be_expected_of_a_run_where_that_is_varied(capsim: Capsim) -> None:
    text = capsim(*BERT, "--vary", "reliability.failure_rate=0.001 /d,1 /d").out
    assert "expected" in text
    assert "failure rate" in text


def test_a_scenario_file_with_its_title(capsim: Capsim) -> None:
    lines = _lines(capsim(*PALM, "--vary", "system.cross_pod.bandwidth=0.5x"))
    assert lines[0] == "PaLM 540B as it was trained, on 6144 TPU v4 in two pods"
    assert any(re.match(r"1  0\.5x +\d+\.\d s +\+1\.\d %", line) for line in lines)


# tornado


@pytest.mark.parametrize("width", [80, 120])
def test_a_tornado_is_sorted_by_span(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = _lines(capsim(*BERT, "--tornado"))
    assert max(map(len, lines)) <= width
    start = next(number for number, line in enumerate(lines) if line.startswith("lever  ")) + 1
    rows = lines[start : lines.index("", start)]
    spans = [sum(abs(float(part)) for part in re.findall(r"([+-]\d+\.\d) %", row)) for row in rows]
    assert len(rows) == 10
    assert spans == sorted(spans, reverse=True)
    assert spans[0] > 50
    bars = [row.count("█") for row in rows]
    assert bars[0] == max(bars) > 8
    assert bars[-1] == 0
    assert len({row.index("│") for row in rows}) == 1


def test_a_tornado_as_json(capsim: Capsim) -> None:
    answer = capsim(*BERT, "--tornado", "--factor", 1.25, "--json").json
    expected = simulator.sensitivity("bert-large", "dgx-a100-640gb", factor=1.25, workload=WORK)
    assert answer == expected.to_dict()
    assert answer["factor"] == 1.25
    spans = [lever["span"] for lever in answer["levers"]]
    assert spans == sorted(spans, reverse=True)


def test_a_tornado_of_ones_own_levers(capsim: Capsim) -> None:
    lines = _lines(
        capsim(*BERT, "--tornado", "--vary", "plan.recompute=none,full", "--vary", "workload.global_batch=64")
    )
    assert any(re.match(r"recompute +\+\d+\.\d % at full +- ", line) for line in lines)
    assert any(re.match(r"global batch +\+\d+\.\d % at 64 +-0\.\d+ ", line) for line in lines)
    assert any(re.match(r"global batch 64  micro-batch 8 instead of 64", line) for line in lines)


# files


@pytest.mark.parametrize("options", [HALF, ("--tornado",)], ids=["rows", "tornado"])
def test_a_table_for_spreadsheets(capsim: Capsim, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "rows.csv"
    outcome = capsim(*BERT, *options, "--csv", path, "--json")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    answer = outcome.json
    levers = answer.get("levers", [])
    expected = [row for lever in levers for row in lever["variations"]] if levers else answer["variations"]
    assert len(rows) == 1 + len(expected)
    for row, variation in zip(rows[1:], expected, strict=True):
        assert float(row["step_time_s"]) == variation["estimate"]["step_time_s"]
        assert float(row["time_per_token_ratio"]) == variation["time_per_token_ratio"]
    assert list(tmp_path.iterdir()) == [path]
    assert "nan" not in path.read_text()


def test_a_table_that_cannot_be_written_is_refused_before_anything_is_priced(
    capsim: Capsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("priced")

    monkeypatch.setattr("simulator.variations.whatif.answer", never)
    assert_one_sentence(capsim(*BERT, *HALF, "--csv", tmp_path / "none" / "rows.csv"), "cannot be written", "rows.csv")
    assert_one_sentence(capsim(*BERT, *HALF, "--csv", tmp_path), "cannot be written")


def test_a_device_is_written_and_stays_one(capsim: Capsim) -> None:
    assert capsim(*BERT, *HALF, "--csv", os.devnull).status == 0
    assert Path(os.devnull).is_char_device()


def test_a_wrong_value_leaves_the_old_table(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")
    assert_one_sentence(capsim(*BERT, "--vary", "devices=x", "--csv", path), "devices='x'")
    assert path.read_text() == "old"


# mistakes


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ((), ["nothing is varied; give --vary", "or --tornado"]),
        (("--vary", ""), ["vary='' has no values; write PATH=VALUE"]),
        (("--vary", "devices"), ["vary='devices' has no values"]),
        (("--vary", "devices="), ["has an empty value"]),
        (("--vary", "system.inter_nod.bandwidth=2x"), ["did you mean system.inter_node.bandwidth"]),
        (("--vary", "system.inter_node.bandwidth=2"), ["has no unit; a bandwidth is written like '2 GB/s'"]),
        (("--vary", "system.inter_node.bandwidth=nan"), ["'nan' is not a bandwidth"]),
        (("--vary", "system.inter_node.bandwidth=1e300x"), ["out of range"]),
        (("--vary", "plan.micro_batch=\n"), ["has an empty value"]),
        (("--vary", "plan.micro_batch=\x1b[31m8"), ["must be a whole number"]),
        (("--vary", "x" * 5000), ["has no values"]),
        (("--vary", "x" * 5000 + "=1"), ["unknown place"]),
        (("--vary", "plan.recompute=" + "," * 50), ["has an empty value"]),
        (("--vary", "devices=8", "--vary", "devices=16"), ["devices is varied twice"]),
        (("--tornado", "--factor", "nan"), ["--factor='nan': write a number"]),
        (("--tornado", "--factor", "0"), ["give a number above 1"]),
        (("--tornado", "--factor", "two"), ["--factor='two': write a number"]),
        (("--factor", "2", "--vary", "devices=16"), ["--factor moves the levers of --tornado"]),
        (("--tornado", "--factor", "2", "--vary", "devices=16"), ["--factor moves the levers of --tornado"]),
        (("--tornado", "--vary", "zzz=1"), ["unknown place 'zzz'"]),
        (("--vary", "devices=8", "--tp", "3"), ["tp=3"]),
    ],
)
def test_a_mistake_is_one_sentence(capsim: Capsim, options: tuple[str, ...], fragments: list[str]) -> None:
    assert_one_sentence(capsim(*BERT, *options), *fragments)


def test_too_many_rows(capsim: Capsim) -> None:
    many = ",".join(f"{number}x" for number in range(1, 151))
    options = ("--vary", f"system.device.peak={many}", "--vary", f"system.device.memory_bandwidth={many}")
    assert_one_sentence(capsim(*BERT, *options), "150 x 150 = 22,500 variations are too many; at most 10,000")


@pytest.mark.parametrize(
    "options", [HALF, (*HALF, "--json"), ("--tornado", "--json")], ids=["table", "json", "tornado"]
)
def test_nothing_heavy_is_loaded(options: tuple[str, ...]) -> None:
    program = (
        "import sys\nfrom simulator import cli\n"
        f"try:\n    cli.main({[str(each) for each in (*BERT, *options)]!r})\nexcept SystemExit as ended:\n"
        "    assert not ended.code\n"
        "sys.stderr.write(' '.join({name.split('.')[0] for name in sys.modules}))"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    assert not set(process.stderr.split()) & _HEAVY
    assert ("rich" in process.stderr.split()) == ("--json" not in options)


def test_help_loads_next_to_nothing() -> None:
    program = (
        "import sys\nfrom simulator import cli\n"
        "try:\n    cli.main(['whatif', '--help'])\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "assert not {'numpy', 'yaml', 'rich'} & {name.split('.')[0] for name in sys.modules}"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    assert "--vary" in process.stdout
    assert "--tornado" in process.stdout
