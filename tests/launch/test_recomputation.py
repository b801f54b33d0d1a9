"""Each way of recomputation, written and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from simulator.launch import torchtitan
from simulator.launch.frameworks import written
from simulator.launch.recognition import read_launch
from simulator.scenario.scenario import resolve

WAYS: dict[str, list[dict[str, Any]]] = {
    "megatron-lm": [
        {"recompute": "none"},
        {"recompute": "selective"},
        {"recompute_modules": ("core_attn", "mlp")},
        {"recompute_layers": 3, "recompute_method": "block"},
        {"recompute_layers": 1, "recompute_method": "block"},
        {"recompute_layers": 4, "recompute_method": "uniform"},
        {"recompute": "full"},
    ],
    "torchtitan": [
        {"recompute": "none"},
        {"recompute": "operators"},
        {"recompute_layers": 2, "recompute_method": "every"},
        {"recompute": "full"},
    ],
}
