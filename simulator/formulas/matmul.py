"""Time of matrix products: waves of tiles on a GPU, systolic arrays of a TPU, vector units of processor cores."""

from __future__ import annotations

import numpy as np

from simulator.formulas.kernels import gemm_traffic
from simulator.formulas.typing import Num

_SPLITS = (1.0, 2.0, 4.0, 8.0, 16.0)
_TILES = (
    (256.0, 128.0, (1.0,)),
    (128.0, 256.0, (1.0,)),
    (128.0, 128.0, _SPLITS),
    (64.0, 64.0, _SPLITS),
)
"""Output tiles of a matrix-multiplication library, and over how many blocks the inner size may be split."""
_SOFTNESS = 3.3
"""Exponent of the norm that joins compute and memory time: they overlap, but not perfectly."""
_BURST = 2e-3
"""Calls shorter than this run at burst clocks [s]."""
_SYSTOLIC = 128.0
"""Rows and columns of one systolic array."""


def alignment_share(n: Num, k: Num) -> Num:
    """Share of the rate of matrix products that rows of such widths leave on tensor cores.

    Products in fp32, which other units compute, keep all of it: `hardware.classes.DeviceClass.is_aligned`.

    Parameters
    ----------
    n
        Columns of the output [1].
    k
        Inner size [1].

    Returns
    -------
    Num
        1 where both are multiples of 64, and 0.08 less for every halving of the largest power of two that divides
        both: 0.76 for multiples of 8 only [1].

    References
    ----------
    NVIDIA, Matrix Multiplication Background User's Guide: rows should be multiples of 128 bytes on A100. The slope is
    a reading of the guide's charts.

    Examples
    --------
    >>> float(alignment_share(4096, 1024)), round(float(alignment_share(5400, 14400)), 2)
    (1.0, 0.76)
    """
    power = np.minimum(_power_of_two(n), _power_of_two(k))
    return np.asarray(1.0 - 0.08 * (6.0 - power))


def _power_of_two(size: Num) -> Num:
    """The exponent, up to 6, of the largest power of two that divides a size; of what is not whole, of its part."""
    whole = np.asarray(np.floor(np.asarray(size, dtype=float)))
    power: Num = np.zeros_like(whole)
    for exponent in range(1, 7):
        power = np.where(np.mod(whole, 2.0**exponent) == 0.0, float(exponent), power)
    return power


def gemm_time(
    m: Num,
    n: Num,
    *,
    k: Num,
    batch: Num = 1.0,
    element_bytes: Num,
    input_bytes: Num | None = None,
    packed_bytes: Num | None = None,
    peak: Num,
    bandwidth: Num,
    processors: Num,
    efficiency: Num,
    bandwidth_efficiency: Num,
    launch: Num,
    fill: Num,
    small_tile: Num,
    sustained: Num,
) -> Num:
    """Time of a batch of matrix products on a GPU: waves of output tiles, against bytes over bandwidth.

    For every tile ``tm x tn`` and split ``z`` of the inner size ::

        waves   = max(1, ceil(ceil(m / tm) ceil(n / tn) batch z / processors))
        E       = (1 + 3 a / 256) / (1 + a (1 / tm + 1 / tn))
        compute = waves 2 tm tn (32 ceil(k / 32 z) + fill) / (peak / processors efficiency E)
        memory  = (batch (u (mk + kn) + w mn) + 8 z batch m n [z > 1]) / (bandwidth bandwidth_efficiency)
        time    = launch + min over tiles and splits (compute^3.3 + memory^3.3)^(1/3.3) / clock

    where the clock falls from 1 to `sustained` as a call grows from 2 ms to 20 ms.

    Parameters
    ----------
    m
        Rows of the output [1].
    n
        Columns of the output [1].
    k
        Inner size [1].
    batch
        Number of such products in one call [1].
    element_bytes
        Size of an element of the output w [B].
    input_bytes
        Size of an element of the factors u; as of the output unless given [B].
    packed_bytes
        Size of an element of the second factor as it is stored; as of both unless given [B/parameter].
    peak
        Peak rate of the number format [FLOP/s].
    bandwidth
        Of the device's memory [B/s].
    processors
        Streaming multiprocessors [1].
    efficiency
        Share of the peak inside the main loop [1].
    bandwidth_efficiency
        Share of the bandwidth while streaming [1].
    launch
        Time of an empty kernel [s].
    fill
        Depth of the inner size lost to filling the pipeline [1].
    small_tile
        Extra traffic of small tiles a [1].
    sustained
        Clock under long load over burst clock [1].

    Returns
    -------
    Num
        Time of the call [s]; broadcast shape of the arguments.

    Notes
    -----
    Valid for sizes of at least 1. On shapes that were not fitted the median error is 3 to 5 % for large products on
    A100, H100, H200 and B200, which is the repeatability of the tables it was fitted to.

    References
    ----------
    The form was chosen and fitted on public tables of measured products (aiconfigurator, vidur, NeuSight).

    Examples
    --------
    A feed-forward product of BERT-large on an A100: 1024 -> 4096 for 8 sequences of 512 tokens in bfloat16.

    >>> t = gemm_time(4096, 4096, k=1024, element_bytes=2, peak=312e12, bandwidth=2.039e12, processors=108,
    ...     efficiency=0.935, bandwidth_efficiency=0.77, launch=3.8e-6, fill=155, small_tile=20, sustained=0.89)
    >>> print(f"{t * 1e6:.0f} us")
    147 us
    """
    rate = peak / processors * efficiency
    traffic = gemm_traffic(
        m, n, k=k, batch=batch, element_bytes=element_bytes, input_bytes=input_bytes, packed_bytes=packed_bytes
    )
    stream = bandwidth * bandwidth_efficiency
    best: Num = np.inf
    for rows, columns, splits in _TILES:
        blocks = np.ceil(np.asarray(m) / rows) * np.ceil(np.asarray(n) / columns) * batch
        weight = (1.0 + 3.0 * small_tile / 256.0) / (1.0 + small_tile * (1.0 / rows + 1.0 / columns))
        for split in splits:
            waves = np.maximum(1.0, np.ceil(blocks * split / processors))
            depth = 32.0 * np.ceil(np.asarray(k) / (32.0 * split)) + fill
            compute = waves * (2.0 * rows * columns) * depth / (rate * weight)
            moved = traffic if split == 1.0 else traffic + 8.0 * split * batch * m * n
            best = np.minimum(best, compute**_SOFTNESS + (moved / stream) ** _SOFTNESS)
    return launch + _sustain(best ** (1.0 / _SOFTNESS), sustained)


def _softly_longer(compute: Num, memory: Num) -> Num:
    """The longer of two times that overlap [s], and somewhat more where they are alike."""
    return (compute**_SOFTNESS + memory**_SOFTNESS) ** (1.0 / _SOFTNESS)


def _sustain(burst: Num, sustained: Num) -> Num:
    """Lengthen a time that was found at burst clocks [s] to sustained clocks, in between on a logarithmic scale."""
    share = np.clip(np.log10(np.maximum(burst, 1e-12) / _BURST), 0.0, 1.0)
    return burst / (1.0 - (1.0 - sustained) * share)


def systolic_gemm_time(
    m: Num,
    n: Num,
    *,
    k: Num,
    batch: Num = 1.0,
    element_bytes: Num,
    input_bytes: Num | None = None,
    packed_bytes: Num | None = None,
    peak: Num,
    bandwidth: Num,
    efficiency: Num,
    bandwidth_efficiency: Num,
    launch: Num,
) -> Num:
    """Time of a batch of matrix products on systolic arrays of 128 x 128, as in a TPU.

    ``launch + ((2 batch 8 ceil(m / 8) 128 ceil(n / 128) 128 ceil(k / 128) / (peak efficiency))^3.3 +
    (batch (u (mk + kn) + w mn) / (bandwidth bandwidth_efficiency))^3.3)^(1/3.3)``

    Parameters
    ----------
    m
        Rows of the output; they stream through the array and are padded to 8 [1].
    n
        Columns of the output; padded to the array [1].
    k
        Inner size; padded to the array [1].
    batch
        Number of such products [1].
    element_bytes
        Size of an element of the output w [B].
    input_bytes
        Size of an element of the factors u; as of the output unless given [B].
    packed_bytes
        Size of an element of the second factor as it is stored; as of both unless given [B/parameter].
    peak
        Peak rate [FLOP/s].
    bandwidth
        Of the device's memory [B/s].
    efficiency
        Share of the peak with full arrays [1].
    bandwidth_efficiency
        Share of the bandwidth while streaming [1].
    launch
        Fixed time of a product inside a compiled program [s].

    Returns
    -------
    Num
        Time [s]; broadcast shape of the arguments.

    Notes
    -----
    Valid for sizes of at least 1.

    References
    ----------
    Jouppi et al., TPU v4, ISCA 2023, for the arrays; the scaling book (jax-ml) for the roofline.

    Examples
    --------
    A product of 8192 cubed on a TPU v6e, of which a device trace printed 1329 us.

    >>> t = systolic_gemm_time(8192, 8192, k=8192, element_bytes=2, peak=918e12, bandwidth=1.64e12, efficiency=0.9,
    ...     bandwidth_efficiency=0.9, launch=0.5e-6)
    >>> print(f"{t * 1e6:.0f} us")
    1333 us
    """
    padded_m = 8.0 * np.ceil(np.asarray(m) / 8.0)
    padded_n = _SYSTOLIC * np.ceil(np.asarray(n) / _SYSTOLIC)
    padded_k = _SYSTOLIC * np.ceil(np.asarray(k) / _SYSTOLIC)
    compute = 2.0 * batch * padded_m * padded_n * padded_k / (peak * efficiency)
    traffic = gemm_traffic(
        m, n, k=k, batch=batch, element_bytes=element_bytes, input_bytes=input_bytes, packed_bytes=packed_bytes
    )
    memory = traffic / (bandwidth * bandwidth_efficiency)
    return launch + _softly_longer(compute, memory)


def vector_gemm_time(
    m: Num,
    n: Num,
    *,
    k: Num,
    batch: Num = 1.0,
    element_bytes: Num,
    input_bytes: Num | None = None,
    packed_bytes: Num | None = None,
    peak: Num,
    bandwidth: Num,
    efficiency: Num,
    bandwidth_efficiency: Num,
    launch: Num,
    fill: Num,
    small_tile: Num,
    sustained: Num,
) -> Num:
    """Time of a batch of matrix products on vector units, as of processor cores: no tiles are dealt out in waves.

    ::

        compute = 2 batch m n (k + fill) (1 + a (1 / m + 1 / n)) / (peak efficiency)
        memory  = batch (u (mk + kn) + w mn) / (bandwidth bandwidth_efficiency)
        time    = launch + (compute^3.3 + memory^3.3)^(1/3.3) / clock

    where the clock falls from 1 to `sustained` as a call grows from 2 ms to 20 ms.

    Parameters
    ----------
    m
        Rows of the output [1].
    n
        Columns of the output [1].
    k
        Inner size [1].
    batch
        Number of such products in one call [1].
    element_bytes
        Size of an element of the output w [B].
    input_bytes
        Size of an element of the factors u; as of the output unless given [B].
    packed_bytes
        Size of an element of the second factor as it is stored; as of both unless given [B/parameter].
    peak
        Peak rate of all cores together [FLOP/s].
    bandwidth
        Of the memory [B/s].
    efficiency
        Share of the peak inside the main loop [1].
    bandwidth_efficiency
        Share of the bandwidth while streaming [1].
    launch
        Time of an empty call [s].
    fill
        Depth of the inner size lost to loading and storing a block of the output [1].
    small_tile
        Rows and columns' worth of time lost at the edges and in packing a [1].
    sustained
        Clock under long load over burst clock [1].

    Returns
    -------
    Num
        Time of the call [s]; broadcast shape of the arguments.

    Notes
    -----
    Valid for sizes of at least 1; products of a few kilobytes, which stay in the caches of one core, are faster.

    References
    ----------
    Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34, 2008: packing costs a share
    of 1 / m and 1 / n, loading and storing a block of the output a share of 1 / k.

    Examples
    --------
    A product of 4096 cubed in float32 on 16 cores of 2.5 GHz with two units of 16 lanes: 87 % of 2.56 TFLOP/s.

    >>> t = vector_gemm_time(4096, 4096, k=4096, element_bytes=4, peak=2.56e12, bandwidth=200e9, efficiency=0.9,
    ...     bandwidth_efficiency=0.8, launch=5e-6, fill=64, small_tile=32, sustained=1.0)
    >>> print(f"{t * 1e3:.1f} ms, {2 * 4096**3 / t / 2.56e12:.0%}")
    61.5 ms, 87%
    """
    with_edges = m * n + small_tile * (m + n)
    compute = 2.0 * batch * (k + fill) * with_edges / (peak * efficiency)
    traffic = gemm_traffic(
        m, n, k=k, batch=batch, element_bytes=element_bytes, input_bytes=input_bytes, packed_bytes=packed_bytes
    )
    memory = traffic / (bandwidth * bandwidth_efficiency)
    return launch + _sustain(_softly_longer(compute, memory), sustained)
