"""Files that somebody could upload: records of made-up devices, tables, profiles."""

from __future__ import annotations

import gzip
import tempfile
from functools import cache
from pathlib import Path

import simulator
from simulator.profiling.records import journal
from simulator.profiling.tables import reading as tables
from tests.profiling.made_up import MadeUp, graphics, processor


@cache
def of_graphics() -> bytes:
    """A record of an RTX 3090 with steps and collectives."""
    return _written(graphics(), ["bert-base", "gpt2-124m"], ranks=2)


@cache
def of_processor() -> bytes:
    """A record of a core that no catalogue has."""
    return _written(processor(), ["bert-base"])


def _written(made: MadeUp, models: list[str], ranks: int = 0) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.jsonl"
        journal.write(file, made.record(models, ranks=ranks))
        return file.read_bytes()


def table() -> bytes:
    """Products of two devices, which it calls a100-pcie-80gb and b200, packed."""
    return (tables.SHIPPED / "gemm_simumax_bf16_passes.csv.gz").read_bytes()


def table_of_one() -> bytes:
    """Products of one device, which it calls card."""
    lines = [line for line in gzip.decompress(table()).decode().splitlines() if "b200" not in line]
    return "\n".join(lines).replace("a100-pcie-80gb", "card").encode()


def profile(name: str = "a100-pcie") -> bytes:
    """A profile as ``capsim calibrate`` writes it."""
    return simulator.profile_text(simulator.load_profile(name)).encode()
