"""Backends asked for single requests, in few words."""

from __future__ import annotations

from typing import Any

from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.pricing.requests import FusedAttention, MatrixProduct, Stream, StreamKind, link_request


def gemm(backend: Backend, m: Num, n: Num, **sizes: Any) -> Num:
    """Time of a product [s]."""
    return backend.time(MatrixProduct(m=m, n=n, **sizes))


def attention(backend: Backend, queries: Num, keys: Num, **sizes: Any) -> Num:
    """Time of fused attention [s]."""
    return backend.time(FusedAttention(queries=queries, keys=keys, **sizes))


def stream(backend: Backend, moved_bytes: Num, kernels: Num, kind: StreamKind = StreamKind.RESIDUAL, **how: Any) -> Num:
    """Time of kernels that are bound by memory [s]."""
    return backend.time(Stream(kind=kind, moved_bytes=moved_bytes, kernels=kernels, **how))


def exchange(backend: Backend, kind: Any, message_bytes: Num, *, degree: Num, stride: Num = 1.0) -> Num:
    """Time of a collective, or of a transfer to a neighbour [s]."""
    return backend.time(link_request(kind, message_bytes, degree=degree, stride=stride))
