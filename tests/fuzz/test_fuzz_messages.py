"""Mutated messages: a reader gets what was promised, or a `DataError`; a window goes on."""

import json
from random import Random
from typing import Any

import numpy as np
import pytest

from rt_engine.errors import DataError
from rt_engine.messages import (
    GeometryHeader,
    Header,
    HealthHeader,
    MapHeader,
    ModelDescription,
    SessionHeader,
    StreamDescription,
    TrialHeader,
    decode,
    encode,
)
from tests.fuzz.counts import COUNTS, for_each_seed, in_words
from tests.fuzz.mutations import spoil_bytes, spoil_tree
from tools.display.picture_age import PictureAges
from tools.display.state import DisplayState
from tools.display.status import age_sign, confidence_sign, engine_sign, figures, pulse_sign, session_line

M, S, V = 3, 40, 6
PULSE: dict[str, Any] = {
    "session": "s", "pulse": 4, "t_pulse_raw": 1.5, "t_pulse": 1.25, "t_uncertainty": 1e-4, "trigger_source": "ttl",
    "stages_us": {"wait": 10.0, "infer": 900.0}, "model_sha256": "0" * 64, "confidence_reasons": ["weak"],
}  # fmt: skip


def floats(*shape: int) -> tuple[np.ndarray, str]:
    return np.ones(shape, np.float32), "1"


SPECIMENS: list[list[bytes]] = [
    encode(
        SessionHeader(
            session="s",
            started_at="2026-07-11T09:30:00+00:00",
            muscles=["FDI", "ADM", "ECR"],
            window_ms=[[10.0, 50.0]] * M,
            sweep_ms=[-100.0, 50.0],
            floor_uv=50.0,
            nominal_rate_hz=2000.0,
            trigger_source="ttl",
            streams=[
                StreamDescription(
                    role="emg", name="a", type="EMG", source_id="b", hostname="c", nominal_rate_hz=2e3, n_channels=4
                )
            ],
            model=ModelDescription(
                name="m", kind="ridge", sha256="0" * 64, muscles=["FDI"], field_scale_v_per_m=100.0, provider="CPU"
            ),
            versions={"m2m-live": "1"},
        )
    ),
    encode(
        GeometryHeader(session="s", subject="x", space="RAS", hemisphere="left", box_shape=[4, 4, 4], n_voxels=V),
        {
            "voxel": (np.arange(V * 3).reshape(V, 3).astype(np.int16) % 4, "1"),
            "affine": (np.eye(4), "mm"),
            "vertices": (np.eye(3, dtype=np.float32), "mm"),
            "triangles": (np.array([[0, 1, 2]], np.int32), "1"),
        },
    ),
    encode(
        TrialHeader(**PULSE, valid=True, status=["OK", "NO_MEP", "FLAT"], sweep_start_ms=-10.0, rate_hz=2000.0),
        {
            "sweep_uv": floats(M, S),
            "mep_uv": floats(M),
            "onset_ms": floats(M),
            "peak_ms": floats(M, 2),
            "baseline_rms_uv": floats(M),
            "control_uv": floats(M),
            "pose": (np.eye(4), "mm"),
        },
    ),
    encode(
        MapHeader(**PULSE, scale_v_per_m=100.0, computed_field_reason=""),
        {
            "field": floats(V),
            "spread": floats(V),
            "cog_mm": (np.zeros(3), "mm"),
            "cog_cov_mm2": (np.eye(3), "mm^2"),
            "mep_normalised": floats(M),
            "computed_field": floats(V),
        },
    ),
    encode(
        HealthHeader(
            session="s",
            state="RUNNING",
            t=1.0,
            effective_rate_hz=2000.0,
            pulses={"served": 3},
            recording="a.xdf",
            disk_free_bytes=10**9,
            latency_ms={"engine": {"p50": 2.0, "p99": 4.0, "max": 5.0}},
            drops={"subscriber_overflows": 1},
        )
    ),
]


def spoil_message(frames: list[bytes], random: Random) -> list[bytes]:
    """Change a frame's bytes, a header's values, or the order of the frames."""
    spoilt = list(frames)
    kind = random.randrange(6)
    if kind < 3:
        spoilt[1] = json.dumps(spoil_tree(json.loads(spoilt[1]), random)).encode()
    elif kind == 3:
        at = random.randrange(len(spoilt))
        spoilt[at] = spoil_bytes(spoilt[at], random)
    elif kind == 4:
        spoilt[1] = spoil_bytes(spoilt[1], random)
    else:
        other = random.choice(SPECIMENS)
        at = random.randrange(len(spoilt))
        spoilt[at : at + random.randrange(3)] = random.sample(other, random.randrange(min(len(other), 3)))
    return spoilt


def received(frames: list[bytes]) -> tuple[Header, dict[str, np.ndarray]] | None:
    try:
        header, arrays = decode(frames)
    except DataError as error:
        in_words(error)
        return None
    assert len(header.arrays) == len(arrays) == len(frames) - 2
    for spec in header.arrays:
        assert list(arrays[spec.name].shape) == spec.shape
        assert arrays[spec.name].dtype.kind in "fiub"
    return header, arrays


@pytest.mark.parametrize("n", COUNTS)
def test_a_mutated_message_is_what_it_says_or_is_refused(n: int) -> None:
    refused = 0

    def check(random: Random) -> None:
        nonlocal refused
        refused += received(spoil_message(random.choice(SPECIMENS), random)) is None

    for_each_seed(n, check)
    assert refused > n // 4


@pytest.mark.parametrize("n", COUNTS)
def test_a_window_lives_through_mutated_messages_and_shows_the_next_good_ones(n: int) -> None:
    ages = PictureAges("tcp://127.0.0.1:5556")

    def check(random: Random) -> None:
        state = DisplayState("tcp://127.0.0.1:5556", 0.0)
        for frames in random.sample(SPECIMENS, len(SPECIMENS)):
            take(state, frames)
            take(state, spoil_message(frames, random))
            look_at(state, ages)
        fresh = json.loads(SPECIMENS[4][1]) | {"session": "another"}
        take(state, [SPECIMENS[4][0], json.dumps(fresh).encode()])
        assert state.health is not None
        assert state.health.state == "RUNNING"

    for_each_seed(n // 5, check)  # five mutated messages each


def take(state: DisplayState, frames: list[bytes]) -> None:
    try:
        state.receive(*decode(frames), 1.0)
    except DataError as error:
        state.receive_malformed(str(error))


def look_at(state: DisplayState, ages: PictureAges) -> None:
    engine_sign(state, 1.5)
    pulse_sign(state)
    confidence_sign(state, 1.5)
    age_sign(ages, False)
    figures(state)
    session_line(state)
    state.map_standing(1.5)
