"""What pages ask of searches: programs and commands that are shown give what is shown."""

from __future__ import annotations

import json
import shlex
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest

import simulator
from dashboard.choices.scenario import arguments, fields
from dashboard.choices.state import Choices, Field, opening
from dashboard.content import renting, scaling, searching
from simulator import cli
from simulator.terminal.search import plan_words

_SMALL: dict[str, Any] = {"model": "bert-large", "system": "dgx-1-v100", "sequence_length": 512, "global_batch": 8}


def _choices(own: tuple[Field, ...], **chosen: Any) -> Choices:
    return opening((*fields(), *own)).change({**_SMALL, **chosen})


def _run(program: str) -> Any:
    """What a program that is shown finds, and prints."""
    names: dict[str, Any] = {}
    with redirect_stdout(StringIO()) as printed:
        exec(program, names)
    assert printed.getvalue().count("\n") >= 1
    return next(names[word] for word in ("search", "scaling", "outlook") if word in names)


def _told(command: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command that is shown prints."""
    words = shlex.split(command, comments=True)
    assert words[0] == "capsim"
    with pytest.raises(SystemExit) as ended:
        cli.main([*words[1:], "--json"])
    assert ended.value.code == 0
    return json.loads(capsys.readouterr().out)


def _timeless(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "seconds": 0.0}


_WISHES: list[dict[str, Any]] = [
    {},
    {"search_best": "memory", "search_where": "tp<=2,sharding=zero1|zero3", "search_top": 3},
    {"search_free": "25%", "search_deadline": "90d", "search_budget": 1e5, "search_across": "recompute", "tp": 2},
]


@pytest.mark.parametrize("wishes", _WISHES, ids=["usual", "conditions", "limits"])
def test_program_and_command_of_a_search(wishes: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    choices = _choices(searching.FIELDS, **wishes)
    answer = _timeless(searching.find(choices).to_dict())
    assert _timeless(_run(searching.as_python(choices)).to_dict()) == answer
    assert _timeless(_told(searching.as_command(choices), capsys)) == json.loads(json.dumps(answer))


def test_what_a_command_cannot_say_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    choices = _choices(searching.FIELDS, objective="classification")
    command = searching.as_command(choices)
    assert command.endswith("# objective=classification of the model can be said in Python only")
    assert _told(command, capsys)["best"]


def test_a_search_is_made_once() -> None:
    told: list[str] = []
    choices = _choices(searching.FIELDS, search_top=7)
    assert not searching.is_known(choices)
    search = searching.find(choices, told.append)
    assert told[0].endswith(" ms")
    assert " plans, best " in told[0]
    assert searching.is_known(
        choices.change({"search_words": "tp=2", "search_listed": "best", "search_against": "cost"})
    )
    assert not searching.is_known(choices.change({"search_across": "cp"}))
    number = len(told)
    assert searching.find(choices, told.append) is search
    assert len(told) == number


def test_plans_that_are_listed() -> None:
    search = searching.find(_choices(searching.FIELDS))
    every = searching.listed(search, "all", None)
    plans = [plan_words(row.estimate) for row in every]
    assert len(set(plans)) == len(plans)
    assert set(plans) == {plan_words(one) for one in (*search.best, *(search.pareto or ()))}
    assert [row.estimate for row in searching.listed(search, "best", None)] == list(search.best)
    front = [plan_words(row.estimate) for row in searching.listed(search, "not beaten", None)]
    assert set(front) == {plan_words(one) for one in search.pareto or ()}
    some = searching.listed(search, "all", "  ZERO1 mb=1")
    assert some
    assert all({"zero1", "mb=1"} <= set(plan_words(row.estimate).split()) for row in some)
    assert searching.listed(search, "all", "cp=") == []


@pytest.mark.parametrize("wishes", _WISHES, ids=["usual", "conditions", "limits"])
def test_a_plan_that_is_sent_is_the_one_that_was_found(wishes: dict[str, Any]) -> None:
    choices = _choices(searching.FIELDS, **wishes)
    for row in searching.listed(searching.find(choices), "all", None)[::4]:
        sent = choices.change(searching.sent(row.estimate.plan))
        again = simulator.estimate(**arguments(sent))
        assert again.plan == row.estimate.plan
        assert (again.step_time_s, again.memory_bytes) == (row.estimate.step_time_s, row.estimate.memory_bytes)


_SCALED: list[dict[str, Any]] = [
    {"scale_most": 16},
    {"scale_batch": "grows with the devices", "scale_most": 32, "scale_where": "pp=1", "dp": 8},
    {"best_plan": True, "scale_most": 4, "objective": "classification"},
]


@pytest.mark.parametrize("wishes", _SCALED, ids=["strong", "weak", "every plan"])
def test_program_and_command_of_a_scaling(wishes: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    choices = _choices(scaling.FIELDS, **wishes)
    curve = scaling.find(choices)
    assert _run(scaling.as_python(choices)) == curve
    assert _told(scaling.as_command(choices), capsys) == json.loads(json.dumps(curve.to_dict()))


@pytest.mark.parametrize("wishes", _SCALED, ids=["strong", "weak", "every plan"])
def test_a_point_that_is_opened_is_the_one_that_was_found(wishes: dict[str, Any]) -> None:
    choices = _choices(scaling.FIELDS, **wishes)
    curve = scaling.find(choices)
    assert len(curve.points) > 2
    for point in curve.points:
        again = simulator.estimate(**arguments(choices.change(scaling.opened(curve, point))))
        assert (again.step_time_s, again.devices) == (point.estimate.step_time_s, point.devices)
        assert again.workload == point.estimate.workload


_RENTED: list[dict[str, Any]] = [
    {"rent_systems": "workstation-rtx-3090", "rent_most": 4},
    {
        "rent_systems": "dgx-a100-640gb",
        "rent_most": 4,
        "rent_price": "lambda",
        "rent_where": "tp=1",
        "rent_budget": "any",
        "rent_chance": "95",
    },
    {"rent_systems": "dgx-a100-640gb", "rent_most": 2, "rent_price": "spot", "price": "3", "rent_deadline": "any"},
    {"rent_systems": "workstation-rtx-3090", "rent_most": 1, "best_plan": True, "objective": "classification"},
]
_NAMES = ["usual", "a provider", "spot", "every plan"]


@pytest.mark.parametrize("wishes", _RENTED, ids=_NAMES)
def test_program_and_command_of_what_to_rent(wishes: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    choices = _choices(renting.FIELDS, **wishes)
    answer = _timeless(renting.find(choices).to_dict())
    assert answer["options"]
    assert _timeless(_run(renting.as_python(choices)).to_dict()) == answer
    assert _timeless(_told(renting.as_command(choices), capsys)) == json.loads(json.dumps(answer))


@pytest.mark.parametrize("wishes", _RENTED, ids=_NAMES)
def test_an_option_that_is_opened_is_the_one_that_was_found(wishes: dict[str, Any]) -> None:
    choices = _choices(renting.FIELDS, **wishes)
    for option in renting.find(choices).options:
        again = simulator.estimate(**arguments(choices.change(renting.opened(choices, option))))
        assert (again.step_time_s, again.run) == (option.estimate.step_time_s, option.estimate.run)


def test_limits_need_no_other_search() -> None:
    choices = _choices(renting.FIELDS, rent_systems="workstation-rtx-3090", rent_most=2)
    outlook = renting.find(choices)
    told: list[str] = []
    for limits in ({"rent_deadline": "any"}, {"rent_budget": "100"}, {"rent_chance": "99"}):
        moved = choices.change(limits)
        assert renting.is_known(moved)
        other = renting.find(moved, told.append)
        assert [option.estimate for option in other.options] == [option.estimate for option in outlook.options]
    assert told == []
    assert renting.find(choices.change({"rent_deadline": "any"})).deadline_s is None
    assert not renting.is_known(choices.change({"rent_most": 3}))


def test_options_that_are_listed() -> None:
    choices = _choices(renting.FIELDS, rent_systems="workstation-rtx-3090", rent_most=4, rent_deadline="30d")
    outlook = renting.find(choices)
    assert renting.listed(outlook, "all") == list(outlook.options)
    assert renting.listed(outlook, "not beaten") == list(outlook.front)
    kept = renting.listed(outlook, "within the limits")
    assert all(outlook.keeps(option) for option in kept)
    assert len(kept) == sum(map(outlook.keeps, outlook.options))


def test_what_was_seen_until_now_is_judged_too() -> None:
    choices = _choices(renting.FIELDS, rent_systems="workstation-rtx-3090", rent_most=4, rent_where="pp=1")
    seen: list[Any] = []
    outlook = renting.find(choices, seen=seen.append)
    part = renting.judged(choices, seen[:2])
    assert not part.whole
    assert len(part.options) == 2
    assert {option.devices for option in part.options} <= {option.devices for option in outlook.options}
