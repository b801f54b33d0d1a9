"""What each device of a plan holds at its worst moment, tensor by tensor: an independent check of memory.

Replicas, stages and micro-batches are looped over in plain Python. Schedules are written as lists of passes and played;
ZeRO is taken at its word: whoever shares a tensor with others holds one part of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product

from tests.plan_search.tensors import (
    Kept,
    Setting,
    Weight,
    kept_of_embedding,
    kept_of_head,
    kept_of_layer,
    logits,
    weights_of_embedding,
    weights_of_head,
    weights_of_layer,
)

_SHARED = {"none": "", "zero1": "o", "zero2": "og", "zero3": "ogp", "hybrid": "ogp"}
"""What replicas share: optimizer states, gradients, parameters."""
_MOMENTS = {"adamw": 2, "lamb": 2, "sgd": 1}
"""In fp32; Adafactor's are a row and a column of each matrix."""


@dataclass(frozen=True)
class Held:
    """Bytes on one device."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    """Kept for the backward passes of the micro-batches in flight."""
    working: float
    """Beside all that, at the worst moment."""
    on_host: float
    """In the memory of its host."""

    @property
    def states(self) -> float:
        return self.parameters + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        return self.states + self.activations + self.working


def layers_of_stages(of: Setting) -> list[list[int]]:
    """Which layers each stage holds; where they do not divide, the ends have fewer, as if they held a layer more."""
    count, stages = of.model.layers, of.plan.pp or 1
    assert of.plan.first_stage_layers is None
    assert not of.stack.balances_head
    if count % stages == 0:
        sizes = [count // stages] * stages
    else:
        most, fewest = -(-count // stages), count // stages
        ends = (count - (stages - 2) * most) / 2
        if ends < 0:
            ends = fewest
        assert ends == int(ends), "ends of half a layer"
        sizes = [int(ends), *[fewest] * (stages - 2), int(ends)]
        for extra in range(count - sum(sizes)):
            sizes[1 + extra] += 1
    starts = [sum(sizes[:stage]) for stage in range(stages)]
    return [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]


def in_flight(of: Setting, stage: int) -> float:
    """Most micro-batches whose activations a stage holds at once, in units of all its layers."""
    stages, chunks = of.plan.pp or 1, of.plan.virtual_stages or 1
    number = (of.work.global_batch or 0) // ((of.plan.dp or 1) * (of.plan.micro_batch or 1))
    passes = _passes(of.plan.schedule or "1f1b", stages, stage, number, chunks)
    live = most = 0
    for each in passes:
        live += {"forward": 1, "backward": -1}[each]
        most = max(most, live)
    assert live == 0
    return most / chunks


def _passes(schedule: str, stages: int, stage: int, number: int, chunks: int) -> list[str]:
    """Forward passes of chunks on a stage, and when each lets go of what it kept."""
    whole = number * chunks
    ahead = stages - stage - 1
    if schedule == "gpipe":
        ahead = whole
    elif schedule == "zero-bubble":
        ahead = stages - 1  # weight gradients wait, the later the stage the longer, for a gap at the end
        whole, ahead = (number, ahead) if chunks == 1 else (whole, stages * chunks - 1)
    elif chunks > 1:
        ahead = 2 * (stages - stage - 1) + (chunks - 1) * stages
    ahead = min(ahead, whole)
    steady = ["forward", "backward"] * (whole - ahead)
    return ["forward"] * ahead + steady + ["backward"] * ahead


def sharers(of: Setting, letter: str) -> tuple[int, int]:
    """Ranks among which a dense tensor and a tensor of experts are cut, where replicas share such states."""
    plan = of.plan
    dp, cp, ep = plan.dp or 1, plan.cp or 1, plan.ep or 1
    if letter not in _SHARED[plan.sharding or "none"]:
        return 1, 1
    order = plan.placement or ("tp", "cp", "dp", "pp")
    if order.index("dp") < order.index("cp"):
        ranks = [(d, c) for c, d in product(range(cp), range(dp))]
    else:
        ranks = list(product(range(dp), range(cp)))
    group = ranks[: plan.sharding_group or len(ranks)]
    if of.etp == of.tp and dp % ep == 0:
        alike = Counter((d % ep, 0) for d, _ in group)
    else:  # over all ranks of a stage, of which tensor-parallel ones are neighbours
        assert order[0] == "tp"
        alike = Counter((rank // of.etp % ep, rank % of.etp) for rank in range(len(group) * of.tp))
    return len(group), min(alike.values())


def held_on(of: Setting, stage: int) -> Held:
    """Bytes on a device of a stage."""
    plan, stages = of.plan, of.plan.pp or 1
    first, last, layers = stage == 0, stage == stages - 1, layers_of_stages(of)[stage]
    weights = [weight for layer in layers for weight in weights_of_layer(of, layer)]
    ends = list(weights_of_embedding(of)) if first else []
    ends += list(weights_of_head(of, has_words=first)) if last else []
    kept = [list(kept_of_layer(of, layer)) for layer in layers]
    if plan.recompute == "full":
        parts = 1 if plan.sequence_parallel or not of.stack.shares_checkpoints else of.tp
        waiting = len(layers) * of.shared * of.model.hidden_size * of.stream / parts
    else:
        drops = plan.recompute == "selective"
        waiting = sum(each.bytes for one in kept for each in one if not (drops and each.in_scores))
    waiting += sum(each.bytes for each in kept_of_embedding(of)) if first else 0.0
    of_head = sum(each.bytes for each in kept_of_head(of)) if last else 0.0
    activations = in_flight(of, stage) * waiting + of_head
    parameters, gradients, optimizer, updated = _states(of, weights + ends)
    loss = logits(of).bytes if last else 0.0
    gathered = _gathered(of, weights, ends, len(layers))
    copies = of.stack.optimizer_copies if plan.optimizer in ("adamw", "lamb") else 0.0
    moments = [
        gathered + activations + of.stack.logit_copies * loss,
        gathered + activations - loss + _of_layer(of, kept),
        4 * copies * updated * (not plan.offload_optimizer),
    ]
    working = max(moments) - activations + of.stack.communication_buffers
    if not plan.offload_optimizer:
        return Held(parameters, gradients, optimizer, activations, working, 0.0)
    # The host's optimizer reads gradients in fp32.
    return Held(parameters, gradients, 0.0, activations, working, optimizer + 4 * updated)


def _states(of: Setting, weights: list[Weight]) -> tuple[float, float, float, float]:
    """Bytes of parameters, gradients and optimizer states of these tensors, and how many numbers are updated."""
    plan, stack = of.plan, of.stack
    wide = 4 if plan.parameters_in_fp32 else of.element
    cut = {letter: sharers(of, letter) for letter in "pgo"}
    parameters = gradients = optimizer = updated = 0.0
    for weight in weights:
        part = {letter: weight.size / cut[letter][weight.of_experts] for letter in "pgo"}
        parameters += part["p"] * wide
        if of.casts and cut["p"][0] == 1 and (weight.of_product or (weight.name == "words" and _ties(of))):
            parameters += weight.size * of.element
        gradients += part["g"] * (4 if plan.gradients_in_fp32 else of.element)
        optimizer += part["o"] * (4 if plan.master_weights else 0)
        if plan.optimizer == "adafactor":
            optimizer += 4 * sum(weight.shape) / cut["o"][weight.of_experts]
        else:
            optimizer += part["o"] * 4 * _MOMENTS[plan.optimizer or "adamw"]
        updated += part["o"]
    assert not stack.keeps_16_bit_gradients
    return parameters, gradients, optimizer, updated


def _ties(of: Setting) -> bool:
    """Whether the words are the weight of a product on the same stage."""
    return of.model.tied_head and (of.plan.pp or 1) == 1


def _gathered(of: Setting, weights: list[Weight], ends: list[Weight], layers: int) -> float:
    """Whole parameters of a layer and of the one fetched ahead, and gradients of one, where replicas share them."""
    dense, experts = sharers(of, "p")
    if dense == 1 and experts == 1:
        return 0.0
    cut = [weight.size for weight in weights if (experts if weight.of_experts else dense) > 1]
    one = sum(cut) / layers
    whole = sum(weight.size for weight in ends) if of.stack.keeps_ends_gathered and dense > 1 else 0
    held = sum(weight.size for weight in (*weights, *ends) if not weight.of_experts)
    live = min(of.stack.live_parameters, held) if dense > 1 else 0.0
    sent = 4 if of.plan.reduction_in_fp32 else of.element
    return max(2 * one + whole, live) * of.element + (one + whole) * sent


def _of_layer(of: Setting, kept: list[list[Kept]]) -> float:
    """What a layer's backward pass has beside what waits: what was dropped of it, and two gradients of its widest."""
    width = of.shared * of.model.hidden_size * of.stream
    dropped = 0.0
    for one in kept:
        if of.plan.recompute == "full":
            dropped = max(dropped, sum(each.bytes for each in one) - width)
        elif of.plan.recompute == "selective":
            dropped = max(dropped, sum(each.bytes for each in one if each.in_scores))
    return dropped + 2 * max(_widest(of, layer) for layer in range(len(kept)))


def _widest(of: Setting, layer: int) -> float:
    """Bytes of the widest tensor inside a layer: into the feed-forward layer, or the matrix of scores."""
    model = of.model
    experts = model.kind_of_layer(layer).has_experts
    form = model.expert_feed_forward if experts and model.expert_feed_forward else model.feed_forward
    inner = model.expert_feed_forward_size if experts and model.expert_feed_forward_size else model.feed_forward_size
    rows, ranks = (of.received, of.etp) if experts else (of.tokens, of.tp)
    into = rows * (2 if form == "gated" else 1) * inner / ranks * of.element
    scores = of.tokens * model.attention_heads / of.tp * (of.work.sequence_length or 0) * of.element
    return max(into, scores if of.stack.attention == "unfused" else 0.0)


def held(of: Setting) -> list[Held]:
    """Bytes on a device of each stage."""
    return [held_on(of, stage) for stage in range(of.plan.pp or 1)]
