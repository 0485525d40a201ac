"""`m2m session`: what a session left behind, checked, listed, closed."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from tools.commands.options import JsonOption, ModelOption
from tools.console import console, emit_json
from tools.session_check import SessionCheck, check_session
from tools.session_folder import list_trials
from tools.trials_closing import close_trials

app = typer.Typer(no_args_is_help=True, help="What a session left behind: check it, list its trials, close its file.")

FolderArgument = Annotated[Path, typer.Argument(help="The session's folder.")]


@app.command()
def verify(folder: FolderArgument, model: ModelOption = None, as_json: JsonOption = False) -> None:
    """Check a session's folder end to end: XDF file against trials.h5 against a fresh replay, to the bit.

    Nothing is changed. Ends with 1 if something is missing, differs or is damaged; all that can be read is told.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"checking {folder.name}", total=1.0)
        check = check_session(folder, model, lambda done: progress.update(task, completed=done))
    _print(check)
    if as_json:
        emit_json(msgspec.to_builtins(check, enc_hook=str) | {"ok": check.ok})
    if not check.ok:
        raise typer.Exit(1)


@app.command()
def show(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """List the trials of a session, also of one that was killed or is running."""
    session, rows = list_trials(folder)
    table = Table(title=f"session {escape(session)}", title_justify="left", box=None)
    for column in ("pulse", "s", "uV", "muscle", "CoG, mm", "%MSO", "remarks"):
        table.add_column(column, justify="left" if column in ("muscle", "remarks") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, _cells(row)))
    console.print(table)
    if as_json:
        emit_json({"session": session, "trials": rows})


@app.command()
def close(folder: FolderArgument) -> None:
    """Close the trials.h5 of a session that was killed, so that programs without SWMR mode can open it.

    Half a trial at its end, the one in flight, is taken out. A damaged file is refused.
    """
    n, was_closed = close_trials(folder)
    word = "was closed already" if was_closed else "is closed now"
    console.print(f"{folder / 'trials.h5'} {word}; it holds {n} trials", soft_wrap=True)


def _cells(row: dict[str, Any]) -> list[str]:
    remarks = [*row["reasons"], *(row["confidence_reasons"] if row["valid"] else [])]
    remarks += [] if row["pose_tracked"] else ["coil not tracked"]
    remarks += ["marked"] if row["marked"] else []
    return [
        str(row["pulse"]),
        _number(row["s"], 2),
        _number(row["largest_uv"], 0),
        row["muscle"],
        "" if row["cog_mm"] is None else " ".join(f"{value:.1f}" for value in row["cog_mm"]),
        _number(row["intensity_percent_mso"], 0),
        ", ".join(remarks),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _print(check: SessionCheck) -> None:
    console.print(f"Session {escape(check.session or '-')}, {escape(check.ended)}", soft_wrap=True)
    console.print(
        f"{check.pulses} pulses; {check.stored} trials stored, {check.identical} of them identical to a fresh replay, "
        f"to the bit; {check.missing} missing",
        soft_wrap=True,
    )
    for note in check.notes:
        console.print(escape(note), soft_wrap=True)
    for problem in check.problems:
        console.print(f"[bold red]{escape(problem)}[/]", soft_wrap=True)
    if check.ok:
        console.print("[green]All that is there is whole, and agrees.[/]")
