"""Are the models of lifetime right? Coverage, random small data, and service visits, with truth.

Three experiments in worlds of known truth, where each model is exactly true:

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
import zlib
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
)
from synthetic.closed_form import make_closed_form

COVERED = (0.93, 0.97)
"""What a nominal 95 % may cover over 500 data sets: two binomial standard errors each way."""


# Worlds -----------------------------------------------------------------------------------

WEEKS = (26.0, 104.0)
"""Customers have been known for between half a year and two years."""


@dataclass(frozen=True)
class Trial:
    """A world drawn from a model's own story, and the fit that is to find its truth again."""

    name: str
    draw: Callable[[np.random.Generator, int, dict[str, float]], Any]
    fit: Callable[[Any], Any]
    truth: dict[str, float]
    n_customers: int


def history_of(x: Any, t_x: Any, T: Any) -> PurchaseHistory:
    """Take exact histories: whole days would add a bias of their own."""
    return PurchaseHistory.from_summary(pl.DataFrame({"frequency": x, "recency": t_x, "age": T}))


def buyers(
    rng: np.random.Generator, n: int, truth: dict[str, float], *, k: int = 1, modified: bool = False
) -> PurchaseHistory:
    """Draw buyers who stop after a purchase ((M)BG/CNBD-k).

    Every k-th of N random events until T is a purchase, and the j-th of them falls on T times
    Beta(j, N - j + 1); a run of purchases ends with a chance of the customer's own.
    """
    T = rng.uniform(*WEEKS, n)
    events = rng.poisson(rng.gamma(truth["r"], 1 / truth["alpha"], n) * T)
    stops = np.maximum(rng.beta(truth["a"], truth["b"], n), 1e-12)
    most = rng.geometric(stops) - int(modified)
    x = np.minimum(events // k, most)
    t_x = np.where(x > 0, T * rng.beta(np.maximum(k * x, 1), events - k * x + 1), 0.0)
    return history_of(x, t_x, T)


def leavers(rng: np.random.Generator, n: int, truth: dict[str, float]) -> PurchaseHistory:
    """Draw buyers who stop at any moment (Pareto/NBD): the last of x is the greatest of x."""
    T = rng.uniform(*WEEKS, n)
    rate = rng.gamma(truth["r"], 1 / truth["alpha"], n)
    leaves = rng.exponential(1 / rng.gamma(truth["s"], 1 / truth["beta"], n))
    until = np.minimum(leaves, T)
    x = rng.poisson(rate * until)
    last = until * rng.random(n) ** (1 / np.maximum(x, 1))
    return history_of(x, np.where(x > 0, last, 0.0), T)


def survivors(rng: np.random.Generator, n: int, truth: dict[str, float]) -> list[float]:
    """Draw how many renew seven times (sBG)."""
    leaves = rng.geometric(np.maximum(rng.beta(truth["alpha"], truth["beta"], n), 1e-12))
    return [float((leaves > period).sum()) for period in range(8)]


def spenders(rng: np.random.Generator, n: int, truth: dict[str, float]) -> PurchaseHistory:
    """Draw mean spend over one to six purchases (Gamma-Gamma)."""
    x = rng.integers(1, 7, n)
    scale = rng.gamma(truth["q"], 1 / truth["v"], n)
    mean = rng.gamma(truth["p"] * x, 1 / (scale * x))
    table = pl.DataFrame({"frequency": x, "value": mean}).with_columns(recency=1.0, age=2.0)
    return PurchaseHistory.from_summary(table, value_col="value")


def users(rng: np.random.Generator, n: int, truth: dict[str, float]) -> OpportunityHistory:
    """Draw customers with eight opportunities each (BG/BB)."""
    uses = rng.beta(truth["alpha"], truth["beta"], n)
    stops = rng.beta(truth["gamma"], truth["delta"], n)
    lived = rng.geometric(np.maximum(stops, 1e-12)) - 1
    at = np.arange(1, 9)
    used = (rng.random((n, 8)) < uses[:, None]) & (at <= lived[:, None])
    table = {
        "frequency": used.sum(axis=1),
        "recency": (used * at).max(axis=1),
        "n_opportunities": np.full(n, 8),
    }
    return OpportunityHistory(pl.DataFrame(table))


TRIALS = (
    Trial("BG/NBD", buyers, fit_beta_geometric,
          {"r": 0.6, "alpha": 6.0, "a": 0.8, "b": 2.4}, 3_000),
    Trial("MBG/NBD", partial(buyers, modified=True), fit_modified_beta_geometric,
          {"r": 1.5, "alpha": 20.0, "a": 0.8, "b": 3.0}, 3_000),
    Trial("Pareto/NBD", leavers, fit_pareto_nbd,
          {"r": 0.8, "alpha": 8.0, "s": 0.7, "beta": 9.0}, 4_000),
    Trial("MBG/CNBD-3", partial(buyers, k=3, modified=True),
          partial(fit_regular_beta_geometric, k=3),
          {"r": 4.0, "alpha": 20.0, "a": 1.0, "b": 4.0}, 2_000),
    Trial("BG/CNBD-3", partial(buyers, k=3),
          partial(fit_regular_beta_geometric, k=3, modified=False),
          {"r": 4.0, "alpha": 20.0, "a": 1.0, "b": 4.0}, 2_000),
    Trial("sBG", survivors, fit_shifted_beta_geometric, {"alpha": 0.668, "beta": 3.806}, 2_000),
    Trial("BG/BB", users, fit_beta_geometric_beta_binomial,
          {"alpha": 1.2, "beta": 0.75, "gamma": 0.66, "delta": 2.8}, 3_000),
    Trial("Gamma-Gamma", spenders, fit_gamma_gamma, {"p": 6.25, "q": 3.74, "v": 15.44}, 2_000),
)  # fmt: skip


# Coverage ---------------------------------------------------------------------------------


def tried(
    trial: Trial, seed: int, n_customers: int | None = None
) -> tuple[list[bool], list[float]]:
    """Draw one world, fit it, and say what its intervals cover."""
    rng = np.random.default_rng([seed, zlib.crc32(trial.name.encode())])
    world = trial.draw(rng, n_customers or trial.n_customers, trial.truth)
    return covered_by(trial.fit(world), trial.truth)


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
        if trial.name in models:
            results = [tried(trial, seed) for seed in range(n_sets)]
            good &= _told(trial.name, trial.n_customers, list(trial.truth), results)
    return good


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


def _fitted(fit: Any, history: PurchaseHistory) -> BuyingModel:
    return sound(fit(history), history)


def random_sets(n_sets: int, seed: int = 0, start: int = 0) -> Counter[str]:
    """Fit every model to random small data with warnings as errors, and count the ends.

    Each set has numbers of its own, so that a slice of them is the same as in the whole.
    """
    counts: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(start, start + n_sets):
            rng = np.random.default_rng([seed, number])
            history = random_history(rng)
            used, survivors = random_counts(rng)
            for name, fit in BUYING.items():
                counts[ends(name, partial(_fitted, fit, history))] += 1
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
    every = [trial.name for trial in TRIALS]
    parser.add_argument("--models", nargs="+", choices=every, default=every, help="for coverage")
    parser.add_argument("--seed", type=int, default=0, help="for random")
    parser.add_argument("--start", type=int, default=0, help="for random: the first set's number")
    asked = parser.parse_args()
    started = time.process_time()
    if asked.what == "coverage":
        good = coverage(asked.sets or 500, asked.models)
        print("\nall intervals cover as they should" if good else "\nsome intervals do not cover")
    elif asked.what == "random":
        for line, count in sorted(random_sets(asked.sets or 1000, asked.seed, asked.start).items()):
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
