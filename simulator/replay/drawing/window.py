"""Windows of time to look at: some micro-batches, or one layer of one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hardware.errors import InputError
from simulator.replay.orders import PassKind
from simulator.replay.timeline import StageRun, Timeline
from simulator.work.tasks import Resource

Window = tuple[float, float]
"""From when until when [s]."""
_ROOM = 0.02
"""Of a window, left free on either side."""


def window_of(timeline: Timeline, micro_batches: tuple[int, int], stages: Sequence[int] | None = None) -> Window:
    """When some micro-batches are on their way, from the first to the last of their passes.

    Parameters
    ----------
    timeline
        Of a step.
    micro_batches
        The first and the last of them, from 0.
    stages
        Where, from 0; all unless given.

    Raises
    ------
    InputError
        Where the step does not have them.
    """
    first, last = micro_batches
    number = 1 + max(int(stage.order.micro_batches.max()) for stage in timeline.stages)
    if not 0 <= first <= last < number:
        raise InputError(
            f"micro_batches={first + 1}-{last + 1}: the step has {number}, give numbers from 1 to {number}",
            fields=("micro_batches",),
        )
    chosen = timeline.stages if stages is None else [timeline.stages[index] for index in stages]
    starts, ends = [], []
    for stage in chosen:
        of = (stage.order.micro_batches >= first) & (stage.order.micro_batches <= last)
        starts.append(float(stage.start[of].min()))
        ends.append(float(stage.end[of].max()))
    return _with_room(min(starts), max(ends), timeline.step_time)


def window_of_layer(
    timeline: Timeline, stage: int, layer: int, *, micro_batch: int = 0, backward: bool = False
) -> Window:
    """When one layer of a stage runs a pass of one micro-batch.

    Parameters
    ----------
    timeline
        Of a step.
    stage, layer
        Where, both from 0; layers are counted over the chunks of the stage.
    micro_batch
        From 0.
    backward
        Whether the backward pass is meant.

    Raises
    ------
    InputError
        Where the step does not have them.
    """
    run = timeline.stages[stage]
    chunk, place = _chunk_of(run, layer)
    kinds = (PassKind.BACKWARD, PassKind.INPUT_GRADIENTS) if backward else (PassKind.FORWARD,)
    of = np.isin(run.order.kinds, kinds) & (run.order.chunks == chunk) & (run.order.micro_batches == micro_batch)
    if not np.any(of):
        window_of(timeline, (micro_batch, micro_batch))
    index = int(np.flatnonzero(of)[0])
    begin = float(run.start[index] + run.received[index])
    piece = run.passes[chunk, PassKind(run.order.kinds[index])].piece
    spans = [span for span in piece.flat(begin) if span.place == place and span.resource is not Resource.DATA_LINKS]
    return _with_room(min(span.start for span in spans), max(span.end for span in spans), timeline.step_time)


def _chunk_of(stage: StageRun, layer: int) -> tuple[int, str]:
    """The chunk that has a layer of a stage, and what its spans call the layer."""
    left = layer
    for chunk, held in enumerate(stage.held):
        layers = int(np.ceil(held.layers - 1e-9))
        if 0 <= left < layers:
            return chunk, f"layer {left + 1}"
        left -= layers
    whole = sum(int(np.ceil(held.layers - 1e-9)) for held in stage.held)
    raise InputError(
        f"layer={layer + 1}: stage {stage.index + 1} has {whole} layers, give a number from 1 to {whole}",
        fields=("layer",),
    )


def _with_room(start: float, end: float, step_time: float) -> Window:
    """A window with a little more on either side."""
    room = _ROOM * (end - start)
    return max(start - room, 0.0), min(end + room, max(step_time, end))
