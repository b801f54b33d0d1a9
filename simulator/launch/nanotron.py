"""Configurations of nanotron: YAML with the model in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hardware.writing import yaml_text
from simulator.launch.documents import settings_from
from simulator.launch.naming import stack_of
from simulator.launch.record import LaunchFile, WrittenLaunch
from simulator.launch.saying import lacks, notes_of, refuse_unlaunchable
from simulator.launch.settings import LaunchSettings
from simulator.launch.tables import options_of
from simulator.scenario.scenario import Scenario
from simulator.specs.model import Model

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "tf32": "float32"}
_READ_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_ENGINES = {"1f1b": "1f1b", "gpipe": "afab"}
_CONFIG = "model.model_config."


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
    table = options_of("nanotron")
    _refuse_model(scenario.model)
    refuse_unlaunchable(scenario, stack_of("nanotron"))
    notes = notes_of(scenario, table.framework, table.release, list(_unsaid(scenario)))
    name = f"{scenario.model.id}-nanotron.yaml"
    per_node = min(scenario.devices, scenario.system.devices_per_node)
    nodes = -(-scenario.devices // per_node)
    command = f"torchrun --nnodes={nodes} --nproc_per_node={per_node} run_train.py --config-file {name}"
    return WrittenLaunch(table.framework, name, notes.comment() + yaml_text(_document(scenario)), command, notes.unsaid)


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
    if model.head_size is not None and model.head_size * model.attention_heads != model.hidden_size:
        raise lacks("nanotron", f"head_size={model.head_size} beside hidden_size={model.hidden_size}", "change one")


def _document(scenario: Scenario) -> dict[str, Any]:
    """All sections."""
    plan, work = scenario.plan, scenario.workload
    batch, steps = work.global_batch or 0, round(work.total_steps) if work.says_length else 1000
    micro, replicas = plan.micro_batch or 1, plan.dp or 1
    return {
        "general": {"project": "capsim", "run": scenario.model.id, "seed": 42},
        "checkpoints": {"checkpoints_path": "checkpoints", "checkpoint_interval": 1000},
        "model": {
            "ddp_bucket_cap_mb": 25,
            "dtype": _DTYPES[plan.precision or "bf16"],
            "init_method": {"std": 0.02},
            "make_vocab_size_divisible_by": 1,
            "model_config": _model_config(scenario.model, work.sequence_length or 0),
        },
        "parallelism": _parallelism(scenario),
        "optimizer": {
            "zero_stage": int(plan.sharding == "zero1"),
            "accumulate_grad_in_fp32": bool(plan.gradients_in_fp32),
            "clip_grad": 1.0,
            "weight_decay": 0.1,
            "optimizer_factory": _factory(scenario),
            "learning_rate_scheduler": {
                "learning_rate": 0.0003,
                "lr_warmup_steps": 100,
                "lr_warmup_style": "linear",
                "lr_decay_style": "cosine",
                "min_decay_lr": 0.00003,
            },
        },
        "tokens": {
            "sequence_length": work.sequence_length,
            "micro_batch_size": micro,
            "batch_accumulation_per_replica": batch // (micro * replicas),
            "train_steps": steps,
        },
    }


def _factory(scenario: Scenario) -> dict[str, Any]:
    if scenario.plan.optimizer == "sgd":
        return {"name": "sgd"}
    adam = {"adam_beta1": 0.9, "adam_beta2": 0.95, "adam_eps": 1.0e-08, "torch_adam_is_fused": True}
    return {"name": "adamW", **adam}


def _parallelism(scenario: Scenario) -> dict[str, Any]:
    plan = scenario.plan
    sequence = (plan.tp or 1) > 1 and plan.sequence_parallel
    return {
        "dp": plan.dp,
        "pp": plan.pp,
        "tp": plan.tp,
        "expert_parallel_size": plan.ep,
        "context_parallel_size": plan.cp,
        "pp_engine": _ENGINES[plan.schedule or "1f1b"],
        "tp_mode": "REDUCE_SCATTER" if sequence else "ALL_REDUCE",
        "tp_linear_async_communication": bool(sequence),
        "recompute_layer": plan.recompute == "full",
    }


def _model_config(model: Model, sequence: int) -> dict[str, Any]:
    qwen = model.experts > 1 or "qkv" in model.biases or model.sliding_window is not None
    config: dict[str, Any] = {
        "is_qwen2_config" if qwen else "is_llama_config": True,
        "hidden_act": "silu",
        "hidden_size": model.hidden_size,
        "intermediate_size": model.feed_forward_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.attention_heads,
        "num_key_value_heads": model.kv_heads,
        "max_position_embeddings": sequence,
        "vocab_size": model.vocabulary_size,
        "tie_word_embeddings": model.tied_head,
        "attention_bias": "qkv" in model.biases,
    }
    if model.sliding_window is not None:
        config["sliding_window_size"] = model.sliding_window
    if model.experts > 1:
        size = model.expert_feed_forward_size or model.feed_forward_size
        config["moe_config"] = {
            "num_experts": model.experts,
            "top_k": model.experts_per_token,
            "moe_intermediate_size": size,
            "shared_expert_intermediate_size": size,
            "enable_shared_expert": model.shared_experts == 1,
        }
    return config


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
    if scenario.model.norms_per_layer not in (None, 2):
        yield f"{scenario.model.norms_per_layer} normalisations a layer"
    if not scenario.workload.says_length:
        yield "how long the run is: 1,000 steps stand for it"
    yield "learning rate, its schedule, data and tokenizer: placeholders; data_stages are to be added"


def read(document: Mapping[str, Any], path: str, devices: int | None = None) -> LaunchFile:
    """What a configuration says.

    Parameters
    ----------
    document
        What the file holds.
    path
        The file.
    devices
        Devices of the run, where somebody says; the degrees of the file have to multiply to them.

    Raises
    ------
    InputError
        With file and line.
    """
    settings, table = settings_from(document, path), options_of("nanotron")
    plan = _read_plan(settings)
    micro = settings.needed("tokens.micro_batch_size")
    plan["micro_batch"] = micro
    batch = micro * (settings.whole("tokens.batch_accumulation_per_replica") or 1) * plan["dp"]
    workload = {"sequence_length": settings.needed("tokens.sequence_length"), "global_batch": batch}
    steps = settings.whole("tokens.train_steps")
    model = _read_model(settings) | {"training": dict(workload)}
    return LaunchFile(
        framework=table.framework,
        path=path,
        stack=stack_of("nanotron"),
        model=model,
        workload={**workload, **({"steps": steps} if steps is not None else {})},
        plan=plan,
        devices=devices or plan["dp"] * plan["tp"] * plan["pp"] * plan["cp"],
        read=settings.read(),
        ignored=settings.finish(table.unread, known=table.known),
        places={
            **{f"plan.{axis}": settings.place(f"parallelism.{name}") for axis, name in _AXES.items()},
            "plan.micro_batch": settings.place("tokens.micro_batch_size"),
            "workload.sequence_length": settings.place("tokens.sequence_length"),
        },
    )


_AXES = {"dp": "dp", "tp": "tp", "pp": "pp", "cp": "context_parallel_size", "ep": "expert_parallel_size"}


def _read_plan(settings: LaunchSettings) -> dict[str, Any]:
    plan: dict[str, Any] = {axis: settings.whole(f"parallelism.{name}") or 1 for axis, name in _AXES.items()}
    engine = settings.word("parallelism.pp_engine", {"1f1b": "1f1b", "afab": "gpipe"}) or "gpipe"
    mode = settings.word("parallelism.tp_mode", {"all_reduce": False, "reduce_scatter": True}) or False
    plan |= {
        "schedule": engine if plan["pp"] > 1 else "1f1b",
        "virtual_stages": 1,
        "sequence_parallel": mode and plan["tp"] > 1,
        "recompute": "full" if settings.flag("parallelism.recompute_layer") else "none",
        "precision": settings.word("model.dtype", _READ_DTYPES) or "fp32",
        "sharding": "zero1" if settings.whole("optimizer.zero_stage", least=0) else "none",
        "optimizer": settings.word("optimizer.optimizer_factory.name", {"adamw": "adamw", "sgd": "sgd"}) or "adamw",
    }
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
        "layers": settings.needed(f"{_CONFIG}num_hidden_layers"),
        "hidden_size": settings.needed(f"{_CONFIG}hidden_size"),
        "attention_heads": settings.needed(f"{_CONFIG}num_attention_heads"),
        "feed_forward_size": settings.needed(f"{_CONFIG}intermediate_size"),
        "vocabulary_size": settings.needed(f"{_CONFIG}vocab_size"),
        "tied_head": settings.flag(f"{_CONFIG}tie_word_embeddings"),
        "feed_forward": "gated",
        "activation": "silu",
        "normalisation": "rmsnorm",
        "positions": "rotary",
        "biases": ["qkv"] if settings.flag(f"{_CONFIG}attention_bias") else [],
    }
    for key, name in (("num_key_value_heads", "key_value_heads"), ("sliding_window_size", "sliding_window")):
        if (number := settings.whole(f"{_CONFIG}{key}")) is not None:
            model[name] = number
    return model | _read_experts(settings)


def _read_experts(settings: LaunchSettings) -> dict[str, Any]:
    """A mixture of experts; empty of a dense model."""
    experts, model = f"{_CONFIG}moe_config.", dict[str, Any]()
    if (number := settings.whole(f"{experts}num_experts")) is not None:
        size = settings.needed(f"{experts}moe_intermediate_size")
        shared = settings.whole(f"{experts}shared_expert_intermediate_size")
        model |= {"experts": number, "experts_per_token": settings.whole(f"{experts}top_k") or 2}
        model |= {"expert_feed_forward_size": size}
        if settings.flag(f"{experts}enable_shared_expert"):
            model["shared_experts"] = max((shared or size) // size, 1)
    return model
