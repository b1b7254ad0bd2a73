"""The commands: `python -m synthetic generate --preset small --seed 1 --out DIR`."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from crm_analysis.errors import CrmError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="A synthetic network of car dealerships, with the truth that made it.",
)


@app.callback()
def commands() -> None:
    """Keep `generate` a command of its own, so that others can stand beside it."""


def _stop(number: int, _frame: FrameType | None) -> None:
    """Leave through the normal way out when asked to end, so that nothing half-made is left."""
    raise SystemExit(128 + number)


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    preset: Annotated[str, typer.Option(help="World: tiny or small.")] = "small",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.", min=0)] = 1,
    locale: Annotated[str, typer.Option(help="Names, cities, currency: en_US or ru_RU.")] = "en_US",
    force: Annotated[bool, typer.Option(help="Replace what is there, whoever wrote it.")] = False,
) -> None:
    """Generate a network's CRM into a folder of Parquet files."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        from synthetic.writing import write_network

        rows = write_network(
            out, preset=preset, seed=seed, locale=locale, force=force, progress=_say
        )
    except CrmError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(
        f"{out}: {sum(rows.values()):,} rows in {len(rows)} tables (preset {preset}, seed {seed})"
    )


def _say(done: int, total: int) -> None:
    typer.echo(f"  {done:,} of {total:,} customers", err=True)
