"""Files of search winners are accepted by frameworks whose packages go into no one environment with others.

Each test says which package it needs; `docs/launching.md` says which were run. What these packages import beside their
configuration - kernels, networks, devices - is left out of the import where it needs a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import typing
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml

from simulator.launch.frameworks import written
from simulator.launch.shell.options import training_of
from simulator.scenario.scenario import Scenario
from tests.launch.winners import RUNS, winner

pytestmark = pytest.mark.filterwarnings("ignore")
_BERT, _LLAMA, _GPT, _MIXTRAL, _ = RUNS


def _document(scenario: Scenario, framework: str) -> dict[str, Any]:
    document = yaml.safe_load(written(scenario, framework).text)
    assert isinstance(document, dict)
    return document


def _without_gpus(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Modules that need a GPU, a network or a device are empty."""
    for name in modules:
        module = MagicMock(name=name, __version__="2.8.0", __spec__=None)
        monkeypatch.setitem(sys.modules, name, module)


def _megatron(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of Megatron's arguments, which comes with megatron-core 0.19 and later."""
    if not hasattr(typing, "override"):
        monkeypatch.setattr(typing, "override", lambda function: function, raising=False)
    torch = pytest.importorskip("torch")
    hopper = SimpleNamespace(major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: hopper)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    return pytest.importorskip("megatron.training.arguments", reason="needs megatron-core", exc_type=ImportError)


@pytest.mark.parametrize("run", [_BERT, _LLAMA, _GPT, _MIXTRAL], ids=lambda run: run[0])
def test_megatron_validates_its_arguments(run: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, scenario = _megatron(monkeypatch), winner("megatron-lm", run)
    started = training_of(written(scenario, "megatron-lm").text, "run.sh", ("--num-layers",))
    for name in ("CUDA_DEVICE_MAX_CONNECTIONS",):
        monkeypatch.delenv(name, raising=False)
        if name in started.script.variables:
            monkeypatch.setenv(name, started.script.variables[name])
    parser = argparse.ArgumentParser(allow_abbrev=False)
    arguments.add_megatron_arguments(parser)
    taken = parser.parse_args([word.text for word in started.options])
    taken.rank, taken.world_size = 0, scenario.devices
    arguments.validate_args(taken, {})
    taken.apply_rope_fusion = False  # a kernel of Transformer Engine
    config = arguments.core_transformer_config_from_args(taken)
    plan = scenario.plan
    assert taken.data_parallel_size == plan.dp
    assert (config.tensor_model_parallel_size, config.pipeline_model_parallel_size) == (plan.tp, plan.pp)
    assert (config.virtual_pipeline_model_parallel_size or 1) == plan.virtual_stages
    assert config.num_layers == scenario.model.layers
    assert taken.micro_batch_size == plan.micro_batch
    assert taken.global_batch_size == scenario.workload.global_batch
    assert taken.use_distributed_optimizer is (plan.sharding != "none")


@pytest.mark.parametrize("run", [_LLAMA, _GPT, _MIXTRAL], ids=lambda run: run[0])
def test_megatron_core_has_the_fields_of_bridge(run: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    _megatron(monkeypatch)
    scenario = winner("megatron-bridge", run)
    document = _document(scenario, "megatron-bridge")
    config = importlib.import_module("megatron.core.transformer.transformer_config").TransformerConfig
    sharing = importlib.import_module("megatron.core.distributed").DistributedDataParallelConfig
    optimizer = importlib.import_module("megatron.core.optimizer").OptimizerConfig
    model = document["model"]
    known = {field.name for field in fields(config)}
    assert set(model) - known <= _OF_PROVIDER
    plain = {name: value for name, value in model.items() if name in known and not isinstance(value, dict)}
    torch = importlib.import_module("torch")
    plain |= {"activation_func": torch_function(plain.get("activation_func")), "pipeline_dtype": torch.bfloat16}
    made = config(**plain)
    assert (made.num_layers, made.tensor_model_parallel_size) == (scenario.model.layers, scenario.plan.tp)
    assert sharing(**document["ddp"]).use_distributed_optimizer is (scenario.plan.sharding != "none")
    assert optimizer(**document["optimizer"]).optimizer == "adam"


_OF_PROVIDER = {
    *("vocab_size", "seq_length", "position_embedding_type", "share_embeddings_and_output_weights", "rotary_base"),
    *("rotary_percent", "should_pad_vocab", "make_vocab_size_divisible_by", "parallel_output", "attention_backend"),
    *("transformer_impl", "gradient_accumulation_fusion", "cross_entropy_loss_fusion", "rope_scaling"),
}
"""Fields of `GPTModelProvider` in megatron/bridge/models/gpt_provider.py of 0.6.2 beside those of its base."""


def torch_function(name: Any) -> Any:
    """An activation of torch by its name, as Bridge's files have it."""
    functional = importlib.import_module("torch.nn.functional")
    return getattr(functional, name) if isinstance(name, str) else functional.gelu


@pytest.mark.parametrize("run", [_LLAMA, _MIXTRAL], ids=lambda run: run[0])
def test_axolotl_takes_its_configuration(run: tuple[str, str, int]) -> None:
    schemas = pytest.importorskip("axolotl.utils.schemas.config", reason="needs axolotl", exc_type=ImportError)
    scenario = winner("axolotl", run)
    document = _document(scenario, "axolotl")
    assert set(document) <= set(schemas.AxolotlInputConfig.model_fields)
    taken = schemas.AxolotlInputConfig(**document)
    assert taken.micro_batch_size == scenario.plan.micro_batch
    assert taken.sequence_len == scenario.workload.sequence_length
    assert taken.fsdp_version == 2


@pytest.mark.parametrize("run", [_LLAMA, _MIXTRAL], ids=lambda run: run[0])
def test_llama_factory_takes_its_configuration(run: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    hparams = pytest.importorskip("llamafactory.hparams", reason="needs llamafactory", exc_type=ImportError)
    parser = importlib.import_module("transformers").HfArgumentParser
    scenario = winner("llama-factory", run)
    document = _document(scenario, "llama-factory")
    sharding = document.pop("deepspeed")  # names a file of its repository
    assert f"z{['none', 'zero1', 'zero2', 'zero3'].index(scenario.plan.sharding or 'none')}" in sharding
    kinds = ("Model", "Data", "Training", "Finetuning", "Generating")
    classes = [getattr(hparams, f"{kind}Arguments") for kind in kinds]
    model, data, training, tuning, _ = parser(classes).parse_dict({**document, "use_cpu": True})
    assert training.per_device_train_batch_size == scenario.plan.micro_batch
    assert training.bf16 is True
    assert data.cutoff_len == (scenario.workload.sequence_length or 0) - document["packing"]  # it takes one off itself
    assert (tuning.finetuning_type, tuning.stage) == ("full", "pt")
    assert model.disable_gradient_checkpointing is (scenario.plan.recompute == "none")


@pytest.mark.parametrize("run", [_LLAMA, _GPT, _MIXTRAL], ids=lambda run: run[0])
def test_maxtext_takes_its_configuration(run: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("maxtext") is None:
        pytest.skip("needs maxtext")
    utilities = ("gcs_utils", "max_utils", "elastic_utils")
    _without_gpus(monkeypatch, "flax", "flax.struct", *(f"maxtext.utils.{name}" for name in utilities))
    types = pytest.importorskip("maxtext.configs.types", exc_type=ImportError)
    scenario = winner("maxtext", run)
    document, folder = _document(scenario, "maxtext"), Path(types.__file__).parent
    assert set(document) <= set(types.MaxTextConfig.model_fields)
    layers = [folder / "base.yml", folder / "models" / f"{document['model_name']}.yml"]
    merged = {key: value for path in layers for key, value in yaml.safe_load(path.read_text()).items()} | document
    taken = types.MaxTextConfig(**{key: None if value == "None" else value for key, value in merged.items()})
    assert taken.per_device_batch_size == document["per_device_batch_size"]
    assert taken.max_target_length == scenario.workload.sequence_length
    assert taken.ici_tensor_parallelism * taken.ici_tensor_sequence_parallelism == scenario.plan.tp


@pytest.mark.parametrize("run", [_LLAMA, _MIXTRAL], ids=lambda run: run[0])
def test_nanotron_takes_its_configuration(
    run: tuple[str, str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("nanotron") is None:
        pytest.skip("needs nanotron of its repository")
    kernels: tuple[str, ...] = (
        "flash_attn_interface",
        "layers",
        "layers.rotary",
        "bert_padding",
        "ops",
        "ops.triton",
        "modules",
    )
    kernels += ("ops.triton.layer_norm", "ops.rms_norm", "modules.mha", "losses", "losses.cross_entropy")
    others = ("flash_attn", "ring_flash_attn", "triton", "triton.language", "grouped_gemm", "grouped_gemm.ops")
    _without_gpus(monkeypatch, *others, *(f"flash_attn.{name}" for name in kernels))
    config = pytest.importorskip("nanotron.config", exc_type=ImportError)
    scenario = winner("nanotron", run)
    path = tmp_path / "nanotron.yaml"
    path.write_text(written(scenario, "nanotron").text)
    taken = config.get_config_from_file(str(path), skip_unused_config_keys=False, skip_null_keys=False)
    plan, degrees = scenario.plan, taken.parallelism
    assert (degrees.dp, degrees.tp, degrees.pp) == (plan.dp, plan.tp, plan.pp)
    assert taken.optimizer.zero_stage == int(plan.sharding == "zero1")
    assert taken.tokens.micro_batch_size == plan.micro_batch
    assert taken.model.model_config.num_hidden_layers == scenario.model.layers
