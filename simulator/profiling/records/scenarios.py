"""Steps of a few layers of a model: the case that a record holds, as the simulator's scenario of one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.profiling.records.record import Case
from simulator.specs.loading import load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload
from simulator.work.counts import counts_of
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios

_STATE_BYTES = 16.0
"""Of a parameter: value, gradient and two moments in float32."""
_BUCKET_BYTES, _GATHERED_BYTES = 4.0, 8.0
"""Of a parameter: its place in the buckets that replicas sum; and, of shards, its value and gradient while gathered."""
_MARGIN = 1.1


def cut(model: Model, layers: int) -> Model:
    """The model with so many layers (in each of its towers), or as many as it has."""
    changes: dict[str, Any] = {"layers": min(layers, model.layers)}
    if model.decoder_layers is not None:
        changes["decoder_layers"] = min(layers, model.decoder_layers)
    if model.expert_period > changes["layers"]:
        changes["layers"] = model.expert_period
    if model.dense_layers_first >= changes["layers"]:
        changes["dense_layers_first"] = changes["layers"] - 1
    changes["window_pattern"] = model.window_pattern[: changes["layers"]]
    changes["rotary_pattern"] = model.rotary_pattern[: changes["layers"]]
    changes["dense_layers"] = tuple(index for index in model.dense_layers if index < changes["layers"])
    return model.model_copy(update=changes)


def shrunk(model: Model) -> Model:
    """A model of the same form that takes no time: for trying out."""
    heads = 2
    changes: dict[str, Any] = {
        "id": f"{model.id}-tiny",
        "hidden_size": 64,
        "attention_heads": heads,
        "key_value_heads": 1 if model.kv_heads < model.attention_heads else None,
        "head_size": None,
        "feed_forward_size": 64 * max(model.feed_forward_size // model.hidden_size, 1),
        "vocabulary_size": 512,
        "embedding_size": None if model.embedding_size is None else 16,
        "expert_feed_forward_size": None if model.expert_feed_forward_size is None else 64,
        "experts": min(model.experts, 4),
        "experts_per_token": min(model.experts_per_token, 2, model.experts),
        "shared_expert_feed_forward_size": None if model.shared_expert_feed_forward_size is None else 64,
        "relative_rows": min(model.relative_rows, 32),
        "sliding_window": None,
        "window_pattern": (),
    }
    if model.key_value_rank is not None:
        changes |= {"head_size": 48, "rotary_head_size": 16, "value_head_size": 32, "key_value_rank": 16}
        changes["query_rank"] = None if model.query_rank is None else 16
    return model.model_copy(update=changes)


def written(model: Model) -> dict[str, Any]:
    """A model as a record keeps it."""
    return model.model_dump(mode="json", exclude_defaults=True, exclude={"source", "seen", "note"})


@dataclass(frozen=True)
class StepAmounts:
    """What the simulator counts of one step."""

    parameters: float
    flops: float
    """Of matrix products, forward and backward [FLOP]."""
    footprint: float
    """Parameters, their states, and what the backward pass needs [B]."""


def step_amounts(case: Case, model: Model) -> StepAmounts:
    """Count a step of a cut model, as the simulator does."""
    program = program_of(scenarios_of(case, model))
    whole = counts_of(program)
    parameters = float(np.asarray(whole.parameters))
    kept = float(np.asarray(program.together.saved_bytes))
    held = _held(case) * parameters
    return StepAmounts(parameters, float(np.asarray(whole.model_flops)), _MARGIN * (held + kept))


def _held(case: Case) -> float:
    """Of a parameter, at most, on one rank [B]."""
    if case.operation == "ddp":
        return _STATE_BYTES + _BUCKET_BYTES
    if case.operation == "fsdp":
        return _STATE_BYTES / case.dimensions["ranks"] + _GATHERED_BYTES
    return _STATE_BYTES


def scenarios_of(case: Case, model: Model, stack_name: str = "pytorch-eager") -> Scenarios:
    """The scenario of a step on one device."""
    sizes = case.dimensions
    stack = load_stack(stack_name)
    work = Workload(sequence_length=sizes["sequence_length"], global_batch=sizes["micro_batch"])
    workload = work.resolve(model)
    kinds: dict[str, Any] = {"precision": case.dtype, "attention": attention_of(case)}
    plan = Plan(dp=1, micro_batch=sizes["micro_batch"], recompute="none", **kinds)
    full = plan.with_defaults(stack).with_degrees(1)
    columns = cut(model, sizes["layers"]).columns()
    return Scenarios(columns, workload.columns(), full.columns(workload), stack.columns())


def attention_of(case: Case) -> str:
    """Whether attention is one kernel: what stands behind the model's name."""
    return case.variant.rpartition("/")[2] or "fused"
