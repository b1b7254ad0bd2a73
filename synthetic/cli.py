"""The commands: `python -m synthetic generate --preset small --seed 1 --out DIR`, and its kin."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crm_analysis.errors import CrmError

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "A synthetic network of car dealerships, with the truth that made it.\n\n"
        "generate writes a data set, settings lists what may be changed, dictionary says what each "
        "column means, check and targets hold a data set to its rules and to published figures, "
        "and diff compares two."
    ),
    epilog=(
        "To begin with: python -m synthetic generate --preset tiny --out data/tiny, then "
        "python -m synthetic check data/tiny."
    ),
)

WORLDS = "sbg, bgnbd, paretonbd, regular_visits, weibull_competing_risks, markov_ladder"
POLICIES = "contacts, response, reminders, retention, discount, campaigns"
"""Names for the help, which must not wait for the modules that know them; a test compares them."""

PAIR = "base,treated"
"""The two worlds of a policy."""

FOUND, REFUSED, INTERRUPTED = 1, 2, 130
"""Exit status: something was found wrong or different, the request was refused, Ctrl-C."""

Data = Annotated[Path, typer.Argument(help="Folder of Parquet or CSV files, or a DuckDB file.")]
Preset = Annotated[str, typer.Option(help="Size of the world: tiny, small, medium or large.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a setting, such as relation.hazard=0.1; may be given again. The command "
        "settings lists names, values and ranges.",
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE.toml",
        help="Settings to read first; settings --format toml prints a file to start from.",
    ),
]


def _stop(number: int, _frame: FrameType | None) -> None:
    """Leave through the normal way out when asked to end, so that nothing half-made is left."""
    raise SystemExit(128 + number)


@contextmanager
def _plainly() -> Iterator[None]:
    """Say errors of ours in plain words, and an interruption too."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)
    try:
        yield
    except CrmError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(REFUSED) from error
    except (KeyboardInterrupt, SystemExit) as error:
        status = error.code if isinstance(error, SystemExit) else INTERRUPTED
        typer.echo("Interrupted: nothing half-made was left.", err=True)
        raise typer.Exit(int(status or INTERRUPTED)) from error


def _settings(file: Path | None, words: list[str] | None) -> dict[str, Any]:
    """Return what was asked to be changed: the file first, then the words."""
    from synthetic.settings import parse_settings, read_settings

    return (read_settings(file) if file else {}) | parse_settings(words or [])


_BLOCKS_A_WORKER = 4
"""Blocks of customers below which starting another process costs more than it saves."""


def _usual_workers(n_blocks: int) -> int:
    """Return as many processes as there are cores to run on, and as have enough blocks to make."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, n_blocks // _BLOCKS_A_WORKER))


@app.command()
def generate(
    *,
    out: Annotated[Path, typer.Option(help="Folder, or DuckDB file, to make.")],
    preset: Preset = "small",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.", min=0)] = 1,
    world: Annotated[
        str,
        typer.Option(
            help=f"dealer; base,treated (the same world twice, with --policy); or one in which a "
            f"model is exactly true: {WORLDS}."
        ),
    ] = "dealer",
    policy: Annotated[
        str | None, typer.Option(help=f"Policy of the treated world: {POLICIES}.")
    ] = None,
    locale: Annotated[
        str | None, typer.Option(help="Names, cities, currency: en_US (default) or ru_RU.")
    ] = None,
    defects: Annotated[
        str | None, typer.Option(help="How badly the CRM is kept: none, light, medium or heavy.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--format", help="Files to write: parquet, csv or duckdb.")
    ] = "parquet",
    workers: Annotated[
        int | None,
        typer.Option(help="Processes; for a large world as many as cores when left out.", min=1),
    ] = None,
    settings: SettingsFile = None,
    change: Set = None,
    force: Annotated[bool, typer.Option(help="Replace what is there, whoever wrote it.")] = False,
) -> None:
    """Generate a network's CRM, with its truth, into a folder or a DuckDB file.

    The data set appears whole or not at all: a run that is interrupted, or finds the disk full,
    leaves what was there before.
    """
    with _plainly():
        from synthetic.progress import progress_shown

        asked = _settings(settings, change)
        asked |= {"locale": locale} if locale else {}
        asked |= {"defects": defects} if defects else {}
        what = {"seed": seed, "force": force}
        with progress_shown() as progress:
            if world == "dealer" and policy is None:
                rows = _dealer(
                    out, preset, asked, kind=kind, workers=workers, progress=progress, **what
                )
            elif world in {"dealer", "base,treated"}:
                rows = _pair(
                    out,
                    preset,
                    asked,
                    policy,
                    kind=kind,
                    workers=workers,
                    progress=progress,
                    **what,
                )
            else:
                rows = _closed_form(out, world, asked, kind=kind, progress=progress, **what)
    name = f"world {world}" if world not in {"dealer", "base,treated"} else f"preset {preset}"
    name += f", policy {policy}" if policy else ""
    typer.echo(f"{out}: {sum(rows.values()):,} rows in {len(rows)} tables ({name}, seed {seed})")


def _workers_for(preset: str, asked: dict[str, Any], workers: int | None) -> int:
    """Return the workers asked for, or the usual number for a world of this size."""
    from synthetic.config import find_preset
    from synthetic.settings import with_settings

    config = with_settings(find_preset(preset), asked)
    return workers or _usual_workers(-(-config.n_customers // config.block_size))


def _dealer(
    out: Path, preset: str, asked: dict[str, Any], *, workers: int | None, **rest: Any
) -> dict[str, int]:
    from synthetic.writing import write_network

    workers = _workers_for(preset, asked, workers)
    return write_network(out, preset=preset, settings=asked, workers=workers, **rest)


def _pair(
    out: Path,
    preset: str,
    asked: dict[str, Any],
    policy: str | None,
    *,
    kind: str,
    workers: int | None,
    **rest: Any,
) -> dict[str, int]:
    """Write the same world without and with a policy."""
    from crm_analysis.errors import InputError
    from synthetic.policies import POLICIES, write_worlds

    if policy is None or kind != "parquet":
        raise InputError(
            f"The worlds base and treated were asked for, with policy {policy} and format {kind}. "
            f"Give --policy one of {', '.join(POLICIES)}, and leave --format out: they are parquet."
        )
    workers = _workers_for(preset, asked, workers)
    return write_worlds(out, policy=policy, preset=preset, settings=asked, workers=workers, **rest)


def _closed_form(out: Path, world: str, asked: dict[str, Any], **rest: Any) -> dict[str, int]:
    from synthetic.closed_form import write_closed_form

    count = {"n_customers": asked.pop("n_customers")} if "n_customers" in asked else {}
    return write_closed_form(out, world, settings=asked, **count, **rest)


@app.command("settings")
def show_settings(
    preset: Preset = "small",
    world: Annotated[
        str, typer.Option(help=f"dealer, or one in which a model is exactly true: {WORLDS}.")
    ] = "dealer",
    settings: SettingsFile = None,
    change: Set = None,
    form: Annotated[
        str, typer.Option("--format", help="table, or toml (a file for --settings).")
    ] = "table",
) -> None:
    """Print every setting of a world: value, range, meaning, source and confidence."""
    with _plainly():
        from crm_analysis.errors import InputError
        from synthetic.settings import rows_toml

        rows = _rows_of(world, preset, _settings(settings, change))
        if form == "toml":
            typer.echo(rows_toml(rows), nl=False)
            return
        if form != "table":
            raise InputError(
                f"Format {form!r} was asked for; there are table and toml. Choose one of these."
            )
        heads = ("name", "value", "unit", "range", "meaning", "source", "confidence")
        title = f"Settings of preset {preset}" if world == "dealer" else f"Settings of {world}"
        _print(title, heads, [[row[head] for head in heads] for row in rows])


def _rows_of(world: str, preset: str, asked: dict[str, Any]) -> list[dict[str, str]]:
    """Return the settings of the dealer world, or of a closed-form one."""
    if world != "dealer":
        from synthetic.closed_form.worlds import parameter_rows

        return parameter_rows(world, asked)
    from synthetic.config import find_preset
    from synthetic.settings import settings_rows, with_settings

    return settings_rows(with_settings(find_preset(preset), asked))


@app.command()
def check(
    data: Data,
    as_is: Annotated[
        bool, typer.Option(help="Check defects too, instead of taking their labels off first.")
    ] = False,
) -> None:
    """Check the integrity of a data set of ours; exit status 1 when a rule is broken."""
    with _plainly():
        from synthetic.check import check_data
        from synthetic.reading import open_data

        report = check_data(open_data(data), as_is=as_is)
    for problem in report.problems:
        typer.echo(f"- {problem}")
    for rule in report.skipped:
        typer.echo(f"  not looked at, a table is missing: {rule}")
    typer.echo(f"{data}: {report}")
    if report.problems:
        raise typer.Exit(FOUND)


@app.command()
def targets(
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="Folder for targets.md, .csv, .svg and .html.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--targets", help="Another calibration file (CSV).")
    ] = None,
    only_off: Annotated[bool, typer.Option(help="Print only what is off.")] = False,
) -> None:
    """Hold a data set against the calibration targets; exit status 1 when one is off."""
    with _plainly():
        from synthetic.reading import open_data
        from synthetic.targets import hold, read_targets, summary, write_targets

        wanted = read_targets(_read(file)) if file else None
        held = hold(open_data(data), wanted)
        made = write_targets(held, out, f"Targets: {data}") if out else []
    _print_targets([one for one in held if one.verdict == "off" or not only_off])
    for one in held:
        if one.verdict == "off" and one.target.note:
            typer.echo(f"- {one.target.metric} {one.target.stratum}: {one.target.note}")
    typer.echo(f"{data}: {summary(held)}")
    for path in made:
        typer.echo(f"  {path}")
    if any(one.verdict == "off" for one in held):
        raise typer.Exit(FOUND)


def _read(path: Path) -> str:
    from crm_analysis.errors import InputError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The targets {path} were asked for, and the file cannot be read ({error}). Check the "
            "path, or leave --targets out for the packaged ones."
        ) from error


def _print_targets(held: list[Any]) -> None:
    from synthetic.targets import shown

    heads = ("metric", "stratum", "target", "±", "observed", "s.e.", "verdict", "source")
    rows = [
        [
            one.target.metric, one.target.stratum, shown(one.target.value),
            shown(one.target.tolerance), shown(one.seen.value if one.seen else None),
            shown(one.seen.std_error if one.seen else None), one.verdict,
            f"{one.target.source} ({one.target.confidence})",
        ]
        for one in held
    ]  # fmt: skip
    _print("Observed against target", heads, rows, right=("target", "±", "observed", "s.e."))


@app.command()
def dictionary(
    lang: Annotated[str, typer.Option(help="Language: en or ru.")] = "en",
    out: Annotated[
        Path | None, typer.Option(help="File to write: .md or .html; printed when left out.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
) -> None:
    """Write the data dictionary: what every column of every table means, and who reads it."""
    with _plainly():
        from synthetic.dictionary import dictionary as written

        html = out is not None and out.suffix.lower() in {".html", ".htm"}
        text = written(lang, "html" if html else "markdown")
        if out is None:
            typer.echo(text, nl=False)
            return
        _write(out, text, force=force)
    typer.echo(out)


def _write(out: Path, text: str, *, force: bool) -> None:
    from crm_analysis.errors import InputError

    if out.exists() and not force:
        raise InputError(
            f"The text was to be written to {out}, which exists. Choose another name with --out, "
            "or add --force to replace it."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(
            f"The text was to be written to {out}, and the system refused ({error.strerror}). "
            "Choose another name with --out."
        ) from error


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(help="One data set.")],
    b: Annotated[Path, typer.Argument(help="The other one.")],
) -> None:
    """Say what differs between two data sets; exit status 1 when anything does."""
    with _plainly():
        from synthetic.diff import compare
        from synthetic.reading import open_data

        found = compare(open_data(a), open_data(b))
    typer.echo(f"A = {a}\nB = {b}")
    for difference in found:
        typer.echo(f"- {difference}")
    tables = {difference.table for difference in found} - {"manifest"}
    typer.echo(f"{len(tables)} tables differ" if tables else "the tables are the same")
    if found:
        raise typer.Exit(FOUND)


@app.command()
def fingerprint(
    preset: Preset = "tiny",
    seed: Annotated[int, typer.Option(help="The seed.", min=0)] = 1,
    out: Annotated[
        Path | None, typer.Option(help="JSON file of marks to refresh; printed when left out.")
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Store other content under the same generator version.")
    ] = False,
) -> None:
    """Print or store a mark of each table's content, to see whether a world has changed."""
    with _plainly():
        from synthetic.fingerprint import marks, store_marks
        from synthetic.world import make_network
        from synthetic.writing import GENERATOR

        made = make_network(preset=preset, seed=seed)
        found = marks({**made.tables, **made.truth})
        facts = {"generator": GENERATOR, "preset": preset, "seed": seed, "tables": found}
        if out is None:
            for name, mark in found.items():
                typer.echo(f"{mark}  {name}")
            return
        changed = store_marks(out, facts, force=force)
    typer.echo(f"{out}: {len(found)} marks, new or changed: {', '.join(changed) or 'none'}")


def _print(
    title: str, heads: tuple[str, ...], rows: list[list[str]], *, right: tuple[str, ...] = ()
) -> None:
    """Print a table; a pipe or a log gets it wide, a terminal as wide as it is."""
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table: Table = _table(title)
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", overflow="fold")
    for row in rows:
        style = "bold red" if "off" in row else ""
        table.add_row(*(escape(cell) for cell in row), style=style)
    console.print(table)


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, box=box.SIMPLE, title_justify="left")
