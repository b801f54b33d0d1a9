"""Predicted memory held against published runs: bytes where they tell them, and whether the run fitted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simulator.corpus.mapping import MappedRun
from simulator.corpus.runs import Run
from simulator.formulas.typing import Num
from simulator.step.memory import Memory

Figure = Literal["allocated", "reserved", "device"]
"""What a measurement counts: tensors; what the allocator holds for them; that with driver, runtime and libraries."""

_FIGURES: tuple[tuple[str, Figure], ...] = (
    (r"(memory|peak|max).{0,8}allocated|allocated memory|allocated [\d.]+ gib", "allocated"),
    ("reserved", "reserved"),
    ("nanotron|torchtitan", "reserved"),
)
"""The first pattern in framework and note decides; the device's own count, as nvidia-smi gives it, where none does."""
_TOLD_IN_GIB = re.compile(r"published as ([\d.]+) GiB")
_GIB = 2.0**30
_MOST_OF_CAPACITY = 1.1
"""More than this share of a device's memory is no figure of one device, whatever was published."""


def figure_of(run: Run) -> Figure:
    """Which predicted figure a run's measurement is compared with."""
    words = f"{run.plan.framework or ''} {run.note}".lower()
    return next((figure for pattern, figure in _FIGURES if re.search(pattern, words)), "device")


def measured_bytes(run: Run) -> float | None:
    """Memory as measured [B]; tools print a GB of 2^30 bytes, and a note that tells the GiB is exact."""
    if run.measured.memory_gb is None:
        return None
    told = _TOLD_IN_GIB.search(run.note)
    return (float(told[1]) if told else run.measured.memory_gb) * _GIB


def predicted_bytes(case: MappedRun, memory: Memory) -> Num:
    """The predicted figure that the run's measurement is compared with [B]."""
    figure = figure_of(case.run)
    if figure == "allocated":
        return memory.total - memory.reserved
    return memory.total - (case.stack.runtime_memory if figure == "reserved" else 0.0)


def fitted(run: Run) -> bool | None:
    """Whether a run fitted: as it says, or evidently where it tells how fast it was; nothing where it tells neither."""
    measured = run.measured
    if measured.oom is not None:
        return not measured.oom
    rates = (measured.step_time_s, measured.tokens_per_s, measured.samples_per_s)
    return True if any(rate is not None for rate in rates) else None


def is_suspect(case: MappedRun) -> bool:
    """Whether a run contradicts itself or its neighbours, or tells more memory than its device has."""
    measured = measured_bytes(case.run)
    beyond = measured is not None and measured > _MOST_OF_CAPACITY * case.system.device.memory_capacity
    return case.run.suspect is not None or beyond


@dataclass(frozen=True)
class BytesErrors:
    """Errors of predicted bytes, as shares of the measured ones."""

    rows: int
    median_abs_error: float
    mean_abs_error: float
    p90_abs_error: float
    bias: float
    """Median of the signed errors."""


@dataclass(frozen=True)
class Fits:
    """Predictions of whether runs fit, against whether they did."""

    rows: int
    right: float
    """Share of them."""
    fitted_as_said: int
    failed_as_said: int
    said_fits_and_did_not: int
    said_does_not_fit_and_did: int


@dataclass(frozen=True)
class MemoryScore:
    """How far predicted memory is from published runs."""

    bytes: BytesErrors | None
    """Runs that tell their memory; nothing where none does."""
    bytes_by_source: dict[str, BytesErrors]
    pairs: Fits | None
    """Runs of sources that say what fitted and what did not."""
    all_fits: Fits | None
    """Those, and every run that has a rate and so evidently fitted."""
    suspect_bytes: BytesErrors | None
    suspect_fits: Fits | None

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers."""
        return {
            "bytes": _plain(self.bytes),
            "bytes_by_source": {name: vars(score) for name, score in self.bytes_by_source.items()},
            "pairs": _plain(self.pairs),
            "all_fits": _plain(self.all_fits),
            "suspect": {"bytes": _plain(self.suspect_bytes), "all_fits": _plain(self.suspect_fits)},
        }


def _plain(score: BytesErrors | Fits | None) -> dict[str, Any]:
    """A score as plain numbers."""
    return {} if score is None else dict(vars(score))


@dataclass(frozen=True)
class _Row:
    """One run beside its prediction."""

    source: str
    suspect: bool
    error: float | None
    """Predicted over measured bytes, less 1."""
    said: bool
    did: bool | None
    stated: bool
    """Whether it was predicted to fit, whether it did, and whether the source itself says so."""


def compare(cases: Sequence[MappedRun], memory: Memory) -> MemoryScore:
    """Score predicted memory; suspect runs apart.

    Parameters
    ----------
    cases
        The scenarios of runs.
    memory
        Predicted for the fullest stage of each, in arrays in the order of `cases` [B].
    """
    parts = {name: np.broadcast_to(np.asarray(value), (len(cases),)) for name, value in vars(memory).items()}
    rows = [_row(case, Memory(**{name: parts[name][place] for name in parts})) for place, case in enumerate(cases)]
    sound, suspect = [row for row in rows if not row.suspect], [row for row in rows if row.suspect]
    sources = {name: _errors(row for row in sound if row.source == name) for name in {row.source for row in sound}}
    return MemoryScore(
        bytes=_errors(sound),
        bytes_by_source={name: score for name, score in sorted(sources.items()) if score},
        pairs=_fits(row for row in sound if row.stated),
        all_fits=_fits(sound),
        suspect_bytes=_errors(suspect),
        suspect_fits=_fits(suspect),
    )


def _row(case: MappedRun, memory: Memory) -> _Row:
    """Compare one run with its prediction."""
    run, measured = case.run, measured_bytes(case.run)
    return _Row(
        source=run.collection or run.source.title,
        suspect=is_suspect(case),
        error=None if measured is None else float(predicted_bytes(case, memory)) / measured - 1.0,
        said=bool(memory.total <= case.system.device.memory_capacity),
        did=None if _is_on_host(case) else fitted(run),
        stated=run.measured.oom is not None,
    )


def _is_on_host(case: MappedRun) -> bool:
    """Whether modules are recomputed beside tensors that wait with the host, which count as kept on the device."""
    return case.plan.recompute_modules is not None and "offload" in (case.run.plan.remat_policy or "")


def _errors(rows: Iterable[_Row]) -> BytesErrors | None:
    """Sum up errors of bytes."""
    errors: NDArray[np.float64] = np.array([row.error for row in rows if row.error is not None], dtype=np.float64)
    if not errors.size:
        return None
    sizes = np.abs(errors)
    median, mean, p90, bias = np.median(sizes), np.mean(sizes), np.quantile(sizes, 0.9), np.median(errors)
    return BytesErrors(errors.size, float(median), float(mean), float(p90), float(bias))


def _fits(rows: Iterable[_Row]) -> Fits | None:
    """Count what fitted as said, and what did not."""
    pairs = [(row.said, row.did) for row in rows if row.did is not None]
    if not pairs:
        return None
    right = pairs.count((True, True)) + pairs.count((False, False))
    return Fits(
        rows=len(pairs),
        right=right / len(pairs),
        fitted_as_said=pairs.count((True, True)),
        failed_as_said=pairs.count((False, False)),
        said_fits_and_did_not=pairs.count((True, False)),
        said_does_not_fit_and_did=pairs.count((False, True)),
    )
