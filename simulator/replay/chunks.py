"""The passes of one micro-batch through one chunk of layers: blocks in a row, and the shards that they wait for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from simulator.pricing.backend import Backend
from simulator.replay.blocks import Gradients, LaidBlock, lay
from simulator.replay.orders import PassKind
from simulator.replay.rows import BlockRow, Placed, Shards, is_of
from simulator.replay.spans import Piece, Span
from simulator.step.passes import slower, timed_tasks
from simulator.work.exchanges import beside_frozen, each_micro_batch
from simulator.work.frozen import part_of
from simulator.work.program import Block, Program
from simulator.work.tasks import Part, Phase, PlaceKind, Resource, Task

_GRADIENTS: dict[PassKind, Gradients] = {
    PassKind.FORWARD: "all",
    PassKind.BACKWARD: "all",
    PassKind.INPUT_GRADIENTS: "inputs",
    PassKind.WEIGHT_GRADIENTS: "weights",
}


class ChunkHolding(NamedTuple):
    """What of a model a chunk holds."""

    layers: float
    """Of all kinds together [layer]."""
    first: bool
    """Whether it has the embedding."""
    last: bool
    """Whether it has the head."""
    frozen_layers: float = 0.0
    """Of the model beside the trained one [layer]."""


@dataclass(frozen=True)
class ChunkPass:
    """One pass of one micro-batch through a chunk."""

    piece: Piece
    host: float
    """Time that the host needs to launch it [s]."""
    late: float = 0.0
    """Time that the device waits for it [s]."""

    @cached_property
    def links(self) -> tuple[Span, ...]:
        """What links between replicas carry in it, which outlasts single layers."""
        return tuple(span for span in self.piece.flat() if span.resource is Resource.DATA_LINKS)


@dataclass
class Chunks:
    """Passes of a scenario's chunks, each laid out once."""

    program: Program
    backend: Backend
    _laid: dict[tuple[int, int, PassKind], LaidBlock] = field(default_factory=dict)
    _passes: dict[tuple[ChunkHolding, PassKind, float], ChunkPass] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plans, stacks = self.program.scenarios.plans, self.program.scenarios.stacks
        self.launch = float(np.asarray(stacks.launch))
        self.overlap = float(np.asarray(stacks.parameter_overlap))
        self.micro_batches = float(np.asarray(plans.micro_batches))
        self._beside = {id(program): list(timed_tasks(tasks, self.backend)) for program, tasks in self._programs()}

    def _programs(self) -> Iterator[tuple[Program, Iterable[Task]]]:
        """Programs of the trained model and of the one beside it, with what each micro-batch does beside the blocks."""
        yield self.program, each_micro_batch(self.program)
        if self.program.frozen is not None:
            yield self.program.frozen, beside_frozen(self.program.frozen)

    def passed(self, holding: ChunkHolding, kind: PassKind, late: float = 0.0) -> ChunkPass:
        """One pass of a chunk.

        Parameters
        ----------
        holding
            What the chunk holds.
        kind
            Which pass.
        late
            Time that the device waits for each second of launches on its host [1].
        """
        key = holding, kind, late
        if key not in self._passes:
            # What is gathered while the device waits for its host takes nothing off the time that the host sets.
            least = self.passed(holding, kind).piece.duration if late > 0.0 else 0.0
            self._passes[key] = self._chain(self._blocks(holding, kind), kind, late, least)
        return self._passes[key]

    def lateness(
        self, held: Sequence[ChunkHolding], together: Sequence[PassKind], kinds: Iterable[PassKind]
    ) -> dict[tuple[ChunkHolding, PassKind], float]:
        """Time that a device waits in each pass for each second of launches, where a stage holds these chunks [1].

        As in `simulator.step.time`: the larger of the two times of a micro-batch, with a soft corner. Passes share the
        wait as each would wait alone, so that one whose pace the host sets takes as long as its launches. `together`
        are the kinds that make a micro-batch's way through a chunk, `kinds` all that there are.
        """
        waits = {(holding, kind): _wait(*self.alone([holding], [kind])) for holding in held for kind in kinds}
        apart = sum(waits[holding, kind] for holding in held for kind in together)
        whole = _wait(*self.alone(held, together))
        return {
            each: whole * (wait / apart) / self.passed(*each).host if wait > 0.0 and apart > 0.0 else 0.0
            for each, wait in waits.items()
        }

    def alone(self, held: Iterable[ChunkHolding], kinds: Iterable[PassKind]) -> tuple[float, float]:
        """Time of a device and of its host for one micro-batch, each without waiting for the other [s]."""
        passes = [self.passed(holding, kind) for holding in held for kind in kinds]
        return sum(each.piece.duration for each in passes), sum(each.host for each in passes)

    def held_up(self, held: Iterable[ChunkHolding], kinds: Iterable[PassKind], waits: float) -> float:
        """How much longer a micro-batch takes where its device waits besides, while its host goes on [s]."""
        device, host = self.alone(held, kinds)
        return _together(device + waits, host) - _together(device, host)

    def _blocks(self, holding: ChunkHolding, kind: PassKind) -> list[Placed]:
        """Blocks of a pass in the order in which they run."""
        placed = []
        frozen = self.program.frozen
        if frozen is not None and kind is PassKind.FORWARD:
            placed += self._of_program(frozen, holding._replace(layers=holding.frozen_layers), kind)
        own = self._of_program(self.program, holding, kind)
        return placed + (own if kind is PassKind.FORWARD else own[::-1])

    def _of_program(self, program: Program, holding: ChunkHolding, kind: PassKind) -> list[Placed]:
        """Blocks of one model in the order of the forward pass."""
        beside = "" if program is self.program else f" of the {_frozen_part(self.program)}".replace("_", " ")
        placed = []
        if holding.first:
            placed.append(self._end(program, program.embedding, f"embedding{beside}", kind))
        total = float(np.asarray(program.scenarios.models.layer_count))
        shared = self._shared(
            program, PlaceKind.LAYERS, kind, per=total / float(np.asarray(program.scenarios.plans.pp))
        )
        number = 0
        for index, block in enumerate(program.groups):
            left = float(np.asarray(block.number)) * holding.layers / total
            laid = self._lay(program, index, block, kind)
            while left > 1e-9:
                share = min(left, 1.0)
                number += 1
                part = laid if share > 1.0 - 1e-9 else LaidBlock(laid.piece.times(share), laid.host * share)
                of_part = shared if share > 1.0 - 1e-9 else shared.times(share)
                placed.append(Placed(f"layer {number}{beside}", part, of_part))
                left -= share
        if holding.last:
            placed.append(self._end(program, program.head, f"head{beside}", kind))
        return placed

    def _end(self, program: Program, block: Block, place: str, kind: PassKind) -> Placed:
        """Embedding or head."""
        index = -1 if block is program.embedding else -2
        return Placed(place, self._lay(program, index, block, kind), self._shared(program, block.place.kind, kind))

    def _lay(self, program: Program, index: int, block: Block, kind: PassKind) -> LaidBlock:
        """A block on its lanes."""
        key = id(program), index, kind
        if key not in self._laid:
            phases = {
                PassKind.FORWARD: (Phase.FORWARD,),
                PassKind.WEIGHT_GRADIENTS: (Phase.BACKWARD,),
            }.get(kind, (Phase.RECOMPUTE, Phase.BACKWARD))
            laid = lay(block, phases, self.backend, self.launch, _GRADIENTS[kind])
            if program is not self.program:
                laid = LaidBlock(_renamed(laid.piece, _frozen_part(self.program)), laid.host)
            self._laid[key] = laid
        return self._laid[key]

    def _shared(self, program: Program, place: PlaceKind, kind: PassKind, per: float = 1.0) -> Shards:
        """What one block of a place gathers, scatters and sums up in a pass; `per` are the blocks that a task is of."""
        phase = Phase.FORWARD if kind is PassKind.FORWARD else Phase.BACKWARD
        tasks = []
        for task, seconds in self._beside[id(program)]:
            if task.place.kind is not place or task.phase is not phase or not _belongs(task, kind):
                continue
            own = task if program is self.program else replace(task, part=_frozen_part(self.program))
            tasks.append((own, float(seconds) / per))
        return Shards(tuple(tasks))

    def _chain(self, blocks: list[Placed], kind: PassKind, late: float, least: float) -> ChunkPass:
        """Blocks in a row: each waits for its parameters, which are fetched while the one before it computes.

        With what the device waits for its host the pass takes `least` and that, however little it waits for links.
        """
        phase = Phase.FORWARD if kind is PassKind.FORWARD else Phase.BACKWARD
        several = self.micro_batches > 1.0
        follows = phase is Phase.BACKWARD or several
        row = BlockRow(self.overlap, phase, follows=follows, goes_on=several)
        for place, block in enumerate(blocks):
            following = blocks[place + 1] if place + 1 < len(blocks) else None
            row.add(block, following, late)
        host = sum(block.laid.host for block in blocks)
        return ChunkPass(row.piece(least + late * host), host, late * host)


def _together(device: float, host: float) -> float:
    """Time of a device and the host that launches for it [s]."""
    return max(float(slower(device, host)), device)


def _wait(device: float, host: float) -> float:
    """Time that a device waits for the host that launches for it [s]."""
    return _together(device, host) - device if host > 0.0 else 0.0


def _belongs(task: Task, kind: PassKind) -> bool:
    """Whether a task beside the blocks runs in a pass: sums and scatters wait for the gradients of weights."""
    of_weights = task.resource is Resource.DEVICE or is_of(task, "reduce_scatter")
    if kind is PassKind.INPUT_GRADIENTS:
        return not of_weights
    return of_weights if kind is PassKind.WEIGHT_GRADIENTS else True


def _frozen_part(program: Program) -> Part:
    """The part of the step that the model beside the trained one is."""
    model = program.scenarios.workloads.frozen
    if model is None:
        raise ValueError("no model runs beside the trained one")
    return part_of(model)


def _renamed(piece: Piece, part: str) -> Piece:
    """A piece all of whose spans belong to one part of the step."""
    spans = tuple(replace(span, part=part) for span in piece.spans)
    inner = tuple((start, place, _renamed(each, part)) for start, place, each in piece.inner)
    return Piece(piece.duration, spans, inner)
