"""Groups of ranks on a torus: how far they extend, which links serve them, and what has to cross its middle."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num


def torus_extent(degree: Num, stride: Num, *, inside: Num, extent: Num) -> Num:
    """Extent of a group along one axis of a torus whose axes are numbered from the inside.

    Parameters
    ----------
    degree
        Ranks in the group [1].
    stride
        Devices from one rank to the next [device].
    inside
        Devices in one step along this axis: product of the extents of the axes before it [device].
    extent
        Devices along this axis [device].

    Returns
    -------
    Num
        Ranks of the group along this axis, 1 where it does not extend along it [1].

    Examples
    --------
    A group of 256 around a group of 12 spans the two outer axes of a torus of 12 x 16 x 16.

    >>> [float(torus_extent(256, 12, inside=i, extent=e)) for i, e in ((1, 12), (12, 16), (192, 16))]
    [1.0, 16.0, 16.0]
    """
    first = np.clip(np.asarray(stride) / inside, 1.0, extent)
    last = np.clip(np.asarray(stride) * degree / inside, 1.0, extent)
    return np.maximum(1.0, last / first)


def torus_links(extent_used: Num, extent: Num, *, wraps: Num) -> Num:
    """Links along one axis that serve a group: 2 on a closed ring, 1 on a line, 0 where the axis is not used.

    Parameters
    ----------
    extent_used
        Ranks of the group along the axis [1].
    extent
        Devices along the axis [device].
    wraps
        1 where the whole axis closes to a ring [1].

    Returns
    -------
    Num
        Links of one device, in one direction each [1].

    Notes
    -----
    On a line the link beside the end must carry every other rank's part; on a ring the two directions share it.

    References
    ----------
    Google's scaling book (jax-ml), section on communication within a slice.

    Examples
    --------
    >>> [float(torus_links(used, 16, wraps=1)) for used in (1, 4, 16)]
    [0.0, 1.0, 2.0]
    """
    whole = (np.asarray(extent_used) >= extent) & (np.asarray(wraps) > 0.0) & (np.asarray(extent) > 2.0)
    return np.where(np.asarray(extent_used) <= 1.0, 0.0, np.where(whole, 2.0, 1.0))


def torus_crossing_time(message_bytes: Num, extent_used: Num, *, extent: Num, wraps: Num, bandwidth: Num) -> Num:
    """Time that an all-to-all needs at least to cross the middle of one axis of a torus.

    ``M e / 8 W`` on a closed ring and ``M e / 4 W`` on a line: half of what half of the devices send has to cross, over
    two links of each line of devices along the axis, or over one.

    Parameters
    ----------
    message_bytes
        What one device exchanges M [B].
    extent_used
        Ranks of the group along the axis e [1].
    extent
        Devices along the axis [device].
    wraps
        1 where the whole axis closes to a ring [1].
    bandwidth
        Of one link in one direction W [B/s].

    Returns
    -------
    Num
        Time, 0 where the group does not extend along the axis [s]; broadcast shape of the arguments.

    References
    ----------
    Google's scaling book (jax-ml), section on all-to-all: N / 4 of an all-gather on a ring; Dally and Towles,
    Principles and Practices of Interconnection Networks, section 3.3.1: throughput is bounded by the bisection.

    Examples
    --------
    1 GB of each device on 8 x 8 x 8 chips of TPU v5p, whose links carry 100 GB/s.

    >>> float(torus_crossing_time(1e9, 8, extent=8, wraps=1, bandwidth=100e9))
    0.01
    """
    whole = (np.asarray(extent_used) >= extent) & (np.asarray(wraps) > 0.0) & (np.asarray(extent) > 2.0)
    crossing = message_bytes * np.asarray(extent_used) / np.where(whole, 8.0, 4.0) / bandwidth
    return np.where(np.asarray(extent_used) > 1.0, crossing, 0.0)
