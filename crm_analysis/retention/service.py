"""Which cars still come to the workshop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import narwhals.stable.v2 as nw
import polars as pl

from crm_analysis import figures
from crm_analysis.dates import keys_per_unit, to_day_number, with_elapsed_key
from crm_analysis.errors import InputError, listed, near
from crm_analysis.estimates import (
    SMALL_N,
    Estimates,
    share_columns,
    small_n_notes,
)
from crm_analysis.frames import (
    Asked,
    check_as_of,
    check_conf_level,
    check_one_of,
    check_whole,
    collect,
    group_names,
    keys_of,
    open_table,
)
from crm_analysis.wording import _, date_text, duration_text, number, plural, word_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "SERVICE_RULES",
    "ServiceRetention",
    "ServiceRule",
    "service_retention",
    "sold_and_serviced",
]

Base = Literal["in_use", "sold_here", "serviced"]
BASES: tuple[Base, ...] = ("in_use", "sold_here", "serviced")

_NAMES = {
    "in_use": lambda: _("Share of cars kept by the workshop"),
    "sold_here": lambda: _("Share of cars kept by the workshop"),
    "serviced": lambda: _("Share of cars that came back to the workshop"),
}
_KEYS = {"in_use": "cars_kept", "sold_here": "cars_sold_and_kept", "serviced": "cars_returned"}

_AGE = "age_years"
"""The group column of `Warehouse.car_parc` that is an age."""

_BASE_MONTHS = 12
"""A car counts as serviced that came within the year before the window."""


@dataclass(frozen=True, kw_only=True)
class ServiceRule:
    """What counts as a car kept by the workshop; nothing of it has a default.

    Attributes
    ----------
    n_visits : int
        Visits, on different days, that a kept car has made within the window.
    window_months : int
        Length of the window in calendar months.
    base : {"in_use", "sold_here", "serviced"}
        Which cars are asked about: all that were delivered or serviced here before the window
        began and are not known to have been traded in; of these only the ones delivered here; or
        those serviced in the twelve months before the window, each followed for a window of its
        own from its last visit in them.
    kinds : tuple of str
        The kinds of work that count.
    same_dealership : bool
        Whether only visits to the dealership in the car's own row count.
    """

    n_visits: int
    window_months: int
    base: Base
    kinds: tuple[str, ...]
    same_dealership: bool

    def __post_init__(self) -> None:
        check_whole("n_visits", self.n_visits)
        check_whole("window_months", self.window_months)
        check_one_of("base", self.base, BASES)
        if not self.kinds:
            raise InputError(
                "A rule of service retention was made with no kind of work. Name those that "
                "count, such as kinds=('scheduled', 'repair')."
            )


_PAID_OR_WARRANTY = ("scheduled", "repair", "warranty")

SERVICE_RULES: Mapping[str, ServiceRule] = MappingProxyType(
    {
        "one_visit_in_12_months": ServiceRule(
            n_visits=1, window_months=12, base="in_use", kinds=_PAID_OR_WARRANTY,
            same_dealership=False,
        ),
        "two_visits_in_12_months_same_dealership": ServiceRule(
            n_visits=2, window_months=12, base="in_use", kinds=_PAID_OR_WARRANTY,
            same_dealership=True,
        ),
        "return_in_13_months": ServiceRule(
            n_visits=1, window_months=13, base="serviced", kinds=_PAID_OR_WARRANTY,
            same_dealership=False,
        ),
        "sold_and_serviced": ServiceRule(
            n_visits=1, window_months=12, base="sold_here", kinds=_PAID_OR_WARRANTY,
            same_dealership=False,
        ),
    }
)  # fmt: skip
"""Rules that dealerships use, by name; body work, recalls and goodwill do not count in them."""


# Count ------------------------------------------------------------------------------------


def _open_cars(cars: object, columns: Mapping[str, str], by: tuple[str, ...]) -> nw.LazyFrame[Any]:
    asked = {
        "vehicle": Asked(columns["vehicle"], "key", "vehicle_col"),
        "place": Asked(columns["place"], "key", "place_col", nullable=True),
        "start": Asked(columns["start"], "date", "start_col"),
        "left": Asked(columns["left"], "date", "left_col", nullable=True),
        "sold": Asked(columns["sold"], "flag", "sold_col", nullable=True),
    }
    return open_table(cars, asked, by=by)


def _open_visits(
    visits: object, columns: Mapping[str, str], rule: ServiceRule, last_day: int
) -> Any:
    asked = {
        "vehicle": Asked(columns["vehicle"], "key", "vehicle_col"),
        "visit_place": Asked(columns["place"], "key", "place_col", nullable=True),
        "day": Asked(columns["at"], "date", "at_col"),
        "kind": Asked(columns["kind"], "key", "kind_col", nullable=True),
    }
    frame = open_table(visits, asked)
    return frame.filter(nw.col("kind").cast(nw.String).is_in(list(rule.kinds))).filter(
        nw.col("day") <= last_day
    )


def _count_kept(
    cars: object,
    visits: object,
    columns: Mapping[str, str],
    rule: ServiceRule,
    as_of: date,
    by: tuple[str, ...],
) -> pl.DataFrame:
    groups = keys_of(by)
    last = to_day_number(as_of)
    frame = _open_cars(cars, columns, by)
    frame = frame.with_columns(nw.lit(last).alias("last"))
    frame = frame.filter(nw.col("left").is_null() | (nw.col("left") > last))
    if rule.base == "sold_here":
        frame = frame.filter(nw.col("sold"))
    frame = with_elapsed_key(frame, "start", "last", "month", name="known")
    came = _open_visits(visits, columns, rule, last)
    joined = frame.join(came, on="vehicle", how="left")
    if rule.same_dealership:
        joined = joined.with_columns(
            nw.when(nw.col("visit_place") == nw.col("place")).then(nw.col("day")).alias("day")
        )
    joined = with_elapsed_key(joined, "day", "last", "month", name="ago")
    kept = _returned(joined, rule) if rule.base == "serviced" else _visited(joined, rule)
    counted = kept.group_by(*groups, "mature").agg(
        nw.len().alias("n"), nw.col("kept").sum().alias("n_kept")
    )
    return collect(counted, by=by, order=["mature"])


def _car_keys(joined: nw.LazyFrame[Any]) -> list[str]:
    names = joined.collect_schema().names()
    return ["vehicle", "known", *(name for name in names if name.startswith("by_"))]


def _visited(joined: nw.LazyFrame[Any], rule: ServiceRule) -> nw.LazyFrame[Any]:
    """Say of each car whether it was known for the whole window and came often enough in it."""
    window = rule.window_months * keys_per_unit("month")
    # The window is open at its far end: a visit exactly so long ago was in the one before.
    inside = joined.with_columns(
        nw.when(nw.col("ago") < window).then(nw.col("day")).alias("day")
    ).unique(subset=[*_car_keys(joined), "day"])
    per_car = inside.group_by(_car_keys(joined)).agg(
        (~nw.col("day").is_null()).cast(nw.Int64).sum().alias("n_visits")
    )
    return per_car.with_columns(
        (nw.col("known") >= window).cast(nw.Int64).alias("mature"),
        (nw.col("n_visits") >= rule.n_visits).cast(nw.Int64).alias("kept"),
    )


def _returned(joined: nw.LazyFrame[Any], rule: ServiceRule) -> nw.LazyFrame[Any]:
    """Say of each car serviced before the window whether it came back within one."""
    month = keys_per_unit("month")
    window, base = rule.window_months * month, (rule.window_months + _BASE_MONTHS) * month
    in_base = (nw.col("ago") >= window) & (nw.col("ago") < base)
    keys = _car_keys(joined)
    marked = joined.with_columns(nw.when(in_base).then(nw.col("day")).alias("base_day"))
    marked = marked.with_columns(nw.col("base_day").max().over(*keys).alias("first")).filter(
        ~nw.col("first").is_null()
    )
    marked = marked.filter(nw.col("day") >= nw.col("first"))
    marked = with_elapsed_key(marked, "first", "day", "month", name="waited")
    inside = marked.filter(nw.col("waited") <= window).unique(subset=[*keys, "day"])
    per_car = inside.group_by(keys).agg(nw.len().alias("n_days"))
    return per_car.with_columns(
        nw.lit(1).alias("mature"),
        (nw.col("n_days") > rule.n_visits).cast(nw.Int64).alias("kept"),
    )


# Show -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ServiceRetention(Estimates):
    """Shares of cars kept, one row per group; by ``age_years`` they are read as a curve.

    The table has, beside the usual five, ``n_kept``.
    """

    def sentence(self) -> str:
        """Return the shares of the youngest and the oldest cars, or those of the groups."""
        known = self.table.filter(pl.col("estimate").is_not_null(), pl.col("n") >= SMALL_N)
        if self.by != (_AGE,) or known.height < 2:
            return super().sentence()
        young, old = known.row(0, named=True), known.row(-1, named=True)
        return _(
            "{name}: {young} at an age of {young_age}, {old} at {old_age}.",
            name=self.name,
            young=self.value_text(young),
            young_age=duration_text(young[_AGE], "year"),
            old=self.value_text(old),
            old_age=duration_text(old[_AGE], "year"),
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares with their intervals and return the Axes."""
        if self.by != (_AGE,):
            return super().plot(ax)
        ax = figures.new_axes(ax)
        figures.curve(self.table.drop_nulls(_AGE), x=_AGE, ax=ax)
        figures.write_units(ax, "share")
        ax.set_ylim(0, 1.02)
        figures.time_axis(ax, self.table, x=_AGE, n="n", step=1, label=_("Cars"))
        ax.set_xlabel(_("Age of the car, completed years"))
        ax.set_title(self.name)
        return ax

    def _figure_height(self) -> float | None:
        return None if self.by == (_AGE,) else super()._figure_height()


# Ask --------------------------------------------------------------------------------------


def service_retention(
    cars: object,
    *,
    vehicle_col: str = "vehicle_id",
    place_col: str = "dealership_id",
    start_col: str = "started_on",
    left_col: str = "left_on",
    sold_col: str = "sold_here",
    at_col: str = "visited_on",
    kind_col: str = "kind",
    visits: object,
    rule: ServiceRule | str,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> ServiceRetention:
    """What share of cars still comes to the workshop, by a stated rule (Wilson).

    Parameters
    ----------
    cars : table
        One row per car, on any backend.
    vehicle_col, place_col : str
        The car and its dealership, in both tables.
    start_col : str
        Day on which the car was first delivered or serviced here: one known for less than the
        window has not had its time.
    left_col : str
        Day on which it is known to have been sold or traded in; null = not known to be gone.
    sold_col : str
        Whether it was delivered here.
    at_col, kind_col : str
        Day and kind of work, in the table of visits.
    visits : table
        One row per visit, on the same backend.
    rule : ServiceRule or str
        How many visits, in what window, of which cars and kinds of work; or the name of a rule
        of `SERVICE_RULES`: ``"one_visit_in_12_months"``,
        ``"two_visits_in_12_months_same_dealership"``, ``"return_in_13_months"``,
        ``"sold_and_serviced"``. No rule is silently meant.
    as_of : date
        Last day the data covers; the window ends on it.
    by : str or sequence of str
        Group columns of `cars`, such as the car's age or whether its warranty is over.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    ServiceRetention
        Columns of `by`, ``n_kept``, ``n`` (cars of the base), ``estimate`` (share),
        ``std_error``, ``conf_low``, ``conf_high``. Null where no car belongs to the base.

    Raises
    ------
    InputError
        There is no rule of that name.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    A car whose owner sold it without a word, or moved away, is still in the base: the share is
    then too low, and the older the cars the more so.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> cars = pl.DataFrame({
    ...     "vehicle_id": [1, 2], "dealership_id": [1, 1], "sold_here": [True, True],
    ...     "started_on": [date(2020, 5, 1)] * 2, "left_on": [None, None],
    ... }, schema_overrides={"left_on": pl.Date})
    >>> visits = pl.DataFrame({
    ...     "vehicle_id": [1, 1], "dealership_id": [1, 1], "kind": ["scheduled", "body"],
    ...     "visited_on": [date(2024, 3, 1), date(2024, 5, 1)],
    ... })
    >>> share = service_retention(
    ...     cars, visits=visits, rule="one_visit_in_12_months", as_of=date(2024, 12, 31))
    >>> share.table.select("n_kept", "n").row(0)
    (1, 2)
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    asked = _find_rule(rule)
    columns = {
        "vehicle": vehicle_col, "place": place_col, "start": start_col, "left": left_col,
        "sold": sold_col, "at": at_col, "kind": kind_col,
    }  # fmt: skip
    counted = _count_kept(cars, visits, columns, asked, as_of, by)
    table = _shares(counted, by, conf_level)
    return ServiceRetention(
        table=table,
        name=_NAMES[asked.base](),
        unit="share",
        definition=_words(asked, as_of),
        by=by,
        conf_level=conf_level,
        notes=_notes(counted, table, by, asked),
        key=_KEYS[asked.base],
        better="higher",
        # Cars that ceased to come stay in the other bases, which sink by that alone from year to
        # year: only the base of those who came a year before can be held against another year.
        drifts=asked.base != "serviced",
    )


def sold_and_serviced(
    cars: object,
    *,
    vehicle_col: str = "vehicle_id",
    place_col: str = "dealership_id",
    start_col: str = "started_on",
    left_col: str = "left_on",
    sold_col: str = "sold_here",
    at_col: str = "visited_on",
    kind_col: str = "kind",
    visits: object,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> ServiceRetention:
    """What share of the cars delivered here was serviced here in the last twelve months (Wilson).

    The denominator is the cars delivered here at least twelve months before `as_of` and not
    known to have been traded in here since. It is `service_retention` by the rule
    ``"sold_and_serviced"``, whose parameters it takes.

    Returns
    -------
    ServiceRetention
        As `service_retention`.

    Raises
    ------
    ColumnError
        A column is missing, of another type, or null where it must not be.
    """
    found = service_retention(
        cars, vehicle_col=vehicle_col, place_col=place_col, start_col=start_col,
        left_col=left_col, sold_col=sold_col, at_col=at_col, kind_col=kind_col, visits=visits,
        rule="sold_and_serviced", as_of=as_of, by=by, conf_level=conf_level, ci_method=ci_method,
    )  # fmt: skip
    return replace(found, name=_("Sold and serviced here"))


def _find_rule(rule: ServiceRule | str) -> ServiceRule:
    if isinstance(rule, ServiceRule):
        return rule
    if rule not in SERVICE_RULES:
        raise InputError(
            f"The rule {rule!r} was asked for{near(str(rule), SERVICE_RULES)}. "
            f"There are: {listed(SERVICE_RULES)}. Choose one of these, or pass a ServiceRule."
        )
    return SERVICE_RULES[rule]


def _shares(counted: pl.DataFrame, by: tuple[str, ...], conf_level: float) -> pl.DataFrame:
    mature = pl.col("mature") == 1
    sums = {name: pl.col(name).filter(mature).sum() for name in ("n_kept", "n")}
    table = (
        counted.group_by(by).agg(**sums).sort(by, nulls_last=True) if by else counted.select(**sums)
    )
    return table.select(*by, "n_kept", **share_columns(table["n_kept"], table["n"], conf_level))


def _words(rule: ServiceRule, as_of: date) -> str:
    base = {
        "in_use": _("cars delivered or serviced here before that and not known to be gone"),
        "sold_here": _("cars delivered here before that and not known to be gone"),
        "serviced": _("cars serviced in the year before that, each from its last visit then"),
    }[rule.base]
    visits = plural(rule.n_visits, "{n} visit", "{n} visits")
    place = _("at the car's own dealership") if rule.same_dealership else _("at any dealership")
    return _(
        "Share of cars with at least {visits} {place} within {window} up to {as_of}, of: {base}. "
        "Work that counts: {kinds}.",
        visits=visits,
        place=place,
        window=duration_text(rule.window_months, "month"),
        as_of=date_text(as_of),
        base=base,
        kinds=", ".join(word_of(kind) for kind in rule.kinds),
    )


def _notes(
    counted: pl.DataFrame, table: pl.DataFrame, by: tuple[str, ...], rule: ServiceRule
) -> tuple[str, ...]:
    named = table
    if by == (_AGE,):
        ages = [None if a is None else duration_text(a, "year") for a in table[_AGE]]
        named = table.with_columns(pl.Series(_AGE, ages, pl.String))
    notes = small_n_notes(named, by, what=_("cars"))
    if n_young := int(counted.filter(pl.col("mature") == 0)["n"].sum()):
        notes += (
            _(
                "{n} cars that have been known for less than {window} are left out.",
                n=number(n_young),
                window=duration_text(rule.window_months, "month"),
            ),
        )
    return (
        *notes,
        _("A car sold on without a word still counts: the share of old cars looks too low."),
    )
