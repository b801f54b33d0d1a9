"""From a step time to a run: steps, time, device-hours, money, energy and carbon."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num


def steps(tokens: Num, tokens_per_step: Num) -> Num:
    """Steps to see a number of tokens: ``ceil(tokens / tokens_per_step)``.

    Parameters
    ----------
    tokens
        Tokens to train on [token].
    tokens_per_step
        Tokens of one step [token].

    Returns
    -------
    Num
        Steps [1].

    Examples
    --------
    >>> float(steps(300e9, 3.2e6))
    93750.0
    """
    return np.ceil(np.asarray(tokens) / tokens_per_step)


def device_seconds(seconds: Num, devices: Num) -> Num:
    """Time of all devices together: ``seconds devices``.

    Parameters
    ----------
    seconds
        Duration of the run [s].
    devices
        Devices held [device].

    Returns
    -------
    Num
        Device-seconds [s].

    Examples
    --------
    >>> device_seconds(3600.0, 8)
    28800.0
    """
    return seconds * devices


def cost(held: Num, price: Num) -> Num:
    """Rent of a run: ``device_seconds price``.

    Parameters
    ----------
    held
        Device-seconds [s].
    price
        Of one device [USD/s].

    Returns
    -------
    Num
        Money [USD].

    Examples
    --------
    Eight devices for a day at 2 USD an hour.

    >>> cost(8 * 86400.0, 2 / 3600)
    384.0
    """
    return held * price


def owned_price(purchase: Num, lifetime: Num, *, power: Num, overhead: Num, tariff: Num) -> Num:
    """What an owned device costs over time: its price spread over its life, and electricity at its rated power.

    ``purchase / lifetime + power overhead tariff``

    Parameters
    ----------
    purchase
        Of one device with its share of host and network [USD].
    lifetime
        Over which it is used without a pause [s].
    power
        Of one device with its share of the host [W].
    overhead
        Power usage effectiveness [1].
    tariff
        Price of electricity [USD/J].

    Returns
    -------
    Num
        Price [USD/s].

    References
    ----------
    Barroso, Hoelzle and Ranganathan, The Datacenter as a Computer, 2018, the chapter on costs, without interest.

    Examples
    --------
    A device of 30,000 USD over five years, 1275 W with its share of a DGX H100, at 8 cents a kilowatt-hour.

    >>> year = 365.25 * 86400
    >>> round(owned_price(30e3, 5 * year, power=1275.0, overhead=1.2, tariff=0.08 / 3.6e6) * 3600, 3)
    0.807
    """
    return purchase / lifetime + power * overhead * tariff


def energy(held: Num, power: Num, *, overhead: Num) -> Num:
    """Energy of a run with the site's overhead: ``device_seconds power overhead``.

    Parameters
    ----------
    held
        Device-seconds [s].
    power
        Of one device with its share of the host [W].
    overhead
        Power usage effectiveness [1].

    Returns
    -------
    Num
        Energy [J].

    References
    ----------
    Patterson et al., Carbon Emissions and Large Neural Network Training, arXiv 2104.10350, section 2.

    Examples
    --------
    >>> energy(8 * 86400.0, 812.5, overhead=1.2) / 3.6e6
    187.2
    """
    return held * power * overhead


def emissions(joules: Num, intensity: Num) -> Num:
    """Emissions of an energy: ``energy intensity``.

    Parameters
    ----------
    joules
        Energy [J].
    intensity
        Of the electricity [kgCO2e/J].

    Returns
    -------
    Num
        Emissions [kgCO2e].

    References
    ----------
    Patterson et al., arXiv 2104.10350, section 2.

    Examples
    --------
    >>> round(float(emissions(187.2 * 3.6e6, 0.475 / 3.6e6)), 2)
    88.92
    """
    return joules * intensity


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
