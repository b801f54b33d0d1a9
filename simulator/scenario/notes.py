"""What was assumed of a scenario, in sentences."""

from __future__ import annotations

from pydantic import BaseModel

from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.software.naming import software_named
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_BALANCED = {"loss": "under an auxiliary loss", "bias": "with a bias per expert"}


def note(assumed: list[str], stated: BaseModel, full: BaseModel, fields: tuple[str, ...], why: str) -> None:
    """Say which fields were filled, and why so."""
    filled = {name: getattr(full, name) for name in fields if getattr(stated, name) is None}
    words = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in filled.items()}
    said = ", ".join(f"{name}={value}" for name, value in words.items() if value is not None)
    if said:
        assumed.append(f"{said}: {why}")


def note_software(assumed: list[str], named: object, stack: Stack) -> None:
    """Say which stack prices software that was named by another name, and which launch file starts it."""
    software = software_named(named)
    if software is None:
        return
    name, said = software
    file = f"; capsim launch --to {said.launch} writes a file that starts it" if said.launch else ""
    assumed.append(f"stack={stack.id}: what {name} is priced as, since {said.because}{file}")


def with_sharding(assumed: list[str], asked: Plan, named: object) -> Plan:
    """A plan with the sharding that the name of the software says, where the plan leaves it open."""
    software = software_named(named)
    if software is None or software[1].sharding is None or asked.sharding or asked.sharding_group:
        return asked
    assumed.append(f"sharding={software[1].sharding}: as {software[0]} says")
    return asked.model_copy(update={"sharding": software[1].sharding})


def noted_work(assumed: list[str], stated: Workload, work: Workload, stack: Stack, model: Model) -> Workload:
    """The workload with what a stack decides of it; what was assumed is said."""
    _note_work(assumed, stated, work, stack, model)
    return _with_further(assumed, work, model, stack)


def _note_work(assumed: list[str], stated: Workload, work: Workload, stack: Stack, model: Model) -> None:
    """Say which adapters are trained, and how uneven routing is, or that the stack fills experts to their capacity."""
    note(assumed, stated, work, ("lora_rank", "lora_targets"), "as adapters are usually trained")
    note(assumed, stated, work, ("virtual_tokens",), "as examples of PEFT have it")
    note(assumed, stated, work, ("reference",), "as DPO trainers have it")
    if work.reference == "precomputed":
        assumed.append("reference=precomputed: the forward pass over all pairs before training is not in the time")
    if work.expert_imbalance is None:
        return
    if work.capacity_factor is None and stack.capacity_factor > 0.0:
        assumed.append(f"capacity_factor={stack.capacity_factor:g}: as {stack.id} does")
    elif not work.capacity_factor:
        note(assumed, stated, work, ("expert_imbalance",), f"as measured {_BALANCED[model.router_balance]}")


def _with_further(assumed: list[str], work: Workload, model: Model, stack: Stack) -> Workload:
    """The workload with modules that predict further tokens where nobody said and the software trains them."""
    if work.multi_token is not None or not work.trains_further(model):
        return work
    has = stack.offers.multi_token
    why = f"{model.id} has modules that predict further tokens" + ("" if has else f", and {stack.id} leaves them out")
    assumed.append(f"multi_token={'yes' if has else 'no'}: {why}")
    return work.model_copy(update={"multi_token": has})


def with_score(assumed: list[str], work: Workload, model: Model) -> Model:
    """The model with the head that its workload trains, which is noted where it is another than the model's own."""
    scored = work.scored(model)
    if scored is not model:
        assumed.append("objective=classification, classes=1: a reward model gives each sequence one score")
    return scored


def note_documents(assumed: list[str], work: Workload, plan: Plan, stack: Stack) -> None:
    """Say where attention takes as long for packed documents as for whole sequences."""
    if work.document_lengths is None or (plan.attention == "fused" and stack.skips_documents):
        return
    why = f"the attention kernel of {stack.id}" if plan.attention == "fused" else "unfused attention"
    assumed.append(f"document_lengths shorten no attention: {why} computes whole sequences and masks other documents")


def chosen_fields(plan: Plan) -> tuple[str, ...]:
    """Fields of a plan that are chosen where they are open; offloading only where it was."""
    chosen = ("dp", "tp", "pp", "cp", "ep", "virtual_stages", "sharding", "micro_batch", "recompute")
    return (*chosen, "offload_optimizer") if plan.offload_optimizer else chosen
