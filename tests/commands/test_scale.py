"""``capsim scale``: what it prints, writes and refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import simulator
from tests.commands.conftest import Capsim, assert_one_sentence

BERT = ("scale", "bert-large", "--system", "dgx-a100-640gb", "--seq-len", 128, "--global-batch", 64)
FEW = (*BERT, "--max-devices", 128)
WORK = {"sequence_length": 128, "global_batch": 64}


def test_json_is_what_python_says(capsim: Capsim) -> None:
    strong = simulator.scale("bert-large", "dgx-a100-640gb", workload=WORK, max_devices=128)
    assert capsim(*FEW, "--json").json == strong.to_dict()
    weak = simulator.scale("bert-large", "dgx-a100-640gb", workload=WORK, kind="weak", counts=[4, 16], where="tp=2")
    assert capsim(*BERT, "--weak", "--counts", "16,4", "--where", "tp=2", "--json").json == weak.to_dict()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = capsim(*FEW)
    assert (outcome.status, outcome.err) == (0, "")
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    assert lines[0] == "bert-large on dgx-a100-640gb, the same batch"
    assert lines[1].startswith("batch 64 x 128 tokens, bf16, adamw")
    assert lines[2].startswith("each device does most on 1, and less than half of that beyond some ")
    assert max(map(len, lines)) <= width
    assert sum(line.lstrip().startswith("128 ") for line in lines) == (2 if width == 80 else 1)
    assert any("100.0 %" in line for line in lines)


def test_a_growing_batch_is_shown(capsim: Capsim) -> None:
    lines = capsim(*BERT, "--weak", "--max-devices", 16).out.splitlines()
    assert lines[0].startswith("bert-large on dgx-a100-640gb, a batch that grows with the devices")
    assert "batch" in lines[4]
    assert any(line.split()[:2] == ["16", "128"] for line in lines)


def test_what_is_left_out_is_told(capsim: Capsim) -> None:
    text = capsim("scale", "palm-540b", "--system", "workstation-rtx-3090").out
    assert "no number of devices has a plan" in text
    assert "1, 2, 4" in text
    assert "too much memory" in text


def test_the_table_for_spreadsheets(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "scale.csv"
    capsim(*FEW, "--csv", path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    scaling = simulator.scale("bert-large", "dgx-a100-640gb", workload=WORK, max_devices=128)
    assert [int(row["devices"]) for row in rows] == [point.devices for point in scaling.points]
    for row, point in zip(rows, scaling.points, strict=True):
        assert float(row["step_time_s"]) == point.estimate.step_time_s
        shares = [float(value) for name, value in row.items() if name.startswith("share_of_")]
        assert sum(shares) == pytest.approx(1.0)
        assert float(row["share_of_matrix_products"]) == point.estimate.limits["matrix products"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--counts", "8,x"), ["devices='8,x'", "8,64,512"]),
        (("--max-devices", "0"), ["max_devices=0", "1 to"]),
        (("--where", "tp"), ["where='tp'"]),
        (("--nonsense",), ["--nonsense", "see capsim scale --help"]),
        (("--tokens", "1e9", "--steps", "5"), ["tokens", "steps"]),
    ],
)
def test_refusals(capsim: Capsim, arguments: tuple[str, ...], words: list[str]) -> None:
    assert_one_sentence(capsim(*BERT, *arguments), *words)
