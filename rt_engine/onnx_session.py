"""ONNX Runtime sessions: which execution provider, how many threads, bound memory on a GPU, and no noise on the screen.

This module knows ONNX Runtime and nothing of TMS; `rt_engine.model_file` says what a model of this project is.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rt_engine.errors import ModelError

Provider = Literal["auto", "cpu", "cuda"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

DEVICE = {CPU: "cpu", CUDA: "cuda"}
"""Where a provider's memory is, by ONNX Runtime's names."""

_FATAL_ONLY = 4  # severity levels of ONNX Runtime: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


def open_session(model: bytes, *, provider: Provider = "auto", threads: int = 1) -> tuple[Any, str, str | None]:
    """Open a session that computes the same bits every time.

    `onnxruntime.get_available_providers` lists CUDA wherever the GPU build is installed, also without a GPU, and a
    session then falls back with several lines of errors. So CUDA is tried once, and what the session itself reports is
    believed.

    Parameters
    ----------
    model
        The ONNX file's bytes.
    provider
        ``auto`` tries CUDA where this ONNX Runtime has it, ``cuda`` tries it always, ``cpu`` never.
    threads
        Threads within one operator. Sums depend on how they are split: another number may give other last bits.

    Returns
    -------
    session
        An `onnxruntime.InferenceSession`.
    provider
        The execution provider that the session really got.
    notice
        One line if CUDA was tried and is not there, else None.

    Raises
    ------
    ModelError
        If ONNX Runtime refuses the model, or `provider` or `threads` is not one of the above.
    """
    if provider not in ("auto", "cpu", "cuda"):
        raise ModelError(f"unknown provider {provider!r}; use auto, cpu or cuda")
    if threads < 1:
        raise ModelError(f"a session needs at least 1 thread; got {threads}")
    notice: str | None = None
    if provider != "cpu":
        if CUDA in ort.get_available_providers():
            session, heard = _try_cuda(model, threads)
            if session is not None:
                return session, CUDA, None
            notice = f"CUDA cannot be used here ({_reason(heard)}); the model runs on the CPU"
        elif provider == "cuda":
            notice = "this ONNX Runtime is built without CUDA (install onnxruntime-gpu); the model runs on the CPU"
    try:
        # No fallback: there is none from the CPU, and ONNX Runtime would announce it on stdout.
        session = ort.InferenceSession(model, sess_options=_options(threads), providers=[CPU], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class that it exports
        raise ModelError(f"ONNX Runtime {ort.__version__} refuses the model: {_one_line(str(error))}") from error
    return session, str(session.get_providers()[0]), notice


class BoundRun:
    """Runs a session with memory that is laid out once: its inputs on the device, its outputs on the host.

    Without it, ONNX Runtime allocates on the device, and on the host, for every run. On the CPU that costs nothing that
    could be measured, so `Model` binds on a GPU only.

    Parameters
    ----------
    session
        An `onnxruntime.InferenceSession`.
    device
        Where the inputs lie, see `DEVICE`.
    inputs
        Name -> an array of the shape and dtype that every run brings.
    outputs
        Name -> an array that the output is written to; it must be C-contiguous, and stay.
    """

    def __init__(
        self, session: Any, device: str, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]
    ) -> None:
        self._session = session
        self._outputs = list(outputs.values())
        # A copy: on the CPU the value would share the caller's memory.
        self._inputs = {
            name: ort.OrtValue.ortvalue_from_numpy(np.array(example), device, 0) for name, example in inputs.items()
        }
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, array in outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def __call__(self, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once.

        Parameters
        ----------
        feed
            All inputs that were laid out.

        Returns
        -------
        list of numpy.ndarray
            Copies of the outputs, in their order.
        """
        for name, array in feed.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return [array.copy() for array in self._outputs]


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # Spinning threads would take the second core from the LSL inlets between two pulses.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY
    return options


def _try_cuda(model: bytes, threads: int) -> tuple[Any, str]:
    """Return a CUDA session, or None, and what ONNX Runtime wrote meanwhile."""
    heard: list[str] = []
    session = None
    with captured_output(heard):
        try:
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # finds the CUDA libraries that pip installed (extra `gpu`)
            session = ort.InferenceSession(model, sess_options=_options(threads), providers=[CUDA, CPU])
        except Exception as error:  # whatever CUDA does, the CPU is still there
            heard.append(str(error))
    if session is not None and CUDA in session.get_providers():
        return session, ""
    return None, "\n".join(heard)


@contextlib.contextmanager
def captured_output(heard: list[str]) -> Iterator[None]:
    """Collect what is written to the process's stdout and stderr, by C++ code too, instead of showing it."""
    with tempfile.TemporaryFile() as sink:
        saved: list[tuple[int, int]] = []
        try:
            for descriptor in (1, 2):
                with contextlib.suppress(OSError):  # a closed stream shows nothing anyway
                    saved.append((descriptor, os.dup(descriptor)))
                    os.dup2(sink.fileno(), descriptor)
            with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
                yield
        finally:
            for descriptor, copy in saved:
                os.dup2(copy, descriptor)
                os.close(copy)
            sink.seek(0)
            heard.append(sink.read().decode(errors="replace"))


def _reason(heard: str) -> str:
    """Pick from ONNX Runtime's complaints the part that a user can act on."""
    missing = re.findall(r"(lib[\w.+-]+|[\w.+-]+\.dll)[^:\n]*: cannot open shared object file", heard)
    if missing:
        return f"{missing[-1]} not found"  # the last is ONNX Runtime's own; those before are only preloaded
    failure = re.search(r"CUDA failure \d+: ([^;\n]+)", heard)
    if failure:
        return failure[1].strip()
    return "no CUDA device or libraries"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
