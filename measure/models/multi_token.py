"""Modules that predict one token further each, as DeepSeek-V3 has them, behind the last layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from measure.models.layer import Layer
from measure.models.normalisation import norm
from measure.models.positions import Positions
from measure.models.setting import Setting
from simulator.specs.model import Model


class FurtherPrediction(nn.Module):
    """Words and hidden states, each normalised, side by side through a projection, a layer and a normalisation."""

    def __init__(self, model: Model, setting: Setting) -> None:
        super().__init__()
        width, kind = model.hidden_size, model.kind_of_layer(model.layers - 1)
        self.again = setting.recompute == "full"
        self.words, self.states, self.final = (norm(model, width, setting) for _ in range(3))
        self.projection = nn.Linear(2 * width, width, bias=False, **setting.factory)
        self.positions = Positions(model, setting, setting.sequence_length, causal=True, layers=1)
        self.layer = Layer(model, setting, experts=kind.has_experts, kind=kind)

    def forward(self, words: Tensor, hidden: Tensor) -> Tensor:
        """From embedded words and the hidden states before the head to those before the next one."""
        scores = self.positions()
        joined = self.projection(torch.cat([self.words(words), self.states(hidden)], dim=-1))
        if self.again and torch.is_grad_enabled():
            return self.final(checkpoint(self.layer, joined, scores, use_reentrant=False))
        return self.final(self.layer(joined, scores))


class FurtherModules(nn.Module):
    """All such modules of a model, with the words and the head that they share with it."""

    def __init__(self, model: Model, setting: Setting) -> None:
        super().__init__()
        if setting.split.degree > 1:
            raise ValueError(f"{model.id}: modules that predict further tokens are built whole only")
        number = model.multi_token_modules
        self.in_order = nn.ModuleList(FurtherPrediction(model, setting) for _ in range(number))

    def forward(self, hidden: Tensor, embed: Callable[[], Tensor], loss_of: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The loss of each module."""
        losses = []
        for module in self.in_order:
            hidden = module(embed(), hidden)
            losses.append(loss_of(hidden))
        return losses
