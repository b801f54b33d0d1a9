"""How a pipeline fills and drains: what its schedule leaves idle of the time that the other stages take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.formulas import chunked_pipeline, pipeline
from simulator.formulas.typing import Num
from simulator.specs.plans import Plans
from simulator.step.passes import Pass, together
from simulator.work.once import reductions_of_a_step
from simulator.work.program import Program


@dataclass(frozen=True)
class Filling:
    """Shares that passes have of a micro-batch's time on a stage, which decide what can run in gaps."""

    plans: Plans
    forward: Num
    """Of the forward pass [1]."""
    weights: Num
    """Of weight gradients [1]."""
    waits: Num
    """Whether weight gradients may wait for a gap: those that are reduced after every micro-batch cannot."""

    @classmethod
    def of(cls, program: Program, layers: Pass, others: Num) -> Filling:
        """Shares of the layers' passes.

        Parameters
        ----------
        program
            Of the scenarios.
        layers
            One micro-batch on a stage's share of the layers.
        others
            Time of a micro-batch on all stages but the slowest [s].
        """
        plans = program.scenarios.plans
        if not _has_gaps(plans):
            return cls(plans, 1.0 / 3.0, 1.0 / 3.0, 1.0)
        alone = together(layers.device, layers.host)
        mean = others / np.maximum(plans.pp - 1.0, 1.0)
        whole = np.where(np.asarray(others) > 0.0, mean, np.maximum(alone, np.finfo(float).tiny))

        def adds(seconds: Num) -> Num:
            # What a pass adds where the host may be the slower one: no more than leaving it out would spare.
            return (alone - together(layers.device - seconds, layers.host)) / whole

        once = np.asarray(reductions_of_a_step(program.scenarios)) <= 1.0
        return cls(plans, adds(layers.forward), adds(layers.of_weights), np.where(once, 1.0, 0.0))

    def step_time(self, slowest: Num, of_all: Num, places: tuple[Num, Num, Num]) -> Num:
        """Time of all micro-batches [s].

        Parameters
        ----------
        slowest, of_all
            Time of one micro-batch on the slowest stage, and on all stages one after another [s].
        places
            On a stage inside, on the first and on the last one [s].
        """
        plans = self.plans
        middle, first, last = places
        piped = pipeline.step_time(slowest, of_all, micro_batches=plans.micro_batches, idle_share=self._idle())
        looped = np.asarray(plans.virtual_stages) * (1.0 - np.asarray(plans.all_at_once)) > 1.0
        if np.any(looped):
            inside = np.where(np.asarray(plans.pp) > 2.0, middle, np.minimum(first, last))
            turns = chunked_pipeline.ends_in_turn(
                plans.pp, plans.virtual_stages, first_extra=first - inside, last_extra=last - inside
            )
            piped = piped + np.where(looped, turns, 0.0)
        bent = (np.asarray(plans.v_shaped) > 0.0) & (np.asarray(plans.pp) > 1.0)
        if not np.any(bent):
            return piped
        in_v = chunked_pipeline.v_shaped_step_time(
            first,
            np.maximum(middle, last),
            stages=plans.pp,
            micro_batches=plans.micro_batches,
            paired=plans.paired,
            forward_share=self.forward,
            weight_gradient_share=self.waits * self.weights,
        )
        return np.where(bent, in_v, piped)

    def _idle(self) -> Num:
        """Part of fill and drain that a schedule leaves idle whose chunks lie one behind the other [1]."""
        plans = self.plans
        gaps = np.maximum(plans.pp - 1.0, 1.0)
        return pipeline.idle_share(
            plans.virtual_stages,
            zero_bubble=plans.zero_bubble,
            forward_share=self.forward,
            weight_gradient_share=self.weights,
            filled=self.waits * np.minimum(plans.micro_batches - 1.0, gaps) / gaps,
        )


def _has_gaps(plans: Plans) -> bool:
    """Whether any plan runs weight gradients in gaps."""
    return bool(np.any(np.maximum(plans.zero_bubble, plans.v_shaped) > 0.0))
