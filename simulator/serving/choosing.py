"""The smallest replica that holds a model, for a plan that leaves its degrees open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hardware.errors import InputError
from simulator.serving.memory import serving_memory
from simulator.serving.scenario import ServingScenario, check_degrees

_ROOM = 0.1
"""Share of a device that has to be left for the cache of a replica of which nothing else is known."""


def smallest_split(served: ServingScenario, *, most: float, devices: int | None = None) -> tuple[int, int]:
    """Tensor-parallel ranks and stages of the smallest replica that holds the model and what is asked of it.

    Parameters
    ----------
    served
        With open degrees.
    most
        Devices of a replica at most [device].
    devices
        Devices that replicas share, where they are given [device].

    Returns
    -------
    tuple
        tp and pp; where nothing fits those that need least memory of a device.
    """
    best: tuple[float, tuple[int, int]] | None = None
    for tp, pp in sorted(_splits(served, most), key=lambda split: (split[0] * split[1], split[1])):
        plan = served.plan.model_copy(update={"tp": tp, "pp": pp, "ep": served.plan.ep or 1, "replicas": 1})
        tried = replace(served, plan=plan, devices=tp * pp)
        memory = serving_memory(tried, *_wanted(tried, 1 if devices is None else max(devices // (tp * pp), 1)))
        left = memory.capacity - memory.total
        if left >= (_ROOM * memory.capacity if served.load is None else 0.0):
            return tp, pp
        if best is None or memory.total < best[0]:
            best = (memory.total, (tp, pp))
    return best[1] if best is not None else (1, 1)


def _wanted(served: ServingScenario, replicas: int) -> tuple[float, float]:
    """Sequences of a replica and tokens of each that have to fit: those of a batch, or of requests in work."""
    load = served.load
    if load is None:
        return 1.0, 1.0
    number = load.batch or min(load.concurrency or 1, served.stack.most_sequences * replicas)
    return float(-(-number // replicas)), load.input_tokens + (load.output_tokens or 0.0)


def _splits(served: ServingScenario, most: float) -> Iterator[tuple[int, int]]:
    """Splits that the engine offers and that divide the model."""
    node, axes = served.system.devices_per_node, served.stack.axes
    degrees = [2**power for power in range(13) if 2**power <= most]
    for tp in degrees if "tp" in axes else [1]:
        for pp in degrees if "pp" in axes else [1]:
            across = tp > node and served.device.kind != "tpu"
            if tp * pp > most or across or (tp < node and pp > 1 and "tp" in axes and tp * 2 <= most / pp):
                continue
            try:
                plan = served.plan.model_copy(update={"tp": tp, "pp": pp, "ep": min(served.plan.ep or 1, tp)})
                check_degrees(plan, served.model, served.stack)
            except InputError:
                continue
            yield tp, pp
