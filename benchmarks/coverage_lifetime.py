"""Are the models of lifetime right? Coverage, random small data, and service visits, with truth.

Three experiments in the generator's closed-form worlds, where each model is exactly true:

- ``coverage``: data sets are made and fitted; every parameter's 95 % interval is to cover its true
  value 93-97 % of the time, and the logarithms of the estimates are to show no bias.
- ``random``: a thousand random small data sets; every model converges or refuses with a reason,
  without a warning.
- ``service``: regular visits of known customers; how near each model and the rules of thumb come
  to who is active.

    python run.py exec python benchmarks/coverage_lifetime.py coverage
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from crm_analysis import (
    BuyingModel,
    InputError,
    NotConvergedError,
    OpportunityHistory,
    PurchaseHistory,
    fit_beta_geometric,
    fit_beta_geometric_beta_binomial,
    fit_gamma_gamma,
    fit_modified_beta_geometric,
    fit_pareto_nbd,
    fit_regular_beta_geometric,
    fit_shifted_beta_geometric,
    purchase_history,
    renewal_counts,
)
from synthetic.closed_form import ClosedForm, make_closed_form

COVERED = (0.93, 0.97)
"""What a nominal 95 % may cover over 500 data sets: two binomial standard errors each way."""


# Coverage ---------------------------------------------------------------------------------


def exact_history(world: ClosedForm) -> PurchaseHistory:
    """Take histories by the exact clock: whole days would add a bias of their own."""
    buyers = world.truth["truth_buyer"].collect()
    end = pl.col("at_days") <= pl.col("age_weeks") * 7
    gaps = (
        world.truth["truth_event"]
        .join(world.truth["truth_buyer"].select("customer_id", "age_weeks"), on="customer_id")
        .filter(end)
        .sort("customer_id", "number")
        .with_columns(gap=pl.col("at_days").diff().over("customer_id") / 7)
        .group_by("customer_id")
        .agg(sum_log_gaps=pl.col("gap").log().sum())
        .collect()
    )
    return PurchaseHistory.from_summary(
        buyers.join(gaps, on="customer_id", how="left"),
        recency_col="recency_weeks",
        age_col="age_weeks",
        sum_log_gaps_col="sum_log_gaps",
    )


@dataclass(frozen=True)
class Trial:
    """A world, what is changed in it, and the model that is true there."""

    name: str
    world: str
    parameters: dict[str, Any]
    fit: Callable[[ClosedForm], Any]
    truth: dict[str, float]
    n_customers: int


def _bought(fit: Callable[[PurchaseHistory], Any]) -> Callable[[ClosedForm], Any]:
    return lambda world: fit(exact_history(world))


def _renewed(world: ClosedForm) -> Any:
    return fit_shifted_beta_geometric(
        renewal_counts(
            world.tables["renewals"], renewed_col="renewed", as_of=world.parameters.as_of
        )
    )


def _spent(world: ClosedForm) -> Any:
    """Exact money: the open tables hold whole cents."""
    spent = (
        world.truth["truth_event"]
        .filter(pl.col("number") > 0, "seen")
        .group_by("customer_id")
        .agg(frequency=pl.len(), mean_value=pl.col("value").mean())
        .with_columns(recency=1.0, age=2.0)
        .collect()
    )
    return fit_gamma_gamma(PurchaseHistory.from_summary(spent, value_col="mean_value"))


SPEND = {"p": 6.25, "q": 3.74, "v": 15.44}
TRIALS = (
    Trial("BG/NBD", "bgnbd", {"r": 0.6, "alpha": 6.0, "a": 0.8, "b": 2.4},
          _bought(fit_beta_geometric), {"r": 0.6, "alpha": 6.0, "a": 0.8, "b": 2.4}, 2_000),
    Trial("Pareto/NBD", "paretonbd", {"r": 0.8, "alpha": 8.0, "s": 0.7, "beta": 9.0},
          _bought(fit_pareto_nbd), {"r": 0.8, "alpha": 8.0, "s": 0.7, "beta": 9.0}, 4_000),
    Trial("MBG/NBD", "regular_visits", {"k": 1, "r": 1.5, "alpha": 20.0, "a": 0.8, "b": 3.0},
          _bought(fit_modified_beta_geometric),
          {"r": 1.5, "alpha": 20.0, "a": 0.8, "b": 3.0}, 2_500),
    Trial("MBG/CNBD-3", "regular_visits", {"k": 3, "r": 4.0, "alpha": 40.0, "a": 1.0, "b": 4.0},
          _bought(partial(fit_regular_beta_geometric, k=3)),
          {"r": 4.0, "alpha": 40.0, "a": 1.0, "b": 4.0}, 1_500),
    Trial("sBG", "sbg", {}, _renewed, {"alpha": 0.668, "beta": 3.806}, 2_000),
    Trial("Gamma-Gamma", "bgnbd", {"r": 0.6, "alpha": 6.0, "a": 0.8, "b": 2.4},
          _spent, SPEND, 2_000),
)  # fmt: skip


def opportunities(seed: int, n: int = 3_000) -> OpportunityHistory:
    """Draw customers of a BG/BB world with eight opportunities."""
    rng = np.random.default_rng(seed)
    buys, stops = rng.beta(1.2, 0.75, n), rng.beta(0.66, 2.8, n)
    lived = rng.geometric(np.maximum(stops, 1e-12)) - 1
    at = np.arange(1, 9)
    used = (rng.random((n, 8)) < buys[:, None]) & (at <= lived[:, None])
    table = {
        "frequency": used.sum(axis=1),
        "recency": (used * at).max(axis=1),
        "n_opportunities": np.full(n, 8),
    }
    return OpportunityHistory(pl.DataFrame(table))


def covered_by(model: Any, truth: dict[str, float]) -> tuple[list[bool], list[float]]:
    """Return, for each parameter, whether its interval covers, and the error of its logarithm."""
    rows = model.parameters().table.to_dicts()
    hit = [row["conf_low"] <= truth[row["parameter"]] <= row["conf_high"] for row in rows]
    return hit, [float(np.log(row["estimate"] / truth[row["parameter"]])) for row in rows]


def coverage(n_sets: int, models: list[str]) -> bool:
    """Print coverage and bias of the models' parameters."""
    print(f"\n| model | customers | parameter | covered of {n_sets} | mean log error (its s.e.) |")
    print("|---|--:|---|--:|--:|")
    good = True
    for trial in TRIALS:
        if trial.name not in models:
            continue
        made = partial(make_closed_form, trial.world, n_customers=trial.n_customers)
        results = [
            covered_by(trial.fit(made(seed=seed, **trial.parameters)), trial.truth)
            for seed in range(n_sets)
        ]
        good &= _told(trial.name, trial.n_customers, list(trial.truth), results)
    if "BG/BB" not in models:
        return good
    truth = {"alpha": 1.2, "beta": 0.75, "gamma": 0.66, "delta": 2.8}
    results = [
        covered_by(fit_beta_geometric_beta_binomial(opportunities(seed)), truth)
        for seed in range(n_sets)
    ]
    return good & _told("BG/BB", 3_000, list(truth), results)


def _told(
    name: str, n: int, parameters: list[str], results: list[tuple[list[bool], list[float]]]
) -> bool:
    hits = np.array([hit for hit, _error in results])
    errors = np.array([error for _hit, error in results])
    low, high = COVERED
    slack = stats.norm.ppf(0.9995) * np.sqrt(0.95 * 0.05 / len(hits))
    band = (min(low, 0.95 - slack), max(high, 0.95 + slack)) if len(hits) < 500 else COVERED
    good = True
    for i, parameter in enumerate(parameters):
        share, mean = hits[:, i].mean(), errors[:, i].mean()
        error = errors[:, i].std(ddof=1) / np.sqrt(len(hits))
        inside = band[0] <= share <= band[1]
        good &= inside
        mark = "" if inside else " **outside**"
        print(f"| {name} | {n:,} | {parameter} | {share:.3f}{mark} | {mean:+.4f} ({error:.4f}) |")
    return good


# Random small data ------------------------------------------------------------------------

BUYING: dict[str, Callable[[PurchaseHistory], BuyingModel]] = {
    "BG/NBD": fit_beta_geometric,
    "MBG/NBD": fit_modified_beta_geometric,
    "Pareto/NBD": fit_pareto_nbd,
    "MBG/CNBD-k": fit_regular_beta_geometric,
    "BG/CNBD-k": partial(fit_regular_beta_geometric, modified=False),
}


def random_history(rng: np.random.Generator) -> PurchaseHistory:
    """Draw a small history of any shape: few or many customers, buys, scales, ties and values."""
    n = int(rng.integers(1, 80))
    days = float(rng.choice([3, 60, 1000, 3650]))
    x = rng.poisson(rng.gamma(rng.choice([0.2, 0.7, 5]), rng.choice([0.5, 2, 30]), n))
    T = np.ceil(rng.uniform(0.3 if rng.random() < 0.5 else 1.0, 1, n) * days)
    x = np.minimum(x, T).astype(int)
    gaps = [np.sort(rng.choice(int(t), k, replace=False) + 1.0) for t, k in zip(T, x, strict=True)]
    t_x = np.array([g[-1] if len(g) else 0.0 for g in gaps])
    logs = [float(np.log(np.diff(g, prepend=0)).sum()) if len(g) else 0.0 for g in gaps]
    values = rng.choice([1.0, 40.0, 1e6]) * rng.normal(1, rng.choice([0.0, 0.3, 3]), n)
    table = {"frequency": x, "recency": t_x, "age": T, "logs": logs, "value": values}
    return PurchaseHistory.from_summary(
        pl.DataFrame(table), value_col="value", sum_log_gaps_col="logs", unit="day"
    )


def random_counts(rng: np.random.Generator) -> tuple[OpportunityHistory, list[float]]:
    """Draw small opportunities and survivors."""
    n = int(rng.integers(1, 60))
    many = rng.integers(0, 12, n)
    last = np.floor(rng.random(n) * (many + 1)).astype(int)
    x = np.where(last > 0, 1 + np.floor(rng.random(n) * last), 0).astype(int)
    last = np.where(x > 0, last, 0)
    table = {"frequency": x, "recency": last, "n_opportunities": many}
    survivors = [float(rng.integers(0, 300))]
    for _period in range(int(rng.integers(1, 9))):
        survivors.append(float(rng.binomial(int(survivors[-1]), rng.beta(2, 1))))
    return OpportunityHistory(pl.DataFrame(table)), survivors


def ends(name: str, attempt: Callable[[], Any]) -> str:
    """Return how a fit ended: fitted, at an edge, or refused and why."""
    try:
        model = attempt()
    except InputError:
        return f"{name}: refused, too little or impossible data"
    except NotConvergedError:
        return f"{name}: refused, no maximum"
    return f"{name}: fitted, with a caution" if model.notes else f"{name}: fitted"


def sound(model: BuyingModel, history: PurchaseHistory) -> BuyingModel:
    """Return the model when its predictions are numbers that can be.

    Raises
    ------
    ValueError
    """
    x, t_x, T = (history.table[c].to_numpy() for c in ("frequency", "recency", "age"))
    alive = model.probability_alive(x, t_x, T)
    ahead = model.expected_purchases(float(T.mean()), x, t_x, T)
    if not ((alive >= 0) & (alive <= 1) & np.isfinite(ahead) & (ahead >= 0)).all():
        raise ValueError(f"{model} predicts what cannot be")
    return model


def random_sets(n_sets: int, seed: int = 0) -> Counter[str]:
    """Fit every model to random small data with warnings as errors, and count the ends."""
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _set in range(n_sets):
            history = random_history(rng)
            used, survivors = random_counts(rng)
            for name, fit in BUYING.items():
                counts[ends(name, lambda fit=fit, h=history: sound(fit(h), h))] += 1
            counts[ends("Gamma-Gamma", partial(fit_gamma_gamma, history))] += 1
            counts[ends("BG/BB", partial(fit_beta_geometric_beta_binomial, used))] += 1
            counts[ends("sBG", partial(fit_shifted_beta_geometric, survivors))] += 1
    return counts


# Service visits ---------------------------------------------------------------------------


def service_table(
    n_customers: int = 3_000, seed: int = 1, *, k: int = 8, cliff: float = 0.0
) -> pl.DataFrame:
    """Who is active, by each model and rule, beside the truth of the regular_visits world."""
    world = make_closed_form(
        "regular_visits",
        n_customers=n_customers,
        seed=seed,
        k=k,
        r=2.5 * k,
        alpha=130.0,
        cliff=cliff,
    )
    history = purchase_history(
        world.tables["purchases"], value_col=None, as_of=world.parameters.as_of
    )
    truth = world.truth["truth_buyer"].select("customer_id", "alive").collect()
    alive = history.table.join(truth, on="customer_id", maintain_order="left")["alive"].to_numpy()
    x, t_x, T = (history.table[c].to_numpy() for c in ("frequency", "recency", "age"))
    rows = []
    for fit in BUYING.values():
        model = fit(history)
        rows.append((model.label, model.log_likelihood, model.probability_alive(x, t_x, T)))
    rows += [
        (f"a visit in the last {m} months", None, (T - t_x <= m * 30.4375 / 7).astype(float))
        for m in (12, 18, 24)
    ]
    return pl.DataFrame(
        [
            (label, value, p.mean(), alive.mean(), ((p - alive) ** 2).mean())
            for label, value, p in rows
        ],
        schema=["model", "log_likelihood", "mean_active", "truth", "brier"],
        orient="row",
    )


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("coverage", "random", "service"))
    parser.add_argument("--sets", type=int, help="data sets (500 for coverage, 1000 for random)")
    every = [*(trial.name for trial in TRIALS), "BG/BB"]
    parser.add_argument("--models", nargs="+", choices=every, default=every, help="for coverage")
    parser.add_argument("--seed", type=int, default=0, help="for random")
    asked = parser.parse_args()
    started = time.process_time()
    if asked.what == "coverage":
        good = coverage(asked.sets or 500, asked.models)
        print("\nall intervals cover as they should" if good else "\nsome intervals do not cover")
    elif asked.what == "random":
        for line, count in sorted(random_sets(asked.sets or 1000, asked.seed).items()):
            print(f"{line}: {count}")
    else:
        with pl.Config(
            tbl_rows=-1, tbl_cols=-1, tbl_formatting="ASCII_MARKDOWN", float_precision=3
        ):
            for k, cliff in ((8, 0.0), (3, 0.0), (1, 0.0), (8, 0.25)):
                print(f"\nk = {k}; {cliff:.0%} of those active leave when warranty ends")
                print(service_table(k=k, cliff=cliff))
    print(f"\n{time.process_time() - started:.1f} CPU seconds")


if __name__ == "__main__":
    main()
