"""Pipelines whose devices have several chunks of layers, in turn or in the shape of a V."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num


def ends_in_turn(stages: Num, virtual_stages: Num, *, first_extra: Num, last_extra: Num) -> Num:
    """Time that an interleaved pipeline takes longer where both of its ends are slower than the stages between them.

    ``(p - 1 / v) min(e_first, e_last)``: the first group of micro-batches goes through the chunk with the embedding and
    then through the one with the head, and each is waited for in turn.

    Parameters
    ----------
    stages
        Pipeline stages p [1].
    virtual_stages
        Chunks of layers of one device v, two or more [1].
    first_extra
        What one micro-batch takes longer on the first stage than on one inside e_first [s].
    last_extra
        The same of the last stage e_last [s].

    Returns
    -------
    Num
        Time; none where one of them is not slower [s].

    Notes
    -----
    Exact against a replay of torch's Interleaved1F1B with ends of equal time; within a tenth with a slower last one.
    With zero bubbles and two chunks it is up to a half too much.

    References
    ----------
    Narayanan et al., SC'21, arXiv 2104.04473, section 2.2, for the schedule; the closed form is this project's own.

    Examples
    --------
    >>> [float(ends_in_turn(4, 2, first_extra=extra, last_extra=3.0)) for extra in (1.5, -1.0)]
    [5.25, 0.0]
    """
    return (np.asarray(stages) - 1.0 / np.asarray(virtual_stages)) * np.maximum(
        np.minimum(first_extra, last_extra), 0.0
    )


def v_shaped_idle_share(
    stages: Num,
    micro_batches: Num,
    *,
    paired: Num = 0.0,
    forward_share: Num = 1.0 / 3.0,
    weight_gradient_share: Num = 1.0 / 3.0,
) -> Num:
    """Part of fill and drain in which a stage is idle that has one chunk of layers from each end of the model.

    Half of, with f the share of the forward pass, i that of input gradients and w that of weight gradients:
    ``max(i, 2 (i - w))`` for ZB-V with enough micro-batches, and ``i + max(f, i) + 2 f max(p - m, 0) / (p - 1)
    - 2 w max(m - p, 0) / (p - 1)`` where that is more, with few of them; ``f + max(i - w, 0) + max(i - f - f / (p - 1),
    0)`` for DualPipeV, which runs a forward and a backward pass as a pair.

    Parameters
    ----------
    stages
        Pipeline stages p, two or more [1].
    micro_batches
        Micro-batches of one step m [1].
    paired
        1 for DualPipeV, else 0 [1].
    forward_share
        Share of the forward pass in forward and backward time f [1].
    weight_gradient_share
        Share of weight gradients in forward and backward time w [1].

    Returns
    -------
    Num
        Idle part [1].

    Notes
    -----
    Exact against a replay of torch's schedules with twice as many micro-batches as stages or more; between as many and
    twice as many within a twentieth of the fill. Where the forward pass takes longer than input gradients, ZB-V idles
    ``(f - i)(2 - 1 / (p - 1))`` besides. The passes of a pair run one after the other, as torch runs them.

    References
    ----------
    Qi et al., Zero Bubble Pipeline Parallelism, arXiv 2401.10241, section 6; DeepSeek-AI, arXiv 2412.19437,
    section 3.2.1. The closed forms are this project's own, read off the replays.

    Examples
    --------
    >>> round(float(v_shaped_idle_share(4, 8)), 3), round(float(v_shaped_idle_share(4, 8, paired=1)), 3)
    (0.167, 0.167)
    >>> round(float(v_shaped_idle_share(4, 4)), 3)
    0.333
    """
    f, w, p, m = forward_share, weight_gradient_share, np.asarray(stages), np.asarray(micro_batches)
    i = 1 - f - w
    gaps = np.maximum(p - 1, 1)
    enough = np.maximum(i, 2 * (i - w)) + np.maximum(f - i, 0) * (2 * gaps - 1) / gaps
    few = i + np.maximum(f, i) + 2 * (f * np.maximum(p - m, 0) - w * np.maximum(m - p, 0)) / gaps
    pairs = f + np.maximum(i - w, 0) + np.maximum(i - f - f / gaps, 0)
    idle: Num = np.where(np.asarray(paired) > 0, pairs, np.maximum(enough, few)) / 2
    return idle


def v_shaped_step_time(
    first_stage: Num,
    other_stages: Num,
    *,
    stages: Num,
    micro_batches: Num,
    paired: Num = 0.0,
    forward_share: Num = 1.0 / 3.0,
    weight_gradient_share: Num = 1.0 / 3.0,
) -> Num:
    """Time of all micro-batches through a pipeline in the shape of a V, whose first stage has embedding and head.

    The longer of two bounds: the stages with layers alone, ``(m + (p - 1) s) t`` with s of `v_shaped_idle_share`; and a
    slower first stage, which other stages keep waiting less: ``m t_1 + (p - 2) f t / 2`` for ZB-V, ``m t_1 + (p - 1)
    max(i - f, 0) t / 2`` for DualPipeV.

    Parameters
    ----------
    first_stage
        Forward and backward time of one micro-batch on the first stage t_1 [s].
    other_stages
        The same of any other stage t [s].
    stages
        Pipeline stages p, two or more [1].
    micro_batches
        Micro-batches of one step m [1].
    paired
        1 for DualPipeV, else 0 [1].
    forward_share
        Share of the forward pass in forward and backward time f [1].
    weight_gradient_share
        Share of weight gradients in forward and backward time w [1].

    Returns
    -------
    Num
        Time [s].

    Notes
    -----
    Against replays of torch's schedules with a first stage that takes up to twice as long it is at most 1 % too short.
    The bounds are this project's own.

    References
    ----------
    Qi et al., arXiv 2401.10241, section 6; DeepSeek-AI, arXiv 2412.19437, section 3.2.1.

    Examples
    --------
    >>> float(v_shaped_step_time(6.0, 6.0, stages=4, micro_batches=8)), 8 * 6 + 3
    (51.0, 51)
    >>> float(v_shaped_step_time(7.0, 6.0, stages=4, micro_batches=8, paired=1)), 8 * 7
    (56.0, 56)
    """
    f, w, p = forward_share, weight_gradient_share, np.asarray(stages)
    share = v_shaped_idle_share(
        p, micro_batches, paired=paired, forward_share=f, weight_gradient_share=weight_gradient_share
    )
    alike = (micro_batches + (p - 1.0) * share) * other_stages
    waits = np.where(np.asarray(paired) > 0.0, (p - 1.0) * np.maximum(1.0 - 2.0 * f - w, 0.0), (p - 2.0) * f) / 2.0
    slower = micro_batches * first_stage + waits * other_stages
    return np.where(np.asarray(first_stage) > other_stages, np.maximum(alike, slower), alike)
