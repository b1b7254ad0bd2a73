"""Groups of few answers: shrunk shares against the textbook, ranks against closed forms."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from scipy import integrate, stats

from crm_analysis import mean_score, net_promoter_score, response_rate, top_box_score
from crm_analysis.uncertainty import RANK_DRAWS, rank_draws, share_posterior

if TYPE_CHECKING:
    from numpy.typing import NDArray

AS_OF = date(2025, 12, 31)

RATS_WITH_TUMOUR = [
    *[0] * 14, *[1] * 8, *[2] * 9, 1, 5, 2, 5, 3, 2, 7, 7, 3, 3, 2, 9, 10, 4, 4, 4, 4, 4, 4, 4,
    10, 4, 4, 4, 5, 11, 12, 5, 5, 6, 5, 6, 6, 6, 6, 16, 15, 15, 9, 4,
]  # fmt: skip
RATS = [
    20, 20, 20, 20, 20, 20, 20, 19, 19, 19, 19, 18, 18, 17, 20, 20, 20, 20, 19, 19, 18, 18, 25, 24,
    23, 20, 20, 20, 20, 20, 20, 10, 49, 19, 46, 27, 17, 49, 47, 20, 20, 13, 48, 50, 20, 20, 20, 20,
    20, 20, 20, 48, 19, 19, 19, 22, 46, 49, 20, 20, 23, 19, 22, 20, 20, 20, 52, 46, 47, 24, 14,
]  # fmt: skip
"""Tarone (1982), Biometrics 38:215-220, as printed by Gelman et al. (2013), table 5.1."""

PRINTED = 0.05
"""The book prints one decimal."""
GRID = 4e-3
"""Our grid of 840 points against one of 60000, in shares."""
DRAWN = 4 * (0.25 / RANK_DRAWS) ** 0.5
"""Four standard errors of a share of the draws."""


# --- shares -------------------------------------------------------------------------------------


def test_the_rats_of_the_textbook() -> None:
    """Gelman et al. (2013), section 5.3: E(alpha | y) = 2.4 and E(beta | y) = 14.3."""
    found = share_posterior(RATS_WITH_TUMOUR, RATS)
    alpha = found.weight @ (found.mean * found.concentration)
    beta = found.weight @ ((1 - found.mean) * found.concentration)
    assert alpha == pytest.approx(2.4, abs=PRINTED)
    assert beta == pytest.approx(14.3, abs=PRINTED)


def slow_shrunk_shares(k: NDArray[Any], n: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Average means and quantiles over a plain fine grid of the mean and the spread."""
    mean, spread = np.meshgrid(np.linspace(0.002, 0.998, 250), np.linspace(0.004, 1.996, 240))
    a, b = mean / spread**2, (1 - mean) / spread**2
    fit = sum(
        stats.betabinom.logpmf(int(won), int(size), a, b) for won, size in zip(k, n, strict=True)
    )
    weight = np.exp(fit - np.max(fit))
    weight /= weight.sum()
    each = [(weight * (a + won) / (a + b + size)).sum() for won, size in zip(k, n, strict=True)]
    width: list[float] = []
    for won, size in zip(k, n, strict=True):
        beta = stats.beta(a + won, b + size - won)
        second = (weight * (beta.var() + beta.mean() ** 2)).sum()
        width.append(float(np.sqrt(second - each[len(width)] ** 2)))
    return np.array(each), np.array(width)


@pytest.mark.parametrize(
    ("k", "n"), [([18, 3, 30], [20, 4, 60]), ([0, 0, 1, 5], [3, 8, 2, 9]), ([4, 9, 0], [4, 9, 1])]
)
def test_shrunk_shares_equal_the_slow_twin(k: list[int], n: list[int]) -> None:
    found = share_posterior(k, n).shrink(k, n)
    mean, width = slow_shrunk_shares(np.array(k), np.array(n))
    assert found.estimate == pytest.approx(mean, abs=GRID)
    assert found.std_error == pytest.approx(width, abs=GRID)
    assert ((found.low < found.estimate) & (found.estimate < found.high)).all()
    assert (found.low > 0).all()
    assert (found.high < 1).all()


def test_draws_have_the_moments_of_the_shrunk_shares() -> None:
    posterior = share_posterior(RATS_WITH_TUMOUR, RATS)
    found = posterior.shrink(RATS_WITH_TUMOUR, RATS)
    drawn = posterior.draw(RATS_WITH_TUMOUR, RATS, RANK_DRAWS)
    error = found.std_error / RANK_DRAWS**0.5
    assert (np.abs(drawn.mean(axis=0) - found.estimate) < 4.5 * error).all()
    assert drawn.std(axis=0) == pytest.approx(found.std_error, rel=0.06)  # 5 / sqrt(2 draws)


def test_intervals_of_shrunk_shares_cover_the_truth_of_groups() -> None:
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(150):
        truth = rng.beta(17, 3, 10)
        n = rng.integers(2, 40, 10)
        k = rng.binomial(n, truth)
        found = share_posterior(k, n).shrink(k, n)
        hits.append((found.low <= truth) & (truth <= found.high))
    # 1500 groups: three binomial standard errors are .017.
    assert np.mean(hits) == pytest.approx(0.95, abs=0.017)


# --- ranks --------------------------------------------------------------------------------------


def normal_draws(mean: list[float], error: list[float]) -> NDArray[Any]:
    rng = np.random.default_rng(5)
    return np.asarray(mean + np.array(error) * rng.standard_normal((RANK_DRAWS, len(mean))))


def test_the_chance_of_the_better_of_two_is_a_normal_probability() -> None:
    found = rank_draws(normal_draws([1.0, 0.4], [0.5, 0.3]))
    chance = stats.norm.cdf(0.6 / (0.5**2 + 0.3**2) ** 0.5)
    assert found.best == pytest.approx([chance, 1 - chance], abs=DRAWN)
    assert found.best.sum() == pytest.approx(1)
    assert (found.low.tolist(), found.high.tolist()) == ([1, 1], [2, 2])


def test_the_chance_of_being_the_best_of_many_is_an_integral() -> None:
    mean, error = [3.0, 2.5, 2.4, 0.0], [0.4, 0.2, 0.9, 0.3]
    found = rank_draws(normal_draws(mean, error))
    for i in range(4):
        others = [j for j in range(4) if j != i]

        def density(x: float, i: int = i, others: list[int] = others) -> float:
            above = [stats.norm.cdf(x, mean[j], error[j]) for j in others]
            return float(stats.norm.pdf(x, mean[i], error[i]) * np.prod(above))

        chance = integrate.quad(density, -4, 7, limit=200)[0]
        assert found.best[i] == pytest.approx(chance, abs=DRAWN)


def test_ranks_of_groups_far_apart_are_known_and_of_like_ones_are_not() -> None:
    apart = rank_draws(normal_draws([0.0, 10.0, 5.0], [0.1, 0.1, 0.1]))
    assert apart.low.tolist() == apart.high.tolist() == [3, 1, 2]
    assert apart.best.tolist() == [0, 1, 0]
    like = rank_draws(normal_draws([1.0] * 20, [0.5] * 20))
    assert (like.low <= 2).all()
    assert (like.high >= 19).all()
    assert like.best == pytest.approx([0.05] * 20, abs=4 * (0.05 * 0.95 / RANK_DRAWS) ** 0.5)


def scored(seed: int, n_groups: int = 8) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    skill = rng.normal(0, 0.8, n_groups)
    employee = np.repeat(np.arange(n_groups), rng.integers(4, 40, n_groups))
    score = np.clip(np.round(3.6 + skill[employee] + rng.normal(0, 1, len(employee))), 1, 5)
    return pl.DataFrame({"score": score, "employee": employee, "answered_on": AS_OF})


@pytest.mark.parametrize("metric", [mean_score, top_box_score])
def test_every_group_has_bounds_of_its_rank(metric: Any) -> None:
    found = metric(scored(1), scale=(1, 5), as_of=AS_OF, by="employee")
    table = found.table
    assert table["chance_best"].sum() == pytest.approx(1)
    assert (table["rank_low"] <= table["rank_high"]).all()
    order = table["shrunk"].rank("ordinal", descending=True).cast(pl.Int64)
    assert ((table["rank_low"] <= order) & (order <= table["rank_high"])).all()
    assert any(
        "among all 8 groups compared, and known only within its bounds" in note
        for note in found.notes
    )
    assert found.units()["chance_best"] == "share"


def test_ranks_cover_the_true_ranks() -> None:
    """Over many networks the bounds of a rank hold the true one as often as they say."""
    rng = np.random.default_rng(12)
    hits = []
    for _ in range(25):
        truth = rng.beta(8, 2, 12)
        n = rng.integers(5, 60, 12)
        k = rng.binomial(n, truth)
        found = rank_draws(share_posterior(k, n).draw(k, n, RANK_DRAWS))
        rank = stats.rankdata(-truth)
        hits.append((found.low <= rank) & (rank <= found.high))
    # 300 ranks; bounds are whole numbers, so they may cover more.
    assert np.mean(hits) >= 0.95 - 3 * (0.95 * 0.05 / 300) ** 0.5


def test_ranks_count_all_groups_compared_and_none_over_time_or_of_two() -> None:
    table = scored(3)
    whole = mean_score(table, scale=(1, 5), as_of=AS_OF, by="employee")
    shown = whole.at_least(20)
    assert 0 < shown.table.height < whole.table.height
    assert shown.table.equals(whole.table.filter(pl.col("n") >= 20))
    two = mean_score(table.filter(pl.col("employee") < 2), scale=(1, 5), as_of=AS_OF, by="employee")
    assert two.table["rank_low"].null_count() == 2
    assert two.table["chance_best"].null_count() == 2
    over_time = net_promoter_score(table, period="year", as_of=AS_OF)
    assert "rank_low" not in over_time.table.columns
    sent = table.select("employee", sent_at="answered_on", answered_at="answered_on")
    assert "rank_low" not in response_rate(sent, within_days=0.5, as_of=AS_OF, by="employee").table
