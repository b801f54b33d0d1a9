"""A layer on its lanes: by hand where exchanges have their places, and as long as a pass by the closed formula."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as pairs
from typing import Any

import numpy as np
import pytest

import simulator
from simulator.pricing.backend import Backend
from simulator.pricing.requests import Collective
from simulator.replay.blocks import BACKWARD_LAUNCH, Gradients, Lanes, lay
from simulator.replay.spans import Piece
from simulator.step.passes import pass_of, timed_tasks
from simulator.work.hiding import Hiding
from simulator.work.program import Block, program_of
from simulator.work.tasks import Phase, Resource, Task
from tests.replay.making import Seconds, block_of, compute, exchange, overlaps, product, times_of
from tests.stacks import unrestricted

LINKS = Resource.TENSOR_LINKS
FORWARD, BACK = (Phase.FORWARD,), (Phase.RECOMPUTE, Phase.BACKWARD)
CASES: dict[str, tuple[str, str, int, str | None, dict[str, Any]]] = {
    "one device": ("bert-large", "dgx-a100-640gb", 1, "pytorch-ddp", {}),
    "tensor parallel": ("llama-2-7b", "dgx-h100", 8, "megatron-lm", {"tp": 8}),
    "with sequences": ("llama-2-7b", "dgx-h100", 8, "megatron-lm", {"tp": 4, "sequence_parallel": True}),
    "over two nodes": ("llama-2-7b", "dgx-h100", 32, "megatron-lm", {"tp": 16, "sequence_parallel": True}),
    "selective": ("llama-2-7b", "dgx-h100", 8, "megatron-lm", {"tp": 8, "recompute": "selective"}),
    "full": ("llama-2-7b", "dgx-h100", 8, "megatron-lm", {"tp": 8, "recompute": "full", "sequence_parallel": True}),
    "context parallel": ("llama-2-7b", "dgx-h100", 16, "megatron-lm", {"cp": 4, "tp": 2}),
    "experts": ("mixtral-8x7b", "dgx-h100", 16, "megatron-lm", {"ep": 8, "tp": 1, "recompute": "full"}),
    "parallel block": ("palm-62b", "tpu-v4-pod", 64, None, {"tp": 8}),
    "encoder and decoder": ("t5-3b", "dgx-a100-640gb", 8, None, {"tp": 1}),
}


def blocks_of(name: str) -> Iterator[tuple[Block, Backend, float]]:
    """Layers, embedding and head of a case, with what prices them and the time of a launch [s]."""
    model, system, devices, stack, plan = CASES[name]
    scenario = simulator.resolve(
        model, system, devices=devices, stack=unrestricted(stack) if stack else None, plan={"micro_batch": 1, **plan}
    )
    program = program_of(scenario.columns())
    for block in program.blocks:
        yield block, scenario.backend(), float(np.asarray(program.scenarios.stacks.launch))


def forward_of(*tasks: Task) -> Piece:
    return lay(block_of(*tasks), FORWARD, Seconds(), 0.0, "all").piece


def test_exchanges_stand_around_the_halves_of_a_layer() -> None:
    """Gathers of a second ahead of the products of either half, behind its normalisation; scatters of half a second."""
    piece = forward_of(
        compute(1.0, "normalisation"),
        compute(2.0, "attention_projections"),
        compute(3.0, "attention"),
        compute(4.0, "feed_forward"),
        exchange(1.0, "all_gather", count=2.0),
        exchange(0.5, "reduce_scatter", count=2.0),
    )
    assert times_of(piece) == [(0.0, 0.5), (1.5, 3.5), (3.5, 6.5), (7.0, 7.5), (8.5, 12.5)]
    assert times_of(piece, LINKS) == times_of(piece, waits=True) == [(0.5, 1.5), (6.5, 7.0), (7.5, 8.5), (12.5, 13.0)]
    assert piece.duration == 13.0


def test_the_backward_pass_runs_from_the_end() -> None:
    """The feed-forward half first, and each half from its last operator to its first."""
    tasks = [
        compute(2.0, "normalisation", phase=Phase.BACKWARD),
        compute(4.0, "attention_projections", phase=Phase.BACKWARD),
        compute(6.0, "attention", phase=Phase.BACKWARD),
        compute(8.0, "feed_forward", phase=Phase.BACKWARD),
        exchange(1.0, "all_gather", phase=Phase.BACKWARD, count=2.0),
        exchange(0.5, "reduce_scatter", phase=Phase.BACKWARD, count=2.0),
    ]
    piece = lay(block_of(*tasks), BACK, Seconds(), 0.0, "all").piece
    assert times_of(piece) == [(1.0, 9.0), (9.5, 10.5), (11.5, 17.5), (17.5, 21.5), (22.0, 23.0)]
    assert times_of(piece, waits=True) == [(0.0, 1.0), (9.0, 9.5), (10.5, 11.5), (21.5, 22.0)]


def test_what_is_recomputed_runs_first_and_forward() -> None:
    tasks = [
        compute(1.0, "attention_projections", phase=Phase.RECOMPUTE),
        compute(2.0, "attention", phase=Phase.RECOMPUTE),
        compute(6.0, "attention", phase=Phase.BACKWARD),
        compute(3.0, "attention_projections", phase=Phase.BACKWARD),
    ]
    piece = lay(block_of(*tasks), BACK, Seconds(), 0.0, "all").piece
    named = [(span.part, span.phase, span.start) for span in piece.flat()]
    assert named == [
        ("attention_projections", Phase.RECOMPUTE, 0.0),
        ("attention", Phase.RECOMPUTE, 1.0),
        ("attention_projections", Phase.BACKWARD, 3.0),
        ("attention", Phase.BACKWARD, 6.0),
    ]


EVERY_GRADIENT: tuple[Gradients, ...] = ("all", "inputs", "weights")


@pytest.mark.parametrize(("share", "shown"), [(1.0, 0.0), (0.5, 1.0), (0.25, 1.5)])
def test_what_hides_runs_beside_the_work_before_it(share: float, shown: float) -> None:
    """Sums of two seconds behind each half, of which a share runs beside a hundred seconds of products."""
    products = frozenset[Any]({"attention_projections", "feed_forward"})
    halves = tuple((frozenset[Any]({part}), 0.5) for part in sorted(products))
    hiding = Hiding(share=share, line="tensor", parts=products, halves=halves)
    piece = forward_of(
        compute(100.0, "attention_projections"),
        compute(1.0, "attention"),
        compute(100.0, "feed_forward"),
        exchange(2.0, "all_reduce", count=2.0, hiding=hiding),
    )
    ends = 101.0 + shown, 201.0 + 2.0 * shown
    assert times_of(piece, LINKS) == [pytest.approx((end - 2.0, end), abs=1e-5) for end in ends]
    assert piece.duration == pytest.approx(ends[1], abs=1e-5)


def test_a_ring_runs_beside_the_attention_that_it_feeds() -> None:
    hiding = Hiding(share=1.0, line="ring", parts=frozenset[Any]({"attention"}))
    ring = exchange(2.0, "all_gather", part="context_parallel", hiding=hiding)
    piece = forward_of(
        compute(1.0, "attention_projections"), compute(100.0, "attention"), ring, compute(1.0, "feed_forward")
    )
    assert times_of(piece, LINKS) == [pytest.approx((1.0, 3.0), abs=1e-6)]
    assert times_of(piece)[1] == pytest.approx((1.0, 101.0), abs=1e-6)


def test_tokens_travel_to_experts_and_back() -> None:
    """Four seconds of exchange: two where the router has chosen, two once the experts are through."""
    piece = forward_of(
        compute(1.0, "attention"),
        compute(1.0, "feed_forward", name="router"),
        exchange(2.0, "all_to_all", part="expert_parallel", count=2.0),
        compute(6.0, "feed_forward", name="experts"),
    )
    assert times_of(piece) == [(0.0, 1.0), (1.0, 2.0), (4.0, 10.0)]
    assert times_of(piece, waits=True) == [(2.0, 4.0), (10.0, 12.0)]


def test_one_exchange_of_both_halves_stands_at_its_end() -> None:
    """Of a parallel block: the one sum of the forward pass comes last."""
    piece = forward_of(
        compute(2.0, "attention"),
        compute(3.0, "feed_forward"),
        exchange(1.0, "all_reduce"),
        exchange(1.0, "all_gather"),
    )
    assert times_of(piece) == [(1.0, 3.0), (3.0, 6.0)]
    assert times_of(piece, waits=True) == [(0.0, 1.0), (6.0, 7.0)]


def test_gradients_apart() -> None:
    """Of ten seconds three make gradients of weights; launches of the backward pass cost the host 0.55 of others."""
    block = block_of(
        product(3.0, "feed_forward", weights=True),
        product(5.0, "feed_forward", weights=False),
        compute(2.0, "attention", phase=Phase.BACKWARD, kernels=4.0),
    )
    for gradients, seconds, kernels in (("all", 10.0, 6.0), ("inputs", 7.0, 5.0), ("weights", 3.0, 1.0)):
        one = lay(block, BACK, Seconds(), 0.1, gradients)  # type: ignore[arg-type]
        assert one.piece.duration == seconds
        assert one.host == pytest.approx(0.1 * BACKWARD_LAUNCH * kernels)


def test_a_busy_link_holds_the_next_exchange_up() -> None:
    """The first may hide three seconds beside four of compute; the second is for a link that is free at five only."""
    link, work = exchange(1.0, "all_reduce"), compute(4.0, "feed_forward")
    lanes = Lanes()
    lanes.add(work, 4.0)
    lanes.add(link, 1.0, 3.0)
    assert lanes.now == 5.0
    lanes.add(link, 0.0, 2.0)
    piece = lanes.piece()
    assert times_of(piece, LINKS) == [(1.0, 5.0), (5.0, 7.0)]
    assert times_of(piece, waits=True) == [(4.0, 5.0), (5.0, 7.0)]


def test_what_comes_ahead_is_waited_for_as_far_as_it_shows() -> None:
    """A ring of four seconds, of which one shows: attention begins after one, and the links are busy for three more."""
    lanes = Lanes()
    lanes.add(exchange(4.0, "all_gather"), 1.0, 3.0, ahead=True)
    lanes.add(compute(2.0, "attention"), 2.0)
    piece = lanes.piece()
    assert times_of(piece) == [(1.0, 3.0)]
    assert times_of(piece, LINKS) == [(0.0, 4.0)]
    assert times_of(piece, waits=True) == [(0.0, 1.0), (3.0, 4.0)]


@pytest.mark.parametrize("name", CASES)
def test_layers_take_as_long_as_passes(name: str) -> None:
    """Forward and backward pass, and launches of the host, of every layer and of both ends."""
    for block, backend, launch in blocks_of(name):
        expected = pass_of(block.tasks, backend, launch)
        ahead, back = (lay(block, phases, backend, launch, "all") for phases in (FORWARD, BACK))
        assert ahead.piece.duration == pytest.approx(float(expected.forward), rel=1e-12)
        assert back.piece.duration == pytest.approx(float(expected.backward), rel=1e-12)
        assert ahead.host + back.host == pytest.approx(float(expected.host), rel=1e-12)


@pytest.mark.parametrize(("model", "degrees"), [("mixtral-8x7b", {"ep": 4}), ("t5-3b", {})])
def test_exchanges_of_unlike_halves_show_a_little_more(model: str, degrees: dict[str, int]) -> None:
    """Those around attention alone, or of three parts, hide beside the half where they stand; the formula has them
    spread evenly.
    """
    scenario = simulator.resolve(
        model,
        "dgx-h100",
        devices=16,
        stack=unrestricted("megatron-lm"),
        plan={"micro_batch": 1, "tp": 2, "sequence_parallel": True, **degrees},
    )
    for layer in program_of(scenario.columns()).groups:
        expected = pass_of(layer.tasks, scenario.backend(), 0.0)
        ahead, back = (lay(layer, phases, scenario.backend(), 0.0, "all").piece for phases in (FORWARD, BACK))
        assert 1.0 - 1e-12 <= ahead.duration / float(expected.forward) <= 1.06
        assert 1.0 - 1e-12 <= back.duration / float(expected.backward) <= 1.06


@pytest.mark.parametrize("name", CASES)
def test_a_resource_does_one_thing_at_a_time(name: str) -> None:
    for block, backend, launch in blocks_of(name):
        for phases, gradients in pairs((FORWARD, BACK), ("all", "inputs", "weights")):
            piece = lay(block, phases, backend, launch, gradients).piece  # type: ignore[arg-type]
            assert not overlaps(piece)
            assert all(span.end <= piece.duration * (1.0 + 1e-12) for span in piece.flat())
            assert all(span.start >= 0.0 for span in piece.flat())


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_lost(name: str) -> None:
    """Each lane is busy with each part as long as its tasks take; what the device computes and waits for is all."""
    for block, backend, launch in blocks_of(name):
        for phases in (FORWARD, BACK):
            piece = lay(block, phases, backend, launch, "all").piece
            timed: dict[tuple[Resource, str], float] = {}
            for task, seconds in timed_tasks(block.tasks, backend):
                if task.phase in phases and float(seconds) > 0.0:
                    key = task.resource, task.part
                    timed[key] = timed.get(key, 0.0) + float(seconds)
            assert piece.busy() == pytest.approx(timed, rel=1e-12)
            device = sum(seconds for (resource, _), seconds in piece.busy().items() if resource is Resource.DEVICE)
            assert device + sum(piece.busy(waits=True).values()) == pytest.approx(piece.duration, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradients_apart_are_those_of_the_whole_pass(name: str) -> None:
    """Compute adds up to that of the whole backward pass, and so do exchanges, which hide beside that of both."""
    for block, backend, launch in blocks_of(name):
        whole, inputs, weights = (
            lay(block, BACK if gradients != "weights" else BACK[1:], backend, launch, gradients)
            for gradients in EVERY_GRADIENT
        )
        busy = whole.piece.busy()
        for key in busy:
            both = inputs.piece.busy().get(key, 0.0) + weights.piece.busy().get(key, 0.0)
            assert both == pytest.approx(busy[key], rel=1e-12)
        assert inputs.host + weights.host == pytest.approx(whole.host, rel=1e-12)
        # With less beside it, an exchange shows no less.
        assert inputs.piece.duration + weights.piece.duration >= whole.piece.duration * (1.0 - 1e-12)


def test_sizes_are_those_of_all_calls() -> None:
    """Bytes of exchanges and arithmetic of products survive the cutting into halves."""
    for block, backend, launch in blocks_of("with sequences"):
        sizes = {"B": 0.0, "FLOP": 0.0}
        for span in lay(block, FORWARD, backend, launch, "all").piece.flat():
            if not span.waits and (span.resource is LINKS or span.unit == "FLOP"):
                sizes[span.unit] += span.size
        ahead = [task for task in block.tasks if task.phase is Phase.FORWARD]
        sent = sum(
            float(task.count) * float(task.request.message_bytes)
            for task in ahead
            if isinstance(task.request, Collective)
        )
        flops = sum(
            float(task.count) * float(getattr(task.request, "flops", 0.0))
            for task in ahead
            if task.resource is Resource.DEVICE
        )
        assert sizes == pytest.approx({"B": sent, "FLOP": flops}, rel=1e-12)
