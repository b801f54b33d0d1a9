"""Which plans are tried where the user leaves some of it open: from what a stack's users do at first to all it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from hardware.spec import System
from simulator.specs.choices import EVERY_RECOMPUTE, LOOPED, V_SHAPED, Recompute, Sharding
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.plans import divisors, virtual_stages_of
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_MOST_TENSOR_RANKS = 16
_MOST_STAGES = 64
_MOST_SEQUENCES = 256
FEWEST_TOKENS = 4096
"""Of a sequence on a rank of context parallelism: shorter parts are left to people who ask for them, and to models that
fit in no other way [token]."""
RUNS_AHEAD: tuple[str | None, ...] = (*LOOPED, *V_SHAPED)
"""Schedules that are none of a single stage."""


class Purpose(NamedTuple):
    """What a plan is completed for."""

    asked: Plan
    """The user's plan."""
    filled: Plan
    """The same with the stack's defaults, degrees and micro-batch still open."""
    model: Model
    workload: Workload
    system: System
    stack: Stack
    devices: int

    @property
    def leaves_sharding(self) -> bool:
        """Whether the user leaves open what replicas share."""
        return self.asked.sharding is None and self.asked.sharding_group is None

    def axis(self, name: str, values: Callable[[], Sequence[int]], *, open_to: bool = True) -> Sequence[int]:
        """Degrees to try along an axis: what is given, else `values` where the stack has it and it is open to them."""
        asked = getattr(self.asked, name)
        return [asked] if asked else values() if open_to and name in self.stack.axes else [1]


class Reach(NamedTuple):
    """Which plans are tried: as far from the usual ones as it takes until some fit."""

    shardings: Sequence[Sharding]
    splits: bool = True
    """Whether layers are split over ranks, by tensor parallelism and pipelines."""
    offloads: Sequence[bool] = (False,)
    every: bool = False
    """Whether every split is tried, also those that most people leave alone, with what saves most memory beside it."""


def reaches(purpose: Purpose, *, published: bool) -> Iterator[Reach]:
    """From what the stack's users do at first to all that it has."""
    filled, stack = purpose.filled, purpose.stack
    asked = purpose.asked.offload_optimizer
    offloads: tuple[bool, ...] = (bool(asked),)
    usual: tuple[Sharding, ...] = (filled.sharding or "none",)
    if published:
        yield Reach(usual, offloads=offloads)
        return
    every = usual
    if purpose.leaves_sharding:
        usual = (*usual, *(each for each in stack.defaults.when_large if each not in usual))
        every = (*usual, *(each for each in stack.offers.shardings if each not in (*usual, "hybrid")))
        if len(usual) > 1:
            yield Reach(usual, splits=False, offloads=offloads)
    yield Reach(usual, offloads=offloads)
    if every != usual:
        yield Reach(every, offloads=offloads)
    if asked is None and stack.offers.offload_optimizer:
        offloads = (False, True)
        yield Reach(every, offloads=offloads)
    yield Reach(every, offloads=offloads, every=True)


def candidates_of(purpose: Purpose, reach: Reach) -> Iterator[Plan]:
    """Splits of the devices that keep what is given."""
    asked, filled, devices = purpose.asked, purpose.filled, purpose.devices
    batch, usual = purpose.workload.global_batch or 1, purpose.stack.offers.schedules[0]
    others = list(product(_repeats(purpose, reach), reach.shardings, reach.offloads, _sharing(purpose, reach)))
    for tp, pp, cp, virtual in splits(purpose, reach):
        dp = asked.dp or devices // (tp * pp * cp)
        if dp * tp * pp * cp != devices or batch % dp:
            continue
        sizes = [asked.micro_batch] if asked.micro_batch else _some_divisors(batch // dp, _MOST_SEQUENCES)
        for ep, micro in product(_experts(purpose, reach, dp, cp, tp), sizes[:2] if reach.every else sizes):
            degrees = {"dp": dp, "tp": tp, "pp": pp, "cp": cp, "ep": ep, "virtual_stages": virtual}
            for recompute, sharding, offload, shares in others:
                yield filled.model_copy(
                    update={
                        **degrees,
                        "micro_batch": micro,
                        "recompute": recompute,
                        "sharding": sharding,
                        "offload_optimizer": offload,
                        "sequence_parallel": shares and tp > 1,
                    }
                ).with_degrees(devices, usual=usual)


def splits(purpose: Purpose, reach: Reach) -> Iterator[tuple[int, int, int, int | None]]:
    """Tensor, pipeline and context parallelism, and virtual stages where they are asked for."""
    asked, model, devices = purpose.asked, purpose.model, purpose.devices
    tensors = purpose.axis("tp", lambda: _tensors(purpose, reach), open_to=reach.splits)
    most = model.all_layers if reach.every else min(_MOST_STAGES, model.all_layers)
    stages = purpose.axis("pp", lambda: _some_divisors(devices, most), open_to=reach.splits or is_piped(asked))
    contexts = purpose.axis("cp", lambda: _contexts(purpose, reach))
    for tp, pp, cp in product(tensors, stages, contexts):
        if devices % (tp * pp * cp) or (pp == 1 and is_piped(asked)):
            continue
        for virtual in _virtual(asked, model.all_layers, pp):
            yield tp, pp, cp, virtual


def is_piped(asked: Plan) -> bool:
    """Whether somebody asks for what only a pipeline has."""
    return asked.schedule in RUNS_AHEAD or (asked.virtual_stages or 1) > 1


def _virtual(asked: Plan, layers: int, pp: int) -> Sequence[int | None]:
    """Virtual stages: the few that an interleaved schedule has, where somebody asks for one and not for how many."""
    if asked.virtual_stages or asked.schedule not in RUNS_AHEAD:
        return [asked.virtual_stages]
    if asked.schedule in V_SHAPED:
        return [2]
    few = virtual_stages_of(layers, pp)[:3]
    return [1, *few] if asked.schedule == "zero-bubble" else few  # which has one chunk a device or more


def _tensors(purpose: Purpose, reach: Reach) -> list[int]:
    """Tensor-parallel ranks: those of a node, unless every split is tried."""
    system, devices = purpose.system, purpose.devices
    node = devices if reach.every else system.devices_per_node
    most = _MOST_TENSOR_RANKS if system.device.kind == "tpu" else min(node, _MOST_TENSOR_RANKS)
    return [tp for tp in _some_divisors(devices, most) if purpose.model.attention_heads % tp == 0]


def _experts(purpose: Purpose, reach: Reach, dp: int, cp: int, tp: int) -> Sequence[int]:
    """Expert-parallel ranks: as many replicas as there are of them, unless every split is tried."""
    experts = purpose.model.experts
    if not reach.every:
        return purpose.axis("ep", lambda: [math.gcd(experts, dp)])
    return purpose.axis("ep", lambda: divisors(math.gcd(experts, dp * cp * tp)))


def _repeats(purpose: Purpose, reach: Reach) -> Sequence[Recompute | None]:
    """What may be recomputed: as much as is usual, or more of what the stack has; of every split only the most."""
    usual = purpose.filled.recompute
    if purpose.asked.recompute:
        return [usual]
    more = EVERY_RECOMPUTE[EVERY_RECOMPUTE.index(usual or "none") :]
    tried = [each for each in more if each == usual or each in purpose.stack.offers.recompute]
    return tried[-1:] if reach.every else tried


def _sharing(purpose: Purpose, reach: Reach) -> Sequence[bool]:
    """Whether tensor-parallel ranks share tokens: as the stack does, unless every split is tried."""
    usual = bool(purpose.filled.sequence_parallel)
    both = reach.every and purpose.asked.sequence_parallel is None and purpose.stack.offers.sequence_parallel
    return (usual, not usual) if both else (usual,)


def _contexts(purpose: Purpose, reach: Reach) -> list[int]:
    """Context-parallel ranks that leave each a long part of a sequence; one of short sequences."""
    workload = purpose.workload
    length = min(workload.sequence_length or 1, workload.target_length or math.inf)
    most = purpose.devices if reach.every else max(int(length) // FEWEST_TOKENS, 1)
    return [cp for cp in _some_divisors(purpose.devices, most) if length % cp == 0]


def _some_divisors(number: int, most: int) -> list[int]:
    """Divisors of a number up to another; some of them where there are many."""
    small = [divisor for divisor in divisors(number) if divisor <= most]
    return small if len(small) <= 12 else sorted({small[round(i * (len(small) - 1) / 11)] for i in range(12)})
