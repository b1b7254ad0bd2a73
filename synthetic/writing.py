"""Write a world to a folder: same seed, same bytes, and nothing half-made is left behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from crm_analysis.errors import InputError
from crm_analysis.schema import TABLES
from synthetic.config import Config, find_preset
from synthetic.truth import TRUTH_TABLES
from synthetic.vocabulary import load_vocabulary
from synthetic.world import SCHEMAS, generate

FORMAT = 1
GENERATOR = 1
"""Version of the content: it grows when the same seed gives other data."""

ROW_GROUP = 65_536
MANIFEST = "manifest.json"
TRUTH_FOLDER = "truth"
STAMP = ".checked.json"
"""The mark that the loading door leaves in a folder it has checked."""

_MAKER = "synthetic"
_NOTE = (
    "Invented data of an invented network: no row describes a living person. Locale en_US has "
    "English names and US dollars, so that pages in English show no Cyrillic; ru_RU has Russian "
    "names and roubles. The truth that made the data is in the folder 'truth'."
)


class TableWriter:
    """One Parquet file, written in row groups of a fixed size whatever the parts that arrive.

    Parameters
    ----------
    path : Path
        File to write.
    name : str
        Table, for its schema.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.rows = path, 0
        self._waiting: list[pl.DataFrame] = []
        self._n_waiting = 0
        empty = self._arrow(SCHEMAS[name].create_empty())
        self._writer = pq.ParquetWriter(
            path, empty.schema, compression="zstd", compression_level=1, version="2.6"
        )

    def finish(self) -> None:
        """Write the rows still waiting."""
        self._flush(last=True)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    @staticmethod
    def _arrow(frame: pl.DataFrame) -> pa.Table:
        return frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())

    def add(self, frame: pl.DataFrame) -> None:
        """Take rows, and write every whole row group."""
        self._waiting.append(frame)
        self._n_waiting += frame.height
        self.rows += frame.height
        if self._n_waiting >= ROW_GROUP:
            self._flush(last=False)

    def _flush(self, *, last: bool) -> None:
        if not self._n_waiting:
            return
        whole = pl.concat(self._waiting)
        start = 0
        while whole.height - start >= (1 if last else ROW_GROUP):
            self._writer.write_table(
                self._arrow(whole.slice(start, ROW_GROUP)), row_group_size=ROW_GROUP
            )
            start += ROW_GROUP
        rest = whole.slice(start)
        self._waiting, self._n_waiting = [rest], rest.height


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_of(folder: Path, name: str) -> Path:
    return (folder / TRUTH_FOLDER if name in TRUTH_TABLES else folder) / f"{name}.parquet"


def _facts(config: Config, seed: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "made_by": _MAKER,
        "generator": GENERATOR,
        "preset": config.preset,
        "seed": seed,
        "as_of": config.as_of.isoformat(),
        "starts_on": config.starts_on.isoformat(),
        "locale": config.locale,
        "currency": config.currency,
        "n_customers": config.n_customers,
        "n_dealerships": config.n_dealerships,
        "vocabulary_sha256": load_vocabulary(config.locale).sha256,
        "note": _NOTE,
    }


def _write_manifest(folder: Path, facts: dict[str, Any], rows: dict[str, int]) -> None:
    sums = {
        name: {"rows": count, "sha256": _digest(_file_of(folder, name))}
        for name, count in rows.items()
    }
    for where, names in ((folder, TABLES), (folder / TRUTH_FOLDER, TRUTH_TABLES)):
        text = json.dumps(
            facts | {"tables": {name: sums[name] for name in names}}, indent=2, ensure_ascii=False
        )
        (where / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")


def _fill(
    folder: Path, config: Config, seed: int, progress: Callable[[int, int], None]
) -> dict[str, int]:
    """Write every table into `folder`; return rows by table."""
    (folder / TRUTH_FOLDER).mkdir()
    writers = {name: TableWriter(_file_of(folder, name), name) for name in SCHEMAS}
    try:
        for part, frames in enumerate(generate(config, seed)):
            for name, frame in frames.items():
                writers[name].add(frame)
            if "customers" in frames:
                progress(min(part * config.block_size, config.n_customers), config.n_customers)
        for writer in writers.values():
            writer.finish()
    finally:
        for writer in writers.values():
            writer.close()
    facts = _facts(config, seed)
    rows = {name: writer.rows for name, writer in writers.items()}
    _write_manifest(folder, facts, rows)
    return rows


def is_ours(folder: Path) -> bool:
    """Say whether a folder holds nothing but a data set that this generator wrote."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(facts, dict) or facts.get("made_by") != _MAKER:
        return False
    known = {_file_of(folder, name) for name in SCHEMAS}
    known |= {
        folder / MANIFEST,
        folder / TRUTH_FOLDER / MANIFEST,
        folder / TRUTH_FOLDER,
        folder / STAMP,
    }
    return all(path in known for path in folder.rglob("*"))


def refuse_foreign(out: Path, *, force: bool) -> None:
    """Refuse to replace what is not ours, and, even when forced, a folder we are standing in.

    Raises
    ------
    InputError
        `out` is a file, holds something else, or contains the working folder or the home folder.
    """
    if not out.exists():
        return
    held = [
        folder
        for folder in (Path.cwd(), Path.home())
        if folder.resolve().is_relative_to(out.resolve())
    ]
    if held:
        raise InputError(
            f"The data were to be written to {out}, which contains {held[0]}; replacing it would "
            "delete that. Choose a folder of its own with --out."
        )
    if force or (out.is_dir() and (is_ours(out) or not any(out.iterdir()))):
        return
    found = "is a file" if out.is_file() else "holds something this generator did not write"
    raise InputError(
        f"The data were to be written to {out}, which {found}. Choose another folder with --out, "
        "or add --force to replace it."
    )


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out`, and remove it whatever happens."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(
            f"The data were to be written to {out}, and {out.parent} cannot be written to "
            f"({error.strerror}). Choose another folder with --out."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(made: Path, out: Path, folder: Path) -> None:
    """Put `made` in the place of `out`; what was there goes into the folder to be removed."""
    if out.exists():
        out.replace(folder / "replaced")
    made.replace(out)


def _silent(done: int, total: int) -> None:
    """Say nothing."""


def write_network(
    out: Path | str,
    *,
    preset: str = "small",
    seed: int,
    force: bool = False,
    progress: Callable[[int, int], None] = _silent,
    **changes: Any,
) -> dict[str, int]:
    """Generate a world into a folder of Parquet files, with its truth in a folder inside.

    Parameters
    ----------
    out : Path or str
        The folder to make. It appears whole or not at all.
    preset : str
        ``"tiny"`` or ``"small"``.
    seed : int
        The same seed gives the same bytes.
    force : bool
        Replace what is there even if this generator did not write it.
    progress : callable
        Called with the number of customers done and their total.
    **changes
        Fields of `Config` to change, e.g. ``locale="ru_RU"``.

    Returns
    -------
    dict of str to int
        Rows by table.

    Raises
    ------
    InputError
        Unknown preset or setting; or `out` holds something else, cannot be written to, or the disk
        is full.
    """
    config, place = find_preset(preset, **changes), Path(out)
    refuse_foreign(place, force=force)
    with _beside(place) as folder:
        made = folder / "made"
        made.mkdir()
        try:
            rows = _fill(made, config, seed, progress)
        except OSError as error:
            raise InputError(
                f"The data were being written beside {place}, and the system refused "
                f"({error.strerror or error}). Nothing was left there. Free some space, or choose "
                "another folder with --out."
            ) from error
        _exchange(made, place, folder)
    return rows
