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
    "exact": "every matrix product, attention in full, of packed documents each for itself where the kernel does so",
    "palm": "6 N + 12 L H Q T a token, embeddings counted, each sequence one document (PaLM, appendix B)",
    "torchtitan": "6 N + 12 L H Q T a token, without the embedding table, each sequence one document (torchtitan)",
    "causal": "as exact, with half of causal attention",
}
"""What each counts."""


def model_flops(scenario: Scenario, counts: Counts) -> dict[Convention, float]:
    """Arithmetic of one step by each convention, without recomputation.

    What is not trained has no gradient of its own: of a frozen weight the forward pass and the gradient of its input
    count, which is 4 N of 6 N, and behind a head that is trained alone the forward pass, 2 N; adapters count in full.
    T is the length of a sequence, however many documents it is packed of, as `get_num_flop_per_token` of torchtitan
    has it under document masks too; Megatron Bridge, which counts all products, takes the sum of squares of lengths.

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
    tokens, flows = work.tokens_per_step, float(np.asarray(work.tunings().flows))
    table = float(model.vocabulary_size * (model.embedding_size or model.hidden_size))

    def fully(held: float, trained: float) -> float:
        """As many trained parameters as have the arithmetic: of 6 N two for each pass and two for own gradients."""
        return ((2.0 + 2.0 * flows) * held + 2.0 * trained) / 6.0

    held, trained = float(counts.active_parameters), float(counts.active_trained_parameters)
    without_table = held - table, trained - (table if work.train in (None, "full") else 0.0)
    sizes: dict[str, float] = {
        "layers": float(model.all_layers) * (1.0 + 2.0 * flows) / 3.0,
        "heads": float(model.attention_heads),
        "head_size": (model.width_of_head + (model.value_head_size or model.width_of_head)) / 2.0,
        "sequence_length": float(work.sequence_length or 0),
    }
    whole = float(counts.model_flops)
    seen = float(np.asarray(counts.causal_attention_flops))
    return {
        "exact": whole,
        "palm": tokens * float(flops.model_flops_per_token(fully(held, trained), **sizes)),
        "torchtitan": tokens * float(flops.model_flops_per_token(fully(*without_table), **sizes)),
        "causal": whole - seen / 2.0,
    }
