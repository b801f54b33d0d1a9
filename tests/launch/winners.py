"""Plans that searches find for the stack of a framework, of which launch files are written."""

from __future__ import annotations

from functools import cache
from typing import Any

import simulator
from simulator.launch.naming import stack_of
from simulator.scenario.scenario import Scenario, resolve

RUNS = [
    ("bert-large", "dgx-a100-640gb", 8),
    ("llama-3-8b", "dgx-h100", 64),
    ("gpt3-175b", "superpod-a100", 1024),
    ("mixtral-8x7b", "dgx-h100", 64),
    ("palm-62b", "dgx-h100", 256),
]
"""A model, a system and devices."""
_ONLY: dict[str, dict[str, Any]] = {
    "llama-factory": {"tp": 1, "pp": 1, "cp": 1},
    "axolotl": {"tp": 1, "sharding": "zero3"},
}
"""What a framework's files say of its stack's plans."""


@cache
def winner(framework: str, run: tuple[str, str, int], sharding: str | None = None) -> Scenario:
    """The scenario of the best plan that a search finds for a framework's stack, of one way to share."""
    model, system, devices = run
    stack, work = stack_of(framework), {"sequence_length": 512 if model == "bert-large" else 2048}
    plan: dict[str, Any] = {"sharding": sharding, "precision": "bf16", "optimizer": "adamw"}
    plan |= _ONLY.get(framework, {})
    outcome = simulator.search(model, system, devices=devices, stack=stack, plan=plan, workload=work, top=1)
    best = outcome.best[0] if outcome.best else outcome.nearest
    assert best is not None, "no plan that comes nearest"
    return resolve(model, system, devices=devices, stack=stack, plan=best.plan, workload=work)
