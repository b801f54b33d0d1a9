"""Products in 8 bits: how wide what they read is, and the casts that make it so.

A product reads 8 bits and writes 16. Its input is cast before it, and the gradient of its output before both products
of the backward pass: read in 16 bits, written in 8 as it is, and once more transposed where the gradient of weights
needs it, since tensor cores take 8-bit factors in one order only. Weights that are trained are cast once a step where
copies of them are kept in 8 bits, and after each gather where ranks share them. In 4 bits it is the same.

Kernels that make what a product reads can cast it on the way (a stack's `fuses_casts`).

References
----------
NVIDIA Transformer Engine 2.x, `pytorch/module/layernorm_mlp.py` and `layernorm_linear.py`: normalisations, activation
functions and the gradients of these return quantised tensors.
NVIDIA Transformer Engine 2.x, `Float8CurrentScalingQuantizer` and `Float8BlockQuantizer`; torchao, `tensorwise` of
`torchao/float8/config.py`, whose scaling is dynamic (recalled).
NVIDIA Transformer Engine 2.x, `transformer_engine/common/cast` and `Float8Quantizer.set_usage`: row-wise and
column-wise copies. DeepSeek-AI, DeepSeek-V3, arXiv 2412.19437, sections 3.3.1 and 3.3.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import MatrixProduct, StreamKind
from simulator.work.operators import Call, Holding, Operator, stream
from simulator.work.transformer.tokens import Scenarios


def in_8_bits(operators: Iterable[Operator], scenarios: Scenarios, *, wide: Num) -> tuple[Operator, ...]:
    """Operators of a layer whose products of weights read what the plan's products read, with the casts before them.

    Parameters
    ----------
    operators
        Of one layer.
    scenarios
        The scenarios; where none has products in 8 bits nothing changes.
    wide
        Share of such layers whose products stay in 16 bits [1].
    """
    plans, listed = scenarios.plans, tuple(operators)
    narrow = np.where(np.asarray(plans.product_bytes) < plans.element_bytes, 1.0 - np.asarray(wide), 0.0)
    if not np.any(narrow > 0.0):
        return listed
    casts: dict[object, list[Operator]] = {}
    changed = []
    for operator in listed:
        if not _is_narrow(operator):
            changed.append(operator)
            continue
        changed.append(_reading(operator, plans.product_bytes))
        of, share = operator.kept, operator.kept.repeated_share
        modules = tuple(name for name, _ in of.repeated_in)
        key = (modules, of.in_attention) if isinstance(share, float) and share == 1.0 else id(operator)
        casts.setdefault(key, []).append(operator)
    return (*changed, *(_casts(group, scenarios, narrow) for group in casts.values()))


def _is_narrow(operator: Operator) -> bool:
    """Whether it is a product of a weight that goes by the plan's format."""
    request = operator.forward[0].request
    return isinstance(request, MatrixProduct) and request.of_weight and not request.wide


def _reading(operator: Operator, product_bytes: Num) -> Operator:
    """The product with both factors in the plan's format."""

    def reading(call: Call) -> Call:
        request = call.request
        assert isinstance(request, MatrixProduct)
        return replace(call, request=replace(request, input_bytes=product_bytes))

    ahead, back = (tuple(map(reading, calls)) for calls in (operator.forward, operator.backward))
    return replace(operator, forward=ahead, backward=back)


def _casts(products: list[Operator], scenarios: Scenarios, narrow: Num) -> Operator:
    """Casts of inputs and of the gradients of outputs of several products, and of their weights."""
    forward: Num = 0.0
    backward: Num = 0.0
    kernels: Num = 0.0
    kernels_back: Num = 0.0
    weights: Num = 0.0
    for operator in products:
        (call, *_), request = operator.forward, operator.forward[0].request
        assert isinstance(request, MatrixProduct)
        each = request.batch * np.asarray(call.count)
        of_weights, reached = _backward_of(operator, call)
        copies = 1.0 + of_weights
        ahead, back = (scenarios.stacks.fuses_casts * float(made) for made in operator.cast_before)
        forward = forward + each * request.m * request.k * _moved(scenarios, copies, ahead)
        backward = backward + reached * each * request.m * request.n * _moved(scenarios, copies, back)
        kernels = kernels + np.minimum(call.count, 1.0) * (1.0 - ahead)
        kernels_back = kernels_back + reached * np.minimum(call.count, 1.0) * (1.0 - back)
        weights = weights + of_weights * each * request.k * request.n
    once, again = _of_weights(scenarios, weights)
    first = products[0].kept
    return stream(
        "casts to 8 bits",
        "elementwise",
        StreamKind.QUANTISATION,
        moved=(narrow * (forward + once), narrow * (backward + again)),
        launches=(narrow * kernels, narrow * kernels_back),
        kept=Holding(
            in_attention=first.in_attention,
            repeated_in=tuple((name, 0.0) for name, _ in first.repeated_in),
            repeated_share=first.repeated_share,
        ),
    )


def _moved(scenarios: Scenarios, copies: Num, fused: Num = 0.0) -> Num:
    """Bytes of the cast of one element into so many copies [B].

    A kernel that makes the element and casts it on the way writes the copies in place of 16 bits, and reads nothing.
    With a scale of the tensor's own largest number none can, though it finds that on the way; others read it first.
    """
    element, narrow = scenarios.plans.element_bytes, copies * scenarios.plans.product_bytes
    current = scenarios.plans.current_scaling
    on_the_way = (1.0 - current) * np.maximum(narrow - element, 0.0) + current * (element + narrow)
    return (1.0 - fused) * (element * (1.0 + current) + narrow) + fused * on_the_way


def _backward_of(operator: Operator, ahead: Call) -> tuple[Num, Num]:
    """Whether a product has a gradient of its weights, and whether it has a backward pass: 1 or 0."""
    count = np.maximum(ahead.count, 1e-9)
    shares = [(call.count / count, call.request) for call in operator.backward]
    of_weights: Num = 0.0
    reached: Num = 0.0
    for share, request in shares:
        reached = np.maximum(reached, share)
        if isinstance(request, MatrixProduct) and request.weight_gradient:
            of_weights = np.maximum(of_weights, share)
    return np.minimum(of_weights, 1.0), np.minimum(reached, 1.0)


def _of_weights(scenarios: Scenarios, weights: Num) -> tuple[Num, Num]:
    """Bytes that casts of so many weights move in the forward and the backward pass of one micro-batch [B]."""
    plans, stacks = scenarios.plans, scenarios.stacks
    shared = np.asarray(plans.parameter_group) > 1.0
    held = np.where(np.asarray(stacks.narrow_weight_bytes) > 0.0, 1.0 / np.asarray(plans.micro_batches), 0.0)
    forward = weights * np.where(shared, 1.0, held) * _moved(scenarios, 2.0)
    backward = weights * np.where(shared, stacks.gathers_each_pass, 0.0) * _moved(scenarios, 1.0)
    return forward, backward
