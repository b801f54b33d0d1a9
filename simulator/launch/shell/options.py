"""The options of the one command of a script that starts a training."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hardware.errors import InputError
from simulator.launch.settings import LaunchSetting, LaunchSettings
from simulator.launch.shell.expansion import UNKNOWN, ShellWord, is_not_run
from simulator.launch.shell.script import Script, ShellCommand, script_of
from simulator.launch.tables import OptionTable

_PROGRAM = re.compile(r"(?:.*/)?[\w.-]+\.py\Z")

_OPTIONS = re.compile(r"\$\w*(?:ARG|OPT|FLAG|PARAM|CONFIG)S?\w* ", re.IGNORECASE)
"""Variables that stand for options rather than for a value, by their names."""


@dataclass(frozen=True)
class StartedTraining:
    """A command that starts a training."""

    program: str | None
    """The file of Python that it runs; none of a plain list of options."""
    launcher: tuple[ShellWord, ...]
    """Words before the program."""
    options: tuple[ShellWord, ...]
    script: Script


def training_of(text: str, path: str, marks: Sequence[str]) -> StartedTraining:
    """The command of a script that has one of some options, or the options of a plain list.

    Parameters
    ----------
    text
        A shell script, or options one after the other.
    path
        Its name.
    marks
        Options of which the command has at least one.

    Raises
    ------
    InputError
        Where there is none, or more than one.
    """
    script = script_or_options(text, path)
    starts = [split for command in script.commands for split in [_split(command)] if _has(split, marks)]
    if not starts:
        _refuse_hidden(script, path)
        raise InputError(f"{path}: starts no training that is known; one has options such as {', '.join(marks[:2])}")
    if len(starts) > 1:
        raise InputError(f"{path}:{starts[1][0].line}: starts a second training; keep one command in the file")
    words = starts[0]
    program = next((index for index, word in enumerate(words) if _PROGRAM.match(word.text)), None)
    if program is None:
        first = next((index for index, word in enumerate(words) if word.text.startswith("--")), 0)
        return StartedTraining(None, words[:first], words[first:], script)
    return StartedTraining(words[program].text, words[:program], words[program + 1 :], script)


def _refuse_hidden(script: Script, path: str) -> None:
    """Refuse a command that is a variable or a substitution as a whole, of which nothing is known."""
    for command in script.commands:
        starter = bool(command.words) and command.words[0].text.rpartition("/")[2] in _STARTERS
        hidden = next((word for word in command.words if word.text == UNKNOWN and is_not_run(word.why)), None)
        if starter and hidden is not None:
            raise InputError(f"{path}:{hidden.line}: {hidden.why}; write out what it stands for")


_STARTERS = ("srun", "bash", "sh", "eval", "python", "python3", "torchrun", "mpirun")
"""Programs that start a training."""


def script_or_options(text: str, path: str) -> Script:
    """A script; a plain list of options, over however many lines, is one command.

    Parameters
    ----------
    text
        A shell script, or options one after the other.
    path
        Its name.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    listed = re.sub(r"(?m)^\s*#.*$", "", text).lstrip().startswith("--")
    return script_of(_one_command(text) if listed else text, path)


def _one_command(text: str) -> str:
    """Lines of options as one command; each line but the last goes on."""
    lines = [re.sub(r"(?:^|\s)#.*$|\s*\\\\$", "", line) for line in text.splitlines()]
    return " \\\n".join(lines)


def _split(command: ShellCommand) -> tuple[ShellWord, ...]:
    """The words of a command; one that is a whole command line in quotes is taken apart."""
    words: list[ShellWord] = []
    for word in command.words:
        if re.search(r"\.py\s", word.text):
            try:
                words += [ShellWord(part, word.line, word.why) for part in shlex.split(word.text)]
            except ValueError:
                words.append(word)
        else:
            words.append(word)
    return tuple(words)


def _has(words: Sequence[ShellWord], marks: Sequence[str]) -> bool:
    return any(word.text.split("=")[0] in marks for word in words)


def devices_of(launcher: Sequence[ShellWord], batch: Mapping[str, str], path: str) -> int | None:
    """Devices of the run, as torchrun's options or the batch system's lines say; none where they do not.

    Parameters
    ----------
    launcher
        Words before the program.
    batch
        What ``#SBATCH`` lines say.
    path
        The file, for places.

    Raises
    ------
    InputError
        Where the number of nodes is none.
    """
    options = settings_of([word for word in launcher if not word.why or word.text.startswith("--")], path)
    per_node = options.whole("--nproc_per_node", "--nproc-per-node")
    nodes = options.value("--nnodes")
    if per_node is None:
        per_node = _digits(batch.get("ntasks-per-node") or batch.get("gpus-per-node"))
        count = _digits(batch.get("nodes") or batch.get("N")) if per_node is not None else None
        return None if per_node is None else per_node * (count or 1)
    if nodes is None or nodes == []:
        return per_node
    number = _digits(str(nodes[0]))
    if number is None:
        raise InputError(f"{options.place('--nnodes')}: --nnodes={nodes[0]}: must be a whole number")
    return per_node * number


def _digits(text: str | None) -> int | None:
    """The number at the end of a text such as 8 or h100:8."""
    last = (text or "").rpartition(":")[2]
    return int(last) if last.isdigit() and 0 < int(last) < 10**7 else None


def settings_of(words: Sequence[ShellWord], path: str, table: OptionTable | None = None) -> LaunchSettings:
    """Options by name, each with the words behind it.

    Parameters
    ----------
    words
        Options and their values.
    path
        The file, for places.
    table
        The options of the program.

    Raises
    ------
    InputError
        Where what stands there is known only when the script runs.
    """
    return LaunchSettings(options_by_name(words, path), path, table)


def options_by_name(words: Sequence[ShellWord], path: str) -> dict[str, LaunchSetting]:
    """Options with their dashes, each with the words behind it.

    Parameters
    ----------
    words
        Options and their values.
    path
        The file, for places.

    Raises
    ------
    InputError
        Where what stands there is known only when the script runs.
    """
    entries: dict[str, LaunchSetting] = {}
    name = ""
    for word in words:
        place, is_option = f"{path}:{word.line}", word.text.startswith("--") and len(word.text) > 2
        option = word.text.partition("=")[0]
        open_value = name and not entries[name].value and not is_option
        several = is_not_run(word.why) or _OPTIONS.search(word.why) is not None
        if UNKNOWN in word.text and (several or (UNKNOWN in option and not open_value)):
            raise InputError(f"{place}: {word.why}; write out what it stands for")
        text = word.text.replace(UNKNOWN, "?") + (f" ({word.why})" if UNKNOWN in word.text else "")
        if is_option:
            name, _, value = text.partition("=")
            entries[name] = LaunchSetting(name, [value] if value else [], place)  # the last of several holds
        elif name:
            entries[name].value.append(text)
    return entries
