"""Feed-forward layers of the reference modules: dense, or of experts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from measure.models.recomputation import Discarding
from measure.models.setting import Setting
from simulator.specs.model import FeedForward as Form
from simulator.specs.model import Model


def _squared(inputs: Tensor) -> Tensor:
    """The square of ReLU."""
    return functional.relu(inputs).square()


_FUNCTIONS = {"gelu": functional.gelu, "relu": functional.relu, "relu2": _squared, "silu": functional.silu}


def activated(inputs: Tensor, model: Model, form: Form, *, fused: bool = False) -> Tensor:
    """Apply the activation function; a gate's two inputs lie side by side."""
    function: Any = _FUNCTIONS[model.activation]
    if form == "plain":
        return function(inputs)
    return _FusedGate.apply(function, inputs) if fused else _gated(function, inputs)


def _gated(function: Any, inputs: Tensor) -> Tensor:
    """One half of the inputs times the activation of the other."""
    gate, value = inputs.chunk(2, dim=-1)
    return function(gate) * value


class _FusedGate(torch.autograd.Function):
    """Activation and product of a gate as one kernel, which keeps its inputs and computes the activation again."""

    @staticmethod
    def forward(ctx: Any, function: Any, inputs: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(inputs)
        return _gated(function, inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        inputs = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            output = _gated(ctx.function, inputs)
        return None, torch.autograd.grad(output, inputs, gradient)[0]


class FeedForward(nn.Module):
    """Two products with an activation function between them."""

    def __init__(self, model: Model, setting: Setting, width: int | None = None, form: Form | None = None) -> None:
        super().__init__()
        self.model, self.form, self.fused = model, form or model.feed_forward, setting.fused_gate
        local = (width or model.feed_forward_size) // setting.split.degree
        inputs = 2 if self.form == "gated" else 1
        biased, factory = "feed_forward" in model.biases, setting.factory
        # Policies by operator see a matrix each of gate and input, as torchtitan has them.
        into = _Apart if setting.recompute == "operators" and inputs > 1 else nn.Linear
        self.inward = into(model.hidden_size, inputs * local, bias=biased, **factory)
        self.outward = nn.Linear(local, model.hidden_size, bias=biased, **factory)

    def forward(self, projected: Tensor) -> Tensor:
        """From the output of the first product to the input of the second."""
        return activated(projected, self.model, self.form, fused=self.fused)


class _Apart(nn.Linear):
    """Two matrices of one input, whose products lie side by side."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Both products."""
        halves = zip(self.weight.chunk(2), (None, None) if self.bias is None else self.bias.chunk(2), strict=True)
        return torch.cat([functional.linear(hidden, weight, bias) for weight, bias in halves], dim=-1)


class Experts(nn.Module):
    """Experts with a router that gives each of them equally many tokens, and experts that see every token.

    The router's choice is cut into equal parts in the order of the experts, so that a token at the border of two parts
    may meet its neighbour's: shapes do not depend on the data.
    """

    def __init__(self, model: Model, setting: Setting) -> None:
        super().__init__()
        if setting.split.degree > 1:
            raise ValueError(f"{model.id}: experts are built only without tensor parallelism")
        self.model, self.form = model, model.expert_feed_forward or model.feed_forward
        self.fused = setting.fused_gate
        self.discards, self.repeats_shared = setting.repeats("moe_act"), setting.repeats("shared_experts")
        width = model.expert_feed_forward_size or model.feed_forward_size
        inputs = 2 if self.form == "gated" else 1
        factory = setting.factory
        self.router = nn.Linear(model.hidden_size, model.experts, bias="router" in model.biases, **factory)
        self.inward = nn.Parameter(torch.randn(model.experts, model.hidden_size, inputs * width, **factory) * 0.02)
        self.outward = nn.Parameter(torch.randn(model.experts, width, model.hidden_size, **factory) * 0.02)
        self.biases = nn.ParameterList()
        if "feed_forward" in model.biases:
            sizes = (inputs * width, model.hidden_size)
            self.biases.extend(torch.zeros(model.experts, 1, size, **factory) for size in sizes)
        own = (model.shared_expert_feed_forward_size or width) * model.shared_experts
        self.shared = FeedForward(model, setting, own, self.form) if model.shared_experts else None
        gated = model.shared_expert_gate and model.shared_experts
        self.gate = nn.Linear(model.hidden_size, 1, bias=False, **factory) if gated else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Send each token to its experts, and add up what they return, weighted by the router."""
        model, tokens = self.model, hidden.flatten(0, 1)
        likely = torch.softmax(self.router(tokens).float(), dim=-1)
        weights, chosen = likely.topk(model.experts_per_token, dim=-1)
        order = chosen.flatten().argsort(stable=True)
        sent = tokens.index_select(0, order // model.experts_per_token)
        inward = self._product(sent.view(model.experts, -1, model.hidden_size), self.inward, 0)
        activation = Discarding(lambda inputs: activated(inputs, model, self.form, fused=self.fused))
        inside = activation(inward) if self.discards else activation.function(inward)
        outward = self._product(inside, self.outward, 1)
        activation.discard(outward)
        outward = outward.flatten(0, 1)
        back = outward.index_select(0, order.argsort()).view(*weights.shape, model.hidden_size)
        combined = (back * weights.to(back.dtype).unsqueeze(-1)).sum(1)
        if self.shared is not None:
            again = self.repeats_shared and torch.is_grad_enabled()
            always = checkpoint(self._always, tokens, use_reentrant=False) if again else self._always(tokens)
            combined = combined + always
        return combined.view_as(hidden)

    def _always(self, tokens: Tensor) -> Tensor:
        """What experts return that every token meets."""
        shared: Any = self.shared
        always: Tensor = shared.outward(shared(shared.inward(tokens)))
        return always if self.gate is None else torch.sigmoid(self.gate(tokens)) * always

    def _product(self, rows: Tensor, weights: Tensor, place: int) -> Tensor:
        """A product of all experts, with the biases that stand at a place, where they have any."""
        return torch.baddbmm(self.biases[place], rows, weights) if len(self.biases) else torch.bmm(rows, weights)
