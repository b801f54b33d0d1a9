"""The fields of a scenario: those of the command line, and what the public API takes for them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import simulator
from dashboard.choices.scenario import BEST, GROUPS, applies, arguments, blamed, field, fields
from dashboard.choices.state import Choices, opening
from simulator.commands.estimating import estimate
from simulator.commands.verifying import verify

_ONLY_THERE = {"json", "of_model"}
"""Options of the command line that are no choices here: no launch file is read."""


def _with(**values: Any) -> Choices:
    return opening(fields()).change(values)


def test_every_option_of_the_command_line_can_be_chosen() -> None:
    options = set(inspect.signature(estimate).parameters) & set(inspect.signature(verify).parameters) - _ONLY_THERE
    assert {each.name for each in fields()} - {BEST} == options


def test_names_are_unique() -> None:
    names = [each.name for each in fields()]
    assert len(set(names)) == len(names)
    assert all(field(name).name == name for name in names)


def test_arguments_are_those_of_the_api() -> None:
    keywords = arguments(_with(tp=2, steps=100, price="2.5", lifetime="5 years", restart="10 min", best_plan=True))
    assert keywords == {
        "model": "bert-large",
        "system": "dgx-a100-640gb",
        "price": "2.5",
        "plan": {"tp": 2},
        "workload": {"steps": 100},
        "ownership": {"lifetime": "5 years"},
        "reliability": {"restart": "10 min"},
    }
    assert set(keywords) <= set(inspect.signature(simulator.estimate).parameters)
    assert set(GROUPS) <= set(inspect.signature(simulator.estimate).parameters)


def test_an_objective_changes_the_model() -> None:
    keywords = arguments(_with(objective="span"))
    assert keywords["model"] == {"base": "bert-large", "objective": "span"}
    assert simulator.estimate(**keywords).fits


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"tp": 3}, "tp"),
        ({"dp": 3}, "dp"),
        ({"global_batch": 7}, "global_batch"),
        ({"devices": 10**7}, "devices"),
        ({"sequence_length": 10**12}, "sequence_length"),
        ({"steps": 5, "tokens": 1e9}, "tokens"),
        ({"target_length": 5}, "target_length"),
        ({"precision": "fp8"}, "precision"),
        ({"stack": "xla-tpu"}, "stack"),
        ({"price": "abc"}, "price"),
        ({"price_kind": "reserved", "price": "spotty"}, "price"),
        ({"purchase_price": "cheap"}, "purchase_price"),
        ({"lifetime": "long"}, "lifetime"),
        ({"electricity": "0.1 USD/kWh"}, "electricity"),
        ({"failure_rate": "often"}, "failure_rate"),
        ({"storage_bandwidth": "50"}, "storage_bandwidth"),
        ({"sharding": "hybrid"}, "sharding"),
        ({"ep": 2}, "ep"),
        ({"virtual_stages": 2, "pp": 1}, "virtual_stages"),
        ({"objective": "seq2seq"}, "objective"),
    ],
)
def test_an_error_is_blamed_on_a_field(values: dict[str, Any], place: str) -> None:
    choices = _with(**values)
    with pytest.raises(simulator.InputError) as caught:
        simulator.estimate(**arguments(choices))
    assert blamed(caught.value, choices) == place


def test_an_error_about_nothing_known_is_blamed_on_nothing() -> None:
    assert blamed(simulator.InputError("something is wrong"), _with()) is None


@pytest.mark.parametrize("name", ["expert_imbalance", "capacity_factor"])
def test_routing_is_offered_where_there_are_experts(name: str) -> None:
    """Or where it was chosen before the model lost them, so that it can be taken away."""
    dense, mixture = _with(), _with(model="mixtral-8x7b")
    assert not applies(field(name), dense)
    assert applies(field(name), mixture)
    assert applies(field(name), _with(**{name: 2.0}))
    assert not applies(field(name), _with(model="no such model"))
    assert applies(field("ep"), dense)
