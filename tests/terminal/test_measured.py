"""What is printed of a step that was measured."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import simulator
from simulator.replay.measured.comparison import compare_step
from simulator.replay.timeline import timeline
from simulator.terminal.measured import render
from tests.replay.measured.made_up import event, mark, operator, write


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = write(
        tmp_path_factory.mktemp("printed") / "step.json",
        mark(7, 0.0, 1e6),
        operator("aten::mm", 0.0, 600e3),
        event(
            "user_annotation",
            "gloo:all_reduce",
            580e3,
            50e3,
            9,
            **{"Input Dims": [[1000, 256]], "Input type": ["float"]},
        ),
        operator("mine::own", 800e3, 40e3),
        distributedInfo={"world_size": 8},
    )
    step = timeline(simulator.resolve("bert-large", "dgx-a100-640gb"))
    console = Console(width=80, record=True, file=io.StringIO(), color_system=None)
    console.print(render(compare_step(step, path)))
    return [line.rstrip() for line in console.export_text().splitlines()]


def cells(lines: list[str], first: str) -> list[str]:
    line = next(line for line in lines if line.startswith(first))
    return line.removeprefix(first).split()


def test_every_kind_has_its_line(printed: list[str]) -> None:
    assert printed[0] == "bert-large on dgx-a100-640gb, 8 devices, beside step.json"
    products = cells(printed, "matrix products ")
    assert products[4:8] == ["600", "ms", "60.0", "%"]
    assert cells(printed, "others ") == ["-", "40.0", "ms", "4.0", "%", "-40.0", "ms"]
    assert max(map(len, printed)) <= 80
    assert not any("…" in line for line in printed)


def test_exchanges_and_what_hides_of_them(printed: list[str]) -> None:
    assert cells(printed, "measured all-reduce ") == ["1,000", "KiB", "8", "1", "50.0", "ms"]
    assert any(line.endswith("measured 20.0 ms of 50.0 ms") for line in printed)


def test_constants_of_what_differs_most_and_names_of_others(printed: list[str]) -> None:
    text = " ".join(" ".join(printed).split())
    assert "device class a100-sxm: gemm.bf16.efficiency 0.935" in text
    assert "Others are mine::own 40.0 ms" in text
