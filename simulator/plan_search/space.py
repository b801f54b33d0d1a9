"""Which plans are considered: every split, placement, sharding, schedule and micro-batch that the stack can run."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import permutations, product
from typing import Any, TypeVar

import numpy as np

from hardware.spec import System
from simulator.plan_search.conditions import Condition
from simulator.plan_search.grid import Degrees, PassChoice, PlanGrid
from simulator.specs.capabilities.checking import is_offered
from simulator.specs.capabilities.offers import offers_of, terms_of
from simulator.specs.capabilities.refusals import Mask
from simulator.specs.choices import EVERY_RECOMPUTE, LOOPED, SHARDINGS, V_SHAPED, Axis, Schedule, Sharding
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.plans import AXES, divisors, virtual_stages_of
from simulator.specs.rules import rules_of_replicas, rules_of_shape
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

Entry = TypeVar("Entry")
_NODES = (1, 8, 64)
"""Nodes that share parameters under hybrid sharding."""
_OF_SPLITS = (
    "heads",
    "kv-heads",
    "layers",
    "sequence",
    "experts",
    "adapters",
    "expert-tensor",
    "expert-group",
    "batch",
)
"""Rules that degrees alone can break."""
_DEGREES = frozenset(
    {"tp", "pp", "cp", "dp", "ep", "etp", "first_stage_layers", "last_stage_layers"}
    | {"layers", "attention_heads", "key_value_heads", "experts", "sequence_length", "global_batch", "tied_head"}
)
"""What a split, model and workload decide alone, of what a stack's conditions may name."""


@dataclass(frozen=True)
class Space:
    """Plans for a model and a workload on a number of devices."""

    model: Model
    workload: Workload
    system: System
    stack: Stack
    devices: int
    base: Plan
    """Attention, precision and optimizer of all plans."""
    conditions: tuple[Condition, ...] = ()
    usual: bool = False
    """Whether only what most runs do is tried: axes from the fastest link to the slowest, tensor-parallel ranks that
    share tokens, 1F1B or interleaved pipelines, no offloading, all replicas or those of a node sharing states. So few
    plans for each split are priced soonest in one grid with gaps."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Plans that cannot be, by the first rule that they break; it grows while grids are made."""

    @cached_property
    def alone(self) -> Sharding | None:
        """What a single replica is said to share where states are offloaded: of software that offloads shared ones."""
        return _shared_alone(self.model, self.workload, self.stack)

    @property
    def batch(self) -> int:
        """Sequences of a step."""
        return self.workload.global_batch or 1

    def grids(self) -> Iterator[PlanGrid]:
        """Grids of plans that together are all of them; what their degrees forbid is counted and left out."""
        for splits in self._groups():
            used = {axis: any(getattr(split, axis) > 1 for split in splits) for axis in AXES}
            shares = self.usual or used["tp"]  # which means nothing for a rank that is alone
            grid = PlanGrid(
                splits=splits,
                placements=self.placements(used),
                shardings=self.shardings(max(split.dp * split.cp for split in splits)),
                schedules=self.schedules(sorted({split.pp for split in splits})),
                offloads=self.offloads(),
                passes=self.passes({split.dp for split in splits}, shares=shares),
            )
            if grid.size:
                yield grid

    def _groups(self) -> list[list[Degrees]]:
        """Splits that keep the rules, parted by what decides which schedules, passes and placements they can have."""
        splits = list(self.splits())
        if not splits:
            return []
        one = PlanGrid(splits, (AXES,), (("none", 0),), (("1f1b", 1),), (False,), (PassChoice(1, False, "none"),))  # type: ignore[arg-type]
        alive = np.ones(len(splits), dtype=bool)
        for name, keeps in self._rules_of_splits(one):
            kept = np.broadcast_to(keeps, one.shape).reshape(-1)
            broken = [splits[i] for i in np.flatnonzero(alive & ~kept)]
            if broken:
                self.rejected[name] += len(broken) if self.usual else sum(map(self._plans_of, broken))
            alive &= kept
        groups: dict[tuple[int, ...], list[Degrees]] = defaultdict(list)
        for split in (splits[i] for i in np.flatnonzero(alive)):
            kind = () if self.usual else (split.pp, split.tp > 1, split.dp > 1, split.cp > 1)
            limited = (split.dp,) if self._says("micro_batches") else ()
            groups[*kind, *limited].append(split)
        return list(groups.values())

    def _rules_of_splits(self, one: PlanGrid) -> Iterator[tuple[str, Mask]]:
        """Rules that degrees alone decide, and which splits keep them: of divisibility, then of the stack."""
        plans, models, workloads = one.columns(self.base, self.batch), self.model.columns(), self.workload.columns()
        of_shape = rules_of_shape(plans, models, workloads, self.stack.columns())
        for rule in (*of_shape, *rules_of_replicas(plans, workloads)):
            if rule.name in _OF_SPLITS:
                yield rule.name, rule.kept
        for offer in offers_of(self.stack, terms_of(plans, models, workloads, one.words(self.base))):
            if offer.names <= _DEGREES:
                yield "stack", offer.kept

    def _plans_of(self, split: Degrees) -> int:
        """Plans that a split would have if it kept the rules."""
        used = {axis: getattr(split, axis) > 1 for axis in AXES}
        lists: tuple[Sequence[Any], ...] = (
            self.placements(used),
            self.shardings(split.dp * split.cp),
            self.schedules([split.pp]),
            self.offloads(),
            self.passes({split.dp}, shares=split.tp > 1) or (None,),
        )
        return math.prod(map(len, lists))

    def splits(self) -> Iterator[Degrees]:
        """All degrees that multiply to the devices, and the groups of experts."""
        axes = self.stack.axes
        lists = [divisors(self.devices) if axis in axes else [1] for axis in ("tp", "pp", "cp")]
        for tp, pp, cp in product(*(self._allowed(a, v) for a, v in zip(("tp", "pp", "cp"), lists, strict=True))):
            dp, left = divmod(self.devices, tp * pp * cp)
            if left or not self._keeps("dp", dp):
                continue
            for etp in self._expert_tensors(tp):
                ranks = dp * cp * tp // (etp or tp)
                shared = divisors(math.gcd(self.model.experts, ranks)) if "ep" in axes else [1]
                if self._says("ep"):
                    shared = divisors(max(self.model.experts, ranks))
                for ep in self._allowed("ep", shared):
                    yield Degrees(tp, pp, cp, dp, ep, etp)

    def _expert_tensors(self, tp: int) -> list[int | None]:
        """Tensor-parallel ranks of an expert: those of the dense layers, or one."""
        apart = tp > 1 and self.model.experts > 1 and self.stack.offers.expert_tensor_parallel
        asked = [int(v) for c in self.conditions if c.field == "etp" for v in c.values]
        every = [None, *sorted({1, *(each for each in asked if 1 < each < tp)})] if apart else [None]
        return [each for each in every if self._keeps("etp", each or tp)]

    def placements(self, used: dict[str, bool]) -> list[tuple[Axis, ...]]:
        """Orders of the axes; those that differ in axes of one rank only are the same."""
        distinct: dict[tuple[str, ...], tuple[Axis, ...]] = {}
        offered = self.stack.offers.orders
        orders: list[tuple[Any, ...]] = list(offered[:1] if self.usual else offered)
        if self._says("placement"):
            orders = list(permutations(AXES))
        for order in self._allowed("placement", orders):
            distinct.setdefault(tuple(axis for axis in order if used[axis]), order)
        return list(distinct.values())

    def shardings(self, replicas: int) -> list[tuple[Sharding, int]]:
        """What replicas share, and in groups of how many; 0 for all of them."""
        every: list[tuple[Sharding, int]] = [("none", 0)]
        if replicas == 1 and self.alone is not None:
            every.append((self.alone, 0))
        if replicas > 1:
            asked = [int(v) for c in self.conditions if c.field == "sharding_group" for v in c.values if v > 0]
            nodes = _NODES[:1] if self.usual else _NODES
            groups = sorted({self.system.devices_per_node * number for number in nodes} | set(asked))
            every += (
                [("zero1", 0), ("zero3", 0)]
                if self._only_usual("sharding")
                else [("zero1", 0), ("zero2", 0), ("zero3", 0)]
            )
            every += [("zero1", group) for group in sorted(set(asked)) if 1 < group <= replicas]
            every += [("hybrid", group) for group in groups if 1 < group < replicas + (group in asked)]
        return [
            (name, group)
            for name, group in every
            if name in self.stack.offers.shardings
            and self._keeps("sharding", name)
            and self._keeps("sharding_group", group)
        ]

    def schedules(self, stages: Sequence[int]) -> list[tuple[Schedule, int]]:
        """Schedules of pipelines of some numbers of stages, with their virtual stages."""
        every: list[tuple[Schedule, int]] = [("1f1b", 1)]
        if max(stages) > 1:
            every += [("gpipe", 1), ("zero-bubble", 1)]
            for virtual in sorted({virtual for pp in stages if pp > 1 for virtual in self._virtual(pp)}):
                every += [(name, virtual) for name in LOOPED]
                every += [(name, virtual) for name in V_SHAPED if virtual == 2]
        offered = self.stack.offers.schedules
        if self._only_usual("schedule"):
            every = [each for each in every if each[0] in ("1f1b", "interleaved", offered[0])]
        if min(stages) > 1:
            every = [each for each in every if each[0] in offered]
        else:
            every = [each for each in every if each[0] in ("1f1b", *offered)]  # 1F1B is a single stage's too
        return [
            (name, virtual)
            for name, virtual in every
            if self._keeps("schedule", name) and self._keeps("virtual_stages", virtual)
        ]

    def _virtual(self, pp: int) -> list[int]:
        """Virtual stages that divide the layers."""
        return virtual_stages_of(self.model.all_layers, pp)

    def passes(self, replicas: set[int], *, shares: bool) -> list[PassChoice]:
        """Micro-batches of some numbers of replicas, with and without shared tokens and recomputation."""
        sizes = {
            size
            for dp in replicas
            if self.batch % dp == 0
            for size in divisors(self.batch // dp)
            if self._keeps("micro_batches", self.batch // (dp * size))
        }
        offers = self.stack.offers
        shares = shares and offers.sequence_parallel
        sharing = [False, True] if shares else [False]
        repeats = [each for each in EVERY_RECOMPUTE if each in offers.recompute]
        if self._only_usual("sequence_parallel"):
            sharing = [shares]
        if self._only_usual("recompute") and self.base.attention == "fused" and repeats != ["selective"]:
            repeats = [each for each in repeats if each != "selective"]  # which fused attention does anyway
        return [
            PassChoice(size, shared, repeated)
            for size in self._allowed("micro_batch", sorted(sizes))
            for shared in self._allowed("sequence_parallel", sharing)
            for repeated in self._allowed("recompute", repeats)
        ]

    def offloads(self) -> list[bool]:
        """Whether optimizer states may live with the host."""
        alone = self._only_usual("offload_optimizer") or not self.stack.offers.offload_optimizer
        return self._allowed("offload_optimizer", [False] if alone else [False, True])

    def _only_usual(self, name: str) -> bool:
        """Whether of a field only usual values are tried: no condition names it."""
        return self.usual and not self._says(name)

    def _says(self, name: str) -> bool:
        """Whether a condition names a field."""
        return any(condition.field == name for condition in self.conditions)

    def _keeps(self, name: str, value: Any) -> bool:
        """Whether a value of a field meets all conditions."""
        return all(condition.keeps(value) for condition in self.conditions if condition.field == name)

    def _allowed(self, name: str, values: Sequence[Entry]) -> list[Entry]:
        """The values of a field that meet all conditions."""
        return [value for value in values if self._keeps(name, value)]


@lru_cache(maxsize=256)
def _shared_alone(model: Model, workload: Workload, stack: Stack) -> Sharding | None:
    """What a single replica shares under offloading; the cases of a sweep ask for the same ones again."""
    if not any("offload_optimizer" in refusal.names for refusal in stack.offers.refuses):
        return None
    plans = (Plan(sharding=name, offload_optimizer=True) for name in SHARDINGS if name != "hybrid")
    can = next((plan.sharding for plan in plans if is_offered(plan, model, workload, stack)), None)
    return None if can == "none" else can
