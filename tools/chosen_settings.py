"""The settings that a command runs with: a file, and what the command line says on top."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from rt_engine.errors import SettingsError
from rt_engine.settings import Settings, load_settings, parse_settings


def demo_settings_path() -> Path:
    """Return the shipped settings of the demo."""
    return Path(str(files("configs") / "demo.toml"))


def chosen_settings(path: Path | None, overrides: list[str] | None = None, model: Path | None = None) -> Settings:
    """Read the settings and apply what the command line says on top.

    Parameters
    ----------
    path
        The settings file, or None for the demo's.
    overrides
        ``key=value`` with dotted keys; values as in TOML, or plain text.
    model
        A model file.

    Raises
    ------
    SettingsError
        If a key or value cannot be.
    """
    settings = load_settings(path or demo_settings_path())
    if overrides:
        settings = apply_overrides(settings, overrides)
    if model is not None:
        settings = msgspec.structs.replace(
            settings, model=msgspec.structs.replace(settings.model, path=str(model.resolve()))
        )
    return settings


def apply_overrides(settings: Settings, overrides: list[str]) -> Settings:
    """Return the settings with ``key=value`` overrides applied.

    Raises
    ------
    SettingsError
        If an override is not of that form, or its key or value cannot be.
    """
    raw: dict[str, Any] = msgspec.to_builtins(settings)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {override!r}: expected KEY=VALUE, such as trigger.source=marker")
        *parents, last = key.strip().split(".")
        table = raw
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise SettingsError(f"--set {override!r}: {parent!r} has no keys below it")
        table[last] = _value(text.strip())
    return parse_settings(raw)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also numbers of thousands of digits, and brackets within brackets
        return text  # a bare word, which a shell user would not want to quote twice
