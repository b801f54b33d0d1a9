"""A process in which times on a CPU mean something: one thread, and an allocator that keeps what it has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

_MARK = "CAPSIM_MEASURE_TUNED"
_NEVER = str(2**40)
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": _NEVER,
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    _MARK: "1",
}
"""The C library hands large blocks back to the system at every operation unless told before it starts; more threads
than free cores run hundreds of times slower."""


def is_tuned(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started so."""
    return environment.get(_MARK) == "1"


def restart(arguments: Sequence[str]) -> int:
    """Start the measurement again in a tuned process; where the system can, in the place of this one.

    Taking its place keeps one process to interrupt or to kill, and one that writes.
    """
    command = [sys.executable, "-m", "measure", *arguments]
    environment = {**os.environ, **TUNED}
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    if os.name == "posix":
        os.execve(sys.executable, command, environment)
    return subprocess.run(command, env=environment, check=False).returncode
