"""The errors behind the probability of fitting, and how far it is to be believed: source by source, left out in turn.

A run that tells its memory has one error, the logarithm of measured over predicted. Runs that tell what fitted are
joined where they differ in their batch only: the error of such a configuration lies between capacity over prediction of
the smallest batch that failed and of the largest that fitted. A narrow bracket counts as its middle, a wide or open one
as the errors that others make inside of it.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware.writing import write_bytes
from simulator.corpus import runs
from simulator.corpus.mapping import MappedRun
from simulator.evidence.batch import RunBatch, mapped, shifts_of
from simulator.evidence.memory import fitted, is_suspect, measured_bytes, predicted_bytes
from simulator.pricing.constants import UNFITTED
from simulator.step.chances import LEVEL, SHIPPED, FitChances, MemoryErrors, Traits, shipped, traits_of, widening
from simulator.step.likeness import Values, likeness, quantiles, source_weights
from simulator.step.memory import Memory

_NARROW = 0.1
"""Width of a bracket up to which its middle tells the error."""
_PARTS = 9
"""Errors that a wide bracket is spread over."""
_WIDEST = 5.0
"""The most that intervals are widened by for one run: a source may lie on one side of all others."""
_BATCHES = {"global_batch", "micro_batch", "grad_accum"}
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95)
"""Shares of cases whose limits are held against measured memory."""
BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Limits between bins of predicted probability."""


class ToldMemory(NamedTuple):
    """What one run tells of its memory."""

    id: str
    source: str
    configuration: Hashable
    traits: Traits
    room: float
    """Logarithm of what its device has over what was predicted."""
    error: float | None
    """Logarithm of measured over predicted, where it was measured."""
    did: bool | None
    """Whether it fitted, where the source says so or it was measured."""


class _Bracket(NamedTuple):
    """Limits of the error of one configuration; equal where it was measured."""

    id: str
    source: str
    traits: Traits
    low: float
    high: float


def told_by(cases: Sequence[MappedRun], memory: Memory) -> list[ToldMemory]:
    """What runs tell of their memory; suspect ones tell nothing.

    Parameters
    ----------
    cases
        The scenarios of runs.
    memory
        Predicted for each, in arrays in the order of `cases` [B].
    """
    parts = {name: np.broadcast_to(np.asarray(value), (len(cases),)) for name, value in vars(memory).items()}
    told = []
    for place, case in enumerate(cases):
        one = Memory(**{name: values[place] for name, values in parts.items()})
        measured, stated = measured_bytes(case.run), case.run.measured.oom is not None
        if is_suspect(case) or (measured is None and not stated):
            continue
        told.append(
            ToldMemory(
                id=case.run.id,
                source=case.run.collection,
                configuration=_configuration(case),
                traits=traits_of(case.model, case.system, case.stack),
                room=float(np.log(case.system.device.memory_capacity / one.total)),
                error=None if measured is None else float(np.log(measured / predicted_bytes(case, one))),
                did=fitted(case.run) if stated else True,
            )
        )
    return told


def _configuration(case: MappedRun) -> str:
    """What runs have in common that differ in their batch only."""
    run = case.run
    plain = {
        "source": run.collection,
        "model": run.model.model_dump(exclude_defaults=True),
        "hardware": run.hardware.model_dump(exclude_defaults=True),
        "plan": run.plan.model_dump(exclude_defaults=True, exclude=_BATCHES),
    }
    return json.dumps(plain, sort_keys=True, default=str)


def _brackets(told: Iterable[ToldMemory]) -> Iterator[_Bracket]:
    """Limits of errors: of each run that was measured, and of each configuration of those that only fitted or not."""
    groups: defaultdict[Hashable, list[ToldMemory]] = defaultdict(list)
    for each in told:
        if each.error is not None:
            yield _Bracket(each.id, each.source, each.traits, each.error, each.error)
        else:
            groups[each.configuration].append(each)
    for group in groups.values():
        low = max((each.room for each in group if not each.did), default=-np.inf)
        high = min((each.room for each in group if each.did), default=np.inf)
        if low > high:  # a larger batch fitted where a smaller one did not
            low = high = 0.5 * (low + high)
        yield _Bracket(group[0].id, group[0].source, group[0].traits, low, high)


def errors_of(told: Sequence[ToldMemory]) -> MemoryErrors:
    """The errors that runs tell of, with the factor that covers left-out sources often enough."""
    brackets = list(_brackets(told))
    clear = [each for each in brackets if each.high - each.low <= _NARROW]
    known = _joined([(each, 0.5 * (each.low + each.high), 1.0) for each in clear])
    vague = [each for each in brackets if each.high - each.low > _NARROW]
    spread = [(each, error, 1.0 / _PARTS) for each in vague for error in _inside(each, known)]
    every = _joined([*((each, 0.5 * (each.low + each.high), 1.0) for each in clear), *spread])
    return replace(every, factor=_factor(every))


def _joined(rows: Sequence[tuple[_Bracket, float, float]]) -> MemoryErrors:
    """Rows as arrays."""
    return MemoryErrors(
        ids=np.array([each.id for each, _, _ in rows]),
        sources=np.array([each.source for each, _, _ in rows]),
        traits=np.array([each.traits for each, _, _ in rows]),
        logarithms=np.array([round(error, 4) for _, error, _ in rows]),
        counts=np.array([round(count, 4) for _, _, count in rows]),
    )


def _inside(bracket: _Bracket, known: MemoryErrors) -> Values:
    """The errors that other sources make inside a bracket, or its limit where they make none."""
    inside = (known.logarithms >= bracket.low) & (known.logarithms <= bracket.high)
    weights = known.weights * inside * (known.sources != bracket.source)
    if not weights.any():
        finite = [limit for limit in (bracket.low, bracket.high) if np.isfinite(limit)]
        return np.full(_PARTS, float(np.mean(finite)))
    return quantiles(known.logarithms, weights, (np.arange(_PARTS) + 0.5) / _PARTS)


def _factor(errors: MemoryErrors) -> float:
    """Factor on intervals with which they cover as many rows of left-out sources as they say."""
    if len(set(errors.sources.tolist())) < 2:
        return 1.0
    needed = np.empty(len(errors.ids))
    ends = np.array([(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    for row, traits in enumerate(errors.traits):
        distances = errors.distances(tuple(traits.tolist()))
        others = errors.sources != errors.sources[row]
        wide = float(widening(distances[others].min()))
        low, high = wide * quantiles(errors.logarithms, errors.weights * likeness(distances) * others, ends)
        error = errors.logarithms[row]
        end = max(high, 0.0) if error > 0.0 else min(low, 0.0)
        needed[row] = min(error / end, _WIDEST) if end else _WIDEST * (error != 0.0)
    return round(float(quantiles(needed, errors.weights, np.array([LEVEL]))[0]), 4)


@dataclass(frozen=True)
class Bin:
    """Predictions of a like probability, and what came of them."""

    low: float
    high: float
    predicted: float
    """Mean probability that was predicted."""
    runs: int
    fitted: float
    """Share of them that did fit."""


@dataclass(frozen=True)
class Quantile:
    """A share of cases that memory was predicted to stay below a limit in, and the share that did."""

    share: float
    below: float
    by_source: float
    """The same with sources weighted as in the distribution."""


@dataclass(frozen=True)
class Calibration:
    """Probabilities of fitting beside what happened, on sources that were left out."""

    runs: int
    sources: int
    bins: tuple[Bin, ...]
    """Of runs that say whether they fitted."""
    quantiles: tuple[Quantile, ...]
    """Of runs that tell their memory."""
    brier: float | None
    """Mean square of probability less outcome, over runs that say whether they fitted."""
    coverage_90: float | None
    """Share of the runs that tell their memory for which it lies inside the 90 % interval."""
    coverage_90_by_source: float | None
    """The same where large sources count less than in proportion."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "bins": [vars(e) for e in self.bins], "quantiles": [vars(e) for e in self.quantiles]}


def calibration(told: Sequence[ToldMemory], *, of_shipped: bool = True) -> Calibration | None:
    """How probabilities of fitting are borne out, each by errors on other sources; nothing where no run tells.

    Parameters
    ----------
    told
        What runs tell of their memory.
    of_shipped
        Whether they are the shipped runs, whose errors are collected anew without each source; others are judged by
        the shipped errors.
    """
    if not told:
        return None
    chances = _chances(told, of_shipped=of_shipped)
    stated = [place for place, each in enumerate(told) if each.error is None]
    measured = [place for place, each in enumerate(told) if each.error is not None]
    fitted_at = np.array([float(chances[place].chance(1.0, np.exp(told[place].room))) for place in stated])
    reached = np.array([float(chances[place].chance(1.0, np.exp(told[place].error or 0.0))) for place in measured])
    did = np.array([bool(told[place].did) for place in stated])
    sources = np.array([told[place].source for place in measured])
    inside = np.abs(reached - 0.5) <= LEVEL / 2.0
    return Calibration(
        runs=len(told),
        sources=len({each.source for each in told}),
        bins=tuple(_bins(fitted_at, did)),
        quantiles=tuple(_quantiles(reached, sources)) if measured else (),
        brier=float(np.mean((fitted_at - did) ** 2)) if stated else None,
        coverage_90=float(np.mean(inside)) if measured else None,
        coverage_90_by_source=float(np.average(inside, weights=source_weights(sources))) if measured else None,
    )


def _chances(told: Sequence[ToldMemory], *, of_shipped: bool) -> list[FitChances]:
    """The distribution of each run, by runs of other sources."""
    if of_shipped:
        names = {each.source for each in told}
        errors = {name: errors_of([each for each in told if each.source != name]) for name in names}
        known = {(each.traits, each.source): None for each in told}
        around = {(traits, source): errors[source].around(traits) for traits, source in known}
        return [around[each.traits, each.source] for each in told]
    return [shipped().around(each.traits) for each in told]


def _quantiles(reached: Values, sources: NDArray[np.str_]) -> Iterator[Quantile]:
    """Shares of runs below limits that were predicted for such shares."""
    weights = source_weights(sources)
    for share in SHARES:
        below = reached <= share
        yield Quantile(share, float(np.mean(below)), float(weights @ below / weights.sum()))


def _bins(chances: Values, did: Any) -> Iterator[Bin]:
    """Predictions of like probability together."""
    places = np.clip(np.searchsorted(BINS, chances, side="right") - 1, 0, len(BINS) - 2)
    for place in np.unique(places):
        inside = places == place
        yield Bin(
            BINS[place],
            BINS[place + 1],
            float(chances[inside].mean()),
            int(inside.sum()),
            float(np.mean(did[inside])),
        )


def of_shipped_runs() -> MemoryErrors:
    """The errors of predicted memory on the shipped runs; fitted constants move times only."""
    cases = mapped(run for run in runs.shipped() if run.task != "forward" and _tells(run)).cases
    return errors_of(told_by(cases, RunBatch(cases).price(shifts_of(cases, UNFITTED)).memory))


def _tells(run: runs.Run) -> bool:
    """Whether a run tells anything of its memory."""
    return run.measured.memory_gb is not None or run.measured.oom is not None


def save(errors: MemoryErrors, path: Path) -> None:
    """Write errors in compact form, the same bytes for the same content.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    document = {
        "ids": errors.ids.tolist(),
        "sources": errors.sources.tolist(),
        "traits": errors.traits.tolist(),
        "logarithms": errors.logarithms.tolist(),
        "counts": errors.counts.tolist(),
        "factor": errors.factor,
    }
    write_bytes(path, gzip.compress(json.dumps(document, separators=(",", ":")).encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":  # what `capsim fit` writes besides the constants, without a fit
    save(of_shipped_runs(), SHIPPED)
