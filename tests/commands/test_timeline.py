"""`capsim timeline`: what it prints, what it writes, and what it says of bad input."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import simulator
from tests.commands.conftest import Capsim, assert_one_sentence

PIPELINE = ("gpt3-6.7b", "--system", "dgx-a100-640gb", "--pp", "4", "--micro-batch", "1", "--global-batch", "64")
SCENARIO: dict[str, Any] = {
    "plan": {"pp": 4, "micro_batch": 1},
    "workload": {"global_batch": 64},
}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def test_help_says_what_it_draws_and_how_to_open_it(capsim: Capsim) -> None:
    outcome = capsim("timeline", "--help")
    assert outcome.status == 0
    text = " ".join(outcome.out.split())
    for words in ("One step on every pipeline stage", "https://ui.perfetto.dev", "--output", "--all-tasks", "--json"):
        assert words in text


@pytest.mark.parametrize(
    "arguments",
    [
        PIPELINE,
        (*PIPELINE, "--schedule", "zero-bubble", "--virtual-stages", "2"),
        ("bert-large", "--system", "dgx-a100-640gb"),
        ("llama-3-8b", "--system", "dgx-h100", "--devices", "64", "--sharding", "zero3"),
        ("gpt3-175b", "--system", "superpod-a100", "--devices", "1024", "--tp", "8", "--pp", "32"),
        ("t5-3b", "--system", "dgx-a100-640gb"),
        ("mixtral-8x7b", "--system", "dgx-h100", "--devices", "64", "--ep", "8"),
        ("palm-62b", "--system", "tpu-v4-pod", "--devices", "256"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_text_fits_eighty_columns(capsim: Capsim, arguments: tuple[str, ...]) -> None:
    outcome = capsim("timeline", *arguments)
    if outcome.status:
        assert_one_sentence(outcome)
        pytest.fail(outcome.err)
    assert max(map(len, outcome.out.splitlines())) <= 80
    for words in ("Step time, replayed", "By the formula", "peak memory", "by part", "by lane", "Peak memory:"):
        assert words in outcome.out


def test_text_says_what_python_says(capsim: Capsim) -> None:
    """Every stage has its line of the picture and its row; times are those of the replay."""
    outcome = capsim("timeline", *PIPELINE)
    step = simulator.timeline(simulator.resolve("gpt3-6.7b", "dgx-a100-640gb", **SCENARIO))
    lines = outcome.out.splitlines()
    pictures = [line for line in lines if line.startswith("stage ") and line[6].isdigit() and "by" not in line]
    assert len(pictures) == len(step.stages) == 4
    assert [picture[:7] for picture in pictures] == [f"stage {number}" for number in range(1, 5)]
    assert all(set(picture[8:].replace(" ~ ", "")) <= set("FBIWr=. ") for picture in pictures)
    (replayed,) = (line for line in lines if line.startswith("Step time, replayed"))
    shown, unit = replayed.split("replayed")[1].split()[:2]
    scale = {"s": 1.0, "ms": 1e-3}[unit]
    assert float(shown) * scale == pytest.approx(step.step_time, rel=6e-3)


def test_json_is_what_python_says(capsim: Capsim) -> None:
    from simulator.replay.summary import to_dict

    answer = capsim("timeline", *PIPELINE, "--json").json
    step = simulator.timeline(simulator.resolve("gpt3-6.7b", "dgx-a100-640gb", **SCENARIO))
    expected = json.loads(json.dumps(to_dict(step)))
    assert {name: answer[name] for name in expected} == expected
    assert "trace" not in answer
    assert len(answer["stages"]) == 4


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_a_trace_is_written(capsim: Capsim, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    outcome = capsim("timeline", *PIPELINE, "-o", path)
    assert outcome.status == 0
    content = path.read_bytes()
    trace = json.loads(gzip.decompress(content) if name.endswith("gz") else content)
    assert f"{len(trace['traceEvents']):,} events" in outcome.out
    assert "https://ui.perfetto.dev" in outcome.out
    assert trace["otherData"]["model"] == "gpt3-6.7b"
    assert {event["pid"] for event in trace["traceEvents"]} == {1, 2, 3, 4}


def test_json_names_the_trace(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    assert capsim("timeline", *PIPELINE, "--json", "-o", path).json["trace"] == str(path)
    assert path.exists()


def test_all_tasks_are_more(capsim: Capsim, tmp_path: Path) -> None:
    """Of a large step most micro-batches stand as passes, unless every task is asked for."""
    few, all_of_them = tmp_path / "few.json", tmp_path / "all.json"
    large = (*PIPELINE[:-1], "256")
    assert capsim("timeline", *large, "-o", few).status == 0
    assert capsim("timeline", *large, "--all-tasks", "-o", all_of_them).status == 0
    slices = [
        sum(event["ph"] == "X" for event in json.loads(path.read_text())["traceEvents"]) for path in (few, all_of_them)
    ]
    assert slices[0] < 70_000 < slices[1]


def test_a_place_that_cannot_be_written(capsim: Capsim, tmp_path: Path) -> None:
    assert_one_sentence(capsim("timeline", *PIPELINE, "-o", tmp_path / "no" / "t.json"), "no/t.json", "folder")
    assert_one_sentence(capsim("timeline", *PIPELINE, "-o", tmp_path), "it is a directory")
    assert_one_sentence(capsim("timeline", *PIPELINE, "-o", "-"), "-: is no file; name one")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("bert-larg", "--system", "dgx-h100"), ("bert-larg", "bert-large")),
        (("bert-large",), ("--system is missing",)),
        (("bert-large", "--system", "dgx-h100", "--tp", "7"), ("tp=7", "valid")),
        (("bert-large", "--system", "dgx-h100", "--seq-len", "0"), ("sequence_length=0", "at least 1")),
        (("gpt3-6.7b", "--system", "dgx-a100-640gb", "--schedule", "2f2b"), ("2f2b", "1f1b")),
    ],
)
def test_bad_scenarios_end_as_those_of_an_estimate(
    capsim: Capsim, tmp_path: Path, arguments: tuple[str, ...], fragments: tuple[str, ...]
) -> None:
    """The same sentence, and no file."""
    path = tmp_path / "t.json"
    outcome = capsim("timeline", *arguments, "-o", path)
    assert_one_sentence(outcome, *fragments)
    assert not path.exists()
    assert outcome.err == capsim("estimate", *arguments).err


def test_a_plan_that_does_not_fit_is_replayed_all_the_same(capsim: Capsim) -> None:
    answer = capsim(
        "timeline", "llama-2-7b", "--system", "rtx-3090", "--devices", "1", "--micro-batch", "1", "--json"
    ).json
    (stage,) = answer["stages"]
    assert stage["peak_memory"]["bytes"] > 24e9
