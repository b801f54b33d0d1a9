"""Start commands: what each node of a run is told, taken apart as its launcher would."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from simulator.launch.frameworks import WRITERS, launchable, written
from simulator.launch.record import WrittenLaunch
from simulator.launch.starting import nodes_of
from simulator.scenario.scenario import resolve
from simulator.specs.loading import scenario_of

_SHARDING = {"megatron-lm": "zero1", "megatron-bridge": "zero1", "nanotron": "zero1"}


def _written(framework: str, devices: int, system: str = "dgx-h100") -> WrittenLaunch:
    plan = {"sharding": _SHARDING.get(framework, "zero3"), "micro_batch": 1, "tp": 1, "pp": 1, "cp": 1}
    work = {"sequence_length": 2048, "global_batch": 4 * devices, "steps": 100}
    file = scenario_of("llama-3-8b", system=system, devices=devices, plan=plan, workload=work)
    return written(launchable(file, framework), framework)


def _options(command: str) -> dict[str, str]:
    """Variables and options of a command by name, with words that stand apart from their option joined."""
    words, options = shlex.split(command), {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if equals:
            options[name.lstrip("-")] = value
        elif word.startswith("--") and not following.startswith("--"):
            options[word.lstrip("-")] = following
    return options


_RENDEZVOUS = {
    "nnodes": "8",
    "nproc_per_node": "8",
    "rdzv_backend": "c10d",
    "rdzv_endpoint": "$MASTER_ADDR:29500",
}
_SEVERAL: dict[str, dict[str, str]] = {
    "megatron-lm": {"MASTER_ADDR": "$MASTER_ADDR", "NODE_RANK": "$NODE_RANK"},
    "megatron-bridge": _RENDEZVOUS,
    "torchtitan": _RENDEZVOUS,
    "nanotron": _RENDEZVOUS,
    "axolotl": _RENDEZVOUS,
    "deepspeed": {"hostfile": "hostfile", "num_nodes": "8", "num_gpus": "8"},
    "accelerate": {"machine_rank": "$NODE_RANK", "main_process_ip": "$MASTER_ADDR", "main_process_port": "29500"},
    "llama-factory": {"NNODES": "8", "NODE_RANK": "$NODE_RANK", "MASTER_ADDR": "$MASTER_ADDR", "NPROC_PER_NODE": "8"},
    "maxtext": {"NNODES": "8", "NODE_RANK": "$NODE_RANK", "JAX_COORDINATOR_IP": "$MASTER_ADDR"},
}


@pytest.mark.parametrize("framework", WRITERS)
def test_every_node_is_told_how_many_there_are_and_where_they_meet(framework: str) -> None:
    made = _written(framework, 64)
    options = _options(made.command)
    assert options.items() >= _SEVERAL[framework].items()
    assert made.where.startswith("on the first of 8 nodes" if framework == "deepspeed" else "on each of 8 nodes")
    assert ("NODE_RANK" in made.where) == ("$NODE_RANK" in made.command)
    assert ("MASTER_ADDR" in made.where) == ("$MASTER_ADDR" in made.command)
    assert made.command in made.text, "the file says how it is started"
    assert made.where in made.text.replace('",\n    "', " ").replace("\n# ", " ")


@pytest.mark.parametrize("framework", WRITERS)
def test_one_node_is_told_nothing_of_others(framework: str) -> None:
    made = _written(framework, 8)
    assert made.where == ""
    for word in ("$", "rdzv", "hostfile", "nnodes", "machine_rank"):
        assert word not in made.command
    assert made.command in made.text


def test_the_script_of_megatron_meets_at_the_first_node() -> None:
    text = _written("megatron-lm", 64).text
    for line in ("GPUS_PER_NODE=8", "NUM_NODES=8", "NODE_RANK=${NODE_RANK:-0}", '--node_rank "$NODE_RANK"'):
        assert line in text


@pytest.mark.parametrize(("devices", "nodes"), [(8, (1, 8)), (4, (1, 4)), (64, (8, 8)), (12, (2, 6)), (9, (3, 3))])
def test_nodes_have_as_many_devices_each(devices: int, nodes: tuple[int, int]) -> None:
    plan: dict[str, Any] = {"tp": 1, "pp": 1, "cp": 1, "micro_batch": 1}
    work = {"sequence_length": 128, "global_batch": devices}
    scenario = resolve("gpt2-124m", "dgx-h100", devices=devices, stack="deepspeed", plan=plan, workload=work)
    assert nodes_of(scenario) == nodes


def test_deepspeed_under_accelerate_is_started_on_each_node() -> None:
    plan = {"sharding": "zero1", "micro_batch": 1, "tp": 1, "cp": 1}
    scenario = resolve("llama-3.2-1b", "dgx-h100", devices=16, stack="huggingface", plan=plan)
    assert "deepspeed_multinode_launcher: standard" in written(scenario, "accelerate").text


def test_a_file_under_another_name_says_that_name() -> None:
    made = _written("nanotron", 64).named("runs/mine.yaml")
    assert made.command.endswith("run_train.py --config-file runs/mine.yaml")
    assert made.command in made.text
    assert "llama-3-8b-nanotron.yaml" not in made.text
