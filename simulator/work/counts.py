"""Exact counts of the whole model and step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.formulas.typing import Num
from simulator.specs.parts import ExpertFeedForward
from simulator.work.program import Program, program_of
from simulator.work.tallies import Tally
from simulator.work.transformer import Scenarios


@dataclass(frozen=True)
class Counts:
    """Counts of the whole model and step."""

    parameters: Num
    """Parameters of the model, with its adapters and without modules that predict further tokens [parameter]."""
    further_parameters: Num
    """Those of such modules, where they are trained [parameter]."""
    trained_parameters: Num
    """Of these those that are trained [parameter]."""
    active_parameters: Num
    """Those that one token meets: of experts only the chosen ones [parameter]."""
    active_trained_parameters: Num
    """Of these those that are trained [parameter]."""
    model_flops: Num
    """Arithmetic of one step without recomputation, attention in full, a frozen model's forward pass with it [FLOP]."""
    causal_attention_flops: Num
    """Of these that of attention under a causal mask, in full [FLOP]."""
    executed_flops: Num
    """Arithmetic that all devices execute in one step, with recomputation and copies [FLOP]."""
    repeated_flops: Num
    """Of these that of recomputation which the plan asks for; fused attention recomputes its scores besides [FLOP]."""


def undivided(scenarios: Scenarios) -> Scenarios:
    """The scenarios on one device with the whole model and batch: what the model needs, not how it is split."""
    one: dict[str, Any] = dict.fromkeys(("dp", "tp", "pp", "cp", "ep", "etp", "virtual_stages", "micro_batches"), 1.0)
    batch = scenarios.workloads.global_batch
    plans = replace(scenarios.plans, **one, sequence_parallel=0.0, micro_batch=batch)
    stacks = replace(scenarios.stacks, all_positions=0.0)
    return replace(scenarios, plans=plans, stacks=stacks)


def counts_of(program: Program) -> Counts:
    """Count parameters of the model, and the arithmetic of a step.

    Parameters
    ----------
    program
        What `simulator.work.program.program_of` says of the scenarios.
    """
    scenarios = program.scenarios
    plans, whole = scenarios.plans, program_of(undivided(scenarios))
    ranks = plans.tp * plans.dp * plans.cp * plans.micro_batches
    held, chosen = _own(whole), _chosen_share(scenarios)
    return Counts(
        parameters=held.parameters + held.expert_parameters,
        further_parameters=whole.further.parameters + whole.further.expert_parameters,
        trained_parameters=held.trained_parameters + held.trained_expert_parameters,
        active_parameters=held.parameters + held.expert_parameters * chosen,
        active_trained_parameters=held.trained_parameters + held.trained_expert_parameters * chosen,
        model_flops=whole.model_flops + _forward_flops(whole),
        causal_attention_flops=_of_causal_attention(whole),
        executed_flops=(program.model_flops + program.recomputed_flops + _forward_flops(program)) * ranks,
        repeated_flops=program.repeated_flops * ranks,
    )


def _own(whole: Program) -> Tally:
    """Parameters of the model, without modules that predict further tokens."""
    together, apart = whole.together, whole.further
    return replace(together, **{name: getattr(together, name) - getattr(apart, name) for name in _COUNTED})


_COUNTED = ("parameters", "expert_parameters", "trained_parameters", "trained_expert_parameters")


def _forward_flops(program: Program) -> Num:
    """Arithmetic of the model that runs forward beside the trained one [FLOP]."""
    return 0.0 if program.frozen is None else program.frozen.model_flops


def _of_causal_attention(whole: Program) -> Num:
    """Arithmetic of attention in layers whose tokens see only those before them [FLOP]."""
    masked_flops: Num = 0.0 if whole.frozen is None else _of_causal_attention(whole.frozen)
    for layers, block in zip(whole.scenarios.models.layers, whole.groups, strict=True):
        masked = block.number * block.flops_of("attention")
        masked_flops = masked_flops + masked * layers.attention.causal
    further = whole.scenarios.models.multi_token
    if further is not None:  # no other part of the head attends
        masked_flops = masked_flops + whole.head.flops_of("attention") * further.attention.causal
    return masked_flops


def _chosen_share(scenarios: Scenarios) -> Num:
    """Share of an expert layer's parameters that one token meets."""
    share: Num = 1.0
    for group in scenarios.models.layers:
        if isinstance(group.feed_forward, ExpertFeedForward):
            share = np.minimum(share, group.feed_forward.experts_per_token / np.asarray(group.feed_forward.experts))
    return share
