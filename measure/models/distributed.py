"""Tensor parallelism by torch's own distributed tensors, of a module that was built whole."""

from __future__ import annotations

from typing import Any

from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from measure.models.feed_forward import FeedForward
from measure.models.layer import Layer
from measure.models.transformer import Transformer


def distribute(module: Transformer, mesh: Any, *, sequence_parallel: bool = False) -> None:
    """Cut a module with torch's styles, and let the hidden states between them be plain tensors.

    Its loss must be taken within `torch.distributed.tensor.parallel.loss_parallel`.

    Parameters
    ----------
    module
        Without split, with joint projections of queries, keys and values, and with serial blocks: other products of
        one input would each gather it.
    mesh
        Device mesh of the ranks.
    sequence_parallel
        Whether ranks share the tokens of normalisations and dropouts; for decoders with LayerNorm.

    Raises
    ------
    ValueError
        Where two products read one input.
    """
    between = Shard(0) if sequence_parallel else Replicate()
    tops: dict[str, ParallelStyle] = {
        "embedding.words": RowwiseParallel(input_layouts=Replicate(), output_layouts=between),
        "head.words": ColwiseParallel(input_layouts=between, output_layouts=Shard(-1), use_local_output=False),
    }
    shared = SequenceParallel(sequence_dim=0, use_local_output=True)
    if sequence_parallel:
        tops["tower.final_norm"] = shared
    parallelize_module(module, mesh, tops)
    if module.head.words is not None and module.tied:
        module.head.words.weight = module.embedding.words.weight
    for layer in module.tower.layers:
        _distribute_layer(layer, mesh, between, shared if sequence_parallel else None)


def _distribute_layer(layer: Layer, mesh: Any, between: Any, shared: ParallelStyle | None) -> None:
    """Cut one layer."""
    if len(layer.attention.projections) > 1 or len(layer.norms) < 2 or not isinstance(layer.feed_forward, FeedForward):
        raise ValueError("distributed tensors cut layers whose products each read an input of their own")
    styles: dict[str, ParallelStyle] = {
        "attention.projections.0": ColwiseParallel(input_layouts=between),
        "attention.output": RowwiseParallel(output_layouts=between),
        "feed_forward.inward": ColwiseParallel(input_layouts=between),
        "feed_forward.outward": RowwiseParallel(output_layouts=between),
    }
    if shared is not None:
        styles |= {f"norms.{index}": shared for index in range(len(layer.norms))}
    parallelize_module(layer, mesh, styles)
