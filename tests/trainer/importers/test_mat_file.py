"""MATLAB files: damaged ones are refused before a compiled reader sees them, which could end the whole process."""

import struct

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from rt_engine.errors import FileFormatError
from trainer.importers.mat_file import read_mat

CONTENT = {
    "a": np.arange(6.0).reshape(2, 3),
    "text": "words",
    "cell": np.array([1.0, "two"], dtype=object),
    "nested": {"b": {"c": np.eye(4)}},
    "flag": np.array([True, False]),
    "whole": np.array([1, 2, 3], np.int8),
    "sides": np.array([1 + 2j]),
}


def saved(tmp_path, **options):
    path = tmp_path / "m.mat"
    savemat(path, CONTENT, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"do_compression": True}], ids=["plain", "compressed"])
def test_what_is_saved_is_read(tmp_path, options):
    content = read_mat(saved(tmp_path, **options), simple=True)
    np.testing.assert_array_equal(content["a"], CONTENT["a"])
    np.testing.assert_array_equal(content["nested"].b.c, np.eye(4))
    assert content["text"] == "words"
    assert sorted(content) == sorted(CONTENT)


def test_version_4_is_read(tmp_path):
    savemat(tmp_path / "4.mat", {"a": np.eye(3)}, format="4")
    np.testing.assert_array_equal(read_mat(tmp_path / "4.mat")["a"], np.eye(3))


def changed(path, place, new):
    data = bytearray(path.read_bytes())
    data[place : place + len(new)] = new
    path.write_bytes(data)
    return path


# Where the parts of the first variable, `a`, stand.
FLAGS, SIZES, PART = 128 + 8, 128 + 24, 128 + 48
WRONG = {
    "type of flags": (FLAGS, struct.pack("<I", 300), "does not begin with its flags"),
    "too long": (FLAGS + 4, struct.pack("<I", 100000), "an element of 100000 bytes does not end within it"),
    "small but long": (FLAGS, struct.pack("<HH", 1, 9), "small element of type 1 with 9 bytes"),
    "type of dimensions": (SIZES, struct.pack("<I", 7), "dimensions are damaged"),
    "negative dimension": (SIZES + 8, struct.pack("<i", -2), r"dimensions \(-2, 3\)"),
    "other dimension": (SIZES + 8, struct.pack("<i", 5), "48 bytes of numbers do not fill 15 of 8 bytes"),
    "type of numbers": (PART, struct.pack("<I", 16), "numbers of type 16"),
    "header": (124, b"????", "does not begin as one"),
    "no variable": (128, struct.pack("<I", 9), "element of type 9 where a variable should be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_compiled_reader_would_trust_is_checked(tmp_path, case):
    place, new, message = WRONG[case]
    with pytest.raises(FileFormatError, match=message):
        read_mat(changed(saved(tmp_path), place, new))


def test_variables_of_other_kinds_are_passed_over(tmp_path):
    savemat(tmp_path / "m.mat", {"sparse": scipy.sparse.eye(5).tocsc(), "a": np.eye(2)})
    assert list(read_mat(tmp_path / "m.mat")) == ["a"]


@pytest.mark.parametrize("options", [{}, {"do_compression": True}], ids=["plain", "compressed"])
def test_truncated_files_are_refused(tmp_path, options):
    path = saved(tmp_path, **options)
    whole = path.read_bytes()
    for size in (0, 5, 127, 130, len(whole) // 3, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(FileFormatError):
            read_mat(path)


@settings(max_examples=50)
@given(st.data())
def test_a_file_with_a_few_bytes_changed_is_read_or_refused(tmp_path_factory, data):
    path = saved(tmp_path_factory.mktemp("mat"))
    size = path.stat().st_size
    for _ in range(data.draw(st.integers(1, 3))):
        changed(path, data.draw(st.integers(128, size - 1)), bytes([data.draw(st.integers(0, 255))]))
    try:
        found = read_mat(path, simple=True)
    except FileFormatError:
        return
    assert set(found) & set(CONTENT) or len(found) < len(CONTENT)
