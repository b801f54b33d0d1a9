"""Conditions on plans: what they keep, and what they refuse."""

from __future__ import annotations

import doctest
import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import InputError
from simulator.plan_search import conditions
from simulator.plan_search.conditions import Condition
from simulator.plan_search.exploration import explore
from simulator.plan_search.searching import searched, setting_of
from simulator.specs.plan import Plan
from tests.plan_search.cases import every, everything, small, space

_WHERE: list[tuple[str, Callable[[Any], bool]]] = [
    ("tp<=2", lambda p: p.tp <= 2),
    ("tp>1, pp>1", lambda p: p.tp > 1 and p.pp > 1),
    ("dp=2|8", lambda p: p.dp in (2, 8)),
    ("cp!=1", lambda p: p.cp != 1),
    ("cp != 1|4", lambda p: p.cp not in (1, 4)),
    ("pp<4,pp>=2", lambda p: 2 <= p.pp < 4),
    ("micro_batch=2", lambda p: p.micro_batch == 2),
    ("micro-batch>=2", lambda p: p.micro_batch >= 2),
    ("micro_batches>=4", lambda p: 4 // (p.dp * p.micro_batch) >= 4),
    ("micro_batches=2", lambda p: 4 // (p.dp * p.micro_batch) == 2),
    ("virtual_stages>1", lambda p: p.virtual_stages > 1),
    ("schedule=1f1b|gpipe", lambda p: p.schedule in ("1f1b", "gpipe")),
    ("schedule!=zero-bubble", lambda p: p.schedule != "zero-bubble"),
    ("sharding=zero3", lambda p: p.sharding == "zero3"),
    ("sharding!=zero3|none", lambda p: p.sharding not in ("zero3", "none")),
    ("sharding=hybrid", lambda p: p.sharding == "hybrid"),
    ("sharding_group>0", lambda p: bool(p.sharding_group)),
    ("recompute==Full", lambda p: p.recompute == "full"),
    ("sequence_parallel=yes", lambda p: p.sequence_parallel),
    ("sequence-parallel=off", lambda p: not p.sequence_parallel),
    ("offload_optimizer!=true", lambda p: not p.offload_optimizer),
    (" , tp=1 ,, ", lambda p: p.tp == 1),
    ("tp>1e3", lambda p: False),
    ("tp=1.5", lambda p: False),
]


@pytest.mark.parametrize(("where", "holds"), _WHERE, ids=[where for where, _ in _WHERE])
def test_a_condition_leaves_what_it_holds_for(where: str, holds: Callable[[Any], bool]) -> None:
    listing = every(small("tpu"), space(small("tpu"), where=where))
    whole = everything("tpu")
    wanted = {key for key, plan in zip(whole.keys, whole.plans, strict=True) if holds(plan)}
    assert set(listing.keys) == wanted
    assert len(listing.keys) == len(wanted)
    counted = explore(space(small("tpu"), where=where), setting_of(small("tpu")))
    assert (counted.candidates, counted.feasible) == (len(listing.plans), listing.fits.sum())


@pytest.mark.parametrize("order", ["pp-dp-cp-tp", "dp-tp-cp-pp"])
def test_a_placement_holds_for_every_plan(order: str) -> None:
    listing = every(small("tpu"), space(small("tpu"), where=f"placement={order}"))
    used = {tuple(axis for axis in order.split("-") if getattr(plan, axis) > 1) for plan in everything("tpu").plans}
    assert {key[6] for key in listing.keys} == used
    assert all(plan.placement == tuple(order.split("-")) for plan in listing.plans)


_FIXED: list[dict[str, Any]] = [
    {"tp": 2},
    {"dp": 2, "pp": 2, "cp": 2},
    {"micro_batch": 2, "recompute": "full"},
    {"sequence_parallel": True},
    {"offload_optimizer": False, "sharding": "none"},
    {"schedule": "zero-bubble", "virtual_stages": 2},
]


@pytest.mark.parametrize("fields", _FIXED, ids=str)
def test_given_fields_stay_as_they_are(fields: dict[str, Any]) -> None:
    listing = every(small("tpu"), space(small("tpu"), plan=Plan(**fields)))
    wanted = {
        key
        for key, plan in zip(everything("tpu").keys, everything("tpu").plans, strict=True)
        if all(getattr(plan, name) == value for name, value in fields.items())
    }
    assert wanted
    assert set(listing.keys) == wanted


@pytest.mark.parametrize(
    ("fields", "groups"),
    [
        ({"sharding_group": 8}, {("zero1", 8), ("hybrid", 8)}),
        ({"sharding": "zero1", "sharding_group": 2}, {("zero1", 2)}),
        ({"sharding": "hybrid", "sharding_group": 2}, {("hybrid", 2)}),
        ({"sharding": "hybrid"}, {("hybrid", 4)}),
    ],
    ids=str,
)
def test_groups_that_are_asked_for_are_tried(fields: dict[str, Any], groups: set[tuple[str, int]]) -> None:
    opened = replace(small("tpu"), plan=small("tpu").plan.model_copy(update={"sharding_group": None, **fields}))
    listing = every(opened, space(opened, plan=Plan(**fields)))
    assert {(plan.sharding, plan.sharding_group) for plan in listing.plans} == groups


def test_a_search_keeps_what_is_given_and_wished() -> None:
    search = searched(small("tpu"), Plan(tp=2), False, where="sharding=zero1|zero3,pp<=2", top=50, pareto="time,memory")
    assert search.pareto
    for one in (*search.best, *search.pareto):
        assert one.plan["tp"] == 2
        assert one.plan["sharding"] in ("zero1", "zero3")
        assert one.plan["pp"] <= 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tp", "write a field, a comparison and a value"),
        ("tp<", "write a field, a comparison and a value"),
        ("<=8", "write a field, a comparison and a value"),
        ("tp=>8", "tp is compared with a number"),
        ("tp<=x", "tp is compared with a number"),
        ("tp<=nan", "tp is compared with a number"),
        ("tp<=1e400", "tp is compared with a number"),
        ("tp=2|", "tp is compared with a number"),
        ("pt<=8", "unknown field of a plan in where 'pt'; did you mean"),
        ("sharding=zero4", "sharding is one of none, zero1, zero2, zero3, hybrid"),
        ("sharding<zero3", "sharding has no order; compare it with = or !="),
        ("recompute=", "write a field, a comparison and a value"),
        ("sequence_parallel=maybe", "sequence_parallel is one of yes, no"),
        ("placement=tp-dp", "name tp, cp, dp and pp once each"),
        ("placement>tp-cp-dp-pp", "placement has no order"),
        ("tp=1," * 300, "1500 characters are too long; write at most 1000"),
    ],
)
def test_a_condition_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        conditions.parse(text)
    assert words in str(raised.value)


def test_conditions_are_text() -> None:
    with pytest.raises(InputError, match="where=8: write conditions as text"):
        conditions.parse(8)  # type: ignore[arg-type]


_FIELDS = ("tp", "pp", "dp", "sharding", "schedule", "placement", "offload_optimizer", "micro-batches", "x")
_SIGNS = ("<=", ">=", "==", "!=", "=", "<", ">", "|", ",", "-", " ", "\n", "\x00")
_VALUES = ("8", "1e9", "-1", "nan", "inf", "zero1", "yes", "1f1b", "tp-cp-dp-pp", "٣", "_")
_PIECES = st.sampled_from((*_FIELDS, *_SIGNS, *_VALUES))


def _read(text: str) -> tuple[Condition, ...] | str:
    """The conditions, or what is said of those that cannot be read."""
    try:
        return conditions.parse(text)
    except InputError as error:
        return str(error)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(_PIECES, max_size=12).map("".join), st.text(string.printable), st.text()))
def test_any_text_is_read_or_refused(text: str) -> None:
    reading = _read(text)
    if isinstance(reading, str):
        assert reading.isprintable()
        return
    plan = small("tpu").plan.with_degrees(8)
    for condition in reading:
        value = getattr(plan, condition.field, 1)
        assert isinstance(condition.keeps(value if value is not None else 0), bool)


def test_the_examples_of_the_documentation() -> None:
    assert doctest.testmod(conditions).failed == 0


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("tp=8,tp=4", "where: no plan keeps tp=8 and tp=4; write alternatives as tp=8|4"),
        ("tp>4,tp<=4", "where: no plan keeps tp>4 and tp<=4"),
        ("sharding=none,sharding!=none", "where: no plan keeps sharding=none and sharding!=none"),
        ("sequence_parallel=yes,sequence_parallel=no", "where: no plan keeps sequence_parallel=yes and"),
    ],
)
def test_conditions_that_contradict_each_other_are_refused(where: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        conditions.refuse_contradicting(conditions.parse(where))
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    "where", ["tp=8|4,tp<8", "tp>1,tp<8,tp!=4", "micro_batch>=3", "sharding!=none,sharding=zero1|zero3"]
)
def test_conditions_that_some_value_keeps_are_not(where: str) -> None:
    conditions.refuse_contradicting(conditions.parse(where))
