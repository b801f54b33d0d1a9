"""Configurations of LLaMA-Factory: YAML for training, adapting and aligning a model from the Hugging Face hub."""

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
    steps_of,
    written_launch,
)
from simulator.launch.settings import LaunchSettings
from simulator.launch.starting import environment, nodes_of
from simulator.launch.tables import options_of
from simulator.launch.trainers.adapters import read_targets, shares_adapters, written_targets
from simulator.launch.trainers.common import (
    batch_of,
    counted_in_samples,
    model_of_hub,
    of_deepspeed,
    optimizer_of,
    precision_of,
    said_optimizer,
    without_reference,
)
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan

_ZERO = {"zero2": "ds_z2", "zero3": "ds_z3"}
"""Configurations of DeepSpeed in examples/deepspeed, by the start of their names."""

_BASES: dict[str, dict[str, Any]] = {
    "nf4-double": {"quantization_bit": 4, "double_quantization": True},
    "nf4": {"quantization_bit": 4, "double_quantization": False},
    "int8": {"quantization_bit": 8},
}
"""Settings of formats of the frozen weights under bitsandbytes (model/model_utils/quantization.py)."""
_STAGES = {"dpo": "dpo", "reward": "rm"}
"""Stages of what is trained on pairs."""


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of LLaMA-Factory."""
    return "model_name_or_path" in document


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for LLaMA-Factory.

    Raises
    ------
    InputError
        Where the model has no name at the hub, or the plan cannot be run.
    """
    table, model, plan = options_of("llama-factory"), scenario.model, scenario.plan
    if model.id not in names_of("hub") or model.kind != "decoder":
        raise lacks(table.framework, f"name for {model.id}", "choose a decoder of the Hugging Face hub")
    if plan.sharding not in ("none", *_ZERO):
        what = f"configuration of DeepSpeed for sharding={plan.sharding} among its examples"
        raise lacks(table.framework, what, "choose zero2, zero3 or none")
    if (plan.tp or 1) > 1 or (plan.cp or 1) > 1:
        what = f"setting of its own for tp={plan.tp}, cp={plan.cp}"
        raise lacks(table.framework, what, "choose replicas, or write for axolotl or accelerate")
    _refuse_work(scenario)
    several = environment(scenario, nodes="NNODES", port="MASTER_PORT")
    command = f"FORCE_TORCHRUN=1 {several}NPROC_PER_NODE={nodes_of(scenario)[1]} llamafactory-cli train {{name}}"
    text = in_yaml(_settings, scenario)
    return written_launch(
        scenario, FrameworkFile("llama-factory", "llama-factory.yaml", command, text, _unsaid(scenario))
    )


def _refuse_work(scenario: Scenario) -> None:
    """Refuse references that it has not, and formats of frozen weights that it cannot hold."""
    work, framework = scenario.workload, options_of("llama-factory").framework
    held = work.base_precision
    if work.reference == "precomputed":
        raise lacks(framework, "reference=precomputed: it computes the reference's pass in every step", "choose copy")
    if held not in (None, *_BASES):
        raise lacks(framework, f"setting for base_precision={held}", f"choose {', '.join(_BASES)}")
    if held == "int8" and scenario.plan.sharding == "zero3":
        raise lacks(framework, "8-bit weights under ZeRO-3", "choose base_precision=nf4-double, or another sharding")


def _settings(scenario: Scenario) -> dict[str, Any]:
    table, plan, work = options_of("llama-factory"), scenario.plan, scenario.workload
    offload = "_offload" if plan.offload_optimizer else ""
    deepspeed = {"deepspeed": f"examples/deepspeed/{_ZERO.get(plan.sharding or '')}{offload}_config.json"}
    return {
        "model_name_or_path": names_of("hub")[scenario.model.id][0],
        "stage": _STAGES.get(work.preference or "", "sft" if work.train == "lora" else "pt"),
        "do_train": True,
        **_tuning(scenario),
        **_preference(scenario),
        **(deepspeed if plan.sharding in _ZERO else {}),
        "dataset": "my_dataset",
        **table.settings_for("workload", work, "sequence_length"),
        "packing": work.effective_tokens in (None, work.sequence_length) and work.preference is None,
        "output_dir": "saves",
        **table.settings_for("plan", counted_in_samples(scenario), "micro_batch"),
        "gradient_accumulation_steps": micro_batches_of(scenario),
        "max_steps": steps_of(scenario),
        "learning_rate": 1.0e-5,
        "lr_scheduler_type": "cosine",
        **said_optimizer("optim", plan.optimizer),
        **_precision(plan),
        **table.settings_for("plan", plan, "attention", "recompute"),
    }


def _tuning(scenario: Scenario) -> dict[str, Any]:
    """What is trained, and the format of the weights beside adapters."""
    work = scenario.workload
    if work.train != "lora":
        return {"finetuning_type": "full"}
    modules = written_targets(scenario.model, work, options_of("llama-factory").framework)
    held = _BASES.get(work.base_precision or "", {})
    return {
        "finetuning_type": "lora",
        **options_of("llama-factory").settings_for("workload", work, "lora_rank"),
        "lora_target": "all" if modules is None else ",".join(modules),
        "lora_dropout": work.lora_dropout or 0.0,
        **({"quantization_method": "bnb", **held} if held else {}),
    }


def _preference(scenario: Scenario) -> dict[str, Any]:
    """The loss of pairs, and a reference of its own where adapters would have their base."""
    work = scenario.workload
    if work.preference != "dpo":
        return {}
    own = {"ref_model": names_of("hub")[scenario.model.id][0]} if work.reference == "copy" else {}
    return {"pref_loss": "sigmoid", **(own if work.train == "lora" else {})}


def _precision(plan: Plan) -> dict[str, Any]:
    """Number formats; all states are in bf16 only where LLaMA-Factory allows it, which is not under ZeRO-3."""
    settings: dict[str, Any] = {"bf16": plan.precision in ("bf16", "fp8"), "fp16": plan.precision == "fp16"}
    if plan.precision in ("tf32", "fp8"):
        settings[plan.precision] = True
    return settings | ({"pure_bf16": True} if _pure(plan) else {})


def _pure(plan: Plan) -> bool:
    """Whether all states are in bf16, and can be."""
    narrow = plan.precision == "bf16" and plan.master_weights is False and not plan.parameters_in_fp32
    return narrow and plan.sharding != "zero3"


def _unsaid(scenario: Scenario) -> Iterator[str]:
    plan = scenario.plan
    yield f"devices={scenario.devices}: as many processes as the launcher starts"
    if plan.sharding in _ZERO:
        yield "number formats of gradients under DeepSpeed: those of the configuration that the file names"
    if plan.master_weights is False and not _pure(plan):
        yield "master_weights=False: DeepSpeed holds fp32 copies of 16-bit parameters"
    if not scenario.workload.says_length:
        yield "how long the run is: max_steps 1000 stands for it"
    if shares_adapters(scenario.model, scenario.workload):
        yield "an adapter each of queries, keys and values: the model computes them by one matrix, which has one"
    if scenario.workload.preference == "reward":
        yield _WITH_WORDS
    yield "learning rate, its schedule and data: those in the file are placeholders"


_WITH_WORDS = "logits of the vocabulary, which LLaMA-Factory's reward models compute beside the score: not counted"


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    plan: dict[str, Any] = {
        "tp": 1,
        "pp": 1,
        "cp": 1,
        "sharding": "none",
        **precision_of(settings),
        **settings.fields("plan", "micro_batch"),
        "optimizer": optimizer_of(settings, "optim"),
        **settings.fields("plan", "recompute", "attention"),
    }
    if settings.flag("tf32") and plan["precision"] == "fp32":
        plan["precision"] = "tf32"
    if settings.flag("pure_bf16"):
        plan |= {"precision": "bf16", "master_weights": False}
    plan |= of_deepspeed(settings, devices)
    if "disable_gradient_checkpointing" not in settings:
        assumed.append("recompute=full: LLaMA-Factory checkpoints each layer unless told")
    model = model_of_hub(settings, "model_name_or_path")
    work = settings.fields("workload", "sequence_length", "steps") | _read_tuning(settings, model, assumed)
    work |= _read_preference(settings, assumed, adapted="train" in work)
    if settings.value("stage") != "pt" and not (settings.flag("packing") or settings.flag("neat_packing")):
        assumed.append("packing is off, and how far sequences are padded is not known: say --effective-tokens")
    work |= batch_of(settings, plan, devices, assumed, pairs="preference" in work)
    return WhatIsSaid(plan, work, model, devices)


def _read_tuning(settings: LaunchSettings, model: str | None, assumed: list[str]) -> dict[str, Any]:
    """Adapters, and the format of the weights beside them; empty where the whole model is trained."""
    adapted = settings.word("finetuning_type", {"lora": True, "full": False})
    bits = settings.whole("quantization_bit")
    if adapted is None:
        assumed.append("train=lora: as LLaMA-Factory has it; finetuning_type: full trains the whole model")
    if adapted is False:
        if bits is not None:
            raise settings.wrong("quantization_bit", "holds a frozen model, and goes with finetuning_type: lora")
        return {}
    if settings.value("additional_target") not in (None, ""):
        raise settings.wrong("additional_target", "trains modules beside adapters, which capsim does not price")
    names = [name.strip() for name in str(settings.value("lora_target") or "all").split(",")]
    dropout = settings.real("lora_dropout")
    return {
        "train": "lora",
        **settings.fields("workload", "lora_rank"),
        "lora_targets": read_targets(settings, "lora_target", names, model, assumed),
        **({"lora_dropout": dropout} if dropout else {}),
        **_read_format(settings, bits),
    }


def _read_format(settings: LaunchSettings, bits: int | None) -> dict[str, Any]:
    """The format of the frozen weights; 16 bits unless told."""
    settings.word("quantization_method", {"bnb": True, "bitsandbytes": True})
    settings.word("quantization_type", {"nf4": True})
    twice = "double_quantization" not in settings or settings.flag("double_quantization")
    if bits not in (None, 4, 8):
        raise settings.wrong("quantization_bit", "is not understood; capsim reads 4 and 8")
    formats = {4: "nf4-double" if twice else "nf4", 8: "int8"}
    return {} if bits is None else {"base_precision": formats[bits]}


_LOSSES = {"sigmoid": True, "hinge": True, "ipo": True, "kto_pair": True, "orpo": False, "simpo": False}
"""Whether a loss of pairs compares with a reference."""


def _read_preference(settings: LaunchSettings, assumed: list[str], *, adapted: bool) -> dict[str, Any]:
    """What pairs of sequences train; empty of a run on texts. The reference is the base of adapters unless named."""
    stage = settings.word("stage", {"pt": None, "sft": None, "dpo": "dpo", "rm": "reward"})
    if stage is None:
        return {}
    if stage == "reward":
        assumed.append(_WITH_WORDS)
        return {"preference": "reward"}
    if settings.word("pref_loss", _LOSSES) is False:
        return without_reference(settings, "pref_loss", assumed)
    own = settings.value("ref_model")
    if own is not None:
        assumed.append(f"reference=copy: {own}, taken to be of the model's size and held in 16 bits")
    return {"preference": "dpo", "reference": "base" if adapted and own is None else "copy"}


read = DocumentReader("llama-factory", _meaning)
"""What a configuration of LLaMA-Factory says."""
