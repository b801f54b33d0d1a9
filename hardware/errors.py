"""The one exception for a user's mistake, and the sentence it becomes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line starts with this module, and help needs no pydantic
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_LONGEST = 500
"""Characters of the longest sentence; where there would be more, the middle is left out."""
_LONGEST_VALUE = 60

Location = tuple[int | str, ...]
"""Keys and indices that lead to a place inside a document."""


class InputError(ValueError):
    """A mistake in the input: one sentence with the place, the value and what would be valid.

    Parameters
    ----------
    sentence
        What is wrong; it becomes one line of moderate length, whatever the input holds.
    fields
        The fields it is about, such as ``plan.tp``, likeliest first; whoever knows the file that gave them adds file
        and line. Empty where the sentence has its place.
    """

    def __init__(self, sentence: str, *, fields: Sequence[str] = ()) -> None:
        super().__init__(one_line(sentence))
        self.fields = tuple(fields)


@contextmanager
def about(*fields: str) -> Iterator[None]:
    """Say which fields an error is about, where it does not say so itself."""
    try:
        yield
    except InputError as error:
        if error.fields:
            raise
        raise InputError(str(error), fields=fields) from None


def one_line(sentence: str) -> str:
    """Write what cannot be printed as an escape, and leave out the middle of a very long sentence."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in sentence)
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


def nearest(word: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names most like `word`, best first; empty where nothing is alike.

    >>> nearest("a100-sxm-80gb", ["a100-sxm4-80gb", "h200-sxm-141gb", "rtx-3090"], most=1)
    ['a100-sxm4-80gb']
    >>> nearest("a100", ["a10", "a100-pcie-40gb", "a100-sxm4-80gb", "h100-pcie-80gb"])
    ['a100-pcie-40gb', 'a100-sxm4-80gb', 'a10']
    """
    from difflib import get_close_matches  # only errors need it

    low, names = word[:_LONGEST_VALUE].lower(), list(known)
    longer = sorted(
        (name for name in names if len(low) > 2 and low in name), key=lambda name: (not name.startswith(low), len(name))
    )
    alike = get_close_matches(low, names, n=most, cutoff=0.5)
    return [*longer, *(name for name in alike if name not in longer)][:most]


def unknown(kind: str, word: str, known: Sequence[str], *, fields: Sequence[str] = ()) -> InputError:
    """Build the error for a name that is not in a list of names."""
    close = nearest(word, known)
    if close:
        return InputError(f"unknown {kind} {shown(word)}; did you mean {' or '.join(close)}?", fields=fields)
    names = ", ".join(known[:16]) + (", ..." if len(known) > 16 else "")
    return InputError(f"unknown {kind} {shown(word)}; known: {names}", fields=fields)


def shown(value: Any) -> str:
    """Show a value of a document briefly: input may be large.

    >>> shown("abc"), shown(True), shown(None), shown("x" * 100)[-5:]
    ("'abc'", 'true', 'null', 'xx...')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, or as many levels
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


_RANGES = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_TYPES = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must be of lower-case letters, digits and . + -, a letter or digit first",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "literal_error": "valid: {expected}",
}
"""What pydantic's problems are called here; the only pattern is a name's."""


def sentence(error: ValidationError, fields_beside: Callable[[Location], Sequence[str]]) -> tuple[str, Location]:
    """Turn the first problem of a validation error into a sentence, and say where it is.

    A key too much comes before a key that is missing: it may be the same, misspelled.

    Parameters
    ----------
    error
        What pydantic raised.
    fields_beside
        Names that are valid at the place of a misspelled key, to suggest the nearest one.

    Returns
    -------
    tuple
        The sentence, and the location inside the document.
    """
    problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    location, kind, value = _place(problems[0]), problems[0]["type"], problems[0].get("input")
    path = ".".join(map(str, location))
    if kind == "extra_forbidden":
        fields = fields_beside(location)
        return f"unknown key {shown(path)}{_hint(str(location[-1]), fields)}", location
    if kind == "missing":
        return f"{path!r} is missing", location
    branches = list(dict.fromkeys(_complaint(problem) for problem in problems if _place(problem) == location))
    text = " or ".join([branches[0], *(branch.removeprefix("must be ") for branch in branches[1:])])
    if not path or kind == "value_error":
        return (f"{path}: {text}" if path else text), location
    return f"{path}={shown(value)}: {text}", location


_RENAMED = {"profile": "device_class"}
"""Keys that had another name in earlier versions."""


def _hint(key: str, fields: Sequence[str]) -> str:
    """What to write in the place of an unknown key."""
    if _RENAMED.get(key) in fields:
        return f"; it is now called {_RENAMED[key]!r}"
    close = nearest(key, fields, most=1)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(fields)}" if fields else ""


def _place(problem: ErrorDetails) -> Location:
    """Where a problem is inside the document, without the branch of a union that pydantic names."""
    above, last = problem["loc"][:-1], problem["loc"][-1:]
    is_branch = problem["type"] != "extra_forbidden" and _is_branch(*last)
    return (*(part for part in above if not _is_branch(part)), *(() if is_branch else last))


def _is_branch(part: int | str = 0) -> bool:
    """Whether a part of a location is a branch of a union, not a key."""
    return isinstance(part, str) and (part in ("float", "str", "int") or "[" in part)


def _complaint(problem: ErrorDetails) -> str:
    """What is wrong with one value."""
    kind, context, value = problem["type"], problem.get("ctx", {}), problem.get("input")
    if kind == "value_error":
        return str(context.get("error", problem["msg"]))
    if kind == "literal_error" and isinstance(value, str):
        expected = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        close = nearest(value, expected, most=1)
        return _TYPES[kind].format_map(context) + (f"; did you mean {close[0]!r}?" if close else "")
    if kind not in _RANGES:
        return _TYPES.get(kind, problem["msg"]).format_map(context)
    if isinstance(value, float) and not math.isfinite(value):
        return _TYPES["finite_number"]
    limit, words = _RANGES[kind]
    return f"must be {words} {context[limit]:,.15g}"
