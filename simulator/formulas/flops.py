"""Floating-point operations: exact counts, and the conventions in which papers report them."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num


def gemm(m: Num, n: Num, *, k: Num, batch: Num = 1.0) -> Num:
    """Operations of a batch of matrix products C[m, n] = A[m, k] B[k, n].

    ``2 batch m n k``: a multiplication and an addition for each term.

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

    Returns
    -------
    Num
        Operations [FLOP]; broadcast shape of the arguments.

    Notes
    -----
    Valid for all sizes. The same count as ``torch.utils.flop_counter`` gives ``mm`` and ``bmm``.

    Examples
    --------
    >>> gemm(512, 4096, k=1024)
    4294967296.0
    """
    return 2.0 * batch * m * n * k


def seen_keys(keys: Num, most_keys: Num, *, causal: Num) -> Num:
    """Keys for each query as if no mask were there: twice what a causal mask leaves in the mean, else what is seen.

    ``2 w - w^2 / s`` with ``w = min(most_keys, s)`` under a causal mask, so that half of it is the mean
    ``w (1 - w / 2s)`` of a window of w keys that ends with the query; ``w`` without one.

    Parameters
    ----------
    keys
        Of one sequence s [token].
    most_keys
        Keys that a query sees at most w [token].
    causal
        1 where a token sees only those before it, else 0 [1].

    Returns
    -------
    Num
        Keys [token]; all of them where the window is as long as the sequence.

    Examples
    --------
    Mistral 7B sees 4,096 keys: of a sequence of 8,192 tokens each query sees 3,072 of them in the mean.

    >>> float(seen_keys(8192, 4096, causal=1)) / 2, float(seen_keys(2048, 4096, causal=1)) / 2
    (3072.0, 1024.0)
    """
    most = np.minimum(keys, most_keys)
    return np.where(np.asarray(causal) > 0.0, 2.0 * most - most * most / np.asarray(keys), most)


def seen_behind(queries: Num, most_keys: Num, *, cached: Num) -> Num:
    """Keys that new tokens see in the mean, behind tokens whose keys are cached already.

    ``(F(c + n) - F(c)) / n`` with ``F(x) = min(x, w)^2 / 2 + w max(x - w, 0)``

    Parameters
    ----------
    queries
        New tokens of one sequence n [token].
    most_keys
        Keys that a query sees at most w [token].
    cached
        Tokens of the sequence before them c [token].

    Returns
    -------
    Num
        Keys [token]; broadcast shape of the arguments. Without a cache it is half of `seen_keys` under a causal mask.

    Examples
    --------
    The second half of a prompt of 8,192 tokens, whose tokens see all before them, and with a window of 4,096.

    >>> float(seen_behind(4096, 1e15, cached=4096)), float(seen_behind(4096, 4096, cached=4096))
    (6144.0, 4096.0)
    """
    start, end = np.asarray(cached, dtype=np.float64), np.asarray(cached, dtype=np.float64) + queries
    inside = np.minimum(end, most_keys) ** 2.0 - np.minimum(start, most_keys) ** 2.0
    beyond = np.maximum(end - most_keys, 0.0) - np.maximum(start - most_keys, 0.0)
    seen: Num = (inside / 2.0 + np.minimum(most_keys, end) * beyond) / queries
    return seen


def model_flops_per_token(parameters: Num, layers: Num, *, heads: Num, head_size: Num, sequence_length: Num) -> Num:
    """Model FLOPs per token as PaLM counts them: no recomputation, attention not halved for causality.

    ``6 N + 12 L H Q T``

    Parameters
    ----------
    parameters
        Trainable parameters N, with embeddings [parameter].
    layers
        Transformer layers L [1].
    heads
        Attention heads H [1].
    head_size
        Width of one head Q [1].
    sequence_length
        Tokens T of one sequence [token].

    Returns
    -------
    Num
        Operations per token, forward and backward [FLOP/token].

    Notes
    -----
    Valid for dense models whose every parameter multiplies every token once; an untied input embedding and a head
    on few positions are counted all the same, so it is a convention, not a count.

    References
    ----------
    Chowdhery et al., PaLM, arXiv 2204.02311, appendix B.

    Examples
    --------
    PaLM 540B: 3.28 TFLOP a token, of which attention 1.1 %.

    >>> model_flops_per_token(540.35e9, 118, heads=48, head_size=256, sequence_length=2048) / 1e12  # doctest: +ELLIPSIS
    3.27...
    """
    return 6.0 * parameters + 12.0 * layers * heads * head_size * sequence_length


def megatron_flops_per_step(
    layers: Num, hidden_size: Num, *, sequence_length: Num, vocabulary_size: Num, global_batch: Num, passes: Num = 4.0
) -> Num:
    """Step FLOPs of a GPT model as Megatron-LM's papers count them.

    ``24 passes B s L h^2 (1 + s / 6h) + 6 B s h V``; four passes give the published ``96 B s L h^2 (1 + s / 6h +
    V / 16 L h)``.

    Parameters
    ----------
    layers
        Transformer layers L [1].
    hidden_size
        Width of the residual stream h [1].
    sequence_length
        Tokens s of one sequence [token].
    vocabulary_size
        Rows of the embedding table V [1].
    global_batch
        Sequences B of one step [sequence].
    passes
        Four with full recomputation, three without [1].

    Returns
    -------
    Num
        Operations of one step [FLOP].

    Notes
    -----
    Valid for heads that fill the hidden size and a feed-forward layer four times as wide.

    References
    ----------
    Narayanan et al., Efficient Large-Scale Language Model Training, SC'21, arXiv 2104.04473, equation 3.

    Examples
    --------
    Table 1 of the paper: 174.6B parameters, batch 1536; at 140 TFLOP/s on each of 1024 devices 31.5 s.

    >>> round(megatron_flops_per_step(96, 12288, sequence_length=2048, vocabulary_size=51200, global_batch=1536) / 1e15)
    4511
    """
    tokens = global_batch * sequence_length
    products = 24.0 * passes * tokens * layers * hidden_size**2 * (1.0 + sequence_length / (6.0 * hidden_size))
    return products + 6.0 * tokens * hidden_size * vocabulary_size


def utilisation(flops: Num, seconds: Num, *, devices: Num, peak: Num) -> Num:
    """Share of the peak rate that a count of operations in a time amounts to.

    ``flops / (seconds devices peak)``: model FLOPs give MFU, executed FLOPs give HFU.

    Parameters
    ----------
    flops
        Operations of all devices together [FLOP].
    seconds
        Time they took [s].
    devices
        Number of devices [device].
    peak
        Peak rate of one device [FLOP/s].

    Returns
    -------
    Num
        Utilisation [1].

    References
    ----------
    Chowdhery et al., PaLM, arXiv 2204.02311, section 4.1.

    Examples
    --------
    PaLM 540B: 238.3 thousand tokens a second on 6144 TPU v4.

    >>> per_token = model_flops_per_token(540.35e9, 118, heads=48, head_size=256, sequence_length=2048)
    >>> round(utilisation(per_token * 238.3e3, 1.0, devices=6144, peak=275e12), 3)
    0.462
    """
    return flops / (seconds * devices * peak)


def busiest_rank(imbalance: Num, experts: Num, *, ranks: Num) -> Num:
    """Tokens of the busiest of the ranks that share experts, over the mean of all ranks.

    Loads of E experts are taken for gamma variables, whose cube roots are nearly normal; so are sums of L = E / n of
    them. With z(m) the expected largest of m normal variables, the busiest expert tells the spread of the loads, and
    that the busiest rank ::

        b       = (1 - u^2 + z(E) u)^3
        spread  = (1 - u^2 / L + z(n) u / sqrt(L))^3
        hosted  = 1 + (b - 1) (E - L) / ((E - 1) L)
        busiest = min(max(spread, hosted), b, n)

    where the rank of the busiest expert has at least that one and mean others.

    Parameters
    ----------
    imbalance
        Tokens of the busiest expert over the mean of all experts b, from 1 [1].
    experts
        Experts that a router can send a token to E [1].
    ranks
        Ranks that share them n [1].

    Returns
    -------
    Num
        From 1 on one rank to `imbalance` on as many ranks as experts [1]; broadcast shape of the arguments.

    Notes
    -----
    Experts are dealt out regardless of their load. Never falls with `imbalance`. Where loads follow a power law, drawn
    with exponent 1.2 as for public tables of measured layers, it is within 15 % of the mean of many drawings.

    References
    ----------
    Wilson and Hilferty, The Distribution of Chi-Square, PNAS 17, 1931, for the cube roots; Blom, Statistical Estimates
    and Transformed Beta-Variables, 1958, for the largest of several. The imbalance is MaxVio + 1 of Wang et al.,
    Auxiliary-Loss-Free Load Balancing, arXiv 2408.15664, section 2.

    Examples
    --------
    128 experts of which the busiest takes half as many tokens again as the mean.

    >>> [round(float(busiest_rank(1.5, 128, ranks=ranks)), 2) for ranks in (1, 8, 32, 128)]
    [1.0, 1.06, 1.19, 1.5]
    """
    total = np.maximum(np.asarray(experts), 2.0)
    local, over = total / np.minimum(ranks, total), np.maximum(np.asarray(imbalance) - 1.0, 0.0)
    mine = _largest_of(ranks)
    spread = np.minimum(_spread_of(1.0 + over, total) / np.sqrt(local), mine / 2.0)
    summed = (1.0 - spread**2 + mine * spread) ** 3
    hosted = 1.0 + over * (total - local) / ((total - 1.0) * local)
    load: Num = np.minimum(np.maximum(summed, hosted), np.minimum(1.0 + over, ranks))
    return load


def imbalance_among(imbalance: Num, experts: Num, *, measured: Num) -> Num:
    """Imbalance of a number of experts whose loads spread as those of another number: fewer have a smaller largest.

    ``(1 - u^2 + z(E) u)^3`` with ``u`` from the imbalance of the other number, as in `busiest_rank`.

    Parameters
    ----------
    imbalance
        Tokens of the busiest expert over the mean of all, of the other number, from 1 [1].
    experts
        Experts that a router can send a token to [1].
    measured
        The other number of experts, of which the imbalance is known [1].

    Returns
    -------
    Num
        Tokens of the busiest expert over the mean of all [1].

    References
    ----------
    As of `busiest_rank`.

    Examples
    --------
    Of 64 experts trained with an auxiliary loss the busiest had 1.52 times the mean: Wang et al., arXiv 2408.15664.

    >>> [round(float(imbalance_among(1.52, experts, measured=64)), 2) for experts in (8, 64, 128)]
    [1.3, 1.52, 1.59]
    """
    spread = _spread_of(imbalance, measured)
    return np.asarray((1.0 - spread**2 + _largest_of(experts) * spread) ** 3)


def _spread_of(imbalance: Num, experts: Num) -> Num:
    """The u of the busiest of so many experts: a third of the deviation of their loads over the mean [1]."""
    most = _largest_of(experts)
    root = np.sqrt(np.maximum(most**2 - 4.0 * (np.cbrt(imbalance) - 1.0), 0.0))
    return np.asarray((most - root) / 2.0)


def _largest_of(count: Num) -> Num:
    """Expected largest of so many standard normal variables [1]; 0 for one.

    Blom's quantile 1 - 0.625 / (n + 0.25) by the rational form 26.2.23 of Abramowitz and Stegun.
    """
    root = np.sqrt(-2.0 * np.log(0.625 / (np.asarray(count) + 0.25)))
    above = 2.515517 + root * (0.802853 + root * 0.010328)
    below = 1.0 + root * (1.432788 + root * (0.189269 + root * 0.001308))
    return np.where(np.asarray(count) > 1.0, root - above / below, 0.0)


def padded_rows(rows: Num, multiple: Num) -> Num:
    """Rows of an expert whose tokens are filled up to a multiple: ``rows + (multiple - 1) / 2`` in the mean.

    Parameters
    ----------
    rows
        Tokens that the expert was sent in the mean [token].
    multiple
        Multiple that they are filled up to [token].

    Returns
    -------
    Num
        Rows that are multiplied [token].

    References
    ----------
    NVIDIA Transformer Engine 2.x, `Fp8Padding`: rows of each expert are a multiple of 16, of 32 under MXFP8.

    Examples
    --------
    >>> padded_rows(512.0, 16), padded_rows(512.0, 1)
    (519.5, 512.0)
    """
    return rows + (multiple - 1.0) / 2.0
