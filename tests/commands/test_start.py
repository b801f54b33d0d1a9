"""The command line and the package start without what they do not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_HEAVY = {
    *("torch", "scipy", "pandas", "streamlit", "plotly", "sklearn", "transformers", "matplotlib"),
    *("dask", "distributed"),
}
_ESTIMATE = ["estimate", "bert-large", "--system", "dgx-a100-640gb"]


def _loaded_by(program: str) -> set[str]:
    """Top-level modules that a program has loaded when it ends."""
    ending = "import sys; sys.stderr.write(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    process = subprocess.run(
        [sys.executable, "-c", f"{program}\n{ending}"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert process.returncode == 0, process.stderr
    return set(process.stderr.split())


def _command(*arguments: str) -> str:
    """A program that runs the command line and goes on."""
    return (
        "from simulator import cli\n"
        f"try:\n    cli.main({list(arguments)!r})\nexcept SystemExit as ended:\n    assert not ended.code, ended.code"
    )


@pytest.mark.parametrize(
    "program",
    [
        "import simulator; simulator.estimate",
        "import hardware.catalogue",
        _command(*_ESTIMATE),
        _command(*_ESTIMATE, "--json"),
        _command("catalogue", "devices"),
        _command("claims"),
        _command("schema", "system"),
        _command("schema", "runs", "--json"),
        _command("rent", "bert-large", "--systems", "rtx-3090"),
        "import simulator; simulator.rent, simulator.search, simulator.sweep",
    ],
    ids=["package", "catalogue", "table", "json", "devices", "claims", "schema", "json schema", "rent", "searches"],
)
def test_nothing_heavy_is_loaded(program: str) -> None:
    assert not _loaded_by(program) & _HEAVY


def test_the_package_loads_what_is_asked_for() -> None:
    assert not _loaded_by("import simulator") & {"numpy", "pydantic", "yaml"}
    assert {"numpy", "pydantic"} <= _loaded_by("import simulator; simulator.estimate")


def test_help_loads_next_to_nothing() -> None:
    assert not _loaded_by(_command("--help")) & {"numpy", "pydantic", "yaml", "rich"}
    for command in ("estimate", "catalogue"):
        assert not _loaded_by(_command(command, "--help")) & {"numpy", "yaml", "rich"}


def test_json_loads_no_tables() -> None:
    assert "rich" not in _loaded_by(_command(*_ESTIMATE, "--json"))


def test_the_api_is_not_hidden_by_modules_of_the_same_name() -> None:
    program = (
        "import simulator, simulator.answers.estimate, simulator.scenario.scenario\nfrom simulator import *\n"
        "for name in simulator.__all__:\n    assert callable(getattr(simulator, name)), name\n"
        "assert set(simulator.__all__) == set(dir(simulator)) == set(simulator._HOMES)"
    )
    _loaded_by(program)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import simulator

    with pytest.raises(AttributeError, match="module 'simulator' has no attribute 'nonsense'"):
        _ = simulator.nonsense
