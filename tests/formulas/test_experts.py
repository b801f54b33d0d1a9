"""How tokens fall on ranks that share experts."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.formulas.flops import busiest_rank, padded_rows
from simulator.specs.plans import divisors

_EXPERTS = (2, 8, 60, 128, 384)


@pytest.mark.parametrize("experts", _EXPERTS)
def test_limits(experts: int) -> None:
    """One rank has all tokens, one with a single expert that expert's; balance stays balance."""
    loads = np.linspace(1.0, experts, 500)
    assert busiest_rank(loads, experts, ranks=1) == pytest.approx(1.0)
    assert busiest_rank(loads, experts, ranks=experts) == pytest.approx(loads)
    assert busiest_rank(1.0, experts, ranks=np.array(divisors(experts))) == pytest.approx(1.0)


@pytest.mark.parametrize("experts", _EXPERTS)
def test_more_imbalance_and_more_ranks_are_never_less(experts: int) -> None:
    loads, ranks = np.linspace(1.0, experts, 500)[:, None], np.array(divisors(experts), dtype=float)
    busiest = busiest_rank(loads, experts, ranks=ranks)
    assert np.all(np.diff(busiest, axis=0) >= -1e-12)
    assert np.all(np.diff(busiest, axis=1) >= -1e-12)
    assert np.all((busiest >= 1.0 - 1e-12) & (busiest <= np.minimum(loads, ranks) + 1e-12))


@pytest.mark.parametrize("experts", _EXPERTS[1:])
def test_a_single_busy_expert_makes_its_rank_busy(experts: int) -> None:
    """No rank has less than the busiest expert and mean others."""
    for ranks in divisors(experts):
        local, busy = experts / ranks, min(experts, 4.0)
        least = (busy + (local - 1) * (experts - busy) / (experts - 1)) / local
        assert busiest_rank(busy, experts, ranks=ranks) >= least - 1e-12


@pytest.mark.parametrize("deviation", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("ranks", [2, 8, 32])
def test_random_loads(deviation: float, ranks: int) -> None:
    """Loads of 128 experts drawn from a gamma distribution."""
    random, shape = np.random.default_rng(7), deviation**-2
    loads = random.gamma(shape, 1.0 / shape, (4000, 128))
    loads /= loads.mean(axis=1, keepdims=True)
    expert = loads.max(axis=1).mean()
    rank = loads.reshape(4000, ranks, -1).mean(axis=2).max(axis=1).mean()
    assert busiest_rank(expert, 128, ranks=ranks) == pytest.approx(rank, rel=0.02)


def test_padding_is_half_a_multiple_in_the_mean() -> None:
    random = np.random.default_rng(3).integers(1000, 9000, 100_000)
    assert padded_rows(random.mean(), 32) == pytest.approx((np.ceil(random / 32) * 32).mean(), rel=1e-4)
    assert padded_rows(100.0, 1) == 100.0
