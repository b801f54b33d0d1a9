"""Bytes that layers keep for the backward pass on a stage, and those that it makes again."""

from __future__ import annotations

import numpy as np

from simulator.formulas import pipeline
from simulator.formulas.typing import Num
from simulator.specs.plans import Plans
from simulator.specs.stack import Stacks
from simulator.work.program import Program
from simulator.work.recomputation import repeated_on
from simulator.work.transformer import Scenarios


def kept_of_layers(program: Program, layers: Num, share: Num) -> Num:
    """Bytes that the layers of a stage keep of one micro-batch, where a plan counts layers by those of the stage.

    Parameters
    ----------
    program
        Of the scenarios.
    layers
        Of the stage [layer].
    share
        Of the model's layers that these are [1].
    """
    plans, together, ranks = program.scenarios.plans, program.layers, _checkpoint_ranks(program.scenarios)
    alike = share * (together.saved_bytes / ranks)
    if not plans.recomputation.counts_layers:
        return alike
    number = np.maximum(layers, 1.0)
    again = repeated_on(plans, number)
    inputs = together.checkpoint_bytes / ranks * (again.inputs / number)
    whole = np.asarray(plans.recompute_layer) > 0.0
    return np.where(whole, share * (together.all_saved_bytes * (1.0 - again.layers / number) + inputs), alike)


def kept_again(program: Program, layers: Num) -> Num:
    """Bytes that the backward pass makes again at a time, beyond what it has left by then.

    Parameters
    ----------
    program
        Of the scenarios.
    layers
        Of the stage [layer].
    """
    plans, largest = program.scenarios.plans, program.largest_layer
    of_layer = np.maximum(largest.all_saved_bytes - largest.saved_bytes, 0.0)
    if not plans.recomputation.counts_layers:
        return of_layer
    again = repeated_on(plans, layers)
    at_once = (again.at_once - again.before) * largest.all_saved_bytes - largest.checkpoint_bytes
    return np.where(np.asarray(plans.recompute_layer) > 0.0, np.maximum(at_once, 0.0), of_layer)


def _checkpoint_ranks(scenarios: Scenarios) -> Num:
    """Ranks that share the inputs of recomputed layers, beside those that share all tokens."""
    plans = scenarios.plans
    shares = np.asarray(plans.recompute_layer) * scenarios.stacks.shares_checkpoints
    return np.where(shares > 0.0, np.asarray(plans.tp) / plans.tokens_shared, 1.0)


def in_flight_on(plans: Plans, stage: Num) -> Num:
    """Micro-batches whose activations a stage, from 0, holds at its peak, in units of all its layers [1]."""
    return pipeline.in_flight(
        plans.pp,
        stage,
        micro_batches=plans.micro_batches,
        virtual_stages=plans.virtual_stages,
        all_at_once=plans.all_at_once,
        zero_bubble=plans.zero_bubble,
        paired=plans.paired,
    )


def losses_in_flight(plans: Plans, stacks: Stacks) -> Num:
    """Micro-batches whose head and loss the last stage holds at its peak [1].

    A loss goes back at once, but where every forward pass comes before a backward pass, and where weight gradients of
    the head wait like those of layers; in the shape of a V they are made at once.
    """
    waits = (np.asarray(plans.zero_bubble) > plans.v_shaped) & (np.asarray(stacks.delays_head) > 0.0)
    one = np.where(waits, np.minimum(plans.micro_batches, plans.pp), 1.0)
    return np.where(np.asarray(plans.all_at_once) > 0.0, plans.micro_batches, one)
