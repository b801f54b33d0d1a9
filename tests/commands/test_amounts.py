"""Amounts are written alike everywhere: each spelling is read, or refused, wherever such an amount is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

import simulator
from dashboard.choices.scenario import arguments, field, fields
from dashboard.choices.state import opening
from dashboard.content import searching
from hardware.errors import InputError
from tests.commands.conftest import Capsim

Door = Callable[["Asked", str], Any]


@dataclass(frozen=True)
class Asked:
    """A field of a scenario that asks for an amount."""

    part: str
    name: str
    option: str

    def scenario(self, text: Any) -> dict[str, Any]:
        """What the API takes; machines are owned, so that what they cost matters."""
        parts: dict[str, Any] = {
            "workload": {"sequence_length": 128, "global_batch": 64},
            "ownership": {"purchase_price": "2000 USD"},
            "reliability": {},
        }
        if text is not None:
            parts[self.part] = {**parts[self.part], self.name: text}
        return {"model": "bert-large", "system": "rtx-3090", "devices": 1, "price_kind": "owned", **parts}


TOKENS = Asked("workload", "tokens", "--tokens")
BATCH = Asked("workload", "global_batch", "--global-batch")
PRICE = Asked("ownership", "purchase_price", "--purchase-price")
RESTART = Asked("reliability", "restart", "--restart")
RATE = Asked("reliability", "storage_bandwidth", "--storage-bandwidth")
FAILURES = Asked("reliability", "failure_rate", "--failure-rate")
_SPELLED: dict[Asked, dict[str, list[str]]] = {
    TOKENS: {
        "1000000000": ["1G", "1g", "1B", "1e9", "1,000,000,000", "1_000_000_000", "1000M", "1 billion", "1.0E+9"],
        "15000000000000": ["15T", "15t", "15e12", "15 trillion", "15,000B"],
    },
    BATCH: {"4000": ["4k", "4K", "4e3", "4,000", "4_000", "4 thousand", "4000.0"]},
    PRICE: {
        "12000 USD": [
            "12000",
            "12k",
            "$12k",
            "$12,000",
            "12,000 USD",
            "12 kUSD",
            "12k USD",
            "12e3",
            "$ 12000",
            "12000$",
        ],
        "1500000 USD": ["1.5M", "$1.5m", "1.5 million USD", "1,500,000 USD", "1500k"],
    },
    RESTART: {
        "7200 s": ["2 h", "2h", "2 hours", "120 min", "120m", "120 minutes", "7,200 s", "7200 seconds"],
        "2592000 s": ["30 days", "30d", "30 d", "720 h", "2.592e6 s"],
    },
    RATE: {"85899345920 B/s": ["80 GiB/s", "80GiB/s", "81,920 MiB/s", "687194767360 b/s"]},
    FAILURES: {"0.001 /d": ["1e-3 /d", "0.001/day", "0.36525 /year"]},
}
_REFUSED: dict[Asked, list[str]] = {
    TOKENS: ["many", "--5", "-5", "0", "1e400", "nan", "inf", "1,00", "9" * 10_000, "1e9 USD", "1 1", "15X", "T"],
    BATCH: ["many", "--5", "-5", "0", "1.5", "1e400", "nan", "9" * 10_000, "4 kB", "1e30", "50%"],
    PRICE: ["many", "--5", "-5", "0", "1e400", "nan", "$", "12 EUR", "$12 h", "9" * 10_000, "1,00 USD"],
    RESTART: ["soon", "--5 s", "-5 s", "30", "1e400 s", "nan s", "2 moons", "80 GB", "9" * 10_000 + " s", "$5"],
    RATE: ["fast", "--5 GB/s", "0 GB/s", "80", "80 GiB", "1e400 GB/s", "80 gb/s", "$80 GB/s"],
    FAILURES: ["often", "--5 /d", "-1 /d", "5", "5 d", "1e400 /d"],
}


def _run(estimate: simulator.Estimate) -> dict[str, Any]:
    return vars(estimate.run)


def _by_mapping(asked: Asked, text: str | None) -> Any:
    return _run(simulator.estimate(**asked.scenario(text)))


def _by_variation(asked: Asked, text: str) -> Any:
    whatif = simulator.whatif(**asked.scenario(None), vary=f"{asked.part}.{asked.name}={text}", replan=True)
    (variation,) = whatif.variations
    assert variation.estimate is not None, variation.problem
    return _run(variation.estimate)


def _by_page(asked: Asked, text: str) -> Any:
    scenario = asked.scenario(None)
    chosen = {
        **scenario,
        **{name: value for part in ("workload", "ownership") for name, value in scenario[part].items()},
    }
    values = {name: value for name, value in chosen.items() if not isinstance(value, dict)}
    try:
        values[asked.name] = field(asked.name).read(text)
    except ValueError as error:
        raise InputError(str(error)) from None
    return _run(simulator.estimate(**arguments(opening(fields()).change(values))))


@pytest.fixture
def doors(capsim: Capsim, tmp_path: Path) -> dict[str, Door]:
    """Every way in."""

    def by_option(asked: Asked, text: str) -> Any:
        scenario = asked.scenario(None)
        options = ["--system", scenario["system"], "--devices", 1, "--price-kind", "owned", "--seq-len", 128]
        options += [f"{asked.option}={text}"]
        options += ["--global-batch", 64] if asked is not BATCH else []
        options += ["--purchase-price", "2000"] if asked is not PRICE else []
        outcome = capsim("estimate", scenario["model"], *options, "--json")
        if outcome.status == 2:
            assert outcome.out == ""
            raise InputError(outcome.err.removeprefix("capsim: ").rstrip("\n"))
        return outcome.json["run"]

    def by_file(asked: Asked, text: str, ending: str) -> Any:
        path = tmp_path / f"mine{ending}"
        write = json.dumps if ending == ".json" else yaml.safe_dump
        path.write_text(write(asked.scenario(text)))
        return _run(simulator.answer(simulator.from_file(path)))

    return {
        "option": by_option,
        "yaml": lambda asked, text: by_file(asked, text, ".yaml"),
        "json": lambda asked, text: by_file(asked, text, ".json"),
        "mapping": _by_mapping,
        "variation": _by_variation,
        "page": _by_page,
    }


_DOORS = ("option", "yaml", "json", "mapping", "variation", "page")
_named = pytest.mark.parametrize("asked", _SPELLED, ids=lambda asked: asked.name)


@pytest.mark.parametrize("door", _DOORS)
@_named
def test_a_spelling_means_the_same_everywhere(doors: dict[str, Door], door: str, asked: Asked) -> None:
    for usual, spelled in _SPELLED[asked].items():
        expected = _by_mapping(asked, usual)
        for text in (usual, *spelled):
            assert doors[door](asked, text) == expected, text


@_named
def test_the_amount_matters(asked: Asked) -> None:
    answers = [_by_mapping(asked, text) for text in (*_SPELLED[asked], None)]
    assert all(one != other for number, one in enumerate(answers) for other in answers[:number])


@pytest.mark.parametrize("door", _DOORS)
@_named
def test_what_is_no_amount_is_refused_everywhere(doors: dict[str, Door], door: str, asked: Asked) -> None:
    for text in _REFUSED[asked]:
        with pytest.raises(InputError) as caught:
            doors[door](asked, text)
        sentence = str(caught.value)
        assert sentence.isprintable()
        assert asked.name in sentence or asked.option in sentence
        assert 10 < len(sentence) < 600


@pytest.mark.parametrize("text", ["2.5", "$2.5", "$2.50/h", "2.50 USD/h", "2.5 USD/hour"])
def test_prices_are_written_alike(capsim: Capsim, tmp_path: Path, text: str) -> None:
    work = {"sequence_length": 128, "global_batch": 64, "tokens": 1e9}
    expected = simulator.estimate("bert-large", "rtx-3090", price=2.5, workload=work).run.cost_usd
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"model": "bert-large", "system": "rtx-3090", "price": text, "workload": work}))
    (varied,) = simulator.whatif("bert-large", "rtx-3090", vary=f"price={text}", workload=work).variations
    assert varied.estimate is not None
    choices = opening(fields()).change({"system": "rtx-3090", "price": field("price").read(text), **work})
    assert capsim("estimate", path, "--json").json["run"]["cost_usd"] == expected
    assert capsim("estimate", path, "--price", text, "--json").json["run"]["cost_usd"] == expected
    assert simulator.estimate(**arguments(choices)).run.cost_usd == expected
    assert varied.estimate.run.cost_usd == expected


@pytest.mark.parametrize("text", ["$12k", "12,000 USD", "12000", "12e3", "0.012M"])
def test_budgets_are_written_alike(capsim: Capsim, text: str) -> None:
    answer = capsim("search", "bert-large", "--system", "rtx-3090", f"--budget={text}", "--json").json
    assert (
        answer["budget_usd"] == simulator.search("bert-large", "rtx-3090", budget=text).to_dict()["budget_usd"] == 12e3
    )
    assert next(each for each in searching.FIELDS if each.name == "search_budget").read(text) == 12e3


@pytest.mark.parametrize("text", ["30d", "30 days", "720 h", "2592000 s", "in 30 days"])
def test_deadlines_are_written_alike(capsim: Capsim, text: str) -> None:
    if text == "in 30 days":
        text = (date.today() + timedelta(days=30)).isoformat()
    answer = capsim("search", "bert-large", "--system", "rtx-3090", "--deadline", text, "--json").json
    days = simulator.search("bert-large", "rtx-3090", deadline=text).to_dict()["deadline_s"]
    assert answer["deadline_s"] == days
    assert days in (29 * 86400.0, 30 * 86400.0)  # a date may have come nearer at midnight


@pytest.mark.parametrize("text", ["10%", "0.1", "10 %", "1e-1"])
def test_shares_are_written_alike(capsim: Capsim, text: str) -> None:
    answer = capsim("search", "bert-large", "--system", "rtx-3090", "--headroom", text, "--json").json
    assert answer["headroom"] == simulator.search("bert-large", "rtx-3090", headroom=text).to_dict()["headroom"] == 0.1
