"""The program of a step: what it consists of, and that whatever is said of a step is read from it."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.pricing.requests import Collective, HostCopy, MatrixProduct, Send, Stream, StreamKind
from simulator.step.time import step_time
from simulator.work.messages import messages, tasks_of_stage
from simulator.work.program import Program
from simulator.work.tasks import Phase, PlaceKind, Resource, Task
from tests.work.asking import Told, links, plain, program

_MIXTRAL = {"base": "mixtral-8x7b", "layers": 4}


def _tasks(step_program: Program) -> list[tuple[Task, float]]:
    """Tasks of a whole step on a device that has both ends, those only that there are."""
    return [
        (task, plain(number * task.count))
        for task, number in tasks_of_stage(step_program, first=1.0, last=1.0)
        if plain(number * task.count) > 0.0
    ]


_PLANS: dict[str, tuple[Any, dict[str, Any]]] = {
    "replicas": ("bert-large", {}),
    "zero1": ("bert-large", {"sharding": "zero1"}),
    "zero2": ("bert-large", {"sharding": "zero2"}),
    "zero3": ("bert-large", {"sharding": "zero3"}),
    "hybrid": ("bert-large", {"sharding": "hybrid", "sharding_group": 4}),
    "tensor": ("gpt2-355m", {"tp": 4}),
    "sequence parallel": ("gpt2-355m", {"tp": 4, "sequence_parallel": True, "recompute": "full"}),
    "tensor and zero3": ("llama-3.2-1b", {"tp": 8, "sequence_parallel": True, "sharding": "zero3"}),
    "context": ("llama-3.2-1b", {"cp": 4}),
    "context again": ("llama-3.2-1b", {"cp": 4, "recompute": "full"}),
    "experts": (_MIXTRAL, {"ep": 8}),
    "experts again": (_MIXTRAL, {"ep": 8, "recompute": "full"}),
    "encoder and decoder": ("t5-large", {"tp": 2}),
}


@pytest.mark.parametrize("name", _PLANS)
def test_a_step_takes_as_long_as_its_messages(name: str) -> None:
    """Where nothing hides and all else is free, a step is the sum of what is listed as sent."""
    step_program = program(*_PLANS[name])
    listed = sum(plain(message.count) for message in messages(step_program))
    assert listed > 0.0
    assert plain(step_time(step_program, Told(links)).time) == pytest.approx(listed, rel=1e-12)


@pytest.mark.parametrize("name", _PLANS)
def test_a_step_takes_as_long_as_its_tasks(name: str) -> None:
    """The same of every kind of request, each with a time of its own."""
    step_program = program(*_PLANS[name])
    kinds: dict[type[Any], float] = {MatrixProduct: 1.0, Stream: 3.0, Collective: 7.0, Send: 11.0, HostCopy: 13.0}

    def one(request: Any) -> float:
        return kinds.get(type(request), 17.0)

    expected = sum(times * one(task.request) for task, times in _tasks(step_program) if task.part != "step_overhead")
    assert plain(step_time(step_program, Told(one)).time) - 17.0 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", _PLANS)
def test_parts_of_a_step_are_those_of_its_tasks(name: str) -> None:
    step_program = program(*_PLANS[name])
    sums: dict[str, float] = {}
    for task, times in _tasks(step_program):
        part = "recompute" if task.phase is Phase.RECOMPUTE else task.part
        sums[part] = sums.get(part, 0.0) + times * links(task.request)
    parts = {name: plain(value) for name, value in step_time(step_program, Told(links)).parts.items()}
    assert {part: value for part, value in parts.items() if value} == pytest.approx(
        {part: value for part, value in sums.items() if value}
    )


def test_a_ring_sends_keys_and_values_once_forward_and_twice_back() -> None:
    sent = {
        task.phase: times
        for task, times in _tasks(program("llama-3.2-1b", {"cp": 4, "recompute": "full"}))
        if isinstance(task.request, Send)
    }
    calls = 16 * 64 / (2 * 4)  # layers, micro-batches of 2 on 4 replicas
    assert sent == {Phase.FORWARD: 3 * calls, Phase.RECOMPUTE: 3 * calls, Phase.BACKWARD: 6 * calls}


@pytest.mark.parametrize(("base", "tied"), [("gpt2-355m", 1.0), ("llama-2-7b", 0.0)])
def test_a_tied_embedding_is_added_up_at_the_ends_of_a_pipeline(base: str, tied: float) -> None:
    step_program = program({"base": base, "layers": 8}, {"pp": 4})
    counts = []
    for stage in range(4):
        sums = [each for each in messages(step_program, float(stage)) if each.part == "gradient_reduction"]
        counts.append(sum(plain(each.count) for each in sums if each.resource is Resource.PIPELINE_LINKS))
    assert counts == [tied, 0.0, 0.0, tied]

    def on_pipeline(request: Any) -> float:
        return 5.0 * float(isinstance(request, Collective) and plain(request.degree) == 2.0)

    step = step_time(step_program, Told(on_pipeline))
    assert plain(step.parts["gradient_reduction"]) == 5.0 * tied
    assert plain(step.time) == 5.0 * tied


@pytest.mark.parametrize("virtual", [1, 2])
def test_a_stage_waits_for_what_it_sends_and_receives(virtual: int) -> None:
    plan = {"pp": 4, "dp": 4, "virtual_stages": virtual, "micro_batch": 2}
    step_program = program({"base": "gpt2-355m", "layers": 8}, plan)
    sent = [
        sum(plain(each.count) for each in messages(step_program, float(stage)) if each.part == "pipeline_transfer")
        for stage in range(4)
    ]
    micro_batches = 64 / (4 * 2)
    assert sent == [micro_batches * (2 * virtual - 1), *[micro_batches * 2 * virtual] * 2, sent[0]]

    def transfers(request: Any) -> float:
        return float(isinstance(request, Send))

    step = step_time(step_program, Told(transfers))
    assert plain(step.parts["pipeline_transfer"]) == micro_batches * 2 * virtual
    half = program({"base": "gpt2-355m", "layers": 8}, plan, pipeline_overlap=0.5)
    assert plain(step_time(half, Told(transfers)).parts["pipeline_transfer"]) == micro_batches * virtual


def test_gathers_hide_behind_the_compute_of_a_layer_before() -> None:
    def gathers(request: Any) -> float:
        return 1.0 if isinstance(request, Collective) else 100.0 * isinstance(request, MatrixProduct)

    plan = {"sharding": "zero3"}
    shown = plain(step_time(program(plan=plan), Told(gathers)).parts["parameter_gather"])
    hidden = plain(step_time(program(plan=plan, parameter_overlap=1.0), Told(gathers)).parts["parameter_gather"])
    # Two gathers and a scatter of each layer, one of each of the embedding and its tied head, for 2 micro-batches.
    assert shown == pytest.approx(2 * (24 * 3 + 2))
    assert hidden == pytest.approx(2 * 2, rel=1e-6)  # an embedding has no product for its own to hide behind


def test_gradients_hide_behind_the_backward_pass_once_a_step_or_each_micro_batch() -> None:
    def reductions(request: Any) -> float:
        return 1.0 if isinstance(request, Collective) else 0.0

    whole = {"sharding": "none"}
    once, each = (
        plain(step_time(program(plan=whole, reduces_each_micro_batch=flag), Told(reductions)).time)
        for flag in (0.0, 1.0)
    )
    assert (once, each) == (1.0, 2.0)
    slow = program(plan=whole, reduction_efficiency=0.5)
    assert plain(step_time(slow, Told(reductions)).time) == 2.0
    assert (
        plain(step_time(program(plan=whole, gradient_overlap=1.0), Told(lambda _: 1.0)).parts["gradient_reduction"])
        < 1e-3
    )


def test_recomputation_repeats_the_forward_pass_of_layers_only() -> None:
    step_program = program(plan={"recompute": "full"})
    forward = [task for task, _ in _tasks(step_program) if task.phase is Phase.FORWARD]
    again = [task for task, _ in _tasks(step_program) if task.phase is Phase.RECOMPUTE]
    of_layers = [task for task in forward if task.place.kind is PlaceKind.GROUP]
    assert {id(task.request) for task in again} <= {id(task.request) for task in of_layers}
    assert {task.place.kind for task in again} == {PlaceKind.GROUP}
    assert not [task for task, _ in _tasks(program()) if task.phase is Phase.RECOMPUTE]


def test_every_task_occupies_what_its_request_needs() -> None:
    for model, plan in _PLANS.values():
        for task, _ in _tasks(program(model, plan)):
            on_links = isinstance(task.request, Collective | Send)
            assert on_links == (task.resource in (Resource.TENSOR_LINKS, Resource.DATA_LINKS, Resource.PIPELINE_LINKS))


def test_offloaded_states_leave_the_device() -> None:
    here, there = program(), program(plan={"offload_optimizer": True})

    def kinds(step_program: Program) -> set[Any]:
        return {
            task.request.kind if isinstance(task.request, Stream) else type(task.request)
            for task, _ in _tasks(step_program)
            if task.phase is Phase.STEP
        }

    assert StreamKind.OPTIMIZER in kinds(here)
    assert HostCopy not in kinds(here)
    assert StreamKind.OPTIMIZER not in kinds(there)
    assert HostCopy in kinds(there)


def test_a_pattern_of_layers_makes_groups() -> None:
    """First some dense layers, then experts; five local layers, then a global one."""
    model = {"base": "mixtral-8x7b", "layers": 12, "dense_layers_first": 3}
    dense, experts = program(model).groups
    assert (plain(dense.number), plain(experts.number)) == (3.0, 9.0)
    assert plain(dense.tally.expert_parameters) == 0.0 < plain(experts.tally.expert_parameters)
    windows = {"base": "llama-3.2-1b", "layers": 13, "window_pattern": [128, 128, 128, 128, 128, None]}
    local, everywhere = program(windows).groups
    assert (plain(local.number), plain(everywhere.number)) == (11.0, 2.0)
    assert plain(local.tally.parameters) == plain(everywhere.tally.parameters)


def test_a_name_on_screen_is_no_key() -> None:
    """Streams are keyed by their kind, whose values stand in measured profiles."""
    kinds = {task.request.kind.value for task, _ in _tasks(program()) if isinstance(task.request, Stream)}
    assert {"normalisation", "dropout-and-residual", "gradient-sums", "optimizer"} <= kinds
    assert all(kind == kind.lower() and " " not in kind for kind in (each.value for each in StreamKind))
