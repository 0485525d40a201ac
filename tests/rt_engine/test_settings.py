"""Settings: what is written wrong is refused by name, and what is right comes back unchanged from a recording."""

import contextlib
import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.errors import M2MError, SettingsError
from rt_engine.estimator import DEFAULT_POLICY
from rt_engine.mep import MepStatus
from rt_engine.muscles import ARTICLE_MUSCLES
from rt_engine.settings import Settings, StreamQuery, load_settings, parse_settings

ROOT = Path(__file__).resolve().parents[2]


def _parse(text: str) -> Settings:
    return parse_settings(tomllib.loads(text))


def _leaves(kind: Any = Settings, prefix: str = "") -> list[str]:
    """Return the dotted names of all keys."""
    names: list[str] = []
    for field in msgspec.structs.fields(kind):
        name = prefix + field.encode_name
        nested = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        names += _leaves(field.type, name + ".") if nested else [name]
    return names


def test_nothing_written_is_the_article() -> None:
    settings = _parse("")
    assert settings == Settings()
    assert settings.mep.window_ms == (10.0, 50.0)
    assert settings.mep.baseline_ms == (-100.0, -5.0)
    assert settings.mep.floor_uv == 50.0
    assert settings.trigger.source == "ttl"
    assert settings.streams.emg.type == "EMG"


@pytest.mark.parametrize("name", ["demo.toml", "article.toml"])
def test_the_shipped_settings_are_good_and_name_files_that_are_there(name: str) -> None:
    settings = load_settings(ROOT / "configs" / name)
    assert Path(settings.model.subject).is_file()
    assert Path(settings.model.path).parent == ROOT / "configs" / "demo"


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("strems = {}", "strems", "streams"),
        ("[mep]\nflor_uv = 50", "mep.flor_uv", "mep.floor_uv"),
        ("[streams.emg]\nsourceid = 'x'", "streams.emg.sourceid", "streams.emg.source_id"),
        ("[streams.pose]\nunit = 'mm'", "streams.pose.unit", "streams.pose."),
        ("[model]\nthread = 2", "model.thread", "model.threads"),
        ("[timing]\nring_ms = 2", "timing.ring_ms", "timing.ring_s"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(text: str, key: str, nearest: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _parse(text)
    assert f"unknown key '{key}'; did you mean '{nearest}" in str(caught.value)
    assert "Known here: " in str(caught.value)


@given(key=st.sampled_from(_leaves()), extra=st.sampled_from("xyz_"))
def test_a_slip_of_the_pen_in_any_key_is_found(key: str, extra: str) -> None:
    raw: dict[str, Any] = {}
    *parents, last = key.split(".")
    inner = raw
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last + extra] = 1
    with pytest.raises(SettingsError, match=f"unknown key '{key}{extra}'; did you mean '{key}'"):
        parse_settings(raw)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[mep]\nfloor_uv = 'much'", "Expected `float`, got `str` - at `mep.floor_uv`"),
        ("[model]\nthreads = 1.5", "Expected `int`, got `float` - at `model.threads`"),
        ("[streams]\nemg = 'EMG'", "Expected `object`, got `str` - at `streams.emg`"),
        ("[trigger]\nsource = 'telepathy'", "'telepathy' - at `trigger.source`"),
        ("[trigger]\nmarker_labels = 'TMS'", "Expected `array`, got `str` - at `trigger.marker_labels`"),
        ("[mep]\nwindow_ms = [10]", "Expected `array` of length 2, got 1 - at `mep.window_ms`"),
        ("[mep.status]\nFLAT = 'perhaps'", "'perhaps' - at `mep.status"),
        ("version = true", "Expected `int`, got `bool` - at `version`"),
        ("version = '1'", "Expected `int`, got `str` - at `version`"),
    ],
)
def test_a_wrong_type_is_named_with_its_place(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _parse(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mep.window_ms = [50, 10]", r"mep.window_ms is \[50.0, 10.0\]; expected 0 <= begin < end <= 1000 ms"),
        ("mep.window_ms = [-5, 10]", "mep.window_ms"),
        ("mep.window_ms = [nan, 50]", "mep.window_ms"),
        ("mep.window_ms = [10, inf]", "mep.window_ms"),
        ("mep.muscle_window_ms.TA = [40, 20]", r"mep.muscle_window_ms.TA is \[40.0, 20.0\]"),
        ("mep.baseline_ms = [-5, -100]", "mep.baseline_ms is"),
        ("mep.baseline_ms = [-100, 5]", "mep.baseline_ms is"),
        ("mep.baseline_ms = [nan, -5]", "mep.baseline_ms is"),
        ("mep.floor_uv = -1", ">= 0.0 - at `mep.floor_uv`"),
        ("mep.floor_uv = nan", "mep.floor_uv"),
        ("mep.floor_uv = inf", "mep.floor_uv is inf; expected a finite number"),
        ("mep.preactivation_rms_uv = 0", "> 0.0 - at `mep.preactivation_rms_uv`"),
        ("trigger.ttl_threshold = nan", "trigger.ttl_threshold is nan; expected a finite number"),
        ("trigger.ttl_threshold = -inf", "trigger.ttl_threshold is -inf"),
        ("timing.gap_ms = inf", "timing.gap_ms is inf"),
        ("timing.expire_s = inf", "timing.expire_s is inf"),
        ("timing.ring_s = 0.5", ">= 1.0 - at `timing.ring_s`"),
        ("timing.ring_s = 601", "<= 600.0 - at `timing.ring_s`"),
        ("streams.stall_s = 0", "> 0.0 - at `streams.stall_s`"),
        ("model.threads = 0", ">= 1 - at `model.threads`"),
        ("mep.baseline_ms = [-5000, -5]\ntiming.ring_s = 10", "timing.ring_s of at least twice that"),
        ("mep.status.FLATT = 'use'", "mep.status: 'FLATT' is no status; did you mean 'FLAT'"),
        ("mep.status.OK = 'use'", "mep.status: 'OK' is no status"),
        ("trigger.source = 'marker'", "streams.markers names no stream"),
        ("trigger.ttl_label = ''", "trigger.ttl_label"),
        ("publish.address = '127.0.0.1:5556'", "publish.address is '127.0.0.1:5556'; expected e.g."),
        ("publish.address = 'tcp://localhost'", "publish.address"),
        ("version = 0", "version"),
        ("version = -1", "version"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        _parse(text)


def test_settings_of_a_newer_version_ask_for_an_update() -> None:
    with pytest.raises(SettingsError, match="settings version 2 is newer than this software's 1; update m2m"):
        _parse("version = 2\n[a_room_of_the_future]\nkey = 1")


def test_a_markers_stream_may_be_named_by_any_of_its_properties() -> None:
    for key in ("name", "type", "source_id"):
        assert _parse(f"trigger.source = 'marker'\nstreams.markers.{key} = 'x'").streams.markers


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no settings file .*absent\.toml"):
        load_settings(tmp_path / "absent.toml")


def test_a_file_too_large_for_settings_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(SettingsError, match="2000000 bytes; expected settings of at most"):
        load_settings(tmp_path / "large.toml")


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"[mep\nfloor_uv = 3",
        b"floor_uv",
        b"\xff\xfe\x00",
        b"a = 1\na = 2",
        b"\x89HDF\r\n",
        b"a = " + b"9" * 5000,
        b"a = " + b"[" * 20_000,
    ],
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lab.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"lab\.toml"):
        load_settings(path)


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_content_does_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with contextlib.suppress(M2MError):
        load_settings(path)


def test_a_file_with_an_error_in_it_is_named_together_with_the_key(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text("[mep]\nflor_uv = 50\n")
    with pytest.raises(SettingsError, match=r"lab\.toml: unknown key 'mep.flor_uv'"):
        load_settings(path)


def test_paths_are_relative_to_the_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text("model.path = 'models/a.onnx'\nmodel.subject = '/data/b.subject.h5'\n")
    model = load_settings(path).model
    assert model.path == str((tmp_path / "models" / "a.onnx").resolve())
    assert model.subject == str(Path("/data/b.subject.h5").resolve())
    path.write_text("")
    assert load_settings(path).model.path == "", "no model named is not the settings' own folder"


EXAMPLE = """
[streams.emg]
source_id = "abc"
unit = "mV"
channels = { "EMG 1" = "FDI" }
[streams.markers]
name = "Markers"
[trigger]
source = "marker"
marker_labels = ["TMS", "1"]
[mep]
window_ms = [15, 45.5]
muscle_window_ms = { FDI = [18, 50] }
baseline_ms = [-200, -3]
status = { NO_MEP = "mark", FLAT = "use" }
[timing]
ring_s = 12
[model]
provider = "cpu"
"""


def test_settings_come_back_unchanged_from_a_recording() -> None:
    settings = _parse(EXAMPLE)
    builtins = msgspec.to_builtins(settings)
    assert parse_settings(builtins) == settings
    assert parse_settings(json.loads(json.dumps(builtins))) == settings
    assert parse_settings(msgspec.json.decode(msgspec.json.encode(settings))) == settings


def test_one_value_can_be_overridden_in_recorded_settings() -> None:
    builtins = msgspec.to_builtins(_parse(EXAMPLE))
    builtins["model"]["path"] = "/models/other.onnx"
    settings = parse_settings(builtins)
    assert settings.model.path == "/models/other.onnx"
    assert settings.mep == _parse(EXAMPLE).mep


def test_settings_become_criteria_and_a_sweep() -> None:
    settings = _parse("[mep]\nwindow_ms = [12, 40]\nmuscle_window_ms = { ECR = [8, 65] }\nbaseline_ms = [-80, -5]")
    criteria, sweep = settings.criteria(ARTICLE_MUSCLES), settings.sweep(ARTICLE_MUSCLES)
    assert criteria.window_ms[ARTICLE_MUSCLES.index("ECR")] == (8.0, 65.0)
    assert criteria.window_ms[ARTICLE_MUSCLES.index("FDI")] == (12.0, 40.0)
    assert (sweep.start_ms, sweep.end_ms, sweep.window_start_ms) == (-80.0, 65.0, 8.0)


def test_a_window_for_a_muscle_that_the_model_does_not_know_is_refused() -> None:
    settings = _parse("mep.muscle_window_ms.FDII = [10, 50]")
    with pytest.raises(SettingsError, match="'FDII' is no muscle of the model; did you mean 'FDI'"):
        settings.criteria(ARTICLE_MUSCLES)


def test_a_status_policy_names_flags() -> None:
    settings = _parse("mep.status = { NO_MEP = 'mark', SATURATED = 'reject' }")
    assert settings.policy() == {MepStatus.NO_MEP: "mark", MepStatus.SATURATED: "reject"}
    assert set(DEFAULT_POLICY) == {flag for flag in MepStatus if flag}


def test_a_query_says_what_it_looks_for() -> None:
    assert str(StreamQuery(name="a", source_id="b")) == "name='a' and source_id='b'"
    assert str(StreamQuery()) == "nothing"
    assert not StreamQuery()


def test_every_key_stands_in_the_documentation_with_its_default() -> None:
    """In `docs/settings.md`, as a table row that begins with the full name of the key."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = {cells[0].strip(" `"): cells[1].strip(" `") for line in text.splitlines() if (cells := line.split("|")[1:])}
    defaults = msgspec.to_builtins(Settings())
    for key in _leaves():
        assert key in rows, f"{key} is not documented"
        value = defaults
        for part in key.split("."):
            value = value[part]
        written = tomllib.loads(f"value = {rows[key]}")["value"]
        assert written == (list(value) if isinstance(value, tuple) else value), f"{key}: the documented default"
    documented = {key for key in rows if "." in key and " " not in key}
    assert documented <= set(_leaves()), "documented keys that do not exist"
