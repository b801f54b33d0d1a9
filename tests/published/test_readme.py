"""The README says what the commands say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hardware.catalogue import load_prices, load_system
from simulator.corpus import runs
from simulator.specs.loading import load_model, load_scenario
from simulator.terminal.files.tables import page
from tests.published.outputs import PAGES, comparable, with_outputs
from tests.published.readme import (
    CALIBRATION,
    FIELDS,
    FILES,
    LAUNCHING,
    README,
    python_example,
    rewritten,
    with_kinds,
    with_launch_files,
    with_profiles,
)

ROOT = Path(__file__).parents[2]


def test_what_commands_print_is_what_the_page_shows() -> None:
    text = README.read_text()
    assert rewritten(text) == text, "run: python -m tests.published.readme"


def test_errors_of_profiles_are_those_that_the_profiles_hold() -> None:
    text = CALIBRATION.read_text()
    assert with_profiles(text) == text, "run: python -m tests.published.readme"


def test_the_kinds_of_files_are_those_that_there_are() -> None:
    text = FILES.read_text()
    assert with_kinds(text) == text, "run: python -m tests.published.readme"


def test_the_table_of_launch_files_is_what_is_read() -> None:
    text = LAUNCHING.read_text()
    assert with_launch_files(text) == text, "run: python -m tests.published.readme"


def test_the_page_of_fields_is_what_the_schema_says() -> None:
    assert FIELDS.read_text() == page(), "run: python -m tests.published.readme"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages_show_what_their_commands_print(path: Path) -> None:
    text = path.read_text()
    assert "<!-- output" in text
    assert comparable(with_outputs(text)) == comparable(text), "run: python -m tests.published.readme"


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", FILES.read_text(), re.S))
def test_files_of_the_documentation_are_read(block: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(block)
    if block.startswith("- "):
        assert runs.load([path])
    elif "provider:" in block:
        assert load_prices(path)
    elif "hidden_size:" in block:
        assert load_model(path)
    elif "devices_per_node:" in block:
        assert load_system(path)
    else:
        assert load_scenario(path)


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_example(), "README.md", "exec"), {})
    assert "feed_forward" in capsys.readouterr().out


def test_the_folders_it_names_exist() -> None:
    for folder in ("hardware/classes", "simulator/specs/stacks", "simulator/specs/scenarios", "tests/against_torch"):
        assert folder in README.read_text()
        assert (ROOT / folder).is_dir()
