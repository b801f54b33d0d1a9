"""The public formulas, found by looking."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import simulator.formulas

GLOSSARY = Path(simulator.formulas.__file__).with_name("README.md")
_ROW = re.compile(r"^\| `(?P<name>\w+)` \| [^|]* \| (?P<unit>[^|]+?) \|", re.MULTILINE)


def formulas() -> list[Callable[..., Any]]:
    """Every public function of every module of formulas."""
    members: list[Callable[..., Any]] = []
    for module in pkgutil.iter_modules(simulator.formulas.__path__, "simulator.formulas."):
        loaded = importlib.import_module(module.name)
        for name, member in vars(loaded).items():
            if inspect.isfunction(member) and not name.startswith("_") and member.__module__ == module.name:
                members.append(member)
    return members


def glossary() -> dict[str, set[str]]:
    """The units that the glossary allows each parameter."""
    return {row["name"]: set(row["unit"].split(" or ")) for row in _ROW.finditer(GLOSSARY.read_text())}


def title(formula: Callable[..., Any]) -> str:
    """Module and name."""
    return f"{formula.__module__.rpartition('.')[2]}.{formula.__name__}"
