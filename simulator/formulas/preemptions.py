"""Preemptions: how often spot offers are preempted from a run, and how long it then has no capacity.

Spot offers are preempted in groups: what counts are events, not devices, and after each there is no capacity for a
while.
"""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num


def preemption_events(instances: Num, preemption_rate: Num, *, grouping: Num) -> Num:
    """How often spot instances are preempted from a run, each time one of them or many together.

    ``preemption_rate n^(1 - grouping)``

    Capacity is preempted in groups, so that events are fewer than losses: n^grouping instances go in each. More
    instances never have fewer events, and never more than if each were preempted by itself.

    Parameters
    ----------
    instances
        That the run holds n [1].
    preemption_rate
        Of one instance that is held alone [1/s].
    grouping
        How much instances share their fate, from 0 for each by itself to 1 for all together [1].

    Returns
    -------
    Num
        Events over time [1/s].

    References
    ----------
    skypilot-org/spot-traces @221da1a, p3.2xlarge of AWS with one V100 each, 2022 and 2023: 0.308 events in an hour of
    one instance (2386 in 7735 hours of 15 traces), 0.474 while 4 are held (377 in 795 hours of 3, 1.6 instances lost in
    each) and 0.778 while 16 are (404 in 519 hours of 3, 9.3 lost in each). The logarithms rise by a third; the losses
    alone, which differ by week and zone, would say 0.29.

    Examples
    --------
    >>> [round(float(preemption_events(n, 0.308, grouping=2 / 3)), 2) for n in (1, 4, 16)]
    [0.31, 0.49, 0.78]
    """
    return np.asarray(preemption_rate) * np.power(instances, 1.0 - np.asarray(grouping))


def absent_time(elapsed: Num, event_rate: Num, *, wait: Num) -> Num:
    """Time without capacity, in which a run neither goes on nor is paid for: ``elapsed event_rate wait``.

    Parameters
    ----------
    elapsed
        Time for which the run holds its devices [s].
    event_rate
        Of preemptions of the whole run while it holds them [1/s].
    wait
        From a preemption until capacity is back [s].

    Returns
    -------
    Num
        Time [s].

    References
    ----------
    skypilot-org/spot-traces @221da1a: 5132 hours without all instances after 3167 events of 21 traces.

    Examples
    --------
    A day of work while 16 instances are held, 0.778 events an hour and 1.62 hours after each: 30 hours without.

    >>> round(float(absent_time(24.0, 0.778, wait=1.62)), 1)
    30.2
    """
    return elapsed * np.asarray(event_rate) * wait


def held_share(event_rate: Num, wait: Num) -> Num:
    """Share of time with capacity, of times that alternate with and without: ``1 / (1 + event_rate wait)``.

    Parameters
    ----------
    event_rate
        Of preemptions of the whole run while it holds its devices [1/s].
    wait
        From a preemption until capacity is back [s].

    Returns
    -------
    Num
        Share [1].

    References
    ----------
    Ross, Stochastic Processes, the chapter on alternating renewal processes. skypilot-org/spot-traces @221da1a has all
    of 1, 4 and 16 instances for 65, 63 and 43 % of the time.

    Examples
    --------
    >>> [round(float(held_share(rate, 1.62)), 2) for rate in (0.308, 0.474, 0.778)]
    [0.67, 0.57, 0.44]
    """
    return 1.0 / (1.0 + np.asarray(event_rate) * wait)
