"""``capsim rent`` and ``capsim sweep``: what they print, write and refuse."""

from __future__ import annotations

import csv
import io
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import simulator
from simulator.commands.shared import progress
from tests.commands.conftest import Capsim, Outcome, assert_one_sentence

ROOT = Path(__file__).parents[2]
DAY = 86400.0
WORK = {"sequence_length": 128, "global_batch": 512, "tokens": 20e9}
SYSTEMS = "workstation-rtx-3090,workstation-rtx-a6000"
SAID = ("--seq-len", 128, "--global-batch", 512, "--tokens", "20e9", "--processes", 1)
BERT = ("rent", "bert-large", "--systems", SYSTEMS, *SAID)
LIMITS = ("--deadline", "12d", "--budget", 400)
SWEEP = ("sweep", "bert-large", "bert-base", "--systems", SYSTEMS, *SAID)


def _lines(outcome: Outcome) -> list[str]:
    assert (outcome.status, outcome.err) == (0, "")
    return [line.rstrip() for line in outcome.out.splitlines()]


def _table(lines: list[str], title: str) -> list[str]:
    """Rows below a title and the names of the columns."""
    start = next(number for number, line in enumerate(lines) if line.startswith(title) and ": batch" not in line) + 2
    return lines[start : lines.index("", start)]


# plan


@pytest.mark.parametrize("width", [80, 140])
def test_the_answer(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = _lines(capsim(*BERT, *LIMITS))
    assert max(map(len, lines)) <= width
    assert lines[0] == "bert-large: 6 options; within 12.0 days, for $400"
    assert "limits count as kept from a chance of 80 %" in " ".join(lines[1:4])
    outlook = simulator.rent("bert-large", systems=SYSTEMS, deadline="12d", budget=400, workload=WORK, processes=1)
    assert outlook.cheapest is not None
    for title in ("Cheapest in time", "Fastest within the budget"):
        first = _table(lines, title)[0]
        assert re.match(r"as asked  workstation-rtx-[\w-]+ +\d+ +\d+\.?\d* \w+ +\$[\d,]+(\.\d+)? ", first)
        assert len(re.findall(r"\d %", first)) == (2 if width == 80 else 4)
    assert len(_table(lines, "Not beaten in both time and money")) == len(outlook.front)
    assert ("CO2e" in " ".join(lines)) == (width == 140)
    plan = f"dp={outlook.cheapest.devices} mb="
    if width == 80:
        assert any(plan in line for line in lines[lines.index("Plans") :])
        assert not any("mb=" in line for line in _table(lines, "Cheapest"))
    else:
        assert all("mb=" in line for line in _table(lines, "Cheapest"))


def test_without_limits_only_the_front(capsim: Capsim) -> None:
    lines = _lines(capsim(*BERT))
    assert lines[0] == "bert-large: 6 options"
    assert not any(line.startswith(("Cheapest", "Fastest", "Nearest")) for line in lines)
    assert _table(lines, "Not beaten")


def test_nothing_keeps_the_limits(capsim: Capsim) -> None:
    lines = _lines(capsim(*BERT, "--deadline", "2h", "--budget", 1))
    assert _table(lines, "Cheapest in time") == ["as asked  nothing", "          nothing up to x 2 either"]
    assert _table(lines, "Fastest within") == ["as asked  nothing", "          nothing up to x 2 either"]
    assert any(re.match(r"Nearest: needs \d[\d,.]* times the deadline and the budget$", line) for line in lines)
    assert "<1 %" in _table(lines, "Nearest")[0]


def test_what_fits_nowhere(capsim: Capsim) -> None:
    lines = _lines(capsim("rent", "palm-540b", "--systems", SYSTEMS, "--deadline", "1 year"))
    assert lines[0] == "palm-540b: 0 options; within 365 days"
    assert any(re.match(r" +6  too much memory, as 1 x workstation-rtx-", line) for line in lines)


def test_no_price_is_known(capsim: Capsim) -> None:
    lines = _lines(capsim("rent", "bert-large", *SAID, "--systems", "server-mi250x", *LIMITS))
    rows = _table(lines, "Fastest (no price is known)")
    assert all(re.search(r" \? +[<>]?\d+ % +\?$", row) for row in rows)


def test_json(capsim: Capsim) -> None:
    answer = capsim(*BERT, *LIMITS, "--json").json
    outlook = simulator.rent("bert-large", systems=SYSTEMS, deadline=12 * DAY, budget=400, workload=WORK, processes=1)
    assert {**answer, "seconds": 0.0} == {**outlook.to_dict(), "seconds": 0.0}
    lacking = capsim("rent", "bert-large", *SAID, "--systems", "server-mi250x", *LIMITS, "--json").json
    assert lacking["front"] == []
    assert {option["cost_usd"] for option in lacking["options"]} == {None}
    assert {option["chance_of_budget"] for option in lacking["options"]} == {None}


def test_the_name_that_it_had_at_first(capsim: Capsim) -> None:
    now, before = capsim(*BERT, *LIMITS, "--json"), capsim("plan", *BERT[1:], *LIMITS, "--json")
    assert (before.status, before.err) == (now.status, "capsim: capsim plan is now called capsim rent\n")
    assert {**before.json, "seconds": 0.0} == {**now.json, "seconds": 0.0}
    assert not re.search(r"^ +plan ", capsim("--help").out, re.MULTILINE)
    with pytest.warns(DeprecationWarning, match=r"simulator\.plan is now called simulator\.rent"):
        assert simulator.plan is simulator.rent


def test_a_table_in_a_file(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "options.csv"
    answer = capsim(*BERT, *LIMITS, "--csv", path, "--json").json
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["system"] for row in rows] == [option["system"] for option in answer["options"]]
    assert [float(row["chance_of_budget"]) for row in rows] == [o["chance_of_budget"] for o in answer["options"]]
    assert [float(row["expected_cost_usd"]) for row in rows] == [o["expected_cost_usd"] for o in answer["options"]]
    assert sum(row["in_front"] == "True" for row in rows) == len(answer["front"])
    assert not any(re.search(r"\b(nan|inf)\b", value) for row in rows for value in row.values())
    assert list(tmp_path.iterdir()) == [path]


def test_wishes_for_plans_and_prices(capsim: Capsim) -> None:
    wishes = ("--where", "recompute=none", "--micro-batch", 4, "--stack", "pytorch-ddp", "--price-source", "vast.ai")
    answer = capsim(*BERT, *wishes, "--json").json
    assert {option["plan"]["micro_batch"] for option in answer["options"]} == {4}
    assert {option["plan"]["recompute"] for option in answer["options"]} == {"none"}
    assert {option["stack"] for option in answer["options"]} == {"pytorch-ddp"}


def test_every_plan(capsim: Capsim) -> None:
    usual, every = (capsim(*BERT, *more, "--json").json["options"] for more in ((), ("--every-plan",)))
    assert len(usual) == len(every) == 6
    assert sum(option["time_s"] for option in every) <= sum(option["time_s"] for option in usual)


def test_a_scenario_file_says_all_but_the_system(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: bert-large\nsystem: dgx-h100\ndevices: 64\nplan: {micro_batch: 8}\n"
        "workload: {sequence_length: 128, global_batch: 512, tokens: 1.0e+9}\n"
    )
    answer = capsim("rent", path, "--systems", SYSTEMS, "--processes", 1, "--json").json
    assert {option["system"] for option in answer["options"]} == set(SYSTEMS.split(","))
    assert {option["plan"]["micro_batch"] for option in answer["options"]} == {8}
    one = simulator.estimate(
        "bert-large",
        "workstation-rtx-a6000",
        devices=answer["options"][0]["devices"],
        plan={**answer["options"][0]["plan"], "placement": "-".join(answer["options"][0]["plan"]["placement"])},
        stack=answer["options"][0]["stack"],
        workload={**WORK, "tokens": 1e9},
    )
    assert one.run.expected_time_s == answer["options"][0]["expected_time_s"]


def test_hardware_of_ones_own(capsim: Capsim) -> None:
    answer = capsim(*BERT, "--purchase-price", 1500, "--json").json
    assert answer["options"][0]["cost_usd"] > 0


# sweep


def test_a_sweep(capsim: Capsim) -> None:
    lines = _lines(capsim(*SWEEP, "--devices", "4,2"))
    for model in ("bert-large", "bert-base"):
        assert len(_table(lines, model)) == 4
        assert any(line.startswith(f"{model}: batch 512 x 128 tokens, ") for line in lines)
    assert len(_table([*lines, ""], "Plans")) >= 7


def test_a_sweep_as_json_and_in_a_file(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "best.csv"
    answer = capsim(*SWEEP, "--devices", "4,64", "--json", "--csv", path).json
    assert answer["whole"]
    assert {option["model"] for option in answer["options"]} == {"bert-large", "bert-base"}
    assert {option["devices"] for option in answer["options"]} == {4}
    assert {each["devices"] for each in answer["refused"]} == {64}
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [(row["model"], row["system"]) for row in rows] == [(o["model"], o["system"]) for o in answer["options"]]


# what cannot be


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ("--deadline 0", ["deadline='0': write a time with its unit, such as 60d, '8 weeks' or '1 year'"]),
        ("--deadline 0d", ["deadline='0d': give a time between zero and 100 years, such as 60d"]),
        ("--deadline 60", ["deadline='60': write a time with its unit"]),
        ("--deadline=-60d", ["deadline='-60d': give a time between zero and 100 years"]),
        ("--deadline 60x", ["deadline='60x': write a time with its unit"]),
        ("--deadline nand", ["deadline='nand': write a time with its unit"]),
        ("--deadline 1e400d", ["deadline='1e400d': give a time between zero and 100 years"]),
        ("--deadline '200 years'", ["deadline='200 years': give a time between zero and 100 years"]),
        ("--deadline=", ["deadline='': write a time"]),
        ("--deadline", ["--deadline", "requires an argument"]),
        ("--budget 0", ["budget=0.0: give a positive amount of USD, such as 5e6 or $12k"]),
        ("--budget=-5e6", ["budget=-5000000.0: give a positive amount"]),
        ("--budget lots", ["--budget='lots': 'lots' is not a sum of money", "written like '80 USD'"]),
        ("--budget nan", ["--budget='nan': 'nan' is not a sum of money"]),
        ("--budget 1e400", ["budget=inf: give a positive amount"]),
        ("--budget 5e6EUR", ["--budget='5e6EUR': '5e6EUR': 'EUR' is not a unit"]),
        ("--systems dgx-a100", ["unknown system 'dgx-a100'; did you mean dgx-a100-"]),
        ("--systems rtx-3090,qqq", ["unknown system 'qqq'; known: "]),
        ("--systems=", ["unknown system ''"]),
        ("--systems none.yaml", ["none.yaml: cannot be read"]),
        ("--max-devices 0", ["max_devices=0: give a whole number from 1 to 1000000"]),
        ("--max-devices=-8", ["max_devices=-8: give a whole number"]),
        ("--max-devices many", ["--max-devices='many': write a whole number"]),
        ("--max-devices 1e9", ["max_devices=1000000000: give a whole number from 1 to 1000000"]),
        ("--price-source nobody", ["price_source='nobody': valid: on-demand, spot, reserved, marketplace, akash, aws"]),
        ("--price-source=", ["price_source='': valid: "]),
        ("--price-source owned", ["price_source='owned': valid: "]),
        ("--price 2", ["--price='2': name the system that it is of, as in --price dgx-h100=2.10"]),
        ("--price rtx-3090=2 --price rtx-3090=3", ["--price='rtx-3090=3': rtx-3090 has a price already"]),
        ("--price rtx-3090=cheap", ["prices: rtx-3090='cheap': 'cheap' is not a price"]),
        ("--price rtx-3090=", ["prices: rtx-3090='': "]),
        ("--price rtx-3090=-1", ["prices: rtx-3090='-1': '-1' is out of range"]),
        (
            "--price dgx-h100=2",
            ["prices: 'dgx-h100' is none of the systems that are asked for: workstation-rtx-3090, "],
        ),
        ("--price dgx-h10=2", ["unknown system of a price 'dgx-h10'; did you mean dgx-h100"]),
        ("--system dgx-h100", ["--system", "see capsim rent --help"]),
        ("--confidence 2", ["confidence=2: give a probability from 0.01 to 0.99, such as 0.8"]),
        ("--confidence 0", ["confidence=0: give a probability"]),
        ("--confidence sure", ["--confidence='sure': write a number"]),
        ("--confidence nan", ["--confidence='nan': write a number"]),
        ("--processes 0", ["processes=0: give a whole number from 1 to 1024"]),
        ("--where tp<<8", ["where='tp<<8'"]),
        ("--tp 0", ["tp=0: must be at least 1"]),
        ("--stack xla-tpu --systems dgx-2", ["stack=xla-tpu runs on a tpu"]),
        ("--stack megatrom", ["unknown stack 'megatrom'; did you mean megatron"]),
        ("--grid mars", ["unknown grid 'mars'"]),
        ("--tokens many", ["--tokens='many': write a number"]),
        ("--cluster nonsense", ["cluster='nonsense': "]),
        ("--cluster tcp://127.0.0.1:1", ["cluster='tcp://127.0.0.1:1': "]),
        ("--cluster=", ["cluster='': "]),
        ("extra", ["extra"]),
        ("--csv {folder}/missing/a.csv", ["a.csv: cannot be written (No such file or directory)"]),
        ("--csv {folder}", ["cannot be written (it is a directory); name a file"]),
    ],
)
def test_what_cannot_be_planned(capsim: Capsim, tmp_path: Path, options: str, fragments: list[str]) -> None:
    said = shlex.split(options.format(folder=tmp_path))
    usual = {
        "--systems": SYSTEMS,
        "--csv": tmp_path / "all.csv",
        **dict(zip(map(str, SAID[::2]), SAID[1::2], strict=True)),
    }
    kept = [
        word for name, value in usual.items() if f"{name}=" not in said and name not in said for word in (name, value)
    ]
    assert_one_sentence(capsim("rent", "bert-large", *kept, *said), *fragments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["rent"], ["model", "see capsim rent --help"]),
        (["rent", "bert-larg"], ["unknown model 'bert-larg'; did you mean bert-large"]),
        (["rent", "none.yaml"], ["none.yaml: cannot be read"]),
        (["sweep"], ["see capsim sweep --help"]),
        (["sweep", "bert-large", "bert-larg"], ["unknown model 'bert-larg'; did you mean bert-large"]),
        (["sweep", "bert-large", "--systems", "qqq"], ["unknown system 'qqq'"]),
        (["sweep", "bert-large", "--devices", "8,x"], ["devices='8,x': write whole numbers separated by commas"]),
        (["sweep", "bert-large", "--max-devices", "0"], ["max_devices=0: give a whole number"]),
        (["sweep", "bert-large", "--where", "size=3"], ["unknown field of a plan in where 'size'"]),
        (["sweep", "bert-large", "--stack", "qqq"], ["unknown stack 'qqq'"]),
        (["sweep", "bert-large", "--processes", "none"], ["--processes='none': write a whole number"]),
        (["sweep", "bert-large", "--seq-len", "0"], ["sequence_length=0: must be at least 1"]),
        (["sweep", "bert-large", "--csv", "missing/all.csv"], ["missing/all.csv: cannot be written"]),
    ],
)
def test_a_command_that_cannot_be(capsim: Capsim, arguments: list[str], fragments: list[str]) -> None:
    assert_one_sentence(capsim(*arguments), *fragments)


# on a terminal


def _on_a_terminal(*arguments: object, interrupt: bool = False) -> tuple[int, str, str]:
    """Status, output, and what a terminal gets of standard error; with Ctrl-C after the first progress."""
    leader, follower = pty.openpty()
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job of a shell may ignore it
        "from simulator import cli; from simulator.commands.shared import progress\n"
        f"progress._PATIENCE = progress._OFTEN = 0.0\ncli.main({list(map(str, arguments))!r})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=follower, cwd=ROOT, start_new_session=True
    ) as process:
        os.close(follower)
        seen, end = b"", time.monotonic() + 60.0
        while time.monotonic() < end:
            if select.select([leader], [], [], 0.1)[0]:
                try:
                    part = os.read(leader, 4096)
                except OSError:  # how a terminal without processes ends
                    break
                if not part:
                    break
                seen += part
                if interrupt and b" of " in seen:
                    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all processes get it
                    interrupt = False
        out = process.communicate(timeout=60)[0]
    os.close(leader)
    return process.returncode, out.decode(), seen.decode()


def test_progress_leaves_a_clean_line() -> None:
    status, out, terminal = _on_a_terminal(*BERT)
    assert status == 0
    assert out.startswith("bert-large: 6 options")
    assert "1 of 6 systems and numbers of devices" in terminal
    assert terminal.endswith("\r\033[K")
    assert "\n" not in terminal


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interruption_shows_the_best_so_far(processes: int) -> None:
    words = ("rent", "palm-8b", "--systems", "superpod-h100,tpu-v4-pod", "--processes", processes)
    status, out, terminal = _on_a_terminal(*words, interrupt=True)
    assert status == 130
    assert "interrupted: the best found so far" in out
    assert "Not beaten in both time and money" in out
    assert re.fullmatch(r"(\r\x1b\[K[^\r\n]*)+\r\x1b\[Kcapsim: interrupted\r\n", terminal), terminal


def test_no_progress_where_nobody_looks(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    assert capsim(*BERT).err == ""
    assert capsim(*BERT, "--json").err == ""


def test_interrupted_lists_are_written(capsim: Capsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from simulator.renting import sweeping

    def best_of(case: Any) -> Any:
        if case.devices < 4:
            raise KeyboardInterrupt
        return real(case)

    real = sweeping.best_of
    monkeypatch.setattr(sweeping, "best_of", best_of)
    path = tmp_path / "some.csv"
    outcome = capsim(*BERT, "--json", "--csv", path)
    assert (outcome.status, outcome.err) == (130, "capsim: interrupted\n")
    assert not outcome.json["whole"]
    assert {option["devices"] for option in outcome.json["options"]} == {4}
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("command", ["rent", "sweep"])
def test_what_is_no_rank_is_one_sentence(capsim: Capsim, command: str) -> None:
    options = ("--systems", "dgx-h100", "--max-devices", 8, "--rank", "quick")
    assert_one_sentence(capsim(command, "bert-large", *options), "unknown rank 'quick'; ", "safe")
