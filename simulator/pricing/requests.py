"""What a step asks of devices, links and hosts: the one list of kinds that every backend answers.

Sizes may be arrays with one entry a plan; arrays broadcast. A request says what is asked, not how long it takes nor how
often it is asked: the first is the backend's answer, the second the program's (`simulator.work.program`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np

from simulator.formulas import decoding, flops, kernels
from simulator.formulas.typing import Num

CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
_ATTENTION_BYTES = 2.0
"""Fused attention works in 16 bits."""


class StreamKind(Enum):
    """What kernels that are bound by memory do. The value is the key under which a measured profile keeps its rate."""

    NORMALISATION = "normalisation"
    RESIDUAL = "dropout-and-residual"
    ROTARY = "rotary-positions"
    HEAD_LAYOUT = "layout-of-heads"
    SOFTMAX = "softmax-and-dropout"
    ACTIVATION = "activation-function"
    GATED_ACTIVATION = "gated-activation-function"
    ROUTING = "dispatch-and-combination-of-tokens"
    ADAPTER = "scaling-and-addition-of-adapters"
    DEQUANTISATION = "dequantisation"
    QUANTISATION = "quantisation"
    EMBEDDING = "embedding"
    FINAL_NORMALISATION = "final-normalisation"
    HEAD_TRANSFORM = "activation-and-normalisation-of-the-head"
    CROSS_ENTROPY = "cross-entropy"
    GRADIENT_SUMS = "gradient-sums"
    OPTIMIZER = "optimizer"


@dataclass(frozen=True, kw_only=True)
class MatrixProduct:
    """A batch of products C[m, n] = A[m, k] B[k, n]."""

    m: Num
    n: Num
    k: Num
    batch: Num = 1.0
    element_bytes: Num
    input_bytes: Num | None = None
    """Of an element of A and of B; as of C unless given."""
    packed_bytes: Num | None = None
    """Of an element of B as a weight is stored for inference, with its share of scales; as of A unless given."""
    unpacking: Num = 0.0
    """Arithmetic that costs as much as the way of an element of B to the format of the product [FLOP]."""
    weight_gradient: bool = False
    """Whether C is the gradient of a weight."""
    of_weight: bool = True
    """Whether it belongs to a weight; otherwise all its factors are activations, as in attention."""
    wide: bool = False
    """Whether it stays in 16 bits where the plan's products are in 8: heads, routers, scores of attention."""
    padded: bool = False
    """Whether frameworks pad the weight to widths that the hardware likes, as they do vocabularies."""
    alignment: Num = 1.0
    """Share of the rate that the widths of the weight's rows leave [1]."""
    useful: Num = 1.0
    """Share of its arithmetic that a device has in the mean: the rest is padding, and what the busiest has more [1]."""

    @property
    def flops(self) -> Num:
        """Arithmetic of the mean device, without padding [FLOP]."""
        return self.computed_flops * self.useful

    @property
    def recomputed_flops(self) -> Num:
        """Arithmetic of it that only repeats what a forward pass has done: none [FLOP]."""
        return 0.0

    @property
    def computed_flops(self) -> Num:
        """Arithmetic that the kernel executes [FLOP]."""
        return flops.gemm(self.m, self.n, k=self.k, batch=self.batch)

    @property
    def moved_bytes(self) -> Num:
        """Both factors and the product [B]."""
        return kernels.gemm_traffic(
            self.m,
            self.n,
            k=self.k,
            batch=self.batch,
            element_bytes=self.element_bytes,
            input_bytes=self.input_bytes,
            packed_bytes=self.packed_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class FusedAttention:
    """Softmax(Q K^T) V in one kernel, or its backward pass, which recomputes the scores."""

    queries: Num
    keys: Num
    batch: Num
    heads: Num
    key_value_heads: Num
    head_size: Num
    """Width of a query and of a key."""
    causal: Num
    """1 under a causal mask, else 0."""
    value_head_size: Num | None = None
    """Width of a value; that of a key unless given."""
    backward: bool = False
    portable: Num = 0.0
    """1 where the kernel was not written for the device class, else 0."""

    @property
    def mean_head_size(self) -> Num:
        """Width of a head, as the mean of a key's and of a value's [1]."""
        return self.head_size if self.value_head_size is None else (self.head_size + self.value_head_size) / 2.0

    def _product(self, width: Num) -> Num:
        """Arithmetic of one of its products, not halved for causality [FLOP]."""
        return flops.gemm(self.queries, self.keys, k=width, batch=self.batch * self.heads)

    @property
    def flops(self) -> Num:
        """Arithmetic in full: two products forward, five backward, three of these as wide as a key [FLOP]."""
        of_keys, of_values = (3.0, 2.0) if self.backward else (1.0, 1.0)
        values = self.head_size if self.value_head_size is None else self.value_head_size
        return of_keys * self._product(self.head_size) + of_values * self._product(values)

    @property
    def recomputed_flops(self) -> Num:
        """The scores again, which its backward pass forms as its forward pass did [FLOP]."""
        return self._product(self.head_size) if self.backward else 0.0

    @property
    def computed_flops(self) -> Num:
        """Arithmetic that the kernel executes: half of the scores under a causal mask [FLOP]."""
        return self.flops * (1.0 - 0.5 * np.asarray(self.causal))

    @property
    def moved_bytes(self) -> Num:
        """Queries, keys, values and output, and their gradients; no scores [B]."""
        return kernels.attention_traffic(
            self.queries,
            self.keys,
            batch=self.batch,
            heads=self.heads,
            key_value_heads=self.key_value_heads,
            head_size=self.mean_head_size,
            matmuls=5.0 if self.backward else 2.0,
            element_bytes=_ATTENTION_BYTES,
        )


@dataclass(frozen=True, kw_only=True)
class DecodeAttention:
    """Attention of one new token of each sequence to the keys and values in its cache."""

    context: Num
    """Tokens that it attends to, itself among them: the mean of the batch [token]."""
    batch: Num
    """Sequences [sequence]."""
    heads: Num
    key_value_heads: Num
    """Of the cache; 1 of a latent, which all heads share."""
    head_size: Num
    """Width of a query, and of what it is multiplied with."""
    value_head_size: Num
    """Width of a value."""
    cache_bytes: Num
    """Of an element of the cache, with its share of a scale [B]."""
    is_shared: bool = False
    """Whether values are a part of the keys, as in a latent, so that they are read once."""
    portable: Num = 0.0
    """1 where the kernel was not written for the device class, else 0."""

    @property
    def flops(self) -> Num:
        """Arithmetic of both products [FLOP]."""
        return flops.gemm(1.0, self.context, k=self.head_size + self.value_head_size, batch=self.batch * self.heads)

    @property
    def computed_flops(self) -> Num:
        """Arithmetic that the kernel executes [FLOP]."""
        return self.flops

    @property
    def recomputed_flops(self) -> Num:
        """None [FLOP]."""
        return 0.0

    @property
    def moved_bytes(self) -> Num:
        """Keys and values that are read [B]."""
        return decoding.cache_traffic(
            self.context,
            batch=self.batch,
            key_value_heads=self.key_value_heads,
            head_size=self.head_size,
            value_head_size=0.0 if self.is_shared else self.value_head_size,
            element_bytes=self.cache_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Kernels bound by memory: element-wise, normalisation, softmax, gather."""

    kind: StreamKind
    moved_bytes: Num
    kernels: Num
    reduces: bool = False
    """Whether they reduce, as normalisations and softmax do."""
    backward: bool = False
    drawn: Num = 0.0
    """Random numbers that they draw, for dropout."""

    @property
    def flops(self) -> Num:
        """Arithmetic of matrix products: none [FLOP]."""
        return 0.0

    @property
    def recomputed_flops(self) -> Num:
        """None [FLOP]."""
        return 0.0

    @property
    def computed_flops(self) -> Num:
        """None [FLOP]."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Collective:
    """A collective of `degree` ranks that lie `stride` devices apart."""

    kind: CollectiveKind
    message_bytes: Num
    """The whole message: the gathered or the reduced tensor [B]."""
    degree: Num
    stride: Num
    copies: Num = 1.0
    """Copies of a token of which one travels to each node, and on from there [1]."""
    expert_groups: Num = 1.0
    """Groups of neighbouring ranks of which each token goes to some only [1]."""
    groups_per_token: Num = 1.0
    """To how many of them [1]."""
    busiest: Num = 1.0
    """What the busiest rank sends or receives over the mean of all ranks [1]."""
    one_shot: Num = 0.0
    """1 where each rank may read what all others have and add it up itself, in one kernel, else 0."""

    @property
    def paced_bytes(self) -> Num:
        """The message of the busiest rank, which all wait for [B]."""
        return self.message_bytes * self.busiest


@dataclass(frozen=True, kw_only=True)
class Send:
    """A transfer between neighbouring ranks of such a group, at the slowest place."""

    message_bytes: Num
    degree: Num
    stride: Num


@dataclass(frozen=True, kw_only=True)
class HostCopy:
    """A copy between device and host memory."""

    moved_bytes: Num


@dataclass(frozen=True, kw_only=True)
class HostWork:
    """Work of the host whose time the stack states."""

    seconds: Num


DeviceRequest = MatrixProduct | FusedAttention | DecodeAttention | Stream
"""What a device computes."""
LinkRequest = Collective | Send
"""What links carry."""
Request = MatrixProduct | FusedAttention | DecodeAttention | Stream | Collective | Send | HostCopy | HostWork
"""All kinds."""


def link_request(
    kind: CollectiveKind | Literal["send"], message_bytes: Num, *, degree: Num, stride: Num = 1.0
) -> LinkRequest:
    """The request for a collective of one kind, or for a transfer to a neighbour.

    Parameters
    ----------
    kind
        Which collective, or ``send``.
    message_bytes
        Whole message [B].
    degree, stride
        Ranks of the group [1] and their distance [device].
    """
    if kind == "send":
        return Send(message_bytes=message_bytes, degree=degree, stride=stride)
    return Collective(kind=kind, message_bytes=message_bytes, degree=degree, stride=stride)
