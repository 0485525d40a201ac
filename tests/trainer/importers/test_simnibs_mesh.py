"""Head meshes of SimNIBS: every dialect gives the same head, and what is no head is refused with its reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.surface import Surface
from tests.trainer.importers.lab_head import SHELLS_MM, ball, changed, write_mesh
from trainer.efield.head import TetraHead
from trainer.efield.point_location import locate
from trainer.importers.gmsh_file import read_gmsh
from trainer.importers.simnibs_mesh import outer_surface, read_head, require_tissues


@pytest.fixture(scope="module")
def mesh_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mesh(tmp_path_factory.mktemp("mesh") / "S01.msh")


@pytest.fixture(scope="module")
def head(mesh_file: Path) -> TetraHead:
    return read_head(mesh_file)


def volumes(head: TetraHead) -> np.ndarray:
    corner = head.node_mm[head.tetrahedron]
    return np.abs(np.linalg.det(corner[:, 1:] - corner[:, :1])) / 6


def test_the_shared_meshes_are_three_shells_in_both_versions(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("mesh_and_coil")
    old, new = (read_head(folder / name) for name in ("sphere3.msh", "sphere3_v4_1_binary.msh"))
    for head in (old, new):
        assert head.tetrahedron.shape == (22704, 4)
        assert {tag: int((head.tag == tag).sum()) for tag in np.unique(head.tag).tolist()} == {
            3: 6834,
            4: 7601,
            5: 8269,
        }
        radius = np.linalg.norm(head.node_mm, axis=1)
        assert radius.max() == pytest.approx(95, abs=1e-3)
        brain = np.unique(head.tetrahedron[head.tag == 3])
        assert radius[brain].max() == pytest.approx(85, abs=1e-3)
        assert volumes(head).sum() == pytest.approx(4 / 3 * np.pi * 95**3, rel=0.02)
    for tag in (3, 4, 5):  # the nodes stand in another order
        assert volumes(old)[old.tag == tag].sum() == pytest.approx(volumes(new)[new.tag == tag].sum(), rel=1e-6)


def test_the_shared_sphere_lacks_the_cortex_that_a_subject_needs(shared_data: Callable[[str], Path]) -> None:
    head = read_head(shared_data("mesh_and_coil") / "sphere3.msh")
    with pytest.raises(DataError, match=r"no white matter \(1\), grey matter \(2\); it has CSF \(3\), bone \(4\)"):
        require_tissues(head)


@pytest.mark.parametrize(("version", "binary"), [("gmsh22", True), ("gmsh22", False)])
def test_text_and_binary_give_the_same_head(tmp_path: Path, head: TetraHead, version: str, binary: bool) -> None:
    again = read_head(write_mesh(tmp_path / "S01.msh", version=version, binary=binary))
    assert again.content_hash() == head.content_hash()
    assert head.name == "S01"
    assert "scanner RAS" in head.space
    for outer, tissue in SHELLS_MM:
        assert np.linalg.norm(head.node_mm[head.tetrahedron[head.tag == tissue]], axis=2).max() == pytest.approx(outer)


def test_binary_as_simnibs_writes_it_has_no_line_end_before_a_closing_mark(
    tmp_path: Path, head: TetraHead, mesh_file: Path
) -> None:
    content = mesh_file.read_bytes()
    for mark in (b"$EndNodes", b"$EndElements"):
        assert b"\n" + mark in content
        content = content.replace(b"\n" + mark, mark)
    (tmp_path / "S01.msh").write_bytes(content)
    assert read_head(tmp_path / "S01.msh").content_hash() == head.content_hash()


def test_nodes_without_a_tetrahedron_are_left_out(tmp_path: Path, head: TetraHead) -> None:
    stray = np.array([[500.0, 0.0, 0.0], [np.nan, 0.0, 0.0]])
    mesh = changed(node=np.concatenate([stray, ball().node]), tetra=ball().tetra + 2, triangle=ball().triangle + 2)
    again = read_head(write_mesh(tmp_path / "S01.msh", mesh))
    assert again.content_hash() == head.content_hash()


def test_data_on_elements_and_nodes_stay_with_them(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(len(ball().tetra), 3))
    path = write_mesh(tmp_path / "f.msh", cell_data={"E": values}, node_data={"v": ball().node[:, 0]})
    mesh = read_gmsh(path)
    np.testing.assert_array_equal(mesh.tetrahedron_data["E"], values)
    np.testing.assert_array_equal(mesh.triangle_data["E"], 0)
    np.testing.assert_array_equal(mesh.node_data["v"], mesh.node[:, 0])
    np.testing.assert_array_equal(mesh.triangle_place, np.arange(len(mesh.triangle)))
    np.testing.assert_array_equal(mesh.tetrahedron_place, len(mesh.triangle) + np.arange(len(mesh.tetrahedron)))


def test_the_scalp_is_closed_and_turned_outwards(head: TetraHead) -> None:
    scalp = outer_surface(head)
    assert isinstance(scalp, Surface)
    corner = scalp.vertices.astype(float)[scalp.triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert (np.einsum("ij,ij->i", normal, corner.mean(axis=1)) > 0).all()
    assert np.linalg.norm(scalp.vertices, axis=1) == pytest.approx(95, abs=1e-3)
    edge = np.sort(np.concatenate([scalp.triangles[:, [0, 1]], scalp.triangles[:, [1, 2]], scalp.triangles[:, [2, 0]]]))
    assert (np.unique(edge, axis=0, return_counts=True)[1] == 2).all()


def test_the_scalp_does_not_depend_on_the_corners_order_nor_on_cavities() -> None:
    mesh = ball()
    # Air in the nose: a hole whose surface is a boundary too.
    hole = np.linalg.norm(mesh.node[mesh.tetra].mean(axis=1) - [40, 0, 0], axis=1) < 15
    flipped = mesh.tetra[~hole].copy()
    flipped[::2] = flipped[::2, [1, 0, 2, 3]]
    tag = mesh.tetra_tag[~hole]
    scalp = outer_surface(TetraHead(mesh.node, flipped, tag, "RAS", "holed"))
    assert hole.sum() > 20
    assert np.linalg.norm(scalp.vertices, axis=1) == pytest.approx(95, abs=1e-3)
    corner = scalp.vertices.astype(float)[scalp.triangles]
    volume = np.einsum("ij,ij->", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])) / 6
    assert volume == pytest.approx(4 / 3 * np.pi * 95**3, rel=0.05)


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "metres"), (0.1, "centimetres"), (1e3, "micrometres")])
def test_a_mesh_in_another_unit_is_refused_by_name(tmp_path: Path, factor: float, unit: str) -> None:
    with pytest.raises(DataError, match=f"Is it in {unit}"):
        read_head(write_mesh(tmp_path / "m.msh", changed(node=ball().node * factor)))


def test_surfaces_alone_are_no_head(tmp_path: Path) -> None:
    none = changed(tetra=np.zeros((0, 4), np.int64), tetra_tag=np.zeros(0, np.int64))
    with pytest.raises(DataError, match=r"no tetrahedra \(\d+ triangles\)"):
        read_head(write_mesh(tmp_path / "surfaces.msh", none))


@pytest.mark.parametrize(("tissue", "name"), [(1, "white matter"), (2, "grey matter"), (5, "scalp")])
def test_a_missing_tissue_is_named(tmp_path: Path, tissue: int, name: str) -> None:
    tag = np.where(ball().tetra_tag == tissue, 3, ball().tetra_tag)
    head = read_head(write_mesh(tmp_path / "m.msh", changed(tetra_tag=tag)))
    with pytest.raises(DataError, match=rf"has no {name} \({tissue}\)"):
        require_tissues(head)


def test_electrodes_and_meshes_without_tags_are_refused(tmp_path: Path) -> None:
    tag = ball().tetra_tag.copy()
    tag[-50:] = 501
    with pytest.raises(DataError, match=r"50 tetrahedra .* no tissue: \[501\]"):
        require_tissues(read_head(write_mesh(tmp_path / "e.msh", changed(tetra_tag=tag))))
    with pytest.raises(DataError, match="have no tissue tags"):
        read_head(write_mesh(tmp_path / "t.msh", changed(tetra_tag=np.zeros_like(tag))))


def test_nodes_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    node = ball().node.copy()
    node[[5, 800]] = np.nan
    for binary in (True, False):
        with pytest.raises((DataError, FileFormatError), match="2 of the .* not finite|cannot be read"):
            read_head(write_mesh(tmp_path / "n.msh", changed(node=node), binary=binary))


def test_what_is_no_mesh_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="There is no file"):
        read_head(tmp_path / "none.msh")
    (tmp_path / "text.msh").write_text("solid cube\n")
    with pytest.raises(FileFormatError, match=r"does not begin with \$MeshFormat"):
        read_head(tmp_path / "text.msh")
    (tmp_path / "empty.msh").write_text("")
    with pytest.raises(FileFormatError, match=r"does not begin with \$MeshFormat"):
        read_head(tmp_path / "empty.msh")
    (tmp_path / "bare.msh").write_text("$MeshFormat\n2.2 0 8\n$EndMeshFormat\n")
    with pytest.raises(FileFormatError, match=r"no section \$Nodes"):
        read_head(tmp_path / "bare.msh")
    (tmp_path / "new.msh").write_text(
        "$MeshFormat\n9.9 0 8\n$EndMeshFormat\n$Nodes\n0\n$EndNodes\n$Elements\n0\n$EndElements\n"
    )
    with pytest.raises(FileFormatError, match=r"version 2.2 or 4.1"):
        read_head(tmp_path / "new.msh")


@settings(max_examples=40)
@given(share=st.floats(0.001, 0.999), binary=st.booleans())
def test_a_truncated_mesh_is_refused_wherever_it_ends(
    tmp_path_factory: pytest.TempPathFactory, share: float, binary: bool
) -> None:
    tiny = tiny_mesh(tmp_path_factory, binary)
    whole = tiny.read_bytes()
    path = tiny.with_name("cut.msh")
    part = whole[: int(share * (len(whole) - 2))]
    assume(not part.rstrip().endswith(b"$EndElements"))  # a whole mesh, without the data that followed
    path.write_bytes(part)
    with pytest.raises(FileFormatError):
        read_gmsh(path)


@settings(max_examples=60)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), binary=st.booleans())
def test_a_damaged_mesh_is_read_or_refused_but_never_breaks(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, binary: bool
) -> None:
    tiny = tiny_mesh(tmp_path_factory, binary)
    content = bytearray(tiny.read_bytes())
    content[place % len(content)] = value
    path = tiny.with_name("damaged.msh")
    path.write_bytes(content)
    try:
        mesh = read_gmsh(path)
    except FileFormatError:
        return
    assert not mesh.tetrahedron.size or mesh.tetrahedron.max() < len(mesh.node)


def tiny_mesh(tmp_path_factory: pytest.TempPathFactory, binary: bool) -> Path:
    """Two tetrahedra and two triangles with data, in a few hundred bytes."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.msh"
    node = np.array([[0, 0, 0], [90, 0, 0], [0, 90, 0], [0, 0, 90], [90, 90, 90]], float)
    mesh = changed(
        node=node,
        tetra=np.array([[0, 1, 2, 3], [1, 2, 3, 4]]),
        tetra_tag=np.array([1, 2]),
        triangle=np.array([[0, 1, 2], [0, 1, 3]]),
        triangle_tag=np.array([1001, 1001]),
    )
    return write_mesh(path, mesh, binary=binary, cell_data={"magnE": np.array([1.0, 2.0])})


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_points_are_found_in_the_tetrahedron_that_holds_them(seed: int) -> None:
    mesh, rng = ball(), np.random.default_rng(seed)
    chosen = rng.integers(0, len(mesh.tetra), 20)
    share = 0.01 + 0.96 * rng.dirichlet(np.ones(4), 20)  # not on a face, which two share
    points = np.einsum("nk,nki->ni", share, mesh.node[mesh.tetra[chosen]])
    index, weight = locate(mesh.node, mesh.tetra, points)
    np.testing.assert_array_equal(index, chosen)
    np.testing.assert_allclose(weight, share, atol=1e-6)
    far = points / np.linalg.norm(points, axis=1)[:, None] * 96
    index, weight = locate(mesh.node, mesh.tetra, far)
    assert (index == -1).all()
    assert np.isnan(weight).all()
