"""The published JSON Schemas are those of the code, and real messages fit them."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from rt_engine.messages import HEADERS, MapHeader, encode
from tools.schemas import FOLDER, schema_files, write_schemas


@pytest.mark.parametrize("topic", list(HEADERS))
def test_the_published_schema_is_up_to_date(topic: str) -> None:
    published = (FOLDER / f"{topic}.json").read_text(encoding="utf-8")
    assert published == schema_files()[f"{topic}.json"], "run `make schemas`"


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


def test_writing_removes_what_is_stale_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "gone.json").write_text("{}")
    (tmp_path / "notes.md").write_text("kept")
    written = write_schemas(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written} | {"notes.md"}
