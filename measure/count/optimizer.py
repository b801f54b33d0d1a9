"""Bytes that torch's optimizers keep beside the parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from measure.models.feed_forward import Experts

OptimizerName = Literal["adamw", "adam-bf16", "adafactor", "muon", "sgd", "sgd-without-momentum"]
"""Optimizers of a plan that torch has; moments of AdamW are in the precision of what it updates."""
_OUTPUTS = ("words", "classes", "spans", "tokens")
"""Linear maps of a head whose output nothing reads: AdamW updates them beside Muon."""


@dataclass(frozen=True)
class OptimizerState:
    """What an optimizer keeps after its first step."""

    bytes: int
    parameters: int

    @property
    def per_parameter(self) -> float:
        """Bytes of one parameter."""
        return self.bytes / self.parameters


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The matrices that Muon orthogonalises: of linear maps between hidden states, those of experts among them."""
    matrices: list[nn.Parameter] = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) and name.rpartition(".")[2] not in _OUTPUTS:
            matrices.append(part.weight)
        if isinstance(part, Experts):
            matrices += [part.inward, part.outward]
    return matrices


def make_optimizers(
    name: OptimizerName, parameters: Iterable[Tensor], hidden: Collection[Tensor] = ()
) -> list[Optimizer]:
    """Make an optimizer of a plan with torch's settings; beside Muon stands AdamW for all but some hidden matrices.

    Parameters
    ----------
    name
        Which optimizer.
    parameters
        What it updates.
    hidden
        Those of them that Muon orthogonalises.
    """
    held, makes = list(parameters), _MAKES[name]
    if name != "muon":
        return [makes(held)]
    orthogonal = {id(matrix) for matrix in hidden}
    matrices = [matrix for one in held if id(one) in orthogonal for matrix in _of_experts(one)]
    others = [one for one in held if id(one) not in orthogonal]
    return [makes(each) for makes, each in ((makes, matrices), (torch.optim.AdamW, others)) if each]


_MAKES: dict[OptimizerName, Callable[[list[Tensor]], Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam-bf16": torch.optim.AdamW,
    "adafactor": torch.optim.Adafactor,
    "muon": torch.optim.Muon,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "sgd-without-momentum": torch.optim.SGD,
}


def _of_experts(parameter: Tensor) -> Iterator[Tensor]:
    """The matrices of a parameter that holds those of several experts, with their gradients."""
    if parameter.dim() == 2:
        yield parameter
        return
    for matrix, gradient in zip(parameter.detach(), _gradient(parameter), strict=True):
        matrix.grad = gradient
        yield matrix


def _gradient(parameter: Tensor) -> Tensor:
    """The gradient of a parameter; zeros where it has none yet."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def optimizer_state(
    name: OptimizerName, parameters: Iterable[Tensor], hidden: Collection[Tensor] = ()
) -> OptimizerState:
    """Take one step with gradients of zero and count what the optimizer keeps, but for single numbers such as steps.

    Parameters
    ----------
    name
        Which optimizer.
    parameters
        In the precision of the optimizer's master copy; on the meta device nothing is allocated.
    hidden
        Those of them that Muon orthogonalises.
    """
    held = list(parameters)
    for parameter in held:
        parameter.grad = _gradient(parameter)
    optimizers = make_optimizers(name, held, hidden)
    for optimizer in optimizers:
        try:
            optimizer.step()
        except RuntimeError:
            # Adafactor first makes its states and then looks at numbers, which the meta device does not have.
            updated = [one for group in optimizer.param_groups for one in group["params"]]
            if not all(one.is_meta and one in optimizer.state for one in updated):
                raise
    return OptimizerState(bytes=sum(map(state_bytes, optimizers)), parameters=sum(one.numel() for one in held))


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of an optimizer's state on this rank, but for single numbers."""
    states: list[Any] = [value for state in optimizer.state.values() for value in state.values()]
    return sum(local_bytes([value]) for value in states if isinstance(value, Tensor) and value.dim() > 0)


def local_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors on this rank."""
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return sum(tensor.numel() * tensor.element_size() for tensor in local)
