"""Score runs anew by constants that never saw them: ``python -m simulator.evidence.rescoring``.

After a change of formulas that is followed by no fit, constants of cross-validation stay as they are, and what they say
of the runs that they never saw is what the intervals have to rest on. Runs that no fit saw are scored by constants
without their source, and by those of the fold that they would belong to.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simulator.corpus import runs
from simulator.corpus.mapping import MappedRun
from simulator.evidence import held_out
from simulator.evidence.batch import RunBatch, mapped, own_shifts_of
from simulator.evidence.errors import SCHEMES, SHIPPED, Scheme
from simulator.evidence.held_out import HeldOut
from simulator.pricing.constants import Constants


def rescored(known: HeldOut, cases: Sequence[MappedRun]) -> HeldOut:
    """The same constants with the errors that they make now.

    Parameters
    ----------
    known
        Constants of a cross-validation, and what each run was left out with.
    cases
        Runs with a measured step time; those whose source no constants are without are left aside.
    """
    chosen = [case for case in cases if case.run.suspect is None and case.run.collection in known.by_source]
    batch = RunBatch(chosen)
    measured = np.array([case.run.measured.step_time_s for case in chosen], dtype=np.float64)
    errors = {}
    for scheme in SCHEMES:
        groups = [_group(case, scheme) for case in chosen]
        own = [_constants(known, group, scheme) for group in groups]
        predicted = batch.times(own_shifts_of(chosen, own))
        errors[scheme] = held_out.errors_of_cases(chosen, np.log(measured / predicted), np.array(groups))
    return replace(known, errors=errors)


def _group(case: MappedRun, scheme: Scheme) -> str:
    """What was left out for a run, or would have been."""
    return case.run.collection if scheme == "new source" else str(held_out.fold_of(case.run))


def _constants(known: HeldOut, group: str, scheme: Scheme) -> Constants:
    """Constants that never saw the runs of a group."""
    return known.by_source[group] if scheme == "new source" else known.by_fold[int(group)]


def main() -> int:
    """Score the shipped runs by the shipped constants of cross-validation, and write the errors in their place."""
    timed = [run for run in runs.shipped() if run.task != "forward" and run.measured.step_time_s is not None]
    held_out.save(rescored(held_out.stored_constants(), mapped(timed).cases), SHIPPED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
