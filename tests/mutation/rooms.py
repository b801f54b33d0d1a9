"""Which tests belong to which room of the simulator: the one place that says so."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]

TESTS: dict[str, tuple[str, ...]] = {
    "simulator/formulas": ("simulator/formulas", "tests/formulas"),
    "simulator/pricing": ("tests/pricing",),
    "simulator/work": ("tests/work", "tests/step"),
    "simulator/step": ("tests/step", "tests/work"),
}
"""Folders of tests, and of modules with examples, by the room whose mutants they have to kill."""

SLOW_FIXTURES = frozenset({"on_graphics", "on_processor", "calibrated"})
"""Fixtures that calibrate a device for seconds: tests that use them take no part, so that shares are lower bounds."""

NAMED: tuple[tuple[str, str, str], ...] = (
    ("simulator/work/operators.py", "Call(request, 2.0 * hops, hops)", "Call(request, hops, hops)"),
    ("simulator/work/once.py", '"all_reduce", size, 2.0, apart, shared,', '"all_reduce", size, 2.0, apart, 0.0,'),
    (
        "simulator/work/exchanges.py",
        "request = Send(message_bytes=message, degree",
        "request = Send(message_bytes=message / 2.0, degree",
    ),
    ("simulator/work/exchanges.py", "piped = np.where(", "piped = 0.5 * np.where("),
)
"""Mistakes that once passed every test, and are tried in every run: module, source and what is written instead."""


def modules(room: str) -> list[str]:
    """Modules of a room with something in them, by path from the root."""
    files = sorted((ROOT / room).rglob("*.py"))
    return [str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py"]


def room_of(module: str) -> str:
    """The room that a module stands in."""
    return next(room for room in TESTS if module.startswith(f"{room}/"))
