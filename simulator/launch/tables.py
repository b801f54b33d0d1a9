"""The options of each framework, as data: which say a field of a scenario, which are ignored, and which there are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hardware.errors import InputError
from hardware.reading import build, read_mapping
from hardware.sheet import Sheet, Words

_FOLDER = Path(__file__).parent / "options"


class FieldOption(Sheet):
    """The option that says one field of a scenario: how it is read, and how it is written."""

    option: Words
    """Its names, separated by blanks: the first is written, and any of them read."""
    words: dict[str, Any] = {}
    """What its words mean, as they are written; of several that mean the same the first is written. Of a flag, what
    true and false mean. Empty of numbers."""
    writes: dict[str, str] = {}
    """Words by meaning, where another one than the first is written, or one that has no such meaning when read."""
    flag: bool = False
    """Whether it is true or false."""
    needed: bool = False
    """Whether a file without it says too little."""
    unlimited: bool = False
    """Whether -1 and 0 stand for a number that is left open."""
    usual: Any = None
    """What holds without it; none leaves the field open."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the one that is written first."""
        return tuple(self.option.split())

    @property
    def meanings(self) -> dict[str, Any]:
        """Meanings of words in lower case, as they are compared."""
        return {word.lower(): meaning for word, meaning in self.words.items()}

    def word(self, value: Any) -> Any:
        """What is written for a value of the field."""
        meant = self.usual if value is None else value
        if not self.words:
            return meant
        first = next((word for word, meaning in self.words.items() if meaning == meant), None)
        return first == "true" if self.flag else self.writes.get(str(meant), first)


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
    switches: tuple[str, ...] = ()
    """Patterns of names of features that are ignored where they are off."""
    options: tuple[str, ...] = ()
    """Names that the framework has."""
    comment: Words | None = None
    """The option that holds comments, where the files have no other place for them."""
    work: tuple[Words, ...] = ()
    """Work beside the training of a whole model that files which are written can say, such as ``train=lora``."""
    fields: dict[str, FieldOption] = {}
    """Options that say one field each, by the field, such as ``plan.tp``."""
    places: dict[str, str] = {}
    """Options where fields of the plan and the workload stand, for errors about them."""

    @property
    def unread(self) -> tuple[str, ...]:
        """Patterns of all that is not read."""
        return (*_words(self.ignored), *_words(self.habits))

    @property
    def off(self) -> tuple[str, ...]:
        """Patterns of all that is not read where it is false."""
        return _words(self.switches)

    @property
    def known(self) -> tuple[str, ...]:
        """All names that there are; empty where they are not listed."""
        return _words(self.options)

    def of_part(self, part: str, names: tuple[str, ...] = ()) -> Iterator[tuple[str, FieldOption]]:
        """The options of fields of a plan, a workload or a model: of some by name, or of all in the table's order."""
        for name in names or [field.partition(".")[2] for field in self.fields if field.startswith(f"{part}.")]:
            yield name, self.fields[f"{part}.{name}"]

    def settings_for(self, part: str, values: Any, *names: str) -> dict[str, Any]:
        """Options that say fields of a plan, a workload or a model, by dotted names.

        >>> from simulator.specs.plan import Plan
        >>> options_of("nanotron").settings_for("plan", Plan(tp=2, precision="bf16"), "tp", "precision")
        {'parallelism.tp': 2, 'model.dtype': 'bfloat16'}
        """
        settings = {}
        for name, option in self.of_part(part, names):
            value = getattr(values, name)
            settings[option.names[0]] = option.word(value)
            if name == "optimizer" and settings[option.names[0]] is None:
                known = ", ".join(dict.fromkeys(map(str, option.words.values())))
                raise InputError(f"{self.framework} has no option for optimizer={value}; choose {known}")
        return settings


def _words(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


def frameworks_that_say(work: str) -> list[str]:
    """Frameworks, by the names of their tables, whose files can say such work.

    >>> frameworks_that_say("train=lora")
    ['axolotl', 'llama-factory']
    """
    return [path.stem for path in sorted(_FOLDER.glob("*.yaml")) if work in options_of(path.stem).work]


@cache
def options_of(framework: str) -> OptionTable:
    """The table of a framework by the name of its file.

    >>> options_of("megatron-lm").known[:1]
    ('--account-for-embedding-in-pipeline-split',)
    """
    path = _FOLDER / f"{framework}.yaml"
    return build(OptionTable, read_mapping(path), path=path)
