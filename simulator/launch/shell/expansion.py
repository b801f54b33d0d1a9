"""What words of a shell script stand for: variables with plain values, arithmetic, and what stays unknown and why."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.launch.shell.words import RawWord

_NAME = re.compile(r"[A-Za-z_]\w*")
_BRACED = re.compile(r"(#?)([A-Za-z_]\w*|[0-9]+|[@*#?$!])(\[[@*]\])?(:?[-=])?(.*)", re.DOTALL)
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_ONE_WORD = ("pwd", "dirname", "basename", "realpath", "readlink", "date", "hostname", "whoami", "mktemp")
"""Programs that print one word, which is a name or a time and no option."""
_MOST_DIGITS = 30
UNKNOWN = "\0"
"""Stands for a part of a word that is known only when the script runs."""


@dataclass(frozen=True)
class ShellWord:
    """A word after expansion."""

    text: str
    """With `UNKNOWN` for what is known only when the script runs."""
    line: int
    why: str = ""
    """Why a part of it is not known; empty where all is."""


@dataclass(frozen=True)
class Hidden:
    """A value that is known only when the script runs, and why."""

    why: str


Values = Mapping[str, "str | tuple[ShellWord, ...] | Hidden"]
_Piece = tuple[str, bool]
"""Text, and whether blanks in it separate words."""


def expanded(word: RawWord, values: Values) -> list[ShellWord]:
    """The words that a written word becomes.

    Parameters
    ----------
    word
        As it is written.
    values
        Variables so far: text, elements of an array, or why it is not known.
    """
    return _Expansion(word, values).fields()


class _Expansion:
    """One word on its way."""

    def __init__(self, word: RawWord, values: Values) -> None:
        self.text, self.line, self.values = word.text, word.line, values
        self.done: list[ShellWord] = []
        self.current: str | None = None
        self.why = ""

    def fields(self) -> list[ShellWord]:
        """All words."""
        self._walk(self.text, quoted=False)
        self._close()
        return self.done

    def _close(self) -> None:
        if self.current is not None:
            self.done.append(ShellWord(self.current, self.line, self.why if UNKNOWN in self.current else ""))
        self.current = None

    def _unknown(self, why: str) -> None:
        """A part that is known only when the script runs; of several reasons a command that is not run counts most."""
        self.why = self.why if is_not_run(self.why) else why
        self._add(UNKNOWN, splits=False)

    def _add(self, text: str, *, splits: bool) -> None:
        """Text to the word, or several words of it."""
        if not splits:
            self.current = (self.current or "") + text
            return
        for index, part in enumerate(re.split(r"[ \t\n]+", text)):
            if index:
                self._close()
            if part:
                self.current = (self.current or "") + part

    def _walk(self, text: str, *, quoted: bool) -> None:
        at = 0
        while at < len(text):
            char = text[at]
            if char == "\\" and at + 1 < len(text) and not (quoted and text[at + 1] not in '"$`\\\n'):
                if text[at + 1] != "\n":
                    self._add(text[at + 1], splits=False)
                at += 2
            elif char == "'" and not quoted:
                end = text.index("'", at + 1)
                self._add(text[at + 1 : end], splits=False)
                at = end + 1
            elif char == '"' and not quoted:
                end = _closing(text, at + 1, '"')
                self.current = self.current or ("" if end == at + 1 else self.current)
                self._walk(text[at + 1 : end], quoted=True)
                at = end + 1
            elif char == "`":
                end = text.index("`", at + 1) if "`" in text[at + 1 :] else len(text)
                self._unknown(_not_run("the command substitution in backquotes", text[at + 1 : end]))
                at = end + 1
            elif char == "$":
                at = self._dollar(text, at, quoted=quoted)
            else:
                self._add(char, splits=False)
                at += 1

    def _dollar(self, text: str, at: int, *, quoted: bool) -> int:
        """What follows a dollar sign; returns where to go on."""
        if text.startswith("$((", at):
            end = _closing(text, at + 2, ")")
            self._arithmetic(text[at + 3 : end - 1 if text[end - 1 : end] == ")" else end])
            return end + 1 if text[end : end + 1] == ")" else end
        if text.startswith("$(", at):
            end = _closing(text, at + 2, ")")
            self._unknown(_not_run(f"the command substitution {text[at : end + 1]}", text[at + 2 : end]))
            return end + 1
        if text.startswith("${", at):
            end = _closing(text, at + 2, "}")
            self._braced(text[at + 2 : end], quoted=quoted)
            return end + 1
        name = _NAME.match(text, at + 1)
        special = text[at + 1 : at + 2]
        if name is not None:
            self._value(name[0], None, quoted=quoted, all_elements=False)
            return name.end()
        if special and special in "@*#?$!0123456789":
            self._value(special, None, quoted=quoted, all_elements=False)
            return at + 2
        self._add("$", splits=False)
        return at + 1

    def _braced(self, inside: str, *, quoted: bool) -> None:
        """``NAME``, ``NAME[@]`` or ``NAME:-otherwise``."""
        match = _BRACED.fullmatch(inside)
        if match is None or match[1] or (match[5] and not match[4]):
            self._unknown(f"${{{inside}}} is not read")
            return
        self._value(match[2], match[5] if match[4] else None, quoted=quoted, all_elements=bool(match[3]))

    def _value(self, name: str, otherwise: str | None, *, quoted: bool, all_elements: bool) -> None:
        value = self.values.get(name)
        if value is None:
            if otherwise is not None:
                self._walk(otherwise, quoted=quoted)
            elif name not in "@*":
                what = f"${name}, an argument of the script," if name.isdigit() else f"${name}"
                self._unknown(f"{what} has no value in the file")
        elif isinstance(value, Hidden):
            self._unknown(value.why)
        elif isinstance(value, str):
            self._add(value, splits=not quoted)
        else:
            self._elements(value if all_elements else value[:1], quoted=quoted)

    def _elements(self, elements: tuple[ShellWord, ...], *, quoted: bool) -> None:
        for index, element in enumerate(elements):
            if index:
                self._close()
            self.line, self.why = element.line, self.why if is_not_run(self.why) else element.why
            self._add(element.text, splits=not quoted)

    def _arithmetic(self, inside: str) -> None:
        """Whole numbers added, subtracted, multiplied and divided."""
        known = {name: value for name, value in self.values.items() if isinstance(value, str)}
        names = re.sub(r"\$?\{?\b([A-Za-z_]\w*)\b\}?", lambda match: known.get(match[1], match[1]), inside)
        result = calculated(names)
        if result is None:
            self._unknown(f"$(({inside})) is not read")
        else:
            self._add(str(result), splits=False)


def is_not_run(why: str) -> bool:
    """Whether a part is not known because of a command whose output may be anything."""
    return "command substitution" in why


def _not_run(what: str, command: str) -> str:
    """Why the output of a command is not known; of some it is one word that is no option."""
    program = re.match(r"\s*([\w.-]+)", command)
    if program is not None and program[1] in _ONE_WORD and not set(command) & set("|;&\n"):
        return f"the output of {program[1]} has no value in the file"
    return f"{what} is not run"


def calculated(text: str) -> int | None:
    """The value of whole numbers with + - * / % and brackets, or none.

    >>> calculated("8*4"), calculated("(2+6)/3"), calculated("2**9"), calculated("x+1")
    (32, 2, None, None)
    """

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int and len(str(node.value)) < _MOST_DIGITS:
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return int(_OPERATORS[type(node.op)](value(node.left), value(node.right)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        raise ValueError

    try:
        return value(ast.parse(text.strip(), mode="eval").body) if len(text) < 500 else None
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _closing(text: str, start: int, closer: str) -> int:
    """Where what is opened before `start` ends; the whole text where it does not."""
    depth, at = 0, start
    opener = {")": "(", "}": "{"}.get(closer)
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == closer and depth == 0:
            return at
        elif char == closer:
            depth -= 1
        elif char == opener:
            depth += 1
        elif closer == '"' and text.startswith(("$(", "${"), at):
            at = _closing(text, at + 2, ")" if text[at + 1] == "(" else "}")
        elif char == '"' and closer != '"':
            at = _closing(text, at + 1, '"')
        at += 1
    return len(text)
