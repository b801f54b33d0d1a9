"""Words that fields of a plan or of a workload may have, the simplest first, and what those of optimizers mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

AttentionKernel = Literal["unfused", "fused"]
CrossEntropy = Literal["unfused", "fused", "chunked"]
Sharding = Literal["none", "zero1", "zero2", "zero3", "hybrid"]
Schedule = Literal["1f1b", "gpipe", "interleaved", "looped-bfs", "zero-bubble", "zero-bubble-v", "dualpipe-v"]
Fp8Scaling = Literal["delayed", "current", "blockwise"]
Recompute = Literal["none", "selective", "operators", "full"]
RecomputeModule = Literal["core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts"]
RecomputeMethod = Literal["every", "block", "uniform"]
Optimizer = Literal[
    "adamw",
    "adam-bf16",
    "adam-fp8",
    "adam-8bit",
    "adafactor",
    "adafactor-with-momentum",
    "lamb",
    "lion",
    "muon",
    "sgd",
    "sgd-without-momentum",
]
Axis = Literal["tp", "cp", "dp", "pp"]
Trained = Literal["full", "lora", "prompt", "prefix", "head"]
BasePrecision = Literal["fp8", "int8", "nf4", "nf4-double"]
Preference = Literal["dpo", "reward"]
Reference = Literal["copy", "base", "precomputed"]
SHARDINGS: tuple[Sharding, ...] = get_args(Sharding)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
USUAL_SCHEDULES: tuple[Schedule, ...] = ("1f1b", "gpipe", "interleaved", "zero-bubble")
"""Those of software that does not say which it has."""
V_SHAPED: tuple[Schedule, ...] = ("zero-bubble-v", "dualpipe-v")
"""Those that give each device two chunks of layers, one from each end of the model."""
LOOPED: tuple[Schedule, ...] = ("interleaved", "looped-bfs", "zero-bubble")
"""Those that may give a device several chunks of layers in turn."""
RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "full")
"""Those that are tried where nobody says."""
EVERY_RECOMPUTE: tuple[Recompute, ...] = get_args(Recompute)
MODULES: tuple[RecomputeModule, ...] = get_args(RecomputeModule)
METHODS: tuple[RecomputeMethod, ...] = get_args(RecomputeMethod)
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)


@dataclass(frozen=True, kw_only=True)
class OptimizerTraits:
    """One optimizer; what shapes decide is in `simulator.work.updates`."""

    state_bytes: float
    """Of the states of a parameter, without scales and factors [B/parameter]."""
    gradient_sweeps: float
    """How often a step reads the gradients: for the update, for other statistics [1]."""
    clips: bool = True
    """Whether gradients are usually clipped by their norm, for which they are read once more."""
    factored: bool = False
    """Whether second moments of matrices are sums of rows and of columns."""
    orthogonal: bool = False
    """Whether it orthogonalises the momentum of hidden matrices, and updates other tensors by AdamW."""
    scale_block: float = 0.0
    """Elements of states that share a scale; 0 where they need none [parameter]."""
    unscaled_bytes: float = 0.0
    """Of fp32 copies that are made of a parameter's states to update them [B/parameter]."""
    splits_master: bool = False
    """Whether it can keep of an fp32 master copy only what a bf16 parameter lacks of it."""


OPTIMIZER_TRAITS: dict[Optimizer, OptimizerTraits] = {
    "adamw": OptimizerTraits(state_bytes=8.0, gradient_sweeps=1.0),
    "adam-bf16": OptimizerTraits(state_bytes=4.0, gradient_sweeps=1.0, splits_master=True),
    "adam-fp8": OptimizerTraits(state_bytes=2.0, gradient_sweeps=1.0, unscaled_bytes=8.0, splits_master=True),
    "adam-8bit": OptimizerTraits(state_bytes=2.0, gradient_sweeps=1.0, scale_block=256.0),
    "adafactor": OptimizerTraits(state_bytes=0.0, gradient_sweeps=2.0, factored=True),
    "adafactor-with-momentum": OptimizerTraits(state_bytes=4.0, gradient_sweeps=2.0, factored=True),
    "lamb": OptimizerTraits(state_bytes=8.0, gradient_sweeps=2.0),
    "lion": OptimizerTraits(state_bytes=4.0, gradient_sweeps=1.0),
    "muon": OptimizerTraits(state_bytes=4.0, gradient_sweeps=1.0, orthogonal=True),
    "sgd": OptimizerTraits(state_bytes=4.0, gradient_sweeps=1.0, clips=False),
    "sgd-without-momentum": OptimizerTraits(state_bytes=0.0, gradient_sweeps=1.0, clips=False),
}
"""Moments in fp32 unless the name says another format, the second ones of Adafactor counted by shape. Moments in bf16
and fp8 are those of Transformer Engine's FusedAdam, which updates bf16 ones in its kernel and makes fp32 copies of all
fp8 ones (transformer_engine/pytorch/optimizers/fused_adam.py at d0067d0d); blocks of 256 those of bitsandbytes
(bitsandbytes/optim/optimizer.py at 95f9af30). Muon keeps a momentum of every parameter, and of those that AdamW updates
a second moment."""


def traits_of(schedule: Schedule | None) -> dict[str, bool]:
    """What columns of plans say of a schedule.

    >>> [name for name, has in traits_of("zero-bubble-v").items() if has]
    ['zero_bubble', 'v_shaped']
    """
    return {
        "zero_bubble": schedule in ("zero-bubble", "zero-bubble-v"),
        "v_shaped": schedule in V_SHAPED,
        "paired": schedule == "dualpipe-v",
        "all_at_once": schedule in ("gpipe", "looped-bfs"),
    }
