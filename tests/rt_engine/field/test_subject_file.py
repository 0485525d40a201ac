"""The subject file: everything comes back, and nothing that contradicts itself is written or read."""

import dataclasses
import hashlib

import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.coil import Coil
from rt_engine.field.field_basis import FieldBasis
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


def test_scalp_and_basis_come_back_as_they_were(tmp_path, with_basis):
    write_subject(tmp_path / "s.subject.h5", with_basis)
    back = read_subject(tmp_path / "s.subject.h5")
    for part in ("scalp", "basis"):
        written, read = getattr(with_basis, part), getattr(back, part)
        for field in dataclasses.fields(written):
            before, after = getattr(written, field.name), getattr(read, field.name)
            if isinstance(before, np.ndarray):
                assert after.dtype == before.dtype
                np.testing.assert_array_equal(after, before)
                assert not after.flags.writeable
            elif not isinstance(before, Coil):
                assert after == before
                assert type(after) is type(before)
    coil, coil_back = with_basis.basis.coil, back.basis.coil
    assert (coil.name, coil.max_didt_a_per_us) == (coil_back.name, coil_back.max_didt_a_per_us)
    np.testing.assert_array_equal(coil_back.position_mm, coil.position_mm)
    np.testing.assert_array_equal(coil_back.moment_am2_per_a, coil.moment_am2_per_a)


def test_a_basis_from_a_file_gives_the_same_bits(tmp_path, with_basis):
    write_subject(tmp_path / "s.subject.h5", with_basis)
    back = read_subject(tmp_path / "s.subject.h5")
    pose = with_basis.basis.skeleton_pose[3]
    before, after = (FieldBasis(subject.basis).field(pose, 1e8) for subject in (with_basis, back))
    np.testing.assert_array_equal(after.field_v_per_m, before.field_v_per_m)
    assert after.residual == before.residual


def test_a_file_of_version_1_is_still_read(tmp_path, subject):
    path = tmp_path / "s.subject.h5"
    write_subject(path, subject)
    attributes, arrays = read_hdf5(path, kind=SUBJECT_KIND, version=SUBJECT_VERSION)
    write_hdf5(path, kind=SUBJECT_KIND, version=1, attributes=attributes, arrays=arrays)
    back = read_subject(path)
    assert back.scalp is None
    assert back.basis is None
    np.testing.assert_array_equal(back.voxel, subject.voxel)


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


WRONG_BASIS = {
    "sheared skeleton": ({"skeleton_pose": np.stack([np.eye(4) + np.eye(4, k=1)] * 80)}, "rigid"),
    "no method": ({"method": ""}, "method"),
    "limit not a number": ({"residual_limit": np.nan}, "residual_limit"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_BASIS.values(), ids=WRONG_BASIS.keys())
def test_a_subject_with_a_wrong_basis_is_not_written(tmp_path, with_basis, change, message):
    wrong = dataclasses.replace(with_basis, basis=dataclasses.replace(with_basis.basis, **change))
    with pytest.raises(DataError, match=message):
        write_subject(tmp_path / "s.subject.h5", wrong)
    assert not list(tmp_path.iterdir())


def test_a_basis_of_another_subject_is_not_written(tmp_path, with_basis):
    fewer = dataclasses.replace(with_basis, voxel=with_basis.voxel[:-1])
    with pytest.raises(DataError, match="of another subject"):
        write_subject(tmp_path / "s.subject.h5", fewer)


def test_a_scalp_without_its_vertices_is_not_written(tmp_path, with_basis):
    scalp = dataclasses.replace(with_basis.scalp, vertices=with_basis.scalp.vertices[:3])
    with pytest.raises(DataError, match="scalp"):
        write_subject(tmp_path / "s.subject.h5", dataclasses.replace(with_basis, scalp=scalp))


FOREIGN_BASIS = {
    "no limit": (lambda attributes, arrays: attributes.pop("basis_residual_limit"), "lacks 'basis_residual_limit'"),
    "no components": (lambda attributes, arrays: arrays.pop("basis/components"), "lacks 'basis/components'"),
    "no coil": (lambda attributes, arrays: arrays.pop("basis/coil/position_mm"), "lacks 'basis/coil/position_mm'"),
    "coil named 3": (lambda attributes, arrays: attributes.update(basis_coil_name=3), "as the coil's name"),
    "method no UTF-8": (
        lambda attributes, arrays: arrays.update({"basis/method": np.array([255], np.uint8)}),
        "usable subject",
    ),
    "components flat": (
        lambda attributes, arrays: arrays.update({"basis/components": arrays["basis/components"].ravel()}),
        "components has the shape",
    ),
    "half a scalp": (lambda attributes, arrays: arrays.pop("scalp/triangles"), "lacks 'scalp/triangles'"),
}


@pytest.mark.parametrize(("spoil", "message"), FOREIGN_BASIS.values(), ids=FOREIGN_BASIS.keys())
def test_a_file_with_a_wrong_basis_or_scalp_is_refused(tmp_path, with_basis, spoil, message):
    path = tmp_path / "s.subject.h5"
    write_subject(path, with_basis)
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
