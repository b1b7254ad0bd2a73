"""What customers come with: complaints, requests and questions by what they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import to_day_number
from crm_analysis.estimates import Estimates, group_label, share_columns
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.wording import _, date_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CaseTopics", "case_topics", "topic_bars"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CaseTopics(Estimates):
    """Shares of cases by what they are about, the most frequent first."""

    def sentence(self) -> str:
        """Name what cases are about most."""
        if self.table.is_empty():
            return super().sentence()
        groups = self.by[:-1]
        if not groups:
            return _(
                "Most often it is about {first}.", first=self._topic(self.table.row(0, named=True))
            )
        firsts = self.table.group_by(groups, maintain_order=True).first().to_dicts()
        parts = [f"{group_label(row, groups)} – {self._topic(row)}" for row in firsts]
        return _("What it is about most often: {groups}.", groups="; ".join(parts))

    def _topic(self, row: dict[str, Any]) -> str:
        return _("“{topic}”, {value}", topic=word_of(row["topic"]), value=self.value_text(row))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares, the largest on top, and return the Axes."""
        if self.by != ("topic",):
            return super().plot(ax)
        return topic_bars(self, ax)

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_cases": "count"}


def topic_bars(shares: Estimates, ax: Axes | None) -> Axes:
    """Draw a table's shares by topic, the largest on top, and return the Axes."""
    ax = figures.new_axes(ax)
    labels = [word_of(topic) for topic in shares.table["topic"]]
    labelled = shares.table.with_columns(pl.Series("label", labels, pl.String))
    figures.bars(labelled, label="label", value="estimate", ax=ax, text=percent)
    figures.write_units(ax, "share", axis="x")
    ax.set_title(shares.name)
    return ax


def case_topics(
    cases: object,
    *,
    topic_col: str = "about",
    at_col: str = "opened_at",
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> CaseTopics:
    """What do customers come with: the share of cases about each topic (Wilson).

    Parameters
    ----------
    cases : table
        One row per complaint, request or question, on any backend.
    topic_col, at_col : str
        What it is about (null is a topic of its own), and when it came.
    since : date, optional
    as_of : date
    by : str or sequence of str
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    CaseTopics
        Columns of `by`, ``topic``, ``n_cases``, ``n`` (cases of the group), ``estimate`` (share),
        ``std_error``, ``conf_low``, ``conf_high``; the most frequent topic of a group first. No
        rows where there are no cases.

    Raises
    ------
    InputError
        A first day that is not before the last.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date, datetime
    >>> cases = pl.DataFrame({
    ...     "about": ["price", "waiting", "waiting", "waiting"],
    ...     "opened_at": [datetime(2026, 6, 1)] * 4,
    ... })
    >>> case_topics(cases, as_of=date(2026, 6, 30)).table.select("topic", "estimate").rows()
    [('waiting', 0.75), ('price', 0.25)]
    """
    by = group_names(by, taken=("topic", "n_cases", "total"))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = {
        "topic": Asked(topic_col, "text", "topic_col", nullable=True),
        "day": Asked(at_col, "date", "at_col"),
    }
    frame = open_table(cases, asked, by=by).filter(nw.col("day") <= to_day_number(as_of))
    if since is not None:
        frame = frame.filter(nw.col("day") >= to_day_number(check_since(since, as_of)))
    counts = frame.group_by(*keys_of(by), "topic").agg(nw.len().alias("n_cases"))
    counted = collect(counts, by=by, order=["topic"])
    size = pl.col("n_cases").sum()
    counted = counted.with_columns(
        pl.col("topic").cast(pl.String), (size.over(by) if by else size).alias("total")
    ).sort([*by, "n_cases", "topic"], descending=[*(False for _name in by), True, False])
    five = share_columns(counted["n_cases"], counted["total"], conf_level)
    return CaseTopics(
        table=counted.select(*by, "topic", pl.col("n_cases").cast(pl.Int64), **five),
        name=_("What cases are about"),
        unit="share",
        definition=_(
            "Share of the cases opened up to {as_of} that are about each topic.",
            as_of=date_text(as_of),
        ),
        by=(*by, "topic"),
        conf_level=conf_level,
        notes=_few(int(counted["n_cases"].sum())),
    )


def _few(n: int, *, least: int = 30) -> tuple[str, ...]:
    if n >= least:
        return ()
    return (_("Only {n} {what}: read with care.", n=number(n), what=_("cases")),)
