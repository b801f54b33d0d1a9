"""Dense grids of plans, which the formulas price by broadcasting: what few axes decide is computed once for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.formulas.typing import Num
from simulator.specs.choices import (
    EVERY_RECOMPUTE,
    SCHEDULES,
    SHARDINGS,
    Axis,
    Recompute,
    Schedule,
    Sharding,
    traits_of,
)
from simulator.specs.plan import SHARDS, Plan
from simulator.specs.plans import AXES, Plans
from simulator.specs.recomputation import Recomputation

Indices = NDArray[np.intp]
_ORDERS: dict[tuple[str, ...], int] = {order: index for index, order in enumerate(permutations(AXES))}
"""Placements, from the one that is usual."""


class Degrees(NamedTuple):
    """Degrees; all but ep multiply to the devices."""

    tp: int
    pp: int
    cp: int
    dp: int
    ep: int = 1
    etp: int | None = None
    """As many as `tp` unless it is a number."""


class PassChoice(NamedTuple):
    """What decides the work of one forward and backward pass beside the split."""

    micro_batch: int
    sequence_parallel: bool
    recompute: Recompute


@dataclass(frozen=True)
class PlanGrid:
    """All combinations of what its six axes hold."""

    splits: Sequence[Degrees]
    placements: Sequence[tuple[Axis, ...]]
    shardings: Sequence[tuple[Sharding, int]]
    """With the ranks that share; 0 for all replicas."""
    schedules: Sequence[tuple[Schedule, int]]
    """With the virtual stages."""
    offloads: Sequence[bool]
    passes: Sequence[PassChoice]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(len(axis) for axis in vars(self).values())

    @property
    def size(self) -> int:
        """Plans."""
        return int(np.prod([len(axis) for axis in vars(self).values()]))

    def columns(self, base: Plan, global_batch: int) -> Plans:
        """The plans as numbers: each column lies along the axes that it depends on.

        Parameters
        ----------
        base
            Attention, precision and optimizer of all of them.
        global_batch
            Sequences of a step.
        """
        degrees: dict[str, Num] = {name: _along(0, [getattr(s, name) for s in self.splits]) for name in (*AXES, "ep")}
        degrees["etp"] = _along(0, [split.etp or split.tp for split in self.splits])
        placed: dict[str, Num] = {axis: _along(1, [order.index(axis) for order in self.placements]) for axis in AXES}
        selects = not base.recompute_modules
        shards = tuple(_along(2, [SHARDS[name][i] for name, _ in self.shardings]) for i in range(3))
        return Plans.split(
            degrees,
            placed,
            global_batch=float(global_batch),
            micro_batch=_along(5, [one.micro_batch for one in self.passes]),
            shards=(shards[0], shards[1], shards[2]),
            sharding_group=_along(2, [group for _, group in self.shardings]),
            virtual_stages=_along(3, [virtual for _, virtual in self.schedules]),
            sequence_parallel=_along(5, [one.sequence_parallel for one in self.passes]),
            recompute_attention=_along(5, [selects and one.recompute == "selective" for one in self.passes]),
            recompute_layer=_along(5, [one.recompute == "full" for one in self.passes]),
            recomputation=self._recomputation(base),
            **self._traits(),
            offload=_along(4, self.offloads),
            **base.held(),
        )

    def _traits(self) -> dict[str, Num]:
        """What the columns say of schedules."""
        each = [traits_of(name) for name, _ in self.schedules]
        return {trait: _along(3, [traits[trait] for traits in each]) for trait in each[0]} if each else {}

    def _recomputation(self, base: Plan) -> Recomputation:
        """What is recomputed beside attention or layers: modules and layers of all plans, operators of some."""
        by_operator = [one.recompute == "operators" for one in self.passes]
        return base.recomputation(operators=_along(5, by_operator) if any(by_operator) else 0.0)

    def words(self, base: Plan) -> dict[str, NDArray[np.str_]]:
        """The fields of the plans that are words, each along the axis that it depends on.

        Parameters
        ----------
        base
            Precision and optimizer of all of them.
        """
        lists = {
            "sharding": _wide(2, [name for name, _ in self.shardings]),
            "schedule": _wide(3, [name for name, _ in self.schedules]),
            "recompute": _wide(5, [one.recompute for one in self.passes]),
        }
        return {**lists, "precision": np.array(base.precision), "optimizer": np.array(base.optimizer)}

    def plan(self, index: int, base: Plan) -> Plan:
        """The plan at a place of the flattened grid."""
        place = np.unravel_index(index, self.shape)
        split, order, (sharding, group), (schedule, virtual), offload, one = (
            axis[int(i)] for axis, i in zip(vars(self).values(), place, strict=True)
        )
        return base.model_copy(
            update={
                **split._asdict(),
                "placement": order,
                "sharding": sharding,
                "sharding_group": group or None,
                "schedule": schedule,
                "virtual_stages": virtual,
                "offload_optimizer": offload,
                **one._asdict(),
            }
        )

    def complexity(self, flat: Indices) -> NDArray[np.float64]:
        """How much machinery some of the plans need: keys to sort by, the first of them first, plans x keys."""
        split, order, sharding, schedule, offload, one = np.unravel_index(flat, self.shape)
        of_split = np.array([(s.pp, s.tp, s.cp, s.ep, s.etp or 0) for s in self.splits], dtype=np.float64)
        of_sharding = np.array([(SHARDINGS.index(name), group) for name, group in self.shardings], dtype=np.float64)
        of_schedule = np.array([(v, SCHEDULES.index(name)) for name, v in self.schedules], dtype=np.float64)
        of_offload = np.array(self.offloads, dtype=np.float64)[:, None]
        of_order = np.array([_ORDERS[placement] for placement in self.placements], dtype=np.float64)[:, None]
        of_pass = np.array(
            [(EVERY_RECOMPUTE.index(p.recompute), p.sequence_parallel, -p.micro_batch) for p in self.passes],
            dtype=np.float64,
        )
        return np.concatenate(
            [
                of_split[split],
                of_sharding[sharding],
                of_schedule[schedule],
                of_offload[offload],
                of_pass[one],
                of_order[order],
            ],
            axis=1,
        )

    def narrowed(self, kept: Sequence[Indices]) -> PlanGrid:
        """The grid of some entries of each axis."""
        axes = zip(vars(self).items(), kept, strict=True)
        return PlanGrid(**{name: [axis[i] for i in index] for (name, axis), index in axes})

    def pieces(self, most: int) -> Iterator[PlanGrid]:
        """Grids of no more plans than `most` that make up this one, cut along splits and then placements."""
        beside = max(1, self.size // max(1, len(self.splits)))
        for splits in _cut(self.splits, max(1, most // beside)):
            part = replace(self, splits=splits)
            each = max(1, part.size // len(self.placements))
            for placements in _cut(self.placements, max(1, most // each)):
                yield replace(part, placements=placements)


def _cut(axis: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    """An axis in pieces of nearly equal length, none longer than `most`."""
    number = -(-len(axis) // most)
    for i in range(number):
        yield axis[i * len(axis) // number : (i + 1) * len(axis) // number]


def _along(axis: int, values: Sequence[Any]) -> NDArray[np.float64]:
    """Values along one of the six axes."""
    return _wide(axis, values).astype(np.float64)


def _wide(axis: int, values: Sequence[Any]) -> NDArray[Any]:
    """Values along one of the six axes, as they are."""
    shape = [1] * 6
    shape[axis] = len(values)
    return np.array(values).reshape(shape)
