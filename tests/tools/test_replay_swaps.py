"""A replay of a session that changed its model: maps are the new one's, and subscribers are told of its voxels."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import zmq

from rt_engine.edges.xdf_source import Recording
from rt_engine.errors import ModelError
from rt_engine.messages import Header, decode
from rt_engine.model_file import read_model_info
from rt_engine.muscles import ARTICLE_MUSCLES
from rt_engine.record_events import ModelSwapped, Offset
from rt_engine.settings import Settings, parse_settings
from tests.rt_engine.test_model_file import with_metadata
from tools.replay_session import ReplaySession

DEMO = Path(str(files("configs") / "demo"))
SHIPPED = DEMO / "kernel-ridge.onnx"
RATE_HZ, N = 2000.0, 4000


def _recording(event: ModelSwapped) -> Recording:
    """Make two pulses, and between them another model."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0.0, 3.0, (N, 16)).astype(np.float32)
    samples[:, -1] = 0.0
    for pulse in (1000, 3000):
        samples[pulse, -1] = 1.0
        samples[pulse + 40 : pulse + 60, :-1] += 500.0 * np.sin(np.linspace(0.0, 2.0 * np.pi, 20))[:, None]
    return Recording(
        path=Path("none.xdf"),
        labels=[*ARTICLE_MUSCLES, "TTL"],
        units=[*["microvolts"] * 15, "au"],
        rate_hz=RATE_HZ,
        samples=samples,
        stamps=5000.0 + np.arange(N) / RATE_HZ,
        offsets=[Offset(n=0, offset=0.0, uncertainty=1e-4)],
        inputs=[event],
        poses=[],
        intensities=[],
        settings=None,
        model_sha256=read_model_info(SHIPPED).sha256,
        stop=None,
    )


def _settings() -> Settings:
    model = {"path": str(SHIPPED), "subject": str(DEMO / "default.subject.h5"), "provider": "cpu"}
    return parse_settings({"model": model, "streams": {"emg": {"name": "EMG"}}})


def _other_model(path: Path) -> ModelSwapped:
    """Make a model whose voxels lie 2 mm to the right of the shipped one's."""
    moved = read_model_info(SHIPPED).affine + np.outer([2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    with_metadata(path, affine=json.dumps(moved.tolist()), name="moved")
    return ModelSwapped(n=2000, path=str(path), sha256=read_model_info(path).sha256)


def test_subscribers_are_sent_the_new_models_session_and_voxels_before_its_first_map(tmp_path: Path) -> None:
    event = _other_model(tmp_path / "moved.onnx")
    session = ReplaySession(_recording(event), _settings(), block_samples=200, speed=None, address="tcp://127.0.0.1:*")
    heard: list[tuple[Header, dict[str, np.ndarray]]] = []
    socket = zmq.Context.instance().socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(session.address)
        session._outputs.publisher.serve_subscribers()
        while not any(header.topic == "geometry" for header, _ in heard):  # until then, nobody is subscribed
            session._outputs.publisher.serve_subscribers()
            while socket.poll(10):
                heard.append(decode(socket.recv_multipart()))
        for _ in session.run():
            continue
        while not any(header.topic == "health" and header.state == "STOPPED" for header, _ in heard):
            assert socket.poll(60_000)
            heard.append(decode(socket.recv_multipart()))
    finally:
        socket.close(0)
    told = [(header, arrays) for header, arrays in heard if header.topic in ("session", "geometry", "map")]
    order = [header.topic for header, _ in told]
    assert order[-3:] == ["session", "geometry", "map"]
    first_map = order.index("map")
    before, after = told[first_map], told[-1]
    assert (before[0].model_sha256, after[0].model_sha256) == (read_model_info(SHIPPED).sha256, event.sha256)
    assert told[-3][0].model.name == "moved"
    np.testing.assert_array_equal(told[-2][1]["affine"], read_model_info(Path(event.path)).affine)
    assert (before[0].computed_field_reason, after[0].computed_field_reason) == ("no_pose", "other_voxels")


def test_a_model_that_is_another_one_now_or_no_longer_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "moved.onnx"
    event = _other_model(path)
    session = ReplaySession(_recording(event), _settings(), block_samples=200, speed=None, address=None)
    with_metadata(path, name="another")
    with pytest.raises(ModelError, match=event.sha256):
        list(session.run())
    path.unlink()
    with pytest.raises(ModelError, match=event.sha256):
        session._swap(event)
