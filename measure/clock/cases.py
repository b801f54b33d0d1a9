"""Which cases to measure, and in which order: what tells most comes first, since any run may be the last minute.

Launch and copies; twelve matrix products that calibrate a device, one of them sustained; one training step, against
which all that kernels say can be held; one size of every kernel of the named models; steps of them; other sizes; a
designed spread.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal, TypeVar

from simulator.profiling.listing import Size, cases_of
from simulator.profiling.records.amounts import amounts
from simulator.profiling.records.record import Case, Dtype
from simulator.profiling.records.scenarios import shrunk, step_amounts
from simulator.specs.model import Model

Tier = Literal["first", "probe", "whole", "model", "step", "size", "spread"]
TIERS: tuple[Tier, ...] = ("first", "probe", "whole", "model", "step", "size", "spread")

PROBES = (
    (8192, 8192, 8192),
    (4096, 4096, 4096),
    (2048, 2048, 2048),
    (1024, 1024, 1024),
    (256, 256, 256),
    (4096, 4096, 1024),
    (4096, 1024, 4096),
    (8192, 4096, 256),
    (128, 8192, 8192),
    (16, 16384, 4096),
    (512, 512, 16384),
    (2048, 32768, 4096),
)
"""m, n, k: large ones for the rate of the main loop, thin ones for the bandwidth, a tiny one for the launch, shallow
and deep ones for what filling the pipeline and splitting the inner size cost."""
Entry = TypeVar("Entry")
_SENTINEL_EVERY = 40
_SEED = 20260101
_MIB = 2**20


@dataclass(frozen=True)
class CaseScope:
    """How large cases may be on a device, and which kernels there are."""

    kind: Literal["cuda", "cpu"]
    dtype: Dtype
    """The number format that training uses there."""
    others: tuple[Dtype, ...] = ()
    shrink: int = 1
    """What sizes of kernels are divided by; a CPU core is thousands of times slower than a GPU."""
    backends: tuple[str, ...] = ("flash", "math")
    cache_bytes: float = 32.0 * _MIB
    tiny: bool = False

    @property
    def graphics(self) -> bool:
        """Whether the device is a GPU."""
        return self.kind == "cuda"

    def size(self, usual: int, least: int = 16) -> int:
        """A size, divided for the device."""
        return max(usual // self.shrink, least)

    def sizes_of(self, model: Model) -> list[Size]:
        """Sequences and micro-batches of a model, the most telling first."""
        if self.tiny:
            return [Size(16, 2)]
        length = model.training.sequence_length
        if not self.graphics:
            return [Size(min(length, 128), 1), Size(min(length, 128), 4), Size(min(length, 512), 1)]
        lengths = dict.fromkeys([length, min(length, 128)])
        return [Size(each, max(tokens // each, 1)) for tokens in (4096, 16384, 8192, 2048) for each in lengths]


def scope_of(kind: str, *, bf16: bool = True, cache_bytes: float = 32.0 * _MIB, tiny: bool = False) -> CaseScope:
    """The scope of a device.

    Parameters
    ----------
    kind
        cuda or cpu.
    bf16
        Whether matrix units know bfloat16.
    cache_bytes
        Last-level cache [B].
    tiny
        Whether the run is only to show that everything works.
    """
    if kind == "cpu":
        return CaseScope("cpu", "fp32", ("bf16",), 32 if tiny else 8, cache_bytes=cache_bytes, tiny=tiny)
    dtype: Dtype = "bf16" if bf16 else "fp16"
    others: tuple[Dtype, ...] = ("fp16", "tf32", "fp32") if bf16 else ("fp32",)
    backends = ("flash", "cudnn", "efficient", "math")
    return CaseScope("cuda", dtype, others, 32 if tiny else 1, backends, cache_bytes, tiny)


@dataclass
class Agenda:
    """Cases in the order in which they are measured, each once."""

    cases: list[tuple[Tier, Case]] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)

    def add(self, tier: Tier, cases: Iterable[Case]) -> None:
        """Add those that are not yet planned."""
        for case in cases:
            if case.key not in self._known:
                self._known.add(case.key)
                self.cases.append((tier, case))


def plan_of(scope: CaseScope, models: Sequence[Model]) -> Agenda:
    """All cases for a device and the named models, in order."""
    named = [shrunk(model) if scope.tiny else model for model in models]
    plan = Agenda()
    plan.add("first", _first(scope))
    probes = [_gemm(scope, *shape) for shape in PROBES]
    plan.add("probe", probes)
    plan.add("probe", [probes[0].model_copy(update={"sustained": True})])
    plan.add("whole", [_cheapest_step(scope, named)] if named else [])
    shapes = [[cases_of(m, size, scope.dtype, scope.backends[0]) for size in scope.sizes_of(m)] for m in named]
    plan.add("model", _mixed(_in_turn([_by_arithmetic(each[0]) for each in shapes]) + _optimizers(scope, named)))
    plan.add("step", _steps(scope, named))
    later = [[case for size in each[1:] for case in _by_arithmetic(size)] for each in shapes]
    sizes = _mixed(_in_turn(later)) + _mixed(_in_turn([[*_divided(scope, model)] for model in named]))
    labelled: list[list[tuple[Tier, Case]]] = [
        [("size", case) for case in sizes],
        [("spread", case) for case in _shuffled(_spread(scope))],
    ]
    for tier, case in _in_turn(labelled):
        plan.add(tier, [case])
    return Agenda(list(_watched(plan.cases, scope)))


def _gemm(scope: CaseScope, m: int, n: int, k: int, dtype: Dtype | None = None, operation: str = "linear") -> Case:
    """A matrix product of the device's size."""
    sizes = {"m": scope.size(m), "n": scope.size(n), "k": scope.size(k)}
    return Case(phase="gemm", operation=operation, dimensions=sizes, dtype=dtype or scope.dtype)


def _first(scope: CaseScope) -> list[Case]:
    """What a call costs at all, and both bandwidths."""
    small = max(int(scope.cache_bytes / 8) // 4 * 4, 4096)
    large = 4 * int(scope.cache_bytes) if not scope.graphics else 512 * _MIB
    if scope.tiny:
        small, large = 64 * 1024, 4 * _MIB
    return [
        Case(phase="launch", operation="add_one"),
        Case(phase="launch", operation="linear"),
        Case(phase="copy", operation="device", dimensions={"bytes": large}),
        Case(phase="copy", operation="device", dimensions={"bytes": small}, warm=True),
    ]


def _by_arithmetic(cases: list[Case]) -> list[Case]:
    """Largest first."""

    def work(case: Case) -> tuple[float, float]:
        each = amounts(case)
        return -each.flops, -each.bytes

    return sorted(cases, key=work)


def _in_turn(lists: Sequence[Sequence[Entry]]) -> list[Entry]:
    """The first of each list, then the second of each, and so on."""
    rows = zip_longest(*lists)
    return [entry for row in rows for entry in row if entry is not None]


def _mixed(cases: Iterable[Case]) -> list[Case]:
    """One of each phase in turn, so that whenever time ends every phase has had some."""
    lines: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        lines[case.phase].append(case)
    mixed = []
    while any(lines.values()):
        mixed += [line.pop(0) for line in lines.values() if line]
    return mixed


def _optimizers(scope: CaseScope, models: Sequence[Model]) -> list[Case]:
    """Optimizer steps over some layers of each model, and copies to the host and back."""
    cases = []
    for model in models:
        layer = 4 * model.hidden_size**2 + 2 * model.hidden_size * model.feed_forward_size
        most = 2_000_000 if scope.tiny else 400_000_000 if scope.graphics else 16_000_000
        layers = max(min(most // layer, model.layers), 1)
        sizes = {"parameters": min(layers * layer, most), "tensors": 16 * layers}
        cases += [
            Case(phase="optimizer", operation="adamw", dimensions=sizes, dtype="fp32", variant=variant)
            for variant in (("fused", "foreach") if scope.graphics else ("single",))
        ]
    if scope.graphics:
        size = 4 * _MIB if scope.tiny else 256 * _MIB
        cases += [
            Case(phase="host_copy", operation=way, dimensions={"bytes": size}, variant=kind)
            for kind in ("pinned", "pageable")
            for way in ("to_device", "to_host")
        ]
    return cases


def _steps(scope: CaseScope, models: Sequence[Model]) -> list[Case]:
    """Two and four layers of each model give the time of a layer and what is fixed; then another size.

    Then the first of them once more, compiled: that is dear, since compilers take their time.
    """
    cases = []
    for layers, which in ((2, 0), (4, 0), (2, 1), (1, 0), (2, 2)):
        for model in models:
            sizes = scope.sizes_of(model)
            if which >= len(sizes) or (scope.tiny and layers > 2):
                continue
            usual = usual_attention(scope, model)
            attentions = (usual, "unfused") if which == 0 and layers == 2 else (usual,)
            cases += [step_of(scope, model, sizes[which], layers, kind) for kind in attentions]
    for layers in (2,) if scope.tiny else (2, 4):
        for model in models:
            eager = step_of(scope, model, scope.sizes_of(model)[0], layers, usual_attention(scope, model))
            cases.append(eager.model_copy(update={"operation": "compiled"}))
    return cases


def _cheapest_step(scope: CaseScope, models: Sequence[Model]) -> Case:
    """The step of two layers that takes the least arithmetic: the smallest whole that a short budget can hold."""
    steps = [(step_of(scope, each, scope.sizes_of(each)[0], 2, usual_attention(scope, each)), each) for each in models]
    return min(steps, key=lambda entry: step_amounts(*entry).flops)[0]


def usual_attention(scope: CaseScope, model: Model) -> str:
    """Whether attention of a step is one kernel; CPUs have none that drops."""
    return "unfused" if model.dropout and not scope.graphics else "fused"


def step_of(scope: CaseScope, model: Model, size: Size, layers: int, attention: str) -> Case:
    """A training step of some layers of a model."""
    return Case(
        phase="step",
        operation="train",
        dimensions={
            "layers": min(layers, model.layers),
            "sequence_length": size.sequence_length,
            "micro_batch": size.micro_batch,
        },
        dtype=scope.dtype,
        variant=f"{model.id}/{attention}",
    )


def _divided(scope: CaseScope, model: Model) -> Iterator[Case]:
    """The shapes of tensor-parallel ranks."""
    size = scope.sizes_of(model)[0]
    for tp in () if scope.tiny else (2, 4, 8):
        if model.attention_heads % tp == 0:
            cases = cases_of(model, Size(size.sequence_length, size.micro_batch, tp), scope.dtype, scope.backends[0])
            yield from (case for case in _by_arithmetic(cases) if case.phase in ("gemm", "attention"))


def _spread(scope: CaseScope) -> Iterator[Case]:
    """Every kind of kernel over the range of sizes that training has."""
    for dtype in scope.others:
        yield from (_gemm(scope, *shape, dtype=dtype) for shape in PROBES)
    if scope.tiny:
        return
    yield from _spread_products(scope)
    yield from _spread_attention(scope)
    yield from _spread_streams(scope)
    for exponent in range(16, 30 if scope.graphics else 27):
        yield Case(phase="copy", operation="device", dimensions={"bytes": 2**exponent})
        if scope.graphics:
            for way in ("to_device", "to_host"):
                sizes = {"bytes": 2**exponent}
                yield Case(phase="host_copy", operation=way, dimensions=sizes, variant="pinned")
    for millions in (1, 4, 16, 64, 256):
        sizes = {"parameters": scope.size(millions * 10**6), "tensors": 64}
        for variant in ("fused", "foreach") if scope.graphics else ("single",):
            yield Case(phase="optimizer", operation="adamw", dimensions=sizes, dtype="fp32", variant=variant)


def _spread_products(scope: CaseScope) -> Iterator[Case]:
    """Matrix products of every proportion; some sizes are no powers of two."""
    operations = ("linear", "input_gradient", "weight_gradient")
    number = 0
    for m in (128, 512, 1920, 4096, 16384):
        for n in (768, 2048, 5120, 12288, 28672):
            for k in (768, 2048, 5120, 12288):
                if 2.0 * m * n * k <= 4e12:
                    yield _gemm(scope, m, n, k, operation=operations[number % 3])
                    number += 1
    for batch in (16, 128, 512):
        for length in (128, 512, 2048):
            for m, n, k in ((length, length, 64), (length, 64, length), (length, length, 128)):
                sizes = {"m": m, "n": n, "k": k, "batch": scope.size(batch, 1)}
                yield Case(phase="gemm", operation="batched", dimensions=sizes, dtype=scope.dtype)


def _spread_attention(scope: CaseScope) -> Iterator[Case]:
    """Lengths, widths of heads, groups of keys, and all kernels that may be there."""
    for backend in scope.backends:
        for length in (128, 512, 2048, 8192) if scope.graphics else (128, 512):
            if backend == "math" and length > 2048:
                continue
            for width, kv_heads in ((64, 16), (128, 16), (128, 2), (256, 16)):
                sizes: dict[str, Any] = {
                    "batch": max(16384 // length if scope.graphics else 1, 1),
                    "heads": 16,
                    "kv_heads": kv_heads,
                    "head_size": width,
                    "queries": length,
                    "keys": length,
                    "causal": int(width == 128),
                }
                for operation in ("forward", "backward"):
                    yield Case(
                        phase="attention", operation=operation, dimensions=sizes, dtype=scope.dtype, variant=backend
                    )


def _spread_streams(scope: CaseScope) -> Iterator[Case]:
    """Kernels bound by memory, from what fits the cache to what does not."""
    for operation in ("layer_norm", "layer_norm_backward", "rms_norm", "rms_norm_backward", "softmax"):
        for columns in (768, 4096, 12288):
            for rows in (512, 4096, 16384):
                sizes = {"rows": scope.size(rows), "columns": columns}
                yield Case(phase="normalisation", operation=operation, dimensions=sizes, dtype=scope.dtype)
    for operation in ("add", "gelu", "gelu_backward", "dropout", "silu_gate"):
        for elements in (2**18, 2**22, 2**25, 2**28):
            sizes = {"rows": scope.size(elements // 4096), "columns": 4096}
            yield Case(phase="pointwise", operation=operation, dimensions=sizes, dtype=scope.dtype)


def _shuffled(cases: Iterable[Case]) -> list[Case]:
    """In an order by chance, the same in every run: a part of the spread is a spread, and drift is no trend."""
    shuffled = list(cases)
    random.Random(_SEED).shuffle(shuffled)
    return _mixed(shuffled)


def _watched(cases: Sequence[tuple[Tier, Case]], scope: CaseScope) -> Iterator[tuple[Tier, Case]]:
    """The cases, with one product measured again now and then, which shows whether the device changes."""
    shape = PROBES[1]
    for number, (tier, case) in enumerate(cases):
        yield tier, case
        if number % _SENTINEL_EVERY == _SENTINEL_EVERY - 1:
            again = _gemm(scope, *shape).model_copy(update={"variant": f"sentinel-{number // _SENTINEL_EVERY + 1}"})
            yield tier, again
