"""Scores weighted from those who answered to all who were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import special

from crm_analysis.errors import InputError, NotConvergedError
from crm_analysis.estimates import Estimates, five_columns, group_label, groups_text
from crm_analysis.frames import check_one_of, group_names
from crm_analysis.satisfaction.answers import Floats, float_column
from crm_analysis.satisfaction.asked import Surveys, measure_of, names_of
from crm_analysis.tables import label_of
from crm_analysis.wording import Unit, _, amount, interval_text, number, percent

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["WeightedScore", "effective_n", "rake", "weighted_score"]

KINDS = ("raw", "weighted")
LEAST_ANSWERS = 5
"""Kinds of customers with fewer answers are put together with others: a weight that rests on
one answer would let that one speak for all."""
_ROUNDS, _SETTLED = 500, 1e-8


def effective_n(weights: ArrayLike, counts: ArrayLike) -> float:
    r"""Say how many equally weighted answers say as much as weighted ones (Kish).

    .. math:: n_{\mathrm{eff}} = (\sum w)^2 / \sum w^2

    Parameters
    ----------
    weights, counts : array_like, shape (rows,)
        A weight, and how many answers have it.

    References
    ----------
    Kish (1965), *Survey Sampling*, section 11.7.

    Examples
    --------
    >>> effective_n([1, 3], [50, 50])
    80.0
    """
    w, n = np.asarray(weights, np.float64), np.asarray(counts, np.float64)
    return float((n @ w) ** 2 / (n @ w**2))


def rake(
    counts: ArrayLike, margins: Sequence[NDArray[np.int64]], targets: Sequence[ArrayLike]
) -> Floats:
    """Find the weights with which counted cells reproduce the totals of several margins.

    Parameters
    ----------
    counts : array_like, shape (cells,)
        Answers in each cell.
    margins : sequence of ndarray of int, each of shape (cells,)
        For each margin, which of its values a cell has.
    targets : sequence of array_like
        For each margin, the wanted total of every value; each adds to the same number.

    Returns
    -------
    ndarray, shape (cells,)
        Weight of one answer of each cell. With one margin it is reached in one step: the
        inverse of the response rate.

    Raises
    ------
    NotConvergedError
        The margins contradict each other where cells are empty.

    References
    ----------
    Deming & Stephan (1940), Annals of Mathematical Statistics 11:427-444.

    Examples
    --------
    >>> import numpy as np
    >>> rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> weights = rake([10, 20, 30, 40], [rows, columns], [[40, 60], [50, 50]])
    >>> np.bincount(rows, weights * [10, 20, 30, 40]).round(3).tolist()
    [40.0, 60.0]
    """
    n = np.asarray(counts, np.float64)
    wanted = [np.asarray(target, np.float64) for target in targets]
    weight = np.ones(len(n))
    for _round in range(_ROUNDS):
        for place, target in zip(margins, wanted, strict=True):
            found = np.bincount(place, n * weight, len(target))
            weight = weight * (target / np.where(found > 0, found, 1.0))[place]
        missed = max(
            float(np.max(np.abs(np.bincount(place, n * weight, len(target)) - target)))
            for place, target in zip(margins, wanted, strict=True)
        )
        if missed <= _SETTLED * n.sum():
            return weight
    raise NotConvergedError(
        f"Weights were adjusted {_ROUNDS} times to the totals of {len(margins)} traits and did not "
        "settle: some combinations have no answers. Name fewer traits in 'strata'."
    )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class WeightedScore(Estimates):
    """A score of those who answered beside the same, weighted to all who were asked."""

    def sentence(self) -> str:
        """Say what weighting changes."""
        if self.by != ("weighting",):
            return super().sentence()
        raw, weighted = self.table.to_dicts()
        if weighted["estimate"] is None:
            return _("{name}: nothing can be said (n = {n}).", name=self.name, n=number(raw["n"]))
        return _(
            "{name} weighted to all who were asked is {weighted}; as answered it is {raw}.",
            name=self.name, weighted=self._with_interval(weighted),
            raw=amount(raw["estimate"], self.unit),
        )  # fmt: skip

    def _with_interval(self, row: dict[str, Any]) -> str:
        text = amount(row["estimate"], self.unit)
        if row["conf_low"] is None:
            return text
        return _(
            "{value} ({level} interval {interval})",
            value=text, level=percent(self.conf_level, 0),
            interval=interval_text(row["conf_low"], row["conf_high"], self.unit),
        )  # fmt: skip

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in."""
        return super().units() | {"n_effective": "count"}


def weighted_score(
    surveys: object,
    *,
    score_col: str = "score",
    sent_col: str = "sent_at",
    answered_col: str = "answered_at",
    customer_col: str | None = None,
    strata: str | Sequence[str] = ("kind", "channel"),
    method: str = "raking",
    scale: tuple[float, float],
    measure: str = "mean",
    top: int = 2,
    within_days: float = 30,
    since: date | None = None,
    as_of: date,
    by: str | Sequence[str] = (),
    conf_level: float = 0.95,
    ci_method: str = "linearised",
) -> WeightedScore:
    r"""What would the score be had all kinds of customers answered alike (weighted, linearised).

    Parameters
    ----------
    surveys, score_col, sent_col, answered_col, customer_col, within_days, since, as_of
        As in `score_bounds`.
    strata : str or sequence of str
        Columns known of all who were asked, by which their answers are weighted.
    method : {"raking", "cells"}
        Weigh to the totals of each trait by itself (raking), or of every combination (the
        inverse of its response rate). Values, or combinations, with fewer than five answers are
        put together. Traits that raking cannot meet together with the ones before are left out.
    scale, measure, top
        As in `score_bounds`.
    by : str or sequence of str
        Groups, each weighted to those asked in it.
    conf_level : float
    ci_method : {"linearised"}

    Returns
    -------
    WeightedScore
        Columns of `by`, ``weighting`` (``raw``, ``weighted``), ``n`` (answers), ``n_effective``
        (Kish; what the weights leave of them), ``estimate``, ``std_error``, ``conf_low``,
        ``conf_high`` (Student's t, cut to what the score can be).

    Raises
    ------
    InputError, ColumnError
        As in `score_bounds`.

    Notes
    -----
    .. math:: \bar y_w = \sum w_i y_i, \quad
              \mathrm{var} = \frac{n}{n - p} \sum (w_i e_i)^2, \quad \sum w_i = 1

    with :math:`e_i` the residuals of a weighted regression of the scores on the strata with p
    columns: weighting takes away what strata explain. Who answers within a stratum, and who does
    not, must not differ in the score; if it is the score itself that makes them answer, weights
    by strata cannot know it.

    References
    ----------
    Deville, Särndal & Sautory (1993), JASA 88:1013-1020; Holt & Smith (1979), JRSS A 142:33-46.

    Examples
    --------
    >>> import polars as pl
    >>> from datetime import date
    >>> surveys = pl.DataFrame({
    ...     "kind": ["sales"] * 20 + ["service"] * 20,
    ...     "score": [5.0, 4.0, 5.0] * 5 + [None] * 5 + [3.0, 2.0, 3.0, 4.0, 3.0] + [None] * 15,
    ...     "sent_at": date(2026, 5, 1), "answered_at": date(2026, 5, 3),
    ... })
    >>> found = weighted_score(surveys, strata="kind", scale=(1, 5), as_of=date(2026, 6, 30))
    >>> found.table["estimate"].round(3).to_list()
    [4.25, 3.833]
    """
    check_one_of("ci_method", ci_method, ("linearised",))
    check_one_of("method", method, ("raking", "cells"))
    groups, traits = names_of(by), names_of(strata)
    group_names((*groups, *traits), taken=("weighting", "n_effective"))
    if not traits:
        raise InputError("No column was named in 'strata'. Name what is known of all asked.")
    asked = Surveys(
        score_col=score_col, sent_col=sent_col, answered_col=answered_col,
        customer_col=customer_col, scale=scale, measure=measure_of(measure, scale, top),
        within_days=within_days, since=since, as_of=as_of, by=(*groups, *traits),
        within=groups, conf_level=conf_level,
    )  # fmt: skip
    counts = asked.count(surveys)
    parts = (
        counts.table.partition_by(groups, maintain_order=True, include_key=True)
        if groups and counts.table.height
        else [counts.table]
    )
    rows, folded, dropped = [], set[str](), set[str]()
    for part in parts:
        kinds = _kinds(part, traits, method)
        kinds, left_out = _that_settle(part, kinds)
        dropped |= {label_of(name).lower() for name in left_out}
        names = zip(kinds.names, kinds.folded, strict=True)
        folded |= {label_of(name).lower() for name, was_folded in names if was_folded}
        rows.append(_both(part, kinds, asked, counts.design_effect, groups))
    table = pl.concat(rows)
    return WeightedScore(
        table=table, name=asked.measure.name, unit=asked.measure.unit, by=(*groups, "weighting"),
        conf_level=conf_level, key=f"{asked.measure.key}_weighted",
        definition=" ".join((
            asked.measure.definition,
            _("As answered, and weighted so that those who answered stand for all who were asked, "
              "by {traits}.", traits=", ".join(label_of(name).lower() for name in traits)),
            asked.when_text(),
        )),
        notes=counts.notes() + _notes(table, groups, sorted(folded), sorted(dropped)),
    )  # fmt: skip


# Kinds of customers ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kinds:
    """For each margin: which of its values a row of counts has, and the totals asked."""

    names: tuple[str, ...]
    places: list[NDArray[np.int64]]
    targets: list[Floats]
    folded: list[bool]
    weight: Floats | None = None


def _kinds(counts: pl.DataFrame, traits: tuple[str, ...], method: str) -> _Kinds:
    margins = [traits] if method == "cells" else [(name,) for name in traits]
    places: list[NDArray[np.int64]] = []
    targets: list[Floats] = []
    folded: list[bool] = []
    for columns in margins:
        n, answered = pl.col("n"), pl.col("y").is_not_null()
        totals = counts.group_by(columns).agg(n=n.sum(), k=n.filter(answered).sum())
        totals = totals.sort(*columns, nulls_last=True)
        totals, was_folded = _fold(totals)
        where = counts.select(columns).join(totals, on=columns, how="left", nulls_equal=True,
                                            maintain_order="left")  # fmt: skip
        place = where["place"].to_numpy().astype(np.int64)
        places.append(place)
        targets.append(np.bincount(place, float_column(counts, "n")).astype(np.float64))
        folded.append(was_folded)
    return _Kinds(tuple(" · ".join(c) for c in margins), places, targets, folded)


def _fold(totals: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """Number the values of a margin; those of few answers share a number, with help if needed."""
    k = float_column(totals, "k")
    small = k < LEAST_ANSWERS
    if small.any() and k[small].sum() < LEAST_ANSWERS and not small.all():
        small[np.argmin(np.where(small, np.inf, k))] = True
    place = np.cumsum(~small) - 1 + int(small.any())
    place[small] = 0
    return totals.select(pl.exclude("n", "k")).with_columns(place=pl.Series(place)), bool(
        small.any()
    )


def _that_settle(counts: pl.DataFrame, kinds: _Kinds) -> tuple[_Kinds, tuple[str, ...]]:
    """Rake by as many of the traits, in their order, as can be met together; name the others.

    Traits of which one all but tells another, such as the employee and the kind of service, can
    contradict each other among those who answered.
    """
    answered = counts["y"].is_not_null().to_numpy()
    n = float_column(counts, "n")[answered]
    for kept in range(len(kinds.names), 0, -1):
        places = [place[answered] for place in kinds.places[:kept]]
        try:
            weight = rake(n, places, kinds.targets[:kept]) if len(n) else np.array([])
        except NotConvergedError:
            if kept == 1:
                raise
            continue
        return _Kinds(
            kinds.names[:kept], places, kinds.targets[:kept], kinds.folded[:kept], weight
        ), kinds.names[kept:]
    raise AssertionError("there is always a first trait")


# Estimate --------------------------------------------------------------------------------------


def _both(
    counts: pl.DataFrame, kinds: _Kinds, asked: Surveys, effect: float, groups: tuple[str, ...]
) -> pl.DataFrame:
    answered = counts["y"].is_not_null().to_numpy()
    n, y = float_column(counts, "n")[answered], counts["y"].drop_nulls().to_numpy()
    total = float(n.sum())
    alike, one = np.ones(len(n)), [np.zeros(len(n), np.int64)]
    rows = [(total, total, *_estimate(n, y, alike, one, effect, asked))]
    if total:
        assert kinds.weight is not None
        weight, places = kinds.weight, kinds.places
        rows.append(
            (total, effective_n(weight, n), *_estimate(n, y, weight, places, effect, asked))
        )
    else:
        rows.append(rows[0])
    size, effective, *values = np.array(rows, np.float64).T
    first = counts.select(groups).head(1)
    table = pl.DataFrame({"weighting": KINDS, "n_effective": effective})
    if groups:
        table = pl.concat([pl.concat([first, first]), table], how="horizontal")
    five = five_columns(size, *values)
    return table.with_columns(**five).select(
        *groups, "weighting", "n", "n_effective", "estimate", "std_error", "conf_low", "conf_high"
    )


def _estimate(
    n: Floats,
    y: Floats,
    weight: Floats,
    places: list[NDArray[np.int64]],
    effect: float,
    asked: Surveys,
) -> tuple[float, float, float, float]:
    """Return the weighted mean, its linearised standard error and interval."""
    nan = float("nan")
    total = n @ weight
    if not total:
        return nan, nan, nan, nan
    share = weight / total
    mean = float((n * share) @ y)
    design = np.column_stack([np.eye(int(place.max()) + 1)[place] for place in places])
    root = np.sqrt(n * share)
    fit, *_rest = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)
    columns = int(np.linalg.matrix_rank(design))
    freedom = float(n.sum()) - columns
    residual = y - design @ fit
    squares = float(n @ (share * residual) ** 2)
    rule, factor = asked.measure, asked.measure.factor
    if freedom < 1 or squares <= 0:
        return factor * mean, nan, nan, nan
    error = float(np.sqrt(effect * squares * n.sum() / freedom))
    half = float(special.stdtrit(freedom, 0.5 + asked.conf_level / 2)) * error
    low, high = max(mean - half, rule.lowest), min(mean + half, rule.highest)
    return factor * mean, factor * error, factor * low, factor * high


def _notes(
    table: pl.DataFrame, groups: tuple[str, ...], folded: list[str], dropped: list[str]
) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    weighted = table.filter(pl.col("weighting") == "weighted")
    bare = weighted.filter(pl.col("conf_low").is_null())
    if bare.height:
        labels = groups_text([group_label(row, groups) for row in bare.to_dicts()])
        notes += (
            _("No interval can be given from one answer, or from answers that are all alike: "
              "{groups}.", groups=labels),
        )  # fmt: skip
    if folded:
        notes += (
            _("Kinds of customers with fewer than {least} answers are weighted together, by "
              "{traits}.", least=number(LEAST_ANSWERS), traits=", ".join(folded)),
        )  # fmt: skip
    if dropped:
        notes += (
            _("No weights fit all the traits together: {traits} is left out.",
              traits=", ".join(dropped)),
        )  # fmt: skip
    if not groups and weighted["n"][0]:
        row = weighted.row(0, named=True)
        notes += (
            _("Weights leave {n} answers worth {effective} equally weighted ones.",
              n=number(row["n"]), effective=number(row["n_effective"])),
        )  # fmt: skip
    return (
        *notes,
        _("Weights mend only what the named traits tell: if how customers feel makes them answer, "
          "they cannot know it."),
    )  # fmt: skip
