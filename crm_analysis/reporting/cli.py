"""The commands: `crm-report run`, `batch`, `list`, `new`, `lab` and `messages`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from crm_analysis.errors import CrmError, ReportError
from crm_analysis.reporting.batch import Batch, open_batch, single_batch
from crm_analysis.reporting.making import make_batch
from crm_analysis.reporting.parameters import Parameter, parse_values, read_parameters
from crm_analysis.reporting.places import find_notebook, find_root, notebook_names
from crm_analysis.reporting.plan import check_formats, check_timeout
from crm_analysis.reporting.records import STATUSES, manifest
from crm_analysis.reporting.single import single_run

__all__ = ["app", "commands"]

REFUSED = 120
"""Exit status when nothing was run because the order itself cannot be carried out.

Beyond every number of failed reports (at most 100), so that a scheduler can tell them apart.
"""

INTERRUPTED = 130
"""Exit status of what was interrupted, as shells have it."""


class _Commands(TyperGroup):
    """Ends with `REFUSED` where the words are not understood: typer's 2 says two reports failed."""

    def make_context(self, *words: Any, **options: Any) -> Any:
        with _refusing():
            return super().make_context(*words, **options)

    def invoke(self, ctx: Any) -> Any:
        with _refusing():
            return super().invoke(ctx)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:  # before there was a batch to end in order
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if hasattr(error, "exit_code"):
            error.exit_code = REFUSED
        raise


commands = typer.Typer(
    cls=_Commands,
    help="Make reports from notebooks: executed by papermill, written as pages.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


@commands.command("run")
def run_one(
    notebook: Annotated[str, typer.Argument(help="A notebook's name (retention) or its path.")],
    parameters: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="Set a parameter."),
    ] = None,
    lang: Annotated[str | None, typer.Option(help="Language of the page: en or ru.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="html (default) or pdf; repeat it for both."),
    ] = None,
    show_code: Annotated[bool, typer.Option("--show-code", help="Show the code too.")] = False,
    isolate: Annotated[bool, typer.Option("--isolate", help="Use a kernel of its own.")] = False,
    timeout: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 600.0,
) -> None:
    """Make one report and print where its page is."""
    root = find_root(Path.cwd())
    path = find_notebook(notebook, root=root)
    check_timeout(timeout, f"The report {path.stem!r}")
    inputs = read_parameters(path)
    run = single_run(
        path,
        inputs,
        parse_values(inputs, parameters or [], notebook=path.stem),
        lang=lang,
        root=root,
        timeout_seconds=timeout,
        show_code=show_code,
    )
    if formats:
        check_formats(formats, f"The report {run.name!r}")
        run = replace(run, formats=tuple(dict.fromkeys(formats)))
    folder = out if out is not None else root / "reports" / "out" / "single"
    batch = single_batch(run, root=root, out=folder.resolve())
    batch.check()
    with _ending_in_order(), _err.status(f"Making {escape(run.name)} …"):
        make_batch(batch, workers=1, isolate=isolate, keep=False)
    _tell_single(batch)
    raise typer.Exit(batch.exit_status)


@commands.command("batch")
def run_batch(
    plan: Annotated[Path, typer.Argument(help="A plan, such as reports/demo.toml.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Reports made side by side (default: cores).")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[/DEALERSHIP[/PERIOD]]", help="Make these only; * is any."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make every report again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the reports and make none.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the list or the summary as JSON.")
    ] = False,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Use a new kernel for every report.")
    ] = False,
) -> None:
    """Make the reports of a plan; those that are there already and unchanged are left alone."""
    from crm_analysis.reporting.terminal import (
        list_runs,
        make_with_progress,
        runs_document,
        tell,
    )

    batch = open_batch(plan, force=force, only=only or ())
    if dry_run:
        _print_json(runs_document(batch)) if as_json else list_runs(batch, _out)
        return
    with _ending_in_order():
        if batch.unfinished:
            make_with_progress(batch, workers, _err, isolate=isolate)
        else:
            make_batch(batch)
    _print_json(_summary(batch)) if as_json else tell(batch, _out)
    raise typer.Exit(batch.exit_status)


@commands.command("list")
def list_notebooks() -> None:
    """List the notebooks and what each may be asked: name, type, default, help."""
    root = find_root(Path.cwd())
    names = notebook_names(root)
    if not names:
        raise ReportError(
            f"There are no notebooks in {root}/notebooks. Run this in the project's folder."
        )
    for name in names:
        path = find_notebook(name, root=root)
        _out.print(f"[bold]{escape(name)}[/]  {escape(path.relative_to(root).as_posix())}")
        _out.print(_parameters_table(read_parameters(path)))


@commands.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the notebook to make: price_lists.")],
    like: Annotated[str, typer.Option("--from", help="The notebook to copy.")] = "retention",
    title: Annotated[str | None, typer.Option(help="The question that it answers.")] = None,
    for_students: Annotated[
        bool, typer.Option("--for-students", help="Copy a lesson without its solutions.")
    ] = False,
) -> None:
    """Copy a notebook to start from: own ids, no outputs, a title."""
    from crm_analysis.reporting.desk import new_notebook

    root = find_root(Path.cwd())
    path = new_notebook(name, like=like, title=title, root=root, for_students=for_students)
    _out.print(escape(str(path)), soft_wrap=True)
    if for_students:
        return
    _out.print(
        f"Next: crm-report lab {name}; crm-report run {name}; add it to a plan in reports/, and "
        "put its words into Russian with crm-report messages."
    )


@commands.command(
    "lab", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def lab(
    context: typer.Context,
    notebook: Annotated[
        str | None, typer.Argument(help="A notebook's name (retention) or its path.")
    ] = None,
) -> None:
    """Open JupyterLab in the project's folder; options go to JupyterLab (--no-browser)."""
    from crm_analysis.reporting.desk import open_lab

    raise typer.Exit(open_lab(notebook, root=find_root(Path.cwd()), options=context.args))


@commands.command("messages")
def write_messages(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; say what is not translated.")
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Delete translations of what is said no longer.")
    ] = False,
) -> None:
    """Bring the catalogues of reports/locale up to the sources; no translation is lost."""
    from crm_analysis.reporting.messages import catalogues, flaws, refreshed

    root = find_root(Path.cwd())
    wrong = False
    for lang, path in catalogues(root).items():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(refreshed(root, lang, drop=drop), encoding="utf-8", newline="\n")
        found = flaws(root, lang)
        wrong = wrong or bool(found)
        for flaw in found:
            _out.print(escape(flaw), soft_wrap=True)
        _out.print(f"{escape(str(path))}: {len(found) or 'nothing'} to do.", soft_wrap=True)
    raise typer.Exit(int(wrong and check))


def app() -> None:
    """Run the command line; errors of ours are told in words, without a trace."""
    try:
        plan = _plan_alone(sys.argv[1:])
        if plan is None:
            commands()
        else:
            run_batch(plan)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except CrmError as error:
        _err.print(f"[bold red]Refused.[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(REFUSED)


def _plan_alone(words: Sequence[str]) -> Path | None:
    """Return the plan of a command that says nothing else, as a scheduler's every few minutes.

    typer reads the words by pydantic, whose import takes as long as finding that nothing changed.
    """
    if len(words) == 2 and words[0] == "batch" and words[1] and not words[1].startswith("-"):
        return Path(words[1])
    return None


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let Ctrl-C and a scheduler's SIGTERM end a batch once; a second one finds it ending."""

    def interrupt(_signal: int, _frame: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def _summary(batch: Batch) -> dict[str, Any]:
    """Return how a batch went, without the results of reports that went well."""
    whole = manifest(batch, running=False)
    failed = [
        {"path": o.run.path, **(o.result.get("failure") or {})}
        for o in batch.outcomes
        if o.status == "failed"
    ]
    names = ("title", "plan", "batch", *STATUSES, "interrupted", "stopped", "notes", "exit_status")
    return {
        **{name: whole[name] for name in names},
        "seconds": whole["seconds"],
        "index": str(batch.out / "index.html"),
        "failures": failed,
    }


def _tell_single(batch: Batch) -> None:
    from crm_analysis.reporting.terminal import reason

    outcome = batch.outcomes[0]
    if outcome.status == "failed":
        _err.print(f"[bold red]Failed.[/] {escape(reason(outcome))}", soft_wrap=True)
    if batch.interrupted:
        _err.print("Interrupted; no page was made.")
    for path in dict.fromkeys((*outcome.run.paths.values(), outcome.run.path)):
        page = batch.out / path
        if page.is_file() and not batch.interrupted:
            _out.print(escape(str(page)), soft_wrap=True)


def _parameters_table(parameters: tuple[Parameter, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("  parameter", "takes", "default", "help"):
        table.add_column(heading, overflow="fold")
    for item in parameters:
        default = "" if item.kind == "computed" else repr(item.default)
        row = (f"  {item.name}", item.expects, default, item.help)
        table.add_row(*(escape(text) for text in row))
    return table
