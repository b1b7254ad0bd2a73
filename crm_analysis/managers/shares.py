"""Shares by manager: raw and shrunk side by side, and whether they differ at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.estimates import Better, Estimates, share_columns, small_n_notes
from crm_analysis.frames import collect, keys_of
from crm_analysis.uncertainty import homogeneity_p_value, shrink_groups
from crm_analysis.wording import _, number, percent

__all__ = ["SHRUNK", "TeamShares", "count_yes", "grouped", "team_shares"]

SHRUNK = ("shrunk", "shrunk_low", "shrunk_high")
LEAST_GROUPS = 3


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TeamShares(Estimates):
    """Shares by group, with each group's share drawn toward the mean of all.

    Attributes
    ----------
    p_value : float or None
        How surprising the differences were if no group differed.
    overall : float or None
        The share of all groups together.
    what : str or None
        What is counted.
    """

    p_value: float | None = None
    overall: float | None = None
    what: str | None = None

    columns_with_unit: ClassVar[tuple[str, ...]] = (*Estimates.columns_with_unit, *SHRUNK)
    compares_groups: ClassVar[bool] = True

    def difference_p_value(self) -> float | None:
        """Return the p-value of the homogeneity test between groups."""
        return self.p_value

    def sentence(self) -> str:
        """Return the finding; groups are named only where a difference is established."""
        known = self.table.drop_nulls("estimate")
        if not self.by or known.height < 2 or self.overall is None:
            return super().sentence()
        if self.p_value is None or self.p_value >= 1 - self.conf_level:
            return _(
                "{name}: {share} over {k} groups; {verdict}.",
                name=self.name, share=percent(self.overall), k=number(known.height),
                verdict=self._difference_text(),
            )  # fmt: skip
        return super().sentence()

    def units(self) -> dict[str, Any]:
        """Return what each column of the table is measured in."""
        waits = self.table.schema.get("days") == pl.Float64  # a median; whole days are a count
        return super().units() | {"n_yes": "count"} | ({"days": "days"} if waits else {})

    def at_least(self, n: int) -> Self:
        """Fold the groups of fewer than `n` into one, so that no row stands for a few people.

        One small group alone is folded with the next smallest: as the only one it would stand
        there under another name.

        Parameters
        ----------
        n : int
            Units that a group must have to stand alone.
        """
        small = self.table.filter(pl.col("n") < n)
        if not self.by or small.is_empty() or self.table.height < 2:
            return self
        name = _("{k} groups of fewer than {n}", k=number(small.height), n=number(n))
        if small.height == 1:
            small = self.table.sort("n", maintain_order=True).head(2)
            name = _("the {k} smallest groups", k=number(2))
        whole = small.select(pl.col("n_yes", "n").sum())
        columns = share_columns(whole["n_yes"], whole["n"], self.conf_level)
        folded = whole.select("n_yes").with_columns(**columns)
        folded = folded.with_columns(pl.lit(name).alias(group) for group in self.by)
        groups = small.select(self.by)
        kept = self.table.join(
            groups, on=self.by, how="anti", nulls_equal=True, maintain_order="left"
        )
        kept = kept.with_columns(pl.col(self.by).cast(pl.String))
        table = pl.concat([kept, folded], how="diagonal").select(self.table.columns)
        notes = tuple(note for note in self.notes if note not in self._small_notes())
        return replace(self, table=table, notes=notes)

    def _small_notes(self) -> tuple[str, ...]:
        return small_n_notes(self.table, self.by, what=self.what)


def team_shares(
    counted: pl.DataFrame,
    *,
    by: tuple[str, ...],
    conf_level: float,
    name: str,
    definition: str,
    what: str,
    notes: tuple[str, ...] = (),
    key: str | None = None,
    better: Better | None = None,
) -> TeamShares:
    """Turn counts (columns of `by`, ``k``, ``total``, and others kept) into shares.

    Groups are shrunk on the scale of shares, with the variance that each would have at the mean of
    all: a group in which all or none succeeded must not look sure.
    """
    k, n = (counted[c].to_numpy().astype(float) for c in ("k", "total"))
    overall = float(k.sum() / n.sum()) if n.sum() else None
    table = (
        counted.rename({"k": "n_yes"}).with_columns(**share_columns(k, n, conf_level)).drop("total")
    )
    p_value = None
    if by:
        shrunk = {column: np.full(len(n), np.nan) for column in SHRUNK}
        usable = n > 0
        if overall is not None and usable.sum() >= LEAST_GROUPS and 0 < overall < 1:
            share = k[usable] / n[usable]
            error = np.sqrt(overall * (1 - overall) / n[usable])
            p_value = homogeneity_p_value(share, error)
            drawn = shrink_groups(share, error, conf_level)
            values = (drawn.estimate, np.maximum(drawn.low, 0), np.minimum(drawn.high, 1))
            for column, value in zip(SHRUNK, values, strict=True):
                shrunk[column][usable] = value
        table = table.with_columns(
            **{c: pl.Series(v, dtype=pl.Float64).fill_nan(None) for c, v in shrunk.items()}
        )
    own = [c for c in table.columns if c not in {*by, "n", *SHRUNK, *Estimates.columns_with_unit}]
    order = [*by, *own, "n", *Estimates.columns_with_unit, *(SHRUNK if by else ())]
    return TeamShares(
        table=table.select(order), name=name, unit="share", definition=definition, by=by,
        conf_level=conf_level, notes=(*notes, *small_n_notes(table, by, what=what)),
        p_value=p_value, overall=overall, what=what, key=key, better=better,
    )  # fmt: skip


def grouped(frame: nw.LazyFrame[Any], by: tuple[str, ...], *sums: nw.Expr) -> pl.DataFrame:
    """Bring sums home, by group or of all; of nothing at all, sums are null."""
    if by:
        return collect(frame.group_by(*keys_of(by)).agg(*sums), by=by)
    return collect(frame.select(*sums))


def count_yes(frame: nw.LazyFrame[Any], by: tuple[str, ...], *more: str) -> pl.DataFrame:
    """Sum ``k`` and other columns and count ``total`` rows, by group or of all."""
    sums = (nw.col(name).sum() for name in ("k", *more))
    counted = grouped(frame, by, *sums, nw.len().alias("total"))
    return counted.with_columns(pl.col("k", *more).fill_null(0))
