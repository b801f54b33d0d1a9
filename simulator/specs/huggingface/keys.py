"""The keys of a mapping that somebody else wrote, each checked where it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardware.errors import InputError, shown

MOST = 10_000_000
"""The largest size that is accepted, as in `Model`."""


@dataclass(frozen=True)
class Keys:
    """The keys of one file, each checked where it is read; a null is as good as absent."""

    values: Mapping[str, Any]
    path: Path
    prefix: str = ""
    read: set[str] = field(default_factory=set)
    """Keys that have been asked for."""
    inside: list[Keys] = field(default_factory=list)
    """Tables inside the file that have been asked for."""

    def has(self, key: str) -> bool:
        """Whether the file has a key, be it null."""
        self.read.add(key)
        return key in self.values

    def value(self, key: str) -> Any:
        """What stands under a key, as it is; None where the key is absent."""
        self.read.add(key)
        return self.values.get(key)

    def wrong(self, key: str, valid: str) -> InputError:
        """The error for a value: its place, the value, and what would be valid."""
        return InputError(f"{self.path}: {self.prefix}{key}={shown(self.values[key])}: {valid}")

    def size(self, *keys: str, default: int | None = None, least: int = 1, most: int = MOST) -> int:
        """A whole number under the first of the keys that is there, or else the default."""
        self.read.update(keys)
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if type(value) is not int or not least <= value <= most:
                raise self.wrong(key, f"must be a whole number from {least} to {most:,}")
            return value
        if default is None:
            raise InputError(f"{self.path}: {self.prefix}{' or '.join(dict.fromkeys(keys))} is missing")
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.value(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return default if value is None else value

    def word(self, key: str, default: str = "") -> str:
        """Text."""
        value = self.value(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "must be text")
        return default if value is None else value

    def choice(self, key: str, default: str, valid: Mapping[str, Any]) -> Any:
        """What one of several words means."""
        name = self.word(key, default)
        if name not in valid:
            raise self.wrong(key, f"valid: {', '.join(valid)}")
        return valid[name]

    def positive(self, key: str, default: float) -> bool:
        """Whether a probability is more than zero."""
        value = self.value(key)
        if value is None:
            return default > 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.wrong(key, "must be a number from 0 to 1")
        return value > 0

    def only(self, key: str, value: object) -> None:
        """Refuse a variant that cannot be counted: all values but the default."""
        if self.value(key) not in (value, None):
            raise self.wrong(key, f"only {str(value).lower()} can be counted")

    def table(self, key: str, *, known: bool = True) -> Keys:
        """A mapping inside the file, empty where it is absent; its keys are not `known` where a user chose them."""
        value = self.value(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(key, "must be a mapping")
        inner = Keys(value or {}, self.path, f"{self.prefix}{key}.")
        if known:
            self.inside.append(inner)
        return inner

    def number(self, key: str) -> float | None:
        """A positive number, or None where there is none."""
        value = self.value(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST:
            raise self.wrong(key, f"must be a number up to {MOST:,}")
        return float(value)

    def sizes(self, key: str, *, least: int = 0) -> list[int] | None:
        """A list of whole numbers, or None where there is none."""
        values = self.value(key)
        if values is None:
            return None
        if not isinstance(values, list) or any(
            type(value) is not int or not least <= value <= MOST for value in values
        ):
            raise self.wrong(key, f"must be a list of whole numbers from {least}")
        return values

    def words(self, key: str) -> list[str] | None:
        """A list of words, or None where there is none."""
        values = self.value(key)
        if values is None:
            return None
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "must be a list of words")
        return values

    def unread(self) -> Iterator[str]:
        """Keys that nobody has asked for, and that are not off: null, false or 0; of tables inside too."""
        for key, value in self.values.items():
            if key not in self.read and value not in (None, False):
                yield f"{self.prefix}{key}"
        for inner in self.inside:
            yield from inner.unread()
