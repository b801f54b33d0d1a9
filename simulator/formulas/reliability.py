"""Long runs: how often they are interrupted, what checkpoints cost, and how long they take in the end.

Interruptions come at random with a constant rate, whatever happened before (a Poisson process). After each the run
starts again at its last checkpoint. Exponents are cut at 300, so that a run that would never end takes absurdly long
and not infinitely, and arithmetic with it stays finite.
"""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num

_MOST = 300.0
"""The largest exponent."""
_LEAST = 1e-300
"""The smallest rate whose inverse is a number."""


def total_rate(devices: Num, failure_rate: Num, *, event_rate: Num) -> Num:
    """Interruptions of a run that any device can interrupt by failing, and each event of preemption: rates add.

    ``n failure_rate + event_rate``

    Devices that fail together, such as those of a node, are counted once in a rate that was measured on nodes and
    divided by their devices.

    Parameters
    ----------
    devices
        Devices of the run n [device].
    failure_rate
        Of one device [1/s].
    event_rate
        Of preemptions of the whole run, 0 unless it runs on spot offers [1/s].

    Returns
    -------
    Num
        Interruptions over time [1/s].

    References
    ----------
    Llama Team, The Llama 3 Herd of Models, arXiv 2407.21783, table 5: 419 unexpected interruptions in 54 days.

    Examples
    --------
    >>> round(total_rate(16384, 4.736e-4 / 86400, event_rate=0.0) * 54 * 86400)
    419
    """
    return devices * np.asarray(failure_rate) + event_rate


def mean_time(interruption_rate: Num) -> Num:
    """Mean time between interruptions, infinite where there are none: ``1 / interruption_rate``.

    Parameters
    ----------
    interruption_rate
        Of the whole run [1/s].

    Returns
    -------
    Num
        Time [s].

    References
    ----------
    Kokolis et al., Revisiting Reliability in Large-Scale Machine Learning Research Clusters, arXiv 2410.21680: 6.5
    failures in 1000 node-days are 1.8 hours between failures of 2048 nodes with 16384 devices.

    Examples
    --------
    >>> round(float(mean_time(2048 * 6.5e-3 / 86400)) / 3600, 1)
    1.8
    """
    rate = np.asarray(interruption_rate, dtype=np.float64)
    return np.where(rate > _LEAST, 1.0 / np.where(rate > _LEAST, rate, 1.0), np.inf)


def checkpoint_bytes(parameters: Num, parameter_bytes: Num, *, master_bytes: Num, state_bytes: Num) -> Num:
    """Size of a checkpoint from which training goes on: parameters, master copy and moments, without gradients.

    ``N (parameter_bytes + master_bytes + state_bytes)``

    Parameters
    ----------
    parameters
        Of the whole model N [parameter].
    parameter_bytes
        Of one parameter as the model holds it [B/parameter].
    master_bytes
        Of the optimizer's fp32 copy [B/parameter].
    state_bytes
        Of the optimizer's moments [B/parameter].

    Returns
    -------
    Num
        Size [B].

    References
    ----------
    Le Scao et al., BLOOM, arXiv 2211.05100; its trainer puts a checkpoint of 176 billion parameters at 2.3 TB (13.1
    bytes a parameter).

    Examples
    --------
    Mixed precision with Adam keeps 14 bytes a parameter.

    >>> checkpoint_bytes(176.2e9, 2, master_bytes=4, state_bytes=8) / 1e12
    2.4668
    """
    return parameters * (parameter_bytes + master_bytes + state_bytes)


def write_time(stored_bytes: Num, bandwidth: Num) -> Num:
    """Time that training stands still for a checkpoint: ``stored_bytes / bandwidth``.

    Parameters
    ----------
    stored_bytes
        Size of the checkpoint [B].
    bandwidth
        At which all devices together write to storage [B/s].

    Returns
    -------
    Num
        Time [s].

    References
    ----------
    Wang et al., GEMINI, SOSP 2023: 42 minutes for the states of MT-NLG 530B at 20 Gb/s.

    Examples
    --------
    >>> round(write_time(530e9 * 12, 20e9 / 8) / 60)
    42
    """
    return stored_bytes / bandwidth


def young_interval(write: Num, mean_time: Num) -> Num:
    """Work between checkpoints that loses least time, to first order: ``sqrt(2 write mean_time)``.

    Parameters
    ----------
    write
        Time to write a checkpoint [s].
    mean_time
        Between interruptions [s].

    Returns
    -------
    Num
        Time of work [s].

    References
    ----------
    Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974.

    Examples
    --------
    Five minutes to write and a day between interruptions: two hours.

    >>> round(float(young_interval(5 * 60.0, 86400.0)) / 60, 6)
    120.0
    """
    return np.sqrt(2.0 * np.asarray(write)) * np.sqrt(mean_time)


def daly_interval(write: Num, mean_time: Num) -> Num:
    """Work between checkpoints that loses least time, to higher order.

    ``sqrt(2 d M) (1 + sqrt(d / 2 M) / 3 + (d / 2 M) / 9) - d`` for ``d < 2 M``, else ``M``

    Parameters
    ----------
    write
        Time to write a checkpoint d [s].
    mean_time
        Between interruptions M [s].

    Returns
    -------
    Num
        Time of work [s].

    References
    ----------
    Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, Future Generation Computer
    Systems 22(3), 2006; figures 3 to 5 print 117, 57 and 9.1 minutes.

    Examples
    --------
    >>> [round(float(daly_interval(5.0, mean)), 1) for mean in (24 * 60.0, 6 * 60.0, 15.0)]
    [116.7, 56.7, 9.1]
    """
    ratio = write / (2.0 * np.asarray(mean_time))
    long = young_interval(write, mean_time) * (1.0 + np.sqrt(ratio) / 3.0 + ratio / 9.0) - write
    return np.where(ratio < 1.0, long, mean_time)


def expected_time(work: Num, interval: Num, *, write: Num, interruption_rate: Num, restart: Num) -> Num:
    """Expected duration of a run with checkpoints, interruptions, restarts and repeated work.

    ``(work / interval) exp(r restart) (exp(r (interval + write)) - 1) / r``, without interruptions
    ``work (1 + write / interval)``

    A restart and the writing of a checkpoint can be interrupted like work. The run ends with a checkpoint.

    Parameters
    ----------
    work
        Duration if nothing happened and nothing was written [s].
    interval
        Work between checkpoints [s].
    write
        Time to write a checkpoint [s].
    interruption_rate
        Of the whole run r [1/s].
    restart
        From an interruption to the first new step [s].

    Returns
    -------
    Num
        Time [s].

    References
    ----------
    Daly, Future Generation Computer Systems 22(3), 2006, the complete model of exponential failures.

    Examples
    --------
    A day of work, an hour between checkpoints of a minute: nothing fails, or every ten hours something does and costs
    ten minutes and the work since the last checkpoint.

    >>> plan = dict(write=60.0, restart=600.0)
    >>> [round(float(expected_time(86400.0, 3600.0, interruption_rate=r, **plan)) / 3600, 2) for r in (0.0, 1 / 36e3)]
    [24.4, 26.12]
    """
    exposed = interval + np.asarray(write)
    grown = np.minimum(interruption_rate * exposed, _MOST)
    stretch = np.where(grown > 0.0, np.expm1(grown) / np.where(grown > 0.0, grown, 1.0), 1.0)
    again = np.exp(np.minimum(np.asarray(interruption_rate) * restart, _MOST))
    return work / interval * exposed * again * stretch


def goodput(interval: Num, write: Num, *, interruption_rate: Num, restart: Num) -> Num:
    """Share of a run's time that is work, neither lost nor waited: ``work / expected_time``.

    Parameters
    ----------
    interval
        Work between checkpoints [s].
    write
        Time to write a checkpoint [s].
    interruption_rate
        Of the whole run [1/s].
    restart
        From an interruption to the first new step [s].

    Returns
    -------
    Num
        Share [1].

    References
    ----------
    Llama Team, arXiv 2407.21783, section 3.3.4: over 90 % effective training time on 16384 devices with an interruption
    every 3.1 hours. A checkpoint of 5.7 TB takes 2.8 s at 2 TB/s.

    Examples
    --------
    >>> round(float(goodput(250.0, 2.8, interruption_rate=1 / (3.09 * 3600), restart=750.0)), 2)
    0.91
    """
    return 1.0 / expected_time(1.0, interval, write=write, interruption_rate=interruption_rate, restart=restart)


def interruptions(elapsed: Num, interruption_rate: Num) -> Num:
    """Expected number of interruptions of a run: ``elapsed interruption_rate``.

    Parameters
    ----------
    elapsed
        Expected duration of the run with all that is lost [s].
    interruption_rate
        Of one cause or of all [1/s].

    Returns
    -------
    Num
        Number [1].

    References
    ----------
    OPT-175B was trained on 1024 A100 that lost some two machines a day (metaseq chronicles): over its two months some
    hundred, as "over 100 hosts" of Zhang et al., arXiv 2205.01068, section 2.5.

    Examples
    --------
    >>> interruptions(60 * 86400.0, 2 / 86400.0)
    120.0
    """
    return elapsed * interruption_rate


def restart_time(elapsed: Num, interruption_rate: Num, *, restart: Num) -> Num:
    """Part of a run that is spent on restarts, those that are interrupted again included.

    ``elapsed (1 - exp(-r restart))``

    Each interruption begins a restart that lasts ``restart`` or until the next interruption, on average
    ``(1 - exp(-r restart)) / r``.

    Parameters
    ----------
    elapsed
        Expected duration of the run [s].
    interruption_rate
        Of the whole run r [1/s].
    restart
        From an interruption to the first new step [s].

    Returns
    -------
    Num
        Time [s].

    Examples
    --------
    A hundred hours with an interruption every ten, each of ten minutes: a little less than 100 minutes.

    >>> round(float(restart_time(360e3, 1 / 36e3, restart=600.0)) / 60, 1)
    99.2
    """
    return elapsed * -np.expm1(-np.asarray(interruption_rate) * restart)


def replay_time(elapsed: Num, work: Num, *, interval: Num, write: Num, interruption_rate: Num, restart: Num) -> Num:
    """Part of a run that is done again: what is neither restarts, nor work that lasts, nor its checkpoints.

    ``elapsed exp(-r restart) - work (1 + write / interval)``; for each interruption about half an interval.

    Parameters
    ----------
    elapsed
        What `expected_time` gives [s].
    work
        Duration if nothing happened and nothing was written [s].
    interval
        Work between checkpoints [s].
    write
        Time to write a checkpoint [s].
    interruption_rate
        Of the whole run r [1/s].
    restart
        From an interruption to the first new step [s].

    Returns
    -------
    Num
        Time [s].

    Examples
    --------
    An hour between checkpoints: each of 2.6 interruptions loses half an hour.

    >>> plan = dict(interval=3600.0, write=60.0, interruption_rate=1 / 36e3, restart=600.0)
    >>> elapsed = expected_time(86400.0, **plan)
    >>> round(float(replay_time(elapsed, 86400.0, **plan) / 60 / interruptions(elapsed, 1 / 36e3)), 1)
    29.5
    """
    useful = work * (1.0 + np.asarray(write) / interval)
    going_on = elapsed * np.exp(-np.asarray(interruption_rate) * restart)
    return np.maximum(going_on - useful, 0.0)
