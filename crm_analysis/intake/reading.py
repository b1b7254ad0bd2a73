"""An export's files as they are: text read strictly, hidden gaps found, lookups joined.

Nothing is guessed on the way: a CSV file comes in as text, and what it means is said by the
mapping's columns.
"""

from __future__ import annotations

import csv
from io import BytesIO, StringIO
from pathlib import Path

import polars as pl

from crm_analysis.errors import InputError, listed, near
from crm_analysis.intake.described import Intake, Source
from crm_analysis.intake.findings import Finding
from crm_analysis.intake.joins import MOST_NAMES, joined_with, names_of, unmatched
from crm_analysis.intake.rules import ROW, want_column

__all__ = ["find_file", "read_sources"]


def find_file(source: Source, mapping: Path) -> Path:
    """Return a source's path: beside the mapping file, or below the project's root.

    Raises
    ------
    InputError
        There is no such file, or it is a spreadsheet.
    """
    if source.file.lower().endswith((".xlsx", ".xls", ".ods")):
        raise InputError(
            f"The source {source.name!r} is a spreadsheet ({source.file}). Save the sheet as CSV "
            "(UTF-8) or Parquet: cells of a spreadsheet do not say which are dates."
        )
    places = [mapping.parent, *_roots(mapping)]
    for place in places:
        if (place / source.file).is_file():
            return place / source.file
    folder = places[-1] / Path(source.file).parent
    others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    raise InputError(
        f"The source {source.name!r} is to be read from {source.file}, and there is no such file "
        f"beside {mapping.name} or below the project's root"
        f"{near(Path(source.file).name, others)}. Correct 'file' in [sources.{source.name}]."
    )


def _roots(mapping: Path) -> list[Path]:
    parents = mapping.resolve().parents
    return [folder for folder in parents if (folder / "pyproject.toml").is_file()][:1]


def read_sources(
    intake: Intake, personal: frozenset[tuple[str, str]] = frozenset()
) -> tuple[dict[str, pl.DataFrame], list[Finding]]:
    """Read every source, correct what the mapping says, and join the lookups.

    Parameters
    ----------
    intake : Intake
    personal : set of (source, column)
        Columns whose values may name a living person, and so stay out of findings.

    Returns
    -------
    frames : dict of source name to polars DataFrame
        As in the file, with `rules.ROW`; gaps are null.
    findings : list of Finding
    """
    findings: list[Finding] = []
    frames = {name: _read(source, intake.path) for name, source in intake.sources.items()}
    for name, source in intake.sources.items():
        frame = _corrected(_trimmed(frames[name], source, findings), source, findings)
        _check_key(frame, source)
        if name in {table.source for table in intake.tables.values()}:
            findings += _gaps(frame, source) + _repeats(frame, source)
        frames[name] = frame
    joined = dict(frames)
    for name, source in intake.sources.items():
        for join in source.joins:
            joined[name] = joined_with(joined[name], source, join, intake.sources, frames)
            hidden = (name, join.key) in personal
            findings += unmatched(source, join, intake.sources, frames, hidden=hidden)
    return joined, findings


def _read(source: Source, mapping: Path) -> pl.DataFrame:
    path = find_file(source, mapping)
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, source)
    if ROW in frame.columns:
        raise InputError(f"{source.label} has a column {ROW!r}, a name we use. Rename it.")
    numbers = pl.int_range(2, frame.height + 2, dtype=pl.Int64, eager=True)
    return frame.with_columns(numbers.alias(ROW))


def _read_csv(path: Path, source: Source) -> pl.DataFrame:
    try:
        text = path.read_bytes().decode(source.encoding)
    except LookupError:
        raise InputError(
            f"The source {source.name!r} is said to be in the encoding {source.encoding!r}, which "
            "does not exist. Usual ones are utf-8, utf-8-sig, cp1251, cp1252."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source.label} is not in the encoding {source.encoding!r}: byte {error.start} is "
            f"{error.object[error.start]:#04x}. State its encoding in [sources.{source.name}]: "
            "usual ones are utf-8, cp1251 (Russian Windows), cp1252."
        ) from None
    _check_header(text, source)
    try:
        return pl.read_csv(
            BytesIO(text.removeprefix("\ufeff").encode()),
            separator=source.separator,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"{source.label} cannot be read as a table separated by {source.separator!r}: {error}. "
            f"State separator and encoding in [sources.{source.name}], or mend the file."
        ) from error


def _check_header(text: str, source: Source) -> None:
    if not text.strip():
        raise InputError(f"{source.label} is empty. Export it again, with its header.")
    lines = csv.reader(StringIO(text.removeprefix("\ufeff")), delimiter=source.separator)
    names = [name.strip() for name in next(lines)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            f"{source.label} has more than one column {listed(map(repr, repeated))}: which is "
            "meant cannot be said. Give each its own name in the header."
        )


def _text_columns(frame: pl.DataFrame) -> list[str]:
    return [name for name, dtype in frame.schema.items() if dtype == pl.String]


def _trimmed(frame: pl.DataFrame, source: Source, findings: list[Finding]) -> pl.DataFrame:
    missing = [word.strip().casefold() for word in source.missing]
    for name in _text_columns(frame):
        raw = frame[name]
        clean = raw.str.strip_chars()
        gap = clean.str.to_lowercase().is_in(missing).fill_null(value=False)
        findings += _hidden(raw, gap, frame[ROW], source)
        around = ((raw != clean) & ~gap).sum()
        if around:
            findings.append(
                Finding("blanks", {"file": source.label, "column": name, "rows": int(around)})
            )
        frame = frame.with_columns(clean.set(gap, None).alias(name))
    return frame


def _hidden(raw: pl.Series, gap: pl.Series, rows: pl.Series, source: Source) -> list[Finding]:
    hidden = gap & (raw != "")
    where = hidden.fill_null(value=False).arg_true()
    if not len(where):
        return []
    written = sorted(set(raw.gather(where).to_list()))
    values = {
        "file": source.label,
        "column": raw.name,
        "written": listed(map(repr, written), most=MOST_NAMES),
        "rows": len(where),
        "first": str(rows[int(where[0])]),
    }
    return [Finding("hidden_missing", values)]


def _corrected(frame: pl.DataFrame, source: Source, findings: list[Finding]) -> pl.DataFrame:
    for column, changes in source.corrections.items():
        values = want_column(frame, column, source.label)
        for written, meant in changes.items():
            n = int((values == written).sum())
            if not n:
                raise InputError(
                    f"The mapping corrects {written!r} in {column!r} of {source.label}, and no row "
                    f"has it{near(written, names_of(values))}. Remove or mend the correction."
                )
            findings.append(
                Finding(
                    "corrected",
                    {
                        "file": source.label,
                        "column": column,
                        "written": repr(written),
                        "meant": repr(meant),
                        "rows": n,
                    },
                )
            )
        frame = frame.with_columns(values.replace(dict(changes)).alias(column))
    return frame


def _check_key(frame: pl.DataFrame, source: Source) -> None:
    if not source.key:
        return
    for column in source.key:
        want_column(frame, column, source.label)
    again = frame.filter(~pl.struct(source.key).is_first_distinct())
    if again.height:
        raise InputError(
            f"The key {listed(source.key)} of {source.label} was to name each row once; "
            f"{again.height} of {frame.height} rows repeat one, the first is row "
            f"{again[ROW][0]}. Correct the export, name the columns that tell rows apart, or take "
            "'key' out and leave such rows out of the tables by a rule with is = \"repeated\"."
        )


def _gaps(frame: pl.DataFrame, source: Source) -> list[Finding]:
    counts = [[name, frame[name].null_count()] for name in frame.columns if name != ROW]
    counts = [item for item in counts if item[1]]
    if not counts:
        return []
    values = {"file": source.label, "rows": frame.height, "columns": counts}
    return [Finding("missing_cells", values)]


def _repeats(frame: pl.DataFrame, source: Source) -> list[Finding]:
    columns = [name for name in frame.columns if name != ROW and name not in source.key]
    if not columns or frame.is_empty():
        return []
    again = frame.filter(~pl.struct(columns).is_first_distinct())
    if again.is_empty():
        return []
    values = {"file": source.label, "rows": again.height, "first": str(again[ROW][0])}
    if source.key:
        return [Finding("repeated_but_key", {**values, "key": list(source.key)})]
    return [Finding("repeated", values)]
