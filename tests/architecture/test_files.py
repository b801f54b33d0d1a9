"""Files that tell their story at a glance, and names that stay out of the product."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hardware", "simulator", "measure", "dashboard")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FOLDERS = sorted({path.parent for path in SOURCES})
_MOST_LINES = 400
_MOST_MODULES = 14
"""In one folder, beside its ``__init__``."""
_MOST_FUNCTION_LINES = 40
_FUNCTIONS_THAT_LIST = {"estimate", "gemm", "_attention_core", "answer"}
"""Functions that are one long list of named arguments."""


def test_there_are_sources() -> None:
    assert len(SOURCES) > 30


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= _MOST_LINES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_no_folder_holds_too_many_modules(folder: Path) -> None:
    assert len([path for path in SOURCES if path.parent == folder and path.stem != "__init__"]) <= _MOST_MODULES


def _body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function from its first statement after the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_is_too_long(path: Path) -> None:
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    long = {
        function.name: _body_lines(function)
        for function in functions
        if _body_lines(function) > _MOST_FUNCTION_LINES and function.name not in _FUNCTIONS_THAT_LIST
    }
    assert not long


def test_every_data_file_is_shipped() -> None:
    """The build includes what the packages read at run time."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    endings = {Path(name).suffix for name in listed} - {".py"}
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    assert endings <= {Path(pattern).suffix for pattern in built}
