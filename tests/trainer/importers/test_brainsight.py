"""Brainsight's text: poses go out and come back, and files from the wild are read or refused with their line."""

import codecs

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rt_engine.errors import DataError, FileFormatError
from trainer.importers.brainsight import read_brainsight, write_brainsight
from trainer.importers.pose_table import pose_from

HEADER = (
    "# Version: 12\n# Coordinate system: NIfTI:Scanner\n# Created by: Brainsight 2.4.9\n"
    "# Units: millimetres, degrees, milliseconds, and microvolts\n# Encoding: UTF-8\n"
)
AXES = "m0n0\tm0n1\tm0n2\tm1n0\tm1n1\tm1n2\tm2n0\tm2n1\tm2n2"
SAMPLES = (
    f"# Sample Name\tIndex\tLoc. X\tLoc. Y\tLoc. Z\t{AXES}\tStim. Power A\tDate\tTime\tEMG Channels\t"
    "EMG Peak-to-peak 1\tEMG Data 1\tEMG Peak-to-peak 2\n"
)
# A coil on the vertex as Brainsight has it: x to the left, y forward, z up.
UPRIGHT = "-1.000\t0.000\t0.000\t0.000\t1.000\t0.000\t0.000\t0.000\t-1.000"
ROW = f"Sample 1\t1\t-40.0\t-20.5\t70.25\t{UPRIGHT}\t55\t2022-02-21\t13:49:37.798\t2\t812.5\t1;2;3\t(null)\n"


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "export.txt"
    path.write_bytes(text.encode(encoding))
    return path


rotations = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)
places = st.tuples(*[st.floats(-250, 250)] * 3).filter(lambda p: np.linalg.norm(p) > 2)
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and not name.startswith("#")
)


@settings(max_examples=50)
@given(st.lists(st.tuples(names, rotations, places, st.booleans()), min_size=1, max_size=5))
def test_poses_come_back_from_brainsight_text(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("text") / "targets.txt"
    pose = np.array([pose_from(Rotation.from_quat(q).as_matrix(), np.array(p)) for _, q, p, _ in rows])
    pose[[lost for *_, lost in rows]] = np.nan
    write_brainsight(path, [name for name, *_ in rows], pose)
    back = read_brainsight(path)
    assert back.label == tuple(name for name, *_ in rows)
    np.testing.assert_array_equal(back.tracked, [not lost for *_, lost in rows])
    # The coil's wings, 100 mm from its centre, come back to 1e-4 mm: not the position alone.
    wing = np.array([[100.0, 0, 0, 1], [0, 100, 0, 1], [0, 0, 0, 1], [0, 0, -100, 1]]).T
    np.testing.assert_allclose((back.pose @ wing)[back.tracked], (pose @ wing)[back.tracked], atol=1e-4, rtol=0)


def test_axes_in_the_file_are_brainsights(tmp_path):
    """Theirs is ours with x and z turned round: diag(-1, 1, -1)."""
    pose = pose_from(Rotation.from_euler("xyz", [160, 20, 40], degrees=True).as_matrix(), np.array([-40.0, -20, 60]))
    write_brainsight(tmp_path / "t.txt", ["M1"], pose[None])
    cells = (tmp_path / "t.txt").read_text().splitlines()[-1].split("\t")
    np.testing.assert_allclose([float(cell) for cell in cells[1:4]], [-40, -20, 60])
    np.testing.assert_allclose([float(cell) for cell in cells[4:7]], -pose[:3, 0], atol=1e-9)
    np.testing.assert_allclose([float(cell) for cell in cells[7:10]], pose[:3, 1], atol=1e-9)
    np.testing.assert_allclose([float(cell) for cell in cells[10:13]], -pose[:3, 2], atol=1e-9)


def test_a_sample_is_read_with_its_output_time_and_emg(tmp_path):
    poses = read_brainsight(write(tmp_path, HEADER + SAMPLES + ROW))
    np.testing.assert_allclose(poses.pose[0, :3, 3], (-40, -20.5, 70.25))
    np.testing.assert_allclose(poses.pose[0, :3, :3], np.eye(3))
    assert poses.percent_mso[0] == 55
    assert poses.muscles == ("EMG 1", "EMG 2")
    np.testing.assert_array_equal(poses.mep_uv, [[812.5, np.nan]])
    assert poses.time_s[0] == pytest.approx(1645451377.798)
    assert poses.column["Index"] == ("1",)


@pytest.mark.parametrize(
    "text",
    [
        (HEADER + SAMPLES + ROW).replace("\n", "\r\n"),
        (HEADER + SAMPLES + ROW).replace("\n", "\r"),
        HEADER + SAMPLES + ROW.rstrip("\n"),
        HEADER + SAMPLES + "\n" + ROW.rstrip("\n") + "\t\n",
        HEADER + SAMPLES + ROW.replace(".", ","),
        HEADER
        + f"# Target Name\tLoc. X\tLoc. Y\tLoc. Z\t{AXES}\n"
        + SAMPLES
        + ROW
        + "# Session Name\tNew Column\nx\ty\n",
    ],
    ids=["crlf", "cr", "no final newline", "trailing tab", "decimal commas", "unknown table"],
)
def test_line_ends_and_commas_do_not_matter(tmp_path, text):
    poses = read_brainsight(write(tmp_path, text))
    np.testing.assert_allclose(poses.pose[0, :3, 3], (-40, -20.5, 70.25))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings_do_not_matter(tmp_path, encoding):
    poses = read_brainsight(write(tmp_path, HEADER + SAMPLES + ROW.replace("Sample 1", "Stück é"), encoding))
    assert poses.label == ("Stück é",)


def test_missing_poses_are_missing_rows(tmp_path):
    lost = ROW.replace("-40.0", "(null)")
    poses = read_brainsight(write(tmp_path, HEADER + SAMPLES + ROW + lost + ROW))
    np.testing.assert_array_equal(poses.tracked, [True, False, True])
    assert "Loc. X (null)" in poses.missing[1]
    assert poses.label == ("Sample 1",) * 3


def test_a_pulse_given_beside_the_head_costs_its_row_only(tmp_path):
    """The coil lay on the table, or the pointer on the origin: the others are none the worse."""
    beside = ROW.replace("-40.0", "-1400.0"), ROW.replace("-40.0\t-20.5\t70.25", "0.0\t0.0\t0.1")
    zeros = ROW.replace(UPRIGHT, "\t".join(["0.000"] * 9))
    poses = read_brainsight(write(tmp_path, HEADER + SAMPLES + ROW + "".join(beside) + zeros + ROW))
    np.testing.assert_array_equal(poses.tracked, [True, False, False, False, True])
    assert "micrometres" in poses.missing[1]
    assert "metres" in poses.missing[2]
    assert poses.missing[3] == "axes are zeros"
    assert np.isnan(poses.pose[1:4]).all()


def test_targets_can_be_chosen(tmp_path):
    target = f"# Target Name\tLoc. X\tLoc. Y\tLoc. Z\t{AXES}\nknob\t-37\t-23\t80\t{UPRIGHT}\n"
    path = write(tmp_path, HEADER + target + SAMPLES + ROW)
    assert read_brainsight(path).label == ("Sample 1",)
    assert read_brainsight(path, "targets").label == ("knob",)


def with_landmarks(system, ears_x, nose_y):
    return (
        HEADER.replace("NIfTI:Scanner", system) + SAMPLES + ROW + "# Planned Landmark Name\tLoc. X\tLoc. Y\tLoc. Z\n"
        f"LPA\t{ears_x}\t0\t-30\nNasion\t0\t{nose_y}\t-20\nRPA\t{-ears_x}\t0\t-30\n"
    )


def test_landmarks_tell_that_a_world_is_lps(tmp_path):
    poses = read_brainsight(write(tmp_path, with_landmarks("World", 75, -110)))
    np.testing.assert_allclose(poses.pose[0, :3, 3], (40, 20.5, 70.25))
    assert poses.axes == "RAS"
    poses = read_brainsight(write(tmp_path, with_landmarks("World", -75, 110)))
    np.testing.assert_allclose(poses.pose[0, :3, 3], (-40, -20.5, 70.25))
    assert poses.axes == "RAS"


def test_a_world_without_landmarks_does_not_pretend_to_know_left_from_right(tmp_path):
    poses = read_brainsight(write(tmp_path, HEADER.replace("NIfTI:Scanner", "World") + SAMPLES + ROW))
    assert poses.axes == ""


def test_landmarks_that_contradict_the_space_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"line 9: the left ear is right of the right one"):
        read_brainsight(write(tmp_path, with_landmarks("NIfTI:Scanner", 75, -110)))


BAD = {
    "empty": ("", r"no '# Version"),
    "another program's": ("a\tb\nc\td\n", r"line 1: 'a\\tb' stands before any table"),
    "no version": (HEADER.split("\n", 1)[1] + SAMPLES + ROW, r"line 1: no '# Version"),
    "no coordinate system": (HEADER.replace("# Coordinate system: NIfTI:Scanner\n", "") + SAMPLES + ROW, "no '# Coord"),
    "unknown coordinate system": (HEADER.replace("NIfTI:Scanner", "Talos") + SAMPLES + ROW, r"line 2: .*'Talos'"),
    "other units": (HEADER.replace("millimetres", "inches") + SAMPLES + ROW, r"line 4: the units are"),
    "truncated line": (HEADER + SAMPLES + ROW + ROW[:60], r"line 8: \d+ columns; expected 21"),
    "lost tabs": (HEADER + SAMPLES + ROW.replace("\t", " "), r"line 7: 1 columns"),
    "too many columns": (HEADER + SAMPLES + ROW.rstrip("\n") + "\t5\n", r"line 7: 22 columns"),
    "no number": (HEADER + SAMPLES + ROW.replace("-20.5", "abc"), r"line 7, column 'Loc. Y'.*'abc'"),
    "thousands": (HEADER + SAMPLES + ROW.replace("812.5", "1,812.5"), r"line 7, column 'EMG Peak-to-peak 1'"),
    "column missing": (HEADER + SAMPLES.replace("m1n1", "m1nX") + ROW, r"line 6: the column 'm1n1' .* 0 times"),
    "column twice": (HEADER + SAMPLES.replace("m1n1", "m1n0") + ROW, r"line 6: the column 'm1n0' .* 2 times"),
    "two exports": ((HEADER + SAMPLES + ROW) * 2, r"line 13: a second table 'Sample Name'"),
    "sheared": (HEADER + SAMPLES + ROW.replace("-1.000\t0.000\t0", "-1.000\t0.200\t0"), "line 7: .*orthonormal"),
    "mirrored": (HEADER + SAMPLES + ROW.replace(UPRIGHT, UPRIGHT[:-6] + "1.000"), r"line 7: .*left-handed"),
    "scaled": (HEADER + SAMPLES + ROW.replace("1.000", "10.0"), r"line 7: the axes have the length 10"),
    "metres": (HEADER + SAMPLES + ROW.replace("-40.0\t-20.5\t70.25", "-0.04\t-0.0205\t0.07025"), r"line 7: .*metres"),
    "micrometres": (HEADER + SAMPLES + ROW.replace("-40.0", "-40000"), r"line 7: .*micrometres"),
    "infinite": (HEADER + SAMPLES + ROW.replace("-40.0", "inf"), r"line 7, column 'Loc. X'"),
    "no rows": (HEADER + SAMPLES, r"no samples nor targets: its last table begins in line 6"),
    "zero bytes": (HEADER + SAMPLES + ROW.replace("812", "8\x0012"), "zero bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_right_is_refused_with_its_line(tmp_path, case):
    text, message = BAD[case]
    with pytest.raises(FileFormatError, match=message):
        read_brainsight(write(tmp_path, text))


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_crashes(tmp_path_factory, garbage):
    path = tmp_path_factory.mktemp("garbage") / "x.txt"
    path.write_bytes(garbage)
    with pytest.raises(FileFormatError):
        read_brainsight(path)


@given(st.data())
def test_a_file_with_a_few_bytes_changed_is_read_or_refused(tmp_path_factory, data):
    text = bytearray((HEADER + SAMPLES + ROW).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("changed") / "x.txt"
    path.write_bytes(text[: data.draw(st.integers(1, len(text)))])
    try:
        poses = read_brainsight(path)
    except FileFormatError:
        return
    for pose, missing in zip(poses.pose, poses.missing, strict=True):
        assert missing or np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-9)


def test_a_mark_of_utf_8_before_the_version_is_no_text(tmp_path):
    path = tmp_path / "bom.txt"
    path.write_bytes(codecs.BOM_UTF8 + (HEADER + SAMPLES + ROW).encode())
    assert len(read_brainsight(path)) == 1


@pytest.mark.parametrize(
    ("labels", "system", "message"),
    [
        (["a\tb"], "NIfTI:Scanner", "cannot stand"),
        (["# x"], "NIfTI:Scanner", "cannot stand"),
        (["a", "b"], "NIfTI:Scanner", "2 names and 1 poses"),
        (["a"], "World", "expected one of NIfTI"),
    ],
)
def test_what_cannot_be_written_is_not_and_leaves_the_file(tmp_path, labels, system, message):
    path = tmp_path / "t.txt"
    path.write_text("as it was")
    with pytest.raises(DataError, match=message):
        write_brainsight(path, labels, pose_from(np.eye(3), np.array([0.0, 0, 80]))[None], coordinate_system=system)
    assert path.read_text() == "as it was"
