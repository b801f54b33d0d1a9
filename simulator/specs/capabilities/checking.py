"""Refusing what a stack lacks, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from hardware.errors import InputError
from simulator.specs.capabilities.offers import Offer, offered, offers_of, terms_of, words_of
from simulator.specs.capabilities.refusals import NUMBERS, OF_PLANS, WORDS, Mask, Terms
from simulator.specs.choices import RECOMPUTES
from simulator.specs.loading import load_stack, names
from simulator.specs.model import Model
from simulator.specs.plan import Plan, columns_of
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_FROM_OTHERS = {"micro_batches": ("dp", "micro_batch"), "dp_stride": ("dp", "placement"), "pp_stride": ("pp",)}
"""Numbers that follow from fields of a plan."""
_LISTED = 4
"""Other stacks that a refusal names at most."""


def refuse_lacking(plan: Plan, model: Model, workload: Workload, stack: Stack, *, open_plan: bool = False) -> None:
    """Refuse a plan that a stack cannot run.

    Parameters
    ----------
    plan
        The plan.
    model, workload, stack
        What it is for.
    open_plan
        Whether fields that the plan leaves open are chosen later, so that only what all its fields are known of counts.

    Raises
    ------
    InputError
        With what is missing, and which other stacks have it, or why a combination is refused.
    """
    broken = list(_broken(plan, model, workload, stack, open_plan=open_plan))
    missing = [offer for offer in broken if offer.lacking is not None]
    if not broken:
        return
    written = _written(plan, model, workload)
    if missing:
        what = ", ".join(str(offer.lacking).format(**written) for offer in missing)
        others = list(_others(plan, model, workload, stack, open_plan=open_plan))
        able = f"take one that has, such as {', '.join(others[:_LISTED])}"
        hint = able if others else "nor has another for its devices"
        sentence = f"stack={stack.id} has no {what}{_listed(stack, missing)}; {hint}"
    else:
        sentence = f"stack={stack.id}: {str(broken[0].sentence).format(**written)}"
    fields = sorted({name for offer in (missing or broken[:1]) for name in offer.names if name in Plan.model_fields})
    of_work = ["workload.base_precision"] if any("quantised_base" in offer.names for offer in missing) else []
    of_work += ["workload.multi_token"] if any("multi_token" in offer.names for offer in missing) else []
    raise InputError(sentence, fields=[*(f"plan.{name}" for name in fields), *of_work, "stack"])


def lacks(plan: Plan, model: Model, workload: Workload, stack: Stack) -> str:
    """What a stack lacks of what is known of a plan, in words such as ``schedule=zero-bubble``; nothing if nothing."""
    broken = _broken(plan, model, workload, stack, open_plan=True)
    written = _written(plan, model, workload)
    return ", ".join(str(offer.lacking or offer.sentence).format(**written) for offer in broken)


def is_offered(plan: Plan, model: Model, workload: Workload, stack: Stack, *, open_plan: bool = True) -> bool:
    """Whether a stack can run what is known of a plan."""
    return not any(True for _ in _broken(plan, model, workload, stack, open_plan=open_plan))


def offered_plans(plans: Sequence[Plan], stacks: Sequence[Stack], model: Model, workload: Workload) -> Mask:
    """Which complete plans the stack of each can run.

    Parameters
    ----------
    plans, stacks
        As many of one as of the other.
    model, workload
        What they are for.
    """
    kept = np.ones(len(plans), dtype=np.bool_)
    order = sorted(range(len(plans)), key=lambda index: stacks[index].id)
    for _, group in groupby(order, key=lambda index: stacks[index].id):
        members = list(group)
        some = [plans[index] for index in members]
        kept[members] = offered(stacks[members[0]], _terms(some, model, workload))
    return kept


def _terms(plans: Sequence[Plan], model: Model, workload: Workload) -> Terms:
    """What conditions may name, of complete plans."""
    return terms_of(columns_of(plans, workload), model.columns(), workload.columns(), words_of(plans))


def _broken(plan: Plan, model: Model, workload: Workload, stack: Stack, *, open_plan: bool) -> Iterator[Offer]:
    """What a plan breaks, of all that is certain."""
    known = _known(plan) if open_plan else None
    for offer in offers_of(stack, _terms([_filled(plan)], model, workload)):
        certain = known is None or offer.names <= known
        if certain and not np.all(offer.kept):
            yield offer


def _known(plan: Plan) -> frozenset[str]:
    """The terms that are known of a plan that leaves fields open."""
    said = {name for name in Plan.model_fields if getattr(plan, name) is not None}
    follow = {name for name, others in _FROM_OTHERS.items() if said.issuperset(others)}
    of_plans = {*OF_PLANS, *WORDS, "placement"}
    return frozenset(said | follow | ({*NUMBERS, *WORDS} - of_plans))


def _filled(plan: Plan) -> Plan:
    """A plan whose open words are such as every stack has, for terms that are not asked for."""
    words = {"sharding": "none", "schedule": "1f1b", "recompute": RECOMPUTES[0], "optimizer": "adamw"}
    open_words = {name: word for name, word in {**words, "precision": "bf16"}.items() if getattr(plan, name) is None}
    return plan.model_copy(update=open_words)


def _written(plan: Plan, model: Model, workload: Workload) -> dict[str, str]:
    """The terms of a plan as text."""
    terms = _terms([_filled(plan)], model, workload)
    placement = {"placement": "-".join(plan.placement or ())}
    return {
        **{name: str(value.item()) if name in WORDS else f"{value.item():.15g}" for name, value in terms.items()},
        **placement,
    }


def _others(plan: Plan, model: Model, workload: Workload, stack: Stack, *, open_plan: bool) -> Iterator[str]:
    """Other stacks for the same devices that can run the plan."""
    for name in names("stacks"):
        other = load_stack(name)
        alike = other.public and other.platform == stack.platform and other.vendor in (None, stack.vendor)
        if alike and is_offered(plan, model, workload, other, open_plan=open_plan):
            yield other.id


def _listed(stack: Stack, missing: Sequence[Offer]) -> str:
    """What a stack has instead of what is missing, as a part of a sentence."""
    offers, fields = stack.offers, {name for offer in missing for name in offer.names}
    lists = {
        "sharding": ("sharding", offers.shardings),
        "schedule": ("schedule", offers.schedules),
        "recompute": ("recompute", offers.recompute),
        "recompute_modules": ("recompute_modules", offers.recompute_modules or ("of no kind",)),
        "recompute_method": ("recompute_method", offers.recompute_methods or ("of no kind",)),
        "precision": ("precision", offers.precisions),
        "optimizer": ("optimizer", offers.optimizers),
        "placement": ("placement", offers.placements or ()),
    }
    told = [", ".join(stack.axes)] if fields & {"tp", "pp", "cp", "ep"} else []
    told += [f"{word} {', '.join(values)}" for field, (word, values) in lists.items() if field in fields]
    return f"; it has {' and '.join(told)}" if told else ""
