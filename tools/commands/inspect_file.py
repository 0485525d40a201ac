"""`m2m inspect`: what a file holds, as a table for people or JSON for machines."""

from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tools.console import console, emit_json
from tools.inspection import Inspection, inspect_path

MOST_COLUMNS = 6
"""A table with more does not fit a terminal: its rows are shown one below the other."""

MOST_CHARACTERS = 200
"""A longer text is cut for people; the JSON has all of it."""


def inspect_file(
    path: Annotated[
        Path, typer.Argument(help="A subject, data set, model, recording, settings file or session folder.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, as the last line.")] = False,
) -> None:
    """Say what a file of the project, an XDF recording or a session folder holds.

    What it is is told by its content, not by its name. Reading it checks it: a damaged file, or one of a newer version,
    is an error.
    """
    found = inspect_path(path)
    _print(found)
    if as_json:
        emit_json(found.as_json())


def _print(found: Inspection) -> None:
    console.print(f"[bold]{escape(str(found.path))}[/]: {found.kind}", soft_wrap=True)
    # What is nested deeper stands in a table, or is for machines. Notices are licences: shown whole, below.
    facts = {name: value for name, value in found.facts.items() if not _deep(value) and name != "notices"}
    console.print(_facts(facts))
    if found.facts.get("notices"):
        console.print(f"\n[bold]notices[/]\n{escape(str(found.facts['notices']))}")
    for name, rows in found.tables.items():
        if rows and len(rows[0]) > MOST_COLUMNS:
            for row in rows:
                console.print(f"\n[bold]{escape(str(next(iter(row.values()))))}[/]")
                console.print(_facts(dict(list(row.items())[1:])))
        elif rows:
            console.print(_table(name, rows))


def _deep(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(item, dict) for item in value.values())


def _table(name: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=name, title_justify="left")
    for column, value in rows[0].items():
        table.add_column(column.replace("_", " "), justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        table.add_row(*(escape(_text(value)) for value in row.values()))
    return table


def _facts(facts: dict[str, Any]) -> Table:
    listed = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    listed.add_column(style="cyan", no_wrap=True)
    listed.add_column(overflow="fold")
    for name, value in facts.items():
        listed.add_row(name.replace("_", " "), escape(_text(value)))
    return listed


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return "\n\n".join(map(_text, value))
        texts = list(map(_text, value))
        if value and all(isinstance(item, str) for item in value):
            texts = _runs(texts)
        return ", ".join(texts) if any(item != "" for item in value) else "-"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
    text = str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ... ({len(text)} characters)"


def _runs(items: list[str]) -> list[str]:
    """Say what stands several times in a row once: the units of 15 muscles are one word."""
    runs = [(item, len(list(group))) for item, group in groupby(items)]
    return [item if n == 1 else f"{n} x {item}" for item, n in runs]
