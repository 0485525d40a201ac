"""`m2m control`: give a command to a running session."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from rt_engine.control_messages import (
    Calibrate,
    Command,
    Mark,
    Reply,
    SwapModel,
    Unmark,
    command_name,
    encode_control,
    parse_request,
)
from rt_engine.edges.control_client import DEFAULT_TIMEOUT_S, ControlClient, NoAnswer
from rt_engine.edges.curve_keys import client_keys
from rt_engine.errors import ControlError
from rt_engine.model_file import read_model_info
from tools.commands.options import JsonOption, OwnKeyOption, ServerKeyOption
from tools.console import console, emit_json

EXIT_REFUSED = 1
EXIT_NO_ANSWER = 3
"""Whether the command was carried out is not known, or it was not: the text says which."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Give a command to a running session. Exit code: 0 done, 1 refused, 2 wrong usage, 3 no answer.",
)

AddressOption = Annotated[str, typer.Option(help="The session's control socket (ZeroMQ endpoint).")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, max=600.0, help="Seconds to wait for the answer.")]
DEFAULT_ADDRESS = "tcp://127.0.0.1:5557"
PulseArgument = Annotated[int, typer.Argument(min=0, help="Number of the pulse, as the window and the record show it.")]


@app.command()
def mark(
    pulse: PulseArgument,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, in a few words.")],
    address: AddressOption = DEFAULT_ADDRESS,
    key: OwnKeyOption = None,
    server_key: ServerKeyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Mark a pulse as one not to be counted later, with the reason. What was measured stays as it is."""
    _ask(lambda: Mark(pulse=pulse, reason=reason), address, key, server_key, timeout_s, as_json)


@app.command()
def unmark(
    pulse: PulseArgument,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, in a few words.")] = "",
    address: AddressOption = DEFAULT_ADDRESS,
    key: OwnKeyOption = None,
    server_key: ServerKeyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Take a mark back. The record keeps both."""
    _ask(lambda: Unmark(pulse=pulse, reason=reason), address, key, server_key, timeout_s, as_json)


@app.command()
def swap(
    model: Annotated[Path, typer.Argument(help="Model file; with --remote a path on the engine's machine.")],
    sha256: Annotated[str, typer.Option(help="SHA-256 that the file must have.")] = "",
    remote: Annotated[
        bool, typer.Option("--remote", help="The engine runs on another machine: take the path as it is.")
    ] = False,
    address: AddressOption = DEFAULT_ADDRESS,
    key: OwnKeyOption = None,
    server_key: ServerKeyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Take another model for the same muscles and voxels, from the next trial on."""

    def command() -> SwapModel:
        if remote:
            return SwapModel(path=str(model), sha256=sha256.lower())
        info = read_model_info(model)  # what cannot be a model need not be sent, and the engine gets this very file
        return SwapModel(path=str(model.resolve()), sha256=sha256.lower() or info.sha256)

    _ask(command, address, key, server_key, timeout_s, as_json)


@app.command()
def calibrate(
    gains: Annotated[
        list[str],
        typer.Argument(help="MUSCLE=GAIN, 0.05 to 20; a muscle that is not named gets 1.", metavar="GAINS..."),
    ],
    address: AddressOption = DEFAULT_ADDRESS,
    key: OwnKeyOption = None,
    server_key: ServerKeyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Multiply this session's amplitudes by a gain per muscle before the model sees them.

    For electrodes that sit elsewhere than when the model was fitted. Amplitudes are published as measured.
    """
    _ask(lambda: Calibrate(gains=parse_gains(gains)), address, key, server_key, timeout_s, as_json)


def parse_gains(words: list[str]) -> dict[str, float]:
    """Parse ``MUSCLE=GAIN`` words.

    Raises
    ------
    ControlError
        If a word is none, or a muscle is named twice.
    """
    gains: dict[str, float] = {}
    for word in words:
        muscle, equals, text = word.rpartition("=")
        try:
            gain = float(text)
        except ValueError:
            equals = ""
        if not equals or not muscle:
            raise ControlError(f"{word!r} is no gain; expected MUSCLE=GAIN, e.g. FDI=1.5")
        if muscle in gains:
            raise ControlError(f"the muscle {muscle} is named twice")
        gains[muscle] = gain
    return gains


def _ask(
    make: Callable[[], Command],
    address: str,
    key: Path | None,
    server_key: Path | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    command = checked(make())
    with ControlClient(address, client_keys(key, server_key)) as client:
        try:
            reply = client.ask(command, timeout_s)
        except NoAnswer as error:
            _tell(Reply(ok=False, error=str(error), command=command_name(command)), as_json)
            raise typer.Exit(EXIT_NO_ANSWER) from error
    _tell(reply, as_json)
    if not reply.ok:
        raise typer.Exit(EXIT_REFUSED)


def checked(command: Command) -> Command:
    """Refuse here what the engine would refuse, with the same words.

    Raises
    ------
    ControlError
        As `rt_engine.control_messages.parse_request`.
    """
    return parse_request(encode_control(command))


def _tell(reply: Reply, as_json: bool) -> None:
    if reply.ok:
        done = ", ".join(f"{name} {_short(value)}" for name, value in reply.detail.items())
        console.print(f"[green]done[/] {escape(reply.command)}: {escape(done)}", soft_wrap=True)
    else:
        console.print(f"[bold red]Error:[/] {escape(reply.error)}", soft_wrap=True)
    if as_json:
        told = {"ok": reply.ok, "error": reply.error, "command": reply.command}
        emit_json({**told, "session": reply.session, "detail": reply.detail})


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={inner}" for name, inner in value.items())
    return str(value)
