"""docs/architecture.md names the rooms that there are, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _told() -> set[str]:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("## Rooms of `simulator`")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {room for row in rows for room in re.findall(r"`([a-z_]+)`", row)}


def test_every_room_is_told() -> None:
    simulator = ROOT / "simulator"
    rooms = {path.parent.name for path in simulator.glob("*/__init__.py")}
    modules = {path.stem for path in simulator.glob("*.py")} - {"__init__"}
    assert _told() == rooms | modules
    assert len(rooms) > 10
