"""What a device sends to tensor-parallel partners and to replicas, beside the collectives that torch issues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import set_checkpoint_early_stop

from measure.count.collectives import Kind, LoggedCollective, Traffic, collectives, fake_ranks
from measure.count.sharding import mesh_of, replicated_step, sharded, sharded_step, updated_parameters
from measure.models import build
from measure.verification.kinds import by_kind
from measure.verification.reference import Reference, number
from measure.verification.rows import Reason, Row, Unit, attempt, row
from simulator.specs.model import Model
from simulator.work.messages import Message, messages
from simulator.work.program import Program, program_of
from simulator.work.tasks import Resource
from simulator.work.transformer import Scenarios

_KINDS: tuple[Kind, ...] = ("all_reduce", "all_gather", "reduce_scatter")
Sums = Counter[tuple[Kind, Unit]]
_FEW = 2
"""Micro-batches of a step that is counted: enough to tell what happens for each from what happens once."""


def traffic_of(program: Program) -> Counter[LoggedCollective]:
    """The simulator's collectives as torch's would be logged.

    Raises
    ------
    ValueError
        Where a size or a number is not whole, or a device sends something to a neighbour only.
    """
    traffic: Counter[LoggedCollective] = Counter()
    for message in _sent(messages(program)):
        size, degree, times = (number(value) for value in (message.message_bytes, message.degree, message.count))
        if message.kind == "send" or (size, degree, times) != (int(size), int(degree), int(times)):
            raise ValueError(f"{message.name}: {times:g} of {size:g} bytes among {degree:g} ranks is no collective")
        traffic[LoggedCollective(message.kind, int(size), int(degree))] += int(times)
    return traffic


def _sent(listed: Iterable[Message]) -> list[Message]:
    """Those messages that are sent at all."""
    return [one for one in listed if number(one.count) and number(one.degree) > 1.0]


def _sums(traffic: Traffic) -> Sums:
    """Number and bytes of the collectives of each kind; sizes of some grow with the layers, but sums add up."""
    sums: Sums = Counter()
    for one, times in traffic.count.items():
        sums[one.kind, "message"] += times
        sums[one.kind, "B"] += times * one.bytes
    return sums


def _said(listed: Iterable[Message]) -> Counter[tuple[str, Unit]]:
    """Messages and bytes of a step, by kind and unit, as the formulas list them."""
    sums: Counter[tuple[str, Any]] = Counter()
    for one in _sent(listed):
        sums[one.kind, "message"] += number(one.count)  # type: ignore[assignment]
        sums[one.kind, "B"] += number(one.count) * number(one.message_bytes)  # type: ignore[assignment]
    return sums


def _rows(
    group: str,
    said: Iterable[Message],
    counted: Sums | Reason,
    *,
    units: tuple[Unit, ...] = ("message", "B"),
    note: str | None = None,
) -> Iterator[Row]:
    """Number and bytes of each kind of collective that there is."""
    sums = _said(said)
    for kind in _KINDS:
        for unit in units:
            if sums[kind, unit] or (not isinstance(counted, Reason) and counted[kind, unit]):
                name = kind.replace("_", "-") + (" messages" if unit == "message" else "")
                yield row(group, name, unit, sums[kind, unit], counted, itemgetter((kind, unit)), note)


def to_partners(reference: Reference) -> Iterator[Row]:
    """Collectives of tensor parallelism for one micro-batch, with what follows it once a step."""
    if reference.tensor_ranks == 1:
        return
    alone = _plans(reference, dp=1.0, pp=1.0, virtual_stages=1.0, micro_batches=1.0)
    alone = replace(alone, plans=replace(alone.plans, parameter_group=1.0, gradient_group=1.0, optimizer_group=1.0))
    said = [
        one
        for one in messages(program_of(alone))
        if one.resource is not Resource.DATA_LINKS and one.kind in _KINDS and one.part != "optimizer"
    ]
    obstacles = (reference.unlike, reference.unequal_tokens, reference.counted_layers)
    counted = attempt(lambda: _with_partners(reference), *obstacles)
    yield from _rows("tensor parallelism, one micro-batch, all stages", said, counted)


def _plans(reference: Reference, **changes: Any) -> Scenarios:
    """The scenario with other numbers in its plan."""
    return replace(reference.columns, plans=replace(reference.columns.plans, **changes))


def _with_partners(reference: Reference) -> Sums:
    """What torch issues for one micro-batch of the whole model."""
    setting, early = reference.on_rank(dtype=reference.held), reference.scenario.stack.drops_unused_recompute
    summed = replace(setting, dtype=reference.reduced)

    def counted(model: Model) -> Sums:
        if early:
            # A mask makes torch repeat what it is laid on; a compiler repeats the mask alone.
            model = model.model_copy(update={"dropout": False})
        with reference.run(model, setting) as (module, batch), set_checkpoint_early_stop(early):

            def step() -> None:
                with reference.casts() or nullcontext():
                    module.loss(batch).backward()

            sums = _sums(collectives(step))
        with reference.run(model, summed) as (module, batch):
            # Gradients that are held in another precision than activations are added up in it.
            module.loss(batch).backward()
            return sums + _sums(collectives(module.finish_gradients))

    return by_kind(reference.model, counted).together()


def to_replicas(reference: Reference) -> Iterator[Row]:
    """Collectives among replicas: gradients, and with sharding parameters; of all stages together."""
    if reference.replicas == 1:
        return
    plans = reference.columns.plans
    few = min(number(plans.micro_batches), _FEW)
    program = program_of(_plans(reference, micro_batches=few))
    stages = range(reference.scenario.plan.pp or 1)
    said = [one for stage in stages for one in messages(program, float(stage))]
    # What an optimizer sends for itself is no part of the step that is counted.
    said = [one for one in said if one.resource is Resource.DATA_LINKS and one.part != "optimizer"]
    obstacles = (reference.spread_experts, reference.unequal_columns)
    group = f"replicas, {few:.0f} micro-batch{'es' if few > 1 else ''}, all stages"
    if reference.scenario.plan.sharding in ("none", "zero1"):
        yield from _of_data_parallelism(reference, group, said, int(few), obstacles)
    else:
        yield from _of_sharding(reference, group, said, int(few), obstacles)


def _of_data_parallelism(
    reference: Reference, group: str, said: list[Message], few: int, obstacles: tuple[str | None, ...]
) -> Iterator[Row]:
    """Gradients that every replica has in full; what each updated of the parameters where it has a part of them."""
    each = reference.scenario.stack.reduces_each_micro_batch
    reduced = [one for one in said if one.kind != "all_gather"]
    setting = reference.of_replica(dtype=reference.reduced)

    def gradients(model: Model) -> Counter[str]:
        with fake_ranks(reference.replicas):
            batch = reference.batch(model, setting)
            return Counter(sent=replicated_step(build(model, setting), batch, few, each=each))

    counted = attempt(lambda: by_kind(reference.model, gradients).together()["sent"], *obstacles)
    sums = _said(reduced)
    size = sums["all_reduce", "B"] + sums["reduce_scatter", "B"]
    scattered = "torch's data parallelism reduces them whole, the scenario scatters them"
    note = scattered if sums["reduce_scatter", "B"] else None
    yield row(group, "gradients, reduced", "B", size, counted, float, note)
    if len(reduced) == len(said):
        return
    sharers = int(number(reference.columns.plans.optimizer_group))
    held = reference.of_replica(dtype=reference.element)

    def updated(model: Model) -> Counter[str]:
        with fake_ranks(sharers):
            traffic = updated_parameters(build(model, held), reference.batch(model, held))
            return Counter(sent=traffic.bytes("broadcast", sharers))

    size = _said(said)["all_gather", "B"]
    if not size:
        return
    counted = attempt(lambda: by_kind(reference.model, updated).together()["sent"], *obstacles)
    note = "torch broadcasts them, the scenario gathers them"
    yield row(group, "updated parameters", "B", size, counted, float, note)


@dataclass(frozen=True)
class _Shards:
    """What torch sends where replicas share parameters or gradients."""

    within: Sums
    """Among those that share them."""
    across: float
    """Bytes among groups that hold the same."""
    padding: int
    """Bytes that torch sends besides, to cut tensors equally."""


def _of_sharding(
    reference: Reference, group: str, said: list[Message], few: int, obstacles: tuple[str | None, ...]
) -> Iterator[Row]:
    """Gathered parameters and scattered gradients of replicas that share them."""
    counted = attempt(lambda: _of_shards(reference, few), *obstacles)
    # Where gradients alone are shared the simulator counts messages of all layers as one, and stages have their own.
    together = (reference.scenario.plan.pp or 1) > 1 or reference.scenario.plan.sharding == "zero2"
    units: tuple[Unit, ...] = ("B",) if together else ("message", "B")
    padding = 0 if isinstance(counted, Reason) else counted.padding
    note = f"torch sends {padding:,} B more, to cut tensors equally" if padding else None
    within = [one for one in said if one.kind != "all_reduce"]
    yield from _rows(group, within, counted if isinstance(counted, Reason) else counted.within, units=units, note=note)
    # Torch sends a message for each sharded module, the simulator counts them as one.
    across = _said(one for one in said if one.kind == "all_reduce")["all_reduce", "B"]
    if across:
        yield row(group, "all-reduce", "B", across, counted, lambda seen: seen.across, note)


def _of_shards(reference: Reference, few: int) -> _Shards:
    """What torch's fully sharded data parallelism sends for the whole model."""
    plan, plans = reference.scenario.plan, reference.columns.plans
    shares = plan.sharding != "zero2"
    sharers = int(number(plans.parameter_group if shares else plans.gradient_group))
    others = reference.replicas // sharers
    again = shares and reference.scenario.stack.gathers_each_pass
    recompute = "full" if plan.recompute == "full" else "none"
    setting = reference.of_replica(device="cpu", dtype=torch.float32, recompute=recompute)
    types = {"computed": reference.element, "reduced": reference.reduced}
    predicts = reference.model.objective in ("causal", "mlm", "seq2seq")
    tied = reference.model.tied_head and predicts

    def counted(model: Model) -> Counter[tuple[str, Any, Any]]:
        with fake_ranks(reference.replicas):
            mesh = mesh_of(sharers, others)
            with FakeTensorMode():
                module, batch = build(model, setting), reference.batch(model, setting)
                wrapped = sharded(module, mesh, tied=tied, again=again, **types)
                if not shares:
                    wrapped.module.set_reshard_after_backward(False)
                traffic = sharded_step(wrapped, batch, few, waits=not shares and (plan.pp or 1) > 1)
                exact = wrapped.without_padding(traffic, [dtype.itemsize for dtype in types.values()])
        sums: Counter[tuple[str, Any, Any]] = Counter()
        for (kind, unit), value in _sums(exact).items():
            sums["across" if kind == "all_reduce" else "within", kind, unit] += value
        sums["padding", "", ""] = sum(
            one.bytes * times * sign
            for sign, log in ((1, traffic), (-1, exact))
            for one, times in log.count.items()
            if one.kind != "all_reduce"
        )
        return sums

    kinds = by_kind(reference.model, counted).together()
    within, across = (
        Counter({(kind, unit): value for (place, kind, unit), value in kinds.items() if place == which})
        for which in ("within", "across")
    )
    return _Shards(within, across["all_reduce", "B"] / sharers, kinds["padding", "", ""])
