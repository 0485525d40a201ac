"""Messages whose arrays are not those of their topic are refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeSession

from rt_engine.errors import DataError
from rt_engine.messages import GeometryHeader, Header, MapHeader, TrialHeader, decode
from tools.display.received import received_geometry, received_map, received_trial

Arrays = dict[str, np.ndarray]


def last_of(topic: str) -> tuple[Any, Arrays]:
    """Return a good message of a topic."""
    found: list[tuple[Header, Arrays]] = []

    def keep(frames: list[bytes]) -> None:
        header, arrays = decode(frames)
        if header.topic == topic:
            found.append((header, arrays))

    session = FakeSession(keep)
    session.greet()
    session.send_pulse()
    return found[-1]


def test_good_messages_are_taken_as_they_are() -> None:
    header, arrays = last_of("trial")
    trial = received_trial(header, arrays)
    assert trial.sweep_uv is arrays["sweep_uv"]
    assert trial.n_muscles == 15
    header, arrays = last_of("map")
    assert received_map(header, arrays).cog_mm is arrays["cog_mm"]
    header, arrays = last_of("geometry")
    geometry = received_geometry(header, arrays)
    assert geometry.has_surface
    assert geometry.voxel_mm[0] == pytest.approx(arrays["voxel"][0] + arrays["affine"][:3, 3])


def test_a_geometry_without_surface_is_good() -> None:
    header, arrays = last_of("geometry")
    geometry = received_geometry(header, {name: arrays[name] for name in ("voxel", "affine")})
    assert not geometry.has_surface


def test_an_invalid_trial_needs_neither_samples_nor_statuses() -> None:
    header, arrays = last_of("trial")
    header.valid, header.status, header.rate_hz = False, [], 0.0
    trial = received_trial(header, arrays | {"sweep_uv": np.empty((15, 0), dtype=np.float32)})
    assert trial.sweep_uv.shape == (15, 0)


def put(name: str, array: np.ndarray) -> Callable[[Any, Arrays], None]:
    return lambda _header, arrays: arrays.__setitem__(name, array)


def drop(name: str) -> Callable[[Any, Arrays], None]:
    return lambda _header, arrays: arrays.pop(name)


def state(name: str, value: Any) -> Callable[[Any, Arrays], None]:
    return lambda header, _arrays: setattr(header, name, value)


@pytest.mark.parametrize(
    ("topic", "spoil", "told"),
    [
        ("trial", drop("sweep_uv"), "lacks the array 'sweep_uv'"),
        ("trial", put("sweep_uv", np.zeros((14, 321), np.float32)), r"'sweep_uv'.*\(14, 321\).*15 x n"),
        ("trial", put("mep_uv", np.zeros(15, np.int32)), "int32"),
        ("trial", put("mep_uv", np.zeros((15, 1), np.float32)), r"\(15, 1\)"),
        ("trial", state("status", ["OK"]), "15 amplitudes and 1 statuses"),
        ("trial", state("rate_hz", 0.0), "sample rate of 0.0"),
        ("map", drop("cog_mm"), "lacks the array 'cog_mm'"),
        ("map", put("spread", np.zeros(3, np.float32)), "'spread'"),
        ("map", put("cog_cov_mm2", np.zeros((2, 2))), r"3 x 3"),
        ("geometry", put("voxel", np.zeros((0, 3), np.int16)), "no voxels"),
        ("geometry", put("voxel", np.full((4, 3), 64, np.int16)), "outside its box"),
        ("geometry", put("voxel", np.full((4, 3), -1, np.int16)), "outside its box"),
        ("geometry", put("affine", np.zeros((4, 4))), "maps no volume"),
        ("geometry", put("affine", np.full((4, 4), np.nan)), "maps no volume"),
        ("geometry", put("affine", np.diag([1e-3, 1.0, 1e3, 1.0])), "too large to be drawn"),
        ("geometry", state("box_shape", [64, 64]), "outside its box"),
        ("geometry", put("triangles", np.array([[0, 1, 99_999]], np.int32)), "name vertices outside"),
        ("geometry", put("triangles", np.array([[0, 1, -1]], np.int32)), "name vertices outside"),
        ("geometry", put("vertices", np.full((9, 3), np.inf, np.float32)), "not numbers"),
    ],
)
def test_what_is_wrong_is_named(topic: str, spoil: Callable[[Any, Arrays], None], told: str) -> None:
    header, arrays = last_of(topic)
    arrays = dict(arrays)
    spoil(header, arrays)
    check: dict[type[Header], Callable[[Any, Arrays], object]] = {
        TrialHeader: received_trial,
        MapHeader: received_map,
        GeometryHeader: received_geometry,
    }
    with pytest.raises(DataError, match=told):
        check[type(header)](header, arrays)
