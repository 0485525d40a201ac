"""An engine that is none: publishes made-up pulses on a real XPUB socket, as the wire says, for the window's tests.

`python fake_engine.py tcp://127.0.0.1:5556` keeps pulsing, to look at the window by hand.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from rt_engine.messages import (
    Arrays,
    FieldAgreement,
    GeometryHeader,
    Header,
    HealthHeader,
    MapHeader,
    ModelDescription,
    SessionHeader,
    TrialHeader,
    encode,
)
from rt_engine.muscles import ARTICLE_MUSCLES

RATE_HZ = 2000.0
SCALE_V_PER_M = 98.5
DEFAULT_SUBJECT = Path(__file__).parents[3] / "configs" / "demo" / "default.subject.h5"


def folded_sheet(n: int = 56) -> dict[str, NDArray[Any]]:
    """Return a geometry like BA4's: a folded sheet, its box, and the voxels in the front wall of its middle fold."""
    u, v = np.meshgrid(np.linspace(-30.0, 30.0, n), np.linspace(-30.0, 30.0, n), indexing="ij")
    x = u - 35.0
    y = v - 15.0 + 2.0 * np.sin(u / 9.0)
    z = 50.0 + 7.0 * np.cos(2.0 * np.pi * v / 22.0) - 0.012 * (u**2 + v**2) + 0.3 * u
    vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    index = np.arange(n * n).reshape(n, n)
    a, b, c, d = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    affine = np.eye(4)
    affine[:3, 3] = (-67.0, -47.0, 14.0)
    strip = vertices[np.abs(v.ravel() - 5.0) < 5.0]
    near = [strip + np.float32(s) * np.array([0, 0, 1], dtype=np.float32) for s in (-2, -1, 0, 1)]
    cell = np.unique(np.floor(np.concatenate(near) - affine[:3, 3] + 0.5).astype(np.int16), axis=0)
    inside = ((cell >= 0) & (cell < 64)).all(axis=1)
    return {"voxel": cell[inside], "affine": affine, "vertices": vertices, "triangles": triangles}


def shipped_geometry() -> dict[str, NDArray[Any]]:
    """Return the geometry of the shipped subject, or the folded sheet where there is none."""
    if not DEFAULT_SUBJECT.exists():
        return folded_sheet()
    from rt_engine.field.subject_file import read_subject

    subject = read_subject(DEFAULT_SUBJECT)
    return {
        "voxel": subject.voxel,
        "affine": subject.affine,
        "vertices": subject.vertices,
        "triangles": subject.triangles,
    }


class FakeSession:
    """Makes the messages of a session as a test wants them, and hands their frames to `sink`."""

    def __init__(
        self,
        sink: Callable[[list[bytes]], None],
        *,
        session: str = "fake-1",
        geometry: dict[str, NDArray[Any]] | None = None,
        muscles: tuple[str, ...] = ARTICLE_MUSCLES,
        replay: bool = False,
        seed: int = 1,
    ) -> None:
        self.sink = sink
        self.session = session
        self.geometry = folded_sheet() if geometry is None else geometry
        self.muscles = muscles
        self.replay = replay
        self.n_pulses = 0
        self.n_invalid = 0
        self._seq: dict[str, int] = {}
        self._random = np.random.default_rng(seed)
        affine, voxel = self.geometry["affine"], self.geometry["voxel"]
        self.voxel_mm = voxel @ affine[:3, :3].T + affine[:3, 3]

    def send(self, header: Header, arrays: Arrays | None = None, *, skip: int = 0) -> None:
        """Send a message; `skip` numbers are left out before it, as if so many had been lost."""
        header.seq = self._seq.get(header.topic, 0) + skip
        self._seq[header.topic] = header.seq + 1
        header.session = self.session
        self.sink(encode(header, arrays))

    def greet(self) -> None:
        """Send what every new subscriber gets."""
        self.send_session()
        self.send_geometry()

    def send_session(self) -> None:
        self._seq.pop("session", None)
        self.send(
            SessionHeader(
                started_at="2026-01-01T12:00:00Z",
                muscles=list(self.muscles),
                window_ms=[[10.0, 50.0]] * len(self.muscles),
                sweep_ms=[-100.0, 60.0],
                floor_uv=50.0,
                nominal_rate_hz=RATE_HZ,
                trigger_source="ttl",
                model=ModelDescription(
                    name="demo kernel ridge",
                    kind="kernel_ridge",
                    sha256="0" * 64,
                    muscles=list(self.muscles),
                    field_scale_v_per_m=SCALE_V_PER_M,
                    provider="CPUExecutionProvider",
                ),
                replay=self.replay,
            )
        )

    def send_geometry(self) -> None:
        self._seq.pop("geometry", None)
        arrays = {
            "voxel": (self.geometry["voxel"], "1"),
            "affine": (self.geometry["affine"], "mm"),
        }
        if "vertices" in self.geometry:
            arrays["vertices"] = (self.geometry["vertices"], "mm")
            arrays["triangles"] = (self.geometry["triangles"], "1")
        header = GeometryHeader(
            subject="default subject",
            space="MNI152, RAS: x right, y anterior, z superior",
            hemisphere="left",
            box_shape=[64, 64, 64],
            n_voxels=len(self.geometry["voxel"]),
        )
        self.send(header, arrays)

    def send_health(self, state: str = "RUNNING", reason: str = "", **changes: Any) -> None:
        header = HealthHeader(
            state=state,
            reason=reason,
            t=time.monotonic(),
            effective_rate_hz=2000.04,
            jitter_ms=0.02,
            n_samples=100_000,
            pulses={"seen": self.n_pulses, "served": self.n_pulses - self.n_invalid, "invalid": self.n_invalid},
            recording="sessions/2026-01-01T12-00-00/recording.xdf",
            disk_free_bytes=81_300_000_000,
            latency_ms={"engine": {"p50": 2.6, "p99": 4.1, "max": 5.0}},
        )
        for name, value in changes.items():
            setattr(header, name, value)
        self.send(header)

    def send_pulse(
        self,
        *,
        reasons: list[str] | None = None,
        status: dict[str, str] | None = None,
        confidence_reasons: list[str] | None = None,
        with_map: bool = True,
        strength: float = 1.0,
        peak: int | None = None,
        skip: int = 0,
        computed_reason: str = "",
    ) -> None:
        """Send a pulse's trial and, if it is valid, its map.

        `peak` is the voxel where the field is largest. With a `computed_reason` there is no field of the coil.
        """
        pulse = self.n_pulses
        self.n_pulses += 1
        common: dict[str, Any] = {
            "pulse": pulse,
            "t_pulse_raw": time.monotonic() - 0.055,
            "t_pulse": time.monotonic() - 0.055,
            "t_uncertainty": 0.0001,
            "t_available": None if self.replay else time.monotonic() - 0.004,
            "t_sent": None if self.replay else time.monotonic(),
            "trigger_source": "ttl",
            "stages_us": {"extract": 240.0, "infer": 1840.0, "transport": 320.0, "wait": 110.0, "publish": 130.0},
        }
        n = len(self.muscles)
        if reasons:
            self.n_invalid += 1
            self.send(
                TrialHeader(**common, valid=False, reasons=reasons, sweep_start_ms=0.0, rate_hz=RATE_HZ),
                _trial_arrays(np.full((n, 0), np.nan), np.full(n, np.nan), np.full(n, np.nan)),
                skip=skip,
            )
            return
        where = int(self._random.integers(len(self.voxel_mm))) if peak is None else peak
        center = self.voxel_mm[where]
        amplitude = self._amplitudes(center, strength)
        sweep = self._sweeps(amplitude)
        mep = np.ptp(sweep[:, 220:301], axis=1)
        flags = ["OK" if uv >= 50.0 else "NO_MEP" for uv in mep]
        for muscle, text in (status or {}).items():
            flags[self.muscles.index(muscle)] = text
        trial = TrialHeader(
            **common,
            valid=True,
            status=flags,
            sweep_start_ms=-100.0,
            rate_hz=RATE_HZ,
            pose_tracked=True,
            intensity_percent_mso=61.0,
        )
        if with_map:
            low = confidence_reasons or []
            header = MapHeader(
                **common,
                scale_v_per_m=SCALE_V_PER_M,
                confidence="low" if low else "ok",
                confidence_reasons=low,
                computed_field_reason=computed_reason,
            )
            arrays = dict(self.map_arrays(center, strength))
            if not computed_reason:
                arrays["computed_field"] = (self.coil_field(center), "V/m")
                header.computed_field_residual = 0.0014
                header.computed_field_agreement = FieldAgreement(correlation=0.87, nrmse=0.31, cog_distance_mm=4.25)
            self.send(header, arrays)
        self.send(trial, _trial_arrays(sweep, mep, np.where(mep >= 50.0, 21.5, np.nan)), skip=skip)

    def map_arrays(self, center: NDArray[np.float64], strength: float = 1.0) -> Arrays:
        distance = np.linalg.norm(self.voxel_mm - center, axis=1)
        field = np.clip(0.93 * strength * np.exp(-0.5 * (distance / 14.0) ** 2), 0.0, 1.0)
        weight = field**4
        cog = (weight[:, None] * self.voxel_mm).sum(axis=0) / weight.sum()
        cov = np.array([[4.0, 1.2, 0.4], [1.2, 2.2, -0.3], [0.4, -0.3, 1.4]])
        return {
            "field": (field.astype(np.float32), "1"),
            "spread": ((0.03 + 0.1 * np.sqrt(field)).astype(np.float32), "1"),
            "cog_mm": (cog, "mm"),
            "cog_cov_mm2": (cov, "mm^2"),
            "mep_normalised": (np.zeros(len(self.muscles), dtype=np.float32), "1"),
        }

    def coil_field(self, center: NDArray[np.float64]) -> NDArray[np.float32]:
        distance = np.linalg.norm(self.voxel_mm - center - np.array([4.0, 0.0, 0.0]), axis=1)
        return (110.0 * np.exp(-0.5 * (distance / 18.0) ** 2)).astype(np.float32)

    def _amplitudes(self, center: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
        along = np.linspace(self.voxel_mm[:, 0].min(), self.voxel_mm[:, 0].max(), len(self.muscles) + 2)[1:-1]
        near = np.exp(-0.5 * ((center[0] - along) / 9.0) ** 2)
        return np.asarray(2200.0 * strength * near * 10.0 ** self._random.normal(0.0, 0.25, len(self.muscles)))

    def _sweeps(self, amplitude: NDArray[np.float64]) -> NDArray[np.float32]:
        ms = -100.0 + np.arange(321) * 1000.0 / RATE_HZ
        sweep = self._random.normal(0.0, 3.5, (len(self.muscles), len(ms)))
        for index, uv in enumerate(amplitude):
            t = (ms - (26.0 + self._random.normal(0.0, 0.7))) / 4.0
            sweep[index] += 0.6 * uv * (-2.0 * t * np.exp(-(t**2))) * (1.0 + 0.15 * np.sin(5.0 * t))
        since = np.maximum(ms, 0.0)
        sweep += np.where(ms >= 0.0, 3000.0 * np.exp(-since / 1.2) * np.cos(since * 2.5), 0.0)
        return sweep.astype(np.float32)


class FakeEngine(FakeSession):
    """A session that is published on a real XPUB socket."""

    def __init__(self, address: str = "tcp://127.0.0.1:0", **options: Any) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.socket.bind(address)
        self.address = self.socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        super().__init__(self.socket.send_multipart, **options)

    def close(self) -> None:
        self.socket.close()
        self._context.term()

    def __enter__(self) -> "FakeEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_for_subscriber(self, timeout_s: float = 240.0) -> None:
        """Wait until a window subscribes, then greet it."""
        if not self.socket.poll(timeout_s * 1000.0):
            raise TimeoutError("no window subscribed")
        self.greet_subscribers()

    def greet_subscribers(self) -> None:
        """Greet whoever has subscribed, as the engine does."""
        while self.socket.poll(0):
            if self.socket.recv().startswith(b"\x01"):
                self.greet()


def _trial_arrays(sweep: NDArray[Any], mep: NDArray[Any], onset: NDArray[Any]) -> Arrays:
    n = len(mep)
    nan = np.full(n, np.nan, dtype=np.float32)
    return {
        "sweep_uv": (sweep.astype(np.float32), "uV"),
        "mep_uv": (mep.astype(np.float32), "uV"),
        "onset_ms": (onset.astype(np.float32), "ms"),
        "peak_ms": (np.full((n, 2), np.nan, dtype=np.float32), "ms"),
        "baseline_rms_uv": (nan, "uV"),
        "control_uv": (nan, "uV"),
        "pose": (np.eye(4), "mm"),
    }


def _pulse_for_ever(address: str) -> None:
    with FakeEngine(address, geometry=shipped_geometry()) as engine:
        poller = zmq.Poller()
        poller.register(engine.socket, zmq.POLLIN)
        while True:
            # Waits half a second, or until somebody subscribes.
            poller.poll(500)
            engine.greet_subscribers()
            engine.send_health()
            if engine.n_pulses % 9 == 5:
                engine.send_pulse(reasons=["gap"])
            elif engine.n_pulses % 9 == 7:
                engine.send_pulse(strength=0.01, confidence_reasons=["no_active_muscle"])
            else:
                engine.send_pulse()


if __name__ == "__main__":
    _pulse_for_ever(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5556")
