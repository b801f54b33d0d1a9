"""Memory of a device that serves: weights, cache, activations of the largest prefill, graphs, runtime and reserve."""

from __future__ import annotations

from simulator.formulas.typing import Num
from simulator.serving.served import ServingScenario
from simulator.serving.sizes import ServingMemory


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
    return served.sizes.memory(float(batch), float(context))


def largest_batch(served: ServingScenario, context: Num) -> int:
    """Sequences of so many tokens whose cache fits on one replica [sequence]; 0 where not even weights do."""
    sizes = served.sizes
    each = sizes.cache(1.0, float(context))
    room = sizes.memory(0.0, float(context)).room
    if each <= 0.0 or not served.generates:
        return sizes.largest_encoded(float(context))
    return max(int(room // each), 0)


def largest_context(served: ServingScenario, batch: Num) -> int:
    """Tokens of each of so many sequences whose cache fits on one replica [token], up to a table of positions.

    Where only windows are cached, which stop growing, it is the most that is looked at, 2^30.
    """
    sizes, rows = served.sizes, served.model.position_rows
    most = rows + 1 if served.model.positions == "learned" and rows else 2**30 + 1
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
    return float(sum(layers.count * served.sizes.width(layers) for layers in served.columns.models.layers))


__all__ = ["ServingMemory", "cache_bytes_per_token", "largest_batch", "largest_context", "serving_memory"]
