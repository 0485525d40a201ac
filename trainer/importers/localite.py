"""Localite TMS Navigator's XML: coil poses of pulses (TriggerMarkers) and of saved markers (InstrumentMarkers).

A pose is an element `Matrix4D` with the attributes data00 to data33, row by row, in mm of the space that the outermost
element's `coordinateSpace` names, RAS or LPS. Localite's coil frame has x into the head and y along the handle, so our
x, y, z are its z, -y, x. The identity (or zeros) stands for a coil that was not tracked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rt_engine.errors import FileFormatError
from trainer.importers.pose_table import Floats, PoseTable, merged_coils, no_pose, rigid_pose, without_misplaced
from trainer.importers.xml_tree import Element, read_xml

TO_COIL_FRAME = np.array([[0.0, 0, 1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""Localite's coil axes to ours: x is their z, y their -y, z their x."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

WITHOUT_POSES: dict[str, str] = {
    "EntryTargetList": "entry and target points, which have no coil axes",
    "BaseMarkerList": "landmarks of the registration, no coil poses",
    "MixMarkerList": "landmarks of the registration, no coil poses",
    "Transformation": "the transformation of the registration, no coil pose",
    "LocRegistration": "the registration's list of files, no coil poses",
    "SelectionList": "which landmarks the registration used, no coil poses",
    "LocSessionState": "the session's settings and list of files, no coil poses",
    "LocVolumeList": "the list of the image's files, no coil poses",
}
"""What Localite's other files hold."""

_UNIT_UV = {"uv": 1.0, "µv": 1.0, "μv": 1.0, "mv": 1e3, "v": 1e6}


def read_localite(path: str | Path) -> PoseTable:
    """Read the coil poses of a Localite file.

    Parameters
    ----------
    path : str or Path
        `TriggerMarkers_Coil*.xml`, `*InstrumentMarker*.xml`, or `TriggerData*.xml`, which names the TriggerMarkers of
        all coils: they are read from the same folder and merged.

    Returns
    -------
    PoseTable
        Positions in RAS mm. `time_s` is the recording time of a trigger; amplitudes are those of Localite's response
        channel, where it has any.

    Raises
    ------
    FileFormatError
        Another kind of file, or an element is not as it should be; the message names the element and its line.
    """
    root = read_xml(path)
    if root.tag == "TriggerMarkerList":
        return _triggers(path, root)
    if root.tag == "InstrumentMarkerList":
        return _instruments(path, root)
    if root.tag == "LocTMSTriggerData":
        return _all_coils(path, root)
    what = WITHOUT_POSES.get(root.tag, "no list of Localite's that is known here")
    raise FileFormatError(
        f"{path}, line {root.line}: the element {root.tag} holds {what}. Give TriggerMarkers_Coil*.xml, "
        "TriggerData*.xml or *InstrumentMarker*.xml."
    )


def _triggers(path: str | Path, root: Element) -> PoseTable:
    markers = _markers(path, root, "TriggerMarker")
    space, to_ras = _space(path, root)
    units = {each.attribute.get("id"): each.attribute.get("unit", "") for each in root.all("responseDescription")}
    # No output is written as 0, by a stimulator that is not connected; a pulse of 0 % is no pulse.
    percent = _responses(path, markers, "amplitudeA")
    didt = _responses(path, markers, "valueA")
    for key, expected in (("amplitudeA", "%"), ("valueA", "A/us")):
        if units.get(key, expected).replace("µ", "u").replace("μ", "u") != expected:
            raise FileFormatError(
                f"{path}, line {root.line}: the unit of {key} is {units[key]!r}; expected {expected!r}."
            )
    response = _responses(path, markers, "response")
    known = bool(np.isfinite(response).any())
    factor = _UNIT_UV.get(units.get("response", "uV").lower())
    if known and factor is None:
        raise FileFormatError(f"{path}, line {root.line}: the unit of response is {units['response']!r}; expected uV.")
    what = [f"TriggerMarker {number}" for number in range(1, len(markers) + 1)]
    pose, missing = _poses(path, markers, what, to_ras)
    return PoseTable(
        label=tuple(
            marker.attribute.get("description") or str(number) for number, marker in enumerate(markers, start=1)
        ),
        pose=pose,
        missing=missing,
        time_s=np.array([_float(path, marker, "recordingTime") / 1e3 for marker in markers]),
        space=space,
        source=f"Localite {Path(path).name}",
        percent_mso=np.where(percent > 0, percent, np.nan),
        didt_a_per_us=np.where(didt > 0, didt, np.nan),
        didt_measured=True,
        muscles=("Localite response",) if known else (),
        mep_uv=response[:, None] * factor if known and factor else np.empty((len(markers), 0)),
        column={
            "recordingTime": tuple(marker.attribute.get("recordingTime", "") for marker in markers),
            "description": tuple(marker.attribute.get("description", "") for marker in markers),
        },
    )


def _instruments(path: str | Path, root: Element) -> PoseTable:
    space, to_ras = _space(path, root)
    labels, inner, index = [], [], []
    for number, instrument in enumerate(_markers(path, root, "InstrumentMarker"), start=1):
        marker = instrument.child("Marker")
        if marker is None:
            raise FileFormatError(f"{path}, line {instrument.line}: InstrumentMarker {number} has no element Marker.")
        labels.append(marker.attribute.get("description") or str(number))
        index.append(instrument.attribute.get("index", ""))
        inner.append(marker)
    pose, missing = _poses(path, inner, [f"InstrumentMarker {number}" for number in range(1, len(inner) + 1)], to_ras)
    return PoseTable(
        label=tuple(labels),
        pose=pose,
        missing=missing,
        time_s=np.full(len(labels), np.nan),
        space=space,
        source=f"Localite {Path(path).name}",
        column={"index": tuple(index), "description": tuple(labels)},
    )


def _all_coils(path: str | Path, root: Element) -> PoseTable:
    """Read the files that a TriggerData names, which lie beside it, and merge those with pulses."""
    tables = []
    names = [element.text.strip() for element in root.all("fileReferencePath")]
    for name in names:
        if not name or Path(name).name != name or name in (".", "..") or "\\" in name:
            raise FileFormatError(
                f"{path}: fileReferencePath {name!r} is no file beside this one; nothing else is read."
            )
        beside = Path(path).parent / name
        marked = read_xml(beside)
        if marked.tag != "TriggerMarkerList":
            raise FileFormatError(
                f"{beside}, line {marked.line}: {marked.tag}; expected the element TriggerMarkerList."
            )
        if any(True for _ in marked.all("TriggerMarker")):
            tables.append(_triggers(beside, marked))
    if not tables:
        raise FileFormatError(
            f"{path}, line {root.line}: LocTMSTriggerData names {len(names)} files, and none has a TriggerMarker: no "
            "pulse was recorded."
        )
    return merged_coils(tables)


def _markers(path: str | Path, root: Element, tag: str) -> list[Element]:
    markers = list(root.all(tag))
    if not markers:
        raise FileFormatError(f"{path}, line {root.line}: {root.tag} has no element {tag}: nothing was recorded.")
    return markers


def _space(path: str | Path, root: Element) -> tuple[str, Floats]:
    stated = root.attribute.get("coordinateSpace", "")
    if stated == "RAS":
        return "Localite, RAS of the image", np.eye(4)
    if stated == "LPS":
        return "Localite, brought from LPS to RAS of the image", LPS_TO_RAS
    raise FileFormatError(
        f"{path}, line {root.line}: {root.tag} has coordinateSpace {stated!r}; expected RAS or LPS. Left and right "
        "cannot be told without it."
    )


def _poses(path: str | Path, markers: list[Element], what: list[str], to_ras: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Return the markers' poses, and why there is none."""
    read = [_pose(path, marker, name, to_ras) for marker, name in zip(markers, what, strict=True)]
    where = [f"{path}, line {marker.line}, {name}" for marker, name in zip(markers, what, strict=True)]
    return without_misplaced(np.array([pose for pose, _ in read]), [reason for _, reason in read], where)


def _pose(path: str | Path, marker: Element, what: str, to_ras: Floats) -> tuple[Floats, str]:
    """Return an element's pose, and why there is none."""
    element = marker.child("Matrix4D")
    where = f"{path}, line {(element or marker).line}, {what}"
    if element is None:
        raise FileFormatError(f"{where} has no element Matrix4D.")
    matrix = np.array([[_float(path, element, f"data{i}{j}", what) for j in range(4)] for i in range(4)])
    if np.array_equal(matrix, np.eye(4)) or not matrix.any() or np.isnan(matrix).all():
        return no_pose(), "coil not tracked (identity or zeros)"
    if marker.attribute.get("set", "true") == "false":
        return no_pose(), "marker not set"
    if not np.isfinite(matrix).all():
        raise FileFormatError(f"{where}: Matrix4D has numbers that are not finite; expected 16 finite ones.")
    return rigid_pose(to_ras @ matrix @ TO_COIL_FRAME, where, position=False), ""


def _float(path: str | Path, element: Element, name: str, what: str = "") -> float:
    text = element.attribute.get(name)
    try:
        return float("" if text is None else text)
    except ValueError as error:
        raise FileFormatError(
            f"{path}, line {element.line}{', ' + what if what else ''}: {element.tag} has {name}={text!r}; "
            "expected a number."
        ) from error


def _responses(path: str | Path, markers: list[Element], key: str) -> Floats:
    """Return the values of one key, NaN where a marker has none."""
    found = np.full(len(markers), np.nan)
    for number, marker in enumerate(markers):
        for value in marker.all("Value"):
            if value.attribute.get("key") == key:
                found[number] = _float(path, value, "response")
    return found
