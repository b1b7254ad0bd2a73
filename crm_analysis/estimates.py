"""The one shape that every metric returns: a table in which no number travels alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, inf, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl

from crm_analysis import figures
from crm_analysis.blocks import Block, BlockFigure, BlockTable, Change, Column, KeyFigure
from crm_analysis.changes import (
    against_target,
    change,
    compared_text,
    least_size,
    with_changes,
)
from crm_analysis.errors import CrmError, InputError
from crm_analysis.exports import to_csv
from crm_analysis.tables import label_of, to_block_table, typeset
from crm_analysis.uncertainty import (
    against_others,
    homogeneity_p_value,
    normal_quantile,
    wilson_interval,
)
from crm_analysis.wording import ABSENT, Unit, _, amount, interval_text, number, percent, word_of

if TYPE_CHECKING:
    from great_tables import GT
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FIVE",
    "SMALL_N",
    "Estimates",
    "definitions",
    "findings",
    "five_columns",
    "group_label",
    "groups_text",
    "key_figures",
    "labelled_groups",
    "p_text",
    "scoreboard",
    "share_columns",
    "small_n_notes",
]

FIVE = ("n", "estimate", "std_error", "conf_low", "conf_high")
"""The columns that every table of estimates has."""

SMALL_N = 30
"""Below this many units an estimate carries a caution."""

FEW = 5
"""What fewer did, brought or owe is not shown: it would be what one of them did."""

MOST_FINDINGS = 5
"""A reader takes no more from the head of a page."""

Better = Literal["higher", "lower"]

_ROUNDING = 1e-9
"""How far an estimate may lie outside its interval through floating point alone."""

_BOUNDED = ("estimate", "conf_low", "conf_high")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Estimates:
    """Estimates with what a reader needs to trust them.

    Attributes
    ----------
    table : polars DataFrame
        One row per estimate: the columns of `by`, those of the metric, and always ``n``
        (units counted, Int64), ``estimate``, ``std_error``, ``conf_low`` and ``conf_high``
        (Float64). What cannot be known is null, with a note that says why; never NaN.
    name : str
        What is estimated, in the reader's words.
    unit : Unit
        What the estimate is measured in.
    by : tuple of str
        The group columns.
    conf_level : float
        Level of the intervals.
    definition : str
        One sentence that says exactly what was counted.
    notes : tuple of str
        Cautions: small n, immature cohorts, failed assumptions.
    currency : str or None
        ISO code, when the estimate is money and the currency is known.
    key : str or None
        A name for machines, the same in every language, by which a key figure is remembered and
        given a target: ``"retention_after_24_months"``.
    better : {"higher", "lower"} or None
        Which way is better; None when neither is.
    drifts : bool
        Whether time alone changes it, as it does what an ageing base of customers is still worth.
        As a key figure it is then held against no other year, and what has become of it since
        the last report is called neither better nor worse.
    """

    table: pl.DataFrame
    name: str
    unit: Unit
    definition: str
    by: tuple[str, ...] = ()
    conf_level: float = 0.95
    notes: tuple[str, ...] = ()
    currency: str | None = None
    key: str | None = None
    better: Better | None = None
    drifts: bool = False

    columns_with_unit: ClassVar[tuple[str, ...]] = (
        "estimate",
        "std_error",
        "conf_low",
        "conf_high",
    )
    n_col: ClassVar[str] = "n"
    """Column of the units that an estimate stands on; all those counted, unless some had no say."""
    says_more: ClassVar[bool] = False
    """Whether a subclass's finding is of one figure and says more than the card of that figure."""
    compares_groups: ClassVar[bool] = False
    """Whether a subclass that words its own finding holds its groups against each other in it."""

    def __post_init__(self) -> None:
        missing = [name for name in (*self.by, *FIVE) if name not in self.table.columns]
        if missing:
            raise CrmError(f"{type(self).__name__} was made without the columns {missing}.")
        if any(_holds_nan(column) for column in self.table.iter_columns()):
            raise CrmError(f"{type(self).__name__} holds NaN; what is unknown must be null.")
        value, low, high = (self.table[name].to_numpy().astype(np.float64) for name in _BOUNDED)
        slack = _ROUNDING * (1 + np.abs(value))
        if ((low > value + slack) | (high < value - slack)).any():
            raise CrmError(f"{type(self).__name__} has an estimate outside its interval.")

    # What it says ---------------------------------------------------------------------

    def __str__(self) -> str:
        return self.sentence()

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.sentence()}"

    def sentence(self) -> str:
        """Return the finding in one sentence, with its interval and n."""
        if self.by or self.table.height != 1:
            return self._groups_sentence()
        row = self.table.row(0, named=True)
        if row["estimate"] is None:
            return _("{name}: nothing can be said (n = {n}).", name=self.name, n=number(row["n"]))
        return _("{name}: {value}.", name=self.name, value=self.value_text(row))

    def value_text(self, row: Mapping[str, Any]) -> str:
        """Write one row's estimate with its interval and n."""
        value = amount(row["estimate"], self.unit, currency=self.currency)
        n = number(row[self.n_col])
        if row["conf_low"] is None or row["conf_high"] is None:
            return _("{value} (n = {n}, no interval)", value=value, n=n)
        return _(
            "{value} ({level} interval {interval}, n = {n})",
            value=value,
            level=percent(self.conf_level, 0),
            interval=interval_text(
                row["conf_low"], row["conf_high"], self.unit, currency=self.currency
            ),
            n=n,
        )

    def _groups_sentence(self) -> str:
        known = self.table.drop_nulls("estimate").sort("estimate", maintain_order=True)
        if known.is_empty():
            return _("{name}: nothing can be said in any group.", name=self.name)
        low, high = known.row(0, named=True), known.row(-1, named=True)
        if known.height == 1:
            where = group_label(low, self.by)
            return f"{self.name}, {where}: {self.value_text(low)}."
        ends = {
            "name": self.name,
            "low": amount(low["estimate"], self.unit, currency=self.currency),
            "high": amount(high["estimate"], self.unit, currency=self.currency),
            "k": number(known.height),
        }
        if ends["low"] == ends["high"]:
            span = _("{name} is {low} in each of {k} groups", **ends)
        elif self._alike():
            # Which of equals came out lowest is chance: to name it would make it a finding.
            span = _("{name} lies between {low} and {high} in {k} groups", **ends)
        else:
            span = _(
                "{name} runs from {low} ({low_group}) to {high} ({high_group}) over {k} groups",
                low_group=group_label(low, self.by),
                high_group=group_label(high, self.by),
                **ends,
            )
        return f"{span}; {self._difference_text()}."

    def _alike(self) -> bool:
        """Whether a test was made, and established no difference between the groups."""
        p = self.difference_p_value()
        return p is not None and p >= 1 - self.conf_level

    def difference_p_value(self) -> float | None:
        """Return how surprising the differences were if no group differed; None if untestable."""
        return homogeneity_p_value(
            self.table["estimate"].to_numpy(), self.table["std_error"].to_numpy()
        )

    def _difference_text(self) -> str:
        p = self.difference_p_value()
        if p is None:
            return _("whether they differ cannot be tested")
        if p >= 1 - self.conf_level:
            return _("no difference between them is established (p = {p})", p=_p_text(p))
        return _("they differ by more than chance (p {p})", p=_p_comparison(p))

    def importance(self) -> float:
        """Return how large the difference is at least that the finding states; 0 without one.

        Between groups it is that of the group furthest from all others, with intervals that hold
        for all groups together (Bonferroni). The scale is that of `changes.least_size`.
        """
        worded = type(self).sentence is not Estimates.sentence
        if not self.by or (worded and not self.compares_groups):
            return 0.0
        p = self.difference_p_value()
        if p is None or p >= 1 - self.conf_level:
            return 0.0
        known = self.table.drop_nulls(["estimate", "std_error"]).filter(pl.col("std_error") > 0)
        if known.height < 2:
            return 0.0
        value, error = known["estimate"].to_numpy(), known["std_error"].to_numpy()
        gap, spread = against_others(value, error)
        half = normal_quantile(1 - (1 - self.conf_level) / known.height) * spread
        single = error * np.sqrt(known["n"].to_numpy())
        rows = zip(value, gap - half, gap + half, single, strict=True)
        return max(
            least_size(low, high, value=v, unit=self.unit, spread=sd) for v, low, high, sd in rows
        )

    # What it shows --------------------------------------------------------------------

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the estimates with their intervals and return the Axes."""
        ax = figures.new_axes(ax)
        figures.points(labelled_groups(self.table, self.by), label="label", ax=ax)
        figures.write_units(ax, self.unit, axis="x", currency=self.currency)
        ax.set_title(self.name)
        return ax

    def show(self, *, title: str | None = None, figure: bool = True, table: bool = True) -> Block:
        """Return the block that a page shows: finding, figure, cautions, numbers, definition.

        Parameters
        ----------
        title : str, optional
        figure, table : bool
            Whether to show them; a short page leaves numbers to the page that is made for them.
        """
        return Block(
            title=title,
            finding=self.sentence(),
            figure=self._figure() if figure and self._has_shape() else None,
            table=self._block_table() if table and self.table.height else None,
            definition=self.definition,
            notes=self.notes,
        )

    def _has_shape(self) -> bool:
        """Whether there is something to draw: one point with its interval is a sentence."""
        points = type(self).plot is Estimates.plot
        return self.table.height > (1 if points else 0)

    def _block_table(self) -> BlockTable:
        return to_block_table(self._readable(), self.units(), currency=self.currency)

    def units(self) -> dict[str, Unit]:
        """Return what each column of the table is measured in, where that is not plain."""
        units: dict[str, Unit] = dict.fromkeys(self.columns_with_unit, self.unit)
        return units | {"n": "count"}

    def _readable(self) -> pl.DataFrame:
        # A whole number that names a group (an id, a year) is a name: no thousands separators.
        names = [name for name in self.by if self.table.schema[name].is_integer()]
        return self.table.with_columns(pl.col(name).cast(pl.String) for name in names)

    def _figure(self) -> BlockFigure | None:
        data, mime = figures.inked(self.plot, height=self._figure_height())
        return BlockFigure(data, alt=self.sentence(), mime=mime)

    def _figure_height(self) -> float | None:
        return figures.height_for(self.table.height)

    def _rows(self) -> list[dict[str, Any]]:
        return self.table.to_dicts()

    def to_polars(self) -> pl.DataFrame:
        """Return the table."""
        return self.table

    def to_csv(self, path: str | Path) -> Path:
        """Write the table as a CSV file for a spreadsheet, and return its path.

        Numbers stay numbers (a share is a fraction); null is an empty cell; a name from the data
        that a spreadsheet would take for a formula is written as text. See `exports.to_csv`.
        """
        return to_csv(self.table, path)

    def to_gt(self) -> GT:
        """Return the table, typeset."""
        return typeset(self._block_table(), title=self.name)

    def with_notes(self, *notes: str) -> Self:
        """Return the same estimates with further cautions."""
        return replace(self, notes=(*self.notes, *notes))

    def _repr_html_(self) -> str:
        return self.show()._repr_html_()

    def _repr_mimebundle_(self, **asked: object) -> dict[str, Any]:
        return self.show()._repr_mimebundle_(**asked)


def _holds_nan(column: pl.Series) -> bool:
    """Tell whether a number is not one, though it is not null, which numpy shows as NaN too."""
    if not column.dtype.is_float():
        return False
    return int(np.isnan(column.to_numpy()).sum()) > column.null_count()


def p_text(p: float) -> str:
    """Write a p-value as a comparison: ``p = 0.03`` or ``p < 0.001``.

    Examples
    --------
    >>> p_text(0.034), p_text(0.0000012)
    ('p = 0.03', 'p < 0.001')
    """
    return _("p {p}", p=_p_comparison(p))


def _p_text(p: float) -> str:
    # Near the usual level two digits would leave open on which side of it the value lies.
    return number(p, 3 if p < 0.01 or 0.045 <= p < 0.055 else 2)


def _p_comparison(p: float) -> str:
    return f"< {number(0.001, 3)}" if p < 0.001 else f"= {_p_text(p)}"


def group_label(row: Mapping[str, Any], by: Sequence[str]) -> str:
    """Return the words for a row's group; a null group is said to be unknown."""
    if not by:
        return _("all")
    return " · ".join(word_of(row[name]) for name in by)


def labelled_groups(table: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Return a table with the words for each row's group in the column ``label``."""
    labels = [group_label(row, by) for row in table.to_dicts()]
    return table.with_columns(pl.Series("label", labels, pl.String))


def withheld(
    n: ArrayLike, least_n: int, *, already: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Choose the rows not to show: those of too few cases, and what would give them away.

    One small row alone follows from the whole by subtraction, and so does the sum of several that
    are still too few together: the next smallest are withheld with them until neither holds.

    Parameters
    ----------
    n : array_like, shape (k,)
        Cases of each row, which together make a whole that is known.
    least_n : int
    already : ndarray of bool, optional
        Rows that are withheld in any case.

    Examples
    --------
    >>> withheld([50, 3, 20, 9], 5).tolist(), withheld([50, 0, 20], 5).tolist()
    ([False, True, False, True], [False, False, False])
    """
    cases = np.asarray(n, np.float64)
    hidden = (cases > 0) & (cases < least_n)
    if already is not None:
        hidden |= already
    if not hidden.any():
        return hidden
    for row in np.argsort(cases, kind="stable"):
        if hidden.sum() > 1 and cases[hidden].sum() >= least_n:
            break
        hidden[row] |= cases[row] > 0
    return hidden


def without_few(
    table: pl.DataFrame, columns: Sequence[str], *, count: str, least_n: int = FEW
) -> pl.DataFrame:
    """Return a table of one whole's parts without the numbers of parts of too few, as null."""
    hidden = pl.Series(withheld(table[count].fill_null(0).to_numpy(), least_n))
    return table.with_columns(pl.when(~hidden).then(pl.col(name)).alias(name) for name in columns)


def few_notes(table: pl.DataFrame, *, count: str, least_n: int = FEW) -> tuple[str, ...]:
    """Say that numbers of a few are not shown, where `without_few` will leave some out."""
    if not withheld(table[count].fill_null(0).to_numpy(), least_n).any():
        return ()
    return (
        _("What belongs to fewer than {n} is not shown, nor what would give it away.",
          n=number(least_n)),
    )  # fmt: skip


def five_columns(
    n: ArrayLike,
    estimate: ArrayLike,
    std_error: ArrayLike,
    conf_low: ArrayLike,
    conf_high: ArrayLike,
) -> dict[str, pl.Series]:
    """Return the five columns as polars series, with null where an array holds ``nan``.

    Parameters
    ----------
    n, estimate, std_error, conf_low, conf_high : array_like, shape (rows,)
    """
    floats = dict(zip(FIVE[1:], (estimate, std_error, conf_low, conf_high), strict=True))
    columns = {"n": pl.Series("n", np.asarray(n, np.int64), pl.Int64)}
    for name, values in floats.items():
        array = np.atleast_1d(np.asarray(values, np.float64))
        array = np.where(np.isfinite(array), array, np.nan)
        columns[name] = pl.Series(name, array, pl.Float64, nan_to_null=True)
    return columns


def share_columns(k: ArrayLike, n: ArrayLike, conf_level: float) -> dict[str, pl.Series]:
    """Return the five columns of shares ``k / n`` with Wilson's interval; null where `n` is 0.

    Parameters
    ----------
    k, n : array_like, shape (rows,)
    conf_level : float
    """
    won, size = np.asarray(k, np.float64), np.asarray(n, np.float64)
    low, high = wilson_interval(won, size, conf_level)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = won / size
        error = np.sqrt(share * (1 - share) / size)
    return five_columns(size, share, error, low, high)


def small_n_notes(
    table: pl.DataFrame, by: Sequence[str], *, least: int = SMALL_N, what: str | None = None
) -> tuple[str, ...]:
    """Return a caution when groups, or the whole, rest on fewer than `least` units."""
    small = table.filter(pl.col("n") < least)
    if small.is_empty():
        return ()
    what = what or _("cases")
    if not by:
        if small["n"][0] == 0:
            return (_("There are no {what}: nothing can be said.", what=what),)
        n = number(small["n"][0])
        return (_("Only {n} {what}: read with care.", n=n, what=what),)
    groups = small.select(by).unique(maintain_order=True).to_dicts()
    return (
        _(
            "Fewer than {least} {what} in: {groups}; read those with care.",
            least=number(least),
            what=what,
            groups=groups_text([group_label(row, by) for row in groups]),
        ),
    )


def groups_text(labels: Sequence[str], *, most: int = 6) -> str:
    """Name groups in one line, cut after `most` of them."""
    more = len(labels) - most
    names = ", ".join(labels[:most])
    return names + (_(" and {k} more", k=number(more)) if more > 0 else "")


Results = Mapping[str, Estimates] | Iterable[Estimates]


def key_figures(
    results: Results,
    *,
    previous: Results = (),
    earlier: Results = (),
    network: Results = (),
    targets: Mapping[str, float] | None = None,
) -> Block:
    """Return the head of a page: one card per single-row estimate, with interval and n.

    Each card says how its figure stands against others of the same `key`: up or down where the
    interval of the difference leaves out zero, else that no difference is established; better or
    worse where the metric says which way is `better`. A figure that `drifts` is held against the
    network and a target, and not against another year.

    Parameters
    ----------
    results : iterable of Estimates, or mapping of label to Estimates
        Estimates of one row each; without a label the card says their name.
    previous : same, optional
        The same figures of a year earlier, from cases of their own (the answers of those days).
    earlier : same, optional
        The same figures as they stood a year earlier, from cases that today's include (all
        customers until then). What the two looks share is taken into account.
    network : same, optional
        The same figures of the whole network, in which the dealership is included.
    targets : mapping of key to float, optional
        What was to be reached, in the unit of the estimate (a share as a fraction). Keys that no
        figure here has are those of other pages.

    Raises
    ------
    InputError
        An estimate has several rows: a card can say only one number. A target is no number.
    """
    cards = _cards(results)
    before, nested = _by_key(previous), _by_key(earlier)
    whole = _by_key(network)
    goals = dict(targets or {})
    _check_targets(goals)
    changed = [
        with_changes(
            card,
            [
                _against(card, before, "previous"),
                _against(card, nested, "previous", nested=True),
                _against(card, whole, "network", nested=True),
                against_target(card, goals[card.key]) if card.key in goals else None,
            ],
        )
        for card in cards
    ]
    compared = any(card.changes for card in changed)
    return Block(
        kind="key_figures",
        key_figures=tuple(changed),
        definition=_how_compared() if compared else None,
    )


def _how_compared() -> str:
    return _(
        "A figure is said to be above or below another where the {level} interval of their "
        "difference leaves out zero; else no difference is established. The interval is put "
        "together from those of the two figures (Zou and Donner, MOVER). The whole network "
        "includes the dealership, and where all customers count those of a year earlier are among "
        "today's: what the two share is taken into account. Several comparisons stand side by "
        "side, so that one in twenty may be out by chance alone.",
        level=percent(0.95, 0),
    )


def _by_key(results: Results) -> dict[str, KeyFigure]:
    return {card.key: card for card in _cards(results) if card.key is not None}


def _against(
    card: KeyFigure,
    others: Mapping[str, KeyFigure],
    against: Literal["previous", "network"],
    *,
    nested: bool = False,
) -> Change | None:
    other = others.get(card.key or "")
    # How many there are says nothing of a part beside its whole.
    if other is None or (against == "network" and card.unit == "count"):
        return None
    if card.drifts and against == "previous":
        return None
    return change(card, other, against=against, nested=nested)


def _check_targets(targets: Mapping[str, float]) -> None:
    for key, target in targets.items():
        if isinstance(target, bool) or not isinstance(target, int | float):
            raise InputError(
                f"The target of {key!r} must be a number; got {target!r}. Give a share as a "
                "fraction: 0.65."
            )


def _cards(results: Results) -> list[KeyFigure]:
    pairs = results.items() if isinstance(results, Mapping) else ((r.name, r) for r in results)
    return [_card(label, result) for label, result in pairs]


def _card(label: str, estimates: Estimates) -> KeyFigure:
    if estimates.table.height > 1:
        raise InputError(
            f"A key figure is one number; {estimates.name!r} has {estimates.table.height} rows. "
            "Pass an estimate without groups."
        )
    unknown = dict.fromkeys(FIVE) | {estimates.n_col: 0}
    row = estimates.table.row(0, named=True) if estimates.table.height else unknown
    known = row["conf_low"] is not None and row["conf_high"] is not None
    interval = interval_text(
        row["conf_low"], row["conf_high"], estimates.unit, currency=estimates.currency
    )
    return KeyFigure(
        label,
        amount(row["estimate"], estimates.unit, currency=estimates.currency),
        interval=interval if known else None,
        n=_("n = {n}", n=number(row[estimates.n_col])),
        key=estimates.key,
        estimate=row["estimate"],
        conf_low=row["conf_low"],
        conf_high=row["conf_high"],
        count=row[estimates.n_col],
        unit=estimates.unit,
        currency=estimates.currency,
        better=estimates.better,
        drifts=estimates.drifts,
    )


def findings(*results: Estimates | Block | str, limit: int = MOST_FINDINGS) -> Block:
    """Return the head of a page in sentences, the most important first.

    First stand the findings that state a difference: a key figure that is better or worse than
    the year before, the network or its target, groups that differ by more than chance, an effect
    that is established. Among them the larger comes first, by the least that the difference may be
    (`changes.least_size`), so that neither chance nor sheer numbers carry one to the top; sizes
    count in steps of two, and within a step the order given decides, since shares, scores and
    money cannot be compared more finely. What states no difference follows in the order given,
    and what nothing can be said of comes last.

    Parameters
    ----------
    *results : Estimates, Block of key figures, or str
        What may be said, any number of them. Each key figure of a block is a finding of its own,
        with what it was held against; the same figure given beside it is not said twice. Text is
        taken as it is, as something that states no difference.
    limit : int
        How many are said, 1 to 5; the others stand in their sections.

    Raises
    ------
    InputError
        A limit outside 1 to 5, or a block without key figures.
    """
    if not 1 <= limit <= MOST_FINDINGS:
        raise InputError(
            f"The head of a page with {limit} findings was asked for; a reader takes 1 to "
            f"{MOST_FINDINGS}. Pass such a number, or leave it out."
        )
    figures = [card for block in results if isinstance(block, Block) for card in _figures_of(block)]
    cards = {card.key for card in figures} - {None}
    richer = {r.key for r in results if isinstance(r, Estimates) and _says_more(r)} & cards
    weighed: list[tuple[float, str]] = []
    for result in results:
        if isinstance(result, Block):
            own = [card for card in result.key_figures if card.key not in richer]
            weighed += [(_card_weight(card), compared_text(card)) for card in own]
        elif isinstance(result, str):
            weighed.append((_weight(0.0), result))
        elif result.by or result.key not in cards or result.key in richer:
            known = result.table["estimate"].drop_nulls().len() > 0
            weighed.append((_weight(result.importance() if known else None), str(result)))
    weighed.sort(key=lambda one: -one[0])
    return Block(kind="findings", findings=tuple(text for _weight, text in weighed[:limit]))


def _figures_of(block: Block) -> tuple[KeyFigure, ...]:
    if not block.key_figures:
        raise InputError(
            f"A finding was made of a block of kind {block.kind!r}, which has no key figures. Pass "
            "the result itself, or the block that key_figures() returned."
        )
    return block.key_figures


def _card_weight(card: KeyFigure) -> float:
    known = card.estimate is not None
    # Where neither way is better, a change is no news to act on.
    sizes = (one.size for one in card.changes if one.good is not None)
    return _weight(max(sizes, default=0.0) if known else None)


def _weight(size: float | None) -> float:
    """Return the step of two that a size lies in; below all, no difference and nothing known."""
    if size is None:
        return -inf
    return floor(log2(size)) if size > 0 else -_MOST_STEPS


def _says_more(result: Estimates) -> bool:
    """Whether a result says more than its card; one by groups is another figure."""
    return result.by == _MEASURES or (result.says_more and result.by in ((), _KINDS))


_KINDS = ("kind",)
"""The parts of a value, with their sum."""

_MEASURES = ("measure",)
"""The groups of a result whose rows are parts of one figure."""

_MOST_STEPS = 1_100
"""More halvings than a floating-point number takes before it is zero."""


def scoreboard(departments: Mapping[str, Block]) -> Block:
    """Return one table of departments and their key figures: how each stands, line by line.

    Parameters
    ----------
    departments : mapping of str to Block
        By department (a code becomes words), the block that `key_figures` returned. Each
        department has a line of its own over its figures, and what they were held against a column.

    Raises
    ------
    InputError
        A block without key figures.
    """
    cards = [card for block in departments.values() for card in _figures_of(block)]
    compared = {change.against for card in cards for change in card.changes}
    against = [other for other in _AGAINST if other in compared]
    columns = [
        Column("name", _("Figure")),
        Column("estimate", _("Now")),
        *(Column(other, _compared_label(other)) for other in against),
    ]
    cells: list[tuple[str, ...]] = []
    for name, block in departments.items():
        # A line of its own: on a phone there is no room for one column more.
        cells.append((word_of(name).upper(), *[""] * (len(columns) - 1)))
        cells += [
            (card.label, _value_text(card), *(_stands(card, a) for a in against))
            for card in block.key_figures
        ]
    said = " ".join(_standing(cards, other) for other in against)
    return Block(finding=said or None, table=BlockTable(tuple(columns), tuple(cells)))


def _standing(cards: Sequence[KeyFigure], against: str) -> str:
    """Say which figures are worse, which better, and of how many neither is established."""
    found = [
        (card.label, change)
        for card in cards
        for change in card.changes
        if change.against == against and change.interval
    ]
    worse = [label for label, change in found if change.good is False]
    better = [label for label, change in found if change.good]
    level = sum(change.direction == "level" for _label, change in found)
    told = [
        _("worse ({n}): {figures}", n=number(len(worse)), figures=", ".join(worse))
        if worse
        else "",
        _("better ({n}): {figures}", n=number(len(better)), figures=", ".join(better))
        if better
        else "",
        _("no difference established: {n} of {k}", n=number(level), k=number(len(found)))
        if level
        else "",
    ]
    said = "; ".join(part for part in told if part)
    return _("{group} – {value}", group=_compared_label(against), value=said) + "."


_AGAINST = ("previous", "network", "target")


def _compared_label(against: str) -> str:
    return {
        "previous": _("Against a year earlier"),
        "network": _("Against the network"),
        "target": _("Against the target"),
    }[against]


def _value_text(card: KeyFigure) -> str:
    within = ", ".join(text for text in (card.interval, card.n) if text)
    return f"{card.value} ({within})" if within else card.value


def _stands(card: KeyFigure, against: str) -> str:
    found = next((change for change in card.changes if change.against == against), None)
    if found is None:
        return ABSENT
    interval = f" ({found.interval})" if found.interval else ""
    # The sentence over the table says how many these are: a line of it is for the numbers.
    said = _("not established") if found.direction == "level" and interval else found.verdict
    verdict = f", {said}" if said else ""
    return f"{found.arrow} {found.value}{interval}{verdict}"


def _by_groups(result: Estimates) -> str:
    groups = ", ".join(label_of(name).lower() for name in result.by)
    return _("{name} by {groups}", name=result.name, groups=groups)


def definitions(*results: Estimates) -> Block:
    """Return what each result means: the end of a page. Figures that mean the same share a row."""
    named: dict[str, set[str]] = {}
    for result in results:
        named.setdefault(result.name, set()).add(result.definition)
    names: dict[str, dict[str, None]] = {}
    for result in results:
        # One name that means two things, of all and by groups, says which of the two.
        apart = len(named[result.name]) > 1 and result.by
        name = _by_groups(result) if apart else result.name
        names.setdefault(result.definition, {})[name] = None
    table = BlockTable(
        (Column("name", _("Figure")), Column("definition", _("What it means"))),
        tuple(("; ".join(said), definition) for definition, said in names.items()),
    )
    return Block(kind="notice", table=table)
