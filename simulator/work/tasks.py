"""Tasks: what the program of a step consists of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from simulator.formulas.typing import Num
from simulator.pricing.requests import Request
from simulator.work.hiding import OPEN, Hiding, OperatorPart, Phase

Part = (
    OperatorPart
    | Literal[
        "gradient_accumulation",
        "parameter_gather",
        "pipeline_transfer",
        "gradient_reduction",
        "optimizer",
        "offload",
        "step_overhead",
        "reference_model",
        "teacher",
    ]
)
"""Parts of a step, as the breakdown of an estimate names them; what is recomputed stands there by itself."""


class Resource(Enum):
    """What a task occupies."""

    DEVICE = "device"
    TENSOR_LINKS = "tensor links"
    """What carries exchanges inside a layer: of tensor, context and expert parallelism."""
    DATA_LINKS = "data links"
    """What carries parameters and gradients among replicas."""
    PIPELINE_LINKS = "pipeline links"
    HOST = "host"


class PlaceKind(Enum):
    """Where a task belongs, and so how often a stage has it."""

    GROUP = "a layer of a group"
    LAYERS = "all layers of a stage with an even share of them"
    EMBEDDING = "embedding"
    HEAD = "head"
    STAGE = "a stage, whatever its share of the layers"
    NEXT = "border to the next stage"
    PREVIOUS = "border to the stage before"
    STEP = "once a step"


@dataclass(frozen=True)
class TaskPlace:
    """Where a task belongs."""

    kind: PlaceKind
    group: int = 0
    """Index of the layer group, of a layer."""


@dataclass(frozen=True)
class Task:
    """What is asked, when, where and how often, what it occupies and what covers it."""

    name: str
    """What people call it; nothing is keyed by it."""
    part: Part
    request: Request
    phase: Phase
    place: TaskPlace
    resource: Resource
    count: Num = 1.0
    """Calls for each micro-batch of one such place, or of a step [1]."""
    kernels: Num = 0.0
    """Launches that the host makes for all of them [1]."""
    efficiency: Num = 1.0
    """Rate that the stack reaches over the one that the backend says [1]."""
    hiding: Hiding = OPEN
