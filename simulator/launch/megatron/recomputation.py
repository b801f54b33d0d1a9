"""Recomputation in the words of Megatron Core, whatever its options are called.

`recompute_granularity`, `recompute_modules`, `recompute_method` and `recompute_num_layers` in
`megatron/core/transformer/transformer_config.py` of core_v0.19.0.
"""

from __future__ import annotations

from typing import Any

from simulator.launch.settings import LaunchSettings
from simulator.specs.choices import MODULES
from simulator.specs.plan import Plan

_METHODS = {"uniform": "uniform", "block": "block"}


def fields_of(settings: LaunchSettings, kind: str, names: tuple[str | None, str, str]) -> dict[str, Any]:
    """What of a plan says what is computed again.

    Parameters
    ----------
    settings
        They are read from.
    kind
        What the granularity means: none, selective or full.
    names
        Of the options for modules, which not every framework has, method and number of layers.

    Raises
    ------
    InputError
        With file and line, where a module is none that is understood.
    """
    said = None if names[0] is None else settings.value(names[0])
    listed = said if isinstance(said, list) else [said]
    method, number = settings.word(names[1], _METHODS), settings.whole(names[2])
    if kind == "selective" and names[0] is not None and said is not None and listed != ["core_attn"]:
        strange = next((name for name in listed if name not in MODULES), None)
        if strange is not None or not listed:
            what = "names no module" if strange is None else f"names {strange}, which is not understood"
            raise settings.wrong(names[0], f"{what}; capsim reads {', '.join(MODULES)}")
        return {"recompute": kind, "recompute_modules": tuple(dict.fromkeys(listed))}
    if kind == "full" and (method == "block" or (number or 1) > 1):
        return {"recompute": kind, "recompute_method": method or "uniform", "recompute_layers": number or 1}
    return {"recompute": kind}


def options_of_plan(plan: Plan) -> dict[str, Any]:
    """Granularity, modules, method and number of layers of a plan, by the names of Megatron Core; none unless said."""
    if plan.recompute == "selective":
        modules = {"recompute_modules": list(plan.recompute_modules)} if plan.recompute_modules else {}
        return {"recompute_granularity": "selective", **modules}
    if plan.recompute == "full":
        return {
            "recompute_granularity": "full",
            "recompute_method": plan.recompute_method or "uniform",
            "recompute_num_layers": plan.recompute_layers or 1,
        }
    return {}


def discards_outputs(plan: Plan) -> bool:
    """Whether modules are recomputed that discard what they return, which delayed scaling does not support."""
    return not {"moe_act", "layernorm"}.isdisjoint(plan.recompute_modules or ())
