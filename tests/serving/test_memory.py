"""What a device holds that serves: bytes worked out by hand, and the largest of what fits."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.serving.memory import cache_bytes_per_token, largest_batch, largest_context, serving_memory
from simulator.serving.scenario import ServingScenario, resolve_serving


def served(model: str, system: str = "dgx-h200", **changes: Any) -> ServingScenario:
    return resolve_serving(model, system, **{"devices": 1, "tp": 1, **changes})


@pytest.mark.parametrize(
    ("model", "changes", "expected"),
    [
        ("llama-3-70b", {}, 80 * 2 * 8 * 128 * 2),
        ("llama-2-7b", {}, 32 * 2 * 32 * 128 * 2),
        ("llama-3-70b", {"kv_cache": "fp8"}, 80 * 2 * 8 * 128),
        ("llama-3-70b", {"devices": 8, "tp": 8}, 80 * 2 * 1 * 128 * 2),
        ("deepseek-v3", {"stack": "sglang"}, 61 * (512 + 64) * 2),
        ("deepseek-v3", {"stack": "sglang", "devices": 8, "tp": 8}, 61 * (512 + 64) * 2),
        ("falcon-7b", {}, 32 * 2 * 1 * 64 * 2),
        ("palm-62b", {"system": "tpu-v4-pod", "stack": "jetstream", "devices": 16, "tp": 16}, 64 * 2 * 256 * 2),
    ],
)
def test_bytes_of_a_cached_token(model: str, changes: dict[str, Any], expected: float) -> None:
    assert cache_bytes_per_token(served(model, **changes)) == expected


def test_ranks_that_share_sequences_hold_a_part_of_them_each() -> None:
    shared = served("palm-62b", "tpu-v4-pod", stack="pathways", devices=16, tp=16)
    copied = served("palm-62b", "tpu-v4-pod", stack="jetstream", devices=16, tp=16)
    assert serving_memory(shared, 64, 2048).kv_cache * 16 == serving_memory(copied, 64, 2048).kv_cache


def test_blocks_are_held_whole() -> None:
    of = served("llama-3-8b", block_size=64)
    assert serving_memory(of, 1, 65).kv_cache == serving_memory(of, 1, 128).kv_cache == 128 * cache_bytes_per_token(of)


def test_windows_stop_growing_and_other_layers_go_on() -> None:
    """Gemma 2 alternates windows of 4,096 tokens with full attention."""
    of = served("gemma-2-9b")
    half = cache_bytes_per_token(of) / 2
    assert serving_memory(of, 1, 8192).kv_cache == half * (4096 + 8192)


@pytest.mark.parametrize(("weights", "bits"), [("bf16", 16), ("fp8", 8), ("int4", 4.25)])
def test_matrices_are_stored_in_the_format_and_the_rest_in_16_bits(weights: str, bits: float) -> None:
    """Llama 3 8B: 128,256 words of 4,096 twice, norms of 4,096, and 32 layers of 218,103,808 weights."""
    layers, others = 32 * 218_103_808, 2 * 128_256 * 4096 + 65 * 4096
    assert serving_memory(served("llama-3-8b", weights=weights), 1, 1).weights == layers * bits / 8 + others * 2


def test_files_of_llama_cpp_store_all_of_it() -> None:
    """4.85 bits of 8.03 billion weights: 4.87 GB, as the file of Llama 3 8B in Q4_K_M has (4.92 GB)."""
    of = served("llama-3-8b", "rtx-4090", stack="llama-cpp", weights="q4_k_m")
    assert serving_memory(of, 1, 1).weights == pytest.approx(4.92e9, rel=0.02)


@pytest.mark.parametrize("model", ["llama-3-8b", "mistral-7b", "gemma-2-9b"])
def test_the_largest_is_the_last_that_fits(model: str) -> None:
    of = served(model)
    for context in (1000, 8000):
        most = largest_batch(of, context)
        room = serving_memory(of, 0, context).room
        assert serving_memory(of, most, context).kv_cache <= room < serving_memory(of, most + 1, context).kv_cache
    longest = largest_context(of, 200)
    if longest < 2**30:
        room = serving_memory(of, 0, 1).room
        assert serving_memory(of, 200, longest).kv_cache <= room < serving_memory(of, 200, longest + 16).kv_cache


def test_a_context_has_no_more_tokens_than_there_are_positions() -> None:
    assert largest_context(served("gpt2-1.5b"), 1) == 1024
    assert largest_context(served("mistral-7b"), 1) == 2**30


def test_what_is_reserved_is_what_the_engine_leaves_alone() -> None:
    of = served("llama-3-8b", memory_utilisation=0.5)
    memory = serving_memory(of, 1, 1)
    assert memory.reserved == memory.capacity / 2
    assert memory.total == sum((memory.weights, memory.kv_cache, memory.activations, memory.buffers, memory.reserved))


def test_stages_hold_their_layers_and_one_end() -> None:
    whole = serving_memory(served("llama-3-70b", devices=1), 1, 1).weights
    halves = serving_memory(served("llama-3-70b", devices=2, pp=2), 1, 1).weights
    end = 128_256 * 8192 * 2
    assert halves == pytest.approx((whole - 2 * end) / 2 + end, rel=1e-4)
