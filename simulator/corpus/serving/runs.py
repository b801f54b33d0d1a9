"""Published runs of serving: files of them, and the ones that are shipped."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hardware.errors import InputError, sentence, shown
from hardware.reading import read_mapping
from simulator.corpus import runs
from simulator.corpus.runs import Run
from simulator.corpus.serving.schema import ServingRun

SHIPPED = Path(__file__).with_name("runs.jsonl.gz")
LICENCES = Path(__file__).with_name("licences.yaml")
"""Which sources may be shipped, and the notice that each asks for."""
_RUNS = TypeAdapter(list[ServingRun])
_TASKS = ("generate", "prefill", "decode", "encode")


@cache
def shipped() -> tuple[ServingRun, ...]:
    """The runs that come with the package."""
    lines = gzip.decompress(SHIPPED.read_bytes()).splitlines()
    return tuple(_RUNS.validate_json(b"[" + b",".join(lines) + b"]"))


@cache
def licences() -> dict[str, dict[str, Any]]:
    """Licence and notice of each source by the name of its file."""
    return dict(read_mapping(LICENCES)["sources"])


def is_serving(row: Any) -> bool:
    """Whether a row of a file is a run of serving rather than of training."""
    return isinstance(row, dict) and (row.get("task") in _TASKS or "load" in row)


def load(paths: Iterable[str | Path]) -> tuple[tuple[Run, ...], tuple[ServingRun, ...]]:
    """Read runs of training and of serving from files, or from all files of folders.

    Parameters
    ----------
    paths
        YAML files, each with a list of runs of either kind, or folders of such files.

    Raises
    ------
    InputError
        With the file and the id of the run.
    """
    trained: dict[str, Run] = {}
    served: dict[str, ServingRun] = {}
    for file, place, row in runs.rows(paths):
        run = read_row(row, file, place) if is_serving(row) else runs.read_row(row, file, place)
        if run.id in trained or run.id in served:
            raise InputError(f"{file}: run {shown(run.id)}: another run has this id; every id must be unique")
        if isinstance(run, ServingRun):
            served[run.id] = run
        else:
            trained[run.id] = run
    return tuple(trained.values()), tuple(served.values())


def read_row(row: Any, path: Path, place: int) -> ServingRun:
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
        return ServingRun.model_validate({**row, "collection": path.stem})
    except ValidationError as error:
        raise InputError(f"{path}: run {shown(row.get('id', place))}: {sentence(error, lambda _: ())[0]}") from None


def unknown_keys(served: Iterable[ServingRun]) -> Counter[str]:
    """Keys that the schema does not name, and how often each occurs."""
    counts: Counter[str] = Counter()
    for run in served:
        counts.update(list(run.model_extra or ()))
        for part in ("model", "hardware", "plan", "load", "measured", "source"):
            counts.update(f"{part}.{key}" for key in getattr(run, part).model_extra or ())
    return counts


def pack(served: Iterable[ServingRun]) -> bytes:
    """Runs in the form in which they are shipped: a line of JSON each, without what is not known, compressed.

    Runs of sources whose licence does not allow it are left out, as are the words that only explain a run.
    """
    known = licences()
    lines = [
        run.model_dump_json(exclude_defaults=True, exclude={"note", "validation"})
        for run in served
        if run.collection in known and not run.is_suspect
    ]
    return gzip.compress("\n".join(lines).encode(), compresslevel=9, mtime=0)
