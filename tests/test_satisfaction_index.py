"""Several questions together: against R's relaimpo, Feldt's interval, statsmodels, slow twins."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from polars.testing import assert_frame_equal

from crm_analysis import (
    InputError,
    customer_effort_score,
    mean_score,
    satisfaction_drivers,
    satisfaction_index,
    survey_alpha,
)
from crm_analysis.satisfaction import relative_importance
from crm_analysis.satisfaction.index import feldt_interval
from crm_analysis.wording import speaking

if TYPE_CHECKING:
    from numpy.typing import NDArray

AS_OF = date(2025, 12, 31)
DAY = date(2025, 6, 1)
EXACT = 1e-8
"""The same formula in another order of adding differs by rounding alone."""

Backend = Callable[[pl.DataFrame], Any]

SWISS = Path(__file__).parent / "reference" / "satisfaction" / "swiss.csv"
"""R's data set `swiss`: fertility and five traits of 47 provinces in 1888."""
SWISS_SHARES = [0.0570912207681, 0.1711730289002, 0.2601346786244, 0.1055701503735, 0.1127659229265]
"""relaimpo 2.2, calc.relimp(lm(Fertility ~ ., swiss), type = "lmg"); R² = 0.706735001593. The same
to four digits in Grömping (2006), J. Statistical Software 17(1)."""


def sheets(
    seed: int, n: int = 300, n_customers: int = 240, missing: float = 0.1, *, price: float = 0.4
) -> pl.DataFrame:
    """Answers of questionnaires: a customer's mood moves every question, staff most."""
    rng = np.random.default_rng(seed)
    customer = rng.integers(0, n_customers, n)
    mood = rng.normal(0, 1, n_customers)[customer] * 0.7 + rng.normal(0, 0.7, n)
    staff = 4.0 + 0.5 * mood + rng.normal(0, 0.6, n)
    paid = 3.5 + price * mood + rng.normal(0, 0.8, n)
    whole = 0.6 * staff + 0.2 * paid + 0.9 + rng.normal(0, 0.5, n)
    parts = []
    for name, values in (("csat", whole), ("staff", staff), ("price", paid)):
        part = pl.DataFrame(
            {
                "survey_id": np.arange(n),
                "customer_id": customer,
                "question": name,
                "score": np.clip(np.round(values), 1, 5),
                "kind": np.where(np.arange(n) % 3 == 0, "sales", "service"),
            }
        )
        parts.append(part.filter(pl.Series(rng.random(n) >= missing)))
    return pl.concat(parts).with_columns(scale_min=1, scale_max=5, answered_on=pl.lit(DAY))


def wide(table: pl.DataFrame) -> pl.DataFrame:
    return table.pivot("question", index=["survey_id", "customer_id"], values="score")


# --- relative importance --------------------------------------------------------------------------


def test_shares_of_the_swiss_provinces_are_those_of_relaimpo() -> None:
    found = relative_importance(np.cov(pl.read_csv(SWISS).to_numpy().T)[None])[0]
    assert found == pytest.approx(SWISS_SHARES, abs=1e-12)
    assert found.sum() == pytest.approx(0.706735001593, abs=1e-11)


def slow_importance(y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """Average what each variable adds to R² over every order of taking them in."""
    q = x.shape[1]

    def r2(columns: list[int]) -> float:
        return float(sm.OLS(y, sm.add_constant(x[:, columns])).fit().rsquared) if columns else 0.0

    total, orders = np.zeros(q), list(permutations(range(q)))
    for order in orders:
        for place, j in enumerate(order):
            total[j] += r2(sorted(order[: place + 1])) - r2(sorted(order[:place]))
    return total / len(orders)


def test_drivers_equal_statsmodels_and_the_slow_twin() -> None:
    table = sheets(1)
    found = satisfaction_drivers(
        table, drivers=["staff", "price"], customer_col="customer_id", as_of=AS_OF
    )
    whole = wide(table).drop_nulls()
    y, x = whole["csat"].to_numpy(), whole.select("staff", "price").to_numpy()
    expected = slow_importance(y, x)
    rows = {row["question"]: row for row in found.table.to_dicts()}
    assert found.r_squared == pytest.approx(expected.sum(), abs=EXACT)
    fit = sm.OLS(y, sm.add_constant(x)).fit(
        cov_type="cluster",
        cov_kwds={"groups": whole["customer_id"].to_numpy(), "df_correction": False,
                  "use_correction": False},
    )  # fmt: skip
    customers = whole["customer_id"].n_unique()
    for j, name in enumerate(("staff", "price")):
        assert rows[name]["n"] == whole.height
        assert rows[name]["estimate"] == pytest.approx(expected[j] / expected.sum(), abs=EXACT)
        assert rows[name]["coefficient"] == pytest.approx(fit.params[j + 1], abs=EXACT)
        error = (rows[name]["coef_high"] - rows[name]["coefficient"]) / 1.959963985
        assert error == pytest.approx(
            fit.bse[j + 1] * (customers / (customers - 1)) ** 0.5, rel=1e-6
        )
    assert found.weights() == pytest.approx(dict(zip(["staff", "price"], expected / expected.sum(),
                                                     strict=True)))  # fmt: skip
    assert "“staff”" in str(found)


def test_copies_share_what_they_explain() -> None:
    table = sheets(2, missing=0.0)
    twin = table.filter(question="staff").with_columns(question=pl.lit("care"))
    found = satisfaction_drivers(pl.concat([table, twin]), drivers=["staff", "care"], as_of=AS_OF)
    assert found.table["estimate"].to_list() == pytest.approx([0.5, 0.5], abs=EXACT)


# --- the index ------------------------------------------------------------------------------------


def test_the_index_is_a_weighted_mean_of_places_on_the_scale() -> None:
    table = sheets(3)
    found = satisfaction_index(table, weights={"staff": 3, "price": 1}, as_of=AS_OF)
    mean = {name: float(np.mean(table.filter(question=name)["score"].to_numpy()))
            for name in ("staff", "price")}  # fmt: skip
    expected = 1000 * (0.75 * (mean["staff"] - 1) / 4 + 0.25 * (mean["price"] - 1) / 4)
    row = found.table.row(0, named=True)
    assert row["estimate"] == pytest.approx(expected, abs=1e-6)
    assert row["n"] == table.filter(pl.col("question") != "csat")["survey_id"].n_unique()
    assert "staff 75%, price 25%" in found.definition


def test_its_error_is_that_of_the_linearised_ratio() -> None:
    """The bootstrap over customers against the delta method, written out customer by customer."""
    table = sheets(4, 900, 600)
    weights = {"staff": 0.5, "price": 0.5}
    found = satisfaction_index(
        table, weights=weights, customer_col="customer_id", n_resamples=2000, as_of=AS_OF
    )
    influence = pl.DataFrame({"customer_id": table["customer_id"].unique()})
    for name in weights:
        part = table.filter(question=name)
        mean = part["score"].mean()
        each = part.group_by("customer_id").agg(
            ((pl.col("score") - mean).sum() / part.height * 0.5 * 250).alias(name)
        )
        influence = influence.join(each, on="customer_id", how="left")
    summed = influence.select(pl.sum_horizontal("staff", "price").fill_null(0)).to_series()
    error = float((summed**2).sum()) ** 0.5
    row = found.table.row(0, named=True)
    asked = table.filter(pl.col("question").is_in(list(weights)))
    assert row["n"] == asked["customer_id"].n_unique()
    assert row["std_error"] == pytest.approx(error, rel=0.07)  # 4 / sqrt(2 * 2000) resamples
    assert row["conf_high"] - row["conf_low"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_a_question_that_a_group_was_not_asked_is_left_to_the_others() -> None:
    table = sheets(5).filter((pl.col("kind") == "service") | (pl.col("question") != "price"))
    found = satisfaction_index(table, weights={"staff": 1, "price": 1}, by="kind", as_of=AS_OF)
    sales = found.table.filter(kind="sales")["estimate"][0]
    mean = np.mean(table.filter(kind="sales", question="staff")["score"].to_numpy())
    assert sales == pytest.approx(250 * (mean - 1), abs=1e-6)
    assert any("not comparable with the rest" in note for note in found.notes)


def test_the_index_covers_what_made_the_answers() -> None:
    # Staff is the rounded normal 4 + noise of variance .25 + .36 and so on: the mean of very many
    # answers stands for the truth.
    weights = {"staff": 1, "price": 1}
    truth = satisfaction_index(
        sheets(999, 60_000, 60_000, 0.0), weights=weights, n_resamples=100, as_of=AS_OF
    ).table["estimate"][0]
    hits = []
    for seed in range(60):
        row = satisfaction_index(
            sheets(seed, 150, 110), weights=weights, customer_col="customer_id", n_resamples=300,
            as_of=AS_OF,
        ).table.row(0, named=True)  # fmt: skip
        hits.append(row["conf_low"] <= truth <= row["conf_high"])
    assert np.mean(hits) == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 60) ** 0.5)


# --- alpha ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("questions", [["csat", "staff"], ["csat", "staff", "price"]])
def test_alpha_equals_the_slow_twin(questions: list[str]) -> None:
    table = sheets(6)
    found = survey_alpha(table, questions=questions, as_of=AS_OF).table.row(0, named=True)
    x = wide(table).select(questions).drop_nulls().to_numpy()
    k = len(questions)
    own = sum(np.var(x[:, j], ddof=1) for j in range(k))
    assert found["estimate"] == pytest.approx(
        k / (k - 1) * (1 - own / np.var(x.sum(axis=1), ddof=1)), abs=EXACT
    )
    assert found["n"] == len(x)


def test_feldts_interval_as_published() -> None:
    # https://imaging.mrc-cbu.cam.ac.uk/statswiki/FAQ/cafun: alpha .913, 873 people, 20 items.
    assert feldt_interval(0.913, 873, 20) == pytest.approx((0.9044024, 0.9211588), abs=5e-8)


def test_both_intervals_of_alpha_are_alike_where_both_hold() -> None:
    table = sheets(7, 1500, 1500, missing=0.0)
    asked: dict[str, Any] = {"questions": ["csat", "staff", "price"], "as_of": AS_OF}
    feldt = survey_alpha(table, ci_method="feldt", **asked).table.row(0, named=True)
    drawn = survey_alpha(table, **asked).table.row(0, named=True)
    for end in ("conf_low", "conf_high"):
        assert feldt[end] == pytest.approx(drawn[end], abs=0.015)
    assert feldt["std_error"] is None


# --- refusals and edges ---------------------------------------------------------------------------

WEIGHTS = {"staff": 1.0, "price": 1.0}
METRICS: dict[str, Callable[[Any], Any]] = {
    "index": lambda t: satisfaction_index(t, weights=WEIGHTS, n_resamples=100, as_of=AS_OF),
    "index by": lambda t: satisfaction_index(
        t, weights=WEIGHTS, n_resamples=100, as_of=AS_OF, by="kind", customer_col="customer_id"
    ),
    "drivers": lambda t: satisfaction_drivers(
        t, drivers=["staff", "price"], n_resamples=100, as_of=AS_OF, customer_col="customer_id"
    ),
    "alpha": lambda t: survey_alpha(
        t, questions=["staff", "price"], n_resamples=100, as_of=AS_OF, by="kind"
    ),
}


@pytest.mark.parametrize("name", METRICS)
def test_every_backend_gives_the_same(name: str, backend: Backend) -> None:
    table = sheets(8, 60, 40).with_columns(
        customer_id=pl.when(pl.col("customer_id") % 7 > 0).then("customer_id")
    )
    expected, found = METRICS[name](table), METRICS[name](backend(table))
    assert_frame_equal(found.table, expected.table, abs_tol=1e-7)
    assert found.notes == expected.notes


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_nothing_and_few_answers(name: str, rows: int) -> None:
    table = sheets(9, missing=0.0).filter(pl.col("survey_id") < rows)
    for language in ("en", "ru"):
        with speaking(language):
            found = METRICS[name](table)
            assert "nan" not in str(found).lower()
            assert found.table.select(pl.selectors.float().is_nan().any()).to_numpy().sum() == 0


def test_answers_that_are_all_alike_explain_nothing() -> None:
    table = sheets(10).with_columns(score=pl.lit(4.0))
    assert METRICS["drivers"](table).table["estimate"].null_count() == 2
    assert (
        survey_alpha(table, questions=["staff", "price"], as_of=AS_OF).table["estimate"][0] is None
    )
    row = METRICS["index"](table).table.row(0, named=True)
    assert (row["estimate"], row["conf_low"]) == (750.0, None)


def mixed(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(scale_max=pl.when(pl.col("survey_id") < 5).then(10).otherwise(5))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (mixed, "more than one scale"),
        (lambda t: t.with_columns(score=pl.col("score") + 1), "lie off its scale"),
        (lambda t: t.with_columns(scale_max=pl.lit(None, pl.Int64)), "has no scale"),
        (
            lambda t: t.with_columns(pl.col("question").replace("price", "prices")),
            "Question 'price' was asked for",
        ),
    ],
)
@pytest.mark.parametrize("name", ["index", "drivers", "alpha"])
def test_what_cannot_be_added_up_is_refused(name: str, spoil: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        METRICS[name](spoil(sheets(11)))


def test_a_question_that_nobody_answered_is_said_and_not_counted() -> None:
    table = sheets(11).filter(pl.col("question") != "price")
    index = METRICS["index"](table)
    assert index.table["estimate"][0] is not None
    assert any("Not every question was asked" in note for note in index.notes)
    for name in ("drivers", "alpha"):
        found = METRICS[name](table).table
        assert found["n"].sum() == 0
        assert found["estimate"].is_null().all()


def test_alpha_refuses_scales_of_different_lengths_and_one_question() -> None:
    table = sheets(12).with_columns(
        scale_max=pl.when(pl.col("question") == "price").then(10).otherwise(5)
    )
    with pytest.raises(InputError, match="different lengths"):
        METRICS["alpha"](table)
    assert METRICS["index"](table).table["estimate"][0] > 0  # the index puts each on its own
    with pytest.raises(InputError, match="at least two"):
        survey_alpha(table, questions=["staff"], as_of=AS_OF)


@pytest.mark.parametrize("weights", [{}, {"staff": 0.0}, {"staff": -1.0, "price": 2.0}])
def test_weights_are_positive(weights: dict[str, float]) -> None:
    with pytest.raises(InputError, match="positive weight"):
        satisfaction_index(sheets(1, 9), weights=weights, as_of=AS_OF)


def test_an_outcome_is_no_driver_of_itself() -> None:
    with pytest.raises(InputError, match="outcome itself"):
        satisfaction_drivers(sheets(1, 9), drivers=["csat"], as_of=AS_OF)


# --- effort ---------------------------------------------------------------------------------------


def test_effort_is_a_mean_that_knows_which_way_is_better() -> None:
    table = pl.DataFrame({"score": [7, 6, 2, 5, 5, 7], "answered_on": DAY})
    found = customer_effort_score(table, as_of=AS_OF)
    assert_frame_equal(found.table, mean_score(table, scale=(1, 7), as_of=AS_OF).table)
    assert (found.better, found.key) == ("higher", "customer_effort_score")
    older = customer_effort_score(table, high_is_easy=False, as_of=AS_OF)
    assert older.better == "lower"
    with pytest.raises(InputError, match="lie outside"):
        customer_effort_score(table, scale=(1, 5), as_of=AS_OF)
