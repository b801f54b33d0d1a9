"""Passes of a chunk of layers: blocks in their order, what the host holds up, and parts of layers."""

from __future__ import annotations

import numpy as np
import pytest

import simulator
from simulator.replay.chunks import ChunkHolding, Chunks
from simulator.replay.orders import PassKind
from simulator.work.program import program_of
from simulator.work.tasks import Resource
from tests.stacks import unrestricted

KINDS = (PassKind.FORWARD, PassKind.BACKWARD)
APART = (PassKind.FORWARD, PassKind.INPUT_GRADIENTS, PassKind.WEIGHT_GRADIENTS)
MIDDLE = ChunkHolding(6.0, first=False, last=False)


def chunks_of(model: str, system: str, stack: str, length: int, batch: int = 1) -> Chunks:
    scenario = simulator.resolve(
        model,
        system,
        devices=1,
        stack=unrestricted(stack),
        plan={"micro_batch": batch, "precision": "bf16"},
        workload={"sequence_length": length, "global_batch": 8 * batch},
    )
    return Chunks(program_of(scenario.columns()), scenario.backend())


def places_of(chunks: Chunks, holding: ChunkHolding, kind: PassKind) -> list[str]:
    return [place for _, place, _ in chunks.passed(holding, kind).piece.inner]


def test_blocks_stand_in_their_order() -> None:
    """The backward pass from the last to the first; ends where the chunk has them; and a part of a layer last."""
    chunks = chunks_of("gpt2-1.5b", "dgx-a100-640gb", "pytorch-ddp", 1024)
    whole = ChunkHolding(2.0, first=True, last=True)
    assert places_of(chunks, whole, PassKind.FORWARD) == ["embedding", "layer 1", "layer 2", "head"]
    assert places_of(chunks, whole, PassKind.BACKWARD) == ["head", "layer 2", "layer 1", "embedding"]
    assert places_of(chunks, ChunkHolding(1.5, first=False, last=False), PassKind.FORWARD) == ["layer 1", "layer 2"]
    one, half = (
        chunks.passed(ChunkHolding(number, first=False, last=False), PassKind.FORWARD).piece.duration
        for number in (1.0, 1.5)
    )
    assert half == pytest.approx(1.5 * one, rel=1e-12)


@pytest.mark.parametrize(("model", "length"), [("gpt2-1.5b", 1024), ("gpt2-1.5b", 64), ("llama-3-8b", 8192)])
@pytest.mark.parametrize("kinds", [KINDS, APART], ids=["whole", "apart"])
def test_waits_for_the_host_add_up(model: str, length: int, kinds: tuple[PassKind, ...]) -> None:
    """Together a micro-batch takes the norm of order four of the device's time and the host's."""
    chunks = chunks_of(model, "dgx-h100", "pytorch-eager-2022", length)
    device, host = chunks.alone([MIDDLE], kinds)
    late = chunks.lateness([MIDDLE], kinds, kinds)
    passes = [chunks.passed(MIDDLE, kind, late[MIDDLE, kind]) for kind in kinds]
    whole = (device**4 + host**4) ** 0.25
    assert sum(each.piece.duration for each in passes) == pytest.approx(whole, rel=1e-9)
    assert sum(each.late for each in passes) == pytest.approx(whole - device, rel=1e-9)
    for each in passes:
        waits = each.piece.busy(waits=True)
        assert waits.get((Resource.DEVICE, "host"), 0.0) == pytest.approx(each.late, rel=1e-9)


@pytest.mark.parametrize("kinds", [KINDS, APART], ids=["whole", "apart"])
def test_passes_that_the_host_paces_take_as_long_as_their_launches(kinds: tuple[PassKind, ...]) -> None:
    """Also where passes differ in how much the device has to do meanwhile."""
    chunks = chunks_of("gpt2-1.5b", "dgx-h100", "pytorch-eager-2022", 64)
    chunks.launch *= 20.0
    late = chunks.lateness([MIDDLE], kinds, kinds)
    for kind in kinds:
        device, host = chunks.alone([MIDDLE], [kind])
        assert host > 2.0 * device
        assert chunks.passed(MIDDLE, kind, late[MIDDLE, kind]).piece.duration == pytest.approx(host, rel=0.02)


@pytest.mark.parametrize("slower", [1.0, 4.0])
def test_gathers_that_run_while_the_device_waits_make_room_for_no_more(slower: float) -> None:
    """Under ZeRO-3 a device that waits for its host waits less for parameters: both together still take their time."""
    scenario = simulator.resolve(
        "gpt2-1.5b",
        "superpod-a100",
        devices=16,
        stack=unrestricted("pytorch-fsdp"),
        plan={"micro_batch": 1, "sharding": "zero3"},
        workload={"sequence_length": 512, "global_batch": 32},
    )
    chunks = Chunks(program_of(scenario.columns()), scenario.backend())
    chunks.launch *= slower
    device, host = chunks.alone([MIDDLE], KINDS)
    late = chunks.lateness([MIDDLE], KINDS, KINDS)
    passes = [chunks.passed(MIDDLE, kind, late[MIDDLE, kind]) for kind in KINDS]
    assert sum(each.piece.duration for each in passes) == pytest.approx((device**4 + host**4) ** 0.25, rel=1e-8)
    gathers = Resource.DEVICE, "parameter_gather"
    waited, alone = (
        sum(each.piece.busy(waits=True).get(gathers, 0.0) for each in each_kind)
        for each_kind in (passes, [chunks.passed(MIDDLE, kind) for kind in KINDS])
    )
    assert waited < alone


def test_launches_alone_make_no_one_wait_behind_a_busy_device() -> None:
    chunks = chunks_of("llama-3-8b", "rtx-3090", "pytorch-eager-2022", 8192)
    device, host = chunks.alone([MIDDLE], KINDS)
    assert device > 10.0 * host
    late = chunks.lateness([MIDDLE], KINDS, KINDS)
    assert np.max(list(late.values())) < 1e-2


def test_gradients_apart_are_together_a_backward_pass() -> None:
    chunks = chunks_of("gpt2-1.5b", "dgx-a100-640gb", "pytorch-ddp", 1024)
    whole, *apart = (chunks.passed(MIDDLE, kind).piece.duration for kind in (PassKind.BACKWARD, *APART[1:]))
    assert sum(apart) == pytest.approx(whole, rel=1e-9)
