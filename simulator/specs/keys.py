"""The keys of a mapping that somebody else wrote, each checked where it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

    def wrong(self, key: str, valid: str) -> InputError:
        """The error for a value: its place, the value, and what would be valid."""
        return InputError(f"{self.path}: {self.prefix}{key}={shown(self.values[key])}: {valid}")

    def size(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """A whole number under the first of the keys that is there, or else the default."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if type(value) is not int or not least <= value <= MOST:
                raise self.wrong(key, f"must be a whole number from {least} to {MOST:,}")
            return value
        if default is None:
            raise InputError(f"{self.path}: {self.prefix}{' or '.join(dict.fromkeys(keys))} is missing")
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return default if value is None else value

    def word(self, key: str, default: str = "") -> str:
        """Text."""
        value = self.values.get(key)
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
        value = self.values.get(key)
        if value is None:
            return default > 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.wrong(key, "must be a number from 0 to 1")
        return value > 0

    def only(self, key: str, value: object) -> None:
        """Refuse a variant that cannot be counted: all values but the default."""
        if self.values.get(key) not in (value, None):
            raise self.wrong(key, f"only {str(value).lower()} can be counted")

    def table(self, key: str) -> Keys:
        """A mapping inside the file, empty where it is absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(key, "must be a mapping")
        return Keys(value or {}, self.path, f"{self.prefix}{key}.")
