"""How torchtitan cuts layers into the stages of a pipeline.

`generate_llm_fqn_per_model_part` in `torchtitan/distributed/pipeline_parallel.py` of v0.2.2, and the same with another
name in v0.3.0: embedding and head count for so many layers, and what is left over goes to the first stages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulator.formulas.pipeline import stage_layers

USUAL_LESS = 1
"""Layers that embedding and head count for each unless told: `pipeline_parallel_first_stage_less_layers` and
`pipeline_parallel_last_stage_less_layers` of `Parallelism` in `torchtitan/config/job_config.py` of v0.2.2."""


def cut(layers: int, stages: int, first_less: int, last_less: int) -> tuple[int, ...] | None:
    """Layers of each stage, or none where torchtitan refuses to cut so.

    Parameters
    ----------
    layers
        Of the model.
    stages
        All of them, those of one device included.
    first_less, last_less
        Layers that embedding and head count for.

    >>> cut(32, 4, 1, 1), cut(32, 4, 0, 0), cut(32, 64, 1, 1)
    ((8, 9, 8, 7), (8, 8, 8, 8), None)
    """
    if stages == 1:
        return (layers,)
    each, more = divmod(layers + first_less + last_less, stages)
    if each == 0 or max(first_less, last_less) > each:
        return None
    held = [each + (stage < more) for stage in range(stages)]
    held[0] -= first_less
    held[-1] -= last_less
    return tuple(held)


def shares(layers: int, stages: int, first: int | None = None, last: int | None = None) -> tuple[int, ...]:
    """Layers of each stage as capsim cuts them.

    Parameters
    ----------
    layers
        Of the model.
    stages
        Of the pipeline.
    first, last
        Layers of the ends, where a plan says them.

    >>> shares(32, 4), shares(32, 4, 8, 7)
    ((8, 8, 8, 8), (8, 9, 8, 7))
    """
    ends = {"first": float(first or 0), "last": float(last or 0)}
    return tuple(int(stage_layers(layers, stages, stage=stage, **ends)) for stage in range(stages))


def less_for(wanted: Sequence[int]) -> tuple[int, int] | None:
    """What embedding and head have to count for, so that stages hold these layers; none where nothing does it.

    >>> less_for((8, 8, 8, 8)), less_for((8, 9, 8, 7)), less_for((6, 10, 8, 8))
    ((0, 0), (1, 1), None)
    """
    layers, stages = sum(wanted), len(wanted)
    most = math.ceil(2 * layers / stages) + 1
    pairs = sorted(((one, other) for one in range(most) for other in range(most)), key=sum)
    return next((pair for pair in pairs if cut(layers, stages, *pair) == tuple(wanted)), None)
