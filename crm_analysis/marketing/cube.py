"""Any measure by any dimensions, with subtotals, and nothing about groups too small to show."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from crm_analysis.errors import InputError, listed
from crm_analysis.estimates import FEW, Estimates, five_columns, labelled_groups, share_columns
from crm_analysis.exports import to_csv
from crm_analysis.files import write_whole
from crm_analysis.frames import Asked, check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.marketing.counting import grouped, in_period
from crm_analysis.marketing.suppression import TOTAL, lines_of, suppressed, with_subtotals
from crm_analysis.tables import label_of
from crm_analysis.uncertainty import exact_rate_interval, mean_interval, normal_quantile
from crm_analysis.wording import (
    Unit,
    _,
    amount,
    counted_from,
    date_text,
    number,
    word_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from numpy.typing import NDArray

__all__ = ["SalesCube", "sales_cube"]

NOT_RECORDED = "not_recorded"
STATISTICS = ("count", "sum", "mean", "share")
MOST_DIMS = 4

_TAKEN = ("level", "hidden", "value", "squares", "k", "day")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SalesCube(Estimates):
    """A cube: cells, subtotals and the grand total as one tidy table.

    Attributes
    ----------
    statistic : str
        What was made of the measure.
    least_n : int
        Cells of fewer rows are not shown.
    """

    statistic: str
    least_n: int

    def total(self) -> dict[str, Any]:
        """Return the row of all together."""
        return self.table.row(0, named=True)

    def sentence(self) -> str:
        """Say the grand total, and which cell of the first dimension is largest."""
        row = self.total()
        if row["estimate"] is None:
            return _("{name}: too few to show.", name=self.name)
        text = _("{name}, all together: {value}.", name=self.name, value=self.value_text(row))
        first = self.table.filter(
            (pl.col("level") == 1) & (pl.col(self.by[0]) != TOTAL) & ~pl.col("hidden")
        ).sort("estimate", descending=True, maintain_order=True)
        if first.height < 2:
            return text
        best = first.row(0, named=True)
        return text + " " + _(
            "The most by one dimension: {group}, {value}.",
            group=word_of(best[self.by[0]]),
            value=amount(best["estimate"], self.unit, currency=self.currency),
        )  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """Draw the cells of the first dimension, and return the Axes."""
        from crm_analysis import figures

        ax = figures.new_axes(ax)
        rows = self._first_dimension()
        figures.points(labelled_groups(rows, self.by[:1]), label="label", ax=ax)
        figures.write_units(ax, self.unit, axis="x", currency=self.currency)
        ax.set_title(self.name)
        return ax

    def _first_dimension(self) -> pl.DataFrame:
        return self.table.filter(
            (pl.col("level") == 1) & (pl.col(self.by[0]) != TOTAL) & ~pl.col("hidden")
        )

    def _figure_height(self) -> float | None:
        from crm_analysis import figures

        return figures.height_for(max(self._first_dimension().height, 1))

    def _readable(self) -> pl.DataFrame:
        return self.table.drop("level", "std_error")

    def wide(self, columns: str) -> pl.DataFrame:
        """Return the estimates with one dimension over the columns: a pivot table.

        Raises
        ------
        InputError
            The cube has no such dimension, or no other.
        """
        rest = [name for name in self.by if name != columns]
        if columns not in self.by or not rest:
            raise InputError(
                f"A table with {columns!r} over the columns was asked for; the dimensions are "
                f"{listed(self.by)}, of which one goes there and one at least stays."
            )
        order = self.table[columns].unique(maintain_order=True).to_list()
        wide = self.table.pivot(on=columns, index=rest, values="estimate", maintain_order=True)
        return wide.select(*rest, *(name for name in order if name in wide.columns))

    def to_csv(self, path: str | Path) -> Path:
        """Write the tidy table as CSV, whole or not at all: see `crm_analysis.exports.to_csv`."""
        return to_csv(self.table, path)

    def to_parquet(self, path: str | Path) -> Path:
        """Write the tidy table as Parquet, whole or not at all.

        Raises
        ------
        InputError
            The name does not end in ``.parquet``, or the place takes no file.
        """
        target = Path(path)
        if target.suffix != ".parquet":
            raise InputError(
                f"A Parquet file was to be written to {str(path)!r}. End its name in .parquet."
            )
        bytes_ = io.BytesIO()
        self.table.write_parquet(bytes_)
        try:
            write_whole(target, bytes_.getvalue())
        except OSError as error:
            raise InputError(
                f"The file {target} was to be written, and that cannot be done: "
                f"{error.strerror or error}. Free the place or choose another."
            ) from error
        return target


def sales_cube(
    records: object,
    *,
    value_col: str | None = None,
    at_col: str = "contract_on",
    statistic: str = "count",
    least_n: int = FEW,
    name: str | None = None,
    unit: Unit | None = None,
    since: date | None = None,
    currency: str | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "poisson",
) -> SalesCube:
    r"""What was sold, by any dimensions, with subtotals (small cells not shown, nor deducible).

    Parameters
    ----------
    records : table
        One row per deal, lead or whatever is counted, on any backend: see `Warehouse.sales`.
    value_col : str, optional
        The measure: revenue, margin, discount; 0 and 1 for ``"share"``. Not needed for counts. A
        null adds nothing to a sum, and is in no mean.
    at_col : str
    statistic : {"count", "sum", "mean", "share"}
    least_n : int
        Cells of fewer rows are not shown; 1 shows all.
    name : str, optional
        What is measured, in the reader's words; else those over the measure's column.
    unit : Unit, optional
        What the values are measured in: money for sums and means unless it is stated.
    since : date, optional
    currency : str, optional
    as_of : date
    by : str or sequence of str
        One to four dimensions.
    conf_level : float
    ci_method : {"poisson"}
        Counts exactly (Garwood), sums as a compound Poisson process, means by Student's t,
        shares by Wilson.

    Returns
    -------
    SalesCube
        The dimensions as text (``"all"`` = summed over, ``"not_recorded"`` = null), ``level`` (how
        many are not summed over), ``hidden``, ``n``, ``estimate``, ``std_error``, ``conf_low``,
        ``conf_high``: the grand total first. In a hidden row all numbers are null.

    Raises
    ------
    InputError
        No dimension or more than four, a statistic without a measure, `least_n` below 1.
    ColumnError
        A column is missing, of another type, or null.

    Notes
    -----
    A cell hidden for its size cannot be computed from the rest exactly: for each hidden number the
    equations between totals and parts leave others possible. That numbers are whole and not below
    zero may still bound it. A sum's variance is :math:`\sum x^2`.

    References
    ----------
    Cox (1980), JASA 75:377-385 (complementary suppression); Hundepool et al. (2012), *Statistical
    Disclosure Control*, chapter 4.
    """
    dims = group_names(by, taken=_TAKEN)
    as_of, conf_level = check_as_of(as_of), check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("poisson",))
    check_one_of("statistic", statistic, STATISTICS)
    if not 1 <= len(dims) <= MOST_DIMS:
        raise InputError(
            f"A cube of {len(dims)} dimensions was asked for. It takes one to {MOST_DIMS}: name "
            "them with 'by'."
        )
    if statistic != "count" and value_col is None:
        raise InputError(
            f"The {statistic} of nothing was asked for. Name the measure with 'value_col', or ask "
            "for statistic='count'."
        )
    if least_n < 1:
        raise InputError(f"'least_n' is at least 1; got {least_n}. Pass 1 to show every cell.")
    cells = _count(records, value_col, at_col, since, as_of, dims)
    missing = int(cells["unknown"].sum())
    sums = ("n", "k", "value", "squares")
    table = with_subtotals(cells, dims, sums)
    lines = lines_of(table, dims)
    n = table["n"].to_numpy().astype(np.int64)
    primary, hidden = suppressed(n, lines, least_n)
    columns = _estimates(table, statistic, conf_level)
    shown = pl.Series("hidden", hidden)
    whole = table.select(*dims, "level").with_columns(shown, **columns)
    blank = [
        pl.when(~pl.col("hidden")).then(pl.col(column)).alias(column)
        for column in ("n", "estimate", "std_error", "conf_low", "conf_high")
    ]
    return SalesCube(
        table=whole.with_columns(blank),
        name=name or (_("Sales") if value_col is None else label_of(value_col)),
        unit=unit or _unit(statistic),
        definition=_(
            "{what} up to {as_of} by {dims}, with subtotals; cells of fewer than {least} are not "
            "shown, nor those from which they could be computed.",
            what=_statistic_text(statistic), as_of=date_text(as_of),
            dims=", ".join(label_of(dim).lower() for dim in dims), least=number(least_n),
        ) + counted_from(since),
        by=dims,
        conf_level=conf_level,
        notes=_notes(primary, hidden, missing),
        currency=currency,
        statistic=statistic,
        least_n=least_n,
    )  # fmt: skip


def _count(
    records: object,
    value_col: str | None,
    at_col: str,
    since: date | None,
    as_of: date,
    dims: tuple[str, ...],
) -> pl.DataFrame:
    """Sum rows, known values, values and their squares by cell; null dimensions get a name."""
    asked = {} if value_col is None else {"value": Asked(value_col, "number", "value_col", True)}
    frame = in_period(records, asked, at_col=at_col, since=since, as_of=as_of, by=dims)
    if value_col is None:
        frame = frame.with_columns(nw.lit(1.0).alias("value"))
    frame = frame.with_columns(
        nw.when(nw.col("value").is_null()).then(nw.lit(1)).otherwise(nw.lit(0)).alias("unknown"),
        nw.col("value").fill_null(0.0),
    ).with_columns((nw.col("value") * nw.col("value")).alias("squares"))
    cells = grouped(
        frame, dims, nw.len().alias("n"),
        *(nw.col(name).sum() for name in ("value", "squares", "unknown")),
    )  # fmt: skip
    text = [pl.col(dim).cast(pl.String).fill_null(NOT_RECORDED) for dim in dims]
    return (
        cells.with_columns(text)
        .group_by(dims)
        .agg(pl.col("n", "value", "squares", "unknown").sum())
        .with_columns((pl.col("n") - pl.col("unknown")).alias("k"))
    )


def _estimates(table: pl.DataFrame, statistic: str, conf_level: float) -> dict[str, pl.Series]:
    n, k, value, squares = (
        table[name].cast(pl.Float64).to_numpy() for name in ("n", "k", "value", "squares")
    )
    if statistic == "count":
        low, high = exact_rate_interval(n, np.ones(len(n)), conf_level)
        return five_columns(n, n, np.sqrt(n), low, high)
    if statistic == "sum":
        error = np.sqrt(squares)
        half = normal_quantile(conf_level) * error
        return five_columns(n, value, error, value - half, value + half)
    if statistic == "share":
        return share_columns(value, k, conf_level) | {"n": table["n"].cast(pl.Int64)}
    return _means(n, k, value, squares, conf_level)


def _means(
    n: NDArray[Any], k: NDArray[Any], value: NDArray[Any], squares: NDArray[Any], conf_level: float
) -> dict[str, pl.Series]:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = value / k
        spread = np.sqrt(np.maximum(squares - k * mean**2, 0.0) / (k - 1))
        low, high = mean_interval(mean, spread, k, conf_level)
        return five_columns(n, mean, spread / np.sqrt(k), low, high)


def _unit(statistic: str) -> Unit:
    units: dict[str, Unit] = {"count": "count", "share": "share"}
    return units.get(statistic, "money")


def _statistic_text(statistic: str) -> str:
    return {
        "count": _("Number"), "sum": _("Sum"), "mean": _("Mean"), "share": _("Share"),
    }[statistic]  # fmt: skip


def _notes(primary: NDArray[np.bool_], hidden: NDArray[np.bool_], missing: int) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if hidden.any():
        notes += (
            _("{n} cells are too small to show; {more} more are not shown so that those cannot be "
              "worked out.", n=number(int(primary.sum())),
              more=number(int((hidden & ~primary).sum()))),
        )  # fmt: skip
    if missing:
        notes += (_("The measure is not known for {n} rows.", n=number(missing)),)
    return notes
