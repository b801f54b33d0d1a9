"""The program of a step: every task that a stage executes. Whatever is said of a step is read from it.

`program_of` is the only walk over a model's layers. Step time and memory (`simulator.step`), counts, messages, the
roofline, the list of what a calibration measures, and the verification against torch read what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from simulator.formulas import activations
from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, HostCopy, HostWork, MatrixProduct, Request, Send
from simulator.specs.parts import Layers
from simulator.specs.training.tuning import Tunings
from simulator.work.frozen import beside, forward_alone
from simulator.work.hiding import OperatorPart
from simulator.work.operators import Call, Operator, flagged, frozen, without_backward
from simulator.work.recomputation import repeated_shares, repetitions, tally_of_layer
from simulator.work.tallies import Tally, tally
from simulator.work.tasks import Phase, PlaceKind, Resource, Task, TaskPlace
from simulator.work.transformer import Scenarios, embedding, head, layer, stream_bytes, tokens_of_layers
from simulator.work.transformer.casts import in_8_bits
from simulator.work.transformer.multi_token import FurtherPredictions, further_predictions

EMBEDDING, HEAD = TaskPlace(PlaceKind.EMBEDDING), TaskPlace(PlaceKind.HEAD)


@dataclass(frozen=True)
class Block:
    """One layer of a group, the embedding, or the head."""

    place: TaskPlace
    number: Num
    """How many of it the model has [1]."""
    operators: tuple[Operator, ...]
    tally: Tally
    """What one of it keeps and owns."""
    repeated: tuple[Num, ...]
    """How often the backward pass repeats the forward pass of each operator [1]."""
    wide: Num = 0.0
    """Share of it, of a layer, whose products stay in 16 bits where those of others are in 8 [1]."""

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """What one of it executes for one micro-batch."""
        pairs = zip(self.operators, self.repeated, strict=True)
        return tuple(task for operator, again in pairs for task in _tasks(operator, self.place, again, self.wide))

    @cached_property
    def model_flops(self) -> Num:
        """Arithmetic of the forward and the backward pass of one of it, without what only repeats [FLOP]."""
        return _sum(
            task.count * (_flops(task.request) - _recomputed(task.request))
            for task in self.tasks
            if task.phase is not Phase.RECOMPUTE
        )

    def flops_of(self, part: OperatorPart) -> Num:
        """Of this that of one part [FLOP]."""
        return _sum(
            task.count * (_flops(task.request) - _recomputed(task.request))
            for task in self.tasks
            if task.phase is not Phase.RECOMPUTE and task.part == part
        )

    @cached_property
    def repeated_flops(self) -> Num:
        """Arithmetic that the plan has recomputed [FLOP]."""
        return _sum(task.count * _flops(task.request) for task in self.tasks if task.phase is Phase.RECOMPUTE)

    @cached_property
    def recomputed_flops(self) -> Num:
        """Arithmetic that only repeats what a forward pass has done, inside fused attention too [FLOP]."""
        return _sum(
            task.count * (_flops(task.request) if task.phase is Phase.RECOMPUTE else _recomputed(task.request))
            for task in self.tasks
        )


@dataclass(frozen=True)
class Program:
    """The tasks of one device for given scenarios, whose numbers broadcast."""

    scenarios: Scenarios
    groups: tuple[Block, ...]
    """One layer of each group."""
    embedding: Block
    head: Block
    further: Tally = field(default_factory=Tally)
    """What of the head is of modules that predict further tokens."""

    @cached_property
    def frozen(self) -> Program | None:
        """The program of the model that runs forward beside the trained one; none where there is none."""
        model = self.scenarios.workloads.frozen
        if model is None:
            return None
        whole = program_of(beside(self.scenarios, model))
        groups = tuple(map(_forward, whole.groups))
        return Program(whole.scenarios, groups, _forward(whole.embedding), _forward(whole.head))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Layers, embedding and head."""
        return (*self.groups, self.embedding, self.head)

    @cached_property
    def layers(self) -> Tally:
        """All layers of the model, as if one stage held them."""
        shared, together = self.scenarios.models.shared_layers, Tally()
        for group in self.groups:
            together = together.plus(group.tally.times(group.number, shared=shared))
        return together

    @cached_property
    def largest_layer(self) -> Tally:
        """Of the layer that keeps most, for working memory."""
        largest = Tally()
        for group in self.groups:
            largest = largest.at_most(group.tally)
        return largest

    @cached_property
    def together(self) -> Tally:
        """Layers, embedding and head, as if one stage held them."""
        return self.layers.plus(self.embedding.tally).plus(self.head.tally)

    @cached_property
    def model_flops(self) -> Num:
        """Arithmetic of one micro-batch through all layers and both ends, without what only repeats [FLOP]."""
        return _sum(block.number * block.model_flops for block in self.blocks)

    @cached_property
    def repeated_flops(self) -> Num:
        """Arithmetic of one micro-batch that the plan has recomputed [FLOP]."""
        return _sum(block.number * block.repeated_flops for block in self.blocks)

    @cached_property
    def recomputed_flops(self) -> Num:
        """Arithmetic of one micro-batch that only repeats what a forward pass has done [FLOP]."""
        return _sum(block.number * block.recomputed_flops for block in self.blocks)


def program_of(scenarios: Scenarios) -> Program:
    """The program of a step.

    Parameters
    ----------
    scenarios
        Models, workloads, plans and stacks as columns that broadcast against each other.

    Examples
    --------
    >>> import simulator
    >>> whole = program_of(simulator.resolve("bert-base", "rtx-3090", workload={"sequence_length": 128}).columns())
    >>> float(whole.together.parameters), len(whole.groups), float(whole.groups[0].number)
    (110106428.0, 1, 12.0)
    """
    plans, stacks, tuning = scenarios.plans, scenarios.stacks, scenarios.workloads.tuning
    flows, shares = tuning.flows, repeated_shares(plans, scenarios.models)
    groups = []
    for index, (layers, operators, wide) in enumerate(_operators_of_groups(scenarios)):
        tokens = tokens_of_layers(layers, scenarios)
        checkpoint = activations.tensor(tokens.shared, layers.hidden_size, element_bytes=stream_bytes(scenarios))
        checkpoint = flagged(checkpoint, flows)
        groups.append(
            Block(
                TaskPlace(PlaceKind.GROUP, index),
                layers.count,
                operators,
                tally_of_layer(operators, plans, checkpoint=checkpoint, shares=shares),
                tuple(flagged(number, flows) for number in repetitions(operators, plans, stacks, shares)),
                wide,
            )
        )
    ends = _end(EMBEDDING, _tuned(embedding(scenarios), tuning)), _end(HEAD, head(scenarios))
    further = further_predictions(scenarios)
    if further is None:
        return Program(scenarios, tuple(groups), *ends)
    return Program(scenarios, tuple(groups), ends[0], *_with_further(ends[1], further, scenarios))


def _operators_of_groups(scenarios: Scenarios) -> Iterator[tuple[Layers, tuple[Operator, ...], Num]]:
    """Layers of each group with the operators of one of them, and the share of them that stays in 16 bits."""
    for layers in scenarios.models.layers:
        wide = np.minimum(scenarios.plans.wide_layers / scenarios.models.layer_count, 1.0)
        tuned = _tuned(layer(layers, scenarios), scenarios.workloads.tuning)
        yield layers, in_8_bits(tuned, scenarios, wide=wide), wide


def forward_program(scenarios: Scenarios) -> Program:
    """The program of one forward pass without a backward pass, of which nothing is kept: of a model that is served.

    Parameters
    ----------
    scenarios
        As of `program_of`; with iterations those of an engine that generates, else whole sequences are encoded.
    """
    groups = []
    for index, (layers, operators, wide) in enumerate(_operators_of_groups(scenarios)):
        number = layers.count * _encodes(layers, scenarios)
        groups.append(_kept_by_nobody(TaskPlace(PlaceKind.GROUP, index), number, operators, wide))
    ends = (
        _kept_by_nobody(EMBEDDING, 1.0, _tuned(embedding(scenarios), scenarios.workloads.tuning), 0.0),
        _kept_by_nobody(HEAD, 1.0, head(scenarios), 0.0),
    )
    return Program(scenarios, tuple(groups), *ends)


def _encodes(layers: Layers, scenarios: Scenarios) -> Num:
    """1 where an iteration passes such layers, else 0: only prompts pass an encoder."""
    work = scenarios.iterations
    if work is None or layers.cross_attention is not None:
        return 1.0
    decodes_alone = np.asarray(scenarios.models.encoder_decoder) * (np.asarray(work.prompts) == 0.0)
    return 1.0 - decodes_alone if np.any(decodes_alone > 0.0) else 1.0


def _kept_by_nobody(place: TaskPlace, number: Num, operators: Iterable[Operator], wide: Num) -> Block:
    """A block of which nothing is kept or trained; what it owns stands with its operators."""
    listed = tuple(map(forward_alone, operators))
    return Block(place, number, listed, Tally(), (0.0,) * len(listed), wide)


def _forward(block: Block) -> Block:
    """A block without backward pass, which keeps nothing."""
    operators = tuple(map(forward_alone, block.operators))
    return Block(block.place, block.number, operators, tally(operators), (0.0,) * len(operators), block.wide)


def _tuned(operators: Iterable[Operator], tuning: Tunings) -> tuple[Operator, ...]:
    """Operators before the head as the run trains them: nothing of frozen weights, no pass that no gradient reaches."""
    return tuple(without_backward(frozen(operator, tuning.base), tuning.flows) for operator in operators)


def _end(place: TaskPlace, operators: Iterable[Operator]) -> Block:
    """Embedding or head, which are never recomputed."""
    listed = tuple(operators)
    return Block(place, 1.0, listed, tally(listed), (0.0,) * len(listed))


def _with_further(block: Block, further: FurtherPredictions, scenarios: Scenarios) -> tuple[Block, Tally]:
    """The head with modules that predict further tokens, whose layers are recomputed as the plan says, and these."""
    plans, stacks = scenarios.plans, scenarios.stacks
    ends = (*in_8_bits(further.before, scenarios, wide=0.0), *further.after)
    layers = in_8_bits(further.layer, scenarios, wide=0.0)
    added = tally(ends).plus(tally_of_layer(layers, plans, checkpoint=further.checkpoint))
    repeated = (*block.repeated, *(0.0,) * len(ends), *repetitions(layers, plans, stacks))
    operators = (*block.operators, *ends, *layers)
    return replace(block, operators=operators, tally=block.tally.plus(added), repeated=repeated), added


def _tasks(operator: Operator, place: TaskPlace, again: Num, wide: Num) -> Iterator[Task]:
    """Both passes of an operator, and the repeated forward pass where there is one."""
    repeated = bool(np.any(np.asarray(again) > 0.0))

    def task(call: Call, phase: Phase, times: Num = 1.0) -> Task:
        once = _is(times, 1.0)
        return Task(
            name=operator.name,
            part=operator.part,
            request=call.request,
            phase=phase,
            place=place,
            resource=resource_of(call.request),
            count=call.count if once else times * call.count,
            kernels=call.kernels if once else times * call.kernels,
            efficiency=operator.efficiency,
            hiding=operator.hiding,
        )

    for call in _split(operator.forward, wide):
        yield task(call, Phase.FORWARD)
        if repeated:
            yield task(call, Phase.RECOMPUTE, again)
    for call in _split(operator.backward, wide):
        yield task(call, Phase.BACKWARD)


def _split(calls: Iterable[Call], wide: Num) -> Iterator[Call]:
    """Calls, those of products in 8 bits apart from their share in layers that stay in 16."""
    some = bool(np.any(np.asarray(wide) > 0.0))
    for call in calls:
        if some and isinstance(call.request, MatrixProduct) and not call.request.wide:
            yield replace(call, count=call.count * (1.0 - wide), kernels=call.kernels * (1.0 - wide))
            request = replace(call.request, wide=True, input_bytes=None)
            yield Call(request, call.count * wide, call.kernels * wide)
        else:
            yield call


def resource_of(request: Request) -> Resource:
    """What a request inside a layer occupies."""
    if isinstance(request, Collective | Send):
        return Resource.TENSOR_LINKS
    return Resource.HOST if isinstance(request, HostCopy | HostWork) else Resource.DEVICE


def _is(number: Num, value: float) -> bool:
    """Whether something is a plain number of one value, so that a multiplication can be left out."""
    return isinstance(number, float) and number == value


def _flops(request: Request) -> Num:
    return 0.0 if isinstance(request, Collective | Send | HostCopy | HostWork) else request.flops


def _recomputed(request: Request) -> Num:
    return 0.0 if isinstance(request, Collective | Send | HostCopy | HostWork) else request.recomputed_flops


def _sum(numbers: Iterable[Num]) -> Num:
    total: Num = sum(numbers, start=np.float64(0.0))
    return total
