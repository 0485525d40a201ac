"""`m2m keys`: make a CURVE key pair."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from rt_engine.edges.curve_keys import make_key_pair
from tools.commands.options import JsonOption
from tools.console import console, emit_json


def keys(
    name: Annotated[str, typer.Argument(help="Of the key pair: the engine, or the person or computer it is for.")],
    folder: Annotated[
        Path, typer.Option("--folder", "-f", help="Where to write the two files.", file_okay=False)
    ] = Path("keys"),
    as_json: JsonOption = False,
) -> None:
    """Make a CURVE key pair, for an engine that other machines may reach and for each of its clients.

    Writes NAME.key (public, to be given away) and NAME.key_secret (stays where it is, readable by its owner alone).
    Files that are there already are never replaced.
    """
    public, secret = make_key_pair(folder, name)
    console.print(
        f"{escape(str(public))}: public, give it away\n{escape(str(secret))}: secret, keep it to yourself",
        soft_wrap=True,
    )
    if as_json:
        emit_json({"public": str(public), "secret": str(secret)})
