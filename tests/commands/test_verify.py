"""``capsim verify``: what it prints, its status, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.formulas import activations
from tests.commands.conftest import Capsim, assert_one_sentence

ROOT = Path(__file__).parents[2]
SPLIT = ("--tp", 2, "--pp", 2, "--micro-batch", 4, "--stack", "megatron-lm-2022")
BERT = ("verify", "bert-base", "--system", "dgx-a100-640gb", *SPLIT)


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A formula that is off by a tenth."""
    right = activations.attention_matrix

    def too_much(*args: Any, **keywords: Any) -> Any:
        return 1.1 * np.asarray(right(*args, **keywords))

    monkeypatch.setattr(activations, "attention_matrix", too_much)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = capsim(*BERT)
    assert (outcome.status, outcome.err) == (0, "")
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    assert lines[0] == "bert-base on dgx-a100-640gb, 8 devices"
    assert max(map(len, lines)) <= width
    assert "held by the first stage" in lines
    assert any(re.fullmatch(r"  of the model +1\d{2},\d{3},\d{3} +1\d{2},\d{3},\d{3} +equal", line) for line in lines)
    assert any(re.fullmatch(r"  in flight, stage 1 of 2 +2 +2 +equal", line) for line in lines)
    assert any(re.fullmatch(r"  tied embedding \[B\] +[\d,]+ +- +not counted \[\d\]", line) for line in lines)
    assert any(re.fullmatch(r"\[\d\] +torch's pipelines do not add up .*", line) for line in lines)
    assert re.fullmatch(r"\d+ equal, 0 differ, 1 not counted; torch \S+, \d+\.\d s", lines[-2])


def test_json(capsim: Capsim) -> None:
    outcome = capsim(*BERT, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    answer = outcome.json
    assert answer["equal"] is True
    assert answer["numbers"]["differs"] == 0
    assert answer["plan"]["tp"] == 2
    assert {row["verdict"] for row in answer["rows"]} == {"equal", "not counted"}
    for row in answer["rows"]:
        assert (row["torch"] is None) == (row["verdict"] == "not counted") == (row["reason"] is not None)


def test_a_wrong_formula_is_status_1(capsim: Capsim, wrong: None) -> None:
    outcome = capsim(*BERT, "--recompute", "none")
    assert (outcome.status, outcome.err) == (1, "")
    assert re.search(r"^  saved by a layer \[B\] +[\d,.]+ +[\d,]+ +differs \+\d\.\d %", outcome.out, re.MULTILINE)
    assert re.search(r"equal, 1 differs, 1 not counted", outcome.out)
    as_json = capsim(*BERT, "--recompute", "none", "--json")
    assert as_json.status == 1
    assert [row["quantity"] for row in as_json.json["rows"] if row["verdict"] == "differs"] == ["saved by a layer"]


def test_a_scenario_file(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "title: Two stages\nmodel: gpt2-124m\nsystem: dgx-a100-640gb\nstack: megatron-deepspeed\n"
        "plan: {pp: 2, micro_batch: 1, schedule: zero-bubble}\n"
    )
    outcome = capsim("verify", path)
    assert outcome.status == 0
    assert outcome.out.startswith("Two stages\n")
    assert "InterleavedZeroBubble" in outcome.out


def test_mistakes(capsim: Capsim) -> None:
    assert_one_sentence(capsim("verify", "bert-base"), "--system is missing")
    assert_one_sentence(capsim("verify", "bert-bas", "--system", "dgx-a100-640gb"), "did you mean bert-base")
    assert_one_sentence(capsim(*BERT, "--dp", 3), "dp=3 x micro_batch=4 does not divide")
    assert_one_sentence(capsim("verify", "bert-base", "--system", "dgx-a100-640gb", "--tp", 7), "tp=7")
    assert_one_sentence(capsim(*BERT, "--csv", "x"), "--csv")


def _process(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_without_torch() -> None:
    process = _process(
        "import sys\nsys.modules['torch'] = None\nfrom simulator import cli\n"
        f"cli.main({[str(each) for each in BERT]!r})\n"
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "capsim: verify counts in torch, which is not installed; pip install 'capsim[measure]'\n"


@pytest.mark.parametrize("version", ["2.12.1", "1.13.0+cu117"])
def test_an_older_torch(version: str) -> None:
    process = _process(
        f"from importlib import metadata\nmetadata.version = lambda name: {version!r}\nfrom simulator import cli\n"
        f"cli.main({[str(each) for each in BERT]!r})\n"
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == f"capsim: verify needs torch 2.13 or newer, and {version} is installed; update torch\n"


def test_help_loads_next_to_nothing() -> None:
    process = _process(
        "import sys\nfrom simulator import cli\n"
        "try:\n    cli.main(['verify', '--help'])\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "assert not {'torch', 'numpy', 'yaml', 'rich'} & {name.split('.')[0] for name in sys.modules}"
    )
    assert process.returncode == 0, process.stderr
    assert "status 0 where all that was counted is equal, 1 where something" in " ".join(process.stdout.split())
    assert "--sequence-parallel" in process.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lora-rank", 8), "train=lora"),
        (("--train", "prompt"), "train=prompt"),
        (("--z-loss", 1e-4), "z_loss=0.0001"),
        (("--label-smoothing", 0.1), "label_smoothing=0.1"),
        (("--cross-entropy", "fused"), "cross_entropy=fused"),
        (("--optimizer-in-backward", "--devices", 1, "--global-batch", 4), "optimizer_in_backward"),
    ],
)
def test_what_the_reference_module_has_not_is_refused(capsim: Capsim, options: tuple[Any, ...], words: str) -> None:
    outcome = capsim("verify", "bert-base", "--system", "dgx-a100-640gb", "--seq-len", 128, *options)
    assert_one_sentence(outcome, words, "verify counts the training of a whole model")
