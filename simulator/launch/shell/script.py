"""The commands that a shell script would start, with their words; branches are followed where their tests are plain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.launch.shell.expansion import UNKNOWN, Hidden, ShellWord, expanded, is_not_run
from simulator.launch.shell.words import RawCommand, RawWord, commands_of

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?=)(.*)", re.DOTALL)
_DECLARES = ("export", "local", "declare", "readonly", "typeset")
_OPENS = ("for", "while", "until", "case", "select")
_SBATCH = re.compile(r"^#SBATCH\s+--?([a-z-]+|[nN])[=\s]\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class ShellCommand:
    """A command with its words, and whether it certainly runs."""

    words: tuple[ShellWord, ...]
    certain: bool
    line: int


@dataclass(frozen=True)
class Script:
    """What a script would do, as far as it can be told without running it."""

    commands: tuple[ShellCommand, ...]
    variables: dict[str, str]
    """Variables with plain values, at its end."""
    batch: dict[str, str]
    """What ``#SBATCH`` lines say."""
    assumed: tuple[str, ...] = ()
    """What was taken of the environment."""


def script_of(text: str, path: str) -> Script:
    """Read a script; nothing of it is run.

    Raises
    ------
    InputError
        Where a quote or bracket is not closed, or something is used that launch scripts have no need of.
    """
    walk = _Walk()
    for command in commands_of(text, path):
        walk.take(command)
    plain = {name: value for name, value in walk.values.items() if isinstance(value, str)}
    batch = {match[1]: match[2] for match in _SBATCH.finditer(text)}
    return Script(tuple(walk.commands), plain, batch, tuple(walk.assumed))


@dataclass
class _Branch:
    """An open ``if`` or loop."""

    runs: bool | None
    """Whether the current branch runs; none where that is not known."""
    taken: bool | None
    """Whether an earlier branch ran."""
    line: int
    condition: bool = False
    """Whether its test is being read."""
    said: bool | None = None
    """What the test says so far."""
    joined: str = ""


class _Walk:
    """Commands one after the other, with the variables that they set."""

    def __init__(self) -> None:
        self.values: dict[str, str | tuple[ShellWord, ...] | Hidden] = {}
        self.commands: list[ShellCommand] = []
        self.branches: list[_Branch] = []
        self.assumed: dict[str, None] = {}

    @property
    def runs(self) -> bool | None:
        """Whether a command here runs."""
        states = [branch.runs for branch in self.branches if not branch.condition]
        return False if False in states else None if None in states else True

    def take(self, command: RawCommand) -> None:
        """Go one command further."""
        words = list(command.words)
        while words and self._keyword(words[0]):
            words.pop(0)
        if self.branches and self.branches[-1].condition:
            self._test(words, command.end)
        elif words:
            self._plain(words)

    def _keyword(self, word: RawWord) -> bool:
        """Whether a word only opens, turns or closes a block; then it has been heeded."""
        text, top = word.text, self.branches[-1] if self.branches else None
        if text == "if":
            self.branches.append(_Branch(None, False, word.line, condition=True))
        elif text in _OPENS or text == "{":
            self.branches.append(_Branch(None, True, word.line))
        elif top is not None and text == "then" and top.condition:
            top.condition = False
            top.runs = False if top.taken else top.said if top.taken is False else None
            top.taken = True if top.taken or top.said else None if top.taken is None or top.said is None else False
        elif top is not None and text == "elif":
            top.condition, top.said, top.joined = True, None, ""
        elif top is not None and text == "else":
            top.runs = None if top.taken is None else not top.taken
        elif top is not None and text in ("fi", "done", "esac", "}"):
            self.branches.pop()
        elif text not in ("do", "!", "time", ";;"):
            return False
        return True

    def _test(self, words: Sequence[RawWord], end: str) -> None:
        """Heed one part of the test of an ``if``."""
        branch = self.branches[-1]
        says = self._says(words)
        if branch.joined == "&&":
            says = False if False in (branch.said, says) else None if None in (branch.said, says) else True
        elif branch.joined == "||":
            says = True if True in (branch.said, says) else None if None in (branch.said, says) else False
        branch.said, branch.joined = says, end

    def _says(self, words: Sequence[RawWord]) -> bool | None:
        """What a test of plain values says; none where it is not known."""
        texts = [self._without_environment(field) for word in words for field in self._with_empty(word)]
        if not texts or texts[0] not in ("[", "[[", "test") or any(UNKNOWN in text for text in texts):
            return None
        inner = [text for text in texts[1:] if text not in ("]", "]]")]
        if inner[:1] == ["!"]:
            opposite = _holds(inner[1:])
            return None if opposite is None else not opposite
        return _holds(inner)

    def _with_empty(self, word: RawWord) -> list[ShellWord]:
        """A word of a test, which stays a word where it is empty."""
        return expanded(word, self.values) or [ShellWord("", word.line)]

    def _without_environment(self, field: ShellWord) -> str:
        """A word of a test; variables that only an environment could set are empty in it, and that is noted."""
        if not field.why.endswith("has no value in the file") or "an argument" in field.why:
            return field.text
        self.assumed[f"{field.why.split()[0]} is empty, which a test in line {field.line} asks for"] = None
        return field.text.replace(UNKNOWN, "")

    def _plain(self, words: list[RawWord]) -> None:
        """A command, or assignments."""
        while words and words[0].text in _DECLARES:
            words.pop(0)
        rest = [word for word in words if not self._assign(word)]
        if len(rest) < len(words) and not rest:
            return
        if rest and rest[0].text in ("unset", "shift", "set", "source", "."):
            return
        if rest and self.runs is not False:
            fields = tuple(field for word in rest for field in expanded(word, self.values))
            self.commands.append(ShellCommand(fields, self.runs is True, rest[0].line))

    def _assign(self, word: RawWord) -> bool:
        """Whether a word sets a variable; then it is set, where this is reached."""
        match = _ASSIGNMENT.match(word.text)
        if match is None:
            return False
        name, runs = match[1], self.runs
        if runs is False:
            return True
        if runs is None:
            self.values[name] = Hidden(f"${name} is set under a condition in line {word.line}, which is not evaluated")
            return True
        self.values[name] = self._assigned(word, match)
        return True

    def _assigned(self, word: RawWord, match: re.Match[str]) -> str | tuple[ShellWord, ...] | Hidden:
        """What an assignment makes of a variable."""
        old = self.values.get(match[1])
        if word.array is not None:
            new = tuple(field for element in word.array for field in expanded(element, self.values))
            before = old if isinstance(old, tuple) else (ShellWord(old, word.line),) if isinstance(old, str) else ()
            return (*before, *new) if match[2] == "+=" else new
        fields = expanded(RawWord(f'"{match[3]}"' if _bare(match[3]) else match[3], word.line), self.values)
        text, adds = " ".join(field.text for field in fields), match[2] == "+="
        whys = sorted({field.why for field in fields if field.why}, key=is_not_run)
        why = whys[-1] if whys else ""
        if adds and isinstance(old, Hidden):
            return old
        if adds and isinstance(old, tuple) and len(old) == 1 and UNKNOWN in old[0].text:
            return (ShellWord(old[0].text + text, word.line, old[0].why),)
        whole = f"{old}{text}" if adds and isinstance(old, str) else text
        if not why:
            return whole
        return (ShellWord(whole, word.line, why),) if " has no value in the file" in why else Hidden(why)


def _bare(text: str) -> bool:
    """Whether a value has no quotes, so that quoting it changes nothing but the splitting of words."""
    return not set(text) & {'"', "'", "\\", "`"}


def _holds(words: Sequence[str]) -> bool | None:
    """Whether a comparison of plain words holds; none where it is of another kind."""
    for joint, both in (("||", any), ("&&", all), ("-o", any), ("-a", all)):
        if joint in words:
            at = list(words).index(joint)
            sides = (_holds(words[:at]), _holds(words[at + 1 :]))
            return None if None in sides else both(bool(side) for side in sides)
    if len(words) == 2 and words[0] in ("-z", "-n"):
        return (words[1] == "") is (words[0] == "-z")
    if len(words) != 3:
        return None
    left, mark, right = words
    if mark in ("=", "==", "!=") and not set(right) & set("*?["):
        return (left == right) is (mark != "!=")
    numbers = {"-eq": "==", "-ne": "!=", "-gt": ">", "-ge": ">=", "-lt": "<", "-le": "<="}
    if mark in numbers and left.lstrip("-").isdigit() and right.lstrip("-").isdigit():
        return _compared(int(left), int(right), numbers[mark])
    return None


def _compared(left: int, right: int, mark: str) -> bool:
    """Compare two whole numbers."""
    order = (left > right) - (left < right)
    return order in {"==": (0,), "!=": (-1, 1), ">": (1,), ">=": (0, 1), "<": (-1,), "<=": (-1, 0)}[mark]
