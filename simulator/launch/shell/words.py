"""The words of a shell script, as far as launch scripts need: quotes, comments, arrays, and the ends of commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hardware.errors import InputError

_ARRAY = re.compile(r"[A-Za-z_]\w*\+?=\Z")
_ENDS = ("\n", ";", "&&", "||", "|", "&")
_SHELLS = ("bash", "sh", "zsh", "sbatch", "srun", "ssh", "python", "python3")
"""Programs that run what a here-document holds."""
_CLOSERS = {"(": ")", "{": "}"}


@dataclass(frozen=True)
class RawWord:
    """A word as it is written, quotes and dollar signs included."""

    text: str
    line: int
    array: tuple[RawWord, ...] | None = None
    """The elements, of an assignment of an array; its name, with = or +=, is the text."""


@dataclass(frozen=True)
class RawCommand:
    """Words up to the end of a command, and what ends it."""

    words: tuple[RawWord, ...]
    end: str


class _Reader:
    """Characters of a script with the line that is being read."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.path = path
        self.at = 0
        self.line = 1
        self.documents: list[tuple[str, int]] = []
        """Ends of here-documents that start behind this line, and where they are named."""

    def peek(self, length: int = 1) -> str:
        return self.text[self.at : self.at + length]

    def take(self, length: int = 1) -> str:
        taken = self.peek(length)
        self.at += len(taken)
        self.line += taken.count("\n")
        return taken

    def unclosed(self, what: str, line: int) -> InputError:
        return InputError(f"{self.path}:{line}: {what} is opened and never closed; close it")

    def until(self, closer: str, line: int) -> str:
        """Everything up to and with a closing character; quotes and brackets inside are balanced."""
        text = ""
        while (char := self.peek()) != closer:
            if not char:
                raise self.unclosed(closer, line)
            if char == "\\":
                text += self.take(2)
            elif char == "'" and closer != '"':
                text += self.take() + self.until_plain("'", line)
            elif char == '"' and closer != '"':
                text += self.take() + self.until('"', line)
            elif char in "({" and closer in ")}":
                text += self.take() + self.until(_CLOSERS[char], line)
            elif self.peek(2) in ("$(", "${"):
                text += self.take(2)
                text += self.until(_CLOSERS[text[-1]], line)
            else:
                text += self.take()
        return text + self.take()

    def until_plain(self, closer: str, line: int) -> str:
        """Everything up to and with a character, as it is."""
        end = self.text.find(closer, self.at)
        if end < 0:
            raise self.unclosed(closer, line)
        return self.take(end - self.at + 1)

    def word(self) -> str:
        """One word; its quotes stay."""
        text, line = "", self.line
        while (char := self.peek()) and char not in " \t\n;|&()<>":
            if self.peek(2) == "\\\n":
                self.take(2)
            elif char == "\\":
                text += self.take(2)
            elif char == "'" or char == "`":
                text += self.take() + self.until_plain(char, line)
            elif char == '"':
                text += self.take() + self.until('"', line)
            elif self.peek(2) in ("$(", "${"):
                text += self.take(2)
                text += self.until(_CLOSERS[text[-1]], line)
            else:
                text += self.take()
        return text

    def blank(self) -> None:
        """Pass over blanks, continued lines and comments."""
        while char := self.peek():
            if char in " \t":
                self.take()
            elif self.peek(2) == "\\\n":
                self.take(2)
            elif char == "#":
                end = self.text.find("\n", self.at)
                self.take((end if end >= 0 else len(self.text)) - self.at)
            else:
                return

    def pass_documents(self) -> None:
        """Pass over here-documents, whose lines are no commands."""
        for end, line in self.documents:
            while self.peek():
                text = self.take(len(self.text[self.at :].split("\n", 1)[0]) + 1)
                if text.strip("\t\n") == end:
                    break
            else:
                raise self.unclosed(f"<<{end}", line)
        self.documents = []

    def array(self, line: int) -> tuple[RawWord, ...]:
        """The elements of an array, from behind its opening bracket."""
        elements: list[RawWord] = []
        while True:
            self.blank()
            if self.peek() == "\n":
                self.take()
            elif self.peek() == ")":
                self.take()
                return tuple(elements)
            elif not self.peek():
                raise self.unclosed("(", line)
            else:
                elements.append(self._element())

    def _element(self) -> RawWord:
        line, text = self.line, self.word()
        if not text:
            raise InputError(f"{self.path}:{line}: {self.peek()!r} inside an array is not read; write plain words")
        return RawWord(text, line)


def commands_of(text: str, path: str) -> Iterator[RawCommand]:
    """The commands of a script, in the order in which they stand.

    Parameters
    ----------
    text
        The script.
    path
        Its name, for errors.

    Raises
    ------
    InputError
        Where a quote or bracket is not closed, or for what scripts that start a training have no need of.
    """
    reader, words = _Reader(text, path), list[RawWord]()
    while True:
        reader.blank()
        char = reader.peek()
        if not char:
            yield RawCommand(tuple(words), "\n")
            return
        end = next((mark for mark in ("&&", "||", "\n", ";", "|", "&") if reader.peek(len(mark)) == mark), None)
        if end is not None:
            reader.take(len(end))
            if end == "\n":
                reader.pass_documents()
            yield RawCommand(tuple(words), end)
            words = []
        elif char in "<>":
            _redirection(reader, words)
        elif char in "()":
            words.append(RawWord(char, reader.line))
            reader.take()
        else:
            words.append(_word(reader))


def _word(reader: _Reader) -> RawWord:
    """The next word, or the assignment of an array."""
    line, written = reader.line, reader.word()
    if _ARRAY.fullmatch(written) and reader.peek() == "(":
        reader.take()
        return RawWord(written, line, reader.array(line))
    return RawWord(written, line)


def _redirection(reader: _Reader, words: list[RawWord]) -> None:
    """Pass over where input comes from and output goes to."""
    line = reader.line
    if reader.peek(2) == "<<" and reader.peek(3) != "<<<":
        if words and words[0].text.rpartition("/")[2] in _SHELLS:
            raise InputError(f"{reader.path}:{line}: a here-document (<<) is not read; write its text into the command")
        reader.take(3 if reader.peek(3) == "<<-" else 2)
        reader.blank()
        reader.documents.append((re.sub(r"[\"'\\]", "", reader.word()), line))
        return
    while reader.peek() and reader.peek() in "<>&":
        reader.take()
    if reader.peek() == "(":
        raise InputError(f"{reader.path}:{line}: a process substitution is not run; write the value out")
    reader.blank()
    reader.word()
