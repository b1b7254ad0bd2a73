"""Who does not answer, and how far their answers could move the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import optimize, special

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import (
    Estimates,
    five_columns,
    group_label,
    p_text,
    share_columns,
    small_n_notes,
)
from crm_analysis.frames import check_one_of
from crm_analysis.satisfaction.answers import Floats, float_column
from crm_analysis.satisfaction.asked import Surveys, measure_of, names_of
from crm_analysis.survival import holm
from crm_analysis.tables import label_of
from crm_analysis.wording import Unit, _, amount, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NonresponseCheck", "ScoreBounds", "nonresponse_check", "score_bounds"]


# Who answers --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NonresponseCheck(Estimates):
    """Response and score of each kind of customer asked.

    Attributes
    ----------
    p_values : dict of str to float or None
        For each trait, how surprising the differences in response were if there were none,
        adjusted for the number of traits (Holm).
    r_indicators : dict of str to float
        How alike the kinds of a trait respond: 1 - 2 S, with S the standard deviation of the
        response rates over those asked; 1 when all respond alike.
    """

    p_values: dict[str, float | None]
    r_indicators: dict[str, float]

    def sentence(self) -> str:
        """Say which traits tell who answers."""
        found = [name for name, p in self.p_values.items() if p is not None and self._small(p)]
        if not self.table["n"].sum():
            return _("{name}: nothing can be said in any group.", name=self.name)
        if not found:
            return _(
                "Nobody is found to answer more readily than others, by {traits}.",
                traits=", ".join(label_of(name).lower() for name in self.p_values),
            )
        parts = [self._trait_text(name) for name in found]
        return _("Who answers depends on {traits}.", traits="; ".join(parts))

    def _small(self, p: float) -> bool:
        return p < 1 - self.conf_level

    def _trait_text(self, trait: str) -> str:
        rows = self.table.filter((pl.col("trait") == trait) & (pl.col("n") > 0))
        rows = rows.sort("estimate", maintain_order=True)
        low, high = rows.row(0, named=True), rows.row(-1, named=True)
        p = self.p_values[trait]
        assert p is not None
        return _(
            "{trait} (from {low}, {low_level}, to {high}, {high_level}; {p})",
            trait=label_of(trait).lower(), low=percent(low["estimate"]),
            low_level=word_of(low["level"]), high=percent(high["estimate"]),
            high_level=word_of(high["level"]), p=p_text(p),
        )  # fmt: skip

    def difference_p_value(self) -> float | None:
        """Return the least of the adjusted p-values."""
        known = [p for p in self.p_values.values() if p is not None]
        return min(known) if known else None

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the response rate of each kind, and return the Axes."""
        ax = figures.new_axes(ax)
        labels = [group_label(row, self.by) for row in self._readable().to_dicts()]
        n, answered = (float_column(self.table, name).sum() for name in ("n", "n_answered"))
        labelled = self.table.with_columns(pl.Series("label", labels, pl.String))
        figures.points(labelled, label="label", ax=ax, reference=float(answered / n) if n else None)
        figures.write_units(ax, "share", axis="x")
        ax.set_title(self.name)
        return ax

    def _readable(self) -> pl.DataFrame:
        names = [label_of(name) for name in self.table["trait"]]
        return self.table.with_columns(pl.Series("trait", names, pl.String))

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_answered": "count", "mean": "score"}


def nonresponse_check(
    surveys: object,
    *,
    score_col: str = "score",
    sent_col: str = "sent_at",
    answered_col: str = "answered_at",
    strata: str | Sequence[str] = ("kind", "channel"),
    scale: tuple[float, float],
    within_days: float = 30,
    since: date | None = None,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> NonresponseCheck:
    r"""Do some customers answer more readily than others, and do they score otherwise (Wilson).

    Parameters
    ----------
    surveys : table
        One row per survey sent, on any backend; those not answered included.
    score_col, sent_col, answered_col : str
        The score (null: none), and the moments of sending and of the answer.
    strata : str or sequence of str
        Columns known of all who were asked; each is looked at by itself.
    scale : tuple of float
        Lowest and highest score that the question allows; others are refused.
    within_days : float
        As in `response_rate`.
    since : date, optional
        First day of sending counted.
    as_of : date
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    NonresponseCheck
        One row per trait and its value: ``trait``, ``level``, ``n`` (asked), ``n_answered``,
        ``mean`` (score of those who answered), ``estimate`` (response rate, 0 to 1),
        ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError
        No stratum; scores off the scale.
    ColumnError
        A column is missing or of another type.

    Notes
    -----
    .. math:: R = 1 - 2 S(\rho)

    Response rates that differ bias a score only where the score differs too: read both columns.
    Alike rates prove nothing of what no column tells, such as how customers feel: for that see
    `score_bounds`.

    References
    ----------
    Schouten, Cobben & Bethlehem (2009), Survey Methodology 35:101-113 (R-indicator).

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> surveys = pl.DataFrame({
    ...     "kind": ["sales"] * 20 + ["service"] * 20,
    ...     "score": [5.0] * 15 + [None] * 5 + [3.0] * 5 + [None] * 15,
    ...     "sent_at": date(2026, 5, 1), "answered_at": date(2026, 5, 3),
    ... })
    >>> found = nonresponse_check(surveys, strata="kind", scale=(1, 5), as_of=date(2026, 6, 30))
    >>> found.table.select("level", "n_answered", "estimate", "mean").rows()
    [('sales', 15, 0.75, 5.0), ('service', 5, 0.25, 3.0)]
    """
    check_one_of("ci_method", ci_method, ("wilson",))
    traits = names_of(strata)
    if not traits:
        raise InputError("No column was named in 'strata'. Name what is known of all asked.")
    asked = Surveys(
        score_col=score_col, sent_col=sent_col, answered_col=answered_col, customer_col=None,
        scale=scale, measure=measure_of("mean", scale, 1), within_days=within_days, since=since,
        as_of=as_of, by=traits, within=(), conf_level=conf_level,
    )  # fmt: skip
    counts = asked.count(surveys)
    table = pl.concat([_levels(counts.table, name, conf_level) for name in traits])
    raw = [_alike_p_value(table.filter(pl.col("trait") == name)) for name in traits]
    alike = {name: _r_indicator(table.filter(pl.col("trait") == name)) for name in traits}
    adjusted = holm([np.nan if p is None else p for p in raw])
    return NonresponseCheck(
        table=table, name=_("Who answers"), unit="share", by=("trait", "level"),
        conf_level=conf_level,
        definition=_("Share of the surveys sent that were answered in time, and the mean score "
                     "of the answers.") + " " + asked.when_text(),
        p_values={name: None if np.isnan(p) else float(p)
                  for name, p in zip(traits, adjusted, strict=True)},
        r_indicators=alike,
        notes=counts.notes() + _check_notes(table, alike),
    )  # fmt: skip


def _levels(counts: pl.DataFrame, trait: str, conf_level: float) -> pl.DataFrame:
    answered = pl.col("score").is_not_null()
    n = pl.col("n")
    grouped = counts.group_by(trait).agg(
        n=n.sum(),
        n_answered=n.filter(answered).sum(),
        total=(pl.col("score") * n).filter(answered).sum(),
    )
    levels = grouped.sort(trait, nulls_last=True).select(
        trait=pl.lit(trait),
        level=pl.col(trait).cast(pl.String),
        n_asked="n",
        n_answered="n_answered",
        mean=pl.when(pl.col("n_answered") > 0).then(pl.col("total") / pl.col("n_answered")),
    )
    five = share_columns(levels["n_answered"], levels["n_asked"], conf_level)
    return levels.with_columns(**five).select(
        "trait", "level", "n", "n_answered", "mean", "estimate", "std_error", "conf_low",
        "conf_high",
    )  # fmt: skip


def _alike_p_value(rows: pl.DataFrame) -> float | None:
    """Test that all kinds respond alike (Pearson's chi-squared)."""
    n, k = float_column(rows, "n"), float_column(rows, "n_answered")
    if len(n) < 2 or not 0 < k.sum() < n.sum():
        return None
    share = k.sum() / n.sum()
    statistic = float(np.sum((k - n * share) ** 2 / (n * share * (1 - share))))
    return float(special.chdtrc(len(n) - 1, statistic))


def _r_indicator(rows: pl.DataFrame) -> float:
    n, k = float_column(rows, "n"), float_column(rows, "n_answered")
    if not n.sum():
        return 1.0
    share, mean = k / n, k.sum() / n.sum()
    return float(1 - 2 * np.sqrt(np.sum(n * (share - mean) ** 2) / n.sum()))


def _check_notes(table: pl.DataFrame, alike: dict[str, float]) -> tuple[str, ...]:
    notes = small_n_notes(table, ("level",), what=_("surveys"))
    if len(alike) > 1:
        notes += (_("The tests allow for the {k} traits looked at (Holm).", k=number(len(alike))),)
    return (
        *notes,
        _("R-indicators, 1 when all respond alike: {values}.",
          values=", ".join(f"{label_of(name).lower()} {number(value, 2)}"
                           for name, value in alike.items())),
        _("Alike response rates prove nothing of what no column tells, such as how those feel who "
          "keep silent."),
    )  # fmt: skip


# How far silence could move the score ---------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ScoreBounds(Estimates):
    """The score of those who answered, and the limits of everyone's."""

    def sentence(self) -> str:
        """Say between which limits the score of all who were asked lies."""
        known = self.table.drop_nulls("estimate")
        if self.by or known.height != 1:
            return super().sentence()
        row = known.row(0, named=True)
        return _(
            "{name} is {value} among the {k} of {n} who answered; had the others answered too, it "
            "would lie between {low} and {high}.",
            name=self.name, value=amount(row["estimate"], self.unit),
            k=number(row["n_answered"]), n=number(row["n"]),
            low=amount(row["bound_low"], self.unit), high=amount(row["bound_high"], self.unit),
        )  # fmt: skip

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        bounds = dict.fromkeys(("bound_low", "bound_high"), self.unit)
        return super().units() | {"n_answered": "count"} | bounds


def score_bounds(
    surveys: object,
    *,
    score_col: str = "score",
    sent_col: str = "sent_at",
    answered_col: str = "answered_at",
    customer_col: str | None = None,
    scale: tuple[float, float],
    measure: str = "mean",
    top: int = 2,
    within_days: float = 30,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "imbens-manski",
) -> ScoreBounds:
    r"""Where could the score lie had everyone answered (worst and best case, Manski's bounds).

    Nothing is supposed of those who keep silent but that their scores lie on the scale: in the
    worst case all give the lowest, in the best the highest.

    Parameters
    ----------
    surveys, score_col, sent_col, answered_col, within_days, since, as_of, conf_level
        As in `nonresponse_check`.
    customer_col : str, optional
        Who was asked; with it intervals allow for customers who answered more than once.
    scale : tuple of float
    measure : {"mean", "top", "nps"}
        The mean score, the share of the `top` scores, or the net promoter score (scale 0 to 10).
    top : int
    by : str or sequence of str
    ci_method : {"imbens-manski"}
        Holds the true score, wherever between the bounds, as often as stated.

    Returns
    -------
    ScoreBounds
        Columns of `by`, ``n`` (asked), ``n_answered``, ``estimate`` (of those who answered),
        ``std_error``, ``bound_low``, ``bound_high``, ``conf_low``, ``conf_high``.

    Raises
    ------
    InputError, ColumnError
        As in `nonresponse_check`; a measure that the scale does not have.

    Notes
    -----
    .. math:: \rho \bar y + (1 - \rho) y_{\min} \le \mu \le \rho \bar y + (1 - \rho) y_{\max}

    References
    ----------
    Manski (1989), J. Human Resources 24:343-360; Imbens & Manski (2004), Econometrica
    72:1845-1857.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> surveys = pl.DataFrame({
    ...     "score": [5.0] * 30 + [None] * 70,
    ...     "sent_at": date(2026, 5, 1), "answered_at": date(2026, 5, 3),
    ... })
    >>> row = score_bounds(surveys, scale=(1, 5), as_of=date(2026, 6, 30)).table.row(0, named=True)
    >>> row["estimate"], round(row["bound_low"], 6), row["bound_high"]
    (5.0, 2.2, 5.0)
    """
    check_one_of("ci_method", ci_method, ("imbens-manski",))
    asked = Surveys(
        score_col=score_col, sent_col=sent_col, answered_col=answered_col,
        customer_col=customer_col, scale=scale, measure=measure_of(measure, scale, top),
        within_days=within_days, since=since, as_of=as_of, by=names_of(by), within=names_of(by),
        conf_level=conf_level,
    )  # fmt: skip
    counts = asked.count(surveys)
    table = _bounds_table(counts.table, asked, counts.design_effect)
    return ScoreBounds(
        table=table, name=asked.measure.name, unit=asked.measure.unit, by=asked.by,
        conf_level=conf_level, key=f"{asked.measure.key}_bounds",
        definition=" ".join((
            asked.measure.definition,
            _("The limits give all who did not answer the lowest and the highest score; the "
              "interval holds the score of all who were asked, wherever between them."),
            asked.when_text(),
        )),
        notes=counts.notes() + small_n_notes(table, asked.by, what=_("surveys")),
    )  # fmt: skip


def _bounds_table(counts: pl.DataFrame, asked: Surveys, effect: float) -> pl.DataFrame:
    n, y, answered = pl.col("n"), pl.col("y"), pl.col("y").is_not_null()
    sums = {
        "n_asked": n.sum(), "n_answered": n.filter(answered).sum(),
        "total": (n * y).sum(), "squares": (n * y**2).sum(),
    }  # fmt: skip
    grouped = (
        counts.group_by(*asked.by).agg(**sums).sort(*asked.by, nulls_last=True)
        if asked.by
        else counts.select(**sums)
    )
    size, k, total, squares = (float_column(grouped, name) for name in sums)
    rule, factor = asked.measure, asked.measure.factor
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / k
        error = np.sqrt(effect * np.maximum(squares / k - mean**2, 0) / k)
    low, low_error = _bound(size, k, total, squares, rule.lowest)
    high, high_error = _bound(size, k, total, squares, rule.highest)
    low_error, high_error = np.sqrt(effect) * low_error, np.sqrt(effect) * high_error
    reach = _reach(high - low, np.maximum(low_error, high_error), asked.conf_level)
    ends = (
        np.maximum(low - reach * low_error, rule.lowest),
        np.minimum(high + reach * high_error, rule.highest),
    )
    five = five_columns(size, factor * mean, factor * error, *(factor * end for end in ends))
    known = k > 0
    return grouped.select(*asked.by, "n_answered").with_columns(
        bound_low=_null_unless(known, factor * low),
        bound_high=_null_unless(known, factor * high),
        **{name: column if name == "n" else _null_unless(known, column.to_numpy())
           for name, column in five.items()},
    ).select(*asked.by, "n", "n_answered", "estimate", "std_error", "bound_low", "bound_high",
             "conf_low", "conf_high")  # fmt: skip


def _null_unless(known: Any, values: Any) -> pl.Series:
    return pl.Series(np.where(known, values, np.nan), dtype=pl.Float64).fill_nan(None)


def _bound(
    size: Floats, k: Floats, total: Floats, squares: Floats, silent: float
) -> tuple[Floats, Floats]:
    """Return the mean, and its standard error, if all who kept silent had given `silent`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (total + (size - k) * silent) / size
        variance = (squares + (size - k) * silent**2) / size - mean**2
        return mean, np.sqrt(np.maximum(variance, 0) / size)


def _reach(width: Floats, error: Floats, conf_level: float) -> Floats:
    """Return how many standard errors reach beyond the bounds (Imbens & Manski)."""
    most, least = special.ndtri(0.5 + conf_level / 2), special.ndtri(conf_level)
    out = np.full(len(width), float(most))
    for i, (wide, se) in enumerate(zip(width, error, strict=True)):
        if not se > 0:
            continue
        ratio = wide / se

        def miss(c: float, ratio: float = ratio) -> float:
            return float(special.ndtr(c + ratio) - special.ndtr(-c) - conf_level)

        out[i] = optimize.brentq(miss, least - 1e-9, most + 1e-9)
    return out
