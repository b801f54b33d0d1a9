"""Conventions of model FLOPs: which of them count packed documents."""

from __future__ import annotations

from typing import Any

import pytest

import simulator
from simulator.answers.utilisation import Convention, model_flops
from simulator.work.counts import counts_of
from simulator.work.program import program_of


def _counted(work: dict[str, Any], **plan: Any) -> dict[Convention, float]:
    scenario = simulator.resolve(
        "llama-3.1-8b",
        "dgx-h100",
        stack="megatron-lm",
        plan={"micro_batch": 1, "tp": 1, "pp": 1, **plan},
        workload={"sequence_length": 8192, "global_batch": 8, **work},
    )
    return model_flops(scenario, counts_of(program_of(scenario.columns())))


def test_conventions_that_begin_with_products_count_documents() -> None:
    whole, packed = _counted({}), _counted({"document_lengths": [4096, 2048, 1024, 1024]})
    squares = 8192**2 - (4096**2 + 2048**2 + 2 * 1024**2)
    less = 3 * 8 * 32 * 4 * 4096 * squares  # three passes of eight sequences, 32 layers, two products, 4096 wide
    assert whole["exact"] - packed["exact"] == pytest.approx(less, rel=1e-12)
    assert whole["causal"] - packed["causal"] == pytest.approx(less / 2, rel=1e-12)
    assert (whole["palm"], whole["torchtitan"]) == (packed["palm"], packed["torchtitan"])


def test_unfused_attention_counts_whole_squares() -> None:
    assert _counted({"document_lengths": 1024}, attention="unfused") == _counted({}, attention="unfused")
