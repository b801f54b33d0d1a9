"""Seconds of an engine's passes: limits, conservation, arrays as single calls, tables between tabulated iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.pricing.requests import DecodeAttention, MatrixProduct
from simulator.serving.passes import ServingPasses, pass_times
from simulator.serving.scenario import resolve_serving
from simulator.serving.stored import served_program
from simulator.serving.table import PassTable
from simulator.specs.serving.iterations import Iterations
from simulator.specs.serving.stack import load_serving_stack, serving_stacks

CASES: dict[str, dict[str, Any]] = {
    "grouped": {"model": "llama-3-8b", "system": "dgx-h100", "devices": 1},
    "split": {"model": "llama-3-70b", "system": "dgx-a100-640gb", "devices": 8, "tp": 4, "weights": "int4"},
    "pipelined": {"model": "llama-3-70b", "system": "dgx-a100-640gb", "devices": 8, "tp": 2, "pp": 4},
    "experts": {"model": "mixtral-8x7b", "system": "dgx-h100", "devices": 4, "tp": 4, "ep": 4},
    "latent": {
        "model": "deepseek-v3",
        "system": "dgx-h200",
        "devices": 8,
        "tp": 8,
        "weights": "fp8",
        "stack": "sglang",
    },
    "window": {"model": "mistral-7b", "system": "rtx-4090", "devices": 1, "weights": "q4_k_m", "stack": "llama-cpp"},
    "encoder-decoder": {"model": "t5-3b", "system": "dgx-a100-640gb", "devices": 1, "stack": "hf-transformers"},
    "tpu": {"model": "palm-62b", "system": "tpu-v4-pod", "devices": 16, "tp": 16, "stack": "pathways"},
}
EVERY = pytest.mark.parametrize("case", CASES)


def passes(case: str, **changes: Any) -> ServingPasses:
    return pass_times(resolve_serving(**{**CASES[case], **changes}))


@EVERY
def test_parts_add_up_to_the_time(case: str) -> None:
    times = passes(case)
    for cost in (times.prefill_cost(3, 700, 100), times.decode_cost(9, 900), times.mixed_cost(300, 50, 9, 900)):
        assert sum(float(np.asarray(part)) for part in cost.parts.values()) == pytest.approx(float(cost.time))
        assert all(float(np.asarray(part)) >= 0.0 for part in cost.parts.values())


@EVERY
def test_arrays_say_what_single_calls_say(case: str) -> None:
    times = passes(case)
    sequences, context = np.array([1.0, 7.0, 64.0]), np.array([[100.0], [3000.0]])
    together = times.decode(sequences, context)
    assert together.shape == (2, 3)
    assert together.dtype == np.float64
    alone = [[float(times.decode(n, length)) for n in sequences] for length in context[:, 0]]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    mixed = times.mixed(np.array([0.0, 512.0]), 0.0, np.array([16.0, 0.0]), 500.0)
    np.testing.assert_allclose(mixed, [float(times.mixed(0, 0, 16, 500)), float(times.mixed(512, 0, 0, 500))])


@EVERY
def test_an_iteration_without_prompts_decodes(case: str) -> None:
    times = passes(case)
    assert float(times.mixed(0, 0, 16, 500)) == pytest.approx(float(times.decode(16, 500)), rel=1e-12)


@EVERY
def test_more_takes_longer(case: str) -> None:
    times = passes(case)
    assert np.all(np.diff(times.decode(2.0 ** np.arange(9), 1000)) >= 0.0)
    assert np.all(np.diff(times.decode(32, np.linspace(1, 4000, 9))) >= 0.0)
    assert float(times.prefill(4, 2000)) > float(times.prefill(2, 2000)) > float(times.prefill(2, 1000))
    assert float(times.mixed(512, 0, 32, 500)) > float(times.decode(32, 500))


@pytest.mark.parametrize("case", ["grouped", "split", "latent", "window"])
def test_no_token_is_faster_than_memory_brings_weights_and_cache(case: str) -> None:
    times = passes(case)
    served = times.served
    none = dict.fromkeys(("prompts", "cached", "encoded"), 0.0)
    work = Iterations(
        **none, prompt_tokens=1.0, decodes=32.0, context=1000.0, sampled=32.0, cache_bytes=served.kv_cache.bytes
    )
    moved = sum(
        float(np.asarray(block.number * task.count * task.request.moved_bytes))
        for block in served_program(served, served.iteration(work)).blocks
        for task in block.tasks
        if isinstance(task.request, MatrixProduct | DecodeAttention)
    )
    assert float(times.decode(32, 1000)) > moved / float(served.device.memory.bandwidth)


def test_a_window_stops_growing() -> None:
    times = passes("window")
    assert float(times.decode(8, 4096)) == float(times.decode(8, 20_000)) > float(times.decode(8, 1000))


def test_single_tokens_of_a_batch_touch_the_experts_that_they_choose() -> None:
    """Weights of experts that a pass reads: 2 of 8 for one token, nearly all for many."""
    times = passes("experts", tp=1, ep=1, devices=1, weights="int4")
    served = times.served

    def experts(decodes: float) -> float:
        none = dict.fromkeys(("prompts", "cached", "encoded"), 0.0)
        work = Iterations(
            **none, prompt_tokens=1.0, decodes=decodes, context=9.0, sampled=decodes, cache_bytes=served.kv_cache.bytes
        )
        program = served_program(served, served.iteration(work))
        asked = [task.request for task in program.groups[0].tasks if task.name == "feed-forward input"]
        assert isinstance(asked[0], MatrixProduct)
        return float(np.asarray(asked[0].batch))

    assert experts(1.0) == pytest.approx(2.0)
    assert experts(4.0) == pytest.approx(8 * (1 - 0.75**4))
    assert experts(1000.0) == pytest.approx(8.0)


def test_stages_work_on_different_sequences() -> None:
    """Four prompts through four stages: seven quarters of one after the other, and so are tokens of four groups."""
    times = passes("pipelined")
    waits = (times.served.stack.prefill_iteration or 0.0) * np.exp(times.served.factors.prompts)
    one, four = float(times.prefill(1, 1000)) - waits, float(times.prefill(4, 1000)) - waits
    assert four == pytest.approx(one * 7 / 4, rel=1e-9)
    assert float(times.decode(64, 1000)) < 1.5 * float(times.decode(16, 1000))


@pytest.mark.parametrize("case", ["grouped", "split", "experts", "latent"])
def test_a_table_is_near_the_passes(case: str) -> None:
    times = passes(case)
    table = PassTable.of(times, tokens=4096, sequences=128, context=4096)
    draw = np.random.default_rng(1)
    asked = (
        draw.integers(0, 4096, 60) * (draw.random(60) < 0.5),
        draw.integers(0, 4096, 60),
        draw.integers(1, 128, 60),
        draw.integers(1, 4096, 60),
    )
    np.testing.assert_allclose(table.mixed(*asked), times.mixed(*asked), rtol=0.16)
    assert np.median(np.abs(table.mixed(*asked) / times.mixed(*asked) - 1.0)) < 0.02
    plain = table.plain()
    single = [plain.mixed(*(float(value[i]) for value in asked)) for i in range(60)]
    np.testing.assert_allclose(single, table.mixed(*asked), rtol=1e-12)


def test_a_table_holds_what_was_tabulated() -> None:
    times = passes("grouped")
    table = PassTable.of(times, tokens=1024, sequences=64, context=2048)
    assert float(table.mixed(256, 0, 16, 1024)) == pytest.approx(float(times.mixed(256, 0, 16, 1024)), rel=1e-12)


def test_encoding_is_what_its_batch_takes() -> None:
    times = pass_times(resolve_serving("bert-large", "dgx-a100-640gb", devices=1))
    assert float(times.encode(32, 384)) > 3.0 * float(times.encode(32, 128)) > 0.0
    padded = pass_times(resolve_serving("bert-large", "dgx-a100-640gb", devices=1, stack="fastertransformer"))
    assert float(padded.encode(32, 192, 384)) < float(padded.encode(32, 384))


@pytest.mark.parametrize("name", serving_stacks())
def test_every_engine_serves_something(name: str) -> None:
    stack = load_serving_stack(name)
    system = {"gpu": "dgx-a100-640gb", "tpu": "tpu-v5e-pod", "cpu": "xeon"}[stack.platforms[0]]
    model = "llama-3-8b" if "generate" in stack.tasks else "bert-large"
    times = pass_times(resolve_serving(model, system, stack=name))
    assert float(times.decode(2, 100) if "generate" in stack.tasks else times.encode(2, 100)) > 0.0
