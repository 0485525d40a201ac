"""The model file: one ONNX file that holds everything from microvolts to a map of the cortex.

`read_model_info` checks the file's digest and parses its metadata without ONNX Runtime; `open_model` then makes a
`Model`, whose `predict` maps one pulse. The layout is documented in ``docs/model-file.md``; files are written by
`trainer.export`.
"""

import base64
import binascii
import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt_engine.errors import DataError, FileFormatError, ModelError
from rt_engine.field.voxel_grid import check_grid, voxel_centers_mm
from rt_engine.onnx_metadata import read_metadata
from rt_engine.onnx_session import CPU, DEVICE, BoundRun, Provider, captured_output, open_session

MODEL_VERSION = 1
"""Newest layout of the model file that this software reads."""

MAX_BYTES = 2**31
"""ONNX, being protobuf, holds no more; a larger file is refused unread."""

MOST_VOXELS = 10_000_000
"""Of a map; a head at half a millimetre has as many."""

DIGEST_PREFIX = b"m2m-digest-sha256:"
"""Stands once in a model file, before the 64 hex digits of its digest."""

_DIGEST = re.compile(re.escape(DIGEST_PREFIX) + rb"([0-9a-f]{64})")
_BLANK = b"0" * 64

INPUTS = {"amplitudes_uv": "tensor(float)", "valid": "tensor(bool)"}
DEFAULTED_INPUTS = {"scale_uv": "tensor(float)"}
OUTPUTS = {
    "mep_normalised": "tensor(float)",
    "field": "tensor(float)",
    "spread": "tensor(float)",
    "cog_mm": "tensor(double)",
    "cog_cov_mm2": "tensor(double)",
}


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """What a model file says about itself.

    Attributes
    ----------
    path
        The file.
    sha256
        SHA-256 of the file's bytes, hex.
    format_version
        Layout of the file.
    kind
        How it estimates, e.g. ``kernel-ridge``.
    name
        For people.
    muscles
        Order of the muscle axis (m).
    box_shape
        Voxels of the anatomy box.
    voxel
        (V, 3) int16, the voxels of BA4 in the box, in C order.
    affine
        (4, 4) float64, box index to scanner space in mm.
    field_scale_v_per_m
        What 1.0 in a field stands for, V/m.
    floor_uv
        Amplitudes below it are taken as equal to it, uV.
    scale_uv
        (m,) float64, the amplitude that stands for 1.0 in `Estimate.mep_normalised`, uV.
    n_stimulations
        Number of stimulations that the model was fitted to.
    validation
        Figures on held-out data, as `trainer.validation` made them.
    data_sha256, subject_sha256
        Of the data set and the subject file; empty if not known.
    created
        ISO 8601, or empty.
    """

    path: Path
    sha256: str
    format_version: int
    kind: str
    name: str
    muscles: tuple[str, ...]
    box_shape: tuple[int, int, int]
    voxel: NDArray[np.int16]
    affine: NDArray[np.float64]
    field_scale_v_per_m: float
    floor_uv: float
    scale_uv: NDArray[np.float64]
    n_stimulations: int
    validation: dict[str, Any]
    data_sha256: str
    subject_sha256: str
    created: str

    @property
    def n_voxels(self) -> int:
        """Number of voxels of every map."""
        return len(self.voxel)

    @property
    def voxel_mm(self) -> NDArray[np.float64]:
        """(V, 3) centres of the voxels in scanner space, mm."""
        return voxel_centers_mm(self.voxel, self.affine)


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a model makes of one pulse.

    Attributes
    ----------
    mep_normalised
        (m,) float32 in [0, 1], amplitude by the muscle's scale; 0 where not valid.
    field
        (V,) float32 in [0, 1], magnitude of the E-field by `ModelInfo.field_scale_v_per_m`.
    spread
        (V,) float32, one standard deviation of `field`.
    cog_mm
        (3,) float64, centre of gravity of `field` in scanner space, mm.
    cog_cov_mm2
        (3, 3) float64, its covariance, mm^2.
    """

    mep_normalised: NDArray[np.float32]
    field: NDArray[np.float32]
    spread: NDArray[np.float32]
    cog_mm: NDArray[np.float64]
    cog_cov_mm2: NDArray[np.float64]


class Model:
    """An opened model; made by `open_model`.

    Parameters
    ----------
    info
        What the file says about itself.
    session
        Its `onnxruntime.InferenceSession`.
    provider
        ONNX Runtime's execution provider in use.
    notice
        One line for the user if that is not what was asked for, else None.
    """

    def __init__(self, info: ModelInfo, session: Any, provider: str, notice: str | None = None) -> None:
        self.info = info
        self.provider = provider
        self.notice = notice
        self._session = session
        m, v = len(info.muscles), info.n_voxels
        self._names = list(OUTPUTS)
        self._shapes = [(1, m), (1, v), (1, v), (1, 3), (1, 3, 3)]
        self._bound: BoundRun | None = None
        if provider != CPU:
            self._bound = self._bind(DEVICE[provider])

    def predict(self, amplitudes_uv: ArrayLike, valid: ArrayLike, scale_uv: ArrayLike | None = None) -> Estimate:
        """Estimate the field of one pulse. One at a time, because batches change the last bits.

        Parameters
        ----------
        amplitudes_uv
            (m,) peak-to-peak amplitudes in the order of `info.muscles`, uV. What stands where not valid is ignored.
        valid
            (m,) bool, False where an amplitude cannot be used.
        scale_uv
            (m,) amplitude that stands for 1.0 per muscle, uV; by default the model's own.

        Raises
        ------
        DataError
            If a shape is wrong, a valid amplitude is not a number, or a scale is not positive.
        ModelError
            If the model cannot be computed, or gives a wrong shape or values that no field can have.
        """
        m = len(self.info.muscles)
        amplitudes = np.asarray(amplitudes_uv, dtype=np.float32)
        usable = np.asarray(valid)
        if amplitudes.shape != (m,) or usable.shape != (m,) or usable.dtype != np.bool_:
            raise DataError(
                f"the model takes {m} amplitudes and {m} booleans; got {amplitudes.shape} and {usable.shape} "
                f"{usable.dtype}"
            )
        if not np.isfinite(amplitudes[usable]).all():
            names = [self.info.muscles[k] for k in np.flatnonzero(usable & ~np.isfinite(amplitudes))]
            raise DataError(f"amplitudes of {', '.join(names)} are not finite; mark them as not valid")
        feed: dict[str, NDArray[Any]] = {
            "amplitudes_uv": np.where(usable, amplitudes, np.float32(0))[None],
            "valid": usable[None],
        }
        if scale_uv is not None:
            scale = np.asarray(scale_uv, dtype=np.float32)
            if scale.shape != (m,) or not (np.isfinite(scale).all() and (scale > 0).all()):
                raise DataError(f"scale_uv must be {m} positive numbers; got {scale}")
            feed["scale_uv"] = scale
        try:
            if self._bound is not None and scale_uv is None:
                outputs = self._bound(feed)
            else:
                outputs = self._session.run(self._names, feed)
        except Exception as error:  # ONNX Runtime's exceptions share no base class that it exports
            raise ModelError(f"{self.info.path}: the model cannot be computed: {error}") from error
        for name, output, shape in zip(self._names, outputs, self._shapes, strict=True):
            if output.shape != shape:
                raise ModelError(
                    f"{self.info.path}: output {name!r} has shape {output.shape}, expected {shape}; "
                    "export the model again"
                )
        normalised, field, spread, cog_mm, cog_cov_mm2 = (output[0] for output in outputs)
        # Smallest and largest value are NaN where one of them is; that looks at each map twice, and not five times.
        low, high = float(np.minimum.reduce(field)), float(np.maximum.reduce(field))
        narrow, wide = float(np.minimum.reduce(spread)), float(np.maximum.reduce(spread))
        rest = float(normalised.sum()) + float(cog_mm.sum()) + float(cog_cov_mm2.sum())
        if not math.isfinite(low + high + narrow + wide + rest):
            self._refuse_what_is_not_finite(outputs, amplitudes)
        if low < 0 or high > 1 or narrow < 0:
            raise ModelError(f"{self.info.path}: the field leaves [0, 1] or its spread is negative")
        return Estimate(normalised, field, spread, cog_mm, cog_cov_mm2)

    def _bind(self, device: str) -> BoundRun:
        inputs = {
            "amplitudes_uv": np.zeros((1, len(self.info.muscles)), np.float32),
            "valid": np.zeros((1, len(self.info.muscles)), np.bool_),
        }
        kinds = [np.float64 if kind == "tensor(double)" else np.float32 for kind in OUTPUTS.values()]
        outputs = {n: np.empty(shape, kind) for n, shape, kind in zip(self._names, self._shapes, kinds, strict=True)}
        return BoundRun(self._session, device, inputs, outputs)

    def _refuse_what_is_not_finite(self, outputs: list[NDArray[Any]], amplitudes: NDArray[np.float32]) -> None:
        for name, output in zip(self._names, outputs, strict=True):
            if not np.isfinite(output).all():
                raise ModelError(f"{self.info.path}: output {name!r} is not finite for amplitudes {amplitudes} uV")


def read_model_info(path: str | Path) -> ModelInfo:
    """Read what a model file says about itself, after checking its digest. ONNX Runtime is not involved.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is not a model of this project, is damaged, or is of a newer version.
    """
    return _read(Path(path))[0]


def open_model(path: str | Path, *, provider: Provider = "auto", threads: int = 1, sha256: str = "") -> Model:
    """Open a model file and run it once, so that the first pulse is as fast as the others.

    Parameters
    ----------
    path
        The model file.
    provider
        ``auto`` (CUDA if it works, else the CPU), ``cpu`` or ``cuda``. What was got is `Model.provider`; if that is not
        CUDA although it was tried, `Model.notice` says why in one line.
    threads
        Threads within one operator.
    sha256
        SHA-256 that the file must have, checked before ONNX Runtime sees it; empty takes what is there.

    Raises
    ------
    FileFormatError
        As `read_model_info`.
    ModelError
        If it has another SHA-256, ONNX Runtime refuses the model, its inputs or outputs are not those of a model file,
        or its first run fails.
    """
    info, content = _read(Path(path))
    if sha256 and info.sha256 != sha256:
        raise ModelError(f"{path} has the SHA-256 {info.sha256}; expected {sha256}: it is another model")
    session, used, notice = open_session(content, provider=provider, threads=threads)
    _check_ends("inputs", INPUTS, session.get_inputs(), info.path)
    _check_ends("inputs with a default", DEFAULTED_INPUTS, session.get_overridable_initializers(), info.path)
    _check_ends("outputs", OUTPUTS, session.get_outputs(), info.path)
    if used == CPU:
        return _warmed(info, session, used, notice)
    try:
        with captured_output([]):
            return _warmed(info, session, used, notice)
    except Exception as error:  # a GPU may be there and compute nothing: its driver is too old, its memory is full
        complaint = " ".join(str(error).split())[:200]
        notice = f"CUDA cannot compute this model here ({complaint}); the model runs on the CPU"
    return _warmed(info, open_session(content, provider="cpu", threads=threads)[0], CPU, notice)


def _warmed(info: ModelInfo, session: Any, provider: str, notice: str | None) -> Model:
    model = Model(info, session, provider, notice)
    valid = np.ones(len(info.muscles), dtype=bool)
    model.predict(info.scale_uv, valid)
    model.predict(info.scale_uv, ~valid)  # a muscle that is not valid takes another path through the graph
    return model


def digest_of(content: bytes) -> str:
    """Return the digest that a model file's bytes should carry: SHA-256 with the digest's own digits as zeros.

    Parameters
    ----------
    content
        The whole file.

    Raises
    ------
    FileFormatError
        If the place for the digest is not there exactly once.
    """
    places = list(_DIGEST.finditer(content))
    if len(places) != 1:
        raise FileFormatError(f"expected one digest, found {len(places)}")
    begin, end = places[0].span(1)
    digest = hashlib.sha256(content[:begin])
    digest.update(_BLANK)
    digest.update(content[end:])
    return digest.hexdigest()


def _check_ends(what: str, expected: dict[str, str], found: list[Any], path: Path) -> None:
    got = {end.name: end.type for end in found}
    if got != expected:
        raise ModelError(f"{path}: the graph's {what} are {got}, expected {expected}; export the model again")


def _read(path: Path) -> tuple[ModelInfo, bytes]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FileFormatError(f"{path} has {path.stat().st_size} bytes; expected a model of at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    places = _DIGEST.findall(content)
    if len(places) != 1:
        raise FileFormatError(
            f"{path}: {len(content)} bytes with {len(places)} m2m digests, expected one: this is not a model of "
            "m2m-live, or it is damaged or cut short. Copy it again, or make it with `m2m train` or `m2m fit-baseline`"
        )
    if digest_of(content) != places[0].decode():
        raise FileFormatError(
            f"{path}: the content does not match its digest: the file is damaged or was changed. "
            "Copy it again, or make it with `m2m train` or `m2m fit-baseline`"
        )
    try:
        properties = read_metadata(content)
    except (IndexError, ValueError) as error:
        raise FileFormatError(f"{path}: not an ONNX file: {error}") from error
    return _parse_info(path, hashlib.sha256(content).hexdigest(), properties), content


def _parse_info(path: Path, sha256: str, properties: dict[str, str]) -> ModelInfo:
    def get(key: str, parse: Callable[[str], Any]) -> Any:
        text = properties.get(f"m2m.{key}")
        if text is None:
            raise FileFormatError(f"{path}: metadata m2m.{key} is missing; export the model again")
        try:
            return parse(text)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, binascii.Error, zlib.error) as error:
            raise FileFormatError(f"{path}: metadata m2m.{key} is unusable: {error}; export the model again") from error

    version = get("format_version", int)
    if not 1 <= version <= MODEL_VERSION:
        raise FileFormatError(
            f"{path}: model file of version {version}; this software reads 1 to {MODEL_VERSION}: update m2m-live"
        )
    muscles = get("muscles", _parse_muscles)
    box_shape = get("box_shape", _parse_box)
    voxel = get("voxel", _parse_voxel)
    affine = get("affine", lambda text: _parse_array(text, (4, 4)))
    try:
        check_grid(voxel, affine, box_shape)
    except DataError as error:
        raise FileFormatError(f"{path}: {error} Export the model again.") from error
    scale = get("scale_uv", lambda text: _parse_array(text, (len(muscles),)))
    if not (scale > 0).all():
        raise FileFormatError(f"{path}: metadata m2m.scale_uv has a scale that is not positive")
    return ModelInfo(
        path=path,
        sha256=sha256,
        format_version=version,
        kind=get("kind", str),
        name=get("name", str),
        muscles=muscles,
        box_shape=box_shape,
        voxel=voxel,
        affine=affine,
        field_scale_v_per_m=get("field_scale_v_per_m", _parse_positive),
        floor_uv=get("floor_uv", _parse_positive),
        scale_uv=scale,
        n_stimulations=get("n_stimulations", int),
        validation=get("validation", _parse_object),
        data_sha256=get("data_sha256", str),
        subject_sha256=get("subject_sha256", str),
        created=get("created", str),
    )


def _parse_muscles(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"expected a list of names, found {text[:80]}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"muscle {', '.join(repeated)} is named more than once")
    return tuple(names)


def _parse_box(text: str) -> tuple[int, int, int]:
    shape = json.loads(text)
    if not isinstance(shape, list) or len(shape) != 3 or not all(isinstance(n, int) for n in shape):
        raise ValueError(f"expected three integers, found {text[:80]}")
    return (shape[0], shape[1], shape[2])


def _parse_voxel(text: str) -> NDArray[np.int16]:
    packed = base64.b64decode(text, validate=True)
    unpacking = zlib.decompressobj()
    voxel = unpacking.decompress(packed, MOST_VOXELS * 6)
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise ValueError(f"the list of voxels is cut short, or longer than {MOST_VOXELS}")
    return np.frombuffer(voxel, dtype="<i2").reshape(-1, 3).astype(np.int16)


def _parse_array(text: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.array(json.loads(text), dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers of shape {shape}, found shape {array.shape}")
    return array


def _parse_positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(f"expected a positive number, found {text[:80]}")
    return number


def _parse_object(text: str) -> dict[str, Any]:
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise ValueError("expected a JSON object")
    return parsed
