"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", "-s", help="Settings (TOML). Default: those of the demo.", dir_okay=False),
]
ModelOption = Annotated[Path | None, typer.Option("--model", "-m", help="Model file, instead of the settings' own.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting, as KEY=VALUE; e.g. --set trigger.source=marker. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the results as JSON, the last line of the output.")]
OwnKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key", help="Your own secret key (NAME.key_secret), for an engine that asks for one.", dir_okay=False
    ),
]
ServerKeyOption = Annotated[
    Path | None, typer.Option("--server-key", help="The engine's public key (NAME.key).", dir_okay=False)
]
