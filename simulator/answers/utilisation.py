"""Model FLOPs utilisation by the conventions that people know: what counts as the model's arithmetic."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from simulator.formulas import flops
from simulator.scenario.scenario import Scenario
from simulator.work.counts import Counts

Convention = Literal["exact", "palm", "torchtitan", "causal"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
WORDS: dict[Convention, str] = {
    "exact": "every matrix product, attention in full",
    "palm": "6 N + 12 L H Q T a token, embeddings counted (PaLM, appendix B)",
    "torchtitan": "6 N + 12 L H Q T a token, without the embedding table (torchtitan)",
    "causal": "every matrix product, half of causal attention",
}
"""What each counts."""


def model_flops(scenario: Scenario, counts: Counts) -> dict[Convention, float]:
    """Arithmetic of one step by each convention, without recomputation.

    Parameters
    ----------
    scenario
        The scenario.
    counts
        What `simulator.work.counts.counts_of` says of it.

    Returns
    -------
    dict
        By convention [FLOP].
    """
    model, work = scenario.model, scenario.workload
    active, tokens = float(counts.active_parameters), work.tokens_per_step
    table = float(model.vocabulary_size * (model.embedding_size or model.hidden_size))
    sizes: dict[str, float] = {
        "layers": float(model.all_layers),
        "heads": float(model.attention_heads),
        "head_size": (model.width_of_head + (model.value_head_size or model.width_of_head)) / 2.0,
        "sequence_length": float(work.sequence_length or 0),
    }
    whole = float(counts.model_flops)
    seen = float(np.asarray(counts.causal_attention_flops))
    return {
        "exact": whole,
        "palm": tokens * float(flops.model_flops_per_token(active, **sizes)),
        "torchtitan": tokens * float(flops.model_flops_per_token(active - table, **sizes)),
        "causal": whole - seen / 2.0,
    }
