"""A scenario from a configuration of torchtitan: TOML, as releases up to 0.2 read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hardware.errors import InputError
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.settings import LaunchSettings
from simulator.launch.torchtitan.stages import USUAL_LESS, cut, shares
from simulator.launch.torchtitan.words import (
    FIRST_LESS,
    FLOAT8,
    LAST_LESS,
    MODELS,
    OF_CHUNK,
    TWO_CHUNKS,
    USUAL_EVERY,
)
from simulator.specs.loading import load_model


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of torchtitan."""
    return bool({"parallelism", "activation_checkpoint", "job"} & document.keys()) and "model" in document


def meaning_of(
    settings: LaunchSettings, devices: int | None, assumed: list[str], known: str | None = None
) -> WhatIsSaid:
    """What settings mean, by the names that the TOML has.

    Parameters
    ----------
    settings
        They are read from.
    devices
        Devices of the run, where somebody says.
    assumed
        Takes what is open and was chosen.
    known
        The model, where it is known without the settings.
    """
    model = known or _model(settings)
    plan, shard = _read_degrees(settings, model, assumed)
    inner = plan["tp"] * plan["pp"] * plan["cp"]
    replicate = settings.whole("parallelism.data_parallel_replicate_degree") or 1
    if shard is None and devices is not None and devices % (inner * replicate) == 0:
        shard = devices // (inner * replicate)
    plan |= _read_sharding(settings, replicate, shard, plan["cp"])
    plan |= _read_precision(settings, shared=plan["sharding"] != "none") | _read_recompute(settings, assumed)
    if shard is not None:
        plan["dp"] = replicate * shard
        devices = devices or plan["dp"] * inner
    workload = _read_batch(settings, plan, assumed)
    if not settings.flag("compile.enable"):
        assumed.append("a model that torch.compile compiles, as torchtitan's published runs are: compile.enable is off")
    return WhatIsSaid(plan, workload, model, devices)


def _model(settings: LaunchSettings) -> str | None:
    """A model of the catalogue; none of a flavour that it does not have."""
    name, flavour = settings.value("model.name"), settings.value("model.flavor")
    known = {(kind, size): model for model, (kind, size) in reversed(MODELS.items())}
    return known.get((str(name), str(flavour)))


def _read_degrees(settings: LaunchSettings, model: str | None, assumed: list[str]) -> tuple[dict[str, Any], int | None]:
    """Degrees of the axes, and the replicas that share parameters where they are told."""
    plan = settings.fields("plan", "tp", "pp", "cp", "ep")
    expert = settings.whole("parallelism.expert_tensor_parallel_degree")
    if plan["ep"] > 1:
        plan["etp"] = expert or 1
    plan["sequence_parallel"] = plan["tp"] > 1
    schedule = settings.fields("plan", "schedule")["schedule"]
    less = [settings.whole(name, least=0) for name in (FIRST_LESS, LAST_LESS)]
    if plan["pp"] > 1:
        ends = [USUAL_LESS if number is None else number for number in less]
        chunks = _read_chunks(settings, plan["pp"], schedule, model, ends)
        plan |= {"schedule": schedule, "virtual_stages": chunks}
        plan |= _read_ends(settings, plan, model, ends, assumed)
    shard = settings.whole("parallelism.data_parallel_shard_degree", least=-1)
    return plan, 1 if shard == 0 else None if shard in (None, -1) else shard


def _read_chunks(settings: LaunchSettings, stages: int, schedule: str, model: str | None, ends: Sequence[int]) -> int:
    """Chunks of layers of a device."""
    of_chunk = settings.whole(OF_CHUNK)
    usual = 2 if schedule in TWO_CHUNKS else 1
    if of_chunk is None:
        return usual
    if model is None:
        raise settings.wrong(
            OF_CHUNK,
            "leaves the chunks of a device open, since the model is none that capsim knows the layers of; leave it out",
        )
    chunks = -(-(load_model(model).layers + sum(ends)) // of_chunk)
    if chunks % stages:
        raise settings.wrong(OF_CHUNK, f"makes {chunks} chunks of {model}, which {stages} stages do not share evenly")
    if (chunks // stages > 1) is not (usual > 1):
        needs = "two chunks or more" if usual > 1 else "one chunk"
        raise settings.wrong(OF_CHUNK, f"makes {chunks // stages} chunks a device, where the schedule has {needs}")
    return chunks // stages


def _read_ends(
    settings: LaunchSettings, plan: dict[str, Any], model: str | None, ends: Sequence[int], assumed: list[str]
) -> dict[str, int]:
    """Layers of the first and the last stage, where they are other than capsim's; of chunks they are taken as even."""
    if model is None:
        assumed.append("stages of equal layers: the model's are not known")
        return {}
    layers, stages, chunks = load_model(model).layers, plan["pp"], plan["virtual_stages"]
    held = cut(layers, stages * chunks, *ends)
    if held is None:
        place = FIRST_LESS if FIRST_LESS in settings else LAST_LESS
        raise InputError(
            f"{settings.place(place)}: torchtitan does not cut {layers} layers into {stages * chunks} chunks where "
            f"embedding and head count for {ends[0]} and {ends[1]} of them; choose fewer stages"
        )
    if chunks == 1:
        return {} if held == shares(layers, stages) else {"first_stage_layers": held[0], "last_stage_layers": held[-1]}
    if len(set(held)) > 1 and (layers + 2) % (stages * chunks):
        assumed.append(f"chunks of equal layers: torchtitan cuts {', '.join(map(str, held))}")
    return {}


def _read_sharding(settings: LaunchSettings, replicate: int, shard: int | None, context: int) -> dict[str, Any]:
    """What replicas share."""
    kept = settings.word("parallelism.fsdp_reshard_after_forward", {"default": False, "always": False, "never": True})
    if shard == 1 and context == 1:
        return {"sharding": "none"}
    if replicate > 1:
        if shard is None:
            raise settings.wrong(
                "parallelism.data_parallel_replicate_degree", "leaves the shard degree open; give it, or --devices"
            )
        return {"sharding": "hybrid", "sharding_group": shard * context}
    return {"sharding": "zero2" if kept else "zero3"}


def _read_precision(settings: LaunchSettings, *, shared: bool) -> dict[str, Any]:
    """Number formats of products, states and gradients, where parameters are shared or not."""
    states = settings.word("training.dtype", {"bfloat16": "bf16", "float32": "fp32"}) or "fp32"
    products = settings.fields("plan", "precision")["precision"]
    converters = settings.value("model.converters") or []
    if not isinstance(converters, list):
        raise settings.wrong("model.converters", f'must be a list, such as ["{FLOAT8[0]}"]')
    unknown = [name for name in converters if name not in FLOAT8]
    if unknown:
        raise settings.wrong(
            "model.converters", f"holds {unknown[0]!r}, which is not understood; capsim reads {FLOAT8[0]}"
        )
    plan: dict[str, Any] = {"precision": "fp8" if converters else products, "optimizer": "adamw"}
    settings.word("optimizer.name", {"adamw": True, "adam": True})
    if states == "bf16":
        plan |= {"master_weights": False, "gradients_in_fp32": False, "precision": "fp8" if converters else "bf16"}
    elif products == "bf16":
        plan["gradients_in_fp32"] = True
    settings.word("training.mixed_precision_reduce", {"float32": True})
    if products == "bf16" and shared:
        plan["reduction_in_fp32"] = True  # of FSDP; replicas alone reduce gradients as they are stored
    return plan | settings.fields("plan", "offload_optimizer")


def _read_recompute(settings: LaunchSettings, assumed: list[str]) -> dict[str, Any]:
    """What the backward pass computes again."""
    modes = {"none": "none", "full": "full", "selective": "selective"}
    mode = settings.word("activation_checkpoint.mode", modes)
    option = settings.value("activation_checkpoint.selective_ac_option")
    if mode in ("none", "full"):
        return {"recompute": mode}
    if option is None:
        assumed.append(f"recompute_layers={USUAL_EVERY}, recompute_method=every: as torchtitan has it")
        option = USUAL_EVERY
    if option == "op":
        return {"recompute": "operators"}
    if not str(option).isdecimal():
        raise settings.wrong("activation_checkpoint.selective_ac_option", "is neither op nor every how many layers")
    counted = max(int(str(option)), 1)  # none at all means each
    several = {"recompute_method": "every", "recompute_layers": counted} if counted > 1 else {}
    return {"recompute": "full", **several}


def _read_batch(settings: LaunchSettings, plan: dict[str, Any], assumed: list[str]) -> dict[str, Any]:
    """Sequence, batch and length of the run."""
    local = settings.whole("training.local_batch_size") or 8
    batch = settings.whole("training.global_batch_size", least=-1)
    part = settings.whole("parallelism.pipeline_parallel_microbatch_size") or 1
    plan["micro_batch"] = part if plan["pp"] > 1 else local
    work = settings.fields("workload", "sequence_length")
    if batch is None or batch < 0:
        batch = local * plan["dp"] if "dp" in plan else None
        assumed.append(
            f"global_batch={batch}: one local batch of each replica"
            if batch
            else "global_batch: it follows from the devices; say --devices"
        )
    if batch is not None:
        work["global_batch"] = batch
    return work | settings.fields("workload", "steps")


read = DocumentReader("torchtitan", meaning_of)
"""What a configuration of torchtitan says."""
