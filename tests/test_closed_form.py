"""The closed-form worlds: exact where they say exact, the same for ever, and refused when wrong.

Statistical checks run on fixed seeds, so they pass or fail for good; the false alarms stated are
the chance that a correct world would have failed on the day its seed was chosen.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal
from scipy import integrate, special, stats

from crm_analysis import (
    BetaGeometric,
    fit_beta_geometric,
    fit_gamma_gamma,
    open_warehouse,
    purchase_history,
    retention_curve,
)
from crm_analysis.errors import InputError
from synthetic.check import check_data
from synthetic.closed_form import (
    WORLDS,
    ClosedForm,
    bgnbd,
    integrals,
    make_closed_form,
    markov_ladder,
    paretonbd,
    regular_visits,
    sbg,
    write_closed_form,
)
from synthetic.closed_form import weibull_competing_risks as risks
from synthetic.closed_form.draws import TICKS, rounded, ticks
from synthetic.closed_form.parameters import build
from synthetic.closed_form.schemas import CAUSES, SCHEMAS, STATES
from synthetic.keyed import Keyed
from synthetic.reading import open_data

Floats = NDArray[np.float64]

Z = 4.0
"""Standard errors that a correct mean stays within, but for one seed in fifteen thousand."""

ALARM = 1e-4
"""Chance of a false alarm of one Kolmogorov-Smirnov or chi-square test."""

EXACT = 1e-9
"""Relative error of quadrature and of 33 binary digits kept."""

N = 20_000

CLIFF = 156.5 * 7
"""Days from the first visit to the end of warranty."""

BUYING = ("bgnbd", "paretonbd", "regular_visits", "cliff", "random_visits")
"""Worlds of buying; the last two are `regular_visits` with a warranty cliff, and with k = 1."""

_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cliff": ("regular_visits", {"cliff": 0.35, "as_of": date(2023, 6, 30), "horizon_days": 730}),
    "random_visits": ("regular_visits", {"k": 1, "alpha": 200.0}),
}


@cache
def world(name: str, n: int = N, seed: int = 11, **changes: Any) -> ClosedForm:
    real, fixed = _VARIANTS.get(name, (name, {}))
    return make_closed_form(real, n_customers=n, seed=seed, **{**fixed, **changes})


@cache
def truth(name: str, table: str, **changes: Any) -> pl.DataFrame:
    return world(name, **changes).truth[f"truth_{table}"].collect()


def column(table: pl.DataFrame, name: str) -> Floats:
    return table[name].to_numpy().astype(np.float64)


def assert_mean(sample: Floats, expected: float = 0.0) -> None:
    """Fail when a mean misses by more than Z of its standard errors."""
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    assert abs(sample.mean() - expected) <= Z * error + EXACT, (sample.mean(), expected, error)


def assert_law(sample: Floats, law: Any) -> None:
    """Fail when a sample does not follow a law (Kolmogorov-Smirnov)."""
    assert stats.kstest(sample, law.cdf).pvalue > ALARM


def assert_counts(found: Floats, expected: Floats) -> None:
    """Fail when counts do not follow expected ones (chi-square), small cells joined."""
    order = np.argsort(-expected)
    found, expected = found[order], expected[order]
    cell = np.minimum(np.arange(len(expected)), max(int((expected >= 10).sum()), 1))
    seen, hoped = np.bincount(cell, found), np.bincount(cell, expected)
    assert stats.chisquare(seen, hoped * seen.sum() / hoped.sum()).pvalue > ALARM


# Shapes and invariances -------------------------------------------------------------------


def everything(made: ClosedForm) -> dict[str, pl.DataFrame]:
    return {name: frame.collect() for name, frame in {**made.tables, **made.truth}.items()}


@pytest.mark.parametrize("name", WORLDS)
def test_tables_follow_their_schemas(name: str) -> None:
    made = make_closed_form(name, n_customers=400, seed=3, n_dealerships=4)
    for table, frame in everything(made).items():
        SCHEMAS[table].validate(frame)
        assert frame.height > 0, table
    last = made.parameters.as_of
    for table, open_table in made.tables.items():
        for day in (c for c in open_table.collect_schema().names() if c.endswith("_on")):
            assert (open_table.select(pl.col(day).max()).collect().item() or last) <= last, table
    assert set(everything(made)["dealerships"]["dealership_id"]) == {1, 2, 3, 4}


@pytest.mark.parametrize("name", WORLDS)
def test_first_customers_of_a_larger_world_are_those_of_a_smaller_one(name: str) -> None:
    small, large = (everything(make_closed_form(name, n_customers=n, seed=3)) for n in (120, 300))
    for table, frame in small.items():
        whole = large[table]
        if "customer_id" in whole.columns:
            whole = whole.filter(pl.col("customer_id") <= 120)
        assert_frame_equal(frame, whole)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("block_size", [1, 37, 150])
def test_blocks_do_not_change_a_world(name: str, block_size: int) -> None:
    n = 40 if block_size == 1 else 150
    whole = everything(make_closed_form(name, n_customers=n, seed=3))
    parts = make_closed_form(name, n_customers=n, seed=3, block_size=block_size)
    for table, frame in everything(parts).items():
        assert_frame_equal(frame, whole[table])


@pytest.mark.parametrize("name", WORLDS)
def test_a_longer_world_extends_a_shorter_one(name: str) -> None:
    early, late = date(2024, 6, 30), date(2025, 12, 31)
    short, long = (
        make_closed_form(name, n_customers=200, seed=3, as_of=day).tables for day in (early, late)
    )
    for table, day in (
        ("purchases", "happened_on"), ("renewals", "due_on"), ("ladder", "observed_on"),
    ):  # fmt: skip
        if table in short:
            cut = long[table].filter(pl.col(day) <= early).collect()
            assert_frame_equal(short[table].collect(), cut)
            assert long[table].collect().height > cut.height


@pytest.mark.parametrize("name", WORLDS)
def test_another_seed_is_another_world(name: str) -> None:
    one, two = (
        make_closed_form(name, n_customers=50, seed=seed).tables["purchases"].collect()
        for seed in (3, 4)
    )
    assert not one.equals(two)


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_without_customers_has_empty_tables(name: str) -> None:
    made = make_closed_form(name, n_customers=0, seed=1)
    assert made.sizes()["purchases"] == 0
    for table, frame in everything(made).items():
        SCHEMAS[table].validate(frame)


def test_a_world_shows_itself() -> None:
    made = make_closed_form("sbg", n_customers=10, seed=1)
    shown = made._repr_html_()
    assert "sbg" in shown
    assert "<td>renewals</td>" in shown
    settings = made.settings()
    assert settings.filter(name="alpha")["confidence"].item() == "published"
    assert settings.filter(pl.col("meaning") == "").is_empty()


# Folders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_a_folder_opens_as_a_warehouse(name: str, tmp_path: Path) -> None:
    rows = write_closed_form(tmp_path / "w", name, n_customers=300, seed=5, n_dealerships=2)
    made = make_closed_form(name, n_customers=300, seed=5, n_dealerships=2)
    assert rows == made.sizes()
    house = open_warehouse(tmp_path / "w")
    assert (house.as_of, house.currency) == (made.parameters.as_of, "USD")
    assert_frame_equal(house.purchases().collect(), made.tables["purchases"].collect())
    one = open_warehouse(tmp_path / "w", dealership="Dealership 2").purchases().collect()
    assert set(one["dealership_id"]) == {2}
    if "spells" in made.tables:
        assert_frame_equal(house.spells().collect(), made.tables["spells"].collect())
    for table, frame in everything(made).items():
        place = tmp_path / "w" / ("truth" if table.startswith("truth") else ".")
        read = pl.read_parquet(place / f"{table}.parquet").cast(frame.schema)
        assert_frame_equal(read, frame)


@pytest.mark.parametrize("name", WORLDS)
def test_the_check_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    write_closed_form(tmp_path / "w", name, n_customers=200, seed=5)
    assert check_data(open_data(tmp_path / "w")).problems == ()
    file = tmp_path / "w" / "purchases.parquet"
    bought = pl.read_parquet(file)
    bought.with_columns(margin=pl.col("margin") + 1).write_parquet(file)
    found = check_data(open_data(tmp_path / "w")).problems
    assert [problem.table for problem in found] == ["purchases"]


@pytest.mark.parametrize("name", WORLDS)
def test_same_seed_same_bytes(name: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_closed_form(tmp_path / folder, name, n_customers=150, seed=5)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) > 5
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_other_formats_hold_the_same(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"n_customers": 60, "seed": 5}
    made = everything(make_closed_form("weibull_competing_risks", **sizes))
    write_closed_form(tmp_path / "text", "weibull_competing_risks", kind="csv", **sizes)
    for table in ("purchases", "truth/truth_owner"):
        read = pl.read_csv(tmp_path / "text" / f"{table}.csv", try_parse_dates=True)
        wanted = made[table.removeprefix("truth/")]
        assert_frame_equal(read.cast(wanted.schema), wanted)
    assert not list(tmp_path.glob("text/*.parquet"))
    for _ in range(2):
        file = tmp_path / "w.duckdb"
        write_closed_form(file, "weibull_competing_risks", kind="duckdb", **sizes)
    house = open_warehouse(file)
    assert_frame_equal(house.purchases().collect(), made["purchases"])
    assert house.as_of == date(2025, 12, 31)
    assert sorted(p.name for p in tmp_path.glob("w*")) == ["w.duckdb", "w.json"]
    with pytest.raises(InputError, match=r"ends in \.duckdb"):
        write_closed_form(tmp_path / "w", "sbg", kind="duckdb", **sizes)
    with pytest.raises(InputError, match="Format 'excel' was asked for"):
        write_closed_form(tmp_path / "w", "sbg", kind="excel", **sizes)


def test_the_manifest_says_what_made_the_data(tmp_path: Path) -> None:
    write_closed_form(tmp_path / "w", "bgnbd", n_customers=20, seed=5, settings={"r": "0.5"})
    for folder, table in (("w", "purchases"), ("w/truth", "truth_buyer")):
        facts = json.loads((tmp_path / folder / "manifest.json").read_text(encoding="utf-8"))
        assert (facts["world"], facts["seed"], facts["n_customers"]) == ("bgnbd", 5, 20)
        assert facts["parameters"]["r"] == 0.5
        file = tmp_path / folder / f"{table}.parquet"
        assert facts["tables"][table]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_our_own_folder_is_replaced_and_another_is_not(tmp_path: Path) -> None:
    write_closed_form(tmp_path / "w", "sbg", n_customers=5, seed=1)
    write_closed_form(tmp_path / "w", "bgnbd", n_customers=5, seed=1)
    assert not (tmp_path / "w" / "renewals.parquet").exists()
    (tmp_path / "w" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="holds something this generator did not write"):
        write_closed_form(tmp_path / "w", "bgnbd", n_customers=5, seed=1)
    write_closed_form(tmp_path / "w", "bgnbd", n_customers=5, seed=1, force=True)
    assert not (tmp_path / "w" / "notes.txt").exists()


def test_a_refused_world_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="n_customers"):
        write_closed_form(tmp_path / "w", "sbg", n_customers=-1, seed=1)
    assert list(tmp_path.iterdir()) == []


# Refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("bgnbd", {"r": 0.0}, "'r'.*0.0; it may be from 0.05 to 1000"),
        ("bgnbd", {"alpha": -1.0}, "'alpha'.*from 0.001 to"),
        ("bgnbd", {"a": float("nan")}, "'a'.*nan; it may be from 0.05"),
        ("bgnbd", {"spend_q": 1.0}, "'spend_q'.*from 1.05"),
        ("bgnbd", {"b": "many"}, "'b'.*'many'; it may be from"),
        ("bgnbd", {"as_of": "31.12.2025"}, "'as_of'.*as date"),
        ("bgnbd", {"alhpa": 1.0}, r"'alhpa' was asked for \(did you mean 'alpha'\?\)"),
        ("paretonbd", {"s": 2_000.0}, "'s'.*to 1000"),
        ("regular_visits", {"k": 0}, "'k'.*from 1 to 50, as int"),
        ("regular_visits", {"k": 2.5}, "'k'.*from 1 to 50, as int"),
        ("regular_visits", {"cliff": 1.0}, "'cliff'.*from 0.0 to 0.99"),
        ("sbg", {"horizon_days": 10}, "'horizon_days'.*from 366"),
        ("sbg", {"annual_discount_rate": 0.0}, "'annual_discount_rate'.*from 0.001"),
        ("sbg", {"n_dealerships": True}, "'n_dealerships'.*from 1"),
        ("sbg", {"as_of": date(2017, 1, 1)}, "Choose as_of on 2019-12-31 or later"),
        ("weibull_competing_risks", {"shape_here": 0.1}, "'shape_here'.*from 0.2 to 20"),
        ("weibull_competing_risks", {"serviced_share": 1.5}, "'serviced_share'.*from 0.0 to 1.0"),
        ("markov_ladder", {"initial": (0.5, 0.4, 0, 0, 0, 0)}, "'initial'.*sum to 1"),
        ("markov_ladder", {"initial": (1.0,)}, "'initial'.*one value for each of the 6 states"),
        ("markov_ladder", {"initial": 1.0}, "'initial'"),
        ("markov_ladder", {"transition": ((1.0,) * 6,) * 6}, "row 0 of 'transition'.*sum to 1"),
        ("markov_ladder", {"transition": ((1.0,),)}, "'transition'.*1 rows"),
        ("markov_ladder", {"margins": (1.0, 2.0)}, "'margins'"),
        ("markov_ladder", {"starts_on": date(2019, 1, 2)}, "first of a month"),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"(?s){said}"):
        make_closed_form(name, n_customers=10, seed=1, **changes)


def test_unknown_worlds_sizes_and_seeds_are_refused() -> None:
    with pytest.raises(InputError, match=r"did you mean 'bgnbd'.*there are sbg, bgnbd"):
        make_closed_form("bgnb", seed=1)
    with pytest.raises(InputError, match=r"n_customers was asked to be 1\.5; it may be a whole"):
        make_closed_form("sbg", n_customers=1.5, seed=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed was asked to be -1"):
        make_closed_form("sbg", n_customers=1, seed=-1)
    with pytest.raises(InputError, match="block_size was asked to be 0"):
        make_closed_form("sbg", n_customers=1, seed=1, block_size=0)


def test_parameters_can_be_text() -> None:
    typed = {"k": "2", "r": "3", "as_of": "2024-12-31", "currency": "EUR"}
    made = build(regular_visits.RegularVisits, typed)
    assert (made.k, made.r, made.as_of, made.currency) == (2, 3.0, date(2024, 12, 31), "EUR")
    ladder = build(markov_ladder.MarkovLadder, {"margins": "[0, 1, 2, 3, 4, 0]"})
    assert ladder.margins == (0.0, 1.0, 2.0, 3.0, 4.0, 0.0)


# Draws ------------------------------------------------------------------------------------


def test_rounding_keeps_ten_digits_and_hides_the_last_bit() -> None:
    value = np.array([1e-250, 0.1, 3.0, 1e12])
    assert np.allclose(rounded(value), value, rtol=2.0**-33, atol=0)
    assert (rounded(np.nextafter(value, 0)) == rounded(value)).all()


def test_ticks_are_whole_and_bounded() -> None:
    found = ticks(np.array([0.0, 1.0, 1e300, np.inf]))
    assert found.tolist() == [1, TICKS, 3_652_425 * TICKS, 3_652_425 * TICKS]


def test_latents_follow_their_laws() -> None:
    buyer = truth("bgnbd", "buyer")
    assert_law(column(buyer, "rate"), stats.gamma(0.243, scale=1 / 4.414))
    assert_law(column(buyer, "dropout_probability"), stats.beta(0.793, 2.426))
    assert_law(6.25 / column(buyer, "mean_spend"), stats.gamma(3.74, scale=1 / 15.44))
    pareto = truth("paretonbd", "buyer")
    assert_law(column(pareto, "rate"), stats.gamma(0.553, scale=1 / 10.578))
    assert_law(column(pareto, "death_rate"), stats.gamma(0.606, scale=1 / 11.669))
    assert_law(column(truth("sbg", "contract"), "churn_probability"), stats.beta(0.668, 3.806))


def test_latents_are_independent() -> None:
    buyer = truth("bgnbd", "buyer").select("rate", "dropout_probability", "mean_spend")
    ranks = np.stack([stats.rankdata(column(buyer, name)) for name in buyer.columns])
    pairs = np.asarray(np.corrcoef(ranks))[np.triu_indices(3, 1)]
    assert (np.abs(pairs) < Z / np.sqrt(N)).all()


def test_customers_come_evenly_over_the_acquisition_days() -> None:
    first = truth("bgnbd", "buyer")["first_on"]
    offset = (first - date(2023, 1, 1)).dt.total_days().to_numpy()
    assert_counts(np.bincount(offset, minlength=365).astype(float), np.full(365, N / 365))


# Formulas against other ways to the same number ----------------------------------------------

X = np.array([0.0, 1.0, 2.0, 5.0, 30.0])
TX = np.array([0.0, 10.0, 30.0, 60.0, 100.0])
T = np.array([100.0, 100.0, 39.0, 80.0, 130.0])


def test_beta_geometric_formulas_match_the_library() -> None:
    ours = bgnbd.BetaGeometricBuying()
    theirs = BetaGeometric(r=0.243, alpha=4.414, a=0.793, b=2.426)
    alive = bgnbd.probability_alive(ours, X, TX, T)
    np.testing.assert_allclose(alive, theirs.probability_alive(X, TX, T), rtol=EXACT)
    ahead = bgnbd.purchases_if_alive(ours, X, T, horizon=52.0)
    np.testing.assert_allclose(alive * ahead, theirs.expected_purchases(52.0, X, TX, T), rtol=EXACT)
    weeks = np.array([0.0, 1.0, 39.0, 500.0])
    np.testing.assert_allclose(
        bgnbd.expected_purchases_new(ours, weeks), theirs.expected_purchases_new(weeks), rtol=EXACT
    )


def test_beta_geometric_alive_share_is_a_mean_of_its_latents() -> None:
    p = bgnbd.BetaGeometricBuying()
    law = stats.beta(p.a, p.b)
    for t in (1.0, 40.0, 300.0):

        def still(q: float, t: float = t) -> float:
            return float((1 + q * t / p.alpha) ** -p.r)

        mean = law.expect(still, epsabs=0, epsrel=1e-11)
        assert bgnbd.share_alive(p, np.array([t]))[0] == pytest.approx(mean, rel=1e-8)


@pytest.mark.parametrize(("alpha", "beta", "s"), [(10.6, 11.7, 0.6), (80, 3, 1.4), (3, 80, 0.9)])
def test_pareto_formulas_match_their_integrals(alpha: float, beta: float, s: float) -> None:
    p = paretonbd.ParetoBuying(alpha=float(alpha), beta=float(beta), s=s)
    for x, t_x, age in zip(X, TX, T, strict=True):

        def dead(y: float, x: float = x, age: float = age) -> float:
            bought = ((p.alpha + age) / (p.alpha + y)) ** (p.r + x)
            return float(s / (p.beta + y) * bought * ((p.beta + age) / (p.beta + y)) ** s)

        odds = integrate.quad(dead, t_x, age, epsabs=0, epsrel=1e-11, limit=200)[0]
        found = paretonbd.probability_alive(p, *(np.array([v]) for v in (x, t_x, age)))[0]
        assert found == pytest.approx(1 / (1 + odds), rel=EXACT)


def test_pareto_expectations_match_the_published_forms() -> None:
    p = paretonbd.ParetoBuying()
    age, delta = p.beta + T, 0.00183
    lead = (p.r + X) / (p.alpha + T)
    plain = lead * age / (p.s - 1) * (1 - (age / (age + 52)) ** (p.s - 1))
    np.testing.assert_allclose(
        paretonbd.purchases_if_alive(p, X, T, horizon=52.0), plain, rtol=EXACT
    )
    tricomi = lead * age**p.s * delta ** (p.s - 1) * special.hyperu(p.s, p.s, delta * age)
    found = paretonbd.purchases_if_alive(p, X, T, horizon=None, discount=delta)
    np.testing.assert_allclose(found, tricomi, rtol=EXACT)


def test_regular_visits_with_one_phase_are_the_modified_beta_geometric() -> None:
    p = regular_visits.RegularVisits(k=1, r=0.5, alpha=6.0, a=0.8, b=2.5)
    odds = p.a / (p.b + X) * ((p.alpha + T) / (p.alpha + TX)) ** (p.r + X)
    alive = regular_visits.probability_alive(p, X, TX, T)
    np.testing.assert_allclose(alive, 1 / (1 + odds), rtol=EXACT)
    twin = bgnbd.BetaGeometricBuying(r=p.r, alpha=p.alpha, a=p.a, b=p.b + 1)
    ahead = regular_visits.visits_if_alive(p, X, TX, T, 52.0)
    np.testing.assert_allclose(
        ahead, bgnbd.purchases_if_alive(twin, X, T, horizon=52.0), rtol=EXACT
    )


def test_own_expectations_of_regular_visits_agree_with_each_other() -> None:
    rate, dropout, waited = np.array([0.05, 0.2]), np.array([0.1, 0.4]), np.array([3.0, 30.0])

    def own(until: Any, discount: float) -> Floats:
        return regular_visits.own_visits(3, rate, dropout, waited, until, discount=discount)

    np.testing.assert_allclose(own(1e5, 0.002), own(np.inf, 0.002), rtol=EXACT)
    random = regular_visits.own_visits(1, rate, dropout, waited, 52.0, discount=0.002)
    np.testing.assert_allclose(
        random, bgnbd.own_purchases(rate, dropout, horizon=52.0, discount=0.002), rtol=EXACT
    )


def test_residual_lifetime_is_its_series() -> None:
    p = sbg.ShiftedBetaGeometric()
    for n in (0, 3, 20):
        years = np.arange(1, 2_000, dtype=float)
        stays = sbg.survival(p, n + years) / sbg.survival(p, np.array([float(n)]))
        series = (stays / 1.1 ** (years - 1)).sum()
        assert sbg.residual_lifetime(p, np.array([float(n)]))[0] == pytest.approx(series, rel=EXACT)


def test_survival_of_contracts_matches_the_paper() -> None:
    """The example of Fader & Hardie (2007): shapes 1 and 1 give S(t) = 1 / (1 + t)."""
    p = sbg.ShiftedBetaGeometric(alpha=1.0, beta=1.0)
    years = np.arange(6.0)
    np.testing.assert_allclose(sbg.survival(p, years), 1 / (1 + years), rtol=EXACT)
    np.testing.assert_allclose(
        sbg.retention_rate(p, years[1:]), years[1:] / (1 + years[1:]), rtol=EXACT
    )


def test_cumulative_incidence_has_its_closed_form_at_equal_shapes() -> None:
    p = risks.CompetingRisks(shape_here=1.7, shape_elsewhere=1.7, shape_defection=1.7)
    years, group = np.array([0.0, 0.5, 3.0, 12.0]), np.zeros(4, dtype=bool)
    pull = p.scales**-1.7
    whole = 1 - np.exp(-pull.sum() * years**1.7)
    np.testing.assert_allclose(
        risks.cumulative_incidence(p, group, years), np.outer(pull / pull.sum(), whole), atol=1e-12
    )


@pytest.mark.parametrize("shape", [0.2, 0.7, 2.2, 8.0])
def test_incidences_and_survival_sum_to_one(shape: float) -> None:
    p = risks.CompetingRisks(shape_defection=shape, shape_here=3.0 if shape < 1 else 0.4)
    years, group = np.linspace(0, 30, 13), np.arange(13) % 2 == 0
    ended = risks.cumulative_incidence(p, group, years)
    total = ended.sum(axis=0) + risks.survival(p, group, years)
    np.testing.assert_allclose(total, 1, atol=EXACT)
    later = risks.cumulative_incidence(p, group, years + 2, years)
    np.testing.assert_allclose(
        later, risks.cumulative_incidence(p, group, years + 2) - ended, atol=EXACT
    )


def test_margins_of_the_ladder_are_their_sums() -> None:
    p = markov_ladder.MarkovLadder()
    near, ever = markov_ladder.expected_margins(p)
    matrix, step = markov_ladder.transition_matrix(p), np.eye(6)
    sums, faded = np.zeros(6), np.zeros(6)
    for n in range(1, 3_000):
        step = step @ matrix
        sums += step @ p.margins if n <= p.n_ahead else 0
        faded += step @ p.margins / 1.1 ** (n / 4)
    np.testing.assert_allclose(near, sums, rtol=EXACT)
    np.testing.assert_allclose(ever, faded, rtol=EXACT)


def test_the_integral_is_exact_for_an_exponential() -> None:
    found = integrals.discounted(
        lambda t: np.exp(-0.3 * t), np.array([1.0, 5.0]), horizon=7.0, discount=0.1
    )
    np.testing.assert_allclose(found, -np.expm1(-0.4 * 7) / 0.4, rtol=EXACT)


# Buying: what happened against what was expected ---------------------------------------------


def test_counts_of_purchases_follow_the_beta_geometric() -> None:
    made = {"acquisition_days": 1, "as_of": date(2024, 12, 30)}
    buyer = truth("bgnbd", "buyer", **made)
    weeks = float(buyer["age_weeks"][0])
    model = BetaGeometric(r=0.243, alpha=4.414, a=0.793, b=2.426)
    chance = model.frequency_probabilities(weeks, 60)[0]
    found = np.bincount(column(buyer, "frequency").astype(int).clip(0, 61), minlength=62)
    assert_counts(found.astype(float), N * np.append(chance, 1 - chance.sum()))


def test_counts_of_purchases_while_active_are_negative_binomial() -> None:
    """Nobody can leave before a first repeat: P(no repeat) is the negative binomial's."""
    buyer = truth("bgnbd", "buyer")
    none = column(buyer, "frequency") == 0
    chance = (1 + column(buyer, "age_weeks") / 4.414) ** -0.243
    assert_mean(none - chance)


@pytest.mark.parametrize("name", BUYING)
def test_gaps_while_active_follow_their_law(name: str) -> None:
    """The first gap, given that it ends while it can be seen: its probability is uniform."""
    made = world(name)
    k = getattr(made.parameters, "k", 1)
    events = truth(name, "event").filter(number=1)
    buyer = truth(name, "buyer")
    seen = buyer.join(events.select("customer_id", "at_days"), on="customer_id")
    end = column(seen, "age_weeks") * 7 + made.parameters.horizon_days
    if name == "cliff":
        assert end.min() > CLIFF
        seen = seen.filter(pl.col("at_days") < CLIFF)
        end = np.full(seen.height, CLIFF)
    rate = column(seen, "rate") / 7
    if name == "paretonbd":
        rate = rate + column(seen, "death_rate") / 7
    share = special.gammainc(k, rate * column(seen, "at_days")) / special.gammainc(k, rate * end)
    assert_law(share, stats.uniform())


@pytest.mark.parametrize("name", BUYING)
def test_the_chance_of_being_alive_is_calibrated(name: str) -> None:
    alive = column(truth(name, "buyer"), "alive")
    chance = column(truth(name, "buyer_value"), "probability_alive")
    assert_mean(alive - chance)
    group = np.digitize(chance, np.quantile(chance, np.arange(0.1, 1, 0.1)))
    for part in np.unique(group):
        inside = group == part
        spread = np.sqrt((chance[inside] * (1 - chance[inside])).sum())
        assert abs((alive - chance)[inside].sum()) <= Z * spread + 1e-6


def future(name: str) -> Floats:
    """Count each customer's purchases after the last day, by the exact clock, to the horizon."""
    age = truth(name, "buyer").select("customer_id", days=pl.col("age_weeks") * 7)
    later = (
        truth(name, "event")
        .join(age, on="customer_id")
        .filter(pl.col("at_days") > pl.col("days") + 1e-9)
        .group_by("customer_id")
        .len()
    )
    return column(age.join(later, on="customer_id", how="left").fill_null(0), "len")


@pytest.mark.parametrize("name", BUYING)
@pytest.mark.parametrize("given", ["expected_purchases", "own_purchases"])
def test_expected_purchases_are_what_happens_on_average(name: str, given: str) -> None:
    happened = future(name)
    expected = column(truth(name, "buyer_value"), given)
    assert_mean(happened - expected)
    x = column(truth(name, "buyer"), "frequency")
    for part in (x == 0, x == 1, x > 1):
        assert_mean((happened - expected)[part])


@pytest.mark.parametrize("name", BUYING)
def test_knowing_all_agrees_with_knowing_the_history_on_average(name: str) -> None:
    value = truth(name, "buyer_value")
    for given, own in (
        ("expected_purchases", "own_purchases"),
        ("discounted_purchases", "own_discounted"),
        ("discounted_ever", "own_ever"),
    ):
        if value[given].null_count() == 0:
            assert_mean(column(value, own) - column(value, given))
    assert (column(value, "own_discounted") <= column(value, "own_purchases")).all()
    assert (column(value, "own_discounted") <= column(value, "own_ever") + 1e-12).all()


@pytest.mark.parametrize("name", ["bgnbd", "paretonbd"])
def test_discounted_purchases_are_what_happens_on_average(name: str) -> None:
    made = world(name).parameters
    age = truth(name, "buyer").select("customer_id", days=pl.col("age_weeks") * 7)
    worth = (
        truth(name, "event")
        .join(age, on="customer_id")
        .with_columns(after=pl.col("at_days") - pl.col("days"))
        .filter(pl.col("after") > 1e-9)
        .group_by("customer_id")
        .agg(worth=(-made.discount() * pl.col("after")).exp().sum())
    )
    happened = column(age.join(worth, on="customer_id", how="left").fill_null(0.0), "worth")
    assert_mean(happened - column(truth(name, "buyer_value"), "discounted_purchases"))


@pytest.mark.parametrize("name", BUYING)
def test_population_curves_are_exact(name: str) -> None:
    curve, buyer = truth(name, "curve"), truth(name, "buyer")
    left = buyer["left_days"].fill_null(np.inf).to_numpy() / 7
    at = truth(name, "event").filter(pl.col("number") > 0)
    for week in (0, 10, 52, 104, 156, 160):
        values = dict(curve.filter(time=float(week)).select("quantity", "value").iter_rows())
        if week > float(buyer["age_weeks"].min()) + world(name).parameters.horizon_days / 7:  # type: ignore[arg-type]
            continue
        assert_mean((left > week).astype(float), values["share alive"])
        counted = at.filter(pl.col("at_days") <= week * 7).group_by("customer_id").len()
        bought = column(buyer.join(counted, on="customer_id", how="left").fill_null(0), "len")
        assert_mean(bought, values["repeat purchases"])


def test_the_warranty_cliff_takes_its_share() -> None:
    left = truth("cliff", "buyer")["left_days"]
    fell = float((left == CLIFF).sum())
    still = float((left.is_null() | (left >= CLIFF)).sum())
    assert abs(fell - 0.35 * still) <= Z * np.sqrt(still * 0.35 * 0.65)
    assert (truth("regular_visits", "buyer")["left_days"] == CLIFF).sum() == 0


@pytest.mark.parametrize("name", ["bgnbd", "regular_visits", "cliff"])
def test_customers_leave_after_purchases_as_often_as_they_should(name: str) -> None:
    """Leaving minus its chance is a martingale over purchases: it sums to about zero."""
    first = 1 if name == "bgnbd" else 0
    events = truth(name, "event").filter(pl.col("number") >= first)
    both = events.join(truth(name, "buyer"), on="customer_id")
    leaves = both.select((pl.col("at_days") == pl.col("left_days")).fill_null(value=False))
    chance = column(both, "dropout_probability")
    total = float(leaves.to_series().sum()) - chance.sum()
    assert abs(total) <= Z * np.sqrt((chance * (1 - chance)).sum())


@pytest.mark.parametrize("name", ["bgnbd", "paretonbd"])
def test_customers_buy_as_often_as_their_rates_say(name: str) -> None:
    """Purchases minus the rate times the time alive are a martingale, of variance the latter."""
    buyer = truth(name, "buyer")
    days = column(buyer, "age_weeks") * 7 + world(name).parameters.horizon_days
    alive = np.fmin(days, buyer["left_days"].cast(pl.Float64).to_numpy())
    expected = (column(buyer, "rate") / 7 * alive).sum()
    found = truth(name, "event").filter(pl.col("number") > 0).height
    assert abs(found - expected) <= Z * np.sqrt(expected)


def test_visits_are_regular_where_k_says_so() -> None:
    """Coefficient of variation of a customer's gaps: one over the root of k."""
    for name, k in (("random_visits", 1), ("regular_visits", 3)):
        events = truth(name, "event").filter(pl.col("number") <= 1)
        gap = events.group_by("customer_id").agg(pl.col("at_days").max()).sort("customer_id")
        buyer = truth(name, "buyer").join(gap, on="customer_id").filter(pl.col("at_days") > 0)
        quick = buyer.filter(pl.col("rate") > buyer["rate"].quantile(0.8))
        scaled = column(quick, "at_days") * column(quick, "rate") / 7 / k
        assert scaled.std() / scaled.mean() == pytest.approx(k**-0.5, abs=0.08)


# Days and money ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bgnbd", "paretonbd", "regular_visits"])
def test_days_keep_what_the_models_read(name: str) -> None:
    made = world(name)
    counted = purchase_history(made.tables["purchases"], as_of=made.parameters.as_of).table
    both = counted.join(truth(name, "buyer"), on="customer_id", suffix="_true")
    assert both.height == N
    same = both.filter(pl.col("frequency") == pl.col("frequency_true"))
    assert same.height >= 0.999 * N
    assert column(same, "age") == pytest.approx(column(same, "age_weeks"))
    late = (column(same, "recency") - column(same, "recency_weeks")) * 7
    assert late.min() >= -1e-6
    assert (late < 1).mean() > 0.98


def test_no_two_purchases_share_a_day() -> None:
    for name in BUYING:
        days = world(name).tables["purchases"].select("customer_id", "happened_on").collect()
        assert days.is_unique().all()


def test_open_purchases_are_the_seen_events() -> None:
    event = truth("bgnbd", "event")
    seen = event.filter("seen")
    bought = world("bgnbd").tables["purchases"].collect()
    assert_frame_equal(
        bought.select("customer_id", "happened_on"), seen.select("customer_id", "happened_on")
    )
    margin = column(bought, "margin")
    assert np.abs(margin - column(seen, "value")).max() <= 0.01 + 1e-9
    assert event.filter(~pl.col("seen"))["happened_on"].min() > date(2025, 12, 31)  # type: ignore[operator]


def test_spend_follows_gamma_gamma() -> None:
    event = truth("bgnbd", "event").join(
        truth("bgnbd", "buyer").select("customer_id", "mean_spend"), on="customer_id"
    )
    scaled = column(event, "value") * 6.25 / column(event, "mean_spend")
    assert_law(scaled, stats.gamma(6.25))
    first = event.filter(number=0)
    marginal = stats.betaprime(6.25, 3.74, scale=15.44)
    assert_law(column(first, "value"), marginal)


def test_expected_spend_is_the_mean_of_the_next_purchase() -> None:
    value = truth("bgnbd", "buyer_value").select("customer_id", "expected_spend")
    coming = (
        truth("bgnbd", "event")
        .filter(~pl.col("seen"))
        .group_by("customer_id")
        .agg(pl.col("value").sort_by("number").first())
        .join(value, on="customer_id")
    )
    assert_mean(column(coming, "value") - column(coming, "expected_spend"))
    mean = truth("bgnbd", "buyer").join(value, on="customer_id")
    assert_mean(column(mean, "mean_spend") - column(mean, "expected_spend"))


# The library's estimators find the truth -----------------------------------------------------


def test_the_library_recovers_the_beta_geometric() -> None:
    made = world("bgnbd")
    history = purchase_history(made.tables["purchases"], as_of=made.parameters.as_of)
    fitted = fit_beta_geometric(history)
    table = fitted.parameters().table
    for name, value in (("r", 0.243), ("alpha", 4.414), ("a", 0.793), ("b", 2.426)):
        row = table.filter(pl.col("parameter") == name).row(0, named=True)
        assert abs(row["estimate"] - value) <= Z * row["std_error"], row


def test_the_library_recovers_gamma_gamma() -> None:
    made = world("bgnbd")
    history = purchase_history(made.tables["purchases"], as_of=made.parameters.as_of)
    table = fit_gamma_gamma(history).parameters().table
    for name, value in (("p", 6.25), ("q", 3.74), ("v", 15.44)):
        row = table.filter(pl.col("parameter") == name).row(0, named=True)
        assert abs(row["estimate"] - value) <= Z * row["std_error"], row


def test_the_library_recovers_the_survival_of_contracts() -> None:
    made = world("sbg")
    curve = retention_curve(made.tables["spells"], unit="year", as_of=made.parameters.as_of).table
    assert isinstance(made.parameters, sbg.ShiftedBetaGeometric)
    known = curve.filter((pl.col("time") > 0) & (pl.col("n_at_risk") > 500))
    assert known.height >= 8
    exact = sbg.survival(made.parameters, column(known, "time"))
    assert (np.abs(column(known, "estimate") - exact) <= Z * column(known, "std_error")).all()


def test_the_library_recovers_the_survival_of_ownerships() -> None:
    made = world("weibull_competing_risks")
    curve = retention_curve(made.tables["spells"], unit="month", as_of=made.parameters.as_of).table
    truth_curve = truth("weibull_competing_risks", "curve").filter(
        quantity="share open", group="all"
    )
    both = curve.cast({"time": pl.Float64}).join(truth_curve, on="time")
    both = both.filter((pl.col("time") > 0) & (pl.col("n_at_risk") > 500))
    # A day late at most, and a calendar month within two days of the mean one.
    slack = 3 / 365.25 * 0.25
    miss = np.abs(column(both, "estimate") - column(both, "value"))
    assert (miss <= Z * column(both, "std_error") + slack).all()


@pytest.mark.slow
def test_intervals_of_the_library_cover_the_parameters() -> None:
    """Nominally 95 %: a share of 7 x 30 within three binomial standard errors, were they apart."""
    truths = {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426, "p": 6.25, "q": 3.74, "v": 15.44}
    hits = []
    for seed in range(100, 130):
        made = make_closed_form("bgnbd", n_customers=2_500, seed=seed)
        history = purchase_history(made.tables["purchases"], as_of=made.parameters.as_of)
        fits = (fit_beta_geometric(history), fit_gamma_gamma(history))
        found = pl.concat([fit.parameters().table for fit in fits])
        value = pl.col("parameter").replace_strict(truths, return_dtype=pl.Float64)
        hits += found.select(value.is_between("conf_low", "conf_high")).to_series().to_list()
    # Parameters of one fit go together, so the band is that of thirty trials.
    assert len(hits) == 7 * 30
    assert abs(np.mean(hits) - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / 30)


# Contracts --------------------------------------------------------------------------------


def test_renewals_follow_the_retention_rates() -> None:
    made = world("sbg")
    assert isinstance(made.parameters, sbg.ShiftedBetaGeometric)
    counted = (
        made.tables["renewals"]
        .group_by("number")
        .agg(n=pl.len(), k=pl.col("renewed").sum())
        .sort("number")
        .collect()
    )
    n, k = column(counted, "n"), column(counted, "k")
    rate = sbg.retention_rate(made.parameters, column(counted, "number"))
    score = ((k - n * rate) / np.sqrt(n * rate * (1 - rate))) ** 2
    assert stats.chi2.sf(score.sum(), len(score)) > ALARM


def test_contracts_that_come_are_those_expected() -> None:
    contract = truth("sbg", "contract")
    made = world("sbg").parameters
    assert isinstance(made, sbg.ShiftedBetaGeometric)
    total = contract["n_periods"].fill_null(10_000).to_numpy()
    done = column(contract, "n_renewals")
    active = contract["active"].to_numpy()
    coming = np.where(active, np.minimum(total - 1 - done, made.horizon_years), 0)
    assert made.horizon_years == 5
    for given in ("expected_renewals", "own_renewals"):
        assert_mean(coming - column(contract, given))
    assert_mean(column(contract, "own_discounted") - column(contract, "discounted_renewals"))


def test_contracts_renew_on_their_calendar_day() -> None:
    made = world("sbg")
    started = made.tables["spells"].select("customer_id", "started_on")
    due = made.tables["renewals"].join(started, on="customer_id").collect()
    assert (due["due_on"].dt.day() == due["started_on"].dt.day()).all()
    assert (due["due_on"].dt.month() == due["started_on"].dt.month()).all()
    assert (due["due_on"].dt.year() - due["started_on"].dt.year() == due["number"]).all()


# Competing risks --------------------------------------------------------------------------


def test_clocks_follow_their_weibull_laws() -> None:
    p = world("weibull_competing_risks").parameters
    assert isinstance(p, risks.CompetingRisks)
    owner = truth("weibull_competing_risks", "owner")
    parts = zip(CAUSES, p.shapes, p.scales, p.effects, strict=True)
    for cause, shape, scale, effect in parts:
        for serviced in (False, True):
            sample = column(owner.filter(serviced=serviced), f"{cause}_days") / 365.25
            law = stats.weibull_min(shape, scale=scale * np.exp(-effect * serviced / shape))
            assert_law(sample, law)


def test_incidences_are_what_happens() -> None:
    owner, curve = (truth("weibull_competing_risks", t) for t in ("owner", "curve"))
    years = column(owner, "ended_days") / 365.25
    for cause in CAUSES:
        for month in (12.0, 36.0, 84.0, 150.0):
            value = curve.filter(quantity=cause, group="all", time=month)["value"].item()
            assert_mean(((years <= month / 12) & (owner["cause"] == cause).to_numpy()) * 1.0, value)


def test_the_causes_seen_are_the_first_clocks() -> None:
    made = world("weibull_competing_risks")
    both = (
        made.tables["ownerships"]
        .collect()
        .join(truth("weibull_competing_risks", "owner"), on="customer_id", suffix="_true")
    )
    over = both.filter(~pl.col("open"))
    assert (over["cause"] == over["cause_true"]).all()
    days = (over["ended_on"] - over["started_on"]).dt.total_days().to_numpy()
    late = days - column(over, "ended_days")
    assert late.min() >= 0
    assert late.max() < 1
    assert both.filter("open")["ended_on"].null_count() == both.filter("open").height
    cars = made.tables["purchases"].collect().height
    assert cars == N + over.filter(cause="repurchase_here").height


def test_chances_of_the_coming_end_are_calibrated() -> None:
    made = world("weibull_competing_risks").parameters
    owner = truth("weibull_competing_risks", "owner").filter("open")
    age = (pl.lit(made.as_of) - pl.col("started_on")).dt.total_days() + made.horizon_days
    soon = owner.select(pl.col("ended_days") <= age).to_series()
    for cause in CAUSES:
        happened = (soon & (owner["cause"] == cause)).to_numpy().astype(float)
        chance = column(owner, f"{cause.removeprefix('repurchase_')}_probability")
        assert_mean(happened - chance)


# The ladder -------------------------------------------------------------------------------


def moves(made: ClosedForm) -> pl.DataFrame:
    after = pl.col("state").shift(-1).over("customer_id")
    return made.tables["ladder"].with_columns(after=after).drop_nulls("after").collect()


def test_transitions_follow_the_matrix() -> None:
    made = world("markov_ladder")
    assert isinstance(made.parameters, markov_ladder.MarkovLadder)
    matrix = markov_ladder.transition_matrix(made.parameters)
    seen = moves(made).group_by("state", "after").len()
    count = np.zeros((6, 6))
    for state, after, n in seen.iter_rows():
        count[STATES.index(state), STATES.index(after)] = n
    assert (count[matrix == 0] == 0).all()
    for row, chance in zip(count[:5], matrix[:5], strict=True):
        possible = chance > 0
        assert_counts(row[possible], row.sum() * chance[possible])


def test_shares_of_the_ladder_are_powers_of_the_matrix() -> None:
    made = world("markov_ladder")
    assert isinstance(made.parameters, markov_ladder.MarkovLadder)
    shares = markov_ladder.shares_after(made.parameters, 8)
    entered = truth("markov_ladder", "climber").select("customer_id", "entered_on")
    eight = (
        made.tables["ladder"]
        .collect()
        .join(entered, on="customer_id")
        .filter(pl.col("observed_on") == pl.col("entered_on").dt.offset_by("24mo"))
    )
    assert eight.height == N
    found = np.array([(eight["state"] == state).sum() for state in STATES], dtype=float)
    assert_counts(found, N * shares[8])


def test_expected_margins_of_the_ladder_are_what_happens() -> None:
    made = world("markov_ladder").parameters
    assert isinstance(made, markov_ladder.MarkovLadder)
    worth = dict(zip(STATES, made.margins, strict=True))
    coming = (
        truth("markov_ladder", "state")
        .with_columns(pl.col("state").replace_strict(worth).alias("margin"))
        .group_by("customer_id")
        .agg(
            pl.col("margin").sum(),
            pl.len().alias("quarters"),
            lost=pl.col("state").sort_by("observed_on").last() == "lost",
        )
        .join(truth("markov_ladder", "climber"), on="customer_id")
    )
    assert set(coming["quarters"]) == {made.n_ahead} == {8}
    assert_mean(column(coming, "margin") - column(coming, "expected_margin"))
    assert_mean(column(coming, "lost") - column(coming, "lost_probability"))


def test_quarters_are_quarters() -> None:
    days = world("markov_ladder").tables["ladder"].select("observed_on").unique().collect()
    found = sorted(days["observed_on"].to_list())
    assert found[0] == date(2019, 1, 1)
    assert found[-1] == date(2025, 10, 1)
    assert {(d.month, d.day) for d in found} == {(1, 1), (4, 1), (7, 1), (10, 1)}


# For ever ---------------------------------------------------------------------------------

DIGESTS = {
    "sbg": "ad2f9a6507daa27c",
    "bgnbd": "f0f506d43321623b",
    "paretonbd": "450d92a1e94134ba",
    "regular_visits": "5158442080757c30",
    "weibull_competing_risks": "14a1cdbd7a028567",
    "markov_ladder": "5f61311a1f0d991b",
}
"""Hash of each world's tables (50 customers, seed 1): it changes only with a line in the CHANGELOG
under "Numbers that change"."""


def digest(made: ClosedForm) -> str:
    whole = hashlib.sha256()
    for name, frame in sorted(everything(made).items()):
        whole.update(f"{name}\n{frame.write_csv()}".encode())
    return whole.hexdigest()[:16]


@pytest.mark.parametrize("name", WORLDS)
def test_same_seed_same_data_for_ever(name: str) -> None:
    assert digest(make_closed_form(name, n_customers=50, seed=1)) == DIGESTS[name]


def test_keyed_fields_are_their_own() -> None:
    """Customers' dealerships do not touch anything else they do."""
    one, many = (
        make_closed_form("bgnbd", n_customers=100, seed=1, n_dealerships=n).truth["truth_event"]
        for n in (1, 7)
    )
    assert_frame_equal(one.collect(), many.collect())
    assert Keyed(1).uniform("closed.first_day@1", np.array([1])).shape == (1,)
