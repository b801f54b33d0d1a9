"""Reference modules as PEFT tunes them: adapters of its own classes, frozen weights, and weights in a few bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from peft import (
    LoraConfig,
    PrefixEncoder,
    PrefixTuningConfig,
    PromptEmbedding,
    PromptTuningConfig,
    inject_adapter_in_model,
)
from peft.tuners.lora import dora as peft_dora
from torch import Tensor, nn
from torch.nn import functional

from measure.models import Batch, Setting, Transformer, build, random_batch
from measure.models.attention import Attention
from measure.models.positions import Scores
from simulator.specs.model import Model

peft_dora.dequantize_module_weight = lambda module: _made_of_few_bits(module)  # of bitsandbytes' own classes alone
TARGETS: dict[str, str] = {
    "attention": r".*(attention|to_encoder)\.(projections\.\d+|output)",
    "q_proj,v_proj": r".*(attention|to_encoder)\.projections\.[02]",
    **{
        name: rf".*attention\.({modules})"
        for name, modules in {
            "q_a_proj": r"projections\.0",
            "q_proj": r"projections\.0",
            "q_b_proj": "query_out",
            "kv_a_proj_with_mqa": r"projections\.1",
            "kv_b_proj": "latent_out",
            "o_proj": "output",
            "q_a_proj,kv_a_proj_with_mqa": r"projections\.\d",
            "q_b_proj,kv_b_proj,o_proj": "query_out|latent_out|output",
            "latent attention": r"projections\.\d|query_out|latent_out|output",
        }.items()
    },
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


def _made_of_few_bits(module: nn.Module) -> Tensor:
    """The weight of a linear layer as PEFT reads it: of one in a few bits 16-bit weights are made."""
    weight: Tensor = module.weight
    return weight.clone() if isinstance(module, FewBits) else weight


def adapted(
    model: Model,
    setting: Setting,
    targets: str,
    *,
    rank: int = 4,
    dropout: float = 0.0,
    quantised: bool = False,
    dora: bool = False,
) -> Transformer:
    """A reference module whose layers PEFT has given adapters.

    The embedding's output has a gradient, as `prepare_model_for_kbit_training` of PEFT and the trainers of Hugging
    Face ask for; heads of classes are trained besides, as PEFT keeps them.
    """
    module: Transformer = build(model, setting)
    for tower in (module.tower, module.decoder):
        if quantised and tower is not None:
            _quantise(tower.layers)
    of_adapters = {"lora_alpha": 2 * rank, "lora_dropout": dropout, "use_dora": dora}
    config = LoraConfig(r=rank, target_modules=TARGETS[targets], **of_adapters)
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


VIRTUAL = 8
"""Virtual tokens of a prompt or a prefix."""


def _sizes(model: Model) -> dict[str, Any]:
    """What configurations of prompts say of a model."""
    return {
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": VIRTUAL,
        "num_layers": model.layers,
        "num_transformer_submodules": 1,
    }


def _alone(module: Transformer, encoder: nn.Module, setting: Setting) -> Tensor:
    """Train what encodes virtual tokens, and heads of classes; their numbers."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad = name.startswith(_CLASSES)
    module.virtual = encoder.to(device=setting.device, dtype=setting.dtype)
    return torch.arange(VIRTUAL, device=setting.device)


def prompted(model: Model, setting: Setting) -> Transformer:
    """A reference module for sequences of a setting's length, the first tokens of which PEFT has made virtual ones."""
    module = build(model, setting)
    config = PromptTuningConfig(token_dim=model.hidden_size, num_attention_heads=model.attention_heads, **_sizes(model))
    numbers = _alone(module, PromptEmbedding(config, module.embedding.words), setting)
    real = setting.sequence_length - VIRTUAL

    def prepended(_: nn.Module, __: Any, words: Tensor) -> Tensor:
        if words.shape[0] != real:
            return words.requires_grad_()  # of a decoder's targets
        prompt = module.virtual(numbers.unsqueeze(0).expand(words.shape[1], -1))
        return torch.cat((prompt.transpose(0, 1), words))

    module.embedding.words.register_forward_hook(prepended)
    return module


def prompted_batch(model: Model, setting: Setting, predictions: int) -> Batch:
    """A batch of real tokens whose labels and types are of all."""
    batch = random_batch(model, setting, 4, predictions=predictions)
    return replace(batch, tokens=batch.tokens[:, VIRTUAL:])


def _with_prefix(attention: Attention, made: list[Tensor], number: int) -> None:
    """Give attention keys and values of virtual tokens, which every query sees."""
    mixed = attention.mixed

    def joined(query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        own, others = made[number]
        bias = None if scores.bias is None else functional.pad(scores.bias, (VIRTUAL, 0))
        return mixed(query, torch.cat((own, key)), torch.cat((others, value)), replace(scores, bias=bias))

    attention.mixed = joined  # type: ignore[method-assign]


def prefixed(model: Model, setting: Setting) -> Transformer:
    """A reference module whose layers have keys and values of PEFT's virtual tokens."""
    module = build(model, setting)
    width = model.kv_heads * model.width_of_head
    config = PrefixTuningConfig(token_dim=width, num_attention_heads=model.kv_heads, **_sizes(model))
    numbers = _alone(module, PrefixEncoder(config), setting)
    made: list[Tensor] = []

    def make(_: nn.Module, arguments: tuple[Batch]) -> None:
        virtual = module.virtual(numbers.unsqueeze(0).expand(len(arguments[0].tokens), -1))
        heads = virtual.view(*virtual.shape[:2], 2 * model.layers, model.kv_heads, model.width_of_head)
        made[:] = heads.permute(2, 1, 0, 3, 4).split(2)

    module.register_forward_pre_hook(make)
    for number, layer in enumerate(module.tower.layers):
        _with_prefix(layer.attention, made, number)
    module.embedding.words.register_forward_hook(lambda _, __, output: output.requires_grad_())
    return module


def trained(module: nn.Module) -> int:
    """Number of parameters that have a gradient."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
