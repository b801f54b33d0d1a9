"""Figures of the benchmarks, as lines of a table at the end."""

from __future__ import annotations

import os

import pytest

_TOLD: list[tuple[str, str]] = []


@pytest.fixture
def told() -> list[tuple[str, str]]:
    """Where a benchmark says what it found."""
    return _TOLD


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was found, and how busy the machine was."""
    if not _TOLD:
        return
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    terminalreporter.write_line(f"{os.cpu_count()} cores, load {load}")
    for what, figure in _TOLD:
        terminalreporter.write_line(f"| {what} | {figure} |")
