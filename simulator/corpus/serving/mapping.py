"""Published runs of serving made scenarios: model, system, software, formats, degrees and load."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from hardware.errors import InputError
from hardware.spec import Device, System
from simulator.corpus.architectures import known_model, model_of
from simulator.corpus.devices import device_of
from simulator.corpus.networks import system_of
from simulator.corpus.notes import Notes
from simulator.corpus.published import count_of
from simulator.corpus.runs import RefusedError, Run
from simulator.corpus.schema import RunHardware, RunModel, RunPlan
from simulator.corpus.serving.loads import ServedDemand, demand_of
from simulator.corpus.serving.schema import Disaggregated, ServedHardware, ServedModel, ServingRun
from simulator.corpus.words import match_rule, plain, stated
from simulator.specs.model import Model

_OTHER_KINDS = re.compile(r"\b(vit|xlnet|longformer|decilm)")
"""Models whose work is none of the catalogue's: other inputs, relative or sparse attention, layers that differ."""
_UNPADDED = re.compile(r"remove padding|\beff\b|bytetransformer|mlperf|turbotransformer")


@dataclass(frozen=True)
class ServedCase:
    """A run of serving with the scenario that stands for it."""

    run: ServingRun
    model: Model
    system: System
    devices: int
    """Of all replicas and pools together."""
    stack: str
    version: str
    """Of the software, as the source tells it; empty where it does not."""
    release: str
    """A time whose releases differ from today's; empty of today's."""
    weights: str
    products: str
    """Format of the products."""
    cache: str
    """Format of keys and values; empty where it was not told."""
    tp: int
    pp: int
    ep: int
    replicas: int
    data_parallel_attention: bool
    """Whether replicas share experts, so that they are no engines of their own."""
    demand: ServedDemand
    pools: Disaggregated | None = None
    assumed: tuple[str, ...] = field(default=())

    @property
    def device(self) -> Device:
        """What it ran on."""
        return self.system.device


def serving_case_of(run: ServingRun, notes: Notes | None = None) -> ServedCase:
    """Make a scenario of a run of serving.

    Parameters
    ----------
    run
        The run.
    notes
        Receives how its fields were read, and what was assumed.

    Raises
    ------
    RefusedError
        With the reason, where the catalogue lacks what it ran on, or the run lacks what no rule can fill.
    """
    notes = notes if notes is not None else Notes()
    if run.is_suspect:
        raise RefusedError("suspect")
    if not run.told:
        raise RefusedError("nothing measured that is predicted")
    try:
        return _case_of(run, notes)
    except InputError as error:
        raise RefusedError("inconsistent or impossible plan", str(error)) from None


def _case_of(run: ServingRun, notes: Notes) -> ServedCase:
    """Make a scenario of a run, or fail with a sentence."""
    if run.plan.disaggregated is True:
        raise RefusedError("pools of unknown size")
    stack = _stack(run, notes)
    weights = _format(run.plan.weight_precision, "weights") or _format(run.plan.compute_precision, "weights")
    if weights is None:
        raise RefusedError("format of the weights not published")
    products = _format(run.plan.compute_precision, "products") or weights
    if run.hardware.devices is None:
        raise RefusedError("number of devices not published")
    devices = count_of("devices", run.hardware.devices)
    tp, pp, ep, replicas, shares = _degrees(run, devices)
    model, system = _model(run.model), _system(run.hardware, devices)
    unpadded = bool(_UNPADDED.search(f"{plain(run.plan.framework)} {plain(run.source.title)}"))
    demand = demand_of(run, unpadded=unpadded, notes=notes)
    pools = run.plan.disaggregated if isinstance(run.plan.disaggregated, Disaggregated) else None
    return ServedCase(
        run=run,
        model=model,
        system=system,
        devices=devices,
        stack=stack,
        version=stated(run.plan.framework_version) or "",
        release=_release(run, stack),
        weights=weights,
        products=products,
        cache=_format(run.plan.kv_precision, "cache") or "",
        tp=tp,
        pp=pp,
        ep=ep,
        replicas=replicas,
        data_parallel_attention=shares,
        demand=demand,
        pools=pools,
        assumed=tuple(notes.assumed),
    )


def _stack(run: ServingRun, notes: Notes) -> str:
    """The software that served."""
    match = match_rule("engines", run.plan.framework or "")
    if match is None:
        raise RefusedError("unknown software", plain(run.plan.framework)[:80])
    if "refused" in match.rule:
        raise RefusedError(str(match.rule["refused"]), plain(run.plan.framework)[:80])
    if "assumed" in match.rule:
        notes.assume(f"software: {match.rule['assumed']}")
    notes.read("plan.framework", match, f"stack = {match.rule['stack']}")
    return str(match.rule["stack"])


def _release(run: ServingRun, stack: str) -> str:
    """The time of the engine's release, where those of its time differ from today's."""
    words = f"{stack} {plain(run.plan.framework_version)}; {plain(run.source.title)}"
    match = match_rule("releases", words)
    return "" if match is None else str(match.rule["release"])


def _format(words: str | None, what: str) -> str | None:
    """A format by its words; nothing where it was not told.

    Raises
    ------
    RefusedError
        Where nobody knows it, or nobody can price it.
    """
    if stated(words) is None:
        return None
    match = match_rule("weights", words)
    if match is None:
        raise RefusedError(f"unknown format of {what}", plain(words)[:80])
    if "refused" in match.rule:
        raise RefusedError(str(match.rule["refused"]), plain(words)[:80])
    return str(match.rule["means"])


def _degrees(run: ServingRun, devices: int) -> tuple[int, int, int, int, bool]:
    """Tensor, pipeline and expert ranks, replicas, and whether replicas share experts."""
    plan = run.plan
    tp, pp, ep = (count_of(name, getattr(plan, name) or 1.0) for name in ("tp", "pp", "ep"))
    dp = count_of("dp", plan.dp) if plan.dp is not None else max(devices // (tp * pp), 1)
    if isinstance(plan.disaggregated, Disaggregated):
        return tp, pp, ep, 1, False
    if tp * pp * dp != devices == tp * pp * dp * ep:
        tp *= ep  # ranks of experts were told beside those of the rest
    if tp * pp * dp != devices:
        raise RefusedError("degrees that do not give the devices", f"{tp} x {pp} x {dp} of {devices}")
    return tp, pp, ep, dp, dp > 1 and ep > tp


@cache
def _modelled(said: ServedModel) -> Model:
    """The architecture that a run tells."""
    if _OTHER_KINDS.search(plain(f"{said.name} {said.family}")):
        raise RefusedError("unknown family of models", plain(said.name)[:80])
    known = known_model(said.name)
    fields = {name: getattr(said, name) for name in RunModel.model_fields if getattr(said, name) is not None}
    fields |= {"first_dense": said.dense_layers, "shared": said.shared_experts, "seq_len": 2048.0}
    if said.kv_lora_rank is not None:
        fields["mla"] = "mla"
    if said.experts is not None and (known is None or known.experts <= 1):
        fields["moe_ffn"] = said.ffn
    told = RunModel.model_validate({name: value for name, value in fields.items() if value is not None})
    return model_of(Run(id="serving", task="generate", model=told, hardware=RunHardware(), plan=RunPlan()))


def _model(said: ServedModel) -> Model:
    """The architecture that a run tells, as the catalogue has it where it is the same."""
    try:
        return _modelled(said)
    except TypeError:  # what the schema does not know may not be hashable
        return _modelled.__wrapped__(said)


@cache
def _wired(device: Device, devices: int, per_node: float | None, intra: str, inter: str) -> System:
    """A system by its words."""
    hardware = RunHardware(devices=float(devices), devices_per_node=per_node, intra=intra or None, inter=inter or None)
    run = Run(id="serving", model=RunModel(), hardware=hardware)
    return system_of(run, device, devices)


def _system(said: ServedHardware, devices: int) -> System:
    """What it ran on."""
    per_node = said.devices_per_node
    device = device_of(said.device)
    if device.kind != "tpu" and per_node is not None:
        per_node = max(per_node, 1.0)
    return _wired(device, devices, per_node, said.intra or "", said.inter or "")
