"""Sizes of what a device holds that serves: weights, cache, activations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from simulator.pricing.requests import MatrixProduct
from simulator.serving.stored import stored_bytes
from simulator.specs.parts import AttentionPart, ExpertFeedForward, LatentAttention, Layers
from simulator.work.program import Block, forward_program
from simulator.work.transformer.attention.core import heads_of

if TYPE_CHECKING:
    from simulator.serving.served import ServingScenario
    from simulator.specs.model import Model


@dataclass(frozen=True)
class ServingMemory:
    """Bytes of the fullest device of a replica."""

    weights: float
    kv_cache: float
    """Of the sequences that are asked for, in whole blocks."""
    activations: float
    """Of the largest prefill."""
    buffers: float
    """Graphs and the runtime."""
    reserved: float
    """What the engine leaves alone."""
    capacity: float

    @property
    def total(self) -> float:
        """All that has to be there [B]."""
        return self.weights + self.kv_cache + self.activations + self.buffers + self.reserved

    @property
    def fits(self) -> bool:
        """Whether the device holds it."""
        return self.total <= self.capacity

    @property
    def room(self) -> float:
        """What is left for a cache [B]; below 0 where not even weights fit."""
        return self.capacity - (self.total - self.kv_cache)

    def to_dict(self) -> dict[str, float]:
        """As plain values, the total with them."""
        named = {each.name: float(getattr(self, each.name)) for each in fields(self)}
        capacity = named.pop("capacity")
        return {**named, "total": self.total, "capacity": capacity}


@dataclass(frozen=True)
class _Split:
    """What the weights of a device depend on, and a scenario that has it."""

    model: Model
    stack: str
    degrees: tuple[int, ...]
    weights: str
    precision: str
    served: ServingScenario = field(compare=False, repr=False)


@lru_cache(maxsize=512)
def _weights(split: _Split) -> float:
    """Bytes of the weights of the fullest stage: of one split once, however many loads are asked of it."""
    return split.served.sizes.counted_weights()


@dataclass(frozen=True)
class Sizes:
    """Sizes of one scenario."""

    served: ServingScenario

    @cached_property
    def _stage_share(self) -> float:
        """Share of the layers that the fullest stage holds."""
        layers = self.served.model.all_layers
        return math.ceil(layers / self.served.pp) / layers

    def width(self, layers: Layers) -> float:
        """Bytes of a token in the cache of one layer on one rank."""
        part, element = layers.attention, self.served.kv_cache.bytes
        if float(np.asarray(part.causal)) == 0.0:
            return 0.0
        if isinstance(part, LatentAttention):
            return float(part.key_value_rank + part.rotary_size) * element
        heads = heads_of(part, self.served.columns.plans)
        return float(heads.key_width + heads.value_width) * element

    def _copies(self, part: AttentionPart) -> float:
        """Ranks that hold the cache of some sequences each instead of copies of all of them."""
        if not self.served.stack.shares_sequences:
            return 1.0
        heads = 1.0 if isinstance(part, LatentAttention) else float(np.asarray(part.key_value_heads))
        return max(self.served.tp / heads, 1.0)

    def cache(self, batch: float, context: float) -> float:
        """Bytes of the cache of the fullest stage, in whole blocks; windows stop growing."""
        served, total = self.served, 0.0
        block = float(served.plan.block_size or 1)
        own, encoded = context, 0.0
        if served.model.kind == "encoder-decoder":
            load = served.load
            encoded = min(context, load.input_tokens) if load is not None else context / 2.0
            own = max(context - encoded, 1.0)
        for count, window, copies, width, crossing in self._cached:
            own_sequences = max(batch / copies, min(batch, 1.0))
            held = own_sequences * math.ceil(min(own, window) / block) * block * width
            total += count * (held + batch * encoded * crossing)
        return total * self._stage_share

    @cached_property
    def _cached(self) -> list[tuple[float, float, float, float, float]]:
        """Of each group of layers number, window, ranks that share sequences, and bytes of a token in both caches."""
        columns, groups = self.served.columns, []
        for layers in columns.models.layers:
            crossing = 0.0
            if layers.cross_attention is not None:
                heads = heads_of(layers.cross_attention, columns.plans)
                crossing = float(heads.key_width + heads.value_width) * self.served.kv_cache.bytes
            window, copies = float(np.asarray(layers.attention.window)), self._copies(layers.attention)
            groups.append((float(np.asarray(layers.count)), window, copies, self.width(layers), crossing))
        return groups

    @cached_property
    def weights(self) -> float:
        """Bytes of the weights of the fullest stage of a replica."""
        served, plan = self.served, self.served.plan
        degrees = (served.tp, served.pp, plan.ep or 1, served.replicas)
        return _weights(
            _Split(served.model, served.stack.id, degrees, served.weights.id, str(served.precision), served)
        )

    def counted_weights(self) -> float:
        """The same, counted."""
        program = forward_program(self.served.columns)
        shared = float(np.asarray(self.served.columns.models.shared_layers))
        layers = sum(
            (1.0 if shared else float(np.asarray(block.number))) * self._of_block(block) for block in program.groups
        )
        ends = self._of_block(program.embedding), self._of_block(program.head)
        if self.served.pp == 1:
            return layers + sum(ends)
        tied = sum(float(np.asarray(each.kept.tied_parameters)) for each in program.head.operators)
        last = ends[1] + tied * self._wide_bytes
        return layers * self._stage_share + max(ends[0], last)

    @property
    def _wide_bytes(self) -> float:
        """Of an element of what is not stored in the format of products."""
        if self.served.weights.covers == "all":
            return self.served.weights.bytes
        return 4.0 if self.served.precision in ("fp32", "tf32") else 2.0

    def _of_block(self, block: Block) -> float:
        """Bytes of the weights of a layer or of an end."""
        total = 0.0
        for operator in block.operators:
            request = operator.forward[0].request
            own = float(np.asarray(operator.kept.parameters + operator.kept.expert_parameters))
            stored = isinstance(request, MatrixProduct) and request.of_weight
            total += own * (stored_bytes(request, self.served) if stored else self._wide_bytes)  # type: ignore[arg-type]
        return total

    def activations(self, tokens: float, sequences: float) -> float:
        """Bytes of what lies between products of the widest layer for so many tokens, and of their logits.

        The residual stream twice, what is normalised, and the widest tensor beside: of queries, keys and values with
        what attention returns, or of a feed-forward layer's inputs and its output.
        """
        served, columns, widest = self.served, self.served.columns, 0.0
        element, tp = float(np.asarray(columns.plans.element_bytes)), float(self.served.tp)
        for layers in columns.models.layers:
            part, feed = layers.attention, layers.feed_forward
            heads = heads_of(part, columns.plans)
            attended = float(heads.query_width + heads.key_width + heads.value_width + heads.context_width)
            size, copies = float(feed.size) / tp, 1.0
            if isinstance(feed, ExpertFeedForward):
                copies = float(feed.experts_per_token)
                size = float(feed.size) / tp + float(feed.shared_experts * feed.shared_size) / tp / copies
            between = copies * size * (float(feed.inputs) + 1.0) + (copies - 1.0) * float(layers.hidden_size)
            whole = 1.0 if not served.stack.shares_tokens else 1.0 / tp
            widest = max(widest, 3.0 * whole * float(layers.hidden_size) + max(attended, between))
        words = float(np.asarray(columns.models.vocabulary_head)) * served.model.vocabulary_size
        return tokens * widest * element + sequences * words * (element + 8.0)

    def memory(self, batch: float, context: float) -> ServingMemory:
        """Memory for so many sequences of so many tokens."""
        served, capacity = self.served, float(self.served.device.memory_capacity)
        utilised = float(served.plan.memory_utilisation or 1.0)
        sequences = max(batch, 1.0)
        if served.generates:
            prompt = served.load.input_tokens if served.load is not None else context
            tokens = min(float(served.plan.chunk or math.inf), sequences * prompt)
        else:
            tokens = sequences * context
        graphs = float(served.stack.graph_memory) if served.stack.captured != "none" else 0.0
        return ServingMemory(
            weights=self.weights,
            kv_cache=self.cache(batch, context) if served.generates else 0.0,
            activations=self.activations(tokens, min(sequences, served.stack.most_sequences)),
            buffers=float(served.stack.runtime_memory) + graphs,
            reserved=capacity * (1.0 - utilised),
            capacity=capacity,
        )

    def largest_encoded(self, length: float) -> int:
        """Sequences that are encoded at once in what is left beside weights."""
        empty = self.memory(0.0, length)
        room = empty.capacity - (empty.total - empty.activations)
        each = self.activations(length, 1.0)
        return max(int(room // each), 0)
