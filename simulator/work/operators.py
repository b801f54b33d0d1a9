"""Operators: what a device executes forward and backward, with what it keeps in between.

An operator says which requests its two passes make and how often, which tensors it keeps for the backward pass, and
which parameters are its own. Every number may be an array with one entry a plan; arrays broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simulator.formulas import matmul
from simulator.formulas.typing import Num
from simulator.pricing.requests import (
    Collective,
    CollectiveKind,
    FusedAttention,
    MatrixProduct,
    Request,
    Send,
    Stream,
    StreamKind,
)
from simulator.specs.choices import RecomputeModule
from simulator.work.hiding import OPEN, Hiding, OperatorPart
from simulator.work.weights import Weight


@dataclass(frozen=True)
class Call:
    """A request of one pass."""

    request: Request
    count: Num = 1.0
    """How often it is made [1]."""
    kernels: Num = 0.0
    """Launches that the host makes for it; those of a pass may all stand with one of its calls [1]."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What an operator keeps and owns, and what recomputation does to it."""

    saved: Num = 0.0
    """Bytes kept for the backward pass."""
    widest: Num = 0.0
    """Bytes of a tensor whose gradient is large enough to count while it exists."""
    parameters: Num = 0.0
    """Parameters of this device's part, without those of experts."""
    expert_parameters: Num = 0.0
    """Those of experts, which expert parallelism divides."""
    partial_parameters: Num = 0.0
    """Parameters whose gradient, under sequence parallelism, each tensor-parallel rank has of its tokens only."""
    tied_parameters: Num = 0.0
    """Weights that another operator counts among its own."""
    in_attention: bool = False
    """Whether selective recomputation drops and repeats it."""
    output_unused: Num = 0.0
    """Whether no backward pass needs its output, so that a compiler can leave it out of a recomputation."""
    output_kept: bool = False
    """Whether selective recomputation keeps its output, so that a compiler can leave it out of that one."""
    matrices: tuple[Num, ...] = ()
    """Bytes of what each of its matrices makes where torch runs them as plain products, one by one; 0 of one that it
    does not."""
    repeated_in: tuple[tuple[RecomputeModule, Num], ...] = ()
    """Modules whose recomputation repeats it, the outermost first, with the bytes kept in place of `saved` where that
    module is recomputed."""
    repeated_share: Num = 1.0
    """Share of it that lies in these."""
    discards: tuple[tuple[RecomputeModule, Num], ...] = ()
    """Bytes of `saved` that a recomputed module returned, which it discards."""
    trained: Num = 1.0
    """Whether its parameters are trained: 1 or 0; what is not has no gradient and no optimizer states."""
    added: bool = False
    """Whether its parameters are of an adapter, which is trained whatever it stands beside."""
    quantised_parameters: Num = 0.0
    """Of its parameters, experts' too, those that are held in a few bits."""
    quantised_bytes: Num = 0.0
    """What these take, with their scales."""
    weights: tuple[Weight, ...] = ()
    """The tensors that its parameters are."""
    passing: Num = 0.0
    """Bytes that it makes and frees again, as far as these are large beside all else."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """Something that is executed once for each micro-batch, forward and backward."""

    name: str
    """What people call it; nothing is keyed by it."""
    part: OperatorPart
    forward: tuple[Call, ...]
    backward: tuple[Call, ...]
    kept: Holding = Holding()
    efficiency: Num = 1.0
    """Rate of the stack's kernels over the device class's."""
    hiding: Hiding = OPEN
    """What covers it."""
    cast_before: tuple[bool, bool] = (False, False)
    """Whether a normalisation or an activation function makes its input, and one the gradient of its output: kernels
    that can cast to 8 bits on the way."""

    @property
    def cast_parameters(self) -> Num:
        """Parameters that automatic casts keep in 16 bits besides: weights and biases of products."""
        if not isinstance(self.forward[0].request, MatrixProduct):
            return 0.0
        return self.kept.parameters + self.kept.expert_parameters + self.kept.tied_parameters


def product(
    name: str,
    part: OperatorPart,
    *,
    m: Num,
    n: Num,
    k: Num,
    batch: Num = 1.0,
    count: Num = 1.0,
    element_bytes: Num,
    of_weight: bool = True,
    has_input_gradient: Num = 1.0,
    wide: bool = False,
    padded: bool = False,
    useful: Num = 1.0,
    efficiency: Num = 1.0,
    launches: tuple[Num, Num] = (1.0, 1.0),
    kept: Holding = Holding(),
    cast_before: tuple[bool, bool] = (False, False),
) -> Operator:
    """Products C[m, n] = A[m, k] B[k, n], `count` calls of `batch` each.

    The backward pass has two: the gradient of A, dC B^T, where A has one (tables of positions have none), and that of
    B, A^T dC.

    Parameters
    ----------
    name, part
        What it is.
    m, n, k, batch, count
        Sizes [element], and how many [1].
    element_bytes
        Of A, B and C [B].
    of_weight
        Whether B is a weight; otherwise both factors are activations, as in attention.
    has_input_gradient
        Whether A has a gradient: 1 or 0.
    wide
        Whether it stays in 16 bits where the plan's products are in 8.
    padded
        Whether frameworks pad B to widths that the hardware likes.
    useful
        As in `simulator.pricing.requests.MatrixProduct`.
    efficiency
        Rate of the stack's kernels over the device class's [1].
    launches
        Of the forward and of the backward pass [1].
    kept
        What it keeps and owns.
    cast_before
        As in `Operator`.
    """
    alignment = 1.0 if padded or not of_weight else matmul.alignment_share(n, k)

    def one(m: Num, n: Num, k: Num, *, weight_gradient: bool = False) -> MatrixProduct:
        return MatrixProduct(
            m=m,
            n=n,
            k=k,
            batch=batch,
            element_bytes=element_bytes,
            weight_gradient=weight_gradient,
            of_weight=of_weight,
            wide=wide,
            padded=padded,
            alignment=alignment,
            useful=useful,
        )

    ahead, back = launches
    of_input = (Call(one(m, k, n), flagged(count, has_input_gradient)),) if np.any(has_input_gradient) else ()
    of_weights = Call(one(k, n, m, weight_gradient=of_weight), count, back)
    forward = (Call(one(m, n, k), count, ahead),)
    return Operator(
        name=name,
        part=part,
        forward=forward,
        backward=(*of_input, of_weights),
        kept=kept,
        efficiency=efficiency,
        cast_before=cast_before,
    )


def flagged(number: Num, flag: Num) -> Num:
    """A number where a flag is 1, else 0; by plain ones nothing is multiplied."""
    return number if isinstance(flag, float) and flag == 1.0 else number * flag


def untrained(operator: Operator, trained: Num, *, saved: Num = 0.0) -> Operator:
    """A product where `trained` is 1; where it is 0, without the gradient of its weights.

    Parameters
    ----------
    operator
        A product of weights.
    trained
        Whether they are trained: 1 or 0.
    saved
        Bytes that it keeps where they are not: its input only served their gradient [B].
    """
    if np.all(np.asarray(trained) > 0.0):
        return operator
    kept = replace(operator.kept, trained=trained, saved=operator.kept.saved * trained + saved * (1.0 - trained))
    started = sum((call.kernels for call in operator.backward), start=np.float64(0.0))
    # Of the two products one is left, and with it half of the launches.
    backward = [
        replace(call, kernels=call.kernels * trained + started * (1.0 - trained) / 2.0)
        for call in operator.backward
        if not _is_of_weights(call)
    ]
    if np.any(np.asarray(trained) > 0.0):
        of_weights = filter(_is_of_weights, operator.backward)
        backward += [replace(call, count=call.count * trained, kernels=call.kernels * trained) for call in of_weights]
    return replace(operator, backward=tuple(backward), kept=kept)


def _is_of_weights(call: Call) -> bool:
    """Whether a call is the product that makes the gradient of weights."""
    return isinstance(call.request, MatrixProduct) and call.request.weight_gradient


def frozen(operator: Operator, base: Num) -> Operator:
    """An operator of a model whose own weights are trained where `base` is 1; it stays where it is frozen already.

    What parts do not say of themselves: norms, sinks, and products whose tensors stay as they are.
    """
    if operator.kept.added or np.all(np.asarray(base) > 0.0) or not np.all(np.asarray(operator.kept.trained) > 0.0):
        return operator
    if any(_is_of_weights(call) for call in operator.backward):
        return untrained(operator, base, saved=operator.kept.saved)
    return replace(operator, kept=replace(operator.kept, trained=base))


def without_backward(operator: Operator, flows: Num) -> Operator:
    """The operator where `flows` is 1; where it is 0, that is where no gradient reaches it, without a backward pass."""
    if np.all(np.asarray(flows) > 0.0):
        return operator
    of = operator.kept
    kept = replace(
        of,
        saved=of.saved * flows,
        widest=of.widest * flows,
        repeated_in=tuple((name, size * flows) for name, size in of.repeated_in),
    )
    backward = tuple(
        replace(call, count=call.count * flows, kernels=call.kernels * flows) for call in operator.backward
    )
    return replace(operator, backward=backward, kept=kept)


def stream(
    name: str,
    part: OperatorPart,
    kind: StreamKind,
    *,
    moved: tuple[Num, Num],
    launches: tuple[Num, Num],
    reduces: bool = False,
    drawn: Num = 0.0,
    efficiency: Num = 1.0,
    kept: Holding = Holding(),
) -> Operator:
    """Kernels bound by memory.

    Parameters
    ----------
    name, part, kind
        What it is.
    moved
        Bytes that cross the memory bus in the forward and in the backward pass [B].
    launches
        Kernels of the two passes [1].
    reduces
        Whether they reduce, as normalisations and softmax do.
    drawn
        Random numbers that the forward pass draws for dropout [1].
    efficiency
        Rate of the stack's kernels over the device class's [1].
    kept
        What it keeps and owns.
    """
    ahead = Stream(kind=kind, moved_bytes=moved[0], kernels=launches[0], reduces=reduces, drawn=drawn)
    back = Stream(kind=kind, moved_bytes=moved[1], kernels=launches[1], reduces=reduces, backward=True)
    return Operator(
        name=name,
        part=part,
        forward=(Call(ahead, 1.0, launches[0]),),
        backward=(Call(back, 1.0, launches[1]),),
        kept=kept,
        efficiency=efficiency,
    )


def fused_attention(
    name: str, forward: FusedAttention, backward: FusedAttention, *, used: Num, efficiency: Num, kept: Holding
) -> Operator:
    """Attention in one kernel, where a stack fuses it: `used` is 1 or 0."""
    return Operator(
        name=name,
        part="attention",
        forward=(Call(forward, used, used),),
        backward=(Call(backward, used, used),),
        kept=kept,
        efficiency=efficiency,
    )


def exchange(
    name: str,
    part: OperatorPart,
    kind: CollectiveKind,
    message_bytes: Num,
    *,
    degree: Num,
    stride: Num,
    counts: tuple[Num, Num],
    launches: tuple[Num, Num],
    hiding: Hiding = OPEN,
    copies: Num = 1.0,
    groups: tuple[Num, Num] = (1.0, 1.0),
    busiest: Num = 1.0,
    unused: Num = 0.0,
    inside: tuple[tuple[RecomputeModule, Num], ...] = (),
    inside_share: Num = 1.0,
) -> Operator:
    """Collectives of one kind and size among the ranks of a group.

    Parameters
    ----------
    name, part, kind
        What it is.
    message_bytes
        The whole message [B].
    degree, stride, copies, busiest
        As in `simulator.pricing.requests.Collective`.
    counts
        How many of them forward and backward [1].
    launches
        Kernels of the two passes [1].
    hiding
        What covers them.
    groups
        Groups of ranks, and to how many of them each token goes [1].
    unused
        Share of those of the forward pass whose output no backward pass needs [1].
    inside, inside_share
        Modules that they are in, and the share of those of the forward pass that is [1].
    """
    request = Collective(
        kind=kind,
        message_bytes=message_bytes,
        degree=degree,
        stride=stride,
        copies=copies,
        expert_groups=groups[0],
        groups_per_token=groups[1],
        busiest=busiest,
    )
    return Operator(
        name=name,
        part=part,
        forward=(Call(request, counts[0], launches[0]),),
        backward=(Call(request, counts[1], launches[1]),),
        kept=Holding(output_unused=unused, repeated_in=inside, repeated_share=inside_share),
        hiding=hiding,
    )


def ring(name: str, message_bytes: Num, *, degree: Num, stride: Num, reach: Num) -> Operator:
    """Keys and values of `message_bytes` passed around context-parallel ranks, behind the attention of each part.

    There is one transfer less than ranks; the backward pass sends keys and values again, and their gradients. While a
    rank works on the keys that it has the next ones arrive: each transfer has `reach` of a part's attention beside it.
    """
    request, hops = Send(message_bytes=message_bytes, degree=degree, stride=stride), degree - 1.0
    beside, occasions = frozenset[OperatorPart]({"attention"}), np.maximum(hops, 1.0)
    hiding = Hiding(share=1.0, line="ring", parts=beside, reach=reach / np.asarray(degree), occasions=occasions)
    return Operator(
        name=name,
        part="context_parallel",
        forward=(Call(request, hops, hops),),
        backward=(Call(request, 2.0 * hops, hops),),
        kept=Holding(repeated_in=(("core_attn", 0.0),)),
        hiding=hiding,
    )
