"""Bytes that torch's optimizers keep beside the parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

OptimizerName = Literal["adamw", "sgd", "adafactor"]


@dataclass(frozen=True)
class OptimizerState:
    """What an optimizer keeps after its first step."""

    bytes: int
    parameters: int

    @property
    def per_parameter(self) -> float:
        """Bytes of one parameter."""
        return self.bytes / self.parameters


def make_optimizer(name: OptimizerName, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Make an optimizer of a plan with torch's settings; stochastic gradient descent has momentum."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    return {"adamw": torch.optim.AdamW, "adafactor": torch.optim.Adafactor}[name](parameters, lr=1e-3)


def optimizer_state(name: OptimizerName, parameters: Iterable[Tensor]) -> OptimizerState:
    """Take one step with gradients of zero and count what the optimizer keeps, but for single numbers such as steps.

    Parameters
    ----------
    name
        Which optimizer.
    parameters
        In the precision of the optimizer's master copy; on the meta device nothing is allocated.
    """
    held = list(parameters)
    for parameter in held:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    optimizer = make_optimizer(name, held)
    try:
        optimizer.step()
    except RuntimeError:
        # Adafactor first makes its states and then looks at numbers, which the meta device does not have.
        if not all(parameter.is_meta and parameter in optimizer.state for parameter in held):
            raise
    return OptimizerState(bytes=state_bytes(optimizer), parameters=sum(parameter.numel() for parameter in held))


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of an optimizer's state on this rank, but for single numbers."""
    states: list[Any] = [value for state in optimizer.state.values() for value in state.values()]
    return sum(local_bytes([value]) for value in states if isinstance(value, Tensor) and value.dim() > 0)


def local_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors on this rank."""
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return sum(tensor.numel() * tensor.element_size() for tensor in local)
