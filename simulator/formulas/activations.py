"""Bytes that one device keeps of a forward pass for the backward pass, part by part.

Summed over a layer they are the formulas of Korthikanti et al., "Reducing Activation Recomputation in Large
Transformer Models", arXiv 2205.05198, section 4, plus the statistics of the normalisations that the paper leaves out.
"""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num

STATISTIC_BYTES = 4.0
"""Statistics of normalisations and of softmax are float32 whatever the precision."""
MASK_BYTES = 1.0
"""A dropout mask holds one byte an element."""


def tensor(tokens: Num, width: Num, *, element_bytes: Num) -> Num:
    """A kept activation: ``tokens width element_bytes``.

    Parameters
    ----------
    tokens
        Tokens on this device [token].
    width
        Elements of one token on this device [1].
    element_bytes
        Size of an element [B].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Korthikanti et al., arXiv 2205.05198, section 4.1: the input of a linear map, 2 s b h.

    Examples
    --------
    >>> tensor(512 * 8, 1024, element_bytes=2)
    8388608
    """
    return tokens * width * element_bytes


def dropout_mask(tokens: Num, width: Num) -> Num:
    """The mask of a dropout: ``tokens width`` bytes.

    Parameters
    ----------
    tokens
        Tokens on this device [token].
    width
        Elements of one token on this device [1].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Korthikanti et al., arXiv 2205.05198, section 4.1: s b h.

    Examples
    --------
    >>> dropout_mask(512 * 8, 1024)
    4194304.0
    """
    return tokens * width * MASK_BYTES


def normalisation(tokens: Num, width: Num, *, element_bytes: Num, statistics: Num) -> Num:
    """Input and statistics of a normalisation: ``tokens (width element_bytes + 4 statistics)``.

    Parameters
    ----------
    tokens
        Tokens on this device [token].
    width
        Width of the normalised vector [1].
    element_bytes
        Size of an element [B].
    statistics
        Numbers kept a token: mean and deviation for LayerNorm, one of them for RMSNorm [1].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Korthikanti et al., arXiv 2205.05198, section 4.1: 2 s b h for the input; the statistics are left out there.

    Examples
    --------
    >>> normalisation(512 * 8, 1024, element_bytes=2, statistics=2)
    8421376.0
    """
    return tokens * (width * element_bytes + statistics * STATISTIC_BYTES)


def attention_matrix(queries: Num, keys: Num, *, batch: Num, heads: Num, element_bytes: Num, dropout: Num) -> Num:
    """Matrices of unfused attention: softmax, and with dropout its mask and its output.

    ``batch heads queries keys (w + dropout (1 + w))``: 5 a s^2 b for 16-bit elements with dropout.

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
    element_bytes
        Size of an element w [B].
    dropout
        1 where attention probabilities are dropped, else 0 [1].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Korthikanti et al., arXiv 2205.05198, section 4.1: 2 a s^2 b + a s^2 b + 2 a s^2 b.

    Examples
    --------
    >>> attention_matrix(512, 512, batch=1, heads=16, element_bytes=2, dropout=1) / (16 * 512**2)
    5.0
    """
    return batch * heads * queries * keys * (element_bytes + dropout * (MASK_BYTES + element_bytes))


def attention_statistics(queries: Num, batch: Num, *, heads: Num) -> Num:
    """What fused attention keeps instead of the matrix: the logarithm of each row's sum, in float32.

    ``4 batch heads queries``

    Parameters
    ----------
    queries
        Queries of one sequence [token].
    batch
        Sequences [sequence].
    heads
        Query heads on this device [1].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Dao, FlashAttention-2, arXiv 2307.08691, section 3.1.

    Examples
    --------
    >>> attention_statistics(2048, 1, heads=96)
    786432.0
    """
    return STATISTIC_BYTES * batch * heads * queries


def gate(tokens: Num, width: Num, *, element_bytes: Num, inputs: Num, rectified: Num = 0.0) -> Num:
    """Inputs of an activation function: one projection, or with a gate both and the activated gate.

    ``tokens width element_bytes (1 or 3)``; the product that follows keeps its own input besides, and a plain ReLU
    needs no more than that.

    Parameters
    ----------
    tokens
        Tokens on this device [token].
    width
        Feed-forward width on this device [1].
    element_bytes
        Size of an element [B].
    inputs
        Projections into the feed-forward layer: 1 plain, 2 gated [1].
    rectified
        1 for ReLU, else 0 [1].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Korthikanti et al., arXiv 2205.05198, section 4.1: 8 s b h for the input of GELU. Shazeer, GLU Variants,
    arXiv 2002.05202, for the gated form: the product's backward needs both factors.

    Examples
    --------
    >>> gate(512, 4096, element_bytes=2, inputs=1), gate(512, 4096, element_bytes=2, inputs=2)
    (4194304.0, 12582912.0)
    """
    return tokens * width * element_bytes * (2 * inputs - 1 - rectified * (2 - inputs))


def routing(tokens: Num, experts: Num, *, chosen: Num, element_bytes: Num) -> Num:
    """What a router keeps: each token's softmax over the experts in float32, and the weights of the chosen ones.

    ``tokens (4 experts + chosen element_bytes)``

    Parameters
    ----------
    tokens
        Tokens on this device [token].
    experts
        Experts that a token can go to [1].
    chosen
        Experts that it goes to [1].
    element_bytes
        Size of an element [B].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Shazeer et al., Outrageously Large Neural Networks, arXiv 1701.06538, section 2.1; Fedus et al., Switch
    Transformers, arXiv 2101.03961, section 2.4, for the router in float32.

    Examples
    --------
    >>> routing(4096, 64, chosen=2, element_bytes=2)
    1064960.0
    """
    return tokens * (STATISTIC_BYTES * experts + chosen * element_bytes)


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
    most, mine = _largest_of(total), _largest_of(ranks)
    root = np.sqrt(np.maximum(most**2 - 4.0 * (np.cbrt(1.0 + over) - 1.0), 0.0))
    spread = np.minimum((most - root) / (2.0 * np.sqrt(local)), mine / 2.0)
    summed = (1.0 - spread**2 + mine * spread) ** 3
    hosted = 1.0 + over * (total - local) / ((total - 1.0) * local)
    return np.minimum(np.maximum(summed, hosted), np.minimum(1.0 + over, ranks))


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


def cross_entropy(tokens: Num, classes: Num) -> Num:
    """What cross-entropy keeps: the softmax or its logarithm in float32.

    ``4 tokens classes``; targets are the batch's and count as little as its other indices.

    Parameters
    ----------
    tokens
        Tokens with a target on this device [token].
    classes
        Classes on this device, such as its share of the vocabulary [1].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Korthikanti et al., arXiv 2205.05198, section 4.3: 4 s b v for logits in float32.

    Examples
    --------
    >>> cross_entropy(512, 30522)
    62509056.0
    """
    return STATISTIC_BYTES * tokens * classes
