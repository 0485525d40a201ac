"""Whether this computer keeps time and lets the engine go first: clocks, timers, priority, GPU."""

import os
import statistics
import sys
import time

import onnxruntime as ort

from rt_engine.edges.clock_offset import now_s
from rt_engine.edges.process_priority import NICENESS
from rt_engine.onnx_session import CUDA
from tools.doctor_check import Check, Level

SLEEP_S, SLEEPS = 0.001, 100
COARSE_S, HELD_UP_S = 0.002, 0.010
"""Sleeps of 1 ms that take longer: the system's timer is coarse (Windows' is 15.6 ms), or others took the processor."""

CLOCK_STEP_S = 1e-5


def check_timer() -> Check:
    """Measure the steps of LSL's clock, and how punctually the system wakes a program that sleeps."""
    steps: list[float] = []
    before = now_s()
    while len(steps) < 100:
        now = now_s()
        if now > before:
            steps.append(now - before)
        before = now
    slept = []
    for _ in range(SLEEPS):
        begin = time.perf_counter()
        time.sleep(SLEEP_S)
        slept.append(time.perf_counter() - begin)
    return judge_timer(min(steps), slept)


def judge_timer(step_s: float, slept_s: list[float]) -> Check:
    """Judge what was measured.

    Parameters
    ----------
    step_s
        Smallest step of LSL's clock, s.
    slept_s
        How long sleeps of 1 ms took, s.
    """
    middle, late = statistics.median(slept_s), sorted(slept_s)[int(0.99 * (len(slept_s) - 1))]
    text = (
        f"LSL's clock steps by {step_s * 1e6:.2g} us; a sleep of {SLEEP_S * 1e3:g} ms takes {middle * 1e3:.2f} ms "
        f"(p99 {late * 1e3:.2f})"
    )
    if step_s > CLOCK_STEP_S:
        return Check("Timer", Level.WARN, text, "times of pulses are no better than that clock: use another computer")
    if middle > COARSE_S:
        advice = "the system's timer is coarse: choose the power plan for performance, and leave battery saving off"
        return Check("Timer", Level.WARN, text, advice)
    if late > HELD_UP_S:
        return Check("Timer", Level.WARN, text, "other programs take the processor: end what the session does not need")
    return Check("Timer", Level.OK, text)


def check_priority() -> Check:
    """See whether a session may raise its priority."""
    if not hasattr(os, "setpriority"):
        return Check("Priority", Level.OK, "this system knows no niceness: a session runs at ordinary priority")
    if os.geteuid() == 0 or _nice_limit() <= NICENESS:
        return Check("Priority", Level.OK, f"a session may go first (niceness {NICENESS})")
    advice = (
        f"allow it: a line `@GROUP - nice {NICENESS}` in /etc/security/limits.conf, then log in again"
        if sys.platform == "linux"
        else "end what the session does not need"
    )
    text = "a session may not raise its priority; under load, latencies may have outliers"
    return Check("Priority", Level.WARN, text, advice)


def _nice_limit() -> int:
    """Return the lowest niceness that this user may choose."""
    if sys.platform != "linux":
        return 0
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NICE)[0]
    return -20 if limit == resource.RLIM_INFINITY else 20 - limit


def check_gpu(provider: str, notice: str | None, wanted: str) -> Check:
    """Say whether the session's model runs on a GPU, and why not.

    Parameters
    ----------
    provider, notice
        What the session's model got, and what was said of it; empty if it could not be opened.
    wanted
        ``model.provider`` of the settings.
    """
    if provider == CUDA:
        return Check("GPU", Level.OK, "the model runs on CUDA")
    if wanted == "cpu":
        return Check("GPU", Level.OK, 'not asked for (model.provider = "cpu")')
    built = CUDA in ort.get_available_providers()
    text = notice or ("no model to try it with" if built else "this ONNX Runtime is built without CUDA")
    if wanted == "cuda":
        return Check("GPU", Level.WARN, text, "install the extra [gpu] and NVIDIA's driver, or set model.provider")
    return Check("GPU", Level.OK, text)
