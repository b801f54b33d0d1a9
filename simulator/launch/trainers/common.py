"""What configurations of trainers on top of transformers have in common: accelerate, axolotl and LLaMA-Factory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware.errors import InputError
from simulator.launch import deepspeed
from simulator.launch.documents import document_of
from simulator.launch.naming import model_named
from simulator.launch.settings import LaunchSettings
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan
from simulator.specs.training.guidance import PAIR

OPTIMIZERS = {
    **{f"adamw_{kind}": "adamw" for kind in ("torch", "hf", "torch_fused", "apex_fused", "anyprecision", "torch_xla")},
    "paged_adamw_32bit": "adamw",
    **dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "adamw_torch_8bit"), "adam-8bit"),
    "sgd": "sgd",
    "adafactor": "adafactor",
    **dict.fromkeys(("lion_32bit", "paged_lion_32bit"), "lion"),
}
"""Names of transformers' ``optim``."""
STRATEGIES = {
    "full_shard": "zero3",
    "shard_grad_op": "zero2",
    "no_shard": "none",
    "1": "zero3",
    "2": "zero2",
    "3": "none",
}
"""Strategies of FSDP 1 by their names and numbers (`ShardingStrategy` of torch), without those of hybrid sharding."""
WRITTEN_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adam-8bit": "adamw_bnb_8bit",
    "adam-bf16": "adamw_anyprecision",
    "sgd": "sgd",
    "sgd-without-momentum": "sgd",
    "adafactor": "adafactor",
    "lion": "lion_32bit",
}
OPTIMIZER_ARGUMENTS = {
    "adam-bf16": "momentum_dtype=bfloat16,variance_dtype=bfloat16",
    "sgd-without-momentum": "momentum=0.0",
}
"""What ``optim_args`` says of those that share a name with others."""


def said_optimizer(key: str, optimizer: str | None) -> dict[str, str]:
    """The key of transformers' ``optim``, and arguments where its word does not tell."""
    name = optimizer or "adamw"
    arguments = {"optim_args": OPTIMIZER_ARGUMENTS[name]} if name in OPTIMIZER_ARGUMENTS else {}
    return {key: WRITTEN_OPTIMIZERS[name], **arguments}


def optimizer_of(settings: LaunchSettings, key: str) -> str:
    """The optimizer that a key and ``optim_args`` name.

    Parameters
    ----------
    settings
        The settings of the trainer.
    key
        Of transformers' ``optim``.
    """
    name = settings.word(key, OPTIMIZERS) or "adamw"
    exact = settings.word("optim_args", {said: plan for plan, said in OPTIMIZER_ARGUMENTS.items()})
    if exact is not None and settings.word(key, OPTIMIZERS) != OPTIMIZERS[WRITTEN_OPTIMIZERS[exact]]:
        raise settings.wrong("optim_args", f"belongs to {key}={WRITTEN_OPTIMIZERS[exact]}")
    return exact or name


def model_of_hub(settings: LaunchSettings, key: str) -> str | None:
    """A model of the catalogue by its name at the hub, or a folder's ``config.json``; none where it has neither."""
    word = settings.value(key)
    if word is None:
        return None
    folder = Path(settings.path).parent / str(word) / "config.json"
    return model_named("hub", str(word)) or (str(folder) if folder.is_file() else None)


def precision_of(settings: LaunchSettings) -> dict[str, Any]:
    """The number format that ``bf16``, ``fp16`` and ``fp8`` choose."""
    brain = settings.value("bf16") == "auto" or settings.value("bf16") == "full" or settings.flag("bf16")
    half, narrow = settings.value("fp16") not in (None, "auto") and settings.flag("fp16"), settings.flag("fp8")
    if brain and half:
        raise settings.wrong("fp16", "excludes bf16; keep one")
    return {"precision": "fp8" if narrow else "bf16" if brain else "fp16" if half else "fp32"}


def beside(settings: LaunchSettings, key: str, devices: int | None) -> dict[str, Any] | None:
    """What a configuration of DeepSpeed says of a plan, where a key names one that is there; none where it is not.

    Parameters
    ----------
    settings
        The settings of the trainer.
    key
        Of the file's name, seen from the trainer's file or from here.
    devices
        Devices of the run, where they are known.
    """
    name = str(settings.value(key))
    document = _named_document(settings, name)
    return None if document is None else dict(deepspeed.read(document, name, devices).plan)


def of_deepspeed(settings: LaunchSettings, devices: int | None) -> dict[str, Any]:
    """Sharding and offloading of a DeepSpeed configuration that a key ``deepspeed`` names; empty without one.

    Parameters
    ----------
    settings
        The settings of the trainer.
    devices
        Devices of the run, where they are known.
    """
    nested = [name for name in settings.names() if name.startswith("deepspeed.")]
    if nested:
        raise InputError(f"{settings.place(nested[0])}: deepspeed holds settings; write them into a file and name it")
    name = settings.value("deepspeed")
    if name is None:
        return {}
    document = _named_document(settings, str(name))
    if document is None:
        return _by_name(settings, str(name))
    plan = deepspeed.read(document, str(name), devices).plan
    kept = ("sharding", "sharding_group", "offload_optimizer", "tp", "gradients_in_fp32", "reduction_in_fp32")
    return {field: plan[field] for field in kept if field in plan and not (field == "tp" and plan["tp"] == 1)}


def _named_document(settings: LaunchSettings, name: str) -> Mapping[str, Any] | None:
    """The configuration of DeepSpeed that lies where a file says, seen from its folder."""
    path = Path(settings.path).parent / name
    if not path.is_file():
        path = Path(name)
    return document_of(path) if path.is_file() else None


def _by_name(settings: LaunchSettings, name: str) -> dict[str, Any]:
    """The stage that the usual names of configurations say, such as zero3.json and ds_z2_offload_config.json."""
    word = Path(name).name.lower()
    stage = next((n for n in (0, 1, 2, 3) if f"zero{n}" in word or f"_z{n}" in word), None)
    if stage is None:
        raise settings.wrong("deepspeed", "is not there, and its name says no stage; put it beside the file")
    return {"sharding": ("none", "zero1", "zero2", "zero3")[stage], "offload_optimizer": "offload" in word}


def hybrid_of(
    settings: LaunchSettings,
    plan: Mapping[str, Any],
    devices: int | None,
    replicate: int,
    shard: int | None,
    if_open: tuple[str, str],
) -> dict[str, Any]:
    """Hybrid sharding of FSDP.

    Parameters
    ----------
    settings
        The settings of the trainer.
    plan
        The degrees.
    devices
        Devices of the run, where they are known.
    replicate
        Replicas of what is shared.
    shard
        Ranks that share, where the file says; they follow from the devices otherwise.
    if_open
        The setting and the sentence of the error where they do not.

    Raises
    ------
    InputError
        Where neither the file nor the devices say how many ranks share.
    """
    inner = replicate * plan["tp"] * plan["cp"]
    shared = shard or (devices // inner if devices is not None and devices % inner == 0 else None)
    if shared is None:
        raise settings.wrong(*if_open)
    return {"sharding": "hybrid", "sharding_group": shared * plan["cp"]}


def replicas_of(devices: int | None, plan: Mapping[str, Any]) -> int | None:
    """Data-parallel replicas, where the devices are known."""
    inner = (plan.get("tp") or 1) * (plan.get("cp") or 1)
    return devices // inner if devices is not None and devices % inner == 0 else None


def counted_in_samples(scenario: Scenario) -> Plan:
    """The plan as trainers count it: a micro-batch of pairs of sequences where preferences are trained."""
    plan = scenario.plan
    pairs = scenario.workload.preference is not None
    return plan.model_copy(update={"micro_batch": (plan.micro_batch or PAIR) // PAIR}) if pairs else plan


def without_reference(settings: LaunchSettings, key: str, assumed: list[str]) -> dict[str, Any]:
    """Pairs that a loss compares without a reference: as if its log-probabilities were there already."""
    assumed.append(f"reference=precomputed: {settings.value(key)} compares a pair without one")
    return {"preference": "dpo", "reference": "precomputed"}


def batch_of(
    settings: LaunchSettings, plan: dict[str, Any], devices: int | None, assumed: list[str], *, pairs: bool = False
) -> dict[str, Any]:
    """The batch of a step, which micro-batch, accumulation and replicas make.

    Parameters
    ----------
    settings
        The settings of the trainer.
    plan
        The degrees and the micro-batch, which becomes one of sequences.
    devices
        Devices of the run, where they are known.
    assumed
        Takes what is left open.
    pairs
        Whether the trainer counts pairs of sequences.
    """
    if pairs and "micro_batch" in plan:
        plan["micro_batch"] *= PAIR
    replicas, steps = replicas_of(devices, plan), settings.whole("gradient_accumulation_steps") or 1
    if replicas is None or "micro_batch" not in plan:
        assumed.append("global_batch: it follows from the devices and the micro-batch; say it by --global-batch")
        return {}
    return {"global_batch": plan["micro_batch"] * steps * replicas}
