"""The analytic backend: data sheets, and the share of them that kernels and links of a class reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.catalogue import load_class
from hardware.classes import AttentionConstants, DecodingConstants, DeviceClass, GemmConstants, Precision, peak_field
from hardware.errors import InputError
from hardware.spec import Device, System
from simulator.formulas import decoding, kernels, matmul
from simulator.formulas.typing import Num
from simulator.pricing import exchanges
from simulator.pricing.requests import (
    Collective,
    DecodeAttention,
    FusedAttention,
    HostCopy,
    HostWork,
    MatrixProduct,
    Request,
    Send,
    Stream,
)
from simulator.pricing.wiring import Level, Wiring, wiring
from simulator.specs.columns import Columns

JITTER = 0.02
"""Standard deviation of what a collective takes from node to node over its time, where no run was fitted to."""
MOST_JITTER = 0.15
"""The most that runs may say of it: on eight nodes nccl-tests reach 0.98 of the line where tuned and 0.80 where not."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4")
NARROW: tuple[Precision, ...] = ("fp8", "mxfp8", "nvfp4")
"""Those under which tensors between products stay in 16 bits."""
NEVER_FITTED: tuple[Precision, ...] = ("mxfp8", "nvfp4")
"""Those that no run told a constant of, so that they have those of fp8."""


@dataclass(frozen=True)
class Devices(Columns):
    """Devices at a precision as numbers."""

    peak: Num
    bandwidth: Num
    processors: Num
    systolic: Num
    vector: Num
    aligned: Num
    """1 where odd widths of rows slow products down."""
    efficiency: Num
    bandwidth_efficiency: Num
    gemm_launch: Num
    fill: Num
    small_tile: Num
    sustained: Num
    weight_gradient_efficiency: Num
    attention_peak: Num
    attention_efficiency: Num
    attention_backward_efficiency: Num
    attention_bandwidth_efficiency: Num
    attention_launch: Num
    attention_fill: Num
    causal_block: Num
    portable_attention: Num
    stream_efficiency: Num
    reduce_efficiency: Num
    stream_launch: Num
    host_bandwidth: Num
    memory_capacity: Num
    decode_bandwidth_efficiency: Num = 0.8
    decode_launch: Num = 1e-5
    decode_each: Num = 1e-6
    decode_ramp: Num = 0.0
    decode_efficiency: Num = 0.3
    weight_efficiency: Num = 0.8
    """Share of the bandwidth that products of few rows reach."""


def precisions_of(device: Device, constants: DeviceClass | None = None) -> tuple[Precision, ...]:
    """The precisions that a device has units and constants for."""
    known = (constants or load_class(device.device_class)).gemm
    return tuple(name for name in PRECISIONS if getattr(device.peak, peak_field(name)) and name in known)


def wide_format(precision: Precision) -> Precision:
    """The format of products that stay in 16 bits where others are in 8 or in 4."""
    return "bf16" if precision in NARROW else precision


def device_columns(device: Device, precision: Precision, *, constants: DeviceClass | None = None) -> Devices:
    """Turn a device at a precision into numbers, with the constants of its class unless others are given.

    Raises
    ------
    InputError
        Where the device has no units for the precision.
    """
    valid = precisions_of(device, constants)
    if precision not in valid:
        raise InputError(
            f"precision={precision}: {device.id} has no units for it; valid: {', '.join(valid)}",
            fields=["plan.precision"],
        )
    constants = constants or load_class(device.device_class)
    gemm, memory = constants.gemm[precision], constants.memory
    attended = wide_format(precision)  # products of attention stay in 16 bits
    fused = constants.attention.get(attended) or _unmeasured_attention(gemm.efficiency)
    return Devices(
        peak=float(getattr(device.peak, peak_field(precision))),
        bandwidth=device.memory.bandwidth,
        processors=float(device.processors),
        systolic=float(constants.matrix_unit == "systolic-array"),
        vector=float(constants.matrix_unit == "vector"),
        aligned=float(constants.is_aligned(precision)),
        efficiency=gemm.efficiency,
        bandwidth_efficiency=gemm.bandwidth_efficiency,
        gemm_launch=gemm.launch,
        fill=gemm.fill,
        small_tile=gemm.small_tile,
        sustained=gemm.sustained,
        weight_gradient_efficiency=constants.weight_gradient_efficiency,
        attention_peak=float(getattr(device.peak, attended)),
        attention_efficiency=fused.efficiency,
        attention_backward_efficiency=fused.backward_efficiency,
        attention_bandwidth_efficiency=fused.bandwidth_efficiency,
        attention_launch=fused.launch,
        attention_fill=fused.fill,
        causal_block=constants.causal_block,
        portable_attention=constants.portable_attention,
        stream_efficiency=memory.efficiency,
        reduce_efficiency=memory.normalisation_efficiency,
        stream_launch=memory.launch,
        host_bandwidth=device.host_link.bandwidth or 1e9,
        memory_capacity=device.memory_capacity,
        **_decoding(constants, gemm, load_class(device.device_class).decoding),
    )


def _decoding(constants: DeviceClass, gemm: GemmConstants, usual: DecodingConstants | None) -> dict[str, float]:
    """Constants of inference as columns: given ones, the usual ones of the class, or assumed from its other kernels.

    Kernels that only stream lose less than tiled ones: a third of what these leave of the bandwidth.
    """
    known = (
        constants.decoding
        or usual
        or DecodingConstants.model_construct(
            source="assumed",
            seen="derived",
            bandwidth_efficiency=constants.memory.efficiency,
            launch=4.0 * constants.memory.launch,
            each=0.4 * constants.memory.launch,
            ramp=0.0,
            efficiency=gemm.efficiency / 3.0,
            weight_efficiency=1.0 - (1.0 - min(gemm.bandwidth_efficiency, 1.0)) * 2.0 / 3.0,
        )
    )
    return {
        "decode_bandwidth_efficiency": known.bandwidth_efficiency,
        "decode_launch": known.launch,
        "decode_each": known.each,
        "decode_ramp": known.ramp,
        "decode_efficiency": known.efficiency,
        "weight_efficiency": known.weight_efficiency,
    }


def _unmeasured_attention(efficiency: float) -> AttentionConstants:
    """Constants of fused attention for a format nobody measured: half the rate of plain products."""
    return AttentionConstants.model_construct(
        source="assumed",
        seen="derived",
        efficiency=efficiency / 2,
        backward_efficiency=efficiency / 2,
        bandwidth_efficiency=0.4,
        launch=9e-6,
        fill=150.0,
    )


@dataclass(frozen=True)
class AnalyticBackend(Columns):
    """Prices primitives by formula; one instance holds one system or a column of them."""

    device: Devices
    wires: Wiring
    wide: Devices
    """The devices at 16 bits, for products that stay there where others are in 8."""
    jitter: Num = JITTER
    """Standard deviation of what a collective takes from node to node, over its time."""

    @property
    def name(self) -> str:
        """The backend's name."""
        return "analytic"

    @classmethod
    def of(cls, system: System, devices: int, precision: Precision) -> AnalyticBackend:
        """The backend of a part of a system at a precision."""
        device = device_columns(system.device, precision)
        wide = device_columns(system.device, wide_format(precision))
        return cls(device=device, wires=wiring(system, devices), wide=wide)

    def time(self, request: Request) -> Num:
        """Time of one call by formula [s]."""
        match request:
            case MatrixProduct():
                return self._product(request)
            case FusedAttention():
                return self._attention(request)
            case DecodeAttention():
                return self._decode_attention(request)
            case Stream():
                return self._stream(request)
            case Collective():
                return exchanges.collective_time(self.wires.levels, request, jitter=self.jitter)
            case Send():
                return exchanges.send_time(self.wires.levels, request)
            case HostCopy():
                # Four fifths of the host link's rate.
                return request.moved_bytes / (0.8 * self.device.host_bandwidth)
            case HostWork():
                return request.seconds
        raise TypeError(f"{request!r} is no request")

    def leaves_node(self, request: Collective) -> Num:
        """Whether the ranks of a group do not share a node: 1 or 0."""
        bridge, inner, *_ = self.wires.levels
        apart = np.asarray(request.degree) * request.stride > np.maximum(bridge.reach, inner.reach)
        return np.where(apart, 1.0, 0.0)

    def _product(self, asked: MatrixProduct) -> Num:
        """A batch of matrix products, at the clock of long load: a step keeps the device busy longer than one call."""
        d = self.wide if asked.wide else self.device
        efficiency = d.efficiency * d.sustained * (d.weight_gradient_efficiency if asked.weight_gradient else 1.0)
        systolic, vector = np.asarray(d.systolic) > 0, np.asarray(d.vector) > 0
        shared: dict[str, Any] = {
            "k": asked.k,
            "batch": asked.batch,
            "element_bytes": asked.element_bytes,
            "input_bytes": asked.input_bytes,
            "packed_bytes": asked.packed_bytes,
            "peak": d.peak,
            "bandwidth": d.bandwidth,
            "bandwidth_efficiency": d.bandwidth_efficiency,
            "launch": d.gemm_launch,
        }
        scheduled: dict[str, Num] = {"fill": d.fill, "small_tile": d.small_tile, "sustained": 1.0}
        time: Num = 0.0
        if not np.all(systolic | vector):
            aligned = efficiency * np.where(np.asarray(d.aligned) > 0, asked.alignment, 1.0)
            time = matmul.gemm_time(
                asked.m, asked.n, processors=d.processors, efficiency=aligned, **shared, **scheduled
            )
        if np.any(vector):
            on_vector = matmul.vector_gemm_time(asked.m, asked.n, efficiency=efficiency, **shared, **scheduled)
            time = np.where(vector, on_vector, time)
        if np.any(systolic):
            time = np.where(
                systolic, matmul.systolic_gemm_time(asked.m, asked.n, efficiency=efficiency, **shared), time
            )
        packed = asked.packed_bytes
        return time if packed is None else self._of_stored_weights(asked, packed, d, time, efficiency)

    def _of_stored_weights(
        self, asked: MatrixProduct, packed_bytes: Num, device: Devices, tiled: Num, efficiency: Num
    ) -> Num:
        """A product for inference: by kernels of few rows, or by tiled ones that unpack their weights once."""
        unpacked = asked.unpacking * asked.batch * asked.k * asked.n / (np.asarray(device.peak) * efficiency)
        streamed = decoding.streamed_gemm_time(
            asked.m,
            asked.n,
            k=asked.k,
            batch=asked.batch,
            element_bytes=asked.element_bytes,
            input_bytes=asked.element_bytes if asked.input_bytes is None else asked.input_bytes,
            packed_bytes=packed_bytes,
            peak=device.peak,
            bandwidth=device.bandwidth,
            efficiency=efficiency,
            bandwidth_efficiency=device.weight_efficiency,
            launch=device.gemm_launch,
            unpacking=asked.unpacking,
        )
        return np.minimum(tiled + unpacked, streamed)

    def _decode_attention(self, asked: DecodeAttention) -> Num:
        """Attention of single tokens over a cache."""
        d = self.device
        return decoding.decode_attention_time(
            asked.moved_bytes,
            asked.flops,
            batch=asked.batch,
            heads=asked.heads,
            key_value_heads=asked.key_value_heads,
            peak=d.attention_peak,
            bandwidth=d.bandwidth,
            processors=d.processors,
            efficiency=d.decode_efficiency * np.where(np.asarray(asked.portable) > 0, d.portable_attention, 1.0),
            bandwidth_efficiency=d.decode_bandwidth_efficiency,
            launch=d.decode_launch,
            each=d.decode_each,
            ramp=d.decode_ramp,
        )

    def _attention(self, asked: FusedAttention) -> Num:
        """Fused attention."""
        d = self.device
        share = np.where(np.asarray(asked.portable) > 0, d.portable_attention, 1.0)
        return kernels.attention_time(
            asked.queries,
            asked.keys,
            batch=asked.batch,
            heads=asked.heads,
            key_value_heads=asked.key_value_heads,
            head_size=asked.mean_head_size,
            causal=asked.causal,
            matmuls=5.0 if asked.backward else 2.0,
            element_bytes=2.0,
            peak=d.attention_peak,
            bandwidth=d.bandwidth,
            processors=d.processors,
            efficiency=share * (d.attention_backward_efficiency if asked.backward else d.attention_efficiency),
            bandwidth_efficiency=d.attention_bandwidth_efficiency,
            launch=d.attention_launch,
            fill=d.attention_fill,
            causal_block=d.causal_block,
        )

    def _stream(self, asked: Stream) -> Num:
        """Kernels bound by memory, of all kinds alike; random numbers cost nothing beside."""
        d = self.device
        return kernels.stream_time(
            asked.moved_bytes,
            asked.kernels,
            bandwidth=d.bandwidth,
            efficiency=d.reduce_efficiency if asked.reduces else d.stream_efficiency,
            launch=d.stream_launch,
        )


__all__ = ["AnalyticBackend", "Devices", "Level", "device_columns", "precisions_of"]
