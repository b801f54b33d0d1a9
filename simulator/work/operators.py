"""Typed operators: what a device executes, with its time, its arithmetic, and what it keeps for the backward pass.

Every number may be an array with one entry a plan; arrays broadcast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulator.formulas import flops, matmul, roofline
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend, CollectiveKind

Part = Literal[
    "attention_projections",
    "attention",
    "feed_forward",
    "normalisation",
    "elementwise",
    "embedding",
    "head",
    "tensor_parallel",
    "context_parallel",
    "expert_parallel",
]
"""Parts of the compute of a step, as the breakdown of an estimate names them."""

_ATTENTION_BYTES = 2.0
"""Fused attention works in 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Operator(ABC):
    """Something a device executes once for each micro-batch, forward and backward."""

    name: str
    part: Part
    saved: Num = 0.0
    """Bytes kept for the backward pass."""
    widest: Num = 0.0
    """Bytes of a tensor whose gradient is large enough to count while it exists."""
    parameters: Num = 0.0
    """Parameters of this device's part."""
    partial_parameters: Num = 0.0
    """Those of them whose gradient, under sequence parallelism, each tensor-parallel rank has of its tokens only."""
    of_experts: Num = 0.0
    """1 where the parameters are an expert's, which expert parallelism divides, else 0."""
    in_attention: bool = False
    """Whether selective recomputation drops and repeats it."""
    output_unused: Num = 0.0
    """Whether no backward pass needs its output, so that a compiler can leave it out of a recomputation."""
    output_kept: bool = False
    """Whether selective recomputation keeps its output, so that a compiler can leave it out of that one."""
    forward_kernels: Num = 1.0
    backward_kernels: Num = 1.0

    @abstractmethod
    def forward_time(self, backend: Backend) -> Num:
        """Time of the forward pass [s]."""

    @abstractmethod
    def backward_time(self, backend: Backend) -> Num:
        """Time of the backward pass [s]."""

    @property
    def cast_parameters(self) -> Num:
        """Parameters that automatic casts keep in 16 bits besides: those of products."""
        return 0.0

    @property
    def forward_flops(self) -> Num:
        """Arithmetic of matrix products, forward [FLOP]."""
        return 0.0

    @property
    def backward_flops(self) -> Num:
        """Arithmetic of matrix products, backward [FLOP]."""
        return 0.0

    @property
    def forward_traffic(self) -> Num:
        """Bytes that cross the memory bus at least, forward [B]."""
        return 0.0

    @property
    def backward_traffic(self) -> Num:
        """Bytes that cross the memory bus at least, backward [B]."""
        return 0.0

    @property
    def computed_share(self) -> Num:
        """Share of the arithmetic that kernels execute; of what a causal mask hides they leave out most."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Gemm(Operator):
    """Products C[m, n] = A[m, k] B[k, n], `count` calls of `batch` each."""

    m: Num
    n: Num
    k: Num
    batch: Num = 1.0
    count: Num = 1.0
    element_bytes: Num
    has_weight: bool = True
    """Whether B is a weight; otherwise both factors are activations, as in attention."""
    has_input_gradient: bool = True
    """Whether A has a gradient; tables of positions have none."""
    efficiency: Num = 1.0
    """Rate of the stack's kernels over the device class's."""
    padded: bool = False
    """Whether frameworks pad B to widths that the hardware likes, as they do vocabularies."""
    tied_parameters: Num = 0.0
    """Weights that another operator counts among its own."""

    @property
    def cast_parameters(self) -> Num:
        """Weights and biases."""
        return self.parameters + self.tied_parameters

    @property
    def _alignment(self) -> Num:
        """Share of the rate that the widths of a weight's rows leave."""
        return 1.0 if self.padded or not self.has_weight else matmul.alignment_share(self.n, self.k)

    def forward_time(self, backend: Backend) -> Num:
        """One product."""
        time = backend.gemm(
            self.m,
            self.n,
            k=self.k,
            batch=self.batch,
            element_bytes=self.element_bytes,
            weight_gradient=0.0,
            alignment=self._alignment,
        )
        return self.count * time / self.efficiency

    def backward_time(self, backend: Backend) -> Num:
        """Two products: gradient of A, dC B^T, where it has one, and gradient of B, A^T dC."""
        shared = {"batch": self.batch, "element_bytes": self.element_bytes, "alignment": self._alignment}
        first = backend.gemm(self.m, self.k, k=self.n, weight_gradient=0.0, **shared)
        second = backend.gemm(self.k, self.n, k=self.m, weight_gradient=float(self.has_weight), **shared)
        return self.count * (float(self.has_input_gradient) * first + second) / self.efficiency

    @property
    def forward_flops(self) -> Num:
        """Arithmetic of the product."""
        return self.count * flops.gemm(self.m, self.n, k=self.k, batch=self.batch)

    @property
    def backward_flops(self) -> Num:
        """Arithmetic of the two products."""
        return (1.0 + float(self.has_input_gradient)) * self.forward_flops

    @property
    def forward_traffic(self) -> Num:
        """Both factors and the product."""
        moved = roofline.gemm_traffic(self.m, self.n, k=self.k, batch=self.batch, element_bytes=self.element_bytes)
        return self.count * moved

    @property
    def backward_traffic(self) -> Num:
        """The same for each of the two products."""
        return (1.0 + float(self.has_input_gradient)) * self.forward_traffic


@dataclass(frozen=True, kw_only=True)
class FusedAttention(Operator):
    """Softmax(Q K^T) V in one kernel, which recomputes the scores in its backward pass."""

    queries: Num
    keys: Num
    batch: Num
    heads: Num
    key_value_heads: Num
    head_size: Num
    causal: Num
    efficiency: Num = 1.0
    """Rate of the stack's kernel over the device class's."""
    portable: Num = 0.0
    """1 where the stack's kernel was not written for the device class, else 0."""
    used: Num = 1.0
    """1 where the stack fuses attention, else 0."""

    def _time(self, backend: Backend, *, backward: bool) -> Num:
        time = backend.attention(
            self.queries,
            self.keys,
            batch=self.batch,
            heads=self.heads,
            key_value_heads=self.key_value_heads,
            head_size=self.head_size,
            causal=self.causal,
            backward=backward,
            portable=self.portable,
        )
        return self.used * time / self.efficiency

    def forward_time(self, backend: Backend) -> Num:
        """The kernel."""
        return self._time(backend, backward=False)

    def backward_time(self, backend: Backend) -> Num:
        """The kernel that recomputes the scores and forms the gradients of Q, K and V."""
        return self._time(backend, backward=True)

    @property
    def _product_flops(self) -> Num:
        """Arithmetic of one of its products, not halved for causality."""
        rows = self.batch * self.heads
        return self.used * flops.gemm(self.queries, self.keys, k=self.head_size, batch=rows)

    @property
    def forward_flops(self) -> Num:
        """Two products."""
        return 2.0 * self._product_flops

    @property
    def backward_flops(self) -> Num:
        """Four products of the backward pass; the recomputed fifth is counted as recomputation."""
        return 4.0 * self._product_flops

    @property
    def recomputed_flops(self) -> Num:
        """The scores again."""
        return self._product_flops

    def _traffic(self, matmuls: float) -> Num:
        return self.used * roofline.attention_traffic(
            self.queries,
            self.keys,
            batch=self.batch,
            heads=self.heads,
            key_value_heads=self.key_value_heads,
            head_size=self.head_size,
            matmuls=matmuls,
            element_bytes=_ATTENTION_BYTES,
        )

    @property
    def forward_traffic(self) -> Num:
        """Of two products, without scores."""
        return self._traffic(2.0)

    @property
    def backward_traffic(self) -> Num:
        """Of five products, without scores."""
        return self._traffic(5.0)

    @property
    def computed_share(self) -> Num:
        """Half of the scores, under a causal mask."""
        return 1.0 - 0.5 * np.asarray(self.causal)


@dataclass(frozen=True, kw_only=True)
class Stream(Operator):
    """Kernels bound by memory: element-wise, normalisation, softmax, gather."""

    forward_bytes: Num
    backward_bytes: Num
    reduces: bool = False
    kind: str = ""
    """What its kernels do, where the name does not say it."""
    drawn: Num = 0.0
    """Random numbers that the forward pass draws for dropout."""
    efficiency: Num = 1.0
    """Rate of the stack's kernels over the device class's."""

    def forward_time(self, backend: Backend) -> Num:
        """Bytes over bandwidth."""
        time = backend.stream(
            self.forward_bytes,
            self.forward_kernels,
            reduces=self.reduces,
            kind=self.kind or self.name,
            drawn=self.drawn,
        )
        return time / self.efficiency

    def backward_time(self, backend: Backend) -> Num:
        """Bytes over bandwidth."""
        time = backend.stream(
            self.backward_bytes,
            self.backward_kernels,
            reduces=self.reduces,
            kind=self.kind or self.name,
            backward=True,
        )
        return time / self.efficiency

    @property
    def forward_traffic(self) -> Num:
        """What it reads and writes."""
        return self.forward_bytes

    @property
    def backward_traffic(self) -> Num:
        """What it reads and writes."""
        return self.backward_bytes


@dataclass(frozen=True, kw_only=True)
class Exchange(Operator):
    """Collectives of one kind and size among the ranks of a group, so many forward and backward."""

    kind: CollectiveKind
    message_bytes: Num
    degree: Num
    stride: Num
    forward_count: Num
    backward_count: Num
    exposed: Num = 1.0
    """Share of its time that is not hidden behind other work."""
    copies: Num = 1.0
    """Copies of a token of which one travels to each node."""

    def _time(self, backend: Backend) -> Num:
        time = backend.collective(
            self.kind, self.message_bytes, degree=self.degree, stride=self.stride, copies=self.copies
        )
        return self.exposed * time

    def forward_time(self, backend: Backend) -> Num:
        """Exposed time."""
        return self.forward_count * self._time(backend)

    def backward_time(self, backend: Backend) -> Num:
        """Exposed time."""
        return self.backward_count * self._time(backend)


@dataclass(frozen=True, kw_only=True)
class Ring(Operator):
    """Keys and values passed around a ring of context-parallel ranks, behind the attention of each part."""

    message_bytes: Num
    """Keys and values of one rank."""
    degree: Num
    stride: Num
    exposed: Num = 1.0

    def forward_time(self, backend: Backend) -> Num:
        """One transfer less than ranks."""
        hops = self.degree - 1.0
        return self.exposed * hops * backend.send(self.message_bytes, degree=self.degree, stride=self.stride)

    def backward_time(self, backend: Backend) -> Num:
        """Keys and values again, and their gradients."""
        return 2.0 * self.forward_time(backend)
