"""What to rent: what is listed is what estimates say, and what is recommended is the best of it."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import simulator
from hardware import catalogue
from hardware.errors import InputError
from simulator.plan_search.searching import search
from simulator.renting.cases import RentCase
from simulator.renting.rent import rent
from simulator.renting.sweeping import Option, Refused, best_of
from simulator.renting.wishes import CONFIDENCE, Outlook
from simulator.scenario.choosing import CLOSE

DAY = 86400.0
CARDS = "workstation-rtx-3090,workstation-rtx-3090-nvlink,server-rtx-3090,workstation-rtx-a6000,workstation-l40s"
PODS = "tpu-v4-pod,palm-2pod,tpu-v5p-pod"
FEW = "dgx-a100-640gb,workstation-rtx-3090"
PHASE_ONE = {"sequence_length": 128, "global_batch": 512, "tokens": 20e9}


@cache
def _bert(**wishes: Any) -> Outlook:
    """BERT-large on consumer cards."""
    return rent("bert-large", systems=CARDS, processes=1, workload=PHASE_ONE, **wishes)


@cache
def _palm() -> Outlook:
    """PaLM 540B on pods."""
    wishes: dict[str, Any] = {"deadline": "90d", "budget": 3e7, "max_devices": 8192}
    return rent("palm-540b", systems=PODS, processes=1, workload={"tokens": 780e9}, **wishes)


def _planned(**wishes: Any) -> Outlook:
    usual: dict[str, Any] = {"systems": FEW, "max_devices": 16, "processes": 1}
    return rent("bert-large", workload=PHASE_ONE, **{**usual, **wishes})


def _cost(option: Option | None) -> float:
    return math.inf if option is None else option.cost_usd


def _time(option: Option | None) -> float:
    return math.inf if option is None else option.time_s


# options


@pytest.mark.parametrize("find_outlook", [_bert, _palm], ids=["bert", "palm"])
def test_every_option_is_the_estimate_of_its_plan(find_outlook: Any) -> None:
    outlook: Outlook = find_outlook()
    assert outlook.options
    for option in outlook.options[:: max(1, len(outlook.options) // 12)]:
        answer = option.estimate
        plan = {**answer.plan, "placement": "-".join(answer.plan["placement"])}
        work = {name: value for name, value in answer.workload.items() if name != "tokens_per_step"}
        again = simulator.estimate(
            option.model, option.system, devices=option.devices, plan=plan, stack=answer.stack, workload=work
        )
        assert again.fits_as_wished
        assert (again.step_time_s, again.step_time_low_s, again.step_time_high_s) == (
            answer.step_time_s,
            answer.step_time_low_s,
            answer.step_time_high_s,
        )
        assert again.run == answer.run
        assert again.memory_bytes == answer.memory_bytes


@pytest.mark.parametrize(
    ("model", "system", "devices", "options"),
    [
        ("bert-large", "workstation-rtx-3090", 4, {"workload": PHASE_ONE}),
        ("bert-large", "dgx-a100-640gb", 16, {"workload": PHASE_ONE, "stack": "pytorch-ddp"}),
        ("gpt2-1.5b", "dgx-1-v100", 8, {"where": "tp<=2"}),
        ("palm-8b", "tpu-v4-pod", 64, {"plan": {"pp": 1}}),
    ],
)
def test_a_search_finds_nothing_worse(model: str, system: str, devices: int, options: dict[str, Any]) -> None:
    best = search(model, system, devices=devices, top=1, chance=CONFIDENCE, **options).best[0]
    safe = best.step_time_within(CONFIDENCE)
    assert safe is not None
    for every_plan in (False, True):
        outlook = rent(model, systems=system, max_devices=devices, processes=1, every_plan=every_plan, **options)
        option = next(option for option in outlook.options if option.devices == devices)
        assert safe / CLOSE <= (option.estimate.step_time_within(CONFIDENCE) or 0.0) <= 1.08 * safe
        if every_plan:
            assert {**option.estimate.plan, "placement": []} == {**best.plan, "placement": []}
            assert option.estimate.step_time_s == best.step_time_s


def test_a_search_among_the_usual_plans_finds_the_same() -> None:
    usual = (
        "schedule=1f1b|interleaved,offload_optimizer=no,placement=tp-cp-dp-pp,"
        "sharding=none|zero1|zero3,recompute=none|full,tp=1"
    )
    outlook = rent("palm-8b", systems="dgx-h100", max_devices=16, processes=1, where=usual)
    assert [option.devices for option in outlook.options][:2] == [16, 8]
    for option in outlook.options[:2]:
        best = search("palm-8b", "dgx-h100", devices=option.devices, where=usual, top=1, chance=CONFIDENCE).best[0]
        assert option.estimate.step_time_s == best.step_time_s
        assert option.estimate.plan == best.plan


def test_axes_that_a_given_stack_lacks_are_not_tried() -> None:
    outlook = rent("gpt2-774m", systems="dgx-1-v100", max_devices=8, processes=1, stack="pytorch-ddp")
    assert outlook.options
    assert {option.estimate.stack for option in outlook.options} == {"pytorch-ddp"}
    assert all(option.estimate.plan["tp"] == option.estimate.plan["pp"] == 1 for option in outlook.options)


@pytest.mark.parametrize(
    ("options", "placements"),
    [
        ({}, {("tp", "cp", "dp", "pp")}),
        ({"plan": {"placement": "dp-pp-tp-cp"}}, {("dp", "pp", "tp", "cp")}),
        ({"where": "placement=cp-tp-dp-pp"}, {("cp", "tp", "dp", "pp")}),
    ],
)
def test_placements(options: dict[str, Any], placements: set[tuple[str, ...]]) -> None:
    assert {tuple(option.estimate.plan["placement"]) for option in _planned(**options).options} == placements


def test_context_parallel_ranks_are_inside_the_node() -> None:
    wishes: dict[str, Any] = {"stack": "jax-xla-gpu", "where": "cp>=2"}
    option = rent("palm-62b", systems="superpod-h100", max_devices=64, processes=1, **wishes).options[0]
    assert option.estimate.plan["cp"] > 1
    assert option.estimate.plan["placement"] == ["cp", "tp", "dp", "pp"]


def test_what_fits_only_in_an_unusual_way_is_found() -> None:
    case = RentCase(simulator.load_model("gpt3-2.7b"), simulator.load_system("rtx-a6000"), 1)
    option = best_of(case)
    assert isinstance(option, Option)
    assert option.estimate.fits_as_wished
    assert option.estimate.plan["offload_optimizer"]


def test_numbers_of_devices_are_those_that_can_be_had() -> None:
    for option in (*_bert().options, *_palm().options):
        system = catalogue.load_system(option.system)
        assert option.devices <= min(8192, system.most_devices)
    assert {option.devices for option in _bert().options if option.system == "server-rtx-3090"} == {1, 2, 4, 8}
    assert 6144 in {option.devices for option in _palm().options if option.system == "palm-2pod"}
    assert max(option.devices for option in _planned(max_devices=3).options) == 2


def test_what_is_too_large_is_refused() -> None:
    refused = _palm().refused
    assert refused
    assert {each.rule for each in refused} == {"memory"}
    assert all(each.devices <= 256 for each in refused)
    seen = [(option.system, option.devices) for option in _palm().options]
    seen += [(each.system, each.devices) for each in refused]
    assert len(set(seen)) == len(seen)


# the front


def _unbeaten(options: tuple[Option, ...], *, carbon: bool) -> set[tuple[float, ...]]:
    """What no other option beats, by comparing each with each."""
    values = {
        (option.time_s, option.cost_usd, *([option.co2_kg] if carbon else []))
        for option in options
        if option.cost_usd < math.inf
    }
    return {one for one in values if not any(all(map(float.__le__, other, one)) and other != one for other in values)}


@pytest.mark.parametrize("carbon", [False, True])
@pytest.mark.parametrize("find_outlook", [_bert, _palm], ids=["bert", "palm"])
def test_the_front_is_what_no_other_beats(find_outlook: Any, carbon: bool) -> None:
    outlook: Outlook = find_outlook()
    front = outlook.front_with_carbon if carbon else outlook.front
    values = [(option.time_s, option.cost_usd, *([option.co2_kg] if carbon else [])) for option in front]
    assert len(set(values)) == len(values)
    assert set(values) == _unbeaten(outlook.options, carbon=carbon)
    assert [value[0] for value in values] == sorted(value[0] for value in values)


def test_carbon_can_only_add_to_the_front() -> None:
    assert {id(option) for option in _bert().front} <= {id(option) for option in _bert().front_with_carbon}


# limits


@pytest.mark.parametrize("confidence", [0.05, 0.5, 0.8, 0.99])
@pytest.mark.parametrize(("deadline", "budget"), [(10 * DAY, None), (None, 600.0), (20 * DAY, 500.0)])
def test_the_answer_keeps_the_limits_and_nothing_better_does(
    deadline: float | None, budget: float | None, confidence: float
) -> None:
    outlook = _bert(deadline=deadline, budget=budget, confidence=confidence)
    kept = [
        option
        for option in outlook.options
        if (deadline is None or option.chance(deadline) >= confidence)
        and (budget is None or (option.chance_of_cost(budget) or 0.0) >= confidence)
    ]
    assert (outlook.nearest is None) == bool(kept)
    if deadline is None:
        assert outlook.cheapest is None
        assert outlook.later == ()
    else:
        assert _cost(outlook.cheapest) == min(map(_cost, kept), default=math.inf)
        assert outlook.cheapest is None or outlook.cheapest in kept
    if budget is None:
        assert outlook.fastest is None
        assert outlook.dearer == ()
    else:
        assert _time(outlook.fastest) == min(map(_time, kept), default=math.inf)
        assert outlook.fastest is None or outlook.fastest in kept


def test_more_certainty_costs_more() -> None:
    cheapest = [_bert(deadline=12 * DAY, confidence=sure).cheapest for sure in (0.1, 0.5, 0.8, 0.95, 0.99)]
    assert [_cost(option) for option in cheapest] == sorted(map(_cost, cheapest))


@pytest.mark.parametrize("find_outlook", [lambda: _bert(deadline=8 * DAY, budget=200.0), _palm], ids=["bert", "palm"])
def test_relaxing_a_limit_never_hurts(find_outlook: Any) -> None:
    outlook: Outlook = find_outlook()
    costs = [_cost(outlook.cheapest), *(_cost(each.option) for each in outlook.later)]
    times = [_time(outlook.fastest), *(_time(each.option) for each in outlook.dearer)]
    assert len(costs) == len(times) == 5
    assert costs == sorted(costs, reverse=True)
    assert times == sorted(times, reverse=True)
    for one, other in pairwise(outlook.later):
        assert (one.deadline_s or 0.0) < (other.deadline_s or 0.0)
        assert one.budget_usd == other.budget_usd == outlook.budget_usd
    for one, other in pairwise(outlook.dearer):
        assert (one.budget_usd or 0.0) < (other.budget_usd or 0.0)
        assert one.deadline_s == other.deadline_s == outlook.deadline_s


def test_limits_that_nothing_keeps_tell_what_comes_nearest() -> None:
    outlook = _bert(deadline=60.0, budget=1.0)
    assert outlook.cheapest is outlook.fastest is None
    assert all(each.option is None for each in (*outlook.later, *outlook.dearer))
    nearest = outlook.nearest
    assert nearest is not None
    assert isinstance(nearest.option, Option)
    relaxed = _bert(deadline=60.0 * nearest.factor * 1.000001, budget=nearest.factor * 1.000001)
    assert relaxed.cheapest is not None
    assert relaxed.fastest is not None
    assert relaxed.nearest is None
    assert vars(relaxed.cheapest) == vars(nearest.option)
    short = _bert(deadline=60.0 * nearest.factor * 0.99, budget=nearest.factor * 0.99)
    assert short.cheapest is short.fastest is None


def test_other_limits_need_no_other_search() -> None:
    for wishes in ({"deadline": "12d"}, {"budget": 500.0, "confidence": 0.6}, {"deadline": 60.0, "budget": 1.0}, {}):
        moved, asked = _bert(deadline=9 * DAY).within(**wishes), _bert(**wishes)
        assert {**moved.to_dict(), "seconds": 0.0} == {**asked.to_dict(), "seconds": 0.0}
    with pytest.raises(InputError, match=r"^confidence=2: give a probability"):
        _bert().within(confidence=2)


def test_options_are_told_as_they_are_found() -> None:
    seen: list[Option | Refused] = []
    told: list[int] = []

    def progress(done: int, of: int) -> None:
        told.append(done)
        assert done == len(seen) <= of

    whole = _planned(deadline="30d", progress=progress, seen=seen.append)
    assert told == list(range(1, len(seen) + 1))
    assert len(seen) == len(whole.options) + len(whole.refused)
    for number in (1, 3, len(seen)):
        part = Outlook.of(seen[:number], deadline="30d")
        assert (part.whole, len(part.options)) == (False, sum(isinstance(each, Option) for each in seen[:number]))
        assert _cost(part.cheapest) >= _cost(whole.cheapest)
    assert {**part.to_dict(), "seconds": 0.0} == {**whole.to_dict(), "whole": False, "seconds": 0.0}


def test_options_of_several_models_are_no_outlook() -> None:
    mixed = [Refused("bert-large", "x", 1, "y"), Refused("bert-base", "x", 1, "y")]
    for options, words in ((mixed, "bert-base, bert-large"), ([], "none")):
        with pytest.raises(InputError, match=f"^options: give those of one model; these are of {words}$"):
            Outlook.of(options)


def test_no_limits_no_recommendation() -> None:
    outlook = _bert()
    assert outlook.cheapest is outlook.fastest is outlook.nearest is None
    assert outlook.later == outlook.dearer == ()
    assert outlook.front


# chances


@pytest.mark.parametrize("find_outlook", [_bert, _palm], ids=["bert", "palm"])
def test_chances_are_probabilities_that_grow_with_the_limit(find_outlook: Any) -> None:
    outlook: Outlook = find_outlook()
    for option in outlook.options[:5]:
        chances = [option.chance(option.time_s * factor) for factor in np.geomspace(0.01, 100.0, 400)]
        assert chances[0] == 0.0
        assert chances[-1] == 1.0
        assert chances == sorted(chances)


@pytest.mark.parametrize("find_outlook", [_bert, _palm], ids=["bert", "palm"])
def test_chances_follow_from_the_interval(find_outlook: Any) -> None:
    outlook: Outlook = find_outlook()
    for option in outlook.options:
        answer = option.estimate
        low, high = answer.step_time_low_s or 0.0, answer.step_time_high_s or 0.0
        below, above = (option.chance(option.time_s * limit / answer.step_time_s) for limit in (low, high))
        if low < answer.step_time_s:  # else the whole interval lies above, and is cut there
            assert below == pytest.approx(0.05, abs=0.011)
        if high > answer.step_time_s:
            assert above == pytest.approx(0.95, abs=0.011)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.8, 0.95, 0.99])
def test_factors_and_chances_are_inverse(share: float) -> None:
    option = _bert().front[0]
    # A run with a share of its own is a jump, at whose foot or top a rounded time may be.
    for expected, chance in ((option.time_s, option.chance), (option.cost_usd, option.chance_of_cost)):
        assert expected is not None
        below, above = (chance(expected * option.factor(share) * nearly) or 0.0 for nearly in (1.0 - 1e-9, 1.0 + 1e-9))
        assert below - 1e-6 <= share <= above + 1e-6
        assert above - below < 0.02


def test_without_known_errors_what_is_expected_decides() -> None:
    outlook = _planned(constants="none", deadline=5 * DAY, budget=300.0)
    assert all(option.factors is None for option in outlook.options)
    for option in outlook.options:
        chances = outlook.chances(option)
        assert chances["chance_of_deadline"] == float(option.time_s <= 5 * DAY)
        assert chances["chance_of_budget"] == float(option.cost_usd <= 300.0)
        assert option.factor(0.9) == 1.0


# prices


def test_a_provider() -> None:
    outlook = _planned(price_source="Lambda")
    assert {option.system for option in outlook.options} == {"dgx-a100-640gb"}
    assert {each.system for each in outlook.refused} == {"workstation-rtx-3090"}
    assert all(each.rule is None and "no such offer of rtx-3090" in each.reason for each in outlook.refused)
    rate = next(offer.rate for offer in catalogue.prices() if offer.id == "lambda-gpu-8x-a100-80gb-sxm4")
    option = next(option for option in outlook.options if option.devices == 8)
    assert option.cost_usd == pytest.approx(option.time_s * option.devices * rate)


def test_a_kind_of_price() -> None:
    outlooks = {kind: _planned(price_source=kind, systems="dgx-h100") for kind in ("on-demand", "spot")}
    assert {option.estimate.run.price_kind for option in outlooks["spot"].options} == {"spot"}
    assert {option.estimate.run.price_kind for option in outlooks["on-demand"].options} == {"on-demand"}
    for spot, usual in zip(outlooks["spot"].options, outlooks["on-demand"].options, strict=True):
        assert spot.devices == usual.devices
        assert spot.estimate.step_time_s == usual.estimate.step_time_s
        assert spot.time_s > usual.time_s  # preemptions


def test_systems_without_a_price() -> None:
    assert all(offer.device != "mi250x" for offer in catalogue.prices())
    outlook = _planned(systems="server-mi250x,dgx-h100", deadline=3 * DAY, budget=1e4)
    free = [option for option in outlook.options if option.system == "server-mi250x"]
    assert free
    assert not {option.system for option in outlook.front} & {"server-mi250x"}
    for option in free:
        assert option.cost_usd == math.inf
        assert outlook.chances(option)["chance_of_budget"] is None
    assert outlook.fastest is not None
    assert outlook.fastest.system == "dgx-h100"


def test_nothing_with_a_price() -> None:
    outlook = _planned(systems="server-mi250x", deadline=30 * DAY)
    assert outlook.front == outlook.front_with_carbon == ()
    assert outlook.cheapest is not None  # of fewest device-hours
    kept = [option for option in outlook.options if option.chance(30 * DAY) >= 0.8]
    assert outlook.cheapest.devices * outlook.cheapest.time_s == min(each.devices * each.time_s for each in kept)
    with_budget = _planned(systems="server-mi250x", budget=1e9)
    assert with_budget.fastest is with_budget.nearest is None


# the two headline cases


def test_bert_on_consumer_cards() -> None:
    outlook = _bert(deadline="20d", budget=800)
    assert {option.system for option in outlook.options} == set(CARDS.split(","))
    assert outlook.cheapest is not None
    assert outlook.fastest is not None
    assert outlook.cheapest.cost_usd <= outlook.fastest.cost_usd
    assert outlook.cheapest.time_s >= outlook.fastest.time_s


def test_palm_on_pods() -> None:
    outlook = _palm()
    palm = next(option for option in outlook.options if (option.system, option.devices) == ("palm-2pod", 6144))
    assert 30 * DAY < palm.time_s < 70 * DAY  # it trained on 6144 chips for about two months
    assert outlook.cheapest is not None
    assert outlook.cheapest.chance(90 * DAY) >= 0.8


# how it is asked


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60d", 60 * DAY),
        ("60 days", 60 * DAY),
        ("400d", 400 * DAY),
        ("8 weeks", 56 * DAY),
        ("36h", 1.5 * DAY),
        ("1 year", 365.25 * DAY),
        ("2 years", 730.5 * DAY),
        ("1.5e2 d", 150 * DAY),
        (3600, 3600.0),
    ],
)
def test_deadlines(text: str | float, seconds: float) -> None:
    assert _planned(systems="rtx-3090", deadline=text).deadline_s == pytest.approx(seconds)


def test_progress_counts_all_cases() -> None:
    seen: list[tuple[int, int]] = []
    outlook = _planned(progress=lambda done, of: seen.append((done, of)))
    number = len(outlook.options) + len(outlook.refused)
    assert seen == [(done, number) for done in range(1, number + 1)]
    assert outlook.whole


def test_systems_may_be_objects_and_are_looked_at_once() -> None:
    system = simulator.load_system("workstation-rtx-3090")
    cheap = system.model_copy(update={"id": "mine", "most_devices": 2})
    outlook = _planned(systems=[system, "workstation-rtx-3090", cheap])
    assert sorted((option.system, option.devices) for option in outlook.options) == [
        *[("mine", number) for number in (1, 2)],
        *[("workstation-rtx-3090", number) for number in (1, 2, 4)],
    ]


def test_plain_values() -> None:
    import json

    outlook = _bert(deadline=8 * DAY, budget=200.0)
    plain = json.loads(json.dumps(outlook.to_dict(), allow_nan=False))
    assert plain["deadline_s"] == 8 * DAY
    assert len(plain["options"]) == len(outlook.options)
    assert {"chance_of_deadline", "chance_of_budget", "expected_cost_usd", "plan"} <= set(plain["options"][0])
    assert [each["factor"] for each in plain["later"]] == [1.1, 1.25, 1.5, 2.0]


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"deadline": 0}, "deadline=0: give a time between zero and 100 years, such as 60d"),
        ({"deadline": -1.0}, "deadline=-1.0: give a time"),
        ({"deadline": math.nan}, "deadline=nan: give a time"),
        ({"deadline": math.inf}, "deadline=inf: give a time"),
        ({"deadline": True}, "deadline=true: give a time"),
        ({"deadline": [1]}, r"deadline=\[1\]: give a time"),
        ({"deadline": "60"}, "deadline='60': write a time with its unit, such as 60d"),
        ({"deadline": "soon"}, "deadline='soon': write a time with its unit"),
        ({"deadline": "0d"}, "deadline='0d': give a time between zero and 100 years"),
        ({"deadline": "101 years"}, "deadline='101 years': give a time"),
        ({"deadline": ""}, "deadline='': write a time"),
        ({"budget": 0}, "budget=0: give a positive amount of USD, such as 5e6"),
        ({"budget": -5.0}, "budget=-5.0: give a positive"),
        ({"budget": math.nan}, "budget=nan: give a positive"),
        ({"budget": "5e6 EUR"}, "budget='5e6 EUR': '5e6 EUR': 'EUR' is not a unit of sum of money"),
        ({"budget": True}, "budget=true: give a positive"),
        ({"max_devices": 0}, "max_devices=0: give a whole number from 1 to 1000000"),
        ({"max_devices": 8.0}, "max_devices=8.0: give a whole number"),
        ({"max_devices": True}, "max_devices=true: give a whole number"),
        ({"confidence": 0.0}, "confidence=0.0: give a probability from 0.01 to 0.99, such as 0.8"),
        ({"confidence": 1.0}, "confidence=1.0: give a probability"),
        ({"confidence": math.nan}, "confidence=nan: give a probability"),
        ({"confidence": "high"}, "confidence='high': give a probability"),
        (
            {"price_source": "nobody"},
            "price_source='nobody': valid: on-demand, spot, reserved, marketplace, akash, aws, ",
        ),
        ({"price_source": 3}, "price_source=3: valid: on-demand"),
        ({"price_source": "azure", "systems": "rtx-3090"}, "price='azure': no such offer of rtx-3090"),
        ({"systems": "dgx-a100"}, "unknown system 'dgx-a100'; did you mean dgx-a100-"),
        ({"systems": ""}, "unknown system ''"),
        ({"systems": []}, "systems: name at least one, or all"),
        ({"systems": "dgx-h100,,dgx-2"}, "unknown system ''"),
        ({"systems": [5]}, "unknown system '5'"),
        ({"where": "tp<<8"}, "where='tp<<8'"),
        ({"where": "size<8"}, "unknown field of a plan in where 'size'"),
        ({"stack": "megatrom"}, "unknown stack 'megatrom'; did you mean megatron"),
        ({"stack": "xla-tpu", "systems": "dgx-2"}, "stack=xla-tpu runs on a tpu and v100-sxm3-32gb is a gpu"),
        ({"plan": {"tp": 0}}, "tp=0: must be at least 1"),
        ({"constants": "none.yaml"}, "none.yaml: cannot be read"),
        ({"grid": "mars"}, "unknown grid 'mars'"),
        ({"processes": 0}, "processes=0: give a whole number"),
        ({"cluster": "tcp://127.0.0.1:1"}, "cluster='tcp://127.0.0.1:1': "),
    ],
)
def test_what_cannot_be_is_one_sentence(wishes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=rf"^{sentence}"):
        _planned(**wishes)


def test_a_model_that_cannot_be() -> None:
    with pytest.raises(InputError, match="unknown model 'bert-larg'; did you mean bert-large"):
        rent("bert-larg", systems="rtx-3090")


def test_impossible_wishes_for_plans_are_an_answer() -> None:
    outlook = _planned(plan={"tp": 7})
    assert outlook.options == ()
    assert {type(each) for each in outlook.refused} == {Refused}
    assert outlook.cheapest is outlook.nearest is None
