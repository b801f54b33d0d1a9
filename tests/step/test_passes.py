"""Times of passes and pipelines under a backend whose answers are told, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.formulas.collectives import exposed
from simulator.pricing.requests import (
    Collective,
    FusedAttention,
    HostCopy,
    HostWork,
    MatrixProduct,
    Request,
    Send,
    Stream,
    StreamKind,
)
from simulator.step.evaluation import evaluate
from simulator.step.passes import BACKWARD_LAUNCH, pass_of, slower
from simulator.step.time import Step, step_time
from simulator.work.hiding import Hiding, OperatorPart, Phase
from simulator.work.program import Program, program_of
from simulator.work.tasks import PlaceKind, Resource, Task, TaskPlace
from tests.work.asking import Told, plain
from tests.work.small import small

_HERE = TaskPlace(PlaceKind.GROUP)
_WORK = MatrixProduct(m=1.0, n=1.0, k=1.0, element_bytes=2.0)
_OTHER = Stream(kind=StreamKind.RESIDUAL, moved_bytes=1.0, kernels=1.0)
_SEND = Send(message_bytes=1.0, degree=2.0, stride=1.0)


def _task(request: Request, phase: Phase = Phase.FORWARD, part: Any = "feed_forward", **how: Any) -> Task:
    on_links = isinstance(request, Send | Collective)
    resource = Resource.TENSOR_LINKS if on_links else Resource.DEVICE
    return Task(part, part, request, phase, _HERE, resource, **how)


def _told(work: float = 10.0, other: float = 1.0, send: float = 4.0) -> Told:
    return Told(lambda request: {MatrixProduct: work, Stream: other, Send: send}[type(request)])


# One pass


def test_a_pass_is_the_sum_of_its_tasks() -> None:
    tasks = [
        _task(_WORK, count=2.0, kernels=3.0),
        _task(_OTHER, part="elementwise", efficiency=0.5),
        _task(_WORK, Phase.BACKWARD, count=3.0, kernels=5.0),
        _task(_WORK, Phase.RECOMPUTE, kernels=7.0),
        _task(_SEND, Phase.BACKWARD, "context_parallel", hiding=Hiding(share=0.25)),
    ]
    pass_times = pass_of(tasks, _told(), 1.0)
    assert plain(pass_times.forward) == 2 * 10 + 1 / 0.5
    assert plain(pass_times.backward) == 3 * 10 + 10 + 0.75 * 4
    assert plain(pass_times.device) == plain(pass_times.forward) + plain(pass_times.backward)
    # The host launches a backward pass and what is recomputed with less work of its own.
    assert plain(pass_times.host) == pytest.approx(3 + BACKWARD_LAUNCH * (5 + 7))
    assert {name: plain(value) for name, value in (pass_times.parts or {}).items()} == {
        "feed_forward": 50,
        "elementwise": 2,
        "recompute": 10,
        "context_parallel": 3,
    }
    assert pass_of(tasks, _told(), 1.0, broken_down=False).parts is None
    assert plain(pass_of(tasks, _told(), 2.0).host) == 2 * plain(pass_times.host)


def test_a_request_is_asked_once() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> float:
        asked.append(request)
        return 1.0

    pass_of([_task(_WORK), _task(_WORK, Phase.BACKWARD), _task(_OTHER)], Told(answer), 0.0)
    assert asked == [_WORK, _OTHER]


def _exposed(send: float, **hiding: Any) -> float:
    """Of 10 s of products and 1 s of others forward, and 20 s of products backward, beside a transfer."""
    line = Hiding(**{"share": 1.0, "line": "somewhere", **hiding})
    tasks = [
        _task(_WORK),
        _task(_OTHER, part="elementwise"),
        _task(_WORK, Phase.BACKWARD, count=2.0),
        _task(_SEND, part="context_parallel", hiding=line),
    ]
    pass_times = pass_of(tasks, _told(send=send), 0.0)
    shown = plain(pass_times.forward) - 11
    assert plain((pass_times.parts or {})["context_parallel"]) == pytest.approx(shown, abs=1e-12)
    assert plain(pass_times.backward) == 20
    return shown


def test_a_transfer_hides_as_far_as_the_work_beside_it_lasts() -> None:
    """With a soft corner: of 1 in 100 of the work nothing is left, of 100 times the work all but the work."""
    assert _exposed(0.1) == pytest.approx(0, abs=1e-6)
    assert _exposed(1100.0) == pytest.approx(1100 - 11, abs=1e-3)
    assert 0 < _exposed(11.0) < 11 / 4
    assert _exposed(1100.0, share=0.0) == 1100
    assert _exposed(1100.0, share=0.5) == pytest.approx(1100 - 11, abs=1e-2)
    assert _exposed(1.0, share=0.5) == pytest.approx(0.5, abs=1e-3)


def test_what_hides_takes_its_share_of_the_device() -> None:
    """Of 2 s that hide behind 11 s of compute, kernels that hold a fifth of the device leave 0.4 s more of it."""
    assert _exposed(2.0, slowing=0.2) == pytest.approx(0.4 + 0.8 * _exposed(2.0))
    assert _exposed(1100.0, slowing=0.2) == pytest.approx(1100 - 11 + 0.2 * 11, abs=1e-3)
    assert _exposed(4.0, slowing=0.2, parts=frozenset({"attention"})) == 4  # nothing hides


def test_only_named_work_covers() -> None:
    long = 1e4
    assert _exposed(long, parts=frozenset({"feed_forward"})) == pytest.approx(long - 10, rel=1e-6)
    assert _exposed(long, parts=frozenset({"attention"})) == long
    assert _exposed(long, behind=Phase.BACKWARD) == pytest.approx(long - 20, rel=1e-6)
    assert _exposed(long, reach=0.5) == pytest.approx(long - 5.5, rel=1e-6)
    # Each of 4 occasions has the work beside it anew.
    assert _exposed(long, occasions=4.0) == pytest.approx(long - 4 * 11, rel=1e-6)


def test_transfers_of_a_line_wait_for_each_other() -> None:
    """Those of different lines run beside each other: what shows of one is time for the next."""

    def shown(*lines: str, **times: float) -> float:
        parts = {"one": frozenset[OperatorPart]({"attention"}), "other": None}
        hiding = [Hiding(share=1.0, line=line, parts=parts[line]) for line in lines]
        sends = [_task(_SEND, part="context_parallel", hiding=each) for each in hiding]
        return plain(pass_of([_task(_WORK, part="attention"), *sends], _told(**times), 0.0).forward) - 10

    assert shown("one", "one", send=1000.0) == pytest.approx(2000 - 10, rel=1e-6)
    beside = plain(exposed(1000.0, 10 + plain(exposed(1000.0, 10.0))))
    assert shown("other", "one", send=1000.0) == pytest.approx(1000 - 10 + beside, rel=1e-6)
    assert shown("one", "other", send=1000.0) == shown("other", "one", send=1000.0)


def test_work_that_two_lines_hide_behind_is_not_cheaper_when_slower() -> None:
    """Each second of it covers a second of each line, but of both together no more than it takes itself."""
    hiding = [Hiding(share=1.0, line="ring", parts=frozenset[OperatorPart]({"attention"})), Hiding(share=1.0, line="x")]
    tasks = [_task(_WORK, part="attention"), *(_task(_SEND, part="context_parallel", hiding=each) for each in hiding)]

    def time(work: float) -> float:
        answers = Told(lambda request: work if request is _WORK else 1000.0)
        return plain(pass_of(tasks, answers, 0.0).forward)

    times = [time(work) for work in np.geomspace(1.0, 1e5, 60)]
    assert times == sorted(times)


@given(st.floats(1e-9, 1e3), st.floats(1e-9, 1e3))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_a_host_that_is_slower_than_its_device_decides(device: float, host: float) -> None:
    time = plain(slower(device, host))
    assert max(device, host) <= time * (1 + 1e-12)
    assert time <= 2**0.25 * max(device, host) * (1 + 1e-12)
    assert slower(device, host) == slower(host, device)


# A whole step

_NOW = Told(lambda request: float(isinstance(request, FusedAttention)))
"""A second for attention of a layer forward and one backward, and nothing else."""


def _program(plan: dict[str, Any], layers: int = 8, **how: Any) -> Program:
    full_plan = {"tp": 1, "sequence_parallel": False, "sharding": "none", **plan}
    sizes = {"layers": layers, "position_rows": 40, **how.pop("sizes", {})}
    return small("gpt2-355m", full_plan, sizes=sizes, **how)


def _step(plan: dict[str, Any], backend: Told = _NOW, **how: Any) -> Step:
    return step_time(_program(plan, **how), backend)


def _parts(step: Step) -> dict[str, float]:
    return {name: plain(value) for name, value in step.parts.items() if plain(value)}


@pytest.mark.parametrize(
    ("plan", "layers", "work", "bubble"),
    [
        ({"dp": 8}, 8, 8 * 2, 0),  # one micro-batch of 3
        ({"dp": 8, "micro_batch": 1}, 8, 3 * 8 * 2, 0),
        ({"dp": 2, "pp": 4}, 8, 4 * 4, 3 * 4),
        ({"dp": 2, "pp": 4, "micro_batch": 1}, 8, 12 * 4, 3 * 4),
        ({"dp": 2, "pp": 4, "schedule": "gpipe"}, 8, 4 * 4, 3 * 4),
        ({"dp": 2, "pp": 4, "virtual_stages": 2}, 8, 4 * 4, 3 * 4 / 2),
        ({"dp": 2, "pp": 4, "schedule": "zero-bubble"}, 8, 4 * 4, 3 * 4),  # attention has no weights to fill gaps with
        ({"dp": 2, "pp": 4, "first_stage_layers": 4, "last_stage_layers": 1}, 9, 4 * 8, 8 + 2 + 2 * 4 - 8),
        ({"dp": 2, "pp": 4}, 10, 4 * 6, 2 * 4 + 2 * 6 - 6),  # stages of 2, 3, 3 and 2 layers
        ({"dp": 4, "pp": 2}, 3, 2 * 3, 3),
    ],
)
def test_a_pipeline_waits_for_its_slowest_stage_and_fills_and_drains(
    plan: dict[str, Any], layers: int, work: float, bubble: float
) -> None:
    """Each layer takes 2 s of each micro-batch."""
    step = _step(plan, layers=layers)
    assert plain(step.time) == pytest.approx(work + bubble)
    expected = {"attention": work, **({"pipeline_bubble": bubble} if bubble else {})}
    assert _parts(step) == pytest.approx(expected)
    assert plain(step_time(_program(plan, layers), _NOW, broken_down=False).time) == plain(step.time)
    assert step_time(_program(plan, layers), _NOW, broken_down=False).parts == {}


def _ends(embedding: float, loss: float) -> Told:
    kinds = {StreamKind.EMBEDDING: embedding, StreamKind.CROSS_ENTROPY: loss}

    def answer(request: Request) -> float:
        if isinstance(request, Stream):
            return kinds.get(request.kind, 0.0)
        return float(isinstance(request, FusedAttention))

    return Told(answer)


@pytest.mark.parametrize(
    ("embedding", "loss", "slowest", "part"), [(3.0, 1.0, 10, "embedding"), (0.5, 2.0, 8, "head"), (0.0, 0.0, 4, "")]
)
def test_ends_of_a_pipeline_may_be_its_slowest_stages(embedding: float, loss: float, slowest: float, part: str) -> None:
    """4 stages of 2 layers, 4 micro-batches; both ends work forward and backward."""
    step = _step({"dp": 2, "pp": 4}, _ends(embedding, loss))
    stages = [4 + 2 * embedding, 4, 4, 4 + 2 * loss]
    assert max(stages) == slowest
    assert plain(step.time) == pytest.approx(4 * slowest + sum(stages) - slowest)
    parts = _parts(step)
    assert parts["pipeline_bubble"] == pytest.approx(sum(stages) - slowest)
    assert parts["attention"] == 4 * 4
    assert {name for name in ("embedding", "head") if name in parts} == ({part} if part else set())


def test_one_stage_has_both_ends() -> None:
    parts = _parts(_step({"dp": 8}, _ends(3.0, 5.0)))
    assert parts == {"attention": 16, "embedding": 6, "head": 10}


def test_two_stages_have_nothing_between() -> None:
    step = _step({"dp": 4, "pp": 2}, _ends(1.0, 0.0))
    assert plain(step.time) == 2 * 10 + 8


def _host(program: Program, *, ahead: float = 1.0) -> float:
    """Launches of a micro-batch, those of the backward pass at their lower price, and `ahead` of the others."""
    forward, back = 0.0, 0.0
    for block in program.blocks:
        for task in block.tasks:
            if task.phase is Phase.FORWARD:
                forward += plain(block.number * task.kernels)
            else:
                back += plain(block.number * task.kernels)
    return ahead * forward + BACKWARD_LAUNCH * back


def test_a_host_that_cannot_launch_as_fast() -> None:
    """Kernels that take no time: the step is what the host needs, more for the forward pass."""
    free = Told(lambda _: 0.0)
    program = _program({"dp": 8}, launch=1.0)
    optimizer = plain(program.scenarios.stacks.optimizer_kernels) * 8
    step = step_time(program, free)
    assert plain(step.time) == pytest.approx(_host(program) + optimizer)
    assert set(_parts(step)) == {"host", "optimizer"}
    assert _parts(step)["optimizer"] == optimizer


def test_waiting_for_the_host_leaves_time_for_links() -> None:
    """Launches that take four times as long as what they launch: a reduction shows by what it holds the device up.

    The device has 16 s of layers, of which the 8 backward cover gradients, as does what it waits in them for its host,
    which takes 64 s of the whole; both passes share the wait as each would wait alone.
    """
    reductions = Told(
        lambda request: (
            20.0 * (isinstance(request, Collective) and request.kind != "all_gather")
            + float(isinstance(request, FusedAttention))
        )
    )
    program = _program({"dp": 8}, gradient_overlap=1.0)
    slow = step_time(_program({"dp": 8}, gradient_overlap=1.0, launch=64.0 / _host(program)), reductions)
    waits, whole = plain(exposed(20.0, 8.0)), plain(slower(16.0, 64.0)) - 16.0
    of_host = 64.0 * _host(program, ahead=0.0) / _host(program)
    ahead, back = plain(slower(8.0, 64.0 - of_host)) - 8.0, plain(slower(8.0, of_host)) - 8.0
    shown = plain(exposed(20.0, 8.0 + whole * back / (ahead + back)))
    assert plain(slow.parts["gradient_reduction"]) == pytest.approx(shown)
    assert shown < waits / 2
    assert plain(step_time(program, reductions).parts["gradient_reduction"]) == pytest.approx(waits)


def test_what_happens_once_a_step() -> None:
    times = {Collective: 3.0, HostCopy: 5.0, HostWork: 7.0}

    def answer(request: Request) -> float:
        if isinstance(request, Stream):
            return 11.0 * (request.kind is StreamKind.OPTIMIZER)
        return times.get(type(request), 0.0)

    assert _parts(_step({"dp": 8}, Told(answer))) == {"gradient_reduction": 3, "step_overhead": 7, "optimizer": 11}
    there = _parts(_step({"dp": 8, "offload_optimizer": True}, Told(answer)))
    assert there == {"gradient_reduction": 3, "step_overhead": 7, "offload": 5}
    assert plain(_step({"dp": 8}, Told(answer)).time) == 21


def test_gradients_are_reduced_behind_the_backward_pass_of_the_layers() -> None:
    """16 s of layers, of which 8 backward; what is updated is gathered before the next forward pass."""

    def shown(reduction: float, sharding: str, **how: float) -> float:
        def answer(request: Request) -> float:
            if isinstance(request, Collective):
                return reduction if request.kind != "all_gather" else 0.0
            return float(isinstance(request, FusedAttention))

        return _parts(_step({"dp": 8, "sharding": sharding}, Told(answer), **how)).get("gradient_reduction", 0.0)

    assert shown(1000.0, "none") == 1000
    assert shown(1000.0, "none", gradient_overlap=1.0) == pytest.approx(1000 - 8, abs=1e-3)
    assert shown(1000.0, "zero1", gradient_overlap=0.5) == pytest.approx(1000 - 4, abs=1e-3)
    assert shown(1000.0, "none", reduction_efficiency=0.5) == 2000

    def gathered(**how: float) -> float:
        gather = Told(
            lambda request: (
                1000.0 * (isinstance(request, Collective) and request.kind == "all_gather")
                + float(isinstance(request, FusedAttention))
            )
        )
        return _parts(_step({"dp": 8, "sharding": "zero1"}, gather, **how))["gradient_reduction"]

    assert gathered(gradient_overlap=1.0) == 1000
    assert gathered(parameter_overlap=1.0) == pytest.approx(1000 - 8, abs=1e-3)


def test_shards_are_gathered_behind_layers_and_show_at_the_ends() -> None:
    """8 layers of 1 s forward: a gather of 10 s shows 9 of them, and all of it where an end has nothing to do."""
    gathers = Told(
        lambda request: (
            10.0 * (isinstance(request, Collective) and request.kind == "all_gather")
            + float(isinstance(request, FusedAttention))
        )
    )
    plan = {"dp": 8, "sharding": "zero3"}
    open_ = _parts(_step(plan, gathers, gathers_each_pass=1.0))
    assert open_ == {"attention": 16, "parameter_gather": 10 * (2 * 8 + 1)}
    hidden = _parts(_step(plan, gathers, gathers_each_pass=1.0, parameter_overlap=1.0))["parameter_gather"]
    assert hidden == pytest.approx(9 * 2 * 8 + 10, rel=1e-3)
    kept = _parts(_step(plan, gathers, gathers_each_pass=0.0, parameter_overlap=1.0))["parameter_gather"]
    assert kept == pytest.approx(9 * 8 + 10, rel=1e-3)


def test_transfers_between_stages_count_for_every_stage() -> None:
    sends = Told(lambda request: 1.0 if isinstance(request, Send | FusedAttention) else 0.0)
    step = _step({"dp": 2, "pp": 4}, sends, pipeline_overlap=0.25)
    # A micro-batch takes a stage 4 s of layers, and three quarters of a second each to send and to receive.
    # The ends do one of the two; the fullest stages are those inside.
    assert plain(step.time) == pytest.approx(4 * 5.5 + 5.5 + 2 * 4.75)
    assert _parts(step) == pytest.approx(
        {"attention": 16, "pipeline_transfer": 4 * 1.5, "pipeline_bubble": 5.5 + 2 * 4.75}
    )


def test_attention_kernels_of_a_stack_may_be_slower_than_their_class() -> None:
    assert _parts(_step({"dp": 8}, attention_efficiency=0.5))["attention"] == 32


def test_unequal_layers_count_as_often_as_they_come() -> None:
    """2 dense layers and 6 of experts, which alone route tokens."""
    routes = Told(lambda request: float(isinstance(request, Stream) and request.kind is StreamKind.ROUTING))
    sizes = {"layers": 8, "dense_layers_first": 2, "key_value_heads": 6}
    plan = {"tp": 1, "dp": 8, "sequence_parallel": False}
    program = small("mixtral-8x7b", plan, sizes=sizes)
    assert plain(step_time(program, routes).time) == 6 * 2


def test_an_evaluation_is_of_one_program() -> None:
    scenarios = _program({"dp": 8}).scenarios
    evaluation = evaluate(scenarios, _NOW)
    assert plain(evaluation.step.time) == 16
    assert plain(evaluation.memory.total) > 0
    assert len(evaluation.program.groups) == len(program_of(scenarios).groups)


@given(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]), st.sampled_from([1, 3]), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_nothing_gets_faster_where_a_request_takes_longer(pp: int, tp: int, micro_batch: int, seed: int) -> None:
    """And a backend twice as slow makes a step twice as long, where the host takes no time."""
    plan = {"pp": pp, "tp": tp, "dp": 8 // (pp * tp), "micro_batch": micro_batch, "sharding": "zero3"}
    program = _program(plan, gradient_overlap=0.5, parameter_overlap=0.5, tensor_overlap=0.5)
    random = np.random.default_rng(seed)
    times: dict[str, float] = {}

    def answer(request: Request) -> float:
        return times.setdefault(f"{type(request).__name__} {len(vars(request))}", float(random.uniform(0.1, 1.0)))

    before = step_time(program, Told(answer))
    assert sum(plain(value) for value in before.parts.values()) == pytest.approx(plain(before.time))
    assert min(plain(value) for value in before.parts.values()) >= -1e-9
    double = step_time(program, Told(lambda request: 2.0 * answer(request)))
    assert plain(double.time) == pytest.approx(2.0 * plain(before.time))
    for name in list(times):
        longer = {**times, name: times[name] * 3.0}
        slow = Told(lambda request, longer=longer: longer[f"{type(request).__name__} {len(vars(request))}"])  # type: ignore[misc]
        assert plain(step_time(program, slow).time) >= plain(before.time) * (1 - 1e-12)


def test_hidden_work_is_not_made_longer_by_a_share_of_arrays() -> None:
    """A share of hiding as an array, one of its entries 0, gives what its entries give alone."""
    shares = np.array([0.0, 1.0])
    hiding = Hiding(share=shares, line="somewhere")
    task = _task(_SEND, part="context_parallel", hiding=hiding)
    pass_times = pass_of([_task(_WORK), task], _told(), 0.0)
    alone = [
        pass_of([_task(_WORK), replace(task, hiding=replace(hiding, share=float(share)))], _told(), 0.0).forward
        for share in shares
    ]
    assert np.asarray(pass_times.forward) == pytest.approx(np.asarray(alone, dtype=float))
