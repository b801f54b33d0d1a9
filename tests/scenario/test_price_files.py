"""Offers of one's own: a file of prices in place of the catalogue's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware.catalogue import load_prices, load_system
from hardware.errors import InputError
from simulator.scenario.prices import find_price
from simulator.scenario.scenario import from_file
from simulator.terminal import catalogue as browse
from tests.commands.conftest import Capsim, capsim

__all__ = ["capsim"]

_OFFERS = """\
ours-a100:
  provider: our university
  offer: partition a
  device: a100-sxm4-80gb
  kind: on-demand
  rate: {value: 0.90 USD/h, source: [internal price list], seen: primary}
  date: "2026-10"
spare-a100:
  provider: our university
  offer: backfill queue
  device: a100-sxm4-80gb
  kind: spot
  rate: 0.20 USD/h
  date: "2026-10"
ours-h100:
  provider: our university
  offer: partition h
  device: h100-sxm5-80gb
  kind: reserved
  rate: 2 USD/h
  date: "2026-10"
"""


@pytest.fixture
def offers(tmp_path: Path) -> Path:
    """A file of three offers."""
    path = tmp_path / "ours.yaml"
    path.write_text(_OFFERS)
    return path


def test_the_offer_of_the_device_is_found(offers: Path) -> None:
    choice = find_price(str(offers), load_system("dgx-a100-640gb"))
    assert choice is not None
    assert (choice.price.id, choice.price.rate * 3600.0) == ("ours-a100", pytest.approx(0.9))
    assert choice.price.provenance["rate"].source == ("internal price list",)
    other = find_price(offers, load_system("dgx-h100"))
    assert other is not None
    assert other.price.id == "ours-h100"


def test_a_kind_of_price_chooses_among_them(offers: Path) -> None:
    choice = find_price(str(offers), load_system("dgx-a100-640gb"), kind="spot")
    assert choice is not None
    assert choice.price.id == "spare-a100"


def test_what_the_file_does_not_offer_is_said(offers: Path) -> None:
    with pytest.raises(InputError, match=r"ours\.yaml: has no offer of rtx-3090, only of a100-sxm4-80gb, h100"):
        find_price(str(offers), load_system("rtx-3090"))
    with pytest.raises(InputError, match=r"price_kind=reserved: .*ours.yaml has no such offer of a100.*demand, spot"):
        find_price(str(offers), load_system("dgx-a100-640gb"), kind="reserved")


def test_errors_name_line_and_offer(offers: Path) -> None:
    offers.write_text(_OFFERS.replace("rate: 2 USD/h", "rate: 2 USD"))
    with pytest.raises(InputError, match=r"ours.yaml:20: ours-h100: rate: '2 USD': 'USD' is not a unit of price"):
        load_prices(offers)
    offers.write_text(_OFFERS.replace("device: h100-sxm5-80gb", "device: h100-sxm-80gb"))
    with pytest.raises(InputError, match=r"ours.yaml:18: ours-h100: unknown device 'h100-sxm-80gb'; did you mean h100"):
        load_prices(offers)
    offers.write_text("ours: 3\n")
    with pytest.raises(InputError, match=r"ours.yaml:1: ours: must be a mapping of names to values"):
        load_prices(offers)


def test_a_scenario_names_a_file_beside_it(offers: Path) -> None:
    scenario = offers.with_name("scenario.yaml")
    scenario.write_text("model: bert-large\nsystem: dgx-a100-640gb\nprice: ours.yaml\n")
    price = from_file(scenario).price
    assert price is not None
    assert price.id == "ours-a100"


def test_an_amount_with_a_slash_is_no_file(offers: Path) -> None:
    scenario = offers.with_name("scenario.yaml")
    scenario.write_text("model: bert-large\nsystem: dgx-a100-640gb\nprice: 1.25 USD/h\n")
    price = from_file(scenario).price
    assert price is not None
    assert price.rate * 3600.0 == pytest.approx(1.25)


def test_the_catalogue_shows_such_a_file(offers: Path) -> None:
    printed = browse.data("prices", str(offers))
    assert [offer["id"] for offer in printed] == ["spare-a100", "ours-a100", "ours-h100"]
    assert printed[1]["rate"] == {"value": "0.9 USD/h", "source": ["internal price list"], "seen": "primary"}


def test_what_an_offer_states_counts(offers: Path) -> None:
    small = "ours-small:\n  provider: our university\n  offer: one card\n  device: a100-sxm4-80gb\n"
    offers.write_text(_OFFERS + small + '  kind: on-demand\n  rate: 0.50 USD/h\n  devices: 1\n  date: "2026-10"\n')
    system = load_system("dgx-a100-640gb")
    by_size = [find_price(str(offers), system, devices=devices) for devices in (1, 8)]
    assert [None if choice is None else choice.price.id for choice in by_size] == ["ours-small", "ours-a100"]
    assert {None if choice is None else choice.rule for choice in by_size} == {"file"}


def test_a_file_and_negotiated_prices_stand_in_one_option(offers: Path, capsim: Capsim) -> None:
    asked = ("estimate", "bert-large", "--system", "dgx-a100-640gb", "--json", "--price", str(offers))
    price = capsim(*asked).json["run"]["price"]
    assert (price["id"], price["rule"]) == ("ours-a100", "file")
    agreed = capsim(*asked, "--price", "dgx-a100-640gb=0.70").json["run"]["price"]
    assert (agreed["usd_per_device_hour"], agreed["rule"]) == (0.7, "given")
    other = capsim(*asked, "--price", "dgx-h100=0.70").json["run"]["price"]
    assert other["id"] == "ours-a100"
