"""A small head for the tests of the simulated subject, and short sessions on it."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from drivers.simulated.session import SimulatedSession, make_session
from drivers.simulated.settings import EmgSettings, ProtocolSettings, SimulatedSubjectSettings
from rt_engine.field.coil import figure_of_eight
from rt_engine.field.placement import coil_pose, move
from rt_engine.field.reduced_basis import ReducedBasis
from rt_engine.field.sphere import SphereField
from rt_engine.field.subject_file import MNI_RAS, Subject

QUIET = EmgSettings(noise_rms_uv=(0.0, 0.0), hum_uv=0.0, artefact_uv=0.0, artefact_leak_uv=0.0)
"""Nothing but MEPs."""


def small_subject(hemisphere: str = "left") -> Subject:
    """Make a strip of cortex, every other voxel of 12 x 3 mm, that runs over the hand knob towards the midline."""
    side = -1.0 if hemisphere == "left" else 1.0
    center_mm = np.array([0.0, -22.0, 10.0])
    origin = np.array([-66.0 if hemisphere == "left" else 2.0, -46.0, 14.0])
    box = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    from_center = box + origin - center_mm
    radius = np.linalg.norm(from_center, axis=1)
    angle = np.rad2deg(np.arctan2(side * from_center[:, 0], from_center[:, 2]))
    strip = (radius > 58) & (radius < 61) & (np.abs(from_center[:, 1]) < 6) & (angle > 12) & (angle < 62)
    strip &= box.sum(axis=1) % 2 == 0
    affine = np.eye(4)
    affine[:3, 3] = origin
    return Subject(
        name="a strip",
        space=MNI_RAS,
        hemisphere=hemisphere,
        box_shape=(64, 64, 64),
        affine=affine,
        voxel=box[strip].astype(np.int16),
        vertices=np.zeros((3, 3), np.float32),
        triangles=np.array([[0, 1, 2]], np.int32),
        sphere_center_mm=center_mm,
        scalp_radius_mm=77.0,
        notices="",
    )


def with_basis(subject: Subject, half_mm: float = 45.0, n_skeleton: int = 150) -> Subject:
    """Give a subject a basis that covers a square of the scalp; its "finite elements" are the closed form."""
    rng = np.random.default_rng(0)
    knob = np.array([-37.0, -23.0, 57.0]) * ([1, 1, 1] if subject.hemisphere == "left" else [-1, 1, 1])
    middle = knob - subject.sphere_center_mm
    places = [move(middle, *rng.uniform(-half_mm, half_mm, 2), subject.scalp_radius_mm) for _ in range(n_skeleton)]
    poses = [
        coil_pose(subject, place, rotation_deg=rng.normal(0, 8), tilt_deg=tuple(rng.normal(0, 4, 2)))
        for place in places
    ]
    coil = figure_of_eight()
    sphere = SphereField(subject.voxel_mm, subject.sphere_center_mm)
    fields = np.stack([sphere.field(coil, pose, 1.0).ravel() for pose in poses])
    mixing, size, components = np.linalg.svd(fields, full_matrices=False)
    direction = rng.normal(size=(600, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inside = subject.sphere_center_mm + direction * rng.uniform(30, 72, (600, 1))
    near = ((inside - subject.sphere_center_mm) @ middle) > 0.0
    scale = np.abs(components).max(axis=1)
    return replace(
        subject,
        basis=ReducedBasis(
            coil=coil,
            skeleton_pose=np.stack(poses),
            sample_mm=inside[near],
            mixing=mixing.astype(np.float32),
            components=(components / scale[:, None]).reshape(len(size), -1, 3).astype(np.float32),
            scale=(scale * size).astype(np.float32),
            residual_limit=0.02,
            covered_mm=np.stack(poses)[:, :3, 3].astype(np.float32),
            covered_radius_mm=10.0,
            method="closed form, for tests",
        ),
    )


@pytest.fixture(scope="session")
def subject() -> Subject:
    return small_subject()


@pytest.fixture(scope="session")
def solved(subject: Subject) -> Subject:
    """Return the same head with a basis."""
    return with_basis(subject)


@pytest.fixture(scope="session")
def simulate(subject: Subject) -> Callable[..., SimulatedSession]:
    """Work out a short session: settings by group and by name."""

    def make(pulses: int = 6, *, emg: EmgSettings | None = None, **options: object) -> SimulatedSession:
        given = {"interval_s": 0.3, "lead_in_s": 0.2, "tail_s": 0.2, **options.pop("protocol", {})}
        settings = SimulatedSubjectSettings(
            protocol=ProtocolSettings(pulses=pulses, **given), emg=emg or EmgSettings(), **options
        )
        return make_session(subject, settings)

    return make


@pytest.fixture(scope="session")
def session(simulate: Callable[..., SimulatedSession]) -> SimulatedSession:
    return simulate(seed=3)


@pytest.fixture(scope="session")
def quiet_session(simulate: Callable[..., SimulatedSession]) -> SimulatedSession:
    return simulate(seed=3, emg=QUIET)


def changed(settings: SimulatedSubjectSettings, **groups: dict[str, object]) -> SimulatedSubjectSettings:
    """Return settings with some values of some groups replaced."""
    new = {name: msgspec.structs.replace(getattr(settings, name), **values) for name, values in groups.items()}
    return msgspec.structs.replace(settings, **new)
