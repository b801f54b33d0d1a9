"""What came of requests: latencies, rates, and the share that kept what was promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.serving.scheduling.lengths import Counts
from simulator.serving.scheduling.times import Values
from simulator.step.likeness import quantiles as weighted_quantiles

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Served:
    """Every request that was answered, in the order in which they came."""

    arrivals: Values
    """[s]."""
    firsts: Values
    """When each had its first token [s]."""
    finishes: Values
    """[s]."""
    inputs: Counts
    outputs: Counts
    gaps: Values
    """Times between two tokens of a sequence [s]."""
    gap_tokens: Values
    """Tokens that each of them stands for [token]."""
    busy: float
    """Share of the time in which engines worked [1]."""
    mean_batch: float
    """Sequences that decoded while engines worked, in the mean [sequence]."""
    most_held: float
    """Tokens of the cache that one engine held at most [token]."""
    preemptions: int
    """How often a request was put out to make room."""
    admitted: tuple[tuple[int, ...], ...]
    """Requests in the order in which each engine let them in."""

    @property
    def ttft(self) -> Values:
        """Time to the first token of each request [s]."""
        return self.firsts - self.arrivals

    @property
    def latency(self) -> Values:
        """Time from the arrival of each request to its last token [s]."""
        return self.finishes - self.arrivals

    @property
    def tpot(self) -> Values:
        """Time for each token behind the first, for requests that have more than one [s]."""
        more = self.outputs > 1
        return np.asarray((self.finishes - self.firsts)[more] / (self.outputs[more] - 1))

    @property
    def span(self) -> float:
        """From the first arrival to the last token [s]."""
        return float(self.finishes.max() - self.arrivals.min())

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens of all engines over the whole time [token/s]."""
        return float(self.outputs.sum() / self.span)

    @property
    def requests_per_s(self) -> float:
        """Requests over the whole time [1/s]."""
        return len(self.outputs) / self.span

    def goodput(self, *, ttft: float = np.inf, tpot: float = np.inf) -> float:
        """Requests a second that keep service levels [1/s].

        Parameters
        ----------
        ttft
            Time to the first token at most [s].
        tpot
            Time for each further token at most [s].
        """
        return float(self.kept(ttft=ttft, tpot=tpot) * self.requests_per_s)

    def kept(self, *, ttft: float = np.inf, tpot: float = np.inf) -> float:
        """Share of requests that keep service levels [1]."""
        per_token = (self.finishes - self.firsts) / np.maximum(self.outputs - 1, 1)
        return float(np.mean((self.ttft <= ttft) & (per_token <= tpot)))

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Mean and percentiles of latencies [s]: ttft_s, tpot_s, itl_s, latency_s."""
        values = {"ttft_s": self.ttft, "tpot_s": self.tpot, "latency_s": self.latency}
        figures = {name: _percentiles(each, np.ones(len(each))) for name, each in values.items() if len(each)}
        if len(self.gaps):
            figures["itl_s"] = _percentiles(self.gaps, self.gap_tokens)
        return figures

    def to_dict(self) -> dict[str, Any]:
        """Everything but single requests, as plain numbers."""
        return {
            "requests": len(self.outputs),
            "requests_per_s": self.requests_per_s,
            "output_tokens_per_s": self.output_tokens_per_s,
            "total_tokens_per_s": float((self.inputs.sum() + self.outputs.sum()) / self.span),
            "mean_batch": self.mean_batch,
            "busy": self.busy,
            "preemptions": self.preemptions,
            "percentiles": self.percentiles(),
        }


def _percentiles(values: Values, weights: Values) -> dict[str, float]:
    """Mean and percentiles, each value as often as its weight says."""
    shares = np.array(PERCENTILES) / 100.0
    found = {"mean": float(np.average(values, weights=weights))}
    quantiles = weighted_quantiles(values, weights, shares)
    return found | {f"p{share}": float(value) for share, value in zip(PERCENTILES, quantiles, strict=True)}
