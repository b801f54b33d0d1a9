"""Networks between nodes, and tori: hops of rings and trees, the slowest of many nodes, links that serve a group."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num

_CHUNKING = 2.2
"""Loss by cutting a message for a tree, over that of chunks of the best size; a ring's are near the best."""

_LARGEST_CHUNK = 4.6
"""Delay of a tree's hops with the largest chunks over that of the smallest messages, less one."""

_LARGEST_CHUNK_OF_RING = 0.6
"""The same of a ring. NCCL's table of latencies has 1.9 and 4.0 us for a hop inside and between nodes of a ring that
sends lines of 128 bytes at nearly full rate (LL128), beside some 0.9 and 4.7 us here for small messages."""


def steps_inside(fan_out: Num, passes: Num, *, units: Num) -> Num:
    """Hops inside the nodes, one after the other, of a collective over a network between nodes.

    A tree of an all-reduce is a chain within each node, up and down: ``2 (k - 1)``. A ring passes the ranks of all
    nodes: ``N (k - 1)``.

    Parameters
    ----------
    fan_out
        Ranks in one node k [1].
    passes
        1 for all-gather and reduce-scatter, 2 for all-reduce [1].
    units
        Nodes N [1].

    Returns
    -------
    Num
        Hops [1].

    References
    ----------
    NCCL 2.30, src/graph/tuning.cc: ``2 (nRanks / nNodes - 1)`` of a tree, ``nsteps - nInterSteps`` of a ring.

    Examples
    --------
    >>> [float(steps_inside(8, passes, units=4)) for passes in (1, 2)]
    [28.0, 14.0]
    """
    chain = np.asarray(fan_out) - 1.0
    return np.asarray(np.where(np.asarray(passes) > 1.0, passes * chain, units * chain))


def steps_between(units: Num, passes: Num) -> Num:
    """Hops between nodes, one after the other: ``2 log2 N`` of an all-reduce, ``N - 1`` of anything else.

    Parameters
    ----------
    units
        Nodes N [1].
    passes
        1 for all-gather, reduce-scatter and all-to-all, 2 for all-reduce [1].

    Returns
    -------
    Num
        Hops [1].

    References
    ----------
    NCCL 2.30, src/graph/tuning.cc; Sanders, Speck, Traeff, Two-tree algorithms for full bandwidth broadcast, reduction
    and scan, Parallel Computing 35, 2009.

    Examples
    --------
    >>> [float(steps_between(8, passes)) for passes in (1, 2)]
    [7.0, 6.0]
    """
    nodes = np.maximum(units, 1.0)
    return np.asarray(np.where(np.asarray(passes) > 1.0, passes * np.log2(nodes), nodes - 1.0))


def pipelining_time(hops: Num, transfer: Num, *, passes: Num) -> Num:
    """What a message loses that is passed on in chunks: ``min(2 c sqrt(h t), m h)``.

    A message in c chunks over a chain of hops takes ``(hops + c) (delay + transfer / c)``. With the best c this is
    ``h + t + 2 sqrt(h t)``, where h is the delay of all hops. Chunks have a largest size, beyond which only filling and
    draining the chain is lost. On a tree of an all-reduce c is 2.2 and m 4.6, on a ring 1 and 0.6.

    Parameters
    ----------
    hops
        Delay of all hops that follow each other, for a small message h [s].
    transfer
        Time of the message at the full rate t [s].
    passes
        1 for a ring of an all-gather or reduce-scatter, 2 for a tree of an all-reduce [1].

    Returns
    -------
    Num
        Time beside both [s].

    References
    ----------
    Sanders, Speck, Traeff, Two-tree algorithms, Parallel Computing 35, 2009, on pipelined trees; Hu et al.,
    Demystifying NCCL, arXiv 2507.04786, on chunks. The constants of trees were fitted to 400 nccl-tests of 2 to 48
    nodes on five networks, which miss the time by 7 % in the median with this term and by 16 % without; those of rings
    follow from NCCL 2.30, src/graph/tuning.cc.

    Examples
    --------
    >>> [f"{float(pipelining_time(25e-6, transfer, passes=2)) * 1e6:.0f} us" for transfer in (1e-6, 100e-6, 1e-2)]
    ['22 us', '115 us', '115 us']
    """
    tree = np.asarray(passes) > 1.0
    chunking, most = np.where(tree, _CHUNKING, 1.0), np.where(tree, _LARGEST_CHUNK, _LARGEST_CHUNK_OF_RING)
    return np.asarray(np.minimum(2.0 * chunking * np.sqrt(np.asarray(hops) * transfer), most * np.asarray(hops)))


def slowest_excess(units: Num, *, deviation: Num) -> Num:
    """How much longer than usual the slowest of several nodes takes: ``deviation sqrt(2 ln N)``.

    A step ends when its slowest node does. Of N times that vary independently with a normal tail, the largest exceeds
    the mean by so much at most, and nearly so where there are many.

    Parameters
    ----------
    units
        Nodes N [1].
    deviation
        Standard deviation of a step's time from node to node, over the time [1].

    Returns
    -------
    Num
        Share of the step's time [1]; 0 for one node.

    References
    ----------
    Boucheron, Lugosi, Massart, Concentration Inequalities, 2013, theorem 2.5; Chen et al., Revisiting Distributed
    Synchronous SGD, arXiv 1604.00981, section 2, on the slowest of many workers; Lin et al., Understanding Stragglers
    in Large Model Training Using What-if Analysis, arXiv 2505.05713.

    Examples
    --------
    >>> [round(float(slowest_excess(nodes, deviation=0.02)), 3) for nodes in (1, 2, 16, 512)]
    [0.0, 0.024, 0.047, 0.071]
    """
    return np.asarray(deviation * np.sqrt(2.0 * np.log(np.maximum(units, 1.0))))


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
