"""Compiled steps: measured where the machine can compile, and one sentence where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from measure.clock import bench as benches
from measure.clock.bench import Bench
from measure.clock.cases import plan_of, scope_of
from measure.clock.compiling import compiled
from measure.clock.kernels import UnsupportedError
from measure.clock.steps import TrainingStep
from measure.clock.timer import TINY, Effort
from measure.device.machines import Cpu
from measure.report import lines
from measure.runs.forecast import Forecast
from measure.runs.session import MeasuringSession
from simulator.profiling.records.record import Case, Result
from simulator.profiling.records.scenarios import shrunk
from simulator.specs.loading import load_model
from tests.measure.fakes import FakeMachine, measured
from tests.measure.test_record import record_of

PALM = shrunk(load_model("palm-8b"))
CASE = Case(
    phase="step",
    operation="compiled",
    dimensions={"layers": 1, "sequence_length": 16, "micro_batch": 2},
    dtype="fp32",
    variant=f"{PALM.id}/fused",
)
QUICK = partial(compiled, backend="aot_eager")
"""Traces and differentiates as every compiler does, and makes no kernels, which would take most of a minute."""


class Small(nn.Module):
    """One kernel forward, and one backward."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.randn(64)), function

    def forward(self, batch: Tensor) -> Tensor:
        return self.function(batch * self.weight).sum()


def step_with(function: Callable[[Tensor], Tensor]) -> TrainingStep:
    module: Any = Small(function)
    batch: Any = torch.randn(8, 64)
    return TrainingStep(module, module, batch, torch.optim.SGD(module.parameters(), lr=0.0), Cpu(), nullcontext)


def run(case: Case = CASE) -> Result:
    return Bench(Cpu(), TINY, {PALM.id: PALM}).run(case)


def test_a_compiler_makes_kernels_that_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a true compiler, in a folder of its own so that it has to work."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    step = step_with(torch.tanh)
    eager = step.loss(step.batch)
    with compiled(step, Cpu()):
        loss = step.loss(step.batch)
        step.run()
    torch.testing.assert_close(loss, eager)
    assert list(tmp_path.rglob("*.so"))


def test_a_compiled_step_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "compiled", QUICK)
    result = run()
    assert result.outcome == "measured", result.reason
    assert result.times is not None
    assert set(result.parts) == {"forward", "backward", "optimizer"}
    assert result.model is not None
    assert result.flops == run(CASE.model_copy(update={"operation": "train"})).flops > 0
    assert f"Step         compiled {PALM.id}/fused layers=1" in "\n".join(lines(record_of(result)))


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "CXX",
            "no-such-compiler",
            "torch.compile needs a C++ compiler on a CPU, and no-such-compiler is not installed",
        ),
        ("TORCHDYNAMO_DISABLE", "1", "torch.compile is switched off by TORCHDYNAMO_DISABLE=1"),
        ("TORCH_COMPILE_DISABLE", "1", "torch.compile is switched off by TORCH_COMPILE_DISABLE=1"),
    ],
)
def test_where_nothing_can_be_compiled_one_sentence_says_so(
    variable: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    result = run()
    assert (result.outcome, result.reason) == ("unsupported", sentence)


def test_a_compiler_that_fails_is_one_sentence() -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise OSError("no space left\nand more")

    with (
        pytest.raises(UnsupportedError, match=r"^torch\.compile: no space left$"),
        compiled(step_with(torch.tanh), Cpu(), backend=fails),
    ):
        pytest.fail("it was compiled")


def test_what_is_not_compiled_whole_is_not_measured() -> None:
    def breaks(values: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return values

    with pytest.raises(UnsupportedError, match=r"^torch\.compile: .+$"), QUICK(step_with(breaks), Cpu()):
        pytest.fail("it was compiled")


def test_memory_that_runs_out_is_said_to_be_so() -> None:
    def runs_out(values: Tensor) -> Tensor:
        raise RuntimeError("CUDA out of memory. Tried to allocate 80.00 GiB.")

    with pytest.raises(RuntimeError, match="out of memory") as caught, QUICK(step_with(runs_out), Cpu()):
        pytest.fail("it ran")
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_they_come_after_the_eager_steps_and_only_where_there_is_time(kind: str) -> None:
    """A minute has none of them, even if all else takes no time; half an hour has them."""
    models = {model.id: model for model in (load_model("bert-large"), load_model("palm-8b"))}
    plan = plan_of(scope_of(kind), list(models.values())).cases
    steps = [case for tier, case in plan if tier == "step" and case.phase == "step"]
    names = [case.operation for case in steps]
    assert names == sorted(names, reverse=True)
    assert names.count("compiled") == 4
    machine = FakeMachine(free=1e12)
    machine.kind = kind
    for budget, number in ((30.0, 0), (1800.0, 4)):
        results: list[Result] = []
        forecast = Forecast(machine, Effort.within(budget), models, None)

        class Lab:
            def run(self, case: Case) -> Result:
                return measured(case)

            def add(self, result: Result) -> None:
                results.append(result)  # noqa: B023

        tiers = [entry for entry in plan if entry[1].operation == "compiled"]
        MeasuringSession(Lab(), forecast, Lab(), budget, clock=lambda: 0.0).run(tiers)
        assert len(results) == number
