"""Pipelines: idle time and micro-batches in flight of each schedule."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num


def inner_layers(layers: Num, stages: Num) -> Num:
    """Layers of the fullest stage between the first and the last: ``ceil(L / p)``.

    Parameters
    ----------
    layers
        Layers of the model L [1].
    stages
        Pipeline stages p [1].

    Returns
    -------
    Num
        Layers of one stage [1].

    References
    ----------
    Narayanan et al., SC'21, arXiv 2104.04473, section 2.2.

    Examples
    --------
    >>> float(inner_layers(96, 8)), float(inner_layers(70, 12))
    (12.0, 6.0)
    """
    return np.ceil(np.asarray(layers) / stages)


def end_layers(layers: Num, stages: Num) -> Num:
    """Layers of the first and of the last stage, which also hold embedding and head: what the others leave.

    ``(L - (p - 2) ceil(L / p)) / 2``, or where that many layers are not there ``floor(L / p)``; all of them where there
    is one stage.

    Parameters
    ----------
    layers
        Layers of the model L [1].
    stages
        Pipeline stages p [1].

    Returns
    -------
    Num
        Layers of one such stage [1].

    Notes
    -----
    With layers that the stages divide it is ``L / p``. Where they do not, the ends have fewer, as where embedding and
    head are counted as a layer each.

    References
    ----------
    The BLOOM-176B run, 70 layers on 12 stages (BigScience, arXiv 2211.05100, section 3.3): 5 at the ends, 6 inside.

    Examples
    --------
    >>> float(end_layers(70, 12)), float(end_layers(96, 8)), float(end_layers(24, 1)), float(end_layers(96, 40))
    (5.0, 12.0, 24.0, 2.0)
    """
    left = (layers - (np.asarray(stages) - 2.0) * inner_layers(layers, stages)) / 2.0
    ends = np.where(left >= 0.0, left, np.floor(np.asarray(layers) / stages))
    return np.where(np.asarray(stages) > 1.0, ends, layers)


def stage_layers(
    layers: Num, stages: Num, *, stage: Num, first: Num = 0.0, last: Num = 0.0, v_shaped: Num = 0.0
) -> Num:
    """Layers of a stage; over all stages they are the model's.

    The ends have what is given, or `end_layers`; where one of them is given, the other has an even share of what is
    left. The stages inside share the rest, the first of them with one layer more where it does not divide. In the shape
    of a V the first stage has both ends: ``2 ceil(L / 2p)`` layers each, and of the first what the others leave.

    Parameters
    ----------
    layers
        Layers of the model L [1].
    stages
        Pipeline stages p [1].
    stage
        Index of the stage, from 0 [1].
    first
        Layers of the first stage; 0 where they are not given [1].
    last
        Layers of the last stage; 0 where they are not given [1].
    v_shaped
        1 where a device has one chunk of layers from each end, else 0 [1].

    Returns
    -------
    Num
        Layers of the stage [1].

    References
    ----------
    Megatron-LM, ``--decoder-first-pipeline-num-layers`` and ``--decoder-last-pipeline-num-layers`` in
    `megatron/training/arguments.py`.

    Examples
    --------
    GPT-3 175B on 40 stages, which do not divide its 96 layers.

    >>> layers = [float(stage_layers(96, 40, stage=i)) for i in range(40)]
    >>> sum(layers), layers[:2], layers[-2:]
    (96.0, [2.0, 3.0], [2.0, 2.0])
    >>> [float(stage_layers(96, 4, stage=i, first=12)) for i in range(4)]
    [12.0, 28.0, 28.0, 28.0]
    >>> [float(stage_layers(30, 4, stage=i, v_shaped=1)) for i in range(4)]
    [6.0, 8.0, 8.0, 8.0]
    """
    even, number = end_layers(layers, stages), np.asarray(stages)
    has_first, has_last = np.asarray(first) > 0.0, np.asarray(last) > 0.0
    # One of the two is 0 where the other alone is given.
    rest = np.floor((layers - np.asarray(first) - last) / np.maximum(number - 1.0, 1.0))
    at_first = np.where(has_first, first, np.where(has_last, rest, even))
    at_last = np.where(has_last, last, np.where(has_first, rest, even))
    left, others = layers - at_first - at_last, np.maximum(number - 2.0, 1.0)
    fewer = np.floor(left / others)
    inside = fewer + np.where(np.asarray(stage) <= left - others * fewer, 1.0, 0.0)
    is_first, is_last = np.asarray(stage) <= 0.0, np.asarray(stage) >= number - 1.0
    straight = np.where(is_first, at_first, np.where(is_last, at_last, inside))
    if np.any(np.asarray(v_shaped) > 0.0):
        two = 2.0 * np.ceil(np.asarray(layers) / (2.0 * number))
        bent = np.where(is_first, np.maximum(layers - (number - 1.0) * two, 0.0), two)
        straight = np.where(np.asarray(v_shaped) > 0.0, bent, straight)
    return np.where(number <= 1.0, layers, straight)


def balanced_layers(layers: Num, stages: Num, *, stage: Num, head_layers: Num) -> Num:
    """Layers of a stage where stages share the arithmetic, the head's counted as so many layers.

    ``n(i + 1) - n(i)`` with ``n(i) = min(L, floor(i (L + H) / p) + 1)`` and ``n(0) = 0``: a stage ends with the layer
    that takes it past its share, and the last stage has what is left, and the head.

    Parameters
    ----------
    layers
        Layers of the model L [1].
    stages
        Pipeline stages p [1].
    stage
        Index of the stage i, from 0 [1].
    head_layers
        Arithmetic of the head over that of a layer H [1].

    Returns
    -------
    Num
        Layers of the stage [1].

    References
    ----------
    Hugging Face nanotron, `build_model` in `models/base.py`: blocks are given to ranks by cumulative compute cost.

    Examples
    --------
    A 1B Llama whose head of 131,072 words costs as much as four of its 16 layers.

    >>> [float(balanced_layers(16, 2, stage=i, head_layers=4)) for i in (0, 1)]
    [11.0, 5.0]
    """
    share = (np.asarray(layers) + head_layers) / stages

    def before(index: Num) -> Num:
        reached = np.minimum(layers, np.floor(index * share) + 1.0)
        return np.where(np.asarray(index) <= 0.0, 0.0, np.where(np.asarray(index) >= stages, layers, reached))

    return before(np.asarray(stage) + 1.0) - before(np.asarray(stage))


def step_time(slowest: Num, stages_together: Num, *, micro_batches: Num, idle_share: Num) -> Num:
    """Time of all micro-batches through a pipeline whose stages differ.

    ``m t_max + idle_share (sum of t - t_max)``: the slowest stage is busy for every micro-batch, and waits while the
    first of them fills the other stages and the last drains from them.

    Parameters
    ----------
    slowest
        Forward and backward time of one micro-batch in the slowest stage t_max [s].
    stages_together
        The same, summed over all stages [s].
    micro_batches
        Micro-batches of one step m [1].
    idle_share
        Part of the fill and drain that the schedule does not use, from `idle_share` [1].

    Returns
    -------
    Num
        Time [s]; broadcast shape of the arguments.

    Notes
    -----
    Exact for GPipe and 1F1B with stages of equal time, and for interleaved schedules whose micro-batches are a
    multiple of the stages. With unequal stages it is the makespan of a flow shop with proportional jobs.

    References
    ----------
    Narayanan et al., SC'21, arXiv 2104.04473, section 2.2.

    Examples
    --------
    Four equal stages, eight micro-batches: (8 + 3) of them.

    >>> step_time(1.0, 4.0, micro_batches=8, idle_share=1.0)
    11.0
    """
    return micro_batches * slowest + idle_share * (stages_together - slowest)


def idle_share(
    virtual_stages: Num,
    *,
    zero_bubble: Num = 0.0,
    forward_share: Num = 1.0 / 3.0,
    weight_gradient_share: Num = 1.0 / 3.0,
    filled: Num = 1,
) -> Num:
    """Part of a pipeline's fill and drain in which the slowest stage is idle.

    ``1 / v`` for GPipe and 1F1B (v = 1) and interleaved schedules. Where weight gradients, a share w of the work, are
    computed in the gaps: ``(f + i - min(w, f, i)) / v``, which is ``(1 - 2 w) / v`` where forward f and input
    gradients i take no less than they do (ZB-H1 and its interleaved form). Chunks in the shape of a V:
    `simulator.formulas.chunked_pipeline`.

    Parameters
    ----------
    virtual_stages
        Chunks of layers of one device v [1].
    zero_bubble
        1 where the schedule separates weight gradients, else 0 [1].
    forward_share
        Share of the forward pass in forward and backward time f [1].
    weight_gradient_share
        Share of weight gradients in forward and backward time w [1].
    filled
        Gaps that there are weight gradients for, over all: ``min(m - 1, p - 1) / (p - 1)`` of m micro-batches and p
        stages [1].

    Returns
    -------
    Num
        Idle part [1].

    Notes
    -----
    Exact against a replay of torch's schedules: interleaved ones with zero bubbles or without for micro-batches that
    are a multiple of the stages.

    References
    ----------
    Narayanan et al., SC'21, arXiv 2104.04473, section 2.2; Qi et al., Zero Bubble Pipeline Parallelism,
    arXiv 2401.10241, table 2: 1F1B idles (p - 1)(F + B + W), ZB-H1 (p - 1)(F + B - W).

    Examples
    --------
    >>> float(idle_share(4)), round(float(idle_share(1, zero_bubble=1)), 3)
    (0.25, 0.333)
    """
    f, w = forward_share, weight_gradient_share
    i = 1 - f - w
    separated = 1 - w - filled * np.minimum(np.minimum(w, f), i)
    idle: Num = np.where(np.asarray(zero_bubble) > 0, separated, 1) / np.asarray(virtual_stages)
    return idle


def interleaved_group(stages: Num, micro_batches: Num) -> Num:
    """Micro-batches that run through a chunk of an interleaved pipeline before the next chunk has its turn.

    The least N of ``p <= N <= 2 p`` that leaves of m no remainder, or one of at least p; else m.

    Parameters
    ----------
    stages
        Pipeline stages p [1].
    micro_batches
        Micro-batches of one step m [1].

    Returns
    -------
    Num
        Micro-batches of a group N [1].

    References
    ----------
    Megatron Core, `forward_backward_pipelining_with_interleaving` in `core/pipeline_parallel/schedules.py`: up to
    core_v0.9.0 m had to be a multiple of p.

    Examples
    --------
    >>> [float(interleaved_group(4, m)) for m in (16, 10, 22, 5)]
    [4.0, 5.0, 6.0, 5.0]
    """
    p, m = np.asarray(stages, dtype=np.float64), np.asarray(micro_batches, dtype=np.float64)
    group = np.where(m % p == 0.0, p, np.inf)
    for more in range(1, int(np.max(p)) + 1):
        if np.all(np.isfinite(group) | (m < p)):
            break
        rest = m % (p + more)
        fits = (more <= p) & (p + more <= m) & ((rest == 0.0) | (rest >= p))
        group = np.where(np.isinf(group) & fits, p + more, group)
    return np.where(np.isfinite(group), group, np.maximum(m, p))


def in_flight(
    stages: Num,
    stage: Num,
    *,
    micro_batches: Num,
    virtual_stages: Num = 1.0,
    all_at_once: Num = 0.0,
    zero_bubble: Num = 0.0,
    paired: Num = 0.0,
) -> Num:
    """Micro-batches whose activations a stage holds at its peak, in units of the stage's whole layers.

    ``min(m, p - i)`` for 1F1B; ``m`` for GPipe; ``min(m v, 2 (p - i - 1) + (v - 1) N + 1) / v`` for interleaved
    schedules, whose units are chunks of ``1 / v`` of the stage and which take N micro-batches at a time, as many as
    stages where these divide the micro-batches (`interleaved_group`); ``min(m, p)`` on every stage where weight
    gradients wait for a gap, since what they need is held so long; ``p + 1/2`` for DualPipeV.

    Parameters
    ----------
    stages
        Pipeline stages p [1].
    stage
        Index of the stage i, from 0 [1].
    micro_batches
        Micro-batches of one step m [1].
    virtual_stages
        Chunks of layers of one device v [1].
    all_at_once
        1 for GPipe, which runs every forward before a backward, else 0 [1].
    zero_bubble
        1 where the schedule separates weight gradients, else 0 [1].
    paired
        1 for DualPipeV, which needs ``m >= 2 p``, else 0 [1].

    Returns
    -------
    Num
        Micro-batches held [1].

    Notes
    -----
    Exact against a replay of torch's schedules, for micro-batches that are at least as many as the stages, a multiple
    of them where interleaved, and twice as many for zero bubbles in the shape of a V.

    References
    ----------
    Korthikanti et al., arXiv 2205.05198, section 4.2.3 and appendix B: the first stage holds
    ``p + (p - 1) / v`` micro-batches of ``L / p`` layers. Qi et al., arXiv 2401.10241, section 2.2, for zero bubbles;
    DeepSeek-AI, arXiv 2412.19437, table 2: DualPipe holds ``2 p + 1`` chunks.

    Examples
    --------
    >>> float(in_flight(8, 0, micro_batches=64)), float(in_flight(8, 0, micro_batches=64, virtual_stages=3))
    (8.0, 10.333333333333334)
    """
    p, i, m, v = np.asarray(stages), stage, micro_batches, virtual_stages
    one = np.minimum(m, p - i)
    group = interleaved_group(p, m) if np.any(np.asarray(v) > 1.0) else p
    chunks = np.minimum(m * v, 2.0 * (p - i - 1.0) + (v - 1.0) * group + 1.0) / v
    waiting = np.where(np.asarray(v) > 1.0, chunks, one)
    waiting = np.where(np.asarray(zero_bubble) > 0.0, np.minimum(m, p), waiting)
    waiting = np.where(np.asarray(paired) > 0.0, p + 0.5, waiting)
    return np.where(np.asarray(all_at_once) > 0.0, m, waiting)
