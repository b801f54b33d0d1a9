"""Replay and closed formula agree on scenarios drawn over models, systems, stacks and plans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

import simulator
from hardware.errors import InputError
from simulator.replay.timeline import timeline
from simulator.specs.loading import load_model
from tests.frozen.answers import _drawn
from tests.stacks import unrestricted
from tests.thorough import cases

_SCENARIOS = cases(usual=100, thorough=300)
_MEDIAN, _MOST = 0.02, 0.05
_MOST_PASSES = 20_000
"""Of all stages of a scenario together: what is drawn has steps of thousands of micro-batches too."""


class Difference(NamedTuple):
    """How much longer a replay takes than the closed formula says."""

    share: float
    words: str


def _scenarios() -> Iterator[simulator.Scenario]:
    """The first of those drawn that can be, and are not large."""
    number = 0
    for arguments in _drawn():
        try:
            scenario = simulator.resolve(**arguments)
        except InputError:
            continue
        plans = scenario.columns().plans
        if float(np.asarray(plans.micro_batches * plans.pp * plans.virtual_stages)) > _MOST_PASSES:
            continue
        yield scenario
        number += 1
        if number == _SCENARIOS:
            return


def _words(scenario: simulator.Scenario) -> str:
    """A scenario in a line."""
    usual = (None, False, 1, 1.0)
    plan = " ".join(f"{name}={value}" for name, value in scenario.plan if value not in usual and name != "placement")
    return f"{scenario.model.id} on {scenario.devices} of {scenario.system.id} under {scenario.stack.id}: {plan}"


@pytest.fixture(scope="module")
def differences() -> list[Difference]:
    """Of all scenarios, the largest first."""
    each = [Difference(timeline(scenario).difference, _words(scenario)) for scenario in _scenarios()]
    return sorted(each, key=lambda one: -abs(one.share))


def _listed(differences: list[Difference]) -> str:
    """The worst ones, a line each."""
    return "\n".join(f"{one.share:+.2%} {one.words}" for one in differences[:12])


@pytest.mark.parametrize("micro_batches", [8, 12, 32])
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("schedule", ["looped-bfs", "zero-bubble-v", "dualpipe-v"])
@pytest.mark.parametrize(("model", "layers"), [("llama-3-8b", 32), ("gpt3-6.7b", 30), ("mixtral-8x7b", 16)])
def test_chunks_that_torch_alone_has(
    model: str, layers: int, schedule: str, recompute: str, micro_batches: int
) -> None:
    """The same for schedules that only torch's pipelines have, which are not among those drawn."""
    plan = {"tp": 2, "pp": 4, "micro_batch": 1, "schedule": schedule, "virtual_stages": 2, "recompute": recompute}
    small = load_model(model).model_copy(update={"layers": layers})
    work = {"global_batch": 2 * micro_batches}
    step = timeline(
        simulator.resolve(small, "dgx-h100", devices=16, stack=unrestricted("torchtitan"), plan=plan, workload=work)
    )
    assert abs(step.difference) < _MOST


def test_half_of_all_differ_by_less_than_two_hundredths(differences: list[Difference]) -> None:
    assert len(differences) == _SCENARIOS
    assert np.median([abs(one.share) for one in differences]) < _MEDIAN, _listed(differences)


def test_none_differs_by_more_than_five_hundredths(differences: list[Difference]) -> None:
    beyond = [one for one in differences if abs(one.share) >= _MOST]
    assert not beyond, f"{len(beyond)} of {len(differences)}:\n{_listed(beyond)}"
