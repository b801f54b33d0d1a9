"""Configurations of axolotl: YAML for training, adapting and aligning a model from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulator.launch.naming import names_of
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import (
    FrameworkFile,
    in_yaml,
    lacks,
    micro_batches_of,
    sharding_ranks,
    steps_of,
    written_launch,
)
from simulator.launch.settings import LaunchSettings
from simulator.launch.starting import rendezvous
from simulator.launch.tables import options_of
from simulator.launch.trainers.adapters import read_targets, shares_adapters, written_targets
from simulator.launch.trainers.common import (
    STRATEGIES,
    batch_of,
    counted_in_samples,
    hybrid_of,
    model_of_hub,
    of_deepspeed,
    optimizer_of,
    precision_of,
    said_optimizer,
    without_reference,
)
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload

_BASES: dict[str, dict[str, Any]] = {
    "nf4-double": {"adapter": "qlora", "load_in_4bit": True},
    "nf4": {"adapter": "qlora", "load_in_4bit": True, "bnb_config_kwargs.bnb_4bit_use_double_quant": False},
    "int8": {"adapter": "lora", "load_in_8bit": True},
}
"""Settings of formats of the frozen weights (loaders/model.py: 4-bit ones are quantised twice unless told)."""
_ZERO = {"zero1": "zero1.json", "zero2": "zero2.json", "zero3": "zero3_bf16.json"}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of axolotl."""
    return "base_model" in document


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for axolotl.

    Raises
    ------
    InputError
        Where the model has no name at the hub, or the plan cannot be run.
    """
    table, model = options_of("axolotl"), scenario.model
    if model.id not in names_of("hub") or model.kind != "decoder":
        raise lacks(table.framework, f"name for {model.id}", "choose a decoder of the Hugging Face hub")
    if _uses_deepspeed(scenario.plan) and (scenario.plan.tp or 1) > 1:
        raise lacks(table.framework, "tensor parallelism beside DeepSpeed", "choose sharding=zero3")
    _refuse_quantised(scenario)
    command = f"axolotl train {{name}} --launcher torchrun -- {rendezvous(scenario)}"
    text = in_yaml(_settings, scenario)
    return written_launch(scenario, FrameworkFile("axolotl", "axolotl.yaml", command, text, _unsaid(scenario)))


def _refuse_quantised(scenario: Scenario) -> None:
    """Refuse formats of frozen weights that axolotl has no setting for, or not beside FSDP."""
    plan, work = scenario.plan, scenario.workload
    held = work.base_precision
    if held not in (None, *_BASES):
        raise lacks("axolotl", f"setting for base_precision={held}", f"choose {', '.join(_BASES)}")
    shares = plan.sharding not in (None, "none") and not _uses_deepspeed(plan)
    if held is not None and work.preference == "dpo" and shares:
        what = f"base_precision={held} with preference=dpo under FSDP ({plan.sharding})"
        raise lacks("axolotl", what, "choose sharding=none or zero1")


def _uses_deepspeed(plan: Plan) -> bool:
    """Whether a plan is DeepSpeed's: FSDP shares parameters, or offloads all that it shares."""
    return plan.sharding == "zero1" or (plan.sharding == "zero2" and bool(plan.offload_optimizer))


def _settings(scenario: Scenario) -> dict[str, Any]:
    table, plan, work = options_of("axolotl"), scenario.plan, scenario.workload
    return {
        "base_model": names_of("hub")[scenario.model.id][0],
        **_tuning(scenario),
        **_preference(work),
        "datasets": [{"path": "my-dataset", "type": _DATA.get(work.preference or "", "completion")}],
        "output_dir": "./outputs",
        **table.settings_for("workload", work, "sequence_length"),
        "sample_packing": work.effective_tokens in (None, work.sequence_length) and work.preference is None,
        **table.settings_for("plan", counted_in_samples(scenario), "micro_batch"),
        "gradient_accumulation_steps": micro_batches_of(scenario),
        "max_steps": steps_of(scenario),
        **said_optimizer("optimizer", plan.optimizer),
        "learning_rate": 2e-5,
        "lr_scheduler": "cosine",
        **_precision(plan),
        **table.settings_for("plan", plan, "attention"),
        "gradient_checkpointing": plan.recompute == "full",
        **_sharding(plan),
    }


_DATA = {"dpo": "chatml.intel", "reward": "bradley_terry.chat_template"}
"""Types of data of a preference."""


def _tuning(scenario: Scenario) -> dict[str, Any]:
    """Adapters and the format of the weights beside them; nothing where the whole model is trained."""
    work = scenario.workload
    if work.train != "lora":
        return {}
    modules = written_targets(scenario.model, work, "axolotl")
    return {
        **_BASES.get(work.base_precision or "", {"adapter": "lora"}),
        **options_of("axolotl").settings_for("workload", work, "lora_rank"),
        "lora_alpha": 2 * (work.lora_rank or 0),
        "lora_dropout": work.lora_dropout or 0.0,
        **({"peft_use_dora": True} if work.dora else {}),
        **({"lora_target_linear": True} if modules is None else {"lora_target_modules": list(modules)}),
    }


def _preference(work: Workload) -> dict[str, Any]:
    """What pairs of sequences train, and what they are compared with."""
    if work.preference is None:
        return {}
    if work.preference == "reward":
        return {"reward_model": True, "model_type": "AutoModelForSequenceClassification", "num_labels": 1}
    held = {"rl_adapter_ref_model": True} if work.reference == "copy" and work.train == "lora" else {}
    return {"rl": "dpo", **held, **({"precompute_ref_log_probs": True} if work.reference == "precomputed" else {})}


def _precision(plan: Plan) -> dict[str, Any]:
    narrow = plan.precision == "fp8"
    return {
        "bf16": plan.precision in ("bf16", "fp8"),
        "fp16": plan.precision == "fp16",
        "tf32": plan.precision == "tf32",
        **({"fp8": True} if narrow else {}),
    }


def _sharding(plan: Plan) -> dict[str, Any]:
    """FSDP where parameters are shared, DeepSpeed where only states are."""
    degrees = options_of("axolotl").settings_for("plan", plan, "tp", "cp")
    if plan.sharding in (None, "none"):
        return {name: size for name, size in degrees.items() if size > 1}
    if _uses_deepspeed(plan):
        return {"deepspeed": f"deepspeed_configs/{_ZERO[plan.sharding]}"}
    replicas = plan.dp or 1
    shared = sharding_ranks(plan, "axolotl")
    settings = {
        "offload_params": bool(plan.offload_optimizer),
        "reshard_after_forward": plan.sharding != "zero2",
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "state_dict_type": "SHARDED_STATE_DICT",
    }
    degrees |= {"dp_replicate_size": replicas // shared, "dp_shard_size": shared}
    return {"fsdp_version": 2, "fsdp_config": settings, **degrees}


def _unsaid(scenario: Scenario) -> Iterator[str]:
    plan = scenario.plan
    yield f"devices={scenario.devices}: as many processes as the launcher starts"
    if _uses_deepspeed(plan):
        yield "offloading and precision of DeepSpeed: those of the configuration that the file names"
    elif plan.offload_optimizer:
        yield "offloading of states alone: offload_params moves parameters and gradients too"
    if not scenario.workload.says_length:
        yield "how long the run is: max_steps 1000 stands for it"
    if shares_adapters(scenario.model, scenario.workload):
        yield "an adapter each of queries, keys and values: the model computes them by one matrix, which has one"
    alpha = ", lora_alpha" if scenario.workload.train == "lora" else ""
    yield f"learning rate, its schedule{alpha} and data: those in the file are placeholders"


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    plan: dict[str, Any] = {"pp": 1, **precision_of(settings), **_read_degrees(settings)}
    if settings.flag("tf32") and plan["precision"] == "fp32":
        plan["precision"] = "tf32"
    plan |= of_deepspeed(settings, devices) or _read_fsdp(settings, plan, devices)
    plan |= _read_others(settings)
    model = model_of_hub(settings, "base_model")
    work = settings.fields("workload", "sequence_length")
    if not settings.flag("sample_packing"):
        assumed.append("sample_packing is off, and how far sequences are padded is not known: say --effective-tokens")
    work |= settings.fields("workload", "steps") | _read_tuning(settings, model, assumed)
    work |= _read_preference(settings, assumed, adapted="train" in work)
    work |= batch_of(settings, plan, devices, assumed, pairs="preference" in work)
    return WhatIsSaid(plan, work, model, devices)


def _read_tuning(settings: LaunchSettings, model: str | None, assumed: list[str]) -> dict[str, Any]:
    """Adapters, and the format of the weights beside them; empty where the whole model is trained."""
    kind = settings.word("adapter", {"lora": "lora", "qlora": "qlora", "": None, "none": None})
    held = {name: settings.flag(f"load_in_{name}") for name in ("4bit", "8bit")}
    wanted = {None: (), "lora": ("8bit",), "qlora": ("4bit",)}[kind]
    for name, on in held.items():
        if on and name not in wanted:
            remedy = {"4bit": "adapter: qlora", "8bit": "adapter: lora"}[name]
            raise settings.wrong(f"load_in_{name}", f"goes with {remedy} alone; write that, or leave it out")
    if kind == "qlora" and not held["4bit"]:
        raise settings.wrong("adapter", "goes with load_in_4bit: true; add it, or write lora")
    if kind is None:
        return {}
    work: dict[str, Any] = {"train": "lora", **settings.fields("workload", "lora_rank")}
    work["lora_targets"] = _read_targets(settings, model, assumed)
    dropout = settings.real("lora_dropout")
    if dropout:
        work["lora_dropout"] = dropout
    if settings.flag("peft_use_dora"):
        work["dora"] = True
    if held["8bit"]:
        work["base_precision"] = "int8"
    if held["4bit"]:
        settings.word("bnb_config_kwargs.bnb_4bit_quant_type", {"nf4": True})
        twice = "bnb_config_kwargs.bnb_4bit_use_double_quant"
        work["base_precision"] = "nf4-double" if twice not in settings or settings.flag(twice) else "nf4"
    return work


def _read_targets(settings: LaunchSettings, model: str | None, assumed: list[str]) -> tuple[str, ...]:
    """Matrices with an adapter: all, or those of modules by name."""
    listed, every = settings.value("lora_target_modules"), settings.flag("lora_target_linear")
    names = [listed] if isinstance(listed, str) else list(listed or [])
    if every:
        return read_targets(settings, "lora_target_linear", ["all-linear"], model, assumed)
    if not names:
        raise settings.wrong("adapter", "has no modules; add lora_target_linear: true, or lora_target_modules")
    return read_targets(settings, "lora_target_modules", list(map(str, names)), model, assumed)


_LOSSES = {"dpo": True, "ipo": True, "orpo": False, "simpo": False}
"""Whether a loss of pairs compares with a reference."""


def _read_preference(settings: LaunchSettings, assumed: list[str], *, adapted: bool) -> dict[str, Any]:
    """What pairs of sequences train; empty of a run on texts. The reference is the base of adapters (train.py)."""
    if settings.flag("reward_model"):
        labels = settings.whole("num_labels")
        if labels not in (None, 1):
            raise settings.wrong("num_labels", "is not one score a sequence, as capsim prices a reward model")
        return {"preference": "reward"}
    compares = settings.word("rl", _LOSSES)
    ready, held = settings.flag("precompute_ref_log_probs"), settings.flag("rl_adapter_ref_model")
    if compares is None:
        return {}
    if not compares:
        return without_reference(settings, "rl", assumed)
    reference = "precomputed" if ready else "base" if adapted and not held else "copy"
    return {"preference": "dpo", "reference": reference}


def _read_degrees(settings: LaunchSettings) -> dict[str, Any]:
    plan = settings.fields("plan", "tp", "cp")
    if (settings.whole("expert_parallel_size") or 1) > 1:
        raise settings.wrong(
            "expert_parallel_size", "is not understood: capsim's huggingface has no expert parallelism"
        )
    return plan


def _read_fsdp(settings: LaunchSettings, plan: Mapping[str, Any], devices: int | None) -> dict[str, Any]:
    """What FSDP shares."""
    keys = [name for name in settings.names() if name.startswith("fsdp")]
    replicate, shard = settings.whole("dp_replicate_size") or 1, settings.whole("dp_shard_size")
    if not keys and (shard or 1) == 1:
        return {"sharding": "none"}
    kept = settings.value("fsdp_config.reshard_after_forward", "fsdp_config.fsdp_reshard_after_forward")
    strategy = _read_strategy(settings)
    offload = settings.flag("fsdp_config.offload_params", "fsdp_config.fsdp_offload_params")
    sharing = {"sharding": strategy or ("zero2" if kept is False else "zero3"), "offload_optimizer": offload}
    if settings.flag("fsdp_config.activation_checkpointing", "fsdp_config.fsdp_activation_checkpointing"):
        sharing["recompute"] = "full"
    if replicate == 1:
        return sharing
    if_open = ("dp_replicate_size", "leaves the shard size open; add dp_shard_size or say --devices")
    return sharing | hybrid_of(settings, plan, devices, replicate, shard, if_open)


def _read_strategy(settings: LaunchSettings) -> str | None:
    """What FSDP 1 shares, by the word of its strategy or a list of words; none where neither is there."""
    listed = settings.value("fsdp")
    words = listed if isinstance(listed, list) else str(listed or "").split()
    unknown = [word for word in words if str(word) not in (*STRATEGIES, *_NO_STRATEGY)]
    if unknown:
        raise settings.wrong(
            "fsdp", f"holds {unknown[0]}, which is not understood; capsim reads {', '.join(STRATEGIES)}"
        )
    by_list = next((STRATEGIES[word] for word in map(str, words) if word in STRATEGIES), None)
    names = ("fsdp_config.sharding_strategy", "fsdp_config.fsdp_sharding_strategy")
    return next((strategy for name in names if (strategy := settings.word(name, STRATEGIES))), by_list)


_NO_STRATEGY = ("auto_wrap", "offload")
"""Words of the list that choose no strategy; offloading is a setting of its own in files of today."""


def _read_others(settings: LaunchSettings) -> dict[str, Any]:
    """Micro-batch, optimizer, recomputation and attention."""
    kernel = settings.fields("plan", "attention").get("attention")
    flags = {name: settings.flag(name) for name in ("flash_attention", "sdp_attention", "eager_attention")}
    kernel = kernel or ("unfused" if flags["eager_attention"] else "fused" if any(flags.values()) else None)
    checkpointing = settings.value("gradient_checkpointing")
    if checkpointing in ("offload", "offload_disk"):
        raise settings.wrong("gradient_checkpointing", "offloads activations, which capsim does not price")
    plan: dict[str, Any] = {
        **settings.fields("plan", "micro_batch"),
        "optimizer": optimizer_of(settings, "optimizer"),
    }
    if kernel is not None:
        plan["attention"] = kernel
    if checkpointing is not None:
        plan["recompute"] = "full" if settings.flag("gradient_checkpointing") else "none"
    return {"recompute": "none", **plan}


read = DocumentReader("axolotl", _meaning)
"""What a configuration of axolotl says."""
