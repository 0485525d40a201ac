"""The subject file: everything comes back, and nothing that contradicts itself is written or read."""

import dataclasses
import hashlib

import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.hdf5_file import read_hdf5, write_hdf5
from rt_engine.field.subject_file import (
    SUBJECT_KIND,
    SUBJECT_VERSION,
    Subject,
    file_sha256,
    read_subject,
    write_subject,
)


def test_a_subject_comes_back_as_it_was(tmp_path, subject):
    write_subject(tmp_path / "s.subject.h5", subject)
    back = read_subject(tmp_path / "s.subject.h5")
    for field in dataclasses.fields(Subject):
        written, read = getattr(subject, field.name), getattr(back, field.name)
        if isinstance(written, np.ndarray):
            assert read.dtype == written.dtype
            np.testing.assert_array_equal(read, written)
        else:
            assert read == written
            assert type(read) is type(written)


def test_arrays_of_a_read_subject_cannot_be_changed(tmp_path, subject):
    write_subject(tmp_path / "s.subject.h5", subject)
    with pytest.raises(ValueError, match="read-only"):
        read_subject(tmp_path / "s.subject.h5").voxel[0] = 0


def test_the_hash_is_that_of_the_file(tmp_path, subject):
    sha256 = write_subject(tmp_path / "s.subject.h5", subject)
    assert sha256 == hashlib.sha256((tmp_path / "s.subject.h5").read_bytes()).hexdigest()
    assert sha256 == file_sha256(tmp_path / "s.subject.h5")


def test_hash_of_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(FileFormatError, match="Cannot read"):
        file_sha256(tmp_path / "none.subject.h5")


def test_voxel_centres_follow_the_affine(subject):
    i, j, k = subject.voxel[3]
    np.testing.assert_array_equal(subject.voxel_mm[3], (i - 66, j - 46, k + 14))
    assert subject.voxel_mm.shape == (subject.n_voxels, 3)
    turned = dataclasses.replace(subject, affine=np.array([[0, 2.0, 0, 5], [-2, 0, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]]))
    np.testing.assert_array_equal(turned.voxel_mm[3], (2 * j + 5, -2 * i + 6, 2 * k + 7))


WRONG = {
    "no name": ({"name": ""}, "name"),
    "unknown hemisphere": ({"hemisphere": "both"}, "'left' or 'right'"),
    "voxel outside the box": ({"box_shape": (6, 5, 6)}, "outside the box"),
    "flat box": ({"box_shape": (6, 5)}, "box_shape"),
    "no voxel": ({"voxel": np.zeros((0, 3), np.int16)}, "at least one voxel"),
    "wide voxels": ({"voxel": np.zeros((1, 3), np.int64)}, "int16"),
    "unsorted voxels": ({"voxel": np.array([[1, 0, 0], [0, 0, 0]], np.int16)}, "lexicographic"),
    "voxel twice": ({"voxel": np.array([[1, 0, 0], [1, 0, 0]], np.int16)}, "each one once"),
    "negative voxel": ({"voxel": np.array([[-1, 0, 0]], np.int16)}, "outside the box"),
    "affine not finite": ({"affine": np.diag([1, 1, np.nan, 1])}, "affine"),
    "flat affine": ({"affine": np.diag([1.0, 1, 0, 1])}, "invertible"),
    "affine transposed": ({"affine": np.eye(4) + np.eye(4, k=-3)}, "last row"),
    "vertices too wide": ({"vertices": np.zeros((9, 3))}, "vertices is float64"),
    "vertices in two dimensions": ({"vertices": np.zeros((9, 2), np.float32)}, r"\(9, 2\)"),
    "vertex not finite": ({"vertices": np.full((9, 3), np.inf, np.float32)}, "not finite"),
    "triangle without vertex": ({"triangles": np.array([[0, 1, 9]], np.int32)}, "9 vertices"),
    "sphere without centre": ({"sphere_center_mm": np.array([0.0, np.nan, 0.0])}, "sphere_center_mm"),
    "radius not finite": ({"scalp_radius_mm": np.inf}, "scalp_radius_mm"),
    "brain outside the scalp": ({"scalp_radius_mm": 10.0}, "outside its scalp_radius_mm"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_subject_that_contradicts_itself_is_not_written(tmp_path, subject, change, message):
    with pytest.raises(DataError, match=message):
        write_subject(tmp_path / "s.subject.h5", dataclasses.replace(subject, **change))
    assert not list(tmp_path.iterdir())


# What a foreign writer with the right digest can still get wrong.
FOREIGN = {
    "no voxels": (lambda attributes, arrays: arrays.pop("voxel"), "lacks 'voxel'"),
    "no affine": (lambda attributes, arrays: attributes.pop("affine"), "lacks 'affine'"),
    "name is a number": (lambda attributes, arrays: attributes.update(name=3), "expected a text"),
    "radius is a list": (lambda attributes, arrays: attributes.update(scalp_radius_mm=np.ones(2)), "usable subject"),
    "voxels as floats": (lambda attributes, arrays: arrays.update(voxel=arrays["voxel"] * 1.0), "int16"),
    "one-dimensional voxels": (lambda attributes, arrays: arrays.update(voxel=arrays["voxel"].ravel()), "int16"),
    "vertices not finite": (
        lambda attributes, arrays: arrays.update({"surface/vertices": np.full((9, 3), np.nan, np.float32)}),
        "not finite",
    ),
    "notices no UTF-8": (lambda attributes, arrays: arrays.update(notices=np.array([255], np.uint8)), "usable subject"),
}


@pytest.mark.parametrize(("spoil", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_with_wrong_content_is_refused(tmp_path, subject, spoil, message):
    path = tmp_path / "s.subject.h5"
    write_subject(path, subject)
    attributes, arrays = read_hdf5(path, kind=SUBJECT_KIND, version=SUBJECT_VERSION)
    spoil(attributes, arrays)
    write_hdf5(path, kind=SUBJECT_KIND, version=SUBJECT_VERSION, attributes=attributes, arrays=arrays)
    with pytest.raises(FileFormatError, match=message):
        read_subject(path)


def test_a_data_set_is_no_subject(tmp_path):
    write_hdf5(tmp_path / "f.h5", kind="m2m-stimulation", version=1, attributes={}, arrays={})
    with pytest.raises(FileFormatError, match=r"kind 'm2m-stimulation'; expected kind 'm2m-subject'"):
        read_subject(tmp_path / "f.h5")


def test_a_newer_subject_asks_for_an_update(tmp_path):
    write_hdf5(tmp_path / "f.h5", kind=SUBJECT_KIND, version=SUBJECT_VERSION + 1, attributes={}, arrays={})
    with pytest.raises(FileFormatError, match="Update m2m-live"):
        read_subject(tmp_path / "f.h5")
