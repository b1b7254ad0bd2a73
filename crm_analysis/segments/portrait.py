"""The portrait of a segment: in what its customers differ from all the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, small_n_notes
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    collect,
    open_table,
)
from crm_analysis.tables import label_of
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, number, percent, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Portrait", "customer_portrait"]

VALUES = ("true", "false", "other", "under_twenty")
"""Codes of traits that no category of the tables has."""

_SHOWN = 12
_NOTABLE = 0.2
"""A standardised difference from which Cohen (1988) speaks of a small effect."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Portrait(Estimates):
    """Standardised differences between a segment and everybody else."""

    def sentence(self) -> str:
        """Name what sets the segment apart most."""
        sure = self.table.filter((pl.col("conf_low") > 0) | (pl.col("conf_high") < 0))
        most = sure.filter(pl.col("estimate").abs() >= _NOTABLE)
        most = most.sort(pl.col("estimate").abs(), descending=True).head(3)
        if most.is_empty():
            return _("Nothing known of these customers sets them apart from the others.")
        parts = [
            _("{what} ({share} against {rest})", what=_trait(row), share=percent(row["share"]),
              rest=percent(row["rest_share"]))
            for row in most.to_dicts()
        ]  # fmt: skip
        return _("What sets these customers apart most: {traits}.", traits="; ".join(parts))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the largest differences with their intervals, and return the Axes."""
        ax = figures.new_axes(ax)
        shown = self._largest().with_columns(
            pl.Series("label", [_trait(row) for row in self._largest().to_dicts()], pl.String)
        )
        figures.points(shown, label="label", ax=ax, reference=0.0)
        ax.set_xlabel(_("Standardised difference from the others"))
        ax.set_title(self.name)
        return ax

    def _largest(self) -> pl.DataFrame:
        known = self.table.drop_nulls("estimate")
        return known.sort(pl.col("estimate").abs(), descending=True).head(_SHOWN)

    def _readable(self) -> pl.DataFrame:
        words = pl.Series("trait", [label_of(name) for name in self.table["trait"]], pl.String)
        said = pl.Series("value", [_word(value) for value in self.table["value"]], pl.String)
        return super()._readable().with_columns(words, said).rename({"value": "trait_value"})

    def _figure_height(self) -> float | None:
        return figures.height_for(min(self.table.height, _SHOWN))

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_rest": "count", "share": "share", "rest_share": "share"}


def customer_portrait(
    customers: object,
    *,
    member_col: str,
    traits: Sequence[str],
    least: int = 10,
    as_of: date,
    conf_level: float = 0.95,
    ci_method: str = "hedges",
) -> Portrait:
    r"""In what do the customers of a segment differ from all the others (standardised differences).

    Parameters
    ----------
    customers : table
        One row per customer, on any backend.
    member_col : str
        True for the customers of the segment.
    traits : sequence of str
        Columns of categories to compare, such as gender, city or an age band; null = not known.
    least : int
        Values that fewer customers have, in the segment and outside it together, are folded into
        ``other``, so that no single customer can be recognised.
    as_of : date
        Day on which the portrait is drawn.
    conf_level : float
    ci_method : {"hedges"}

    Returns
    -------
    Portrait
        ``trait``, ``value``, ``n`` (customers of the segment whose trait is known), ``n_rest``,
        ``share``, ``rest_share``, ``estimate`` (standardised difference of the shares),
        ``std_error``, ``conf_low``, ``conf_high``. Null where one side has nobody, or everybody is
        alike.

    Raises
    ------
    InputError
        No traits were named.
    ColumnError
        A column is missing or of another type; a null membership.

    Notes
    -----
    .. math:: d = \frac{p_1 - p_0}{\sqrt{(p_1 q_1 + p_0 q_0) / 2}}, \qquad
              \mathrm{se}^2 = \frac{n_1 + n_0}{n_1 n_0} + \frac{d^2}{2 (n_1 + n_0)}

    It does not grow with the number of customers, as a test's p value does.

    References
    ----------
    Austin (2009), Communications in Statistics 38:1228-1234; Hedges & Olkin (1985), *Statistical
    Methods for Meta-Analysis*, chapter 5.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> known = pl.DataFrame({
    ...     "member": [True] * 20 + [False] * 20, "kind": ["company"] * 15 + ["person"] * 25,
    ... })
    >>> drawn = customer_portrait(
    ...     known, member_col="member", traits=["kind"], as_of=date(2026, 6, 30)
    ... )
    >>> drawn.table.select("value", "share", "rest_share").rows()
    [('company', 0.75, 0.0), ('person', 0.25, 1.0)]
    """
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("hedges",))
    if isinstance(traits, str) or not traits:
        raise InputError(
            f"Traits to compare were asked for as {traits!r}. Name the columns in a list, such as "
            "['gender', 'city']."
        )
    counts = pl.concat([_count(customers, member_col, trait, least) for trait in traits])
    table = _differences(counts, conf_level)
    members = sum(counts.filter(pl.col("trait") == traits[0])["n_all"].head(1))
    notes = _coverage_notes(counts, members, traits, 1 - conf_level)
    return Portrait(
        table=table,
        name=_("What sets these customers apart"),
        unit="number",
        definition=_(
            "Share of customers with a trait in the segment and among all others on {as_of}, of "
            "those whose trait is known, and their difference in standard deviations; from 0.2 on "
            "it can be noticed, from 0.5 on it is plain.",
            as_of=date_text(as_of),
        ),
        by=("trait", "value"),
        conf_level=conf_level,
        notes=notes,
    )


def _trait(row: dict[str, Any]) -> str:
    return f"{label_of(row['trait'])}: {_word(row['value'])}"


def _word(value: str | None) -> str:
    """Write a value of a trait; a flag is answered, not called true or false."""
    return {"true": _("yes"), "false": _("no")}.get(value or "", word_of(value))


def _count(customers: object, member_col: str, trait: str, least: int) -> pl.DataFrame:
    asked = {"member": Asked(member_col, "flag", "member_col")}
    frame = open_table(customers, asked, by=(trait,))
    counted = frame.with_columns(nw.col("member").cast(nw.Int64).alias("inside")).group_by(
        f"by_{trait}", "inside"
    )
    rows = collect(counted.agg(nw.len().alias("k")), by=(trait,), order=["inside"])
    wide = rows.group_by(trait, maintain_order=True).agg(
        pl.col("k").filter(pl.col("inside") == 1).sum().alias("k_1"),
        pl.col("k").filter(pl.col("inside") == 0).sum().alias("k_0"),
    )
    totals = wide.select(pl.col("k_1").sum()).item()
    known = wide.drop_nulls(trait)
    rare = (pl.col("k_1") + pl.col("k_0")) < least
    folded = known.with_columns(
        pl.when(rare).then(pl.lit("other")).otherwise(pl.col(trait).cast(pl.String)).alias("value")
    )
    return (
        folded.group_by("value", maintain_order=True)
        .agg(pl.col("k_1", "k_0").sum())
        .with_columns(
            pl.lit(trait).alias("trait"),
            pl.col("k_1").sum().alias("n_1"),
            pl.col("k_0").sum().alias("n_0"),
            pl.lit(totals, pl.Int64).alias("n_all"),
        )
        .sort("value")
    )


def _differences(counts: pl.DataFrame, conf_level: float) -> pl.DataFrame:
    k1, k0, n1, n0 = (counts[c].to_numpy().astype(float) for c in ("k_1", "k_0", "n_1", "n_0"))
    with np.errstate(divide="ignore", invalid="ignore"):
        p1, p0 = k1 / n1, k0 / n0
        spread = np.sqrt((p1 * (1 - p1) + p0 * (1 - p0)) / 2)
        d = np.where(spread > 0, (p1 - p0) / spread, np.nan)
        error = np.sqrt((n1 + n0) / (n1 * n0) + d**2 / (2 * (n1 + n0)))
    half = normal_quantile(conf_level) * error
    shares = {"share": pl.Series(p1).fill_nan(None), "rest_share": pl.Series(p0).fill_nan(None)}
    return counts.select(
        "trait",
        "value",
        pl.col("n_0").cast(pl.Int64).alias("n_rest"),
        **shares,
        **five_columns(n1, d, error, d - half, d + half),
    ).select("trait", "value", "n", "n_rest", "share", "rest_share", "estimate", "std_error",
             "conf_low", "conf_high")  # fmt: skip


def _coverage_notes(
    counts: pl.DataFrame, members: int, traits: Sequence[str], error_rate: float
) -> tuple[str, ...]:
    notes = small_n_notes(pl.DataFrame({"n": [members]}), (), what=_("customers"))
    known = dict(counts.group_by("trait").agg(pl.col("n_1").max()).iter_rows())
    for trait in traits:
        share = known.get(trait, 0) / members if members else 0.0
        if members and share < 0.8:
            notes += (
                _("{trait}: known of {share} of the segment only.",
                  trait=label_of(trait).capitalize(), share=percent(share)),
            )  # fmt: skip
    rows = counts.height
    looked = _(
        "{k} differences are looked at: about {chance} would seem sure by chance alone.",
        k=number(rows),
        chance=number(error_rate * rows, 1),
    )
    return (*notes, looked)
