"""Settings of a network's training: typed, validated, read from TOML or from `key=value` words.

A key that does not exist is an error that names the nearest one that does. Nothing here needs TensorFlow.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from rt_engine.errors import SettingsError
from rt_engine.settings import explain_validation, refuse_infinite
from trainer.architectures.settings import ArchitectureSettings
from trainer.network_data import NetworkPreprocessing

TRAINING_SETTINGS_VERSION = 1
"""Version of the settings' schema."""


class FittingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights are found (article, II.E and II.F)."""

    epochs: Annotated[int, msgspec.Meta(ge=1)] = 200
    """Most epochs per stage; the article trains until the loss no longer improves, however long that takes."""
    batch_size: Annotated[int, msgspec.Meta(ge=1)] = 8
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Adadelta's, to start with."""
    reduce_factor: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.7
    """What the learning rate is multiplied by on a plateau."""
    reduce_patience: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Epochs without improvement after which it is."""
    stop_patience: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Epochs without improvement after which a stage of training ends."""
    min_delta: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 1e-5
    """Least part by which the training loss must fall below the best so far to count as an improvement."""
    validation_fraction: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.1
    """Part of the stimulations that is set apart, to watch the error on it; 0 trains on all."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    """Of the first weights, the order of the stimulations, the noise of the latent and the validation part."""


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a network and its training."""

    version: int = TRAINING_SETTINGS_VERSION
    architecture: ArchitectureSettings = ArchitectureSettings()
    preprocessing: NetworkPreprocessing = NetworkPreprocessing()
    fitting: FittingSettings = FittingSettings()


def training_settings(path: str | Path | None = None, overrides: Sequence[str] = ()) -> TrainingSettings:
    """Read settings, and apply single ones on top.

    Parameters
    ----------
    path : str or Path, optional
        TOML file with the tables `architecture`, `preprocessing` and `fitting`; without it, the defaults.
    overrides : sequence of str
        ``key=value``, e.g. ``fitting.epochs=40``; the table may be left out (``epochs=40``), since no two tables have a
        key in common. Values as in TOML, or plain text.

    Raises
    ------
    SettingsError
        If the file cannot be read, is not TOML, has an unknown key, or a value that cannot be.
    """
    raw: dict[str, Any] = _read(Path(path)) if path is not None else {}
    try:
        settings = parse_training_settings(raw)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    raw = msgspec.to_builtins(settings)
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        if not equals or not key:
            raise SettingsError(f"--set {override!r}: expected KEY=VALUE, such as fitting.epochs=40")
        table, dot, name = key.rpartition(".")
        if not dot:
            table = next((each for each in TABLES if name in TABLES[each].__struct_fields__), "")
        if table not in TABLES:
            known = ", ".join(f"{each}.{name}" for each, kind in TABLES.items() for name in kind.__struct_fields__)
            raise SettingsError(f"--set {override!r}: there is no such setting. Known are {known}")
        raw[table][name] = _value(text)
    return parse_training_settings(raw)


def parse_training_settings(raw: dict[str, Any]) -> TrainingSettings:
    """Check settings that are already a dictionary, such as those kept in a checkpoint.

    Raises
    ------
    SettingsError
        As `training_settings`.
    """
    version = raw.get("version", TRAINING_SETTINGS_VERSION)
    if isinstance(version, int) and version > TRAINING_SETTINGS_VERSION:
        raise SettingsError(
            f"version {version} of the training settings is newer than this software's {TRAINING_SETTINGS_VERSION}; "
            "update m2m"
        )
    refuse_infinite("", raw)
    try:
        return msgspec.convert(raw, TrainingSettings)
    except msgspec.ValidationError as error:
        raise SettingsError(explain_validation(str(error), TrainingSettings)) from error


TABLES: dict[str, type[msgspec.Struct]] = {
    "architecture": ArchitectureSettings,
    "preprocessing": NetworkPreprocessing,
    "fitting": FittingSettings,
}
"""Table of a settings file -> what it holds."""


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"there is no settings file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also numbers of thousands of digits, and brackets within brackets
        return text  # a bare word, which a shell user would not want to quote twice
