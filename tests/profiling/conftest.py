"""Made-up devices that were measured and calibrated, once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hardware.measured import MeasuredProfile
from simulator.profiling import calibrate
from simulator.profiling.records import journal
from simulator.profiling.records.record import Record
from tests.profiling.made_up import MadeUp, graphics, processor


@dataclass(frozen=True)
class Calibrated:
    """What is true of a device, what was measured, and what was made of it."""

    made: MadeUp
    record: Record
    file: Path
    profile: MeasuredProfile


Fit = Callable[..., MeasuredProfile]


def _calibrated(made: MadeUp, folder: Path, **how: Any) -> Calibrated:
    record, file = made.record(**how), folder / f"{made.machine.kind}.jsonl"
    journal.write(file, record)
    return Calibrated(made, record, file, calibrate.calibrate([file], name="mine.yaml"))


@pytest.fixture(scope="session")
def on_graphics(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """An RTX 3090 of which all was measured, and its links."""
    return _calibrated(graphics(), tmp_path_factory.mktemp("records"), ranks=4)


@pytest.fixture(scope="session")
def on_processor(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """A core of which all was measured."""
    return _calibrated(processor(), tmp_path_factory.mktemp("records"))


@pytest.fixture(params=["on_graphics", "on_processor"])
def calibrated(request: pytest.FixtureRequest) -> Calibrated:
    """Each of both."""
    fixture: Calibrated = request.getfixturevalue(request.param)
    return fixture


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Calibrate records."""

    def run(*records: Record, **options: Any) -> MeasuredProfile:
        files = [tmp_path / f"record-{number}.jsonl" for number in range(len(records))]
        for file, record in zip(files, records, strict=True):
            journal.write(file, record)
        return calibrate.calibrate(files, **options)

    return run
