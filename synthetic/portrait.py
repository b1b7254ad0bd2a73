"""What a world looks like beside its truth: small tables for a reader's figures.

Every table has, beside its groups, the columns ``n``, ``estimate``, ``std_error``, ``conf_low`` and
``conf_high`` (null where nothing can be said), so that `crm_analysis.Estimates` shows it.
Intervals are at the 95 % level. `told` gives such a table its name, its definition and its words in
the reader's language, from ``portrait_words.toml`` beside this file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from crm_analysis.errors import InputError, near
from synthetic.defects.labels import ADDED, REMOVED
from synthetic.keyed import normal_quantile
from synthetic.reading import DataSet, open_data

Frame = pl.DataFrame | pl.LazyFrame

FIVE = ("n", "estimate", "std_error", "conf_low", "conf_high")
_FLOATS = dict.fromkeys(FIVE[1:], pl.Float64())
_YEAR_DAYS = 365.25
_Z = float(normal_quantile(pl.Series([0.975]).to_numpy())[0])


BY: Mapping[str, tuple[str, ...]] = {
    "season": ("month",),
    "felt": ("kind", "who"),
    "cliff": ("year", "curve"),
    "margins": ("kind", "year"),
    "wrong": ("kind",),
    "misses": ("metric", "stratum"),
}
"""Figures by name, and the columns that group each."""


@cache
def _words(lang: str) -> dict[str, Any]:
    text = files("synthetic").joinpath("portrait_words.toml").read_text(encoding="utf-8")
    known: dict[str, dict[str, Any]] = tomllib.loads(text)
    if lang not in known:
        raise InputError(
            f"Language {lang!r} was asked for{near(lang, known)}; there are {', '.join(known)}. "
            "Choose one of these."
        )
    return known[lang]


def heading(column: str, lang: str) -> str:
    """Return what a column is called in a language.

    Examples
    --------
    >>> heading("month", "en"), heading("month", "ru")
    ('month', 'месяц')
    """
    return str(_words(lang)["headings"].get(column, column))


def _word(code: str, lang: str) -> str:
    """Return the word for a code, or one put together from the words of its parts."""
    known: dict[str, str] = _words(lang)["codes"]
    return known.get(code) or " ".join(known.get(part, part) for part in code.split(" "))


def in_words(table: pl.DataFrame, lang: str) -> pl.DataFrame:
    """Return a table with its headings, and the codes in it, in the words of a language.

    Parameters
    ----------
    table : polars.DataFrame
        One of this module's tables, or one with such columns.
    lang : str
        ``"en"`` or ``"ru"``.

    Raises
    ------
    InputError
        No such language.
    """
    texts = [pl.col(name).cast(pl.String) for name in table.columns if _holds_text(table[name])]
    codes = {
        code: _word(code, lang)
        for text in table.select(texts).iter_columns()
        for code in text.drop_nulls().unique()
    }
    worded = table.with_columns(text.replace(codes) for text in texts)
    return worded.rename({name: heading(name, lang) for name in table.columns})


def _holds_text(column: pl.Series) -> bool:
    return column.dtype == pl.String or isinstance(column.dtype, pl.Enum | pl.Categorical)


def told(name: str, table: pl.DataFrame, lang: str) -> dict[str, Any]:
    """Return a figure as `Estimates` takes it, in a language: name, definition, table, groups.

    Parameters
    ----------
    name : str
        A figure of `BY`.
    table : polars.DataFrame
        Its table, as this module's functions return it.
    lang : str
        ``"en"`` or ``"ru"``.

    Raises
    ------
    InputError
        No such language.
    """
    said: dict[str, str] = _words(lang)["figures"][name]
    by = tuple(heading(column, lang) for column in BY[name])
    return {**said, "table": in_words(table, lang), "by": by}


def _on_log_scale(relative_error: pl.Expr) -> list[pl.Expr]:
    """Return the columns of a positive estimate with a relative standard error."""
    estimate, spread = pl.col("estimate"), (_Z * relative_error).exp()
    return [
        (estimate * relative_error).alias("std_error"),
        (estimate / spread).alias("conf_low"),
        (estimate * spread).alias("conf_high"),
    ]


def _about_mean() -> list[pl.Expr]:
    """Return the bounds of an estimate from its standard error."""
    estimate, half = pl.col("estimate"), _Z * pl.col("std_error")
    return [(estimate - half).alias("conf_low"), (estimate + half).alias("conf_high")]


def open_truth(path: Path | str) -> DataSet:
    """Open a data set of ours that has its truth.

    Raises
    ------
    InputError
        There is no truth beside the tables, or no data set of ours at all.
    """
    world = open_data(path)
    if not world.truth:
        raise InputError(
            f"The truth that made {path} was asked for, and there is none beside the tables: it "
            "has a folder 'truth' or, in a DuckDB file, a schema of that name. Only invented data "
            "have a truth: make some with 'python -m synthetic generate --preset small --seed 1 "
            "--out reports/out/data/small'."
        )
    return world


def season(opportunities: Frame, *, as_of: date) -> pl.DataFrame:
    """Count leads by calendar month, against the mean month, over the whole years of the data.

    Returns
    -------
    polars.DataFrame
        month (``month 01`` to ``month 12``) and the five columns; `estimate` is 1 in a month as
        busy as the mean, `n` counts leads.
    """
    opened = opportunities.lazy().select(day=pl.col("opened_at").dt.date())
    first = opened.select(pl.col("day").min()).collect().item()
    if first is None:
        return pl.DataFrame(schema={"month": pl.String(), "n": pl.Int64(), **_FLOATS})
    since = date(first.year + (first > date(first.year, 1, 31)), 1, 1)
    until = date(as_of.year + (as_of == date(as_of.year, 12, 31)), 1, 1)
    counted = (
        opened.filter(pl.col("day").is_between(since, until, closed="left"))
        .group_by(month=pl.col("day").dt.to_string("month %m"))
        .agg(n=pl.len().cast(pl.Int64))
        .sort("month")
        .with_columns(share=pl.col("n") / pl.col("n").sum())
        .with_columns(estimate=12 * pl.col("share"))
    )
    error = ((1 - pl.col("share")) / pl.col("n")).sqrt()
    return counted.with_columns(_on_log_scale(error)).select("month", *FIVE).collect()


def true_spells(truth_fate: Frame, spells: Frame) -> pl.DataFrame:
    """Return the true relationships of the customers that a CRM sees as relationships.

    Returns
    -------
    polars.DataFrame
        customer_id, started_on, ended_on (null = still here when the truth ends), curve.
    """
    seen = spells.lazy().select("customer_id").unique()
    return (
        truth_fate.lazy()
        .join(seen, on="customer_id", how="semi")
        .select(
            "customer_id", "started_on", "ended_on", curve=pl.lit("what_is_true")
        )
        .sort("customer_id")
        .collect()
    )  # fmt: skip


def began_with_new_car(truth_fate: Frame, deals: Frame, vehicles: Frame) -> pl.DataFrame:
    """Return the fates of the relationships that began with the delivery of a new car.

    They are all under warranty on the same day of their life, so that its end shows.
    """
    new = vehicles.lazy().filter(pl.col("condition").cast(pl.String) == "new")
    first = (
        deals.lazy()
        .join(new, on="vehicle_id", how="semi")
        .select("customer_id", started_on="delivery_on")
    )
    fates = truth_fate.lazy().join(first, on=["customer_id", "started_on"], how="semi")
    return fates.sort("customer_id").collect()


def defection_by_year(truth_interval: Frame, truth_fate: Frame, *, years: int = 8) -> pl.DataFrame:
    """Compare defections counted with those that the true hazards promise, by year of relationship.

    Returns
    -------
    polars.DataFrame
        year, curve (``counted`` or ``true_hazard``), in_warranty_share and the five columns;
        `estimate` is defections a customer-year, `n` the customers at risk. The promise has no
        interval: it is the truth.
    """
    spans = truth_interval.lazy().join(
        truth_fate.lazy().select("customer_id", "started_on", "ended_on", "cause"),
        on="customer_id",
    )
    parts = pl.collect_all([_one_year(spans, year) for year in range(1, years + 1)])
    return pl.concat(parts).filter(pl.col("n") > 0)


def _one_year(spans: pl.LazyFrame, year: int) -> pl.LazyFrame:
    began = pl.col("started_on").dt.epoch("d")
    low = began + round(_YEAR_DAYS * (year - 1))
    high = began + round(_YEAR_DAYS * year)
    inside = pl.min_horizontal(pl.col("stop_on").dt.epoch("d"), high) - pl.max_horizontal(
        pl.col("start_on").dt.epoch("d"), low
    )
    left = pl.col("ended_on").dt.epoch("d").is_between(low, high, closed="left")
    gone = left & (pl.col("cause").cast(pl.String) == "defected")
    at_risk = (
        spans.with_columns(years=inside.clip(0) / _YEAR_DAYS, gone=gone)
        .filter(pl.col("years") > 0)
        .group_by("customer_id")
        .agg(
            pl.col("years").sum(),
            promised=(pl.col("years") * pl.col("hazard")).sum(),
            warranty=(pl.col("years") * pl.col("in_warranty")).sum(),
            gone=pl.col("gone").any(),
        )
    )
    total = at_risk.select(
        n=pl.len().cast(pl.Int64),
        years=pl.col("years").sum(),
        promised=pl.col("promised").sum(),
        warranty=pl.col("warranty").sum(),
        gone=pl.col("gone").sum(),
    ).with_columns(
        year=pl.lit(f"year {year}"), in_warranty_share=pl.col("warranty") / pl.col("years")
    )
    nothing = pl.lit(None, dtype=pl.Float64)
    counted = total.with_columns(
        curve=pl.lit("counted"), estimate=pl.col("gone") / pl.col("years")
    ).with_columns(_on_log_scale(pl.when(pl.col("gone") > 0).then(1 / pl.col("gone").sqrt())))
    promised = total.with_columns(
        curve=pl.lit("true_hazard"), estimate=pl.col("promised") / pl.col("years"),
        std_error=nothing, conf_low=nothing, conf_high=nothing,
    )  # fmt: skip
    columns = ("year", "curve", "in_warranty_share", *FIVE)
    return pl.concat([counted.select(columns), promised.select(columns)])


def said_and_felt(
    surveys: Frame, answers: Frame, truth_answer: Frame, *, question_id: int = 1
) -> pl.DataFrame:
    """Compare what was said with what was felt, by those who answered and by all who were asked.

    Returns
    -------
    polars.DataFrame
        kind, who and the five columns; `estimate` is a mean score of the question.
    """
    asked = surveys.lazy().select("survey_id", "kind", replied=pl.col("answered_at").is_not_null())
    felt = (
        truth_answer.lazy()
        .filter(pl.col("question_id") == question_id)
        .select("survey_id", score="expected_score")
        .join(asked, on="survey_id")
    )
    said = (
        answers.lazy()
        .filter(pl.col("question_id") == question_id, pl.col("value").is_not_null())
        .select("survey_id", score="value")
        .join(asked, on="survey_id")
    )
    parts = {
        "said_by_those_who_answered": said.filter("replied"),
        "felt_by_those_who_answered": felt.filter("replied"),
        "felt_by_all_who_were_asked": felt,
    }
    whole = pl.concat(
        [part.select("kind", "score", who=pl.lit(who)) for who, part in parts.items()]
    )
    return mean_of(whole, "score", by=("kind", "who"))


def mean_of(data: Frame, column: str, *, by: Sequence[str]) -> pl.DataFrame:
    """Return the mean of a column by group, in the order of the groups."""
    value = pl.col(column).cast(pl.Float64)
    return (
        data.lazy()
        .group_by(by)
        .agg(
            n=pl.len().cast(pl.Int64),
            estimate=value.mean(),
            std_error=value.std() / pl.len().sqrt(),
        )
        .sort(by)
        .with_columns(_about_mean())
        .select(*by, *FIVE)
        .collect()
    )


def defect_shares(tables: Mapping[str, pl.LazyFrame], truth_defect: Frame) -> pl.DataFrame:
    """Count the rows that each kind of defect befell, against the rows that there truly were.

    Returns
    -------
    polars.DataFrame
        kind and the five columns; `n` counts the rows of the tables that the kind befalls, without
        those that a defect added and with those that one removed; `estimate` is the share that
        went wrong.
    """
    labels = truth_defect.lazy().collect()
    found = labels.group_by("kind", "table").agg(found=pl.col("key").n_unique().cast(pl.Int64))
    shares = (
        found.join(_true_rows(tables, labels), on="table")
        .group_by("kind")
        .agg(pl.col("found", "n").sum())
        .with_columns(estimate=pl.col("found") / pl.col("n"))
        .sort("kind")
    )
    error = (1 / pl.col("found") - 1 / pl.col("n")).clip(0).sqrt()
    return shares.with_columns(_on_log_scale(error)).select("kind", *FIVE)


def _true_rows(tables: Mapping[str, pl.LazyFrame], labels: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of each table before the defects: table, n."""
    change = pl.col("change").cast(pl.String)
    more = (change == REMOVED).sum().cast(pl.Int64) - (change == ADDED).sum()
    moved = labels.group_by("table").agg(more=more)
    counts = pl.collect_all([frame.select(pl.len()) for frame in tables.values()])
    there = [int(count.item()) for count in counts]
    rows = pl.DataFrame({"table": list(tables), "there": there}, schema_overrides=_COUNTED)
    return rows.join(moved, on="table", how="left").select(
        "table", n=pl.col("there") + pl.col("more").fill_null(0)
    )


_COUNTED = {"table": pl.String, "there": pl.Int64}


def worst_misses(held: pl.DataFrame) -> pl.DataFrame:
    """Return the stratum of each target that lies farthest from it, in tolerances.

    Parameters
    ----------
    held : polars.DataFrame
        What `synthetic.targets.as_table` returns.
    """
    known = held.filter(pl.col("observed").is_not_null()).with_columns(
        estimate=(pl.col("observed") - pl.col("target")) / pl.col("tolerance"),
        std_error=pl.col("std_error") / pl.col("tolerance"),
    )
    worst = known.sort(pl.col("estimate").abs(), descending=True).group_by(
        "metric", maintain_order=True
    )
    return (
        worst.first()
        .with_columns(_about_mean())
        .select("metric", "stratum", *FIVE, "verdict")
    )  # fmt: skip
