"""The README says what the commands say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.published.readme import CALIBRATION, README, python_example, rewritten, with_profiles

ROOT = Path(__file__).parents[2]


def test_what_commands_print_is_what_the_page_shows() -> None:
    text = README.read_text()
    assert rewritten(text) == text, "run: python -m tests.published.readme"


def test_errors_of_profiles_are_those_that_the_profiles_hold() -> None:
    text = CALIBRATION.read_text()
    assert with_profiles(text) == text, "run: python -m tests.published.readme"


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_example(), "README.md", "exec"), {})
    assert "feed_forward" in capsys.readouterr().out


def test_the_folders_it_names_exist() -> None:
    for folder in ("hardware/classes", "simulator/specs/stacks", "simulator/specs/scenarios", "tests/against_torch"):
        assert folder in README.read_text()
        assert (ROOT / folder).is_dir()
