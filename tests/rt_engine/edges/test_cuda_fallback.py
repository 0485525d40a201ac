"""A session on a machine where CUDA cannot be had: one line says so, and the processor gives the maps."""

import logging

import numpy as np
import onnxruntime
import pytest

from rt_engine import onnx_session
from rt_engine.model_file import open_model
from rt_engine.muscles import ARTICLE_MUSCLES
from rt_engine.session import Session
from rt_engine.settings import parse_settings
from tests.rt_engine.edges.conftest import MODEL


@pytest.mark.parametrize("provider", ["auto", "cuda"])
def test_a_session_whose_cuda_fails_says_so_in_one_line_and_has_the_cpus_maps(provider, monkeypatch, caplog, capfd):
    made = onnxruntime.InferenceSession

    def fails(content, providers, **options):
        if onnx_session.CUDA in providers:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected ; GPU=-1")
        return made(content, providers=providers, **options)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx_session.CUDA, onnx_session.CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    settings = parse_settings(
        {
            "streams": {"emg": {"name": "nobody's"}},
            "model": {"path": str(MODEL), "provider": provider},
            "publish": {"address": "tcp://127.0.0.1:*", "control_address": ""},
        }
    )
    # The screen is ONNX Runtime's alone here, whoever else logs to it.
    monkeypatch.setattr(logging.getLogger(), "handlers", [caplog.handler])
    with caplog.at_level(logging.WARNING):
        session = Session(settings)
    told = [record.message for record in caplog.records if "CUDA" in record.message]
    assert told == ["CUDA cannot be used here (no CUDA-capable device is detected); the model runs on the CPU"]
    assert capfd.readouterr() == ("", "")
    amplitudes, valid = np.linspace(0.0, 1500.0, len(ARTICLE_MUSCLES)), np.ones(len(ARTICLE_MUSCLES), dtype=bool)
    found = session._model.predict(amplitudes, valid)
    expected = open_model(MODEL, provider="cpu").predict(amplitudes, valid)
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), array)
    session.stop()
    assert session.run().pulses_served == 0
