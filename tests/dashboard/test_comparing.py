"""Several scenarios side by side: the text of the link, what differs, what each answer rests on."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import simulator
from dashboard.choices.scenario import BEST, fields
from dashboard.choices.state import Choices, Field, opening
from dashboard.content import comparing
from dashboard.content.answers import Answer, answer
from dashboard.content.comparing import LONGEST, MOST, ComparedRow, from_text, to_text
from dashboard.figures import theme
from hardware import units
from hardware.errors import InputError
from simulator.specs.loading import ScenarioFile

ROOT = Path(__file__).parents[2]
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(1, 10**15),
    "amount": st.floats(1e-6, 1e15, allow_nan=False),
    "flag": st.booleans(),
    "text": st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=200),
}


def _value(each: Field) -> st.SearchStrategy[Any]:
    """What a control of a field can hold."""
    known = st.sampled_from(each.options) if each.kind == "choice" else _VALUES[each.kind]
    known = known.filter(lambda text: text == text.strip() and text.isprintable()) if each.kind == "text" else known
    return known if each.default is not None else st.none() | known


@st.composite
def _scenarios(draw: st.DrawFn) -> Choices:
    chosen = draw(st.lists(st.sampled_from(fields()), max_size=6, unique=True))
    return opening(fields()).change({each.name: draw(_value(each)) for each in chosen})


def _rows(scenarios: list[Choices] | tuple[Choices, ...]) -> list[ComparedRow]:
    """Scenarios with their answers, or with what is wrong with them."""
    compared_rows = []
    for label, row in zip(comparing.labels(scenarios), scenarios, strict=True):
        try:
            compared_rows.append(ComparedRow(label, row, answer(row)))
        except InputError as error:
            compared_rows.append(ComparedRow(label, row, problem=error))
    return compared_rows


def _changed(**values: Any) -> Choices:
    return opening(fields()).change(values)


@given(st.lists(_scenarios(), min_size=1, max_size=MOST))
def test_a_link_brings_back_every_scenario(rows: list[Choices]) -> None:
    text = to_text(rows)
    assert text
    assert text.isprintable()
    assert from_text(text) == (rows, [])


@given(st.text(max_size=300))
def test_no_text_of_a_link_fails(text: str) -> None:
    rows, problems = from_text(text)
    assert 1 <= len(rows) <= MOST
    assert all(problem and "\n" not in problem for problem in problems)
    assert from_text(to_text(rows)) == (rows, [])


def test_examples() -> None:
    assert doctest.testmod(comparing).failed == 0
    assert doctest.testmod(theme).failed == 0


def test_only_what_differs_stands_in_the_link() -> None:
    first = _changed(system="rtx-3090", devices=4)
    rows = [first, first, first.change({"devices": None, "price": "5%~"}), first.change({"model": "gpt2-1.5b"})]
    assert to_text(rows) == "system.rtx-3090~devices.4~~.~~devices.~price.5%25%7E~~model.gpt2-1.5b"
    assert to_text([opening(fields())]) == "."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("modle.x", "Scenario 1: the link names 'modle', which no scenario has; did you mean model?"),
        ("qqqq.x", "Scenario 1: the link names 'qqqq', which no scenario has; it is left out"),
        (".~~tp.two", "Scenario 2: The link says tp='two': write a whole number from 1"),
        (".~~system.dgx-a100", "Scenario 2: The link says system='dgx-a100': did you mean dgx-a100-"),
        ("~~".join(["."] * 13), "The link compares 13 scenarios; the first 12 are shown, which is the most."),
    ],
)
def test_a_wrong_link_says_what_is_wrong(text: str, problem: str) -> None:
    rows, problems = from_text(text)
    assert len(problems) == 1
    assert problems[0].startswith(problem)
    assert rows[0] == opening(fields())


def test_the_ready_made_sets_are_those_of_the_claims() -> None:
    sets = comparing.ready_made()
    first, *_ = sets.values()
    assert first == comparing.begun_with()
    assert [row["system"] for row in first] == [
        "dgx-1-v100-32gb", "dgx-a100-640gb", "server-rtx-3090", "server-rtx-a6000",
    ]  # fmt: skip
    assert {row["model"] for row in first} == {"bert-large"}
    assert any({row["model"] for row in rows} == {"palm-540b"} for rows in sets.values())
    for rows in sets.values():
        assert len(to_text(rows)) < LONGEST / 10
        assert all(row.problem is None for row in _rows(rows))


def test_names_say_what_tells_scenarios_apart() -> None:
    base = _changed(system="rtx-3090")
    assert comparing.labels([base]) == ["1 rtx-3090"]
    assert comparing.labels([base, base]) == ["1 rtx-3090", "2 rtx-3090"]
    other = base.change({"system": "rtx-a6000", "devices": 4, "offload_optimizer": True, "precision": "bf16"})
    assert comparing.labels([base, other]) == [
        "1 rtx-3090",
        "2 rtx-a6000, devices 4, bf16, offload optimizer",
    ]


def test_a_table_says_what_the_estimates_say() -> None:
    rows = _rows(comparing.begun_with())
    for row, shown in zip(rows, comparing.results(rows), strict=True):
        assert row.answer is not None
        estimate = row.answer.estimate
        limits = estimate.likely(estimate.step_time_s)
        assert limits == pytest.approx((estimate.step_time_low_s, estimate.step_time_high_s))
        assert shown["step time"] == units.duration(estimate.step_time_s)
        assert shown["time to train"] == units.duration(estimate.run.time_s)
        assert "fits with a chance of " in shown["memory"]
        assert "with failures" not in shown
    assert [shown["cost"] == "no price" for shown in comparing.results(rows)] == [False, False, False, False]


def test_long_runs_have_a_column_with_failures_and_what_does_not_fit_says_so() -> None:
    base = _changed(model="palm-540b", system="dgx-h100", devices=6144)
    wrong, few = base.change({"tp": 7}), base.change({"system": "dgx-a100-320gb", "devices": 64})
    first, second, third = comparing.results(_rows([base, wrong, few]))
    assert first["with failures"] > first["time to train"]
    assert second["step time"] == ""
    assert third["memory"].endswith("does not fit in 39.5 GiB (<1 %)")


def test_differences_are_marked_against_the_first() -> None:
    rows = _rows([_changed(system="dgx-a100-640gb"), _changed(system="dgx-h100"), _changed(system="dgx-a100-640gb")])
    differences = {each.name: each for each in comparing.differences([each for _, each in comparing.answered(rows)])}
    assert differences["system"].marked == (("dgx-a100-640gb", False), ("dgx-h100", True), ("dgx-a100-640gb", False))
    assert differences["peak bf16"].origin == "spec sheet"
    assert differences["peak bf16"].values == ("312 TFLOP/s", "989.4 TFLOP/s", "312 TFLOP/s")
    assert differences["memory bandwidth"].values[0] == "2.039 TB/s"
    assert differences["price"].values[0] == "1.6 USD/h, Hyperstack, 2026-08-26"
    assert "model" not in differences
    assert comparing.differences([rows[0].answer, rows[2].answer]) == []  # type: ignore[list-item]


def test_the_basis_tells_read_from_fitted_and_measured() -> None:
    plain = _changed(system="a100-sxm4-80gb", devices=1, stack="pytorch-eager")
    fitted, unfitted = comparing.rests_on(_rows([plain, plain.change({"constants": "none"})]))
    assert "primary" in fitted["spec sheet"]
    assert fitted["fitted"].startswith("capsim fit: ")
    assert fitted["measured"] == unfitted["measured"] == "nothing on this device"
    assert fitted["nearest run"]
    assert unfitted["fitted"] == "nothing: constants of the catalogue"
    assert unfitted["interval"] == "not known"


def test_what_was_measured_on_the_device_is_told() -> None:
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb", profile="a100-sxm", plan={"precision": "bf16"})
    estimate = simulator.answer(scenario)
    (told,) = comparing.rests_on([ComparedRow("1", opening(fields()), Answer(scenario, estimate))])
    assert estimate.basis is not None
    first = max(estimate.basis.values())
    assert told["measured"].startswith(units.percent(first))
    assert "shapes near measured ones" in told["measured"]


def test_what_is_exported_says_the_same() -> None:
    rows = [*comparing.begun_with()[:2], _changed(system="rtx-3090", micro_batch=4, **{BEST: True})]
    answered = _rows(rows)
    program = subprocess.run(
        [sys.executable, "-c", comparing.as_python(rows)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    printed = [line.split()[:2] for line in program.stdout.splitlines()]
    assert printed == [
        [each.estimate.system, str(each.estimate.step_time_s)] for _, each in comparing.answered(answered)
    ]
    assert [line.split()[:3] for line in comparing.as_command(rows).splitlines()] == [
        ["capsim", "estimate", "bert-large"], ["capsim", "estimate", "bert-large"], ["capsim", "search", "bert-large"],
    ]  # fmt: skip
    documents = list(yaml.safe_load_all(comparing.as_yaml(answered)))
    assert [ScenarioFile.model_validate(each).system for each in documents] == [row["system"] for row in rows]
    table = comparing.as_rows(answered)
    assert [row["step_time_s"] for row in table] == [
        each.estimate.step_time_s for _, each in comparing.answered(answered)
    ]
    assert len({tuple(row) for row in table}) == 1
