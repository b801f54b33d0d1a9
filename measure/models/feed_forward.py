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


def activated(
    inputs: Tensor, model: Model, form: Form, setting: Setting | None = None, weights: Tensor | None = None
) -> Tensor:
    """Apply the activation function, and scale by weights where there are any; a gate's two inputs lie side by side."""
    function: Any = _FUNCTIONS[model.activation]
    if form == "gated" and setting is not None and setting.fused_gate:
        return _FusedGate.apply(function, inputs, weights, setting.activation_inputs_in_fp8)
    made: Tensor = function(inputs) if form == "plain" else _gated(function, inputs)
    return made if weights is None else (made * weights).to(made.dtype)


def _gated(function: Any, inputs: Tensor) -> Tensor:
    """One half of the inputs times the activation of the other."""
    gate, value = inputs.chunk(2, dim=-1)
    return function(gate) * value


class _FusedGate(torch.autograd.Function):
    """Activation and product of a gate, scaled by weights where there are any, as one kernel.

    It keeps its inputs, or a copy of them in fp8, and computes the activation again.
    """

    @staticmethod
    def forward(ctx: Any, function: Any, inputs: Tensor, weights: Tensor | None, narrow: bool) -> Tensor:
        ctx.function, ctx.dtype = function, inputs.dtype
        read = () if weights is None else (weights,)
        ctx.save_for_backward(inputs.to(torch.float8_e4m3fn) if narrow else inputs, *read)
        return _scaled(_gated(function, inputs), *read)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, *weights = (each.detach() for each in ctx.saved_tensors)
        read = [inputs.to(ctx.dtype).requires_grad_(), *(each.requires_grad_() for each in weights)]
        with torch.enable_grad():
            output = _scaled(_gated(ctx.function, read[0]), *read[1:])
        own, *of_weights = torch.autograd.grad(output, read, gradient)
        return None, own, of_weights[0] if of_weights else None, None


def _scaled(made: Tensor, *weights: Tensor) -> Tensor:
    """The same in its own format, scaled by weights where there are any."""
    return (made * weights[0]).to(made.dtype) if weights else made


class FeedForward(nn.Module):
    """Two products with an activation function between them."""

    def __init__(self, model: Model, setting: Setting, width: int | None = None, form: Form | None = None) -> None:
        super().__init__()
        self.model, self.form, self.setting = model, form or model.feed_forward, setting
        local = (width or model.feed_forward_size) // setting.split.degree
        inputs = 2 if self.form == "gated" else 1
        biased, factory = "feed_forward" in model.biases, setting.factory
        # Policies by operator see a matrix each of gate and input, as torchtitan has them.
        into = _Apart if setting.recompute == "operators" and inputs > 1 else nn.Linear
        self.inward = into(model.hidden_size, inputs * local, bias=biased, **factory)
        self.outward = nn.Linear(local, model.hidden_size, bias=biased, **factory)

    def forward(self, projected: Tensor) -> Tensor:
        """From the output of the first product to the input of the second."""
        return activated(projected, self.model, self.form, self.setting)


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
        self.setting = setting
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
        inside = self.setting.weighs_activations
        read = (weights.flatten().index_select(0, order).view(model.experts, -1, 1),) if inside else ()
        outward = self._through(sent.view(model.experts, -1, model.hidden_size), *read).flatten(0, 1)
        back = outward.index_select(0, order.argsort()).view(*weights.shape, model.hidden_size)
        if not inside:
            back = back * weights.to(back.dtype).unsqueeze(-1)
        combined = back.sum(1)
        if self.shared is not None:
            again = self.repeats_shared and torch.is_grad_enabled()
            always = checkpoint(self._always, tokens, use_reentrant=False) if again else self._always(tokens)
            combined = combined + always
        return combined.view_as(hidden)

    def _through(self, sent: Tensor, *weights: Tensor) -> Tensor:
        """What experts return for tokens sorted by expert, with the weights of these where they scale inside."""
        inward = self._product(sent, self.inward, 0)
        activation = Discarding(lambda inputs, *scales: activated(inputs, self.model, self.form, self.setting, *scales))
        inside = activation(inward, *weights) if self.discards else activation.function(inward, *weights)
        if weights and len(self.biases):
            outward = torch.bmm(inside, self.outward) + (self.biases[1] * weights[0]).to(inside.dtype)
        else:
            outward = self._product(inside, self.outward, 1)
        activation.discard(outward)
        return outward

    def _always(self, tokens: Tensor) -> Tensor:
        """What experts return that every token meets."""
        shared: Any = self.shared
        always: Tensor = shared.outward(shared(shared.inward(tokens)))
        return always if self.gate is None else torch.sigmoid(self.gate(tokens)) * always

    def _product(self, rows: Tensor, weights: Tensor, place: int) -> Tensor:
        """A product of all experts, with the biases that stand at a place, where they have any."""
        return torch.baddbmm(self.biases[place], rows, weights) if len(self.biases) else torch.bmm(rows, weights)
