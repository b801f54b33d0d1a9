"""Times of the passes of many runs, and what each kind of factor does to them: what a fit and a validation work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware.errors import InputError
from simulator.corpus.runs import RefusedError
from simulator.corpus.serving.mapping import ServedCase
from simulator.pricing.analytic import AnalyticBackend, precisions_of
from simulator.serving.constants import KINDS, ServingFactors, levels_of
from simulator.serving.memory import largest_batch, serving_memory
from simulator.serving.passes import ServingPasses
from simulator.serving.scenario import ServingScenario, resolve_serving

Values = NDArray[np.float64]
_DIFFERENCE = 0.02
"""Step of the numerical derivative, as a logarithm."""
_ENCODED = 128.0
"""Sequences of a batch where an encoder gets as many as it takes."""
_UBATCH = 512.0
"""Tokens of a prompt that llama.cpp computes at a time unless told (n_ubatch)."""
_CONTINUOUS = {"q4_0": "int4"}
"""Formats under the names of engines that have one of their own."""
_KINDS = tuple(KINDS)


class Passes(NamedTuple):
    """Seconds of the passes of each run, and their derivatives by the factors, as logarithms."""

    prompt: Values
    """Of a prompt, of the prompts of a static batch, or of a batch that is encoded [s]."""
    decode: Values
    """Of an iteration in which every sequence gets a token, at the mean context [s]."""
    added: Values
    """By which a prompt makes the work of an engine longer in which others decode [s]."""
    prompt_by: Values
    """Rows for runs, a column for each kind of factor [1]."""
    decode_by: Values
    added_by: Values


@dataclass(frozen=True)
class PricedCase:
    """A run with its scenario, and what is asked of one engine."""

    case: ServedCase
    served: ServingScenario
    decoder: ServingScenario
    """The engine that decodes; the same unless pools do it apart."""
    engines: float
    """Engines that share the load [1]."""
    prefill_engines: float
    sequences: float
    """Of one engine at a time [sequence]."""
    waves: float
    """How often the engine is filled, where a static batch is more than its cache holds [1]."""
    memory: float
    """Of all devices, without what is left alone [B]; not a number where it was not measured."""

    @property
    def levels(self) -> dict[str, str]:
        """Its name at each level of the constants."""
        case = self.case
        return levels_of(
            case.stack,
            case.device.device_class,
            case.weights,
            generates=self.served.generates,
            release=case.release,
        )


def priced_case_of(case: ServedCase) -> PricedCase:
    """The scenario of a run.

    Raises
    ------
    RefusedError
        With the reason, where the engine cannot do it.
    """
    try:
        return _priced(case)
    except InputError as error:
        raise RefusedError("engine that cannot do it", str(error)) from None


def _priced(case: ServedCase) -> PricedCase:
    served, decoder = _engines(case)
    pools = case.pools
    engines = float(case.replicas) if pools is None else (pools.decode_workers or 1.0) * (pools.decode_dp or 1.0)
    prefills = float(case.replicas) if pools is None else (pools.prefill_workers or 1.0) * (pools.prefill_dp or 1.0)
    sequences = max(case.demand.sequences / engines, 1.0)
    if case.demand.kind in ("saturated", "rate"):
        sequences = _filled(case, decoder)
    waves = 1.0
    if case.demand.kind == "static" and decoder.generates and decoder.stack.continuous:
        held = min(_filled(case, decoder), sequences)
        waves, sequences = sequences / held, held
    memory = np.nan
    if case.run.measured.memory_gb is not None:
        demand = case.demand
        needed = serving_memory(served, sequences, demand.input_tokens + demand.output_tokens)
        memory = (needed.total - needed.reserved) * case.devices
    return PricedCase(case, served, decoder, engines, prefills, sequences, waves, memory)


def _filled(case: ServedCase, served: ServingScenario) -> float:
    """Sequences of one engine where requests always wait [sequence]."""
    if not served.generates:
        return _ENCODED
    demand = case.demand
    most = largest_batch(served, demand.input_tokens + demand.output_tokens / 2.0)
    if most < 1:
        raise RefusedError("weights that do not fit")
    return float(min(most, served.stack.most_sequences))


def _engines(case: ServedCase) -> tuple[ServingScenario, ServingScenario]:
    """The engine that prefills and the one that decodes."""
    pools = case.pools
    if pools is None:
        engine = _engine(case, case.tp, case.replicas, case.devices)
        return engine, engine
    both = []
    for tp, dp in ((pools.prefill_tp, pools.prefill_dp), (pools.decode_tp, pools.decode_dp)):
        if tp is None:
            raise RefusedError("pools of unknown size")
        both.append(_engine(case, round(tp), round(dp or 1.0), round(tp * (dp or 1.0)) * case.pp))
    return both[0], both[1]


_KNOWN: dict[tuple[object, ...], ServingScenario] = {}


def _engine(case: ServedCase, tp: int, replicas: int, devices: int) -> ServingScenario:
    """One engine, without fitted factors."""
    ep = min(case.ep, tp * replicas) if case.model.experts > 1 else 1
    stack = case.stack
    weights = _CONTINUOUS.get(case.weights, case.weights) if stack == "mlc-llm" else case.weights
    key = (
        id(case.model),
        id(case.system),
        devices,
        stack,
        tp,
        case.pp,
        ep,
        replicas,
        weights,
        case.products,
        case.cache,
    )
    if key not in _KNOWN:
        known = precisions_of(case.device)
        precision = case.products if case.products in known and case.products not in ("fp32",) else None
        if case.weights in ("fp32", "tf32"):
            weights, precision = "fp32", "tf32" if case.weights == "tf32" and "tf32" in known else "fp32"
        served = resolve_serving(
            case.model,
            case.system,
            devices=devices,
            stack=stack,
            tp=tp,
            pp=case.pp,
            ep=ep if ep > 1 else None,
            replicas=replicas,
            weights=weights,
            kv_cache=case.cache or None,
            precision=precision,
        )
        _KNOWN[key] = replace(served, factors=ServingFactors())
    return _KNOWN[key]


@dataclass(frozen=True)
class _EngineRuns:
    """Runs that one engine answers."""

    served: ServingScenario
    rows: NDArray[np.intp]


class ServedBatch:
    """Many runs, priced together.

    Parameters
    ----------
    cases
        The runs.
    """

    def __init__(self, cases: Sequence[PricedCase]) -> None:
        self.cases = cases
        self.input_tokens = np.array([each.case.demand.input_tokens for each in cases])
        self.output_tokens = np.array([each.case.demand.output_tokens for each in cases])
        self.cached = np.array([each.case.demand.cached_tokens for each in cases])
        self.sequences = np.array([each.sequences for each in cases])
        self.static = np.array([each.case.demand.kind == "static" for each in cases])
        self.encodes = np.array([not each.served.generates for each in cases])
        self._readers = self._grouped([each.served for each in cases])
        self._writers = self._grouped([each.decoder for each in cases])

    def bounds(self) -> Values:
        """The largest logarithm of every factor that is physical, a row for each run; infinite where there is none."""
        table = np.full((len(self.cases), len(_KINDS)), np.inf)
        for group in (*self._readers, *self._writers):
            backend = group.served.backend
            assert isinstance(backend, AnalyticBackend)
            held = ServingFactors(**dict.fromkeys(_KINDS, np.inf)).held(backend.device)
            limits = np.array([float(getattr(held, kind)) for kind in _KINDS])
            table[group.rows] = np.minimum(table[group.rows], limits)
        return table

    def _grouped(self, engines: Sequence[ServingScenario]) -> list[_EngineRuns]:
        """Runs of one configuration by engine: those that may have factors of their own."""
        rows: dict[tuple[int, str], list[int]] = {}
        known: dict[tuple[int, str], ServingScenario] = {}
        for row, engine in enumerate(engines):
            run = self.cases[row].case.run
            name = (id(engine), f"{run.collection} {run.model.name} {run.hardware.device}")
            rows.setdefault(name, []).append(row)
            known[name] = engine
        return [_EngineRuns(known[name], np.array(each, dtype=np.intp)) for name, each in rows.items()]

    def passes(self, factors: Values, *, derivatives: bool = True) -> Passes:
        """Times of passes, and their derivatives.

        Parameters
        ----------
        factors
            Logarithms, a row for each run and a column for each kind.
        derivatives
            Whether these are wanted; they are zero otherwise.
        """
        size, kinds = len(factors), len(_KINDS) if derivatives else 0
        times = {name: np.zeros((kinds + 1, size)) for name in ("prompt", "decode", "added")}
        for group in self._readers:
            self._read(group, factors, times["prompt"])
        for group in self._writers:
            if group.served.generates:
                self._write(group, factors, times)
        apart = np.array([each.served is not each.decoder for each in self.cases])
        times["added"][:, apart] = 0.0
        slopes = {
            name: np.zeros((size, len(_KINDS)))
            if not derivatives
            else ((np.log(np.maximum(of[1:], 1e-12)) - np.log(np.maximum(of[0], 1e-12))) / _DIFFERENCE).T
            for name, of in times.items()
        }
        return Passes(
            *(times[name][0] for name in ("prompt", "decode", "added")),
            *(slopes[name] for name in ("prompt", "decode", "added")),
        )

    def _read(self, group: _EngineRuns, factors: Values, prompt: Values) -> None:
        """Time of prompts, or of what is encoded."""
        rows, engine = group.rows, self._varied(group, factors, len(prompt))
        tokens, sequences = self.input_tokens[rows], self.sequences[rows]
        if not group.served.generates:
            prompt[:, rows] = engine.encode(sequences, tokens)
            return
        together = np.where(self.static[rows], sequences, 1.0)
        told = np.array([self.cases[row].case.demand.chunk or np.inf for row in rows])
        usual = _UBATCH if group.served.stack.id == "llama-cpp" else np.inf
        chunk = np.minimum(tokens, np.minimum(told, usual))
        times = np.ceil(tokens / chunk)
        ahead = self.cached[rows] + (tokens - chunk) / 2.0
        prompt[:, rows] = times * engine.prefill(together, tokens / times, ahead)
        if group.served.stack.id == "llama-cpp":  # stages work on different parts of a prompt, unless each is a call
            stages, apart = float(group.served.pp), ~np.isfinite(told)
            prompt[:, rows] *= np.where(apart, (times + stages - 1.0) / (times * stages), 1.0)

    def _write(self, group: _EngineRuns, factors: Values, times: dict[str, Values]) -> None:
        """Time of an iteration, and by how much a prompt makes it longer."""
        rows, engine = group.rows, self._varied(group, factors, len(times["decode"]))
        tokens, sequences = self.input_tokens[rows], self.sequences[rows]
        context = self.cached[rows] + tokens + np.maximum(self.output_tokens[rows], 1.0) / 2.0
        decode = times["decode"][:, rows] = engine.decode(sequences, context)
        if self.static[rows].all():
            return
        if not group.served.stack.chunked:
            times["added"][:, rows] = times["prompt"][:, rows]
            return
        budget = np.maximum((group.served.plan.chunk or 8192) - sequences, 64.0)
        chunks = np.ceil(tokens / budget)
        beside = engine.mixed(tokens / chunks, tokens * (chunks - 1.0) / chunks / 2.0, sequences, context)
        times["added"][:, rows] = np.maximum(chunks * (beside - decode), 0.05 * times["prompt"][:, rows])

    def _varied(self, group: _EngineRuns, factors: Values, number: int) -> ServingPasses:
        """The engine with its factors, and with each of them a little larger."""
        own = factors[group.rows[0]]
        backend = group.served.backend
        assert isinstance(backend, AnalyticBackend)
        held = ServingFactors(**dict(zip(_KINDS, own, strict=True))).held(backend.device)
        moved = {
            kind: getattr(held, kind) + np.where(np.arange(number) == place + 1, _DIFFERENCE, 0.0)[:, None]
            for place, kind in enumerate(_KINDS)
        }
        return ServingPasses(replace(group.served, factors=ServingFactors(**moved)))
