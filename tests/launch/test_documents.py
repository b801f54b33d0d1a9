"""Launch files that are data: what is written is read back as the same plan and workload."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from simulator.launch import deepspeed, saying
from simulator.launch.documents import document_of
from simulator.launch.naming import stack_of
from simulator.launch.recognition import imported, launch_file
from simulator.launch.saying import LaunchNotes
from simulator.launch.tables import options_of
from simulator.launch.torchtitan import writing as torchtitan
from simulator.launch.torchtitan.words import MODELS
from simulator.scenario.scenario import Scenario, resolve
from simulator.specs.loading import load_stack
from tests.launch.drawing import compared, read_back, scenarios
from tests.thorough import cases

_DENSE = ("llama-3-8b", "gpt3-175b", "mixtral-8x7b", "gpt2-124m")


@pytest.fixture(autouse=True)
def _without_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    def notes(scenario: Scenario, framework: str, release: str, unsaid: list[str]) -> LaunchNotes:
        return LaunchNotes((), tuple(unsaid))

    monkeypatch.setattr(saying, "notes_of", notes)


def _again(module: ModuleType, scenario: Scenario, tmp_path: Path, ending: str, **changes: Any) -> Scenario:
    """A scenario written and read back; what the file does not say is taken from the scenario."""
    path = tmp_path / f"run{ending}"
    path.write_text(module.write(scenario).text)
    launched = imported(path, model=scenario.model.id)
    plan = {**launched.document()["plan"], **changes.pop("plan", {})}
    workload = {**launched.document()["workload"], **changes.pop("workload", {})}
    return read_back(launched, scenario, plan=plan, workload=workload)


def test_deepspeed_reads_back_what_it_writes(tmp_path: Path) -> None:
    for scenario in scenarios("deepspeed", _DENSE, cases(usual=120, thorough=500)):
        plan, work = scenario.plan, scenario.workload
        unsaid: dict[str, Any] = {"recompute": plan.recompute} if plan.pp == 1 else {}
        if plan.precision == "tf32":
            unsaid["precision"] = "tf32"
        if plan.sharding == "zero1" and plan.sharding_group is not None:
            unsaid["sharding_group"] = plan.sharding_group
        told = {"sequence_length": work.sequence_length, "steps": work.steps}
        again = _again(deepspeed, scenario, tmp_path, ".json", plan=unsaid, workload=told)
        assert compared(again.plan) == compared(plan)
        assert again.workload.model_dump() == work.model_dump()
        assert again.devices == scenario.devices


_TORCHTITAN = {
    "optimizer": ("adamw",),
    "precision": ("bf16", "fp8", "fp32"),
    "sharding": ("none", "zero2", "zero3", "hybrid"),
    "recompute": ("none", "operators", "full"),
}


def test_torchtitan_reads_back_what_it_writes(tmp_path: Path) -> None:
    stack = stack_of("torchtitan")
    made = 0
    for scenario in scenarios(stack, tuple(MODELS)[:5], cases(usual=180, thorough=760), only=_TORCHTITAN):
        plan = scenario.plan
        if (
            plan.precision in ("fp16", "tf32")
            or plan.optimizer != "adamw"
            or plan.sharding == "zero1"
            or _other_name(scenario)
        ):
            continue
        made += 1
        stored = {"gradients_in_fp32": plan.gradients_in_fp32, "reduction_in_fp32": plan.reduction_in_fp32}
        again = _again(torchtitan, scenario, tmp_path, ".toml", plan=stored)
        assert compared(again.plan) == compared(plan)
        assert again.workload.model_dump() == scenario.workload.model_dump()
    assert made >= cases(usual=120, thorough=500)


def test_every_plan_of_a_search_has_a_file_of_torchtitan(tmp_path: Path) -> None:
    run: dict[str, Any] = {"devices": 64, "stack": "torchtitan", "workload": {"sequence_length": 4096}}
    outcome = simulator.search("qwen3-30b-a3b", "dgx-h100", plan={"pp": 4, "precision": "bf16"}, top=20, **run)
    chunks = set()
    for estimate in outcome.best:
        scenario = resolve("qwen3-30b-a3b", "dgx-h100", plan=estimate.plan, **run)
        again = _again(torchtitan, scenario, tmp_path, ".toml")
        assert compared(again.plan) == compared(scenario.plan)
        chunks.add(scenario.plan.virtual_stages)
    assert {2, 3} <= chunks, "chunks that torchtitan's own counts of layers would not make"


@pytest.mark.parametrize(
    ("plan", "less"),
    [
        ({"pp": 4}, (0, 0)),
        ({"pp": 4, "first_stage_layers": 8, "last_stage_layers": 7}, (1, 1)),
        ({"pp": 4, "first_stage_layers": 7, "last_stage_layers": 7}, (2, 1)),
    ],
)
def test_stages_of_torchtitan_hold_what_was_priced(plan: dict[str, int], less: tuple[int, int], tmp_path: Path) -> None:
    fields = {**plan, "micro_batch": 1, "sharding": "zero3"}
    scenario = resolve("llama-3-8b", "dgx-h100", devices=16, stack="torchtitan", plan=fields)
    section = tomllib.loads(torchtitan.write(scenario).text)["parallelism"]
    assert (section[f"{_LESS}first_stage_less_layers"], section[f"{_LESS}last_stage_less_layers"]) == less
    assert compared(_again(torchtitan, scenario, tmp_path, ".toml").plan) == compared(scenario.plan)


_LESS = "pipeline_parallel_"


def test_stages_that_torchtitan_cannot_cut_are_refused() -> None:
    fields = {"pp": 4, "first_stage_layers": 20, "micro_batch": 1, "sharding": "zero3"}
    scenario = resolve("llama-3-8b", "dgx-h100", devices=16, stack="torchtitan", plan=fields)
    with pytest.raises(InputError, match="torchtitan has no stages of 20, 4, 4, 4 layers; choose other"):
        torchtitan.write(scenario)


def _other_name(scenario: Scenario) -> bool:
    """Whether a plan means what another one says: nothing shared by one replica."""
    plan = scenario.plan
    return plan.dp == 1 or (plan.sharding == "hybrid" and plan.sharding_group in (1, plan.dp))


@pytest.mark.parametrize(
    ("plan", "told", "lost"),
    [
        ({"sharding": "zero3"}, True, False),
        ({"sharding": "zero3", "reduction_in_fp32": False}, True, True),  # torchtitan reduces in fp32 whatever is asked
        ({"sharding": "none"}, None, False),
    ],
)
def test_what_torchtitan_cannot_say_of_reductions_is_listed(
    tmp_path: Path, plan: dict[str, Any], told: bool | None, lost: bool
) -> None:
    scenario = resolve("llama-3-8b", "dgx-h100", devices=8, stack=stack_of("torchtitan"), plan=plan)
    made = torchtitan.write(scenario)
    assert 'mixed_precision_reduce = "float32"' in made.text
    assert any(text.startswith("reduction_in_fp32=False: ") for text in made.unsaid) == lost
    path = tmp_path / "run.toml"
    path.write_text(made.text)
    assert imported(path).plan.get("reduction_in_fp32") == told


def test_every_key_is_one_of_torchtitan(tmp_path: Path) -> None:
    scenario = resolve("llama-3-8b", "dgx-h100", devices=64, stack=stack_of("torchtitan"))
    document = tomllib.loads(torchtitan.write(scenario).text)
    keys = {f"{section}.{key}" for section, values in document.items() for key in values}
    assert len(keys) > 20
    assert keys <= set(options_of("torchtitan").known)


_DEEPSPEED = {
    "train_batch_size": 256,
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 4,
    "bf16": {"enabled": True},
    "zero_optimization": {"stage": 2, "overlap_comm": True, "reduce_bucket_size": 5e8},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, {"sharding": "zero2", "micro_batch": 4, "precision": "bf16", "optimizer": "adamw"}),
        ({"fp16": {"enabled": True}, "bf16": {"enabled": False}}, {"precision": "fp16"}),
        ({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}, {"offload_optimizer": True}),
        ({"tensor_parallel": {"autotp_size": 2}}, {"tp": 2}),
        ({"pipeline": {"stages": 2, "activation_checkpoint_interval": 1}}, {"pp": 2, "recompute": "full"}),
        ({"data_types": {"grad_accum_dtype": "fp32"}}, {"gradients_in_fp32": True}),
        ({"train_micro_batch_size_per_gpu": "auto"}, {"sharding": "zero2"}),
    ],
)
def test_keys_of_deepspeed_become_fields(tmp_path: Path, changes: dict[str, Any], fields: dict[str, Any]) -> None:
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps({**_DEEPSPEED, **changes}))
    launched = imported(path, model="llama-3-8b")
    assert {name: launched.plan[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zero_optimization": {"stage": 5}}, "zero_optimization.stage=5: must be 0, 1, 2 or 3"),
        ({"zero_optimization": {"stage": 3, "zero_quantized_weights": True}}, "is a part of ZeRO++"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}, "offloads parameters"),
        (
            {"compression_training": {"weight_quantization": {"x": 1}}},
            "may change time or memory and is not understood",
        ),
        ({"train_batch_size": 255}, "is no multiple of 4 sequences x 4 accumulation steps"),
        ({"optimizer": {"type": "OneBitAdam"}}, "is not understood; capsim reads adam"),
    ],
)
def test_what_deepspeed_says_and_capsim_does_not_price_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps({**_DEEPSPEED, **changes}, indent=1))
    with pytest.raises(InputError) as refused:
        imported(path, model="llama-3-8b")
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"{path}:")


def test_a_configuration_without_a_model_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps(_DEEPSPEED))
    with pytest.raises(InputError, match="does not say which model it trains; name it by --model"):
        imported(path)
    assert imported(path, model="llama-3-8b").document()["devices"] == 16


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    assert launch_file(path) is None
    assert document_of(path) == {"model_type": "llama", "hidden_size": 64}
    assert load_stack(stack_of("deepspeed")).id == "deepspeed"
