"""Files as people write them, five or more of each kind: what they say, what of them is refused, and their estimates.

What a file says was worked out by hand, in `expected.yaml` beside it, and not taken from what the reader returns.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from hardware.reading import read_mapping
from simulator.answers.estimate import answer
from simulator.scenario.scenario import parameters_of, resolve
from tests.launch.examples import FILES, META, WRITTEN_FILES, WrittenFile, scenario_of

_REFUSED = [(file, change) for file in WRITTEN_FILES for change in file.refused]


def test_there_are_five_of_each_kind_and_a_refusal_of_each_file() -> None:
    kinds = {file.path.parent.name for file in WRITTEN_FILES}
    assert len(kinds) == 12
    for kind in kinds:
        files = [file for file in WRITTEN_FILES if file.path.parent.name == kind]
        assert len(files) >= 5, kind
        assert {path.name for path in (FILES / kind).iterdir()} >= {file.path.name for file in files}
        assert all(file.refused for file in files), kind


@pytest.mark.parametrize("file", WRITTEN_FILES, ids=lambda file: file.name)
def test_a_file_says_what_stands_in_it(file: WrittenFile) -> None:
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


@pytest.mark.parametrize("file", WRITTEN_FILES, ids=lambda file: file.name)
def test_a_file_is_estimated(file: WrittenFile) -> None:
    estimate = answer(scenario_of(file))
    assert 0.01 < estimate.step_time_s < 600.0
    assert 0.02 < estimate.mfu < 0.8
    assert estimate.memory_bytes["total"] > 2**30


@pytest.mark.parametrize(
    ("file", "change"), _REFUSED, ids=[f"{file.name}-{change['says'][:40]}" for file, change in _REFUSED]
)
def test_what_matters_and_is_not_understood_is_refused(
    file: WrittenFile, change: Mapping[str, Any], tmp_path: Path
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


_SIZES = read_mapping(META / "expected.yaml")


@pytest.mark.parametrize("name", _SIZES)
def test_the_sizes_that_meta_and_mistral_ship_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    shutil.copy(META / name, path)
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
