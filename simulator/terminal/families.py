"""Hugging Face families as tables: parameters counted here and by the library, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hardware.errors import InputError, unknown
from simulator.specs.huggingface.families import FAMILIES, TEXT_MODELS, refused


@dataclass(frozen=True)
class FamilyRow:
    """One head of a family at one size."""

    family: str
    head: str
    ours: int
    theirs: int
    difference: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def known(only: str | None) -> None:
    """Refuse a family that is not known, or that cannot be counted.

    Raises
    ------
    InputError
        With the nearest families, or what is missing.
    """
    if only is None or only in FAMILIES:
        return
    if only in refused():
        raise InputError(f"{only} cannot be counted: {refused()[only]}")
    if only in TEXT_MODELS:
        raise InputError(
            f"{only} is counted by its tower that reads text: capsim catalogue families {TEXT_MODELS[only]}"
        )
    raise unknown("family", only, list(FAMILIES))


def counted(oracle: Any, only: str | None) -> Iterator[FamilyRow]:
    """Rows of what an oracle counts.

    Parameters
    ----------
    oracle
        The module that counts with the library.
    only
        One family; all unless given.
    """
    for one in oracle.counted_families(only):
        yield FamilyRow(one.family, one.architecture, one.ours, one.theirs, one.difference)


def show(rows: Sequence[FamilyRow], only: str | None) -> None:
    """Print the comparison, and after that of all families what is refused."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("family", "head"):
        table.add_column(name, overflow="fold")
    for name in ("ours", "transformers", "difference"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(row.family, row.head, f"{row.ours:,}", f"{row.theirs:,}", f"{row.difference:,}")
    console.print(table)
    equal = sum(row.difference == 0 for row in rows)
    families = len({row.family for row in rows})
    console.print(f"{equal} of {len(rows)} counts of {families} families are equal.", soft_wrap=True)
    if only is None:
        console.print("\nNot counted, by what is missing:")
        for name, missing in refused().items():
            console.print(f"  {name}: {missing}", soft_wrap=True)
