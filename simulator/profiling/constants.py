"""The constants of a measured profile beside those that the catalogue has for the device's class, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hardware import units
from hardware.catalogue import load_class
from hardware.classes import AttentionConstants, DeviceClass, GemmConstants, MemoryConstants
from hardware.errors import InputError
from hardware.measured import MeasuredProfile
from simulator.pricing.measured import device_of
from simulator.specs.loading import load_stack

_Written = Callable[[float], str]
_GEMM: dict[str, tuple[str, _Written]] = {
    "efficiency": ("share of the peak rate", units.percent),
    "bandwidth_efficiency": ("share of the bandwidth", units.percent),
    "launch": ("launch", units.duration),
    "fill": ("depth lost to filling the pipeline", units.digits),
    "small_tile": ("traffic of small tiles", units.digits),
    "sustained": ("clock under long load", units.percent),
}
_ATTENTION: dict[str, tuple[str, _Written]] = {
    "efficiency": ("share of the peak rate, forward", units.percent),
    "backward_efficiency": ("share of the peak rate, backward", units.percent),
    "bandwidth_efficiency": ("share of the bandwidth", units.percent),
    "launch": ("launch", units.duration),
    "fill": ("keys lost to filling the pipeline", units.digits),
}
_MEMORY: dict[str, tuple[str, _Written]] = {
    "efficiency": ("share of the bandwidth", units.percent),
    "normalisation_efficiency": ("share of the bandwidth, normalisation and softmax", units.percent),
    "launch": ("launch", units.duration),
}


@dataclass(frozen=True)
class Told:
    """One constant."""

    place: str
    """In the profile, as `MeasuredProfile.borrowed` names it."""
    of: str
    """The work that it is of."""
    what: str
    value: str
    before: str
    """The catalogue's; empty where its form has no such constant."""
    borrowed: str
    """Why it was not fitted, or not by these rows alone."""

    @property
    def fitted(self) -> bool:
        """Whether the measurements determined it."""
        return not self.borrowed


def constants_of(profile: MeasuredProfile) -> tuple[Told, ...]:
    """The constants of what was measured at all: products and attention of each number format, memory, links, steps."""
    known = load_class(device_of(profile).device_class)
    constants = [*_of_products(profile, known), *_of_attention(profile, known)]
    constants += _listed(profile, "memory", "memory-bound kernels", _MEMORY, profile.constants.memory, known.memory)
    return (*constants, *_of_links(profile), *_of_steps(profile))


_HEADS = {"gemm": "products", "memory": "memory-bound kernels", "steps": "training steps"}


def in_words(place: str) -> str:
    """A place of a profile, as `MeasuredProfile.borrowed` names it, in words.

    >>> in_words("gemm.bf16.weight_gradient"), in_words("links.all_reduce.4"), in_words("stacks.pytorch-eager.launch")
    ('products, bf16: weight gradient', 'all-reduce over 4 ranks', 'steps of pytorch-eager: launch')
    """
    head, *rest = place.split(".")
    if head == "links" and rest:
        kind = rest[0].replace("_", "-")
        return f"{kind} over {rest[1]} ranks" if len(rest) == 2 else kind
    if head == "stacks" and rest:
        head, rest = f"steps of {rest[0]}", rest[1:]
    elif head in ("gemm", "attention") and rest:
        head, rest = f"{_HEADS.get(head, head)}, {rest[0]}", rest[1:]
    words = [_HEADS.get(head, head), *(part.replace("_", " ") for part in rest)]
    return ": ".join(words)


def _why(profile: MeasuredProfile, place: str) -> str:
    """Why a constant was borrowed: it, or all of its kind."""
    parts = place.split(".")
    places = (".".join(parts[:number]) for number in range(len(parts), 0, -1))
    reasons = {**profile.borrowed, **profile.kept}
    return next((reasons[each] for each in places if each in reasons), "")


def _listed(
    profile: MeasuredProfile,
    place: str,
    of: str,
    names: dict[str, tuple[str, _Written]],
    constants: GemmConstants | AttentionConstants | MemoryConstants,
    known: GemmConstants | AttentionConstants | MemoryConstants | None,
) -> list[Told]:
    """The constants of one kind of work."""
    return [
        Told(
            place=f"{place}.{name}",
            of=of,
            what=what,
            value=written(getattr(constants, name)),
            before=written(getattr(known, name)) if known is not None else "",
            borrowed=_why(profile, f"{place}.{name}"),
        )
        for name, (what, written) in names.items()
    ]


def _of_products(profile: MeasuredProfile, known: DeviceClass) -> Iterator[Told]:
    """Those of products that were measured."""
    for precision in profile.fitted:
        place, of = f"gemm.{precision}", f"products, {precision}"
        yield from _listed(profile, place, of, _GEMM, profile.constants.gemm[precision], known.gemm.get(precision))
        if f"{place}.weight_gradient" not in profile.borrowed:
            shares = (profile.constants.weight_gradient_efficiency, known.weight_gradient_efficiency)
            value, before = map(units.percent, shares)
            yield Told(f"{place}.weight_gradient", of, "rate of weight gradients over others", value, before, "")


def _of_attention(profile: MeasuredProfile, known: DeviceClass) -> Iterator[Told]:
    """Those of attention that was measured."""
    for precision in profile.attentions:
        constants, before = profile.constants.attention[precision], known.attention.get(precision)
        place, of = f"attention.{precision}", f"attention, {precision}"
        yield from _listed(profile, place, of, _ATTENTION, constants, before)


def _of_links(profile: MeasuredProfile) -> Iterator[Told]:
    """Those of collectives over the most ranks; the catalogue has others, since its form is another."""
    for kind, by_ranks in profile.links.items():
        ranks = max(by_ranks)
        place, of = f"links.{kind}.{ranks}", f"{kind.replace('_', '-')} over {ranks} ranks"
        why = profile.borrowed.get(place, "")
        values = {
            "latency": units.duration(by_ranks[ranks].latency),
            "rate": f"{by_ranks[ranks].rate / 1e9:.1f} GB/s",
        }
        for what, value in values.items():
            yield Told(f"{place}.{what}", of, what, value, "", why if why.startswith((what, "only")) else "")


def _of_steps(profile: MeasuredProfile) -> Iterator[Told]:
    """What steps say of the software that ran them."""
    for name, software in profile.stacks.items():
        try:
            stack = load_stack(name)
        except InputError:  # a profile may name a stack of one's own
            stack = None
        place, of = f"stacks.{name}", f"steps of {name}"
        for each, what in (("launch", "starting a kernel on the host"), ("step_overhead", "fixed time of a step")):
            before = units.duration(getattr(stack, each)) if stack is not None else ""
            value = units.duration(getattr(software, each))
            yield Told(f"{place}.{each}", of, what, value, before, profile.borrowed.get(f"{place}.{each}", ""))
        for kind, rates in software.streams.items():
            shares = f"{units.percent(rates.forward)} / {units.percent(rates.backward)}"
            words = f"{kind.replace('-', ' ')}, share of the bandwidth forward / backward"
            why = profile.borrowed.get(f"{place}.streams", "")
            named = why if kind.replace("-", " ") in why else ""
            yield Told(f"{place}.streams.{kind}", of, words, shares, "", named)
