"""E-fields of SimNIBS: a known field through every file format comes back on the voxels, and wrong files do not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.subject_file import Subject
from tests.trainer.importers.lab_head import (
    ball,
    changed,
    hemisphere,
    small_subject,
    subject_of,
    true_field,
    write_lab,
    write_mesh,
)
from trainer.importers.field_table import make_field_table
from trainer.importers.nifti_fields import read_field_volumes
from trainer.importers.simnibs_fields import read_field_meshes, read_many_simulations

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return small_subject(subject_of(write_lab(tmp_path_factory.mktemp("lab"))).subject)


def truth(subject: Subject) -> np.ndarray:
    return np.linalg.norm(true_field(subject.voxel_mm), axis=1)


def on_tetrahedra() -> np.ndarray:
    return true_field(ball().node[ball().tetra].mean(axis=1))


CELL_ERROR_V_PER_M = 8.0
"""Values constant in the ball's big tetrahedra: 0.4 V/m per mm over up to 20 mm."""


# Meshes


def test_vectors_and_magnitudes_on_elements(tmp_path: Path, subject: Subject) -> None:
    field = on_tetrahedra()
    paths = [
        write_mesh(tmp_path / "S01_TMS_1-0001_coil_scalar.msh", cell_data={"E": field, "magnE": field[:, 0] * 0}),
        write_mesh(tmp_path / "S01_TMS_1-0002_coil_scalar.msh", cell_data={"magnE": np.linalg.norm(field, axis=1)}),
        write_mesh(tmp_path / "old.msh", cell_data={"normE": 2 * np.linalg.norm(field, axis=1)}, binary=False),
    ]
    seen: list[tuple[int, int]] = []
    table = read_field_meshes(paths, subject, progress=lambda done, n: seen.append((done, n)))
    assert table.label == ("S01_TMS_1-0001_coil_scalar", "S01_TMS_1-0002_coil_scalar", "old")
    assert table.field_v_per_m.dtype == np.float32
    assert np.abs(table.field_v_per_m[0] - truth(subject)).max() < CELL_ERROR_V_PER_M
    np.testing.assert_allclose(table.field_v_per_m[1], table.field_v_per_m[0], rtol=1e-6)
    np.testing.assert_allclose(table.field_v_per_m[2], 2 * table.field_v_per_m[0], rtol=1e-6)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert np.isnan(table.pose).all()
    assert table.didt_a_per_s is None
    assert table.n_outside == 0
    assert "E on tetrahedra" in table.source


def test_every_voxel_has_the_value_of_the_element_around_it(tmp_path: Path, subject: Subject) -> None:
    """Compared with a search through all tetrahedra, one voxel after the other."""
    value = np.random.default_rng(1).uniform(1, 100, len(ball().tetra))
    table = read_field_meshes([write_mesh(tmp_path / "f.msh", cell_data={"magnE": value})], subject)
    corner = ball().node[ball().tetra]
    inverse = np.linalg.inv(np.swapaxes(corner[:, 1:] - corner[:, :1], 1, 2))
    for k in range(0, subject.n_voxels, 40):
        share = np.einsum("nij,nj->ni", inverse, subject.voxel_mm[k] - corner[:, 0])
        around = (share >= -1e-9).all(axis=1) & (share.sum(axis=1) <= 1 + 1e-9)
        assert table.field_v_per_m[0, k] in value[around].astype(np.float32)


def test_values_on_nodes_are_interpolated_linearly(tmp_path: Path, subject: Subject) -> None:
    path = write_mesh(tmp_path / "n.msh", node_data={"E": true_field(ball().node)})
    np.testing.assert_allclose(read_field_meshes([path], subject).field_v_per_m[0], truth(subject), rtol=1e-5)


def test_fields_on_a_surface_in_the_cortex(tmp_path: Path, subject: Subject) -> None:
    white, pial, triangles = hemisphere()
    middle = (white + pial) / 2
    sheet = changed(
        node=middle,
        tetra=np.zeros((0, 4), int),
        tetra_tag=np.zeros(0, int),
        triangle=triangles,
        triangle_tag=np.full(len(triangles), 1002),
    )
    path = write_mesh(tmp_path / "c.msh", sheet, node_data={"E_magn": np.linalg.norm(true_field(middle), axis=1)})
    error = read_field_meshes([path], subject).field_v_per_m[0] - truth(subject)
    assert np.abs(error).max() < 2.0


def test_only_white_and_grey_matter_count(tmp_path: Path, subject: Subject) -> None:
    field = on_tetrahedra()
    field[ball().tetra_tag > 2] = 1e5  # would be refused as no V/m
    assert read_field_meshes([write_mesh(tmp_path / "f.msh", cell_data={"E": field})], subject).n_outside == 0


def test_meshes_without_a_usable_field_are_refused(tmp_path: Path, subject: Subject) -> None:
    field = on_tetrahedra()
    with pytest.raises(DataError, match="has no E-field: expected one of E, magnE, normE.*; it has J, v"):
        read_field_meshes(
            [write_mesh(tmp_path / "j.msh", cell_data={"J": field}, node_data={"v": ball().node[:, 0]})], subject
        )
    with pytest.raises(DataError, match="it has no fields"):
        read_field_meshes([write_mesh(tmp_path / "bare.msh")], subject)
    with pytest.raises(DataError, match="negative values"):
        read_field_meshes([write_mesh(tmp_path / "n.msh", cell_data={"magnE": -np.abs(field[:, 0])})], subject)
    with pytest.raises(DataError, match="Is it in mV/m"):
        read_field_meshes([write_mesh(tmp_path / "mv.msh", cell_data={"E": 1000 * field})], subject)
    with pytest.raises(DataError, match="not finite"):
        read_field_meshes([write_mesh(tmp_path / "nan.msh", cell_data={"E": field * np.nan})], subject)
    with pytest.raises(DataError, match="zero on all voxels"):
        read_field_meshes([write_mesh(tmp_path / "zero.msh", cell_data={"E": 0 * field})], subject)
    with pytest.raises(DataError, match="No meshes"):
        read_field_meshes([], subject)
    path = write_mesh(tmp_path / "twice.msh", cell_data={"E": field})
    with pytest.raises(DataError, match="'twice' occurs 2 times"):
        read_field_meshes([path, path], subject)
    with pytest.raises(FileFormatError, match="There is no file"):
        read_field_meshes([tmp_path / "none.msh"], subject)


@pytest.mark.parametrize("change", [lambda node: node / 1000, lambda node: node + [0, 0, 200.0]])
def test_a_mesh_elsewhere_is_refused(
    tmp_path: Path, subject: Subject, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = write_mesh(tmp_path / "far.msh", changed(node=change(ball().node)), cell_data={"E": on_tetrahedra()})
    with pytest.raises(DataError, match=rf"{subject.n_voxels} of the {subject.n_voxels} voxels of BA4 lie outside"):
        read_field_meshes([path], subject)


def test_data_on_a_part_of_the_elements_are_refused(tmp_path: Path, subject: Subject) -> None:
    path = write_mesh(tmp_path / "f.msh", cell_data={"magnE": np.ones(len(ball().tetra))}, binary=False)
    text = path.read_text()
    n = len(ball().tetra) + len(ball().triangle)
    head, _, body = text.partition("$ElementData")
    rows = body.splitlines()
    start = next(i for i, row in enumerate(rows) if row == str(n)) + 2
    for kept in (rows[:start] + rows[start + 5 :], rows[:start] + [rows[start + 1], rows[start]] + rows[start + 2 :]):
        count = len(kept) - start - 1
        kept[start - 2] = str(count)
        path.write_text(head + "$ElementData" + "\n".join(kept) + "\n")
        with pytest.raises(FileFormatError, match=rf"values for {count} of {n} elements; expected one for each"):
            read_field_meshes([path], subject)


# Many simulations


def save_mesh(file: h5py.File, group: str, chosen: np.ndarray | None = None) -> None:
    """Save the ball as SimNIBS' `mesh.write_hdf5` does: elements of all types in one list, nodes counted from 1."""
    mesh = ball()
    corner = np.concatenate([np.column_stack([mesh.triangle + 1, np.full(len(mesh.triangle), -1)]), mesh.tetra + 1])
    kind = np.concatenate([np.full(len(mesh.triangle), 2), np.full(len(mesh.tetra), 4)])
    tag = np.concatenate([mesh.triangle_tag, mesh.tetra_tag])
    if chosen is not None:
        corner, kind, tag = corner[chosen], kind[chosen], tag[chosen]
    file[f"{group}/elm/node_number_list"], file[f"{group}/elm/elm_type"] = corner, kind
    file[f"{group}/elm/tag1"], file[f"{group}/elm/tag2"] = tag, tag
    file[f"{group}/nodes/node_coord"] = mesh.node
    file.create_group(f"{group}/elmdata")


def all_elements() -> np.ndarray:
    return np.concatenate([np.zeros((len(ball().triangle), 3)), on_tetrahedra()])


def tags() -> np.ndarray:
    return np.concatenate([ball().triangle_tag, ball().tetra_tag])


def write_many(path: Path, field: np.ndarray, *, mesh: bool = True, **more: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("tms/E", data=field, compression="gzip")
        if mesh:
            save_mesh(file, "mesh_roi")
        for name, values in more.items():
            file[name] = values
    return path


@pytest.mark.parametrize("roi", [None, (2,), (1, 2), (1, 2, 3, 4, 5)])
def test_vectors_of_every_region(tmp_path: Path, subject: Subject, roi: tuple[int, ...] | None) -> None:
    chosen = np.ones(len(tags()), bool) if roi is None else np.isin(tags(), roi)
    field = all_elements()[chosen]
    path = write_many(tmp_path / "m.hdf5", np.stack([field, 2 * field, 3 * field]))
    seen: list[tuple[int, int]] = []
    table = read_many_simulations(path, subject, progress=lambda done, n: seen.append((done, n)))
    one = read_field_meshes([write_mesh(tmp_path / "f.msh", cell_data={"E": on_tetrahedra()})], subject)
    assert table.label == ("1", "2", "3")
    for i in range(3):
        in_region = np.isclose(table.field_v_per_m[i], (i + 1) * one.field_v_per_m[0], rtol=1e-5)
        assert in_region.mean() > 0.999
    assert seen[-1] == (3, 3)
    assert "tms/E" in table.source


def test_magnitudes_poses_and_didt_are_carried(tmp_path: Path, subject: Subject) -> None:
    field = np.linalg.norm(all_elements(), axis=1)
    pose = np.tile(np.eye(4), (2, 1, 1))
    pose[:, :3, 3] = [[-40, -10, 90], [-30, -10, 95]]
    path = write_many(tmp_path / "m.hdf5", np.stack([field, field]), matsimnibs=pose, didt=np.array([1e6, 5e7]))
    table = read_many_simulations(path, subject)
    np.testing.assert_array_equal(table.pose, pose)
    assert table.didt_a_per_s is not None
    np.testing.assert_array_equal(table.didt_a_per_s, [1e6, 5e7])
    pose[1, 0, 0] = 3.0
    path = write_many(tmp_path / "p.hdf5", np.stack([field, field]), matsimnibs=pose)
    with pytest.raises(FileFormatError, match="simulation 2: The coil pose is no rigid motion"):
        read_many_simulations(path, subject)


def test_the_mesh_may_lie_beside_the_file(tmp_path: Path, subject: Subject) -> None:
    path = write_many(tmp_path / "m.hdf5", all_elements()[None][:, tags() == 2], mesh=False)
    with pytest.raises(DataError, match="does not say where its values are"):
        read_many_simulations(path, subject)
    mesh = write_mesh(tmp_path / "S01.msh")
    table = read_many_simulations(path, subject, mesh=mesh)
    again = read_many_simulations(path, subject, mesh=mesh, roi=(2,))
    np.testing.assert_array_equal(table.field_v_per_m, again.field_v_per_m)
    with pytest.raises(DataError, match="whose n_roi fits: expected one of"):
        read_many_simulations(path, subject, mesh=mesh, roi=(1,))


def test_a_region_that_two_tissues_fit_must_be_said(tmp_path: Path, subject: Subject) -> None:
    n = int((ball().tetra_tag == 2).sum())
    tag = ball().tetra_tag.copy()
    others = np.flatnonzero(tag > 2)
    tag[others[:n]], tag[others[n:]] = 4, 5  # now there is as much bone as grey matter
    mesh = write_mesh(tmp_path / "S01.msh", changed(tetra_tag=tag))
    path = write_many(tmp_path / "m.hdf5", on_tetrahedra()[None, tag == 2], mesh=False)
    with pytest.raises(DataError, match=f"{n} values .* may belong to grey matter or bone. Say the roi"):
        read_many_simulations(path, subject, mesh=mesh)
    assert read_many_simulations(path, subject, mesh=mesh, roi=(2,)).label == ("1",)


def test_points_instead_of_a_mesh(tmp_path: Path, subject: Subject) -> None:
    rng = np.random.default_rng(0)
    points = subject.voxel_mm[rng.permutation(subject.n_voxels)] + rng.normal(scale=0.2, size=subject.voxel_mm.shape)
    field = true_field(points)[None]
    path = write_many(tmp_path / "p.hdf5", field, mesh=False, roi_mm=points)
    error = read_many_simulations(path, subject).field_v_per_m[0] - truth(subject)
    assert np.abs(error).max() < 1.0
    path = write_many(tmp_path / "two.hdf5", field, mesh=False, here=points, there=points)
    with pytest.raises(DataError, match="several arrays of as many points: here, there"):
        read_many_simulations(path, subject)
    path = write_many(tmp_path / "m.hdf5", field, mesh=False, roi_mm=points / 1000)
    with pytest.raises(DataError, match=r"lie outside of where .* gives a field"):
        read_many_simulations(path, subject)


def test_a_region_that_holds_a_part_of_ba4_is_refused(tmp_path: Path, subject: Subject) -> None:
    points = subject.voxel_mm[subject.voxel_mm[:, 0] > np.median(subject.voxel_mm[:, 0])]
    path = write_many(tmp_path / "p.hdf5", true_field(points)[None], mesh=False, roi_mm=points)
    with pytest.raises(DataError, match=r"\d+ of the \d+ voxels of BA4 lie outside"):
        read_many_simulations(path, subject)
    most = np.delete(subject.voxel_mm, np.arange(6), axis=0)
    small = replace(subject, voxel=subject.voxel)
    table = read_many_simulations(
        write_many(tmp_path / "q.hdf5", true_field(most)[None], mesh=False, roi_mm=most), small
    )
    assert table.n_outside <= 6


def test_files_that_do_not_fit_are_refused(tmp_path: Path, subject: Subject) -> None:
    field = all_elements()
    with pytest.raises(DataError, match="whose n_roi fits"):
        read_many_simulations(write_many(tmp_path / "short.hdf5", field[None, :-1]), subject)
    with pytest.raises(DataError, match="several arrays of fields: other, tms/E. Say which"):
        read_many_simulations(write_many(tmp_path / "two.hdf5", field[None], other=field[None]), subject)
    table = read_many_simulations(tmp_path / "two.hdf5", subject, dataset="tms/E")
    assert len(table.label) == 1
    with pytest.raises(DataError, match="no array of fields 'tms/J'"):
        read_many_simulations(tmp_path / "two.hdf5", subject, dataset="tms/J")
    with pytest.raises(DataError, match=r"1 of the 2 simulations .* zeros only \(first: number 2\)"):
        read_many_simulations(write_many(tmp_path / "stopped.hdf5", np.stack([field, 0 * field])), subject)
    with pytest.raises(DataError, match="has no simulations"):
        read_many_simulations(write_many(tmp_path / "none.hdf5", field[None][:0]), subject)
    field[tags() == 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        read_many_simulations(write_many(tmp_path / "nan.hdf5", field[None]), subject)


def test_a_damaged_mesh_in_the_file_is_refused(tmp_path: Path, subject: Subject) -> None:
    path = write_many(tmp_path / "m.hdf5", all_elements()[None])
    with h5py.File(path, "r+") as file:
        file["mesh_roi/elm/node_number_list"][5000] = [1, 2, 3, 10**6]
    with pytest.raises(FileFormatError, match="The mesh in .* is damaged"):
        read_many_simulations(path, subject)
    with h5py.File(path, "r+") as file:
        del file["mesh_roi/elm/tag1"]
    with pytest.raises(FileFormatError, match="is not whole"):
        read_many_simulations(path, subject)


def test_truncated_and_foreign_files_are_refused(tmp_path: Path, subject: Subject) -> None:
    whole = write_many(tmp_path / "m.hdf5", all_elements()[None]).read_bytes()
    for size in (0, 100, len(whole) // 3, len(whole) - 10):
        (tmp_path / "cut.hdf5").write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match="truncated, damaged, or of another kind"):
            read_many_simulations(tmp_path / "cut.hdf5", subject)
    (tmp_path / "text.hdf5").write_text("field 1\n")
    with pytest.raises(FileFormatError, match="truncated, damaged, or of another kind"):
        read_many_simulations(tmp_path / "text.hdf5", subject)
    with pytest.raises(FileFormatError, match="There is no file"):
        read_many_simulations(tmp_path / "none.hdf5", subject)


# Volumes


def write_volume(
    path: Path, values: Callable[[np.ndarray], np.ndarray], *, step: float = 2.0, space: bool = True
) -> Path:
    """Write a volume of 2 mm over the left hemisphere, with axes that are turned and mirrored as an MRI's are."""
    affine = np.array([[0.0, 0, -step, 10], [-step, 0, 0, 60], [0, step, 0, -50], [0, 0, 0, 1.0]])
    shape = (60, 62, 42)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    image = nibabel.Nifti1Image(values(index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1 if space else 0)
    image.set_qform(affine, code=1 if space else 0)
    image.to_filename(path)
    return path


def magnitude_at(points_mm: np.ndarray) -> np.ndarray:
    return np.linalg.norm(true_field(points_mm), axis=-1)


def test_volumes_of_vectors_and_magnitudes(tmp_path: Path, subject: Subject) -> None:
    paths = [
        write_volume(tmp_path / "S01_TMS_1-0001_E.nii.gz", true_field),
        write_volume(tmp_path / "S01_TMS_1-0002_E.nii", lambda p: true_field(p)[:, :, :, None]),
        write_volume(tmp_path / "S01_TMS_1-0001_magnE.nii.gz", magnitude_at),
    ]
    table = read_field_volumes(paths, subject)
    assert table.label == ("S01_TMS_1-0001_E", "S01_TMS_1-0002_E", "S01_TMS_1-0001_magnE")
    np.testing.assert_allclose(table.field_v_per_m[0], truth(subject), rtol=1e-5)
    np.testing.assert_allclose(table.field_v_per_m[1], truth(subject), rtol=1e-5)
    np.testing.assert_allclose(table.field_v_per_m[2], truth(subject), rtol=1e-3)
    assert table.n_outside == 0


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_what_lies_beside_the_mesh_is_unknown_and_not_zero(tmp_path: Path, subject: Subject, nothing: float) -> None:
    level = float(np.quantile(subject.voxel_mm[:, 2], 0.98))

    def cut(points: np.ndarray) -> np.ndarray:
        return np.where(points[..., 2:] <= level, true_field(points), nothing)

    table = read_field_volumes([write_volume(tmp_path / "E.nii.gz", cut)], subject)
    assert 0 < table.n_outside < 0.05 * subject.n_voxels
    assert np.abs(table.field_v_per_m[0] - truth(subject)).max() < 3.0
    with pytest.raises(DataError, match="lie outside of where"):
        read_field_volumes(
            [write_volume(tmp_path / "F.nii.gz", lambda p: np.where(p[..., 2:] < level - 15, true_field(p), nothing))],
            subject,
        )


def test_volumes_that_cannot_be_placed_are_refused(tmp_path: Path, subject: Subject) -> None:
    with pytest.raises(DataError, match="no sform, no qform"):
        read_field_volumes([write_volume(tmp_path / "E.nii.gz", true_field, space=False)], subject)
    with pytest.raises(DataError, match="up to 0.002 wide"):
        read_field_volumes([write_volume(tmp_path / "m.nii.gz", true_field, step=0.002)], subject)
    with pytest.raises(DataError, match=r"shape \(60, 62, 42, 4\); expected"):
        read_field_volumes(
            [write_volume(tmp_path / "4.nii.gz", lambda p: np.repeat(magnitude_at(p)[..., None], 4, axis=3))], subject
        )
    with pytest.raises(DataError, match="negative values"):
        read_field_volumes([write_volume(tmp_path / "normal.nii.gz", lambda p: -magnitude_at(p))], subject)
    away = replace(subject, affine=subject.affine + np.array([[0, 0, 0, 300.0], *np.zeros((3, 4))]))
    with pytest.raises(DataError, match="lie outside of where"):
        read_field_volumes([write_volume(tmp_path / "E2.nii.gz", true_field)], away)
    with pytest.raises(DataError, match="No volumes"):
        read_field_volumes([], subject)


def test_damaged_volumes_are_refused(tmp_path: Path, subject: Subject) -> None:
    whole = write_volume(tmp_path / "E.nii.gz", true_field).read_bytes()
    for size in (0, 50, len(whole) // 2):
        (tmp_path / "cut.nii.gz").write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match="cannot be read as a NIfTI volume"):
            read_field_volumes([tmp_path / "cut.nii.gz"], subject)
    with pytest.raises(FileFormatError, match="There is no file"):
        read_field_volumes([tmp_path / "none.nii.gz"], subject)


# The table


@settings(max_examples=60)
@given(row=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=4, max_size=4))
def test_a_table_holds_fields_only(subject: Subject, row: list[float]) -> None:
    few = replace(subject, voxel=np.ascontiguousarray(subject.voxel[:4]))
    values = np.array([row])
    usable = np.isfinite(values).all() and (values >= 0).all() and values.any() and values.max() <= 3000
    if usable:
        table = make_field_table(few, values, ("a",), "test")
        np.testing.assert_allclose(table.field_v_per_m, values, rtol=1e-6, atol=1e-37)
    else:
        with pytest.raises(DataError, match="'a'"):
            make_field_table(few, values, ("a",), "test")
