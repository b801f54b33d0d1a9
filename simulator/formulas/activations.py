"""Bytes that one device keeps of a forward pass for the backward pass, part by part.

Summed over a layer they are the formulas of Korthikanti et al., "Reducing Activation Recomputation in Large
Transformer Models", arXiv 2205.05198, section 4, plus the statistics of the normalisations that the paper leaves out.
"""

from __future__ import annotations

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


def dropout_mask(tokens: Num, width: Num, *, mask_bytes: Num = MASK_BYTES) -> Num:
    """The mask of a dropout: ``tokens width mask_bytes``.

    Parameters
    ----------
    tokens
        Tokens on this device [token].
    width
        Elements of one token on this device [1].
    mask_bytes
        Size of an element of a mask [B].

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
    return tokens * width * mask_bytes


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


def attention_matrix(
    queries: Num,
    keys: Num,
    *,
    batch: Num,
    heads: Num,
    element_bytes: Num,
    dropout: Num,
    mask_bytes: Num = MASK_BYTES,
) -> Num:
    """Matrices of unfused attention: softmax, and with dropout its mask and its output.

    ``batch heads queries keys (w + dropout (mask_bytes + w))``: 5 a s^2 b for 16-bit elements with dropout.

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
    mask_bytes
        Size of an element of a mask [B].

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
    return batch * heads * queries * keys * (element_bytes + dropout * (mask_bytes + element_bytes))


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
