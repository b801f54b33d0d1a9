"""Pipelines whose devices have several chunks of layers."""

from __future__ import annotations

import pytest

from simulator.formulas import chunked_pipeline as pipeline


@pytest.mark.parametrize(
    ("forward", "weights", "paired", "micro_batches", "share"),
    [
        (1 / 3, 1 / 3, 0.0, 16.0, 1 / 6),
        (0.3, 0.1, 0.0, 16.0, (0.6 - 0.1) * 2 / 2),
        (0.3, 0.3, 0.0, 16.0, 0.4 / 2),
        (0.4, 0.3, 0.0, 16.0, (0.3 + 0.1 * (2 - 1 / 7)) / 2),  # input gradients that are the shortest
        (1 / 3, 1 / 3, 0.0, 1.0, 4 / 3 / 2),  # one micro-batch: down and up, forward and backward
        (1 / 3, 1 / 3, 0.0, 8.0, 2 / 3 / 2),
        (1 / 3, 1 / 3, 1.0, 16.0, 1 / 6),
        (0.3, 0.1, 1.0, 16.0, (0.3 + 0.5 + 0.3 - 0.3 / 7) / 2),
    ],
)
def test_idle_shares_in_the_shape_of_a_v(
    forward: float, weights: float, paired: float, micro_batches: float, share: float
) -> None:
    idle = pipeline.v_shaped_idle_share(
        8.0, micro_batches, paired=paired, forward_share=forward, weight_gradient_share=weights
    )
    assert float(idle) == pytest.approx(share)


def test_a_slow_first_stage_of_a_v_is_kept_waiting_less() -> None:
    """Four stages and eight micro-batches of 6 s: a first stage of 6.6 s is what the others fill and drain beside."""
    alike = pipeline.v_shaped_step_time(6.0, 6.0, stages=4.0, micro_batches=8.0)
    assert float(alike) == pytest.approx(8 * 6 + 3 * 6 / 6)
    slow = pipeline.v_shaped_step_time(6.6, 6.0, stages=4.0, micro_batches=8.0)
    assert float(slow) == pytest.approx(8 * 6.6 + 2 * 6 / 6)
    assert float(pipeline.v_shaped_step_time(5.0, 6.0, stages=4.0, micro_batches=8.0)) == float(alike)
    paired = pipeline.v_shaped_step_time(6.6, 6.0, stages=4.0, micro_batches=8.0, paired=1.0)
    assert float(paired) == pytest.approx(8 * 6.6)
    # Input gradients that take twice as long as the forward pass are waited for all the same.
    longer = pipeline.v_shaped_step_time(
        6.6, 6.0, stages=4.0, micro_batches=8.0, paired=1.0, forward_share=0.25, weight_gradient_share=0.25
    )
    assert float(longer) == pytest.approx(8 * 6.6 + 3 * 0.25 * 6 / 2)


def test_only_two_slow_ends_are_waited_for_in_turn() -> None:
    assert float(pipeline.ends_in_turn(8.0, 2.0, first_extra=1.0, last_extra=2.0)) == 7.5
    assert float(pipeline.ends_in_turn(8.0, 2.0, first_extra=2.0, last_extra=1.0)) == 7.5
    assert float(pipeline.ends_in_turn(8.0, 2.0, first_extra=-1.0, last_extra=2.0)) == 0.0
