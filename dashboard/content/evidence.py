"""Published runs beside what is predicted of them: computed once for all sessions, grouped and filtered; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from threading import Lock, Thread
from typing import Any, Generic, TypeVar, get_args

import yaml

import simulator
from dashboard.content.answers import Tell
from hardware import units
from hardware.catalogue import load_device
from hardware.errors import InputError, shown
from simulator import Estimate, Validation
from simulator.corpus import runs
from simulator.corpus.explaining import explain
from simulator.corpus.runs import Run
from simulator.evidence import scores
from simulator.evidence.plan_order import OrderScore
from simulator.evidence.scores import Outcome, Scheme, Score

GROUPINGS = ("device class", "stack", "source", "task")
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
OTHERS = "others"
PYTHON = """import simulator

validation = simulator.validate().to_dict()
print(validation["median_abs_error"], validation["interval_coverage_90"])
for source, score in validation["by_source"].items():
    print(source, score["rows"], score["median_abs_error"], score["coverage_90"])
for run in validation["runs"]:
    print(run["id"], run["measured_s"], run["predicted_s"], run["low_s"], run["high_s"])"""
"""A program that prints what the page shows."""
_PAUSE = 0.1
"""Time between two looks at work that goes on elsewhere [s]."""

Found = TypeVar("Found")


class WorkStoppedError(Exception):
    """Somebody wants the work no longer."""


class Shared(Generic[Found]):
    """Work that is done once for all sessions, and goes on when a page that waits for it is left.

    Parameters
    ----------
    compute
        Does it; it calls what it gets with words on how far it is, often.
    """

    def __init__(self, compute: Callable[[Tell], Found]) -> None:
        self._compute, self._lock = compute, Lock()
        self._future: Future[Found] | None = None
        self._said, self._wanted = "", True

    @property
    def result(self) -> Found | None:
        """What was found, where the work is done."""
        done = self._future is not None and self._future.done() and self._future.exception() is None
        return self._future.result() if done and self._future is not None else None

    def wait(self, tell: Tell) -> Found:
        """Begin where nobody has, say how far it is, and give what is found.

        Parameters
        ----------
        tell
            Called with words; what it raises ends the waiting, not the work.
        """
        while True:
            try:
                return self._begun().result(timeout=_PAUSE)
            except TimeoutError:
                tell(self._said)
            except WorkStoppedError:  # by somebody else who waited
                continue

    def stop(self) -> None:
        """End the work; it begins anew when somebody asks again."""
        with self._lock:
            self._wanted = False

    def _begun(self) -> Future[Found]:
        """The work, which goes on."""
        with self._lock:
            self._wanted = True
            if self._future is None or (self._future.done() and self._future.exception() is not None):
                self._future = Future()
                Thread(target=self._work, args=(self._future,), daemon=True).start()
            return self._future

    def _work(self, future: Future[Found]) -> None:
        """Do it, in a thread of its own."""
        try:
            future.set_result(self._compute(self._heard))
        except BaseException as error:  # whoever waits gets it
            future.set_exception(error)

    def _heard(self, words: str) -> None:
        """Keep how far it is."""
        if not self._wanted:
            raise WorkStoppedError
        self._said = words


def _validation(tell: Tell) -> Validation:
    """Price all published runs, by constants that never saw them."""
    return simulator.validate(progress=lambda what, done, of: tell(f"{done:,} of {of:,} {what}"))


VALIDATION = Shared(_validation)


@cache
def device_class(device: str) -> str:
    """The class of a device, whose constants are fitted together."""
    return load_device(device).device_class


def group_of(outcome: Outcome, grouping: str) -> str:
    """What a run is counted under."""
    return device_class(outcome.device) if grouping == "device class" else str(getattr(outcome, grouping))


def chosen(outcomes: Sequence[Outcome], words: str | None) -> tuple[Outcome, ...]:
    """Those runs whose name, model, device, stack, source or task have all of some words.

    Raises
    ------
    InputError
        Where no run has.
    """
    wanted = (words or "").lower().split()
    matching = tuple(each for each in outcomes if all(word in _described(each) for word in wanted))
    if not matching:
        raise InputError(
            f"evidence_only={shown(words)}: no run has all of this in its name, model, device, stack, source or task; "
            "such as a100 megatron",
            fields=["evidence_only"],
        )
    return matching


def _described(outcome: Outcome) -> str:
    """What words are looked for in."""
    device, run = outcome.device, next(iter(runs.named((outcome.id,))), None)
    model = run.model.name if run is not None else ""
    parts = (outcome.id, model, device, device_class(device), outcome.stack, outcome.source, outcome.task)
    return " ".join(parts).lower()


def grouped(outcomes: Sequence[Outcome], grouping: str, most: int | None = None) -> dict[str, list[Outcome]]:
    """Runs by group, the largest first; those beyond the most are put together as others.

    Parameters
    ----------
    outcomes
        The runs.
    grouping
        One of `GROUPINGS`.
    most
        Groups that are kept apart.
    """
    groups: dict[str, list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault(group_of(each, grouping), []).append(each)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    if most is None or len(ranked) <= most + 1:
        return dict(ranked)
    rest = [each for _, members in ranked[most:] for each in members]
    return {**dict(ranked[:most]), OTHERS: rest}


@dataclass(frozen=True)
class GroupScore:
    """How far off predictions are in one group."""

    name: str
    score: Score
    sure: bool
    """Whether the predictions have intervals."""


def scored(outcomes: Sequence[Outcome], grouping: str, scheme: Scheme) -> list[GroupScore]:
    """Scores of every group, the largest first."""
    return [
        GroupScore(name, scores.scored(members, scheme), scheme != "nothing fitted")
        for name, members in grouped(outcomes, grouping).items()
    ]


def score_rows(groups: Sequence[GroupScore], title: str) -> list[dict[str, Any]]:
    """Scores as a table whose columns sort as numbers, errors in percent."""
    return [{title: each.name, **_scores(each.score), **(_limits(each.score) if each.sure else {})} for each in groups]


def _scores(score: Score) -> dict[str, Any]:
    """Errors in percent."""
    return {
        "runs": score.rows,
        "median error": 100.0 * score.median_abs_error,
        "mean error": 100.0 * score.mean_abs_error,
        "90th percentile": 100.0 * score.p90_abs_error,
        "bias": 100.0 * score.bias,
    }


def _limits(score: Score) -> dict[str, Any]:
    """What intervals hold, and the typical one."""
    return {"inside 90 %": 100.0 * score.coverage_90, "interval": f"x{score.low:.2f} to {score.high:.2f}"}


def merit(outcomes: Sequence[Outcome]) -> list[GroupScore]:
    """Scores of all runs by each scheme."""
    return [GroupScore(scheme, scores.scored(outcomes, scheme), scheme != "nothing fitted") for scheme in SCHEMES]


def told(outcome: Outcome, scheme: Scheme, run: Run | None) -> str:
    """One run in words, for a tooltip."""
    outcome_ = outcome.by(scheme)
    range_ = f", 90 %: {units.span(outcome_.low_s, outcome_.high_s)}" if outcome_.low_s != outcome_.high_s else ""
    number = f"{run.hardware.devices:,.0f} " if run is not None and run.hardware.devices else ""
    model = f"{run.model.name} on " if run is not None and run.model.name else ""
    lines = [
        f"<b>{outcome.id}</b>",
        f"{model}{number}{outcome.device}, {outcome.stack}",
        f"measured {units.duration(outcome_.measured_s)}",
        f"predicted {units.duration(outcome_.predicted_s)} ({100.0 * outcome_.error:+.1f} %){range_}",
        *([run.source.title[:70]] if run is not None else []),
    ]
    return "<br>".join(lines)


def by_id(outcomes: Sequence[Outcome]) -> Mapping[str, Run]:
    """The published runs that were priced."""
    return {run.id: run for run in runs.named(each.id for each in outcomes)}


def run_rows(outcomes: Sequence[Outcome], scheme: Scheme) -> list[dict[str, Any]]:
    """Runs as a table in SI units, with their sources."""
    known = by_id(outcomes)
    return [_run_row(each, scheme, known.get(each.id)) for each in outcomes]


def _run_row(outcome: Outcome, scheme: Scheme, run: Run | None) -> dict[str, Any]:
    """One run."""
    scored = outcome.by(scheme)
    return {
        "run": outcome.id,
        "model": run.model.name if run else "",
        "device": outcome.device,
        "devices": run.hardware.devices if run else None,
        "stack": outcome.stack,
        "task": outcome.task,
        "measured_s": scored.measured_s,
        "predicted_s": scored.predicted_s,
        "error_percent": 100.0 * scored.error,
        "low_s": scored.low_s,
        "high_s": scored.high_s,
        "inside": "yes" if scored.covered else "no",
        "source": run.source.title if run else outcome.source,
        "where": run.source.where if run else "",
        "seen": run.source.seen if run else "",
    }


def order_rows(validation: Validation) -> list[dict[str, Any]]:
    """How well predictions order runs that differ in their plan only, shares in percent."""
    scored = [
        (name, score)
        for scheme, order in validation.ranking.items()
        for name, score in ((scheme, order.whole), (f"{scheme}, without {order.least_explained}", order.others))
    ]
    return [_order_row(name, score) for name, score in scored if score is not None]


def _order_row(name: str, score: OrderScore) -> dict[str, Any]:
    """How well some predictions do."""
    return {
        "constants had seen": name,
        "groups": score.groups,
        "runs": score.runs,
        "mean regret": 100.0 * score.regret_mean,
        "median regret": 100.0 * score.regret_median,
        "pairs": score.pairs,
        "in order": 100.0 * score.pairs_right,
    }


def read_rows(run: Run) -> list[dict[str, str]]:
    """How a run is read: every field, the rule and word that decided, and what follows of it."""
    return [
        {
            "field": row.field,
            "published": "" if row.published is None else row.published,
            "rule": row.rule,
            "word": row.word,
            "result": row.result,
        }
        for row in explain(run).fields
    ]


def read_words(run: Run) -> list[str]:
    """Why a run is not priced, or what was assumed where it tells nothing."""
    explained = explain(run)
    refused = [] if explained.refused is None else [f"Not priced: {explained.refused}"]
    return [*refused, *(f"Assumed: {each}" for each in explained.assumed)]


def nearest(estimate: Estimate) -> tuple[Run, ...]:
    """The published runs that are most like a scenario."""
    return runs.named((estimate.evidence or {}).get("nearest", ()))


def nearest_rows(estimate: Estimate, validation: Validation | None) -> list[dict[str, str]]:
    """The runs that are most like a scenario, with their prediction where it is known."""
    known = {each.id: each for each in validation.outcomes} if validation is not None else {}
    return [_nearest_row(run, known.get(run.id)) for run in nearest(estimate)]


def _nearest_row(run: Run, outcome: Outcome | None) -> dict[str, str]:
    """One published run in words, with its prediction where that is known."""
    hardware, plan, measured = run.hardware, run.plan, run.measured.step_time_s
    batch = f"{plan.global_batch:,.0f} x " if plan.global_batch else ""
    length = f"{run.model.seq_len:,.0f} tokens" if run.model.seq_len else ""
    return {
        "run": run.id,
        "measured": units.duration(measured) if measured else "",
        "predicted": units.duration(outcome.predicted_s) if outcome else "",
        "model": run.model.name,
        "devices": f"{hardware.devices or 1:,.0f} {hardware.device}",
        "batch": f"{batch}{length}",
        "software": ", ".join(word for word in (plan.framework, plan.precision) if word),
        "source": f"{run.source.title}: {run.source.where}",
        "seen": run.source.seen,
    }


def as_scores(validation: Validation) -> dict[str, Any]:
    """The scores as plain data, without the single runs."""
    return {name: value for name, value in validation.to_dict().items() if name != "runs"}


def as_yaml(validation: Validation) -> str:
    """The scores as YAML, without the single runs."""
    return yaml.safe_dump(as_scores(validation), sort_keys=False, allow_unicode=True)
