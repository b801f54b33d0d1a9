"""Parameters, arithmetic and kept bytes of one device and of the whole model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from measure.count.activations import saved_activations
from measure.count.flops import flops, flops_needed_again
from measure.models import Alone, Layer, Setting, Tower, Transformer, build, parameters_of
from measure.models.recomputation import outputs_kept
from measure.verification.kinds import Kind, Parts, by_kind, kinds
from measure.verification.reference import Reference, number
from measure.verification.rows import Row, attempt, row
from simulator.specs.model import Model
from simulator.specs.parts import Layers
from simulator.work.counts import counts_of
from simulator.work.program import program_of

_NOTHING_AGAIN: dict[str, Any] = {
    "recompute": "none",
    "recompute_modules": (),
    "recompute_layers": None,
    "recompute_method": None,
}


def parameters(reference: Reference) -> Iterator[Row]:
    """Trainable parameters of the model, and of one tensor-parallel rank."""
    whole = counts_of(reference.program).parameters
    counted = attempt(lambda: parameters_of([build(reference.model, reference.setting())]))
    yield row("parameters", "of the model", "parameter", number(whole), counted, float)
    if reference.tensor_ranks > 1:
        one = reference.program.together
        split = reference.setting(split=Alone(reference.tensor_ranks))
        spread = (reference.spread_experts, reference.unequal_columns)
        counted = attempt(lambda: parameters_of([build(reference.model, split)]), *spread)
        held = number(one.parameters + one.expert_parameters)
        yield row("parameters", "of a tensor-parallel rank", "parameter", held, counted, float)


def arithmetic(reference: Reference) -> Iterator[Row]:
    """Floating-point operations of matrix products: of a step, and of a micro-batch on one device."""
    group, one = "one micro-batch on one device, all layers", reference.program
    batch = reference.scenario.workload.global_batch or 1
    step = counts_of(reference.program).model_flops
    counted_flops = attempt(
        lambda: _of_batch(reference, batch).together()["flops"],
        reference.padding,
        reference.windowed,
        reference.unequal_experts(batch),
    )
    yield row("one step, whole model", "arithmetic", "FLOP", number(step), counted_flops, float)
    # Sharing tokens changes no product but the one from an embedding of another width.
    shares = reference.unequal_tokens if reference.model.embedding_size is not None else None
    obstacles = (reference.unlike, reference.windowed, shares)
    counted = attempt(lambda: _on_rank(reference), *obstacles, reference.counted_layers)
    note = _note_on_experts(reference)
    yield row(
        group, "arithmetic", "FLOP", number(one.model_flops), counted, lambda counted_flops: counted_flops[0], note
    )
    yield row(
        group,
        "arithmetic, again",
        "FLOP",
        number(one.recomputed_flops),
        counted,
        lambda counted_flops: counted_flops[1],
        note,
    )


def _note_on_experts(reference: Reference) -> str | None:
    """What was counted in the place of experts on other devices."""
    if reference.spread_experts is None:
        return None
    return "counted with all experts on one device: evenly used, each device gets as many tokens as it sends"


def _of_batch(reference: Reference, sequences: int) -> Parts[str]:
    """Arithmetic of the whole model on a batch."""
    setting = reference.setting(all_positions=False)

    def counted(model: Model) -> Counter[str]:
        module, batch = build(model, setting), reference.batch(model, setting, sequences)
        return Counter(flops=flops(lambda: module.loss(batch)).total)

    return by_kind(reference.model, counted)


def _on_rank(reference: Reference) -> tuple[int, int]:
    """Arithmetic of a micro-batch on one device: without recomputation, and what recomputation adds."""
    setting = reference.on_rank(Alone)
    plain = replace(setting, fused_attention=False, **_NOTHING_AGAIN)
    compiled = setting.recompute == "full" and reference.scenario.stack.drops_unused_recompute
    again = replace(setting, **_NOTHING_AGAIN) if compiled else setting

    def counted(model: Model) -> Counter[str]:
        sums: Counter[str] = Counter()
        for name, one in (("plain", plain), ("again", again)):
            with reference.run(model, one) as (module, batch):
                early = reference.scenario.stack.drops_unused_recompute
                sums[name] = flops(lambda: module.loss(batch), stops_early=early).total
        return sums

    total = by_kind(reference.model, counted).together()
    return total["plain"], total["again"] - total["plain"] + (_compiled(reference) if compiled else 0)


def _compiled(reference: Reference) -> int:
    """Arithmetic of full recomputation by a compiler, which leaves out what no backward pass needs."""
    setting, total = reference.on_rank(Alone, **_NOTHING_AGAIN), 0
    sequences = reference.scenario.plan.micro_batch or 1
    for kind in kinds(reference.model):
        model = kind.bigger.model_copy(update={"dropout": False})
        decodes, experts = kind.name.endswith("decoder"), kind.name.endswith("experts")
        layer = Layer(model, setting, experts=experts, to_encoder=decodes)
        scores = Tower(model, setting, decoder=decodes).positions()
        size = {"device": "meta", "dtype": setting.dtype, "requires_grad": True}
        ranks = setting.split.degree if setting.split.sequence_parallel else 1
        length = setting.target_length if decodes else setting.sequence_length
        inputs = torch.empty(length // ranks, sequences, model.hidden_size, **size)
        memory = None
        if decodes:
            memory = setting.split.enter_all(
                torch.empty(setting.sequence_length // ranks, sequences, model.hidden_size, **size)
            )

        def forward(hidden: Tensor) -> Tensor:
            return layer(hidden, scores, memory)  # noqa: B023

        total += kind.number * flops_needed_again(forward, inputs)
    return total


def kept(reference: Reference) -> Iterator[Row]:
    """Bytes that one micro-batch keeps for its backward pass on one device."""
    group = "one micro-batch on one device, all layers"
    # Torch's twin uses its experts evenly.
    columns = replace(reference.columns, workloads=replace(reference.columns.workloads, expert_imbalance=1.0))
    obstacles = (reference.unlike, reference.unequal_tokens, _own_kernels(reference), reference.counted_layers)
    counted = attempt(lambda: _kept(reference), *obstacles)
    notes = [_note_on_experts(reference)]
    if reference.autocasts:
        notes.append("cast as torch.autocast does on a GPU")
    note = "; ".join(filter(None, notes)) or None
    said = {
        "embedding": reference.program.embedding.tally.saved_bytes,
        "head": reference.program.head.tally.saved_bytes,
    }
    for kind in kinds(reference.model):
        alone = (replace(_group(reference, kind), count=1.0),)
        one = program_of(replace(columns, models=replace(columns.models, layers=alone))).layers.saved_bytes
        yield row(group, f"saved by a {kind.name}", "B", number(one), counted, itemgetter(kind.name), note)
    for name, value in said.items():
        yield row(group, f"saved by the {name}", "B", number(value), counted, itemgetter(name), note)


def _positions(module: Transformer, setting: Setting) -> list[Tensor]:
    """Embeddings of relative positions, kept by what reads them unless each layer keeps its own."""
    embedded = module.tower.positions().embedded
    if embedded is None:
        return []
    # A square keeps what it reads, as the products of the layers do.
    apart = module.embedding.dropout > 0.0 and setting.recompute not in ("full", "operators")
    return [embedded if apart else embedded.square()]


def _group(reference: Reference, kind: Kind) -> Layers:
    """Layers of one kind among the columns of a model, whose order is that in which kinds first occur."""
    decodes, experts = kind.name.endswith("decoder"), kind.name.endswith("experts")
    alike = [
        group
        for group in reference.model.columns().layers
        if (group.cross_attention is not None) == decodes and (number(group.experts) > 1) == experts
    ]
    return alike[0 if kind.name.startswith("first") else -1]


def _own_kernels(reference: Reference) -> str | None:
    """Kernels of the stack that keep other tensors than torch's."""
    stack = reference.scenario.stack
    if stack.activation_copies:
        return "the stack writes its activation function out in single operations"
    return None if stack.keeps_logits else "the stack computes its loss piece by piece, torch keeps all logits"


def _kept(reference: Reference) -> dict[str, int]:
    """Bytes saved by a layer of each kind, by the embedding and by the head."""
    setting = reference.on_rank(dtype=reference.held)

    def counted(model: Model) -> Counter[str]:
        sums: Counter[str] = Counter()
        with reference.run(model, setting) as (module, batch):
            for name in ("all", "embedding"):
                casts = reference.casts()

                def run() -> Tensor:
                    with casts or nullcontext():  # noqa: B023
                        if name == "all":  # noqa: B023
                            return module.loss(batch)
                        embedded = [module.embedding(batch.tokens, batch.types)]
                        embedded += [module.targets(batch.targets)] if batch.targets is not None else []
                        embedded += _positions(module, setting)
                        return torch.cat([part.flatten() for part in embedded])

                outputs = partial(outputs_kept, module) if name == "all" else tuple
                sums[name] = saved_activations(run, module, casts.copies if casts else None, outputs).bytes
        return sums

    parts = by_kind(reference.model, counted)
    layers = {kind.name: one["all"] for kind, one in zip(kinds(reference.model), parts.layers, strict=True)}
    embedding = parts.ends["embedding"]
    return {**layers, "embedding": embedding, "head": parts.ends["all"] - embedding}
