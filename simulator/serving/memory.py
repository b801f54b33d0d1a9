"""Memory of a device that serves: weights, cache, activations of the largest prefill, graphs, runtime and reserve."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import MatrixProduct
from simulator.serving.scenario import ServingScenario
from simulator.serving.stored import stored_bytes
from simulator.specs.parts import ExpertFeedForward, LatentAttention, Layers
from simulator.work.program import Block, forward_program
from simulator.work.transformer.attention.core import heads_of


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
        named = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        capacity = named.pop("capacity")
        return {**named, "total": self.total, "capacity": capacity}


def serving_memory(served: ServingScenario, batch: Num, context: Num) -> ServingMemory:
    """Memory of the fullest device of a replica.

    Parameters
    ----------
    served
        What is served.
    batch
        Sequences of one replica whose keys and values are cached [sequence].
    context
        Tokens of each of them, prompt and answer [token].

    Examples
    --------
    Weights of Llama 3 8B in bfloat16, and the cache of a sequence of 8,192 tokens: 2 x 8 heads x 128 x 32 layers.

    >>> from simulator.serving.scenario import resolve_serving
    >>> memory = serving_memory(resolve_serving("llama-3-8b", "dgx-h100", devices=1), 1, 8192)
    >>> round(memory.weights / 1e9, 1), memory.kv_cache / 2**30
    (16.1, 1.0)
    """
    return _Sizes(served).memory(float(batch), float(context))


def largest_batch(served: ServingScenario, context: Num) -> int:
    """Sequences of so many tokens whose cache fits on one replica [sequence]; 0 where not even weights do."""
    sizes = _Sizes(served)
    each = sizes.cache(1.0, float(context))
    room = sizes.memory(0.0, float(context)).room
    if each <= 0.0 or not served.generates:
        return sizes.largest_encoded(float(context))
    return max(int(room // each), 0)


def largest_context(served: ServingScenario, batch: Num) -> int:
    """Tokens of each of so many sequences whose cache fits on one replica [token], up to what the model can."""
    sizes, most = _Sizes(served), 2**40
    room = sizes.memory(0.0, 1.0).room
    if room < 0.0:
        return 0
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sizes.cache(float(batch), float(middle)) <= room else (low, middle)
    return low


def cache_bytes_per_token(served: ServingScenario) -> float:
    """Bytes that one more token of one sequence takes in the caches of all ranks of a replica's stages together [B].

    Of one rank of tensor parallelism, layers of all stages; windows count as if they still grew.
    """
    return float(sum(layers.count * _Sizes(served).width(layers) for layers in served.columns.models.layers))


@dataclass(frozen=True)
class _Sizes:
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

    def cache(self, batch: float, context: float) -> float:
        """Bytes of the cache of the fullest stage, in whole blocks; windows stop growing."""
        served, total = self.served, 0.0
        block = float(served.plan.block_size or 1)
        own, encoded = context, 0.0
        if served.model.kind == "encoder-decoder":
            load = served.load
            encoded = min(context, load.input_tokens) if load is not None else context / 2.0
            own = max(context - encoded, 1.0)
        for layers in served.columns.models.layers:
            seen = min(own, float(np.asarray(layers.attention.window)))
            held = math.ceil(seen / block) * block * self.width(layers)
            if layers.cross_attention is not None:
                heads = heads_of(layers.cross_attention, served.columns.plans)
                held += encoded * float(heads.key_width + heads.value_width) * served.kv_cache.bytes
            total += float(layers.count) * held
        return batch * total * self._stage_share

    @cached_property
    def weights(self) -> float:
        """Bytes of the weights of the fullest stage of a replica."""
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
        columns, widest = self.served.columns, 0.0
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
            widest = max(widest, 3.0 * float(layers.hidden_size) + max(attended, between))
        words = float(np.asarray(columns.models.vocabulary_head)) * self.served.model.vocabulary_size
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
