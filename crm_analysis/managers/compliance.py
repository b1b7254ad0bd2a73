"""Do sales follow the order of work, or are steps left out and put down in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis.dates import SECONDS_PER_DAY, to_day_number
from crm_analysis.errors import InputError
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.managers.shares import TeamShares, team_shares
from crm_analysis.wording import _, date_text, number, percent, word_of

__all__ = ["ProcessCompliance", "process_compliance"]

_TAKEN = ("k", "total", "n_yes", "n_skipped", "n_swapped", "shrunk", "shrunk_low", "shrunk_high")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ProcessCompliance(TeamShares):
    """Shares of sales that followed the order of work.

    Attributes
    ----------
    steps : polars DataFrame
        ``step``, ``n_missing``, ``n_swapped`` (before a step that goes before it) and ``n`` (sales)
        of all groups together.
    """

    steps: pl.DataFrame = field(default_factory=pl.DataFrame)

    def sentence(self) -> str:
        """Return the finding, and the step left out most."""
        said = super().sentence()
        missed = self.steps.filter(pl.col("n_missing") > 0).sort(
            "n_missing", descending=True, maintain_order=True
        )
        if missed.is_empty() or self.overall is None:
            return said
        most = missed.row(0, named=True)
        return said + " " + _(
            "The step left out most is: {step} ({share}).",
            step=word_of(most["step"]), share=percent(most["n_missing"] / most["n"]),
        )  # fmt: skip

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_skipped": "count", "n_swapped": "count"}


def process_compliance(
    events: object,
    *,
    lead_col: str = "opportunity_id",
    stage_col: str = "stage",
    happened_col: str = "happened_at",
    steps: Sequence[str] = (
        "new",
        "contact",
        "appointment",
        "visit",
        "test_drive",
        "offer",
        "contract",
    ),
    may_skip: Sequence[str] = (),
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> ProcessCompliance:
    """What share of the sales went through every step of the work, in its order (Wilson, shrunk).

    Parameters
    ----------
    events : table
        One row per stage that a lead reached, on any backend: see `Warehouse.lead_events`.
    lead_col, stage_col, happened_col : str
    steps : sequence of str
        The order of work; the last is what makes a lead a sale, and only sales are judged: a lead
        that was lost halfway skipped nothing.
    may_skip : sequence of str
        Steps that may be left out; done out of order they still count as swapped.
    since : date, optional
        First day of the last step that is counted.
    as_of : date
    by : str or sequence of str
        A sale with events in several groups counts in each with what it has there: group by what
        is the same for all events of a lead.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    ProcessCompliance
        Columns of `by`, ``n_yes`` (every step, in order), ``n_skipped`` (a step was left out),
        ``n_swapped`` (none left out, but not in order), ``n`` (sales), the five and, with groups,
        the shrunk ones. Steps at one moment are in order. `steps` counts by step.

    Raises
    ------
    InputError
        Fewer than two steps, a step twice, or one that may be skipped and is none of them.
    ColumnError
        A column is missing, of another type, or null.
    """
    by = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    _check_steps(steps, may_skip)
    asked = {
        "lead": Asked(lead_col, "key", "lead_col"),
        "stage": Asked(stage_col, "text", "stage_col"),
        "at": Asked(happened_col, "moment", "happened_col"),
    }
    end = (to_day_number(as_of) + 1) * SECONDS_PER_DAY
    frame = open_table(events, asked, by=by).filter(nw.col("at") < end)
    stage = nw.col("stage").cast(nw.String)
    firsts = [f"s{place}" for place in range(len(steps))]
    frame = frame.with_columns(
        nw.when(stage == step).then(nw.col("at")).alias(name)
        for step, name in zip(steps, firsts, strict=True)
    )
    sales = frame.group_by(*keys_of(by), "lead").agg(*(nw.col(name).min() for name in firsts))
    sales = sales.filter(~nw.col(firsts[-1]).is_null())
    if since is not None:
        sales = sales.filter(nw.col(firsts[-1]) >= to_day_number(since) * SECONDS_PER_DAY)
    judged = _judge(collect(sales, by=by, order=["lead"]), steps, may_skip)
    return _answer(judged, steps, by, as_of, conf_level)


def _check_steps(steps: Sequence[str], may_skip: Sequence[str]) -> None:
    if len(steps) < 2 or len(set(steps)) < len(steps):
        raise InputError(
            f"An order of work of the steps {list(steps)} was asked for. Name at least two, each "
            "once."
        )
    unknown = [step for step in may_skip if step not in steps[:-1]]
    if unknown:
        raise InputError(
            f"The steps {unknown} may be skipped, but they are none of {list(steps[:-1])}. Name "
            "steps before the last."
        )


def _judge(sales: pl.DataFrame, steps: Sequence[str], may_skip: Sequence[str]) -> pl.DataFrame:
    """Say of each sale and step whether it is missing (``m0``, …) or too early (``w0``, …)."""
    verdicts = []
    for place in range(len(steps)):
        name = f"s{place}"
        before = [pl.col(f"s{earlier}") for earlier in range(place)]
        latest = pl.max_horizontal(*before) if before else pl.lit(None, dtype=pl.Int64)
        verdicts += [
            pl.col(name).is_null().alias(f"m{place}"),
            (pl.col(name) < latest).fill_null(value=False).alias(f"w{place}"),
        ]
    sales = sales.with_columns(verdicts)
    wanted = [f"m{place}" for place, step in enumerate(steps) if step not in may_skip]
    skipped = pl.any_horizontal(wanted)
    swapped = pl.any_horizontal(f"w{place}" for place in range(len(steps)))
    return sales.with_columns(
        k=(~skipped & ~swapped).cast(pl.Int64), n_skipped=skipped.cast(pl.Int64),
        n_swapped=(swapped & ~skipped).cast(pl.Int64),
    )  # fmt: skip


def _answer(
    judged: pl.DataFrame,
    steps: Sequence[str],
    by: tuple[str, ...],
    as_of: date,
    conf_level: float,
) -> ProcessCompliance:
    sums = (pl.col("k", "n_skipped", "n_swapped").sum(), pl.len().cast(pl.Int64).alias("total"))
    counted = (
        judged.group_by(by, maintain_order=True).agg(*sums).sort(by, nulls_last=True)
        if by else judged.select(*sums)
    )  # fmt: skip
    shares = team_shares(
        counted, by=by, conf_level=conf_level, name=_("Sales that followed the order of work"),
        definition=_(
            "Share of the leads that reached the step {last} by {as_of} and went through {k} steps "
            "in their order.",
            last=word_of(steps[-1]), as_of=date_text(as_of), k=number(len(steps)),
        ),
        what=_("sales"),
    )  # fmt: skip
    table = pl.DataFrame(
        {
            "step": list(steps),
            "n_missing": [int(judged[f"m{place}"].sum()) for place in range(len(steps))],
            "n_swapped": [int(judged[f"w{place}"].sum()) for place in range(len(steps))],
            "n": [judged.height] * len(steps),
        }
    )
    return ProcessCompliance(**vars(shares), steps=table)
