"""Poses in SimNIBS' own convention, in the files that people keep them in."""

import io
import json

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from rt_engine.errors import FileFormatError
from trainer.importers.pose_files import read_poses, read_transform
from trainer.importers.pose_table import pose_from

DOWN = np.array([[1.0, 0, 0, -40], [0, -1, 0, -20], [0, 0, -1, 70], [0, 0, 0, 1]])
TWO = np.stack([DOWN, DOWN + np.eye(4)[:, [3]] @ np.array([[0, 0, 0, 0.0]])])
TWO[1, 0, 3] = -35


def rows(matrices, separator):
    return "\n".join(separator.join(f"{value:g}" for value in row) for matrix in matrices for row in matrix) + "\n"


def session(path):
    positions = np.zeros((2,), dtype=[("matsimnibs", object), ("didt", object), ("name", object)])
    for number, pose in enumerate(TWO):
        positions[number] = (pose, 1.5e8, f"grid {number}")
    savemat(path, {"type": "SESSION", "poslist": np.array([{"type": "TMSLIST", "pos": positions}], dtype=object)})


def mat_73(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["matsimnibs"] = np.moveaxis(TWO, 0, 2).T  # (4, 4, n) as MATLAB stores it


WRITERS = {
    "a.npy": lambda path: np.save(path, TWO),
    "last.npy": lambda path: np.save(path, np.moveaxis(TWO, 0, 2)),
    "a.csv": lambda path: path.write_text(rows(TWO, ",")),
    "spaces.txt": lambda path: path.write_text("# made by hand\n" + rows(TWO, "  ")),
    "semicolon.csv": lambda path: path.write_text(rows(TWO, ";").replace(".", ",")),
    "flat.csv": lambda path: path.write_text(rows(TWO.reshape(2, 1, 16), ",")),
    "a.json": lambda path: path.write_text(json.dumps({"matsimnibs": TWO.tolist()})),
    "list.json": lambda path: path.write_text(json.dumps(TWO.tolist())),
    "variable.mat": lambda path: savemat(path, {"matsimnibs": np.moveaxis(TWO, 0, 2)}),
    "session.mat": session,
    "v73.mat": mat_73,
}


@pytest.mark.parametrize("name", WRITERS)
def test_poses_come_as_they_were_saved(tmp_path, name):
    WRITERS[name](tmp_path / name)
    poses = read_poses([tmp_path / name])
    np.testing.assert_allclose(poses.pose, TWO)
    assert poses.tracked.all()


def test_a_session_brings_names_and_didt(tmp_path):
    session(tmp_path / "s.mat")
    poses = read_poses([tmp_path / "s.mat"])
    assert poses.label == ("grid 0", "grid 1")
    np.testing.assert_allclose(poses.didt_a_per_us, 150)


def test_four_matrices_are_four_matrices_whichever_axis_counts_them(tmp_path):
    four = np.concatenate([TWO, TWO + 0])
    four[2:, 1, 3] += 7
    np.save(tmp_path / "first.npy", four)
    np.save(tmp_path / "last.npy", np.moveaxis(four, 0, 2))
    np.testing.assert_allclose(read_poses([tmp_path / "first.npy"]).pose, four)
    np.testing.assert_allclose(read_poses([tmp_path / "last.npy"]).pose, four)


def test_nan_zeros_and_identity_are_no_pose(tmp_path):
    np.save(tmp_path / "a.npy", [DOWN, np.full((4, 4), np.nan), np.zeros((4, 4)), np.eye(4)])
    np.testing.assert_array_equal(read_poses([tmp_path / "a.npy"]).tracked, [True, False, False, False])


def _npz():
    file = io.BytesIO()
    np.savez(file, a=DOWN)
    return file.getvalue()


def save(array):
    return lambda path: np.save(path, array)


def visor(path, **changes):
    target = {
        "Name": "a",
        "CoordinateSystem": "ASSOCIATED_IMAGE",
        "PositionalUnit": "mm",
        "CoilAxesConvention": "simnibs",
        "CoilPose": {"RigidTransformMatrix4x4": DOWN.tolist()},
    }
    path.write_text(json.dumps({"TargetMarkers": [{"CoilTarget": target | changes}]}))


SHEARED = DOWN.copy()
SHEARED[0, 1] = 0.1
BAD = {
    "sheared.npy": (save(SHEARED), "matrix 1: the axes are not orthonormal"),
    "metres.npy": (save(np.vstack([DOWN[:3] * (1, 1, 1, 1e-3), DOWN[3:]])), "matrix 1: .*metres"),
    "scaled.npy": (save(np.vstack([DOWN[:3] * (1e3, 1e3, 1e3, 1), DOWN[3:]])), "mixed units"),
    "mirrored.npy": (save(DOWN @ np.diag([-1, 1, 1, 1])), "left-handed"),
    "transposed.npy": (save(DOWN.T), "transposed"),
    "second.npy": (save([DOWN, SHEARED]), "matrix 2: the axes"),
    "last row.npy": (save(np.vstack([DOWN[:3], [[0, 0, 0, 2]]])), "last row"),
    "shape.npy": (save(np.eye(3)), r"shape \(1, 3, 3\)"),
    "several.npy": (lambda path: path.write_bytes(_npz()), "several arrays"),
    "text.npy": (save(np.array(["a"])), "expected one array of numbers"),
    "objects.npy": (save(np.array([{}], dtype=object)), "cannot be read"),
    "truncated.npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'"), "cannot be read"),
    "rows.csv": (lambda path: path.write_text(rows([DOWN[:3]], ",")), "line 3: 3 rows of 4"),
    "five.csv": (lambda path: path.write_text("1,2,3,4,5\n"), "line 1: 5 numbers"),
    "words.csv": (lambda path: path.write_text("a,b,c,d\n"), "line 1"),
    "empty.csv": (lambda path: path.write_text(""), "holds no coil pose"),
    "key.json": (lambda path: path.write_text("{}"), "no key 'matsimnibs'"),
    "half.json": (lambda path: path.write_text('{"matsimnibs": [['), "cannot be read as JSON"),
    "ragged.json": (lambda path: path.write_text("[[1, 2], [3]]"), "expected a 4 x 4"),
    "none.mat": (lambda path: savemat(path, {"x": np.eye(4)}), "named matsimnibs"),
    "broken.mat": (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 50), "cannot be read"),
    "inches.mrk": (lambda path: visor(path, PositionalUnit="inch"), "PositionalUnit is 'inch'"),
    "other axes.mrk": (lambda path: visor(path, CoilAxesConvention="visor"), "CoilAxesConvention is 'visor'"),
    "no pose.mrk": (lambda path: visor(path, CoilPose={}), "is missing"),
    "what.docx": (lambda path: path.write_text("x"), "ends with '.docx'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_coil_pose_is_refused_by_name(tmp_path, name):
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(FileFormatError, match=message):
        read_poses([tmp_path / name])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileFormatError, match="There is no file"):
        read_poses([tmp_path / "x.txt"])


def test_files_follow_one_another(tmp_path):
    np.save(tmp_path / "a.npy", TWO[0])
    np.save(tmp_path / "b.npy", TWO[1])
    np.testing.assert_allclose(read_poses([tmp_path / "a.npy", tmp_path / "b.npy"]).pose, TWO)


def test_a_transform_moves_poses_as_one_body(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("0 -1 0 10\n1 0 0 20\n0 0 1 30\n0 0 0 1\n")
    np.save(tmp_path / "a.npy", TWO)
    moved = read_poses([tmp_path / "a.npy"]).moved(read_transform(path), "elsewhere")
    np.testing.assert_allclose(moved.pose[0, :3, 3], (30, -20, 100))
    np.testing.assert_allclose(moved.pose[0, :3, 1], (1, 0, 0))
    assert moved.space == "elsewhere"


@pytest.mark.parametrize(
    "text", ["1 0 0 0\n", "2 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "1 0 0 0\n0 1 0 x\n0 0 1 0\n0 0 0 1\n"]
)
def test_a_transform_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(FileFormatError):
        read_transform(tmp_path / "t.txt")


def test_axes_of_three_digits_become_exactly_orthonormal(tmp_path):
    """Brainsight before version 12 prints three digits; what is written to a data set must be a rotation."""
    axes = np.round(np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0], 3)
    axes *= np.sign(np.linalg.det(axes))
    np.save(tmp_path / "a.npy", pose_from(axes, np.array([0, 0, 80.0])))
    found = read_poses([tmp_path / "a.npy"]).pose[0, :3, :3]
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found, axes, atol=2e-3)
