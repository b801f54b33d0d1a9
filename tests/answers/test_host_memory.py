"""What is offloaded needs room in the host."""

from __future__ import annotations

from typing import Any

import pytest

import simulator
from hardware.catalogue import load_system

_PLAN: dict[str, Any] = {"sharding": "zero3", "offload_optimizer": True, "micro_batch": 1, "tp": 1, "pp": 1}


def _on_host(memory: float | None, plan: dict[str, Any] | None = None) -> simulator.Estimate:
    system = load_system("dgx-a100-640gb")
    with_host = system.model_copy(update={"host": system.host.model_copy(update={"memory": memory})})
    plan = {**_PLAN, **(plan or {})}
    return simulator.estimate("llama-2-70b", with_host, devices=8, stack="deepspeed", plan=plan)


def test_states_of_70_billion_parameters_need_their_room() -> None:
    """Moments and master copies alone are 840 GB."""
    small, large = _on_host(512e9), _on_host(2048e9)
    assert small.host_memory_bytes * 8 >= 12 * small.parameters
    assert (small.fits, large.fits) == (False, True)
    assert small.memory_bytes == large.memory_bytes
    assert any("of host memory per device" in warning for warning in small.warnings)
    assert not any("of host memory" in warning for warning in large.warnings)


def test_a_host_that_nobody_described_is_said() -> None:
    assert _on_host(None).fits
    assert any("is not known" in warning for warning in _on_host(None).warnings)


def test_nothing_offloaded_needs_no_host() -> None:
    assert _on_host(1e9, {"offload_optimizer": False}).host_memory_bytes == 0.0


@pytest.mark.parametrize("memory", [256e9, 4096e9])
def test_a_search_keeps_to_the_host(memory: float) -> None:
    system = load_system("dgx-a100-640gb")
    small = system.model_copy(update={"host": system.host.model_copy(update={"memory": memory})})
    search = simulator.search("llama-2-70b", small, devices=8, stack="deepspeed", plan=_PLAN)
    assert bool(search.best) == (memory > 1e12)
    assert all(one.host_memory_bytes * 8 <= memory for one in search.best)
