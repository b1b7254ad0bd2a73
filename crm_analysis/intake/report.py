"""What an intake met, as a block of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from crm_analysis.blocks import Block, BlockTable, Column
from crm_analysis.intake.findings import Finding, is_routine, sentence
from crm_analysis.wording import _, number, plural

__all__ = ["intake_report"]


class HasManifest(Protocol):
    """Opened data that knows how it was made: a warehouse."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The data folder's manifest, empty when there is none."""

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader should know of tables that are not there."""


def intake_report(crm: HasManifest) -> Block:
    """Say what was met in the data when they were taken in: flaws, gaps and rows left out.

    Parameters
    ----------
    crm : Warehouse
        Opened data; only its manifest and cautions are read.

    Returns
    -------
    Block
        A notice: where the data come from, every caution, and rows read, kept and left out for
        each table. Data that no intake made say so.
    """
    taken = crm.manifest.get("intake")
    if not isinstance(taken, Mapping):
        return Block(kind="notice", finding=_origin_of(crm.manifest), notes=crm.cautions)
    findings = [Finding(item["code"], item["values"]) for item in taken["findings"]]
    return Block(
        kind="notice",
        finding=_source_sentence(taken),
        notes=(
            *crm.cautions,
            *(sentence(finding) for finding in findings if not is_routine(finding)),
        ),
        table=_table(taken["tables"]),
    )


def _origin_of(manifest: Mapping[str, Any]) -> str:
    if manifest.get("preset"):
        return _(
            "These data were generated (preset {preset}, seed {seed}): nothing in them is real, "
            "and no export had to be mended.",
            preset=manifest["preset"],
            seed=manifest.get("seed"),
        )
    return _("These data were not taken in by this toolkit, so nothing is known of their flaws.")


def _source_sentence(taken: Mapping[str, Any]) -> str:
    rows = sum(source["rows"] for source in taken["sources"].values())
    return _(
        "{title}: {rows} in {files}. Origin: {origin}; licence: {licence}.",
        title=taken["title"],
        rows=plural(rows, "{n} row", "{n} rows"),
        files=plural(len(taken["sources"]), "{n} file", "{n} files"),
        origin=taken["origin"],
        licence=taken["licence"],
    )


def _table(tables: Mapping[str, Mapping[str, Any]]) -> BlockTable:
    columns = (
        Column("table", _("Table")),
        Column("rows_read", _("Rows read"), "integer"),
        Column("rows_left_out", _("Left out"), "integer"),
        Column("rows_kept", _("Rows made"), "integer"),
    )
    rows = tuple(
        (
            name,
            number(table["rows_read"]),
            number(sum(item["rows"] for item in table["left_out"])),
            number(table["rows_kept"]),
        )
        for name, table in tables.items()
    )
    return BlockTable(columns, rows)
