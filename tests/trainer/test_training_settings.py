"""Settings of a training: from a file, from words, with the nearest key named where one does not exist."""

from collections import Counter
from pathlib import Path

import pytest

from rt_engine.errors import SettingsError
from tests.conftest import ROOT
from trainer.network_data import NetworkPreprocessing
from trainer.training_settings import (
    TABLES,
    FittingSettings,
    TrainingSettings,
    parse_training_settings,
    training_settings,
)


def test_without_a_file_the_defaults_hold_and_words_change_them() -> None:
    assert training_settings() == TrainingSettings()
    changed = training_settings(None, ["fitting.epochs=40", "mep_scale=linear", "l1 = 0.001", "keep_zeros=true"])
    assert changed.fitting == FittingSettings(epochs=40)
    assert changed.preprocessing == NetworkPreprocessing(mep_scale="linear", keep_zeros=True)
    assert changed.architecture.l1 == 0.001


def test_no_two_tables_have_a_key_in_common() -> None:
    count = Counter(key for table in TABLES.values() for key in table.__struct_fields__)
    assert [key for key, times in count.items() if times > 1] == []


def test_the_shipped_file_names_every_key_and_trains_as_the_article() -> None:
    path = ROOT / "configs" / "article-training.toml"
    settings = training_settings(path)
    assert settings.preprocessing == NetworkPreprocessing(fitted_on="all", small_meps="zero", mep_scale="linear")
    assert settings.architecture == TrainingSettings().architecture
    assert settings.fitting == FittingSettings(epochs=1000)
    text = path.read_text(encoding="utf-8")
    assert [key for table in TABLES.values() for key in table.__struct_fields__ if f"\n{key} = " not in text] == []


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fitting.epoch=3", r"unknown key 'fitting\.epoch'; did you mean 'fitting\.epochs'"),
        ("epoch=3", "there is no such setting. Known are architecture.latent"),
        ("fiting.epochs=3", "there is no such setting"),
        ("epochs", "expected KEY=VALUE"),
        ("epochs=many", r"Expected `int`, got `str` - at `fitting\.epochs`"),
        ("epochs=0", r"Expected `int` >= 1 - at `fitting\.epochs`"),
        ("learning_rate=nan", r"fitting\.learning_rate is nan"),
        ("mep_scale=cubic", r"Invalid enum value 'cubic' - at `preprocessing\.mep_scale`"),
    ],
)
def test_a_wrong_word_is_refused_with_what_was_expected(word: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        training_settings(None, [word])


def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    with pytest.raises(SettingsError, match="there is no settings file"):
        training_settings(path)
    path.write_text("[fitting]\nbatch = 8\n")
    with pytest.raises(
        SettingsError, match=r"t\.toml: unknown key 'fitting\.batch'; did you mean 'fitting\.batch_size'"
    ):
        training_settings(path)
    path.write_text("[fitting\n")
    with pytest.raises(SettingsError, match="is not TOML"):
        training_settings(path)
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        training_settings(path)
    with pytest.raises(SettingsError, match="version 2 of the training settings is newer"):
        parse_training_settings({"version": 2})
