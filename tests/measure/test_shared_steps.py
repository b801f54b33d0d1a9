"""Training steps that ranks share: three real processes over gloo, of which the third is no part of the first node."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from measure import arguments
from measure.clock import shared_steps
from measure.clock.cases import scope_of
from measure.clock.collectives import RankGroup, cases_of
from measure.clock.shared_steps import measure_shared, step_cases
from measure.clock.steps import TrainingStep
from measure.clock.timer import TINY
from measure.device.machines import SharedCpu
from measure.models.layer import Layer
from measure.report import lines
from measure.runs import ranks
from simulator.profiling.records.journal import read
from simulator.profiling.records.reading import steps_of
from simulator.profiling.records.record import Case, Record
from simulator.profiling.records.scenarios import shrunk, step_amounts
from simulator.specs.loading import load_model
from tests.measure.fakes import measured

RANKS, NODE = 3, 2
PATIENCE, SHORT = timedelta(seconds=60), timedelta(seconds=8)
PALM = shrunk(load_model("palm-8b"))
STEPS = arguments.phases("--phases", "step", arguments.SHARED_PHASES)
WANTED = ranks.Wanted(600.0, STEPS, "palm-8b", "gloo", 1024, None, True)
CASES = {case.operation: case for case in step_cases(scope_of("cpu", tiny=True), [PALM], [RankGroup(NODE)])}


def work(rank: int, folder: Path, ports: list[int]) -> None:
    """One of the processes: what it found is a file."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(NODE)}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    # A run that has no time for steps, and one that goes on with its record.
    for budget, port in zip((0.01, 600.0), ports, strict=False):
        os.environ["MASTER_PORT"] = str(port)
        ranks.measure(folder / "record.jsonl", replace(WANTED, budget_s=budget))
    outcomes: dict[str, Any] = {}
    os.environ["MASTER_PORT"] = str(ports[-1])
    dist.init_process_group("gloo", timeout=PATIENCE)
    node = dist.new_group([0, 1])
    for name, trouble in TROUBLES.items():
        for operation, case in CASES.items():
            start, patience = time.monotonic(), SHORT if trouble is fails_within else PATIENCE
            with trouble(rank):
                result = measure_shared(case, PALM, RankGroup(NODE), node, SharedCpu(1), TINY, patience=patience)
            outcomes[f"{operation} {name}"] = [result.outcome, result.reason, time.monotonic() - start]
    (folder / f"{rank}.json").write_text(json.dumps(outcomes))
    dist.destroy_process_group()


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens at: each meeting of the ranks needs one of its own."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def replaced(owner: Any, name: str, new: Any) -> Iterator[None]:
    old = getattr(owner, name)
    setattr(owner, name, new)
    yield
    setattr(owner, name, old)


def fails_within(rank: int) -> Any:
    """Memory of the second rank runs out in a layer of its second step, while the other goes on."""
    calls, forward = [0], Layer.forward

    def failing(self: Layer, *inputs: Any) -> Any:
        calls[0] += 1
        if rank == 1 and calls[0] == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.")
        return forward(self, *inputs)

    return replaced(Layer, "forward", failing)


def fails_at_the_end(rank: int) -> Any:
    """The second rank has an error of its own after its first step, where nobody waits for it."""
    run = TrainingStep.run

    def failing(self: TrainingStep) -> list[Any]:
        moments = run(self)
        if rank == 1:
            raise NotImplementedError("no such kernel here\nand more")
        return moments

    return replaced(TrainingStep, "run", failing)


def fails_to_build(rank: int) -> Any:
    """The first rank has no room for the module."""

    def failing(*_: Any) -> Any:
        raise MemoryError

    return replaced(shared_steps, "prepare_step", failing if rank == 0 else shared_steps.prepare_step)


def has_little_memory(rank: int) -> Any:
    """Another process has the memory of the second rank's device."""
    free = 1000.0 if rank == 1 else 1e12
    return replaced(SharedCpu, "free_bytes", lambda _: free)


def is_exact(rank: int) -> Any:
    """Replicas and shards have the gradients that a device alone has of the batches of both ranks."""
    prepare = shared_steps.prepare_step

    def compared(case: Case, model: Any, machine: Any, wrap: Any) -> TrainingStep:
        steps = []
        for kind in (None, wrap):
            torch.manual_seed(1)
            steps.append(prepare(case, model, machine, kind))
        alone, shared = steps
        batches = [replace(shared.batch, tokens=(shared.batch.tokens + other) % 512) for other in range(NODE)]
        alone.loss = lambda _: torch.stack([alone.module.loss(batch) for batch in batches]).mean()
        shared.batch = batches[rank]
        for step in steps:
            step.run()
        for one, other in zip(alone.module.parameters(), shared.module.parameters(), strict=True):
            assert one.grad is not None
            assert other.grad is not None
            whole = getattr(other.grad, "full_tensor", lambda other=other: other.grad)()
            torch.testing.assert_close(whole, one.grad, rtol=1e-4, atol=1e-6)
        return shared

    return replaced(shared_steps, "prepare_step", compared)


TROUBLES: dict[str, Callable[[int], Any]] = {
    each.__name__: each for each in (fails_within, fails_at_the_end, fails_to_build, has_little_memory, is_exact)
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, list[dict[str, Any]]]:
    """What three ranks measured, and what they found of troubles."""
    folder = tmp_path_factory.mktemp("shared")
    processes.spawn(work, (folder, free_ports(3)), nprocs=RANKS)
    return read(folder / "record.jsonl"), [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]


def test_steps_of_all_ranks_and_of_a_node_are_measured(ran: tuple[Record, Any]) -> None:
    record = ran[0]
    assert [(r.case.operation, r.case.dimensions["ranks"]) for r in record.results] == [
        ("ddp", 3), ("fsdp", 3), ("ddp", 2), ("fsdp", 2)
    ]  # fmt: skip
    for result in record.results:
        assert result.outcome == "measured", result.reason
        assert result.times is not None
        assert result.method == "wall"
        assert set(result.parts) == {"forward", "backward", "optimizer"}
        assert result.model is not None
        assert result.model["id"] == result.case.variant.partition("/")[0] == "palm-8b-tiny"
        assert result.flops == step_amounts(result.case, PALM).flops


def test_a_short_budget_leaves_them_to_a_later_run(ran: tuple[Record, Any]) -> None:
    """Steps of the true size do not fit in a second; the second run went on with the same record."""
    first, second = ran[0].sessions
    assert len(first.results) == 0
    assert len(second.results) == 4
    assert second.environment.world is not None
    assert (second.environment.world.ranks, second.environment.world.backend) == (3, "gloo")


@pytest.mark.parametrize("operation", ["ddp", "fsdp"])
@pytest.mark.parametrize(
    ("trouble", "outcome", "own", "others"),
    [
        ("fails_within", "out_of_memory", "CUDA out of memory. Tried", "another rank ran out of memory"),
        ("fails_at_the_end", "unsupported", "no such kernel here", ""),
        ("fails_to_build", "out_of_memory", "MemoryError", "another rank ran out of memory"),
        ("has_little_memory", "out_of_memory", "needs 0.0 GiB and 0.0 GiB are free", "needs 0.0 GiB and 0.0"),
    ],
)
def test_no_rank_waits_for_one_that_failed(
    ran: tuple[Any, list[dict[str, Any]]], operation: str, trouble: str, outcome: str, own: str, others: str
) -> None:
    """Both end the case with the same outcome, at the latest when their patience does; the third only looks on."""
    outcomes = [each[f"{operation} {trouble}"] for each in ran[1]]
    culprit, other = (outcomes[0], outcomes[1]) if trouble == "fails_to_build" else (outcomes[1], outcomes[0])
    assert culprit[0] == other[0] == outcome
    assert culprit[1].startswith(own)
    assert other[1].startswith(others)
    assert other[1]
    assert outcomes[2][:2] == ["unsupported", "this rank has no part in it"]
    assert max(each[2] for each in outcomes) < PATIENCE.total_seconds()


@pytest.mark.parametrize("operation", ["ddp", "fsdp"])
def test_a_shared_step_does_what_a_lone_one_does(ran: tuple[Any, list[dict[str, Any]]], operation: str) -> None:
    """After every failure of before, in the same processes."""
    for each in ran[1][:NODE]:
        assert each[f"{operation} is_exact"][:2] == ["measured", ""]


def test_the_fit_of_steps_takes_those_of_one_device_only(ran: tuple[Record, Any]) -> None:
    record = ran[0]
    assert steps_of(record) == []
    alone = record.results[0].case.model_copy(update={"operation": "train"})
    others = [alone.model_copy(update={"operation": name}) for name in ("compiled", "ddp", "fsdp")]
    steps = [measured(case).model_copy(update={"model": record.results[0].model}) for case in (alone, *others)]
    both = replace(record, sessions=(replace(record.sessions[0], results=tuple(steps)),))
    assert [step.case for step in steps_of(both)] == [alone]


def test_they_are_shown(ran: tuple[Record, Any]) -> None:
    text = "\n".join(lines(ran[0]))
    assert "Step         ddp palm-8b-tiny/fused layers=2" in text
    assert "Step         fsdp palm-8b-tiny/fused layers=2" in text


def test_they_come_as_soon_as_their_links_are_known() -> None:
    """After a few sizes of the same ranks, before those of smaller groups and before the sizes between."""
    scope, models = scope_of("cuda"), [load_model("bert-large"), load_model("palm-8b")]
    plan = list(
        ranks.in_turns(cases_of(16, 8, "nccl", 1024, 2**30), step_cases(scope, models, [RankGroup(16), RankGroup(8)]))
    )
    cases = [case for _, case in plan]
    assert len({case.key for case in cases}) == len(cases)
    turns = [(case.phase, case.dimensions["ranks"]) for case in cases]
    order = [turn for at, turn in enumerate(turns) if at == 0 or turns[at - 1] != turn]
    assert order[:5] == [("collective", 16), ("step", 16), ("collective", 8), ("step", 8), ("collective", 4)]
    assert turns.count(("step", 16)) == turns.count(("step", 8)) == 4
    alone = list(ranks.in_turns([], step_cases(scope, models, [RankGroup(16)])))
    assert [tier for tier, _ in alone] == ["step"] * 4


def test_shards_need_less_memory_than_replicas_and_both_more_than_their_share() -> None:
    model = load_model("palm-8b")
    cases = step_cases(scope_of("cuda"), [model], [RankGroup(8)])
    replica, shard = (step_amounts(case, model) for case in cases)
    alone = step_amounts(cases[0].model_copy(update={"operation": "train"}), model)
    assert shard.parameters == replica.parameters == alone.parameters
    assert replica.footprint - alone.footprint == pytest.approx(1.1 * 4.0 * alone.parameters)
    assert alone.footprint - shard.footprint == pytest.approx(1.1 * 6.0 * alone.parameters)  # 16 against 16 / 8 + 8
