"""What if: a scenario priced again with some of its places changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from hardware.errors import InputError
from hardware.spec import System
from simulator.answers.estimate import Estimate, answer
from simulator.scenario.scenario import Named, Scenario
from simulator.specs.model import Model
from simulator.variations.changes import Baseline, Changes, Question, baseline, question
from simulator.variations.expressions import Varied, Vary, WrongValueError, parse
from simulator.variations.places import WHOLE, Edit

MOST = 10_000
"""The most variations that are priced at once, some minutes of work."""


@dataclass(frozen=True)
class Variation:
    """The scenario with some places changed, and its answer."""

    changes: tuple[Edit, ...]
    estimate: Estimate | None
    """What `simulator.estimate` says of the changed scenario; nothing where it breaks a rule."""
    time_ratio: float | None
    """Time of a token over that of the scenario as it is: comparable also where batch and sequence length differ."""
    problem: str | None = None
    """The rule that it breaks, or what it needs too much of."""
    note: str | None = None
    """What else had to change with it."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values; the estimate has the keys of ``capsim estimate --json``."""
        return {
            "changes": [edit.to_dict() for edit in self.changes],
            "fits": self.estimate.fits if self.estimate else None,
            "time_per_token_ratio": self.time_ratio,
            "problem": self.problem,
            "note": self.note,
            "estimate": self.estimate.to_dict() if self.estimate else None,
        }


@dataclass(frozen=True)
class WhatIf:
    """A scenario as it is, and its variations."""

    base: Estimate
    paths: tuple[str, ...]
    replan: bool
    """Whether what was left open of the plan was chosen anew for each variation."""
    variations: tuple[Variation, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "paths": list(self.paths),
            "replan": self.replan,
            "base": self.base.to_dict(),
            "variations": [variation.to_dict() for variation in self.variations],
        }


def whatif(
    model: Named | Model,
    system: str | Path | System | None = None,
    *,
    vary: Vary,
    replan: bool = False,
    **scenario: Any,
) -> WhatIf:
    """Estimate a scenario again with some of its places changed; several places make every combination.

    Parameters
    ----------
    model, system
        As `simulator.estimate` takes them.
    vary
        Expressions such as ``system.inter_node.bandwidth=0.5x,2x``, or a mapping from such paths to values. A value is
        a multiple (``0.5x``), a difference (``-20%``), or what is to stand there (``3 TB/s``, ``full``, ``dgx-h100``).
    replan
        Whether what the scenario leaves open of plan and stack is chosen anew for each variation; otherwise all keep
        what was chosen for the scenario as it is.

    **scenario
        What else `simulator.estimate` takes: devices, plan, stack, workload, price, ...

    Raises
    ------
    InputError
        One sentence, where the scenario, a place or a value is wrong. A variation that breaks a rule says so itself.

    Examples
    --------
    >>> varied = whatif("bert-large", "dgx-a100-640gb", vary="system.device.memory_bandwidth=0.5x,1x")
    >>> [variation.time_ratio for variation in varied.variations][1]
    1.0
    """
    return of_baseline(baseline(model, system, **scenario), vary, replan=replan)


def of_baseline(base: Baseline, vary: Vary, *, replan: bool) -> WhatIf:
    """Vary a scenario that is complete."""
    varied = parse(vary)
    number = math.prod(len(each.values) for each in varied)
    if number > MOST:
        factors = " x ".join(str(len(each.values)) for each in varied)
        raise InputError(f"{factors} = {number:,} variations are too many; at most {MOST:,} are estimated at once")
    check(base, varied, replan=replan)
    before, paths = answer(base.scenario), tuple(each.path for each in varied)
    rows = (dict(zip(paths, values, strict=True)) for values in product(*(each.values for each in varied)))
    return WhatIf(before, paths, replan, tuple(priced(base, before, row, replan=replan) for row in rows))


def check(base: Baseline, varied: Sequence[Varied], *, replan: bool) -> None:
    """Refuse places and values that are wrong before anything is priced.

    A figure counts as wrong where neither the scenario nor any part that replaces one of its parts can have it.

    Raises
    ------
    WrongValueError
        With the place, the value and what would be valid.
    """
    if not varied:
        raise InputError("nothing is varied; give a place and its values, such as system.inter_node.bandwidth=0.5x,2x")
    frames: list[Changes] = [{}]
    for each in sorted(varied, key=lambda each: each.path not in WHOLE):
        changes: list[Changes] = [{each.path: value} for value in each.values]
        for change in changes:
            _check(base, change, frames[:1] if each.path in WHOLE else frames, replan=replan)
        if each.path in ("system", "model", "stack"):
            frames += changes


def _check(base: Baseline, change: Changes, frames: Sequence[Changes], *, replan: bool) -> None:
    """Refuse a change that can stand in none of the frames; what contradicts something else is left to its row."""
    refusals = []
    for frame in frames:
        try:
            question(base, {**frame, **change}, replan=replan)
        except WrongValueError as error:
            refusals.append(error)
        except InputError:
            return
        else:
            return
    raise refusals[0]


def priced(base: Baseline, before: Estimate, changes: Changes, *, replan: bool, adapt: bool = False) -> Variation:
    """Price one variation.

    Parameters
    ----------
    base, before
        The scenario as it is, and its answer.
    changes
        What each place becomes.
    replan
        Whether what was left open of plan and stack is chosen anew.
    adapt
        Whether a plan that breaks a rule may have other replicas and another micro-batch, given or not.
    """
    edits: tuple[Edit, ...] = tuple(Edit(path, value.text, value.text) for path, value in changes.items())
    try:
        asked = question(base, changes, replan=replan)
        edits = asked.edits
        scenario = _adapted(asked) if adapt else asked.scenario()
        same = replace(scenario, assumed=base.scenario.assumed) == base.scenario
        estimate = before if same else answer(scenario)
    except InputError as error:
        return Variation(edits, None, None, problem=str(error))
    notes: list[str | None] = [_note(base, scenario)] if adapt and not replan else []
    if scenario.stack.id != base.scenario.stack.id and "stack" not in changes and not replan:
        notes.append(f"with {scenario.stack.id}, since {base.scenario.stack.id} lacks it")
    notes.append(_other_price(base, scenario, changes))
    note = "; ".join(filter(None, notes)) or None
    lacking = next((warning for warning in estimate.warnings if warning.startswith("does not fit")), None)
    return Variation(edits, estimate, token_time(estimate) / token_time(before), problem=lacking, note=note)


def _adapted(asked: Question) -> Scenario:
    """Complete a variation with as little changed of its plan as makes it keep the rules."""
    for open_fields in ((), ("dp",)):
        with suppress(InputError):
            return asked.scenario(open_fields=open_fields)
    return asked.scenario(open_fields=("dp", "micro_batch"))


def _note(base: Baseline, scenario: Scenario) -> str | None:
    """Which parts of a kept plan had to give way."""
    now, was = scenario.plan, base.scenario.plan
    changed = [f"dp={now.dp} instead of {was.dp}"] if base.plan.dp is not None and now.dp != was.dp else []
    changed += (
        [f"micro-batch {now.micro_batch} instead of {was.micro_batch}"] if now.micro_batch != was.micro_batch else []
    )
    return ", ".join(changed) or None


def _other_price(base: Baseline, scenario: Scenario, changes: Changes) -> str | None:
    """By which other offer it is priced, where nobody varies what decides that by name."""
    now, was = scenario.price, base.scenario.price
    if now is None or was is None or now.rate == was.rate or not {"price", "price_kind", "system"}.isdisjoint(changes):
        return None
    rates = f"{now.rate * 3600:.2f} USD/h instead of {was.rate * 3600:.2f}"
    return f"priced by {now.offer} of {now.provider}, {rates}: the cheapest offer for {scenario.devices:,} devices"


def token_time(estimate: Estimate) -> float:
    """Time of one token [s]."""
    return float(estimate.step_time_s / estimate.workload["tokens_per_step"])
