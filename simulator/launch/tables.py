"""The option names of each framework, as data: which are ignored, which are the stack's habits, and which there are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hardware.reading import build, read_mapping
from hardware.sheet import Sheet, Words

_FOLDER = Path(__file__).parent / "options"


class OptionTable(Sheet):
    """The options of one framework; names are separated by blanks."""

    framework: Words
    """As people write it."""
    release: Words
    """The release, or the commit, whose options they are."""
    source: Words
    """Where they were read."""
    ignored: tuple[str, ...] = ()
    """Patterns of names that change neither time nor memory of a step."""
    habits: tuple[str, ...] = ()
    """Patterns of names that change a little, and are left to what the stack usually does."""
    options: tuple[str, ...] = ()
    """Names that the framework has."""

    @property
    def unread(self) -> tuple[str, ...]:
        """Patterns of all that is not read."""
        return (*_words(self.ignored), *_words(self.habits))

    @property
    def known(self) -> tuple[str, ...]:
        """All names that there are; empty where they are not listed."""
        return _words(self.options)


def _words(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


@cache
def options_of(framework: str) -> OptionTable:
    """The table of a framework by the name of its file.

    >>> options_of("megatron-lm").known[:1]
    ('--account-for-embedding-in-pipeline-split',)
    """
    path = _FOLDER / f"{framework}.yaml"
    return build(OptionTable, read_mapping(path), path=path)
