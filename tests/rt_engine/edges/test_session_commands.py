"""What may be asked of a running session: each command is answered, recorded, and takes effect between two trials."""

import json

import numpy as np
import onnx
import pytest
import zmq

from rt_engine.control_messages import Calibrate, Mark, SwapModel, Unmark, encode_control
from rt_engine.edges import model_loading
from rt_engine.engine_setup import load_model
from rt_engine.health import State
from rt_engine.model_file import DIGEST_PREFIX, digest_of, read_model_info
from rt_engine.muscles import ARTICLE_MUSCLES
from rt_engine.settings import Settings
from tests.rt_engine.edges.conftest import MODEL


@pytest.fixture
def ask():
    """Ask a running session for something, and give its answer."""
    sockets = {}

    def make(running, command):
        address = running.session.control_address
        if address not in sockets:
            sockets[address] = zmq.Context.instance().socket(zmq.REQ)
            sockets[address].connect(address)
        sockets[address].send(encode_control(command))
        assert sockets[address].poll(60_000), "no answer"
        return json.loads(sockets[address].recv())

    yield make
    for socket in sockets.values():
        socket.close(0)


@pytest.fixture
def another_model(tmp_path):
    """Give a model that differs from the session's in the scale of its field."""
    proto = onnx.load(str(MODEL))
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    properties["m2m.field_scale_v_per_m"] = str(2.0 * float(properties["m2m.field_scale_v_per_m"]))
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, properties)
    content = proto.SerializeToString()
    begin = content.index(DIGEST_PREFIX) + len(DIGEST_PREFIX)
    path = tmp_path / "another.onnx"
    path.write_bytes(content[:begin] + digest_of(content).encode() + content[begin + 64 :])
    return path


def pulse(source, running):
    n = len(running.of("map"))
    source.pulse()
    running.wait_for_trials(len(running.of("trial")) + 1)
    return running.of("map")[n]


def test_a_session_marks_calibrates_and_swaps_its_model_between_pulses(
    amplifier, live, until, ask, another_model, monkeypatch
):
    source = amplifier()
    running = live(source).start()
    events = []
    monkeypatch.setattr(running.session._outputs, "note", events.append)
    before, arrays_before = pulse(source, running)

    assert ask(running, Mark(pulse=0, reason="the subject moved"))["ok"]
    assert "no pulse 7 yet" in ask(running, Mark(pulse=7, reason="?"))["error"]
    assert ask(running, Unmark(pulse=0))["detail"] == {"pulse": 0, "reason": "", "marked": False}
    assert "is not marked" in ask(running, Unmark(pulse=0))["error"]

    reply = ask(running, Calibrate(gains={"FDI": 2.0}))
    assert reply["detail"]["gains"]["FDI"] == 2.0
    assert reply["detail"]["gains"]["ADM"] == 1.0
    calibrated, arrays = pulse(source, running)
    fdi = ARTICLE_MUSCLES.index("FDI")
    assert calibrated.gains[fdi] == 2.0
    assert arrays["mep_normalised"][fdi] > 1.5 * arrays_before["mep_normalised"][fdi]
    (_, measured), *_ = running.of("trial")[1:]
    np.testing.assert_allclose(measured["mep_uv"], source.true_amplitude_uv(source.pulse_samples[1]), rtol=1e-6)
    assert "no muscle 'nose'" in ask(running, Calibrate(gains={"nose": 1.0}))["error"]

    info = read_model_info(another_model)
    wrong = ask(running, SwapModel(path=str(another_model), sha256="0" * 64))
    assert f"has the SHA-256 {info.sha256}; expected {'0' * 64}" in wrong["error"]
    assert "relative" in ask(running, SwapModel(path="another.onnx"))["error"]
    assert "cannot be read" in ask(running, SwapModel(path=str(another_model.parent / "none.onnx")))["error"]
    n_geometries = len(running.of("geometry"))
    reply = ask(running, SwapModel(path=str(another_model), sha256=info.sha256))
    assert reply["ok"], reply
    swapped, _ = pulse(source, running)
    assert (before.model_sha256, swapped.model_sha256) == (read_model_info(MODEL).sha256, info.sha256)
    assert swapped.scale_v_per_m == 2.0 * before.scale_v_per_m
    assert running.of("session")[-1][0].model.sha256 == info.sha256
    assert len(running.of("geometry")) == n_geometries + 1

    told = [
        type(event).__name__ for event in events if type(event).__name__ in ("Marked", "Calibrated", "ModelSwapped")
    ]
    assert told == ["Marked", "Marked", "Calibrated", "ModelSwapped"]
    assert running.stop().pulses_served == 3


def test_a_damaged_model_is_refused_and_the_session_goes_on(amplifier, live, ask, another_model):
    source = amplifier()
    running = live(source).start()
    content = another_model.read_bytes()
    another_model.write_bytes(content[: len(content) // 2])
    assert not ask(running, SwapModel(path=str(another_model)))["ok"]
    header, _ = pulse(source, running)
    assert header.model_sha256 == read_model_info(MODEL).sha256
    assert running.states(State.RUNNING)


def test_a_session_that_is_not_ready_says_so(amplifier, live, ask, until):
    source = amplifier()
    source.pause()
    running = live(source)
    running.launch()
    until(lambda: running.error or running.states(State.WARMING), "WARMING")
    assert "not ready for commands yet" in ask(running, Mark(pulse=0, reason="early"))["error"]


def test_what_holds_up_the_loop_is_done_just_after_a_pulse(another_model, until, monkeypatch):
    monkeypatch.setattr(model_loading, "PATIENCE_S", 60.0)
    asked = []
    monkeypatch.setattr(model_loading, "read_model_info", lambda path: asked.append(path) or read_model_info(path))
    monkeypatch.setattr(model_loading, "load_model", lambda choice: asked.append(choice) or load_model(choice))
    loading = model_loading.ModelLoading(another_model, "", Settings(), None, ARTICLE_MUSCLES)
    until(lambda: asked, "the digest to be looked at")
    assert asked == [another_model]
    assert loading.take() is None
    loading.good_moment()
    model, estimator, _ = until(loading.take, "the model")
    assert model.info.path == another_model
    assert estimator.muscles == ARTICLE_MUSCLES
