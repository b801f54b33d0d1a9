"""Files are accepted by the frameworks' own classes, where these are installed: the extra ``launch-check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.launch import deepspeed
from simulator.launch.naming import stack_of
from simulator.launch.trainers import accelerate
from simulator.scenario.scenario import Scenario, resolve

_RUNS = [("bert-large", "dgx-a100-640gb", 8), ("llama-3-8b", "dgx-h100", 64), ("mixtral-8x7b", "dgx-h100", 64)]


def _scenario(framework: str, run: tuple[str, str, int], **plan: Any) -> Scenario:
    model, system, devices = run
    return resolve(model, system, devices=devices, stack=stack_of(framework), plan=plan)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sharding", ["none", "zero1", "zero2", "zero3"])
@pytest.mark.parametrize("run", _RUNS, ids=lambda run: run[0])
def test_deepspeed_takes_its_configuration(
    run: tuple[str, str, int], sharding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pytest.importorskip("deepspeed.runtime.config", exc_type=ImportError)
    scenario = _scenario("deepspeed", run, sharding=sharding, pp=1)
    document = json.loads(deepspeed.write(scenario).text)
    monkeypatch.setattr(config.dist, "get_world_size", lambda *_: scenario.plan.dp)
    monkeypatch.setattr(config.dist, "get_rank", lambda *_: 0)
    taken = config.DeepSpeedConfig(document)
    assert taken.train_batch_size == scenario.workload.global_batch
    assert taken.train_micro_batch_size_per_gpu == scenario.plan.micro_batch
    assert taken.zero_config.stage == ("none", "zero1", "zero2", "zero3").index(sharding)
    assert taken.optimizer_name == "adamw"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sharding", ["none", "zero1", "zero2", "zero3"])
@pytest.mark.parametrize("run", _RUNS, ids=lambda run: run[0])
def test_accelerate_takes_its_configuration(run: tuple[str, str, int], sharding: str, tmp_path: Path) -> None:
    arguments = pytest.importorskip("accelerate.commands.config.config_args", exc_type=ImportError)
    scenario = _scenario("accelerate", run, sharding=sharding, tp=1)
    path = tmp_path / "accelerate.yaml"
    path.write_text(accelerate.write(scenario).text)
    taken = arguments.load_config_from_file(str(path))
    assert taken.num_processes == scenario.devices
    assert taken.mixed_precision == "bf16"
    kinds = {"none": "MULTI_GPU", "zero1": "DEEPSPEED", "zero2": "FSDP", "zero3": "FSDP"}
    assert taken.distributed_type.value == kinds[sharding]
