"""The share of mutants that the tests of each room kill: ``python -m tests.mutation``, or ``make mutants``."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.mutation.mutating import Mutant, defaults, mutants, replaced
from tests.mutation.rooms import NAMED, ROOT, TESTS, modules, room_of

_LEAST_SHARE = 0.85


def main() -> int:
    """Try a sample of mutants, and print those that survive and the share of each room."""
    asked = _arguments()
    os.chdir(ROOT)
    chosen = asked.module or [module for room in TESTS for module in modules(room)]
    tried = _sample(chosen, asked.sample, asked.seed)
    named = [replaced(module, (ROOT / module).read_text(), old, new) for module, old, new in NAMED if module in chosen]
    _say(f"{len(tried)} mutants of {len(chosen)} modules, and {len(named)} named ones")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        return _report([*named, *tried], asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", action="append", help="path of a module; all of the four rooms unless given")
    parser.add_argument("--sample", type=int, default=16, help="mutants of each module, 0 for all (default: 16)")
    parser.add_argument("--seed", type=int, default=11, help="of the sample (default: 11)")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time (default: 1)")
    parser.add_argument("--limit", type=float, default=60.0, help="processor time for one mutant [s] (default: 60)")
    parser.add_argument("--verbose", action="store_true", help="print the mutants that are killed, too")
    return parser.parse_args()


def _sample(chosen: Sequence[str], size: int, seed: int) -> list[Mutant]:
    """As many mutants of each module, the same ones for the same seed."""
    sources = {module: (ROOT / module).read_text() for room in TESTS for module in modules(room)}
    known = defaults(sources.values())
    sample = []
    for module in chosen:
        every = mutants(module, sources[module], known)
        picked = random.Random(f"{seed} {module}").sample(every, min(size or len(every), len(every)))
        sample += sorted(picked, key=lambda each: each.line)
    return sample


def _report(tried: Sequence[Mutant], asked: argparse.Namespace) -> int:
    """Judge mutants and print what became of them; 1 where the share is below what is wanted."""
    from tests.mutation.reach import measure
    from tests.mutation.running import check, judge

    began = time.monotonic()
    reach = measure({each.module for each in tried})
    _say(f"{len(reach.seconds)} tests, read in {time.monotonic() - began:.0f} s")
    check(tried, reach, limit=asked.limit)
    counts: dict[str, list[bool]] = {}
    for verdict in judge(tried, reach, jobs=asked.jobs, limit=asked.limit):
        counts.setdefault(room_of(verdict.mutant.module), []).append(verdict.killed)
        if verdict.killed and asked.verbose:
            _say(f"killed   {verdict.mutant}  [{verdict.killer}, {verdict.seconds:.1f} s]")
        if not verdict.killed:
            reached = (
                f"{verdict.tests} tests reach it, {verdict.seconds:.1f} s" if verdict.tests else "no test reaches it"
            )
            _say(f"SURVIVED {verdict.mutant}  [{reached}]\n         {verdict.mutant.mutated_line}")
    for room, killed in sorted(counts.items()):
        _say(f"{room:20} {sum(killed):5} of {len(killed):5} killed: {sum(killed) / len(killed):6.1%}")
    every = [killed for room in counts.values() for killed in room]
    share = sum(every) / max(len(every), 1)
    _say(f"{'total':20} {sum(every):5} of {len(every):5} killed: {share:6.1%}, in {time.monotonic() - began:.0f} s")
    return int(share < _LEAST_SHARE)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
