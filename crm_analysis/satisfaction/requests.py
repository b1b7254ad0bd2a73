"""What customers come with most, whether it grows, and whether a few kinds are most of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from scipy import special

from crm_analysis import figures
from crm_analysis.dates import to_day_number
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    FEW,
    Estimates,
    few_notes,
    p_text,
    share_columns,
    without_few,
)
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_since,
    collect,
    open_table,
)
from crm_analysis.satisfaction.answers import Floats, float_column
from crm_analysis.survival import holm
from crm_analysis.uncertainty import normal_quantile, wilson_interval
from crm_analysis.wording import (
    Unit,
    _,
    amount,
    date_text,
    interval_text,
    number,
    percent,
    plural,
    word_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TypicalRequests", "rate_change", "typical_requests"]

_FIFTH, _SLACK = 0.2, 0.1
PARETO = 0.8
"""The rule of thumb: a fifth of the kinds makes four fifths of the cases."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TypicalRequests(Estimates):
    """Kinds of cases, the most frequent first, with how they change.

    Attributes
    ----------
    fifth_share, fifth_low, fifth_high : float or None
        Share of the cases that the most frequent fifth of the kinds makes, and its interval.
    kind : str or None
        Which cases were counted, where not all.
    """

    fifth_share: float | None = None
    fifth_low: float | None = None
    fifth_high: float | None = None
    kind: str | None = None

    def sentence(self) -> str:
        """Name the most frequent kind, what grows or shrinks, and how concentrated cases are."""
        if self.table.is_empty():
            return _("There are no {what}: nothing can be said.", what=_("cases"))
        parts = [*self._most_text(), self._trend_text()]
        if self.fifth_share is not None:
            parts.append(self._pareto_text())
        return "; ".join(part for part in parts if part) + "."

    def _most_text(self) -> list[str]:
        """Name the most frequent kind and whom it touches; of equals each, and no people."""
        first = self.table.row(0, named=True)
        equal = self.table.filter(pl.col("n_cases") == first["n_cases"])["topic"].to_list()
        if len(equal) > 1:
            named = ", ".join(_("“{topic}”", topic=word_of(topic)) for topic in equal)
            value = self.value_text(first)
            return [_("{name}: most often {topics}, each {value}", name=self.name, topics=named,
                      value=value)]  # fmt: skip
        return [_("{name}: most often “{first}”, {value}", name=self.name,
                  first=word_of(first["topic"]), value=self.value_text(first)),
                self._people_text(first)]  # fmt: skip

    def _people_text(self, row: dict[str, Any]) -> str:
        """Say how many customers the most frequent kind touches, and what they bring."""
        if row.get("value") is None or row["n_customers"] < FEW:
            return ""
        money = (
            amount(row[name], "money", currency=self.currency)
            for name in ("value", "value_low", "value_high")
        )
        value, low, high = money
        return plural(
            row["n_customers"],
            "it came from {n} customer, who brought {value} ({low} to {high})",
            "it came from {n} customers, who brought {value} ({low} to {high})",
            value=value, low=low, high=high,
        )  # fmt: skip

    def _changed(self) -> pl.DataFrame:
        return self.table.filter(pl.col("p_holm") < 1 - self.conf_level).sort("p_holm")

    def _trend_text(self) -> str:
        if self.table["times"].is_null().all():
            return ""
        changed = self._changed().to_dicts()
        if not changed:
            return _("no kind is found to grow or shrink against the period before")
        row = changed[0]
        return _(
            "“{topic}” came {ratio} times as often as in the period before ({interval}; {p})",
            topic=word_of(row["topic"]), ratio=number(row["times"], 2),
            interval=interval_text(row["times_low"], row["times_high"], "number"),
            p=p_text(row["p_holm"]),
        )  # fmt: skip

    def _pareto_text(self) -> str:
        assert self.fifth_share is not None
        assert self.fifth_high is not None
        share = _(
            "the most frequent fifth of the kinds makes {share} of the cases",
            share=percent(self.fifth_share, 0),
        )
        if self.fifth_high < PARETO:
            return share + _(", not 80%: no few causes stand behind most of them")
        return share

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares, the largest on top, and return the Axes."""
        ax = figures.new_axes(ax)
        labels = [word_of(topic) for topic in self.table["topic"]]
        labelled = self.table.with_columns(pl.Series("label", labels, pl.String))
        figures.bars(labelled, label="label", value="estimate", ax=ax, text=percent)
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def _readable(self) -> pl.DataFrame:
        """Leave out what a sheet of paper has no room for where money stands beside the cases."""
        shown = super()._readable()
        if "value" not in shown.columns:
            return shown
        shown = without_few(shown, ("value", "value_low", "value_high"), count="n_customers")
        return shown.drop("std_error", "cumulative", "times_low", "times_high")

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        counts: dict[str, Unit] = dict.fromkeys(("n_cases", "n_earlier", "n_customers"), "count")
        ratios: dict[str, Unit] = dict.fromkeys(("times", "times_low", "times_high"), "number")
        money: dict[str, Unit] = dict.fromkeys(("value", "value_low", "value_high"), "money")
        return super().units() | counts | ratios | money | {"cumulative": "share"}


def typical_requests(
    cases: object,
    *,
    topic_col: str = "about",
    at_col: str = "opened_at",
    kind_col: str = "kind",
    customer_col: str | None = None,
    value_col: str | None = None,
    kind: str | None = None,
    currency: str | None = None,
    since: date,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> TypicalRequests:
    r"""What do customers come with most often, and does it grow (Wilson, exact rate ratios).

    The period from `since` to `as_of` is held against the one of the same length before it.

    Parameters
    ----------
    cases : table
        One row per complaint, request or question, on any backend.
    topic_col, at_col : str
        What it is about (null is a kind of its own), and when it came.
    kind, kind_col : str
        Only cases of this kind, such as ``"complaint"``, and where a case says its own.
    customer_col, value_col : str, optional
        Who came (null: not known), and what that customer brought, the same in each of the
        customer's rows: see `Warehouse.case_values`.
    currency : str, optional
        ISO code of the money.
    since, as_of : date
        First and last day of the period.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    TypicalRequests
        One row per kind: ``topic``, ``n_cases``, ``n`` (cases of the period), ``estimate``
        (share), ``std_error``, ``conf_low``, ``conf_high``, ``cumulative`` (share of this and
        all more frequent kinds), ``n_earlier`` (in the period before), ``times`` of the two with
        ``times_low``, ``times_high``, and ``p_holm`` (that it did not change, adjusted for the
        number of kinds). Ratios are null where the kind is new, and where the data begin later
        than the period before. With customers ``n_customers`` stands beside ``n_cases``, and with
        their money ``value``, ``value_low`` and ``value_high``: a customer with several cases of
        a kind counts once in it.

    Raises
    ------
    InputError
        A first day that is not before the last, or money without customers.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    What the customers of a kind bring is bounded as a compound Poisson sum, whose variance is the
    sum of squares: it says what to expect of another such period, not what a complaint costs.
    Given the number of a kind in both periods, how many fall in the later one is binomial with
    probability 1/2 if nothing changed; the interval of the ratio is Clopper and Pearson's of that
    probability. Cases are taken to come independently: one event that brings many of them, such
    as a recall, makes a change look surer than it is.

    References
    ----------
    Przyborowski & Wilenski (1940), Biometrika 31:313-323; Clopper & Pearson (1934), Biometrika
    26:404-413; Holm (1979), Scand. J. Statistics 6:65-70.

    Examples
    --------
    >>> import polars as pl
    >>> cases = pl.DataFrame({
    ...     "about": ["price"] * 6 + ["staff"] * 4,
    ...     "opened_at": [date(2026, 3, 2)] * 2 + [date(2026, 6, 1)] * 6 + [date(2026, 3, 3)] * 2,
    ... })
    >>> found = typical_requests(cases, since=date(2026, 5, 1), as_of=date(2026, 6, 30))
    >>> found.table.select("topic", "n_cases", "n_earlier", "times").rows()
    [('price', 4, 2, 2.0), ('staff', 2, 2, 1.0)]
    """
    check_one_of("ci_method", ci_method, ("wilson",))
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    since = check_since(since, as_of)
    before = since - (as_of - since + timedelta(days=1))
    asked = {
        "topic": Asked(topic_col, "text", "topic_col", nullable=True),
        "day": Asked(at_col, "date", "at_col"),
    }
    if kind is not None:
        asked["kind"] = Asked(kind_col, "text", "kind_col", nullable=True)
    if value_col is not None and customer_col is None:
        raise InputError(
            f"Money of the column {value_col!r} was to be summed without customers, whose it is. "
            "Pass customer_col too."
        )
    if customer_col is not None:
        asked["customer"] = Asked(customer_col, "key", "customer_col", nullable=True)
    if value_col is not None:
        asked["value"] = Asked(value_col, "number", "value_col", nullable=True)
    frame = open_table(cases, asked)
    if kind is not None:
        frame = frame.filter(nw.col("kind") == kind)
    counted, reaches = _count(frame, before, since, as_of)
    table = _table(counted, conf_level, reaches=reaches)
    if customer_col is not None:
        table = _with_people(table, frame, since, as_of, conf_level, money=value_col is not None)
    fifth = _fifth(table, conf_level)
    return TypicalRequests(
        table=table, name=_name(kind), unit="share", by=("topic",),
        conf_level=conf_level, key="typical_requests", kind=kind, currency=currency,
        definition=_(
            "Share of the cases opened from {since} to {as_of} that are about each topic, and how "
            "many times as many there were as in as long a period from {before} on.",
            since=date_text(since), as_of=date_text(as_of), before=date_text(before),
        ),
        notes=_notes(table, reaches=reaches)
        + (few_notes(table, count="n_customers") if "value" in table.columns else ()),
        fifth_share=fifth[0], fifth_low=fifth[1], fifth_high=fifth[2],
    )  # fmt: skip


def _name(kind: str | None) -> str:
    known = {
        "complaint": _("What complaints are about"),
        "request": _("What requests are about"),
        "information": _("What questions are about"),
    }
    if kind is None or kind not in known:
        return _("What cases are about")
    return known[kind]


def _count(
    frame: nw.LazyFrame[Any], before: date, since: date, as_of: date
) -> tuple[pl.DataFrame, bool]:
    """Count cases of each kind in both periods; say whether the data reach back so far."""
    frame = frame.filter(nw.col("day") <= to_day_number(as_of))
    first = to_day_number(since)
    period = nw.when(nw.col("day") >= first).then(nw.lit(2))
    period = period.when(nw.col("day") >= to_day_number(before)).then(nw.lit(1))
    frame = frame.with_columns(period.otherwise(nw.lit(0)).alias("period"))
    days = frame.group_by("topic", "period").agg(
        nw.len().alias("n"), nw.col("day").min().alias("first")
    )
    counted = collect(days, order=["topic", "period"])
    n = pl.col("n")
    topics = counted.group_by(pl.col("topic").cast(pl.String), maintain_order=True).agg(
        n_cases=n.filter(pl.col("period") == 2).sum().cast(pl.Int64),
        n_earlier=n.filter(pl.col("period") == 1).sum().cast(pl.Int64),
    )
    # Cases are not of every day: data that begin within a tenth of the period reach back to it.
    slack = (to_day_number(since) - to_day_number(before)) * _SLACK
    earliest = counted["first"].min()
    reaches = isinstance(earliest, int) and earliest <= to_day_number(before) + slack
    return topics.filter(pl.col("n_cases") + pl.col("n_earlier") > 0), reaches


def rate_change(
    later: Floats, earlier: Floats, conf_level: float = 0.95
) -> tuple[Floats, Floats, Floats, Floats]:
    """Compare counts of two periods of one length: ratio, its bounds and exact p-value.

    Parameters
    ----------
    later, earlier : ndarray, shape (k,)
        Counts; where `earlier` is 0 there is no ratio, but a lower bound of it.

    Examples
    --------
    >>> import numpy as np
    >>> ratio, low, high, p = rate_change(np.array([15.0]), np.array([5.0]))
    >>> float(ratio[0]), round(float(low[0]), 3), round(float(high[0]), 3), round(float(p[0]), 4)
    (3.0, 1.036, 10.551, 0.0414)
    """
    total, tail = later + earlier, (1 - conf_level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(earlier > 0, later / earlier, np.nan)
        low = np.where(later > 0, special.betaincinv(np.maximum(later, 1), earlier + 1, tail), 0.0)
        high = np.where(
            earlier > 0, special.betaincinv(later + 1, np.maximum(earlier, 1), 1 - tail), 1.0
        )
        least = special.bdtr(np.minimum(later, earlier), total.astype(np.int64), 0.5)
        p_value = np.where(total > 0, np.minimum(2 * least, 1.0), np.nan)
        return ratio, low / (1 - low), high / (1 - high), p_value


def _table(counted: pl.DataFrame, conf_level: float, *, reaches: bool) -> pl.DataFrame:
    counted = counted.sort(["n_cases", "topic"], descending=[True, False], nulls_last=True)
    later, earlier = float_column(counted, "n_cases"), float_column(counted, "n_earlier")
    total = later.sum()
    ratio, low, high, p_value = rate_change(later, earlier, conf_level)
    if not reaches:
        ratio, low, high, p_value = (np.full(len(later), np.nan) for _name in range(4))
    known = np.isfinite(ratio)
    extra = {
        "cumulative": np.cumsum(later) / total if total else np.full(len(later), np.nan),
        "times": ratio,
        "times_low": np.where(known, low, np.nan),
        "times_high": np.where(known, high, np.nan),
        "p_holm": holm(p_value),
    }
    five = share_columns(later, np.full(len(later), total), conf_level)
    if not total:
        five = share_columns([], [], conf_level)
        counted, extra = counted.head(0), {name: np.array([]) for name in extra}
    return counted.with_columns(
        **five,
        **{name: pl.Series(values, dtype=pl.Float64).fill_nan(None)
           for name, values in extra.items()},
    ).select("topic", "n_cases", "n", "estimate", "std_error", "conf_low", "conf_high",
             "cumulative", "n_earlier", "times", "times_low", "times_high", "p_holm")  # fmt: skip


def _with_people(
    table: pl.DataFrame,
    frame: nw.LazyFrame[Any],
    since: date,
    as_of: date,
    conf_level: float,
    *,
    money: bool,
) -> pl.DataFrame:
    """Add how many customers each kind came from, and what they bring, bounded."""
    inside = (nw.col("day") >= to_day_number(since)) & (nw.col("day") <= to_day_number(as_of))
    value = nw.col("value") if money else nw.lit(0.0)
    one = frame.filter(inside & ~nw.col("customer").is_null()).with_columns(value.alias("value"))
    each = one.group_by("topic", "customer").agg(nw.col("value").max().alias("value"))
    each = each.with_columns((nw.col("value") * nw.col("value")).alias("square"))
    sums = each.group_by("topic").agg(
        nw.len().alias("n_customers"), nw.col("value").sum().alias("value"),
        nw.col("square").sum().alias("square"),
    )  # fmt: skip
    people = collect(sums, order=["topic"]).with_columns(
        pl.col("topic").cast(pl.String), pl.col("n_customers").cast(pl.Int64)
    )
    table = table.join(
        people, on="topic", how="left", nulls_equal=True, maintain_order="left"
    ).with_columns(pl.col("n_customers").fill_null(0), pl.col("value", "square").fill_null(0.0))
    half = normal_quantile(conf_level) * pl.col("square").sqrt()
    bounds = {"value_low": (pl.col("value") - half).clip(0), "value_high": pl.col("value") + half}
    before, after = table.columns[:2], [c for c in table.columns[2:] if c != "square"]
    if not money:
        return table.select(*before, "n_customers", *(c for c in after if c not in _PEOPLE))
    rest = (c for c in after if c not in _PEOPLE)
    return table.with_columns(**bounds).select(*before, "n_customers", *rest, "value", *bounds)


_PEOPLE = ("n_customers", "value")


def _fifth(table: pl.DataFrame, conf_level: float) -> tuple[float | None, ...]:
    kinds = table.filter(pl.col("n_cases") > 0).height
    if kinds < 5:
        return None, None, None
    few = round(kinds * _FIFTH)
    n, k = float(table["n"][0]), float(float_column(table, "n_cases")[:few].sum())
    low, high = wilson_interval(k, n, conf_level)
    return k / n, float(low), float(high)


def _notes(table: pl.DataFrame, *, reaches: bool) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    n = int(table["n_cases"].sum())
    if 0 < n < 30:
        notes += (_("Only {n} {what}: read with care.", n=number(n), what=_("cases")),)
    if not table.height:
        return notes
    if not reaches:
        return (*notes, _("The data do not reach back to the period before: no change is shown."))
    notes += (
        _("Changes are tested for {k} kinds at once (Holm); one event that brings many cases "
          "makes a change look surer than it is.", k=number(table.height)),
    )  # fmt: skip
    return notes
