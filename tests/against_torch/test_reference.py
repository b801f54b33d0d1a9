"""The reference modules themselves: they train, and ways of running them agree.

What is compared here are losses and gradients, which are rounded, and not counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing import assert_close

from measure.models import Batch, Setting, Split, Transformer, build, random_batch
from simulator.specs.choices import Recompute
from simulator.specs.model import Model
from tests.against_torch.cases import (
    BERT,
    DENSE,
    EVERY,
    FAMILIES,
    GPT,
    LLAMA,
    MIXTRAL,
    NEOX,
    PALM,
    T5,
    name_of,
    predictions_of,
    setting_of,
)

Gradients = dict[str, Tensor]


def on_cpu(model: Model, **changes: object) -> Setting:
    return setting_of(model, 32, **{"device": "cpu", "dtype": torch.float32, **changes})


def batch_of(model: Model, setting: Setting) -> Batch:
    return random_batch(model, setting, 2, predictions=predictions_of(model, setting))


def seeded(model: Model, setting: Setting) -> Transformer:
    torch.manual_seed(0)
    return build(model, setting)


def run(module: Transformer, batch: Batch) -> tuple[Tensor, Gradients]:
    """Loss and gradients."""
    torch.manual_seed(1)
    loss = module.loss(batch)
    loss.backward()
    return loss.detach(), _gradients(module)


def _gradients(module: Transformer) -> Gradients:
    return {name: part.grad for name, part in module.named_parameters() if part.grad is not None}


@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_learns_a_batch(model: Model) -> None:
    setting = on_cpu(model)
    module, batch = seeded(model, setting), batch_of(model, setting)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = module.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA, T5], ids=name_of)
def test_recomputation_changes_nothing(model: Model, recompute: Recompute) -> None:
    kept, again = on_cpu(model), on_cpu(model, recompute=recompute)
    batch = batch_of(model, kept)
    assert_close(run(seeded(model, again), batch), run(seeded(model, kept), batch), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA, NEOX], ids=name_of)
def test_fused_attention_agrees(model: Model) -> None:
    model = model.model_copy(update={"dropout": False})
    apart, fused = on_cpu(model), on_cpu(model, fused_attention=True)
    batch = batch_of(model, apart)
    assert_close(run(seeded(model, fused), batch), run(seeded(model, apart), batch), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", [PALM, LLAMA, MIXTRAL], ids=name_of)
def test_fused_gate_changes_nothing(model: Model) -> None:
    apart, fused = on_cpu(model), on_cpu(model, fused_gate=True)
    batch = batch_of(model, apart)
    assert_close(run(seeded(model, fused), batch), run(seeded(model, apart), batch), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("model", [MIXTRAL, *(each for each in FAMILIES if each.experts > 1)], ids=name_of)
def test_place_of_routers_weights_changes_nothing(model: Model) -> None:
    """The product behind them is linear, so that weights may stand before or after it."""
    outside, inside, fused = (
        on_cpu(model, weighs_activations=inside, fused_gate=fused)
        for inside, fused in ((False, False), (True, False), (True, True))
    )
    batch = batch_of(model, outside)
    expected = run(seeded(model, outside), batch)
    for setting in (inside, fused):
        assert_close(run(seeded(model, setting), batch), expected, rtol=1e-4, atol=1e-6)


class Meeting:
    """Where the ranks of a group, threads of this process, hand each other tensors."""

    def __init__(self, number: int) -> None:
        self.barrier = threading.Barrier(number, timeout=60.0)
        self.brought: list[Any] = [None] * number

    def exchange(self, rank: int, tensor: Tensor) -> list[Tensor]:
        self.brought[rank] = tensor.clone()
        self.barrier.wait()
        everything = list(self.brought)
        self.barrier.wait()
        return everything

    def run(self, work: Callable[[int], None]) -> None:
        """Do the work of each rank in a thread."""
        failures: list[BaseException] = []

        def rank(index: int) -> None:
            try:
                work(index)
            except BaseException as failure:
                # What a thread raises is lost unless it is handed over, and the others would wait.
                failures.append(failure)
                self.barrier.abort()

        threads = [threading.Thread(target=rank, args=(index,)) for index in range(len(self.brought))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


@dataclass(frozen=True)
class Threads(Split):
    """A split whose collectives are exchanges between threads."""

    meeting: Meeting = field(default_factory=lambda: Meeting(1))

    def reduced(self, tensor: Tensor, operation: Any = dist.ReduceOp.SUM) -> Tensor:
        parts = torch.stack(self.meeting.exchange(self.rank, tensor))
        return tensor.copy_(parts.amax(0) if operation == dist.ReduceOp.MAX else parts.sum(0))

    def summed(self, tensor: Tensor, holders: int) -> Tensor:
        first = self.rank // holders * holders
        parts = self.meeting.exchange(self.rank, tensor)[first : first + holders]
        return tensor.copy_(torch.stack(parts).sum(0))

    def gathered(self, share: Tensor) -> Tensor:
        return torch.cat(self.meeting.exchange(self.rank, share))

    def scattered(self, whole: Tensor) -> Tensor:
        return self.own(torch.stack(self.meeting.exchange(self.rank, whole)).sum(0))


def cut(name: str, whole: Tensor, model: Model, split: Split) -> Tensor:
    """This rank's part of a parameter of the whole module."""
    place = name.split(".")
    part: Tensor
    if "projections" in place and place[-2] != "0":
        heads = whole.unflatten(0, (model.kv_heads, -1))
        copies = heads.repeat_interleave(max(split.degree // model.kv_heads, 1), dim=0)
        part = copies.chunk(split.degree)[split.rank].flatten(0, 1)
    elif "inward" in place:
        inputs = 2 if model.feed_forward == "gated" else 1
        part = whole.unflatten(0, (inputs, -1)).chunk(split.degree, dim=1)[split.rank].flatten(0, 1)
    elif "projections" in place or "relative" in place or "words" in place:
        part = whole.chunk(split.degree)[split.rank]
    elif ("outward" in place or "output" in place or "buckets" in place) and place[-1] == "weight":
        part = whole.chunk(split.degree, dim=1)[split.rank]
    else:
        part = whole
    return part


@pytest.mark.parametrize(
    ("shares", "regathers"), [(False, False), (True, True), (True, False)], ids=["whole", "again", "kept"]
)
@pytest.mark.parametrize(
    ("model", "degree"),
    [(model, 2) for model in DENSE] + [(model, 4) for model in (BERT, PALM, LLAMA, T5)],
    ids=name_of,
)
def test_tensor_parallel_ranks_agree_with_the_whole(model: Model, degree: int, shares: bool, regathers: bool) -> None:
    """Loss and all gradients: no collective is missing, and none is too much."""
    model = model.model_copy(update={"dropout": False})
    setting = on_cpu(model, dtype=torch.float64)
    whole, batch = seeded(model, setting), batch_of(model, setting)
    loss, gradients = run(whole, batch)
    state = dict(whole.named_parameters())
    results: dict[int, tuple[Tensor, Gradients]] = {}

    meeting = Meeting(degree)

    def work(rank: int) -> None:
        split = Threads(degree, rank, sequence_parallel=shares, regathers_inputs=regathers, meeting=meeting)
        local = build(model, replace(setting, split=split))
        with torch.no_grad():
            for name, parameter in local.named_parameters():
                parameter.copy_(cut(name, state[name], model, split))
        of_rank = local.loss(batch)
        of_rank.backward()
        local.finish_gradients()
        results[rank] = of_rank.detach(), _gradients(local)

    meeting.run(work)
    assert len(results) == degree
    for rank, (of_rank, parts) in results.items():
        split = Split(degree, rank)
        expected = {name: cut(name, gradient, model, split) for name, gradient in gradients.items()}
        assert_close(of_rank, loss, rtol=1e-5, atol=1e-7)
        assert_close(parts, expected, rtol=1e-4, atol=1e-6)
