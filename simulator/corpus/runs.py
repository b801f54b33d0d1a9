"""Published runs: the schema they come in, and the ones that are shipped."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from hardware.errors import InputError, sentence, shown
from hardware.reading import parse_yaml, read_text

SHIPPED = Path(__file__).with_name("runs.jsonl.gz")
_MOST_BYTES = 50_000_000
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


_NOT_GIVEN = re.compile(
    r"\s*(?:|-+|\?|n/?a|none|null|unknown|unstated|tbd|todo|not (?:re)?(?:stated|published|given|known)\b.*)\s*"
)
"""Words for a number or a flag that was not published."""
_YES = ("true", "yes", "on", "1", "1.0")
_NO = ("false", "no", "off", "0", "0.0")


def _as_words(value: Any) -> Any:
    """A flag or a number where words are usual, as words."""
    return str(value) if isinstance(value, bool | int | float) else value


def _not_given(value: Any) -> bool:
    """Whether a value says that there is none."""
    return isinstance(value, str) and _NOT_GIVEN.fullmatch(value.lower()) is not None


def _as_count(value: Any) -> Any:
    """A number, or nothing where words or a zero say that there is none: no quantity of a run is zero."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic turns only this into a sentence
    return None if _not_given(value) or (isinstance(value, int | float) and value == 0) else value


def _as_flag(value: Any) -> Any:
    """A flag, also where it is written in words."""
    if _not_given(value):
        return None
    words = str(value).strip().lower() if isinstance(value, str | int | float) else value
    return True if words in _YES else False if words in _NO else value


def _as_number(value: Any) -> Any:
    """A number as one, also where it is written as words."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value
    except OverflowError:
        raise ValueError("must be a number of fewer digits") from None


Words = Annotated[str, BeforeValidator(_as_words)]
"""Words, also where they look like a number."""
Free = Annotated[str | None, BeforeValidator(_as_words)]
"""Words of the source, in no fixed vocabulary."""
Given = Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_as_count)]
"""A number, where it was published."""
Duration = Annotated[Annotated[float, Field(ge=1e-9, le=1e9)] | None, BeforeValidator(_as_count)]
"""A time that a step may take [s]."""
Flag = Annotated[bool | None, BeforeValidator(_as_flag)]
"""A flag, where it was published."""
NumberOrWords = Annotated[float | str | None, BeforeValidator(_as_number)]
"""A number where one was published, or words."""


class RunPart(BaseModel):
    """A part of a run; unknown keys are kept, and reported."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, value: Any) -> Any:
        """Leave out what was not published."""
        return {name: part for name, part in value.items() if part is not None} if isinstance(value, dict) else value


class RunModel(RunPart):
    """The architecture, as far as it was published; names as in the schema of runs."""

    name: Words = ""
    family: Words = "gpt"
    layers: Given = None
    hidden: Given = None
    heads: Given = None
    kv_heads: Given = None
    head_dim: Given = None
    ffn: Given = None
    ffn_gated: Flag = None
    vocab: Given = None
    seq_len: Given = None
    params_b: Given = None
    computed_params_b: Given = None
    tied_embeddings: Flag = None
    learned_positions: Flag = None
    encoder_layers: Given = None
    decoder_layers: Given = None
    target_len: Given = None
    experts: Given = None
    experts_per_token: Given = None


class RunHardware(RunPart):
    """What it ran on; the two kinds of link are free words."""

    device: Words = ""
    devices: Given = None
    devices_per_node: Given = None
    intra: Free = None
    inter: Free = None
    slices: Given = None
    chips_per_slice: Given = None
    form_factor_stated: Flag = None


class RunPlan(RunPart):
    """How it was split, and by which software."""

    framework: Free = None
    precision: Free = None
    global_batch: Given = None
    micro_batch: Given = None
    dp: Given = None
    tp: Given = None
    pp: Given = None
    vpp: Given = None
    cp: Given = None
    ep: Given = None
    sequence_parallel: Flag = None
    sharding: Free = None
    recompute: Free = None
    flash_attention: Flag = None
    optimizer: Free = None
    grad_accum: Given = None
    peft: Free = None
    torch_compile: Free = None
    compiler: Free = None
    quantization: Free = None
    remat_policy: Free = None
    ici: Free = None
    dcn: Free = None
    zero1_group: Given = None
    amp: Free = None


class Measured(RunPart):
    """What was measured."""

    step_time_s: Duration = None
    step_time_from: Free = None
    tokens_per_s: Given = None
    samples_per_s: Given = None
    tflops_per_device: Given = None
    flops_convention: Free = None
    mfu: Given = None
    hfu: Given = None
    memory_gb: Given = None
    time_to_train_s: Given = None
    oom: Flag = None
    step_std_s: Given = None


class Extra(RunPart):
    """What only some sources tell."""

    effective_tokens_per_seq: NumberOrWords = None
    mlm_head_positions_per_seq: NumberOrWords = None
    input_mode: Free = None
    container: Free = None


class RunSource(RunPart):
    """Where it was published."""

    title: Words = ""
    where: Words = ""
    seen: Words = "unstated"


class Run(RunPart):
    """One published or locally measured run."""

    id: Words
    task: Words = "pretrain"
    model: RunModel
    hardware: RunHardware
    plan: RunPlan = RunPlan()
    measured: Measured = Measured()
    source: RunSource = RunSource()
    extra: Extra = Extra()
    note: Words = ""
    suspect: Free = None
    collection: str = ""
    """The file that it stands in, which is the unit that cross-validation leaves out."""


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
    found: dict[str, Run] = {}
    for path in paths:
        for file in _files(Path(path)):
            for run in _read(file):
                if run.id in found:
                    raise InputError(f"{file}: run {shown(run.id)}: another run has this id; every id must be unique")
                found[run.id] = run
    return tuple(found.values())


def _files(path: Path) -> list[Path]:
    """The files of runs at a path."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
    if not files:
        raise InputError(f"{path}: holds no YAML files")
    return files


def _read(path: Path) -> Iterator[Run]:
    """Read one file of runs."""
    document = parse_yaml(read_text(path, most_bytes=_MOST_BYTES), str(path))
    if not isinstance(document, list):
        raise InputError(f"{path}: must hold a list of runs")
    for place, row in enumerate(document):
        try:
            yield Run.model_validate({**row, "collection": path.stem} if isinstance(row, dict) else row)
        except ValidationError as error:
            name = row.get("id", place) if isinstance(row, dict) else place
            raise InputError(f"{path}: run {shown(name)}: {sentence(error, lambda _: ())[0]}") from None


def unknown_keys(runs: Iterable[Run]) -> Counter[str]:
    """Keys that the schema does not name, and how often each occurs."""
    found: Counter[str] = Counter()
    for run in runs:
        found.update(list(run.model_extra or ()))
        for part in ("model", "hardware", "plan", "measured", "source", "extra"):
            found.update(f"{part}.{key}" for key in getattr(run, part).model_extra or ())
    return found


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


@cache
def _by_id() -> dict[str, Run]:
    """The shipped runs by id."""
    return {run.id: run for run in shipped()}


def source_of(run: Run) -> dict[str, Any]:
    """Where a run comes from, for an answer."""
    return {"id": run.id, "title": run.source.title, "where": run.source.where}
