"""Scenarios as columns, and how many tokens one rank handles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.columns import Columns
from simulator.formulas.typing import Num
from simulator.specs.model import Models
from simulator.specs.plan import Plans
from simulator.specs.stack import Stacks
from simulator.specs.workload import Workloads


@dataclass(frozen=True)
class Scenarios(Columns):
    """Models, workloads, plans and stacks as columns that broadcast against each other."""

    models: Models
    workloads: Workloads
    plans: Plans
    stacks: Stacks


@dataclass(frozen=True)
class Tokens:
    """How many tokens one rank handles in one micro-batch."""

    all: Num
    """Of products that tensor parallelism divides by width."""
    shared: Num
    """Of normalisations and dropouts, which sequence parallelism divides by token."""
    queries: Num
    """Of one sequence on this rank."""
    keys: Num
    """Of one sequence."""


def tokens_of(scenarios: Scenarios, length: Num) -> Tokens:
    """Tokens of one rank for sequences of a length; padding is left out where the stack takes it out."""
    plans, workloads = scenarios.plans, scenarios.workloads
    real = np.where(
        np.asarray(scenarios.stacks.unpads) > 0, workloads.effective_tokens / workloads.sequence_length, 1.0
    )
    keys = length * real
    everything = plans.micro_batch * keys / plans.cp
    return Tokens(all=everything, shared=everything / plans.tokens_shared, queries=keys / plans.cp, keys=keys)


def linear_input(tokens: Tokens, scenarios: Scenarios) -> Num:
    """Tokens of the input that a column-parallel product keeps: its own share where it gathers again."""
    return np.where(np.asarray(scenarios.stacks.regathers_inputs) > 0, tokens.shared, tokens.all)
