"""Published runs: files of them, and the ones that are shipped."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hardware.errors import InputError, sentence, shown
from hardware.reading import parse_yaml, read_text
from simulator.corpus.schema import Run

SHIPPED = Path(__file__).with_name("runs.jsonl.gz")
MOST_BYTES = 50_000_000
"""The largest file of runs that is read."""


class RefusedError(Exception):
    """A run that is not priced: why, in few words that many runs share, and what exactly.

    Parameters
    ----------
    reason
        The kind of reason.
    detail
        What is wrong with this run.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


_RUNS = TypeAdapter(list[Run])


@cache
def shipped() -> tuple[Run, ...]:
    """The runs that come with the package."""
    lines = gzip.decompress(SHIPPED.read_bytes()).splitlines()
    return tuple(_RUNS.validate_json(b"[" + b",".join(lines) + b"]"))


def load(paths: Iterable[str | Path]) -> tuple[Run, ...]:
    """Read runs from files, or from all files of folders.

    Parameters
    ----------
    paths
        YAML files, each with a list of runs, or folders of such files.

    Raises
    ------
    InputError
        With the file and the id of the run.
    """
    runs_by_id: dict[str, Run] = {}
    for file, place, row in rows(paths):
        run = read_row(row, file, place)
        if run.id in runs_by_id:
            raise InputError(f"{file}: run {shown(run.id)}: another run has this id; every id must be unique")
        runs_by_id[run.id] = run
    return tuple(runs_by_id.values())


def rows(paths: Iterable[str | Path]) -> Iterator[tuple[Path, int, Any]]:
    """Every row of files, or of all files of folders: the file, the number of the row, and what stands there.

    Raises
    ------
    InputError
        Where a file holds no list.
    """
    for path in paths:
        for file in _files(Path(path)):
            for place, row in enumerate(_list(file)):
                yield file, place, row


def _files(path: Path) -> list[Path]:
    """The files of runs at a path."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
    if not files:
        raise InputError(f"{path}: holds no YAML files")
    return files


def _list(path: Path) -> list[Any]:
    """The rows of one file."""
    text = read_text(path, most_bytes=MOST_BYTES)
    document = _json_lines(text)
    if document is None:
        document = parse_yaml(text, str(path))
    if not isinstance(document, list):
        raise InputError(f"{path}: must hold a list of runs")
    return document


def _json_lines(text: str) -> list[Any] | None:
    """The rows of a list whose every line holds a row in JSON, which is read twenty times sooner; nothing of others."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    if not lines or not all(line.startswith("- {") for line in lines):
        return None
    try:
        return [json.loads(line[2:], object_pairs_hook=_without_repeats, parse_constant=_no_number) for line in lines]
    except (ValueError, RecursionError):  # whoever reads it as YAML tells what is wrong, and where
        return None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping, unless a key stands there twice."""
    if len(known := dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return known


def _no_number(word: str) -> float:
    """Refuse words that JSON does not have."""
    raise ValueError(word)


def read_row(row: Any, path: Path, place: int) -> Run:
    """Read one run of a file.

    Parameters
    ----------
    row
        As it stands there.
    path
        The file, whose name is that of the source.
    place
        Number of the row, which names one without an id.

    Raises
    ------
    InputError
        With the file and the id of the run.
    """
    try:
        return Run.model_validate({**row, "collection": path.stem} if isinstance(row, dict) else row)
    except ValidationError as error:
        name = row.get("id", place) if isinstance(row, dict) else place
        raise InputError(f"{path}: run {shown(name)}: {sentence(error, lambda _: ())[0]}") from None


def unknown_keys(runs: Iterable[Run]) -> Counter[str]:
    """Keys that the schema does not name, and how often each occurs."""
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(list(run.model_extra or ()))
        for part in ("model", "hardware", "plan", "measured", "source", "extra"):
            counts.update(f"{part}.{key}" for key in getattr(run, part).model_extra or ())
    return counts


def pack(runs: Iterable[Run]) -> bytes:
    """Runs in the form in which they are shipped: a line of JSON each, without what is not known, compressed."""
    lines = [run.model_dump_json(exclude_defaults=True) for run in runs]
    return gzip.compress("\n".join(lines).encode(), compresslevel=9, mtime=0)


def named(ids: Iterable[str]) -> tuple[Run, ...]:
    """Those of the shipped runs that have some ids, in the order of the ids.

    >>> [run.collection for run in named(["deepspeed-flopsprofiler-a100-b80", "none of ours"])]
    ['bert_deepspeed']
    """
    known = _by_id()
    return tuple(known[each] for each in ids if each in known)


def one_of(runs: Iterable[Run], the_id: str) -> Run:
    """The run of an id.

    Raises
    ------
    InputError
        Where none has it, with ids that are spelled alike.
    """
    known = {run.id: run for run in runs}
    if the_id not in known:
        alike = get_close_matches(the_id, known, n=3, cutoff=0.5)
        remedy = (
            f"did you mean {', '.join(alike)}?" if alike else "capsim validate --json lists the runs that are priced"
        )
        raise InputError(f"--explain={shown(the_id)}: no run has this id; {remedy}")
    return known[the_id]


@cache
def _by_id() -> dict[str, Run]:
    """The shipped runs by id."""
    return {run.id: run for run in shipped()}


def source_of(run: Run) -> dict[str, Any]:
    """Where a run comes from, for an answer."""
    return {"id": run.id, "title": run.source.title, "where": run.source.where}
