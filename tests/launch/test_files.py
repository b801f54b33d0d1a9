"""Files as people write them, five or more of each kind: what they say, what of them is refused, and their estimates.

What a file says was worked out by hand, in `expected.yaml` beside it, and not taken from what the reader returns.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from hardware.reading import read_mapping
from simulator.answers.estimate import answer
from simulator.launch.recognition import launch_file, with_model
from simulator.launch.record import LaunchFile
from simulator.scenario.scenario import Scenario, parameters_of, resolve

_FILES = Path(__file__).parent / "files"
_META = _FILES / "meta"
"""The sizes of models, which say nothing of a run."""
_OPTIONS = {"seq_len": "sequence_length", "global_batch": "global_batch"}
"""Options of the command line that are fields of a workload."""


@dataclass(frozen=True)
class _Written:
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


def _every() -> list[_Written]:
    return [
        _Written(path=folder / name, **said)
        for folder in sorted(_FILES.iterdir())
        if folder != _META
        for name, said in read_mapping(folder / "expected.yaml").items()
    ]


_EVERY = _every()
_REFUSED = [(file, change) for file in _EVERY for change in file.refused]


def test_there_are_five_of_each_kind_and_a_refusal_of_each_file() -> None:
    kinds = {file.path.parent.name for file in _EVERY}
    assert len(kinds) == 12
    for kind in kinds:
        files = [file for file in _EVERY if file.path.parent.name == kind]
        assert len(files) >= 5, kind
        assert {path.name for path in (_FILES / kind).iterdir()} >= {file.path.name for file in files}
        assert all(file.refused for file in files), kind


@pytest.mark.parametrize("file", _EVERY, ids=lambda file: file.name)
def test_a_file_says_what_stands_in_it(file: _Written) -> None:
    launched = file.read()
    document = launched.document(file.options.get("devices"))
    plan = {name: list(value) if isinstance(value, tuple) else value for name, value in document["plan"].items()}
    assert {name: plan.get(name) for name in file.plan} == dict(file.plan)
    work = {name: list(value) if isinstance(value, tuple) else value for name, value in document["workload"].items()}
    exact = [name for name in file.workload if name not in file.near]
    assert {name: work.get(name) for name in exact} == {name: file.workload[name] for name in exact}
    for name, share in file.near.items():
        assert work[name] == pytest.approx(file.workload[name], rel=share)
    assert document.get("devices") == (file.devices or file.options.get("devices"))
    assert file.stack is None or document["stack"] == file.stack
    if isinstance(file.model, Mapping):
        assert {name: document["model"].get(name) for name in file.model} == dict(file.model)
    elif file.model is not None:
        assert document["model"] == file.model
    for words in file.assumed:
        assert words in " ".join(launched.assumed)
    for words in file.ignored:
        assert words in " ".join(launched.ignored)


@pytest.mark.parametrize("file", _EVERY, ids=lambda file: file.name)
def test_a_file_is_estimated(file: _Written) -> None:
    estimate = answer(_scenario(file))
    assert 0.01 < estimate.step_time_s < 600.0
    assert 0.02 < estimate.mfu < 0.8
    assert sum(estimate.memory_bytes.values()) > 2**30


def _scenario(file: _Written) -> Scenario:
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


@pytest.mark.parametrize(
    ("file", "change"), _REFUSED, ids=[f"{file.name}-{change['says'][:40]}" for file, change in _REFUSED]
)
def test_what_matters_and_is_not_understood_is_refused(
    file: _Written, change: Mapping[str, Any], tmp_path: Path
) -> None:
    before, after = change["replace"]
    text = file.path.read_text()
    assert text.count(before) >= 1
    shutil.copytree(file.path.parent, tmp_path, dirs_exist_ok=True)
    path = tmp_path / file.path.name
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(InputError) as refused:
        file.read(path)
    said = str(refused.value)
    assert change["says"] in said
    assert said.startswith(f"{path}:")
    assert "\n" not in said


_SIZES = read_mapping(_META / "expected.yaml")


@pytest.mark.parametrize("name", _SIZES)
def test_the_sizes_that_meta_and_mistral_ship_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    shutil.copy(_META / name, path)
    model = simulator.load_model(path)
    scenario = resolve(model, "dgx-h100", devices=64, workload={"sequence_length": 2048})
    assert parameters_of(model, scenario.workload) == _SIZES[name]["parameters"]
    assert answer(scenario).step_time_s > 0.01
    before, after = _SIZES[name]["refused"]["replace"]
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(InputError) as refused:
        simulator.load_model(path)
    assert _SIZES[name]["refused"]["says"] in str(refused.value)
    assert str(path) in str(refused.value)
