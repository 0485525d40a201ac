"""The article's measures, against values computed by hand and against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rt_engine.errors import DataError
from trainer.metrics import center_of_gravity, cog_error_mm, nrmse, r_squared, skill

VOXEL_MM = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 2.0]])

fields = arrays(np.float64, (3, 4), elements=st.floats(0.01, 100.0))


def test_nrmse_is_the_error_by_the_norm_of_the_truth():
    assert nrmse([[3.0, 4.0]], [[3.0, 3.0]]) == pytest.approx([1.0 / 5.0])


def test_nrmse_is_one_for_an_empty_map():
    assert nrmse([[3.0, 4.0], [1.0, 0.0]], np.zeros((2, 2))) == pytest.approx([1.0, 1.0])


def test_r_squared_by_hand():
    # True mean 2; squared deviations 1 + 0 + 1; squared errors 0.25 + 0 + 0.25.
    assert r_squared([[1.0, 2.0, 3.0]], [[1.5, 2.0, 2.5]]) == pytest.approx([1 - 0.5 / 2])


def test_r_squared_of_the_truths_own_mean_is_zero():
    assert r_squared([[1.0, 2.0, 3.0]], [[2.0, 2.0, 2.0]]) == pytest.approx([0.0])


def test_cog_of_a_single_voxel_is_that_voxel():
    assert center_of_gravity(np.eye(4) * 7.0, VOXEL_MM) == pytest.approx(VOXEL_MM)


def test_cog_weights_voxels_by_their_field():
    assert center_of_gravity([[3.0, 1.0, 0.0, 0.0]], VOXEL_MM) == pytest.approx(np.array([[1.0, 0.0, 0.0]]))


def test_cog_of_no_field_is_not_a_number():
    assert np.isnan(center_of_gravity(np.zeros((1, 4)), VOXEL_MM)).all()


def test_cog_error_is_a_distance_in_millimetres():
    assert cog_error_mm([[0.0, 1, 0, 0]], [[0.0, 0, 1, 0]], VOXEL_MM) == pytest.approx([np.hypot(4.0, 8.0)])


def test_skill_by_hand():
    true, mean = np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([1.0, 1.0])
    assert skill(true, true, mean) == 1.0
    assert skill(true, np.tile(mean, (2, 1)), mean) == 0.0
    assert skill(true, true + 0.5, mean) == pytest.approx(0.75)
    assert skill(true, true + 2.0, mean) < 0.0


def test_skill_against_a_mean_map_per_fold():
    true = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert skill(true, true + 0.5, np.array([[1.0, 1.0], [2.0, 2.0]])) == pytest.approx(1 - 0.25 / 1.5)


@given(true=fields, estimated=fields, factor=st.floats(0.1, 1000.0))
def test_measures_do_not_depend_on_the_unit_of_the_field(true, estimated, factor):
    assert nrmse(true * factor, estimated * factor) == pytest.approx(nrmse(true, estimated))
    assert cog_error_mm(true * factor, estimated * factor, VOXEL_MM) == pytest.approx(
        cog_error_mm(true, estimated, VOXEL_MM), abs=1e-9
    )


@given(true=fields, estimated=fields)
def test_vectorised_measures_equal_plain_loops(true, estimated):
    for j in range(len(true)):
        x, x_hat = true[j], estimated[j]
        squared = sum((a - b) ** 2 for a, b in zip(x, x_hat, strict=True))
        assert nrmse(true, estimated)[j] == pytest.approx((squared / sum(a**2 for a in x)) ** 0.5)
        around = sum((a - sum(x) / 4) ** 2 for a in x)
        if around > 1e-9:
            assert r_squared(true, estimated)[j] == pytest.approx(1 - squared / around)
        cog = [sum(v * mm for v, mm in zip(x, VOXEL_MM[:, axis], strict=True)) / sum(x) for axis in range(3)]
        assert center_of_gravity(true, VOXEL_MM)[j] == pytest.approx(cog)


@pytest.mark.parametrize("measure", [nrmse, r_squared])
def test_arrays_of_different_shape_are_refused(measure):
    with pytest.raises(DataError, match="one shape"):
        measure(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(DataError, match="one shape"):
        measure(np.ones(3), np.ones(3))


def test_voxels_that_are_not_the_fields_are_refused():
    with pytest.raises(DataError, match="voxel centres"):
        center_of_gravity(np.ones((2, 5)), VOXEL_MM)
    with pytest.raises(DataError, match="mean map"):
        skill(np.ones((2, 3)), np.ones((2, 3)), np.ones(2))


def test_skill_needs_fields_that_differ():
    with pytest.raises(DataError, match="no skill"):
        skill(np.ones((2, 3)), np.ones((2, 3)), np.ones(3))
