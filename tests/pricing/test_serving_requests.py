"""What serving asks of backends: attention over a cache, stored weights, all-reduces of one kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hardware.catalogue import load_profile, load_system
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.measured import MeasuredBackend
from simulator.pricing.requests import Collective, DecodeAttention, MatrixProduct
from tests.work.asking import plain

H100 = AnalyticBackend.of(load_system("dgx-h100"), 8, "bf16")
L40S = AnalyticBackend.of(load_system("server-l40s"), 8, "bf16")
A100 = MeasuredBackend.of(load_system("dgx-a100-640gb"), 8, "bf16", load_profile("a100-sxm"))
CACHE = DecodeAttention(
    context=4096.0, batch=32.0, heads=32.0, key_value_heads=8.0, head_size=128.0, value_head_size=128.0, cache_bytes=2.0
)
PRODUCT = MatrixProduct(m=1.0, n=8192.0, k=8192.0, element_bytes=2.0)


def test_attention_over_a_cache_counts_both_products_and_reads_both_tensors() -> None:
    assert plain(CACHE.flops) == 4 * 32 * 32 * 128 * 4096
    assert plain(CACHE.moved_bytes) == 32 * 4096 * 8 * 256 * 2
    latent = replace(CACHE, key_value_heads=1.0, head_size=576.0, value_head_size=512.0, is_shared=True)
    assert plain(latent.moved_bytes) == 32 * 4096 * 576 * 2
    assert plain(latent.flops) == 2 * 32 * 32 * 4096 * (576 + 512)


@pytest.mark.parametrize("backend", [H100, L40S, A100], ids=["analytic", "without constants of its own", "measured"])
@pytest.mark.parametrize(
    "asked", [CACHE, replace(PRODUCT, packed_bytes=0.53, unpacking=32.0)], ids=["cache", "product"]
)
def test_every_backend_answers_above_what_memory_allows(backend: Any, asked: Any) -> None:
    device = backend.device if isinstance(backend, AnalyticBackend) else backend.analytic.device
    assert plain(backend.time(asked)) > plain(asked.moved_bytes) / plain(device.bandwidth)


def test_narrower_weights_are_read_faster_and_large_products_are_not() -> None:
    stored, packed = replace(PRODUCT, packed_bytes=2.0), replace(PRODUCT, packed_bytes=0.53, unpacking=32.0)
    assert plain(H100.time(packed)) < 0.5 * plain(H100.time(stored))
    assert plain(H100.time(replace(packed, m=8192.0))) > plain(H100.time(replace(stored, m=8192.0)))


def test_small_all_reduces_of_one_kernel_are_quicker_inside_a_node_only() -> None:
    asked = Collective(kind="all_reduce", message_bytes=65536.0, degree=8.0, stride=1.0)
    assert plain(H100.time(replace(asked, one_shot=1.0))) < 0.5 * plain(H100.time(asked))
    across = AnalyticBackend.of(load_system("superpod-h100"), 16, "bf16")
    two_nodes = replace(asked, degree=16.0)
    assert plain(across.time(replace(two_nodes, one_shot=1.0))) == plain(across.time(two_nodes))
    gather = replace(asked, kind="all_gather")
    assert plain(H100.time(replace(gather, one_shot=1.0))) == plain(H100.time(gather))
