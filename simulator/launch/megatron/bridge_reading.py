"""A scenario from YAML of Megatron Bridge: overrides of a recipe, or the whole configuration that a run saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.launch.megatron.model_reading import group_of_states, layers_with_experts, refuse_groups
from simulator.launch.megatron.recomputation import fields_of
from simulator.launch.megatron.vocabulary import padded, rows_read
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.settings import LaunchSettings

_MARKS = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size", "seq_length")
_SECTIONS = ("ddp", "dist", "mixed_precision", "comm_overlap", "scheduler", "dataset", "checkpoint", "logger", "rng")
_STRATEGIES = {"no_shard": "none", "optim": "zero1", "optim_grads": "zero2", "optim_grads_params": "zero3"}
_RECIPES: dict[str, dict[str, Any]] = {
    "bf16_mixed": {"precision": "bf16", "gradients_in_fp32": True},
    "fp16_mixed": {"precision": "fp16", "gradients_in_fp32": False},
    "bf16_with_fp8_delayed_scaling_mixed": {"precision": "fp8", "gradients_in_fp32": True},
    "bf16_with_fp8_current_scaling_mixed": {"precision": "fp8", "gradients_in_fp32": True, "layers_in_16_bits": 2},
    "bf16_with_fp8_subchannel_scaling_mixed": {"precision": "fp8", "gradients_in_fp32": True},
    "bf16_with_mxfp8_mixed": {"precision": "fp8", "gradients_in_fp32": True},
}
"""What recipes of mixed precision mean (mixed_precision.py); each has a second name with hyphens."""
_BACKENDS = {"1": "fused", "2": "fused", "3": "unfused", "4": "unfused", "5": "fused"}
"""Kernels of attention by the numbers of AttnBackend (megatron/core/transformer/enums.py)."""


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of Megatron Bridge."""
    model, train = document.get("model"), document.get("train")
    sections = [part for part in (model, train) if isinstance(part, Mapping)]
    if not sections or any(not isinstance(document.get(name, {}), Mapping) for name in ("model", "train")):
        return False
    named = isinstance(model, Mapping) and any(name in model for name in _MARKS)
    return named or ("train" in document and any(name in document for name in ("model", *_SECTIONS)))


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    """What overrides leave out is as their recipe has it, which the file does not name."""
    _refuse(settings)
    plan = settings.fields("plan", "tp", "pp", "cp", "ep", "etp", "micro_batch", "optimizer", "offload_optimizer")
    settings.flag("optimizer.use_precision_aware_optimizer")
    plan |= settings.fields("plan", "activation_inputs_in_fp8")
    model = _model(settings)
    plan |= _stages(settings, plan)
    plan |= _recompute(settings) | _precision(settings, assumed) | _attention(settings)
    plan |= _sharding(settings, plan, devices, assumed)
    _comm(settings)
    if settings.flag("dist.use_tp_pp_dp_mapping"):
        plan["placement"] = "tp-cp-pp-dp"
    work = settings.fields("workload")
    if "model.seq_length" in settings:
        settings.whole("model.seq_length")
    samples = settings.whole("train.train_samples")
    if "steps" not in work and samples is not None and "sequence_length" in work:
        work["tokens"] = float(samples * work["sequence_length"])
    work |= _capacity(settings)
    _say_open(plan, work, assumed)
    if model is not None:
        model["training"] = {name: work.get(name, 1) for name in ("sequence_length", "global_batch")}
        if model["positions"] == "learned":
            model["position_rows"] = settings.needed("model.seq_length", "dataset.seq_length")
    return WhatIsSaid({"optimizer": "adamw", **plan}, work, model, devices)


def _refuse(settings: LaunchSettings) -> None:
    """Refuse training of adapters, and shards of weights beside those of tensor parallelism."""
    adapter = next((name for name in settings.names() if name.startswith("peft")), None)
    if adapter is not None:
        raise settings.wrong(
            adapter, "trains adapters of a frozen model, which is not read; capsim reads full training"
        )
    for name in ("model.gtp_weight_remat_size", "model.expert_gtp_weight_remat_size"):
        if (settings.whole(name) or 1) > 1:
            raise settings.wrong(name, "gathers weights for each layer, which is not read; capsim reads 1")


def _say_open(plan: Mapping[str, Any], work: Mapping[str, Any], assumed: list[str]) -> None:
    """List what the file leaves to its recipe."""
    options = {"tp": "--tp", "pp": "--pp", "cp": "--cp", "micro_batch": "--micro-batch"}
    open_fields = {name: option for name, option in options.items() if name not in plan}
    told = {"sequence_length": "--seq-len", "global_batch": "--global-batch"}
    open_fields |= {name: option for name, option in told.items() if name not in work}
    if open_fields:
        names, words = ", ".join(open_fields), ", ".join(open_fields.values())
        assumed.append(f"{names}: the recipe's, which the file does not say; capsim chooses, or say them by {words}")
    if "optimizer" not in plan:
        assumed.append("optimizer=adamw: as recipes have it")


def _stages(settings: LaunchSettings, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Chunks and uneven stages of a pipeline, and what tensor-parallel ranks share of sequences."""
    chunks = settings.fields("plan", "virtual_stages").get("virtual_stages", 1)
    for part in ("embedding", "loss"):
        settings.flag(f"model.account_for_{part}_in_pipeline_split")
    split = settings.fields("plan", "first_stage_layers", "last_stage_layers")
    if "pp" in plan:
        split |= {"virtual_stages": chunks, "schedule": "interleaved" if chunks > 1 else "1f1b"}
    if "model.sequence_parallel" in settings:
        shared = settings.fields("plan", "sequence_parallel")["sequence_parallel"]
        split["sequence_parallel"] = shared and plan.get("tp", 1) > 1
    return split


def _comm(settings: LaunchSettings) -> None:
    """Ways of context parallelism, which the stack does as it does; one for all layers."""
    settings.word("model.cp_comm_type", {"p2p": True, "a2a": True, "all_gather": True, "a2a+p2p": True})


def _attention(settings: LaunchSettings) -> dict[str, Any]:
    """The kernel of attention: a word, or a member of AttnBackend as a saved configuration has it."""
    member = settings.value("model.attention_backend._args_")
    if member is None:
        return settings.fields("plan", "attention")
    return {"attention": settings.word("model.attention_backend._args_", _BACKENDS)}


def _recompute(settings: LaunchSettings) -> dict[str, Any]:
    """What the backward pass computes again."""
    kind = settings.fields("plan", "recompute").get("recompute", "none")
    names = ("model.recompute_modules", "model.recompute_method", "model.recompute_num_layers")
    return fields_of(settings, kind, names)


def _precision(settings: LaunchSettings, assumed: list[str]) -> dict[str, Any]:
    """Number formats of products and gradients: a recipe by name, or its fields."""
    name = settings.value("mixed_precision")
    if name is not None:
        words = {**_RECIPES, **{word.replace("_", "-"): meaning for word, meaning in _RECIPES.items()}}
        return dict(settings.word("mixed_precision", words) or {})
    if not any(key.startswith("mixed_precision.") for key in settings.names()):
        assumed.append("precision=bf16, gradients_in_fp32=True: bf16_mixed, as recipes have it")
        return dict(_RECIPES["bf16_mixed"])
    brain, half = settings.flag("mixed_precision.bf16"), settings.flag("mixed_precision.fp16")
    if brain and half:
        raise settings.wrong("mixed_precision.fp16", "excludes mixed_precision.bf16; keep one")
    narrow = settings.word("mixed_precision.fp8", {"hybrid": True, "e4m3": True}) or False
    reduced = settings.value("mixed_precision.grad_reduce_in_fp32")
    plan: dict[str, Any] = {"precision": "fp32"}
    if brain or half:
        plan["precision"] = "fp8" if narrow else "fp16" if half else "bf16"
        plan["gradients_in_fp32"] = reduced is None or settings.flag("mixed_precision.grad_reduce_in_fp32")
    ends = [settings.whole(f"mixed_precision.num_layers_at_{end}_in_bf16", least=0) for end in ("start", "end")]
    if settings.flag("mixed_precision.first_last_layers_bf16"):
        plan["layers_in_16_bits"] = sum(number or 0 for number in ends)
    return plan


def _sharding(
    settings: LaunchSettings, plan: Mapping[str, Any], devices: int | None, assumed: list[str]
) -> dict[str, Any]:
    """What replicas share, in which groups."""
    distributed = [settings.value(f"{part}.use_distributed_optimizer") for part in ("ddp", "optimizer")]
    flags = ("ddp.use_megatron_fsdp", "dist.use_megatron_fsdp", "ddp.use_custom_fsdp")
    fully = [settings.flag(name) for name in flags].count(True) > 0
    strategy = settings.word("ddp.data_parallel_sharding_strategy", _STRATEGIES)
    outer = "ddp.outer_dp_sharding_strategy"
    if settings.word(outer, {"no_shard": False, "optim": True}):
        raise settings.wrong(outer, "is not understood; capsim reads no_shard")
    if settings.flag("dist.use_torch_fsdp2"):
        return {"sharding": "zero3"}
    sharding = (strategy or "none") if fully else "zero1" if True in distributed else "none"
    if not fully and distributed == [None, None]:
        assumed.append("sharding=zero1: the distributed optimizer, as recipes have it")
        sharding = "zero1"
    option = "ddp.num_distributed_optimizer_instances"
    instances = settings.whole(option) or 1
    if instances == 1:
        return {"sharding": sharding}
    refuse_groups(settings, option, sharding)
    inner = plan.get("tp", 1) * plan.get("pp", 1) * plan.get("cp", 1)
    group = group_of_states(settings, option, instances, (devices or 0) // inner * plan.get("cp", 1))
    return {"sharding": "hybrid" if sharding == "zero3" else sharding, "sharding_group": group}


def _capacity(settings: LaunchSettings) -> dict[str, Any]:
    """How many tokens an expert takes."""
    capacity, padded = settings.real("model.moe_expert_capacity_factor"), "model.moe_pad_expert_input_to_capacity"
    told = settings.flag(padded) and capacity is not None and capacity > 0
    return {"capacity_factor": capacity} if told else {}


def _model(settings: LaunchSettings) -> dict[str, Any] | None:
    """The sizes and the form of a model; none where they are the recipe's."""
    if "model.num_layers" not in settings or "model.hidden_size" not in settings:
        return None
    names = ("layers", "hidden_size", "attention_heads", "key_value_heads", "vocabulary_size", "tied_head")
    sizes = settings.fields("model", *names)
    form = settings.fields("model", "feed_forward", "activation", "normalisation", "positions")
    sizes["vocabulary_size"] = _vocabulary(settings, sizes["vocabulary_size"])
    hidden, heads = sizes["hidden_size"], sizes["attention_heads"]
    width = settings.fields("model", "feed_forward_size").get("feed_forward_size", 4 * hidden)
    head = settings.fields("model", "head_size").get("head_size")
    dropped = [settings.real(f"model.{part}_dropout") for part in ("hidden", "attention")]
    linear = settings.flag("model.add_bias_linear") if "model.add_bias_linear" in settings else True
    biases = ["qkv", "attention_output", "feed_forward"] if linear else []
    if settings.flag("model.add_qkv_bias") and not linear:
        biases = ["qkv"]
    normed = settings.flag("model.qk_layernorm")
    if form["normalisation"] == "layernorm":
        biases += ["normalisation", *(["query_key_norm"] if normed else [])]
    return {
        "id": "bridge-model",
        "name": "model of a configuration of Megatron Bridge",
        "family": "megatron",
        "kind": "decoder",
        "objective": "causal",
        **sizes,
        "feed_forward_size": width,
        **form,
        **({"head_size": head} if head is not None and head * heads != hidden else {}),
        **({"query_key_norm": "shared"} if normed else {}),
        "dropout": any(share is None or share > 0.0 for share in dropped),
        "biases": biases,
        **_windows(settings),
        **_experts(settings, sizes["layers"], width),
        "multi_token_modules": settings.whole("model.mtp_num_layers", least=0) or 0,
    }


def _vocabulary(settings: LaunchSettings, said: int) -> int:
    """Rows of the table of words: the model's as they are, or the tokenizer's, which are padded (training/setup.py)."""
    words, rows = settings.whole("tokenizer.vocab_size"), settings.whole("model.vocab_size")
    ranks = settings.whole("model.tensor_model_parallel_size") or 1
    multiple = settings.whole("model.make_vocab_size_divisible_by")
    return rows_read(words, rows, ranks) or padded(said, ranks, multiple)


def _windows(settings: LaunchSettings) -> dict[str, Any]:
    """Windows of attention."""
    window, every = settings.value("model.window_size"), settings.whole("model.window_attn_skip_freq")
    if window is None:
        return {}
    if not isinstance(window, list) or not window or not isinstance(window[0], int) or window[0] < 0:
        raise settings.wrong("model.window_size", "must be two numbers such as [127, 0]")
    width = window[0] + 1
    return {"sliding_window": width} if every is None else {"window_pattern": [width] * (every - 1) + [None]}


def _experts(settings: LaunchSettings, layers: int, width: int) -> dict[str, Any]:
    """A mixture of experts; empty of a dense model."""
    experts = settings.fields("model", "experts").get("experts", 1)
    shared = settings.whole("model.moe_shared_expert_intermediate_size", least=0) or 0
    sizes = settings.fields("model", "experts_per_token", "expert_feed_forward_size")
    frequency = settings.value("model.moe_layer_freq")
    if experts == 1:
        return {}
    chosen = sizes.get("expert_feed_forward_size", width)
    if shared % chosen:
        name = "model.moe_shared_expert_intermediate_size"
        raise settings.wrong(name, f"must be a multiple of the {chosen} of an expert")
    placed: dict[str, int] = {}
    if frequency is not None:
        every = isinstance(frequency, int) and not isinstance(frequency, bool) and frequency > 0
        kinds = [int(index % frequency == 0) for index in range(layers)] if every else frequency
        placed = layers_with_experts(settings, "model.moe_layer_freq", kinds if isinstance(kinds, list) else [], layers)
    return {"experts": experts, **sizes, **({"shared_experts": shared // chosen} if shared else {}), **placed}


read = DocumentReader("megatron-bridge", _meaning)
"""What a configuration of Megatron Bridge says."""
