"""How runs scale: each point is a search of its own, and what is said of all of them follows from the points."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from simulator.renting.scaling import ScalePoint, Scaling, _halved, scale
from simulator.renting.sweeping import Option

WORK = {"sequence_length": 128, "global_batch": 256, "tokens": 20e9}


@cache
def _strong() -> Scaling:
    return scale("bert-large", "dgx-a100-640gb", workload=WORK, max_devices=256)


@cache
def _weak() -> Scaling:
    return scale("bert-large", "dgx-a100-640gb", workload=WORK, max_devices=256, kind="weak")


def test_points_are_what_a_sweep_finds() -> None:
    counts = [point.devices for point in _strong().points]
    assert counts == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    swept = simulator.sweep(["bert-large"], ["dgx-a100-640gb"], counts, workload=WORK, processes=1)
    options = {each.devices: each for each in swept if isinstance(each, Option)}
    assert {point.devices: point.estimate for point in _strong().points} == {
        devices: option.estimate for devices, option in options.items()
    }


def test_a_weak_scaling_grows_the_batch_with_the_devices() -> None:
    batches = {point.devices: point.estimate.workload["global_batch"] for point in _weak().points}
    assert batches == {devices: 32 * devices for devices in (1, 2, 4, 8, 16, 32, 64, 128, 256)}
    for point in _weak().points[2:5]:
        work = {**WORK, "global_batch": 32 * point.devices}
        alone = scale("bert-large", "dgx-a100-640gb", workload=work, counts=[point.devices])
        assert alone.points[0].estimate == point.estimate


@pytest.mark.parametrize("find_scaling", [_strong, _weak])
def test_efficiency_is_the_rate_of_a_device_over_the_greatest(find_scaling: Any) -> None:
    scaling: Scaling = find_scaling()
    rates = {point.devices: point.estimate.tokens_per_s / point.devices for point in scaling.points}
    best = max(rates.values())
    assert rates[scaling.reference or 0] == best
    first = scaling.points[0].estimate.tokens_per_s
    for point in scaling.points:
        assert point.efficiency == pytest.approx(rates[point.devices] / best)
        assert point.speedup == pytest.approx(point.estimate.tokens_per_s / first)


def test_more_devices_are_used_less_well() -> None:
    assert [point.efficiency for point in _strong().points] == sorted(
        (point.efficiency for point in _strong().points), reverse=True
    )
    for weak, strong in zip(_weak().points, _strong().points, strict=True):
        assert weak.efficiency >= strong.efficiency or weak.devices < 8
    assert _weak().halved_at is None


def test_where_efficiency_halves() -> None:
    scaling = _strong()
    assert scaling.halved_at is not None
    before = [point for point in scaling.points if point.devices < scaling.halved_at]
    after = [point for point in scaling.points if point.devices > scaling.halved_at]
    assert before[-1].efficiency >= 0.5 > after[0].efficiency
    assert all(point.efficiency < 0.5 for point in after)


def _points(efficiencies: list[float]) -> list[ScalePoint]:
    estimate = _strong().points[0].estimate
    return [ScalePoint(2**i, estimate, 1.0, share) for i, share in enumerate(efficiencies)]


@pytest.mark.parametrize(
    ("efficiencies", "halved_at"),
    [
        ([1.0, 0.5, 0.25], 2.0),
        ([1.0, 0.75, 0.25], math.sqrt(8.0)),  # half way from 2 to 4 on a logarithmic scale
        ([1.0, 0.4, 0.6, 0.4], math.sqrt(32.0)),  # an awkward number between better ones
        ([1.0, 0.9, 0.6], None),
        ([0.3, 1.0, 0.6], None),  # few devices may be used badly too
        ([1.0, 0.4, 0.6], None),
        ([1.0], None),
    ],
)
def test_halving_of_a_curve(efficiencies: list[float], halved_at: float | None) -> None:
    reference = 2 ** efficiencies.index(1.0)
    assert _halved(_points(efficiencies), reference) == (
        None if halved_at is None else pytest.approx(halved_at, rel=1e-12)
    )


def test_awkward_numbers_are_told_apart() -> None:
    scaling = scale(
        "palm-540b", "palm-2pod", devices=6144, workload={"global_batch": 1024}, kind="weak", counts=[6144, 3072, 1]
    )
    assert [point.devices for point in scaling.points] == [3072, 6144]
    assert [each.reason for each in scaling.refused] == ["a batch of 1024 on 6144 would be 0.1667 on 1"]


def test_counts_are_the_systems() -> None:
    assert [each.devices for each in scale("palm-8b", "tpu-v4-pod", max_devices=64).refused] == [1, 2]
    scaling = scale("palm-8b", "tpu-v4-pod", devices=24, max_devices=64, workload={"global_batch": 192})
    assert 24 in {point.devices for point in scaling.points}
    weak = scale("palm-8b", "tpu-v4-pod", devices=24, kind="weak", max_devices=64, workload={"global_batch": 48})
    assert {point.devices for point in weak.points} == {3, 6, 12, 24, 48}


def test_what_fits_nowhere_has_no_points() -> None:
    scaling = scale("palm-540b", "workstation-rtx-3090")
    assert (scaling.points, scaling.reference, scaling.halved_at) == ((), None, None)
    assert {each.rule for each in scaling.refused} == {"memory"}


def test_conditions_hold_for_all_points() -> None:
    scaling = scale("bert-large", "dgx-a100-640gb", workload=WORK, counts=[8, 16], where="tp=2", plan={"pp": 1})
    assert [(point.estimate.plan["tp"], point.estimate.plan["pp"]) for point in scaling.points] == [(2, 1), (2, 1)]


def test_every_plan_finds_nothing_worse() -> None:
    usual = scale("gpt2-1.5b", "dgx-1-v100", counts=[4, 8])
    every = scale("gpt2-1.5b", "dgx-1-v100", counts=[4, 8], every_plan=True)
    for one, other in zip(usual.points, every.points, strict=True):
        assert other.estimate.step_time_s <= one.estimate.step_time_s


def test_progress_and_interruption() -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        told.append((done, of))
        if done == 2:
            raise KeyboardInterrupt

    scaling = scale("bert-large", "dgx-a100-640gb", workload=WORK, counts=[1, 2, 4], progress=progress)
    assert told == [(1, 3), (2, 3)]
    assert not scaling.whole
    assert len(scaling.points) == 2


def test_plain_values() -> None:
    plain = _strong().to_dict()
    assert (plain["kind"], plain["model"], plain["whole"]) == ("strong", "bert-large", True)
    point = plain["points"][3]
    assert (point["devices"], point["global_batch"]) == (8, 256)
    assert sum(point["limits"].values()) == pytest.approx(1.0)
    for one, other in pairwise(plain["points"]):
        assert one["devices"] < other["devices"]


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"kind": "both"}, "kind='both': choose one of strong, weak"),
        ({"max_devices": 0}, "max_devices=0: give a whole number from 1 to"),
        ({"devices": 10**7}, "devices=10000000: dgx-a100-640gb has 1 to"),
        ({"where": "tp~2"}, "where='tp~2': write a field"),
        ({"plan": {"tp": 0}}, "tp=0"),
    ],
)
def test_refusals(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        scale("bert-large", "dgx-a100-640gb", **wishes)
    assert words in str(refused.value)
