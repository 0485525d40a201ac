"""The published JSON Schemas are those of the code, and real messages fit them."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from rt_engine.control_messages import (
    Calibrate,
    Command,
    Mark,
    Reply,
    SwapModel,
    Unmark,
    control_schemas,
    encode_control,
)
from rt_engine.messages import HEADERS, MapHeader, encode
from tools.schemas import FOLDER, schema_files, write_schemas


@pytest.mark.parametrize("name", [*HEADERS, *control_schemas()])
def test_the_published_schema_is_up_to_date(name: str) -> None:
    published = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert published == schema_files()[f"{name}.json"], "run `make schemas`"


def test_no_schema_of_a_topic_that_is_no_more_is_left() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(schema_files())


def test_a_real_header_fits_its_published_schema_and_a_wrong_one_does_not() -> None:
    header = MapHeader(
        pulse=3, t_pulse_raw=1.0, t_pulse=1.5, t_uncertainty=1e-4, trigger_source="ttl", scale_v_per_m=150.0
    )
    sent = json.loads(encode(header, {"field": (np.zeros(4, np.float32), "1")})[1])
    schema = json.loads((FOLDER / "map.json").read_text(encoding="utf-8"))
    jsonschema.validate(sent, schema)
    jsonschema.validate(sent | {"a key of a newer version": 1}, schema)
    with pytest.raises(jsonschema.ValidationError, match="pulse"):
        jsonschema.validate(sent | {"pulse": "three"}, schema)


@pytest.mark.parametrize(
    "command",
    [
        Mark(pulse=3, reason="moved", id="7"),
        Unmark(pulse=3),
        SwapModel(path="/a.onnx", sha256="0" * 64),
        Calibrate(gains={"FDI": 1.5}),
    ],
)
def test_a_real_command_fits_its_published_schema_and_a_wrong_one_does_not(command: Command) -> None:
    sent = json.loads(encode_control(command))
    schema = json.loads((FOLDER / f"control_{sent['command']}.json").read_text(encoding="utf-8"))
    jsonschema.validate(sent, schema)
    for wrong in (sent | {"a key": 1}, sent | {"command": "shutdown"}, {"command": sent["command"]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_a_real_reply_fits_its_published_schema() -> None:
    schema = json.loads((FOLDER / "control_reply.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(encode_control(Reply(ok=True, detail={"gains": {"FDI": 1.5}}))), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"error": ""}, schema)


def test_writing_removes_what_is_stale_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "gone.json").write_text("{}")
    (tmp_path / "notes.md").write_text("kept")
    written = write_schemas(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written} | {"notes.md"}
