"""Words that fields of a plan or of a workload may have, the simplest first."""

from __future__ import annotations

from typing import Literal, get_args

AttentionKernel = Literal["unfused", "fused"]
Sharding = Literal["none", "zero1", "zero2", "zero3", "hybrid"]
Schedule = Literal["1f1b", "gpipe", "interleaved", "zero-bubble"]
Recompute = Literal["none", "selective", "full"]
Optimizer = Literal[
    "adamw",
    "adam-bf16",
    "adam-fp8",
    "adam-8bit",
    "adafactor",
    "adafactor-with-momentum",
    "lamb",
    "lion",
    "muon",
    "sgd",
    "sgd-without-momentum",
]
Axis = Literal["tp", "cp", "dp", "pp"]
Trained = Literal["full", "lora", "head"]
BasePrecision = Literal["fp8", "int8", "nf4", "nf4-double"]
SHARDINGS: tuple[Sharding, ...] = get_args(Sharding)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
RECOMPUTES: tuple[Recompute, ...] = get_args(Recompute)
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
