"""No better figure of the hardware slows a step: of any model, on any system, under any stack and plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.pricing.analytic import AnalyticBackend
from simulator.scenario.scenario import Scenario
from simulator.specs.choices import V_SHAPED
from simulator.specs.stack import Stacks
from simulator.step.evaluation import evaluate
from tests.step.drawing import scenarios
from tests.thorough import cases

_INNER, _OUTER = (0, 1), (2, 3)
"""Levels of wiring inside a node, and between nodes and pods."""
_CLOSE = 1e-9
_FILLED = 2e-3
"""Gradients of weights fill gaps and also hide what is gathered: shorter ones do less of both, in a replay too."""


def _of_device(backend: AnalyticBackend, factor: float, *fields: str) -> AnalyticBackend:
    """A backend with figures of its devices multiplied."""
    device, wide = (
        replace(each, **{field: getattr(each, field) * factor for field in fields})
        for each in (backend.device, backend.wide)
    )
    return replace(backend, device=device, wide=wide)


def _of_links(backend: AnalyticBackend, factor: float, levels: tuple[int, ...], *fields: str) -> AnalyticBackend:
    """A backend with figures of some levels of its wiring multiplied."""
    better: Any = tuple(
        replace(level, **{field: getattr(level, field) * factor for field in fields}) if index in levels else level
        for index, level in enumerate(backend.wires.levels)
    )
    return replace(backend, wires=replace(backend.wires, levels=better))


def _improved(backend: AnalyticBackend, more: float) -> dict[str, AnalyticBackend]:
    """The backend as it is, and with one kind of figures better."""
    return {
        "as it is": backend,
        "peak rates": _of_device(backend, more, "peak", "attention_peak"),
        "bandwidth of memory": _of_device(backend, more, "bandwidth"),
        "size of memory": _of_device(backend, more, "memory_capacity"),
        "link to the host": _of_device(backend, more, "host_bandwidth"),
        "starts of kernels": _of_device(backend, 1 / more, "gemm_launch", "attention_launch", "stream_launch"),
        "links in a node": _of_links(backend, more, _INNER, "bandwidth"),
        "links between nodes": _of_links(backend, more, _OUTER, "bandwidth"),
        "latency in a node": _of_links(backend, 1 / more, _INNER, "latency", "latency_per_rank", "ramp"),
        "latency between nodes": _of_links(backend, 1 / more, _OUTER, "latency", "latency_per_rank", "ramp"),
    }


def _hosts(stacks: Stacks, more: float, number: int) -> tuple[list[str], list[Stacks]]:
    """The stack so often, and then with its host quicker: at each launch, and at what it does once a step."""
    return ["launches of the host", "host between steps"], [
        *[stacks] * number,
        replace(stacks, launch=stacks.launch / more),
        replace(stacks, step_overhead=stacks.step_overhead / more),
    ]


@settings(
    max_examples=cases(usual=150, thorough=2000),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(scenarios(), st.sampled_from([1.05, 1.5, 4.0]))
def test_no_better_figure_slows_a_step(scenario: Scenario, more: float) -> None:
    columns, backend = scenario.columns(), scenario.backend()
    assert isinstance(backend, AnalyticBackend)
    backends = _improved(backend, more)
    hosts, stacks = _hosts(columns.stacks, more, len(backends))
    together = AnalyticBackend.stack([*backends.values(), *[backend] * len(hosts)])
    listed = evaluate(replace(columns, stacks=Stacks.stack(stacks)), together).step.time
    before, *after = np.broadcast_to(listed, len(stacks))
    ratios = dict(zip([*list(backends)[1:], *hosts], (float(each / before) for each in after), strict=True))
    filled = scenario.plan.schedule in ("zero-bubble", *V_SHAPED) and (scenario.plan.pp or 1) > 1
    most = 1.0 + (_FILLED if filled else _CLOSE)
    assert {name: ratio for name, ratio in ratios.items() if ratio > most} == {}
    assert ratios["bandwidth of memory"] < 1.0 or ratios["launches of the host"] < 1.0
