"""What is copied and downloaded says the same as the page."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

import simulator
from dashboard.choices.scenario import BEST, fields
from dashboard.choices.state import Choices, opening
from dashboard.content import exports
from dashboard.content.answers import answer
from tests.commands.conftest import Capsim, capsim

__all__ = ["capsim"]

_CASES: dict[str, dict[str, Any]] = {
    "as it opens": {},
    "plan": {"tp": 2, "sequence_parallel": True, "placement": "dp-tp-cp-pp", "offload_optimizer": False},
    "money": {"price_kind": "owned", "purchase_price": "25000 USD", "lifetime": "4 years", "grid": "fr"},
    "long": {"tokens": 780e9, "failure_rate": "5e-4 /d", "checkpoint_every": "30 min", "effective_tokens": 90.5},
    "objective": {"objective": "span", "sequence_length": 384, "steps": 1000, "constants": "none"},
    "best": {BEST: True, "global_batch": 512, "recompute": "full"},
}


@pytest.fixture(params=_CASES)
def choices(request: pytest.FixtureRequest) -> Choices:
    return opening(fields()).change(_CASES[request.param])


def test_the_program_gives_the_answer(choices: Choices, capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, Any] = {}
    exec(exports.as_python(choices), known)
    estimate = answer(choices).estimate
    assert known["answer"].step_time_s == estimate.step_time_s
    assert known["answer"].run == estimate.run
    assert str(estimate.mfu) in capsys.readouterr().out


def test_the_command_gives_the_answer(choices: Choices, capsim: Capsim) -> None:
    program, *words = shlex.split(exports.as_command(choices))
    assert program == "capsim"
    outcome = capsim(*words, "--json")
    assert outcome.status == 0, outcome.err
    estimate = answer(choices).estimate
    best = outcome.json["best"][0] if choices[BEST] else outcome.json
    assert best["step_time_s"] == estimate.step_time_s
    assert best["mfu"] == estimate.mfu


def test_the_scenario_file_gives_the_answer(choices: Choices, capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / exports.file_name(choices, ".yaml")
    path.write_text(exports.as_yaml(choices, answer(choices)), encoding="utf-8")
    outcome = capsim("estimate", path, "--json")
    assert outcome.status == 0, outcome.err
    estimate = answer(choices).estimate
    for name in ("step_time_s", "mfu", "plan", "stack", "devices", "memory_bytes"):
        assert outcome.json[name] == json.loads(exports.as_json(estimate.to_dict()))[name], name
    assert outcome.json["run"]["cost_usd"] == estimate.run.cost_usd
    assert simulator.answer(simulator.from_file(path)).step_time_s == estimate.step_time_s


def test_a_table_holds_the_figures(choices: Choices) -> None:
    estimate = answer(choices).estimate
    text = exports.as_csv(exports.figures_of(estimate))
    rows = {row["figure"]: row for row in csv.DictReader(io.StringIO(text))}
    assert float(rows["step_time"]["value"]) == estimate.step_time_s
    assert rows["step_time"]["unit"] == "s"
    parts = sum(float(row["value"]) for name, row in rows.items() if name.startswith("step."))
    assert parts == pytest.approx(estimate.step_time_s)
    assert float(rows["memory.total"]["value"]) == estimate.memory_bytes["total"]
    assert rows["plan.placement"]["value"] == "-".join(estimate.plan["placement"])


def test_no_rows_are_an_empty_table() -> None:
    assert exports.as_csv([]) == ""


def test_long_calls_are_broken_into_lines() -> None:
    short = exports.as_call("simulator.estimate", {"model": "bert-base", "system": "rtx-3090"})
    assert short == 'simulator.estimate("bert-base", "rtx-3090")'
    long = exports.as_call(
        "simulator.rent", {"model": "m", "deadline": "60d", "workload": {"tokens": 1e9}, "x": "y" * 80}
    )
    assert long.splitlines()[0] == "simulator.rent("
    assert '    workload={"tokens": 1000000000.0},' in long.splitlines()


def test_files_are_named_after_what_they_hold() -> None:
    choices = opening(fields())
    assert exports.file_name(choices, ".csv", kind="search") == "capsim-search-bert-large-dgx-a100-640gb.csv"
    assert exports.scenario_words(choices) == "bert-large --system dgx-a100-640gb"
    assert yaml.safe_load(exports.as_yaml(choices, answer(choices)))["model"] == "bert-large"
