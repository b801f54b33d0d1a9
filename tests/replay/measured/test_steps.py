"""A step taken apart, worked out by hand: nested operators, several steps and threads, kernels on streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.replay.measured.exchanges import Exchange
from simulator.replay.measured.kinds import names
from simulator.replay.measured.reading import ProfilerTrace
from simulator.replay.measured.steps import MeasuredStep, step_of
from tests.replay.measured.made_up import (
    ADD,
    ALL_REDUCE,
    ENGINE,
    FLASH,
    GEMM,
    event,
    kernel,
    launch,
    mark,
    operator,
    trace_of,
)


def taken_apart(folder: Path, *events: dict[str, Any], **more: Any) -> MeasuredStep:
    return checked(trace_of(folder, *events, **more))


def checked(trace: ProfilerTrace) -> MeasuredStep:
    """A step whose kinds add up to it."""
    step = step_of(trace, names())
    assert sum(kind.seconds for kind in step.kinds.values()) == pytest.approx(step.duration, rel=1e-12)
    return step


def exchange(kind: str, message: float | None, ranks: float | None, calls: float, seconds: float) -> Exchange:
    """Equal to what takes about so long."""
    about: Any = pytest.approx(seconds)
    return Exchange(kind, message, ranks, calls, about)


def micro(step: MeasuredStep) -> dict[str, float]:
    """Time of the step by kind [us]."""
    return {name: round(kind.seconds * 1e6, 6) for name, kind in step.kinds.items() if kind.seconds > 0.0}


def busy(step: MeasuredStep) -> dict[str, float]:
    """Time of all calls by kind [us]."""
    return {name: round(kind.busy * 1e6, 6) for name, kind in step.kinds.items() if kind.busy > 0.0}


def test_nested_operators_count_once(tmp_path: Path) -> None:
    """Of 100 us: linear 50, of which a copy takes 5; a view belongs to the linear, one outside to nobody."""
    step = taken_apart(
        tmp_path,
        mark(1, 0.0, 100.0),
        operator("aten::linear", 10.0, 50.0),
        operator("aten::addmm", 15.0, 35.0),
        operator("aten::copy_", 16.0, 5.0),
        operator("aten::t", 52.0, 4.0),
        operator("aten::view", 70.0, 3.0),
    )
    assert micro(step) == {"matrix_products": 45.0, "elementwise": 5.0, "others": 3.0, "idle": 47.0}
    assert step.unnamed == (("aten::view", pytest.approx(3e-6)),)
    assert (step.device, step.name, step.duration) == ("CPU", "ProfilerStep#1", pytest.approx(1e-4))


def test_what_is_inside_the_optimizer_is_the_optimizers(tmp_path: Path) -> None:
    """Its products and its waits too; what it calls inside embeddings and normalisations is theirs."""
    step = taken_apart(
        tmp_path,
        mark(1, 0.0, 60.0),
        operator("aten::embedding", 0.0, 10.0),
        operator("aten::index_select", 2.0, 6.0),
        operator("aten::rms_norm", 10.0, 10.0),
        operator("aten::mul", 12.0, 6.0),
        event("user_annotation", "Optimizer.step#Muon.step", 20.0, 40.0),
        operator("aten::mm", 30.0, 10.0),
        operator("aten::lerp_", 50.0, 10.0),
    )
    assert micro(step) == {"embedding": 10.0, "normalisation": 10.0, "optimizer": 40.0}


def test_annotations_of_others_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    """A loop that marks its forward pass idles in it all the same."""
    step = taken_apart(
        tmp_path,
        mark(1, 0.0, 40.0),
        event("user_annotation", "forward", 0.0, 40.0),
        operator("aten::mm", 10.0, 10.0),
    )
    assert micro(step) == {"matrix_products": 10.0, "idle": 30.0}


def test_of_several_steps_on_a_cpu_the_fastest(tmp_path: Path) -> None:
    step = taken_apart(
        tmp_path,
        *(mark(number, 100.0 * number, duration) for number, duration in ((1, 90.0), (2, 50.0), (3, 70.0))),
        *(operator("aten::mm", 100.0 * number + 5.0, 20.0 + number) for number in (1, 2, 3)),
    )
    assert step.name == "ProfilerStep#2"
    assert step.place == 1
    assert [round(each * 1e6, 6) for each in step.steps] == [90.0, 50.0, 70.0]
    assert micro(step) == {"matrix_products": 22.0, "idle": 28.0}


def test_an_operator_that_crosses_the_end_of_a_step_is_cut(tmp_path: Path) -> None:
    step = taken_apart(
        tmp_path, mark(1, 10.0, 20.0), operator("aten::mm", 0.0, 15.0), operator("aten::add", 25.0, 15.0)
    )
    assert micro(step) == {"matrix_products": 5.0, "elementwise": 5.0, "idle": 10.0}


def test_gloo_runs_beside_the_backward_pass(tmp_path: Path) -> None:
    """Of an all-reduce of 40 us, 25 run beside a product and 15 are waited for."""
    shapes = {"Input Dims": [[131584]], "Input type": ["float"]}
    step = taken_apart(
        tmp_path,
        mark(1, 0.0, 60.0),
        operator("aten::mm", 0.0, 45.0),
        event("user_annotation", "gloo:all_reduce", 20.0, 40.0, ENGINE, **shapes),
        distributedInfo={"world_size": 2},
    )
    assert micro(step) == {"matrix_products": 45.0, "all_reduce": 15.0}
    assert busy(step)["all_reduce"] == 40.0
    assert step.exchanges == (exchange("all_reduce", 4 * 131584.0, 2.0, 1.0, 40e-6),)


def test_without_marks_the_whole_trace_is_a_step(tmp_path: Path) -> None:
    step = taken_apart(tmp_path, operator("aten::mm", 10.0, 10.0), operator("aten::add", 30.0, 10.0))
    assert micro(step) == {"matrix_products": 10.0, "elementwise": 10.0, "idle": 10.0}
    assert step.name == "the whole trace"
    assert "no ProfilerStep marks" in step.notes[0]


def test_a_trace_in_which_nothing_takes_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither operators nor kernels that take time"):
        taken_apart(tmp_path, operator("aten::mm", 10.0, 0.0))


def test_a_step_in_which_nobody_knows_anything(tmp_path: Path) -> None:
    step = taken_apart(
        tmp_path, mark(1, 0.0, 30.0), operator("mine::fast", 5.0, 20.0), operator("mine::inner", 6.0, 4.0)
    )
    assert micro(step) == {"others": 20.0, "idle": 10.0}
    assert dict(step.unnamed) == {"mine::fast": pytest.approx(16e-6), "mine::inner": pytest.approx(4e-6)}


def gpu(folder: Path, **more: Any) -> MeasuredStep:
    """Two steps of a GPU that runs behind its host; each has a product, an addition, attention and an all-reduce."""
    said: dict[str, Any] = {
        "Collective name": "allreduce",
        "In msg nelems": 500,
        "Out msg nelems": 500,
        "Group size": 8,
    }
    events = []
    for number, (host, device) in enumerate([(0.0, 200.0), (100.0, 320.0)]):
        first = 10 * number
        events += [
            mark(number + 1, host, 100.0),
            operator("aten::addmm", host + 1.0, 10.0),
            launch(first + 1, host + 2.0),
            operator("aten::add", host + 12.0, 10.0),
            launch(first + 2, host + 13.0),
            operator("aten::mm", host + 50.0, 10.0, ENGINE),
            launch(first + 3, host + 51.0, ENGINE),
            launch(first + 4, host + 55.0, ENGINE),
            event("user_annotation", "Optimizer.step#AdamW.step", host + 70.0, 20.0),
            operator("aten::mul_", host + 71.0, 5.0),
            launch(first + 5, host + 72.0),
            kernel(GEMM, first + 1, device, 30.0, grid=[1, 1, 1]),
            kernel(ADD, first + 2, device + 30.0, 10.0),
            kernel(FLASH, first + 3, device + 45.0, 20.0),
            kernel(ALL_REDUCE, first + 4, device + 50.0, 25.0, stream=22, dtype="BFloat16", **said),
            kernel(ADD, first + 5, device + 80.0, 15.0),
        ]
    return taken_apart(folder, *events, **more)


def test_a_gpus_step_lasts_from_its_first_kernel_to_the_next_ones(tmp_path: Path) -> None:
    """The host marks 100 us; the device takes 120 for the first step and 95 to its last kernel for the second."""
    step = gpu(tmp_path)
    assert [round(each * 1e6, 6) for each in step.steps] == [120.0, 95.0]
    assert (step.device, step.name) == ("device 0", "ProfilerStep#2")


def test_kernels_belong_to_kinds_and_hide_what_runs_beside_them(tmp_path: Path) -> None:
    """The addition that the optimizer launched is the optimizer's; of the all-reduce 15 of 25 us hide."""
    step = gpu(tmp_path)
    assert micro(step) == {
        "matrix_products": 30.0,
        "elementwise": 10.0,
        "attention": 20.0,
        "all_reduce": 10.0,
        "optimizer": 15.0,
        "idle": 10.0,
    }
    assert busy(step)["all_reduce"] == 25.0
    assert step.exchanges == (exchange("all_reduce", 1000.0, 8.0, 1.0, 25e-6),)
    assert step.notes == ()


def test_without_launches_kernels_are_told_by_name(tmp_path: Path) -> None:
    step = taken_apart(
        tmp_path,
        kernel(GEMM, 1, 0.0, 30.0),
        kernel(ADD, 2, 30.0, 10.0),
        kernel("my_own_kernel(float*)", 3, 50.0, 20.0),
    )
    assert micro(step) == {"matrix_products": 30.0, "elementwise": 10.0, "others": 20.0, "idle": 10.0}
    assert step.unnamed == (("my_own_kernel(float*)", pytest.approx(20e-6)),)
    assert any("by their names alone" in note for note in step.notes)


def test_copies_leave_the_device_or_are_kernels_like_others(tmp_path: Path) -> None:
    step = taken_apart(
        tmp_path,
        operator("aten::copy_", 0.0, 10.0),
        launch(1, 1.0),
        operator("aten::_softmax", 20.0, 10.0),
        launch(2, 21.0),
        launch(3, 23.0),
        kernel("Memcpy HtoD (Pinned -> Device)", 1, 100.0, 10.0, stream=20, category="gpu_memcpy", bytes=4096),
        kernel("Memcpy DtoD (Device -> Device)", 2, 110.0, 5.0, category="gpu_memcpy", bytes=4096),
        kernel("Memset (Device)", 3, 115.0, 5.0, category="gpu_memset", bytes=4096),
        kernel(GEMM, 9, 120.0, 5.0),
    )
    assert micro(step) == {"copies": 10.0, "softmax": 10.0, "matrix_products": 5.0}


def test_the_device_that_computes_most(tmp_path: Path) -> None:
    step = taken_apart(tmp_path, kernel(GEMM, 1, 0.0, 30.0), kernel(GEMM, 2, 0.0, 40.0, device=1, stream=8))
    assert step.device == "device 1"
    assert "left out: 0" in step.notes[0]


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [
        ("all_gather", {"Collective name": "_allgather_base", "In msg nelems": 10, "Out msg nelems": 80}, 160.0),
        (
            "reduce_scatter",
            {"Collective name": "_reduce_scatter_base", "In msg nelems": 80, "Out msg nelems": 10},
            160.0,
        ),
        ("all_to_all", {"Collective name": "all_to_allv", "In msg nelems": 80, "Out msg nelems": 70}, 160.0),
        ("send", {"Collective name": "recv", "In msg nelems": 0, "Out msg nelems": 20}, 40.0),
        ("all_reduce", {"Collective name": "allreduce"}, None),
    ],
)
def test_sizes_of_collectives(tmp_path: Path, kind: str, said: dict[str, Any], message: float | None) -> None:
    """The gathered tensor, the scattered one, what one rank sends, or what it receives."""
    step = taken_apart(tmp_path, kernel(ALL_REDUCE, 1, 0.0, 30.0, dtype="BFloat16", **said), kernel(GEMM, 2, 40.0, 1.0))
    assert step.exchanges == (exchange(kind, message, None, 1.0, 30e-6),)


def test_gathered_tensors_of_gloo_have_the_parts_of_all_ranks(tmp_path: Path) -> None:
    shapes = {"Input Dims": [[16, 16]], "Input type": ["c10::BFloat16"]}
    step = taken_apart(
        tmp_path,
        event("user_annotation", "gloo:all_gather", 0.0, 40.0, ENGINE, **shapes),
        distributedInfo={"world_size": 4},
    )
    assert step.exchanges == (exchange("all_gather", 4 * 512.0, 4.0, 1.0, 40e-6),)
