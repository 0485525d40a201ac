"""Plain arrays and the authors' MATLAB files: everything in one place, checked before it is used."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from rt_engine.errors import DataError, FileFormatError
from trainer.importers.arrays import read_arrays
from trainer.importers.mat_layout import MatLayout, read_mat_layout

VOXEL = np.array([[3, 2, 1], [0, 5, 7], [3, 2, 0]])


def good():
    rng = np.random.default_rng(0)
    pose = np.tile(np.array([[1.0, 0, 0, -40], [0, -1, 0, -20], [0, 0, -1, 70], [0, 0, 0, 1]]), (4, 1, 1))
    pose[2] = np.nan
    return {
        "field_v_per_m": rng.uniform(10, 90, (4, 3)),
        "voxel": VOXEL,
        "origin": np.array([-66.0, -46, 14]),
        "mep_uv": np.array([[100.0, 20], [np.nan, 300], [800, 40], [60, 70]]),
        "muscles": np.array(["FDI", "ADM"]),
        "intensity": np.array([110.0, 120, 130, 140]),
        "pose": pose,
    }


def save(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array.astype("S") if array.dtype.kind == "U" else array


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_arrays_come_in_the_projects_order(tmp_path, name):
    arrays = good()
    save(tmp_path / name, arrays)
    data = read_arrays(tmp_path / name)
    np.testing.assert_array_equal(data.voxel, [[0, 5, 7], [3, 2, 0], [3, 2, 1]])
    np.testing.assert_allclose(data.field_v_per_m, arrays["field_v_per_m"][:, [1, 2, 0]], rtol=1e-6)
    np.testing.assert_array_equal(data.affine[:3, 3], (-66, -46, 14))
    np.testing.assert_array_equal(data.mep_uv, arrays["mep_uv"])
    assert (data.muscles, data.box_shape) == (("FDI", "ADM"), (64, 64, 64))
    np.testing.assert_array_equal(np.isnan(data.pose).all(axis=(1, 2)), [False, False, True, False])


def test_intensity_and_pose_may_be_absent_and_vectors_become_magnitudes(tmp_path):
    arrays = good()
    del arrays["intensity"], arrays["pose"]
    vectors = np.random.default_rng(1).normal(size=(4, 3, 3)) * 50
    arrays["field_v_per_m"] = vectors
    save(tmp_path / "a.npz", arrays)
    data = read_arrays(tmp_path / "a.npz")
    np.testing.assert_allclose(data.field_v_per_m[:, 0], np.linalg.norm(vectors[:, 1], axis=1), rtol=1e-6)
    assert np.isnan(data.intensity).all()
    assert np.isnan(data.pose).all()


def broken(**changes):
    return {name: array for name, array in (good() | changes).items() if array is not None}


SHEARED = good()["pose"]
SHEARED[1, 0, 1] = 0.3
BAD = {
    "no field": (broken(field_v_per_m=None), "no array 'field_v_per_m'"),
    "no voxels": (broken(voxel=None), "no array 'voxel'"),
    "no place": (broken(origin=None), "neither affine and origin"),
    "two places": (broken(affine=np.eye(4)), "both affine and origin"),
    "singular affine": (broken(origin=None, affine=np.zeros((4, 4))), "affine is no invertible"),
    "other counts": (broken(mep_uv=np.ones((3, 2)) * 99), r"4 stimulations, mep_uv is \(3, 2\)"),
    "other muscles": (broken(muscles=np.array(["FDI"])), "muscles names 1"),
    "voxels in mm": (broken(voxel=VOXEL - 40), "indices that count from 0, not mm"),
    "voxels of fractions": (broken(voxel=VOXEL + 0.5), "whole numbers"),
    "a voxel twice": (broken(voxel=VOXEL * 0), "lexicographic"),
    "fewer voxels": (broken(voxel=VOXEL[:2]), "3 voxels, voxel 2"),
    "small box": (broken(box_shape=np.array([2, 2, 2])), "the voxels need"),
    "component": (broken(field_v_per_m=-good()["field_v_per_m"]), "component of a vector"),
    "texts": (broken(field_v_per_m=np.array([["a"]])), "expected numbers"),
    "sheared pose": (broken(pose=SHEARED), "pose 2: the axes are not orthonormal"),
    "fewer poses": (broken(pose=good()["pose"][:2]), "pose has 2"),
    "objects": (broken(muscles=np.array([{}], dtype=object)), "Python objects"),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_contradict_themselves_are_refused_by_name(tmp_path, case):
    arrays, message = BAD[case]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(FileFormatError, match=message):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_a_truncated_file_is_refused(tmp_path, name):
    path = tmp_path / name
    save(path, good())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_arrays(path)
    with pytest.raises(FileFormatError, match="expected .npz"):
        read_arrays(path.with_suffix(".zip"))
    with pytest.raises(FileFormatError, match="There is no file"):
        read_arrays(tmp_path / "b.npz")


BOX = (6, 5, 4)


def mat_folder(folder, numbers=(2, 10, 3), field="box_matrix_E"):
    rng = np.random.default_rng(2)
    mask = np.zeros(BOX, np.uint8)
    mask[1:3, 2, :2] = 1
    boxes = {number: rng.uniform(0, 0.05, BOX) * mask for number in numbers}
    for number, box in boxes.items():
        savemat(folder / f"026_E-box_{number}.mat", {field: box})
    savemat(folder / "mask_026.mat", {"logical_mask": mask})
    mep = rng.uniform(0, 1, (len(numbers), 2))
    savemat(folder / "Y_026.mat", {"MEPampNormAll": mep})
    return mask, np.array([boxes[number][mask != 0] for number in sorted(numbers)]), mep


def layout(**changes):
    given = {
        "affine": np.eye(4),
        "muscles": ("FDI", "ADM"),
        "mep_unit": "normalised",
        "field_v_per_m": 1000.0,
        "maximum_uv": (5000.0, 900.0),
    }
    return MatLayout(**(given | changes))


def test_the_authors_files_come_in_the_order_of_their_numbers(tmp_path):
    mask, fields, mep = mat_folder(tmp_path)
    data = read_mat_layout([tmp_path], layout())
    np.testing.assert_allclose(data.field_v_per_m, fields * 1000, rtol=1e-6)
    np.testing.assert_allclose(data.mep_uv, mep * (5000, 900))
    np.testing.assert_array_equal(data.voxel, np.argwhere(mask))
    assert data.box_shape == BOX
    shuffled = sorted(tmp_path.glob("*.mat"), reverse=True)
    np.testing.assert_array_equal(read_mat_layout(shuffled, layout()).field_v_per_m, data.field_v_per_m)


def test_matlab_73_is_read_with_its_axes_reversed(tmp_path):
    mask, fields, mep = mat_folder(tmp_path)
    expected = read_mat_layout([tmp_path], layout())
    new = tmp_path / "new"
    new.mkdir()
    for name, variable, array in (
        ("mask.mat", "mask", mask),
        ("Y.mat", "MD_RMT_110_120_130_140", mep),
    ):
        with h5py.File(new / name, "w", userblock_size=512) as file:
            file[variable] = array.T
    stack = np.zeros((*BOX, 3))
    stack[mask != 0] = fields.T
    with h5py.File(new / "fields.mat", "w", userblock_size=512) as file:
        file["E"] = stack.T
    data = read_mat_layout([new], layout(names={"field": "E"}))
    np.testing.assert_allclose(data.field_v_per_m, expected.field_v_per_m, rtol=1e-6)
    np.testing.assert_allclose(data.mep_uv, expected.mep_uv)


def test_what_the_files_do_not_say_must_be_given(tmp_path):
    mat_folder(tmp_path)
    with pytest.raises(DataError, match="need as many maxima"):
        read_mat_layout([tmp_path], layout(maximum_uv=()))
    with pytest.raises(DataError, match="expected uV, mV or V"):
        read_mat_layout([tmp_path], layout(mep_unit="au"))
    with pytest.raises(DataError, match="expected a positive number"):
        read_mat_layout([tmp_path], layout(field_v_per_m=0))
    with pytest.raises(FileFormatError, match=r"the MEPs are \(3, 2\).*1 muscles"):
        read_mat_layout([tmp_path], layout(muscles=("FDI",)))
    with pytest.raises(DataError, match="no variable of the kind 'mepp'"):
        read_mat_layout([tmp_path], layout(names={"mepp": "Y"}))


def test_files_that_do_not_go_together_are_refused(tmp_path):
    mat_folder(tmp_path)
    (tmp_path / "026_E-box_10.mat").unlink()
    with pytest.raises(FileFormatError, match=r"the MEPs are \(3, 2\); there are 2 fields"):
        read_mat_layout([tmp_path], layout())
    savemat(tmp_path / "026_E-box_10.mat", {"box_matrix_E": np.ones((3, 3, 3))})
    with pytest.raises(FileFormatError, match=r"026_E-box_10.mat: the field is \(3, 3, 3\)"):
        read_mat_layout([tmp_path], layout())
    savemat(tmp_path / "026_E-box_10.mat", {"other": np.ones(BOX)})
    with pytest.raises(FileFormatError, match="has the variables other"):
        read_mat_layout([tmp_path], layout())
    (tmp_path / "026_E-box_10.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 40)
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_mat_layout([tmp_path], layout())
    (tmp_path / "026_E-box_10.mat").unlink()
    (tmp_path / "mask_026.mat").unlink()
    with pytest.raises(DataError, match="0 of the files have a variable logical_mask or mask"):
        read_mat_layout([tmp_path], layout())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no .mat file"):
        read_mat_layout([tmp_path / "empty"], layout())
