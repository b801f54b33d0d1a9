"""The one exception for a user's mistake, and the sentence it becomes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError


class InputError(ValueError):
    """A mistake in the input: one sentence with the place, the value and what would be valid."""


def nearest(word: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names most like `word`, best first; empty where nothing is alike.

    >>> nearest("a100-sxm-80gb", ["a100-sxm4-80gb", "h200-sxm-141gb", "rtx-3090"], most=1)
    ['a100-sxm4-80gb']
    """
    return difflib.get_close_matches(word.lower(), list(known), n=most, cutoff=0.5)


def unknown(kind: str, word: str, known: Sequence[str]) -> InputError:
    """Build the error for a name that is not in a list of names."""
    close = nearest(word, known)
    if close:
        return InputError(f"unknown {kind} {word!r}; did you mean {' or '.join(close)}?")
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return InputError(f"unknown {kind} {word!r}; known: {shown}")


def _path(location: tuple[int | str, ...]) -> str:
    """Join a validation location to dotted names, without the tags pydantic adds for unions."""
    parts = [str(part) for part in location if not (isinstance(part, str) and "[" in part)]
    return ".".join(parts)


def _shown(value: Any) -> str:
    """Show a value briefly: input may be large."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_RANGES = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def sentence(error: ValidationError, *, fields: Sequence[str] = ()) -> tuple[str, tuple[int | str, ...]]:
    """Turn the first problem of a validation error into a sentence, and say where it is.

    Parameters
    ----------
    error
        What pydantic raised.
    fields
        Names that are valid at the top level, to suggest the nearest one for a misspelled key.

    Returns
    -------
    tuple
        The sentence, and the location inside the document.
    """
    problem = error.errors(include_url=False)[0]
    location = problem["loc"]
    path, value, kind = _path(location), problem.get("input"), problem["type"]
    context = problem.get("ctx", {})
    if kind == "extra_forbidden":
        close = nearest(str(location[-1]), fields, most=1) if len(location) == 1 else []
        if close:
            hint = f"; did you mean {close[0]!r}?"
        else:
            hint = f"; valid: {', '.join(fields)}" if fields and len(location) == 1 else ""
        return f"unknown key {path!r}{hint}", location
    if kind == "missing":
        return f"{path!r} is missing", location
    if kind in _RANGES:
        key, words = _RANGES[kind]
        text = f"must be {words} {context[key]:g}"
    elif kind == "finite_number":
        text = "must be a finite number"
    elif kind == "literal_error":
        text = f"valid: {context['expected']}"
    elif kind == "value_error":
        text = str(context.get("error", problem["msg"]))
        return (text if isinstance(context.get("error"), InputError) or not path else f"{path}: {text}"), location
    else:
        text = problem["msg"].replace("Input should be", "should be")
    return f"{path}={_shown(value)}: {text}", location
