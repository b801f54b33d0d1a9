"""Time of collective operations over one level of wiring, and how a group of ranks spreads over the levels."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num

_OVERLAP_NORM = 4.0
"""Exponent of the norm that joins the two limits of what can hide."""

_RAMP_END = 16.0 * 2**20
"""Message size beyond which the rate no longer rises [B]."""

_REDUCTION_RAMP_END = 64.0 * 2**20
"""The same of an all-reduce that a switch adds up [B]."""

_NEARLY_ALL = 1.0 - 1e-12
"""Largest share of the ranks that a unit may hold in an all-to-all."""


def ranks_within(degree: Num, stride: Num, *, reach: Num) -> Num:
    """How many ranks of a group lie within one unit of wiring: ``clip(floor(reach / stride), 1, degree)``.

    Ranks of a group are `stride` devices apart, since the axes inside of it lie between them.

    Parameters
    ----------
    degree
        Ranks in the group [1].
    stride
        Devices from one rank to the next [device].
    reach
        Devices that the unit joins, such as 8 of a node [device].

    Returns
    -------
    Num
        Ranks within one unit [1].

    Examples
    --------
    Data parallelism over 64 devices around tensor parallelism of 4 has 2 ranks in a node of 8.

    >>> float(ranks_within(16, 4, reach=8))
    2.0
    """
    return np.minimum(np.maximum(np.floor(np.asarray(reach) / stride), 1.0), degree)


def reduced_volume(message_bytes: Num, fan_out: Num, *, inner_ranks: Num, passes: Num) -> Num:
    """Bytes through one device's link at one level of an all-gather, reduce-scatter or all-reduce.

    ``passes (k - 1) / k S / r``: the levels inside have cut the message S into r parts.

    Parameters
    ----------
    message_bytes
        Whole message S: the gathered, or the reduced tensor [B].
    fan_out
        Units joined at this level k [1].
    inner_ranks
        Ranks within one such unit r [1].
    passes
        1 for all-gather and reduce-scatter, 2 for all-reduce [1].

    Returns
    -------
    Num
        Bytes sent by one device over this level [B].

    References
    ----------
    Thakur, Rabenseifner, Gropp, Optimization of Collective Communication Operations in MPICH, 2005.

    Examples
    --------
    >>> reduced_volume(8e9, 8, inner_ranks=1, passes=2)
    14000000000.0
    """
    return passes * (fan_out - 1.0) / fan_out * message_bytes / inner_ranks


def exchanged_volume(
    message_bytes: Num,
    fan_out: Num,
    *,
    inner_ranks: Num,
    degree: Num,
    copies: Num = 1.0,
    expert_groups: Num = 1.0,
    groups_per_token: Num = 1.0,
) -> Num:
    """Bytes through one device's link at one level of an all-to-all: ``(k - 1) S / c q``, ``n / (k r)`` times.

    One of k units at the level has r of the n ranks, and a token, of which the message holds c copies, goes to a unit
    with the probability q. With one copy ``q = r / n``, and all goes straight to its rank. Several copies are sent once
    to each unit and on from there to the units inside, so that what crosses a level inside came from everywhere. Where
    they go to ranks chosen at random ``q = 1 - (1 - r / n)^c``; where the ranks hold G groups of experts of which a
    token may use g ::

        q = min(1 - (1 - r / n)^c, max(K, 1) g / G (1 - (1 - min(K, 1) / g)^c))    K = G r / n groups of a unit

    Parameters
    ----------
    message_bytes
        Buffer of one device, with all copies S [B].
    fan_out
        Units joined at this level k [1].
    inner_ranks
        Ranks within one such unit r [1].
    degree
        Ranks in the group n [1].
    copies
        Copies of each token in the buffer that are sent once to all ranks of a unit c [1].
    expert_groups
        Groups of neighbouring experts G [1].
    groups_per_token
        Of these the ones whose experts a token may use g [1].

    Returns
    -------
    Num
        Bytes sent by one device over this level [B].

    Notes
    -----
    Exact for units of at most one group, if copies fall on the chosen groups at random; a bound for larger ones.

    References
    ----------
    DeepSeek-AI, DeepEP: tokens cross to a node once and are copied to its ranks there. DeepSeek-AI, DeepSeek-V3,
    arXiv 2412.19437, sections 2.1.2 and 3.2.2: a token goes to at most 4 of 8 nodes over InfiniBand, then over NVLink.

    Examples
    --------
    >>> [round(float(exchanged_volume(16e6, 2, inner_ranks=8, degree=16, copies=copies)), 1) for copies in (1, 8)]
    [8000000.0, 1992187.5]

    DeepSeek-V3's 8 experts of a token lie on 3.6 of its 4 nodes, of which 3.15 are others.

    >>> sent = exchanged_volume(8.0, 8, inner_ranks=8, degree=64, copies=8, expert_groups=8, groups_per_token=4)
    >>> round(float(sent), 2)
    3.15
    """
    ranks, groups = np.asarray(degree, dtype=np.float64), np.asarray(expert_groups, dtype=np.float64)
    share = inner_ranks / ranks
    reached = _reached(share, copies)
    if np.any(groups > 1.0):
        held = groups * share
        of_group = groups_per_token / groups * _reached(np.minimum(held, 1.0) / groups_per_token, copies)
        reached = np.where(groups > 1.0, np.minimum(reached, np.maximum(held, 1.0) * of_group), reached)
    forwarded = np.where(np.asarray(copies) > 1.0, ranks / (np.asarray(fan_out) * inner_ranks), 1.0)
    return np.asarray((fan_out - 1.0) * message_bytes / copies * reached * forwarded)


def _reached(share: Num, copies: Num) -> Num:
    """Probability that some of so many copies go to a place with a share of all places [1]."""
    reached: Num = -np.expm1(copies * np.log1p(-np.minimum(share, _NEARLY_ALL)))
    return reached


def link_latency(fan_out: Num, passes: Num, *, latency: Num, latency_per_rank: Num) -> Num:
    """Fixed time of a collective: rings while groups are small, trees of an all-reduce where they are large.

    ``latency + latency_per_rank steps`` with ``steps = k - 1`` for one pass and ``2 min(k - 1, 2 log2 k)`` for an
    all-reduce; zero for a single rank.

    Parameters
    ----------
    fan_out
        Units joined k [1].
    passes
        1 for all-gather, reduce-scatter and all-to-all, 2 for all-reduce [1].
    latency
        Time of an empty collective [s].
    latency_per_rank
        Time of a step [s].

    Returns
    -------
    Num
        Fixed time [s].

    References
    ----------
    NCCL's ring and double binary tree; constants fitted on nccl-tests.

    Examples
    --------
    >>> print(f"{float(link_latency(8, 1, latency=8e-6, latency_per_rank=1e-6)) * 1e6:.0f} us")
    15 us
    """
    k = np.maximum(fan_out, 1.0)
    ring = k - 1.0
    steps = np.where(np.asarray(passes) > 1.0, passes * np.minimum(ring, 2.0 * np.log2(k)), ring)
    return np.where(k > 1.0, latency + latency_per_rank * steps, 0.0)


def ramp_time(volume: Num, ramp: Num, *, added_up: Num = 0.0) -> Num:
    """Time lost while the rate rises with the size of the message: ``ramp sqrt(min(volume, 16 MiB))``.

    Where a switch adds up, the rate rises up to 64 MiB.

    Parameters
    ----------
    volume
        Bytes sent by one device [B].
    ramp
        Constant of the link [s/B^0.5].
    added_up
        1 where the switch adds an all-reduce up [1].

    Returns
    -------
    Num
        Time [s].

    References
    ----------
    Fitted on nccl-tests of 2 to 8 devices: median error 2 to 5 % with this term, 5 to 17 % without; of eight devices
    whose switch adds up 4 and 8 % (NVLink 4 and 5), 6 and 9 % with the end at 16 MiB.

    Examples
    --------
    >>> print(f"{float(ramp_time(2**20, 1e-8)) * 1e6:.1f} us")
    10.2 us
    """
    end = np.where(np.asarray(added_up) > 0, _REDUCTION_RAMP_END, _RAMP_END)
    return np.asarray(ramp * np.sqrt(np.minimum(volume, end)))


def measured_link_time(
    message_bytes: Num,
    volume: Num,
    *,
    latency: Num,
    medium_cost: Num,
    medium_size: Num,
    large_cost: Num,
    large_size: Num,
    rate: Num,
) -> Num:
    """Time of a collective whose constants were fitted to measured times of one kind and number of ranks.

    ``latency + medium_cost S^2 / (S^2 + medium_size^2) + large_cost S^2 / (S^2 + large_size^2) + volume / rate``:
    libraries send small messages by a protocol of low latency and low rate, medium and large ones by others that cost
    more to start and carry more (LL, LL128 and Simple of NCCL).

    Parameters
    ----------
    message_bytes
        Whole message S, by whose size the library chooses [B].
    volume
        Bytes sent by one device [B].
    latency
        Time of an empty collective [s].
    medium_cost
        What a medium message takes beyond it [s].
    medium_size
        Message that takes half of that [B].
    large_cost
        What a large message takes beyond a medium one [s].
    large_size
        Message that takes half of that [B].
    rate
        Rate of a long collective [B/s].

    Returns
    -------
    Num
        Time [s].

    Notes
    -----
    It rises with the size of the message, whatever the constants. The form was chosen on nccl-tests of 2 to 8 devices
    over NVLink: of every second size of message, held out, it misses the time by 4 to 5 % in the median, and by 7 %
    between 0.5 and 32 MiB, where the library's choice of a protocol is a step.

    References
    ----------
    Hu et al., Demystifying NCCL, arXiv 2507.04786, on the three protocols.

    Examples
    --------
    All-gather of 512 MiB over two A100 was measured at 1790 us, of 1 KiB at 9.1 us.

    >>> constants = dict(latency=9e-6, medium_cost=3e-6, medium_size=2**14, large_cost=21e-6, large_size=1.5 * 2**20)
    >>> for size in (2.0**10, 2.0**29):
    ...     print(f"{measured_link_time(size, size / 2, rate=153e9, **constants) * 1e6:.1f} us")
    9.0 us
    1787.5 us
    """
    squared = np.square(message_bytes)
    medium = medium_cost * squared / (squared + np.square(medium_size))
    large = large_cost * squared / (squared + np.square(large_size))
    return np.asarray(latency + medium + large + volume / rate)


def ring_rate(fan_out: Num, *, bandwidth: Num, efficiency: Num, pair_loss: Num) -> Num:
    """Rate of a long collective: ``bandwidth efficiency (1 - pair_loss / k)``.

    Parameters
    ----------
    fan_out
        Ranks joined k [1].
    bandwidth
        Nominal rate of a device in one direction [B/s].
    efficiency
        Share of it that many ranks reach [1].
    pair_loss
        Loss of small groups; negative for a bridge that serves few better than many [1].

    Returns
    -------
    Num
        Rate [B/s].

    Examples
    --------
    All-gather of 8 A100 over NVLink.

    >>> print(f"{ring_rate(8, bandwidth=300e9, efficiency=0.77, pair_loss=0.45) / 1e9:.0f} GB/s")
    218 GB/s
    """
    return bandwidth * efficiency * (1.0 - pair_loss / fan_out)


def cube_mesh_share(fan_out: Num, stride: Num = 1.0) -> Num:
    """Share of six NVLinks that a group of V100 in the hybrid cube mesh can use: 1, 2, 4 or 6 links.

    Parameters
    ----------
    fan_out
        Ranks joined k [1].
    stride
        Devices from one rank to the next [device].

    Returns
    -------
    Num
        Share of the device's links [1].

    Notes
    -----
    Valid for groups of up to 8 in the order of the DGX-1. A pair has one link or two; in whatever order, the slowest of
    the pairs that a plan makes has one. The four of a quad have four links each, and four ranks of both quads are a
    ring of single links, each way.

    References
    ----------
    NVIDIA DGX-1 with Tesla V100 system architecture, figure 4, and its matrix of links (nvidia-smi topo); all-reduce
    of 2, 4, 8 measured at 22.6, 85.4, 134.5 GB/s.

    Examples
    --------
    >>> [round(150 * 0.89 * float(cube_mesh_share(k)), 1) for k in (2, 4, 8)]
    [22.2, 89.0, 133.5]
    >>> round(150 * 0.89 * float(cube_mesh_share(4, 2)), 1)
    44.5
    """
    k = np.asarray(fan_out)
    four = np.where(np.asarray(stride) > 1.0, 2.0 / 6.0, 4.0 / 6.0)
    return np.where(k <= 2.0, 1.0 / 6.0, np.where(k <= 4.0, four, 1.0))


def exposed(transfer: Num, window: Num) -> Num:
    """Time of a transfer that compute beside it does not hide.

    Parameters
    ----------
    transfer
        Time of the transfer alone [s].
    window
        Time of compute that it may run beside [s].

    Returns
    -------
    Num
        All of it where nothing runs beside it, and next to nothing where the window is much longer. Near balance some
        of it is exposed, since neither of the two is even over a step. The norm is this project's own, with the
        exponent of smooth roofline models [s].

    Examples
    --------
    >>> [round(float(exposed(3.0, window)), 3) for window in (0.0, 3.0, 30.0)]
    [3.0, 0.477, 0.0]
    """
    taken, held = np.asarray(transfer), np.asarray(window)
    larger = np.maximum(np.maximum(taken, held), np.finfo(float).tiny)
    smaller = np.minimum(taken, held)
    short_of_all = -np.expm1(np.log1p((smaller / larger) ** _OVERLAP_NORM) / -_OVERLAP_NORM)
    return np.asarray(taken - smaller + smaller * short_of_all)
