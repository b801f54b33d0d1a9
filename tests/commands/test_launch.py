"""``capsim launch``, ``capsim import`` and ``capsim estimate`` of launch files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import simulator
from hardware.reading import read_mapping
from simulator.launch.frameworks import WRITERS, written
from simulator.launch.naming import stack_of
from simulator.scenario.scenario import resolve
from tests.commands.conftest import Capsim, assert_one_sentence

_RUN = ("llama-3-8b", "--system", "dgx-h100", "--devices", "64")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_script_is_written_and_estimated_as_its_scenario(capsim: Capsim) -> None:
    plan = ("--tp", "2", "--pp", "2", "--micro-batch", "1", "--recompute", "full", "--stack", "megatron-lm")
    outcome = capsim("launch", *_RUN, *plan, "--to", "megatron-lm", "-o", "run.sh")
    assert (outcome.status, outcome.err) == (0, "")
    assert "run.sh: written for Megatron-LM" in outcome.out
    text = Path("run.sh").read_text()
    assert "capsim expects" in text
    assert "written by capsim" in text
    told = capsim("estimate", "run.sh", "--system", "dgx-h100", "--json").json
    straight = capsim("estimate", *_RUN, *plan, "--json").json
    assert told["plan"] == straight["plan"]
    assert told["step_time_s"] == straight["step_time_s"]
    assert told["memory_bytes"] == straight["memory_bytes"]
    assert told["launch_file"]["framework"] == "Megatron-LM"
    assert any("--hidden-size=4096" in line for line in told["launch_file"]["read"])


def test_what_was_read_assumed_and_ignored_is_printed(capsim: Capsim) -> None:
    capsim("launch", *_RUN, "--to", "deepspeed", "-o", "ds_config.json")
    shown = capsim("estimate", "ds_config.json", "--model", "llama-3-8b", "--system", "dgx-h100").out
    for word in ("ds_config.json, of DeepSpeed", "Read", "Assumed", "Ignored", "zero_optimization.stage"):
        assert word in shown


def test_import_writes_a_scenario_that_says_the_same(capsim: Capsim) -> None:
    capsim("launch", *_RUN, "--to", "nanotron", "-o", "run.yaml")
    outcome = capsim("import", "run.yaml", "--system", "dgx-h100", "-o", "scenario.yaml")
    assert outcome.status == 0
    assert "scenario.yaml: written; use it with capsim estimate scenario.yaml" in outcome.out
    assert read_mapping(Path("scenario.yaml"))["stack"] == "nanotron"
    told = capsim("estimate", "scenario.yaml", "--json").json
    straight = capsim("estimate", "run.yaml", "--system", "dgx-h100", "--json").json
    assert told["step_time_s"] == straight["step_time_s"]
    again = capsim("import", "run.yaml", "-o", "scenario.yaml")
    assert_one_sentence(again, "scenario.yaml: exists already; name another file by -o, or replace it by --force")


def test_options_replace_what_a_file_says(capsim: Capsim) -> None:
    capsim("launch", *_RUN, "--tp", "2", "--pp", "1", "--micro-batch", "1", "--to", "megatron-lm", "-o", "run.sh")
    run = ("estimate", "run.sh", "--system", "dgx-h100", "--json")
    assert capsim(*run, "--devices", "128").json["plan"]["dp"] == 64
    assert capsim(*run, "--recompute", "full").json["plan"]["recompute"] == "full"
    assert capsim(*run, "--pp", "4").json["plan"]["dp"] == 8
    assert capsim(*run, "--seq-len", "4096").json["workload"]["sequence_length"] == 4096


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("launch", *_RUN, "--to", "megatron"), ["unknown framework 'megatron'; did you mean megatron-lm"]),
        (("launch", *_RUN, "--to", "torchtitan", "--sharding", "zero1"), ["has no sharding=zero1"]),
        (("launch", "palm-62b", "--system", "dgx-h100", "--to", "megatron-lm"), ["Megatron-LM has no parallel"]),
        (("launch", *_RUN, "--to", "megatron-lm", "-o", "no/run.sh"), ["no/run.sh: cannot be written"]),
        (("import", "nothing.sh"), ["nothing.sh: cannot be read"]),
        (("import", "note.yaml"), ["note.yaml: is no launch file that is known"]),
        (("estimate", "bert-large", "--system", "dgx-h100", "--model", "x"), ["belongs to a launch file"]),
        (("estimate", "run.args", "--system", "dgx-h100"), ["run.args:3: tp=7 does not divide 16 attention heads"]),
        (("estimate", "evil.sh", "--system", "dgx-h100"), ["evil.sh:2: the command substitution $(touch pwned)"]),
        (("estimate", "loop.sh", "--system", "dgx-h100"), ["loop.sh:2: $EXTRA_ARGS has no value in the file"]),
        (("estimate", "ds.json", "--system", "dgx-h100"), ["does not say which model it trains; name it by --model"]),
        (("estimate", "other.toml", "--system", "dgx-h100"), ["other.toml: is no configuration of torchtitan"]),
    ],
)
def test_mistakes_are_one_sentence(capsim: Capsim, arguments: tuple[str, ...], fragments: list[str]) -> None:
    options = (
        "--num-layers 24 --hidden-size 1024 --num-attention-heads 16 --seq-length 512 --max-position-embeddings 512"
    )
    Path("run.args").write_text(
        f"{options}\n--vocab-size 50257 --micro-batch-size 1 --global-batch-size 8\n--tensor-model-parallel-size 7\n"
    )
    Path("evil.sh").write_text(
        f"#!/bin/bash\ntorchrun --nproc_per_node 8 pretrain_gpt.py {options} --seed $(touch pwned)\n"
    )
    Path("loop.sh").write_text(
        f"#!/bin/bash\ntorchrun --nproc_per_node 8 pretrain_gpt.py {options} --bf16 $EXTRA_ARGS\n"
    )
    Path("ds.json").write_text(json.dumps({"train_batch_size": 8, "zero_optimization": {"stage": 1}}))
    Path("other.toml").write_text("[tool]\nname = 1\n")
    Path("note.yaml").write_text("title: a note\n")
    assert_one_sentence(capsim(*arguments), *fragments)
    assert not Path("pwned").exists()


_WORK = ["--lora-rank 16", "--preference dpo --micro-batch 2", "--document-lengths 700", "--teacher llama-3-8b"]
_SAID = {(to, work) for to in ("axolotl", "llama-factory") for work in _WORK[:2]}


@pytest.mark.parametrize(("to", "work"), [(to, work) for to in WRITERS for work in _WORK if (to, work) not in _SAID])
def test_no_file_starts_another_run_than_was_priced(capsim: Capsim, to: str, work: str) -> None:
    outcome = capsim("launch", "llama-3-8b", "--system", "dgx-h100", *work.split(), "--to", to, "-o", "run")
    assert outcome.status == 2
    assert not Path("run").exists()


@pytest.mark.parametrize(("to", "work"), sorted(_SAID))
def test_adapters_and_preferences_are_written_and_estimated_alike(capsim: Capsim, to: str, work: str) -> None:
    run = ("llama-3-8b", "--system", "dgx-h100", "--devices", "8", "--sharding", "zero3", "--tp", "1", "--cp", "1")
    outcome = capsim("launch", *run, *work.split(), "--to", to, "-o", "run.yaml")
    assert outcome.status == 0, outcome.err
    told = capsim("estimate", "run.yaml", "--system", "dgx-h100", "--devices", "8", "--json").json
    straight = capsim("estimate", *run, *work.split(), "--stack", "huggingface", "--json").json
    assert {name: told["workload"][name] for name in straight["workload"]} == straight["workload"]
    assert told["trained_parameters"] == straight["trained_parameters"]
    assert told["step_time_s"] == straight["step_time_s"]


def test_work_that_a_file_does_not_say_is_refused_by_its_name(capsim: Capsim) -> None:
    lora = capsim("launch", "llama-3-8b", "--system", "rtx-3090", "--lora-rank", "8", "--to", "accelerate")
    assert_one_sentence(lora, "train=lora: a file of accelerate does not say it", "write it for axolotl")


def test_a_plan_that_does_not_fit_is_said_beside_its_command(capsim: Capsim) -> None:
    large = capsim("launch", "llama-3-8b", "--system", "rtx-3090", "--to", "axolotl", "-o", "large.yaml")
    assert "The plan does not fit in memory" in large.out
    small = capsim("launch", "llama-3-8b", "--system", "dgx-h100", "--to", "megatron-lm", "-o", "run.sh")
    assert small.status == 0
    assert "does not fit" not in small.out
    assert "base and scaling of rotary positions" in Path("run.sh").read_text()


_WINNERS = [
    ("bert-large", "dgx-a100-640gb", 8, ("megatron-lm", "deepspeed", "accelerate")),
    ("llama-3-8b", "dgx-h100", 64, tuple(WRITERS)),
    ("gpt3-175b", "superpod-a100", 1024, ("megatron-lm", "megatron-bridge", "deepspeed", "maxtext")),
    (
        "mixtral-8x7b",
        "dgx-h100",
        64,
        ("megatron-lm", "megatron-bridge", "deepspeed", "accelerate", "axolotl", "nanotron", "maxtext"),
    ),
]


@pytest.mark.parametrize(
    ("model", "system", "devices", "framework"),
    [(model, system, devices, name) for model, system, devices, frameworks in _WINNERS for name in frameworks],
)
def test_the_winner_of_a_search_has_a_launch_file(model: str, system: str, devices: int, framework: str) -> None:
    stack = stack_of(framework)
    plan = {"precision": "bf16", "optimizer": "adamw"} | ({"sharding": "zero3"} if framework == "torchtitan" else {})
    best = simulator.search(model, system, devices=devices, stack=stack, plan=plan, top=1).best[0]
    scenario = resolve(model, system, devices=devices, stack=stack, plan=best.plan)
    made = written(scenario, framework)
    assert "capsim expects" in made.text
    assert made.file_name in made.command
