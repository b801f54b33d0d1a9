"""The order of plans: regret and pairs by hand, what makes a group, and what the shipped runs say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from simulator.corpus.mapping import MappedRun
from simulator.evidence.batch import mapped
from simulator.evidence.plan_order import OrderScore, PlanGroup, groups_of, plan_order
from simulator.evidence.validation import Validation
from simulator.terminal.evidence.tables import ranking_rows, render
from tests.evidence.examples import timed


def _group(measured: list[float], predicted: list[float], source: str = "one") -> PlanGroup:
    return PlanGroup(source, len(measured), np.array(measured), np.array(predicted))


def _tried(measured: dict[int, float], source: str = "one") -> list[MappedRun]:
    """Runs of one model that differ in their micro-batch, with made-up times."""
    run = next(
        run for run in timed() if run.id == "megatron-sc21-fig13-16-pp8-tp8-b32" or run.collection == "vtrain_single"
    )
    runs = []
    for micro_batch, time in measured.items():
        plan = run.plan.model_copy(update={"micro_batch": float(micro_batch), "global_batch": 64.0})
        told = run.measured.model_copy(update={"step_time_s": time})
        fields = {"id": f"{source} {micro_batch} {time}", "plan": plan, "measured": told, "collection": source}
        runs.append(run.model_copy(update=fields))
    return list(mapped(runs).cases)


def test_regret_is_what_the_predicted_best_plan_takes_beyond_the_best() -> None:
    assert _group([2.0, 3.0, 2.5], [1.0, 2.0, 3.0]).regret == 0.0
    assert _group([2.0, 3.0, 2.5], [3.0, 1.0, 2.0]).regret == pytest.approx(0.5)
    assert _group([2.0, 3.0, 2.5], [2.0, 1.0, 1.0]).regret == pytest.approx(2.75 / 2.0 - 1.0)  # a tie: either


def test_pairs_count_from_five_per_cent_and_a_tie_is_not_in_order() -> None:
    assert _group([1.00, 1.04], [1.0, 2.0]).pairs == (0, 0)
    assert _group([1.00, 1.06], [1.0, 2.0]).pairs == (1, 1)
    assert _group([1.06, 1.00], [1.0, 2.0]).pairs == (1, 0)
    assert _group([1.00, 1.06], [1.0, 1.0]).pairs == (1, 0)
    assert _group([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0]).pairs == (6, 5)


def test_scores_sum_over_groups() -> None:
    score = OrderScore.of([_group([1.0, 2.0], [2.0, 1.0]), _group([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])])
    assert (score.groups, score.runs, score.pairs) == (2, 5, 4)
    assert score.regret_mean == score.regret_median == pytest.approx(0.5)
    assert score.pairs_right == pytest.approx(3 / 4)


def test_a_group_differs_in_plans_only() -> None:
    cases = _tried({1: 4.0, 2: 3.0}) + _tried({4: 2.0}, "another source")
    assert [(group.source, len(group.measured)) for group in groups_of(cases, np.ones(3))] == [("one", 2)]
    fewer = replace(cases[1], devices=cases[1].devices * 2)
    assert groups_of([cases[0], fewer], np.ones(2)) == []
    assert plan_order([cases[0], fewer], np.ones(2)) is None


def test_runs_of_one_plan_count_as_their_mean() -> None:
    cases = _tried({1: 4.0, 2: 3.0})
    again = replace(cases[0], run=cases[0].run.model_copy(update={"measured": cases[1].run.measured}))
    (group,) = groups_of([*cases, again], np.array([2.0, 1.0, 2.0]))
    assert group.runs == 3
    assert sorted(group.measured) == pytest.approx([3.0, 3.5])
    assert groups_of([cases[0], again], np.ones(2)) == []


def test_suspect_runs_do_not_count() -> None:
    cases = _tried({1: 4.0, 2: 3.0})
    doubtful = replace(cases[0], run=cases[0].run.model_copy(update={"suspect": "it contradicts itself"}))
    assert groups_of([doubtful, cases[1]], np.ones(2)) == []


def test_the_source_left_out_is_the_one_that_scatters_most() -> None:
    steady = {2**power: 1.0 + power for power in range(6)}
    wild = {2**power: time for power, time in enumerate((1.0, 20.0, 1.0, 20.0, 1.0, 20.0))}
    cases = _tried(steady, "steady") + _tried(wild, "wild")
    order = plan_order(cases, np.array([*steady.values(), *steady.values()]))
    assert order is not None
    assert order.least_explained == "wild"
    assert order.others == order.by_source["steady"]
    assert order.others.pairs_right == 1.0


def test_shipped_runs_are_ordered_and_reported(validation: Validation) -> None:
    document = json.loads(json.dumps(validation.to_dict(), allow_nan=False))["ranking"]
    assert set(document) >= {"groups", "runs", "regret_median", "regret_mean", "pairs", "pairs_right"}
    assert document["groups"] > 150
    assert document["regret_median"] <= document["regret_mean"]
    assert 0.5 < document["pairs_right"] <= 1.0
    assert document["known_stack"]["pairs"] == document["pairs"] == document["nothing_fitted"]["pairs"]
    assert sum(score["pairs"] for score in document["by_source"].values()) == document["pairs"]
    assert document["without_least_explained"]["regret_mean"] < 0.05
    assert len(ranking_rows(validation)) == 6
    assert render(validation)
