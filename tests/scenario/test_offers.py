"""Which offers count for a job, with invented offers: the network, the size, the day, the kind, and ties."""

from __future__ import annotations

import itertools
from datetime import date
from typing import Any

import pytest

from hardware import catalogue
from hardware.price import Price
from hardware.reading import build
from hardware.spec import System
from simulator.scenario.offers import Chosen, Job, cheapest, discounted, newest, preferred, usual

H100 = catalogue.load_system("dgx-h100")
FAST = {"kind": "infiniband", "bandwidth": "3200 Gb/s"}
_NUMBERS = itertools.count()


def _offer(rate: float, provider: str = "A", **fields: Any) -> Price:
    """An offer of eight H100 on demand, of a name that is its own."""
    plain = {"offer": "x", "device": "h100-sxm5-80gb", "kind": "on-demand", "devices": 8, "date": "2026-11-01"}
    sheet = {**plain, "id": f"o{next(_NUMBERS)}", "provider": provider, "rate": f"{rate} USD/h", **fields}
    return build(Price, {name: value for name, value in sheet.items() if value is not None})


def _usual(devices: int, offers: list[Price], system: System = H100) -> Chosen:
    choice = usual(Job(system, devices, newest(offers)), offers)
    assert choice is not None
    return choice


def _dollars(choice: Chosen) -> float:
    return round(choice.price.rate * 3600, 6)


# what can run a job


@pytest.mark.parametrize(
    ("network", "largest", "can"),
    [
        (None, None, False),
        ({"kind": "none"}, None, False),
        ({"kind": "ethernet"}, None, False),
        ({"kind": "ethernet", "bandwidth": "3200 Gb/s"}, None, False),
        ({"kind": "infiniband"}, None, False),
        ({"kind": "infiniband", "bandwidth": "1600 Gb/s"}, None, False),
        (FAST, None, True),
        ({"kind": "efa", "bandwidth": "3200 Gb/s"}, None, True),
        ({"kind": "roce", "bandwidth": "6400 Gb/s"}, None, True),
        (FAST, 32, False),
        (FAST, 64, True),
    ],
)
def test_a_job_larger_than_an_instance_needs_a_network_and_a_cluster(
    network: dict[str, str] | None, largest: int | None, *, can: bool
) -> None:
    offer = _offer(2.0, network=network, largest_cluster=largest)
    assert Job(H100, 64).can_use(offer) == can
    assert Job(H100, 8).can_use(offer)


def test_an_instance_must_hold_what_a_node_does() -> None:
    single = _offer(2.0, devices=1, network={"kind": "efa", "bandwidth": "400 Gb/s"})
    assert not Job(H100, 8).can_use(single)
    assert not Job(H100, 64).can_use(single)
    assert Job(H100, 1).can_use(single)
    unknown = _offer(2.0, devices=None)
    assert Job(H100, 1).can_use(unknown)
    assert not Job(H100, 2).can_use(unknown)


def test_ethernet_stands_for_ethernet() -> None:
    tcpx = catalogue.load_system("gcp-a3-highgpu-8g")
    slow, equal = ({"kind": "ethernet", "bandwidth": f"{rate} Gb/s"} for rate in (100, 800))
    assert not Job(tcpx, 64).can_use(_offer(2.0, network=slow))
    assert Job(tcpx, 64).can_use(_offer(2.0, network=equal))
    assert Job(tcpx, 64).can_use(_offer(2.0, network=FAST))


def test_a_system_without_a_network_is_one_instance() -> None:
    workstation = catalogue.load_system("server-l40s")
    assert not Job(workstation, 8).can_use(_offer(2.0, device="l40s", devices=4, network=FAST))
    assert Job(workstation, 8).can_use(_offer(2.0, device="l40s"))


def test_a_slice_is_cut_to_any_size() -> None:
    pod = catalogue.load_system("tpu-v6e-pod")
    cut = _offer(2.7, device="tpu-v6e", devices=256, network={"kind": "ici"}, largest_cluster=256)
    assert all(Job(pod, devices).can_use(cut) and Job(pod, devices).fills(cut) for devices in (1, 16, 256))
    assert not Job(pod, 512).can_use(cut)
    assert not Job(pod, 16).can_use(_offer(2.7, device="tpu-v6e", devices=1, network=FAST))


# what decides


def test_cheap_ethernet_does_not_stand_for_a_cluster() -> None:
    offers = [_offer(1.99, network={"kind": "ethernet", "bandwidth": "100 Gb/s"}), _offer(4.5, "B", network=FAST)]
    assert _dollars(_usual(8, offers)) == 1.99
    choice = _usual(64, offers)
    assert (_dollars(choice), choice.rule, choice.price.provider) == (4.5, "cheapest", "B")


def test_a_marketplace_is_never_on_demand() -> None:
    offers = [_offer(1.0, kind="marketplace"), _offer(3.0, "B")]
    choice = _usual(8, offers)
    assert (_dollars(choice), choice.price.kind) == (3.0, "on-demand")
    assert [round(offer.rate * 3600, 6) for offer in choice.beside] == [1.0]
    only = _usual(8, offers[:1])
    assert (_dollars(only), only.price.kind) == (1.0, "marketplace")


def test_where_nothing_counts_the_median_of_providers_does() -> None:
    offers = [_offer(rate, provider) for rate, provider in ((2.0, "A"), (9.0, "A"), (3.0, "B"), (7.0, "C"))]
    choice = _usual(64, offers)
    assert (_dollars(choice), choice.rule, choice.providers) == (3.0, "median", ("A", "B", "C"))
    assert _dollars(_usual(64, offers[:3])) == 2.5
    assert _usual(64, offers[:1]).providers == ("A",)
    assert choice.price.provenance["rate"].source == ("median of A 2, B 3, C 7 USD/h",)


def test_an_older_price_decides_only_where_no_newer_one_does() -> None:
    old, new = _offer(2.0, network=FAST, date="2026-08-02"), _offer(4.0, "B", network=FAST, date="2026-11-01")
    choice = _usual(64, [old, new])
    assert _dollars(choice) == 4.0
    assert choice.beside == (old,)
    within = _offer(2.0, network=FAST, date="2026-08-03")
    assert _dollars(_usual(64, [within, new])) == 2.0
    undated = _offer(2.0, network=FAST, date="2026")
    assert _dollars(_usual(64, [undated, new])) == 4.0
    assert _dollars(_usual(64, [undated])) == 2.0
    slow = _offer(1.0, "C", date="2026-11-01")
    assert _dollars(_usual(64, [old, slow])) == 2.0


def test_a_median_is_of_recent_prices_where_three_providers_have_one() -> None:
    recent = [_offer(rate, provider) for rate, provider in ((4.0, "A"), (5.0, "B"), (6.0, "C"))]
    old = [_offer(1.0, "D", date="2026-02-01"), _offer(1.0, "E", date="2026-02-01")]
    assert _dollars(_usual(64, [*recent, *old])) == 5.0
    assert _dollars(_usual(64, [*recent[:2], *old])) == 2.5


def test_what_a_list_begins_from_does_not_decide() -> None:
    floor, price = _offer(1.0, network=FAST, is_floor=True), _offer(4.0, "B", network=FAST)
    assert _dollars(_usual(64, [floor, price])) == 4.0
    assert _dollars(_usual(64, [floor])) == 1.0


def test_an_instance_that_the_job_fills_comes_first() -> None:
    offers = [_offer(3.0), _offer(4.0, devices=4), _offer(3.5, devices=16)]
    assert [_dollars(_usual(devices, offers)) for devices in (4, 8)] == [4.0, 3.0]
    assert _dollars(_usual(2, offers)) == 3.0


def test_of_equal_prices_the_newest_is_taken() -> None:
    older, newer = _offer(2.0, date="2026-10-01"), _offer(2.0, date="2026-10-02")
    assert cheapest([older, newer]) is cheapest([newer, older]) is newer
    same = [_offer(2.0), _offer(2.0)]
    assert cheapest(same) is cheapest(same[::-1]) is same[0]
    assert cheapest([]) is None


def test_an_own_offer_is_its_systems_price_whatever_else_there_is() -> None:
    own = _offer(9.0, date="2024-01-01")
    system = H100.model_copy(update={"price": own.id})
    choice = _usual(4096, [own, _offer(1.0, network=FAST)], system)
    assert (choice.price, choice.rule) == (own, "own")


def test_nothing_is_known() -> None:
    assert usual(Job(H100, 8), []) is None
    assert preferred([], Job(H100, 8)) == []
    assert newest([_offer(1.0, date="as given")]) is None


def test_more_offers_never_make_a_job_dearer_unless_they_are_newer() -> None:
    """Of offers of one day another one never raises the price of a job that it can run."""
    rates, networks = (1.0, 2.0, 4.0), (None, FAST)
    pool = [_offer(rate, f"P{rate}{n}", network=net) for rate in rates for n, net in enumerate(networks)]
    for devices in (8, 64):
        for some in itertools.combinations(pool, 2):
            before = _usual(devices, list(some))
            for more in pool:
                if Job(H100, devices).can_use(more) and before.rule == "cheapest":
                    assert _dollars(_usual(devices, [*some, more])) <= _dollars(before)


# discounts


def _spot(devices: int, offers: list[Price], kind: str = "spot", system: System = H100) -> Chosen | None:
    return discounted(Job(system, devices, newest(offers)), offers, kind)


def test_a_discount_is_one_within_a_provider() -> None:
    listed = [_offer(4.0, "A", network=FAST), _offer(12.0, "B", network=FAST)]
    own = _offer(5.0, "B", kind="spot", network=FAST)
    dear = _offer(4.5, "A", kind="spot", network=FAST)
    assert _spot(64, [*listed, own, dear]) is None
    cheap = _offer(3.0, "B", kind="spot", network=FAST)
    choice = _spot(64, [*listed, own, dear, cheap])
    assert choice is not None
    assert choice.price is cheap


def test_what_is_dearer_than_on_demand_is_not_offered() -> None:
    listed = _offer(4.0, "A", network=FAST)
    for rate, offered in ((3.99, True), (4.0, False), (5.0, False)):
        choice = _spot(64, [listed, _offer(rate, "B", kind="spot", network=FAST)])
        assert (choice is not None) == offered


def test_without_an_offer_that_can_run_it_the_median_discount_counts() -> None:
    listed = [_offer(4.0, "A", network=FAST), _offer(2.0, "B"), _offer(3.0, "C")]
    spot = [_offer(1.0, "B", kind="spot"), _offer(2.4, "C", kind="spot")]
    choice = _spot(64, [*listed, *spot])
    assert choice is not None
    assert (choice.rule, choice.providers) == ("discount", ("B", "C"))
    assert _dollars(choice) == pytest.approx(4.0 * (0.5 + 0.8) / 2)
    assert choice.price.kind == "spot"


def test_a_system_that_is_rented_is_discounted_by_its_provider() -> None:
    own = _offer(9.0, "A", offer="big")
    system = H100.model_copy(update={"price": own.id})
    others = [_offer(1.0, "B", kind="spot", network=FAST), _offer(2.0, "B", network=FAST)]
    assert _spot(8, [own, *others], system=system) is None
    mine = _offer(6.0, "A", offer="big", kind="spot")
    small = _offer(5.0, "A", offer="small", kind="spot")
    choice = _spot(8, [own, *others, mine, small], system=system)
    assert choice is not None
    assert (choice.price, choice.rule) == (mine, "own")


def test_nobody_commits_to_three_years_for_a_run() -> None:
    listed = _offer(9.0, "A", network=FAST)
    year, three = (
        _offer(rate, "A", kind="reserved", term=term, network=FAST)
        for rate, term in ((6.0, "1 years"), (3.0, "3 years"))
    )
    choice = _spot(64, [listed, year, three], "reserved")
    assert choice is not None
    assert choice.price is year


def test_days_of_offers() -> None:
    days = {"2026-07-30": date(2026, 7, 30), "2026-07": date(2026, 7, 1), "2026": None, "2026-13-01": None}
    assert {text: _offer(1.0, date=text).day for text in days} == days
    assert _offer(1.0, date="2026-07-30").age(date(2026, 8, 1)).days == 2  # type: ignore[union-attr]
    assert _offer(1.0, date="2026").age(date(2026, 8, 1)) is None
