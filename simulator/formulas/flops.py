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
