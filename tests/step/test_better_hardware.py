"""A rate of the hardware that grows, or a latency that shrinks, never slows a step of the same plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import simulator
from hardware import catalogue

_CASES: list[tuple[str, str, int, dict[str, Any]]] = [
    ("bert-large", "dgx-a100-640gb", 8, {}),
    ("bert-large", "dgx-1-v100", 8, {}),
    ("gpt3-175b", "superpod-a100", 1024, {}),
    ("llama-3.1-8b", "dgx-h100", 64, {"tp": 2, "cp": 2, "sharding": "zero3"}),
    ("mixtral-8x7b", "dgx-h100", 64, {"ep": 8}),
    ("palm-540b", "palm-2pod", 6144, {}),
    ("t5-11b", "tpu-v3-pod", 256, {}),
]
_MORE = 1.5


def _factor(name: str) -> float | None:
    """What makes a field of the hardware better, where one direction is."""
    if "latency" in name:
        return 1.0 / _MORE
    return _MORE if name == "peak" or "bandwidth" in name else None


def _better(part: BaseModel) -> Iterator[tuple[str, Any]]:
    """The hardware with one figure better, for each figure, and the figure's place."""
    for name in type(part).model_fields:
        value, factor = getattr(part, name), _factor(name)
        if isinstance(value, BaseModel):
            inner = _better(value) if name != "peak" else _peaks(value)
            for place, improved in inner:
                yield f"{name}.{place}", part.model_copy(update={name: improved})
        elif isinstance(value, float) and factor is not None:
            yield name, part.model_copy(update={name: value * factor})


def _peaks(part: BaseModel) -> Iterator[tuple[str, Any]]:
    """Peak rates with that of one number format higher."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, float):
            yield name, part.model_copy(update={name: value * _MORE})


@pytest.mark.parametrize(("model", "system", "devices", "plan"), _CASES, ids=[f"{m}-{s}" for m, s, *_ in _CASES])
def test_better_hardware_never_slows_a_step(model: str, system: str, devices: int, plan: dict[str, Any]) -> None:
    known = catalogue.load_system(system)
    before = simulator.estimate(model, known, devices=devices, plan=plan or None)
    ratios = {
        place: simulator.estimate(model, improved, devices=devices, plan=before.plan, stack=before.stack).step_time_s
        / before.step_time_s
        for place, improved in _better(known)
    }
    assert {place: ratio for place, ratio in ratios.items() if ratio > 1.0 + 1e-12} == {}
    faster = {place for place, ratio in ratios.items() if ratio < 1.0 - 1e-9}
    assert "device.memory.bandwidth" in faster
    assert any(place.startswith("device.peak.") for place in faster)
