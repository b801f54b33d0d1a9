"""Dask clusters of real processes on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client

_ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0
_QUIET = {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error", "PYTHONWARNINGS": "ignore"}


@dataclass
class Cluster:
    """A scheduler with workers; each of them can be killed."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def grow(self, folder: Path, number: int) -> None:
        """Start workers and wait until the scheduler knows them."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
        self.workers += [_start("dask_worker", self.address, *options) for _ in range(number)]
        _until(lambda: self.known() == len(self.workers))

    def known(self) -> int:
        """Workers that the scheduler knows."""
        with Client(self.address, timeout=_PATIENCE, set_as_default=False) as client:
            return len(client.scheduler_info(n_workers=-1)["workers"])

    def kill(self, number: int = 1) -> None:
        """End workers as a power cut would."""
        for _ in range(number):
            worker = self.workers.pop()
            worker.kill()
            worker.wait()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """A cluster that goes when the test is over."""
    file = folder / "scheduler.json"
    scheduler = _start(
        "dask_scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", file
    )
    started_cluster: Cluster | None = None
    try:
        _until(lambda: _written(file) is not None)
        started_cluster = Cluster(_written(file)["address"], scheduler)
        started_cluster.grow(folder, workers)
        yield started_cluster
    finally:
        for process in [*(started_cluster.workers if started_cluster is not None else []), scheduler]:
            process.kill()
            process.wait()


def _start(module: str, *options: object) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", f"distributed.cli.{module}", *map(str, options)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, **_QUIET, "PYTHONPATH": path}, **quiet)


def _written(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < end, "the cluster does not start"
        time.sleep(0.1)
