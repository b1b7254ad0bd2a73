"""Hold a data set against the calibration targets: what was aimed at, what is there, what is off.

The targets lie in ``targets.csv`` beside this file: metric, stratum, value, tolerance, unit,
source, confidence, and the currency they apply to. A target is off when the difference exceeds its
tolerance by more than two standard errors, so that a small world is not blamed for chance.
"""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from crm_analysis.errors import InputError
from synthetic.measures import Seen, World
from synthetic.observed import METRICS
from synthetic.reading import DataSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANCE = 2.0
"""Standard errors past the tolerance that chance is allowed."""

VERDICTS = ("within", "off", "not there")


@dataclass(frozen=True)
class Target:
    """One line of the calibration file."""

    metric: str
    stratum: str
    value: float
    tolerance: float
    unit: str
    source: str
    confidence: str
    currency: str = ""
    note: str = ""


@dataclass(frozen=True)
class Held:
    """A target beside what was observed; `seen` is None where the data cannot show it."""

    target: Target
    seen: Seen | None

    @property
    def miss(self) -> float:
        """Return the difference in tolerances, NaN where nothing was observed."""
        if self.seen is None:
            return math.nan
        return (self.seen.value - self.target.value) / self.target.tolerance

    @property
    def verdict(self) -> str:
        """Return one of `VERDICTS`."""
        if self.seen is None:
            return "not there"
        allowed = self.target.tolerance + CHANCE * self.seen.std_error
        return "off" if abs(self.seen.value - self.target.value) > allowed else "within"


def read_targets(text: str | None = None) -> list[Target]:
    """Read the calibration file, or another one's text.

    Parameters
    ----------
    text : str, optional
        A CSV with the columns of `Target`; the packaged file when left out.

    Raises
    ------
    InputError
        A line lacks a column, names no known metric, or has a tolerance that is not positive.
    """
    if text is None:
        text = files("synthetic").joinpath("targets.csv").read_text(encoding="utf-8")
    return [_target(row) for row in csv.DictReader(io.StringIO(text))]


def _target(row: Mapping[str, str]) -> Target:
    try:
        made = Target(
            metric=row["metric"],
            stratum=row["stratum"],
            value=float(row["value"]),
            tolerance=float(row["tolerance"]),
            unit=row["unit"],
            source=row["source"],
            confidence=row["confidence"],
            currency=row.get("currency") or "",
            note=row.get("note") or "",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"A target was read from {dict(row)}, and {error!s} is missing or not a number. Give "
            "every line metric, stratum, value, tolerance, unit, source and confidence."
        ) from error
    if made.metric not in METRICS or not made.tolerance > 0:
        raise InputError(
            f"Target {made.metric!r} with tolerance {made.tolerance:g} was read. The metrics are "
            f"{', '.join(METRICS)}, and a tolerance is greater than zero. Correct the file."
        )
    return made


def _world(data: DataSet) -> World:
    if "as_of" in data.facts:
        day = date.fromisoformat(str(data.facts["as_of"]))
    else:
        last = data.tables["traffic"].select(pl.col("happened_at").max().dt.date())
        day = last.collect().item()
    currency, level = (str(data.facts.get(name, "")) for name in ("currency", "defects"))
    return World(data.everything, day, currency, level)


def hold(data: DataSet, targets: Iterable[Target] | None = None) -> list[Held]:
    """Hold a data set against targets.

    Parameters
    ----------
    data : DataSet
        An open data set of ours.
    targets : iterable of Target, optional
        The packaged ones when left out. Targets of another currency are left out.

    Returns
    -------
    list of Held
        In the order of the targets.
    """
    world = _world(data)
    chosen = [
        target
        for target in (read_targets() if targets is None else targets)
        if not target.currency or target.currency == world.currency
    ]
    seen: dict[tuple[str, str], Seen] = {}
    for metric in dict.fromkeys(target.metric for target in chosen):
        measure, needs = METRICS[metric]
        if set(needs) <= set(world.tables):
            wanted = {one.stratum: one.value for one in chosen if one.metric == metric}
            seen |= {(metric, found.stratum): found for found in measure(world, wanted)}
    return [Held(target, seen.get((target.metric, target.stratum))) for target in chosen]


def as_table(held: Iterable[Held]) -> pl.DataFrame:
    """Return targets and what was observed as a table.

    Returns
    -------
    polars.DataFrame
        metric, stratum, target, tolerance, observed, std_error, n, verdict, unit, source,
        confidence, note; observed is null where the data cannot show it.
    """
    rows = [
        {
            "metric": one.target.metric,
            "stratum": one.target.stratum,
            "target": one.target.value,
            "tolerance": one.target.tolerance,
            "observed": one.seen.value if one.seen else None,
            "std_error": one.seen.std_error if one.seen else None,
            "n": one.seen.n if one.seen else None,
            "verdict": one.verdict,
            "unit": one.target.unit,
            "source": one.target.source,
            "confidence": one.target.confidence,
            "note": one.target.note,
        }
        for one in held
    ]
    return pl.DataFrame(rows, schema=_COLUMNS)


_COLUMNS: dict[str, pl.DataType] = {
    "metric": pl.String(),
    "stratum": pl.String(),
    "target": pl.Float64(),
    "tolerance": pl.Float64(),
    "observed": pl.Float64(),
    "std_error": pl.Float64(),
    "n": pl.Int64(),
    "verdict": pl.String(),
    "unit": pl.String(),
    "source": pl.String(),
    "confidence": pl.String(),
    "note": pl.String(),
}


def shown(value: float | None) -> str:
    """Write a number as briefly as its size allows.

    Examples
    --------
    >>> shown(17502.4), shown(0.4567), shown(None)
    ('17,502', '0.457', '-')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def summary(held: Iterable[Held]) -> str:
    """Say how many targets are met, missed and not to be seen."""
    verdicts = [one.verdict for one in held]
    counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    return (
        f"{counts['within']} of {len(verdicts)} targets within tolerance, {counts['off']} off, "
        f"{counts['not there']} not to be seen in these data"
    )


def as_markdown(held: list[Held], title: str) -> str:
    """Write the comparison as a Markdown page."""
    lines = [f"# {title}", "", f"{summary(held)}.", "", *_HEAD]
    for one in held:
        seen, target = one.seen, one.target
        mark = f"**{one.verdict}**" if one.verdict == "off" else one.verdict
        values = (
            target.metric, target.stratum, shown(target.value), shown(target.tolerance),
            shown(seen.value if seen else None), shown(seen.std_error if seen else None), mark,
            target.unit, f"{target.source} ({target.confidence})", target.note,
        )  # fmt: skip
        lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


_HEAD = (
    "| metric | stratum | target | ± | observed | s.e. | verdict | unit | source | note |",
    "|---|---|--:|--:|--:|--:|---|---|---|---|",
)

_COLOURS = {"within": "#0072B2", "off": "#D55E00"}
"""Okabe-Ito blue and vermilion: told apart without colour vision, and by their shape."""


def draw(held: Iterable[Held], ax: Axes | None = None) -> Axes:
    """Draw each observed value in units of its tolerance: the target is 0, the band is ±1.

    Parameters
    ----------
    held : iterable of Held
        What `hold` returned; targets not observed are left out.
    ax : matplotlib Axes, optional
        Where to draw; a fresh one when left out.

    Returns
    -------
    matplotlib Axes
    """
    there = [one for one in held if one.seen is not None][::-1]
    ax = ax if ax is not None else _axes(len(there))
    ax.axvspan(-1, 1, color="0.92", zorder=0)
    ax.axvline(0, color="0.5", linewidth=0.8, zorder=1)
    for verdict, colour in _COLOURS.items():
        at = [place for place, one in enumerate(there) if one.verdict == verdict]
        miss = [max(-_EDGE, min(_EDGE, there[place].miss)) for place in at]
        error = [_in_tolerances(there[place]) for place in at]
        shape = "o" if verdict == "within" else "D"
        ax.errorbar(
            miss, at, xerr=error, fmt=shape, color=colour, markersize=4, linewidth=1, label=verdict
        )
    names = [f"{one.target.metric}: {one.target.stratum}" for one in there]
    ax.set_yticks(range(len(there)), names, fontsize=7)
    ax.set_ylim(-1, len(there))
    ax.set_xlim(-_EDGE - 0.3, _EDGE + 0.3)
    ax.set_xlabel("observed less target, in tolerances (cut at four)")
    ax.legend(loc="lower right", fontsize=7, frameon=False)
    return ax


_EDGE = 4.0


def _in_tolerances(one: Held) -> float:
    return CHANCE * one.seen.std_error / one.target.tolerance if one.seen else 0.0


def _axes(n: int) -> Axes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.16 * n), layout="constrained")
    return figure.subplots()


def as_svg(held: Iterable[Held]) -> str:
    """Return the figure as SVG, the same text each time."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "targets", "svg.fonttype": "none"}):
        ax = draw(held)
        figure = ax.get_figure(root=True)
        if figure is None:
            return ""
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def write_targets(held: list[Held], out: Path, title: str) -> list[Path]:
    """Write the comparison as Markdown, CSV, SVG, and one HTML page with figure and table."""
    out.mkdir(parents=True, exist_ok=True)
    figure = as_svg(held)
    texts = {
        "targets.md": as_markdown(held, title),
        "targets.csv": as_table(held).write_csv(),
        "targets.svg": figure,
        "targets.html": _page(held, title, figure),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    return [out / name for name in texts]


def _page(held: list[Held], title: str, figure: str) -> str:
    svg = figure[figure.index("<svg") :]
    rows = []
    for one in held:
        seen, target = one.seen, one.target
        values = (
            target.metric, target.stratum, shown(target.value), shown(target.tolerance),
            shown(seen.value if seen else None), one.verdict, target.unit,
            f"{target.source} ({target.confidence})", target.note,
        )  # fmt: skip
        cells = "".join(f"<td>{html.escape(value)}</td>" for value in values)
        rows.append(f"<tr class='{one.verdict.replace(' ', '-')}'>{cells}</tr>")
    heads = "metric stratum target ± observed verdict unit source note".split()
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}"
        f"</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        f"<p>{html.escape(summary(held))}.</p>{svg}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</body></html>\n"
    )


_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "svg{max-width:100%;height:auto}table{border-collapse:collapse;font-size:13px}"
    "td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left}"
    ".off td{font-weight:600;background:#fbe9e1}.not-there td{color:#777}"
)
