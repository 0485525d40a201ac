"""Coil files: SimNIBS' own are read as they are meant; what is no whole coil is refused, and the wrong line named."""

import base64
import copy
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_engine.errors import FileFormatError
from rt_engine.field.dipole_file import read_dipole_file

CCD = """\
# Demo version 1.1;dIdtmax=120.5;x=-100,100;stimulator=None;brand=None;coilname=Demo coil
2
# centers and weighted directions of the elements (magnetic dipoles)
-0.045 0.001 -0.0065 0 0 -2e-5
0.045 0.001 -0.0065 1e-6 0 2e-5
"""

TCD = {
    "name": "Demo coil",
    "coilElementList": [
        {"stimulator": 0, "type": 1, "points": [[-45, 1, -6.5]], "values": [[0, 0, -2e-5]]},
        {"stimulator": 0, "type": 1, "points": [[45, 1, -6.5]], "values": [[1e-6, 0, 2e-5]]},
    ],
    "stimulatorList": [{"name": "S", "maxdIdt": 120.5e6}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "demo.ccd").write_text(CCD)
    return tmp_path


def write_tcd(folder: Path, content: object) -> Path:
    (folder / "demo.tcd").write_text(json.dumps(content))
    return folder / "demo.tcd"


def packed(rows: object) -> str:
    return base64.b64encode(zlib.compress(np.asarray(rows, "<f8").tobytes())).decode()


def test_a_ccd_comes_in_mm_with_name_and_didt(folder):
    coil = read_dipole_file(folder / "demo.ccd")
    assert coil.name == "Demo coil"
    assert coil.max_didt_a_per_us == 120.5
    np.testing.assert_allclose(coil.position_mm, [[-45, 1, -6.5], [45, 1, -6.5]], rtol=1e-12)
    np.testing.assert_array_equal(coil.moment_am2_per_a, [[0, 0, -2e-5], [1e-6, 0, 2e-5]])
    assert coil.position_mm.dtype == coil.moment_am2_per_a.dtype == np.float64


def test_a_tcd_with_lists_or_packed_arrays_is_the_same_coil(folder):
    expected = read_dipole_file(folder / "demo.ccd")
    compact = copy.deepcopy(TCD)
    for element in compact["coilElementList"]:
        element["points"], element["values"] = packed(element["points"]), packed(element["values"])
    for content in (TCD, compact):
        coil = read_dipole_file(write_tcd(folder, content))
        assert (coil.name, coil.max_didt_a_per_us) == (expected.name, pytest.approx(120.5))
        np.testing.assert_allclose(coil.position_mm, expected.position_mm, rtol=1e-12)
        np.testing.assert_array_equal(coil.moment_am2_per_a, expected.moment_am2_per_a)


def test_what_the_caller_says_goes_before_the_file(folder):
    coil = read_dipole_file(folder / "demo.ccd", name="mine", max_didt_a_per_us=90.0)
    assert (coil.name, coil.max_didt_a_per_us) == ("mine", 90.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace("\n", "\n\n") + "# the end\n",
        lambda text: text.rstrip("\n"),
    ],
    ids=["Windows", "byte order mark", "tabs", "empty lines and comments", "no last newline"],
)
def test_texts_of_other_editors_are_read(folder, change):
    expected = read_dipole_file(folder / "demo.ccd")
    (folder / "other.ccd").write_bytes(change(CCD).encode())
    coil = read_dipole_file(folder / "other.ccd")
    assert coil.max_didt_a_per_us == 120.5
    np.testing.assert_array_equal(coil.position_mm, expected.position_mm)
    np.testing.assert_array_equal(coil.moment_am2_per_a, expected.moment_am2_per_a)


def test_without_a_name_the_file_gives_it(folder):
    (folder / "my coil.ccd").write_text(CCD.replace("coilname=Demo coil", "coilname=None"))
    assert read_dipole_file(folder / "my coil.ccd").name == "my coil"


@given(values=hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(6)), elements=st.floats(-0.9, 0.9)))
def test_any_dipoles_come_back(tmp_path_factory, values):
    values[0, 5] = 1e-5
    path = tmp_path_factory.mktemp("ccd") / "any.ccd"
    path.write_text(f"{len(values)}\n" + "\n".join(" ".join(map(repr, row)) for row in values.tolist()))
    coil = read_dipole_file(path, max_didt_a_per_us=100.0)
    np.testing.assert_allclose(coil.position_mm, values[:, :3] * 1e3, rtol=1e-15)
    np.testing.assert_array_equal(coil.moment_am2_per_a, values[:, 3:])


BAD_CCD = {
    "cut short": (CCD.rsplit("\n", 2)[0], "announces 2 dipoles in line 2 and has 1"),
    "cut in a line": (CCD[:-8], "line 5: .*expected six numbers"),
    "one row too many": (CCD + "0 0 0 0 0 1\n", "announces 2 dipoles in line 2 and has 3"),
    "no count": (CCD.replace("\n2\n", "\n", 1), "line 3: .*expected the number of dipoles"),
    "count of floats": (CCD.replace("\n2\n", "\n2.5\n", 1), "line 2: found '2.5'"),
    "no dipoles": ("# nothing\n0\n", "announces 0"),
    "empty": ("", "comments only"),
    "commas for decimals": (CCD.replace("-0.045", "-0,045"), "line 4: .*points for decimals"),
    "not a number": (CCD.replace("-0.045", "nan"), "line 4: .*expected six numbers"),
    "infinite": (CCD.replace("-2e-5", "-2e555"), "line 4: .*expected six numbers"),
    "five columns": (CCD.replace("1e-6 0 2e-5", "1e-6 2e-5"), "line 5: .*expected six numbers"),
    "millimetres": (CCD.replace("0.045", "45"), "in metres in a .ccd"),
    "no moment": (CCD.replace("2e-5", "0").replace("1e-6", "0"), "makes no field"),
    "no dIdtmax": (CCD.replace("dIdtmax=120.5;", ""), "Give it as max_didt_a_per_us"),
    "dIdtmax=None": (CCD.replace("dIdtmax=120.5", "dIdtmax=None"), "Give it as max_didt_a_per_us"),
    "dIdtmax in A/s": (CCD.replace("dIdtmax=120.5", "dIdtmax=120.5e6"), r"1\.205e\+08 A/us; expected"),
    "dIdtmax is a word": (CCD.replace("dIdtmax=120.5", "dIdtmax=fast"), "'fast'; expected a number"),
    "dIdtmax negative": (CCD.replace("dIdtmax=120.5", "dIdtmax=-120"), "-120 A/us; expected"),
    "a page of HTML": ("<!DOCTYPE html>\n<html>", "line 1: .*expected the number of dipoles"),
}


@pytest.mark.parametrize(("text", "message"), BAD_CCD.values(), ids=BAD_CCD.keys())
def test_a_bad_ccd_is_refused_and_the_line_named(tmp_path, text, message):
    (tmp_path / "bad.ccd").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        read_dipole_file(tmp_path / "bad.ccd")


def element(**change):
    return {"coilElementList": [TCD["coilElementList"][0] | change, TCD["coilElementList"][1]]}


BAD_TCD = {
    "no elements": ({"coilElementList": []}, "no coilElementList"),
    "wires": (element(type=2), r"coilElementList\[0\] is of type 2"),
    "element is a number": ({"coilElementList": [3]}, r"coilElementList\[0\] is of type None"),
    "points missing": (element(points=None), r"coilElementList\[0\]: points"),
    "two coordinates": (element(points=[[1, 2]]), "expected finite numbers, n x 3"),
    "ragged": (element(points=[[1, 2, 3], [1]]), "points cannot be read"),
    "not base64": (element(points="%%%"), "points cannot be read"),
    "packed array cut": (element(points=packed(np.ones((500, 3)))[:-8]), "points cannot be read"),
    "packed bytes no rows": (element(points=packed([1.0, 2.0])), "points cannot be read"),
    "more points than values": (element(points=[[1, 2, 3], [4, 5, 6]]), "2 points and 1 values"),
    "huge integer": (element(points=[[10**400, 0, 0]]), "points cannot be read"),
    "metres of a mile": (element(points=[[4500, 1, 2]]), "in mm in a .tcd"),
    "two stimulators": (element(stimulator=1), "several stimulators"),
    "stimulator that is not there": ({"stimulatorList": []}, "name stimulator 0; there are 0"),
    "stimulators no list": ({"stimulatorList": {"a": 1}}, "no list of stimulators"),
    "no didt": ({"stimulatorList": [{}]}, "Give it as max_didt_a_per_us"),
    "didt as text": ({"stimulatorList": [{"maxdIdt": "fast"}]}, "'fast'; expected a number of A/s"),
    "didt in A/us": ({"stimulatorList": [{"maxdIdt": 120.5}]}, r"0\.0001205 A/us; expected"),
    "deformation that is not there": (element(deformations=[0]), "names deformation 0"),
    "moved": (
        element(deformations=[0])
        | {"deformList": [{"deformRange": 0, "type": "x"}], "deformRangeList": [{"initial": 3.0, "range": [0, 5]}]},
        "is moved by a deformation",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_TCD.values(), ids=BAD_TCD.keys())
def test_a_bad_tcd_is_refused_and_the_element_named(tmp_path, change, message):
    with pytest.raises(FileFormatError, match=message):
        read_dipole_file(write_tcd(tmp_path, TCD | change))


def test_a_deformation_at_rest_is_accepted(tmp_path):
    change = element(deformations=[0]) | {"deformList": [{"type": "x", "initial": 0, "range": [-5, 5]}]}
    assert len(read_dipole_file(write_tcd(tmp_path, TCD | change)).position_mm) == 2


@given(data=st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_not_crashed_on(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "any.ccd"
    path.write_bytes(data)
    with pytest.raises(FileFormatError):
        read_dipole_file(path)


@given(cut=st.integers(1, len(json.dumps(TCD)) - 1))
def test_a_tcd_cut_anywhere_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "cut.tcd"
    path.write_text(json.dumps(TCD)[:cut])
    with pytest.raises(FileFormatError):
        read_dipole_file(path)


@pytest.mark.parametrize("name", ["none.ccd", "."])
def test_no_file_is_a_clear_error(tmp_path, name):
    with pytest.raises(FileFormatError, match="Cannot read"):
        read_dipole_file(tmp_path / name)


def test_a_field_on_a_grid_is_refused(tmp_path):
    (tmp_path / "coil.nii").write_bytes(b"\x5c\x01\x00\x00" + b"\0" * 344)
    with pytest.raises(FileFormatError, match="no dipoles"):
        read_dipole_file(tmp_path / "coil.nii")


def test_simnibs_own_files_are_read(shared_data):
    folder = shared_data("mesh_and_coil")
    test_coil = read_dipole_file(folder / "testcoil.ccd")
    assert (test_coil.name, test_coil.max_didt_a_per_us) == ("Test coil", 100.0)
    np.testing.assert_allclose(test_coil.position_mm, [[-10, 0, -1], [10, 0, -1], [-20, 20, -2], [20, -20, -2]])
    np.testing.assert_array_equal(
        test_coil.moment_am2_per_a, [[1e-6, 0, 2e-6], [-1e-6, 0, -2e-6], [0, 1e-6, 0], [0, -1e-6, 0]]
    )
    magstim = read_dipole_file(folder / "Magstim_70mm_Fig8.ccd", max_didt_a_per_us=171.0)
    assert magstim.position_mm.shape == (2712, 3)
    # What its header and its maker say: nine turns per wing of 56 to 88 mm, the wings 90 mm apart.
    right = magstim.position_mm[:, 0] > 0
    turns = np.pi * (np.linspace(28e-3, 44e-3, 9) ** 2).sum()
    np.testing.assert_allclose(magstim.moment_am2_per_a[right].sum(axis=0), (0, 0, turns), rtol=0.01, atol=1e-9)
    with pytest.raises(FileFormatError, match="max_didt_a_per_us"):
        read_dipole_file(folder / "Magstim_70mm_Fig8.ccd")
