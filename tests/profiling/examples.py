"""Rows whose constants are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hardware.catalogue import load_class, load_device
from hardware.classes import AttentionConstants, GemmConstants
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.records.rows import Attentions, Products, Values

A100 = DataSheet.of(load_device("a100-sxm4-80gb"), "bf16")
PROFILE = load_class("a100-sxm")
START = PROFILE.gemm["bf16"]
ATTENTION_START = PROFILE.attention["bf16"]


def gemm_constants(**changes: float) -> GemmConstants:
    """The constants to start from, some of them changed."""
    return START.model_copy(update=changes)


def attention_constants(**changes: float) -> AttentionConstants:
    """The constants to start from, some of them changed."""
    return ATTENTION_START.model_copy(update=changes)


def products(m: Any, n: Any, k: Any, **others: Any) -> Products:
    """Products of these sizes, without times."""
    m, n, k = (np.asarray(size, dtype=np.float64) for size in (m, n, k))
    columns = {"batch": 1.0, "weight_gradient": 0.0, "sustained": 0.0, "seconds": 1.0, **others}
    filled = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), m.shape) for name, value in columns.items()}
    return Products(m=m, n=n, k=k, dtype=np.full(m.shape, "bf16"), **filled)


def some_products(rows: int, seed: int = 0, **others: Any) -> Products:
    """Products of a training step and smaller ones."""
    random = np.random.default_rng(seed)
    m, n, k = (64.0 * np.round(2.0 ** random.uniform(0.0, 8.5, rows)) for _ in range(3))
    return products(m, n, k, **others)


def attentions(rows: int, seed: int = 0, **others: Any) -> Attentions:
    """Attention of many sizes, without times."""
    random = np.random.default_rng(seed)
    length = 2.0 ** random.integers(7, 14, rows)
    heads = 2.0 ** random.integers(2, 7, rows)
    columns = {
        "queries": length,
        "keys": length,
        "batch": 2.0 ** random.integers(0, 4, rows),
        "heads": heads,
        "key_value_heads": np.maximum(heads / 2.0 ** random.integers(0, 3, rows), 1.0),
        "head_size": random.choice([64.0, 128.0], rows),
        "causal": random.integers(0, 2, rows).astype(np.float64),
        "backward": random.integers(0, 2, rows).astype(np.float64),
        "seconds": np.ones(rows),
        **{name: np.broadcast_to(np.asarray(value, dtype=np.float64), rows) for name, value in others.items()},
    }
    return Attentions(dtype=np.full(rows, "bf16"), kernel=np.full(rows, "flash"), **columns)


def timed(rows: Any, seconds: Values, *, noise: float = 0.0, outliers: float = 0.0, seed: int = 1) -> Any:
    """The rows with these times, each off by some noise, and a share of them three times as long."""
    random = np.random.default_rng(seed)
    off = random.normal(0.0, noise, len(seconds)) + np.log(3.0) * (random.random(len(seconds)) < outliers)
    return replace(rows, seconds=seconds * np.exp(off))
