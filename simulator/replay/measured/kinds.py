"""Kinds of time in a step, and by which names they stand in a trace."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from hardware.reading import parse_yaml, read_text
from simulator.pricing.requests import (
    Collective,
    DecodeAttention,
    FusedAttention,
    HostCopy,
    HostWork,
    MatrixProduct,
    Request,
    Send,
    StreamKind,
)

NAMES = Path(__file__).with_name("kinds.yaml")
IDLE, OTHERS, OPTIMIZER, COPIES, SEND = "idle", "others", "optimizer", "copies", "send"
_COLLECTIVE = "collective"
"""In a rule of kernels: of which kind is said by what is carried out."""
_NODE = "autograd::engine::evaluate_function: "
"""What the engine of gradients puts before the name of a node that it evaluates."""


class Fit(NamedTuple):
    """What a rule says of a name."""

    kind: str
    whole: bool = False
    """Whether what it calls belongs to it too."""
    generic: bool = False
    """Whether the operator that launched a kernel says more of it."""


class NamedRule(NamedTuple):
    """A rule, and the names that it is for."""

    pattern: re.Pattern[str]
    fit: Fit


@dataclass(frozen=True)
class TimeKind:
    """A kind of time in a step."""

    name: str
    label: str
    streams: tuple[StreamKind, ...]
    """Kernels bound by memory that a prediction counts as this."""
    is_link: bool
    """Whether it runs beside the compute of a device: exchanges, and copies from and to the host."""
    touches: Mapping[str, Sequence[str]]
    """Constants that its predicted time depends on: of the device's class, of its links, of the stack, and fitted."""


@dataclass(frozen=True)
class KindNames:
    """The kinds, and the rules by which names belong to them."""

    kinds: Mapping[str, TimeKind]
    operators: tuple[NamedRule, ...]
    kernels: tuple[NamedRule, ...]
    collectives: tuple[NamedRule, ...]
    gloo: re.Pattern[str]
    step: re.Pattern[str]
    elements: Mapping[str, int]
    """Bytes of an element by the name of its number format."""

    @cached_property
    def of_stream(self) -> dict[StreamKind, str]:
        """Kinds by what a kernel bound by memory does."""
        return {stream: kind.name for kind in self.kinds.values() for stream in kind.streams}

    @cached_property
    def _known(self) -> dict[tuple[str, str], Fit | None]:
        """What has been looked up: traces repeat few names often."""
        return {}

    def of_operator(self, name: str) -> Fit | None:
        """What an operator or an annotation of the host is; nothing where no rule names it."""
        key = "operator", name
        if key not in self._known:
            gloo = self.gloo.fullmatch(name)
            plain = _first(self.operators, name.removeprefix(_NODE))
            self._known[key] = Fit(self.of_collective(gloo["collective"]), whole=True) if gloo else plain
        return self._known[key]

    def of_kernel(self, name: str, arguments: Mapping[str, Any]) -> Fit | None:
        """What a kernel of a device is.

        Parameters
        ----------
        name
            Of the kernel, as the trace has it.
        arguments
            Of its event; a collective says there what it carries out.
        """
        said = arguments.get("Collective name")
        if isinstance(said, str) and said:
            return Fit(self.of_collective(said))
        key = "kernel", name
        if key not in self._known:
            self._known[key] = self._of_kernel(name)
        return self._known[key]

    def _of_kernel(self, name: str) -> Fit | None:
        """The same by name alone."""
        for rule in self.kernels:
            match = rule.pattern.fullmatch(name)
            if match is not None:
                return Fit(self.of_collective(match["collective"])) if rule.fit.kind == _COLLECTIVE else rule.fit
        return None

    def of_collective(self, name: str) -> str:
        """The kind of a collective by what libraries call it.

        >>> [names().of_collective(each) for each in ("allreduce_coalesced", "_allgather_base", "ReduceScatter")]
        ['all_reduce', 'all_gather', 'reduce_scatter']
        """
        fit = _first(self.collectives, name.lower().replace("_", ""))
        return fit.kind if fit is not None else "other_collectives"

    def of_request(self, request: Request | None, part: str) -> str:
        """What a prediction calls by a request, or by its part of the step.

        Parameters
        ----------
        request
            What was asked; none where a device waits for its host, or for another stage.
        part
            Of the step.
        """
        match request:
            case Collective():
                return request.kind
            case Send():
                return SEND
            case HostCopy():
                return COPIES
            case HostWork() | None:
                return IDLE
        if part == OPTIMIZER:
            return OPTIMIZER
        match request:
            case MatrixProduct():
                return "matrix_products"
            case FusedAttention() | DecodeAttention():
                return "attention"
        return self.of_stream[request.kind]


def _first(rules: Sequence[NamedRule], name: str) -> Fit | None:
    """What the first rule that is for a name says."""
    return next((rule.fit for rule in rules if rule.pattern.fullmatch(name)), None)


@cache
def names() -> KindNames:
    """The kinds and rules that come with the package."""
    document = parse_yaml(read_text(NAMES), NAMES.name)
    kinds = {
        name: TimeKind(
            name,
            entry["label"],
            tuple(StreamKind(each) for each in entry.get("streams", ())),
            bool(entry.get("links", False)),
            entry["touches"],
        )
        for name, entry in document["kinds"].items()
    }
    return KindNames(
        kinds,
        operators=_rules(document["operators"]),
        kernels=_rules(document["kernels"]),
        collectives=_rules(document["collectives"]),
        gloo=re.compile(document["annotations"]["gloo"]),
        step=re.compile(document["annotations"]["step"]),
        elements={name: int(each["bytes"]) for each in document["elements"] for name in each["names"]},
    )


def _rules(entries: Sequence[Mapping[str, Any]]) -> tuple[NamedRule, ...]:
    """Rules in their order, one a pattern."""
    return tuple(
        NamedRule(
            re.compile(pattern.replace(" ", ""), re.DOTALL),
            Fit(entry["kind"], bool(entry.get("whole", False)), bool(entry.get("generic", False))),
        )
        for entry in entries
        for pattern in entry["names"]
    )
