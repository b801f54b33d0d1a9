"""Long runs: failures, checkpoints, spot offers and owned hardware, in tables, JSON and many at once."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulator
from hardware import catalogue
from hardware.errors import InputError
from hardware.price import Price
from simulator.answers.estimate import TrainingRun
from simulator.answers.long_run import Circumstances, checkpoint_bytes_of, circumstances_of, expect, matters
from simulator.scenario.prices import find_price
from tests.commands.conftest import Capsim, assert_one_sentence, capsim

__all__ = ["capsim"]

_DAY = 86400.0
_LLAMA = Circumstances(
    failure_rate=419 / (54 * _DAY * 16384),
    preemption_rate=0.0,
    restart=750.0,
    storage_bandwidth_per_device=2e12 / 16384,
    power=1275.0,
    overhead=1.1,
)
BERT = ("estimate", "bert-large", "--system", "dgx-a100-640gb", "--seq-len", "128", "--global-batch", "512")
SPOT = ("estimate", "llama-2-70b", "--system", "gcp-a3-highgpu-8g", "--devices", "512", "--price-kind", "spot")


def _run(*arguments: Any, **options: Any) -> TrainingRun:
    return simulator.estimate(*arguments, **options).run


def test_llama_3_keeps_ninety_percent_of_its_time() -> None:
    """arXiv 2407.21783: 419 interruptions in 54 days, over 90 % effective, 2 TB/s to storage."""
    long_run = expect(
        10.0, 0.91 * 54 * _DAY / 10.0, devices=16384.0, checkpoint_bytes=405e9 * 14.0, circumstances=_LLAMA
    )
    assert 0.90 < long_run.goodput < 0.93
    assert long_run.failures == pytest.approx(419, rel=0.02)
    assert long_run.expected_time_s / _DAY == pytest.approx(54, rel=0.02)
    assert long_run.checkpoint_write_s == pytest.approx(2.8, abs=0.05)


def test_opt_and_megascale_are_interrupted_as_often_as_they_say() -> None:
    """OPT-175B: 35 manual and some 70 automatic restarts in two months of 992 A100; MegaScale: over 100 in weeks."""
    rates = {name: catalogue.failures()[name].failure_rate for name in ("ampere", "hopper")}
    assert 35 <= 992 * rates["ampere"] * 60 * _DAY <= 2 * 105
    assert 100 <= 12288 * rates["ampere"] * 21 * _DAY <= 300
    assert rates["hopper"] == pytest.approx(419 / (54 * _DAY * 16384), rel=1e-3)


def test_many_runs_at_once_are_what_each_is_alone() -> None:
    step, devices = np.array([[1.0], [20.0]]), np.array([8.0, 512.0, 16384.0])
    size = np.array([5e9, 1e12, 6e12])
    spot = Circumstances(**{**vars(_LLAMA), "preemption_rate": 1e-8, "price": 2 / 3600, "price_kind": "spot"})
    together = expect(step, 1e5, devices=devices, checkpoint_bytes=size, circumstances=spot)
    for i, j in np.ndindex(2, 3):
        alone = expect(step[i, 0], 1e5, devices=devices[j], checkpoint_bytes=size[j], circumstances=spot)
        for name, value in vars(alone).items():
            if name != "price_kind":
                many = np.broadcast_to(getattr(together, name), (2, 3))
                assert many[i, j] == pytest.approx(value, rel=1e-12), name


def test_sizes_of_the_checkpoints_of_many_plans() -> None:
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb")
    columns = scenario.plan.columns(scenario.workload)
    one = checkpoint_bytes_of(columns, 336e6)
    assert float(one) == 336e6 * (columns.parameter_bytes + columns.master_bytes + columns.state_bytes)
    assert np.shape(checkpoint_bytes_of(columns, np.array([1e9, 2e9]))) == (2,)


def test_a_run_without_failures_pays_for_its_checkpoints_only() -> None:
    run = _run("bert-large", "dgx-a100-640gb", reliability={"failure_rate": "0 /d", "checkpoint_every": "1 h"})
    assert (run.failures, run.restart_time_s) == (0.0, 0.0)
    assert run.replay_time_s == pytest.approx(0.0, abs=1e-6)
    assert run.goodput == pytest.approx(1 / (1 + run.checkpoint_write_s / 3600), rel=1e-12)
    unbroken = _run("bert-large", "dgx-a100-640gb", reliability={"failure_rate": "0 /d"})
    assert unbroken.checkpoint_interval_s == pytest.approx(unbroken.time_s)
    assert unbroken.expected_time_s == pytest.approx(unbroken.time_s + unbroken.checkpoint_write_s)


def test_parts_of_a_run_add_up() -> None:
    run = _run("llama-2-70b", "gcp-a3-highgpu-8g", devices=512, price_kind="spot")
    lost = (run.checkpoint_time_s or 0) + (run.restart_time_s or 0) + (run.replay_time_s or 0)
    held = (run.expected_time_s or 0) - (run.absent_time_s or 0)
    assert run.time_s + lost == pytest.approx(held)
    assert run.goodput == pytest.approx(run.time_s / held)
    assert run.capacity_share == pytest.approx(held / (run.expected_time_s or 0))
    assert run.cost_usd is not None
    assert run.expected_cost_usd == pytest.approx(run.cost_usd / run.goodput)
    assert run.expected_energy_kwh == pytest.approx(run.energy_kwh / run.goodput)
    per_interruption = (run.replay_time_s or 0) / ((run.failures or 0) + (run.preemptions or 0))
    assert per_interruption == pytest.approx(run.checkpoint_interval_s / 2, rel=0.03)


def test_bloom_saves_as_much_as_it_says() -> None:
    """2.3 TB, by its trainer."""
    run = _run("bloom-176b", "superpod-a100", devices=384, workload={"global_batch": 2048}, plan={"tp": 4, "pp": 12})
    assert run.checkpoint_bytes / 1e12 == pytest.approx(2.3, rel=0.08)


def test_what_is_said_replaces_the_catalogue() -> None:
    said = {"failure_rate": "1 /year", "restart": "1 h", "checkpoint_every": "2 h", "storage_bandwidth": "1 GB/s"}
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb", reliability=said)
    circumstances = circumstances_of(scenario)
    assert circumstances.failure_rate == pytest.approx(1 / (365.25 * _DAY))
    assert (circumstances.restart, circumstances.checkpoint_every, circumstances.storage_bandwidth) == (
        3600.0,
        7200.0,
        1e9,
    )
    run = simulator.answer(scenario).run
    assert run.checkpoint_interval_s == 7200.0
    assert run.checkpoint_write_s == pytest.approx(run.checkpoint_bytes / 1e9)


def test_a_checkpoint_comes_after_a_whole_step() -> None:
    answer = simulator.estimate("bert-large", "rtx-3090", reliability={"checkpoint_every": "1 ms"})
    assert answer.run.checkpoint_interval_s == answer.step_time_s


def test_only_spot_offers_are_taken_back() -> None:
    kinds = {kind: _run("llama-2-7b", "gcp-a3-highgpu-8g", price_kind=kind) for kind in ("on-demand", "spot")}
    assert kinds["on-demand"].preemptions == 0.0
    assert (kinds["spot"].preemptions or 0) > 0
    assert kinds["spot"].goodput < kinds["on-demand"].goodput
    assert kinds["spot"].price_kind == "spot"
    spot_run = _run("llama-2-7b", "dgx-h100", price=1.5, price_kind="spot")
    assert (spot_run.preemptions or 0) > 0
    assert spot_run.cost_usd == pytest.approx(1.5 * spot_run.device_hours)
    offer = _run("llama-2-7b", "gcp-a3-highgpu-8g", price="gcp-a3-highgpu-8g-spot")
    assert offer.preemptions == kinds["spot"].preemptions


@pytest.mark.parametrize(
    ("system", "price", "kind", "offer"),
    [
        ("gcp-a3-highgpu-8g", None, "spot", "gcp-a3-highgpu-8g-spot"),
        ("gcp-a3-highgpu-8g", None, "on-demand", "gcp-a3-highgpu-8g"),
        ("gcp-a3-highgpu-8g", None, "reserved", "gcp-a3-highgpu-8g-reserved-1y"),
        ("dgx-h100", None, "on-demand", "hyperstack-h100-sxm5-80gb"),
        ("dgx-h100", None, "reserved", "hyperstack-h100-sxm5-80gb-reserved"),
        ("dgx-h100", None, "marketplace", "sf-compute-h100-sxm5-80gb"),
        ("dgx-a100-640gb", "gcp", "spot", "gcp-a2-ultragpu-8g-spot"),
        ("dgx-a100-640gb", "gcp", "on-demand", "gcp-a2-ultragpu-8g"),
        ("dgx-a100-640gb", "runpod", None, "runpod-a100-sxm4-80gb-secure"),
        ("dgx-a100-640gb", "runpod", "marketplace", "runpod-a100-sxm4-80gb"),
        ("dgx-a100-640gb", "2.5", "spot", "given"),
        ("dgx-a100-640gb", None, None, "hyperstack-a100-sxm4-80gb"),
    ],
)
def test_a_kind_of_price_picks_the_offer(system: str, price: str | None, kind: str | None, offer: str) -> None:
    choice = find_price(price, catalogue.load_system(system), kind=kind)
    assert choice is not None
    assert choice.price.id == offer


def test_owned_hardware_costs_its_price_over_its_life_and_electricity() -> None:
    own = {"purchase_price": 30000, "lifetime": "5 years", "electricity": "0.1 USD/kWh"}
    run = _run("llama-2-7b", "dgx-h100", devices=64, price_kind="owned", ownership=own, overhead="uptime-2024")
    machines = run.device_hours * 30000 / (5 * 365.25 * 24)
    assert run.cost_usd == pytest.approx(machines + 0.1 * run.energy_kwh, rel=1e-9)
    assert run.price_kind == "owned"
    implied = _run("llama-2-7b", "dgx-h100", devices=64, ownership=own, overhead="uptime-2024")
    assert implied == run
    answer = simulator.estimate("llama-2-7b", "dgx-h100", ownership={"purchase_price": "30 kUSD"})
    assert any(line.startswith("lifetime=5.5 years, electricity=0.0806 USD/kWh") for line in answer.assumed)
    assert any("owned hardware" in line and "30000 USD over 5.5 years" in line for line in answer.sources)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("reserved", "price_kind=reserved: the catalogue has no such offer of rtx-3090; give its USD an hour as price"),
        (
            "spot",
            "price_kind=spot: no such offer of rtx-3090 that can run it is cheaper than on demand; give",
        ),
    ],
)
def test_a_kind_that_is_not_offered(kind: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_price(None, catalogue.load_system("rtx-3090"), kind=kind)


def test_what_each_kind_costs_for_one_run() -> None:
    """Spot 16.4k, reserved 12.2k and the default 9.9k USD for one run, of three providers: never again."""
    for system, devices in (("dgx-h100", 64), ("dgx-h100", 8), ("dgx-a100-640gb", 64), ("gcp-a3-highgpu-8g", 64)):
        costs = [
            _run("llama-2-7b", system, devices=devices, workload={"tokens": 1e11}, price_kind=kind).cost_usd or 0.0
            for kind in ("spot", "reserved", None)
        ]
        assert 0.0 < costs[0] < costs[1] < costs[2]


def test_the_more_spot_instances_the_more_events_but_not_each_by_itself() -> None:
    rates = [
        circumstances_of(simulator.resolve("llama-2-7b", "dgx-h100", devices=devices, price_kind="spot")).events(
            devices
        )
        for devices in (8, 64, 512, 4096)
    ]
    ratios = np.asarray(rates) / rates[0]
    assert np.all(np.diff(ratios) > 0)
    assert np.all(ratios[1:] < np.array([8, 64, 512]) / 2)
    assert ratios[1] == pytest.approx(8**0.333)


def test_time_without_capacity_is_waited_and_not_paid() -> None:
    said = {"preemption_rate": "12 /d", "restart": "0 s", "failure_rate": "0 /d"}
    short, long = (
        _run("llama-2-7b", "dgx-h100", price_kind="spot", reliability={**said, "capacity_wait": wait})
        for wait in ("0 s", "3 h")
    )
    assert (short.absent_time_s, short.capacity_share) == (0.0, 1.0)
    assert long.expected_cost_usd == short.expected_cost_usd
    assert long.expected_energy_kwh == short.expected_energy_kwh
    assert long.goodput == short.goodput
    assert long.expected_time_s == pytest.approx((short.expected_time_s or 0) * (1 + 12 * 3 / 24))
    assert long.capacity_share == pytest.approx(1 / 2.5)
    assert _run("llama-2-7b", "dgx-h100").capacity_share == 1.0


def test_an_instance_is_what_the_offer_says(capsim: Capsim) -> None:
    own = circumstances_of(simulator.resolve("bert-large", "dgx-h100", devices=4, price_kind="spot"))
    assert own.devices_per_instance == 8.0
    cut = circumstances_of(simulator.resolve("bert-large", "tpu-v6e-pod", devices=64, price_kind="spot"))
    assert cut.devices_per_instance == 8.0
    single = circumstances_of(simulator.resolve("bert-large", "rtx-4090", price="vast-rtx-4090-spot"))
    assert (single.devices_per_instance, single.events(1) > 0) == (8.0, True)


def test_a_price_of_ones_own_keeps_its_kind() -> None:
    price = Price.model_validate(
        {
            "id": "x",
            "provider": "x",
            "offer": "x",
            "device": "h100-sxm5-80gb",
            "kind": "spot",
            "rate": "1 USD/h",
            "date": "x",
        }
    )
    system = catalogue.load_system("dgx-h100")
    for kind in (None, "spot"):
        choice = find_price(price, system, kind=kind)
        assert choice is not None
        assert choice.price is price
    with pytest.raises(InputError, match="price_kind=on-demand: the given price is spot"):
        find_price(price, system, kind="on-demand")


def test_a_short_run_is_told_as_its_ideal(capsim: Capsim) -> None:
    outcome = capsim(*BERT, "--steps", "5000")
    assert outcome.status == 0
    assert "expected" not in outcome.out
    assert "failure_rate" not in outcome.out
    assert not matters(1200.0, 1220.0)
    assert not matters(1e6, 1e6 + 900.0)
    assert matters(1e6, 1.01e6)
    assert matters(1.0, None)


def test_a_long_run_tells_what_to_expect(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = capsim(*SPOT).out.splitlines()
    run = next(i for i, line in enumerate(lines) if line.startswith("Run "))
    assert lines[run + 1].startswith("  expected")
    for words in ("% goodput", "failures", "preemptions", "h without capacity", "saved every", "GiB"):
        assert words in lines[run + 1]
    assert ", spot" in lines[run + 2]
    assert lines[run + 3].startswith("  expected")
    assert any("failure_rate=0.0004736 /d of one device" in line for line in lines)
    assert any("preemption_rate=0.00641 /d of one instance of 8" in line for line in lines)
    assert any("capacity_wait=1.62 h after each" in line for line in lines)
    assert any("restart=12.5 min, storage_bandwidth=62.5 GB/s" in line for line in lines)


def test_the_same_as_json(capsim: Capsim) -> None:
    answer = capsim(*SPOT, "--json").json
    run = answer["run"]
    assert run["price_kind"] == "spot"
    assert run["expected_time_s"] > run["time_s"]
    assert run["expected_cost_usd"] > run["cost_usd"]
    assert 0.9 < run["goodput"] < 1
    assert run["failures"] > 1 < run["preemptions"]
    assert 0 < run["absent_time_s"] == pytest.approx(1.62 * 3600 * run["preemptions"])
    sources = " ".join(answer["sources"])
    for words in (
        "419 unexpected interruptions",
        "AWS Spot Instance Advisor",
        "middle of 5-20 min",
        "2 TB/s sustained",
    ):
        assert words in sources


def test_a_run_that_loses_most_of_its_time_warns(capsim: Capsim) -> None:
    answer = capsim(*BERT, "--failure-rate", "20 /d", "--json").json
    assert 0 < answer["run"]["goodput"] < 0.5
    assert any("% of the time is useful work: 160 interruptions" in line for line in answer["warnings"])


def test_a_run_that_never_ends_is_an_answer(capsim: Capsim) -> None:
    outcome = capsim(*BERT, "--failure-rate", "1000 /d", "--json")
    assert outcome.status == 0
    run = outcome.json["run"]
    assert (run["goodput"], run["expected_time_s"], run["expected_cost_usd"], run["failures"]) == (
        0.0,
        None,
        None,
        None,
    )
    assert run["time_s"] > 0
    assert any(line.startswith("the run would never end: ") for line in outcome.json["warnings"])
    assert "never ends" in capsim(*BERT, "--failure-rate", "1000 /d").out


@pytest.mark.parametrize("rate", ["0 /d", "1e-320 /d", "1e-300 /d", "1 /d", "1000 /d"])
@pytest.mark.parametrize("restart", ["0 s", "52 weeks"])
@pytest.mark.parametrize("storage", ["1 B/s", "1 EB/s"])
def test_the_ends_of_every_range_are_answered(rate: str, restart: str, storage: str) -> None:
    said = {"failure_rate": rate, "restart": restart, "storage_bandwidth": storage}
    run = _run("bert-large", "dgx-a100-640gb", reliability=said)
    numbers = [value for value in vars(run).values() if isinstance(value, float)]
    assert np.all(np.isfinite(numbers))
    assert 0 <= run.goodput <= 1
    assert run.expected_time_s is None or run.expected_time_s >= run.time_s


SCENARIO = """\
model: llama-2-7b
system: dgx-h100
devices: 64
price_kind: owned
ownership: {purchase_price: 30000, lifetime: 4 years}
reliability:
  failure_rate: {value: 1e-3 /d, source: [our own records]}
  checkpoint_every: 30 min
"""


def test_a_scenario_file_says_all_of_it(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    run = capsim("estimate", path, "--json").json["run"]
    assert (run["price_kind"], run["checkpoint_interval_s"]) == ("owned", 1800.0)
    assert run["failures"] == pytest.approx(64e-3 * run["expected_time_s"] / _DAY)
    other = capsim("estimate", path, "--failure-rate", "2e-3 /d", "--json").json["run"]
    assert other["failures"] == pytest.approx(128e-3 * other["expected_time_s"] / _DAY)
    assert other["checkpoint_interval_s"] == 1800.0
    assert other["cost_usd"] == run["cost_usd"]
    assert simulator.answer(simulator.from_file(path)).run.failures == run["failures"]


def test_rates_of_ones_own_are_not_called_assumed(capsim: Capsim) -> None:
    said = ("--failure-rate", "0.01 /d", "--restart", "1 h", "--storage-bandwidth", "1 GB/s")
    answer = capsim(*BERT, *said, "--json").json
    assert not any("failure_rate" in line or "restart" in line for line in answer["assumed"])
    assert not any("failures of one device" in line or "restart," in line for line in answer["sources"])


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (
            "--price-kind leased",
            ["price_kind='leased': valid: 'on-demand', 'spot', 'reserved', 'marketplace' or 'owned'"],
        ),
        ("--price-kind owned", ["price_kind=owned needs purchase_price", "--purchase-price 30000"]),
        ("--price-kind owned --price 2", ["price='2' is rent", "give purchase_price"]),
        ("--price-kind spot --price lambda", ["no such spot offer of a100-sxm4-80gb", "capsim catalogue prices"]),
        ("--price 2 --purchase-price 3", ["purchase_price='3 USD' belongs to price_kind=owned"]),
        ("--lifetime '3 years'", ["lifetime='3 years' belongs to price_kind=owned"]),
        ("--purchase-price cheap", ["ownership.purchase_price: 'cheap' is not a sum of money"]),
        ("--purchase-price -5", ["'-5' is out of range; valid: 0.01 USD"]),
        (
            "--purchase-price 3 --lifetime 5",
            ["ownership.lifetime: '5' has no unit; a lifetime is written like '5 years'"],
        ),
        ("--purchase-price 3 --electricity 0.1", ["ownership.electricity: '0.1' has no unit", "USD/kWh"]),
        ("--failure-rate 0.1", ["reliability.failure_rate: '0.1' has no unit; an event rate is written like '0.1 /d'"]),
        ("--failure-rate '-1 /d'", ["'-1 /d' is out of range; valid: 0 /d to 1000 /d"]),
        ("--preemption-rate '5 d'", ["reliability.preemption_rate: '5 d': 'd' is not a unit of event rate"]),
        ("--restart soon", ["reliability.restart: 'soon' is not a time"]),
        ("--checkpoint-every '10 steps'", ["reliability.checkpoint_every: '10 steps': 'steps' is not a unit of time"]),
        ("--storage-bandwidth '2 TB'", ["reliability.storage_bandwidth: '2 TB': 'TB' is not a unit of bandwidth"]),
        ("--storage-bandwidth '0 GB/s'", ["'0 GB/s' is out of range"]),
    ],
)
def test_bad_input_gets_one_sentence(capsim: Capsim, options: str, fragments: list[str]) -> None:
    assert_one_sentence(capsim(*BERT, *shlex.split(options)), *fragments)


@pytest.mark.parametrize(
    ("old", "new", "place", "fragment"),
    [
        ("price_kind: owned", "price_kind: rented", 4, "price_kind='rented': valid: "),
        ("price_kind: owned", "price_kind: spot", 5, "purchase_price='30000 USD' belongs to price_kind=owned"),
        ("{purchase_price: 30000, lifetime: 4 years}", "{}", 4, "price_kind=owned needs purchase_price"),
        ("purchase_price: 30000", "purchase_price: true", 5, "ownership.purchase_price: true is not a sum of money"),
        ("checkpoint_every: 30 min", "checkpoint_every: 30", 8, "'30' has no unit; a time is written like '30 s'"),
        ("checkpoint_every: 30 min", "checkpoint: 30 min", 8, "unknown key 'reliability.checkpoint'"),
    ],
)
def test_a_wrong_scenario_file(tmp_path: Path, capsim: Capsim, old: str, new: str, place: int, fragment: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.replace(old, new))
    assert_one_sentence(capsim("estimate", path), f"{path}:{place}: ", fragment)


@pytest.mark.parametrize(
    "options",
    [
        {"price_kind": 5},
        {"price_kind": ["spot"]},
        {"price_kind": "spot", "price": float("nan")},
        {"ownership": {"purchase_price": float("nan")}},
        {"ownership": {"purchase_price": 10**400}},
        {"ownership": {"purchase_price": [1]}},
        {"ownership": {"electricity": "1 USD/kWh"}},
        {"reliability": {"failure_rate": True}},
        {"reliability": {"restart": -1}},
        {"reliability": {"mtbf": "1 h"}},
        {"reliability": "nowhere.yaml"},
    ],
)
def test_the_python_interface_raises_the_one_exception(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        simulator.resolve("bert-large", "dgx-a100-640gb", **options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
