"""Collectives of a training step against those that torch issues: kind, bytes, group and number of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.checkpoint import set_checkpoint_early_stop

from measure.count.collectives import LoggedCollective, Traffic, collectives, fake_ranks
from measure.count.sharding import Sharded, mesh_of, replicated_step, sharded, sharded_step, updated_parameters
from measure.models import Batch, Setting, Split, Transformer, build, random_batch
from measure.verification.exchanges import traffic_of
from simulator.specs.choices import Recompute, Sharding
from simulator.specs.model import Model
from simulator.work.messages import Message, messages
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios
from tests.against_torch.cases import (
    BERT,
    BERT_LARGE,
    DENSE,
    GPT,
    LLAMA,
    NEOX,
    PALM,
    PALM_540B,
    name_of,
    predictions_of,
    scenarios_of,
    setting_of,
)

RECOMPUTE: tuple[Recompute, ...] = ("none", "full")
SHARES = {"whole": (False, False), "gathers-again": (True, True), "keeps-gathered": (True, False)}
"""Sequence parallelism, and whether it gathers inputs of products again."""
MICRO_BATCH = 4


@pytest.fixture(params=[2, 4, 8])
def degree(request: pytest.FixtureRequest) -> Iterator[int]:
    with fake_ranks(request.param):
        yield request.param


def module_and_batch(model: Model, setting: Setting) -> tuple[Transformer, Batch]:
    batch = random_batch(model, setting, MICRO_BATCH, predictions=predictions_of(model, setting))
    return build(model, setting), batch


def check_tensor_parallel(model: Model, setting: Setting, *, micro_batches: int = 1, stops_early: bool = False) -> None:
    module, batch = module_and_batch(model, setting)

    def step() -> None:
        with set_checkpoint_early_stop(stops_early):
            for _ in range(micro_batches):
                module.loss(batch).backward()
        module.finish_gradients()

    scenarios = scenarios_of(
        model,
        setting,
        micro_batch=MICRO_BATCH,
        micro_batches=micro_batches,
        stack={"drops_unused_recompute": stops_early},
    )
    assert traffic_of(program_of(scenarios)) == collectives(step).count


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize(("shares", "regathers"), SHARES.values(), ids=SHARES)
@pytest.mark.parametrize("model", DENSE, ids=name_of)
def test_tensor_parallel(model: Model, degree: int, shares: bool, regathers: bool, recompute: Recompute) -> None:
    split = Split(degree, sequence_parallel=shares, regathers_inputs=regathers)
    check_tensor_parallel(model, setting_of(model, recompute=recompute, split=split))


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("model", [BERT, PALM, LLAMA], ids=name_of)
def test_recomputation_that_stops_early(model: Model, degree: int, shares: bool) -> None:
    """The last sum of a layer that normalises its inputs alone is not repeated."""
    split = Split(degree, sequence_parallel=shares)
    check_tensor_parallel(model, setting_of(model, recompute="full", split=split), stops_early=True)


@pytest.mark.parametrize("model", [BERT_LARGE, PALM_540B], ids=name_of)
def test_large_models(model: Model, degree: int) -> None:
    split = Split(degree, sequence_parallel=True, regathers_inputs=True)
    check_tensor_parallel(model, setting_of(model, 512, split=split))


@pytest.mark.parametrize("model", [BERT, GPT, PALM], ids=name_of)
def test_recomputation_of_attention_sends_nothing(model: Model, degree: int) -> None:
    split = Split(degree, sequence_parallel=True, regathers_inputs=True)
    check_tensor_parallel(model, setting_of(model, recompute="selective", split=split))


def test_micro_batches(degree: int) -> None:
    check_tensor_parallel(GPT, setting_of(GPT, split=Split(degree, sequence_parallel=True)), micro_batches=3)


@pytest.mark.parametrize(("model", "number"), [(GPT, 2), (PALM, 1)], ids=name_of)
def test_all_reduces_of_a_layer(model: Model, number: int, degree: int) -> None:
    """Two forward and two backward in a serial block, one and one in a parallel block."""
    one, more = (model.model_copy(update={"layers": layers}) for layers in (1, 2))
    setting = setting_of(model, split=Split(degree))
    counts = []
    for deep in (one, more):
        scenarios = scenarios_of(deep, setting)
        copied = "gradients of copied heads"
        counts.append(
            sum(
                float(np.asarray(message.count))
                for message in messages(program_of(scenarios))
                if message.kind == "all_reduce" and message.name != copied
            )
        )
    assert counts[1] - counts[0] == 2 * number


def on_mesh(model: Model, mesh: DeviceMesh, *, length: int = 64, again: bool = True) -> tuple[Sharded, Batch]:
    """A module that torch shards, and a micro-batch."""
    module, batch = module_and_batch(model, setting_of(model, length, device="cpu", dtype=torch.float32))
    return sharded(module, mesh, tied=model.tied_head, again=again), batch


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("model", [GPT, LLAMA], ids=name_of)
@pytest.mark.parametrize("degree", [2, 4, 8])
def test_fully_sharded(model: Model, degree: int, micro_batches: int) -> None:
    """Each layer is gathered forward and backward and its gradients scattered, the ends are gathered once."""
    with fake_ranks(degree):
        traffic = sharded_step(*on_mesh(model, mesh_of(degree)), micro_batches)
    setting = setting_of(model)
    scenarios = scenarios_of(
        model, setting, micro_batches=micro_batches, dp=degree, sharding="zero3", gradients_in_fp32=True
    )
    assert traffic_of(program_of(scenarios)) == traffic.count


def test_bert_large_fully_sharded() -> None:
    """In its full size, with tensors that are only pretended."""
    with fake_ranks(2):
        mesh = mesh_of(2)
        with FakeTensorMode():
            traffic = sharded_step(*on_mesh(BERT_LARGE, mesh, length=128), 1)
    scenarios = scenarios_of(BERT_LARGE, setting_of(BERT_LARGE, 128), dp=2, sharding="zero3", gradients_in_fp32=True)
    assert traffic_of(program_of(scenarios)) == traffic.count


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize(("degree", "across"), [(2, 2), (4, 2), (2, 4)])
def test_hybrid(degree: int, across: int, micro_batches: int) -> None:
    """Sharding within a group, and once a step the sum of the shards' gradients across groups."""
    with fake_ranks(degree * across):
        traffic = sharded_step(*on_mesh(LLAMA, mesh_of(degree, across)), micro_batches)
    scenarios = scenarios_of(
        LLAMA,
        setting_of(LLAMA),
        micro_batches=micro_batches,
        dp=degree * across,
        sharding="hybrid",
        sharding_group=degree,
        gradients_in_fp32=True,
    )
    said, reduced = traffic_of(program_of(scenarios)), "all_reduce"
    assert _without(said, reduced) == _without(traffic.count, reduced)
    # Torch sends a message for each sharded module, the simulator counts them as one.
    assert Traffic(said).bytes("all_reduce", across) == traffic.bytes("all_reduce", across)


def _without(counts: Counter[LoggedCollective], kind: str) -> Counter[LoggedCollective]:
    return Counter({one: number for one, number in counts.items() if one.kind != kind})


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("degree", [2, 8])
def test_sharded_gradients(degree: int, micro_batches: int) -> None:
    """Gradients scattered after each micro-batch, and parameters gathered once a step: bytes of ZeRO-2."""
    with fake_ranks(degree):
        parts, batch = on_mesh(LLAMA, mesh_of(degree), again=False)
        parts.module.set_reshard_after_backward(False)
        traffic = sharded_step(parts, batch, micro_batches)
    scenarios = scenarios_of(
        LLAMA,
        setting_of(LLAMA),
        micro_batches=micro_batches,
        dp=degree,
        sharding="zero2",
        gradients_in_fp32=True,
    )
    said = Traffic(traffic_of(program_of(scenarios)))
    for kind in ("all_gather", "reduce_scatter"):
        assert said.bytes(kind) == traffic.bytes(kind)
    assert {one.kind for one in said.count} == {one.kind for one in traffic.count}


@pytest.mark.parametrize("degree", [2, 8])
@pytest.mark.parametrize("model", [BERT, GPT], ids=name_of)
def test_data_parallel(model: Model, degree: int) -> None:
    """Buckets of gradients in the precision of the parameters, once a step."""
    setting = setting_of(model, device="cpu", dtype=torch.float32)
    with fake_ranks(degree):
        module, batch = module_and_batch(model, setting)
        sent = replicated_step(module, batch, 1)
    scenarios = scenarios_of(model, setting, dp=degree)
    assert traffic_of(program_of(scenarios)) == Counter([LoggedCollective("all_reduce", sent, degree)])


@pytest.mark.parametrize("degree", [2, 4])
def test_sharded_optimizer(degree: int) -> None:
    """Torch's ZeRO-1 reduces whole gradients and broadcasts each rank's parameters; Megatron-LM's, which the simulator
    prices, scatters and gathers. Both send every gradient and every parameter once."""
    setting = setting_of(GPT, device="cpu", dtype=torch.float32)
    with fake_ranks(degree):
        module, batch = module_and_batch(GPT, setting)
        traffic = updated_parameters(module, batch)
    scenarios = scenarios_of(GPT, setting, dp=degree, sharding="zero1")
    whole = int(program_of(scenarios).together.parameters) * 4
    assert traffic_of(program_of(scenarios)) == Counter(
        [LoggedCollective("reduce_scatter", whole, degree), LoggedCollective("all_gather", whole, degree)]
    )
    assert traffic.bytes("broadcast", degree) == whole


@pytest.mark.parametrize("model", [NEOX], ids=name_of)
def test_two_normalisations_of_a_parallel_block_are_two_inputs(model: Model, degree: int) -> None:
    """Sums of both outputs are joined, gradients of both inputs are not."""
    setting = setting_of(model, split=Split(degree))
    module, batch = module_and_batch(model, setting)
    message = LoggedCollective("all_reduce", MICRO_BATCH * setting.sequence_length * model.hidden_size * 2, degree)
    exchanges = collectives(lambda: module.loss(batch).backward()).count[message]
    assert exchanges == 3 * model.layers + 2


def test_many_plans_at_once() -> None:
    """Columns of plans say row by row what each plan says alone."""
    splits = [Split(1), Split(2), Split(4, sequence_parallel=True), Split(8, sequence_parallel=True)]
    shardings: tuple[Sharding, ...] = ("none", "zero1", "zero3")
    rows = [
        scenarios_of(
            LLAMA, setting_of(LLAMA, split=split, recompute=recompute), micro_batches=2, dp=4, sharding=sharding
        )
        for split in splits
        for recompute in RECOMPUTE
        for sharding in shardings
    ]
    together = Scenarios.stack(rows)
    batched_messages = messages(program_of(together))
    for index, row in enumerate(rows):
        alone: Counter[tuple[str, str, float, float, float]] = Counter()
        for message in messages(program_of(row)):
            alone += _sent(message, 0)
        picked: Counter[tuple[str, str, float, float, float]] = Counter()
        for message in batched_messages:
            picked += _sent(message, index)
        assert picked == alone


def _sent(message: Message, index: int) -> Counter[tuple[str, str, float, float, float]]:
    """One row of a message that is sent at all."""
    values = (message.message_bytes, message.degree, message.stride, message.count)
    size, degree, stride, number = (np.ravel(value)[index if np.size(value) > 1 else 0].item() for value in values)
    return Counter({(message.name, message.kind, size, degree, stride): number} if number else {})
