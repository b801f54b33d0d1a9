"""Prices of the catalogue and those that were negotiated: what is taken, what is said of it, and what it decides."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware import catalogue
from hardware.errors import InputError
from hardware.price import Price
from simulator.answers.costs import kinds_of, mixed
from simulator.answers.estimate import Estimate
from simulator.renting.sweeping import Option
from simulator.scenario import price_notes
from simulator.scenario.offers import Job
from simulator.scenario.prices import find_price
from tests.commands.conftest import Capsim, assert_one_sentence, capsim

__all__ = ["capsim"]

_OFFERS = {offer.id: offer for offer in catalogue.prices()}
_SMALL = {"sequence_length": 128, "global_batch": 512, "tokens": 1e9}


def _estimate(system: Any, devices: int, **options: Any) -> Estimate:
    return simulator.estimate("bert-large", system, devices=devices, workload=_SMALL, **options)


def _price(system: Any, devices: int, **options: Any) -> dict[str, Any]:
    price = _estimate(system, devices, **options).run.price
    assert price is not None
    return price


# the catalogue


def test_the_a100_of_a_marketplace_is_not_on_demand() -> None:
    community, own = _OFFERS["runpod-a100-sxm4-80gb"], _OFFERS["runpod-a100-sxm4-80gb-secure"]
    assert (community.kind, round(community.rate * 3600, 4)) == ("marketplace", 1.39)
    assert (own.kind, round(own.rate * 3600, 4), own.date) == ("on-demand", 1.79, "2026-11-09")
    thirds = {"Vast.ai", "Akash", "SF Compute"}
    assert not [offer.id for offer in _OFFERS.values() if offer.provider in thirds and offer.kind == "on-demand"]


@pytest.mark.parametrize("device", ["tpu-v6e", "gb200", "gb300", "b300", "gh200-96gb", "mi300x", "l40s", "l40", "a10"])
def test_devices_that_had_no_price_have_one(device: str) -> None:
    assert any(offer.device == device and offer.kind == "on-demand" for offer in _OFFERS.values())


@pytest.mark.parametrize("device", ["t4", "v100-sxm2-32gb", "v100-pcie-16gb", "p100-sxm2-16gb", "a40", "rtx-5090"])
def test_so_do_older_and_smaller_ones(device: str) -> None:
    assert any(offer.device == device and offer.kind == "on-demand" for offer in _OFFERS.values())


def test_what_was_wrong_or_superseded_is_gone() -> None:
    assert not {"gcp-n1-v100", "aws-p5-capacity-block"} & set(_OFFERS)
    assert {offer.date for offer in _OFFERS.values() if offer.id.startswith("gcp-tpu-v4")} == {"2024-06-11"}
    assert round(_OFFERS["azure-nc96ads-a100-v4"].rate * 3600, 3) == 4.777
    assert round(_OFFERS["azure-nc24ads-a100-v4"].rate * 3600, 3) == 3.673


@pytest.mark.parametrize("offer", list(_OFFERS.values()), ids=lambda offer: offer.id)
def test_every_offer_says_where_it_is_from_and_what_it_holds(offer: Price) -> None:
    seen = offer.provenance["rate"]
    assert seen.source
    assert set(seen.source) <= set(catalogue.sources())
    assert seen.seen in ("primary", "secondary", "derived")
    assert offer.region
    assert offer.date.startswith(("2024", "2025", "2026"))
    assert offer.network is None or offer.network.kind == "none" or offer.network.kind in catalogue.link_classes()
    assert offer.kind == "reserved" or offer.term is None
    assert offer.largest_cluster is None or offer.largest_cluster >= (offer.devices or 1)


def test_discounts_of_providers_are_discounts() -> None:
    """What a provider asks for less commitment is never less; where it was, the row misled and was left out."""
    listed: dict[tuple[str, str], float] = {}
    for offer in _OFFERS.values():
        if offer.kind in ("on-demand", "marketplace"):
            key = (offer.provider, offer.device)
            listed[key] = min(listed.get(key, offer.rate), offer.rate)
    reserved = [
        offer for offer in _OFFERS.values() if offer.kind == "reserved" and (offer.provider, offer.device) in listed
    ]
    assert reserved
    same = [offer for offer in reserved if offer.provider in ("GCP", "Hyperstack")]
    assert all(offer.rate < max(one.rate for one in _like(offer)) for offer in same)


def _like(offer: Price) -> list[Price]:
    """The same instance on demand."""
    return [one for one in _OFFERS.values() if (one.offer, one.kind) == (offer.offer, "on-demand")]


def test_the_page_says_how_many_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "prices.md").read_text()
    assert f"lists {len(_OFFERS)} offers of {len({offer.provider for offer in _OFFERS.values()})} providers" in page


# what is taken, and said


def test_an_ethernet_h100_does_not_price_a_cluster() -> None:
    price = _price("dgx-h100", 64)
    assert (price["rule"], price["network"]) == ("cheapest", "infiniband")
    assert price["usd_per_device_hour"] > _OFFERS["voltage-park-h100-sxm5-80gb"].rate * 3600
    assert not Job(catalogue.load_system("dgx-h100"), 64).can_use(_OFFERS["voltage-park-h100-sxm5-80gb"])


def test_the_rule_is_said_beside_the_cost(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    text = capsim("estimate", "bert-large", "--system", "dgx-h100", "--devices", 64).out
    assert "device-hours at $4.50 per device-hour, on-demand" in text
    assert "price: HGX of Nebius (2026-10-01), the cheapest on-demand offer that can run 64 devices and joins" in text
    assert "(infiniband at 3,200 Gb/s, only recalled)" in text
    assert "price: beside it spot 2.46 USD/h, HGX H100 of CoreWeave (2026-09-20)" in text
    median = capsim("estimate", "bert-large", "--system", "dgx-1-v100", "--devices", 64).out
    assert ", on-demand, median of 5 providers" in median
    assert "since no on-demand offer is stated to run 64 devices of dgx-1-v100" in median


def test_a_median_names_its_providers() -> None:
    price = _price("dgx-1-v100", 64)
    assert price["rule"] == "median"
    assert price["providers"] == ["AWS", "CoreWeave", "Lambda", "OCI", "Verda"]


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (date(2026, 12, 30), ""),
        (date(2026, 12, 31), "; 91 days old, give today's with --price"),
        (date(2027, 12, 31), "; 456 days old, give today's with --price"),
    ],
)
def test_an_old_price_says_so(monkeypatch: pytest.MonkeyPatch, today: date, said: str) -> None:
    monkeypatch.setattr(price_notes, "today", lambda: today)
    for options in ({}, {"price": "nebius-h100-sxm5-80gb"}):
        lines = [
            line for line in _estimate("dgx-h100", 64, **options).assumed if line.startswith("price: HGX of Nebius")
        ]
        assert [line.endswith(said) for line in lines] == [True] * len(lines)
        assert bool(lines) == (not options or bool(said))
        assert ("days old" in " ".join(lines)) == bool(said)


def test_the_day_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = set()
    for today in (date(2026, 11, 10), date(2027, 6, 1)):
        monkeypatch.setattr(price_notes, "today", lambda today=today: today)
        costs.add(_estimate("dgx-h100", 64).run.cost_usd)
    assert len(costs) == 1


def test_an_unknown_day_says_so() -> None:
    assert any("TPU v6e of GCP" in line and "its day is not known" in line for line in _estimate("tpu-v6e", 8).assumed)


def test_a_marketplace_price_warns_where_nobody_asked_for_it() -> None:
    usual = _estimate("rtx-4080", 1)
    assert usual.run.price_kind == "marketplace"
    assert any(
        "nobody is known to rent rtx-4080 on demand; 0.15 USD/h is of kind marketplace" in w for w in usual.warnings
    )
    assert any("is what the list of Akash begins from" in warning for warning in usual.warnings)
    asked = _estimate("rtx-4080", 1, price_kind="marketplace")
    assert not any("nobody is known" in warning for warning in asked.warnings)


def test_a_named_offer_that_cannot_run_the_job_warns() -> None:
    words = "secure cloud pod of RunPod is not stated to run 64 devices of dgx-a100-640gb: its instances are not joined"
    assert any(words in warning for warning in _estimate("dgx-a100-640gb", 64, price="runpod").warnings)
    assert not any("not stated" in w for w in _estimate("dgx-a100-640gb", 1, price="runpod").warnings)


def test_idle_devices_of_an_instance_are_told() -> None:
    lines = _estimate("gb200-nvl72", 8).assumed
    assert any("instances of 72 are rented whole; 64 more devices are paid for than counted" in line for line in lines)
    assert not any("rented whole" in line for line in _estimate("dgx-h100", 8).assumed)


def test_without_a_price_the_run_is_answered() -> None:
    estimate = _estimate("mi250x", 8)
    assert (estimate.run.cost_usd, estimate.run.price) == (None, None)
    assert "no price of mi250x is known; give one with --price, such as --price 2.50" in estimate.warnings


# negotiated prices


def test_a_negotiated_price_is_of_a_system_or_a_device() -> None:
    agreed = {"dgx-h100": 2.10, "a100-sxm4-80gb": "1.50 USD/h"}
    assert _price("dgx-h100", 64, prices=agreed)["usd_per_device_hour"] == 2.1
    price = _price("dgx-a100-640gb", 64, prices=agreed)
    assert (price["usd_per_device_hour"], price["rule"]) == (1.5, "given")
    assert _price("superpod-h100", 64, prices=agreed)["rule"] == "cheapest"
    both = {"dgx-h100": 2.10, "h100-sxm5-80gb": 9.0}
    assert _price("dgx-h100", 8, prices=both)["usd_per_device_hour"] == 2.1
    assert _price("dgx-h100", 8, prices=both, price="lambda")["usd_per_device_hour"] == 2.1
    assert _price("dgx-h100", 8, prices=both, price_kind="spot")["kind"] == "spot"


@pytest.mark.parametrize("written", ["2.10", "2.10 USD/h", "{value: 2.10 USD/h, source: [our contract]}"])
def test_a_system_file_says_its_price(tmp_path: Path, written: str) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(_SYSTEM.format(price=written))
    answer = _estimate(path, 16)
    assert answer.run.price is not None
    assert (answer.run.price["usd_per_device_hour"], answer.run.price["rule"]) == (2.1, "own")
    assert "price: 2.10 USD/h, as the file of ours says" in answer.assumed
    assert _price(path, 16, price=3.0)["usd_per_device_hour"] == 3.0
    assert _price(path, 16, prices={"ours": 4.0})["usd_per_device_hour"] == 4.0


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("-1", "-1 is out of range"),
        ("2 EUR/h", "'EUR/h' is not a unit of price"),
        ("true", "give USD an hour of one device, such as 2.10, or the id of an offer"),
        ("[]", "give USD an hour of one device, such as 2.10, or the id of an offer"),
        ("aws-p6", "unknown offer 'aws-p6'; did you mean aws-p"),
    ],
)
def test_a_system_file_with_a_wrong_price(tmp_path: Path, capsim: Capsim, written: str, words: str) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(_SYSTEM.format(price=written))
    assert_one_sentence(capsim("estimate", "bert-large", "--system", path), "ours.yaml:6: ", words)


_SYSTEM = """\
device: h100-sxm5-80gb
name: our cluster
devices_per_node: 8
most_devices: 64
default_devices: 16
price: {price}
inter_node: {{kind: infiniband, topology: fabric, bandwidth: 3200 Gb/s, shared_by: 8}}
"""


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ({"dgx-h10": 2.0}, "unknown system of a price 'dgx-h10'; did you mean dgx-h100"),
        ({"dgx-h100": 0}, "prices: dgx-h100=0: 0 is out of range"),
        ({"dgx-h100": True}, "prices: dgx-h100=true: "),
        ({"dgx-h100": "cheap"}, "prices: dgx-h100='cheap': 'cheap' is not a price"),
        ({"dgx-h100": [2]}, "prices: dgx-h100="),
    ],
)
def test_a_negotiated_price_that_cannot_be(prices: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("[", r"\[")):
        _estimate("dgx-h100", 8, prices=prices)


def test_rent_and_purchase_exclude_each_other() -> None:
    agreed, bought = {"dgx-h100": 2.0}, {"purchase_price": "30 kUSD"}
    with pytest.raises(InputError, match=r"price='2\.0' is rent, which price_kind=owned does not pay"):
        _estimate("dgx-h100", 8, prices=agreed, price_kind="owned", ownership=bought)
    with pytest.raises(InputError, match="purchase_price='30000 USD' belongs to price_kind=owned"):
        _estimate("dgx-h100", 8, prices=agreed, ownership=bought)
    assert _price("dgx-a100-640gb", 8, prices=agreed, ownership=bought)["rule"] == "owned"


def test_a_price_that_is_varied_is_the_one_that_holds() -> None:
    whatif = simulator.whatif(
        "bert-large", "dgx-h100", devices=8, workload=_SMALL, prices={"dgx-h100": 2.0}, vary="price=2x,7"
    )
    rates = [each.estimate.run.price["usd_per_device_hour"] for each in whatif.variations]  # type: ignore[union-attr,index]
    assert rates == [4.0, 7.0]
    moved = simulator.whatif(
        "bert-large", "dgx-h100", devices=8, workload=_SMALL, prices={"dgx-h100": 2.0}, vary="system=dgx-a100-640gb"
    )
    assert moved.variations[0].estimate.run.price["rule"] == "cheapest"  # type: ignore[union-attr,index]


def test_renting_and_sweeping_at_negotiated_prices() -> None:
    asked: dict[str, Any] = {"workload": _SMALL, "processes": 1}
    agreed = {"dgx-h100": 2.10, "dgx-a100-640gb": 1.2}
    rent = simulator.rent("bert-large", systems="dgx-h100,dgx-a100-640gb", max_devices=1, prices=agreed, **asked)
    swept = simulator.sweep(["bert-large"], ["dgx-h100", "dgx-a100-640gb"], [1], prices=agreed, **asked)
    for options in (rent.options, [each for each in swept if isinstance(each, Option)]):
        assert {(each.system, each.estimate.run.price["usd_per_device_hour"]) for each in options} == {  # type: ignore[index]
            ("dgx-h100", 2.1),
            ("dgx-a100-640gb", 1.2),
        }
    with pytest.raises(InputError, match="prices: 'dgx-b200' is none of the systems that are asked for: dgx-h100"):
        simulator.rent("bert-large", systems="dgx-h100", prices={"dgx-b200": 2.0}, **asked)


def test_options_for_several_systems(capsim: Capsim) -> None:
    """Written on the command line, and one price for all systems beside those that are named."""
    said = ("--price", "dgx-h100=2.10", "--price", "3")
    command = ("estimate", "bert-large", "--devices", 8, *said, "--json", "--system")
    rates = [
        capsim(*command, system).json["run"]["price"]["usd_per_device_hour"]
        for system in ("dgx-h100", "dgx-a100-640gb")
    ]
    assert rates == [2.1, 3.0]


# what it decides


def _cheaper(prices: dict[str, float] | None) -> str:
    """Which of two clusters trains a model of 7B for less."""
    costs = {
        system: simulator.estimate("llama-2-7b", system, devices=devices, prices=prices).run.cost_usd or 0.0
        for system, devices in (("dgx-a100-640gb", 64), ("dgx-h100", 32))
    }
    return min(costs, key=costs.__getitem__)


def test_64_a100_or_32_h100() -> None:
    """Below 1.20, 64 A100 win; at 1.39 of a marketplace, and at 1.79 of the data centre (2026-11-09), 32 H100 do."""
    assert _cheaper({"dgx-a100-640gb": 1.19, "dgx-h100": 3.99}) == "dgx-a100-640gb"
    assert _cheaper({"dgx-a100-640gb": 1.39, "dgx-h100": 3.99}) == "dgx-h100"
    own = round(_OFFERS["runpod-a100-sxm4-80gb-secure"].rate * 3600, 4)
    assert _cheaper({"dgx-a100-640gb": own, "dgx-h100": 3.99}) == "dgx-h100"
    assert _cheaper(None) == "dgx-h100"


def test_different_kinds_of_prices_are_told(capsim: Capsim) -> None:
    answers = [
        _estimate("rtx-3090", 1),
        _estimate("rtx-4080", 1),
        _estimate("mi250x", 1),
        _estimate("rtx-4090", 1, price=1),
    ]
    assert kinds_of(answers) == {
        "on-demand": ["rtx-3090"],
        "marketplace": ["rtx-4080"],
        "no price": ["mi250x"],
        "given": ["rtx-4090"],
    }
    assert mixed(answers[:2]) == "costs rest on different kinds of prices: on-demand (rtx-3090); marketplace (rtx-4080)"
    assert mixed([answers[0], answers[2]]) is mixed(answers[:1]) is None
    assert mixed([]) is None
    rent = (
        "plan",
        "bert-large",
        "--tokens",
        "1e9",
        "--max-devices",
        1,
        "--processes",
        1,
        "--systems",
        "rtx-3090,rtx-4080",
    )
    assert "Note: costs rest on different kinds of prices: " in " ".join(capsim(*rent).out.split())
    assert capsim(*rent, "--json").json["price_kinds"] == {"on-demand": ["rtx-3090"], "marketplace": ["rtx-4080"]}
    changed = ("whatif", "bert-large", "--system", "rtx-3090", "--vary", "system=rtx-4080,rtx-3090")
    assert "different kinds of prices" in " ".join(capsim(*changed).out.split())
    same = ("whatif", "bert-large", "--system", "rtx-3090", "--vary", "workload.global_batch=512")
    assert "different kinds" not in capsim(*same).out


def test_spot_never_costs_more_than_on_demand_anywhere() -> None:
    for name in catalogue.names("systems"):
        system = catalogue.load_system(name)
        for devices in sorted({1, system.devices_per_node, min(system.most_devices, 8 * system.devices_per_node)}):
            usual = find_price(None, system, devices=devices)
            for kind in ("spot", "reserved"):
                try:
                    choice = find_price(None, system, devices=devices, kind=kind)
                except InputError:
                    continue
                assert usual is not None
                assert choice is not None
                assert choice.price.rate < usual.price.rate, (name, devices, kind)


@pytest.mark.parametrize(
    ("said", "day"),
    [("1795910400", date(2026, 11, 29)), ("0", date(1970, 1, 1)), ("soon", None), ("-5", None), ("9" * 30, None)],
)
def test_the_day_can_be_set_for_what_has_to_be_repeated(
    monkeypatch: pytest.MonkeyPatch, said: str, day: date | None
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", said)
    assert abs((price_notes.today() - (day or date.today())).days) <= (1 if day is None else 0)
