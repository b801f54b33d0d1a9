"""Fused attention over the documents that a sequence is packed of: a batch of them, each of which sees itself only."""

from __future__ import annotations

import numpy as np

from simulator.formulas import flops
from simulator.formulas.typing import Num
from simulator.work.transformer.tokens import Scenarios


def seen_of_documents(scenarios: Scenarios, keys: Num, window: Num, *, causal: Num) -> tuple[Num, Num]:
    """Documents of a sequence, and keys that each query sees in the mean, as if no mask were there.

    Queries times keys add up to the sum of squares of documents' lengths. Padding that stays in a sequence is one more
    document. A stack that masks other documents instead of leaving them out sees the whole sequence.

    Parameters
    ----------
    scenarios
        What it is of.
    keys
        Of one sequence [token].
    window
        Keys that a query sees at most [token].
    causal
        1 under a causal mask, else 0 [1].

    Returns
    -------
    tuple of Num
        Documents of a sequence [1], and keys [token]; as of `simulator.formulas.flops.seen_keys` for each document.

    References
    ----------
    `flash_attn_varlen_func` of flash-attn 2.8 and `PackedSeqParams` of Megatron Core 0.14, which take the documents'
    bounds.
    """
    whole, documents = flops.seen_keys(keys, window, causal=causal), scenarios.workloads.documents
    if not documents:
        return 1.0, whole
    packed = np.minimum(keys, scenarios.workloads.effective_tokens)
    padding = keys - packed
    number = packed * sum(each.share / each.length for each in documents) + (padding > 0.0)
    seen = packed * sum(each.share * flops.seen_keys(each.length, window, causal=causal) for each in documents)
    seen = seen + padding * flops.seen_keys(np.maximum(padding, 1.0), window, causal=causal)
    apart = np.asarray(scenarios.stacks.skips_documents) > 0.0
    return np.where(apart, number, 1.0), np.where(apart, seen / keys, whole)
