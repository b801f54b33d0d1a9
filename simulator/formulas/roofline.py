"""Bytes that kernels must move, and the time below which no device of a peak rate and a bandwidth can stay."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num


def gemm_traffic(
    m: Num, n: Num, *, k: Num, batch: Num = 1.0, element_bytes: Num, input_bytes: Num | None = None
) -> Num:
    """Bytes of a batch of matrix products that reads its factors once and writes its result once.

    ``batch (u (m k + k n) + w m n)``

    Parameters
    ----------
    m
        Rows of the output [1].
    n
        Columns of the output [1].
    k
        Inner size [1].
    batch
        Number of such products [1].
    element_bytes
        Size of an element of the output w [B].
    input_bytes
        Size of an element of the factors u; as of the output unless given [B].

    Returns
    -------
    Num
        Bytes read and written [B]; broadcast shape of the arguments.

    Notes
    -----
    A lower bound: tiles that the cache does not keep are read again.

    References
    ----------
    NVIDIA, Matrix Multiplication Background User's Guide, section 2: arithmetic intensity.

    Examples
    --------
    The guide's product of 8192 x 128 x 8192 in half precision does 124.1 FLOP a byte.

    >>> bytes_moved = gemm_traffic(8192, 8192, k=128, element_bytes=2)
    >>> print(f"{2 * 8192 * 8192 * 128 / bytes_moved:.1f}")
    124.1
    """
    if input_bytes is None:
        return element_bytes * batch * (m * k + k * n + m * n)
    return batch * (input_bytes * (m * k + k * n) + element_bytes * m * n)


def attention_traffic(
    queries: Num,
    keys: Num,
    *,
    batch: Num,
    heads: Num,
    key_value_heads: Num,
    head_size: Num,
    matmuls: Num,
    element_bytes: Num,
) -> Num:
    """Bytes of fused attention, which never writes its scores.

    Queries and results, keys and values cross once for every two products:
    ``w b d (2 heads queries + 2 key_value_heads keys) matmuls / 2``

    Parameters
    ----------
    queries
        Queries of one sequence [token].
    keys
        Keys of one sequence [token].
    batch
        Sequences [sequence].
    heads
        Query heads on this device [1].
    key_value_heads
        Key and value heads on this device [1].
    head_size
        Width of a head d [1].
    matmuls
        Products of the pass: 2 forward, 5 backward [1].
    element_bytes
        Size of an element w [B].

    Returns
    -------
    Num
        Bytes read and written [B]; broadcast shape of the arguments.

    References
    ----------
    Dao et al., FlashAttention, arXiv 2205.14135, section 3.2: scores stay on the chip.

    Examples
    --------
    Forward, 32 heads of 128 and 8 of keys, one sequence of 4096 tokens in bfloat16; its scores would be 1 GB.

    >>> moved = attention_traffic(4096, 4096, batch=1, heads=32, key_value_heads=8, head_size=128, matmuls=2,
    ...     element_bytes=2)
    >>> print(f"{moved / 1e6:.0f} MB")
    84 MB
    """
    operands = batch * head_size * (2.0 * heads * queries + 2.0 * key_value_heads * keys)
    return element_bytes * operands * matmuls / 2.0


def shortest_time(flops: Num, moved_bytes: Num, *, peak: Num, bandwidth: Num) -> Num:
    """Time below which nothing can stay that computes and moves so much: ``max(flops / peak, bytes / bandwidth)``.

    Parameters
    ----------
    flops
        Arithmetic [FLOP].
    moved_bytes
        Bytes read and written [B].
    peak
        Peak rate of the number format [FLOP/s].
    bandwidth
        Of the device's memory [B/s].

    Returns
    -------
    Num
        Time [s]; broadcast shape of the arguments.

    References
    ----------
    Williams, Waterman and Patterson, Roofline, CACM 52, 2009.

    Examples
    --------
    An A100 at 124.1 FLOP a byte is bound by its memory: its ridge is at 153.

    >>> float(shortest_time(124.1e9, 1e9, peak=312e12, bandwidth=2.039e12) / (1e9 / 2.039e12)), round(312 / 2.039)
    (1.0, 153)
    """
    return np.maximum(flops / peak, moved_bytes / bandwidth)
