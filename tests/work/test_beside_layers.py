"""What a stage does beside its layers, each micro-batch and once a step, worked out by hand for a small model.

On one rank a layer has 17,408 parameters, the embedding 6,768 and the head's normalisation 96.
"""

from __future__ import annotations

from typing import Any

import pytest

from simulator.pricing.requests import Collective, HostCopy, HostWork, Send, Stream
from simulator.work.exchanges import each_micro_batch
from simulator.work.hiding import OPEN, Phase
from simulator.work.once import on_fullest, on_stage, once_a_step
from simulator.work.program import Program
from simulator.work.tasks import PlaceKind, Resource, Task
from tests.work.asking import plain
from tests.work.small import small

_LAYER = 4 * 48 * 48 + 4 * 48 + 2 * 48 * 80 + 80 + 48 + 4 * 48
_EMBEDDING = 101 * 48 + 40 * 48
_HEAD = 2 * 48
_ALONE: dict[str, Any] = {"tp": 1, "dp": 8, "sequence_parallel": False, "micro_batch": 1}
"""8 replicas, 3 micro-batches."""


def _gpt(plan: dict[str, Any], base: str = "gpt2-355m", **how: Any) -> Program:
    sizes = {"position_rows": 40, **how.pop("sizes", {})}
    return small(base, plan, sizes=sizes, **{"eager": 0.5, "optimizer_passes": 1.0, "optimizer_kernels": 4.0, **how})


def _told(tasks: tuple[Task, ...], name: str, **of: Any) -> list[tuple[float, ...]]:
    """Count and sizes of the tasks of a name that are made at all."""
    exchanges = []
    for task in tasks:
        if task.name == name and plain(task.count) and all(getattr(task, key) == value for key, value in of.items()):
            asked = task.request
            assert isinstance(asked, Collective | Send)
            exchanges.append(
                tuple(plain(each) for each in (task.count, asked.message_bytes, asked.degree, asked.stride))
            )
    return exchanges


def _once(program: Program) -> tuple[Task, ...]:
    return once_a_step(program, on_fullest(program))


def _one(tasks: tuple[Task, ...], name: str) -> Task:
    (task,) = [each for each in tasks if each.name == name]
    return task


# Each micro-batch


def test_gradients_are_added_to_those_before() -> None:
    """Gradients in fp32 are read and written, as far as the stack is eager; one micro-batch adds to nothing."""

    def moved(plan: dict[str, Any], **how: Any) -> float:
        program = _gpt({**_ALONE, "sharding": "none", **plan}, **how)
        request = _one(each_micro_batch(program), "sums of gradients").request
        assert isinstance(request, Stream)
        assert plain(request.kernels) == 0
        return plain(request.moved_bytes)

    assert moved({}) == 2 * _LAYER * 2 * 4 * 0.5
    assert moved({}, eager=0.0) == moved({"micro_batch": 3}) == 0
    assert moved({"gradients_in_fp32": False}) == 2 * _LAYER * 2 * 2 * 0.5
    assert moved({"sharding": "zero3"}) == 2 * _LAYER * 2 * 4 * 0.5 / 8
    assert moved({"dp": 4, "pp": 2}) == _LAYER * 2 * 4 * 0.5
    # Parameters in fp32 are read and cast to 16 bits for each pass.
    assert moved({"parameters_in_fp32": True, "micro_batch": 3}) == 2 * _LAYER * 2 * (4 + 2)
    assert moved({"parameters_in_fp32": True}) == 2 * _LAYER * (2 * (4 + 2) + 2 * 4 * 0.5)


def test_gradients_of_experts_are_added_where_they_lie() -> None:
    """4 of 8 ranks hold other experts, so that 2 share each."""
    how: dict[str, Any] = {"base": "mixtral-8x7b", "sizes": {"key_value_heads": 6, "position_rows": 0}}
    program = _gpt({**_ALONE, "ep": 4, "sharding": "zero3"}, **how)
    request = _one(each_micro_batch(program), "sums of gradients").request
    assert isinstance(request, Stream)
    dense, experts = 2 * (4 * 48 * 48 + 8 * 48 + 2 * 48), 2 * 2 * 3 * 48 * 80
    assert plain(request.moved_bytes) == (dense / 8 + experts / 2) * 2 * 4 * 0.5
    tasks = each_micro_batch(program)
    assert _told(tasks, "parameters of a layer", phase=Phase.FORWARD) == [(2, dense / 2 * 2, 8, 1)]
    assert _told(tasks, "parameters of experts", phase=Phase.FORWARD) == [(2, experts / 2 * 2, 2, 4)]
    assert _told(tasks, "gradients of experts") == [(2, experts / 2 * 4, 2, 4)]
    whole = each_micro_batch(_gpt({**_ALONE, "ep": 8, "sharding": "zero3"}, **how))
    assert _told(whole, "parameters of experts") == []


@pytest.mark.parametrize("passes", [1.0, 0.0])
def test_shards_are_gathered_and_their_gradients_scattered(passes: float) -> None:
    program = _gpt({**_ALONE, "sharding": "zero3"}, gathers_each_pass=passes)
    tasks = each_micro_batch(program)
    assert _told(tasks, "parameters of a layer", phase=Phase.FORWARD) == [(2, _LAYER * 2, 8, 1)]
    assert _told(tasks, "parameters of a layer", phase=Phase.BACKWARD) == [(2, _LAYER * 2, 8, 1)] * int(passes)
    assert _told(tasks, "gradients of a layer") == [(2, _LAYER * 4, 8, 1)]
    # The tied head is gathered with the embedding, and its normalisation for itself.
    both = [(1, (_EMBEDDING + _HEAD) * 2, 8, 1)]
    assert _told(tasks, "parameters of embedding or head") == both
    assert _told(tasks, "gradients of embedding or head") == [(1, (_EMBEDDING + _HEAD) * 4, 8, 1)]


def test_shards_of_a_group_are_gathered_there() -> None:
    tasks = each_micro_batch(_gpt({**_ALONE, "sharding": "hybrid", "sharding_group": 4}))
    assert _told(tasks, "parameters of a layer", phase=Phase.FORWARD) == [(2, _LAYER * 2, 4, 1)]
    assert not [each for each in each_micro_batch(_gpt(_ALONE)) if each.part == "parameter_gather"]


def test_ends_of_a_pipeline_are_gathered_apart() -> None:
    tasks = each_micro_batch(_gpt({**_ALONE, "dp": 4, "pp": 2, "sharding": "zero3"}))
    gathered_bytes = {
        task.place.kind: plain(task.request.message_bytes)
        for task in tasks
        if task.name == "parameters of embedding or head" and isinstance(task.request, Collective)
    }
    assert gathered_bytes == {PlaceKind.EMBEDDING: _EMBEDDING * 2, PlaceKind.HEAD: _HEAD * 2}
    assert _told(tasks, "parameters of a layer", phase=Phase.FORWARD) == [(1, _LAYER * 2, 4, 1)]
    own = each_micro_batch(_gpt({**_ALONE, "sharding": "zero3"}, "llama-2-7b", sizes={"position_rows": 0}))
    sizes = [size for _, size, _, _ in _told(own, "parameters of embedding or head")]
    assert sizes == [101 * 48 * 2, (101 * 48 + 48) * 2]


def test_layers_that_share_parameters_gather_all_of_them_each_time() -> None:
    tasks = each_micro_batch(_gpt({**_ALONE, "sharding": "zero3"}, "albert-base"))
    assert _told(tasks, "parameters of a layer", phase=Phase.FORWARD) == [(2, _LAYER * 2, 8, 1)]
    assert _told(tasks, "gradients of a layer") == [(2, _LAYER / 2 * 4, 8, 1)]


def test_gathers_hide_behind_the_layer_before() -> None:
    program = _gpt({**_ALONE, "sharding": "zero3"}, parameter_overlap=0.5)
    for task in each_micro_batch(program):
        if task.part == "parameter_gather":
            layers = 2 if task.place.kind is PlaceKind.LAYERS else 1
            hiding = task.hiding
            assert (plain(hiding.share), hiding.line) == (1, "shards")
            assert (plain(hiding.reach), plain(hiding.occasions)) == (0.5 / layers, layers)
            assert task.resource is Resource.DATA_LINKS


@pytest.mark.parametrize(("tp", "message"), [(1, 60 * 48 * 2), (2, 30 * 48 * 2)])
def test_stages_send_the_activations_of_a_micro_batch(tp: int, message: int) -> None:
    """Each tensor-parallel rank its part; the gradients back are as large; chunks of layers send inside the stage."""
    plan = {"tp": tp, "pp": 2, "dp": 4 // tp, "micro_batch": 3, "virtual_stages": 2, "sequence_parallel": tp > 1}
    tasks = each_micro_batch(_gpt(plan, sizes={"layers": 4}, pipeline_overlap=0.25))
    size = (message, 2, 4)
    assert _told(tasks, "activations between stages", phase=Phase.FORWARD) == [(1, *size), (1, *size)]
    assert _told(tasks, "gradients between stages", phase=Phase.BACKWARD) == [(1, *size), (1, *size)]
    sent = [each for each in tasks if each.part == "pipeline_transfer"]
    assert [each.place.kind for each in sent] == [
        PlaceKind.STAGE,
        PlaceKind.NEXT,
        PlaceKind.STAGE,
        PlaceKind.PREVIOUS,
    ]
    assert {(plain(each.hiding.share), each.hiding.line, each.resource) for each in sent} == {
        (0.25, "", Resource.PIPELINE_LINKS)
    }


def test_a_pipeline_with_an_encoder_sends_the_longer_sequences() -> None:
    plan = {"tp": 1, "pp": 2, "dp": 4, "sequence_parallel": False}
    for target, longest in ((12, 20), (30, 30)):
        program = small("t5-large", plan, sizes={"decoder_layers": 2}, workload={"target_length": target})
        sizes = {size for _, size, _, _ in _told(each_micro_batch(program), "activations between stages")}
        assert sizes == {3 * longest * 48 * 2}


# Once a step


def test_whole_gradients_are_added_up_over_replicas() -> None:
    tasks = _once(_gpt({**_ALONE, "sharding": "none"}, gradient_overlap=0.25, reduction_efficiency=0.5))
    size = (2 * _LAYER + _EMBEDDING + _HEAD) * 4
    assert _told(tasks, "gradients") == [(1, size, 8, 1)]
    assert _told(tasks, "updated parameters") == []
    task = next(each for each in tasks if each.name == "gradients" and plain(each.count))
    assert isinstance(task.request, Collective)
    assert task.request.kind == "all_reduce"
    assert plain(task.efficiency) == 0.5
    hiding = task.hiding
    assert (plain(hiding.share), hiding.line, hiding.behind) == (1, "gradients", Phase.BACKWARD)
    assert (plain(hiding.reach), plain(hiding.occasions)) == (0.25, 1)


def test_sharded_states_scatter_gradients_and_gather_what_was_updated() -> None:
    tasks = _once(_gpt({**_ALONE, "sharding": "zero1"}, parameter_overlap=0.25))
    held = 2 * _LAYER + _EMBEDDING + _HEAD
    assert _told(tasks, "gradients") == [(1, held * 4, 8, 1)]
    assert _told(tasks, "updated parameters") == [(1, held * 2, 8, 1)]
    kinds = {each.request.kind for each in tasks if isinstance(each.request, Collective) and plain(each.count)}
    assert kinds == {"reduce_scatter", "all_gather"}
    gather = _one(tasks, "updated parameters")
    assert (plain(gather.hiding.share), gather.hiding.line) == (1, "updates")
    assert (gather.hiding.behind, plain(gather.hiding.reach)) == (Phase.FORWARD, 0.25)
    assert plain(gather.efficiency) == 1


def test_states_shared_by_some_replicas_are_reduced_over_all() -> None:
    tasks = _once(_gpt({**_ALONE, "sharding": "zero1", "sharding_group": 4}))
    held = 2 * _LAYER + _EMBEDDING + _HEAD
    assert _told(tasks, "gradients") == [(1, held * 4, 8, 1)]
    assert _told(tasks, "updated parameters") == [(1, held * 2, 4, 1)]
    kinds = [each.request.kind for each in tasks if isinstance(each.request, Collective) and plain(each.count)]
    assert kinds == ["all_reduce", "all_gather"]


def test_groups_that_hold_the_same_add_up_their_shards() -> None:
    tasks = _once(_gpt({**_ALONE, "sharding": "hybrid", "sharding_group": 4}))
    held = 2 * _LAYER + _EMBEDDING + _HEAD
    assert _told(tasks, "gradients") == [(1, held * 4 / 4, 2, 4)]
    assert _told(tasks, "updated parameters") == []
    assert _told(_once(_gpt({**_ALONE, "sharding": "zero3"})), "gradients") == []


def test_one_replica_reduces_nothing() -> None:
    tasks = _once(_gpt({"tp": 8, "dp": 1, "sequence_parallel": False}, sizes={"attention_heads": 8}))
    assert not [each for each in tasks if each.resource is Resource.DATA_LINKS]


@pytest.mark.parametrize(
    ("plan", "flag", "times"),
    [
        ({"sharding": "none"}, 0.0, 1),
        ({"sharding": "none"}, 1.0, 3),
        ({"sharding": "zero2"}, 0.0, 3),
        ({"sharding": "zero2", "pp": 2, "dp": 4}, 0.0, 6),
        ({"sharding": "zero2", "pp": 2, "dp": 4}, 1.0, 6),
        ({"sharding": "hybrid", "sharding_group": 4}, 0.0, 1),
    ],
)
def test_how_often_gradients_are_reduced(plan: dict[str, Any], flag: float, times: int) -> None:
    """Where replicas share them, after every micro-batch, in pipelines too: none has room for more than its part."""
    tasks = _once(_gpt({**_ALONE, **plan}, reduces_each_micro_batch=flag))
    ((count, *_),) = _told(tasks, "gradients")
    assert count == times
    task = next(each for each in tasks if each.name == "gradients" and plain(each.count))
    assert plain(task.hiding.occasions) == times


def test_experts_are_reduced_among_those_that_hold_them() -> None:
    how: dict[str, Any] = {"base": "mixtral-8x7b", "sizes": {"key_value_heads": 6, "position_rows": 0}}
    tasks = _once(_gpt({**_ALONE, "ep": 4, "sharding": "none"}, **how))
    assert _told(tasks, "gradients of experts") == [(1, 2 * 2 * 3 * 48 * 80 * 4, 2, 4)]
    tasks = _once(_gpt({**_ALONE, "ep": 2, "sharding": "hybrid", "sharding_group": 4}, **how))
    assert _told(tasks, "gradients of experts") == [(1, 2 * 4 * 3 * 48 * 80 * 4 / 2, 2, 4)]


def test_shared_tokens_leave_parts_of_gradients() -> None:
    """Of normalisations, of biases after row-parallel products, and of positions: 2 ranks have each their tokens'."""
    partial = 2 * (2 * 2 * 48 + 2 * 48) + 40 * 48 + 2 * 48
    assert _told(_once(_gpt({})), "gradients of shared tokens") == [(1, partial * 4, 2, 1)]
    assert _told(_once(_gpt({"sequence_parallel": False})), "gradients of shared tokens") == []
    assert _told(_once(_gpt({"sharding": "zero3"})), "gradients of shared tokens") == [(1, partial * 4 / 4, 2, 1)]


def test_copied_heads_are_added_up_over_their_holders() -> None:
    """2 heads of keys and values on 4 ranks: two hold each, of 2 layers."""
    shape = {"attention_heads": 8, "key_value_heads": 2, "head_size": 6, "position_rows": 0}
    tasks = _once(_gpt({"tp": 4, "dp": 2}, "llama-2-7b", sizes=shape))
    assert _told(tasks, "gradients of copied heads") == [(1, 2 * 48 * 2 * 6 * 4, 2, 1)]
    for degree in (1, 2):
        tasks = _once(_gpt({"tp": degree, "dp": 8 // degree, "sequence_parallel": False}, "llama-2-7b", sizes=shape))
        assert _told(tasks, "gradients of copied heads") == []
    split = _once(_gpt({"tp": 4, "dp": 1, "pp": 2}, "llama-2-7b", sizes=shape))
    assert _told(split, "gradients of copied heads") == [(1, 48 * 2 * 6 * 4, 2, 1)]


@pytest.mark.parametrize("pp", [2, 4])
def test_ends_share_the_gradient_of_a_tied_embedding(pp: int) -> None:
    """Half of 101 words on each of 2 ranks; the ends lie as far apart as there are stages between."""
    program = _gpt({"pp": pp, "dp": 4 // pp}, sizes={"layers": 4})
    stride = 2 * (4 // pp)
    tied = (1, 51 * 48 * 4, 2, stride * (pp - 1))
    assert _told(_once(program), "gradients of the tied embedding") == [tied]
    inside = once_a_step(program, on_stage(program, first=0.0, last=0.0))
    assert _told(inside, "gradients of the tied embedding") == []
    task = _one(_once(program), "gradients of the tied embedding")
    assert (task.resource, task.hiding) == (Resource.PIPELINE_LINKS, OPEN)
    assert _told(_once(_gpt({})), "gradients of the tied embedding") == []


def test_a_v_has_both_ends_on_one_stage() -> None:
    """Nobody shares the gradient of a tied embedding, and the first stage holds it and the head."""
    plan = {"pp": 2, "dp": 2, "micro_batch": 1, "schedule": "zero-bubble-v", "virtual_stages": 2}
    program = _gpt(plan, sizes={"layers": 4})
    assert _told(_once(program), "gradients of the tied embedding") == []
    straight = _gpt({"pp": 2, "dp": 2}, sizes={"layers": 4})
    both = plain(on_fullest(program).dense) - plain(on_fullest(straight).dense)
    assert both == plain(program.head.tally.trained_parameters) > 0


def test_what_a_stage_holds() -> None:
    program = _gpt({**_ALONE, "pp": 2, "dp": 4})
    for first, last in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        held = on_stage(program, first=first, last=last)
        assert plain(held.dense) == _LAYER + first * _EMBEDDING + last * _HEAD
        assert plain(held.is_end) == max(first, last)
        assert plain(held.partial) == 4 * 48 + 2 * 48 + first * 40 * 48 + last * 2 * 48
    assert plain(on_fullest(program).dense) == _LAYER + _EMBEDDING
    assert plain(on_fullest(_gpt(_ALONE)).dense) == 2 * _LAYER + _EMBEDDING + _HEAD
    experts = _gpt({**_ALONE, "pp": 2, "dp": 4}, "mixtral-8x7b", sizes={"key_value_heads": 6, "position_rows": 0})
    assert plain(on_fullest(experts).experts) == 8 * 3 * 48 * 80
    assert plain(on_stage(experts, first=0.0, last=0.0).experts) == 8 * 3 * 48 * 80


_HELD = 2 * _LAYER + _EMBEDDING + _HEAD


@pytest.mark.parametrize(
    ("plan", "moved"),
    [
        # Moments and master copy read and written, gradients read twice, parameters written.
        ({}, _HELD * (2 * (8 + 4) + 2 * 4 + 2)),
        ({"sharding": "zero1"}, _HELD / 8 * (2 * (8 + 4) + 2 * 4 + 2)),
        ({"parameters_in_fp32": True}, _HELD * (2 * 8 + 2 * 4 + 4)),
        ({"optimizer": "sgd", "gradients_in_fp32": False}, _HELD * (2 * (4 + 4) + 2 + 2)),
        ({"optimizer": "adafactor"}, _HELD * (2 * (4 + 4) + 3 * 4 + 2)),
    ],
)
def test_an_optimizer_reads_and_writes_its_states(plan: dict[str, Any], moved: float) -> None:
    program = _gpt({**_ALONE, "sharding": "none", **plan})
    here = _one(_once(program), "optimizer")
    assert isinstance(here.request, Stream)
    assert plain(here.request.moved_bytes) == pytest.approx(moved, rel=1e-12)
    assert (plain(here.count), plain(here.kernels), plain(here.request.kernels)) == (1, 8, 8)
    assert plain(_one(_once(program), "offloaded optimizer").count) == 0
    twice = _one(_once(_gpt({**_ALONE, "sharding": "none", **plan}, optimizer_passes=2.0)), "optimizer").request
    assert isinstance(twice, Stream)
    assert plain(twice.moved_bytes) == pytest.approx(2 * moved)


def test_offloaded_states_take_gradients_along_and_bring_parameters_back() -> None:
    program = _gpt({**_ALONE, "sharding": "none", "offload_optimizer": True}, step_overhead=0.25)
    tasks = _once(program)
    there = _one(tasks, "offloaded optimizer")
    assert isinstance(there.request, HostCopy)
    assert plain(there.request.moved_bytes) == pytest.approx(_HELD * (2 * (8 + 4) + 2 * 4 + 2 + 4 + 2))
    assert (plain(there.count), there.resource) == (1, Resource.HOST)
    here = _one(tasks, "optimizer")
    assert (plain(here.count), plain(here.kernels)) == (0, 0)
    work = _one(tasks, "host work of a step")
    assert isinstance(work.request, HostWork)
    assert (plain(work.count), plain(work.request.seconds)) == (1, 0.25)


def test_states_of_experts_are_shared_among_their_copies() -> None:
    how: dict[str, Any] = {"base": "mixtral-8x7b", "sizes": {"key_value_heads": 6, "position_rows": 0}}
    program = _gpt({**_ALONE, "ep": 4, "sharding": "zero1"}, **how)
    request = _one(_once(program), "optimizer").request
    assert isinstance(request, Stream)
    dense = 2 * (4 * 48 * 48 + 8 * 48 + 2 * 48) + 2 * 101 * 48 + 48
    experts = 2 * 2 * 3 * 48 * 80
    assert plain(request.moved_bytes) == pytest.approx((dense / 8 + experts / 2) * 34)


def test_stages_launch_the_optimizer_for_their_own_layers() -> None:
    program = _gpt({**_ALONE, "dp": 4, "pp": 2})
    assert plain(_one(_once(program), "optimizer").kernels) == 4
