"""The command: `python -m crm_analysis.intake MAPPING --out DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from crm_analysis.errors import CrmError, InputError
from crm_analysis.intake import is_current, take_in

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    mapping: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time
        typer.Argument(help="A mapping file: reports/intake/<name>.toml."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The data folder to make (with --all: their parent).")],
    every: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--all", help="A folder of mapping files: take in every one of them."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Make it again, also when nothing changed.")] = False,
) -> None:
    """Take a dealership's own export into a data folder, saying every flaw that was met."""
    try:
        for path, folder in _wanted(mapping, every, out):
            _take_in(path, folder, force=force)
    except CrmError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def _wanted(mapping: Path | None, every: Path | None, out: Path) -> list[tuple[Path, Path]]:
    if (mapping is None) == (every is None):
        raise InputError("Name one mapping file, or a folder of them with --all; not both.")
    if mapping is not None:
        return [(mapping, out)]
    folder = every or Path()
    found = sorted(folder.glob("*.toml"))
    if not found:
        raise InputError(f"There is no mapping file (*.toml) in {folder}. Name another folder.")
    return [(path, out / path.stem) for path in found]


def _take_in(mapping: Path, folder: Path, *, force: bool) -> None:
    if not force and is_current(mapping, folder):
        typer.echo(f"intake: {folder} is up to date")
        return
    take_in(mapping, folder, force=force)
    typer.echo(f"intake: {folder} made from {mapping}")


if __name__ == "__main__":
    app()
