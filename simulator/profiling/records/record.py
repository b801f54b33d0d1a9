"""What was measured, on what, with which versions: plain data that a killed run leaves readable.

A record is a file of JSON lines. The first line names the format, its version and the environment; every later line is
one result, or the environment of a run that went on with the file. `simulator.profiling.records.journal` reads, writes
and merges them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from hardware.sheet import NO_FLAG

FORMAT: Literal["capsim-record"] = "capsim-record"
VERSION: Literal[1] = 1

Phase = Literal[
    "launch",
    "copy",
    "gemm",
    "attention",
    "pointwise",
    "normalisation",
    "optimizer",
    "host_copy",
    "step",
    "collective",
]
Outcome = Literal["measured", "out_of_memory", "unsupported", "rejected"]
Dtype = Literal["none", "fp32", "tf32", "fp16", "bf16"]
Method = Literal["graph", "events", "process_time", "wall"]
"""Clock behind a time: device events around the replay of a graph of calls, device events around calls as the host
makes them, the processor time of this process, or the wall clock."""

Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=40)]
Short = Annotated[str, StringConstraints(max_length=120)]
Long = Annotated[str, StringConstraints(max_length=4000)]
Duration = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False), NO_FLAG]
Amount = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False), NO_FLAG]
Whole = Annotated[int, Field(ge=0, le=10**15), NO_FLAG]
Number = Annotated[int, Field(ge=1, le=10**9), NO_FLAG]
Moment = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False), NO_FLAG]


class Plain(BaseModel):
    """Data without behaviour; a key that is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Case(Plain):
    """What is measured; two results of equal cases are repetitions of each other."""

    phase: Phase
    operation: Key
    dimensions: Annotated[dict[Key, Whole], Field(max_length=12)] = {}
    """Sizes, such as m, n, k of a matrix product."""
    dtype: Dtype = "none"
    variant: Short = ""
    """Which kernel, library or model."""
    warm: bool = False
    """Whether the same buffers are used again and again, so that they lie in the last-level cache if they fit."""
    sustained: bool = False
    """Whether the call is repeated for seconds and timed at the clocks of long load."""

    @property
    def key(self) -> str:
        """Identity of the case."""
        sizes = ",".join(f"{name}={size}" for name, size in sorted(self.dimensions.items()))
        manner = f"{'w' * self.warm}{'s' * self.sustained}"
        return f"{self.phase}/{self.operation}/{sizes}/{self.dtype}/{self.variant}/{manner}"

    @property
    def words(self) -> str:
        """The case in words."""
        sizes = " ".join(f"{name}={size}" for name, size in self.dimensions.items())
        manner = [self.variant, "warm" * self.warm, "sustained" * self.sustained, self.dtype.replace("none", "")]
        return " ".join(word for word in (self.phase, self.operation, sizes, *manner) if word)


class CallTimes(Plain):
    """Times of one call [s] over repeated samples."""

    median: Duration
    lower_quartile: Duration
    upper_quartile: Duration
    least: Duration
    samples: Number
    """Samples that count."""
    repeats: Number = 1
    """Calls of one sample."""
    dropped: Whole = 0
    """Samples left out because they beat the device's peak."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.least <= self.lower_quartile <= self.median <= self.upper_quartile:
            raise ValueError("least, lower_quartile, median and upper_quartile must rise")
        return self


class State(Plain):
    """How the device was at one moment, as far as it tells."""

    clock_hz: Amount | None = None
    memory_clock_hz: Amount | None = None
    temperature_c: Annotated[float, Field(ge=-100, le=1000, allow_inf_nan=False), NO_FLAG] | None = None
    power_w: Amount | None = None
    throttled: tuple[Key, ...] = Field(default=(), max_length=16)
    """Why the device held its clock back."""


class Result(Plain):
    """The outcome of one case."""

    case: Case
    outcome: Outcome
    method: Method | None = None
    times: CallTimes | None = None
    """Times of one call on the device, without the host's share where a graph could be replayed."""
    eager: CallTimes | None = None
    """Times of one call as the host makes it, where `times` are of a graph."""
    host_s: Duration | None = None
    """Time the host needs to start one call."""
    parts: Annotated[dict[Key, CallTimes], Field(max_length=8)] = {}
    """Forward pass, backward pass and optimizer of a step."""
    model: dict[str, Any] | None = None
    """Architecture of the model of a step, as a model file has it, so that the record explains itself."""
    flops: Amount = 0.0
    """Arithmetic of one call [FLOP]."""
    bytes: Amount = 0.0
    """The least that one call moves [B]; of a collective, its message."""
    peak_memory_bytes: Amount | None = None
    reserved_memory_bytes: Amount | None = None
    state: State | None = None
    """In the middle of the measurement."""
    reason: Short = ""
    """Why nothing was measured."""
    at: Moment = 0.0
    """When it ended [s since 1970]."""
    took_s: Amount = 0.0
    """Time that measuring it cost."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.outcome == "measured") != (self.times is not None):
            raise ValueError(f"outcome={self.outcome}: times belong to what was measured, and only to that")
        if self.outcome != "measured" and not self.reason:
            raise ValueError(f"outcome={self.outcome} needs a reason")
        return self

    @property
    def weight(self) -> tuple[bool, float]:
        """What makes one of two results of a case the better: that it was measured, and its samples.

        On a CPU it is the faster one: other programs disturb in one direction only.
        """
        if self.times is None:
            return False, 0.0
        return True, -self.times.lower_quartile if self.method == "process_time" else float(self.times.samples)


class DeviceReport(Plain):
    """The device that ran."""

    kind: Literal["cuda", "cpu"]
    name: Short
    memory_bytes: Amount
    processors: Number
    """Streaming multiprocessors, or cores."""
    threads: Number = 1
    """Threads that computed, on a CPU."""
    cache_bytes: Amount | None = None
    """Last-level cache."""
    capability: Short | None = None
    catalogue: Short | None = None
    """The device's name in capsim's catalogue, where it is there."""
    clock_hz: Amount | None = None
    """The highest that it may run at."""
    memory_clock_hz: Amount | None = None
    power_limit_w: Amount | None = None
    error_correction: bool | None = None
    partitioned: bool | None = None
    """Whether it is cut into instances."""

    def same(self, other: DeviceReport) -> bool:
        """Whether results of both may stand in one record: the same kind of device, not the same card."""
        mine = (self.kind, self.name, self.processors, self.threads, self.partitioned or False)
        theirs = (other.kind, other.name, other.processors, other.threads, other.partitioned or False)
        return mine == theirs and abs(self.memory_bytes - other.memory_bytes) <= 0.05 * self.memory_bytes


class Software(Plain):
    """Versions of what ran."""

    python: Short
    torch: Short
    platform: Short = ""
    cuda: Short | None = None
    driver: Short | None = None
    cudnn: Short | None = None
    nccl: Short | None = None


class HostReport(Plain):
    """The machine around the device."""

    cpu: Short = ""
    cores: Whole = 0
    memory_bytes: Amount = 0.0


class World(Plain):
    """The ranks of collectives."""

    ranks: Number
    nodes: Number
    backend: Short


class Environment(Plain):
    """What results were measured on and with."""

    device: DeviceReport
    software: Software
    host: HostReport = HostReport()
    devices: Whole = 1
    """Devices that could be seen."""
    state: State | None = None
    """At the start."""
    other_processes: Whole | None = None
    """Processes that used the device at the start."""
    settings: Annotated[dict[Short, Short], Field(max_length=60)] = {}
    """Switches of the libraries, and environment variables that change how they run."""
    world: World | None = None
    topology: Long | None = None
    """How devices are wired, as the driver's tool prints it."""
    started: Moment
    """[s since 1970]."""


class Header(Plain):
    """The first line of a record."""

    format: Literal["capsim-record"] = FORMAT
    version: Annotated[Literal[1], NO_FLAG] = VERSION
    environment: Environment


class Again(Plain):
    """The line that begins the results of a later run."""

    environment: Environment


@dataclass(frozen=True)
class Session:
    """An environment, and what was measured in it."""

    environment: Environment
    results: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Record:
    """All that one file holds."""

    sessions: tuple[Session, ...]
    dropped: str = ""
    """What was left out of the last line, where a run was killed while it wrote."""

    @property
    def environment(self) -> Environment:
        """That of the first session; the device is the same in all."""
        return self.sessions[0].environment

    @property
    def results(self) -> tuple[Result, ...]:
        """Of all sessions."""
        return tuple(result for session in self.sessions for result in session.results)

    @property
    def best(self) -> dict[str, Result]:
        """The best result of each case, by the case's key."""
        return {result.case.key: result for result in better(self.results)}


def better(results: Iterable[Result]) -> Iterator[Result]:
    """Of results of the same case only the best, and of equally good ones the first."""
    best: dict[str, Result] = {}
    for result in results:
        key = result.case.key
        if key not in best or result.weight > best[key].weight:
            best[key] = result
    yield from best.values()


def line_of(data: Plain) -> str:
    """One line of a record; what is as usual is left out."""
    return data.model_dump_json(exclude_defaults=True, exclude={"format", "version"}) + "\n"


def first_line(environment: Environment) -> str:
    """The line that makes a file a record."""
    return f'{{"format":"{FORMAT}","version":{VERSION},{line_of(Again(environment=environment))[1:]}'


def document_kind(document: Any) -> type[Result] | type[Again]:
    """What a later line of a record holds."""
    return Again if isinstance(document, dict) and "environment" in document else Result
