"""Intervals around figures of a scenario that is served, by errors on runs like it."""

from __future__ import annotations

from functools import cache

import numpy as np

from simulator.evidence.serving import held_out
from simulator.evidence.serving.errors import ServingErrors
from simulator.serving.served import ServingScenario

_METRICS = {
    "ttft_s": "ttft_s",
    "tpot_s": "tpot_s",
    "latency_s": "total_latency_s",
    "output_tokens_per_s": "output_tokens_per_s",
    "total_tokens_per_s": "total_tokens_per_s",
    "requests_per_s": "output_tokens_per_s",
    "sequences_per_s": "sequences_per_s",
    "tokens_per_s": "sequences_per_s",
}
"""Kinds of figures whose errors stand for those of an answer."""


@cache
def _errors(scheme: str, metric: str) -> ServingErrors | None:
    """Errors of one kind of figure."""
    return held_out.shipped_figures().errors(scheme, metric)


@cache
def is_known(stack: str, device_class: str) -> bool:
    """Whether runs of an engine on a class of devices were fitted to."""
    traits = held_out.shipped_figures().traits
    return bool(np.any((traits["stack"] == stack) & (traits["class"] == device_class)))


@cache
def runs_of(stack: str) -> int:
    """How many runs of an engine were fitted to."""
    figures = held_out.shipped_figures()
    return len(set(figures.columns["id"][figures.traits["stack"] == stack].tolist()))


def limits_of(served: ServingScenario, figure: str, sequences: float) -> tuple[float, float] | None:
    """Factors on a figure between which the measured one lies in 90 % of cases; nothing where no run tells it.

    Parameters
    ----------
    served
        With a load.
    figure
        Name of the figure, such as tpot_s.
    sequences
        Of one replica at a time [sequence].
    """
    load = served.load
    scheme = "known stack" if is_known(served.stack.id, served.device.device_class) else "new source"
    errors = _errors(scheme, _METRICS.get(figure, figure))
    if errors is None or load is None:
        return None
    kind = "static" if load.batch is not None or not (load.concurrency or load.rate) else "concurrency"
    words = {
        "stack": served.stack.id,
        "class": served.device.device_class,
        "kind": f"{'generate' if served.generates else 'encode'} {kind}",
        "format": served.weights.id,
        "experts": str(served.model.experts > 1),
    }
    sizes = {
        "sequences": max(sequences, 1.0),
        "input_tokens": load.input_tokens,
        "output_tokens": load.output_tokens or 1.0,
        "devices": float(served.devices),
        "hidden_size": float(served.model.hidden_size),
    }
    traits = {name: np.array([value]) for name, value in words.items()}
    low, high = errors.around(traits | {name: np.log2(np.array([value])) for name, value in sizes.items()})
    return float(np.exp(low[0])), float(np.exp(high[0]))
