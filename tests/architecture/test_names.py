"""One word, one meaning: no class of the four packages has the name of another."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hardware", "simulator", "measure", "dashboard")
TWICE: dict[str, str] = {}
"""Names that two classes may have, each with the reason."""


def _classes(root: Path, packages: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every class with its place, private and nested ones too."""
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield node.name, f"{path.relative_to(root)}:{node.lineno}"


def _places(root: Path, packages: tuple[str, ...]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for name, place in _classes(root, packages):
        places[name].append(place)
    return places


def test_no_two_classes_share_a_name() -> None:
    places = _places(ROOT, PACKAGES)
    assert len(places) > 200
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in shared.items() if name not in TWICE} == {}
    assert TWICE.keys() <= shared.keys(), "leave out of the list what is not shared any more"


@pytest.mark.parametrize("inner", ["class Plan: ...", "def f():\n    class Plan: ...", "class A:\n    class Plan: ..."])
def test_a_shared_name_is_seen(tmp_path: Path, inner: str) -> None:
    for package, text in (("hardware", "class Plan: ..."), ("simulator", inner)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "here.py").write_text(text)
    line = 1 + inner[: inner.index("class Plan")].count("\n")
    assert _places(tmp_path, ("hardware", "simulator"))["Plan"] == ["hardware/here.py:1", f"simulator/here.py:{line}"]
