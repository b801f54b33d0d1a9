"""Simulated schedulers: what is kept whatever the load, and agreement with what can be said in closed form."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import InputError
from simulator.serving.scheduling.closed_forms import at_concurrency, largest_batch, saturated, static_latency
from simulator.serving.scheduling.lengths import Lengths, Trace
from simulator.serving.scheduling.outcome import Served
from simulator.serving.scheduling.policy import Policy, Speculation
from simulator.serving.scheduling.simulation import Demand, Pools, simulate
from tests.serving.scheduling.engines import BY_CONTEXT, ROOMY, clients, mixed, table

TABLE = table()


def steady_requests_per_s(served: Served) -> float:
    """Requests a second between the first and the last fifth of those that were answered."""
    times = np.sort(served.finishes)
    low, high = len(times) // 5, len(times) - len(times) // 5 - 1
    return float((high - low) / (times[high] - times[low]))


def test_one_request_takes_its_prefill_and_its_iterations() -> None:
    served = simulate(clients(1, "1000", "101", 1), TABLE, ROOMY)
    first = float(TABLE.time(1000.0, 0.0, 0.0, 0.0))
    last = sum(float(mixed(0, 0, 1, 1001 + step)) for step in range(100))
    assert served.ttft[0] == pytest.approx(first)
    assert served.latency[0] == pytest.approx(first + last, rel=1e-9)


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_a_static_batch_is_as_in_closed_form(batch: int) -> None:
    policy = replace(ROOMY, token_budget=batch * 512, chunked=False)
    lone = table(most_prompt_tokens=batch * 512)
    served = simulate(clients(batch, "512", "128", batch), lone, policy)
    prefill = float(mixed(batch * 512, 0, 0, 0))
    wanted = static_latency(prefill, mixed(0, 0, batch, 513), mixed(0, 0, batch, 513 + 126), 128)
    assert served.span == pytest.approx(float(wanted), rel=1e-6)
    assert np.allclose(served.ttft, prefill, rtol=1e-6)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs", "concurrency"), [(1024, 256, 32), (512, 512, 128), (128, 1024, 64), (2000, 200, 1)]
)
def test_fixed_concurrency_is_as_in_closed_form(inputs: int, outputs: int, concurrency: int, chunked: bool) -> None:
    policy = replace(ROOMY, chunked=chunked)
    demand = clients(
        concurrency, f"uniform:{inputs // 2}-{3 * inputs // 2}", f"uniform:{outputs // 2}-{3 * outputs // 2}",
        max(40 * concurrency, 1000),
    )  # fmt: skip
    served = simulate(demand, TABLE, policy)
    steady = at_concurrency(
        TABLE, policy, concurrency=concurrency, input_tokens=demand.inputs.mean(), output_tokens=demand.outputs.mean()
    )
    assert steady_requests_per_s(served) == pytest.approx(steady.requests_per_s, rel=0.03)
    assert served.tpot.mean() == pytest.approx(steady.tpot, rel=0.03)
    if concurrency > 1:
        assert served.mean_batch == pytest.approx(steady.decoding, rel=0.03)


@pytest.mark.parametrize("reserves_all", [True, False])
def test_saturated_throughput_is_as_in_closed_form(reserves_all: bool) -> None:
    policy = replace(ROOMY, kv_tokens=60_000, reserves_all=reserves_all, block=1)
    served = simulate(clients(2000, "uniform:500-700", "uniform:200-400", 6000), TABLE, policy)
    steady = saturated(TABLE, policy, input_tokens=600.0, output_tokens=300.0)
    # Whoever is put out is computed again, which is not in the closed form.
    assert (served.preemptions == 0) == reserves_all
    assert steady_requests_per_s(served) == pytest.approx(steady.requests_per_s, rel=0.03 if reserves_all else 0.12)
    assert largest_batch(policy, 600.0, 300.0) == (66.0 if reserves_all else 80.0)


loads = st.builds(
    lambda seed, size, concurrency, rate, long: (
        Demand.at_rate(rate, Lengths(300.0, 200.0), Lengths(long, long / 2.0), requests=size, seed=seed)
        if rate < 60.0
        else Demand.at_concurrency(concurrency, Lengths(300.0, 200.0), Lengths(long), requests=size, seed=seed)
    ),
    st.integers(0, 100),
    st.integers(1, 120),
    st.integers(1, 60),
    st.floats(0.5, 120.0),
    st.integers(1, 300),
)
policies = st.builds(
    Policy,
    kv_tokens=st.integers(9000, 60_000),
    most_sequences=st.integers(1, 64),
    token_budget=st.integers(64, 4096),
    chunked=st.booleans(),
    block=st.sampled_from([1, 16, 64]),
    reserves_all=st.booleans(),
    prefix_hits=st.sampled_from([0.0, 0.6]),
    speculation=st.sampled_from([None, Speculation(3, 0.7, 1e-4)]),
)


@settings(max_examples=80, deadline=None)
@given(loads, policies, st.sampled_from([None, Pools(1, 1), Pools(2, 3, 1e-6, 1e-3)]), st.integers(1, 3))
def test_no_request_is_lost_and_no_cache_overflows(
    demand: Demand, policy: Policy, pools: Pools | None, replicas: int
) -> None:
    demand = replace(demand, inputs=np.minimum(demand.inputs, 4000), outputs=np.minimum(demand.outputs, 4000))
    served = simulate(demand, TABLE, policy, replicas=replicas, pools=pools)
    assert np.isfinite(served.finishes).all()
    assert np.isfinite(served.firsts).all()
    assert (served.firsts > served.arrivals).all()
    assert (served.finishes >= served.firsts).all()
    more = served.outputs > 1
    assert (served.finishes > served.firsts)[more].all()
    assert served.most_held <= policy.kv_tokens + 1e-6
    assert served.mean_batch <= policy.most_sequences + 1e-9
    assert served.gap_tokens.sum() >= (served.outputs - 1).sum() - served.preemptions - 1e-6  # computed again
    if policy.speculation is None and not served.preemptions:
        assert served.gap_tokens.sum() == (served.outputs - 1).sum()
    if not served.preemptions and pools is None:
        for engine in served.admitted:  # whoever comes first is let in first
            assert list(engine) == sorted(engine, key=lambda request: (served.arrivals[request], request))
    if policy.reserves_all:
        assert served.preemptions == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(10, 2000), st.integers(1, 300), st.booleans(), st.floats(0.3, 0.99))
def test_faster_iterations_never_lengthen_latencies(
    concurrency: int, inputs: int, outputs: int, chunked: bool, scale: float
) -> None:
    policy = replace(ROOMY, chunked=chunked)
    demand = clients(concurrency, f"uniform:{inputs}-{2 * inputs}", f"uniform:{outputs}-{2 * outputs}", 200)
    slow, fast = (simulate(demand, table(each), policy) for each in (1.0, scale))
    assert (fast.latency <= slow.latency * (1.0 + 1e-9)).all()
    assert (fast.ttft <= slow.ttft * (1.0 + 1e-9)).all()


def test_a_rate_beyond_what_an_engine_can_do_makes_requests_wait() -> None:
    def at(rate: float) -> Served:
        return simulate(Demand.at_rate(rate, Lengths(800.0, 300.0), Lengths(200.0, 80.0), requests=1500), TABLE, ROOMY)

    rare, often, too_often = at(1.0), at(8.0), at(60.0)
    assert rare.percentiles()["ttft_s"]["p90"] < often.percentiles()["ttft_s"]["p90"]
    assert too_often.requests_per_s < 30.0
    assert too_often.ttft[-1] > 10.0 * often.ttft.max()
    level = float(np.quantile(often.ttft, 0.5))
    assert often.goodput(ttft=level) == pytest.approx(0.5 * often.requests_per_s, rel=0.01)
    assert often.goodput() == pytest.approx(often.requests_per_s)


def test_prefix_hits_and_accepted_drafts_make_answers_sooner() -> None:
    demand = clients(16, "2000", "200", 200)
    plain = simulate(demand, TABLE, ROOMY)
    hit = simulate(demand, TABLE, replace(ROOMY, prefix_hits=0.9))
    drafted = simulate(demand, TABLE, replace(ROOMY, speculation=Speculation(3, 0.8)))
    assert hit.ttft.mean() < 0.6 * plain.ttft.mean()
    assert drafted.tpot.mean() < 0.6 * plain.tpot.mean()


def test_pools_keep_prompts_from_those_who_decode() -> None:
    demand = Demand.at_rate(6.0, Lengths(2000.0), Lengths(200.0), requests=400)
    together = simulate(demand, TABLE, ROOMY, replicas=2)
    apart = simulate(demand, TABLE, ROOMY, pools=Pools(1, 1, transfer_time=1e-6))
    assert apart.percentiles()["itl_s"]["p99"] < 0.5 * together.percentiles()["itl_s"]["p99"]


def test_replicas_share_the_work() -> None:
    one = simulate(clients(16, "500", "200", 320), TABLE, ROOMY)
    four = simulate(clients(64, "500", "200", 1280), TABLE, ROOMY, replicas=4)
    assert four.requests_per_s == pytest.approx(4.0 * one.requests_per_s, rel=0.02)


def test_a_full_cache_puts_out_the_last_and_loses_nothing() -> None:
    policy = Policy(kv_tokens=6000, most_sequences=64, token_budget=2048, block=16)
    served = simulate(clients(40, "200", "400", 120), TABLE, policy)
    assert served.preemptions > 0
    assert served.most_held <= 6000
    assert np.isfinite(served.finishes).all()


def test_context_makes_tokens_dearer_by_what_the_cache_says() -> None:
    served = simulate(clients(1, "3000", "1001", 1), TABLE, ROOMY)
    assert served.tpot[0] == pytest.approx(float(mixed(0, 0, 1, 3500.5)), rel=1e-9)
    assert served.gap_tokens.sum() == 1000
    assert BY_CONTEXT > 0


def test_ten_thousand_requests_within_a_second() -> None:
    demand = Demand.at_rate(5.0, Lengths(1000.0, 700.0), Lengths(300.0, 200.0), requests=10_000)
    started = time.process_time()
    simulate(demand, TABLE, replace(ROOMY, token_budget=8192))
    assert time.process_time() - started < 1.0


def test_the_same_seed_gives_the_same_answer() -> None:
    first, second = (simulate(clients(8, "uniform:10-500", "uniform:10-90", 80), TABLE, ROOMY) for _ in range(2))
    assert np.array_equal(first.finishes, second.finishes)
    assert first.to_dict() == second.to_dict()


def test_a_trace_comes_at_its_own_times_or_at_a_rate() -> None:
    trace = Trace(np.array([100, 200, 300]), np.array([5, 6, 7]), np.array([0.0, 1.0, 4.0]))
    assert Demand.of_trace(trace).arrivals.tolist() == [0.0, 1.0, 4.0]  # type: ignore[union-attr]
    assert Demand.of_trace(trace, rate=1.0).arrivals.tolist() == [0.0, 0.5, 2.0]  # type: ignore[union-attr]
    assert Demand.of_trace(trace, concurrency=2).arrivals is None
    with pytest.raises(InputError, match="no arrival_s"):
        Demand.of_trace(replace(trace, arrivals=None))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Policy(kv_tokens=0), "kv_tokens 0"),
        (lambda: Policy(kv_tokens=100, most_sequences=0), "most_sequences 0"),
        (lambda: Policy(kv_tokens=100, prefix_hits=1.0), "hit rate 1"),
        (lambda: Speculation(0, 0.5), "draft length 0"),
        (lambda: Speculation(3, 1.5), "acceptance rate 1.5"),
        (lambda: Speculation(3, 0.5, -1.0), "time of the draft"),
        (lambda: Pools(0, 1), "prefill engines 0"),
        (lambda: clients(0, "10", "10"), "concurrency 0"),
        (lambda: clients(1, "10", "10", 0), "number of requests 0"),
        (lambda: Demand.at_rate(0.0, Lengths(1.0), Lengths(1.0), requests=1), "request rate 0"),
        (lambda: simulate(clients(1, "10", "10", 1), TABLE, ROOMY, replicas=0), "replicas 0"),
        (lambda: simulate(clients(1, "500", "500", 1), TABLE, Policy(600)), "500 . 500 tokens does not fit"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_a_sentence(make, what: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=what):
        make()
