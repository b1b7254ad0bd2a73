"""From one year's class to the next: who rises, who falls, who stays away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from crm_analysis.errors import InputError
from crm_analysis.frames import check_as_of, check_conf_level, check_one_of, group_names
from crm_analysis.segments.concentration import CLASSES, abc_classes
from crm_analysis.segments.transitions import Transitions, moved
from crm_analysis.wording import _, date_text, number

__all__ = ["class_migration"]

STATES = ("no_purchase",)
(AWAY,) = STATES
"""The state of a customer of the first period who brought nothing in the second."""


def class_migration(
    purchases: object,
    *,
    customer_col: str = "customer_id",
    value_col: str = "margin",
    at_col: str = "happened_on",
    a_share: float = 0.80,
    b_share: float = 0.95,
    before: date,
    since: date,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "wilson",
) -> Transitions:
    """Of the customers in each ABC class of one period, where are they in the next (Wilson).

    Parameters
    ----------
    purchases : table
        As in `abc_classes`.
    customer_col, value_col, at_col : str
    a_share, b_share : float
    before, since, as_of : date
        The first period runs from `before` to the day before `since`, the second from `since` to
        `as_of`. Make them equally long, or the second looks poorer or richer than it is.
    by : str or sequence of str
        Classes are made within each group.
    conf_level : float
    ci_method : {"wilson"}

    Returns
    -------
    Transitions
        Columns of `by`, ``from_state``, ``to_state`` (A, B, C, or ``no_purchase`` for customers who
        bought nothing in the second period), ``n``, ``n_moved``, ``estimate``, ``std_error``,
        ``conf_low``, ``conf_high``. Customers new in the second period are in the notes, since
        they have no class to come from.

    Raises
    ------
    InputError
        The three days do not follow each other.
    ColumnError
        A column is missing, of another type, or null.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> bought = pl.DataFrame({
    ...     "customer_id": [1, 2, 1], "margin": [90.0, 10.0, 50.0],
    ...     "happened_on": [date(2024, 5, 1), date(2024, 6, 1), date(2025, 5, 1)],
    ... })
    >>> moves = class_migration(
    ...     bought, before=date(2024, 1, 1), since=date(2025, 1, 1), as_of=date(2025, 12, 31)
    ... )
    >>> moves.table.filter(pl.col("n_moved") > 0).select("from_state", "to_state").rows()
    [('B', 'no_purchase'), ('A', 'A')]
    """
    by = group_names(by, taken=("from_state", "to_state", "n_moved"))
    as_of = check_as_of(as_of)
    conf_level = check_conf_level(conf_level)
    check_one_of("ci_method", ci_method, ("wilson",))
    if not check_as_of(before) < check_as_of(since) <= as_of:
        raise InputError(
            f"Periods from {before}, from {since} and up to {as_of} were asked for. The days must "
            "follow each other: before < since <= as_of."
        )

    def classes(first: date, last: date) -> pl.DataFrame:
        return abc_classes(
            purchases, customer_col=customer_col, value_col=value_col, at_col=at_col,
            a_share=a_share, b_share=b_share, since=first, as_of=last, by=by,
        ).customers  # fmt: skip

    earlier, later = classes(before, since - timedelta(days=1)), classes(since, as_of)
    keys = [*by, "customer"]
    both = earlier.select(*keys, from_state="abc_class").join(
        later.select(*keys, to_state="abc_class"), on=keys, how="left", nulls_equal=True
    )
    counted = (
        both.drop_nulls("from_state")
        .with_columns(pl.col("to_state").fill_null(AWAY))
        .group_by([*by, "from_state", "to_state"])
        .agg(pl.len().cast(pl.Int64).alias("n_moved"))
        .sort([*by, "from_state", "to_state"], nulls_last=True)
    )
    new = later.join(earlier, on=keys, how="anti", nulls_equal=True).height
    notes = (_("{n} customers are new in the second period.", n=number(new)),) if new else ()
    return moved(
        counted,
        states=(AWAY, *reversed(CLASSES)),
        by=by,
        conf_level=conf_level,
        name=_("Moves between ABC classes"),
        definition=_(
            "Of the customers in a class from {before} to the day before {since}, the share in "
            "each class from then to {as_of}.",
            before=date_text(before), since=date_text(since), as_of=date_text(as_of),
        ),
        notes=notes,
    )  # fmt: skip
