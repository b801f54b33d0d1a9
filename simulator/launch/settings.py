"""The settings of a launch file, each with its place; what is not asked for is ignored by name or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from hardware.amounts import read_number
from hardware.errors import InputError, nearest, shown
from simulator.launch.tables import FieldOption, OptionTable

Meaning = TypeVar("Meaning")


@dataclass(frozen=True)
class LaunchSetting:
    """One setting of a launch file."""

    name: str
    value: Any
    """A parsed value, or the words of an option."""
    place: str
    """File and line, or file."""
    usual: bool = False
    """Whether the file leaves it out, and it holds all the same."""


class LaunchSettings:
    """Settings by name; those that were asked for are noted as read."""

    def __init__(self, entries: Mapping[str, LaunchSetting], path: str, table: OptionTable | None = None) -> None:
        self.path = path
        self._entries = dict(entries)
        self._asked: dict[str, None] = {}
        self._table = table

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """All names, in the order of the file."""
        return list(self._entries)

    def place(self, name: str) -> str:
        """Where a setting stands."""
        return self._entries[name].place if name in self._entries else self.path

    def value(self, *names: str) -> Any:
        """The value of the first of several names that is set, or none."""
        for name in names:
            if name in self._entries:
                self._asked[name] = None
                return self._entries[name].value
        return None

    def whole(self, *names: str, least: int = 1) -> int | None:
        """A whole number, or none where it is not set."""
        value = self.value(*names)
        if value is None or value == [] or value == "":
            return None
        number = _number(value)
        if not isinstance(number, int) or number < least:
            raise self.wrong(self._set(names), f"must be a whole number of at least {least}")
        return number

    def real(self, *names: str) -> float | None:
        """A number, or none where it is not set."""
        value = self.value(*names)
        if value is None:
            return None
        number = _number(value)
        if number is None:
            raise self.wrong(self._set(names), "must be a number")
        return float(number)

    def needed(self, *names: str) -> int:
        """A whole number that has to be set."""
        number = self.whole(*names)
        if number is None:
            raise InputError(f"{self.path}: {names[0]} is missing; add it")
        return number

    def flag(self, *names: str) -> bool:
        """Whether a switch is there, or a value is true."""
        value = self.value(*names)
        if value is None:
            return False
        if isinstance(value, bool) or value == []:
            return value is not False
        word = str(_single(value)).lower()
        if word not in ("true", "false", "yes", "no", "1", "0"):
            raise self.wrong(self._set(names), "must be true or false")
        return word in ("true", "yes", "1")

    def fields(self, part: str, *names: str) -> dict[str, Any]:
        """Fields of a plan, a workload or a model that one option each says, by the framework's table.

        Parameters
        ----------
        part
            ``plan``, ``workload`` or ``model``.
        names
            Some of its fields; all that the table has without them.

        Returns
        -------
        dict
            Values by field; what neither the file nor the table says is left out.
        """
        assert self._table is not None, "only settings of a framework have fields"
        said = {name: self._field(option) for name, option in self._table.of_part(part, names)}
        return {name: value for name, value in said.items() if value is not None}

    def _field(self, option: FieldOption) -> Any:
        """What one option says, or what holds without it."""
        if option.needed:
            return self.needed(*option.names)
        if option.flag:
            truth = (
                option.usual
                if not self._is_set(option.names) and option.usual is not None
                else self.flag(*option.names)
            )
            return option.words[str(truth).lower()] if option.words else truth
        if option.words:
            meaning = self.word(option.names[0], option.meanings)
            return option.usual if meaning is None else meaning
        number = self.whole(*option.names, least=-1 if option.unlimited else 1)
        return option.usual if number is None or number < 1 else number

    def word(self, name: str, meanings: Mapping[str, Meaning]) -> Meaning | None:
        """What one of several words means, in lower case, or none where it is not set."""
        value = self.value(name)
        if value is None:
            return None
        word = str(_single(value)).lower()
        if word not in meanings:
            raise self.wrong(name, f"is not understood; capsim reads {', '.join(meanings)}")
        return meanings[word]

    def wrong(self, name: str, sentence: str) -> InputError:
        """An error about a setting."""
        entry = self._entries[name]
        value = shown(_single(entry.value)) if entry.value != [] else "set"
        return InputError(f"{entry.place}: {name}={value}: {sentence}")

    def _is_off(self, name: str) -> bool:
        """Whether a setting belongs to a section that says ``enabled: false``."""
        parts = name.split(".")
        sections = (".".join((*parts[:count], "enabled")) for count in range(1, len(parts)))
        return any(section in self._entries and self._entries[section].value is False for section in sections)

    def _is_set(self, names: Sequence[str]) -> bool:
        return any(name in self._entries for name in names)

    def _set(self, names: Sequence[str]) -> str:
        return next(name for name in names if name in self._entries)

    def read(self) -> tuple[str, ...]:
        """What was asked for and is set, with places."""
        return tuple(_told(self._entries[name]) for name in self._asked if not self._entries[name].usual)

    def usual(self) -> tuple[str, ...]:
        """What was asked for and holds without being set."""
        return tuple(_told(self._entries[name]) for name in self._asked if self._entries[name].usual)

    def finish(self) -> tuple[str, ...]:
        """What else is set: ignored where a pattern of the framework's table names it, or its section is off.

        Raises
        ------
        InputError
            Where something is set that is neither read nor ignored.
        """
        assert self._table is not None, "only settings of a framework are finished"
        left = [entry for name, entry in self._entries.items() if name not in self._asked and not entry.usual]
        for entry in left:
            patterns = self._table.unread + (self._table.off if entry.value is False else ())
            if not self._is_off(entry.name) and not any(fnmatchcase(entry.name, pattern) for pattern in patterns):
                raise _not_understood(entry, self._table.known)
        return tuple(_told(entry) for entry in left)


def _not_understood(entry: LaunchSetting, known: Sequence[str]) -> InputError:
    """The refusal of a setting that may change the answer."""
    value = "" if entry.value == [] else f"={shown(_single(entry.value))}"
    if known and entry.name not in known:
        close = nearest(entry.name, list(known), most=1)
        hint = f"did you mean {close[0]}?" if close else "remove it"
        return InputError(f"{entry.place}: {entry.name}{value}: the framework has no such setting; {hint}")
    return InputError(
        f"{entry.place}: {entry.name}{value}: may change time or memory and is not understood; "
        "remove it to estimate without it"
    )


def _told(entry: LaunchSetting) -> str:
    """A setting with its place."""
    value = entry.value
    words = "" if value == [] else " ".join(map(str, value)) if isinstance(value, list) else str(value)
    line = entry.place.rpartition(":")[2]
    where = f" (line {line})" if line.isdigit() else ""
    return f"{entry.name}{'=' if words else ''}{words if len(words) <= 60 else words[:57] + '...'}{where}"


def _single(value: Any) -> Any:
    """The one word of an option, or the value as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _number(value: Any) -> int | float | None:
    """A number from a value or a word; true and false are none."""
    single = _single(value)
    if isinstance(single, bool):
        return None
    if isinstance(single, int | float):
        return int(single) if float(single).is_integer() else single
    return read_number(single) if isinstance(single, str) else None


def flattened(
    document: Any, place: Callable[[tuple[str, ...]], str], under: tuple[str, ...] = ()
) -> Iterator[LaunchSetting]:
    """A nested mapping as settings with dotted names; lists are values.

    Parameters
    ----------
    document
        A parsed mapping.
    place
        Gives the place of a path of keys.
    under
        The keys above.
    """
    for key, value in document.items():
        path = (*under, str(key))
        if isinstance(value, dict) and value:
            yield from flattened(value, place, path)
        elif value is not None and value != {}:
            yield LaunchSetting(".".join(path), value, place(path))
