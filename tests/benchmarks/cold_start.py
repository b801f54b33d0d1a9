"""How long a command takes from nothing: `python tests/benchmarks/cold_start.py`, or `make bench`.

Prints medians of several processes, and each command beside importing numpy alone, since machines differ.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

_RUNS = 9
COMMANDS = {
    "import numpy": [sys.executable, "-c", "import numpy"],
    "capsim --help": [sys.executable, "-m", "simulator.cli", "--help"],
    "capsim estimate bert-large --system dgx-a100-640gb": [
        sys.executable, "-m", "simulator.cli", "estimate", "bert-large", "--system", "dgx-a100-640gb"
    ],
    "capsim search bert-large --system dgx-a100-640gb": [
        sys.executable, "-m", "simulator.cli", "search", "bert-large", "--system", "dgx-a100-640gb"
    ],
}  # fmt: skip


def seconds(command: list[str]) -> float:
    """Wall time of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def median_seconds(command: list[str]) -> float:
    """The median of several runs after one that warms the caches."""
    return statistics.median([seconds(command) for _ in range(_RUNS + 1)][1:])


def main() -> None:
    """Print the table."""
    times = {name: median_seconds(command) for name, command in COMMANDS.items()}
    base = times["import numpy"]
    for name, wall in times.items():
        sys.stdout.write(f"{wall:6.3f} s  {wall / base:5.2f} x importing numpy  {name}\n")


if __name__ == "__main__":
    main()
