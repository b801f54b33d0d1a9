"""Products of weights that are not trained, or that an adapter stands beside (Hu et al., LoRA, arXiv 2106.09685).

An adapter adds ``B A x`` to what a frozen matrix makes of ``x``. The frozen product has no gradient of its weights, so
that its input is kept for the adapter only, where one reads it: once for all adapters of one input, unless each drops
elements of it (PEFT, `lora.Linear.forward`). A quantised weight is made one of 16 bits before each product, forward,
again and backward (bitsandbytes, `MatMul4Bit`), and nothing of that is kept; products in fp8 take one in fp8 as it is.

Tensor-parallel ranks hold shares of both factors (Megatron Bridge, `ParallelLinearAdapter`): of A and of B the rows or
the columns, with what is of the rank's width gathered or added up in between.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from simulator.formulas import activations, parameters, states
from simulator.formulas.typing import Num
from simulator.pricing.requests import CollectiveKind, StreamKind
from simulator.work.operators import Holding, Operator, product, stream, untrained
from simulator.work.transformer.exchanges import mode, splits, tensor_exchange
from simulator.work.transformer.linears import Linear
from simulator.work.transformer.magnitudes import magnitudes
from simulator.work.transformer.tokens import Scenarios
from simulator.work.weights import linear_weights

_ADDED, _SCALED, _DROPPED = 3.0, 2.0, 2.5
"""Times that a tensor of 16 bits crosses memory where another is added to it, where it is scaled, where it is dropped:
two are read and one is written, one and one, and the mask of a byte an element."""


def tuned(operator: Operator, linear: Linear, scenarios: Scenarios) -> list[Operator]:
    """The product of some matrices as it is tuned: with what makes 16-bit weights, and with adapters."""
    tuning = scenarios.workloads.tuning
    if np.all(np.asarray(tuning.base) > 0.0):
        return [operator]
    keeps = linear.adapted * (1.0 - np.asarray(tuning.drops))
    saved = keeps * linear.saved + (1.0 - keeps) * linear.otherwise
    frozen = untrained(operator, tuning.base, saved=saved)
    operators = [*_dequantised(frozen, linear, scenarios)]
    if np.any(linear.adapted > 0.0):
        operators += _adapters(operator.name, linear, scenarios)
    return operators


def _dequantised(operator: Operator, linear: Linear, scenarios: Scenarios) -> list[Operator]:
    """The product, and before it what makes 16-bit weights of quantised ones."""
    tuning, element = scenarios.workloads.tuning, scenarios.plans.element_bytes
    if not np.any(np.asarray(tuning.weight_bytes) > 0.0):
        return [operator]
    quantised = np.where(np.asarray(tuning.weight_bytes) > 0.0, 1.0 - np.asarray(tuning.base), 0.0) * linear.used
    made = sum((np.asarray(matrix.width) for matrix in linear.matrices), start=np.float64(0.0))
    weights = quantised * linear.batch * linear.width * made
    held = states.quantised_bytes(
        weights,
        weight_bytes=tuning.weight_bytes,
        scale_bytes=tuning.scale_bytes,
        scale_block=np.where(np.asarray(tuning.scale_block) > 0.0, tuning.scale_block, linear.width),
    )
    taken = np.asarray(scenarios.plans.product_bytes) <= tuning.weight_bytes  # by products in 8 bits, as they are
    moved = np.where(taken, 0.0, held + weights * element)
    kernels = np.where(taken, 0.0, quantised * linear.batch * float(len(linear.matrices)))
    kept = replace(operator.kept, quantised_parameters=weights, quantised_bytes=held)
    into_16_bits = stream(
        f"16-bit weights of {operator.name}",
        linear.part,
        StreamKind.DEQUANTISATION,
        moved=(moved, moved),
        launches=(kernels, kernels),
    )
    return [into_16_bits, replace(operator, kept=kept)]


def _adapters(name: str, linear: Linear, scenarios: Scenarios) -> list[Operator]:
    """Both products of the adapters, and what adds them to those of the frozen matrices."""
    joint = _joint(linear, scenarios)
    apart = sum((np.asarray(matrix.adapted) for matrix in linear.matrices), start=np.float64(0.0))
    modules = linear.used * np.where(joint > 0.0, 1.0, apart)
    rank = scenarios.workloads.tuning.rank
    operators = [_inward(name, linear, scenarios, modules)]
    kinds = [(matrix.width, (1.0 - joint) * linear.used * matrix.adapted) for matrix in linear.matrices]
    kinds.append((sum((matrix.width for matrix in linear.matrices), start=np.float64(0.0)), joint * linear.used))
    operators += [
        _outward(name, linear, scenarios, width, count) for width, count in kinds if np.any(np.asarray(count) > 0.0)
    ]
    operators += [*magnitudes(name, linear, scenarios, kinds, modules), _joined(name, linear, scenarios, modules)]
    if splits(scenarios):
        operators += _exchanges(linear, scenarios, linear.rows * linear.batch * rank, modules)
    return operators


def _joint(linear: Linear, scenarios: Scenarios) -> Num:
    """Whether one adapter serves all matrices of an input."""
    if len(linear.matrices) == 1:
        return np.float64(0.0)
    every = reduce(np.minimum, [np.asarray(matrix.adapted) for matrix in linear.matrices])
    return np.asarray(every * scenarios.stacks.joint_adapters)


def _product(name: str, linear: Linear, scenarios: Scenarios, *, n: Num, k: Num, count: Num, kept: Holding) -> Operator:
    """A product of adapters, which stay in 16 bits."""
    return product(
        name,
        linear.part,
        m=linear.rows,
        n=n,
        k=k,
        batch=linear.batch / linear.calls,
        count=count * linear.calls,
        element_bytes=scenarios.plans.element_bytes,
        wide=True,
        useful=linear.useful,
        launches=(count * linear.launches, count * linear.launches),
        kept=kept,
    )


def _owned(linear: Linear, number: Num, widths: tuple[Num, Num], saved: Num) -> Holding:
    """As many matrices of some width of their input and of what they make, of a dense layer or of experts."""
    weights = number * parameters.linear(*widths)
    of_experts = bool(np.any(np.asarray(linear.experts) > 0.0))
    dense, experts = (0.0, weights) if of_experts else (weights, 0.0)
    tensors = linear_weights(*widths, factors=(number,))
    return Holding(saved=saved, parameters=dense, expert_parameters=experts, added=True, weights=tensors)


def _inward(name: str, linear: Linear, scenarios: Scenarios, modules: Num) -> Operator:
    """From the input to the rank of the adapters; where they drop elements each keeps a mask and what is left."""
    tuning = scenarios.workloads.tuning
    rank = tuning.rank if linear.adds_up else tuning.rank / np.asarray(linear.ranks)
    tokens = linear.rows * linear.batch
    dropped = activations.tensor(tokens, linear.width, element_bytes=scenarios.plans.element_bytes)
    dropped = dropped + activations.dropout_mask(tokens, linear.width)
    kept = _owned(linear, modules * linear.batch, (linear.width, rank), modules * tuning.drops * dropped)
    return _product(f"adapters into {name}", linear, scenarios, n=rank, k=linear.width, count=modules, kept=kept)


def _outward(name: str, linear: Linear, scenarios: Scenarios, width: Num, count: Num) -> Operator:
    """From the rank of an adapter to what its matrices make."""
    rank, element = scenarios.workloads.tuning.rank, scenarios.plans.element_bytes
    made = width / np.asarray(linear.ranks) if linear.adds_up else width
    saved = activations.tensor(linear.rows * linear.batch, rank, element_bytes=element)
    kept = _owned(linear, count * linear.batch, (rank, made), count * saved)
    return _product(f"adapters out of {name}", linear, scenarios, n=made, k=rank, count=count, kept=kept)


def _joined(name: str, linear: Linear, scenarios: Scenarios, modules: Num) -> Operator:
    """Dropout of the input, scaling, addition to what the frozen matrices make, and of the gradients of the input."""
    tuning, eager = scenarios.workloads.tuning, scenarios.stacks.eager
    element = scenarios.plans.element_bytes
    tokens = linear.rows * linear.batch
    made = sum((matrix.width * np.asarray(matrix.adapted) for matrix in linear.matrices), start=np.float64(0.0))
    outputs, inputs = linear.used * tokens * made * element, modules * tokens * linear.width * element
    kernels = modules * linear.batch
    return stream(
        f"adapters added to {name}",
        linear.part,
        StreamKind.ADAPTER,
        moved=(
            outputs * (_ADDED + _SCALED * eager) + tuning.drops * inputs * _DROPPED,
            outputs * _SCALED + inputs * (_ADDED + tuning.drops * _DROPPED),
        ),
        launches=(kernels * (1.0 + eager + tuning.drops), kernels * (2.0 + tuning.drops)),
        drawn=tuning.drops * modules * tokens * linear.width,
    )


def _exchanges(linear: Linear, scenarios: Scenarios, elements: Num, modules: Num) -> list[Operator]:
    """Collectives between both factors, and of what ranks make of a part of the output each."""
    apart = np.where(np.asarray(linear.ranks) > 1.0, modules, 0.0)
    message = elements * scenarios.plans.element_bytes
    made = linear.rows * linear.batch * linear.matrices[0].width * scenarios.plans.element_bytes

    def exchanged(kind: CollectiveKind, size: Num, ahead: Num, back: Num) -> Operator:
        counts, where = (ahead * apart, back * apart), "of adapters"
        return tensor_exchange(kind, where, size, scenarios, counts=counts, degree=linear.ranks)

    if linear.adds_up:
        return [exchanged("all_reduce", message, 1.0, 1.0), exchanged("all_gather", made, 1.0, 0.0)]
    # The gradient of the input, which ranks that share tokens add up with that of the frozen product.
    read, whole = linear.rows * linear.batch * linear.width * scenarios.plans.element_bytes, mode(scenarios)[0]
    return [
        exchanged("all_gather", message, 1.0, 0.0),
        exchanged("all_reduce", message, 0.0, 1.0),
        exchanged("all_reduce", read, 0.0, whole),
    ]
