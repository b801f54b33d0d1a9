"""Scenarios as columns, and how many tokens one rank handles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.formulas import activations
from simulator.formulas.typing import Num
from simulator.specs.architectures import Models
from simulator.specs.choices import RecomputeModule
from simulator.specs.columns import Columns
from simulator.specs.parts import Layers
from simulator.specs.plans import Plans
from simulator.specs.serving.iterations import Iterations
from simulator.specs.stack import Stacks
from simulator.specs.workload import Workloads
from simulator.work.operators import flagged


@dataclass(frozen=True)
class Scenarios(Columns):
    """Models, workloads, plans and stacks as columns that broadcast against each other."""

    models: Models
    workloads: Workloads
    plans: Plans
    stacks: Stacks
    iterations: Iterations | None = None
    """What an engine that serves the model does in one pass; none of training."""


@dataclass(frozen=True)
class Tokens:
    """How many tokens one rank handles in one micro-batch."""

    all: Num
    """Of products that tensor parallelism divides by width."""
    shared: Num
    """Of normalisations and dropouts, which sequence parallelism divides by token."""
    queries: Num
    """Tokens of one sequence on this rank, which ask."""
    keys: Num
    """Tokens of one sequence, which are asked."""


def tokens_of(scenarios: Scenarios, length: Num) -> Tokens:
    """Tokens of one rank for sequences of a length; padding is left out where the stack takes it out.

    Unfused attention puts the padding in again, since its matrices of scores have one shape.
    """
    plans, workloads, stacks = scenarios.plans, scenarios.workloads, scenarios.stacks
    real = np.where(np.asarray(stacks.unpads) > 0, workloads.effective_tokens / workloads.sequence_length, 1.0)
    everything = plans.micro_batch * length * real / plans.cp
    keys = length * np.where(np.asarray(plans.fused_attention) > 0, real, 1.0)
    return Tokens(all=everything, shared=everything / plans.tokens_shared, queries=keys / plans.cp, keys=keys)


def autocasts(scenarios: Scenarios) -> Num:
    """Whether tensors between products stay in fp32 and weights are cast: parameters in fp32, products in 16 bits.

    Weights that are not trained are held in 16 bits, and what their products return stays so.
    """
    plans = scenarios.plans
    mixed = np.asarray(plans.parameter_bytes) > np.asarray(plans.element_bytes)
    return np.where(mixed, flagged(scenarios.stacks.autocast, scenarios.workloads.tuning.base), 0.0)


def stream_bytes(scenarios: Scenarios) -> Num:
    """Of an element of the residual stream, of what normalisations read and of a softmax."""
    return np.where(autocasts(scenarios) > 0.0, activations.STATISTIC_BYTES, scenarios.plans.element_bytes)


def mask_bytes(scenarios: Scenarios) -> Num:
    """Of an element of the mask of a dropout."""
    return np.where(
        np.asarray(scenarios.stacks.wide_masks) > 0.0, scenarios.plans.element_bytes, activations.MASK_BYTES
    )


def normalised(tokens: Num, width: Num, scenarios: Scenarios, *, statistics: Num) -> Num:
    """Bytes that a normalisation keeps: its input, its statistics, and what single operations keep besides."""
    copies = tokens * width * scenarios.stacks.norm_copies * scenarios.plans.element_bytes
    kept = activations.normalisation(tokens, width, element_bytes=stream_bytes(scenarios), statistics=statistics)
    return kept + copies


def linear_input(tokens: Tokens, scenarios: Scenarios) -> Num:
    """Tokens of the input that a column-parallel product keeps: its own share where it gathers again."""
    return np.where(np.asarray(scenarios.stacks.regathers_inputs) > 0, tokens.shared, tokens.all)


def plain(tokens: Num, width: Num, scenarios: Scenarios, *, bias: Num, wide: bool = False) -> Num:
    """Bytes that a product returns where torch runs it as a plain one: without bias, and in 16 bits or more; else 0."""
    plans = scenarios.plans
    if not plans.recomputation.by_operator:
        return 0.0
    narrow = (np.asarray(plans.product_bytes) < plans.element_bytes) & (not wide)
    made = activations.tensor(tokens, width, element_bytes=plans.element_bytes)
    return np.where(narrow, 0.0, made * (1.0 - np.asarray(bias)))


def own_input(tokens: Tokens, width: Num, scenarios: Scenarios) -> Num:
    """Bytes of the input of a recomputed module: a rank's own tokens of what a normalisation returned."""
    return activations.tensor(tokens.shared, width, element_bytes=stream_bytes(scenarios))


def normalised_input(kept: Num, scenarios: Scenarios) -> tuple[tuple[RecomputeModule, Num], ...]:
    """Of the bytes of a product's input those that a normalisation returned, which goes where that is repeated.

    Casts of it, which automatic casts keep, stay, and so do all tokens where a rank has normalised some.
    """
    plans = scenarios.plans
    if not plans.recomputation.by_module:
        return ()
    gathered = (np.asarray(plans.tokens_shared) > 1.0) & (np.asarray(scenarios.stacks.regathers_inputs) == 0.0)
    return (("layernorm", np.where(gathered, 0.0, kept * (1.0 - autocasts(scenarios)))),)


def last_output_unused(layers: Layers, scenarios: Scenarios) -> Num:
    """Whether no backward pass needs the output of a layer's last product: the layer normalises only its inputs."""
    norms = layers.norms
    inputs = 3.0 if layers.cross_attention is not None and not layers.block.shares_input else 2.0
    before = np.asarray(scenarios.models.final_norms) > 0
    return np.where(before & (np.asarray(norms.count) <= inputs) & (np.asarray(norms.outputs) < 1.0), 1.0, 0.0)
