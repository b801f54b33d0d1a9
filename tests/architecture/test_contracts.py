"""Each contract of pyproject.toml holds, and breaks where a copy of the packages has an import that it forbids."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
_SOLVER = "from scipy.optimize import nnls"

# What is added to a file, which may be new, and the contracts that break.
BREAKS = [
    ("simulator/cli.py", "import dashboard.content.answers", {"packages", "libraries-of-simulator"}),
    ("hardware/units.py", "from simulator.formulas import flops", {"packages", "libraries-of-hardware"}),
    ("measure/report.py", "from dashboard.choices import state", {"packages"}),
    ("simulator/pricing/analytic.py", "from simulator.step import time", {"rooms-of-simulator"}),
    ("simulator/plan_search/table.py", "from simulator.variations import whatif", {"rooms-of-simulator"}),
    ("simulator/corpus/runs.py", "from simulator.profiling import calibrate", {"rooms-of-simulator"}),
    ("simulator/new_room/__init__.py", "", {"rooms-of-simulator"}),
    ("simulator/new_module.py", "", {"rooms-of-simulator"}),
    ("dashboard/content/answers.py", "from dashboard.figures import plan", {"rooms-of-dashboard", "plotly"}),
    ("dashboard/new_module.py", "", {"rooms-of-dashboard"}),
    ("measure/device/nvml.py", "from measure.clock import bench", {"rooms-of-measure"}),
    ("measure/new_module.py", "", {"rooms-of-measure"}),
    ("simulator/formulas/flops.py", _SOLVER, {"libraries-of-formulas", "libraries-of-simulator"}),
    ("simulator/formulas/flops.py", "from pydantic import BaseModel", {"libraries-of-formulas"}),
    ("simulator/formulas/new_module.py", "from hardware import units", {"libraries-of-formulas"}),
    ("hardware/new_module.py", "import numpy", {"libraries-of-hardware"}),
    ("simulator/answers/new_module.py", "from rich.table import Table", {"libraries-of-simulator"}),
    ("simulator/step/time.py", _SOLVER, {"libraries-of-simulator"}),
    ("dashboard/content/new_module.py", "import streamlit as st", {"streamlit"}),
    ("dashboard/figures/plan.py", "from streamlit.web import cli", {"streamlit"}),
    ("dashboard/new_module.py", "import streamlit", {"streamlit", "rooms-of-dashboard"}),
    ("dashboard/choices/state.py", "import plotly.graph_objects", {"plotly"}),
    ("dashboard/views/rent.py", "from dashboard.views import scale", {"pages"}),
]

Lint = Callable[[], set[str]]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the packages, their contracts, and the kind of contract that is ours."""
    folder = tmp_path_factory.mktemp("house")
    for package in ("hardware", "simulator", "measure", "dashboard", "tests/architecture"):
        for source in (ROOT / package).rglob("*.py"):
            target = folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    (folder / "tests" / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def broken(copy: Path) -> Lint:
    """Which contracts the copy breaks, by their identifiers."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"COLUMNS": "500"}

    def lint() -> set[str]:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("lint-imports"))],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said = {key: re.search(rf"{re.escape(name)} (KEPT|BROKEN)", done.stdout) for key, name in CONTRACTS.items()}
        missing = [key for key, match in said.items() if match is None]
        assert not missing, done.stdout + done.stderr
        broken = {key for key, match in said.items() if match is not None and match[1] == "BROKEN"}
        assert (done.returncode == 0) == (not broken)
        return broken

    return lint


def test_every_contract_holds(broken: Lint) -> None:
    assert broken() == set()


def test_every_contract_is_broken_by_some_import() -> None:
    assert set().union(*(contracts for _, _, contracts in BREAKS)) == set(CONTRACTS)


@pytest.mark.parametrize(("file", "line", "contracts"), BREAKS)
def test_a_forbidden_import_breaks(copy: Path, broken: Lint, file: str, line: str, contracts: set[str]) -> None:
    target = copy / file
    before = target.read_text() if target.exists() else None
    target.parent.mkdir(exist_ok=True)
    target.write_text(f"{before or ''}\n{line}\n")
    try:
        assert broken() == contracts
    finally:
        if before is not None:
            target.write_text(before)
        elif target.name == "__init__.py":
            shutil.rmtree(target.parent)
        else:
            target.unlink()


def test_an_exception_that_nothing_needs_breaks(copy: Path, broken: Lint) -> None:
    target = copy / "simulator" / "pricing" / "nearest.py"
    before = target.read_text()
    target.write_text(before.replace("from scipy", "from numpy"))
    try:
        assert broken() == {"libraries-of-simulator"}
    finally:
        target.write_text(before)
