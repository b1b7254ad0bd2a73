"""What was reported: the key figures of every batch, kept so that a later one can look back.

`history.parquet` lies in the batch's folder. Every row is one figure as it was reported once;
rows are only ever added. When the same figure of the same period comes out differently later,
because the data were corrected, that is a new row with a higher `revision`: the first says what
was reported, the last what is known now. No clock is kept: a row says up to which day its data
went (`reported_at`), and a batch is known by its inputs.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from crm_analysis.errors import ReportError
from crm_analysis.files import write_whole

__all__ = ["Chain", "History", "in_one_money", "kind_of"]

FILE = "history.parquet"

_COLUMNS = {
    "batch": "String",
    "report": "String",
    "notebook": "String",
    "settings": "String",
    "dealership": "String",
    "period": "String",
    "as_of": "Date",
    "reported_at": "Date",
    "key": "String",
    "estimate": "Float64",
    "conf_low": "Float64",
    "conf_high": "Float64",
    "count": "Int64",
    "unit": "String",
    "currency": "String",
    "data": "String",
    "code": "String",
    "revision": "Int32",
}
_ADDED = {"currency"}
"""Columns that an older file has not; their values are not known there."""

_FIGURE = ("estimate", "conf_low", "conf_high", "count", "unit", "currency")
_SHOWN = ("key", *_FIGURE, "as_of", "period")
_SAME = (*_FIGURE, "data")
"""What must differ for a figure to be reported anew."""


class Chain(NamedTuple):
    """What makes reports of different days comparable: all but the day and the data.

    `kind` keeps months from being held against quarters; `settings` is the hash of the other
    parameters, so that a figure is never held against one of another definition.
    """

    report: str
    dealership: str | None
    settings: str
    kind: str


Row = dict[str, Any]


@dataclass
class History:
    """The history of a folder: read when it must be, added to, and written whole.

    Attributes
    ----------
    path : Path
    memo : dict
        What earlier questions were answered, kept between batches: while the file is untouched
        the same question needs no reading, and a batch with nothing to do stays quick.
    damaged : str or None
        What became of a file that could not be read.
    """

    path: Path
    memo: dict[str, Any] = field(default_factory=dict)
    damaged: str | None = None
    _rows: list[Row] | None = None
    _last: dict[Chain, dict[str, dict[str, Row]]] = field(default_factory=dict)
    _added: int = 0
    _asked: dict[str, None] = field(default_factory=dict)

    @property
    def trusted(self) -> bool:
        """Whether the memo speaks for the file: nobody touched it, and it has not been read."""
        known = self._rows is None and "stamp" in self.memo
        return known and bool(self.memo["stamp"] == self._stamp())

    @property
    def changed(self) -> bool:
        """Whether there is something to save."""
        return self._added > 0

    def reported(self, chain: Chain, as_of: str | None) -> list[Row]:
        """Return the figures last reported for the newest day before `as_of`.

        Parameters
        ----------
        chain : Chain
        as_of : str or None
            ISO; without a day nothing can be before it.

        Returns
        -------
        list of dict
            `key`, `estimate`, `conf_low`, `conf_high`, `count`, `unit`, `currency`, `as_of`,
            `period`, in the order of keys; empty when there are none.
        """
        if as_of is None:
            return []
        question = json.dumps([*chain, as_of], ensure_ascii=False)
        self._asked[question] = None
        if self.trusted and question in self.memo["answers"]:
            return list(self.memo["answers"][question])
        self._load()
        return self._before(chain, as_of)

    def series(self, chain: Chain) -> dict[str, list[Row]]:
        """Return each key's figures as last reported, by day: what a small line is drawn from."""
        self._load()
        found: dict[str, list[Row]] = {}
        for _day, figures in sorted(self._last.get(chain, {}).items()):
            for key, row in figures.items():
                found.setdefault(key, []).append(row)
        return found

    def add(self, chain: Chain, rows: Iterable[Row]) -> None:
        """Keep figures; one that was reported with the same value from the same data is there."""
        self._load()
        for row in rows:
            figures = self._last.setdefault(chain, {}).setdefault(row["as_of"], {})
            before = figures.get(row["key"])
            if before is not None and all(before[name] == row[name] for name in _SAME):
                continue
            kept = {**row, "revision": 1 if before is None else before["revision"] + 1}
            figures[row["key"]] = kept
            assert self._rows is not None
            self._rows.append(kept)
            self._added += 1

    def save(self) -> None:
        """Write what was added; the memo then answers for the file as it is now.

        Raises
        ------
        OSError
            The file could not be written; it is as it was before.
        """
        if self._added:
            assert self._rows is not None
            added = len(self._rows) - self._added
            # Reports end in another order each time; the file is the same.
            self._rows[added:] = sorted(self._rows[added:], key=_order)
            write_whole(self.path, _to_parquet(self._rows), lasting=True)
            self._added = 0
        if self._rows is not None:
            self.memo["stamp"] = self._stamp()
            self.memo["answers"] = {asked: self._answer(asked) for asked in self._asked}

    def _answer(self, question: str) -> list[Row]:
        *words, as_of = json.loads(question)
        return self._before(Chain(*words), as_of)

    def _before(self, chain: Chain, as_of: str) -> list[Row]:
        days = [day for day in self._last.get(chain, {}) if day < as_of]
        figures = self._last[chain][max(days)] if days else {}
        return [{name: figures[key][name] for name in _SHOWN} for key in sorted(figures)]

    def _load(self) -> None:
        if self._rows is not None:
            return
        self._rows = self._read() if self.path.is_file() else []
        for row in self._rows:
            chain = Chain(row["report"], row["dealership"], row["settings"], kind_of(row["period"]))
            self._last.setdefault(chain, {}).setdefault(row["as_of"], {})[row["key"]] = row

    def _read(self) -> list[Row]:
        import polars as pl

        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ReportError(
                f"What was reported before, {self.path}, cannot be read: {error.strerror}. "
                "Give this account the right to read it, or move it away to begin anew."
            ) from error
        try:
            table = pl.read_parquet(io.BytesIO(data))
            missing = _ADDED - set(table.columns)
            table = table.with_columns(pl.lit(None).alias(name) for name in missing)
            table = table.select(list(_COLUMNS)).cast(_schema())  # type: ignore[arg-type]
            return table.with_columns(pl.col(pl.Date).cast(pl.String)).to_dicts()
        except pl.exceptions.PolarsError as error:
            self._set_aside(data, error)
            return []

    def _set_aside(self, data: bytes, error: Exception) -> None:
        """Keep a damaged file under another name, and say so."""
        digest = hashlib.sha256(data).hexdigest()[:8]
        aside = self.path.with_name(f"{self.path.stem}.damaged-{digest}.parquet")
        self.path.replace(aside)
        reason = str(error).split("\n", maxsplit=1)[0]
        self.damaged = (
            f"What was reported before could not be read ({reason}). The file was kept as "
            f"{aside.name} and a new {self.path.name} begun; put a copy in its place to go on "
            "from there."
        )

    def _stamp(self) -> list[int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]


def in_one_money(row: Mapping[str, Any], currency: str | None) -> bool:
    """Whether a kept figure is in this currency, as far as that is known: else they differ anyway.

    Examples
    --------
    >>> in_one_money({"currency": "USD"}, "RUB"), in_one_money({"currency": None}, "RUB")
    (False, True)
    """
    held = row.get("currency")
    return held is None or currency is None or held == currency


def kind_of(period: str | None) -> str:
    """Say what a period is: month, quarter, year, or a day when the plan speaks of none.

    Examples
    --------
    >>> kind_of("2025-10"), kind_of("2025-Q4"), kind_of("2025"), kind_of(None)
    ('month', 'quarter', 'year', 'day')
    """
    if period is None or re.fullmatch(r"\d{4}-\d{2}-\d{2}", period):
        return "day"
    if re.fullmatch(r"\d{4}", period):
        return "year"
    return "quarter" if "Q" in period else "month"


def figure_rows(figures: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[Row]:
    """Turn a report's key figures into rows of the history.

    Parameters
    ----------
    figures : iterable of mapping
        As in a page's summary; a figure without a `key` cannot be found again, so it is left out.
    facts : mapping
        The other columns but `revision`; `as_of` and `reported_at` as ISO texts.
    """
    return [
        {**facts, "key": figure["key"], **{name: figure.get(name) for name in _FIGURE}}
        for figure in figures
        if figure.get("key")
    ]


def _order(row: Row) -> tuple[str, ...]:
    names = ("report", "dealership", "settings", "period", "as_of", "key")
    return (*(row[name] or "" for name in names), f"{row['revision']:09}")


def _schema() -> dict[str, Any]:
    import polars as pl

    return {name: getattr(pl, kind) for name, kind in _COLUMNS.items()}


def _to_parquet(rows: list[Row]) -> bytes:
    import polars as pl

    schema = _schema()
    days = [name for name, kind in _COLUMNS.items() if kind == "Date"]
    ready = [{**row, **{name: _day(row[name]) for name in days}} for row in rows]
    buffer = io.BytesIO()
    pl.DataFrame(ready, schema=schema).write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
