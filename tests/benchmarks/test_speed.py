"""How fast searches are: ``make bench``. Figures of docs/search.md; the tests leave this folder out.

Each figure is taken with one process on one core; the lines at the end are those of the table.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from simulator.formulas import money
from simulator.plan_search.exploration import _PLANS
from simulator.plan_search.pricing import number, step_times, weigh
from simulator.plan_search.searching import search, setting_of, space_of
from simulator.scenario.scenario import resolve
from tests.benchmarks import cold_start
from tests.stacks import unrestricted

ROOT = Path(__file__).parents[2]
_ROUNDS = 3
_SEARCHES = {
    "gpt3-175b on 4096 A100": ("gpt3-175b", "superpod-a100", 4096),
    "palm-540b on 6144 TPU v4": ("palm-540b", "palm-2pod", 6144),
}
_ALONE = """
import json, sys
from simulator.plan_search.searching import search
from tests.benchmarks.peak import peak_bytes
model, system, devices = sys.argv[1:]
outcome = search(model, system, devices=int(devices))
print(json.dumps({"candidates": outcome.candidates, "priced": outcome.priced, "peak": peak_bytes()}))
"""


class Benchmark(Protocol):
    """What is used of pytest-benchmark."""

    extra_info: dict[str, Any]

    def pedantic(
        self, target: Callable[..., Any], args: tuple[Any, ...] = (), *, rounds: int = 1, warmup_rounds: int = 0
    ) -> Any:
        """Run and measure a function."""


def _priced(model: str, system: str, devices: int) -> tuple[int, float]:
    """Plans whose time, memory and money are written down one by one, and the processor's time that took."""
    scenario = resolve(model, system, devices=devices, open_plan=True)
    scenario = replace(scenario, stack=unrestricted(scenario.stack))
    setting, space = setting_of(scenario), space_of(scenario, ())
    assert scenario.price is not None
    grids = sorted(space.grids(), key=lambda grid: -grid.size)[:3]
    start, plans = time.process_time(), 0
    for grid in grids:
        for piece in grid.pieces(_PLANS):
            weighed = weigh(piece, setting, Counter())
            seconds = scenario.workload.total_steps * np.asarray(step_times(weighed, setting))
            cost = np.asarray(money.cost(money.device_seconds(seconds, float(devices)), scenario.price.rate))
            answers = np.stack([np.broadcast_to(each, piece.shape) for each in (seconds, weighed.memory, cost)])
            plans += number(weighed.kept, piece)
            assert answers.shape[1:] == piece.shape
    return plans, time.process_time() - start


def test_plans_priced_in_a_second(benchmark: Benchmark, told: list[tuple[str, str]]) -> None:
    samples: list[tuple[int, float]] = []
    benchmark.pedantic(
        lambda: samples.append(_priced("gpt3-175b", "superpod-a100", 1024)), rounds=_ROUNDS, warmup_rounds=1
    )
    rate = statistics.median(plans / seconds for plans, seconds in samples)
    benchmark.extra_info["plans_per_second"] = rate
    told.append(("plans with time, memory and money, a second and core", f"{rate / 1e6:.1f} million"))
    assert rate > 1e5


@pytest.mark.parametrize("name", _SEARCHES)
def test_a_whole_search(name: str, benchmark: Benchmark, told: list[tuple[str, str]]) -> None:
    model, system, devices = _SEARCHES[name]
    seconds: list[float] = []
    benchmark.pedantic(lambda: seconds.append(search(model, system, devices=devices).seconds), rounds=_ROUNDS)
    command = [sys.executable, "-c", _ALONE, model, system, str(devices)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    alone = json.loads(ended.stdout)
    benchmark.extra_info.update(alone)
    millions = f"{alone['candidates'] / 1e6:.1f} million plans, {alone['priced'] / 1e6:.1f} million of them fit"
    told.append((f"{name}: {millions}", f"{statistics.median(seconds):.1f} s"))
    told.append((f"{name}: peak memory", f"{alone['peak'] / 1e6:.0f} MB"))
    assert alone["peak"] < 1e9


@pytest.mark.parametrize("name", cold_start.COMMANDS)
def test_a_cold_start(name: str, benchmark: Benchmark, told: list[tuple[str, str]]) -> None:
    seconds: list[float] = []
    benchmark.pedantic(lambda: seconds.append(cold_start.seconds(cold_start.COMMANDS[name])), rounds=9, warmup_rounds=1)
    told.append((f"cold start: {name}", f"{statistics.median(seconds[1:]):.2f} s"))
