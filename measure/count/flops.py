"""Arithmetic of matrix products that torch executes, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Flops:
    """Arithmetic of one forward and one backward pass [FLOP]."""

    forward: int
    backward: int
    """With recomputation."""

    @property
    def total(self) -> int:
        """Both passes."""
        return self.forward + self.backward


def flops(run: Callable[[], Tensor], *, stops_early: bool = False) -> Flops:
    """Count the arithmetic of a forward pass and of the backward pass from its result.

    Only matrix products and attention kernels count, masked positions in full. The module should be on the meta
    device, where nothing is computed and every attention kernel counts.

    Parameters
    ----------
    run
        The forward pass, which returns a loss.
    stops_early
        Whether recomputation stops once all that the backward pass needs is there, as torch does unless told; else it
        repeats the whole forward pass of the checkpointed part, as Megatron-LM does.
    """
    with set_checkpoint_early_stop(stops_early), FlopCounterMode(display=False) as counter:
        loss = run()
        forward = counter.get_total_flops()
        loss.backward()
        return Flops(forward, counter.get_total_flops() - forward)


def flops_needed_again(run: Callable[[Tensor], Tensor], inputs: Tensor) -> int:
    """Count the arithmetic that recomputing what a backward pass needs takes at least.

    The forward pass is traced with what autograd keeps as its only outputs, and whatever those do not need is left
    out, as a compiler does that sees recomputation and backward pass together.

    Parameters
    ----------
    run
        The forward pass of a checkpointed part.
    inputs
        Its input, on the meta device.
    """

    def kept(inputs: Tensor) -> list[Tensor]:
        tensors: list[Tensor] = []
        with saved_tensors_hooks(lambda tensor: _noted(tensors, tensor), lambda tensor: tensor):
            run(inputs)
        return tensors

    graph = make_fx(kept)(inputs)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    with FlopCounterMode(display=False) as counter:
        graph(inputs)
    return int(counter.get_total_flops())


def _noted(tensors: list[Tensor], tensor: Tensor) -> Tensor:
    """Note a tensor and return it."""
    tensors.append(tensor)
    return tensor
