"""Long runs: limits of the formulas, published figures, and a simulation that knows nothing of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hardware import catalogue
from simulator.formulas import money, reliability

_DAY = 86400.0


def _simulated(
    segments: int, interval: float, *, write: float, rate: float, restart: float, runs: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Runs that draw the time of each interruption, segment by segment and restart by restart."""
    random = np.random.default_rng(seed)
    names = ("elapsed", "interruptions", "restarting", "replayed")
    totals = {name: np.zeros(runs) for name in names}
    done, restarting = np.zeros(runs, dtype=int), np.zeros(runs, dtype=bool)
    while np.any(going := done < segments):
        ahead = np.where(restarting, restart, interval + write)
        quiet = random.exponential(1.0 / rate, runs)
        hit, spent = going & (quiet < ahead), np.where(going, np.minimum(quiet, ahead), 0.0)
        totals["elapsed"] += spent
        totals["interruptions"] += hit
        totals["restarting"] += np.where(restarting, spent, 0.0)
        totals["replayed"] += np.where(hit & ~restarting, spent, 0.0)
        done += going & ~hit & ~restarting
        restarting = hit
    return totals


@pytest.mark.parametrize(
    ("interval", "write", "mean", "restart"),
    [
        (3600.0, 60.0, 36e3, 600.0),
        (3600.0, 300.0, 3600.0, 1200.0),
        (500.0, 20.0, 5000.0, 0.0),
        (900.0, 0.0, 600.0, 60.0),
    ],
)
def test_a_simulation_of_interrupted_runs_agrees(interval: float, write: float, mean: float, restart: float) -> None:
    segments, runs, rate = 50, 4000, 1.0 / mean
    drawn = _simulated(segments, interval, write=write, rate=rate, restart=restart, runs=runs, seed=7)
    work = segments * interval
    elapsed = reliability.expected_time(work, interval, write=write, interruption_rate=rate, restart=restart)
    within = {"interval": interval, "write": write, "interruption_rate": rate, "restart": restart}
    formulas = {
        "elapsed": elapsed,
        "interruptions": reliability.interruptions(elapsed, rate),
        "restarting": reliability.restart_time(elapsed, rate, restart=restart),
        "replayed": reliability.replay_time(elapsed, work, **within),
    }
    for name, expected in formulas.items():
        error = drawn[name].std() / np.sqrt(runs)
        assert abs(drawn[name].mean() - float(expected)) <= 4.0 * error, name


@pytest.mark.parametrize("mean", [15.0, 6 * 60.0, 24 * 60.0])
def test_dalys_interval_is_the_best_one(mean: float) -> None:
    """Of his three examples: checkpoints of 5 minutes, restarts of 10."""
    tried = np.linspace(0.2, 5.0, 4001) * float(reliability.young_interval(5.0, mean))
    times = reliability.expected_time(500.0 * 60, tried, write=5.0, interruption_rate=1.0 / mean, restart=10.0)
    chosen = reliability.expected_time(
        500.0 * 60, reliability.daly_interval(5.0, mean), write=5.0, interruption_rate=1.0 / mean, restart=10.0
    )
    assert float(chosen) <= 1.001 * float(np.min(times))


def test_dalys_interval_becomes_youngs_for_small_checkpoints() -> None:
    write = np.array([1e-3, 1.0, 1e3])
    ratio = np.asarray(reliability.daly_interval(write, _DAY)) / reliability.young_interval(write, _DAY)
    assert abs(ratio[0] - 1.0) < 1e-3
    assert np.all(np.diff(np.abs(ratio - 1.0)) > 0)


def test_a_checkpoint_longer_than_the_time_between_interruptions() -> None:
    assert float(reliability.daly_interval(1000.0, 400.0)) == 400.0


def test_without_interruptions_only_checkpoints_cost() -> None:
    share = reliability.goodput(3600.0, 36.0, interruption_rate=0.0, restart=600.0)
    assert float(share) == pytest.approx(1 / 1.01, rel=1e-15)
    assert float(reliability.mean_time(0.0)) == np.inf
    assert float(reliability.young_interval(10.0, np.inf)) == np.inf
    assert float(reliability.daly_interval(10.0, np.inf)) == np.inf


def test_a_hopeless_run_stays_finite() -> None:
    elapsed = reliability.expected_time(1e9, 1e5, write=1e4, interruption_rate=1.0, restart=1e6)
    assert np.isfinite(elapsed)
    assert elapsed > 1e200


@given(
    interval=st.floats(1.0, 1e5),
    write=st.floats(0.0, 1e3),
    rate=st.floats(0.0, 1e-3),
    restart=st.floats(0.0, 1e4),
)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_the_parts_of_a_run_add_up(interval: float, write: float, rate: float, restart: float) -> None:
    work = 100 * interval
    within = {"interval": interval, "write": write, "interruption_rate": rate, "restart": restart}
    elapsed = float(reliability.expected_time(work, **within))
    parts = work * (1 + write / interval) + float(reliability.restart_time(elapsed, rate, restart=restart))
    parts += float(reliability.replay_time(elapsed, work, **within))
    assert parts == pytest.approx(elapsed, rel=1e-9)
    assert float(reliability.goodput(interval, write, interruption_rate=rate, restart=restart)) == pytest.approx(
        work / elapsed
    )


@pytest.mark.parametrize(("devices", "hours"), [(16384, 1.8), (131072, 0.23)])
def test_metas_projected_times_between_failures(devices: int, hours: float) -> None:
    """Kokolis et al., arXiv 2410.21680: 6.5 failures in 1000 node-days of 8 devices."""
    rate = reliability.total_rate(devices, 6.5e-3 / 8 / _DAY, event_rate=0.0)
    assert float(reliability.mean_time(rate)) / 3600 == pytest.approx(hours, rel=0.03)


def test_llama_3_is_interrupted_every_three_hours() -> None:
    """arXiv 2407.21783, section 3.3.4: 419 unexpected interruptions in 54 days."""
    rate = reliability.total_rate(16384, 419 / (54 * _DAY * 16384), event_rate=0.0)
    assert float(reliability.mean_time(rate)) / 3600 == pytest.approx(3.09, abs=0.005)


@pytest.mark.parametrize(
    ("parameters", "layout", "terabytes", "tolerance"),
    [
        (176.2e9, (2.0, 4.0, 8.0), 2.3, 0.08),  # BLOOM, by its trainer; 14 bytes are 2.47 TB or 2.24 TiB
        (174.6e9, (2.0, 0.0, 8.0), 1.6, 0.10),  # OPT-175B, metaseq chronicles; its master copy is not saved
    ],
)
def test_published_sizes_of_checkpoints(
    parameters: float, layout: tuple[float, float, float], terabytes: float, tolerance: float
) -> None:
    held, master, state = layout
    size = reliability.checkpoint_bytes(parameters, held, master_bytes=master, state_bytes=state)
    assert size / 1e12 == pytest.approx(terabytes, rel=tolerance)


def test_rates_add() -> None:
    both = reliability.total_rate(64, 1e-6, event_rate=3e-6)
    assert float(both) == pytest.approx(64 * 1e-6 + 3e-6)


@pytest.mark.parametrize(("held", "events", "hours"), [(1, 2386, 7734.3), (4, 377, 795.1), (16, 404, 519.0)])
def test_events_of_the_traces(held: int, events: int, hours: float) -> None:
    """skypilot-org/spot-traces: events while 1, 4 and 16 instances of one V100 are held."""
    rate = catalogue.failures()["volta"].preemption_rate
    grouping = catalogue.sites()["default"].preemption_grouping
    expected = float(money.preemption_events(held, rate, grouping=grouping))
    assert expected * 3600 == pytest.approx(events / hours, rel=0.04)


@pytest.mark.parametrize(("held", "share"), [(1, 0.654), (4, 0.633), (16, 0.427)])
def test_capacity_of_the_traces(held: int, share: float) -> None:
    """The share of time in which all 1, 4 and 16 instances were held."""
    rate, site = catalogue.failures()["volta"].preemption_rate, catalogue.sites()["default"]
    events = money.preemption_events(held, rate, grouping=site.preemption_grouping)
    assert float(money.held_share(events, site.capacity_wait)) == pytest.approx(share, abs=0.08)


@given(
    fewer=st.integers(1, 4096),
    more=st.integers(0, 4096),
    rate=st.floats(0.0, 1e-2),
    grouping=st.floats(0.0, 1.0),
)
def test_more_instances_never_have_fewer_events(fewer: int, more: int, rate: float, grouping: float) -> None:
    """Between those of one instance and those of each by itself, and rising."""
    one, few, many = (float(money.preemption_events(n, rate, grouping=grouping)) for n in (1, fewer, fewer + more))
    assert one <= few * (1 + 1e-12) <= many * (1 + 1e-11)
    assert many <= (fewer + more) * rate * (1 + 1e-12)


@given(rate=st.floats(0.0, 1e-2), wait=st.floats(0.0, 1e8), elapsed=st.floats(1.0, 1e9))
def test_the_share_without_capacity_is_one(rate: float, wait: float, elapsed: float) -> None:
    share = float(money.held_share(rate, wait))
    absent = float(money.absent_time(elapsed, rate, wait=wait))
    assert 0.0 < share <= 1.0
    assert elapsed / (elapsed + absent) == pytest.approx(share, rel=1e-9)
