"""``capsim timeline --measured``: a trace of torch's profiler beside the step."""

from __future__ import annotations

from pathlib import Path

import pytest

import simulator
from tests.commands.conftest import Capsim, assert_one_sentence
from tests.replay.measured.made_up import mark, operator, write

GPT = ("timeline", "gpt2-1.5b", "--system", "dgx-a100-640gb", "--pp", 4, "--micro-batch", 1)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    events = mark(3, 0.0, 2e6), operator("aten::mm", 0.0, 1.5e6), operator("aten::gelu", 1.6e6, 0.2e6)
    return write(tmp_path / "step.json", *events)


def test_json_has_the_comparison_beside_the_timeline(capsim: Capsim, trace: Path) -> None:
    told = capsim(*GPT, "--measured", trace, "--measured-stage", 4, "--json").json
    step = simulator.timeline(simulator.resolve("gpt2-1.5b", "dgx-a100-640gb", plan={"pp": 4, "micro_batch": 1}))
    assert told["measured"] == simulator.compare_step(step, trace, stage=3).to_dict()
    assert told["measured"]["stage"] == 3
    assert len(told["stages"]) == 4


def test_the_table_stands_in_the_place_of_the_picture(capsim: Capsim, trace: Path) -> None:
    outcome = capsim(*GPT, "--measured", trace)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("gpt2-1.5b on dgx-a100-640gb, 8 devices, beside step.json")
    assert "1.50 s  75.0 %" in outcome.out


def test_what_is_refused(capsim: Capsim, trace: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_text(trace.read_text()[:-40])
    assert_one_sentence(capsim(*GPT, "--measured", cut), str(cut), "ends before its JSON does")
    assert_one_sentence(capsim(*GPT, "--measured", tmp_path / "none.json"), "none.json: cannot be read")
    assert_one_sentence(capsim(*GPT, "--measured", trace, "--measured-stage", 5), "--measured-stage=5", "1 to 4")
    assert_one_sentence(capsim(*GPT, "--measured-stage", 1), "give the trace with --measured")
