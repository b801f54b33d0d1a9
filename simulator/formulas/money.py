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
