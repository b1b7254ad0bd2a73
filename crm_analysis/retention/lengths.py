"""How long relationships last: when half have ended, and the mean up to a horizon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Literal

import numpy as np
import polars as pl

from crm_analysis.dates import TimeUnit
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates, five_columns, group_label, groups_text, small_n_notes
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.retention.spells import count_exits, curve_of, labelled, length_of, parts_of
from crm_analysis.survival import quantile, restricted_mean
from crm_analysis.uncertainty import normal_quantile
from crm_analysis.wording import _, date_text, duration_text

__all__ = ["LengthUnit", "check_horizon", "mean_retention", "median_retention", "words_of_unit"]

LengthUnit = Literal["day", "month"]
LENGTH_UNITS: tuple[LengthUnit, ...] = ("day", "month")

_Five = tuple[int, float, float, float, float]


def words_of_unit(unit: LengthUnit) -> Literal["days", "months"]:
    """Return the unit in which an estimate of a length is written."""
    return "days" if unit == "day" else "months"


def check_horizon(horizon: object) -> float:
    """Return `horizon`, or say that it must be above 0."""
    if isinstance(horizon, int | float) and not isinstance(horizon, bool) and horizon > 0:
        return float(horizon)
    raise InputError(
        f"'horizon' must be above 0, in units of 'unit'; got {horizon!r}. Pass 36 for the mean "
        "over the first 36 months."
    )


def _table(
    counts: pl.DataFrame, by: tuple[str, ...], of_group: Callable[[pl.DataFrame], _Five]
) -> pl.DataFrame:
    rows = []
    for group, part in parts_of(counts, by):
        found = pl.DataFrame(five_columns(*([value] for value in of_group(part))))
        rows.append(labelled(group, found))
    if rows:
        return pl.concat(rows)
    n = [] if by else [0]
    nothing = [np.nan] * len(n)
    return pl.DataFrame(
        {
            **{name: pl.Series(name, [], counts.schema[name]) for name in by},
            **five_columns(n, nothing, nothing, nothing, nothing),
        }
    )


def _unknown_note(table: pl.DataFrame, by: tuple[str, ...], sentence: str) -> tuple[str, ...]:
    unknown = table.filter(pl.col("estimate").is_null() & (pl.col("n") > 0))
    if unknown.is_empty():
        return ()
    groups = [group_label(row, by) for row in unknown.to_dicts()]
    return (sentence + (f": {groups_text(groups)}." if by else "."),)


def median_retention(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    unit: LengthUnit = "month",
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> Estimates:
    """After how long have half of the relationships ended (Kaplan-Meier, Brookmeyer-Crowley).

    Parameters
    ----------
    spells, start_col, end_col, entry_col, as_of, by, conf_level
        As for `retention_curve`.
    unit : {"day", "month"}
        Months are calendar months; spare days count as parts of a mean month (30.44 days).
    ci_method : {"log-log"}
        All durations at which a share of one half is not rejected on the log(-log) scale.

    Returns
    -------
    Estimates
        One row per group, in `unit`. The estimate is null when fewer than half have ended
        within the time observed; so is a bound that was not reached. A median has no standard
        error: null.

    Raises
    ------
    InputError
        Spells that end before they start, an unknown unit, `as_of` that is not a date.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    References
    ----------
    Brookmeyer & Crowley (1982), Biometrics 38:29-41.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> spells = pl.DataFrame({
    ...     "started_on": [date(2024, 1, 15)] * 4,
    ...     "ended_on": [date(2024, 3, 15), date(2024, 5, 15), None, None],
    ... })
    >>> median_retention(spells, as_of=date(2024, 7, 20)).table["estimate"].to_list()
    [4.0]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    check_one_of("unit", unit, LENGTH_UNITS)
    check_one_of("ci_method", ci_method, ("log-log",))
    conf_level = check_conf_level(conf_level)
    counts = count_exits(
        spells, start_col=start_col, end_col=end_col, entry_col=entry_col,
        as_of=as_of, unit=unit, by=by,
    )  # fmt: skip

    def of_group(part: pl.DataFrame) -> _Five:
        found = quantile(curve_of(part), 0.5, conf_level)
        median, low, high = (float(x) for x in length_of(np.array(found), unit))
        # Without an upper bound the lower one says something still; without a median nothing does.
        return int(part["n_entered"].sum()), median, np.nan, low, high

    table = _table(counts, by, of_group)
    table = table.with_columns(
        pl.when(pl.col("estimate").is_not_null()).then(pl.col("conf_low", "conf_high"))
    )
    late = _("Fewer than half have left within the time observed: the median is not known")
    return Estimates(
        table=table,
        name=_name(_("Median time with us"), unit),
        unit=words_of_unit(unit),
        definition=_(
            "Time after which half of the relationships have ended, by Kaplan-Meier; those still "
            "open on {as_of} count as observed until then.",
            as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("relationships")) + _unknown_note(table, by, late),
    )


def _name(words: str, unit: TimeUnit) -> str:
    return f"{words}, " + (_("days") if unit == "day" else _("months"))


def mean_retention(
    spells: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    horizon: float,
    unit: LengthUnit = "month",
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "normal",
) -> Estimates:
    """How long do relationships last on average within a horizon (restricted mean).

    The mean over all time cannot be known while anybody is still with us; the mean over the
    first `horizon` units can: it is the area under the retention curve.

    Parameters
    ----------
    spells, start_col, end_col, entry_col, as_of, by, conf_level
        As for `retention_curve`.
    horizon : float
        In `unit`, above 0; a relationship that lasts longer counts as the horizon.
    unit : {"day", "month"}
    ci_method : {"normal"}
        The exact variance of the area (see `crm_analysis.survival.restricted_mean`), in which
        late entry is allowed for; bounds kept within 0 and the horizon.

    Returns
    -------
    Estimates
        One row per group, in `unit`; null where nobody was observed for the whole horizon.

    Raises
    ------
    InputError
        A horizon that is not above 0; else as `retention_curve`.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    References
    ----------
    Royston & Parmar (2013), BMC Medical Research Methodology 13:152.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> spells = pl.DataFrame({
    ...     "started_on": [date(2024, 1, 15)] * 4,
    ...     "ended_on": [date(2024, 3, 15), date(2024, 5, 15), None, None],
    ... })
    >>> mean_retention(spells, horizon=6, as_of=date(2024, 7, 20)).table["estimate"].to_list()
    [4.5]
    """
    by = group_names(by)
    as_of = check_as_of(as_of)
    horizon = check_horizon(horizon)
    check_one_of("unit", unit, LENGTH_UNITS)
    check_one_of("ci_method", ci_method, ("normal",))
    conf_level = check_conf_level(conf_level)
    counts = count_exits(
        spells, start_col=start_col, end_col=end_col, entry_col=entry_col,
        as_of=as_of, unit=unit, by=by,
    )  # fmt: skip

    def of_group(part: pl.DataFrame) -> _Five:
        curve = curve_of(part)
        found = restricted_mean(curve, length_of(curve.time, unit), horizon)
        half = normal_quantile(conf_level) * found.std_error
        low, high = max(found.mean - half, 0.0), min(found.mean + half, horizon)
        # With no exit at all nothing has varied yet, and chance has no known width.
        bounds = (low, high) if found.std_error > 0 else (np.nan, np.nan)
        return int(part["n_entered"].sum()), found.mean, found.std_error, *bounds

    table = _table(counts, by, of_group)
    late = _("Nobody has been observed for the whole horizon: the mean is not known")
    return Estimates(
        table=table,
        name=_("Mean time with us within {horizon}", horizon=duration_text(round(horizon), unit))
        + ", "
        + (_("days") if unit == "day" else _("months")),
        unit=words_of_unit(unit),
        definition=_(
            "Area under the retention curve up to {horizon}: the mean time that relationships "
            "last, counting no more than that of each; those still open on {as_of} count as "
            "observed until then.",
            horizon=duration_text(round(horizon), unit),
            as_of=date_text(as_of),
        ),
        by=by,
        conf_level=conf_level,
        notes=small_n_notes(table, by, what=_("relationships")) + _unknown_note(table, by, late),
    )
