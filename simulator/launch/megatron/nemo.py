"""A scenario from YAML of NeMo, as its releases before 2.0 start GPT-like models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.launch.megatron.interpolation import interpolated
from simulator.launch.megatron.model_reading import TOKENIZERS
from simulator.launch.megatron.recomputation import fields_of
from simulator.launch.megatron.vocabulary import padded
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.record import LaunchFile
from simulator.launch.settings import LaunchSettings

_ADAM = ("fused_adam", "megatron_fused_adam", "adam", "adamw")
_SHARED = ("distributed_fused_adam", "mcore_distributed_optim")
_FORMS = {
    "gelu": ("plain", "gelu"),
    **dict.fromkeys(("geglu", "fast-geglu"), ("gated", "gelu")),
    **dict.fromkeys(("swiglu", "fast-swiglu"), ("gated", "silu")),
}
"""Feed-forward layers and activations by NeMo's words for both."""


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of NeMo."""
    model, trainer = document.get("model"), document.get("trainer")
    return isinstance(model, Mapping) and isinstance(trainer, Mapping) and "micro_batch_size" in model


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    """The trainer's devices and nodes are those of the run unless somebody says others."""
    _refuse_others(settings)
    nodes, per_node = settings.whole("trainer.num_nodes") or 1, settings.whole("trainer.devices", least=-1)
    number = devices or (None if per_node is None or per_node < 1 else per_node * nodes)
    plan = settings.fields("plan", "tp", "pp", "cp", "ep", "virtual_stages", "micro_batch")
    plan["schedule"] = "interleaved" if plan["virtual_stages"] > 1 else "1f1b"
    plan |= {"sequence_parallel": settings.fields("plan", "sequence_parallel")["sequence_parallel"] and plan["tp"] > 1}
    plan |= _recompute(settings) | _precision(settings) | _optimizer(settings)
    work = settings.fields("workload")
    replicas = _replicas(number, plan)
    if "global_batch" not in work and replicas is not None:
        work["global_batch"] = plan["micro_batch"] * replicas
        assumed.append(f"global_batch={work['global_batch']}: one micro-batch of each replica")
    model = _model(settings, work, plan["tp"], assumed)
    if number is None:
        assumed.append("devices: as many as the system usually has; the file does not say")
    return WhatIsSaid(plan, work, model, number)


def _replicas(number: int | None, plan: Mapping[str, Any]) -> int | None:
    """Data-parallel replicas, where they follow."""
    inner = plan["tp"] * plan["pp"] * plan["cp"]
    return number // inner if number is not None and number % inner == 0 else None


def _recompute(settings: LaunchSettings) -> dict[str, Any]:
    """What the backward pass computes again; before there was a granularity a method meant whole layers."""
    kind = settings.fields("plan", "recompute").get("recompute")
    options = ("model.activations_checkpoint_method", "model.activations_checkpoint_num_layers")
    if kind is None and "model.sequence_parallel" not in settings and settings.value(options[0]) is not None:
        kind = "full"
    for name in ("num_micro_batches_with_partial_activation_checkpoints", "activations_checkpoint_layers_per_pipeline"):
        if settings.value(f"model.{name}") is not None:
            raise settings.wrong(f"model.{name}", "keeps more in some micro-batches or stages; capsim reads null")
    return fields_of(settings, kind or "none", (None, *options))


def _precision(settings: LaunchSettings) -> dict[str, Any]:
    """Number formats: parameters are in 16 bits under megatron_amp_O2, and in fp32 under autocast otherwise."""
    plan = settings.fields("plan", "precision")
    whole, narrow = settings.flag("model.megatron_amp_O2"), settings.flag("model.fp8")
    for name in ("fp8_e4m3", "fp8_hybrid"):
        settings.flag(f"model.{name}")
    if plan["precision"] == "fp32":
        return plan
    held = {"gradients_in_fp32": plan["precision"] == "bf16"} if whole else {"parameters_in_fp32": True}
    return {"precision": "fp8" if narrow else plan["precision"], **held}


def _optimizer(settings: LaunchSettings) -> dict[str, Any]:
    """The optimizer, and whether replicas share its states."""
    words = {**dict.fromkeys(_ADAM, "none"), **dict.fromkeys(_SHARED, "zero1")}
    return {"optimizer": "adamw", "sharding": settings.word("model.optim.name", words) or "none"}


def _refuse_others(settings: LaunchSettings) -> None:
    """Refuse settings that stand in other files; those of overlapping tensor parallelism are a habit of the stack."""
    listed = settings.value("defaults")
    names = [word if isinstance(word, str) else next(iter(word), "") for word in listed] if listed else []
    others = [name for name in names if name != "_self_" and not name.startswith("optional tp_overlap")]
    if others:
        raise settings.wrong(
            "defaults", f"takes settings from {others[0]}, which is not read; write them into the file"
        )


def _model(settings: LaunchSettings, work: Mapping[str, Any], ranks: int, assumed: list[str]) -> dict[str, Any] | None:
    """The sizes and the form of a model; none where the rows of its tokenizer are not known."""
    names = (
        "layers",
        "hidden_size",
        "attention_heads",
        "key_value_heads",
        "normalisation",
        "norm_position",
        "positions",
    )
    sizes = settings.fields("model", *names, "tied_head")
    width = settings.fields("model", "feed_forward_size").get("feed_forward_size", 4 * sizes["hidden_size"])
    form = _form(settings, sizes)
    table = settings.value("model.max_position_embeddings")
    if sizes["positions"] == "learned":
        form["position_rows"] = table if isinstance(table, int) else work["sequence_length"]
    multiple = settings.whole("model.make_vocab_size_divisible_by")
    vocabulary = settings.whole("model.override_vocab_size") or TOKENIZERS.get(_tokenizer(settings))
    if vocabulary is None:
        assumed.append(
            "vocabulary_size: the tokenizer's, which is not known; add model.override_vocab_size to the file"
        )
        return None
    rows = padded(vocabulary, ranks, multiple)
    if rows != vocabulary:
        assumed.append(f"vocabulary_size={rows}: NeMo pads {vocabulary} words to as many rows")
    return {
        "id": "nemo-model",
        "name": "model of a configuration of NeMo",
        "family": "megatron",
        "kind": "decoder",
        "objective": "causal",
        **sizes,
        "feed_forward_size": width,
        "vocabulary_size": rows,
        **form,
        "training": {name: work.get(name, 1) for name in ("sequence_length", "global_batch")},
    }


def _form(settings: LaunchSettings, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Activation, width of heads, biases and dropout, which is a tenth unless told."""
    if settings.flag("model.headscale"):
        raise settings.wrong("model.headscale", "scales the output of each head, which is not read")
    head = settings.fields("model", "head_size").get("head_size")
    kind, activation = settings.word("model.activation", _FORMS) or ("plain", "gelu")
    linear = settings.flag("model.bias") if "model.bias" in settings else True
    usual = {"hidden": 0.1, "attention": 0.1, "ffn": 0.0}
    shares = {part: settings.real(f"model.{part}_dropout") for part in usual}
    biases = ["qkv", "attention_output", "feed_forward"] if linear else []
    own_width = head is not None and head * sizes["attention_heads"] != sizes["hidden_size"]
    return {
        "feed_forward": kind,
        "activation": activation,
        **({"head_size": head} if own_width else {}),
        "dropout": any((usual[part] if share is None else share) > 0.0 for part, share in shares.items()),
        "biases": [*biases, *(["normalisation"] if sizes["normalisation"] == "layernorm" else [])],
    }


def _tokenizer(settings: LaunchSettings) -> str:
    """The tokenizer's kind, in lower case."""
    return str(settings.value("model.tokenizer.type") or "").lower()


_READER = DocumentReader("nemo", _meaning)


def read(document: Mapping[str, Any], path: str, devices: int | None = None) -> LaunchFile:
    """What a configuration of NeMo says.

    Parameters
    ----------
    document
        What the file holds.
    path
        The file.
    devices
        Devices of the run, where somebody says.

    Raises
    ------
    InputError
        With file and line.
    """
    return _READER(interpolated(document), path, devices)
