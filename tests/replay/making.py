"""Tasks, pieces and a backend of plain seconds, for what is worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, CollectiveKind, MatrixProduct, Request, Stream, StreamKind
from simulator.replay.blocks import LaidBlock
from simulator.replay.spans import Piece, Span
from simulator.work.hiding import OPEN, Hiding
from simulator.work.program import Block
from simulator.work.tallies import Tally
from simulator.work.tasks import Part, Phase, PlaceKind, Resource, Task, TaskPlace

LAYER = TaskPlace(PlaceKind.GROUP)


@dataclass(frozen=True)
class Seconds:
    """A backend that takes a second for a byte, or for an operation."""

    name: str = "seconds"

    def time(self, request: Request) -> Num:
        """As many seconds as there are bytes or operations."""
        if isinstance(request, Collective):
            return request.message_bytes
        assert isinstance(request, Stream | MatrixProduct)
        return request.flops if isinstance(request, MatrixProduct) else request.moved_bytes

    def leaves_node(self, request: Collective) -> Num:
        """Never."""
        return 0.0 * request.degree


def compute(seconds: float, part: Part, *, name: str = "", phase: Phase = Phase.FORWARD, kernels: float = 1.0) -> Task:
    """Work of the device."""
    request = Stream(kind=StreamKind.ACTIVATION, moved_bytes=seconds, kernels=1.0)
    return Task(name or part, part, request, phase, LAYER, Resource.DEVICE, kernels=kernels)


def product(seconds: float, part: Part, *, weights: bool) -> Task:
    """A product of the backward pass: gradients of weights, or of inputs."""
    request = MatrixProduct(m=seconds / 2.0, n=1.0, k=1.0, element_bytes=2.0, weight_gradient=weights)
    return Task(part, part, request, Phase.BACKWARD, LAYER, Resource.DEVICE, kernels=1.0)


def exchange(
    seconds: float,
    kind: CollectiveKind,
    *,
    part: Part = "tensor_parallel",
    phase: Phase = Phase.FORWARD,
    resource: Resource = Resource.TENSOR_LINKS,
    hiding: Hiding = OPEN,
    count: float = 1.0,
) -> Task:
    """Calls of a collective of so many seconds each."""
    request = Collective(kind=kind, message_bytes=seconds, degree=2.0, stride=1.0)
    return Task(kind, part, request, phase, LAYER, resource, count=count, hiding=hiding)


def block_of(*tasks: Task) -> Block:
    """A layer that consists of tasks."""
    block = Block(LAYER, 1.0, (), Tally(), ())
    # What its operators would say is here already.
    block.__dict__["tasks"] = tasks
    return block


def laid(seconds: float, host: float = 0.0) -> LaidBlock:
    """A block that computes for so long."""
    span = Span(Resource.DEVICE, "work", "feed_forward", Phase.FORWARD, 0.0, seconds)
    return LaidBlock(Piece(seconds, (span,)), host)


def times_of(piece: Piece, resource: Resource = Resource.DEVICE, *, waits: bool = False) -> list[tuple[float, float]]:
    """Start and end of what a resource does, or of what the device waits for, in the order of their starts."""
    spans = [span for span in piece.flat() if span.resource is resource and span.waits == waits]
    return sorted((span.start, span.end) for span in spans)


def overlaps(piece: Piece) -> list[tuple[Span, Span]]:
    """Spans that share a resource and a time, though it can do one thing only."""
    lanes: dict[Resource, list[Span]] = {}
    for span in piece.flat():
        lanes.setdefault(span.resource, []).append(span)
    together = []
    for spans in lanes.values():
        spans.sort(key=lambda span: (span.start, span.end))
        ends = pairwise(spans)
        together += [(one, other) for one, other in ends if other.start < one.end - 1e-9 * max(one.end, 1e-9)]
    return together
