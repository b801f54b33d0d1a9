"""The fields of a scenario, and what the public API takes for what was chosen of them: pure, without streamlit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import permutations
from typing import Any, get_args

import simulator
from dashboard.choices.state import Choices, Field
from dashboard.choices.uploaded import is_uploaded, profile_of, system_of, title_of
from hardware import catalogue
from hardware.classes import Precision
from hardware.errors import InputError
from simulator.pricing.measured import suits
from simulator.specs.choices import (
    AttentionKernel,
    BasePrecision,
    CrossEntropy,
    Fp8Scaling,
    Optimizer,
    Preference,
    Recompute,
    RecomputeMethod,
    Reference,
    Schedule,
    Sharding,
    Trained,
)
from simulator.specs.loading import names
from simulator.specs.model import Objective
from simulator.specs.running import PriceKind
from simulator.specs.software.naming import further_names

GROUPS = ("plan", "workload", "ownership", "reliability")
"""Parts of a scenario that the API takes as mappings."""
_LEADING = re.compile(r"^(?:\w+\.)?(\w+)(?==|:| and )")
BEST = "best_plan"
"""The field that says whether the plan is the best of all."""


@cache
def fields() -> tuple[Field, ...]:
    """Every field of a scenario, in the order of the controls."""
    return (*_what(), *_workload(), *_plan(), *_money(), *_reliability())


@cache
def field(name: str) -> Field:
    """A field of a scenario by name."""
    return next(each for each in fields() if each.name == name)


def _what() -> tuple[Field, ...]:
    """What runs on what."""
    systems = (*catalogue.names("systems"), *catalogue.names("devices"), *simulator.profile_hosts())
    return (
        Field("model", "Model", "choice", tuple(names("models")), default="bert-large"),
        Field("system", "System", "choice", systems, default="dgx-a100-640gb"),
        Field("devices", "Devices", "whole"),
        Field("stack", "Stack", "choice", (*names("stacks"), *sorted(further_names()))),
        Field("objective", "Objective", "choice", get_args(Objective)),
        Field("fits", "Chance of fitting", "text", example="80%"),
        Field(BEST, "Best plan of all", "flag", default=False),
    )


def _workload() -> tuple[Field, ...]:
    """What is trained on."""
    group = "workload"
    return (
        Field("sequence_length", "Sequence length", "whole", group=group),
        Field("global_batch", "Global batch", "whole", group=group),
        Field("tokens", "Tokens in total", "amount", group=group, example="780B"),
        Field("steps", "Steps in total", "whole", group=group),
        Field("target_length", "Target length", "whole", group=group),
        Field("effective_tokens", "Effective tokens", "amount", group=group, example="90.5"),
        Field("document_lengths", "Document lengths", "text", group=group, example="700 or 2048,1024,512,512"),
        Field("document_deviation", "Deviation of lengths", "amount", group=group, example="500"),
        Field("predictions", "Predictions", "whole", group=group),
        Field("expert_imbalance", "Expert imbalance", "amount", group=group, example="1.5"),
        Field("capacity_factor", "Capacity factor", "amount", group=group, example="1.25"),
        Field("multi_token", "Further predictions", "flag", group=group),
        Field("label_smoothing", "Label smoothing", "amount", group=group, example="0.1"),
        Field("z_loss", "z-loss", "amount", group=group, example="0.0001"),
        Field("train", "Trained", "choice", get_args(Trained), group=group, example="full"),
        Field("base_precision", "Frozen weights in", "choice", get_args(BasePrecision), group=group),
        Field("lora_rank", "LoRA rank", "whole", group=group),
        Field("lora_targets", "LoRA targets", "text", group=group, example="all-linear or q_proj,v_proj"),
        Field("lora_dropout", "LoRA dropout", "amount", group=group, example="0.05"),
        Field("dora", "DoRA", "flag", group=group),
        Field("virtual_tokens", "Virtual tokens", "whole", group=group, example="20"),
        Field("preference", "Preferences", "choice", get_args(Preference), group=group, example="none"),
        Field("reference", "Reference", "choice", get_args(Reference), group=group),
        Field("teacher", "Teacher", "choice", tuple(names("models")), group=group, example="none"),
        Field("keeps_teacher_logits", "Keep teacher's logits", "flag", group=group),
    )


def _plan() -> tuple[Field, ...]:
    """How it is split."""
    orders = tuple("-".join(order) for order in permutations(("tp", "cp", "dp", "pp")))
    group = "plan"
    return (
        Field("micro_batch", "Micro-batch", "whole", group=group),
        Field("recompute", "Recompute", "choice", get_args(Recompute), group=group),
        Field("recompute_modules", "Recomputed modules", "text", group=group, example="core_attn,mlp"),
        Field("recompute_layers", "Recomputed layers", "whole", group=group),
        Field("recompute_method", "Which layers", "choice", get_args(RecomputeMethod), group=group),
        Field("attention", "Attention", "choice", get_args(AttentionKernel), group=group),
        Field("cross_entropy", "Cross-entropy", "choice", get_args(CrossEntropy), group=group),
        Field("dp", "Data (dp)", "whole", group=group),
        Field("tp", "Tensor (tp)", "whole", group=group),
        Field("pp", "Pipeline (pp)", "whole", group=group),
        Field("virtual_stages", "Virtual stages", "whole", group=group),
        Field("cp", "Context (cp)", "whole", group=group),
        Field("ep", "Expert (ep)", "whole", group=group),
        Field("etp", "Expert tensor (etp)", "whole", group=group),
        Field("sharding", "Sharding", "choice", get_args(Sharding), group=group),
        Field("sharding_group", "Sharding group", "whole", group=group),
        Field("precision", "Precision", "choice", get_args(Precision), group=group),
        Field("fp8_scaling", "Scales of fp8", "choice", get_args(Fp8Scaling), group=group),
        Field("optimizer", "Optimizer", "choice", get_args(Optimizer), group=group),
        Field("schedule", "Schedule", "choice", get_args(Schedule), group=group),
        Field("placement", "Placement", "choice", orders, group=group),
        Field("sequence_parallel", "Sequence parallel", "flag", group=group),
        Field("activation_inputs_in_fp8", "Activation inputs in fp8", "flag", group=group),
        Field("parameters_in_fp32", "Parameters in fp32", "flag", group=group),
        Field("gradients_in_fp32", "Gradients in fp32", "flag", group=group),
        Field("reduction_in_fp32", "Reduction in fp32", "flag", group=group),
        Field("master_weights", "Master weights", "flag", group=group),
        Field("clip_gradients", "Clip gradients", "flag", group=group),
        Field("optimizer_in_backward", "Optimizer in backward", "flag", group=group),
        Field("offload_optimizer", "Offload optimizer", "flag", group=group),
    )


def _money() -> tuple[Field, ...]:
    """What it costs."""
    group = "ownership"
    return (
        Field("price", "Price", "text", example="2.50 or a provider"),
        Field("price_kind", "Kind of price", "choice", get_args(PriceKind)),
        Field("purchase_price", "Purchase price", "text", group=group, example="25000 USD"),
        Field("lifetime", "Lifetime", "text", group=group, example="5 years"),
        Field("electricity", "Electricity", "text", group=group, example="0.08 USD/kWh"),
        Field("grid", "Grid", "choice", tuple(catalogue.grids())),
        Field("overhead", "Overhead", "choice", tuple(catalogue.overheads())),
        Field("constants", "Constants", "choice", ("none",)),
        Field("profile", "Measured profile", "choice", tuple(catalogue.names("profiles")), example="none"),
    )


def offered(each: Field, choices: Choices, held: Iterable[str] = ()) -> Field:
    """A field with the options that make sense for what is chosen: profiles that speak for the system's devices.

    Parameters
    ----------
    each
        The field.
    choices
        Of a scenario.
    held
        Names of uploaded profiles that the session has.
    """
    if each.name not in ("profile", "system"):
        return each
    value = choices[each.name]
    own = (str(value),) if is_uploaded(value) else ()
    options = (*each.options, *own)
    if each.name == "profile":
        options = (*_profiles(choices), *(name for name in held if name not in own and _suits(name, choices)), *own)
        options = options if value is None or value in options else (*options, str(value))
    labels = tuple(map(title_of, options))
    return replace(each, options=options, labels=labels, example=each.example if options else "none for this device")


_OF_EXPERTS = ("expert_imbalance", "capacity_factor")
"""Fields that only mixtures of experts have."""
_OF_FROZEN = {
    "base_precision": ("lora", "prompt", "prefix", "head"),
    **dict.fromkeys(("lora_rank", "lora_targets", "lora_dropout", "dora"), ("lora",)),
    "virtual_tokens": ("prompt", "prefix"),
}
"""Fields that only runs with frozen weights have, and what these train."""
_BESIDE: dict[str, tuple[str, str | None]] = {
    "reference": ("preference", "dpo"),
    "keeps_teacher_logits": ("teacher", None),
}
"""Fields that only runs beside a frozen model have, and the choice, or any, of another field that says so."""
_OF_RECOMPUTE = {"recompute_modules": "selective", "recompute_layers": "full", "recompute_method": "full"}
"""Fields that say more of one kind of recomputation, and which."""


def applies(each: Field, choices: Choices) -> bool:
    """Whether a field means something for what is chosen, or has a value that can be taken away."""
    if each.name in _OF_RECOMPUTE and choices[each.name] is None:
        return choices["recompute"] == _OF_RECOMPUTE[each.name]
    if each.name in _BESIDE and choices[each.name] is None:
        name, value = _BESIDE[each.name]
        return choices[name] is not None and value in (None, choices[name])
    if each.name in _OF_FROZEN and choices[each.name] is None:
        return choices["train"] in _OF_FROZEN[each.name]
    if each.name not in _OF_EXPERTS or choices[each.name] is not None:
        return True
    try:
        return simulator.load_model(choices.text("model")).experts > 1
    except InputError:
        return False


def has_upload(choices: Choices) -> bool:
    """Whether a scenario has something that was uploaded, which no link holds."""
    return any(is_uploaded(choices[name]) for name in ("profile", "system"))


def is_host(system: str) -> bool:
    """Whether a system is a host of a device that only a profile knows; the API takes it where no system is named."""
    return is_uploaded(system) or system in simulator.profile_hosts()


def _profiles(choices: Choices) -> tuple[str, ...]:
    """The shipped profiles that speak for the devices of the system."""
    system = choices.text("system")
    if is_host(system):
        return simulator.profile_hosts().get(system, ())
    try:
        return simulator.profiles_for(system)
    except InputError:
        return ()


def _suits(name: str, choices: Choices) -> bool:
    """Whether an uploaded profile speaks for the devices of the system."""
    profile = simulator.load_profile(profile_of(name))
    if is_host(choices.text("system")):
        return choices["system"] == system_of(name, profile)
    try:
        return suits(profile, simulator.load_system(choices.text("system")))
    except InputError:
        return False


def _reliability() -> tuple[Field, ...]:
    """How often it is interrupted."""
    group = "reliability"
    return (
        Field("failure_rate", "Failure rate", "text", group=group, example="5e-4 /d"),
        Field("preemption_rate", "Preemption rate", "text", group=group, example="0.01 /h"),
        Field("capacity_wait", "Capacity back after", "text", group=group, example="2 h"),
        Field("restart", "Restart", "text", group=group, example="10 min"),
        Field("checkpoint_every", "Checkpoint every", "text", group=group, example="30 min"),
        Field("storage_bandwidth", "Storage bandwidth", "text", group=group, example="50 GB/s"),
    )


def arguments(choices: Choices) -> dict[str, Any]:
    """What `simulator.estimate` takes for the choices; open fields and empty groups are left out."""
    values: dict[str, Any] = {name: value for name, value in choices.only(fields()).values if name != BEST}
    groups = {group: {each.name for each in fields() if each.group == group} for group in GROUPS}
    taken: dict[str, Any] = {
        "model": values["model"],
        "system": None if is_host(values["system"]) else values["system"],
    }
    if "profile" in values:
        values["profile"] = profile_of(values["profile"])
    objective = values.pop("objective", None)
    if objective is not None:
        taken["model"] = {"base": values["model"], "objective": objective}
    order = [each.name for each in fields()]
    inside = {name for members in groups.values() for name in members}
    for name in sorted(values, key=order.index):
        if name not in inside:
            taken.setdefault(name, values[name])
    for group, members in groups.items():
        part = {name: values[name] for name in sorted(values, key=order.index) if name in members}
        if part:
            taken[group] = part
    return taken


def blamed(error: InputError, choices: Choices) -> str | None:
    """The field that an error is about: the likeliest that was chosen, or else the likeliest; nothing if none is."""
    known = {each.name for each in fields()}
    begins = [name for name in _LEADING.findall(str(error)) if not error.fields or choices[name] is not None]
    names = [name for name in (*begins, *(name.rpartition(".")[2] for name in error.fields)) if name in known]
    return next((name for name in names if choices[name] is not None), next(iter(names), None))
