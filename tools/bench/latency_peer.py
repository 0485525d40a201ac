"""What a user would write today, a process of its own: mne-lsl's EpochsStream, Keras' predict, ZeroMQ.

The network is the article's Direct Variational in the dense form that is published, on the CPU.
"""

import contextlib
import os
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import zmq

from rt_engine.model_file import read_model_info
from tools.bench.latency_floor import TIMES, WINDOW
from tools.bench.latency_process import end_on_signals, end_with_stdin, options_from
from tools.console import emit_json

POLL_S = 0.001
BUFFER_S = 2.0
BEFORE_S, AFTER_S = 0.1, 0.05


class PeerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the peer listens to, and whose network it runs."""

    source_id: str
    model: str
    """Model file; the trained network in its folder is taken where there is one."""


def serve(options: PeerOptions, stop: threading.Event) -> None:
    """Map pulses until `stop`."""
    # TensorFlow as it comes, which is faster than as a training here sets it up, to repeat itself to the bit.
    from mne_lsl import set_log_level
    from mne_lsl.lsl import local_clock
    from mne_lsl.stream import EpochsStream, StreamLSL

    from trainer.keras_predictor import fresh_predictor, load_predictor
    from trainer.trained_network_file import NETWORK_NAME

    set_log_level("ERROR")
    info = read_model_info(options.model)
    folder = Path(options.model).parent
    if (folder / NETWORK_NAME).is_file():
        predictor = load_predictor(folder, "dense")
        about = f"the dense network of {folder / NETWORK_NAME}"
    else:
        predictor = fresh_predictor(len(info.muscles), info.voxel, info.box_shape, "dense")
        about = "the dense network with fresh weights: its time does not depend on them"
    for _ in range(3):
        predictor.predict(np.full(len(info.muscles), 100.0))
    publisher: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    stream = StreamLSL(BUFFER_S, source_id=options.source_id).connect(acquisition_delay=POLL_S, timeout=60.0)
    stream.set_channel_types({"TTL": "stim"}, on_unit_change="ignore")
    epochs = EpochsStream(
        stream, bufsize=4, event_id={"TMS": 1}, event_channels="TTL", tmin=-BEFORE_S, tmax=AFTER_S, baseline=None
    ).connect(acquisition_delay=POLL_S)
    emit_json({"event": "ready", "address": f"tcp://127.0.0.1:{port}", "about": about})
    rate = stream.info["sfreq"]
    zero = round(BEFORE_S * rate)
    while not stop.is_set():
        if not epochs.n_new_epochs:
            time.sleep(POLL_S)
            continue
        pulled = local_clock()
        # mne-lsl does not tell an epoch's time: the newest rising edge in the stream's buffer is its.
        data, times = stream.get_data(picks="TTL")
        (sweep,) = epochs.get_data(n_epochs=1, picks=list(info.muscles))
        window = sweep[:, zero + WINDOW.start : zero + WINDOW.stop]
        amplitudes = window.max(axis=1) - window.min(axis=1)
        measured = local_clock()
        field = predictor.predict(amplitudes)
        estimated = local_clock()
        edges = np.flatnonzero((data[0, 1:] > 0.5) & (data[0, :-1] <= 0.5)) + 1
        t_pulse = float(times[edges[edges + WINDOW.stop - 1 < len(times)][-1]])
        header = TIMES.pack(t_pulse, pulled, measured, estimated, local_clock())
        publisher.send_multipart([b"map", header, field.tobytes()])
    publisher.close(0)
    with contextlib.suppress(RuntimeError):
        epochs.disconnect()
        stream.disconnect()


def main() -> None:
    """Run the process; its one argument is a `PeerOptions` as JSON."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stop = threading.Event()
    end_on_signals(stop.set)
    end_with_stdin(stop.set)
    serve(options_from(PeerOptions), stop)


if __name__ == "__main__":
    main()
