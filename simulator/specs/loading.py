"""Models, stacks and scenarios by name, from a file, or as they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from hardware.catalogue import is_path, locate
from hardware.reading import build, read_mapping
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_ROOT = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The names of the files of one kind: models, stacks or scenarios."""
    return sorted(path.stem for path in (_ROOT / kind).glob("*.yaml"))


@cache
def _shipped_model(path: Path) -> Model:
    return build(Model, _named(path), path=path)


@cache
def _shipped_stack(path: Path) -> Stack:
    return build(Stack, _named(path), path=path)


def load_model(name: str | Path | Mapping[str, Any] | Model) -> Model:
    """Load an architecture: by name, from a file of ours or a Hugging Face ``config.json``, or pass one through.

    A mapping with the key ``base`` changes fields of a known model.

    Raises
    ------
    InputError
        With the nearest known names, or file, line and field.

    Examples
    --------
    >>> load_model("bert-large").hidden_size
    1024
    >>> load_model({"base": "bert-large", "objective": "span"}).objective
    'span'
    """
    if isinstance(name, Model):
        return name
    if isinstance(name, Mapping):
        changes = dict(name)
        base = load_model(changes.pop("base")).model_dump(exclude_unset=True) if "base" in changes else {}
        return build(Model, {**base, **changes})
    path = locate(_ROOT, "model", name)
    if path.suffix == ".json":
        from simulator.specs.huggingface import from_config

        return from_config(read_mapping(path), path)
    return _shipped_model(path) if path.parent == _ROOT / "models" else build(Model, _named(path), path=path)


def load_stack(name: str | Path | Stack) -> Stack:
    """Load a software stack by name, from a file, or pass one through.

    >>> load_stack("megatron-lm").platform
    'gpu'
    """
    if isinstance(name, Stack):
        return name
    path = locate(_ROOT, "stack", name)
    return _shipped_stack(path) if path.parent == _ROOT / "stacks" else build(Stack, _named(path), path=path)


def _named(path: Path) -> dict[str, Any]:
    """A file's fields, with an id after its name unless it gives one."""
    return {"id": path.stem.lower().replace("_", "-").replace(" ", "-"), **read_mapping(path)}


class ScenarioFile(BaseModel):
    """A scenario file: what to estimate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = None
    model: str | dict[str, Any]
    system: str
    devices: int | None = None
    stack: str | None = None
    plan: Plan = Plan()
    workload: Workload = Workload()
    price: float | str | None = None
    grid: str | None = None
    overhead: str | None = None


def load_scenario(name: str | Path) -> ScenarioFile:
    """Read a scenario by name or from a file; paths inside it are relative to it.

    Raises
    ------
    InputError
        With file, line and field.
    """
    path = locate(_ROOT, "scenario", name)
    scenario = build(ScenarioFile, read_mapping(path), path=path)
    near = {field: _near(path, getattr(scenario, field)) for field in ("model", "system", "stack")}
    return scenario.model_copy(update=near)


def _near(path: Path, name: Any) -> Any:
    """A path inside a file, seen from outside."""
    if not isinstance(name, str) or not is_path(name) or Path(name).is_absolute():
        return name
    return str(path.parent / name)
