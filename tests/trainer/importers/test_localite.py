"""Localite's XML: axes, spaces, what stands for an untracked coil, and what is refused."""

import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError
from trainer.importers.localite import read_localite
from trainer.importers.pose_files import read_poses

# Into the head (down) along x, handle backwards along y (so -y is forward), at the left: RAS mm.
DOWN = np.array([[0.0, 0, 1, -40], [0, 1, 0, -20], [-1, 0, 0, 70], [0, 0, 0, 1]])


def matrix(values):
    cells = " ".join(f'data{i}{j}="{float(values[i][j])!r}"' for i in range(4) for j in range(4))
    return f"<Matrix4D {cells}/>"


def trigger(values=DOWN, time=1000, percent=45.0, didt=62.0, response="NaN", is_set="true"):
    return (
        f'<TriggerMarker description="" recordingTime="{time}" set="{is_set}">\n<ResponseValues>'
        f'<Value key="valueA" response="{didt}"/><Value key="response" response="{response}"/>'
        f'<Value key="amplitudeA" response="{percent}"/></ResponseValues>\n{matrix(values)}</TriggerMarker>\n'
    )


def triggers(*markers, space='coordinateSpace="RAS"', unit="uV"):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<TriggerMarkerList {space} startTime="17:06:40.58">\n'
        f'<ResponseParameters><responseDescription id="response" name="Response" unit="{unit}"/>'
        '<responseDescription id="valueA" unit="A/us"/><responseDescription id="amplitudeA" unit="%"/>'
        f"</ResponseParameters>\n{''.join(markers)}</TriggerMarkerList>\n"
    )


def write(tmp_path, text, name="TriggerMarkers_Coil0_1.xml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_trigger_is_read_in_our_axes(tmp_path):
    poses = read_localite(write(tmp_path, triggers(trigger(response="123.5"))))
    np.testing.assert_allclose(poses.pose[0, :3, 3], (-40, -20, 70))
    np.testing.assert_allclose(poses.pose[0, :3, 2], (0, 0, -1))  # into the head: their x
    np.testing.assert_allclose(poses.pose[0, :3, 1], (0, -1, 0))  # their -y
    np.testing.assert_allclose(poses.pose[0, :3, 0], (1, 0, 0))  # their z
    assert (poses.time_s[0], poses.percent_mso[0], poses.didt_a_per_us[0]) == (1.0, 45.0, 62.0)
    assert poses.muscles == ("Localite response",)
    assert poses.mep_uv[0, 0] == 123.5


def test_lps_is_brought_to_ras(tmp_path):
    lps = np.diag([-1.0, -1, 1, 1]) @ DOWN
    poses = read_localite(write(tmp_path, triggers(trigger(lps), space='coordinateSpace="LPS"')))
    np.testing.assert_allclose(poses.pose[0], read_localite(write(tmp_path, triggers(trigger()))).pose[0])


def test_identity_zeros_and_unset_markers_are_not_tracked(tmp_path):
    text = triggers(trigger(np.eye(4)), trigger(np.zeros((4, 4))), trigger(is_set="false"), trigger())
    poses = read_localite(write(tmp_path, text))
    np.testing.assert_array_equal(poses.tracked, [False, False, False, True])
    assert "not tracked" in poses.missing[0]
    assert "not set" in poses.missing[2]


def test_a_stimulator_that_is_not_connected_gives_no_output(tmp_path):
    poses = read_localite(write(tmp_path, triggers(trigger(percent=0.0, didt="NaN"))))
    assert np.isnan([poses.percent_mso[0], poses.didt_a_per_us[0]]).all()


def test_responses_come_in_uv(tmp_path):
    assert read_localite(write(tmp_path, triggers(trigger(response="0.5"), unit="mV"))).mep_uv[0, 0] == 500


def test_the_coils_of_one_recording_are_merged(tmp_path):
    lost = np.eye(4)
    a = write(tmp_path, triggers(trigger(lost, 1), trigger(DOWN, 2), trigger(DOWN, 3), trigger(lost, 4)))
    b = write(
        tmp_path,
        triggers(trigger(DOWN, 1), trigger(lost, 2), trigger(DOWN, 3), trigger(lost, 4)),
        "TriggerMarkers_Coil1.xml",
    )
    poses = read_poses([a, b])
    np.testing.assert_array_equal(poses.tracked, [True, True, False, False])
    assert "more than one coil" in poses.missing[2]
    index = write(
        tmp_path,
        "<LocTMSTriggerData>" + "".join(f"<x><fileReferencePath>{p.name}</fileReferencePath></x>" for p in (a, b))
        + "</LocTMSTriggerData>",
        "TriggerData.xml",
    )  # fmt: skip
    np.testing.assert_array_equal(read_localite(index).pose, poses.pose)


def test_coils_of_different_recordings_are_not_merged(tmp_path):
    a = write(tmp_path, triggers(trigger(time=1), trigger(time=2)))
    b = write(tmp_path, triggers(trigger(time=1)), "b.xml")
    index = write(
        tmp_path,
        f"<LocTMSTriggerData><fileReferencePath>{a.name}</fileReferencePath><fileReferencePath>{b.name}"
        "</fileReferencePath></LocTMSTriggerData>",
        "TriggerData.xml",
    )
    with pytest.raises(DataError, match="not of the same pulses"):
        read_localite(index)


@pytest.mark.parametrize("name", ["../secret.xml", "/etc/passwd", "a\\b.xml", ".."])
def test_a_list_of_files_reads_nothing_elsewhere(tmp_path, name):
    text = f"<LocTMSTriggerData><fileReferencePath>{name}</fileReferencePath></LocTMSTriggerData>"
    with pytest.raises(FileFormatError, match="is no file beside this one"):
        read_localite(write(tmp_path, text, "TriggerData.xml"))


BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n'
    "<TriggerMarkerList>&b;</TriggerMarkerList>"
)
SHEARED = DOWN + np.eye(4) * [0, 0.1, 0, 0]
MIRRORED = DOWN @ np.diag([1, 1, -1, 1])
METRES = np.vstack([DOWN[:3] * (1, 1, 1, 1e-3), DOWN[3:]])

BAD = {
    "entities": (BOMB, r"line 2: .*document type"),
    "truncated": (triggers(trigger())[:400], r"line \d+: no well-formed XML"),
    "no XML": ("hello", "no well-formed XML"),
    "empty": ("", "no well-formed XML"),
    "unknown encoding": ('<?xml version="1.0" encoding="klingon"?><a/>', "XML"),
    "no space": (triggers(trigger(), space=""), r"line 2: TriggerMarkerList has coordinateSpace ''"),
    "unknown space": (triggers(trigger(), space='coordinateSpace="XYZ"'), "coordinateSpace 'XYZ'"),
    "element missing": (triggers(trigger()).replace("Matrix4D", "Matrix3D"), r"line 4, TriggerMarker 1 has no element"),
    "attribute missing": (triggers(trigger()).replace("data13", "datum"), r"TriggerMarker 1: Matrix4D has data13=None"),
    "no number": (triggers(trigger()).replace('data03="-40.0"', 'data03="left"'), "data03='left'"),
    "not finite": (triggers(trigger()).replace('data03="-40.0"', 'data03="Infinity"'), "not finite"),
    "absurd": (triggers(trigger(np.where(DOWN == 1, 1e200, DOWN))), "last row|entry 1e"),
    "sheared": (triggers(trigger(), trigger(SHEARED)), r"line 9, TriggerMarker 2: .*orthonormal"),
    "mirrored": (triggers(trigger(MIRRORED)), r"TriggerMarker 1: .*left-handed"),
    "transposed": (triggers(trigger(DOWN.T)), r"TriggerMarker 1: .*transposed"),
    "metres": (triggers(trigger(METRES)), r"TriggerMarker 1: .*metres"),
    "other unit of output": (triggers(trigger()).replace('unit="%"', 'unit="V"'), "the unit of amplitudeA is 'V'"),
    "other unit of response": (triggers(trigger(response="5"), unit="dB"), "the unit of response is 'dB'"),
    "no markers": (triggers(), r"line 2: TriggerMarkerList has no element TriggerMarker"),
    "another list": ("<EntryTargetList/>", "line 1: the element EntryTargetList holds entry and target points"),
    "another program's": ("<html/>", "the element html holds no list of Localite's"),
    "deep": ("<a>" * 200 + "</a>" * 200, "elements deep"),
    "marker without Marker": (
        '<InstrumentMarkerList coordinateSpace="RAS"><InstrumentMarker/></InstrumentMarkerList>',
        "InstrumentMarker 1 has no element Marker",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_right_is_refused_with_its_element(tmp_path, case):
    text, message = BAD[case]
    with pytest.raises(FileFormatError, match=message):
        read_localite(write(tmp_path, text))
