"""What of a layer the backward pass repeats, and what is kept in its place.

Whole layers keep their input. Modules keep what they read, or where they are made so that what they return is discarded
(`CheckpointWithoutOutput` in `megatron/core/tensor_parallel/random.py` of core_v0.19.0), what they read and not what
they return. Operators are chosen as torchtitan does it (`_apply_op_sac` in
`torchtitan/distributed/activation_checkpoint.py`, lists in `models/llama3/infra/parallelize.py` and
`models/llama4/infra/parallelize.py`, v0.2.2): attention kernels, reduce-scatters, all-to-alls and every second plain
product, from the first of a layer, keep what they return, and all else is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simulator.formulas import pipeline
from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, FusedAttention, MatrixProduct
from simulator.specs.architectures import Models
from simulator.specs.plans import Plans
from simulator.specs.recomputation import Recomputation
from simulator.specs.stack import Stacks
from simulator.work.operators import Operator
from simulator.work.tallies import Tally, tally


@dataclass(frozen=True)
class RepeatedLayers:
    """Of some layers those of which the backward pass repeats all, and how many inputs are kept for it."""

    layers: Num
    inputs: Num
    at_once: Num
    """Layers that are repeated before the first of them runs backward [layer]."""
    before: Num
    """Layers that have run backward before any is repeated, and left their memory [layer]."""


def repeated_on(plans: Plans, layers: Num) -> RepeatedLayers:
    """What is repeated of a stage with so many layers.

    Parameters
    ----------
    plans
        Those that count layers.
    layers
        Of the stage, in all of its virtual stages [layer].
    """
    again, virtual = plans.recomputation, np.asarray(plans.virtual_stages)
    each = layers / virtual
    every, block, uniform = (np.asarray(number) for number in (again.every, again.block, again.uniform))
    of_every = np.floor(layers / np.maximum(every, 1.0))
    first = np.minimum(block, each)
    some = np.where(every > 0.0, of_every, np.where(block > 0.0, virtual * first, layers))
    pieces = virtual * np.ceil(each / np.maximum(uniform, 1.0))
    left = np.where(every > 0.0, layers - of_every * every, np.where(block > 0.0, each - first, 0.0))
    one = np.where(uniform > 0.0, np.minimum(uniform, each), np.minimum(some, 1.0))
    whole = np.asarray(plans.recompute_layer) > 0.0
    return RepeatedLayers(
        layers=np.where(whole, some, 0.0),
        inputs=np.where(whole, np.where(uniform > 0.0, pieces, some), 0.0),
        at_once=np.where(whole, one, 0.0),
        before=np.where(whole, left, 0.0),
    )


def repeated_shares(plans: Plans, models: Models) -> tuple[Num, Num] | None:
    """Of a layer in the mean, the share that is repeated and the inputs kept for it; nothing where no plan counts any.

    Layers of several kinds count as if those of each lay evenly among the others.
    """
    if not plans.recomputation.counts_layers:
        return None
    count, stages = models.layer_count, np.asarray(plans.pp)

    def on(stage: Num) -> Num:
        return pipeline.stage_layers(count, stages, stage=stage, **plans.ends)

    first, last, inside = on(0.0), on(stages - 1.0), np.maximum(stages - 2.0, 0.0)
    left = np.where(inside > 0.0, count - first - last, 0.0)
    fewer = np.floor(left / np.maximum(inside, 1.0))
    larger = left - fewer * inside
    parts = (
        (first, 1.0),
        (last, np.where(stages > 1.0, 1.0, 0.0)),
        (fewer + 1.0, larger),
        (fewer, inside - larger),
    )
    each = [(repeated_on(plans, layers), number) for layers, number in parts]
    repeated = sum((number * one.layers for one, number in each), start=np.float64(0.0))
    inputs = sum((number * one.inputs for one, number in each), start=np.float64(0.0))
    return repeated / count, inputs / count


def tally_of_layer(
    operators: Sequence[Operator], plans: Plans, *, checkpoint: Num, shares: tuple[Num, Num] | None = None
) -> Tally:
    """Add up the operators of a layer as the plan recomputes it.

    Parameters
    ----------
    operators
        Of one layer.
    plans
        Decide what is recomputed.
    checkpoint
        Bytes of the layer's input, all that full recomputation keeps [B].
    shares
        What `repeated_shares` says.
    """
    whole, again = tally(operators), plans.recomputation
    attention = sum((each.kept.saved for each in operators if each.kept.in_attention), start=np.float64(0.0))
    partly = whole.all_saved_bytes - np.asarray(plans.recompute_attention) * attention
    if again.by_module:
        partly = partly - sum((_dropped(each, again) for each in operators), start=np.float64(0.0))
    if again.by_operator:
        outputs = sum((kept for kept, _ in _by_operator(operators, plans.element_bytes)), start=np.float64(0.0))
        partly = np.where(np.asarray(again.operators) > 0.0, checkpoint + outputs, partly)
    repeated = np.asarray(plans.recompute_layer) > 0
    if shares is None:
        return replace(whole, saved_bytes=np.where(repeated, checkpoint, partly))
    mean = (1.0 - shares[0]) * whole.all_saved_bytes + shares[1] * checkpoint
    return replace(whole, saved_bytes=np.where(repeated, mean, partly), checkpoint_bytes=checkpoint)


def repetitions(
    operators: Sequence[Operator], plans: Plans, stacks: Stacks, shares: tuple[Num, Num] | None = None
) -> tuple[Num, ...]:
    """How often the backward pass repeats the forward pass of each operator of a layer: 0 to 1."""
    again = plans.recomputation
    once = [repeats(operator, plans, stacks, shares) for operator in operators]
    if again.by_module:
        once = [
            np.maximum(number, _in_modules(each, again, stacks)) for number, each in zip(once, operators, strict=True)
        ]
    if again.by_operator:
        parts = (repeated for _, repeated in _by_operator(operators, plans.element_bytes))
        drops = np.asarray(stacks.drops_unused_recompute)
        once = [
            np.maximum(number, np.asarray(again.operators) * part * (1.0 - each.kept.output_unused * drops))
            for number, part, each in zip(once, parts, operators, strict=True)
        ]
    return tuple(once)


def repeats(operator: Operator, plans: Plans, stacks: Stacks, shares: tuple[Num, Num] | None = None) -> Num:
    """How often an operator is repeated with whole layers, or with attention."""
    kept, drops = operator.kept, np.asarray(stacks.drops_unused_recompute)
    whole = np.asarray(plans.recompute_layer) * (1.0 - kept.output_unused * drops)
    if shares is not None:
        whole = whole * shares[0]
    if not kept.in_attention:
        return whole
    return np.maximum(whole, plans.recompute_attention * (1.0 - float(kept.output_kept) * drops))


def _modules(operator: Operator) -> tuple[tuple[str, Num], ...]:
    """Modules that an operator is in, with what is kept in place of what it keeps."""
    return (("core_attn", 0.0),) if operator.kept.in_attention else operator.kept.repeated_in


def _in_modules(operator: Operator, again: Recomputation, stacks: Stacks) -> Num:
    """How often an operator is repeated with modules."""
    kept, drops = operator.kept, np.asarray(stacks.drops_unused_recompute)
    flags = (np.asarray(getattr(again, name)) for name, _ in _modules(operator))
    unused = np.maximum(kept.output_unused, float(kept.output_kept)) * drops
    # A module inside another one runs again with that one, and once more by itself.
    times: Num = sum(flags, start=np.float64(0.0)) * kept.repeated_share * (1.0 - unused)
    return times


def _dropped(operator: Operator, again: Recomputation) -> Num:
    """Bytes of what an operator keeps that modules do not."""
    saved, discards = operator.kept.saved, operator.kept.discards
    discarded = sum((getattr(again, name) * size for name, size in discards), start=np.float64(0.0))
    # The input of a module that a normalisation returned is discarded with it, whoever keeps it.
    reads = np.asarray(again.layernorm) if any(name == "layernorm" for name, _ in discards) else 0.0
    kept = np.maximum(saved - discarded, 0.0)
    for name, size in reversed(_modules(operator)):
        kept = np.where(np.asarray(getattr(again, name)) > 0.0, size * (1.0 - reads), kept)
    return saved - kept


def _by_operator(operators: Sequence[Operator], element_bytes: Num) -> Iterator[tuple[Num, Num]]:
    """Bytes that each operator keeps of what it returns, and the share of it that is repeated."""
    number: Num = 0.0
    for operator in operators:
        request = operator.forward[0].request
        if isinstance(request, MatrixProduct):
            kept, number = _every_second(operator.kept.matrices, number)
            made = sum(
                (_returned(call.request, element_bytes) * call.count for call in operator.forward),
                start=np.float64(0.0),
            )
            yield kept, 1.0 - kept / np.maximum(made, 1.0)
        elif isinstance(request, FusedAttention) or _is_kept(request):
            made = sum(
                (_returned(call.request, element_bytes) * call.count for call in operator.forward),
                start=np.float64(0.0),
            )
            yield made + (operator.kept.saved if isinstance(request, FusedAttention) else 0.0), 0.0
        else:
            yield 0.0, 1.0


def _every_second(matrices: Sequence[Num], number: Num) -> tuple[Num, Num]:
    """Bytes of the first of these products and of each second one, and how many there are with those before."""
    kept: Num = 0.0
    for size in matrices:
        plain = np.where(np.asarray(size) > 0.0, 1.0, 0.0)
        number = number + plain
        kept = kept + size * plain * (number % 2.0)
    return kept, number


def _is_kept(request: object) -> bool:
    """Whether what a collective returns is kept."""
    return isinstance(request, Collective) and request.kind in ("reduce_scatter", "all_to_all")


def _returned(request: object, element_bytes: Num) -> Num:
    """Bytes that a request returns."""
    if isinstance(request, MatrixProduct):
        return request.m * request.n * request.batch * request.element_bytes
    if isinstance(request, FusedAttention):
        width = request.head_size if request.value_head_size is None else request.value_head_size
        return request.queries * request.batch * request.heads * width * element_bytes
    if isinstance(request, Collective):
        ranks = request.degree if request.kind == "reduce_scatter" else 1.0
        return np.where(np.asarray(request.degree) > 1.0, request.message_bytes / ranks, 0.0)
    return 0.0
