"""Kernels of decoding: attention of single tokens over a cache, products of few rows, and the experts they touch."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num

_ROWS_OF_HEADS = 64.0
"""Query heads of one key head that a kernel multiplies at once: fewer of them leave rows of the matrix units empty."""
_ROWS = 16.0
"""Rows that the smallest instruction of the matrix units takes."""


def cache_traffic(
    context: Num,
    *,
    batch: Num,
    key_value_heads: Num,
    head_size: Num,
    value_head_size: Num,
    element_bytes: Num,
) -> Num:
    """Bytes of the keys and values that one token of each sequence attends to.

    ``w b c heads (d_k + d_v)``

    Parameters
    ----------
    context
        Tokens of one sequence in the cache, the new one with them c [token].
    batch
        Sequences b [sequence].
    key_value_heads
        Heads of keys and values on this device; 1 of a latent that all heads share [1].
    head_size
        Width of a key d_k; of a latent with the keys that carry positions [1].
    value_head_size
        Width of a value d_v; 0 of a latent, which is key and value at once [1].
    element_bytes
        Size of an element of the cache w, its share of a scale with it [B].

    Returns
    -------
    Num
        Bytes read [B]; broadcast shape of the arguments.

    References
    ----------
    Pope et al., Efficiently Scaling Transformer Inference, arXiv 2211.05102, section 3.3; DeepSeek-AI, DeepSeek-V2,
    arXiv 2405.04434, table 1, for latents.

    Examples
    --------
    A sequence of 8,192 tokens of one layer of Llama 3 70B in bfloat16, and of DeepSeek-V3, whose latent has 512 + 64.

    >>> both = {"batch": 1, "element_bytes": 2}
    >>> float(cache_traffic(8192, key_value_heads=8, head_size=128, value_head_size=128, **both)) / 2**20
    32.0
    >>> float(cache_traffic(8192, key_value_heads=1, head_size=576, value_head_size=0, **both)) / 2**20
    9.0
    """
    return element_bytes * batch * context * key_value_heads * (np.asarray(head_size) + value_head_size)


def decode_attention_time(
    moved_bytes: Num,
    flops: Num,
    *,
    batch: Num,
    heads: Num,
    key_value_heads: Num,
    peak: Num,
    bandwidth: Num,
    processors: Num,
    efficiency: Num,
    bandwidth_efficiency: Num,
    launch: Num,
    each: Num,
    ramp: Num,
) -> Num:
    """Time of attention of one token of each sequence over its cache, whose keys are split over all processors.

    ::

        memory  = bytes / (bandwidth bandwidth_efficiency)
        compute = flops 64 ceil(g / 64) / g / (peak efficiency)        with g = heads / key_value_heads
        time    = launch + each batch key_value_heads / processors + ramp sqrt(bytes)
                  + (memory^3 + compute^3)^(1/3)

    The cache is read once, whatever the number of queries that share a key head: the kernel is bound by memory until so
    many of them share one that the matrix units, which multiply 64 rows at a time, are.

    Parameters
    ----------
    moved_bytes
        Keys and values that are read [B].
    flops
        Arithmetic of both products [FLOP].
    batch
        Sequences [sequence].
    heads
        Query heads on this device [1].
    key_value_heads
        Heads of keys and values on this device [1].
    peak
        Peak rate of the number format [FLOP/s].
    bandwidth
        Of the device's memory [B/s].
    processors
        Streaming multiprocessors [1].
    efficiency
        Share of the peak that padded rows reach [1].
    bandwidth_efficiency
        Share of the bandwidth in a long stream [1].
    launch
        Time of an empty kernel, the one that joins the splits with it [s].
    each
        Time that one processor needs to begin and end one sequence's key head [s].
    ramp
        Time lost while the rate rises, over the root of the bytes [s/B^0.5].

    Returns
    -------
    Num
        Time [s]; broadcast shape of the arguments.

    Notes
    -----
    Valid for at least one token of context. On the tables that the form was chosen on its median error is 5 to 15 %, on
    caches above 200 MB 2 to 9 %.

    References
    ----------
    Dao et al., Flash-Decoding for long-context inference, 2023, for the split of the keys; the form was fitted on
    tables of aiconfigurator (TensorRT-LLM, vLLM, SGLang on A100, H100, H200, B200).

    Examples
    --------
    64 sequences of 8,192 tokens with 8 key heads of 128 on an H100.

    >>> moved = cache_traffic(8192, batch=64, key_value_heads=8, head_size=128, value_head_size=128, element_bytes=2)
    >>> t = decode_attention_time(moved, 4 * 64 * 32 * 128 * 8192, batch=64, heads=32, key_value_heads=8, peak=989e12,
    ...     bandwidth=3.35e12, processors=132, efficiency=0.6, bandwidth_efficiency=0.95, launch=10e-6, each=1e-6,
    ...     ramp=5e-10)
    >>> print(f"{t * 1e6:.0f} us, {moved / 3.35e12 / t:.0%}")
    721 us, 89%
    """
    shared = np.asarray(heads) / key_value_heads
    padded = _ROWS_OF_HEADS * np.ceil(shared / _ROWS_OF_HEADS) / shared
    memory = moved_bytes / (np.asarray(bandwidth) * bandwidth_efficiency)
    compute = flops * padded / (np.asarray(peak) * efficiency)
    begun = each * batch * key_value_heads / np.asarray(processors)
    rising = ramp * np.sqrt(np.asarray(moved_bytes))
    time: Num = launch + begun + rising + (memory**3.0 + compute**3.0) ** (1.0 / 3.0)
    return time


def streamed_gemm_time(
    m: Num,
    n: Num,
    *,
    k: Num,
    batch: Num = 1.0,
    element_bytes: Num,
    input_bytes: Num,
    packed_bytes: Num,
    peak: Num,
    bandwidth: Num,
    efficiency: Num,
    bandwidth_efficiency: Num,
    launch: Num,
    unpacking: Num,
) -> Num:
    """Time of products of few rows, which stream their weights once (GEMV and its kin).

    ::

        compute = batch k n (2 16 ceil(m / 16) + unpacking) / (peak efficiency)
        memory  = batch (u m k + v k n + w m n) / (bandwidth bandwidth_efficiency)
        time    = launch + (compute^3 + memory^3)^(1/3)

    Parameters
    ----------
    m
        Rows, tokens [1].
    n
        Columns of the output [1].
    k
        Inner size [1].
    batch
        Number of such products in one call, as of the experts that are touched [1].
    element_bytes
        Size of an element of the output w [B].
    input_bytes
        Size of an element of the rows u [B].
    packed_bytes
        Size of a weight as it is stored, its share of scales with it v [B/parameter].
    peak
        Peak rate of the format that is multiplied in [FLOP/s].
    bandwidth
        Of the device's memory [B/s].
    efficiency
        Share of the peak that such kernels reach [1].
    bandwidth_efficiency
        Share of the bandwidth in a long stream of weights [1].
    launch
        Time of an empty kernel [s].
    unpacking
        Arithmetic at that rate that one weight's way to the format of products costs; 0 where it is stored in it
        [FLOP].

    Returns
    -------
    Num
        Time of the call [s]; broadcast shape of the arguments.

    Notes
    -----
    Valid from one row on; from some hundred rows on tiled kernels, `simulator.formulas.matmul`, are faster.

    References
    ----------
    Frantar et al., MARLIN: Mixed-Precision Auto-Regressive Parallel Inference, arXiv 2408.11743, sections 2 and 3:
    bound by the bytes of the weights up to batches of 16 to 32, with rows in multiples of 16.

    Examples
    --------
    One token through 4,096 x 11,008 weights on an A100, in bfloat16 and in 4 bits with scales for groups of 128.

    >>> shared = {"k": 4096, "element_bytes": 2, "input_bytes": 2, "peak": 312e12, "bandwidth": 2.039e12,
    ...     "efficiency": 0.6, "bandwidth_efficiency": 0.85, "launch": 3e-6}
    >>> full = streamed_gemm_time(1, 11008, packed_bytes=2, unpacking=0, **shared)
    >>> packed = streamed_gemm_time(1, 11008, packed_bytes=4.25 / 8, unpacking=32, **shared)
    >>> print(f"{full * 1e6:.0f} us, {packed * 1e6:.0f} us")
    55 us, 21 us
    """
    rows = _ROWS * np.ceil(np.asarray(m) / _ROWS)
    compute = batch * k * n * (2.0 * rows + unpacking) / (np.asarray(peak) * efficiency)
    moved = batch * (input_bytes * m * k + packed_bytes * k * n + element_bytes * m * n)
    memory = moved / (np.asarray(bandwidth) * bandwidth_efficiency)
    time: Num = launch + (compute**3.0 + memory**3.0) ** (1.0 / 3.0)
    return time


def touched_experts(tokens: Num, experts: Num, *, chosen: Num) -> Num:
    """Experts that a batch of tokens needs in the mean, each of which chooses by itself and all alike.

    ``E (1 - (1 - k / E)^t)``

    Parameters
    ----------
    tokens
        Tokens t of the batch [token].
    experts
        Experts E of the layer [1].
    chosen
        Experts k that a token goes to [1].

    Returns
    -------
    Num
        Distinct experts [1]; broadcast shape of the arguments.

    Notes
    -----
    Exact for a uniform choice of k distinct experts a token. Real routers prefer some experts and neighbouring tokens
    alike ones, so that a batch touches somewhat fewer.

    Examples
    --------
    Mixtral chooses 2 of 8: four tokens need 5.5 of them, sixteen 7.9; one token of DeepSeek-V3 needs its 8 of 256.

    >>> [round(float(touched_experts(tokens, 8, chosen=2)), 1) for tokens in (1, 4, 16)]
    [2.0, 5.5, 7.9]
    >>> round(float(touched_experts(1, 256, chosen=8)), 6)
    8.0
    """
    missed = np.clip(1.0 - np.asarray(chosen) / experts, 0.0, 1.0)
    touched: Num = experts * (1.0 - missed ** np.asarray(tokens))
    return touched


def direct_all_reduce_time(message_bytes: Num, degree: Num, *, latency: Num, latency_per_rank: Num, rate: Num) -> Num:
    """Time of an all-reduce in one kernel, in which every rank reads what the others have over switched links.

    ``s + min((n - 1) S / rate, s + 2 (n - 1) / n S / rate)`` with ``s = 0.45 latency + 0.25 latency_per_rank (n - 1)``:
    in one shot each rank adds up everything, in two each adds up its part and then reads those of the others. The
    shares are what is left of the latencies of a ring.

    Parameters
    ----------
    message_bytes
        The whole message S [B].
    degree
        Ranks n [1].
    latency
        Of an empty collective of the library's [s].
    latency_per_rank
        What each rank adds to it [s].
    rate
        Of one device in a long collective [B/s].

    Returns
    -------
    Num
        Time [s]; broadcast shape of the arguments.

    Notes
    -----
    Valid for messages up to some megabytes within a node; the median error on tables of A100, H100 and B200 (vLLM,
    SGLang, TensorRT-LLM, 1 kB to 4 MB, aiconfigurator) is about a sixth.

    References
    ----------
    `csrc/custom_all_reduce.cuh` of vLLM and `customAllReduceKernels.cu` of TensorRT-LLM: one shot and two shots.

    Examples
    --------
    16 kB and 1 MB of eight H100, which took 3.6 to 5.3 and 13.5 to 26 us.

    >>> shared = {"latency": 4.6e-6, "latency_per_rank": 0.87e-6, "rate": 378e9}
    >>> [round(float(direct_all_reduce_time(size, 8, **shared)) * 1e6, 1) for size in (16384, 2**20)]
    [3.9, 12.0]
    """
    others = np.asarray(degree) - 1.0
    start = 0.45 * latency + 0.25 * np.asarray(latency_per_rank) * others
    one_shot = others * message_bytes / rate
    two_shots = start + 2.0 * others / degree * message_bytes / rate
    time: Num = start + np.minimum(one_shot, two_shots)
    return time
