"""What is shown, as a program, a command and files: pure, without streamlit."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from dashboard.choices.scenario import BEST, arguments, fields, is_host
from dashboard.choices.state import Choices
from dashboard.choices.uploaded import MARK, file_of, title_of
from dashboard.content.answers import Answer, planned
from simulator import Estimate, MeasuredProfile

_OPTIONS = {"sequence_length": "seq-len", "target_length": "target-len"}
"""Options of the command line that are not called as their fields."""
_WIDTH = 100
"""Characters of a line of Python that is not broken."""


def as_call(function: str, keywords: Mapping[str, Any], *, indent: str = "") -> str:
    """A call of the public API as Python text, on one line where it is short.

    Parameters
    ----------
    function
        Such as ``simulator.estimate``.
    given
        What `dashboard.choices.scenario.arguments` says; model and system come first, without names.
    indent
        Before each line but the first.
    """
    rest = dict(keywords)
    parts = [_literal(rest.pop(name)) for name in ("model", "system") if name in rest]
    parts += [f"{name}={_literal(value)}" for name, value in rest.items()]
    short = f"{function}({', '.join(parts)})"
    if len(short) <= _WIDTH:
        return short
    lines = "".join(f"{indent}    {part},\n" for part in parts)
    return f"{function}(\n{lines}{indent})"


def _literal(value: Any) -> str:
    """A plain value as Python writes it, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(name)}: {_literal(inside)}" for name, inside in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return _literal(profile_file(value)) if isinstance(value, MeasuredProfile) else repr(value)


def profile_file(profile: MeasuredProfile) -> str:
    """What a profile that was uploaded is called in programs, commands and downloads."""
    return f"{profile.id}.yaml"


def as_python(choices: Choices) -> str:
    """A program that prints the answer to a scenario."""
    keywords = arguments(choices)
    if choices[BEST]:
        call = as_call("simulator.search", {**keywords, "top": 1})
        lines = [f"search = {call}", "answer = search.best[0]"]
    else:
        lines = [f"answer = {as_call('simulator.estimate', keywords)}"]
    shown = "print(answer.step_time_s, answer.mfu, answer.fits, answer.run.cost_usd)"
    return as_program(*lines, shown)


def as_program(*lines: str) -> str:
    """Lines of Python that ask the public API, as a program of their own."""
    return "\n".join(["import simulator", "", *lines])


def as_command(choices: Choices) -> str:
    """The command that prints the answer to a scenario."""
    command = "search" if choices[BEST] else "estimate"
    return " ".join(["capsim", command, *_words(choices), *(["--top", "1"] if choices[BEST] else [])])


def _words(choices: Choices) -> list[str]:
    """A scenario as words of a command line: the model, then options."""
    words = [shlex.quote(choices.text("model"))]
    for each in fields():
        value = choices[each.name]
        if value is None or each.name in ("model", BEST) or (each.name == "system" and is_host(str(value))):
            continue
        option = _OPTIONS.get(each.name, each.name.replace("_", "-"))
        if each.kind == "flag":
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            text = file_of(each.write(value)) if each.name == "profile" else each.write(value)
            words += [f"--{option}", shlex.quote(text)]
    return words


def scenario_words(choices: Choices) -> str:
    """Model and options of a scenario, for commands other than those of `as_command`."""
    return " ".join(_words(choices))


def as_yaml(choices: Choices, answer: Answer) -> str:
    """A scenario file that ``capsim estimate`` reads; a plan that was searched for is written down."""
    keywords = arguments(choices)
    if choices[BEST]:
        keywords["plan"] = {name: _plain(value) for name, value in planned(answer.estimate).items()}
        keywords["stack"] = answer.estimate.stack
    title = f"{choices.text('model')} on {title_of(choices.text('system'))}"
    plain = {name: _plain(value) for name, value in keywords.items() if value is not None}
    return yaml.safe_dump({"title": title, **plain}, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """A value that YAML writes plainly."""
    if isinstance(value, MeasuredProfile):
        return profile_file(value)
    return list(value) if isinstance(value, tuple) else value


def as_json(value: Any) -> str:
    """Plain values as JSON that any parser reads."""
    return json.dumps(value, indent=2, allow_nan=False)


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows with the same keys as comma-separated values."""
    listed = list(rows)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, fieldnames=list(listed[0]) if listed else [], lineterminator="\n")
    if listed:
        table.writeheader()
    table.writerows(listed)
    return text.getvalue()


def figures_of(estimate: Estimate) -> list[dict[str, Any]]:
    """The figures of an estimate, one a row, with their units."""
    run = estimate.run
    told: list[tuple[str, float | str | None, str]] = [
        ("model", estimate.model, ""),
        ("system", estimate.system, ""),
        ("devices", estimate.devices, ""),
        ("stack", estimate.stack, ""),
        *((f"plan.{name}", _word(value), "") for name, value in estimate.plan.items()),
        *((f"workload.{name}", value, "") for name, value in estimate.workload.items()),
        ("step_time", estimate.step_time_s, "s"),
        ("step_time_low", estimate.step_time_low_s, "s"),
        ("step_time_high", estimate.step_time_high_s, "s"),
        ("tokens_per_s", estimate.tokens_per_s, "1/s"),
        ("mfu", estimate.mfu, "1"),
        ("hfu", estimate.hfu, "1"),
        *((f"step.{name}", value, "s") for name, value in estimate.breakdown_s.items()),
        *((f"memory.{name}", value, "B") for name, value in estimate.memory_bytes.items()),
        ("memory_low", estimate.memory_low_bytes, "B"),
        ("memory_high", estimate.memory_high_bytes, "B"),
        ("fits", "yes" if estimate.fits else "no", ""),
        ("fits_probability", estimate.fits_probability, "1"),
        ("run.time", run.time_s, "s"),
        ("run.expected_time", run.expected_time_s, "s"),
        ("run.device_hours", run.device_hours, "h"),
        ("run.cost", run.cost_usd, "USD"),
        ("run.energy", run.energy_kwh, "kWh"),
        ("run.co2", run.co2_kg, "kg"),
    ]  # fmt: skip
    return [{"figure": name, "value": "" if value is None else value, "unit": unit} for name, value, unit in told]


def _word(value: Any) -> Any:
    """A value of a plan in one cell."""
    return "-".join(value) if isinstance(value, list | tuple) else value


def file_name(choices: Choices, ending: str, *, kind: str = "") -> str:
    """The name of a file that is downloaded: what it is of, then its ending."""
    parts = ["capsim", kind, choices.text("model"), choices.text("system").partition(MARK)[0]]
    return "-".join(part for part in parts if part) + ending
