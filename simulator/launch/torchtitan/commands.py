"""A scenario from a command of torchtitan since 0.3, which starts a configuration in Python and changes settings of it.

The command names a module and one of its configurations by ``--module`` and ``--config``, or by the variables of
`run_train.sh`; options are settings with dotted names, and ``activation-checkpoint:full`` chooses what is recomputed
(`torchtitan/config/manager.py` and `torchtitan/distributed/activation_checkpoint.py` of v0.3.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hardware.errors import InputError, nearest, shown
from hardware.reading import read_mapping
from simulator.launch.reading import WhatIsSaid, launch_file_of
from simulator.launch.record import LaunchFile
from simulator.launch.settings import LaunchSetting, LaunchSettings
from simulator.launch.shell.expansion import ShellWord
from simulator.launch.shell.options import devices_of, options_by_name, script_or_options
from simulator.launch.shell.script import Script, ShellCommand
from simulator.launch.tables import options_of
from simulator.launch.torchtitan.reading import meaning_of

_PROGRAM = re.compile(r"torchtitan\.train|(?:.*/)?torchtitan/train\.py|(?:.*/)?run_train\.sh")
_RUNNER = re.compile(r"(?:.*/)?run_train\.sh")
_RECOMPUTES = re.compile(r"activation[-_]checkpoint:([a-z-]+)")
_MODE, _OPERATORS = "activation_checkpoint.mode", "activation_checkpoint.selective_ac_option"
_OF_RUNNER = {"NGPU": "8", "MODULE": "llama3", "CONFIG": "llama3_debugmodel"}
"""Variables of `run_train.sh` and what it takes without them."""
_SHARED = "parallelism.enable_sequence_parallel"


def recognises(text: str) -> bool:
    """Whether a script, or a list of options, is for torchtitan."""
    plain = re.sub(r"(?m)^\s*#.*$", "", text)
    marks = r"torchtitan[./]train\b|run_train\.sh\b|--(?:parallelism|training)\.[a-z]"
    return bool(re.search(marks, plain)) or ("--module" in plain and "--config" in plain)


def read(text: str, path: str, devices: int | None = None) -> LaunchFile:
    """What a script says that starts torchtitan.

    Parameters
    ----------
    text
        The script.
    path
        Its file.
    devices
        Devices of the run, in the place of those that the script says.

    Raises
    ------
    InputError
        With file and line.
    """
    script = script_or_options(text, path)
    launcher, program, words = _command(script, path)
    said = dict(_settings(words, path))
    by_runner = program is not None and _RUNNER.fullmatch(program.text) is not None
    variables = {**_OF_RUNNER, **script.variables} if by_runner else {}
    _refuse_older(script, said, path)
    configuration, usual = _configuration(said, variables, path)
    settings = LaunchSettings({**usual, **said}, path, options_of("torchtitan-0.3"))
    _refuse_unknown(said)
    number = devices or (int(variables["NGPU"]) if by_runner and variables["NGPU"].isdigit() else None)
    number = number or devices_of(launcher, script.batch, path)
    assumed = list(script.assumed)
    meant = _meaning(settings, number, assumed, configuration.get("model"))
    assumed += [f"{told}: as the configuration has it" for told in settings.usual()]
    return launch_file_of("torchtitan-0.3", settings, meant, assumed)


def _command(script: Script, path: str) -> tuple[tuple[ShellWord, ...], ShellWord | None, tuple[ShellWord, ...]]:
    """The words before the program, the program, and those behind it, of the one command that starts torchtitan."""
    starts = [split for command in script.commands if (split := _split(command)) is not None]
    if not starts:
        raise InputError(f"{path}: starts no training of torchtitan; one has --module and --config, such as llama3_8b")
    if len(starts) > 1:
        line = starts[1][2][0].line if starts[1][2] else 1
        raise InputError(f"{path}:{line}: starts a second training; keep one command in the file")
    return starts[0]


def _split(command: ShellCommand) -> tuple[tuple[ShellWord, ...], ShellWord | None, tuple[ShellWord, ...]] | None:
    words = command.words
    at = next((index for index, word in enumerate(words) if _PROGRAM.fullmatch(word.text)), None)
    if at is not None:
        before = words[: at - 1] if at and words[at - 1].text == "-m" else words[:at]
        return before, words[at], words[at + 1 :]
    return ((), None, words) if words and words[0].text.startswith("--") else None


def _settings(words: Sequence[ShellWord], path: str) -> Iterator[tuple[str, LaunchSetting]]:
    """Options by the names of their settings, and what is recomputed."""
    options = [word for word in words if not _RECOMPUTES.fullmatch(word.text)]
    for option, entry in options_by_name(options, path).items():
        section, _, key = option[2:].rpartition(".")
        key, name = key.replace("-", "_"), section.replace("-", "_")
        off = not entry.value and key.startswith("no_")
        full = ".".join(part for part in (name, key[3:] if off else key) if part)
        yield full, LaunchSetting(full, False if off else entry.value, entry.place)
    for word in words:
        if chosen := _RECOMPUTES.fullmatch(word.text):
            yield from _recomputes(chosen[1], f"{path}:{word.line}")


def _recomputes(word: str, place: str, *, usual: bool = False) -> Iterator[tuple[str, LaunchSetting]]:
    """What is recomputed, by the names of the TOML; selective is of operators, because no other one is left."""
    yield _MODE, LaunchSetting(_MODE, word, place, usual)
    if word == "selective":
        yield _OPERATORS, LaunchSetting(_OPERATORS, "op", place, usual)


@cache
def _configurations() -> Mapping[str, Any]:
    return read_mapping(Path(__file__).parent / "configurations.yaml")


def _configuration(
    said: dict[str, LaunchSetting], variables: Mapping[str, str], path: str
) -> tuple[Mapping[str, Any], dict[str, LaunchSetting]]:
    """The configuration that is started, and what it sets."""
    names = []
    for key, variable in (("module", "MODULE"), ("config", "CONFIG")):
        entry = said.pop(key, None)
        word = entry.value[0] if entry is not None and entry.value else variables.get(variable)
        if word is None:
            raise InputError(f"{path}: --{key} is missing; add it, such as --module llama3 --config llama3_8b")
        names.append((word, path if entry is None else entry.place))
    (module, _), (name, place) = names
    known = _configurations().get(module.removeprefix("torchtitan.models."), {})
    if name not in known:
        every = [each for group in _configurations().values() for each in group]
        raise InputError(
            f"{place}: --config={name} of {module}: is none whose settings are known; capsim knows {', '.join(every)}"
        )
    settings = dict(known[name]["settings"])
    usual = dict(_recomputes(settings.pop("recompute"), path, usual=True))
    if _MODE in said:
        usual = {}
    return known[name], {**{key: LaunchSetting(key, value, path, True) for key, value in settings.items()}, **usual}


def _refuse_older(script: Script, said: Mapping[str, LaunchSetting], path: str) -> None:
    """Refuse commands of releases up to 0.2, which name a TOML."""
    entry = said.get("job.config_file")
    word = entry.value[0] if entry is not None and entry.value else script.variables.get("CONFIG_FILE")
    if word is not None:
        place = path if entry is None else entry.place
        raise InputError(f"{place}: starts {shown(word)}, a TOML of torchtitan up to 0.2; read that file instead")


def _refuse_unknown(said: Mapping[str, LaunchSetting]) -> None:
    """Refuse settings that torchtitan does not have, which it would refuse too."""
    known = options_of("torchtitan-0.3").known
    sections = {name.partition(".")[0] for name in known}
    for name, entry in said.items():
        if name in known or name in (_MODE, _OPERATORS):
            continue
        if name.partition(".")[0] in sections - {"optimizer", "loss"}:
            close = nearest(name, list(known), most=1)
            hint = f"did you mean --{close[0]}?" if close else "remove it"
            raise InputError(f"{entry.place}: --{name}: torchtitan has no such setting; {hint}")


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str], model: str | None) -> WhatIsSaid:
    """What settings mean; sequences are shared among tensor-parallel ranks unless told."""
    said = meaning_of(settings, devices, assumed, model)
    if settings.value(_SHARED) is not None and not settings.flag(_SHARED):
        return WhatIsSaid({**said.plan, "sequence_parallel": False}, said.workload, said.model, said.devices)
    return said
