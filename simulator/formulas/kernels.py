"""Bytes that kernels move, the least time it takes, and the time of fused attention and of memory-bound kernels."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num


def gemm_traffic(
    m: Num,
    n: Num,
    *,
    k: Num,
    batch: Num = 1.0,
    element_bytes: Num,
    input_bytes: Num | None = None,
    packed_bytes: Num | None = None,
) -> Num:
    """Bytes of a batch of matrix products that reads its factors once and writes its result once.

    ``batch (u m k + v k n + w m n)``

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
    packed_bytes
        Size of an element of the second factor as it is stored v, a weight's; as of both unless given [B/parameter].

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
    if packed_bytes is not None:
        inputs = element_bytes if input_bytes is None else input_bytes
        return batch * (inputs * m * k + packed_bytes * k * n + element_bytes * m * n)
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


def stream_time(moved_bytes: Num, kernels: Num, *, bandwidth: Num, efficiency: Num, launch: Num) -> Num:
    """Time of kernels that are bound by memory: ``kernels launch + bytes / (bandwidth efficiency)``.

    Parameters
    ----------
    moved_bytes
        Bytes read and written by all the kernels together [B].
    kernels
        Number of kernels [1].
    bandwidth
        Of the device's memory [B/s].
    efficiency
        Share of the bandwidth that is reached [1].
    launch
        Time of an empty kernel [s].

    Returns
    -------
    Num
        Time [s]; broadcast shape of the arguments.

    Notes
    -----
    Valid for tensors larger than the last-level cache; smaller ones are faster.

    Examples
    --------
    >>> print(f"{stream_time(1e9, 1, bandwidth=2.039e12, efficiency=0.85, launch=2.5e-6) * 1e6:.0f} us")
    579 us
    """
    return kernels * launch + moved_bytes / (bandwidth * efficiency)


def attention_time(
    queries: Num,
    keys: Num,
    *,
    batch: Num,
    heads: Num,
    key_value_heads: Num,
    head_size: Num,
    causal: Num,
    matmuls: Num,
    element_bytes: Num,
    peak: Num,
    bandwidth: Num,
    processors: Num,
    efficiency: Num,
    bandwidth_efficiency: Num,
    launch: Num,
    fill: Num,
    causal_block: Num,
) -> Num:
    """Time of fused (flash) attention: waves of blocks of 128 queries, against bytes over bandwidth.

    ::

        blocks  = ceil(queries / 128) batch heads
        waves   = max(1, blocks / processors)           # whole while the grid is smaller than the chip
        length  = keys (1 - causal / 2 (1 - 1 / ceil(queries / causal_block))) + fill
        compute = waves 2 matmuls 128 head_size length / (peak / processors efficiency share(head_size))
        memory  = w batch head_size (2 heads queries + 2 key_value_heads keys) matmuls / 2 / (bandwidth ...)
        time    = launch + (compute^3 + memory^3)^(1/3)

    A causal grid smaller than the chip is paced by its longest row. Heads narrower than 128 use a smaller share of
    the matrix units: ``share = (d / 128)^0.3`` up to 1.

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
        Width of a head [1].
    causal
        1 where a query sees only keys before it, else 0 [1].
    matmuls
        Products of the pass: 2 forward, 5 backward [1].
    element_bytes
        Size of an element [B].
    peak
        Peak rate of the number format [FLOP/s].
    bandwidth
        Of the device's memory [B/s].
    processors
        Streaming multiprocessors [1].
    efficiency
        Share of the peak at head size 128 [1].
    bandwidth_efficiency
        Share of the bandwidth [1].
    launch
        Time of an empty kernel [s].
    fill
        Keys' worth of time to fill the pipeline of one block [token].
    causal_block
        Keys that are left out at a time, where all of them come after a block of queries [token].

    Returns
    -------
    Num
        Time [s]; broadcast shape of the arguments.

    Notes
    -----
    Valid for self- and cross-attention of at least one key.

    References
    ----------
    Dao, FlashAttention-2, arXiv 2307.08691, for blocks and the count of products; constants from public tables.

    Examples
    --------
    Forward, causal, 32 heads of 128, one sequence of 4096 tokens on an A100.

    >>> t = attention_time(4096, 4096, batch=1, heads=32, key_value_heads=8, head_size=128, causal=1, matmuls=2,
    ...     element_bytes=2, peak=312e12, bandwidth=2.039e12, processors=108, efficiency=0.6,
    ...     bandwidth_efficiency=0.45, launch=8e-6, fill=100, causal_block=128)
    >>> print(f"{t * 1e6:.0f} us")
    801 us
    """
    blocks = np.ceil(np.asarray(queries) / 128.0) * batch * heads
    skipped = 1.0 - 1.0 / np.ceil(np.asarray(queries) / causal_block)
    crowded = np.minimum(1.0, blocks / processors)
    waves = np.maximum(1.0, blocks / processors)
    length = keys * (1.0 - 0.5 * causal * crowded * skipped) + fill
    share = np.minimum(1.0, np.asarray(head_size) / 128.0) ** 0.3
    compute = waves * 2.0 * matmuls * 128.0 * head_size * length / (peak / processors * efficiency * share)
    traffic = attention_traffic(
        queries,
        keys,
        batch=batch,
        heads=heads,
        key_value_heads=key_value_heads,
        head_size=head_size,
        matmuls=matmuls,
        element_bytes=element_bytes,
    )
    memory = traffic / (bandwidth * bandwidth_efficiency)
    return launch + (compute**3.0 + memory**3.0) ** (1.0 / 3.0)
