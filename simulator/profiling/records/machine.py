"""Which device a record is of: one of the catalogue, or a sheet made of what the record says."""

from __future__ import annotations

import re

import numpy as np

from hardware.catalogue import load_device, names
from hardware.errors import InputError
from hardware.reading import build
from hardware.spec import Device
from simulator.profiling.records.record import Record
from simulator.profiling.records.rows import Measurements

_CLOCK = "3 GHz"
"""Of a core, where the record does not say it; no price depends on it."""
_WATTS = "10 W"
"""Of a core of a server, where nobody measured it."""


def device_of(record: Record, measurements: Measurements) -> Device:
    """The device of a record: that of the catalogue, or a sheet of what was measured.

    Parameters
    ----------
    record
        What was measured.
    found
        The same as columns.

    Raises
    ------
    InputError
        Where a GPU is not in the catalogue, or a processor's rates are not in the record.
    """
    said = record.environment.device
    if said.catalogue is not None and said.catalogue in names("devices"):
        return load_device(said.catalogue)
    if said.kind != "cpu":
        raise InputError(
            f"the record is of {said.name!r}, which is not in the catalogue; write its data sheet to a file and name it"
            " with --device, see capsim catalogue devices a100-sxm4-80gb for one"
        )
    return _processor(record, measurements)


def _processor(record: Record, measurements: Measurements) -> Device:
    """A sheet of processor cores: the fastest that was measured stands in for a data sheet."""
    said, host = record.environment.device, record.environment.host
    single = measurements.products.where(measurements.products.dtype == "fp32")
    if not len(single):
        raise InputError("the record has no product in fp32, so that the rate of the processor is not known")
    copies = [
        result.bytes / result.times.lower_quartile
        for result in record.best.values()
        if result.times is not None and result.case.phase == "copy" and not result.case.warm
    ]
    if not copies:
        raise InputError("the record has no copy, so that the bandwidth of the memory is not known")
    rate = float(np.max(single.flops / single.seconds))
    words = re.sub(r"[^a-z0-9]+", "-", f"{said.name} {said.threads} thread{'s' * (said.threads > 1)}".lower()).strip(
        "-"
    )
    measured = {"source": ["measured"], "seen": "primary", "note": "the best of the record stands for the data sheet"}
    sheet = {
        "id": words[:80],
        "name": said.name or "Processor",
        "vendor": "unknown",
        "architecture": "processor cores",
        "kind": "cpu",
        "device_class": "cpu",
        "peak": {"fp32": {"value": f"{rate:.6g} FLOP/s", **measured}},
        "memory": {
            "kind": "host memory",
            "capacity": f"{max(host.memory_bytes, said.memory_bytes):.0f} B",
            "bandwidth": {"value": f"{max(copies):.6g} B/s", **measured},
        },
        "processors": max(said.threads, 1),
        "clock": f"{said.clock_hz:.0f} Hz" if said.clock_hz else _CLOCK,
        "power": {"limit": {"value": _WATTS, "source": ["assumed"], "seen": "recalled"}},
        "host_link": {"kind": "pcie4x16", "bandwidth": {"value": f"{max(copies):.6g} B/s", **measured}},
    }
    return build(Device, sheet)
