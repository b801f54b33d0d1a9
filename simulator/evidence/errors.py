"""The errors of the shipped constants on runs that they had not seen, as they are stored."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simulator.evidence.intervals import HeldOutErrors

SHIPPED = Path(__file__).with_name("held_out.json.gz")
Scheme = Literal["new source", "known stack"]
"""Whether a run's whole source was left out, or the fifth of the configurations that its own belongs to."""
SCHEMES: tuple[Scheme, ...] = ("new source", "known stack")


@cache
def document() -> dict[str, Any]:
    """The stored cross-validation: constants of every fit, and errors."""
    stored: dict[str, Any] = json.loads(gzip.decompress(SHIPPED.read_bytes()))
    return stored


@cache
def shipped_errors(scheme: Scheme) -> HeldOutErrors:
    """The errors of one scheme."""
    plain = document()["errors"][scheme]
    return HeldOutErrors(
        ids=np.array(plain["ids"]),
        sources=np.array(plain["sources"]),
        groups=np.array(plain["groups"]),
        traits={name: np.array(values) for name, values in plain["traits"].items()},
        scores=np.array(plain["scores"], dtype=np.float64),
        **{name: float(plain[name]) for name in ("factor", "reach", "prior")},
    )
