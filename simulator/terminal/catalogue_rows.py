"""The entries of the catalogue as rows of a list; ° marks an unverified figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hardware import units
from hardware.classes import DeviceClass, Precision
from hardware.measured import MeasuredProfile
from hardware.price import Price
from hardware.sheet import Sheet
from hardware.spec import Device, Failures, Figure, Grid, Overhead, Site, System
from simulator.scenario.scenario import parameters_of
from simulator.specs.model import Model
from simulator.specs.software.naming import further_names_of
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

Row = dict[str, str]

_YEAR = 365.25 * 86400.0
_FORMATS: tuple[Precision, ...] = ("bf16", "fp16", "fp32")
"""Whose constants stand for a class in a list: the first that it has."""
_ENOUGH = 5
"""Measurements whose median error is told in a list."""


def _marked(sheet: Sheet, name: str, text: str) -> str:
    """A figure, with a mark where it is unverified."""
    provenance = sheet.provenance.get(name)
    return f"{text}°" if provenance is not None and provenance.seen == "recalled" else text


def of_device(device: Device) -> Row:
    """A device: dense TFLOP/s by format, memory and power."""

    def tera(name: str) -> str:
        rate = getattr(device.peak, name)
        return _marked(device.peak, name, f"{rate / 1e12:,.4g}") if rate else "-"

    return {
        "device": device.id,
        "fp32": tera("fp32"),
        "tf32": tera("tf32"),
        "fp16": tera("fp16"),
        "bf16": tera("bf16"),
        "fp8": tera("fp8"),
        "GiB": _marked(device.memory, "usable", f"{device.memory_capacity / 2**30:.1f}"),
        "GB/s": _marked(device.memory, "bandwidth", f"{device.memory.bandwidth / 1e9:,.0f}"),
        "W": _marked(device.power, "limit", f"{device.power.rated:.0f}"),
    }


def of_system(system: System) -> Row:
    """A system: its devices and links."""
    links = []
    for _, _, link in system.levels:
        rate = f"{link.bandwidth_per_device / 1e9:.3g} {link.kind}"
        links.append(_marked(link, "bandwidth", rate))
    return {
        "system": system.id,
        "device": system.device.id,
        "per node": str(system.devices_per_node),
        "most": f"{system.most_devices:,}",
        "GB/s per device, innermost first": ", ".join(links),
    }


def of_model(model: Model) -> Row:
    """A model: what it is and its size; heads as query/key-value."""
    return {
        "model": model.id,
        "kind": model.kind,
        "params": units.count(parameters_of(model, Workload().resolve(model))),
        "stated": units.count(model.published_parameters) if model.published_parameters else "-",
        "layers": f"{model.all_layers}",
        "hidden": f"{model.hidden_size:,}",
        "heads": f"{model.attention_heads}/{model.kv_heads}",
        "experts": f"{model.experts}" if model.experts > 1 else "-",
    }


def of_stack(stack: Stack) -> Row:
    """A stack: what it splits by, what replicas share and in which order stages work, and what else it is called."""
    offers, usual = stack.offers, stack.defaults
    return {
        "stack": stack.id,
        "splits": " ".join(stack.axes),
        "sharding": _first(usual.sharding, offers.shardings),
        "schedules": ", ".join(offers.schedules) if "pp" in stack.axes else "-",
        "other names": ", ".join(further_names_of(stack.id)) or "-",
    }


def _first(usual: str, offered: Sequence[str]) -> str:
    """What is offered, with what is usual first."""
    return ", ".join((usual, *(other for other in offered if other != usual)))


def of_price(price: Price) -> Row:
    """An offer to rent one device."""
    return {
        "offer": price.id,
        "device": price.device,
        "USD/h": _marked(price, "rate", f"{price.rate * 3600:.2f}"),
        "kind": price.kind.removeprefix("capacity-"),
        "date": price.date,
    }


def of_class(known: DeviceClass) -> Row:
    """The constants of a class of devices, in its widest format."""
    best = next(known.gemm[name] for name in _FORMATS if name in known.gemm)
    return {
        "class": known.id,
        "title": known.title,
        "formats": ", ".join(known.gemm),
        "share of peak": f"{best.efficiency:.2f}",
        "sustained": f"{best.efficiency * best.sustained:.2f}",
        "of bandwidth": f"{known.memory.efficiency:.2f}",
        "source": best.source,
    }


def of_profile(profile: MeasuredProfile) -> Row:
    """The constants of one machine, with their median errors."""
    ranks = sorted({number for by_ranks in profile.links.values() for number in by_ranks})
    off = {score.what: units.percent(score.median) for score in profile.held_out if score.scored >= _ENOUGH}
    best = (off.get(f"large {name} products", off.get(f"all {name} products", "-")) for name in profile.fitted)
    steps = next((off.get(score.what, "-") for score in profile.held_out if score.phase == "step"), "-")
    return {
        "profile": profile.id,
        "device": profile.device_id,
        "products": ", ".join(profile.fitted) or "-",
        "off": ", ".join(best) or "-",
        "attention": ", ".join(profile.attentions) or "-",
        "ranks": ", ".join(map(str, ranks)) or "-",
        "steps off": steps,
    }


def of_link(link: Any) -> Row:
    """The constants of one kind of link."""
    return {
        "link": link.id,
        "title": link.title,
        "share of rate": _marked(link, "efficiency", f"{link.efficiency:.2f}"),
        "latency": units.duration(link.latency),
        "a rank": units.duration(link.latency_per_rank),
    }


def of_grid(grid: Grid) -> Row:
    """Emissions of electricity at one place."""
    return {"grid": grid.id, "name": grid.name, "gCO2e/kWh": f"{grid.intensity * 3.6e9:.0f}"}


def of_overhead(overhead: Overhead) -> Row:
    """Power usage effectiveness of one kind of data centre."""
    return {
        "overhead": overhead.id,
        "name": overhead.name,
        "ratio": _marked(overhead, "ratio", f"{overhead.ratio:.2f}"),
    }


def of_failures(family: Failures) -> Row:
    """How often devices of one family fail."""
    return {
        "family": family.id,
        "name": family.name,
        "failures a device-year": units.digits(family.failure_rate * _YEAR),
        "spot losses an instance-year": units.digits(family.preemption_rate * _YEAR),
    }


def of_site(site: Site) -> Row:
    """What long runs find at one place."""
    return {
        "site": site.id,
        "name": site.name,
        "restart": units.duration(site.restart),
        "MB/s per device": f"{site.storage_bandwidth_per_device / 1e6:.0f}",
        "life": units.duration(site.lifetime),
        "USD/kWh": f"{site.electricity * 3.6e6:.3f}",
    }


def of_fact(figure: Figure) -> Row:
    """A figure that no specification holds."""
    return {
        "subject": figure.subject,
        "what": figure.what.replace("_", " "),
        "value": f"{figure.value} {figure.unit}".strip(),
        "seen": figure.seen,
        "source": "; ".join(figure.source),
    }
