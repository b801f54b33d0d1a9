"""Published runs on the pages: found by words, and opened as what they are."""

from __future__ import annotations

import pytest

import simulator
from dashboard.choices.scenario import arguments, fields
from dashboard.choices.state import opening
from dashboard.content import published
from hardware.errors import InputError
from simulator.corpus import runs
from simulator.corpus.mapping import case_of


def test_words_find_runs_by_model_device_and_software() -> None:
    every = {run.id: run for run in runs.shipped()}
    assert published.matching(None) == list(every)
    chosen = published.matching("Palm-540B tpu")
    assert "palm-540b-6144" in chosen
    for name in published.matching("h100 torchtitan"):
        words = f"{name} {every[name].hardware.device} {every[name].plan.framework} {every[name].collection}".lower()
        assert "h100" in words
        assert "torchtitan" in words
    assert published.matching("abacus") == []


def test_runs_open_as_what_they_are() -> None:
    opened = 0
    for run in runs.shipped()[::37]:
        try:
            chosen = published.opened(run)
        except InputError:  # the next test asks what it says
            continue
        case = case_of(run)
        choices = opening(fields()).change(dict(chosen))
        try:
            answer = simulator.estimate(**arguments(choices))
        except InputError:  # what a stack is said to lack refuses no run, but it does a scenario
            continue
        assert (answer.devices, answer.scenario and answer.scenario.system.device.id) == (
            case.devices,
            case.system.device.id,
        )
        assert answer.workload["sequence_length"] == case.workload.sequence_length
        assert answer.workload["global_batch"] == case.workload.global_batch
        told = {name: answer.plan[name] for name in ("dp", "tp", "pp", "micro_batch", "precision", "recompute")}
        assert told == {name: getattr(case.plan, name) for name in told}
        opened += 1
    assert opened > 20


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (lambda run: run.task == "forward", "is not priced"),
        (
            lambda run: run.model.name.startswith("nanotron-") and run.measured.step_time_s,
            "is no model of the catalogue",
        ),
    ],
)
def test_what_cannot_be_opened_says_why(which: object, words: str) -> None:
    run = next(run for run in runs.shipped() if which(run))  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        published.opened(run)
