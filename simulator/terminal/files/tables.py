"""Tables of what a file may say: for a terminal, and for a page of documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from simulator.terminal.files.kinds import KINDS, FieldRow, FileKind, Section, names_sources, quantities, sections

_NARROWEST = 72
_GAP = 2
"""Blanks between columns."""
_INDENT = " " * 4
_SHORTEST = 12
"""Characters of the narrowest column of forms."""
_HEADS = ("field", "type or values", "unit", "default")
SOURCED = "A figure may name its source: {value: 80 GB, source: [data sheet], seen: primary, note: as labelled}"
_FORMS = {
    "sheet": "",
    "list": "The file is a list; each entry has these fields.",
    "offers": "The file gives each offer, by the word that names it, these fields.",
}


def show(kind: FileKind) -> None:
    """Print the fields of a file."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.print("\n".join(lines(kind, console.width)), soft_wrap=True)


def lines(kind: FileKind, width: int) -> list[str]:
    """The fields of a file as text: a line for each with type, unit and default, and its meaning below.

    Parameters
    ----------
    kind
        The kind of file.
    width
        Columns of the terminal.
    """
    width = max(width, _NARROWEST)
    listed = sections(kind)
    rows = [row for section in listed for row in section.rows]
    return [
        *_wrapped(f"{kind.word}: {kind.title}", width),
        *_wrapped(f"Used by {kind.use}.", width),
        *(line for section in listed for line in ("", *_section(section, _widths(rows, width), width))),
        "",
        *(line for words in notes(kind, listed) for line in _wrapped(words, width)),
    ]


def notes(kind: FileKind, listed: Sequence[Section]) -> Iterator[str]:
    """What holds for all fields of a file."""
    if _FORMS[kind.form]:
        yield _FORMS[kind.form]
    yield "A field whose default is a hyphen may be left out; its meaning says what holds then."
    for dimension, (example, units) in quantities(listed).items():
        yield f"{with_article(dimension)} is written like {example}; units: {', '.join(units)}."
    if names_sources(kind):
        yield f"{SOURCED}."


def with_article(dimension: str) -> str:
    """A dimension at the beginning of a sentence."""
    return f"{'An' if dimension[0] in 'aeiou' else 'A'} {dimension}"


def _widths(rows: Sequence[FieldRow], width: int) -> tuple[int, int, int, int]:
    """Columns of field, form, unit and default; forms take what the others leave."""
    field, unit, default = (
        max(len(head), *(len(getattr(row, name)) for row in rows))
        for head, name in zip((_HEADS[0], *_HEADS[2:]), ("field", "unit", "default"), strict=True)
    )
    return field, max(width - field - unit - default - 3 * _GAP, _SHORTEST), unit, default


def _section(section: Section, widths: tuple[int, int, int, int], width: int) -> Iterator[str]:
    """The fields of one sheet, below its place."""
    if section.place:
        yield from _wrapped(f"{section.place}: {section.title}", width)
    yield _columns(_HEADS, widths)
    for row in section.rows:
        first, *more = _wrapped(row.form, widths[1])
        yield _columns((row.field, first, row.unit, row.default), widths)
        yield from (_columns(("", line, "", ""), widths) for line in more)
        yield from (f"{_INDENT}{line}" for line in _wrapped(row.meaning, width - len(_INDENT)))


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a table."""
    return (" " * _GAP).join(f"{cell:<{size}}" for cell, size in zip(cells, widths, strict=True)).rstrip()


def _wrapped(words: str, width: int) -> list[str]:
    """A sentence in lines."""
    return textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)


def overview() -> str:
    """Every kind of file as a table of a page: what it describes, and where it is given."""
    rows = (f"| `{kind.word}` | {kind.title} | {kind.use} |" for kind in KINDS.values())
    return "\n".join(["| kind | describes | given as |", "|---|---|---|", *rows, ""])


def page() -> str:
    """The fields of every kind of file as a page of documentation."""
    parts = [
        "# Fields of files\n",
        "Every field of every file that capsim reads, as `capsim schema KIND` prints it. This page is generated from",
        "the code: `python -m tests.published.readme`. [files.md](files.md) tells how to write such files.\n",
    ]
    return "\n".join([*parts, *(f"## {kind.word}: {kind.title}\n\n{markdown(kind)}" for kind in KINDS.values())])


def markdown(kind: FileKind) -> str:
    """The fields of a file as tables of a page."""
    parts, listed = [], sections(kind)
    for section in listed:
        head = f"`{section.place}`: {section.title}\n\n" if section.place else ""
        body = "\n".join(f"| {' | '.join(_cells(row))} |" for row in section.rows)
        parts.append(f"{head}| field | type or values | unit | default | meaning |\n|---|---|---|---|---|\n{body}\n")
    return "\n".join([*parts, *(f"* {words}" for words in notes(kind, listed))]) + "\n"


def _cells(row: FieldRow) -> tuple[str, ...]:
    """The cells of one field; bars inside a cell would end it."""
    told = (f"`{row.field}`", row.form, row.unit, row.default, row.meaning)
    return tuple(cell.replace("|", "\\|") for cell in told)
