"""Files of own runs: rows of the corpus' schema, scenarios with what was measured, or a table of either."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hardware.amounts import read_number
from hardware.errors import InputError, sentence, shown
from hardware.reading import build, parse_yaml, read_text
from simulator.corpus.mapping import MappedRun
from simulator.corpus.runs import MOST_BYTES, Run, read_row
from simulator.corpus.schema import Measured, RunHardware, RunModel, RunPlan, RunSource
from simulator.scenario.scenario import complete
from simulator.specs.loading import ScenarioFile, beside
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload

_BESIDE = ("id", "measured", "note")
"""What an own run tells beside its scenario."""
_ENDINGS = (".yaml", ".yml", ".csv")
_BARE = {
    **dict.fromkeys(Measured.model_fields, "measured"),
    **dict.fromkeys(Workload.model_fields, "workload"),
    **dict.fromkeys(Plan.model_fields, "plan"),
}
"""Parts of a scenario whose fields a table may name alone."""


@dataclass(frozen=True)
class OwnRuns:
    """Own runs: those in the words of the corpus, which rules read, and those that are scenarios already."""

    published: tuple[Run, ...]
    cases: tuple[MappedRun, ...]


def load(paths: Iterable[str | Path]) -> OwnRuns:
    """Read own runs from files, or from all files of folders.

    Parameters
    ----------
    paths
        YAML files with a run or a list of them, tables (CSV) with a header, or folders of such files. A row with
        ``hardware`` is in the schema of published runs; another is a scenario, with ``measured`` beside.

    Raises
    ------
    InputError
        With the file, the run, and what is wrong with it.
    """
    published: list[Run] = []
    cases: list[MappedRun] = []
    names: set[str] = set()
    for file in (each for path in paths for each in _files(Path(path))):
        for place, row in enumerate(_rows(file)):
            if _is_scenario(row):
                cases.append(_case(row, str(row.get("id") or f"{file.stem}-{place + 1}"), file))
            else:
                published.append(read_row(row, file, place))
            name = cases[-1].run.id if _is_scenario(row) else published[-1].id
            if name in names:
                raise InputError(f"{file}: run {shown(name)}: another run has this id; every id must be unique")
            names.add(name)
    return OwnRuns(tuple(published), tuple(cases))


def _is_scenario(row: Any) -> bool:
    """Whether a row is a scenario with what was measured, and none in the schema of published runs."""
    return isinstance(row, dict) and "hardware" not in row and ("system" in row or isinstance(row.get("model"), str))


def _files(path: Path) -> list[Path]:
    """The files of runs at a path."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
    if not files:
        raise InputError(f"{path}: holds no YAML files, nor tables (.csv)")
    return files


def _rows(path: Path) -> Iterator[Any]:
    """The runs of a file as they stand."""
    text = read_text(path, most_bytes=MOST_BYTES)
    if path.suffix == ".csv":
        yield from _table(text, path)
        return
    document = parse_yaml(text, str(path))
    if _is_scenario(document):
        document = [document]
    if not isinstance(document, list):
        raise InputError(f"{path}: must hold a list of runs")
    yield from document


def _table(text: str, path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a table as nested mappings; cells that are empty tell nothing."""
    reader = csv.reader(StringIO(text.lstrip("\ufeff")))
    head = [name.strip() for name in next(reader, [])]
    if not head or len(set(head)) < len(head) or "" in head or "model" not in {name.split(".")[0] for name in head}:
        raise InputError(
            f"{path}:1: must name each column once, model among them, such as model,system,devices,tp,step_time_s"
        )
    for line, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(head):
            raise InputError(f"{path}:{line}: has {len(cells)} cells; the header names {len(head)} columns")
        row: dict[str, Any] = {"id": f"{path.stem}-{line - 1}"}
        for name, cell in zip(head, cells, strict=True):
            if cell.strip():
                _put(row, name, cell.strip())
        yield row


def _put(row: dict[str, Any], name: str, cell: str) -> None:
    """Write a cell into the place that its column names, such as plan.tp, or tp alone."""
    *parts, last = name.split(".")
    if not parts and last in _BARE and last not in ScenarioFile.model_fields:
        parts = [_BARE[last]]
    for part in parts:
        row = row.setdefault(part, {})
    number = read_number(cell)
    row[last] = cell if number is None else number


def _case(row: Mapping[str, Any], name: str, path: Path) -> MappedRun:
    """A run that is a scenario with what was measured."""
    place = f"{path}: run {shown(name)}"
    measured = _measured(row.get("measured"), place)
    try:
        document = {key: value for key, value in row.items() if key not in _BESIDE}
        scenario = complete(beside(build(ScenarioFile, document), path))
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    run = Run(
        id=name,
        model=RunModel(name=scenario.model.id, seq_len=scenario.workload.sequence_length),
        hardware=RunHardware(device=scenario.system.device.id, devices=scenario.devices),
        plan=RunPlan(framework=scenario.stack.id, global_batch=scenario.workload.global_batch),
        measured=measured,
        source=RunSource(title="own", where=str(path), seen="primary"),
        collection=path.stem,
    )
    return MappedRun(
        run=run,
        model=scenario.model,
        workload=scenario.workload,
        system=scenario.system,
        devices=scenario.devices,
        plan=scenario.plan,
        stack=scenario.stack,
        assumed=scenario.assumed,
    )


def _measured(told: Any, place: str) -> Measured:
    """What was measured, of which the time of a step is what constants are fitted to."""
    if not isinstance(told, dict) or told.get("step_time_s") is None:
        raise InputError(f"{place}: measured.step_time_s is missing: give the time of one optimizer step in seconds")
    unknown = sorted(set(told) - set(Measured.model_fields))
    if unknown:
        raise InputError(f"{place}: unknown key 'measured.{unknown[0]}'; valid: {', '.join(Measured.model_fields)}")
    try:
        return Measured.model_validate(told)
    except ValidationError as error:
        raise InputError(f"{place}: measured.{sentence(error, lambda _: ())[0]}") from None
