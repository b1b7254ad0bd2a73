"""How many buy the next car here too."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from crm_analysis.dates import keys_per_unit
from crm_analysis.errors import InputError
from crm_analysis.estimates import Estimates
from crm_analysis.frames import (
    check_as_of,
    check_conf_level,
    check_one_of,
    check_whole,
    group_names,
)
from crm_analysis.retention.departures import DepartureCauses, incidences
from crm_analysis.retention.listed import Listed
from crm_analysis.retention.spells import count_causes
from crm_analysis.uncertainty import wilson_interval
from crm_analysis.wording import _, date_text, duration_text

__all__ = ["repurchase_rate"]


def repurchase_rate(
    ownerships: object,
    *,
    start_col: str = "started_on",
    end_col: str = "ended_on",
    entry_col: str | None = None,
    cause_col: str = "cause",
    repurchase_cause: str = "repurchased_here",
    horizons_months: Sequence[int] = (36, 48, 60),
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "log-log",
) -> Estimates:
    """What share has bought here again within so many months (Aalen-Johansen incidence).

    Parameters
    ----------
    ownerships : table
        One row per car bought here: from its delivery to the next purchase, or to another end
        after which this car can no longer bring one.
    start_col, end_col, entry_col, cause_col, as_of, by, conf_level, ci_method
        As for `departure_causes`.
    repurchase_cause : str
        The cause that means buying here again; every other cause competes with it.
    horizons_months : sequence of int
        Calendar months, each at least 1.

    Returns
    -------
    Estimates
        One row per group and horizon: columns of `by`, ``within``, ``horizon_months``, ``n``
        (cars), ``estimate`` (share), ``std_error``, ``conf_low``, ``conf_high``. Null where no
        car has been observed for so long.

    Raises
    ------
    InputError
        A horizon below one month; else as `departure_causes`.
    ColumnError
        A column is missing, of another type, or null where it must not be.

    Notes
    -----
    A dealership sees who buys here again, not who stays loyal to it in their mind: it cannot see
    the households it has lost without knowing.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> cars = pl.DataFrame({
    ...     "started_on": [date(2020, 1, 15)] * 4,
    ...     "ended_on": [date(2023, 1, 15), date(2022, 3, 15), None, None],
    ...     "cause": ["repurchased_here", "bought_elsewhere", None, None],
    ... })
    >>> found = repurchase_rate(cars, horizons_months=(36,), as_of=date(2024, 1, 20))
    >>> found.table["estimate"].to_list()
    [0.25]
    """
    groups = group_names(by)
    months = [check_whole("horizons_months", one) for one in horizons_months]
    if not months:
        raise InputError("'horizons_months' names no horizon. Pass, say, (36, 48, 60).")
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("log-log",))
    counts, ends = count_causes(
        ownerships, start_col=start_col, end_col=end_col, entry_col=entry_col,
        cause_col=cause_col, unit="month", as_of=as_of, by=groups,
    )  # fmt: skip
    causes = incidences(counts, ends, groups, as_of, "month", conf_level)
    table = _at_horizons(causes, counts, repurchase_cause, months, conf_level)
    return Listed(
        table=table,
        name=_again(months),
        unit="share",
        definition=_(
            "Share of cars bought here after which the customer bought the next one here within "
            "so many months, by Aalen-Johansen: other ends compete, and cars whose time is not up "
            "on {as_of} count as observed until then.",
            as_of=date_text(as_of),
        ),
        by=(*groups, "within"),
        conf_level=causes.conf_level,
        notes=(*causes.notes, *_horizon_notes(table)),
        key=f"bought_again_within_{months[0]}_months" if len(months) == 1 else None,
        better="higher",
    )


def _again(months: Sequence[int]) -> str:
    if len(months) > 1:
        return _("Bought here again")
    return _("Bought here again within {time}", time=duration_text(months[0], "month"))


def _at_horizons(
    causes: DepartureCauses,
    counts: pl.DataFrame,
    cause: str,
    months: Sequence[int],
    conf_level: float,
) -> pl.DataFrame:
    groups = causes.groups
    sizes = counts.group_by(groups or pl.lit(0).alias("all"), maintain_order=True).agg(
        n=pl.col("n_entered").sum(), longest=pl.col("key").max() // keys_per_unit("month")
    )
    if not groups and sizes.is_empty():
        sizes = pl.DataFrame({"n": [0], "longest": [0]})
    horizons = pl.DataFrame(
        {"within": [duration_text(m, "month") for m in months], "horizon_months": list(months)},
        schema={"within": pl.String, "horizon_months": pl.Int64},
    )
    wide = sizes.join(horizons, how="cross")
    values = ("estimate", "std_error", "conf_low", "conf_high")
    found = causes.table.filter(pl.col("cause") == cause).select(
        *groups, *values, horizon_months="time"
    )
    rows = wide.join(
        found, on=[*groups, "horizon_months"], how="left", nulls_equal=True, maintain_order="left"
    )
    # Where spells were observed so long and none ended so, the share is 0, not unknown.
    seen = pl.col("horizon_months") <= pl.col("longest")
    none = wilson_interval(np.zeros(rows.height), rows["n"].to_numpy(), conf_level)[1]
    zero = {"estimate": 0.0, "std_error": 0.0, "conf_low": 0.0}
    filled = rows.with_columns(
        *(
            pl.when(seen).then(pl.col(name).fill_null(value)).alias(name)
            for name, value in zero.items()
        ),
        pl.when(seen)
        .then(pl.when(pl.col("estimate").is_null()).then(pl.Series(none)).otherwise("conf_high"))
        .alias("conf_high"),
    )
    return filled.select(*groups, "within", "horizon_months", "n", *values)


def _horizon_notes(table: pl.DataFrame) -> tuple[str, ...]:
    notes = (
        _("Only purchases here are seen: who bought elsewhere without a word counts as observed."),
    )
    late = table.filter(pl.col("estimate").is_null())
    if late.is_empty():
        return notes
    first = int(late["horizon_months"].min())  # type: ignore[arg-type]
    return (
        *notes,
        _("Nobody has been observed for {time} yet.", time=duration_text(first, "month")),
    )
