"""Launch files under whatever name: what they are is told by what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hardware.errors import InputError
from simulator.launch.frameworks import written
from simulator.launch.kinds import kind_of_text
from simulator.launch.naming import stack_of
from simulator.launch.recognition import imported, launch_file
from simulator.scenario.scenario import resolve

_SHARDING = {"megatron-lm": "zero1", "megatron-bridge": "zero1", "nanotron": "zero1"}
_FRAMEWORKS = (
    *("megatron-lm", "megatron-bridge", "deepspeed", "torchtitan", "accelerate", "axolotl", "llama-factory"),
    *("nanotron", "maxtext"),
)


@pytest.mark.parametrize("name", ["run.txt", "run", "run.conf", "run.TXT"])
@pytest.mark.parametrize("framework", _FRAMEWORKS)
def test_a_file_is_known_by_what_it_holds(framework: str, name: str, tmp_path: Path) -> None:
    plan = {"sharding": _SHARDING.get(framework, "zero3"), "micro_batch": 1, "tp": 1, "pp": 1, "cp": 1}
    scenario = resolve("llama-3-8b", "dgx-h100", devices=8, stack=stack_of(framework), plan=plan)
    made = written(scenario, framework)
    usual, other = tmp_path / made.file_name.replace("maxtext.yml", "maxtext.yaml"), tmp_path / name
    usual.write_text(made.text)
    other.write_text(made.text)
    expected, launched = launch_file(usual, 8), launch_file(other, 8)
    assert expected is not None
    assert launched is not None
    assert (launched.framework, launched.document()) == (expected.framework, expected.document())
    assert launched.read == expected.read, "with the same lines"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("--num-layers 24 --hidden-size 1024\n", "script"),
        ("# options\n--num-layers 24\n", "script"),
        ("torchrun --nproc_per_node 8 pretrain_gpt.py --bf16 \\\n", "script"),
        ("#!/usr/bin/env bash\nset -e\n", "script"),
        ("\n  {\n", "json"),
        ("# made by hand\n[model]\nname = 'llama3'\n", "toml"),
        ("# made by hand\nbase_model: x\n", "yaml"),
        ("base_model: x\n# start: axolotl train x --launcher torchrun\n", "yaml"),
        ("model:\n  layers: [1, 2]\n", "yaml"),
        ("A plain sentence: it has none.\n", None),
        ("", None),
    ],
)
def test_how_a_text_is_written(text: str, kind: str | None) -> None:
    assert kind_of_text(text) == kind


def test_errors_in_a_file_without_an_ending_name_its_line(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    path.write_text(json.dumps({"train_batch_size": 8, "zero_optimization": {"stage": 7}}, indent=1))
    with pytest.raises(InputError, match=r"settings:4: zero_optimization.stage=7: must be 0, 1, 2 or 3"):
        imported(path, model="llama-3-8b")


def test_a_file_of_something_else_is_no_launch_file(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("Buy milk.\n")
    assert launch_file(path) is None
    with pytest.raises(InputError, match=r"note.txt: is no launch file that is known"):
        imported(path)
    with pytest.raises(InputError, match="cannot be read"):
        imported(tmp_path / "nothing.txt")
