"""The choice of the next token of each sequence, behind the vocabulary head of a model that generates."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.work.operators import Operator, stream
from simulator.work.transformer.exchanges import tensor_exchange
from simulator.work.transformer.tokens import Scenarios

_PASSES = 4.0
"""Times that logits in fp32 cross memory: cast, scaled, normalised and drawn from."""
_KERNELS = 4.0


def choice(scenarios: Scenarios, used: Num) -> Operator:
    """Softmax over all words and a draw, for each sequence of an iteration.

    Parameters
    ----------
    scenarios
        Of an engine's iteration.
    used
        1 where there is a vocabulary head, else 0.
    """
    work = scenarios.iterations
    assert work is not None
    size = used * work.sampled * scenarios.models.vocabulary_size * 4.0
    kernels = used * _KERNELS * np.where(np.asarray(work.sampled) > 0.0, 1.0, 0.0)
    return stream(
        "choice of tokens",
        "head",
        StreamKind.CROSS_ENTROPY,
        moved=(size * _PASSES, 0.0),
        launches=(kernels, 0.0),
        reduces=True,
    )


def gather_of_logits(scenarios: Scenarios) -> Operator:
    """Logits of all words from the ranks that share the vocabulary.

    Parameters
    ----------
    scenarios
        Of an engine's iteration.
    """
    work, models = scenarios.iterations, scenarios.models
    assert work is not None
    message = work.sampled * models.vocabulary_size * scenarios.plans.element_bytes
    some = models.vocabulary_head * np.where(np.asarray(work.sampled) > 0.0, 1.0, 0.0)
    some = some * np.where(np.asarray(scenarios.plans.tp) > 1.0, 1.0, 0.0)
    return tensor_exchange("all_gather", "of logits", message, scenarios, counts=(some, 0.0))
