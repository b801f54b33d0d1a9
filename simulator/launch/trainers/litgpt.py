"""Configurations of litgpt: YAML for pre-training, and for fine-tuning of a whole model or of adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from hardware.errors import InputError
from simulator.launch.naming import model_named
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.settings import LaunchSettings

_OPTIMIZERS = {
    **dict.fromkeys(("adamw", "adam", "torch.optim.adamw", "torch.optim.adam"), "adamw"),
    **dict.fromkeys(("sgd", "torch.optim.sgd"), "sgd"),
    **dict.fromkeys(("bitsandbytes.optim.adamw8bit", "bitsandbytes.optim.pagedadamw8bit"), "adam-8bit"),
    **dict.fromkeys(("adafactor", "torch.optim.adafactor"), "adafactor"),
}
_PURE = {"master_weights": False, "gradients_in_fp32": False}
_PRECISIONS: dict[str, dict[str, Any]] = {
    "bf16-true": {"precision": "bf16", **_PURE},
    "bf16-mixed": {"precision": "bf16"},
    "16-true": {"precision": "fp16", **_PURE},
    "16-mixed": {"precision": "fp16"},
    "32-true": {"precision": "fp32"},
}
_MATRICES = {
    "lora_query": ("query",),
    "lora_key": ("key",),
    "lora_value": ("value",),
    "lora_projection": ("output",),
    "lora_mlp": ("gate", "up", "down"),
}
"""Matrices with an adapter, by their switches."""
_USUAL = ("lora_query", "lora_value")
"""Switches that are on unless told."""
_FORMATS = {"bnb.nf4": "nf4", "bnb.nf4-dq": "nf4-double", "bnb.int8-training": "int8"}
"""Formats of frozen weights."""


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of litgpt."""
    train, whose = document.get("train"), {"checkpoint_dir", "model_name", "model_config"}
    batches = {"micro_batch_size", "global_batch_size"}
    return isinstance(train, Mapping) and bool(batches & train.keys()) and bool(whose & document.keys())


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    """Pre-training compiles and keeps activations; fine-tuning, of a checkpoint, computes those of a layer again."""
    tuned = "checkpoint_dir" in settings
    per_node = _devices(settings, 1 if tuned else None)
    nodes = settings.whole("num_nodes") or 1
    number = devices or (None if per_node is None else per_node * nodes)
    if number is not None and number % nodes:
        raise settings.wrong("num_nodes", f"does not divide {number} devices")
    plan = {"tp": 1, "pp": 1, "cp": 1, **_sharding(number, nodes, tuned=tuned)}
    plan |= {"recompute": "full" if tuned and number != 1 else "none", "attention": "fused"}
    plan |= _precision(settings, assumed) | _optimizer(settings)
    plan |= {"micro_batch": 1 if tuned else 4, **settings.fields("plan")}
    model = _model(settings)
    work = (
        settings.fields("workload")
        | _read_tuning(settings, number)
        | _batch(settings, plan, number, assumed, tuned=tuned)
    )
    length, tokens = settings.whole("model_config.block_size"), settings.real("train.max_tokens")
    if isinstance(model, dict):
        work.setdefault("sequence_length", length or 4096)
        model["training"] = {name: work[name] for name in ("sequence_length", "global_batch")}
    if tokens is not None and "steps" not in work:
        work["tokens"] = tokens
    if tuned:
        assumed.append("sequences are padded, and how far is not known: say --effective-tokens")
    if "sequence_length" not in work:
        assumed.append("sequence_length: as long as the model's context; say it by --seq-len")
    return WhatIsSaid(plan, work, model, number, "pytorch-fsdp" if tuned else "litgpt")


def _read_tuning(settings: LaunchSettings, number: int | None) -> dict[str, Any]:
    """Adapters and the format of the weights beside them; empty where the whole model is trained."""
    held = settings.word("quantize", _FORMATS)
    if not any(name.startswith("lora_") for name in settings.names()):
        if held is not None:
            raise settings.wrong(
                "quantize", "holds a frozen model, and goes with adapters; add lora_r, or leave it out"
            )
        return {}
    if settings.flag("lora_head"):
        raise settings.wrong("lora_head", "puts an adapter beside the head, which capsim does not price")
    if held is not None and number not in (None, 1):
        raise settings.wrong("quantize", f"runs on one device in litgpt, not on {number}; leave it out")
    on = [name for name in _MATRICES if (settings.flag(name) if name in settings else name in _USUAL)]
    if not on:
        raise settings.wrong("lora_query", "leaves no matrix with an adapter; switch one on")
    dropout = settings.real("lora_dropout")
    return {
        "train": "lora",
        "lora_rank": settings.whole("lora_r") or 8,
        "lora_targets": tuple(matrix for name in on for matrix in _MATRICES[name]),
        "lora_dropout": 0.05 if dropout is None else dropout,
        **({} if held is None else {"base_precision": held}),
    }


def _devices(settings: LaunchSettings, usual: int | None) -> int | None:
    """Devices of a node; none where litgpt takes all that there are."""
    return None if settings.value("devices") == "auto" else settings.whole("devices") or usual


def _sharding(number: int | None, nodes: int, *, tuned: bool) -> dict[str, Any]:
    """FSDP: of all ranks in fine-tuning; in pre-training inside of nodes, which hold the same."""
    if number == 1:
        return {"sharding": "none"}
    if tuned or nodes == 1:
        return {"sharding": "zero3"}
    return {"sharding": "hybrid", **({"sharding_group": number // nodes} if number is not None else {})}


def _precision(settings: LaunchSettings, assumed: list[str]) -> dict[str, Any]:
    said = settings.word("precision", _PRECISIONS)
    if said is None:
        assumed.append("precision=bf16: bf16-mixed, as litgpt chooses for devices that have it")
    return dict(said or _PRECISIONS["bf16-mixed"])


def _optimizer(settings: LaunchSettings) -> dict[str, Any]:
    """The optimizer, by its name or its class."""
    by_class = settings.word("optimizer.class_path", _OPTIMIZERS)
    return {"optimizer": by_class or settings.word("optimizer", _OPTIMIZERS) or "adamw"}


def _batch(
    settings: LaunchSettings, plan: Mapping[str, Any], number: int | None, assumed: list[str], *, tuned: bool
) -> dict[str, Any]:
    """The batch of a step: as many whole micro-batches of each replica as fit into the one that the file says."""
    said = settings.whole("train.global_batch_size") or (16 if tuned else 512)
    if number is None:
        return {"global_batch": said}
    micro_batches = said // number // plan["micro_batch"]
    if not micro_batches:
        name = "train.global_batch_size"
        sentence = f"is less than one micro-batch of {plan['micro_batch']} on each of {number} devices"
        if name in settings:
            raise settings.wrong(name, sentence)
        raise InputError(f"{settings.path}: {name}={said}, as litgpt has it, {sentence}; add it")
    batch = micro_batches * plan["micro_batch"] * number
    if batch != said:
        assumed.append(f"global_batch={batch}: {micro_batches} micro-batches of each device, of {said} in the file")
    return {"global_batch": batch}


def _model(settings: LaunchSettings) -> str | dict[str, Any] | None:
    """A model by its name in litgpt or at the hub, or by sizes of the forms of Llama and GPT-NeoX."""
    tied = settings.flag("train.tie_embeddings")
    if any(name.startswith("model_config.") for name in settings.names()):
        settings.value("model_name")
        return _sizes(settings, tied=tied)
    word = settings.value("model_name", "checkpoint_dir")
    parts = PurePosixPath(str(word or "")).parts[-2:]
    return model_named("litgpt", parts[-1] if parts else "") or model_named("hub", "/".join(parts))


def _sizes(settings: LaunchSettings, *, tied: bool) -> dict[str, Any]:
    """Sizes of a model; what is left out is as litgpt's class has it."""
    sizes = settings.fields("model")
    gated, hidden = sizes["feed_forward"] == "gated", sizes["hidden_size"]
    width = settings.whole("model_config.intermediate_size")
    if width is None and gated:
        width = settings.needed("model_config.intermediate_size")
    rows, step = settings.whole("model_config.vocab_size") or 50254, settings.whole("model_config.padding_multiple")
    padded = settings.whole("model_config.padded_vocab_size") or -(-rows // (step or 512)) * (step or 512)
    biased = settings.flag("model_config.bias") if "model_config.bias" in settings else True
    biases = ["qkv", "attention_output", "feed_forward"] if biased else []
    if settings.flag("model_config.attn_bias") and not biased:
        biases = ["qkv"]
    share = settings.real("model_config.rotary_percentage")
    return {
        "id": "litgpt-model",
        "name": "model of a configuration of litgpt",
        "family": "litgpt",
        "kind": "decoder",
        "objective": "causal",
        **sizes,
        "feed_forward_size": width or 4 * hidden,
        "activation": "silu" if gated else "gelu",
        "positions": "rotary",
        "rotary_share": 0.25 if share is None else share,
        "vocabulary_size": padded,
        "tied_head": tied,
        "dropout": False,
        **({"norms_per_layer": 2} if sizes["block"] == "parallel" else {}),
        "biases": [*biases, *(["normalisation"] if sizes["normalisation"] == "layernorm" else [])],
    }


read = DocumentReader("litgpt", _meaning)
"""What a configuration of litgpt says."""
