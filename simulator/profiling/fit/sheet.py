"""What a data sheet says of a device at one number format: what fitted shares are shares of."""

from __future__ import annotations

from dataclasses import dataclass

from hardware.catalogue import load_class
from hardware.classes import MatrixUnit, Precision, peak_field
from hardware.errors import InputError
from hardware.spec import Device

ELEMENT_BYTES: dict[Precision, float] = {
    "fp32": 4.0,
    "tf32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "mxfp8": 33.0 / 32.0,
    "nvfp4": 9.0 / 16.0,
}


@dataclass(frozen=True)
class DataSheet:
    """Limits of a device at one number format."""

    peak: float
    """[FLOP/s]."""
    bandwidth: float
    """Of memory [B/s]."""
    processors: float
    """Streaming multiprocessors, or cores [1]."""
    element_bytes: float
    """[B]."""
    matrix_unit: MatrixUnit = "tensor-core"
    aligned: bool = True
    """Whether odd widths of rows slow products down."""
    causal_block: float = 128.0
    """Keys that fused attention leaves out at a time."""

    @classmethod
    def of(cls, device: Device, precision: Precision) -> DataSheet:
        """The limits of a device of the catalogue or of a file.

        Raises
        ------
        InputError
            Where the device has no units for the number format.
        """
        peak = getattr(device.peak, peak_field(precision))
        if not peak:
            raise InputError(f"precision={precision}: {device.id} has no peak rate for it; add it under peak")
        known = load_class(device.device_class)
        return cls(
            peak=float(peak),
            bandwidth=float(device.memory.bandwidth),
            processors=float(device.processors),
            element_bytes=ELEMENT_BYTES[precision],
            matrix_unit=known.matrix_unit,
            aligned=known.is_aligned(precision),
            causal_block=known.causal_block,
        )
