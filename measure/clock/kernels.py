"""Single kernels of every phase, with random data in as many buffers as the caches cannot hold."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from measure.clock.timer import Call
from measure.device.machines import DTYPES, Machine
from simulator.profiling.records.amounts import Amounts, amounts
from simulator.profiling.records.record import Case

_MOST_SETS = 256
_SHARE = 0.4
"""Of free memory that the sets of one case may take."""
ATTENTION_BACKENDS = {
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "math": "MATH",
}


class UnsupportedError(RuntimeError):
    """The device or the library has no such kernel."""


@dataclass(frozen=True)
class ReadyCase:
    """A case made ready to run."""

    call: Call
    amounts: Amounts
    cold: bool
    """Whether the buffers together exceed the last-level cache, so that no call can beat the memory's bandwidth."""
    replayable: bool = False
    """Whether a graph of calls may be captured."""
    manner: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Within which the calls run."""


Buffers = tuple[Tensor, ...]


def prepare(case: Case, machine: Machine) -> ReadyCase:
    """Make the buffers of a case, and its call.

    Raises
    ------
    UnsupportedError
        Where there is no such kernel.
    """
    if case.phase == "optimizer":
        return _optimizer(case, machine)
    known = _KERNELS.get((case.phase, case.operation)) or _KERNELS.get((case.phase, ""))
    if known is None:
        raise UnsupportedError(f"{case.phase} {case.operation} is not known to this capsim")
    make, run = known(case, machine)
    each = amounts(case)
    sets = [make() for _ in range(number_of_sets(case, machine))]
    return ReadyCase(
        call=lambda index: run(*sets[index % len(sets)]),
        amounts=each,
        cold=len(sets) * each.bytes > 2.0 * machine.cache_bytes,
        replayable=not case.operation.endswith("backward") and case.phase != "host_copy",
        manner=_manner(case),
    )


def number_of_sets(case: Case, machine: Machine) -> int:
    """Sets of buffers to take in turn: one that stays in the cache, or more than the cache holds."""
    each = max(amounts(case).footprint, 1.0)
    if case.warm or case.sustained or case.phase in ("launch", "host_copy"):
        return 1
    wanted = math.ceil(2.0 * machine.cache_bytes / each) + 1
    return max(1, min(wanted, _MOST_SETS, int(_SHARE * machine.free_bytes() / each)))


def _manner(case: Case) -> Callable[[], AbstractContextManager[Any]]:
    """Switches of the libraries for a case."""
    if case.phase == "attention":
        return lambda: _with_backend(case.variant)
    if case.dtype in ("fp32", "tf32"):
        return lambda: _with_precision("high" if case.dtype == "tf32" else "highest")
    return nullcontext


class _with_precision(AbstractContextManager[None]):  # noqa: N801
    """Products of float32 as such, or by the matrix units."""

    def __init__(self, name: str) -> None:
        self.name, self.before = name, torch.get_float32_matmul_precision()

    def __enter__(self) -> None:
        torch.set_float32_matmul_precision(self.name)

    def __exit__(self, *error: object) -> None:
        torch.set_float32_matmul_precision(self.before)


class _with_backend(AbstractContextManager[None]):  # noqa: N801
    """One kernel of attention and no other; torch's warnings that it is not there are kept quiet."""

    def __init__(self, variant: str) -> None:
        backend = getattr(SDPBackend, ATTENTION_BACKENDS.get(variant, ""), None)
        if backend is None:
            raise UnsupportedError(f"this torch knows no {variant} kernel of attention")
        self.inner = sdpa_kernel(backend)
        self.quiet = warnings.catch_warnings()

    def __enter__(self) -> None:
        self.quiet.__enter__()
        warnings.simplefilter("ignore")
        self.inner.__enter__()

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(None, None, None)
        self.quiet.__exit__(None, None, None)


Maker = Callable[[], Buffers]
Kernel = tuple[Maker, Callable[..., object]]


def _random(machine: Machine, case: Case, *shape: int, gradient: bool = False) -> Tensor:
    """Normal numbers: zeros flatter matrix units."""
    return torch.randn(shape, device=machine.target, dtype=DTYPES.get(case.dtype)).requires_grad_(gradient)


def _launch(case: Case, machine: Machine) -> Kernel:
    """Kernels that do next to nothing."""
    if case.operation == "linear":
        return (
            lambda: tuple(torch.randn(16, 16, device=machine.target) for _ in range(3)),
            lambda a, b, out: torch.mm(a, b, out=out),
        )
    return (lambda: (torch.randn(1, device=machine.target),)), (lambda a: a.add_(1.0))


def _copy(case: Case, machine: Machine) -> Kernel:
    """From one place of the device's memory to another."""
    numbers = max(case.dimensions["bytes"] // 4, 1)
    return (
        lambda: tuple(torch.randn(numbers, device=machine.target) for _ in range(2)),
        lambda source, target: target.copy_(source),
    )


def _host_copy(case: Case, machine: Machine) -> Kernel:
    """Between the host's memory and the device's."""
    if machine.kind == "cpu":
        raise UnsupportedError("a CPU has no other memory to copy to")
    numbers = max(case.dimensions["bytes"] // 4, 1)
    pinned = case.variant == "pinned"

    def make() -> Buffers:
        host = torch.randn(numbers, device="cpu")
        host = host.pin_memory() if pinned else host
        return host, torch.randn(numbers, device=machine.target)

    if case.operation == "to_device":
        return make, lambda host, device: device.copy_(host, non_blocking=pinned)
    return make, lambda host, device: host.copy_(device, non_blocking=pinned)


def _gemm(case: Case, machine: Machine) -> Kernel:
    """C[m, n] = A[m, k] B[k, n], with the factors as they lie in the pass of training that the operation names."""
    m, n, k = (case.dimensions[name] for name in ("m", "n", "k"))
    if case.operation == "batched":
        batch = case.dimensions["batch"]
        shapes: tuple[tuple[int, ...], ...] = ((batch, m, k), (batch, k, n), (batch, m, n))
        run: Callable[..., object] = lambda a, b, out: torch.bmm(a, b, out=out)  # noqa: E731
    elif case.operation == "weight_gradient":
        shapes, run = ((k, m), (k, n), (m, n)), lambda a, b, out: torch.mm(a.t(), b, out=out)
    elif case.operation == "input_gradient":
        shapes, run = ((m, k), (k, n), (m, n)), lambda a, b, out: torch.mm(a, b, out=out)
    else:
        shapes, run = ((m, k), (n, k), (m, n)), lambda a, b, out: torch.mm(a, b.t(), out=out)
    return (lambda: tuple(_random(machine, case, *shape) for shape in shapes)), run


def _attention(case: Case, machine: Machine) -> Kernel:
    """Fused attention, one backend."""
    sizes = case.dimensions
    batch, heads, kv_heads, width = (sizes[name] for name in ("batch", "heads", "kv_heads", "head_size"))
    causal, backward = bool(sizes.get("causal", 0)), case.operation == "backward"
    grouped = {"enable_gqa": True} if kv_heads != heads else {}

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        try:
            mixed: Tensor = functional.scaled_dot_product_attention(query, key, value, is_causal=causal, **grouped)
        except TypeError as error:  # torch before 2.5 knows no groups
            raise UnsupportedError(str(error)) from None
        return mixed

    def make() -> Buffers:
        shapes = ((heads, sizes["queries"]), (kv_heads, sizes["keys"]), (kv_heads, sizes["keys"]))
        inputs = tuple(_random(machine, case, batch, *shape, width, gradient=backward) for shape in shapes)
        if not backward:
            return inputs
        with torch.enable_grad(), _with_backend(case.variant):
            mixed = attend(*inputs)
        return (*inputs, mixed, torch.randn_like(mixed))

    return make, _gradients_of(3) if backward else attend


def _gradients_of(inputs: int, weights: Buffers = ()) -> Callable[..., object]:
    """A backward pass alone: buffers are inputs, output and its gradient."""

    def run(*buffers: Tensor) -> object:
        wanted = (*buffers[:inputs], *weights)
        return torch.autograd.grad(buffers[inputs], wanted, buffers[inputs + 1], retain_graph=True)

    return run


def _differentiable(
    forward: Callable[..., Tensor], inputs: int, weights: Buffers = ()
) -> Callable[[Case, Machine], Kernel]:
    """A kernel bound by memory: forward, or backward alone."""

    def kernel(case: Case, machine: Machine) -> Kernel:
        rows, columns = case.dimensions["rows"], case.dimensions["columns"]
        backward = case.operation.endswith("backward")

        def make() -> Buffers:
            operands = tuple(_random(machine, case, rows, columns, gradient=backward) for _ in range(inputs))
            if not backward:
                return operands
            with torch.enable_grad():
                output = forward(*operands)
            return (*operands, output, torch.randn_like(output))

        return make, _gradients_of(inputs, weights) if backward else forward

    return kernel


def _norm(case: Case, machine: Machine) -> Kernel:
    """Normalisation of rows, with weights."""
    columns = case.dimensions["columns"]
    backward = case.operation.endswith("backward")
    weight, bias = (_random(machine, case, columns, gradient=backward) for _ in range(2))
    if case.operation.startswith("rms"):
        return _differentiable(lambda a: functional.rms_norm(a, (columns,), weight), 1, (weight,))(case, machine)
    both = (weight, bias)
    return _differentiable(lambda a: functional.layer_norm(a, (columns,), weight, bias), 1, both)(case, machine)


def _rotary(case: Case, machine: Machine) -> Kernel:
    """Pairs of elements turned by an angle, in single operations."""
    rows, columns = case.dimensions["rows"], case.dimensions["columns"]
    cosine, sine = (_random(machine, case, rows, columns) for _ in range(2))

    def turn(heads: Tensor) -> Tensor:
        first, second = heads.chunk(2, dim=-1)
        return heads * cosine + torch.cat((-second, first), dim=-1) * sine

    return _differentiable(turn, 1)(case, machine)


def _cross_entropy(case: Case, machine: Machine) -> Kernel:
    """Loss of rows over a vocabulary, in float32."""
    rows, columns = case.dimensions["rows"], case.dimensions["columns"]
    labels = torch.randint(columns, (rows,), device=machine.target)
    return _differentiable(lambda a: functional.cross_entropy(a.float(), labels), 1)(case, machine)


def _embedding(case: Case, machine: Machine) -> Kernel:
    """Rows of a table, or the sum of gradients into its rows."""
    rows, columns, words = (case.dimensions[name] for name in ("rows", "columns", "words"))
    backward = case.operation.endswith("backward")

    def make() -> Buffers:
        table = _random(machine, case, words, columns, gradient=backward)
        ids = torch.randint(words, (rows,), device=machine.target)
        if not backward:
            return table, ids
        with torch.enable_grad():
            output = functional.embedding(ids, table)
        return table, output, torch.randn_like(output)

    return make, _gradients_of(1) if backward else lambda table, ids: functional.embedding(ids, table)


def _optimizer(case: Case, machine: Machine) -> ReadyCase:
    """A step of AdamW over parameters of equal size."""
    number = max(case.dimensions["tensors"], 1)
    size = max(case.dimensions["parameters"] // number, 1)
    parameters = [torch.randn(size, device=machine.target).requires_grad_() for _ in range(number)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, **{case.variant: True} if case.variant != "single" else {})
    each = amounts(case)
    return ReadyCase(lambda _: optimizer.step(), each, cold=each.bytes > 2.0 * machine.cache_bytes)


_KERNELS: dict[tuple[str, str], Callable[[Case, Machine], Kernel]] = {
    ("launch", ""): _launch,
    ("copy", ""): _copy,
    ("host_copy", ""): _host_copy,
    ("gemm", ""): _gemm,
    ("attention", ""): _attention,
    ("pointwise", "add"): _differentiable(torch.add, 2),
    ("pointwise", "dropout"): _differentiable(lambda a: torch.native_dropout(a, 0.1, True)[0], 1),
    ("pointwise", "cast"): _differentiable(lambda a: a.float(), 1),
    ("pointwise", "gelu"): _differentiable(functional.gelu, 1),
    ("pointwise", "gelu_backward"): _differentiable(functional.gelu, 1),
    ("pointwise", "relu"): _differentiable(functional.relu, 1),
    ("pointwise", "relu_backward"): _differentiable(functional.relu, 1),
    ("pointwise", "silu_gate"): _differentiable(lambda a, b: functional.silu(a) * b, 2),
    ("pointwise", "silu_gate_backward"): _differentiable(lambda a, b: functional.silu(a) * b, 2),
    ("pointwise", "rotary"): _rotary,
    ("pointwise", "embedding"): _embedding,
    ("pointwise", "embedding_backward"): _embedding,
    ("normalisation", "layer_norm"): _norm,
    ("normalisation", "layer_norm_backward"): _norm,
    ("normalisation", "rms_norm"): _norm,
    ("normalisation", "rms_norm_backward"): _norm,
    ("normalisation", "softmax"): _differentiable(lambda a: torch.softmax(a, dim=-1), 1),
    ("normalisation", "softmax_backward"): _differentiable(lambda a: torch.softmax(a, dim=-1), 1),
    ("normalisation", "cross_entropy"): _cross_entropy,
    ("normalisation", "cross_entropy_backward"): _cross_entropy,
}
