"""How long a command takes from nothing: `python tests/benchmarks/cold_start.py`, or `make bench`.

Prints medians of several processes, and each command beside importing numpy alone, since machines differ.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

_RUNS = 9
_COMMANDS = {
    "import numpy": [sys.executable, "-c", "import numpy"],
    "capsim --help": [sys.executable, "-m", "simulator.cli", "--help"],
    "capsim estimate bert-large --system dgx-a100-640gb": [
        sys.executable, "-m", "simulator.cli", "estimate", "bert-large", "--system", "dgx-a100-640gb"
    ],
}  # fmt: skip


def median_seconds(command: list[str]) -> float:
    """Wall time of a command, the median of several runs after one that warms the caches."""
    times = []
    for _ in range(_RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Print the table."""
    found = {name: median_seconds(command) for name, command in _COMMANDS.items()}
    base = found["import numpy"]
    for name, seconds in found.items():
        sys.stdout.write(f"{seconds:6.3f} s  {seconds / base:5.2f} x importing numpy  {name}\n")


if __name__ == "__main__":
    main()
