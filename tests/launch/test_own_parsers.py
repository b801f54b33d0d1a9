"""Files of search winners are accepted by the frameworks' own classes, where these are: the extra ``launch-check``."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from simulator.launch import deepspeed
from simulator.launch.torchtitan import writing as torchtitan
from simulator.launch.torchtitan.stages import cut
from simulator.launch.trainers import accelerate
from tests.launch.winners import RUNS, winner

_SHARDINGS = ["none", "zero1", "zero2", "zero3"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sharding", _SHARDINGS)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run[0])
def test_deepspeed_takes_its_configuration(
    run: tuple[str, str, int], sharding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pytest.importorskip("deepspeed.runtime.config", exc_type=ImportError)
    scenario = winner("deepspeed", run, sharding)
    document = json.loads(deepspeed.write(scenario).text)
    monkeypatch.setattr(config.dist, "get_world_size", lambda *_: scenario.plan.dp)
    monkeypatch.setattr(config.dist, "get_rank", lambda *_: 0)
    taken = config.DeepSpeedConfig(document)
    assert taken.train_batch_size == scenario.workload.global_batch
    assert taken.train_micro_batch_size_per_gpu == scenario.plan.micro_batch
    assert taken.zero_config.stage == _SHARDINGS.index(sharding)
    assert taken.optimizer_name == "adamw"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("run", "sharding"),
    [  # GPT-3 without sharing has no plan at all: replicas that share nothing are not cut otherwise either
        pytest.param(run, sharding, id=f"{run[0]}-{sharding}")
        for run in RUNS
        for sharding in _SHARDINGS
        if (run[0], sharding) != ("gpt3-175b", "none")
    ],
)
def test_accelerate_takes_its_configuration(run: tuple[str, str, int], sharding: str, tmp_path: Path) -> None:
    arguments = pytest.importorskip("accelerate.commands.config.config_args", exc_type=ImportError)
    scenario = winner("accelerate", run, sharding)
    path = tmp_path / "accelerate.yaml"
    path.write_text(accelerate.write(scenario).text)
    taken = arguments.load_config_from_file(str(path))
    assert taken.num_processes == scenario.devices
    assert taken.num_machines == scenario.devices // 8
    assert taken.mixed_precision == "bf16"
    fsdp = "DEEPSPEED" if scenario.plan.offload_optimizer and sharding == "zero2" else "FSDP"
    assert taken.distributed_type.value == {"none": "MULTI_GPU", "zero1": "DEEPSPEED"}.get(sharding, fsdp)


def _configuration_of_torchtitan(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of its configuration, without the rest of the package, which needs kernels of a GPU."""
    known = importlib.util.find_spec("torchtitan")
    if known is None or known.submodule_search_locations is None:
        pytest.skip("torchtitan is not installed")
    package = ModuleType("torchtitan")
    package.__path__ = list(known.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "torchtitan", package)
    return pytest.importorskip("torchtitan.config.manager", exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sharding", ["zero2", "zero3"])
@pytest.mark.parametrize("run", [RUNS[1], ("llama-3-70b", "dgx-h100", 256), ("qwen3-30b-a3b", "dgx-h100", 64)])
def test_torchtitan_takes_its_configuration(
    run: tuple[str, str, int], sharding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = _configuration_of_torchtitan(monkeypatch)
    scenario = winner("torchtitan", run, sharding)
    path = tmp_path / "torchtitan.toml"
    path.write_text(torchtitan.write(scenario).text)
    taken = manager.ConfigManager().parse_args(["--job.config_file", str(path)])
    plan = scenario.plan
    degrees = taken.parallelism
    shards, replicas = degrees.data_parallel_shard_degree, degrees.data_parallel_replicate_degree
    assert (degrees.tensor_parallel_degree, degrees.pipeline_parallel_degree) == (plan.tp, plan.pp)
    assert shards * replicas * degrees.context_parallel_degree == (plan.dp or 1) * (plan.cp or 1)
    assert taken.training.seq_len == 2048
    assert taken.training.global_batch_size == scenario.workload.global_batch
    assert degrees.fsdp_reshard_after_forward == ("never" if sharding == "zero2" else "default")


_CUTS = [(32, 4, 1, 1), (32, 4, 0, 0), (96, 40, 1, 0), (48, 12, 0, 0), (94, 32, 1, 1), (126, 16, 1, 1), (32, 3, 2, 5)]


@pytest.mark.parametrize(("layers", "stages", "first", "last"), [*_CUTS, (32, 64, 1, 1), (32, 8, 9, 1), (3, 1, 1, 1)])
def test_torchtitan_cuts_stages_as_its_files_are_written(layers: int, stages: int, first: int, last: int) -> None:
    own = _stages_of_torchtitan()
    try:
        parts = own(stages, layers, first, last)
    except ValueError:
        assert cut(layers, stages, first, last) is None
        return
    assert cut(layers, stages, first, last) == tuple(sum(name.startswith("layers.") for name in part) for part in parts)


def _stages_of_torchtitan() -> Any:
    """Its function that cuts layers, taken out of a module whose other parts need kernels of a GPU."""
    known = importlib.util.find_spec("torchtitan")
    if known is None or known.submodule_search_locations is None:
        pytest.skip("torchtitan is not installed")
    source = Path(known.submodule_search_locations[0], "distributed", "pipeline_parallel.py").read_text()
    name = "generate_llm_fqn_per_model_part"
    functions: list[ast.stmt] = [
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and name in node.name
    ]
    scope: dict[str, Any] = {}
    exec(compile(ast.Module(functions, []), "pipeline_parallel.py", "exec"), scope)
    return next(scope[each] for each in scope if name in each)
