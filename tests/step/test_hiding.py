"""What hides, hides behind named work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import simulator
from hardware.catalogue import load_system
from simulator.formulas.flops import seen_keys
from simulator.formulas.typing import Num
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.constants import Shifts
from simulator.pricing.requests import Collective
from simulator.specs.loading import load_stack
from simulator.step.time import step_time
from tests.work.asking import Told, plain, program


@pytest.mark.parametrize(("tokens", "cp", "devices", "exposed"), [(2048, 64, 64, 8.5), (131_072, 16, 16, 0.0)])
def test_a_ring_shows_what_attention_does_not_cover(tokens: int, cp: int, devices: int, exposed: float) -> None:
    answer = simulator.estimate(
        "llama-3-8b",
        "superpod-h100",
        devices=devices,
        stack="megatron-lm",
        plan={"cp": cp, "micro_batch": 1, "tp": 1, "pp": 1},
        workload={"sequence_length": tokens, "global_batch": 64},
    )
    shown, attention = answer.breakdown_s["context_parallel"], answer.breakdown_s["attention"]
    # 64 transfers of some 20 us for each layer, all of which attention does not cover.
    assert shown == pytest.approx(exposed, abs=max(0.01 * attention, 0.3))


def test_a_window_is_not_halved_again() -> None:
    """A causal window of w keys: w (1 - w / 2s) of them in the mean."""
    assert float(seen_keys(8192, 4096, causal=1)) / 2 == 4096 * (1 - 4096 / (2 * 8192))
    assert float(seen_keys(8192, 4096, causal=0)) == 4096
    times = {
        tokens: [
            simulator.estimate(
                {"base": "mistral-7b", "sliding_window": window},
                "dgx-h100",
                stack="megatron-lm",
                plan={"tp": 1, "pp": 1, "micro_batch": 1, "recompute": "none"},
                workload={"sequence_length": tokens, "global_batch": 64},
            ).breakdown_s["attention"]
            for window in (4096, None)
        ]
        for tokens in (4096, 8192, 32_768)
    }
    assert times[4096][0] == times[4096][1]
    assert times[8192][0] / times[8192][1] == pytest.approx(0.75, rel=0.02)
    assert times[32_768][0] / times[32_768][1] == pytest.approx(4096 / 16_384 * (1 - 4096 / 65_536), rel=0.05)


@pytest.mark.parametrize(
    ("system", "devices", "least_ms"),
    [("tpu-v5p-pod", 512, 10.0), ("tpu-v5p-pod", 4096, 20.0), ("tpu-v5e-pod", 256, 40.0)],
)
def test_an_all_to_all_crosses_the_middle_of_a_torus(system: str, devices: int, least_ms: float) -> None:
    """1 GB of each device: not faster than the links across the bisection carry it."""
    backend = AnalyticBackend.of(load_system(system), devices, "bf16")
    asked = Collective(kind="all_to_all", message_bytes=1e9, degree=float(devices), stride=1.0)
    assert float(backend.time(asked)) * 1e3 >= least_ms
    assert float(backend.time(asked)) * 1e3 < 1.6 * least_ms


def test_tensor_exchanges_hide_behind_products_only() -> None:
    """However much a stack overlaps, an exchange shows what the products beside it do not cover."""
    step_program = program("gpt2-355m", {"tp": 4}, tensor_overlap=1.0)
    long = Told(lambda request: 100.0 if isinstance(request, Collective) else 1.0)
    short = Told(lambda request: 1e-3 if isinstance(request, Collective) else 1.0)
    assert plain(step_time(step_program, long).parts["tensor_parallel"]) > 0.9 * plain(
        step_time(program("gpt2-355m", {"tp": 4}), long).parts["tensor_parallel"]
    )
    assert plain(step_time(step_program, short).parts["tensor_parallel"]) < 0.02


@dataclass(frozen=True)
class Apart(Told):
    """No two ranks share a node."""

    def leaves_node(self, request: Collective) -> Num:
        """They leave it."""
        return np.ones_like(request.degree)


def test_tensor_exchanges_hide_between_nodes_as_far_as_the_stack_hides_them_there() -> None:
    hidden = program("gpt2-355m", {"tp": 4}, tensor_overlap=0.9, tensor_overlap_across=0.4)
    shown = [
        plain(
            step_time(hidden, backend(lambda request: 1e-3 if isinstance(request, Collective) else 10.0)).parts[
                "tensor_parallel"
            ]
        )
        for backend in (Told, Apart)
    ]
    # Corners are soft where what hides is not much shorter than what it hides behind.
    assert shown[0] / shown[1] == pytest.approx(0.1 / 0.6, rel=0.1)


@pytest.mark.parametrize("stack", ["megatron-lm", "megatron-bridge", "nemo"])
def test_user_buffers_end_at_the_node(stack: str) -> None:
    """They write to the memory of a peer over NVLink; what is left between nodes is two of five exchanges."""
    columns = load_stack(stack).columns()
    shifted = Shifts(tensor_overlap=2.0).on_stacks(columns)
    assert float(shifted.tensor_overlap) > columns.tensor_overlap + 0.2
    assert float(shifted.tensor_overlap_across) == columns.tensor_overlap_across == 0.4
    for system, degree, leaves in (
        ("dgx-h100", 8, 0),
        ("dgx-h100", 16, 1),
        ("gb200-nvl72", 16, 0),
        ("superpod-a100", 9, 1),
    ):
        backend = AnalyticBackend.of(load_system(system), degree, "bf16")
        asked = Collective(kind="all_gather", message_bytes=1e9, degree=float(degree), stride=1.0)
        assert float(backend.leaves_node(asked)) == leaves


def test_exchanges_of_one_torus_hide_alike_at_any_degree() -> None:
    """XLA hides exchanges over the links between chips, of which a host's four are no border."""
    backend, stack = AnalyticBackend.of(load_system("tpu-v4-pod"), 64, "bf16"), load_stack("xla-tpu").columns()
    asked = Collective(kind="all_gather", message_bytes=1e9, degree=16.0, stride=1.0)
    assert float(backend.leaves_node(asked)) == 1.0
    shifted = Shifts(tensor_overlap=1.0).on_stacks(stack)
    assert float(shifted.tensor_overlap_across) == float(shifted.tensor_overlap) > stack.tensor_overlap
