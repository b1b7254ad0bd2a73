"""Views of what customers were asked: those who kept silent too, all questions, and by value."""

from __future__ import annotations

from datetime import date

import polars as pl

from crm_analysis.warehouse.views import Tables

__all__ = ["asked", "case_values", "customer_scores", "question_scores"]


def _named(tables: Tables, frame: pl.LazyFrame) -> pl.LazyFrame:
    places = tables("dealerships").select("dealership_id", pl.col("name").alias("dealership"))
    people = tables("employees").select("employee_id", pl.col("name").alias("employee"))
    return frame.join(places, on="dealership_id", how="left").join(
        people, on="employee_id", how="left"
    )


def _to(tables: Tables, question: str) -> pl.LazyFrame:
    codes = tables("survey_questions").filter(pl.col("code") == question)
    return (
        tables("survey_answers")
        .join(codes.select("question_id"), on="question_id", how="semi")
        .filter(pl.col("value").is_not_null())
        .select("survey_id", pl.col("value").alias("score"))
        .unique("survey_id", keep="first", maintain_order=True)
    )


def asked(
    tables: Tables, purchases: pl.LazyFrame, *, question: str, within_days: int
) -> pl.LazyFrame:
    """Return every survey sent, with its score where there is one, and the next purchase."""
    sent = tables("surveys").select(
        "survey_id", "customer_id", "employee_id", "dealership_id", "kind", "channel", "sent_at",
        "answered_at", (pl.col("sent_at").dt.date() + pl.duration(days=within_days + 1))
        .cast(pl.Date).alias("settled_on"),
    )  # fmt: skip
    bought = purchases.select("customer_id", returned_on="happened_on").sort("returned_on")
    followed = sent.sort("settled_on").join_asof(
        bought, left_on="settled_on", right_on="returned_on", by="customer_id", strategy="forward",
        check_sortedness=False,
    )  # fmt: skip
    scored = followed.join(_to(tables, question), on="survey_id", how="left").sort("survey_id")
    return _named(tables, scored).drop("settled_on")


def question_scores(tables: Tables) -> pl.LazyFrame:
    """Return the answers to every scale question, with its code and scale."""
    scales = (
        tables("survey_questions")
        .filter(pl.col("type").cast(pl.String) == "scale")
        .select("question_id", pl.col("code").alias("question"), "scale_min", "scale_max")
    )
    surveys = (
        tables("surveys")
        .filter(pl.col("answered_at").is_not_null())
        .select(
            "survey_id",
            "customer_id",
            "employee_id",
            "dealership_id",
            "kind",
            answered_on=pl.col("answered_at").dt.date(),
        )
    )
    answers = tables("survey_answers").filter(pl.col("value").is_not_null())
    joined = (
        answers.select("survey_id", "question_id", pl.col("value").alias("score"))
        .join(scales, on="question_id")
        .join(surveys, on="survey_id")
        .drop("question_id")
    )
    return _named(tables, joined)


def customer_scores(
    tables: Tables, purchases: pl.LazyFrame, *, question: str, since: date, as_of: date
) -> pl.LazyFrame:
    """Return each customer who bought in the period, with revenue and the last score of it."""
    brought = _brought(purchases, since, as_of).sort("customer_id")
    answered = (
        tables("surveys")
        .with_columns(answered_on=pl.col("answered_at").dt.date())
        .filter(pl.col("answered_on").is_between(since, as_of))
    )
    last = (
        answered.join(_to(tables, question), on="survey_id")
        .sort("answered_at", "survey_id")
        .group_by("customer_id")
        .agg(pl.col("score").last())
    )
    return brought.join(last, on="customer_id", how="left", maintain_order="left")


def case_values(
    tables: Tables, purchases: pl.LazyFrame, *, since: date, as_of: date
) -> pl.LazyFrame:
    """Return every case with what its customer brought in the period."""
    brought = _brought(purchases, since, as_of)
    cases = tables("cases").join(brought, on="customer_id", how="left", maintain_order="left")
    return cases.with_columns(pl.col("revenue").fill_null(0))


def _brought(purchases: pl.LazyFrame, since: date, as_of: date) -> pl.LazyFrame:
    inside = pl.col("happened_on").is_between(since, as_of)
    return purchases.filter(inside).group_by("customer_id").agg(pl.col("revenue").sum())
