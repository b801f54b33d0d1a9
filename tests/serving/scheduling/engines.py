"""An engine whose times can be worked out by hand, for tests of schedulers."""

from typing import Any

import numpy as np

from simulator.serving.scheduling.lengths import Lengths
from simulator.serving.scheduling.policy import Policy
from simulator.serving.scheduling.simulation import Demand
from simulator.serving.scheduling.times import IterationTable

FIXED, BY_TOKEN, BY_CONTEXT, BY_PAIR = 8e-3, 4e-5, 5e-8, 5e-10


def mixed(prompt_tokens: Any, prompt_context: Any, sequences: Any, context: Any) -> Any:
    """A pass that reads its weights, computes each token, streams the cache, and attends."""
    tokens, ahead, count, seen = (
        np.asarray(each, dtype=float) for each in (prompt_tokens, prompt_context, sequences, context)
    )
    return FIXED + BY_TOKEN * (tokens + count) + BY_CONTEXT * count * seen + BY_PAIR * tokens * (ahead + tokens / 2.0)


def table(scale: float = 1.0, *, most_prompt_tokens: float = 8192, most_sequences: float = 512) -> IterationTable:
    return IterationTable.of(
        lambda *sizes: scale * mixed(*sizes),
        most_prompt_tokens=most_prompt_tokens,
        most_sequences=most_sequences,
        contexts=(100.0, 4000.0),
    )


def clients(concurrency: int, inputs: str, outputs: str, requests: int = 1000) -> Demand:
    return Demand.at_concurrency(concurrency, Lengths.read(inputs), Lengths.read(outputs), requests=requests)


ROOMY = Policy(kv_tokens=4_000_000, most_sequences=512, token_budget=2048)
