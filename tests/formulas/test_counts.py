"""Counts, bytes and money: small numbers worked out by hand, and what must hold for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.formulas import activations, flops, kernels, money, parameters, reliability, states
from simulator.formulas.collectives import exposed


def test_bytes_of_activations() -> None:
    assert activations.tensor(3.0, 5.0, element_bytes=2.0) == 30
    assert activations.dropout_mask(3.0, 5.0) == 15
    assert activations.normalisation(3.0, 5.0, element_bytes=2.0, statistics=2.0) == 30 + 3 * 2 * 4
    assert activations.attention_statistics(3.0, 5.0, heads=7.0) == 4 * 3 * 5 * 7
    assert activations.routing(3.0, 8.0, chosen=2.0, element_bytes=2.0) == 3 * (8 * 4 + 2 * 2)
    assert activations.cross_entropy(3.0, 5.0) == 60


@pytest.mark.parametrize(("dropout", "each"), [(0.0, 2), (1.0, 5)])
def test_a_matrix_of_scores_is_kept_with_its_mask_and_what_that_leaves(dropout: float, each: int) -> None:
    how: dict[str, Any] = {"batch": 2.0, "heads": 7.0, "element_bytes": 2.0, "dropout": dropout}
    assert activations.attention_matrix(3.0, 5.0, **how) == 2 * 7 * 15 * each


@pytest.mark.parametrize(("inputs", "rectified", "tensors"), [(1, 0, 1), (2, 0, 3), (1, 1, 0), (2, 1, 3)])
def test_inputs_of_activation_functions(inputs: float, rectified: float, tensors: int) -> None:
    """A gate keeps both projections and the activated one; a plain ReLU nothing beside the next product's input."""
    assert activations.gate(3.0, 5.0, element_bytes=2.0, inputs=inputs, rectified=rectified) == tensors * 30
    assert activations.gate(3.0, 5.0, element_bytes=2.0, inputs=1.0) == 30


def test_parameters_of_linear_maps_and_normalisations() -> None:
    assert parameters.linear(3.0, 5.0) == 15
    assert parameters.linear(3.0, 5.0, bias=1.0) == 20
    assert parameters.normalisation(5.0) == 5
    assert parameters.normalisation(5.0, bias=1.0) == 10


def test_a_product_is_a_multiplication_and_an_addition_for_each_term() -> None:
    assert flops.gemm(3.0, 5.0, k=7.0) == 2 * 105
    assert flops.gemm(3.0, 5.0, k=7.0, batch=2.0) == 4 * 105


@given(st.integers(1, 60), st.integers(1, 80))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_keys_that_a_window_leaves(tokens: int, window: int) -> None:
    """Pairs of a query and a key, counted one by one; the diagonal is half of one pair each."""
    pairs = sum(1 for query in range(tokens) for key in range(query + 1) if query - key < window)
    seen = min(window, tokens)
    assert float(flops.seen_keys(tokens, window, causal=1.0)) / 2 * tokens == pytest.approx(pairs - seen / 2)
    assert float(flops.seen_keys(tokens, window, causal=0.0)) == seen


def test_conventions_of_papers() -> None:
    per_token = flops.model_flops_per_token(1e6, 3.0, heads=5.0, head_size=7.0, sequence_length=11.0)
    assert per_token == 6e6 + 12 * 3 * 5 * 7 * 11
    how: dict[str, Any] = {"sequence_length": 12.0, "vocabulary_size": 100.0, "global_batch": 7.0}
    step = flops.megatron_flops_per_step(3.0, 4.0, **how)
    assert step == pytest.approx(96 * 7 * 12 * 3 * 4**2 * (1 + 12 / (6 * 4) + 100 / (16 * 3 * 4)))
    assert flops.megatron_flops_per_step(3.0, 4.0, **how, passes=3.0) == pytest.approx(
        72 * 7 * 12 * 3 * 4**2 * 1.5 + 6 * 7 * 12 * 4 * 100
    )
    assert flops.utilisation(60.0, 2.0, devices=3.0, peak=100.0) == 0.1


def test_traffic_and_rooflines() -> None:
    assert kernels.gemm_traffic(3.0, 5.0, k=7.0, element_bytes=2.0) == 2 * (21 + 35 + 15)
    assert kernels.gemm_traffic(3.0, 5.0, k=7.0, batch=4.0, element_bytes=2.0) == 8 * (21 + 35 + 15)
    how: dict[str, Any] = {"batch": 2.0, "heads": 7.0, "key_value_heads": 3.0, "head_size": 4.0, "element_bytes": 2.0}
    forward = kernels.attention_traffic(5.0, 11.0, matmuls=2.0, **how)
    assert forward == 2 * 2 * 4 * (2 * 7 * 5 + 2 * 3 * 11)
    assert kernels.attention_traffic(5.0, 11.0, matmuls=5.0, **how) == 2.5 * forward
    assert float(kernels.shortest_time(100.0, 1.0, peak=10.0, bandwidth=1.0)) == 10
    assert float(kernels.shortest_time(100.0, 50.0, peak=10.0, bandwidth=1.0)) == 50


def test_states_of_a_model() -> None:
    held: dict[str, Any] = {"gradient_bytes": 4.0, "optimizer_bytes": 12.0}
    assert states.shard(12.0, 4.0) == 3
    assert states.model_state_bytes(100.0, 2.0, **held) == 1800
    assert states.model_state_bytes(100.0, 2.0, **held, parameter_group=2.0) == 1700
    assert states.model_state_bytes(100.0, 2.0, **held, gradient_group=2.0) == 1600
    assert states.model_state_bytes(100.0, 2.0, **held, optimizer_group=2.0) == 1200
    how: dict[str, Any] = {"master_bytes": 4.0, "gradient_bytes": 2.0, "parameter_bytes": 3.0, "sweeps": 5.0}
    assert states.optimizer_traffic(10.0, 8.0, **how) == 10 * (2 * 12 + 5 * 2 + 3)
    assert states.factored_state_bytes(6.0, 10.0, unfactored=3.0) == 4 * (6 + 10 + 3)
    assert states.newton_schulz_flops(2.0, 3.0, iterations=7.0) == 7 * (4 * 4 * 3 + 2 * 8)


def test_money_and_time() -> None:
    assert [float(money.steps(tokens, 10.0)) for tokens in (1.0, 10.0, 11.0, 20.0)] == [1, 1, 2, 2]
    assert money.device_seconds(3.0, 5.0) == money.cost(3.0, 5.0) == money.emissions(3.0, 5.0) == 15
    assert money.owned_price(100.0, 50.0, power=3.0, overhead=2.0, tariff=7.0) == 2 + 42
    assert money.energy(3.0, 5.0, overhead=2.0) == 30


def test_checkpoints_and_failures() -> None:
    assert reliability.total_rate(10.0, 2.0, event_rate=3.0) == 23
    assert float(reliability.mean_time(4.0)) == 0.25
    assert reliability.checkpoint_bytes(10.0, 2.0, master_bytes=4.0, state_bytes=8.0) == 140
    assert reliability.write_time(12.0, 3.0) == 4
    assert float(reliability.young_interval(2.0, 9.0)) == 6
    # Daly: sqrt(2 w M) (1 + sqrt(w / 2 M) / 3 + w / 2 M / 9) - w
    assert float(reliability.daly_interval(2.0, 9.0)) == pytest.approx(6 * (1 + 1 / 9 + 1 / 81) - 2)
    assert float(reliability.daly_interval(18.0, 9.0)) == float(reliability.daly_interval(30.0, 9.0)) == 9
    assert reliability.interruptions(6.0, 0.5) == 3


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6), st.floats(0.0, 1e3))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_a_transfer_shows_between_all_and_none_of_it(transfer: float, window: float, more: float) -> None:
    shown = float(exposed(transfer, window))
    assert max(transfer - window, 0.0) <= shown * (1 + 1e-9) + 1e-9
    assert shown <= transfer * (1 + 1e-12)
    assert float(exposed(transfer, window + more)) <= shown * (1 + 1e-9) + 1e-9
    assert float(exposed(transfer + more, window)) >= shown * (1 - 1e-9) - 1e-9


def test_a_transfer_beside_as_much_work_shows_a_sixth() -> None:
    """What hides is the norm of order -4 of both times: of two equal ones 2^(-1/4)."""
    assert float(exposed(1.0, 1.0)) == pytest.approx(1 - 2**-0.25)
    assert float(exposed(0.0, 0.0)) == 0
    assert float(exposed(5.0, 0.0)) == 5
    assert float(exposed(3.0, 1.0)) == pytest.approx(3 - 1 / (1 + 1 / 81) ** 0.25)
    assert float(exposed(1.0, 3.0)) == pytest.approx(1 - 1 / (1 + 1 / 81) ** 0.25)
    assert np.shape(exposed(np.ones(3), np.ones((2, 1)))) == (2, 3)
