"""The probability of fitting: monotone, consistent with the limit that searches use, wider where evidence is far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simulator
from hardware.errors import InputError
from simulator.step.chances import (
    LEVEL,
    WISHED,
    FitChances,
    MemoryErrors,
    Traits,
    chances_of,
    read_wished,
    shipped,
    widening,
)

_GIB = 2.0**30
_KNOWN: Traits = ("nanotron", "megatron", "gpu", "False")
_FAR: Traits = ("ours", "other", "tpu", "True")


def _errors(values: list[float], *, source: str = "here", stack: str = "one") -> MemoryErrors:
    number = len(values)
    return MemoryErrors(
        ids=np.array([f"{source}-{place}" for place in range(number)]),
        sources=np.array([source] * number),
        traits=np.array([(stack, "family", "gpu", "False")] * number),
        logarithms=np.array(values),
        counts=np.ones(number),
    )


@pytest.mark.parametrize("traits", [_KNOWN, _FAR])
def test_more_memory_never_makes_it_less_likely_to_fit(traits: Traits) -> None:
    chances = shipped().around(traits)
    capacities = np.geomspace(1e9, 1e12, 20_001)
    probabilities = np.asarray(chances.chance(60e9, capacities))
    assert np.all(np.diff(probabilities) >= 0.0)
    assert probabilities[0] == 0.0
    assert probabilities[-1] == 1.0
    needs = np.asarray(chances.chance(capacities, 80e9))
    assert np.all(np.diff(needs) <= 0.0)


@given(
    values=st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=30),
    predicted=st.floats(1.0, 200.0),
    ratio=st.floats(1.0, 4.0),
)
def test_a_larger_device_is_never_worse_whatever_the_evidence(
    values: list[float], predicted: float, ratio: float
) -> None:
    chances = _errors(values).around(("one", "family", "gpu", "False"))
    small, large = (float(chances.chance(predicted, capacity)) for capacity in (80.0, 80.0 * ratio))
    assert 0.0 <= small <= large <= 1.0


@given(share=st.floats(0.02, 0.98), predicted=st.floats(20.0, 120.0))
def test_the_limit_of_a_search_and_the_chance_say_the_same(share: float, predicted: float) -> None:
    chances, capacity = shipped().around(_KNOWN), 80.0
    room = chances.room(capacity, share)
    if abs(predicted / room - 1.0) > 1e-9:
        assert (float(chances.chance(predicted, capacity)) >= share) == (predicted <= room)


def test_half_of_the_evidence_lies_on_either_side() -> None:
    chances = _errors([-0.2, -0.1, 0.0, 0.1, 0.2]).around(("one", "family", "gpu", "False"))
    assert float(chances.chance(1.0, 1.0)) == pytest.approx(0.5)
    assert float(chances.chance(1.0, np.exp(0.1))) == pytest.approx(0.7)
    assert chances.factor(0.7) == pytest.approx(np.exp(0.1))
    assert chances.runs == 5
    assert chances.distance == 0.0


def test_evidence_that_is_far_widens() -> None:
    errors = _errors([-0.2, -0.1, 0.0, 0.1, 0.2])
    near, other, far = (
        errors.around(traits)
        for traits in (
            ("one", "family", "gpu", "False"),
            ("two", "family", "gpu", "False"),
            ("two", "other", "tpu", "False"),
        )
    )
    assert near.logarithms == pytest.approx(other.logarithms)
    assert far.logarithms == pytest.approx(near.logarithms * float(widening(1.8)))
    assert far.factor(0.9) > near.factor(0.9)
    assert far.room(80.0, 0.9) < near.room(80.0, 0.9)


def _both(one: MemoryErrors, other: MemoryErrors) -> MemoryErrors:
    """The runs of two sources together."""
    return MemoryErrors(
        ids=np.concatenate([one.ids, other.ids]),
        sources=np.concatenate([one.sources, other.sources]),
        traits=np.concatenate([one.traits, other.traits]),
        logarithms=np.concatenate([one.logarithms, other.logarithms]),
        counts=np.concatenate([one.counts, other.counts]),
    )


def test_software_of_ones_own_weighs_most() -> None:
    ours, others = _errors([0.3] * 10, stack="one"), _errors([-0.1] * 10, source="there", stack="two")
    both = _both(ours, others)
    assert both.around(("one", "family", "gpu", "False")).factor(0.5) > 1.2
    assert both.around(("two", "family", "gpu", "False")).factor(0.5) < 1.1


def test_a_large_source_weighs_less_than_in_proportion() -> None:
    large, small = _errors([0.2] * 400), _errors([-0.2] * 40, source="there")
    both = _both(large, small)
    assert both.weights[:400].sum() / both.weights[400:].sum() == pytest.approx(10.0**0.3)


def test_an_estimate_says_how_surely_it_fits() -> None:
    plan = {"tp": 1, "pp": 1, "micro_batch": 4, "recompute": "none"}
    tight, wide = (
        simulator.estimate("bert-large", system, devices=1, plan=plan, workload={"sequence_length": 512})
        for system in ("dgx-1-v100", "dgx-a100-640gb")
    )
    assert tight.fits_probability <= wide.fits_probability == 1.0
    for answer in (tight, wide):
        assert answer.memory_low_bytes < answer.memory_bytes["total"] < answer.memory_high_bytes
        assert answer.fits_as_wished == (answer.fits_probability >= WISHED)
    told = wide.to_dict()
    assert (told["fits"], told["fits_probability"], told["fits_wished"]) == (True, 1.0, 0.8)


def _devices_of(memory: list[float]) -> list[float]:
    """Chances of one plan on devices that differ in their memory only."""
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb", plan={"micro_batch": 32, "recompute": "none"})
    probabilities = []
    for size in memory:
        capacity = scenario.system.device.memory.model_copy(update={"usable": size * _GIB})
        device = scenario.system.device.model_copy(update={"memory": capacity})
        system = scenario.system.model_copy(update={"device": device})
        probabilities.append(simulator.answer(replace(scenario, system=system)).fits_probability)
    return probabilities


def test_the_probability_is_monotone_in_the_devices_memory() -> None:
    probabilities = _devices_of([8.0, 16.0, 20.0, 22.0, 24.0, 26.0, 28.0, 32.0, 40.0, 160.0])
    assert probabilities == sorted(probabilities)
    assert probabilities[0] == 0.0
    assert probabilities[-1] == 1.0
    assert len(set(probabilities)) > 3


def test_what_the_host_cannot_hold_does_not_fit() -> None:
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb")
    assert scenario.chance(1e9, 0.0) == 1.0
    assert scenario.chance(1e9, 1e15) == 0.0


@pytest.mark.parametrize("fits", [0.5, 0.8, 0.99])
def test_chosen_plans_fit_as_surely_as_is_wished(fits: float) -> None:
    answer = simulator.estimate("llama-2-7b", "dgx-a100-640gb", fits=fits)
    assert answer.fits_as_wished
    assert answer.fits_probability >= fits
    assert not any("fits with a chance of" in warning for warning in answer.warnings)


def test_a_plan_that_only_may_fit_is_warned_of_with_a_remedy() -> None:
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb", plan={"micro_batch": 32, "recompute": "none"})
    total = simulator.answer(scenario).memory_bytes["total"]
    memory = scenario.system.device.memory.model_copy(update={"usable": 1.02 * total})
    device = scenario.system.device.model_copy(update={"memory": memory})
    tight = replace(scenario, system=scenario.system.model_copy(update={"device": device}))
    answer = simulator.answer(tight)
    assert answer.fits
    assert not answer.fits_as_wished
    (warning,) = (each for each in answer.warnings if "fits with a chance of" in each)
    assert "only; " in warning
    assert "would make it fit" in warning
    assert all(each.fits_probability >= WISHED for each in simulator.improvements(tight))


def test_the_interval_covers_what_it_says_and_the_prediction() -> None:
    chances: FitChances = shipped().around(_KNOWN)
    low, high = chances.interval(50.0)
    assert low < 50.0 < high
    ends = [float(chances.chance(50.0, end)) for end in (low, high)]
    assert ends == pytest.approx([(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])


@pytest.mark.parametrize("fits", [0.0, 1.0, 1.2, -0.1, "often", "120%", True, float("nan")])
def test_what_is_no_probability_is_refused_in_one_sentence(fits: Any) -> None:
    with pytest.raises(InputError, match=r"^fits=.*: give a probability above 0 and below 1, such as 0.8 or 80%$"):
        read_wished(fits)


@pytest.mark.parametrize(("fits", "share"), [(0.8, 0.8), ("80%", 0.8), (" 0.95 ", 0.95)])
def test_probabilities_are_read_from_numbers_and_words(fits: Any, share: float) -> None:
    assert read_wished(fits) == pytest.approx(share)


def test_other_software_has_other_evidence() -> None:
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb", stack="pytorch-ddp")
    there = simulator.resolve("palm-8b", "tpu-v4-pod")
    near, far = (chances_of(each.model, each.system, each.stack) for each in (scenario, there))
    assert near.distance < far.distance
    assert near.factor(0.95) / near.factor(0.05) < far.factor(0.95) / far.factor(0.05)
