"""Whether one group of leads, or one period, converts better than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
from scipy import special

from crm_analysis import figures
from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import Estimates, five_columns, group_label, labelled_groups, p_text
from crm_analysis.frames import check_conf_level, check_one_of, group_names
from crm_analysis.funnel.attempts import Anchor, Order
from crm_analysis.funnel.lead_events import Touch
from crm_analysis.funnel.rates import conversion_funnel
from crm_analysis.survival import holm
from crm_analysis.uncertainty import newcombe_difference, normal_quantile
from crm_analysis.wording import _, number, percent, signed, signed_interval_text, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ConversionDifference", "conversion_difference"]

_RATIO = ("rate_ratio", "rate_ratio_low", "rate_ratio_high")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ConversionDifference(Estimates):
    """Differences of conversion: one row per group, or one of two periods; see the metric."""

    columns_with_unit: ClassVar[tuple[str, ...]] = (
        *Estimates.columns_with_unit,
        "rate",
        "rate_other",
    )

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        counts = dict.fromkeys(("n_reached", "n_other", "n_reached_other"), "count")
        gaps = dict.fromkeys(Estimates.columns_with_unit, "gap")
        return super().units() | counts | gaps | dict.fromkeys(_RATIO, "number")

    def _readable(self) -> pl.DataFrame:
        """Leave to the table itself what a page has no room for: counts, ratios, raw p-values."""
        return super()._readable().drop("n_reached", "n_reached_other", *_RATIO, "p_value")

    def established(self) -> pl.DataFrame:
        """Return the rows whose difference is more than chance after all comparisons."""
        return self.table.filter(pl.col("p_adjusted") < 1 - self.conf_level)

    def difference_p_value(self) -> float | None:
        """Return the smallest adjusted p-value: whether any difference at all is established."""
        known = self.table["p_adjusted"].drop_nulls().to_list()
        return min(known) if known else None

    def sentence(self) -> str:
        """Return which differences are established, the largest first."""
        known = self.table.drop_nulls("p_adjusted")
        if known.is_empty():
            return _("{name}: nothing can be said.", name=self.name)
        if known.height == 1:
            return f"{self.name}: {self._row_text(known.row(0, named=True))}."
        clear = self.established().sort(pl.col("estimate").abs(), descending=True)
        if clear.is_empty():
            return _(
                "{name}: of {k} comparisons not one is established ({p} for the clearest, "
                "after allowing for all).",
                name=self.name, k=number(known.height), p=p_text(self.difference_p_value() or 0.0),
            )  # fmt: skip
        told = "; ".join(self._row_text(row) for row in clear.head(2).iter_rows(named=True))
        return _(
            "{name}: {k} of {n} differences are established after allowing for all comparisons: "
            "{told}.",
            name=self.name, k=number(clear.height), n=number(known.height), told=told,
        )  # fmt: skip

    def _row_text(self, row: dict[str, Any]) -> str:
        where = f"{group_label(row, self.by)}: " if self.by else ""
        said = _(
            "{where}{rate} against {other}, a difference of {points} ({level} interval {interval} "
            "points, {p})",
            where=where, rate=percent(row["rate"]), other=percent(row["rate_other"]),
            points=signed(row["estimate"], "share"), level=percent(self.conf_level, 0),
            interval=signed_interval_text(row["conf_low"], row["conf_high"], "share"),
            p=p_text(row["p_adjusted"]),
        )  # fmt: skip
        if row["p_adjusted"] >= 1 - self.conf_level:
            return said + _(", which is not established")
        return said

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the differences with their intervals and the line of none, and return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(labelled_groups(self.table, self.by), label="label", ax=ax)
        ax.axvline(0, color="#888888", linewidth=0.8, zorder=0)
        figures.write_units(ax, "gap", axis="x")
        ax.set_title(self.name)
        return ax


def conversion_difference(
    events: object,
    *,
    unit_col: str = "opportunity_id",
    stage_col: str = "stage",
    at_col: str = "happened_at",
    steps: Sequence[str],
    within_days: float,
    order: Order = "ordered",
    anchor: Anchor = "attempt",
    exclude: Sequence[str] = (),
    touch: Touch = "lead",
    before: object = None,
    reference: str | float | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "newcombe",
) -> ConversionDifference:
    r"""By how much does conversion differ between groups or periods (Newcombe's hybrid score).

    Each group is held against all others together, against one of them, or these leads against
    those of an earlier period. Two groups make one comparison: of the smaller with the larger.

    Parameters
    ----------
    events, unit_col, stage_col, at_col, steps, within_days, order, anchor, exclude, touch, as_of
        As for `conversion_funnel`; only leads that have had their window are counted.
    before : table, optional
        Events of an earlier period's leads, with the same columns: one comparison, of both
        periods, and no groups.
    reference : str or number, optional
        The group that the others are held against; none: each against the rest of all.
    by : str or sequence of str
        Group columns. Leads whose group is null are counted in the rest, with a row of their own.
    conf_level : float
    ci_method : {"newcombe"}

    Returns
    -------
    ConversionDifference
        Columns of `by`, ``rate`` and ``rate_other`` (conversion from the first step to the
        last), ``n`` and ``n_other`` (leads counted), ``n_reached``, ``n_reached_other``,
        ``estimate`` (rate - rate_other, a share), ``std_error``, ``conf_low``, ``conf_high``,
        ``rate_ratio`` (rate / rate_other) with ``rate_ratio_low`` and ``rate_ratio_high``,
        ``p_value`` and ``p_adjusted`` (Holm, over all rows). Null where a side has no leads; the
        ratio is null where a side has no conversions. No row where there are no two groups.

    Raises
    ------
    InputError
        Neither or both of `by` and `before`, an unknown reference, and whatever
        `conversion_funnel` refuses.

    Notes
    -----
    The p-value is that of the score test with the pooled share (Pearson's chi-squared test of
    two by two). The ratio's interval is on the log scale:
    :math:`\log R \pm z \sqrt{1/k_1 - 1/n_1 + 1/k_2 - 1/n_2}`.

    References
    ----------
    Newcombe (1998), Statistics in Medicine 17:873-890, method 10; Katz et al. (1978), Biometrics
    34:469-474; Holm (1979), Scand. J. Statistics 6:65-70.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> won = {"web": 20, "walk_in": 40}
    >>> rows = [(f"{source}{i}", source, stage) for source in won for i in range(100)
    ...         for stage in ("new", "contract") if stage == "new" or i < won[source]]
    >>> events = pl.DataFrame(rows, schema=["opportunity_id", "source", "stage"], orient="row")
    >>> events = events.with_columns(happened_at=pl.lit(date(2026, 1, 5)))
    >>> found = conversion_difference(events, steps=["new", "contract"], within_days=30,
    ...                               reference="walk_in", as_of=date(2026, 3, 1), by="source")
    >>> found.table.select("source", pl.col("estimate", "rate_ratio").round(2)).rows()
    [('web', -0.2, 0.5)]
    """
    by, conf_level = group_names(by), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("newcombe",))
    _check_asked(by, before, reference)
    rules: dict[str, Any] = {
        "unit_col": unit_col, "stage_col": stage_col, "at_col": at_col, "steps": steps,
        "within_days": within_days, "order": order, "anchor": anchor, "exclude": exclude,
        "touch": touch, "as_of": as_of,
    }  # fmt: skip
    funnel = conversion_funnel(events, by=by, **rules)
    counted = funnel.overall().table.select(*by, "n", "n_reached")
    if before is None:
        pairs, against = _against_groups(counted, by, reference)
    else:
        past = conversion_funnel(before, **rules).overall().table.select("n", "n_reached")
        pairs = pl.concat([counted, past.rename(_OTHER)], how="horizontal")
        against = _("the period before")
    table = _compared(pairs, by, conf_level)
    return ConversionDifference(
        table=table,
        name=_("Conversion to {stage} against {others}", stage=word_of(funnel.steps[-1]),
               others=against),
        unit="share",
        definition=_(
            "{definition} Differences by Newcombe's hybrid score, ratios on the log scale, "
            "p-values of the score test, adjusted after Holm for all comparisons made here.",
            definition=funnel.definition,
        ),
        by=by,
        conf_level=conf_level,
        notes=(*funnel.notes, *_notes(table)),
    )  # fmt: skip


_OTHER = {"n": "n_other", "n_reached": "n_reached_other"}


def _check_asked(by: tuple[str, ...], before: object, reference: object) -> None:
    if (before is None) == (not by):
        raise InputError(
            "Pass either 'by', the columns of the groups to be compared, or 'before', the events "
            f"of an earlier period; got by={listed(by)}{'' if before is None else ' and before'}."
        )
    if reference is not None and len(by) != 1:
        raise InputError(
            f"A reference is one value of one group column; got {reference!r} with by="
            f"{listed(by)}. Name one column in 'by', or leave 'reference' out."
        )


def _against_groups(
    counted: pl.DataFrame, by: tuple[str, ...], reference: object
) -> tuple[pl.DataFrame, str]:
    """Put beside each group the counts of what it is held against, and name that."""
    if reference is None and counted.height == 2:
        whole = counted.sort("n", descending=True, maintain_order=True)
        return _beside(whole[1:], whole[:1]), group_label(whole.row(0, named=True), by)
    if reference is None:
        if counted.height < 2:  # one group alone, or nobody, is held against nothing
            return _beside(counted[:0], counted[:0]), _("all others")
        rest = [(pl.col(name).sum() - pl.col(name)).alias(_OTHER[name]) for name in _OTHER]
        return counted.with_columns(rest), _("all others")
    label = str(reference)
    own = pl.col(by[0]).cast(pl.String).eq_missing(pl.lit(label))
    chosen = counted.filter(own)
    if chosen.is_empty() or counted.height < 2:
        names = [str(value) for value in counted[by[0]].to_list()]
        raise InputError(
            f"Groups were to be held against {label!r} of {by[0]!r}; there are: {listed(names)}. "
            "Pass one of those as 'reference', with at least one more group."
        )
    return _beside(counted.filter(~own), chosen), word_of(reference)


def _beside(counted: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    return counted.join(other.select(*_OTHER).rename(_OTHER), how="cross")


def _compared(pairs: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    k_1, n_1, k_2, n_2 = (
        pairs[name].to_numpy().astype(np.float64)
        for name in ("n_reached", "n", "n_reached_other", "n_other")
    )
    low, high = newcombe_difference(k_1, n_1, k_2, n_2, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_1, p_2, pooled = k_1 / n_1, k_2 / n_2, (k_1 + k_2) / (n_1 + n_2)
        error = np.sqrt(p_1 * (1 - p_1) / n_1 + p_2 * (1 - p_2) / n_2)
        z = (p_1 - p_2) / np.sqrt(pooled * (1 - pooled) * (1 / n_1 + 1 / n_2))
        ratio = np.where((k_1 > 0) & (k_2 > 0), p_1 / p_2, np.nan)
        spread = np.exp(
            normal_quantile(conf_level) * np.sqrt(1 / k_1 - 1 / n_1 + 1 / k_2 - 1 / n_2)
        )
        bounds = ratio / spread, ratio * spread
    # Where nobody or everybody converts on both sides nothing speaks for a difference.
    nothing = (pooled * (1 - pooled) == 0) & (n_1 > 0) & (n_2 > 0)
    p_value = np.where(nothing, 1.0, 2 * special.ndtr(-np.abs(z)))
    own = {
        "rate": p_1, "rate_other": p_2, "rate_ratio": ratio, "rate_ratio_low": bounds[0],
        "rate_ratio_high": bounds[1], "p_value": p_value, "p_adjusted": holm(p_value),
    }  # fmt: skip
    columns = {
        name: pl.Series(np.where(np.isfinite(value), value, np.nan), dtype=pl.Float64)
        for name, value in own.items()
    }
    five = five_columns(n_1, p_1 - p_2, error, low, high)
    return pairs.with_columns(**five, **columns).with_columns(pl.col(own).fill_nan(None)).select(
        *by, "rate", "rate_other", *five, "n_reached", "n_other", "n_reached_other",
        *_RATIO, "p_value", "p_adjusted",
    )  # fmt: skip


def _notes(table: pl.DataFrame) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if table.is_empty():
        notes += (_("There are no two groups whose leads can be counted: nothing is compared."),)
    if table.height > 1:
        notes += (
            _("{k} comparisons were made: the intervals are of each alone, the adjusted p-values "
              "allow for all of them.", k=number(table.height)),
        )  # fmt: skip
    if table["estimate"].null_count():
        notes += (_("Where a side has no leads old enough, nothing can be compared."),)
    return notes
