"""The reduced basis: it gives the solver's own fields, says how good they are, and answers nothing that it cannot."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.errors import CoverageError, DataError
from rt_engine.field.coil import Coil
from rt_engine.field.field_basis import FieldBasis
from rt_engine.field.reduced_basis import ReducedBasis, check_basis
from rt_engine.field.sphere import sphere_field
from rt_engine.field.subject_file import Subject
from trainer.efield.coverage import Coverage, covered_poses

COVERAGE = Coverage(radius_mm=25.0, rotation_deg=60.0, tilt_deg=5.0, gap_mm=(0.0, 6.0))
DIDT = 1e8


@pytest.fixture(scope="module")
def on_sphere(with_basis: Subject) -> Subject:
    """Return the same subject with its coil on the sphere, for which the basis was made."""
    return replace(with_basis, scalp=None)


@pytest.fixture(scope="module")
def basis(with_basis: Subject) -> ReducedBasis:
    assert with_basis.basis is not None
    return with_basis.basis


@pytest.fixture(scope="module")
def ready(basis: ReducedBasis) -> FieldBasis:
    return FieldBasis(basis)


@pytest.fixture(scope="module")
def unseen(on_sphere: Subject) -> np.ndarray:
    return covered_poses(on_sphere, 30, seed=77, coverage=COVERAGE)


def direct(subject: Subject, coil: Coil, pose: np.ndarray) -> np.ndarray:
    return sphere_field(subject.voxel_mm, coil, pose, DIDT, subject.sphere_center_mm)


def moved(pose: np.ndarray, mm: np.ndarray) -> np.ndarray:
    pose = pose.copy()
    pose[:3, 3] += mm
    return pose


def test_unseen_placements_get_the_field_that_the_solver_gives(ready, on_sphere, unseen) -> None:
    error, residual = [], []
    for pose in unseen:
        found = ready.field(pose, DIDT)
        expected = direct(on_sphere, ready.basis.coil, pose)
        assert found.field_v_per_m.dtype == np.float32
        assert found.field_v_per_m.shape == expected.shape
        error.append(np.linalg.norm(found.field_v_per_m - expected) / np.linalg.norm(expected))
        residual.append(found.residual)
        magnitude = np.linalg.norm(found.field_v_per_m, axis=1)
        np.testing.assert_allclose(found.magnitude_v_per_m, magnitude, rtol=1e-5)
    assert np.mean(error) < 0.003
    assert np.max(error) < 0.01
    # The residual says how large the error is, up to a factor of about two.
    assert (np.array(error) < 2 * np.array(residual) + 3e-4).all()


def test_a_solved_placement_comes_back_but_for_what_compression_costs(ready, on_sphere, basis) -> None:
    for pose in basis.skeleton_pose[:10]:
        expected = direct(on_sphere, basis.coil, pose)
        found = ready.field(pose, DIDT)
        assert found.residual < 1e-6
        assert np.linalg.norm(found.field_v_per_m - expected) < 5e-4 * np.linalg.norm(expected)


def test_the_field_is_proportional_to_the_change_of_current(ready, unseen) -> None:
    one = ready.field(unseen[0], DIDT).field_v_per_m
    np.testing.assert_allclose(ready.field(unseen[0], -0.5 * DIDT).field_v_per_m, -0.5 * one, rtol=1e-5, atol=1e-6)


def test_a_placement_alone_gets_the_same_bits_as_among_others(ready, unseen) -> None:
    didt = np.linspace(0.5e8, 1.5e8, len(unseen))
    seen = []
    found = ready.fields(unseen, didt, lambda done, total: seen.append((done, total)))
    assert seen == [(row + 1, len(unseen)) for row in range(len(unseen))]
    assert not found.refused.any()
    for row in (0, 7, 29):
        alone = ready.field(unseen[row], didt[row])
        np.testing.assert_array_equal(found.magnitude_v_per_m[row], alone.magnitude_v_per_m)
        assert found.residual[row] == alone.residual
    again = FieldBasis(ready.basis).fields(unseen[::-1], didt[::-1])
    np.testing.assert_array_equal(again.magnitude_v_per_m[::-1], found.magnitude_v_per_m)


directions = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array).filter(lambda v: np.linalg.norm(v) > 0.1)


@given(row=st.integers(0, 29), direction=directions)
def test_a_placement_5_cm_away_from_all_covered_ones_is_refused_whatever_its_residual(
    ready, basis, unseen, row, direction
) -> None:
    pose = moved(unseen[row], 50 * direction / np.linalg.norm(direction))
    if np.linalg.norm(basis.covered_mm - pose[:3, 3], axis=1).min() < 12:
        return  # a step across the covered area ends in it again
    with pytest.raises(CoverageError) as refused:
        ready.field(pose, DIDT)
    assert refused.value.residual == ready.residual(pose)
    assert refused.value.limit == basis.residual_limit


@pytest.mark.parametrize("way", ["lifted", "pushed in"])
def test_lifted_off_or_pushed_into_the_head_is_refused(ready, unseen, way) -> None:
    sign = {"lifted": -1, "pushed in": 1}[way]
    poses = np.stack([moved(pose, sign * 50 * pose[:3, 2]) for pose in unseen])
    found = ready.fields(poses, DIDT)
    assert found.refused.all()
    assert np.isnan(found.magnitude_v_per_m).all()
    assert np.isfinite(found.residual).all()


def test_a_coil_that_faces_away_is_refused_or_right(ready, on_sphere, unseen) -> None:
    flipped = unseen @ np.diag([1.0, -1, -1, 1])
    for pose, refused in zip(flipped, ready.fields(flipped, DIDT).refused, strict=True):
        if not refused:
            expected = direct(on_sphere, ready.basis.coil, pose)
            assert np.linalg.norm(ready.field(pose, DIDT).field_v_per_m - expected) < 0.02 * np.linalg.norm(expected)


def test_a_tilt_that_was_not_covered_is_refused_by_its_residual(ready, basis, unseen) -> None:
    """The place is covered: only the residual can tell."""
    c, s = np.cos(np.deg2rad(60)), np.sin(np.deg2rad(60))
    poses = unseen @ np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
    found = ready.fields(poses, DIDT)
    assert found.refused.all()
    assert (found.residual > basis.residual_limit).all()
    with pytest.raises(CoverageError, match="has the residual"):
        ready.field(poses[0], DIDT)


def test_a_pose_in_metres_is_refused(ready, unseen) -> None:
    pose = unseen[0].copy()
    pose[:3, 3] *= 1e-3
    with pytest.raises(CoverageError, match="mm away from the nearest covered place"):
        ready.field(pose, DIDT)


def test_a_dipole_on_a_sample_point_is_refused_not_divided_by(basis, unseen) -> None:
    on_it = replace(basis, sample_mm=basis.sample_mm.copy(), covered_radius_mm=1e4)
    pose = unseen[0]
    on_it.sample_mm[0] = pose[:3, :3] @ basis.coil.position_mm[5] + pose[:3, 3]
    found = FieldBasis(on_it).fields(pose[None], DIDT)
    assert found.refused.all()
    assert found.residual[0] == 1.0


def test_zero_placements_give_zero_rows(ready, basis) -> None:
    found = ready.fields(np.zeros((0, 4, 4)), DIDT)
    assert found.magnitude_v_per_m.shape == (0, basis.n_voxels)
    assert found.residual.shape == found.refused.shape == (0,)


@pytest.mark.parametrize(
    ("pose", "didt", "message"),
    [
        (np.eye(4), DIDT, r"\(4, 4\); expected \(n, 4, 4\)"),
        (np.full((2, 4, 4), np.nan), DIDT, "finite"),
        (np.stack([np.eye(4)] * 2), [1.0, 2.0, 3.0], "one per pose"),
        (np.stack([np.eye(4)]), np.nan, "dI/dt"),
        (2 * np.stack([np.eye(4)]), DIDT, "rigid"),
        (np.stack([np.diag([1.0, 1, -1, 1])]), DIDT, "rigid"),
    ],
)
def test_unusable_input_is_refused(ready, pose, didt, message) -> None:
    with pytest.raises(DataError, match=message):
        ready.fields(pose, didt)


WRONG = {
    "no method": ({"method": ""}, "no method"),
    "poses cut": ({"skeleton_pose": np.zeros((80, 3, 4))}, "skeleton_pose has the shape"),
    "a sheared pose": ({"skeleton_pose": np.stack([np.eye(4) + np.eye(4, k=1)] * 80)}, "rigid"),
    "fewer samples than placements": ({"sample_mm": np.zeros((79, 3))}, "79 sample points"),
    "mixing of another rank": ({"mixing": np.zeros((79, 4), np.float32)}, "mixing has the shape"),
    "mixing as float64": ({"mixing": np.zeros((80, 4))}, "mixing is float64; expected float32"),
    "components as float64": ({"components": np.zeros((4, 9, 3))}, "float16 or float32"),
    "scale not finite": ({"scale": "nan"}, "scale holds 1 values"),
    "no covered place": ({"covered_mm": np.zeros((0, 3), np.float32)}, "covered_mm has the shape"),
    "limit of zero": ({"residual_limit": 0.0}, "residual_limit is 0.0"),
    "radius not finite": ({"covered_radius_mm": np.inf}, "covered_radius_mm is inf"),
    "coil without current": (
        {"coil": Coil("c", np.zeros((2, 3)), np.zeros((2, 3)), 0.0)},
        "max_didt_a_per_us is 0.0",
    ),
    "coil in two parts": ({"coil": Coil("c", np.zeros((2, 3)), np.zeros((3, 3)), 1.0)}, "moment_am2_per_a"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_basis_that_contradicts_itself_is_refused(basis, change, message) -> None:
    if change.get("scale") == "nan":
        change = {"scale": np.where(np.arange(basis.n_components) == 1, np.nan, basis.scale).astype(np.float32)}
    with pytest.raises(DataError, match=message):
        check_basis(replace(basis, **change))
    with pytest.raises(DataError, match=message):
        FieldBasis(replace(basis, **change))
