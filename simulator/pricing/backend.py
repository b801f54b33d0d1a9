"""What every backend can price."""

from __future__ import annotations

from typing import Literal, Protocol

from simulator.formulas.typing import Num

CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]


class Backend(Protocol):
    """Times of kernels, collectives and copies [s]; every argument may be an array, and arrays broadcast."""

    @property
    def name(self) -> str:
        """`analytic` or `measured`."""

    def gemm(
        self,
        m: Num,
        n: Num,
        *,
        k: Num,
        batch: Num,
        element_bytes: Num,
        weight_gradient: Num,
        alignment: Num = 1.0,
    ) -> Num:
        """A batch of matrix products C[m, n] = A[m, k] B[k, n].

        `weight_gradient` is 1 where it is one; `alignment` is the share of the rate that the widths of rows leave.
        """

    def attention(
        self,
        queries: Num,
        keys: Num,
        *,
        batch: Num,
        heads: Num,
        key_value_heads: Num,
        head_size: Num,
        causal: Num,
        backward: bool,
        portable: Num = 0.0,
    ) -> Num:
        """Fused attention, forward or backward; `portable` is 1 for kernels not written for the device class."""

    def stream(
        self,
        moved_bytes: Num,
        kernels: Num,
        *,
        reduces: bool,
        kind: str = "",
        backward: bool = False,
        drawn: Num = 0.0,
    ) -> Num:
        """Kernels bound by memory; `reduces` for normalisation and softmax, `kind` says more exactly what they do.

        `drawn` is how many random numbers they draw, for dropout.
        """

    def collective(
        self, kind: CollectiveKind, message_bytes: Num, *, degree: Num, stride: Num, copies: Num = 1.0
    ) -> Num:
        """A collective of `degree` ranks that lie `stride` devices apart; of so many copies one travels to a unit."""

    def send(self, message_bytes: Num, *, degree: Num, stride: Num) -> Num:
        """A transfer between neighbouring ranks of such a group, at the slowest place."""

    def host_copy(self, moved_bytes: Num) -> Num:
        """A copy between device and host memory."""
