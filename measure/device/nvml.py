"""What NVIDIA's management library tells of a device: clocks, power, temperature, and why it slows down.

The library comes with the driver and is called through `ctypes`, since its Python bindings are rarely installed.
Whatever it does not tell is left out; nothing is ever set.
"""

from __future__ import annotations

import ctypes
from ctypes import byref
from typing import Any

from simulator.profiling.records.record import State

_NAMES = ("libnvidia-ml.so.1", "libnvidia-ml.so", "nvml.dll")
_SM_CLOCK, _MEMORY_CLOCK = 1, 2
_THROTTLES = {
    0x4: "power_cap",
    0x8: "hardware_slowdown",
    0x20: "software_thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
}
"""Bits of the reasons for a lowered clock that mean the device cannot go on as fast; idleness and settings do not."""
_TEXT = 96


class Nvml:
    """One device, as the management library sees it.

    Parameters
    ----------
    library
        The loaded library.
    uuid
        The device's, such as ``GPU-...``; the number that CUDA gives a device may be another one here.
    index
        Its number, where it has no such name.
    """

    def __init__(self, library: Any, uuid: str | None, index: int) -> None:
        self._library = library
        self._handle: Any = ctypes.c_void_p()
        if library.nvmlInit_v2() != 0:
            raise OSError("the management library does not start")
        by_uuid = uuid is not None and self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), byref(self._handle))
        if not by_uuid and not self._call("nvmlDeviceGetHandleByIndex_v2", index, byref(self._handle)):
            raise OSError("the management library does not know the device")

    @classmethod
    def of(cls, uuid: str | None, index: int) -> Nvml | None:
        """The device, where there is a library that knows it."""
        for name in _NAMES:
            try:
                return cls(ctypes.CDLL(name), uuid, index)
            except OSError:
                continue
        return None

    def state(self) -> State:
        """Clocks, temperature and power now."""
        milliwatts = self._number("nvmlDeviceGetPowerUsage")
        bits = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", kind=ctypes.c_ulonglong) or 0
        return State(
            clock_hz=_scaled(self._number("nvmlDeviceGetClockInfo", _SM_CLOCK), 1e6),
            memory_clock_hz=_scaled(self._number("nvmlDeviceGetClockInfo", _MEMORY_CLOCK), 1e6),
            temperature_c=_scaled(self._number("nvmlDeviceGetTemperature", 0), 1.0),
            power_w=_scaled(milliwatts, 1e-3),
            throttled=tuple(name for bit, name in _THROTTLES.items() if bits & bit),
        )

    def limits(self) -> dict[str, Any]:
        """Highest clocks, power limit, and modes, named as in `simulator.profiling.records.record.Device`."""
        limits = {
            "clock_hz": _scaled(self._number("nvmlDeviceGetMaxClockInfo", _SM_CLOCK), 1e6),
            "memory_clock_hz": _scaled(self._number("nvmlDeviceGetMaxClockInfo", _MEMORY_CLOCK), 1e6),
            "power_limit_w": _scaled(self._number("nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
            "error_correction": self._mode("nvmlDeviceGetEccMode"),
            "partitioned": self._mode("nvmlDeviceGetMigMode"),
        }
        return {name: value for name, value in limits.items() if value is not None}

    def driver(self) -> str | None:
        """Version of the driver."""
        text = ctypes.create_string_buffer(_TEXT)
        return text.value.decode(errors="replace") if self._call("nvmlSystemGetDriverVersion", text, _TEXT) else None

    def processes(self) -> int | None:
        """Processes that compute on the device, this one among them."""
        count = ctypes.c_uint(0)
        function = getattr(self._library, "nvmlDeviceGetComputeRunningProcesses_v3", None)
        if function is None:
            return None
        status = function(self._handle, byref(count), None)
        return int(count.value) if status in (0, 7) else None  # 7: there are more than the room that was given

    def _number(self, name: str, *arguments: int, kind: Any = ctypes.c_uint) -> int | None:
        """A number, where the device tells it."""
        value = kind(0)
        return int(value.value) if self._call(name, self._handle, *arguments, byref(value)) else None

    def _mode(self, name: str) -> bool | None:
        """A mode that is on or off now; the second number is what it will be after a restart."""
        now, then = ctypes.c_uint(0), ctypes.c_uint(0)
        return bool(now.value) if self._call(name, self._handle, byref(now), byref(then)) else None

    def _call(self, name: str, *arguments: Any) -> bool:
        """Whether a function is there and succeeds."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            return False
        return bool(function(*arguments) == 0)


def _scaled(value: int | None, unit: float) -> float | None:
    """A number in SI units."""
    return None if value is None else value * unit
