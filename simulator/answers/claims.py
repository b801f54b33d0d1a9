"""Published facts and claims beside what capsim says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware.reading import build, read_mapping
from simulator.answers.estimate import Estimate, answer
from simulator.answers.serving.estimate import ServingEstimate, serve
from simulator.evidence import held_out
from simulator.scenario.scenario import Scenario, complete, resolve
from simulator.specs.loading import ScenarioFile
from simulator.work.program import program_of

_FILE = Path(__file__).with_name("claims.yaml")
_PLAIN = ConfigDict(frozen=True, extra="forbid")


class Claim(BaseModel):
    """One published figure and the scenario it belongs to."""

    model_config = _PLAIN

    claim: str
    source: str
    scenario: str
    against: str | None = None
    """Makes the quantity a ratio: that of this scenario over that of the first."""
    quantity: Literal[
        "parameters",
        "model_flops_per_token",
        "mfu",
        "hfu",
        "tokens_per_s",
        "step_time_s",
        "run_minutes",
        "memory_share",
        "kept_bytes_per_layer",
        "tpot_s",
        "ttft_s",
        "prefill_mfu",
        "decode_mfu",
        "largest_context",
    ]
    claimed: float
    relation: Literal["equal", "at least", "at most"] = "equal"
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    note: str | None = None


class Ranking(BaseModel):
    """One workload on several systems."""

    model_config = _PLAIN

    title: str
    model: str
    workload: dict[str, Any]
    devices: int
    stack: str | None = None
    systems: tuple[str, ...]


class Claims(BaseModel):
    """The whole file."""

    model_config = _PLAIN

    left_out: dict[str, str]
    """For the beginning of a scenario's name the source whose runs its constants must not have seen."""
    scenarios: dict[str, ScenarioFile]
    serving: dict[str, dict[str, Any]] = {}
    """Arguments of `simulator.serve`, by the name of a scenario."""
    claims: tuple[Claim, ...]
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True)
class ComparedClaim:
    """A claim beside the prediction."""

    claim: str
    quantity: str
    is_ratio: bool
    claimed: float
    relation: str
    predicted: float
    error: float
    """Predicted over claimed, less one."""
    tolerance: float
    reproduced: bool
    source: str
    note: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def load() -> Claims:
    """Read the published claims."""
    return build(Claims, read_mapping(_FILE), path=_FILE)


_QUANTITIES: dict[str, Callable[[Scenario, Estimate], float]] = {
    "parameters": lambda _, estimate: estimate.parameters,
    "model_flops_per_token": lambda _, estimate: estimate.model_flops_per_step / estimate.workload["tokens_per_step"],
    "mfu": lambda _, estimate: estimate.mfu,
    "hfu": lambda _, estimate: estimate.hfu,
    "tokens_per_s": lambda _, estimate: estimate.tokens_per_s,
    "step_time_s": lambda _, estimate: estimate.step_time_s,
    "run_minutes": lambda _, estimate: estimate.run.time_s / 60.0,
    "memory_share": lambda _, estimate: estimate.memory_bytes["total"] / estimate.memory_bytes["capacity"],
    "kept_bytes_per_layer": lambda scenario, _: float(program_of(scenario.columns()).largest_layer.saved_bytes),
}

_SERVED: dict[str, Callable[[ServingEstimate], float]] = {
    "tpot_s": lambda served: served.tpot_s,
    "ttft_s": lambda served: served.ttft_s,
    "prefill_mfu": lambda served: _mfu(served, served.load["input_tokens"], served.ttft_s),
    "decode_mfu": lambda served: _mfu(served, 1.0, served.tpot_s),
    "largest_context": lambda served: float(served.largest_context),
}


def _mfu(served: ServingEstimate, tokens: float, seconds: float) -> float:
    """Utilisation as Pope et al. count it: two operations for each published parameter and token, none of attention."""
    scenario = served.scenario
    assert scenario is not None
    done = 2.0 * (scenario.model.published_parameters or 0.0) * served.load["batch"] * tokens
    return float(done / (seconds * served.devices * float(scenario.device.peak.bf16 or 0.0)))


def compare() -> list[ComparedClaim]:
    """Price the scenario of every claim and hold it against the published figure."""
    published = load()
    priced: dict[str, tuple[Scenario, Estimate]] = {}
    served: dict[str, ServingEstimate] = {}

    def value(name: str, quantity: str) -> float:
        if name in published.serving:
            if name not in served:
                served[name] = serve(**published.serving[name])
            return _SERVED[quantity](served[name])
        if name not in priced:
            scenario = _unseen(complete(published.scenarios[name]), name, published.left_out)
            priced[name] = scenario, answer(scenario)
        return _QUANTITIES[quantity](*priced[name])

    return [_compared(claim, value) for claim in published.claims]


def _unseen(scenario: Scenario, name: str, left_out: dict[str, str]) -> Scenario:
    """The scenario with constants that were fitted without the source of the claim."""
    source = next((source for start, source in left_out.items() if name.startswith(start)), None)
    return scenario if source is None else replace(scenario, constants=held_out.shipped().by_source[source])


def _compared(claim: Claim, value: Callable[[str, str], float]) -> ComparedClaim:
    """Hold one claim against the prediction."""
    predicted = value(claim.scenario, claim.quantity)
    if claim.against is not None:
        predicted = value(claim.against, claim.quantity) / predicted
    error = predicted / claim.claimed - 1.0
    kept = {"equal": abs(error) <= claim.tolerance, "at least": error >= 0.0, "at most": error <= 0.0}
    return ComparedClaim(
        claim=claim.claim,
        quantity=claim.quantity,
        is_ratio=claim.against is not None,
        claimed=claim.claimed,
        relation=claim.relation,
        predicted=predicted,
        error=error,
        tolerance=claim.tolerance,
        reproduced=kept[claim.relation],
        source=claim.source,
        note=claim.note,
    )


def rank(ranking: Ranking) -> list[Estimate]:
    """Price one workload on several systems, fastest first, those that do not fit last."""
    estimates = [
        answer(resolve(ranking.model, system, devices=ranking.devices, stack=ranking.stack, workload=ranking.workload))
        for system in ranking.systems
    ]
    return sorted(estimates, key=lambda estimate: (not estimate.fits, estimate.run.time_s))
