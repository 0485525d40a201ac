"""HDF5 files: the same content comes back, and a file that is not whole is never read."""

import hashlib
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_engine import atomic_file
from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.hdf5_file import USER_BLOCK, read_hdf5, write_hdf5

KIND = "m2m-test"

# One file per test function is enough: every example writes it anew.
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

dtypes = st.sampled_from([np.float32, np.float64, np.int16, np.int32, np.int64, np.uint8, np.uint16]).map(np.dtype)
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=3, min_side=0, max_side=5)))
names = st.sampled_from(["voxel", "pose", "surface/vertices", "surface/triangles", "truth/t"])
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def write(path: Path) -> str:
    return write_hdf5(
        path,
        kind=KIND,
        version=1,
        attributes={"name": "ünï", "affine": np.eye(4), "radius": 3.5},
        arrays={"a": np.arange(1000.0).reshape(10, 100), "group/b": np.zeros((0, 3), np.int16)},
    )


@given(
    attributes=st.dictionaries(st.sampled_from(["x", "y", "z"]), texts | arrays),
    contents=st.dictionaries(names, arrays),
)
@same_folder
def test_what_is_written_is_read_back(tmp_path, attributes, contents):
    write_hdf5(tmp_path / "f.h5", kind=KIND, version=3, attributes=attributes, arrays=contents)
    read_attributes, read_arrays = read_hdf5(tmp_path / "f.h5", kind=KIND, version=3)
    for written, read in ((attributes, read_attributes), (contents, read_arrays)):
        assert written.keys() == read.keys()
        for name, value in written.items():
            if isinstance(value, str):
                assert read[name] == value
            else:
                assert read[name].dtype == value.dtype
                np.testing.assert_array_equal(read[name], value)


def test_same_content_gives_the_same_bytes(tmp_path):
    assert write(tmp_path / "one.h5") == write(tmp_path / "two.h5")
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    path = tmp_path / "f.h5"
    write(path)
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        with pytest.raises(FileFormatError, match="truncated"):
            read_hdf5(path, kind=KIND, version=1)


@given(data=st.data())
@same_folder
def test_a_changed_byte_is_noticed_wherever_it_is(tmp_path, data):
    write(tmp_path / "f.h5")
    raw = bytearray((tmp_path / "f.h5").read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "f.h5").write_bytes(raw)
    with pytest.raises(FileFormatError):
        read_hdf5(tmp_path / "f.h5", kind=KIND, version=1)


def test_every_byte_of_the_header_counts(tmp_path):
    write(tmp_path / "f.h5")
    whole = (tmp_path / "f.h5").read_bytes()
    for place in range(USER_BLOCK):
        raw = bytearray(whole)
        raw[place] ^= 1
        (tmp_path / "f.h5").write_bytes(raw)
        with pytest.raises(FileFormatError):
            read_hdf5(tmp_path / "f.h5", kind=KIND, version=1)


def test_bytes_appended_are_noticed(tmp_path):
    write(tmp_path / "f.h5")
    with (tmp_path / "f.h5").open("ab") as file:
        file.write(b"x")
    with pytest.raises(FileFormatError, match="announces"):
        read_hdf5(tmp_path / "f.h5", kind=KIND, version=1)


def test_a_value_changed_by_another_program_is_noticed(tmp_path):
    write(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["a"][3, 5] += 1
    with pytest.raises(FileFormatError, match="changed by another program|announces"):
        read_hdf5(tmp_path / "f.h5", kind=KIND, version=1)


def test_any_hdf5_reader_can_open_the_file(tmp_path):
    write(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r") as file:
        assert file.attrs["format"] == KIND
        np.testing.assert_array_equal(file["a"][()], np.arange(1000.0).reshape(10, 100))


def test_a_newer_version_asks_for_an_update(tmp_path):
    write_hdf5(tmp_path / "f.h5", kind=KIND, version=2, attributes={}, arrays={})
    with pytest.raises(FileFormatError, match=r"version 2.*reads up to 1.*Update"):
        read_hdf5(tmp_path / "f.h5", kind=KIND, version=1)


def test_another_kind_is_named(tmp_path):
    write(tmp_path / "f.h5")
    with pytest.raises(FileFormatError, match=r"'m2m-test'.*expected kind 'm2m-subject'"):
        read_hdf5(tmp_path / "f.h5", kind="m2m-subject", version=1)


def test_hdf5_of_another_program_is_refused(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(FileFormatError, match="another program"):
        read_hdf5(tmp_path / "f.h5", kind=KIND, version=1)


@pytest.mark.parametrize("content", [b"", b"x,y,z\n1,2,3\n", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_hdf5_is_refused(tmp_path, content):
    (tmp_path / "f.h5").write_bytes(content)
    with pytest.raises(FileFormatError, match="does not begin as"):
        read_hdf5(tmp_path / "f.h5", kind=KIND, version=1)


def test_a_right_header_before_something_else_is_refused(tmp_path):
    body = b"not HDF5 at all"
    header = f"m2m-hdf5 bytes={len(body)} sha256={hashlib.sha256(body).hexdigest()}\n".encode()
    (tmp_path / "f.h5").write_bytes(header.ljust(USER_BLOCK, b"\0") + body)
    with pytest.raises(FileFormatError, match="cannot be read as HDF5"):
        read_hdf5(tmp_path / "f.h5", kind=KIND, version=1)


@pytest.mark.parametrize("name", ["none.h5", "."])
def test_no_file_is_a_clear_error(tmp_path, name):
    with pytest.raises(FileFormatError, match="There is no file"):
        read_hdf5(tmp_path / name, kind=KIND, version=1)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write(tmp_path / "f.h5")
    before = (tmp_path / "f.h5").read_bytes()

    def no_rename(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(atomic_file.os, "replace", no_rename)
    with pytest.raises(DataError, match="disk full"):
        write_hdf5(tmp_path / "f.h5", kind=KIND, version=1, attributes={}, arrays={})
    assert (tmp_path / "f.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["f.h5"]


def test_a_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(DataError, match="Check that the folder exists"):
        write(tmp_path / "nowhere" / "f.h5")
