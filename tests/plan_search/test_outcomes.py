"""How searches end: with nothing that fits, with an interruption, refused, and within bounded memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hardware.errors import InputError
from simulator.plan_search import exploration
from simulator.plan_search.exploration import Exploration, explore
from simulator.plan_search.searching import Search, search, searched, setting_of
from simulator.scenario.scenario import resolve
from simulator.specs.plan import Plan
from simulator.terminal import search as report
from tests.plan_search.cases import every, everything, small, space
from tests.stacks import unrestricted

ROOT = Path(__file__).parents[2]
_WORK: dict[str, Any] = {"sequence_length": 512, "global_batch": 8}


def _shown(outcome: Search) -> str:
    """What the terminal shows, without breaks of lines."""
    text = StringIO()
    Console(file=text, width=100).print(report.render(outcome))
    return " ".join(text.getvalue().split())


# nothing is left


def test_nothing_fits() -> None:
    outcome = search("gpt3-175b", "dgx-1-v100", workload=_WORK, where="offload_optimizer=no", pareto="time,memory")
    assert (outcome.best, outcome.feasible, outcome.priced, outcome.pareto) == ((), 0, 0, ())
    assert outcome.candidates == outcome.rejected["memory"] > 1000
    scenario = resolve("gpt3-175b", "dgx-1-v100", workload=_WORK, open_plan=True)
    all_of_it = every(scenario, space(scenario, where="offload_optimizer=no"))
    assert outcome.nearest is not None
    assert not outcome.nearest.fits
    assert outcome.nearest.memory_bytes["total"] == all_of_it.memory.min()
    assert report.why_nothing(outcome).startswith(f"no plan is left: too much memory in {outcome.candidates:,} plans")
    assert "nearest: " in _shown(outcome)
    assert "GiB too much" in _shown(outcome)


def test_the_rule_that_leaves_least_is_named() -> None:
    outcome = search("bert-large", "dgx-1-v100", stack="pytorch-ddp", workload={**_WORK, "global_batch": 7})
    assert (outcome.best, outcome.candidates, outcome.nearest) == ((), 0, None)
    assert list(outcome.rejected) == ["batch"]
    assert "no plan is left: dp x micro-batch does not divide the batch in" in _shown(outcome)


def test_conditions_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match=r"where: no plan keeps tp=2 and tp=4; write alternatives as tp=2\|4"):
        search("bert-large", "dgx-1-v100", workload=_WORK, where="tp=2,tp=4")


def test_a_prime_number_of_devices_leaves_few_plans() -> None:
    stack = unrestricted("megatron-lm")
    outcome = search("bert-large", "dgx-1-v100", devices=7, workload={**_WORK, "global_batch": 7}, stack=stack)
    shapes = {(one.plan["dp"], one.plan["pp"]) for one in outcome.best}
    assert shapes <= {(7, 1), (1, 7)}
    assert {"heads", "sequence"} <= set(outcome.rejected)


def test_one_device_has_plans_too() -> None:
    outcome = search("bert-large", "dgx-1-v100", devices=1, workload=_WORK, stack=unrestricted("pytorch-eager"))
    assert outcome.candidates == 4 * 4 * 2  # micro-batches x recomputation x offloading
    assert {name: outcome.best[0].plan[name] for name in ("dp", "tp", "pp", "cp")} == dict.fromkeys(
        ("dp", "tp", "pp", "cp"), 1
    )


def test_every_reason_has_words() -> None:
    names = set(search("mixtral-8x7b", "dgx-h100", where="ep>0", workload={"global_batch": 12}).rejected)
    assert names >= {"memory", "interleaving", "expert-group"}
    assert names <= set(report._REASONS)


# interruptions


def _interrupting(after: int) -> Callable[[Exploration, int], None]:
    seen: list[int] = []

    def progress(explored: Exploration, considered: int) -> None:
        seen.append(considered)
        assert seen == sorted(seen)
        if len(seen) == after:
            raise KeyboardInterrupt

    return progress


def test_an_interruption_leaves_the_best_so_far() -> None:
    whole = searched(small("bert"), Plan(), False)
    assert whole.whole
    outcome = searched(small("bert"), Plan(), False, progress=_interrupting(4))
    assert not outcome.whole
    assert 0 < outcome.candidates < whole.candidates
    assert outcome.best
    assert outcome.best[0].step_time_s >= whole.best[0].step_time_s
    assert "interrupted: the best found so far" in _shown(outcome)


def test_an_interruption_before_anything_fits_says_nothing_of_reasons() -> None:
    outcome = search("gpt3-175b", "dgx-1-v100", workload=_WORK, progress=_interrupting(1))
    assert not outcome.whole
    assert not outcome.best
    assert "no plan is left" not in _shown(outcome)


def test_progress_tells_how_many_plans_were_considered() -> None:
    considered: list[int] = []
    explored = explore(
        space(small("bert")), setting_of(small("bert")), progress=lambda seen, number: considered.append(number)
    )
    other_reasons = sum(number for name, number in explored.rejected.items() if name != "memory")
    assert considered[-1] == explored.candidates + other_reasons
    assert explored.candidates == len(everything("bert").plans)


# refusals


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"tp": 3}, "tp=3 does not divide devices=8; valid: 1, 2, 4, 8"),
        ({"tp": 2, "dp": 8}, "tp=2 x dp=8 = 16 does not divide devices=8; valid products: 1, 2, 4, 8"),
        ({"tp": 2, "pp": 1, "cp": 1, "dp": 2}, "= 4 is not devices=8; leave a degree open"),
        ({"micro_batch": 3}, "micro_batch=3 does not divide global_batch=8; valid products: 1, 2, 4, 8"),
        ({"ep": 2}, "ep=2 does not divide 1 experts: bert-large has no experts to share"),
        ({"pp": 2, "virtual_stages": 5}, "pp=2 x virtual_stages=5 does not divide 24 layers"),
        ({"sharding": "zero2", "sharding_group": 2}, "sharding_group=2 belongs to sharding=hybrid or zero1, not to"),
    ],
    ids=str,
)
def test_fields_that_no_plan_can_have_are_refused(plan: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as raised:
        search("bert-large", "dgx-1-v100", workload=_WORK, plan=plan)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "plan",
    [{"virtual_stages": 2}, {"sharding_group": 4, "dp": 2}, {"sharding": "hybrid", "sharding_group": 8}, {"dp": 2}],
    ids=str,
)
def test_fields_that_some_plan_can_have_are_not(plan: dict[str, Any]) -> None:
    outcome = search("bert-large", "dgx-1-v100", workload=_WORK, plan=plan)
    assert outcome.best
    assert all(one.plan[name] == value for one in outcome.best for name, value in plan.items())


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"objective": "money"}, "objective='money': choose one of time, cost, energy, memory"),
        ({"top": 0}, "top=0: list 1 to 1000 plans"),
        ({"top": 1001}, "top=1001: list 1 to 1000 plans"),
        ({"top": True}, "top=true: list 1 to 1000 plans"),
        ({"top": 2.0}, "top=2.0: list 1 to 1000 plans"),
        ({"pareto": "time"}, "pareto='time': name two of time, cost, energy, memory, such as time,memory"),
        ({"pareto": "time,time"}, "pareto='time,time': name two of"),
        ({"pareto": "time,memory,cost"}, "name two of"),
        ({"pareto": "time,mfu"}, "name two of"),
        ({"where": "tp"}, "where='tp': write a field, a comparison and a value"),
    ],
    ids=str,
)
def test_wishes_that_make_no_sense_are_refused(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as raised:
        search("bert-large", "dgx-1-v100", workload=_WORK, **wishes)
    assert words in str(raised.value)


@pytest.mark.parametrize("wishes", [{"objective": "cost"}, {"pareto": "cost,memory"}], ids=str)
def test_costs_that_nobody_knows_are_not_compared(wishes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no price of v100-sxm3-32gb is known; give one"):
        search("bert-large", "dgx-2", workload=_WORK, **wishes)
    assert search("bert-large", "dgx-2", workload=_WORK, price=2.5, **wishes).best[0].run.cost_usd


# rows and memory


def test_rows_are_alike_and_say_what_the_answers_say() -> None:
    outcome = search("bert-large", "dgx-1-v100", workload=_WORK, top=3, pareto="time,memory")
    rows = report.rows(outcome)
    assert len({tuple(row) for row in rows}) == 1
    assert [(row["list"], row["rank"]) for row in rows[:4]] == [("best", 1), ("best", 2), ("best", 3), ("pareto", 1)]
    assert [row["step_time_s"] for row in rows[:3]] == [one.step_time_s for one in outcome.best]
    assert all(row["placement"].count("-") == 3 for row in rows)
    nothing = report.rows(search("gpt3-175b", "dgx-1-v100", workload=_WORK))
    assert [(row["list"], row["fits"]) for row in nothing] == [("nearest", False)]


def test_grids_are_cut_to_pieces_of_bounded_size() -> None:
    scenario = resolve("gpt3-175b", "superpod-a100", devices=1024, open_plan=True)
    for grid in space(scenario).grids():
        for piece in grid.pieces(exploration._PLANS):
            assert piece.size <= exploration._PLANS


_SEARCH = """
from simulator.plan_search.searching import search
from tests.benchmarks.peak import peak_bytes
from tests.stacks import unrestricted
outcome = search("gpt3-175b", "superpod-a100", devices=1024, pareto="time,memory", stack=unrestricted("megatron-lm"))
print(outcome.candidates, peak_bytes())
"""


def test_tens_of_millions_of_plans_take_less_than_a_gigabyte() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _SEARCH], capture_output=True, text=True, cwd=ROOT, timeout=300, check=True
    )
    candidates, used = map(int, ended.stdout.split())
    assert candidates > 20_000_000
    assert used < 1e9
