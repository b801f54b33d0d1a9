"""How a reference module is built and run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from measure.models.parallel import Split
from simulator.specs.choices import Recompute, RecomputeMethod, RecomputeModule
from simulator.specs.model import Model

DROPOUT = 0.1
"""Probability of dropping an element, where a model drops."""


@dataclass(frozen=True)
class Setting:
    """How a reference module is built and run."""

    sequence_length: int
    target_length: int = 0
    """Tokens of a target sequence, of encoder-decoder models."""
    document_lengths: tuple[int, ...] = ()
    """Documents that every sequence is packed of, in their order, which attend to themselves only; one unless given."""
    masks_documents: bool = True
    """Whether attention in two products computes pairs of tokens of different documents too, and masks them."""
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    fused_attention: bool = False
    """Whether attention is one kernel, or two products with the matrix of scores between them."""
    fused_qkv: bool = False
    """Whether queries, keys and values come from one product."""
    fused_gate: bool = False
    """Whether activation and product of a gated feed-forward layer are one kernel, which keeps its two inputs."""
    activation_inputs_in_fp8: bool = False
    """Whether that kernel keeps them in fp8."""
    weighs_activations: bool = False
    """Whether a router's weights scale what activation functions of experts return, instead of what experts return."""
    multi_token: bool = False
    """Whether modules that predict further tokens are trained too."""
    all_positions: bool = False
    """Whether the head of masked-language modelling runs on all positions instead of the masked ones."""
    recompute: Recompute = "none"
    recompute_modules: tuple[RecomputeModule, ...] = ()
    """Of selective recomputation, as Megatron names them; scores and softmax of unfused attention where there are
    none."""
    recompute_layers: int | None = None
    recompute_method: RecomputeMethod | None = None
    split: Split = field(default_factory=Split)

    @property
    def factory(self) -> dict[str, Any]:
        """Where and in which precision parameters and buffers are made."""
        return {"device": self.device, "dtype": self.dtype}

    def repeats(self, module: RecomputeModule) -> bool:
        """Whether a module is recomputed."""
        return module in self.recompute_modules

    def heads(self, model: Model) -> tuple[int, int]:
        """Query heads and key-value heads of this rank; fewer key-value heads than ranks are copied."""
        return model.attention_heads // self.split.degree, max(model.kv_heads // self.split.degree, 1)

    def words(self, model: Model) -> int:
        """Rows of the vocabulary on this rank."""
        return -(-model.vocabulary_size // self.split.degree)
