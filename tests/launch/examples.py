"""Files as people write them, in `files`, with what each says: worked out by hand, in `expected.yaml` beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardware.reading import read_mapping
from simulator.launch.recognition import launch_file, with_model
from simulator.launch.record import LaunchFile
from simulator.scenario.scenario import Scenario, resolve

FILES = Path(__file__).parent / "files"
META = FILES / "meta"
"""The sizes of models, which say nothing of a run."""
_OPTIONS = {"seq_len": "sequence_length", "global_batch": "global_batch"}
"""Options of the command line that are fields of a workload."""


@dataclass(frozen=True)
class WrittenFile:
    """A file with what it says."""

    path: Path
    plan: Mapping[str, Any]
    workload: Mapping[str, Any]
    devices: int | None = None
    model: Any = None
    stack: str | None = None
    system: str = "dgx-h100"
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[Mapping[str, Any], ...] = ()
    near: Mapping[str, float] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    def read(self, path: Path | None = None) -> LaunchFile:
        """What it says, with the model that somebody names beside it."""
        launched = launch_file(path or self.path, self.options.get("devices"))
        assert launched is not None, "it is known as a launch file"
        return with_model(launched, self.options["model"]) if "model" in self.options else launched


def _every() -> list[WrittenFile]:
    return [
        WrittenFile(path=folder / name, **said)
        for folder in sorted(FILES.iterdir())
        if folder != META
        for name, said in read_mapping(folder / "expected.yaml").items()
    ]


WRITTEN_FILES = _every()


def scenario_of(file: WrittenFile) -> Scenario:
    """The scenario of a file on a system, with what the command line says beside it."""
    document = file.read().document(file.options.get("devices"))
    plan, work = dict(document["plan"]), dict(document["workload"])
    for option, value in file.options.items():
        if option in _OPTIONS:
            work[_OPTIONS[option]] = value
        elif option not in ("model", "devices"):
            plan[option] = value
    return resolve(
        document["model"],
        file.system,
        devices=document["devices"],
        plan=plan,
        stack=document["stack"],
        workload=work,
    )
