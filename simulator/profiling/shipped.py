"""The measured profiles that come with capsim: `python -m simulator.commands.shared.shipped` fits them anew.

`recipes.yaml` says of each which tables or records it is fitted to, and how these name the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

import hardware
from hardware.catalogue import load_device
from hardware.measured import MeasuredProfile
from hardware.reading import build, read_mapping
from hardware.sheet import Name, Seen, Words
from hardware.spec import Seconds
from simulator.profiling.calibrate import Origin
from simulator.profiling.calibrate import fit as fit_to
from simulator.profiling.records.rows import Measurements
from simulator.profiling.tables import reading as tables

_HERE = Path(__file__).parent
FOLDER = Path(hardware.__file__).parent / "profiles"


class _RecipeTable(BaseModel):
    """Rows of one table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    device: str
    """As the table names it."""
    where: dict[str, str] = {}
    shortest: Seconds = 0.0
    """Calls that take less are left out: beside them the host's time to start one is too long."""


class Recipe(BaseModel):
    """What a profile is fitted to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Words
    source: Words
    seen: Seen
    device: Name
    tables: Annotated[tuple[_RecipeTable, ...], Field(max_length=20)] = ()


@dataclass(frozen=True)
class _Record:
    """A record that is shipped, and the profile that is fitted to it."""

    id: str
    file: Path


def recipes() -> dict[str, Recipe]:
    """Every profile that is fitted to tables, by its name."""
    return {name: build(Recipe, fields) for name, fields in read_mapping(_HERE / "recipes.yaml").items()}


def records() -> Iterator[_Record]:
    """Every record that is shipped."""
    for file in sorted((_HERE / "records").glob("*.jsonl")):
        yield _Record(file.stem, file)


def fit(name: str, recipe: Recipe) -> MeasuredProfile:
    """Fit a profile to its tables."""
    origin = Origin(name, recipe.title, recipe.source, recipe.seen)
    return fit_to(measured(recipe), [], load_device(recipe.device), origin)


def measured(recipe: Recipe) -> Measurements:
    """The rows of the tables that a profile is fitted to."""
    return Measurements.joined([_read(table) for table in recipe.tables])


def _read(table: _RecipeTable) -> Measurements:
    """The rows of one table."""
    return tables.read(table.file, table.device, where=table.where, shortest=table.shortest)
