"""A frozen model that runs forward beside the trained one: a reference of DPO, or a teacher.

Its program is that of any model without a backward pass: nothing is kept, nothing is trained, nothing is dropped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from simulator.specs.architectures import Models
from simulator.specs.parts import Layers
from simulator.specs.training.guidance import FrozenModel
from simulator.specs.training.tuning import LATENTS, MATRICES, Tunings
from simulator.work.operators import Operator
from simulator.work.transformer import Scenarios

_TRAINED = ("base", "flows", "head", "rank", "drops", "magnitudes", "prompt", "prefix")


def beside(scenarios: Scenarios, frozen: FrozenModel) -> Scenarios:
    """Scenarios of the frozen model, which is split as the plan splits the trained one, its layers evenly over stages.

    Parameters
    ----------
    scenarios
        Those of the trained model.
    frozen
        The model beside it.

    Notes
    -----
    A reference without adapters has the weights of the trained model as these are held, in a few bits too; other
    weights are in the format of products.

    References
    ----------
    `DPOTrainer` of TRL 0.19.1 (trl/trainer/dpo_trainer.py: `compute_ref_log_probs` under `no_grad`, `null_ref_context`
    without adapters; trl/models/utils.py: `prepare_deepspeed` shares its weights under ZeRO-3 and not at all below,
    `prepare_fsdp` as those of the trained model), and torchtune 0.6.1, recipes/knowledge_distillation_distributed.py.
    """
    tuning = _still(scenarios.workloads.tuning, frozen)
    alone = scenarios.workloads
    virtual = alone.tuning.prompt
    workloads = replace(
        alone,
        frozen=None,
        tuning=tuning,
        sequence_length=alone.sequence_length - virtual,
        effective_tokens=alone.effective_tokens - virtual,
    )
    plans = replace(scenarios.plans, first_stage_layers=0.0, last_stage_layers=0.0)
    return replace(scenarios, models=_evaluated(frozen.models), workloads=workloads, plans=plans)


def _still(tuning: Tunings, frozen: FrozenModel) -> Tunings:
    """Nothing is trained; weights of its own are not held in a few bits."""
    none: dict[str, float] = dict.fromkeys((*_TRAINED, *MATRICES, *LATENTS), 0.0)
    own = np.asarray(frozen.held) > 0.0
    return replace(tuning, **none, weight_bytes=np.where(own, 0.0, tuning.weight_bytes))


def _evaluated(models: Models) -> Models:
    """The architecture without dropout."""

    def layers_of(layers: Layers) -> Layers:
        cross = layers.cross_attention
        return replace(
            layers,
            dropout=0.0,
            attention=replace(layers.attention, dropout=0.0),
            cross_attention=None if cross is None else replace(cross, dropout=0.0),
        )

    return replace(models, dropout=0.0, layers=tuple(map(layers_of, models.layers)))


def forward_alone(operator: Operator) -> Operator:
    """An operator without backward pass, which keeps nothing and whose parameters are not trained."""
    return replace(operator, backward=(), kept=replace(operator.kept, saved=0.0, trained=0.0))


def part_of(frozen: FrozenModel) -> Literal["teacher", "reference_model"]:
    """The part of a step that its forward pass is."""
    return "teacher" if np.any(np.asarray(frozen.teaches) > 0.0) else "reference_model"
