"""Runs that are no training step of a whole model, and why: by task, method, quantisation and what else they tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

from simulator.corpus.runs import RefusedError, Run
from simulator.corpus.tuning import trains_adapters
from simulator.corpus.words import first_rule, plain

_NOTHING = re.compile(r"|none|no|false|off|0|0\.0|\{\}|\[\]|null|full.*")
"""Values that say of a method that it was not used."""
_OF_ADAPTERS = re.compile(r"\.lora-(alpha|dropout|init)")
"""Keys of low-rank adapters that change neither arithmetic nor bytes by much."""
_FEW = 0.5
"""Share of a model's parameters below which a run that says how many it trained did not train the model."""


def refuse_other_work(run: Run) -> None:
    """Refuse what is not a training step of a whole model.

    Raises
    ------
    RefusedError
        With the reason, and the words that tell it.
    """
    task = first_rule("tasks", run.task)
    if task:
        raise RefusedError(task["refused"], plain(run.task)[:80])
    adapters, method = trains_adapters(run), plain(run.plan.peft)
    named = first_rule("adapters", f"{run.plan.framework or ''} {run.model.name}")
    if not adapters and (not _NOTHING.fullmatch(method) or named):
        raise RefusedError("trains adapters only", method)
    for place, words in _further(run):
        rule = first_rule("keys", place)
        if rule and not _NOTHING.fullmatch(plain(words)) and not (adapters and _OF_ADAPTERS.search(place)):
            raise RefusedError(rule["refused"], f"{place}={plain(words)[:60]}")
    _refuse_layer(run)
    if adapters:
        return
    _refuse_part(run)
    if re.search(r"nf4|int[48]|gptq|awq|[48].?bit", plain(run.plan.quantization)):
        raise RefusedError("quantised parameters", plain(run.plan.quantization)[:80])


def _refuse_layer(run: Run) -> None:
    """Refuse a part of a model by its name."""
    if re.search(r"\b(one|single|1)[- ]layer\b", plain(run.model.name)):
        raise RefusedError("a layer, not a model")


def _further(run: Run) -> Iterator[tuple[str, str]]:
    """Keys that the schema does not name, as part and key, with what they say."""
    for name, value in (run.model_extra or {}).items():
        yield plain(name), str(value)
    for part in ("model", "plan", "extra"):
        for name, value in (getattr(run, part).model_extra or {}).items():
            yield plain(f"{part}.{name}"), str(value)


def _refuse_part(run: Run) -> None:
    """Refuse a run that tells how many parameters it trained, where that is but a part of them."""
    told = (run.plan.model_extra or {}).get("trainable_params")
    size = run.model.params_b or run.model.computed_params_b
    if isinstance(told, int | float) and not isinstance(told, bool) and size and 0 < told < _FEW * size * 1e9:
        raise RefusedError("trains some of the parameters only", f"plan.trainable_params={told:,.0f}")
