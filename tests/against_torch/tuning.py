"""Reference modules as PEFT tunes them: adapters of its own classes, frozen weights, and weights in a few bits."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from measure.models import Setting, Transformer, build
from simulator.specs.model import Model

TARGETS: dict[str, str] = {
    "attention": r".*(attention|to_encoder)\.(projections\.\d+|output)",
    "q_proj,v_proj": r".*(attention|to_encoder)\.projections\.[02]",
    "feed-forward": r".*feed_forward\.(inward|outward)",
    "down_proj": r".*feed_forward\.outward",
    "all-linear": r".*((attention|to_encoder)\.(projections\.\d+|output)|feed_forward\.(inward|outward))",
}
"""Modules that stand for targets, in the words of PEFT: a pattern of their names."""


_CLASSES = ("head.classes", "head.spans", "head.tokens")


class _Dropout(nn.Module):
    """A dropout whose mask has a byte an element, as on a GPU; the functional form's is of the values' own type."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        return torch.native_dropout(values, self.probability, True)[0]


class _FewBits(torch.autograd.Function):
    """A product of a weight in a few bits, as `MatMul4Bit` of bitsandbytes: 16-bit weights are made again backward."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return nn.functional.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient @ ctx.saved_tensors[0], None, None


class FewBits(nn.Linear):
    """A linear layer whose weight is held in a few bits; what these are does not matter to counts."""

    def forward(self, inputs: Tensor) -> Tensor:
        return _FewBits.apply(inputs, self.weight, self.bias)


def _quantise(module: nn.Module) -> None:
    """Hold the linear layers of layers in a few bits."""
    for child in module.modules():
        if type(child) is nn.Linear:
            child.__class__ = FewBits


def adapted(
    model: Model, setting: Setting, targets: str, *, rank: int = 4, dropout: float = 0.0, quantised: bool = False
) -> Transformer:
    """A reference module whose layers PEFT has given adapters.

    The embedding's output has a gradient, as `prepare_model_for_kbit_training` of PEFT and the trainers of Hugging
    Face ask for; heads of classes are trained besides, as PEFT keeps them.
    """
    module: Transformer = build(model, setting)
    for tower in (module.tower, module.decoder):
        if quantised and tower is not None:
            _quantise(tower.layers)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=TARGETS[targets])
    inject_adapter_in_model(config, module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad = "lora_" in name or name.startswith(_CLASSES)
    for child in module.modules():
        if hasattr(child, "lora_dropout"):
            for key, drop in child.lora_dropout.items():
                child.lora_dropout[key] = _Dropout(drop.p) if isinstance(drop, nn.Dropout) else drop
    module.embedding.words.register_forward_hook(lambda _, __, output: output.requires_grad_())
    return module


def head_only(model: Model, setting: Setting) -> Transformer:
    """A reference module of which only the head is trained; a pooler belongs to the model."""
    module = build(model, setting)
    for name, parameter in module.named_parameters():
        parameter.requires_grad = name.startswith("head.") and not name.startswith(("head.pooler", "head.back"))
    return module


def trained(module: nn.Module) -> int:
    """Number of parameters that have a gradient."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
