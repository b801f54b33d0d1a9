"""Configurations of nanotron: YAML with the model in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import (
    FrameworkFile,
    in_yaml,
    lacks,
    micro_batches_of,
    steps_of,
    unsaid_form,
    written_launch,
)
from simulator.launch.settings import LaunchSettings
from simulator.launch.starting import torchrun
from simulator.launch.tables import options_of
from simulator.scenario.scenario import Scenario
from simulator.specs.model import Model

_CONFIG = "model.model_config."
_EXPERTS = f"{_CONFIG}moe_config."


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of nanotron."""
    model = document.get("model")
    return isinstance(model, Mapping) and "model_config" in model


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for nanotron.

    Raises
    ------
    InputError
        Where nanotron cannot build the model or run the plan.
    """
    _refuse_model(scenario.model)
    command = f"CUDA_DEVICE_MAX_CONNECTIONS=1 {torchrun(scenario, 'run_train.py --config-file {name}')}"
    text = in_yaml(_settings, scenario)
    return written_launch(scenario, FrameworkFile("nanotron", "nanotron.yaml", command, text, _unsaid(scenario)))


def _refuse_model(model: Model) -> None:
    """Refuse an architecture that is neither Llama's nor Qwen's."""
    llama_like = (
        model.kind == "decoder"
        and model.objective == "causal"
        and (model.feed_forward, model.activation, model.normalisation) == ("gated", "silu", "rmsnorm")
        and (model.positions, model.block, model.norm_position) == ("rotary", "serial", "pre")
    )
    if not llama_like or set(model.biases) - {"qkv"} or model.shared_layers or model.window_pattern or model.dropout:
        raise lacks("nanotron", f"model of the form of {model.id}", "it builds models of the form of Llama and Qwen")
    if model.experts > 1 and (model.expert_period > 1 or model.dense_layers_first or model.shared_experts > 1):
        raise lacks(
            "nanotron", "dense layers between those with experts in this reader's terms", "choose another framework"
        )
    if model.key_value_rank is not None:
        raise lacks("nanotron", f"latent attention (of {model.id})", "choose another framework")
    if model.head_size is not None and model.head_size * model.attention_heads != model.hidden_size:
        raise lacks("nanotron", f"head_size={model.head_size} beside hidden_size={model.hidden_size}", "change one")


def _settings(scenario: Scenario) -> dict[str, Any]:
    """All keys."""
    table, plan, work = options_of("nanotron"), scenario.plan, scenario.workload
    return {
        "general": {"project": "capsim", "run": scenario.model.id, "seed": 42},
        "checkpoints": {"checkpoints_path": "checkpoints", "checkpoint_interval": 1000},
        "model.ddp_bucket_cap_mb": 25,
        **table.settings_for("plan", plan, "precision"),
        "model.init_method.std": 0.02,
        "model.make_vocab_size_divisible_by": 1,
        **_model_settings(scenario.model, work.sequence_length or 0),
        **_parallelism(scenario),
        "optimizer.zero_stage": int(plan.sharding == "zero1"),
        "optimizer.accumulate_grad_in_fp32": bool(plan.gradients_in_fp32),
        "optimizer.clip_grad": 1.0,
        "optimizer.weight_decay": 0.1,
        **table.settings_for("plan", plan, "optimizer"),
        **({} if plan.optimizer == "sgd" else _ADAM),
        "optimizer.learning_rate_scheduler.learning_rate": 0.0003,
        "optimizer.learning_rate_scheduler.lr_warmup_steps": 100,
        "optimizer.learning_rate_scheduler.lr_warmup_style": "linear",
        "optimizer.learning_rate_scheduler.lr_decay_style": "cosine",
        "optimizer.learning_rate_scheduler.min_decay_lr": 0.00003,
        **table.settings_for("workload", work, "sequence_length"),
        **table.settings_for("plan", plan, "micro_batch"),
        "tokens.batch_accumulation_per_replica": micro_batches_of(scenario),
        "tokens.train_steps": steps_of(scenario),
    }


_ADAM = {
    "optimizer.optimizer_factory.adam_beta1": 0.9,
    "optimizer.optimizer_factory.adam_beta2": 0.95,
    "optimizer.optimizer_factory.adam_eps": 1.0e-08,
    "optimizer.optimizer_factory.torch_adam_is_fused": True,
}


def _parallelism(scenario: Scenario) -> dict[str, Any]:
    table, plan = options_of("nanotron"), scenario.plan
    shared = plan.model_copy(update={"sequence_parallel": (plan.tp or 1) > 1 and plan.sequence_parallel})
    return {
        **table.settings_for("plan", shared, "dp", "pp", "tp", "ep", "cp", "schedule", "sequence_parallel"),
        "parallelism.tp_linear_async_communication": bool(shared.sequence_parallel),
        **table.settings_for("plan", plan, "recompute"),
    }


def _model_settings(model: Model, sequence: int) -> dict[str, Any]:
    table = options_of("nanotron")
    qwen = model.experts > 1 or "qkv" in model.biases or model.sliding_window is not None
    settings: dict[str, Any] = {
        f"{_CONFIG}{'is_qwen2_config' if qwen else 'is_llama_config'}": True,
        f"{_CONFIG}hidden_act": "silu",
        **table.settings_for("model", model, "hidden_size", "feed_forward_size", "layers", "attention_heads"),
        f"{_CONFIG}num_key_value_heads": model.kv_heads,
        f"{_CONFIG}max_position_embeddings": sequence,
        **table.settings_for("model", model, "vocabulary_size", "tied_head"),
        f"{_CONFIG}attention_bias": "qkv" in model.biases,
    }
    if model.sliding_window is not None:
        settings |= table.settings_for("model", model, "sliding_window")
    if model.experts > 1:
        size = model.expert_feed_forward_size or model.feed_forward_size
        settings |= {
            f"{_EXPERTS}num_experts": model.experts,
            f"{_EXPERTS}top_k": model.experts_per_token,
            f"{_EXPERTS}moe_intermediate_size": size,
            f"{_EXPERTS}shared_expert_intermediate_size": size,
            f"{_EXPERTS}enable_shared_expert": model.shared_experts == 1,
        }
    return settings


def _unsaid(scenario: Scenario) -> Iterator[str]:
    """What a configuration does not say."""
    plan = scenario.plan
    if plan.precision == "tf32":
        yield "precision=tf32: torch's own setting, TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1"
    if plan.attention == "unfused":
        yield "attention=unfused: nanotron calls FlashAttention"
    if plan.sharding == "zero1" and plan.sharding_group is not None:
        yield f"sharding_group={plan.sharding_group}: states are shared by all replicas"
    if plan.first_stage_layers or plan.last_stage_layers:
        yield "first_stage_layers, last_stage_layers: nanotron balances stages by arithmetic"
    yield from unsaid_form(scenario.model)
    if scenario.model.norms_per_layer not in (None, 2):
        yield f"{scenario.model.norms_per_layer} normalisations a layer"
    if not scenario.workload.says_length:
        yield "how long the run is: 1,000 steps stand for it"
    yield "learning rate, its schedule, data and tokenizer: placeholders; data_stages are to be added"


def _meaning(settings: LaunchSettings, devices: int | None, _assumed: list[str]) -> WhatIsSaid:
    """The degrees of the file have to multiply to the devices that somebody says."""
    plan = _read_plan(settings)
    plan |= settings.fields("plan", "micro_batch")
    batch = plan["micro_batch"] * (settings.whole("tokens.batch_accumulation_per_replica") or 1) * plan["dp"]
    workload = settings.fields("workload", "sequence_length") | {"global_batch": batch}
    steps = settings.fields("workload", "steps")
    model = _read_model(settings) | {"training": dict(workload)}
    number = devices or plan["dp"] * plan["tp"] * plan["pp"] * plan["cp"]
    return WhatIsSaid(plan, workload | steps, model, number)


def _read_plan(settings: LaunchSettings) -> dict[str, Any]:
    plan = settings.fields("plan", "dp", "tp", "pp", "cp", "ep", "schedule") | {"virtual_stages": 1}
    plan |= settings.fields("plan", "sequence_parallel", "recompute", "precision")
    plan["schedule"] = plan["schedule"] if plan["pp"] > 1 else "1f1b"
    plan["sequence_parallel"] = plan["sequence_parallel"] and plan["tp"] > 1
    plan["sharding"] = "zero1" if settings.whole("optimizer.zero_stage", least=0) else "none"
    plan |= settings.fields("plan", "optimizer")
    stored = settings.value("optimizer.accumulate_grad_in_fp32")
    if stored is not None and plan["precision"] != "fp32":
        plan["gradients_in_fp32"] = settings.flag("optimizer.accumulate_grad_in_fp32")
    return plan


def _read_model(settings: LaunchSettings) -> dict[str, Any]:
    """The sizes of a model of the form of Llama or Qwen."""
    if settings.value(f"{_CONFIG}is_starcoder2_config"):
        raise settings.wrong(
            f"{_CONFIG}is_starcoder2_config", "is a form that is not read; capsim reads Llama's and Qwen's"
        )
    settings.word(f"{_CONFIG}hidden_act", {"silu": True})
    attention = {
        "flash_attention_2": True,
        "sdpa": True,
        "ring": True,
        "flex_attention": True,
        "llama3_ring_attention": True,
    }
    settings.word(f"{_CONFIG}_attn_implementation", attention)
    model: dict[str, Any] = {
        "id": "nanotron-model",
        "name": "model of a nanotron configuration",
        "family": "llama",
        "kind": "decoder",
        "objective": "causal",
        **settings.fields("model", "layers", "hidden_size", "attention_heads", "feed_forward_size"),
        **settings.fields("model", "vocabulary_size", "tied_head"),
        "feed_forward": "gated",
        "activation": "silu",
        "normalisation": "rmsnorm",
        "positions": "rotary",
        **settings.fields("model", "biases", "key_value_heads", "sliding_window"),
    }
    return model | _read_experts(settings)


def _read_experts(settings: LaunchSettings) -> dict[str, Any]:
    """A mixture of experts; empty of a dense model."""
    model: dict[str, Any] = {}
    if (number := settings.whole(f"{_EXPERTS}num_experts")) is not None:
        size = settings.needed(f"{_EXPERTS}moe_intermediate_size")
        shared = settings.whole(f"{_EXPERTS}shared_expert_intermediate_size")
        model |= {"experts": number, "experts_per_token": settings.whole(f"{_EXPERTS}top_k") or 2}
        model |= {"expert_feed_forward_size": size}
        if settings.flag(f"{_EXPERTS}enable_shared_expert"):
            model["shared_experts"] = max((shared or size) // size, 1)
    return model


read = DocumentReader("nanotron", _meaning)
"""What a configuration of nanotron says."""
