"""What runs are predicted to measure, from the times of their passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.corpus.serving.schema import METRICS
from simulator.evidence.serving.pricing import Passes, PricedCase, Values

_ITERATIONS = 20
_DAMPING = 0.5
_SMALL = 1e-4
_PASSES = ("prompt", "decode", "added")
_FITTED = ("ttft_s", "tpot_s", "total_latency_s", "output_tokens_per_s", "total_tokens_per_s", "sequences_per_s")
_RATES = ("output_tokens_per_s", "total_tokens_per_s", "sequences_per_s", "requests_per_s")
_BATCHING = 1.5
"""Time of a request that comes at a rate over that of its batch: it waits while the one before is computed."""


@dataclass(frozen=True)
class Observations:
    """What was measured, one entry for each figure of each run."""

    rows: np.ndarray
    """Which run."""
    metrics: np.ndarray
    """Names of what was measured."""
    measured: Values
    independent: np.ndarray
    """Whether a figure tells something that the figures of the run before it do not: of a static batch all rates follow
    from its latency."""

    @classmethod
    def of(cls, cases: Sequence[PricedCase]) -> Observations:
        """Every figure of some runs."""
        rows, metrics, measured, independent = [], [], [], []
        for row, each in enumerate(cases):
            told = each.case.run.told
            kind = each.case.demand.kind
            seen: list[str] = []
            for metric in METRICS:
                if metric not in told or (metric == "memory_gb" and not each.memory > 0.0):
                    continue
                if kind == "rate" and metric == "total_latency_s" and not each.served.generates:
                    continue  # of the highest rate that was withstood, where latency is what was allowed
                repeats = metric in _RATES and any(other in seen for other in ("total_latency_s", *_RATES))
                given = kind == "rate" and metric in ("sequences_per_s", "requests_per_s")
                told_by_both = metric == "total_latency_s" and {"ttft_s", "tpot_s"} <= set(seen)
                rows.append(row)
                metrics.append(metric)
                measured.append(told[metric])
                independent.append(metric in _FITTED and not repeats and not given and not told_by_both)
                seen.append(metric)
        return cls(np.array(rows, dtype=np.intp), np.array(metrics), np.array(measured), np.array(independent))

    def only(self, keep: np.ndarray) -> Observations:
        """Some of them."""
        return Observations(self.rows[keep], self.metrics[keep], self.measured[keep], self.independent[keep])


class Predictor:
    """Figures of runs from the times of their passes.

    Parameters
    ----------
    cases
        The runs.
    """

    def __init__(self, cases: Sequence[PricedCase]) -> None:
        demands = [each.case.demand for each in cases]
        self.inputs = np.array([each.input_tokens for each in demands])
        self.outputs = np.array([each.output_tokens for each in demands])
        self.rate = np.array([each.rate for each in demands])
        self.rounds = np.array([each.rounds for each in demands])
        self.engines = np.array([each.engines for each in cases])
        self.readers = np.array([each.prefill_engines for each in cases])
        self.sequences = np.array([each.sequences for each in cases])
        self.waves = np.array([each.waves for each in cases])
        self.memory = np.array([each.memory for each in cases]) / 2.0**30
        self.kind = np.array([each.kind for each in demands])
        self.task = np.array([each.case.run.task for each in cases])
        self.encodes = np.array([not each.served.generates for each in cases])
        self.apart = np.array([each.served is not each.decoder for each in cases])

    def figures(self, prompt: Values, decode: Values, added: Values) -> dict[str, Values]:
        """Every figure of every run, by its name; what a run has not is not a number.

        Parameters
        ----------
        prompt, decode, added
            Times of passes [s].
        """
        n, outputs = self.sequences, self.outputs
        later = np.maximum(outputs - 1.0, 0.0)
        static = self.kind == "static"
        first, between, rate = self._steady(prompt, decode, added)
        reads, writes = self.task == "prefill", self.task == "decode"
        latency = self.waves * np.where(writes, outputs * decode, prompt + later * decode)
        latency = np.where(self.encodes | reads, prompt, latency)
        requests = np.where(static | self.encodes, self.engines * n * self.waves / latency, self.engines * rate)
        served = np.where(self.kind == "rate", np.minimum(self.rate, requests), requests)
        waited = np.where(self.kind == "rate", _BATCHING * self._batched(prompt), latency)
        tokens = np.where(writes, 0.0, self.inputs)
        return {
            "ttft_s": np.where(static, prompt, first),
            "tpot_s": np.where(static, decode, between),
            "total_latency_s": np.where(static, latency, np.where(self.encodes, waited, first + later * between)),
            "output_tokens_per_s": served * outputs,
            "total_tokens_per_s": served * (tokens + np.where(reads, 0.0, outputs)),
            "sequences_per_s": served,
            "requests_per_s": served,
            "memory_gb": self.memory,
        }

    def _steady(self, prompt: Values, decode: Values, added: Values) -> tuple[Values, Values, Values]:
        """Time to the first token, time for each further one, and requests a second of an engine.

        As `simulator.serving.scheduling.closed_forms.at_concurrency`, and at the beginning of a run of few rounds all
        requests come at once.
        """
        part = np.flatnonzero((self.kind != "static") & ~self.encodes)
        whole = [np.full(len(prompt), np.nan) for _ in range(3)]
        for column, values in zip(whole, self._cycle(part, prompt[part], decode[part], added[part]), strict=True):
            column[part] = values
        return whole[0], whole[1], whole[2]

    def _cycle(self, part: np.ndarray, prompt: Values, decode: Values, added: Values) -> tuple[Values, Values, Values]:
        """The same of some runs."""
        n, engines, readers = self.sequences[part], self.engines[part], self.readers[part]
        apart = self.apart[part]
        later = np.maximum(self.outputs[part] - 1.0, 1e-9)
        others = np.maximum(n - 1.0, 0.0) / n
        beside = np.where(apart, 0.0, (n - 1.0) * added)
        first = prompt + 0.0
        for _ in range(_ITERATIONS):
            cycle = first + later * decode + beside
            rate = n / cycle
            share = rate * engines / readers
            ahead = np.maximum(share * first - np.minimum(share * prompt, 1.0) / 2.0, 0.0) * others
            wait = prompt * ahead + np.where((n > 1.0) & ~apart, decode / 2.0, 0.0)
            first = first + _DAMPING * (np.minimum(prompt + wait, n * prompt + decode) - first)
        # The first round of n requests comes at once: each waits for half of them in the mean.
        burst = np.maximum((n * engines / readers + 1.0) / 2.0 * prompt, first)
        first = first + (burst - first) / self.rounds[part]
        return first, decode + beside / later, rate

    def _batched(self, time: Values) -> Values:
        """Time of the batch that requests at a rate come to fill, if that of a full one is known [s]."""
        full = self.sequences / time
        return np.clip(self.rate / np.maximum(self.engines * full, 1e-300), 0.05, 1.0) * time


def predictions(predictor: Predictor, seen: Observations, passes: Passes, moved: Values) -> tuple[Values, Values]:
    """Logarithms of what was measured, as predicted, and their derivatives by the factors.

    Parameters
    ----------
    predictor, seen
        Of the same runs.
    passes
        Times of passes and their derivatives at some factors.
    moved
        How far factors are from there, a row for each run [1].
    """
    factors = {name: _extrapolated(getattr(passes, f"{name}_by"), moved) for name in _PASSES}
    times = {name: getattr(passes, name) * np.exp(shift) for name, (shift, _) in factors.items()}

    def at(**changed: Values) -> Values:
        figures = predictor.figures(**{**times, **changed})
        table = np.stack([figures[name] for name in METRICS])
        return np.asarray(np.log(table[_places(seen.metrics), seen.rows]))

    here = at()
    slopes = np.zeros((len(seen.rows), moved.shape[1]))
    for name, (_, by) in factors.items():
        slope = (at(**{name: times[name] * np.exp(_SMALL)}) - here) / _SMALL
        slopes += slope[:, None] * by[seen.rows]
    return here, slopes


def _places(metrics: np.ndarray) -> np.ndarray:
    """Place of each metric among all."""
    order = {name: place for place, name in enumerate(METRICS)}
    return np.array([order[name] for name in metrics], dtype=np.intp)


def _extrapolated(by: Values, moved: Values) -> tuple[Values, Values]:
    """Logarithm by which a time changes, and its derivatives, if each part of it scales as its factor says.

    A time of parts c_k exp(-f_k) that add up: log(sum over k of c_k exp(s_k f_k) + rest), where c_k is the size of the
    derivative, s_k its sign, and what no factor touches stays.
    """
    share, sign = np.abs(by), np.sign(by)
    scaled = share * np.exp(np.clip(sign * moved, -5.0, 5.0))
    rest = np.maximum(1.0 - share.sum(axis=1), 0.0)
    whole = scaled.sum(axis=1) + rest
    return np.log(whole / (share.sum(axis=1) + rest)), sign * scaled / whole[:, None]
