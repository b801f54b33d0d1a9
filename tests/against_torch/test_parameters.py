"""Trainable parameters against those of modules that torch builds."""

from __future__ import annotations

import pytest

from measure.models import Layer, Split, build, parameters_of
from simulator.specs.loading import load_model, names
from simulator.specs.model import Model
from simulator.work.counts import counts_of
from simulator.work.program import program_of
from simulator.work.tallies import tally
from simulator.work.transformer import layer
from tests.against_torch.cases import EVERY, SPLIT, name_of, scenarios_of, setting_of


@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_model(model: Model) -> None:
    setting = setting_of(model)
    scenarios = scenarios_of(model, setting)
    assert counts_of(program_of(scenarios)).parameters == parameters_of([build(model, setting)])


@pytest.mark.parametrize("name", names("models"))
def test_shipped_model(name: str) -> None:
    model = load_model(name)
    setting = setting_of(model)
    scenarios = scenarios_of(model, setting)
    assert counts_of(program_of(scenarios)).parameters == parameters_of([build(model, setting)])


@pytest.mark.parametrize("degree", [2, 4, 8])
@pytest.mark.parametrize("model", SPLIT, ids=name_of)
def test_tensor_parallel_rank(model: Model, degree: int) -> None:
    setting = setting_of(model, split=Split(degree))
    assert program_of(scenarios_of(model, setting)).together.parameters == parameters_of([build(model, setting)])


@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_one_layer(model: Model) -> None:
    setting = setting_of(model)
    scenarios = scenarios_of(model, setting)
    group = scenarios.models.layers[0]
    kind = model.kind_of_layer(0)
    built = Layer(model, setting, experts=kind.has_experts, kind=kind)
    one = tally(layer(group, scenarios))
    assert one.parameters + one.expert_parameters == parameters_of([built])
