"""Names of operators and kernels, and the kinds that they belong to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from hardware.catalogue import load_class
from hardware.classes import LinkClass
from simulator.pricing.constants import KINDS
from simulator.pricing.requests import (
    Collective,
    FusedAttention,
    HostCopy,
    HostWork,
    MatrixProduct,
    Request,
    Send,
    Stream,
    StreamKind,
)
from simulator.replay.measured.kinds import names
from simulator.specs.loading import load_stack


def pointwise() -> set[str]:
    """Operators that torch tags as pointwise: the oracle."""
    tagged = set()
    for name in torch._C._dispatch_get_all_op_names():
        space, _, rest = name.partition("::")
        base, _, overload = rest.partition(".")
        if space == "aten":
            packet = getattr(torch.ops.aten, base, None)
            each = getattr(packet, overload or "default", None)
            if each is not None and torch.Tag.pointwise in each.tags:
                tagged.add(f"aten::{base}")
    return tagged


def test_what_torch_calls_pointwise_is_elementwise() -> None:
    tagged = pointwise()
    assert len(tagged) > 200
    assert {name: names().of_operator(name) for name in tagged if not _is(name, "elementwise")} == {}


def _is(name: str, kind: str) -> bool:
    fit = names().of_operator(name)
    return fit is not None and fit.kind == kind


def test_every_operator_that_a_rule_spells_out_is_torchs() -> None:
    """No name is invented: alternatives of the rules that torch does not have would never fit."""
    known = {name.split("::")[1].split(".")[0].rstrip("_") for name in torch._C._dispatch_get_all_op_names()}
    # Taken by name from python, or of other releases.
    elsewhere = {"", "i", "mm", "addmm", "dropout", "_cat", "_stack", "unique_dim", "elu_backward", "_fused_dropout"}
    for rule in names().operators:
        match = re.fullmatch(r"aten::\(([a-z0-9_|]+)\)_\?", rule.pattern.pattern)
        if match is not None:
            spelled = {each.rstrip("_") for each in match[1].split("|")}
            assert spelled - known - elsewhere == set(), rule.fit.kind


@pytest.mark.parametrize(
    ("name", "kind", "whole"),
    [
        ("aten::addmm", "matrix_products", False),
        ("aten::_scaled_grouped_mm", "matrix_products", False),
        ("aten::linear", "matrix_products", False),
        ("aten::native_layer_norm_backward", "normalisation", True),
        ("aten::_fused_rms_norm", "normalisation", True),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention", True),
        ("aten::_scaled_dot_product_cudnn_attention_backward", "attention", True),
        ("aten::_scaled_dot_product_attention_math", "attention", False),
        ("aten::_softmax_backward_data", "softmax", False),
        ("aten::nll_loss_forward", "softmax", False),
        ("aten::embedding_dense_backward", "embedding", True),
        ("autograd::engine::evaluate_function: EmbeddingBackward0", "embedding", True),
        ("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", "gradient_sums", True),
        ("Optimizer.step#AdamW.step", "optimizer", True),
        ("Optimizer.zero_grad#AdamW.zero_grad", "optimizer", True),
        ("aten::_fused_adamw_", "optimizer", True),
        ("aten::_foreach_norm", "optimizer", True),
        ("gloo:all_reduce", "all_reduce", True),
        ("gloo:reduce_scatter", "reduce_scatter", True),
        ("gloo:broadcast", "other_collectives", True),
        ("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "data_loading", True),
    ],
)
def test_operators(name: str, kind: str, whole: bool) -> None:
    fit = names().of_operator(name)
    assert fit is not None
    assert (fit.kind, fit.whole) == (kind, whole)


@pytest.mark.parametrize("name", ["aten::view", "aten::t", "aten::empty", "mine::own", "AddmmBackward0", "forward"])
def test_views_and_strangers_belong_to_what_calls_them(name: str) -> None:
    assert names().of_operator(name) is None


_NCCL = {
    "AllReduce": "all_reduce",
    "AllGather": "all_gather",
    "ReduceScatter": "reduce_scatter",
    "SendRecv": "send",
    "Broadcast": "other_collectives",
    "Reduce": "other_collectives",
}
"""Collectives of src/device/generate.py, from which NCCL makes the names of its kernels."""


@pytest.mark.parametrize(("collective", "kind"), _NCCL.items())
def test_kernels_of_nccl(collective: str, kind: str) -> None:
    for form in (
        "ncclDevKernel_{}_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "ncclKernel_{}_RING_LL_Sum_float",
    ):
        fit = names().of_kernel(form.format(collective), {})
        assert fit is not None
        assert fit.kind == kind
    symmetric = names().of_kernel(f"ncclSymkDevKernel_{collective}_LDMC_sum_bf16(ncclSymkDevWorkArgs4K)", {})
    assert symmetric is not None
    assert symmetric.kind == kind


def test_what_a_collective_says_of_itself_goes_before_its_name() -> None:
    """An all-to-all runs in the kernel of sends, and anything in a generic one."""
    known = names()
    for name, said, kind in (
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "all_to_allv", "all_to_all"),
        ("ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)", "_reduce_scatter_base", "reduce_scatter"),
        ("ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)", "allreduce_coalesced", "all_reduce"),
    ):
        fit = known.of_kernel(name, {"Collective name": said})
        assert fit is not None
        assert fit.kind == kind


KERNELS = [
    (name, entry["kind"], entry["generic"])
    for entry in yaml.safe_load(Path(__file__).with_name("kernels.yaml").read_text())
    for name in entry["names"]
]


@pytest.mark.parametrize(("name", "kind", "generic"), KERNELS)
def test_kernels(name: str, kind: str, generic: bool) -> None:
    fit = names().of_kernel(name, {})
    assert fit is not None
    assert (fit.kind, fit.generic) == (kind, generic)


def test_a_kernel_that_nobody_knows() -> None:
    assert names().of_kernel("my_own_kernel(float*)", {}) is None


def test_everything_that_is_predicted_has_a_kind() -> None:
    known = names()
    assert set(known.of_stream) == set(StreamKind)
    assert sum(len(kind.streams) for kind in known.kinds.values()) == len(StreamKind)
    product = MatrixProduct(m=1.0, n=1.0, k=1.0, element_bytes=2.0)
    attention = FusedAttention(
        queries=1.0, keys=1.0, batch=1.0, heads=1.0, key_value_heads=1.0, head_size=64.0, causal=0.0
    )
    stream = Stream(kind=StreamKind.ROTARY, moved_bytes=1.0, kernels=1.0)
    requests: list[tuple[Request | None, str, str]] = [
        (product, "feed_forward", "matrix_products"),
        (product, "optimizer", "optimizer"),
        (attention, "attention", "attention"),
        (stream, "attention", "elementwise"),
        (Collective(kind="reduce_scatter", message_bytes=1.0, degree=2.0, stride=1.0), "optimizer", "reduce_scatter"),
        (Send(message_bytes=1.0, degree=2.0, stride=1.0), "pipeline_transfer", "send"),
        (HostCopy(moved_bytes=1.0), "offload", "copies"),
        (HostWork(seconds=1.0), "step_overhead", "idle"),
        (None, "host", "idle"),
    ]
    for request, part, kind in requests:
        assert known.of_request(request, part) == kind
        assert kind in known.kinds


def test_constants_that_are_named_exist() -> None:
    stack, device = load_stack("megatron-lm"), load_class("a100-sxm")
    for kind in names().kinds.values():
        assert set(kind.touches) <= {"class", "link", "stack", "fitted"}
        assert set(kind.touches.get("fitted", ())) <= set(KINDS)
        assert set(kind.touches.get("link", ())) <= set(LinkClass.model_fields)
        for name in kind.touches.get("stack", ()):
            first, _, rest = name.partition(".")
            assert hasattr(getattr(stack, first), rest) if rest else hasattr(stack, first)
        for name in kind.touches.get("class", ()):
            first, _, rest = name.partition(".")
            each = getattr(device, first)
            assert hasattr(each["bf16"] if isinstance(each, dict) else each, rest) if rest else isinstance(each, float)
