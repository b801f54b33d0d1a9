"""References between keys of a configuration, in the words of OmegaConf, as far as configurations of NeMo have them.

``${model.hidden_size}`` names a key from the top, ``${.hidden_size}`` one beside, and each dot more a level above; NeMo
adds ``${multiply:4, ${.hidden_size}}`` (nemo/core/config/hydra_runner.py at 00a115fe). What else is in such brackets
stays as it is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_MOST = 30
"""References behind references that are followed."""


def interpolated(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document whose references are what they name.

    Parameters
    ----------
    document
        What a file holds.

    >>> interpolated({"a": {"b": 2, "c": "${.b}", "d": "${multiply:4, ${a.b}}", "e": "${oc.env:HOME}"}})
    {'a': {'b': 2, 'c': 2, 'd': 8, 'e': '${oc.env:HOME}'}}
    """
    return {key: _resolved(part, document, (key,)) for key, part in document.items()}


def _resolved(value: Any, top: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """A part of a document; lists stay as they are."""
    if isinstance(value, Mapping):
        return {key: _resolved(part, top, (*path, key)) for key, part in value.items()}
    return _text(value, top, path) if isinstance(value, str) else value


def _text(value: str, top: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """A text with its references, from the innermost; a whole one keeps the type of what it names."""
    current: Any = value
    for _ in range(_MOST):
        match = _INNERMOST.search(current) if isinstance(current, str) else None
        if match is None:
            return current
        named = _named(match[1].strip(), top, path)
        if named is None:
            return value
        whole = match[0] == current
        current = named if whole else f"{current[: match.start()]}{named}{current[match.end() :]}"
    return value


def _named(words: str, top: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """What a reference without others in it names; none where that is no plain value."""
    resolver, colon, rest = words.partition(":")
    if colon:
        parts = [part.strip() for part in rest.split(",")]
        known = resolver == "multiply" and all(re.fullmatch(r"-?\d{1,15}", part) for part in parts)
        return math.prod(map(int, parts)) if known else None
    dots = len(words) - len(words.lstrip("."))
    keys: Sequence[str] = words.lstrip(".").split(".")
    section: Any = top
    for key in (*path[: len(path) - dots], *keys) if dots else keys:
        section = section.get(key) if isinstance(section, Mapping) else None
    return None if isinstance(section, Mapping | list) else section
