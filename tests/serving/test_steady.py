"""Steady loads in closed form: what follows from passes, Little's law, and what more load does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.serving.memory import serving_memory
from simulator.serving.passes import pass_times
from simulator.serving.scenario import resolve_serving
from simulator.serving.steady import SteadyLoad, at_numbers, steady


def loaded(model: str = "llama-3-8b", system: str = "dgx-h100", **said: Any) -> SteadyLoad:
    names = ("batch", "concurrency", "rate", "cached", "input_tokens", "output_tokens")
    load = {"input_tokens": 1000, "output_tokens": 101, **{name: said.pop(name) for name in names if name in said}}
    served = resolve_serving(model, system, load=load, **{"devices": 1, **said})
    return steady(served, pass_times(served))


def test_a_static_batch_reads_its_prompts_and_then_makes_its_tokens() -> None:
    served = resolve_serving("llama-2-7b", "dgx-h100", devices=1, load={"input_tokens": 512, "output_tokens": 65})
    times, found = pass_times(served), loaded("llama-2-7b", batch=8, input_tokens=512, output_tokens=65)
    assert found.ttft == pytest.approx(float(times.prefill(8, 512)))
    one_by_one = sum(float(times.decode(8, 512 + place)) for place in range(1, 65))
    assert found.latency == pytest.approx(found.ttft + one_by_one, rel=2e-4)
    assert found.requests_per_s == pytest.approx(8 / found.latency)


@pytest.mark.parametrize("stack", ["vllm", "tgi", "sglang"])
@pytest.mark.parametrize("number", [1, 8, 200])
def test_as_many_are_in_work_as_were_said(stack: str, number: int) -> None:
    """Little's law: requests in work are those that are answered in a second times the seconds that each takes."""
    found = loaded(stack=stack, concurrency=number)
    assert found.requests_per_s * found.latency == pytest.approx(number)
    assert found.latency == pytest.approx(found.ttft + 100 * found.tpot)


@pytest.mark.parametrize("stack", ["vllm", "tgi"])
def test_alone_a_request_meets_what_a_batch_of_one_does(stack: str) -> None:
    alone, batch = loaded(stack=stack, concurrency=1), loaded(stack=stack, batch=1)
    assert alone.latency == pytest.approx(batch.latency, rel=0.03)
    assert alone.ttft == pytest.approx(batch.ttft, rel=0.03)


def test_more_in_work_are_answered_faster_together_and_slower_each() -> None:
    served = resolve_serving("llama-3-8b", "dgx-h100", devices=1, load={"input_tokens": 1000, "output_tokens": 101})
    found = at_numbers(served, pass_times(served), np.array([1.0, 4.0, 16.0, 64.0, 256.0]))
    assert np.all(np.diff(np.asarray(found.requests_per_s)) > 0.0)
    assert np.all(np.diff(np.asarray(found.tpot)) > 0.0)


def test_what_finds_no_room_waits() -> None:
    few, many = loaded(concurrency=200), loaded(concurrency=2000)
    assert few.waiting == 0.0
    assert many.waiting + many.sequences == 2000
    assert many.requests_per_s == pytest.approx(loaded().requests_per_s)


def test_a_rate_is_answered_as_it_comes_up_to_what_can_be() -> None:
    slow, full = loaded(rate=2.0), loaded()
    assert slow.requests_per_s == 2.0
    assert not slow.overloaded
    assert slow.latency < full.latency
    assert loaded(rate=10_000.0).overloaded
    assert loaded(rate=1e-6).latency == pytest.approx(loaded(concurrency=1).latency)


def test_replicas_share_requests() -> None:
    one, two = loaded(concurrency=16), loaded(concurrency=32, devices=2, replicas=2, tp=1)
    assert two.tpot == pytest.approx(one.tpot)
    assert two.requests_per_s == pytest.approx(2 * one.requests_per_s)


def test_a_prefix_that_is_cached_is_not_read_again() -> None:
    assert loaded(batch=8, cached=0.9).ttft < 0.3 * loaded(batch=8).ttft
    assert loaded(batch=8, cached=1.0).ttft > 0.0


def test_a_replica_that_is_chosen_holds_the_batch() -> None:
    """Llama 3 70B in 8 bits leaves no room for 64 long sequences on one H200; on two it does."""
    load = {"input_tokens": 8000, "output_tokens": 100}
    few = resolve_serving("llama-3-70b", "dgx-h200", weights="fp8", load={**load, "batch": 1})
    many = resolve_serving("llama-3-70b", "dgx-h200", weights="fp8", load={**load, "batch": 64})
    assert few.tp == 1
    assert many.tp > 1
    assert serving_memory(many, 64, 8100).fits
    shared = resolve_serving("llama-3-70b", "dgx-h200", devices=8, weights="fp8", load={**load, "batch": 64})
    assert serving_memory(shared, 64 / shared.replicas, 8100).fits
